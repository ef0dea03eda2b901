//! This process limits itself, before it reads a byte of input.

use rustix::io::Result;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Caps address space and CPU time; a limit that is not given is not set. No core files in any case: they
/// would hold users' code.
pub(crate) fn apply(memory_bytes: Option<u64>, cpu_seconds: Option<u64>) -> Result<()> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Core, both(0))?;
    if let Some(bytes) = memory_bytes {
        setrlimit(Resource::As, both(bytes))?;
    }
    match cpu_seconds {
        Some(seconds) => setrlimit(Resource::Cpu, both(seconds)),
        None => Ok(()),
    }
}
