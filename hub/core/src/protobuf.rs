//! Request bodies of typed clients: `application/vnd.kubernetes.protobuf` into JSON.
//!
//! Go clients since 1.32 send built-in kinds in this form and know no other. Only decoding is needed:
//! they take JSON answers. Nothing is generated: a table of field numbers drives one decoder.
//!
//! ```text
//! k8s\0 | Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw, 3: encoding, 4: content type }
//!                                                                |
//!                                               messages.txt -> the message of that kind
//! ```
//! Go writes the zero of every field that is no pointer; what means nothing is left out of the JSON, as
//! Go's own encoder would.

mod decode;
mod messages;
mod reader;

use serde_json::{Map, Value};

use crate::body;
use crate::object::Object;
use crate::status::ApiError;
use decode::Decoder;
use reader::{Payload, Reader};

/// The request's content type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8; 4] = b"k8s\0";
/// Values in one body: far more than a body of 3 MB means anything by, and few enough for memory.
const MOST_VALUES: usize = 200_000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    #[error("protobuf message is cut short")]
    CutShort,
    #[error("protobuf message is malformed: {0}")]
    Malformed(&'static str),
    #[error("protobuf message has a text that is not UTF-8")]
    NotUtf8,
    #[error("protobuf message is nested deeper than {} levels", body::MOST_DEPTH)]
    TooDeep,
    #[error("protobuf message has more than {MOST_VALUES} values")]
    TooLarge,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\" as protobuf")]
    UnknownKind { api_version: String, kind: String },
    #[error("content encoding {0:?} is not supported")]
    Encoding(String),
}

impl From<ProtobufError> for ApiError {
    fn from(error: ProtobufError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// Reads a body with its envelope.
///
/// # Errors
/// Bytes of another form, a kind that is not in the table, and whatever hostile bytes try.
pub fn decode(bytes: &[u8]) -> Result<Object, ProtobufError> {
    let envelope = Envelope::read(bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?)?;
    if !envelope.encoding.is_empty() {
        return Err(ProtobufError::Encoding(envelope.encoding));
    }
    let message = messages::of_kind(&envelope.api_version, &envelope.kind).ok_or_else(|| {
        ProtobufError::UnknownKind { api_version: envelope.api_version.clone(), kind: envelope.kind.clone() }
    })?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), Value::String(envelope.api_version));
    object.insert("kind".to_owned(), Value::String(envelope.kind));
    Decoder::new(MOST_VALUES).message(message, envelope.raw, &mut object)?;
    Ok(Object::new(object))
}

#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    encoding: String,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut envelope = Self::default();
        let mut fields = Reader::new(bytes);
        while let Some((number, payload)) = fields.next()? {
            match (number, payload) {
                (1, Payload::Bytes(type_meta)) => {
                    let mut fields = Reader::new(type_meta);
                    while let Some((number, payload)) = fields.next()? {
                        match (number, payload) {
                            (1, Payload::Bytes(text)) => envelope.api_version = reader::text(text)?,
                            (2, Payload::Bytes(text)) => envelope.kind = reader::text(text)?,
                            (_, Payload::Bytes(_) | Payload::Number(_)) => (),
                        }
                    }
                }
                (2, Payload::Bytes(raw)) => envelope.raw = raw,
                (3, Payload::Bytes(text)) => envelope.encoding = reader::text(text)?,
                // The content type says what we know: nobody puts JSON into this envelope.
                (_, Payload::Bytes(_) | Payload::Number(_)) => (),
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests;
