//! From a message's bytes to JSON, as the table says.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::ProtobufError;
use super::messages::{self, Arity, Field, Kind, Message, Name};
use super::reader::{Payload, Reader, text};
use crate::body::{self, MOST_DEPTH};
use crate::time;

/// Decodes one body; counts what it makes.
pub(super) struct Decoder {
    values_left: usize,
    depth: usize,
}

impl Decoder {
    pub(super) fn new(most_values: usize) -> Self {
        Self { values_left: most_values, depth: 0 }
    }

    /// Adds the message's fields to `object`. Fields that the table does not know are skipped, as
    /// protobuf has it: they are newer than us.
    pub(super) fn message(
        &mut self,
        message: &Message,
        bytes: &[u8],
        object: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        self.enter()?;
        let mut fields = Reader::new(bytes);
        while let Some((number, payload)) = fields.next()? {
            self.values_left = self.values_left.checked_sub(1).ok_or(ProtobufError::TooLarge)?;
            if let Some(field) = message.field(number) {
                self.field(field, payload, object)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn enter(&mut self) -> Result<(), ProtobufError> {
        if self.depth >= MOST_DEPTH {
            return Err(ProtobufError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        payload: Payload<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        let name = match (&field.name, field.kind) {
            (Name::Own(name), _) => *name,
            (Name::Inlined, Kind::Message(inner)) => return self.message(named(inner)?, bytes(payload)?, object),
            (Name::Inlined, _) => return Ok(()),
        };
        match field.arity {
            Arity::One | Arity::Pointer => self.single(field, name, payload, object),
            Arity::List => {
                let Value::Array(items) = object.entry(name).or_insert_with(|| Value::Array(Vec::new())) else {
                    return Err(ProtobufError::Malformed("a field is both a list and not"));
                };
                match (field.kind, payload) {
                    (Kind::Integer, Payload::Bytes(packed)) => {
                        let mut numbers = Reader::new(packed);
                        while let Some(number) = numbers.packed()? {
                            self.values_left = self.values_left.checked_sub(1).ok_or(ProtobufError::TooLarge)?;
                            items.push(Value::from(number.cast_signed()));
                        }
                    }
                    (kind, payload) => items.push(self.value(kind, payload)?.unwrap_or(Value::Null)),
                }
                Ok(())
            }
            Arity::Map => {
                let (key, value) = self.entry(field.kind, bytes(payload)?)?;
                if let Value::Object(entries) = object.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    entries.insert(key, value);
                }
                Ok(())
            }
        }
    }

    fn single(
        &mut self,
        field: &Field,
        name: &'static str,
        payload: Payload<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        if let Kind::Message(inner) = field.kind {
            // A message that comes in pieces is one message.
            let slot = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            return match slot {
                Value::Object(fields) => self.message(named(inner)?, bytes(payload)?, fields),
                _ => Err(ProtobufError::Malformed("a field is both a message and not")),
            };
        }
        let Some(value) = self.value(field.kind, payload)? else { return Ok(()) };
        let means_nothing = field.arity == Arity::One && is_zero(&value);
        if !means_nothing {
            object.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// One entry of a map: a message of a key and a value, each absent where it is zero.
    fn entry(&mut self, kind: Kind, entry: &[u8]) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = (String::new(), None);
        let mut fields = Reader::new(entry);
        while let Some((number, payload)) = fields.next()? {
            match number {
                1 => key = text(bytes(payload)?)?,
                2 => value = self.value(kind, payload)?,
                _ => (),
            }
        }
        Ok((key, value.unwrap_or_else(|| Value::String(String::new()))))
    }

    /// `None` for a time that is not set.
    fn value(&mut self, kind: Kind, payload: Payload<'_>) -> Result<Option<Value>, ProtobufError> {
        Ok(Some(match kind {
            Kind::Text => Value::String(text(bytes(payload)?)?),
            Kind::Switch => Value::Bool(number(payload)? != 0),
            Kind::Integer => Value::from(number(payload)?.cast_signed()),
            Kind::Bytes => Value::String(base64::engine::general_purpose::STANDARD.encode(bytes(payload)?)),
            Kind::Quantity => Value::String(first_text(bytes(payload)?)?),
            Kind::Time => {
                return Ok(Stamp::read(bytes(payload)?)?.map(|stamp| Value::String(time::format(stamp.seconds))));
            }
            Kind::MicroTime => {
                return Ok(
                    Stamp::read(bytes(payload)?)?.map(|stamp| Value::String(time::format_micros(stamp.micros())))
                );
            }
            Kind::IntOrText => int_or_text(bytes(payload)?)?,
            Kind::FieldSet => field_set(bytes(payload)?)?,
            Kind::Texts => texts(bytes(payload)?)?,
            Kind::Message(inner) => {
                let mut fields = Map::new();
                self.message(named(inner)?, bytes(payload)?, &mut fields)?;
                Value::Object(fields)
            }
        }))
    }
}

fn named(name: &'static str) -> Result<&'static Message, ProtobufError> {
    messages::by_name(name).ok_or(ProtobufError::Malformed("message is not in the table"))
}

fn bytes(payload: Payload<'_>) -> Result<&[u8], ProtobufError> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        Payload::Number(_) => Err(ProtobufError::Malformed("number where bytes are expected")),
    }
}

fn number(payload: Payload<'_>) -> Result<u64, ProtobufError> {
    match payload {
        Payload::Number(number) => Ok(number),
        Payload::Bytes(_) => Err(ProtobufError::Malformed("bytes where a number is expected")),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(switch) => !switch,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Null => true,
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// A `Quantity`: a message whose first field is its text.
fn first_text(message: &[u8]) -> Result<String, ProtobufError> {
    let mut found = String::new();
    let mut fields = Reader::new(message);
    while let Some((number, payload)) = fields.next()? {
        if number == 1 {
            found = text(bytes(payload)?)?;
        }
    }
    Ok(found)
}

/// A `Verbs` or `ExtraValue`: a message that is a list of texts.
fn texts(message: &[u8]) -> Result<Value, ProtobufError> {
    let mut items = Vec::new();
    let mut fields = Reader::new(message);
    while let Some((number, payload)) = fields.next()? {
        if number == 1 {
            items.push(Value::String(text(bytes(payload)?)?));
        }
    }
    Ok(Value::Array(items))
}

/// An `IntOrString`: which of the two, the integer, the text.
fn int_or_text(message: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut integer, mut string) = (false, 0, String::new());
    let mut fields = Reader::new(message);
    while let Some((field, payload)) = fields.next()? {
        match field {
            1 => is_text = number(payload)? == 1,
            2 => integer = number(payload)?.cast_signed(),
            3 => string = text(bytes(payload)?)?,
            _ => (),
        }
    }
    Ok(if is_text { Value::String(string) } else { Value::from(integer) })
}

/// A `FieldsV1`: JSON as bytes.
fn field_set(message: &[u8]) -> Result<Value, ProtobufError> {
    let mut raw: &[u8] = b"{}";
    let mut fields = Reader::new(message);
    while let Some((number, payload)) = fields.next()? {
        if number == 1 {
            raw = bytes(payload)?;
        }
    }
    let parsed = body::parse(raw).map_err(|_| ProtobufError::Malformed("field set is not JSON"))?;
    Ok(parsed.value)
}

/// A `Time`: seconds and nanoseconds. Without either it is not set.
struct Stamp {
    seconds: i64,
    nanos: i64,
}

impl Stamp {
    fn read(message: &[u8]) -> Result<Option<Self>, ProtobufError> {
        if message.is_empty() {
            return Ok(None);
        }
        let mut stamp = Self { seconds: 0, nanos: 0 };
        let mut fields = Reader::new(message);
        while let Some((field, payload)) = fields.next()? {
            match field {
                1 => stamp.seconds = number(payload)?.cast_signed(),
                2 => stamp.nanos = number(payload)?.cast_signed(),
                _ => (),
            }
        }
        Ok(Some(stamp))
    }

    fn micros(&self) -> i64 {
        self.seconds.saturating_mul(1_000_000).saturating_add(self.nanos / 1000)
    }
}
