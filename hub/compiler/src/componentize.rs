//! Agents run components only: a preview 1 command becomes one here.

use std::collections::BTreeSet;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::ComponentEncoder;

use crate::exit;
use crate::parse::{InvalidWasm, encoding};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ComponentizeError {
    #[error(transparent)]
    Invalid(#[from] InvalidWasm),
    #[error("the core module imports from {}, which nobody provides: build it for wasm32-wasip1 or wasm32-wasip2",
        modules.join(", "))]
    ForeignImports { modules: Vec<String> },
    /// What compilers call a reactor: only its author's bindings would know how to call it.
    #[error("the core module is a library: it exports no _start; build a command, or a component for wasm32-wasip2")]
    Library,
    #[error("the core module cannot be made a component")]
    Encode(#[source] anyhow::Error),
}

impl From<exit::RewriteError> for ComponentizeError {
    fn from(error: exit::RewriteError) -> Self {
        match error {
            exit::RewriteError::Invalid(invalid) => Self::Invalid(invalid),
            exit::RewriteError::Encode(error) => Self::Encode(error),
        }
    }
}

/// A component as it is, a preview 1 command as a component that exports `wasi:cli/run`.
pub(crate) fn componentize(bytes: Vec<u8>) -> Result<Vec<u8>, ComponentizeError> {
    match encoding(&bytes)? {
        Encoding::Component => Ok(bytes),
        Encoding::Module => adapt(&bytes),
    }
}

fn adapt(module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let Surface { imports, exports_start } = surface(module)?;
    let foreign: Vec<_> = imports.into_iter().filter(|m| m != WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME).collect();
    if !foreign.is_empty() {
        return Err(ComponentizeError::ForeignImports { modules: foreign });
    }
    if !exports_start {
        return Err(ComponentizeError::Library);
    }
    let module = exit::with_code(module)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|e| e.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER))
        .and_then(|mut e| e.encode())
        .map_err(|error| ComponentizeError::Encode(anyhow::anyhow!("{error:#}")))
}

/// What a core module asks of its host and offers to it.
struct Surface {
    imports: BTreeSet<String>,
    exports_start: bool,
}

fn surface(module: &[u8]) -> Result<Surface, InvalidWasm> {
    let mut surface = Surface { imports: BTreeSet::new(), exports_start: false };
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(InvalidWasm::Malformed)? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    surface.imports.insert(import.map_err(InvalidWasm::Malformed)?.module.into());
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    surface.exports_start |= export.map_err(InvalidWasm::Malformed)?.name == "_start";
                }
            }
            // The validator has seen the rest; only imports and exports decide here.
            _ => {}
        }
    }
    Ok(surface)
}
