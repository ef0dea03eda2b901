//! The one HTTPS exchange before MQTT. The hub is known by the hash of its CA in the token and by
//! nothing else: the certificate shown must come from exactly that CA.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use protocol::Digest;
use protocol::join::{JoinAnswer, JoinRequest, PATH};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::config::{HubAddress, Invitation};
use crate::identity::{Identity, IdentityError, Membership};

/// A hub that is there answers in milliseconds; a Pi's radio may need seconds to wake.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The answer holds two certificates and two addresses.
const ANSWER_MAX: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("cannot use this machine's identity")]
    Identity(#[from] IdentityError),
    #[error("{host:?} is no host name")]
    Host { host: String },
    #[error("cannot reach the hub at {host}:{port}")]
    Connect { host: String, port: u16, source: std::io::Error },
    #[error("the hub at {host}:{port} is not the one that made this token")]
    Tls { host: String, port: u16, source: std::io::Error },
    #[error("the hub did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("the exchange with the hub broke off")]
    Http(#[from] hyper::Error),
    #[error("the hub's answer is too long or broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the hub refused: {message} (HTTP {status})")]
    Refused { status: u16, message: String },
    #[error("the hub's answer is not understood")]
    Parse(#[from] serde_json::Error),
}

/// Joins and stores what the hub answered.
///
/// # Errors
/// [`JoinError`]; trying again with the same token is fine.
pub async fn join(
    identity: &mut Identity,
    data_dir: &Path,
    invitation: &Invitation,
    machine_id: &str,
    clock: &Clock,
) -> Result<(), JoinError> {
    let request = JoinRequest {
        token: invitation.token.secret.clone(),
        node: identity.node.clone(),
        csr: identity.signing_request()?,
        sealing_key: identity.sealing_public()?,
        machine_id: machine_id.to_owned(),
    };
    let exchange = post(&invitation.hub, invitation.token.ca, &request, clock);
    let answer = tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| JoinError::Timeout)??;
    identity.membership = Some(Membership::new(&invitation.hub, answer, clock.trusted()));
    identity.store(data_dir)?;
    Ok(())
}

async fn post(hub: &HubAddress, ca: Digest, request: &JoinRequest, clock: &Clock) -> Result<JoinAnswer, JoinError> {
    let HubAddress { host, port } = hub.clone();
    let name = ServerName::try_from(host.clone()).map_err(|_| JoinError::Host { host: host.clone() })?;
    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|source| JoinError::Connect {
        host: host.clone(),
        port,
        source,
    })?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(pinned(ca, clock)));
    let tls =
        connector.connect(name, tcp).await.map_err(|source| JoinError::Tls { host: host.clone(), port, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let body = Full::new(Bytes::from(serde_json::to_vec(request)?));
    let request = Request::post(PATH)
        .header("host", format!("{host}:{port}"))
        .header("content-type", "application/json")
        .body(body)
        .expect("constant headers and a parsed host name make a request");
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(JoinError::Body)?.to_bytes();
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        Err(JoinError::Refused { status: status.as_u16(), message: refusal(&body) })
    };
    tokio::select! {
        answer = exchange => answer,
        broken = connection => Err(broken.err().map_or(JoinError::Timeout, JoinError::Http)),
    }
}

/// The hub's words: `{"error": ...}`, a Kubernetes Status, or plain text.
fn refusal(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let field = |name| json.as_ref().and_then(|value| value.get(name)).and_then(|value| value.as_str());
    let text = field("error").or_else(|| field("message")).map(str::to_owned);
    edge_agent_core::note::clip(text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()))
}

fn pinned(ca: Digest, clock: &Clock) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { ca, provider: provider.clone() });
    rustls::ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

/// Trusts the one CA whose DER has this hash, once the server shows it in its chain.
#[derive(Debug)]
struct Pinned {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn verifier(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let ca = chain.iter().find(|shown| Digest::of(shown) == self.ca).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.verifier(intermediates)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How the node presents itself to the broker, and whom it trusts there.
///
/// # Errors
/// [`IdentityError::Invalid`]
pub fn mutual_tls(identity: &Identity, clock: &Clock) -> Result<rustls::ClientConfig, IdentityError> {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let membership = identity.membership.as_ref().ok_or(IdentityError::Invalid("membership"))?;
    let certificate =
        |pem: &str, what| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| IdentityError::Invalid(what));
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&membership.answer.ca, "CA")?).map_err(|_| IdentityError::Invalid("CA"))?;
    let chain = vec![certificate(&membership.answer.certificate, "certificate")?];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|_| IdentityError::Invalid("key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|_| IdentityError::Invalid("certificate"))
}
