//! Name lookup: the pod's own names, and nothing of the node's resolver.

use std::net::{IpAddr, Ipv4Addr};

use wasmtime::StoreContextMut;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{Host as _, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, Network};
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::overrides::{Answer, Override, answer};
use crate::state::State;

pub(super) const OVERRIDES: &[Override] =
    &[Override { name: "resolve-addresses", define: |instance, name| instance.func_wrap(name, resolve_addresses) }];

fn resolve_addresses(
    mut cx: StoreContextMut<'_, State>,
    (network, name): (Resource<Network>, String),
) -> Answer<Resource<ResolveAddressStream>> {
    let state = cx.data_mut();
    match resolve(&name, state.sockets.ip, &state.sockets.hostname) {
        // An address literal never reaches the system's resolver.
        Some(ip) => answer(state.sockets().resolve_addresses(network, ip.to_string())),
        None => Ok((Err(ErrorCode::NameUnresolvable),)),
    }
}

/// What a name means inside a pod. Service names join here once the node is told of Services.
fn resolve(name: &str, own: Ipv4Addr, hostname: &str) -> Option<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name == "localhost" {
        Some(Ipv4Addr::LOCALHOST.into())
    } else if name == hostname {
        Some(own.into())
    } else {
        name.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        let found = resolve(name, Ipv4Addr::new(10, 42, 0, 5), "web-0");
        assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{name}");
    }

    #[test]
    fn a_pod_knows_itself_and_literals() {
        check("web-0", Some("10.42.0.5"));
        check("WEB-0.", Some("10.42.0.5"));
        check("localhost", Some("127.0.0.1"));
        check("10.42.0.9", Some("10.42.0.9"));
        check("::1", Some("::1"));
        check("web-1", None);
        check("example.com", None);
        check("", None);
    }
}
