//! Nodes for tests: joined with keys of their own, speaking through `rumqttc`.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub::pki::Pki;
use hub::pki::join::{JoinSettings, join};
use hub::pki::tokens::{TokenWish, Uses};
use protocol::UnixMillis;
use protocol::join::BulkConnection;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// Long enough for two cores that do other things, too.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What a client shows: a certificate and its key, or nothing.
pub type Papers = Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>;

pub fn copy(papers: &Papers) -> Papers {
    papers.as_ref().map(|(certificate, key)| (certificate.clone(), key.clone_key()))
}

/// Joins as `node` from a machine of its own.
pub fn join_node(pki: &Pki, node: &str) -> Papers {
    let wish = TokenWish { ttl_seconds: 60, uses: Uses::Once, node: None };
    let token = pki.create_token(wish, NOW).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let body = serde_json::json!({
        "token": token, "node": node, "csr": csr, "machine_id": node, "sealing_key": BASE64.encode([9; 32]),
    });
    let settings = JoinSettings { broker: String::new(), bulk: BulkConnection::Separate, advertise: None };
    let answer = join(pki, &settings, body.to_string().as_bytes(), NOW).unwrap();
    let certificate = CertificateDer::from_pem_slice(answer.certificate.as_bytes()).unwrap();
    Some((certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap()))
}

pub fn options(pki: &Pki, port: u16, client_id: &str, papers: Papers) -> MqttOptions {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.authority().certificate().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match papers {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))))
        .set_keep_alive(Duration::from_secs(5))
        .set_max_packet_size(Some(protocol::limits::PACKET_MAX))
        .set_outgoing_inflight_upper_limit(100);
    options
}

/// The first packet that is wanted, or why there is none.
pub async fn packet(event_loop: &mut EventLoop, wanted: fn(&Packet) -> bool) -> Result<Packet, ConnectionError> {
    loop {
        match tokio::time::timeout(DEADLINE, event_loop.poll()).await.expect("the broker answers")? {
            Event::Incoming(packet) if wanted(&packet) => return Ok(packet),
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }
}
