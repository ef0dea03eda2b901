//! Join tokens: what lets a machine become a node.
//!
//! `<id>.<secret>.<hash of the CA>`. Only a keyed hash of the secret is kept. A token works once or, where
//! its maker says so, until it expires; every token expires. An answer lost on the way back must not
//! lock a machine out: the same node with the same key may use its token again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::{Digest, NodeName, UnixMillis};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::PkiError;
use super::files::{self, FileError};
use super::identity::{Identity, IdentityError, random_bytes};

/// Tokens kept at once; a script that makes one in a loop hits this, not the disk.
const TOKENS_MAX: usize = 1000;
/// A day: time enough to walk to the machine.
pub const DEFAULT_TTL_SECONDS: u64 = 24 * 3600;
/// A year: longer ones belong to nobody's plan.
pub const TTL_MAX_SECONDS: u64 = 366 * 24 * 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uses {
    Once,
    UntilExpiry,
}

/// What a new token shall be good for.
#[derive(Debug, Clone)]
pub struct TokenWish {
    pub ttl_seconds: u64,
    pub uses: Uses,
    /// Only this node may join with it.
    pub node: Option<NodeName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    secret_hash: String,
    expires: UnixMillis,
    uses: Uses,
    node: Option<NodeName>,
    used_by: Option<Use>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    node: NodeName,
    key: String,
}

/// A token as its owner may see it: without the secret.
#[derive(Debug, Clone, Serialize)]
pub struct TokenInfo {
    pub id: String,
    pub expires_unix: u64,
    pub uses: Uses,
    pub node: Option<NodeName>,
    pub used_by: Option<NodeName>,
    pub expired: bool,
}

/// Why a token does not open the door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the token is not one of this hub's, or mistyped")]
    Unknown,
    #[error("the token has expired; make a new one with: hub token create")]
    Expired,
    #[error("the token was used already, by node {by}; make a new one with: hub token create")]
    Used { by: NodeName },
    #[error("the token is for node {node} only")]
    OtherNode { node: NodeName },
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("there are {TOKENS_MAX} tokens already; delete some with: hub token delete")]
    Full,
    #[error("a token lives 1 to {TTL_MAX_SECONDS} seconds")]
    Ttl,
    #[error("cannot make a token")]
    Random(#[from] IdentityError),
    #[error("cannot keep the tokens")]
    File(#[from] FileError),
}

/// All tokens, as on disk.
pub struct TokenBook {
    path: PathBuf,
    key: hmac::Key,
    tokens: BTreeMap<String, Token>,
}

impl TokenBook {
    pub(super) fn open(path: &Path, identity: &Identity) -> Result<Self, PkiError> {
        let tokens = match files::read(path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(PkiError::Tokens)?,
            None => BTreeMap::new(),
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &identity.derive("join tokens", &[]));
        Ok(Self { path: path.to_owned(), key, tokens })
    }

    /// Makes a token; answers `<id>.<secret>`, the only time that the secret is seen.
    ///
    /// # Errors
    /// [`TokenError`]; nothing was kept then.
    pub fn create(&mut self, wish: TokenWish, now: UnixMillis) -> Result<String, TokenError> {
        if wish.ttl_seconds == 0 || wish.ttl_seconds > TTL_MAX_SECONDS {
            return Err(TokenError::Ttl);
        }
        self.tokens.retain(|_, token| token.expires > now);
        if self.tokens.len() >= TOKENS_MAX {
            return Err(TokenError::Full);
        }
        let (id, secret) = (hex(&random_bytes::<4>()?), hex(&random_bytes::<16>()?));
        let token = Token {
            secret_hash: hex(hmac::sign(&self.key, secret.as_bytes()).as_ref()),
            expires: UnixMillis(now.0.saturating_add(wish.ttl_seconds * 1000)),
            uses: wish.uses,
            node: wish.node,
            used_by: None,
        };
        self.change(|tokens| tokens.insert(id.clone(), token))?;
        Ok(format!("{id}.{secret}"))
    }

    /// Whether `token` (`<id>.<secret>`) lets `node` in with the key named by `key`.
    ///
    /// # Errors
    /// The [`Refusal`]. Whether an id exists is told only to who knows its secret.
    pub fn check(&self, token: &str, node: &NodeName, key: Digest, now: UnixMillis) -> Result<(), Refusal> {
        let (id, secret) = token.split_once('.').ok_or(Refusal::Unknown)?;
        let known = self.tokens.get(id).ok_or(Refusal::Unknown)?;
        let hash = unhex(&known.secret_hash).ok_or(Refusal::Unknown)?;
        hmac::verify(&self.key, secret.as_bytes(), &hash).map_err(|_| Refusal::Unknown)?;
        judge(known, node, key, now)
    }

    /// Keeps that `node` has used `token`; on disk when this returns.
    ///
    /// # Errors
    /// [`FileError`]; the token is unused then.
    pub fn mark_used(&mut self, token: &str, node: &NodeName, key: Digest) -> Result<(), FileError> {
        let id = token.split_once('.').map_or(token, |(id, _)| id);
        let by = Use { node: node.clone(), key: key.hex() };
        self.change(|tokens| tokens.get_mut(id).map(|token| token.used_by = Some(by)))
    }

    /// # Errors
    /// [`FileError`]; the token is still there then.
    pub fn delete(&mut self, id: &str) -> Result<Deleted, FileError> {
        if !self.tokens.contains_key(id) {
            return Ok(Deleted::Unknown);
        }
        self.change(|tokens| tokens.remove(id))?;
        Ok(Deleted::Gone)
    }

    pub fn list(&self, now: UnixMillis) -> Vec<TokenInfo> {
        let info = |(id, token): (&String, &Token)| TokenInfo {
            id: id.clone(),
            expires_unix: token.expires.0 / 1000,
            uses: token.uses,
            node: token.node.clone(),
            used_by: token.used_by.as_ref().map(|used| used.node.clone()),
            expired: token.expires <= now,
        };
        self.tokens.iter().map(info).collect()
    }

    /// Disk first: memory never knows what a crash could forget.
    fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<String, Token>) -> T) -> Result<(), FileError> {
        let mut next = self.tokens.clone();
        change(&mut next);
        let bytes = serde_json::to_vec_pretty(&next).expect("tokens are plain data");
        files::write_atomic(&self.path, &bytes)?;
        self.tokens = next;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    Gone,
    Unknown,
}

fn judge(token: &Token, node: &NodeName, key: Digest, now: UnixMillis) -> Result<(), Refusal> {
    if token.expires <= now {
        return Err(Refusal::Expired);
    }
    if let Some(only) = token.node.as_ref().filter(|only| *only != node) {
        return Err(Refusal::OtherNode { node: only.clone() });
    }
    match (token.uses, &token.used_by) {
        (Uses::UntilExpiry, _) | (Uses::Once, None) => Ok(()),
        (Uses::Once, Some(by)) if by.node == *node && by.key == key.hex() => Ok(()),
        (Uses::Once, Some(by)) => Err(Refusal::Used { by: by.node.clone() }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const LATER: UnixMillis = UnixMillis(NOW.0 + 60_000);

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn book(directory: &tempfile::TempDir) -> TokenBook {
        let identity = Identity::open(&directory.path().join("identity.json")).unwrap();
        TokenBook::open(&directory.path().join("tokens.json"), &identity).unwrap()
    }

    /// One token of this sort; first `pi-1` uses it, then `name` with `key` comes at `now`.
    fn check(uses: Uses, only: Option<&str>, name: &str, key: &[u8], now: UnixMillis, want: &str) {
        let directory = tempfile::tempdir().unwrap();
        let wish = TokenWish { ttl_seconds: 60, uses, node: only.map(node) };
        let token = book(&directory).create(wish, NOW).unwrap();
        book(&directory).mark_used(&token, &node("pi-1"), Digest::of(b"key 1")).unwrap();
        let got = book(&directory).check(&token, &node(name), Digest::of(key), now);
        let text = got.map_or_else(|refusal| refusal.to_string(), |()| "welcome".to_owned());
        assert!(text.starts_with(want), "want {want:?}, got {text:?}");
    }

    #[test]
    fn tokens_open_for_whom_they_were_made() {
        check(Uses::Once, None, "pi-1", b"key 1", NOW, "welcome");
        check(Uses::Once, None, "pi-1", b"key 2", NOW, "the token was used already, by node pi-1");
        check(Uses::Once, None, "pi-2", b"key 1", NOW, "the token was used already, by node pi-1");
        check(Uses::Once, None, "pi-1", b"key 1", LATER, "the token has expired");
        check(Uses::UntilExpiry, None, "pi-2", b"key 2", NOW, "welcome");
        check(Uses::UntilExpiry, None, "pi-2", b"key 2", LATER, "the token has expired");
        check(Uses::UntilExpiry, Some("pi-3"), "pi-2", b"key 2", NOW, "the token is for node pi-3 only");
        check(Uses::UntilExpiry, Some("pi-3"), "pi-3", b"key 2", NOW, "welcome");
    }

    #[test]
    fn a_wrong_secret_and_a_wrong_id_look_alike() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = book(&directory);
        let token = book.create(TokenWish { ttl_seconds: 60, uses: Uses::Once, node: None }, NOW).unwrap();
        let (id, secret) = token.split_once('.').unwrap();
        for wrong in [format!("{id}.{}", "0".repeat(32)), format!("00000000.{secret}"), id.to_owned(), String::new()] {
            assert_eq!(book.check(&wrong, &node("pi-1"), Digest::of(b""), NOW), Err(Refusal::Unknown), "{wrong}");
        }
        assert_eq!(book.delete(id).unwrap(), Deleted::Gone);
        assert_eq!(book.delete(id).unwrap(), Deleted::Unknown);
        assert_eq!(book.check(&token, &node("pi-1"), Digest::of(b""), NOW), Err(Refusal::Unknown));
    }

    #[test]
    fn the_secret_is_not_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let token = book(&directory).create(TokenWish { ttl_seconds: 60, uses: Uses::Once, node: None }, NOW).unwrap();
        let (_, secret) = token.split_once('.').unwrap();
        let file = std::fs::read_to_string(directory.path().join("tokens.json")).unwrap();
        assert!(!file.contains(secret));
    }
}
