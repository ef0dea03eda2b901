//! Where the hub listens, for people and for programs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use protocol::UnixMillis;
use serde_json::json;

use super::ServeError;
use super::data_dir::DataDir;
use crate::pki::Pki;

pub(super) struct Addresses {
    pub(super) api: SocketAddr,
    pub(super) mqtt: Option<SocketAddr>,
}

/// Writes the administrator's kubeconfig, and `hub.json`, which says that a hub runs here.
pub(super) fn write(data: &DataDir, pki: &Pki, addresses: &Addresses, now: UnixMillis) -> Result<(), ServeError> {
    let url = format!("https://{}", local(addresses.api));
    let path = data.kubeconfig();
    pki.write_admin_kubeconfig(&path, &url, now).map_err(|source| ServeError::Pki { path, source })?;
    let mqtt = addresses.mqtt.map(|mqtt| local(mqtt).to_string());
    let text = json!({"api": url, "mqtt": mqtt, "pid": std::process::id()}).to_string();
    data.write(&data.addresses(), text.as_bytes())?;
    Ok(())
}

/// An address that listens everywhere is reached from here at the loopback.
fn local(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

/// Tells the person who started the hub.
pub(super) fn tell(data: &DataDir, addresses: &Addresses) {
    eprintln!("API:     https://{}", local(addresses.api));
    match addresses.mqtt {
        Some(mqtt) => eprintln!("MQTT:    {mqtt}"),
        None => eprintln!("MQTT:    an external broker"),
    }
    eprintln!("kubectl: export KUBECONFIG={}", data.kubeconfig().display());
    eprintln!("nodes:   hub token create");
}

/// The hub no longer runs here.
pub(super) fn withdraw(data: &DataDir) {
    // One that stays behind names a process that is gone: readers check that anyway.
    let _ = std::fs::remove_file(data.addresses());
}
