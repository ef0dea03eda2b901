//! How a message is wrapped, and signed where it matters.
//!
//! ```text
//! offset  0      2         3      4      5         9             33
//!         "WH"   version   kind   flags  key id    [stamp 24]    body (postcard)   [signature 64]
//! ```
//! The stamp and the signature are there when flag bit 0 is set. The signature covers a domain
//! string, the topic, the stamp, the kind and the body: a message moved to another topic, replayed under
//! another generation or read as another kind does not verify.

use alloc::vec::Vec;
use core::fmt;
use serde::{Serialize, de::DeserializeOwned};

use crate::ids::{Epoch, Generation, Stamp};
use crate::limits::FRAME_MAX;

const MAGIC: [u8; 2] = *b"WH";
const VERSION: u8 = 1;
const SIGNED: u8 = 1;
const HEADER: usize = 9;
const STAMP: usize = 24;
const SIGNATURE: usize = 64;
const DOMAIN: &[u8] = b"wherry frame v1\0";

/// What a body is. A changed struct is a new kind; numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Desired = 1,
    Reported = 2,
    Presence = 3,
    Metrics = 4,
    Events = 5,
    BlobRequest = 6,
    BlobAnswer = 7,
    StreamDown = 8,
    StreamUp = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Kind::Desired,
            2 => Kind::Reported,
            3 => Kind::Presence,
            4 => Kind::Metrics,
            5 => Kind::Events,
            6 => Kind::BlobRequest,
            7 => Kind::BlobAnswer,
            8 => Kind::StreamDown,
            9 => Kind::StreamUp,
            _ => return None,
        })
    }
}

/// A type that travels as the body of a frame.
pub trait Message: Serialize + DeserializeOwned {
    const KIND: Kind;
}

/// The first bytes of a public key's SHA-256: which key signed.
pub type KeyId = [u8; 4];

/// The hub's signing key (ed25519), in the shell.
pub trait Sign {
    fn key_id(&self) -> KeyId;
    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE];
}

/// The hub's public key as a node keeps it.
pub trait Verify {
    fn key_id(&self) -> KeyId;
    fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE]) -> bool;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    TooLarge { bytes: usize },
    Truncated,
    NotWherry,
    UnknownVersion(u8),
    UnknownKind(u8),
    UnknownFlags(u8),
    UnexpectedKind { got: Kind, want: Kind },
    Unsigned,
    ForeignKey(KeyId),
    BadSignature,
    BadBody,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLarge { bytes } => write!(f, "{bytes} bytes are more than the {FRAME_MAX} of a frame"),
            FrameError::Truncated => f.write_str("the frame ends too early"),
            FrameError::NotWherry => f.write_str("the bytes are no Wherry frame"),
            FrameError::UnknownVersion(v) => write!(f, "frame version {v} is not spoken here (1 is)"),
            FrameError::UnknownKind(k) => write!(f, "message kind {k} is not known here"),
            FrameError::UnknownFlags(b) => write!(f, "frame flags {b:#04x} are not known here"),
            FrameError::UnexpectedKind { got, want } => write!(f, "a {got:?} message came where {want:?} belongs"),
            FrameError::Unsigned => f.write_str("the message is not signed"),
            FrameError::ForeignKey(_) => f.write_str("the message is signed with a key of another hub"),
            FrameError::BadSignature => f.write_str("the signature does not match the message"),
            FrameError::BadBody => f.write_str("the body does not decode"),
        }
    }
}

impl core::error::Error for FrameError {}

/// An unsigned frame: what nodes send (the broker knows who they are).
///
/// # Errors
/// [`FrameError::TooLarge`]: the sender must split or shard.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut out = header(M::KIND, 0, [0; 4]);
    out = postcard::to_extend(message, out).map_err(|_| FrameError::BadBody)?;
    bounded(out)
}

/// A frame signed for one topic: what the hub sends.
///
/// # Errors
/// [`FrameError::TooLarge`]: the sender must move bodies into blobs.
pub fn encode_signed<M: Message>(
    message: &M,
    topic: &str,
    stamp: Stamp,
    key: &impl Sign,
) -> Result<Vec<u8>, FrameError> {
    let mut out = header(M::KIND, SIGNED, key.key_id());
    out.extend_from_slice(&stamp_bytes(stamp));
    out = postcard::to_extend(message, out).map_err(|_| FrameError::BadBody)?;
    let signature = key.sign(&signed_text(topic, M::KIND, stamp, &out[HEADER + STAMP..]));
    out.extend_from_slice(&signature);
    bounded(out)
}

fn header(kind: Kind, flags: u8, key: KeyId) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind as u8, flags]);
    out.extend_from_slice(&key);
    out
}

fn bounded(out: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    if out.len() > FRAME_MAX { Err(FrameError::TooLarge { bytes: out.len() }) } else { Ok(out) }
}

fn stamp_bytes(stamp: Stamp) -> [u8; STAMP] {
    let mut bytes = [0; STAMP];
    bytes[..8].copy_from_slice(&stamp.epoch.counter.to_be_bytes());
    bytes[8..16].copy_from_slice(&stamp.epoch.id.to_be_bytes());
    bytes[16..].copy_from_slice(&stamp.generation.0.to_be_bytes());
    bytes
}

fn signed_text(topic: &str, kind: Kind, stamp: Stamp, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(DOMAIN.len() + topic.len() + STAMP + 2 + body.len());
    text.extend_from_slice(DOMAIN);
    text.extend_from_slice(topic.as_bytes());
    text.push(0);
    text.extend_from_slice(&stamp_bytes(stamp));
    text.push(kind as u8);
    text.extend_from_slice(body);
    text
}

/// A frame taken apart, its body not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    body: &'a [u8],
    seal: Option<Seal<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seal<'a> {
    key: KeyId,
    stamp: Stamp,
    signature: &'a [u8; SIGNATURE],
}

impl<'a> Frame<'a> {
    /// Takes hostile bytes: never panics, allocates nothing.
    ///
    /// # Errors
    /// What is wrong with the frame's outside.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_MAX {
            return Err(FrameError::TooLarge { bytes: bytes.len() });
        }
        let (head, rest) = bytes.split_first_chunk::<HEADER>().ok_or(FrameError::Truncated)?;
        let [m0, m1, version, kind, flags, key @ ..] = *head;
        if [m0, m1] != MAGIC {
            return Err(FrameError::NotWherry);
        }
        if version != VERSION {
            return Err(FrameError::UnknownVersion(version));
        }
        let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
        // Unsigned bits could be flipped on the way; none is defined, so none is accepted.
        if flags & !SIGNED != 0 {
            return Err(FrameError::UnknownFlags(flags));
        }
        if flags & SIGNED == 0 {
            return Ok(Self { kind, body: rest, seal: None });
        }
        let (stamp, rest) = rest.split_first_chunk::<STAMP>().ok_or(FrameError::Truncated)?;
        let (body, signature) = rest.split_last_chunk::<SIGNATURE>().ok_or(FrameError::Truncated)?;
        Ok(Self { kind, body, seal: Some(Seal { key, stamp: read_stamp(stamp), signature }) })
    }

    /// The stamp, once the signature proves that our hub wrote this message for this topic.
    ///
    /// # Errors
    /// [`FrameError::Unsigned`], [`FrameError::ForeignKey`], [`FrameError::BadSignature`].
    pub fn verify(&self, topic: &str, key: &impl Verify) -> Result<Stamp, FrameError> {
        let seal = self.seal.ok_or(FrameError::Unsigned)?;
        if seal.key != key.key_id() {
            return Err(FrameError::ForeignKey(seal.key));
        }
        if key.verify(&signed_text(topic, self.kind, seal.stamp, self.body), seal.signature) {
            Ok(seal.stamp)
        } else {
            Err(FrameError::BadSignature)
        }
    }

    /// The stamp as claimed, not verified: only good for noticing another hub.
    pub fn claimed_stamp(&self) -> Option<Stamp> {
        self.seal.map(|seal| seal.stamp)
    }

    /// # Errors
    /// [`FrameError::UnexpectedKind`] or [`FrameError::BadBody`].
    pub fn body<M: Message>(&self) -> Result<M, FrameError> {
        if self.kind != M::KIND {
            return Err(FrameError::UnexpectedKind { got: self.kind, want: M::KIND });
        }
        postcard::from_bytes(self.body).map_err(|_| FrameError::BadBody)
    }
}

fn read_stamp(bytes: &[u8; STAMP]) -> Stamp {
    let part = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_be_bytes(number)
    };
    Stamp { epoch: Epoch { counter: part(0), id: part(8) }, generation: Generation(part(16)) }
}
