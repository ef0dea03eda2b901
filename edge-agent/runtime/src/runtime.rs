//! The engine with its threads: one per agent.

use std::sync::Arc;

use artifact::{ENGINE, host_triple, runtime_config};
use protocol::reported::{MemoryProfile, Target};
use rustix::process::setpriority_process;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::capability::link_all;
use crate::instance::Guests;
use crate::load::{ArtifactFile, LoadError, LoadedImage};
use crate::memory::Budget;
use crate::meter::Ticker;
use crate::net::Net;
use crate::sandbox::{Sandbox, SandboxSpec};
use crate::state::State;

/// Guests yield to the agent's own thread: N spinning guests on N cores must not delay a heartbeat.
const GUEST_NICE: i32 = 10;

/// Guests' frames live on stacks of their own; a worker's holds the HTTP server's.
const WORKER_STACK: usize = 1 << 20;

/// Threads for file operations of guests, which block. They end after ten idle seconds.
const BLOCKING_THREADS: usize = 16;

#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// What the address space allows: [`crate::probe_memory_profile`], unless the user said otherwise.
    pub memory: MemoryProfile,
    /// Threads for guests; see [`RuntimeConfig::workers_for`].
    pub workers: usize,
    /// Bytes of memory and tables that all guests together may hold; `None` leaves it to their own limits, and the
    /// agent to the system's out-of-memory killer.
    pub guest_memory: Option<u64>,
}

impl RuntimeConfig {
    /// More threads than guests that spin: the kernel shares cores among threads fairly, tokio's workers do
    /// not share among tasks (measured: with 2 workers a 10 % guest beside three spinning ones got 3 %).
    pub fn workers_for(cores: usize) -> usize {
        (4 * cores).max(16)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cannot set up the engine: {message}")]
    Engine { message: String },
    #[error("nothing is compiled for this kind of machine")]
    Machine,
    #[error("cannot start the guests' threads")]
    Threads(#[source] std::io::Error),
}

/// The engine, the guests' threads and the virtual network; clones are the same runtime.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<State>,
    net: Net,
    guests: Guests,
    budget: Arc<Budget>,
    target: Target,
    /// Owned only to be shut down without waiting; taken when this is dropped.
    threads: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// # Errors
    /// An engine that this machine cannot run, threads that cannot be had.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let triple = host_triple().ok_or(RuntimeError::Machine)?;
        let target = Target {
            triple: triple.to_owned(),
            cpu_features: Vec::new(),
            memory: config.memory,
            engine: ENGINE.to_owned(),
        };
        let engine_error = |error: wasmtime::Error| RuntimeError::Engine { message: format!("{error:#}") };
        let engine = Engine::new(&runtime_config(config.memory)).map_err(engine_error)?;
        let mut linker = Linker::new(&engine);
        link_all(&mut linker).map_err(engine_error)?;
        let threads = guest_threads(config.workers).map_err(RuntimeError::Threads)?;
        let ticker = Ticker::start(engine.clone()).map_err(RuntimeError::Threads)?;
        let guests = Guests { threads: threads.handle().clone(), ticker };
        let (net, budget) = (Net::default(), Budget::of_node(config.guest_memory));
        Ok(Self { inner: Arc::new(Inner { engine, linker, net, guests, budget, target, threads: Some(threads) }) })
    }

    /// What artifacts must be compiled for, to be loaded here.
    pub fn target(&self) -> Target {
        self.inner.target.clone()
    }

    /// Maps a verified artifact and links it. Takes a few milliseconds a megabyte (hashing); the file
    /// must stay as it is while the image lives.
    ///
    /// # Errors
    /// See [`LoadError`]; [`LoadError::Incompatible`] asks for a new compilation.
    pub fn load(&self, file: &ArtifactFile) -> Result<Arc<LoadedImage>, LoadError> {
        LoadedImage::load(&self.inner.engine, &self.inner.linker, file).map(Arc::new)
    }

    /// A place for one pod. Nothing runs and nothing is bound yet.
    pub fn sandbox(&self, spec: SandboxSpec) -> Sandbox {
        Sandbox::new(self.clone(), spec)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn net(&self) -> &Net {
        &self.inner.net
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.inner.budget
    }

    pub(crate) fn guests(&self) -> &Guests {
        &self.inner.guests
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.guests.ticker.close();
        if let Some(threads) = self.threads.take() {
            // Whoever drops the last clone may be async code, where waiting for threads is forbidden.
            threads.shutdown_background();
        }
    }
}

fn guest_threads(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(WORKER_STACK)
        .thread_name("guest")
        // A worker that runs a spinning guest looks at its timers after each poll, not after 61.
        .event_interval(1)
        .on_thread_start(|| {
            // On Linux this is the calling thread alone. Lowering one's own priority is always allowed.
            if let Err(error) = setpriority_process(None, GUEST_NICE) {
                tracing::debug!(%error, "cannot lower the priority of a guest thread");
            }
        })
        .enable_all()
        .build()
}
