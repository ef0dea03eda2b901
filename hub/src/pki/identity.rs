//! What makes this hub this hub: its cluster's id, its signing key, its secret.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::frame::{KeyId, Sign};
use protocol::{ClusterId, Digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ring::{hmac, signature};
use serde::{Deserialize, Serialize};

use super::files::{self, FileError};

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot keep the identity")]
    File(#[from] FileError),
    #[error("the system gives no random numbers")]
    Random,
    #[error("the identity file does not parse")]
    Parse(#[source] serde_json::Error),
    #[error("the identity file holds a wrong {0}")]
    Field(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    cluster: ClusterId,
    /// Ed25519, PKCS#8, base64.
    signing_key: String,
    /// 32 bytes, base64: keys everything that is derived (token hashes, sealing).
    secret: String,
}

pub struct Identity {
    cluster: ClusterId,
    key: Ed25519KeyPair,
    key_id: KeyId,
    secret: hmac::Key,
}

impl Identity {
    /// # Errors
    /// A file that cannot be read, written or understood.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        match files::read(path)? {
            Some(bytes) => Self::parse(&serde_json::from_slice(&bytes).map_err(IdentityError::Parse)?),
            None => {
                let stored = generate()?;
                files::write_atomic(path, &serde_json::to_vec_pretty(&stored).map_err(IdentityError::Parse)?)?;
                Self::parse(&stored)
            }
        }
    }

    fn parse(stored: &Stored) -> Result<Self, IdentityError> {
        let bytes = |text: &str, field| BASE64.decode(text).map_err(|_| IdentityError::Field(field));
        let key = Ed25519KeyPair::from_pkcs8(&bytes(&stored.signing_key, "signing key")?)
            .map_err(|_| IdentityError::Field("signing key"))?;
        let secret = bytes(&stored.secret, "secret")?;
        if secret.len() < 32 {
            return Err(IdentityError::Field("secret"));
        }
        let [a, b, c, d, ..] = Digest::of(key.public_key().as_ref()).0;
        Ok(Self {
            cluster: stored.cluster.clone(),
            key,
            key_id: [a, b, c, d],
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Ed25519, 32 bytes: what nodes verify `desired` and artifacts with.
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// A keyed hash of `parts`, which only this hub can make. `purpose` keeps its uses apart.
    pub fn derive(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [purpose.as_bytes()].iter().chain(parts) {
            // Lengths go in, so that no two lists of parts read the same.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// Whether our key signed `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        signature::UnparsedPublicKey::new(&signature::ED25519, self.public_key()).verify(message, signature).is_ok()
    }
}

impl Sign for Identity {
    fn key_id(&self) -> KeyId {
        self.key_id
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(Ed25519KeyPair::sign(&self.key, message).as_ref());
        out
    }
}

fn generate() -> Result<Stored, IdentityError> {
    let random = SystemRandom::new();
    let key = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| IdentityError::Random)?;
    let secret: [u8; 32] = random_bytes()?;
    let name: [u8; 4] = random_bytes()?;
    let cluster = format!("c{:08x}", u32::from_be_bytes(name));
    Ok(Stored {
        cluster: cluster.parse().expect("a letter and hex digits are a label"),
        signing_key: BASE64.encode(key.as_ref()),
        secret: BASE64.encode(secret),
    })
}

/// Random bytes from the system.
///
/// # Errors
/// [`IdentityError::Random`]
pub fn random_bytes<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IdentityError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_a_restart_and_signs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.json");
        let (first, second) = (Identity::open(&path).unwrap(), Identity::open(&path).unwrap());
        assert_eq!(first.cluster(), second.cluster());
        assert!(second.verify(b"text", &Sign::sign(&first, b"text")));
        assert!(!second.verify(b"other", &Sign::sign(&first, b"text")));
        assert_eq!(first.derive("p", &[b"ab", b"c"]), second.derive("p", &[b"ab", b"c"]));
        assert_ne!(first.derive("p", &[b"ab", b"c"]), second.derive("p", &[b"a", b"bc"]));
    }
}
