//! The hub's side: a configuration that compiles for a node.

use protocol::reported::Target;
use wasmtime::{Config, OptLevel, Strategy};

use crate::settings::settings;
use crate::target::{UnsupportedTarget, check};

#[derive(Debug, thiserror::Error)]
pub enum CompilerError {
    #[error(transparent)]
    Target(#[from] UnsupportedTarget),
    /// A triple of [`crate::TRIPLES`] that this build of the engine has no code generator for.
    #[error("this build cannot compile for {triple}: {message}")]
    Build { triple: String, message: String },
}

/// A configuration whose artifacts `target` can load.
///
/// # Errors
/// A target that this compiler does not serve.
pub fn compiler_config(target: &Target) -> Result<Config, CompilerError> {
    check(target)?;
    let mut config = Config::new();
    // Naming a target also turns off the detection of this machine's own features.
    config
        .target(&target.triple)
        .map_err(|error| CompilerError::Build { triple: target.triple.clone(), message: format!("{error:#}") })?;
    settings(&mut config, target.memory);
    config.strategy(Strategy::Cranelift).cranelift_opt_level(OptLevel::Speed);
    // Tables that only debuggers and native unwinders read: a fifth of the artifact.
    config.generate_address_map(false).native_unwind_info(false);
    Ok(config)
}
