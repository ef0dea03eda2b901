//! A component becomes native code for one target.

use protocol::reported::Target;
use wasmparser::Encoding;
use wasmtime::Engine;

use crate::parse::{InvalidWasm, encoding};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error(transparent)]
    Target(#[from] artifact::CompilerError),
    #[error(transparent)]
    Invalid(#[from] InvalidWasm),
    #[error("this is a core module, not a component")]
    Module,
    #[error("it does not compile")]
    Engine(#[source] anyhow::Error),
}

pub(crate) fn compile(target: &Target, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    let config = artifact::compiler_config(target)?;
    match encoding(bytes)? {
        Encoding::Component => {}
        Encoding::Module => return Err(CompileError::Module),
    }
    Engine::new(&config)
        .and_then(|engine| engine.precompile_component(bytes))
        .map_err(|error| CompileError::Engine(error.into()))
}
