//! Exit codes of preview 1 commands.
//!
//! The adapter turns `proc_exit(n)` into `exit(ok | err)`, which loses `n`: every failure would be code 1. WASI 0.2.12
//! has `exit-with-code`, whose core type is that of `proc_exit`. So the module's own import is renamed: the call goes
//! past the adapter to the host.

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ImportSection, Module, RawSection};
use wasmparser::{Parser, Payload};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::parse::InvalidWasm;

/// As in WASI 0.2.12, whole: the adapter brings the same interface, and the two must agree.
const WORLD: &str = "
    package wherry:command;
    world command { import wasi:cli/exit@0.2.12; }
    package wasi:cli@0.2.12 {
        interface exit {
            exit: func(status: result);
            exit-with-code: func(status-code: u8);
        }
    }";

#[derive(Debug, thiserror::Error)]
pub(crate) enum RewriteError {
    #[error(transparent)]
    Invalid(#[from] InvalidWasm),
    #[error("its exit codes cannot be kept")]
    Encode(#[source] anyhow::Error),
}

/// The module with its `proc_exit`, if it has one, bound to `exit-with-code`.
pub(crate) fn with_code(module: &[u8]) -> Result<Vec<u8>, RewriteError> {
    let (mut rewritten, mut renamed) = (Module::new(), 0);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(InvalidWasm::Malformed)?;
        if let Payload::ImportSection(section) = payload {
            let mut imports = ImportSection::new();
            for import in section.into_imports() {
                let import = import.map_err(InvalidWasm::Malformed)?;
                let ty = RoundtripReencoder.entity_type(import.ty).map_err(|error| encode(error.into()))?;
                if (import.module, import.name) == (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, "proc_exit") {
                    imports.import("wasi:cli/exit@0.2.12", "exit-with-code", ty);
                    renamed += 1;
                } else {
                    imports.import(import.module, import.name, ty);
                }
            }
            rewritten.section(&imports);
        } else if let Some((id, range)) = payload.as_section() {
            rewritten.section(&RawSection { id, data: &module[range] });
        }
    }
    if renamed == 0 {
        return Ok(module.to_vec());
    }
    let mut rewritten = rewritten.finish();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("command.wit", WORLD).map_err(encode)?;
    let world = resolve.select_world(&[package], Some("command")).map_err(encode)?;
    embed_component_metadata(&mut rewritten, &resolve, world, StringEncoding::UTF8).map_err(encode)?;
    Ok(rewritten)
}

fn encode(error: anyhow::Error) -> RewriteError {
    RewriteError::Encode(anyhow::anyhow!("{error:#}"))
}
