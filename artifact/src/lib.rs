//! What hub and agent must agree on about compiled code.
//!
//! An artifact is native code that the engine maps and runs without looking inside, so the settings it was
//! compiled with must be those it is run with. [`settings`] is the one place that sets them, all of them: a
//! setting left to its default changes with a cargo feature or a release, and the artifact is refused at best.
//!
//! ```text
//! hub-compiler                                  edge-agent
//! compiler_config(target)                       runtime_config(memory profile)
//!         └──────────────── settings ──────────────────┘
//! ```
//! Read [`target`] for what can be compiled for, then `settings` for what is baked in.

#[cfg(feature = "compiler")]
mod compiler;
#[cfg(feature = "runtime")]
mod runtime;
mod settings;
mod target;

#[cfg(feature = "compiler")]
pub use compiler::{CompilerError, compiler_config};
#[cfg(feature = "runtime")]
pub use runtime::{FIBER_STACK, WASM_STACK, runtime_config};
pub use settings::{ENGINE, FEATURES, settings};
pub use target::{TRIPLES, UnsupportedTarget, check, host_triple};
