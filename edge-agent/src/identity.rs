//! Who this node is: its keys, made here, and what the hub answered when it joined. One file, 0600.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::frame::{KeyId, Verify};
use protocol::join::JoinAnswer;
use protocol::{Digest, NodeName, UnixMillis};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::clock::Entropy;
use crate::config::HubAddress;
use crate::files::{self, Sync};

const FILE: &str = "identity.json";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no identity file; move it away and join again", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("the identity's {0} is not valid; move the file away and join again")]
    Invalid(&'static str),
    #[error("cannot make keys")]
    Keys(#[source] rcgen::Error),
}

#[derive(Serialize, Deserialize)]
pub struct Identity {
    pub node: NodeName,
    /// PKCS #8, PEM.
    pub key: String,
    /// X25519 secret in base64: opens what the hub seals.
    sealing_key: String,
    pub membership: Option<Membership>,
}

/// What joining brought.
#[derive(Serialize, Deserialize)]
pub struct Membership {
    pub hub_host: String,
    pub hub_port: u16,
    /// When the certificate was issued, by this node's clock; zero renews it soon.
    #[serde(default)]
    pub certified_at: UnixMillis,
    #[serde(flatten)]
    pub answer: JoinAnswer,
}

impl Identity {
    /// The stored identity, or a new one with fresh keys, stored at once: a join whose answer was lost
    /// is repeated with the same key.
    ///
    /// # Errors
    /// [`IdentityError`]
    pub fn open(data_dir: &Path, node: &NodeName, entropy: &Entropy) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| IdentityError::Parse { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = rcgen::KeyPair::generate().map_err(IdentityError::Keys)?.serialize_pem();
                let sealing_key = BASE64.encode(entropy.bytes::<32>());
                let identity = Self { node: node.clone(), key, sealing_key, membership: None };
                identity.store(data_dir)?;
                Ok(identity)
            }
            Err(source) => Err(IdentityError::Read { path, source }),
        }
    }

    /// # Errors
    /// [`IdentityError::Write`]
    pub fn store(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).expect("strings and numbers always serialize");
        files::write_atomic(&path, &bytes, 0o600, Sync::BeforeReturning)
            .map_err(|source| IdentityError::Write { path, source })
    }

    /// A signing request for the node's key, PEM. The hub takes the key only.
    ///
    /// # Errors
    /// [`IdentityError::Keys`]
    pub fn signing_request(&self) -> Result<String, IdentityError> {
        let key = rcgen::KeyPair::from_pem(&self.key).map_err(IdentityError::Keys)?;
        let params = rcgen::CertificateParams::new(Vec::new()).map_err(IdentityError::Keys)?;
        let request = params.serialize_request(&key).map_err(IdentityError::Keys)?;
        request.pem().map_err(IdentityError::Keys)
    }

    /// # Errors
    /// [`IdentityError::Invalid`]
    pub fn sealing_secret(&self) -> Result<crypto_box::SecretKey, IdentityError> {
        let bytes = BASE64.decode(&self.sealing_key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(crypto_box::SecretKey::from_bytes).ok_or(IdentityError::Invalid("sealing key"))
    }

    /// # Errors
    /// [`IdentityError::Invalid`]
    pub fn sealing_public(&self) -> Result<String, IdentityError> {
        Ok(BASE64.encode(self.sealing_secret()?.public_key().as_bytes()))
    }
}

impl Membership {
    pub fn new(hub: &HubAddress, answer: JoinAnswer, now: UnixMillis) -> Self {
        Self { hub_host: hub.host.clone(), hub_port: hub.port, certified_at: now, answer }
    }

    /// The broker's address; an empty host in the answer is the hub's own.
    ///
    /// # Errors
    /// [`IdentityError::Invalid`]
    pub fn broker(&self) -> Result<(String, u16), IdentityError> {
        let (host, port) = self.answer.broker.rsplit_once(':').ok_or(IdentityError::Invalid("broker address"))?;
        let port = port.parse().map_err(|_| IdentityError::Invalid("broker address"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok((if host.is_empty() { self.hub_host.clone() } else { host.to_owned() }, port))
    }

    /// # Errors
    /// [`IdentityError::Invalid`]
    pub fn hub_key(&self) -> Result<HubKey, IdentityError> {
        let bytes = BASE64.decode(&self.answer.hub_key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(HubKey::new).ok_or(IdentityError::Invalid("hub key"))
    }
}

/// The hub's ed25519 public key: whatever it did not sign is not acted on.
#[derive(Debug, Clone)]
pub struct HubKey {
    key: UnparsedPublicKey<[u8; 32]>,
    id: KeyId,
}

impl HubKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        let digest = Digest::of(&bytes).0;
        Self { key: UnparsedPublicKey::new(&ED25519, bytes), id: [digest[0], digest[1], digest[2], digest[3]] }
    }
}

impl Verify for HubKey {
    fn key_id(&self) -> KeyId {
        self.id
    }

    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let name = "pi-1".parse().unwrap();
        let first = Identity::open(dir.path(), &name, &Entropy::default()).unwrap();
        let second = Identity::open(dir.path(), &name, &Entropy::default()).unwrap();
        assert_eq!((&first.key, first.sealing_public().unwrap()), (&second.key, second.sealing_public().unwrap()));
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.signing_request().unwrap().contains("CERTIFICATE REQUEST"));
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"{").unwrap();
        let error = Identity::open(dir.path(), &"pi-1".parse().unwrap(), &Entropy::default()).err().unwrap();
        assert!(error.to_string().contains("join again"), "{error}");
    }
}
