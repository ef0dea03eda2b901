//! The one HTTPS exchange before MQTT: `POST /wherry/v1/join`, JSON both ways.
//!
//! A token reads `<id>.<secret>.<hash>`: `hash` is the SHA-256 of the hub's CA certificate (DER), in
//! hex, by which the agent knows the hub before it trusts anything else.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, NodeName};

pub const PATH: &str = "/wherry/v1/join";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// `<id>.<secret>`, without the hash.
    pub token: String,
    pub node: NodeName,
    /// A certificate signing request in PEM; only its key is taken.
    pub csr: String,
    /// The node's X25519 public key in base64: Secrets are sealed to it.
    pub sealing_key: String,
    pub machine_id: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinAnswer {
    pub cluster: ClusterId,
    /// PEM.
    pub ca: String,
    /// The node's certificate, PEM.
    pub certificate: String,
    /// The hub's ed25519 public key in base64: signs `desired` and artifacts.
    pub hub_key: String,
    /// `host:port` of the broker as nodes reach it; an empty host means the hub's own.
    pub broker: String,
    pub bulk: BulkConnection,
}

/// Whether blobs and streams get an MQTT connection of their own. Its client id is the node's name and
/// [`BULK_SUFFIX`]; a broker that forces client ids to the certificate's name allows one connection only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BulkConnection {
    Separate,
    Shared,
}

/// `.` cannot stand in a node's name, so no node can take another's bulk client id.
pub const BULK_SUFFIX: &str = ".bulk";
