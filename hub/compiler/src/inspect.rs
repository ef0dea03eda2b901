//! A component's kind, imports and exports, without compiling it.

use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};

use crate::parse::{InvalidWasm, encoding};

#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Description {
    kind: Kind,
    imports: Vec<String>,
    exports: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Command,
    Http,
    Unknown,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error(transparent)]
    Invalid(#[from] InvalidWasm),
    #[error("this is a core module, not a component")]
    Module,
}

pub(crate) fn inspect(bytes: &[u8]) -> Result<Description, InspectError> {
    match encoding(bytes)? {
        Encoding::Component => {}
        Encoding::Module => return Err(InspectError::Module),
    }
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    // Components nest: only the outermost one's names are its own.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(InvalidWasm::Malformed)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(InvalidWasm::Malformed)?.name.name.into());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(InvalidWasm::Malformed)?.name.name.into());
                }
            }
            // The validator has seen the rest; only imports and exports are told.
            _ => {}
        }
    }
    Ok(Description { kind: kind(&exports), imports, exports })
}

/// The agent decides by the same exports when it loads the artifact.
fn kind(exports: &[String]) -> Kind {
    let has = |interface: &str| exports.iter().any(|e| e.split('@').next() == Some(interface));
    if has("wasi:http/incoming-handler") {
        Kind::Http
    } else if has("wasi:cli/run") {
        Kind::Command
    } else {
        Kind::Unknown
    }
}
