//! The hub's certificate authority.
//!
//! Made once, valid for a century: a CA that expires on a shelf of Pis helps nobody. Certificates name
//! what they are for, and of a signing request only the key is taken: rcgen would copy a requested CN,
//! usage or even CA flag as it stands.

use std::path::Path;
use std::time::Duration;

use protocol::{Digest, NodeName, UnixMillis};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files::{self, FileError};

/// Nothing of ours is older. Clocks of small boards start in 1970 or at their last shutdown: a
/// certificate that starts here is valid on every node whose clock is at least at its own build.
const EARLIEST_UNIX: u64 = 1_767_225_600; // 2026-01-01
const DAY: u64 = 24 * 3600;
/// Long enough for a seasonal plant that is off for two months, short enough to matter.
pub const NODE_DAYS: u64 = 90;
/// Server certificates are made anew at each start; this bounds how long one hub process runs.
const SERVER_DAYS: u64 = 3650;
const ADMIN_DAYS: u64 = 3650;

#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("cannot keep the CA")]
    File(#[from] FileError),
    #[error("{path} holds no CA certificate with its key")]
    NoAuthority { path: std::path::PathBuf },
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    #[error("{name:?} cannot stand in a certificate")]
    Name { name: String, source: rcgen::Error },
    #[error("the signing request is not valid")]
    Request(#[source] rcgen::Error),
}

/// A certificate with its private key.
pub struct Issued {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key_pem: String,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Issued {
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads certificate and key from one file, or makes both: one file cannot be half there.
    ///
    /// # Errors
    /// A file that cannot be read, written or understood.
    pub fn open(path: &Path) -> Result<Self, IssueError> {
        let text = match files::read(path)? {
            Some(bytes) => String::from_utf8(bytes).map_err(|_| IssueError::NoAuthority { path: path.to_owned() })?,
            None => {
                let text = new_authority()?;
                files::write_atomic(path, text.as_bytes())?;
                text
            }
        };
        Self::parse(&text).ok_or_else(|| IssueError::NoAuthority { path: path.to_owned() })
    }

    fn parse(text: &str) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?.into_owned();
        let key = KeyPair::from_pem(&text[text.find("-----BEGIN PRIVATE KEY")?..]).ok()?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).ok()?;
        let pem = text[text.find("-----BEGIN CERTIFICATE")?..text.find("-----BEGIN PRIVATE KEY")?].to_owned();
        Some(Self { certificate, pem, issuer })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What join tokens name the CA by: the SHA-256 of its DER.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// A server certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// [`IssueError::Name`] for what is neither.
    pub fn issue_server(&self, names: &[String], now: UnixMillis) -> Result<Issued, IssueError> {
        for name in names {
            CertificateParams::new(vec![name.clone()])
                .map_err(|source| IssueError::Name { name: name.clone(), source })?;
        }
        let mut params = CertificateParams::new(names.to_vec()).map_err(IssueError::Make)?;
        params.distinguished_name = subject("wherry hub", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(leaf(params, SERVER_DAYS, now))
    }

    /// A client certificate; `organization` is the user's group.
    ///
    /// # Errors
    /// [`IssueError::Make`].
    pub fn issue_client(&self, name: &str, organization: Option<&str>, now: UnixMillis) -> Result<Issued, IssueError> {
        self.issue(leaf(client_params(name, organization)?, ADMIN_DAYS, now))
    }

    fn issue(&self, params: CertificateParams) -> Result<Issued, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(IssueError::Make)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key_pem: key.serialize_pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }

    /// A node's certificate for the key in `request` (PEM); nothing else of the request counts.
    ///
    /// # Errors
    /// [`IssueError::Request`] for what is no signing request with a valid signature of its own.
    pub fn sign_node(&self, node: &NodeName, request: &SigningRequest, now: UnixMillis) -> Result<String, IssueError> {
        let params = leaf(client_params(node.as_str(), None)?, NODE_DAYS, now);
        Ok(params.signed_by(&request.0.public_key, &self.issuer).map_err(IssueError::Make)?.pem())
    }
}

/// A signing request whose own signature holds.
pub struct SigningRequest(CertificateSigningRequestParams);

impl SigningRequest {
    /// # Errors
    /// [`IssueError::Request`].
    pub fn from_pem(pem: &str) -> Result<Self, IssueError> {
        CertificateSigningRequestParams::from_pem(pem).map(Self).map_err(IssueError::Request)
    }

    /// Names the key, as [`key_digest`] does for the certificate made from it.
    pub fn key_digest(&self) -> Digest {
        Digest::of(self.0.public_key.der_bytes())
    }
}

/// Names a certificate's public key; `None` for what does not parse.
pub fn key_digest(certificate: &CertificateDer<'_>) -> Option<Digest> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Digest::of(&parsed.public_key().subject_public_key.data))
}

/// The subject of a certificate that was verified: exactly one CN, and its organizations.
pub fn subject_of(certificate: &CertificateDer<'_>) -> Option<Subject> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    if names.next().is_some() {
        return None;
    }
    let organizations: Option<Vec<String>> =
        subject.iter_organization().map(|o| o.as_str().ok().map(str::to_owned)).collect();
    Some(Subject { name, organizations: organizations? })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub name: String,
    pub organizations: Vec<String>,
}

fn new_authority() -> Result<String, IssueError> {
    let key = KeyPair::generate().map_err(IssueError::Make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("wherry ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2126, 1, 1);
    let certificate = params.self_signed(&key).map_err(IssueError::Make)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

fn client_params(name: &str, organization: Option<&str>) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(IssueError::Make)?;
    params.distinguished_name = subject(name, organization);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn subject(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, name);
    subject
}

fn leaf(mut params: CertificateParams, days: u64, now: UnixMillis) -> CertificateParams {
    let now = (now.0 / 1000).max(EARLIEST_UNIX);
    let at = |unix: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = at(EARLIEST_UNIX);
    params.not_after = at(now + days * DAY);
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn authority(directory: &tempfile::TempDir) -> Authority {
        Authority::open(&directory.path().join("ca.pem")).unwrap()
    }

    #[test]
    fn the_authority_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(authority(&directory).digest(), authority(&directory).digest());
    }

    #[test]
    fn of_a_signing_request_only_the_key_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority(&directory);
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["localhost".into()]).unwrap();
        wish.distinguished_name = subject("wherry-hub", Some("system:masters"));
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let request = SigningRequest::from_pem(&wish.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
        let pem = authority.sign_node(&"pi-1".parse().unwrap(), &request, NOW).unwrap();

        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(subject_of(&der), Some(Subject { name: "pi-1".into(), organizations: vec![] }));
        assert_eq!(key_digest(&der), Some(request.key_digest()));
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(!parsed.is_ca());
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(parsed.validity().not_before.timestamp(), 1_767_225_600);
        assert_eq!(parsed.validity().not_after.timestamp(), 1_800_000_000 + 90 * 86_400);
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = authority(&directory).issue_server(&["büro".into()], NOW).err().unwrap();
        assert_eq!(error.to_string(), "\"büro\" cannot stand in a certificate");
    }
}
