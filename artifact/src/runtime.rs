//! The node's side: a configuration that loads what the hub compiled.

use std::num::NonZeroUsize;

use protocol::reported::MemoryProfile;
use wasmtime::Config;

use crate::settings::settings;

/// Bytes of stack for WebAssembly frames of one guest.
pub const WASM_STACK: usize = 256 << 10;

/// Bytes of address space for a guest's whole stack: its own frames and at least as much for the host calls
/// it makes. Only touched pages take memory.
pub const FIBER_STACK: usize = 2 * WASM_STACK;

/// Address space beside a memory that it may grow into before it must be copied. Matters to
/// [`MemoryProfile::Compact`] only.
const GROWTH: u64 = 1 << 20;

/// Frames of a trap's backtrace; enough to name the place, little enough to log.
const BACKTRACE_FRAMES: usize = 16;

/// A configuration that loads artifacts of this profile, compiled for this machine's triple.
pub fn runtime_config(memory: MemoryProfile) -> Config {
    let mut config = Config::new();
    settings(&mut config, memory);
    config.memory_reservation_for_growth(GROWTH);
    config.max_wasm_stack(WASM_STACK).async_stack_size(FIBER_STACK);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES));
    config
}
