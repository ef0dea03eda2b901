//! Blobs: pulled by the node, by digest, in chunks that it asks for.
//!
//! ```text
//! node                                   hub
//!  Artifact{component, target}  ->
//!                               <-  Preparing            (compiling; ask again)
//!                               <-  Artifact(manifest)   (signed frame)
//!  Chunks{digest, offset, count} ->
//!                               <-  Chunk ...            (QoS 0: the node asks again for what is lost)
//! ```
//! All answers are signed frames; chunks are also checked against the whole blob's digest before use.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};
use crate::ids::Digest;
use crate::reported::Target;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobRequest {
    /// Which blob is this component, compiled for me?
    Artifact { component: Digest, target: Target },
    /// `count` chunks of [`crate::limits::CHUNK`] bytes from chunk number `first`.
    Chunks { blob: Digest, first: u32, count: u16 },
    /// A new certificate for the key in this signing request (PEM).
    Certificate { csr: String },
}

impl Message for BlobRequest {
    const KIND: Kind = Kind::BlobRequest;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobAnswer {
    Preparing {
        component: Digest,
    },
    Artifact(ArtifactManifest),
    /// It cannot be had for this node; asking again at once is pointless.
    NoArtifact {
        component: Digest,
        reason: NoArtifact,
        message: String,
    },
    /// One chunk; `total` is the blob's length in bytes; its digest is checked once it is whole.
    Chunk {
        blob: Digest,
        number: u32,
        total: u64,
        bytes: Vec<u8>,
    },
    NoBlob {
        blob: Digest,
    },
    Certificate {
        pem: String,
    },
    NoCertificate {
        message: String,
    },
}

impl Message for BlobAnswer {
    const KIND: Kind = Kind::BlobAnswer;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoArtifact {
    /// The registry has no such component.
    Unknown,
    /// It does not compile, or not within the limits.
    Invalid,
    /// The hub has no compiler for this target or engine version.
    Unsupported,
}

/// Says that these bytes are this component, compiled for this target. Native code: it travels
/// only inside a signed frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactManifest {
    pub component: Digest,
    pub target: Target,
    /// The zstd-compressed blob that travels.
    pub blob: Digest,
    pub blob_bytes: u64,
    /// The artifact after decompression.
    pub artifact: Digest,
    pub artifact_bytes: u64,
}
