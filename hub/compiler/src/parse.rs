//! What a file is, told from its first bytes and validated whole.

use wasmparser::{Encoding, Parser, Payload, Validator};

#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidWasm {
    #[error("the file is empty")]
    Empty,
    #[error("the file is no WebAssembly: it does not start with \\0asm")]
    Magic,
    #[error("the file is not valid WebAssembly, or cut short")]
    Malformed(#[source] wasmparser::BinaryReaderError),
}

/// Which of WebAssembly's two binary formats the file is in, once it has been validated with the features that
/// agents run.
pub(crate) fn encoding(bytes: &[u8]) -> Result<Encoding, InvalidWasm> {
    match bytes {
        [] => return Err(InvalidWasm::Empty),
        [0, b'a', b's', b'm', ..] => {}
        _ => return Err(InvalidWasm::Magic),
    }
    Validator::new_with_features(artifact::FEATURES).validate_all(bytes).map_err(InvalidWasm::Malformed)?;
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding, .. })) => Ok(encoding),
        Some(Ok(_)) | None => Err(InvalidWasm::Magic),
        Some(Err(error)) => Err(InvalidWasm::Malformed(error)),
    }
}
