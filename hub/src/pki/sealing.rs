//! Secrets, sealed to the key of the node that may read them.
//!
//! Sealing is deterministic: the same values for the same node give the same bytes, so that a pod's
//! digest does not change when nothing did. The ephemeral key comes from a generator seeded by a keyed
//! hash of node key and plaintext: without the hub's secret it cannot be guessed, and two different
//! plaintexts never share one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crypto_box::PublicKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::identity::Identity;

/// A node's X25519 key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealingKey(PublicKey);

impl SealingKey {
    /// `None` for what is no base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = BASE64.decode(text).ok()?.try_into().ok()?;
        Some(Self(PublicKey::from_bytes(bytes)))
    }

    /// The sealed box around postcard `Vec<Vec<u8>>`, as `protocol::pod::PodSpec::sealed_secrets` wants it.
    pub fn seal(&self, hub: &Identity, values: &[Vec<u8>]) -> Vec<u8> {
        let plain = postcard::to_allocvec(values).expect("byte vectors always serialize");
        let mut random = ChaCha20Rng::from_seed(hub.derive("seal", &[self.0.as_bytes(), &plain]));
        self.0.seal(&mut random, &plain).expect("sealing fails on texts of 256 GB only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto_box::SecretKey;

    #[test]
    fn sealing_is_deterministic_and_opens_for_its_node_alone() {
        let directory = tempfile::tempdir().unwrap();
        let hub = Identity::open(&directory.path().join("identity.json")).unwrap();
        let (mine, other) = (SecretKey::from([1; 32]), SecretKey::from([2; 32]));
        let key = SealingKey::from_base64(&BASE64.encode(mine.public_key().as_bytes())).unwrap();
        let values = vec![b"user".to_vec(), b"password".to_vec()];
        let sealed = key.seal(&hub, &values);
        assert_eq!(sealed, key.seal(&hub, &values));
        assert_ne!(sealed[..32], key.seal(&hub, &values[..1])[..32]);
        assert_eq!(postcard::from_bytes::<Vec<Vec<u8>>>(&mine.unseal(&sealed).unwrap()).unwrap(), values);
        assert!(other.unseal(&sealed).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "AAAA", "!"] {
            assert_eq!(SealingKey::from_base64(text), None, "{text:?}");
        }
    }
}
