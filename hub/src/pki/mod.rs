//! Who is who: the hub's certificate authority, its signing key, join tokens and node identities.
//!
//! ```text
//! authority   the CA: issues server, client and node certificates      files     atomic, private files
//! identity    cluster id, signing key, secret of this hub              sealing   Secrets to a node's key
//! tokens      what lets a machine join once                            nodes     who has joined, with which key
//! join        the HTTPS exchange that makes a machine a node           users     certificate or bearer -> user
//! kubeconfig  the administrator's way in
//! ```
//! Everything lives below one directory (0700, files 0600). Server and hub certificates are made anew
//! at each start, so they always fit the addresses in use; the CA and the identity never change.

pub mod authority;
mod files;
pub mod identity;
pub mod join;
pub mod kubeconfig;
pub mod nodes;
pub mod sealing;
pub mod tokens;
pub mod users;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use protocol::{ClusterId, NodeName, UnixMillis};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use authority::{Authority, IssueError, Issued};
pub use files::{FileError, write_atomic as write_private};
pub use identity::Identity;
pub use nodes::{NodeBook, NodeRecord};
pub use tokens::TokenBook;
pub use users::{Authenticator, User};

/// The CN of the hub's own MQTT certificate; no node may be called so.
pub const HUB_CN: &str = "wherry-hub";
/// The CN of the administrator's certificate in `admin.kubeconfig`.
pub const ADMIN_CN: &str = "wherry-admin";
/// Names that start so belong to the hub itself.
pub const RESERVED_PREFIX: &str = "wherry-";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot use the key directory")]
    File(#[from] FileError),
    #[error("cannot make or read the certificate authority")]
    Authority(#[from] IssueError),
    #[error("cannot read the hub's identity")]
    Identity(#[from] identity::IdentityError),
    #[error("cannot read the join tokens")]
    Tokens(#[source] serde_json::Error),
    #[error("cannot read the identity of a joined node from {path}")]
    Node { path: PathBuf, source: serde_json::Error },
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate or its key does not serve")]
    Config(#[source] rustls::Error),
    #[error("the CA does not serve to check clients")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error("cannot certify the key")]
    Issue(#[from] IssueError),
    #[error("cannot keep the node's new key")]
    File(#[from] FileError),
}

/// Handle on all of it; cheap to clone.
#[derive(Clone)]
pub struct Pki {
    shared: Arc<Shared>,
}

struct Shared {
    directory: PathBuf,
    authority: Authority,
    identity: Arc<Identity>,
    server: Issued,
    tokens: Mutex<TokenBook>,
    nodes: Mutex<NodeBook>,
}

impl Pki {
    /// Reads the directory, or fills it at the first start. `sans` are the names and addresses by which
    /// users and nodes reach this hub, besides localhost, the host's name and its addresses.
    ///
    /// # Errors
    /// A directory that cannot be read or written, or that holds something else.
    pub fn open(directory: &Path, sans: &[String], now: UnixMillis) -> Result<Self, PkiError> {
        files::private_directory(directory)?;
        let authority = Authority::open(&directory.join("ca.pem"))?;
        // For people and other brokers; never read back.
        files::write_atomic(&directory.join("ca.crt"), authority.pem().as_bytes())?;
        let identity = Arc::new(Identity::open(&directory.join("identity.json"))?);
        let server = authority.issue_server(&server_names(sans), now)?;
        let tokens = TokenBook::open(&directory.join("tokens.json"), &identity)?;
        let nodes = NodeBook::open(&directory.join("nodes"))?;
        let shared = Shared {
            directory: directory.to_owned(),
            authority,
            identity,
            server,
            tokens: Mutex::new(tokens),
            nodes: Mutex::new(nodes),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    pub fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    pub fn identity(&self) -> &Arc<Identity> {
        &self.shared.identity
    }

    pub fn cluster(&self) -> &ClusterId {
        self.shared.identity.cluster()
    }

    pub fn authenticator(&self) -> Authenticator {
        Authenticator::new(self.shared.identity.clone())
    }

    /// What the API serves with: a client certificate is optional, but one that is shown must be ours.
    ///
    /// # Errors
    /// [`TlsError`], which means a bug: the certificates are our own.
    pub fn api_tls(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(TlsError::Verifier)?;
        let mut config = self.server_config(verifier)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What the embedded broker serves with: nobody gets in without a certificate of ours.
    ///
    /// # Errors
    /// As [`Pki::api_tls`].
    pub fn broker_tls(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider())
            .build()
            .map_err(TlsError::Verifier)?;
        Ok(Arc::new(self.server_config(verifier)?))
    }

    /// How the hub presents itself to a broker of someone else's, which trusts our CA and is issued by it.
    ///
    /// # Errors
    /// [`PkiError`] where the certificate cannot be made.
    pub fn hub_client_tls(&self, now: UnixMillis) -> Result<Arc<ClientConfig>, PkiError> {
        let issued = self.authority().issue_client(HUB_CN, None, now)?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![issued.certificate.clone()], issued.private_key())
            .map_err(TlsError::Config)?;
        Ok(Arc::new(config))
    }

    fn server_config(
        &self,
        verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    ) -> Result<ServerConfig, TlsError> {
        let server = &self.shared.server;
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .with_client_cert_verifier(verifier)
            // With the CA behind it: a joining agent knows the CA by its hash only and takes it from here.
            .with_single_cert(
                vec![server.certificate.clone(), self.authority().certificate().clone()],
                server.private_key(),
            )
            .map_err(TlsError::Config)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority().certificate().clone()).map_err(TlsError::Config)?;
        Ok(Arc::new(roots))
    }

    /// A new join token, `<id>.<secret>`.
    ///
    /// # Errors
    /// [`tokens::TokenError`]
    pub fn create_token(&self, wish: tokens::TokenWish, now: UnixMillis) -> Result<String, tokens::TokenError> {
        self.tokens(|book| book.create(wish, now))
    }

    /// Frees the name of a node that was deleted; its machine keeps it until another takes it.
    ///
    /// # Errors
    /// [`FileError`]; the name is as it was then.
    pub fn release_node(&self, name: &NodeName) -> Result<(), FileError> {
        self.nodes(|book| book.release(name))
    }

    /// A new certificate for a node that proved to be itself, for the key in `csr` (PEM).
    ///
    /// # Errors
    /// [`RenewError`]; the node's present certificate stays valid.
    pub fn renew(&self, name: &NodeName, csr: &str, now: UnixMillis) -> Result<String, RenewError> {
        let csr = authority::SigningRequest::from_pem(csr)?;
        let pem = self.authority().sign_node(name, &csr, now)?;
        self.nodes(|book| book.renew(name, csr.key_digest()))?;
        Ok(pem)
    }

    /// What is known of a joined node.
    pub fn node(&self, name: &NodeName) -> Option<NodeRecord> {
        self.nodes(|book| book.get(name).cloned())
    }

    /// Whether this certificate, already verified against our CA, is one that `name` holds now.
    pub fn is_current(&self, name: &NodeName, certificate: &CertificateDer<'_>) -> bool {
        authority::key_digest(certificate).is_some_and(|key| self.nodes(|book| book.holds(name, key)))
    }

    /// A node that had been deleted is back: its name is its own again.
    ///
    /// # Errors
    /// [`FileError`]; the name is as it was then.
    pub fn reclaim_node(&self, name: &NodeName) -> Result<(), FileError> {
        self.nodes(|book| book.reclaim(name))
    }

    /// Runs `work` on the book of nodes; `work` is short and does not wait.
    pub(crate) fn nodes<T>(&self, work: impl FnOnce(&mut NodeBook) -> T) -> T {
        work(&mut self.shared.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Runs `work` on the book of tokens; `work` is short and does not wait.
    pub(crate) fn tokens<T>(&self, work: impl FnOnce(&mut TokenBook) -> T) -> T {
        work(&mut self.shared.tokens.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The only cryptography in the house is ring's; no process-wide default is installed or needed.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_names(sans: &[String]) -> Vec<String> {
    let mut names: Vec<String> =
        ["localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .map(str::to_owned)
            .to_vec();
    // Absent only where /proc is: then --tls-san says it.
    names.extend(std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()));
    names.extend(own_address().map(|address| address.to_string()));
    names.extend(sans.iter().cloned());
    names.retain(|name| !name.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The address by which others on the network reach this host, if it has one.
pub fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Connecting a datagram socket sends nothing; it only asks the routing table. The address is
    // from the documentation range (RFC 5737).
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}
