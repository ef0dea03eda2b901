//! Loads precompiled artifacts: the one file of the project with `unsafe` code.

use std::path::PathBuf;

use protocol::ids::Digest;

/// A compiled component on disk, as a signed manifest names it.
#[derive(Debug, Clone)]
pub struct ArtifactFile {
    pub path: PathBuf,
    /// Of the whole file, from a manifest whose signature has been verified. Loading hashes the file again.
    pub artifact: Digest,
}

/// What a component is, told from its exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerKind {
    /// `wasi:cli/run`: a process.
    Command,
    /// `wasi:http/incoming-handler`: a server.
    Http,
}

/// How an image takes a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSupport {
    /// It imports `wherry:pod/lifecycle`, or drains as a server: give it its grace.
    Graceful,
    /// It has no way to hear a stop: no grace is worth waiting for.
    AtOnce,
}

/// A component mapped into memory and linked, ready to be instantiated any number of times.
pub struct LoadedImage {}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the artifact {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the artifact {} is not what its manifest says: expected {expected}, found {found}", path.display())]
    Altered { path: PathBuf, expected: Digest, found: Digest },
    /// Another engine version, target or profile: the hub must compile it again.
    #[error("this engine cannot load the artifact: {message}")]
    Incompatible { message: String },
    #[error("the component imports what this node does not provide: {}", imports.join(", "))]
    UnsupportedImports { imports: Vec<String> },
    #[error("the component exports neither wasi:cli/run nor wasi:http/incoming-handler")]
    UnknownKind,
    #[error("the component cannot be linked: {message}")]
    Link { message: String },
}

impl LoadedImage {
    pub fn kind(&self) -> ContainerKind {
        unimplemented!()
    }

    pub fn stop_support(&self) -> StopSupport {
        unimplemented!()
    }

    /// Names of the interfaces it imports, such as `wasi:cli/environment@0.2.12`.
    pub fn imports(&self) -> &[String] {
        unimplemented!()
    }
}
