//! Runs pods: guests in wasmtime, their virtual network, their limits and their ends.
//!
//! ```text
//! Runtime ── load(artifact) ──> LoadedImage        engine, guests' threads, epoch ticker
//!    └── sandbox(pod) ──> Sandbox                  one pod: virtual address, name
//!              ├── start(container) ──> Instance   one run: stop, kill, usage, exit
//!              ├── exec(container, args)           a fresh instance beside it
//!              └── http_get, tcp_connect           probes from the agent's own thread
//! ```
//! The crate decides nothing about pods: when to start, restart or probe is the agent's core.

mod exit;
mod instance;
mod load;
mod logs;
mod runtime;
mod sandbox;

pub use exit::{Exit, ExitReason, code};
pub use instance::{Instance, Usage};
pub use load::{ArtifactFile, ContainerKind, LoadError, LoadedImage, StopSupport};
pub use logs::{LogSink, LogStream};
pub use runtime::{Runtime, RuntimeConfig, RuntimeError, probe_memory_profile};
pub use sandbox::{ContainerConfig, ExecError, ExecOutcome, Mount, ProbeError, Sandbox, SandboxSpec, StartError};
