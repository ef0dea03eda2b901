//! Loads precompiled artifacts: the one file of the project with `unsafe` code.

use std::fmt;
use std::path::{Path, PathBuf};

use protocol::ids::Digest;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::capability::{LIFECYCLE, unsupported};
use crate::state::State;

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

/// What can be called in a component.
pub(crate) enum Entry {
    Command(CommandPre<State>),
    Http {
        proxy: ProxyPre<State>,
        /// A server that also exports `wasi:cli/run`, for exec.
        command: Option<CommandPre<State>>,
    },
}

/// A component mapped into memory and linked, ready to be instantiated any number of times.
pub struct LoadedImage {
    pub(crate) entry: Entry,
    imports: Vec<String>,
}

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
    pub(crate) fn load(engine: &Engine, linker: &Linker<State>, file: &ArtifactFile) -> Result<Self, LoadError> {
        let component = map_verified(engine, file)?;
        let ty = component.component_type();
        let names = |items: Vec<(&str, _)>| items.into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let imports = names(ty.imports(engine).map(|(name, item)| (name, item.ty)).collect());
        let exports = names(ty.exports(engine).map(|(name, item)| (name, item.ty)).collect());

        let missing = unsupported(imports.iter().map(String::as_str));
        if !missing.is_empty() {
            return Err(LoadError::UnsupportedImports { imports: missing });
        }
        let link = |error: wasmtime::Error| LoadError::Link { message: one_line(&error) };
        let pre = linker.instantiate_pre(&component).map_err(link)?;
        let has = |interface: &str| exports.iter().any(|export| export.split('@').next() == Some(interface));
        let command = match has("wasi:cli/run") {
            true => Some(CommandPre::new(pre.clone()).map_err(link)?),
            false => None,
        };
        let entry = match (has("wasi:http/incoming-handler"), command) {
            (true, command) => Entry::Http { proxy: ProxyPre::new(pre).map_err(link)?, command },
            (false, Some(command)) => Entry::Command(command),
            (false, None) => return Err(LoadError::UnknownKind),
        };
        Ok(Self { entry, imports })
    }

    pub fn kind(&self) -> ContainerKind {
        match self.entry {
            Entry::Command(_) => ContainerKind::Command,
            Entry::Http { .. } => ContainerKind::Http,
        }
    }

    pub fn stop_support(&self) -> StopSupport {
        let hears = self.imports.iter().any(|import| import.split('@').next() == Some(LIFECYCLE));
        match self.kind() {
            ContainerKind::Http => StopSupport::Graceful,
            ContainerKind::Command if hears => StopSupport::Graceful,
            ContainerKind::Command => StopSupport::AtOnce,
        }
    }

    /// Names of the interfaces it imports, such as `wasi:cli/environment@0.2.12`.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// What exec runs.
    pub(crate) fn command(&self) -> Option<&CommandPre<State>> {
        match &self.entry {
            Entry::Command(command) => Some(command),
            Entry::Http { command, .. } => command.as_ref(),
        }
    }
}

impl fmt::Debug for LoadedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedImage").field("kind", &self.kind()).field("imports", &self.imports).finish()
    }
}

/// Maps an artifact after checking that the file still is what its signed manifest names.
fn map_verified(engine: &Engine, file: &ArtifactFile) -> Result<Component, LoadError> {
    let found = digest(&file.path).map_err(|source| LoadError::Read { path: file.path.clone(), source })?;
    if found != file.artifact {
        return Err(LoadError::Altered { path: file.path.clone(), expected: file.artifact, found });
    }
    map(engine, &file.path).map_err(|error| LoadError::Incompatible { message: one_line(&error) })
}

fn digest(path: &Path) -> std::io::Result<Digest> {
    std::fs::read(path).map(|bytes| Digest::of(&bytes))
}

#[allow(unsafe_code, reason = "mapping native code cannot be checked by a compiler; see SAFETY")]
fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize_file` asks that the file was made by `Engine::precompile_component` and that nobody
    // changes it while it is mapped.
    // - The bytes were made by the hub's compiler: their SHA-256 has just been compared, by the only caller, with the
    //   digest in a manifest that the hub signed; the agent accepts no manifest without that signature. The engine
    //   itself compares version, target and settings, and refuses what differs.
    // - Nobody changes it: artifacts lie in a directory that only the agent's user can write (0700), are written
    //   under another name and renamed once they are whole, and are unlinked, never overwritten. A mapping keeps an
    //   unlinked file. Who can write there as the agent's user can also replace the agent.
    unsafe { Component::deserialize_file(engine, path) }
}

fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
