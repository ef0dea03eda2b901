//! From what a client shows to who it is.
//!
//! A certificate of our CA names its user by CN and its groups by O, as in Kubernetes. Bearer tokens are
//! those of ServiceAccounts: small signed claims (JWT, EdDSA) with an end.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use protocol::UnixMillis;
use protocol::frame::Sign as _;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::authority::subject_of;
use super::identity::Identity;

/// Who may do everything.
pub const MASTERS: &str = "system:masters";
const AUTHENTICATED: &str = "system:authenticated";
const NODES: &str = "system:nodes";
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT"}"#;
const ISSUER: &str = "wherry";
/// A claim is a few hundred bytes; more is no token of ours.
const BEARER_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    /// Whether the user is the cluster's administrator.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// Whether the user is a node's certificate: it has no business with the API.
    pub fn is_node(&self) -> bool {
        self.groups.iter().any(|group| group == NODES)
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    /// Unix seconds.
    iat: u64,
    exp: u64,
    #[serde(default)]
    uid: String,
}

#[derive(Clone)]
pub struct Authenticator {
    identity: Arc<Identity>,
}

impl Authenticator {
    pub(super) fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }

    /// The user behind a connection and its request. `peer` has been verified against our CA by TLS.
    pub fn identify(&self, peer: Option<&CertificateDer<'_>>, bearer: Option<&str>, now: UnixMillis) -> Option<User> {
        peer.and_then(by_certificate).or_else(|| self.by_bearer(bearer?, now))
    }

    fn by_bearer(&self, token: &str, now: UnixMillis) -> Option<User> {
        if token.len() > BEARER_MAX {
            return None;
        }
        let (text, signature) = token.rsplit_once('.')?;
        if !self.identity.verify(text.as_bytes(), &BASE64.decode(signature).ok()?) {
            return None;
        }
        let (_, claims) = text.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        if claims.iss != ISSUER || claims.exp <= now.0 / 1000 {
            return None;
        }
        let (namespace, _) = claims.sub.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        let groups =
            vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}"), AUTHENTICATED.to_owned()];
        Some(User { name: claims.sub, groups })
    }

    /// A bearer token for a ServiceAccount (`kubectl create token`).
    pub fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        now: UnixMillis,
        ttl_seconds: u64,
    ) -> String {
        let iat = now.0 / 1000;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            iat,
            exp: iat.saturating_add(ttl_seconds),
            uid: uid.to_owned(),
        };
        let claims = serde_json::to_vec(&claims).expect("claims are plain data");
        let text = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims));
        let signature = self.identity.sign(text.as_bytes());
        format!("{text}.{}", BASE64.encode(signature))
    }
}

fn by_certificate(peer: &CertificateDer<'_>) -> Option<User> {
    let subject = subject_of(peer)?;
    let mut groups = subject.organizations;
    // Node certificates carry no organization; users' do.
    let name = if groups.is_empty() {
        groups.push(NODES.to_owned());
        format!("system:node:{}", subject.name)
    } else {
        subject.name
    };
    groups.push(AUTHENTICATED.to_owned());
    Some(User { name, groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{ADMIN_CN, Authority};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn authenticator(directory: &tempfile::TempDir) -> Authenticator {
        Authenticator::new(Arc::new(Identity::open(&directory.path().join("identity.json")).unwrap()))
    }

    #[test]
    fn certificates_name_users_and_groups() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(&directory.path().join("ca.pem")).unwrap();
        let check = |name: &str, organization, want: &str, master: bool| {
            let issued = authority.issue_client(name, organization, NOW).unwrap();
            let user = authenticator(&directory).identify(Some(&issued.certificate), None, NOW).unwrap();
            assert_eq!((user.name.as_str(), user.is_master()), (want, master));
        };
        check(ADMIN_CN, Some(MASTERS), "wherry-admin", true);
        check("pi-1", None, "system:node:pi-1", false);
    }

    #[test]
    fn a_service_account_token_works_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let authenticator = authenticator(&directory);
        let token = authenticator.service_account_token("shop", "robot", "u", NOW, 60);
        let user = authenticator.identify(None, Some(&token), NOW).unwrap();
        assert_eq!(user.name, "system:serviceaccount:shop:robot");
        assert!(!user.is_master());
        assert_eq!(authenticator.identify(None, Some(&token), UnixMillis(NOW.0 + 60_000)), None);

        let other = Identity::open(&directory.path().join("other.json")).unwrap();
        let foreign = Authenticator::new(Arc::new(other)).service_account_token("shop", "robot", "u", NOW, 60);
        for wrong in [foreign.as_str(), "", ".", "a.b.c", &token[..token.len() - 4]] {
            assert_eq!(authenticator.identify(None, Some(wrong), NOW), None, "{wrong}");
        }
    }
}
