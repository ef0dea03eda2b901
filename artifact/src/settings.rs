//! Every setting that an artifact bakes in, and every WebAssembly feature a guest may use.

use protocol::reported::MemoryProfile;
use wasmtime::{Config, Inlining, ModuleVersionStrategy, WasmBacktraceDetails, WasmFeatures};

/// Engine version and revision of these settings: part of every artifact, compared when it is loaded.
///
/// The patch version counts: the engine itself compares the major version only, and would load code made by a
/// release whose code generator had a hole that the next one closed. Raise `abi` with any change to [`settings`].
pub const ENGINE: &str = "48.0.8+abi1";

/// What guests may use: WebAssembly 2.0, without references to host objects, and what current toolchains emit
/// beside it.
pub const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .difference(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::COMPONENT_MODEL)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST);

/// Young parts of the engine that edge guests do without; most published holes were in them.
const DISABLED: WasmFeatures = WasmFeatures::GC
    .union(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::SHARED_EVERYTHING_THREADS)
    .union(WasmFeatures::STACK_SWITCHING)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES)
    .union(WasmFeatures::WIDE_ARITHMETIC)
    .union(WasmFeatures::RELAXED_SIMD);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Sets everything about `config` that artifact and engine must have in common.
///
/// The same for all of [`crate::TRIPLES`]: they are 64-bit, little-endian, and turn signals into traps.
///
/// # Panics
/// Never: [`ENGINE`] is shorter than the engine's limit of 255 bytes.
pub fn settings(config: &mut Config, memory: MemoryProfile) {
    config.module_version(ModuleVersionStrategy::Custom(ENGINE.into())).expect("the version is a short text");

    config.wasm_features(FEATURES, true).wasm_features(DISABLED, false);
    config.gc_support(false).concurrency_support(false).relaxed_simd_deterministic(false);

    // Epochs, not fuel: 0 to 5 % instead of up to 100 % on guests that call much.
    config.epoch_interruption(true).consume_fuel(false);

    // No debug information: a third less to ship, and traps still name their cause.
    config.debug_info(false).debug_symbols(false);
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);

    config.signals_based_traps(true).memory_init_cow(true).memory_may_move(true).table_lazy_init(true);
    config.compiler_inlining(Inlining::No);

    match memory {
        // A memory's whole index range, so that guard pages replace bounds checks (25 to 70 % faster).
        MemoryProfile::Fast => {
            config.memory_reservation(4 * GIB).memory_guard_size(32 * MIB).guard_before_linear_memory(true);
        }
        // A memory takes what it uses; 64 KiB is the largest page size of the systems we run on.
        MemoryProfile::Compact => {
            config.memory_reservation(0).memory_guard_size(64 * KIB).guard_before_linear_memory(false);
        }
    }
}
