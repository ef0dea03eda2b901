//! The wire format: fields of a message, one after another.

use super::ProtobufError;

/// A varint of 64 bits has at most this many bytes.
const MOST_VARINT: usize = 10;

/// What a field holds on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// A varint, or four or eight bytes.
    Number(u64),
    /// Text, bytes, a message, or numbers packed together.
    Bytes(&'a [u8]),
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and payload; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Malformed("field number out of range"))?;
        if number == 0 {
            return Err(ProtobufError::Malformed("field number zero"));
        }
        let payload = match tag & 7 {
            0 => Payload::Number(self.varint()?),
            1 => Payload::Number(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::CutShort)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Number(u64::from(u32::from_le_bytes(self.fixed()?))),
            _ => return Err(ProtobufError::Malformed("unknown wire type")),
        };
        Ok(Some((number, payload)))
    }

    /// The next of numbers packed together; `None` at the end.
    pub(super) fn packed(&mut self) -> Result<Option<u64>, ProtobufError> {
        if self.rest.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().enumerate().take(MOST_VARINT) {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if index == MOST_VARINT - 1 && bits > 1 {
                return Err(ProtobufError::Malformed("number out of range"));
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < MOST_VARINT {
            ProtobufError::CutShort
        } else {
            ProtobufError::Malformed("number out of range")
        })
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(ProtobufError::CutShort)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::CutShort)?;
        self.rest = rest;
        Ok(bytes)
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ProtobufError::NotUtf8)
}
