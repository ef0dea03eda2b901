//! The engine with its threads: one per agent.

use std::sync::Arc;

use protocol::reported::{MemoryProfile, Target};

use crate::load::{ArtifactFile, LoadError, LoadedImage};
use crate::sandbox::{Sandbox, SandboxSpec};

#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// What the address space allows: [`crate::probe_memory_profile`], unless the user said otherwise.
    pub memory: MemoryProfile,
    /// Threads for guests; see [`RuntimeConfig::workers_for`].
    pub workers: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cannot set up the engine: {message}")]
    Engine { message: String },
    #[error("cannot start the guests' threads")]
    Threads(#[source] std::io::Error),
}

/// The engine, the guests' threads and the virtual network; clones are the same runtime.
#[derive(Clone)]
pub struct Runtime {}

impl Runtime {
    /// # Errors
    /// An engine that this machine cannot run, threads that cannot be had.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let _ = config;
        unimplemented!()
    }

    /// What artifacts must be compiled for, to be loaded here.
    pub fn target(&self) -> Target {
        unimplemented!()
    }

    /// Maps a verified artifact and links it. Takes well under a millisecond a megabyte (hashing); the file
    /// must stay as it is while the image lives.
    ///
    /// # Errors
    /// See [`LoadError`]; [`LoadError::Incompatible`] asks for a new compilation.
    pub fn load(&self, file: &ArtifactFile) -> Result<Arc<LoadedImage>, LoadError> {
        let _ = file;
        unimplemented!()
    }

    /// A place for one pod. Nothing runs and nothing is bound yet.
    pub fn sandbox(&self, spec: SandboxSpec) -> Sandbox {
        let _ = spec;
        unimplemented!()
    }
}

impl RuntimeConfig {
    /// More threads than guests that spin: the kernel shares cores among threads fairly, tokio's workers do
    /// not share among tasks (measured: with 2 workers a 10 % guest beside three spinning ones got 3 %).
    pub fn workers_for(cores: usize) -> usize {
        (4 * cores).max(16)
    }
}

/// The memory profile that this process' address space allows.
pub fn probe_memory_profile() -> MemoryProfile {
    unimplemented!()
}
