//! Bytes from strangers: every decoder answers with an error or a value, never with a panic, and a
//! signature holds for one topic, stamp, kind and body only.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use protocol::blob::{BlobAnswer, BlobRequest};
use protocol::desired::Desired;
use protocol::event::Events;
use protocol::frame::{self, Frame, FrameError, KeyId, Sign, Verify};
use protocol::metrics::Metrics;
use protocol::pod::PodSpec;
use protocol::presence::Presence;
use protocol::reported::Reported;
use protocol::stream::{StreamDown, StreamUp};
use protocol::topic::Topic;
use protocol::{Digest, Epoch, Generation, Stamp};

/// A stand-in for ed25519: a keyed digest, twice. (The shells' keys are tested where they live.)
struct Key(u8);

impl Sign for Key {
    fn key_id(&self) -> KeyId {
        [self.0; 4]
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let keyed = [&[self.0], message].concat();
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&Digest::of(&keyed).0);
        signature[32..].copy_from_slice(&Digest::of(&keyed).0);
        signature
    }
}

impl Verify for Key {
    fn key_id(&self) -> KeyId {
        [self.0; 4]
    }

    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.sign(message) == *signature
    }
}

const TOPIC: &str = "wherry/1/c/n/pi-1/desired";

fn stamp() -> Stamp {
    Stamp { epoch: Epoch { counter: 1, id: 2 }, generation: Generation(3) }
}

fn signed() -> Vec<u8> {
    frame::encode_signed(&Desired::default(), TOPIC, stamp(), &Key(1)).unwrap()
}

#[test]
fn a_signature_holds_for_its_topic_and_key_only() {
    let bytes = signed();
    let frame = Frame::parse(&bytes).unwrap();
    assert_eq!(frame.verify(TOPIC, &Key(1)), Ok(stamp()));
    assert_eq!(frame.verify("wherry/1/c/n/pi-2/desired", &Key(1)), Err(FrameError::BadSignature));
    assert_eq!(frame.verify(TOPIC, &Key(2)), Err(FrameError::ForeignKey([1; 4])));
}

#[test]
fn an_unsigned_frame_is_told_apart() {
    let bytes = frame::encode(&Desired::default()).unwrap();
    assert_eq!(Frame::parse(&bytes).unwrap().verify(TOPIC, &Key(1)), Err(FrameError::Unsigned));
}

#[test]
fn a_frame_too_large_is_not_made_and_not_read() {
    let huge = StreamUp::Data { sequence: 0, bytes: vec![0; protocol::limits::FRAME_MAX] };
    assert!(matches!(frame::encode(&huge), Err(FrameError::TooLarge { .. })));
    assert!(matches!(Frame::parse(&vec![0; protocol::limits::FRAME_MAX + 1]), Err(FrameError::TooLarge { .. })));
}

fn decode_everything(bytes: &[u8]) {
    let Ok(frame) = Frame::parse(bytes) else { return };
    let _ = frame.verify(TOPIC, &Key(1));
    let _ = frame.body::<Desired>();
    let _ = frame.body::<Reported>();
    let _ = frame.body::<Presence>();
    let _ = frame.body::<Metrics>();
    let _ = frame.body::<Events>();
    let _ = frame.body::<BlobRequest>();
    let _ = frame.body::<BlobAnswer>();
    let _ = frame.body::<StreamDown>();
    let _ = frame.body::<StreamUp>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_everything(&bytes);
        let _ = PodSpec::from_bytes(&bytes);
    }

    #[test]
    fn any_body_behind_a_good_header_decodes_or_is_refused(
        kind in 0u8..16,
        flags in 0u8..4,
        body in proptest::collection::vec(any::<u8>(), 0..512),
    ) {
        let mut bytes = vec![b'W', b'H', 1, kind, flags, 0, 0, 0, 0];
        bytes.extend_from_slice(&body);
        decode_everything(&bytes);
    }

    #[test]
    fn no_changed_bit_of_a_signed_frame_verifies(at in 0usize..100, bit in 0u8..8) {
        let mut bytes = signed();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let accepted = Frame::parse(&bytes).is_ok_and(|frame| frame.verify(TOPIC, &Key(1)).is_ok());
        prop_assert!(!accepted, "byte {} bit {} can be changed", at, bit);
    }

    #[test]
    fn any_topic_parses_or_is_refused(text in ".{0,80}") {
        if let Some(topic) = Topic::parse(&text) {
            prop_assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
        }
    }
}
