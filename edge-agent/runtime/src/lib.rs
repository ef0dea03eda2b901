//! Runs pods: guests in wasmtime, their virtual network, their limits and their ends.
//!
//! ```text
//! Runtime ── load(artifact) ──> LoadedImage        engine, guests' threads, epoch ticker
//!    └── sandbox(pod) ──> Sandbox                  one pod: virtual address, name
//!              ├── start(container) ──> Instance   one run: stop, kill, usage, exit
//!              ├── exec(container, args)           a fresh instance beside it
//!              └── http_get, tcp_connect           probes from the agent's own thread
//! ```
//! Read on: [`runtime`] and [`load`] (what is loaded), [`capability`] (what a guest may import), [`state`] (what a
//! guest holds of the host), [`net`] (the virtual network), [`command`] and [`http`] (the two kinds of container),
//! [`meter`] and [`memory`] (what they cost and may cost).
//!
//! The crate decides nothing about pods: when to start, restart or probe is the agent's core.

mod capability;
mod command;
mod exit;
mod http;
mod instance;
mod load;
mod logs;
mod memory;
mod meter;
mod net;
mod probe;
mod profile;
mod runtime;
mod sandbox;
mod state;

pub use exit::{Exit, ExitReason, code};
pub use instance::{Instance, Usage};
pub use load::{ArtifactFile, ContainerKind, LoadError, LoadedImage, StopSupport};
pub use logs::{LogSink, LogStream};
pub use net::PodStream;
pub use probe::ProbeError;
pub use profile::probe_memory_profile;
pub use runtime::{Runtime, RuntimeConfig, RuntimeError};
pub use sandbox::{ContainerConfig, ExecError, ExecOutcome, Mount, Sandbox, SandboxSpec, StartError};
