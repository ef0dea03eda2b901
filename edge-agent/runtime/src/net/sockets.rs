//! The sockets of one store: what the guest believes of each, and what to clean up when it is gone.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpSocketAddress};

use super::tables::{InUse, Proto, Reach, Refusal};
use super::{Net, Tables};

/// A guest's socket, keyed by its resource's number.
#[derive(Debug, Default)]
pub(super) struct VirtualSocket {
    /// What `local-address` tells.
    pub(super) local: Option<SocketAddrV4>,
    /// What `remote-address` tells.
    pub(super) remote: Option<SocketAddrV4>,
    /// The real port, where the socket has one of its own (an accepted one shares its listener's).
    pub(super) real: Option<u16>,
    /// The virtual address it holds in the tables.
    bound: Option<SocketAddrV4>,
    /// UDP: the addresses it sent to, by the real ports that answer for them.
    pub(super) sent_to: HashMap<u16, SocketAddrV4>,
}

impl VirtualSocket {
    /// A connection that came in through a listener.
    pub(super) fn accepted(local: SocketAddrV4, remote: Option<SocketAddrV4>) -> Self {
        Self { local: Some(local), remote, ..Default::default() }
    }
}

/// What a guest asked to bind, checked and taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// As the guest wrote it: 0.0.0.0 stays 0.0.0.0 in `local-address`.
    asked: SocketAddrV4,
    /// The address in the tables; port 0 until the system has chosen one.
    address: SocketAddrV4,
    reach: Reach,
}

/// One per store. Dropping it frees the addresses that the guest held.
#[derive(Debug)]
pub(crate) struct PodSockets {
    net: Net,
    pub(super) ip: Ipv4Addr,
    pub(super) hostname: String,
    pub(super) tcp: HashMap<u32, VirtualSocket>,
    pub(super) udp: HashMap<u32, VirtualSocket>,
    /// Which socket a datagram stream belongs to.
    pub(super) streams: HashMap<u32, u32>,
}

impl PodSockets {
    pub(crate) fn new(net: &Net, ip: Ipv4Addr, hostname: &str) -> Self {
        let (tcp, udp, streams) = Default::default();
        Self { net: net.clone(), ip, hostname: hostname.to_owned(), tcp, udp, streams }
    }

    /// Opens the socket interfaces behind the second gate ([`Tables::admits`]). Name lookup is allowed because ours
    /// hands address literals only to the original.
    pub(crate) fn configure(&self, wasi: &mut WasiCtxBuilder) {
        let net = self.net.clone();
        wasi.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true);
        wasi.socket_addr_check(move |address, purpose| {
            let admitted = net.tables().admits(address, purpose);
            Box::pin(std::future::ready(admitted))
        });
    }

    fn with<R>(&self, f: impl FnOnce(&mut Tables) -> R) -> R {
        f(&mut self.net.tables())
    }

    pub(super) fn sockets(&mut self, proto: Proto) -> &mut HashMap<u32, VirtualSocket> {
        match proto {
            Proto::Tcp => &mut self.tcp,
            Proto::Udp => &mut self.udp,
        }
    }

    pub(super) fn route(&self, proto: Proto, to: SocketAddrV4) -> Result<SocketAddr, ErrorCode> {
        let real = self.with(|tables| tables.route(self.ip, proto, to)).map_err(|refusal| match refusal {
            Refusal::Refused => ErrorCode::ConnectionRefused,
            Refusal::Unreachable => ErrorCode::RemoteUnreachable,
            Refusal::Denied => ErrorCode::AccessDenied,
        })?;
        Ok((Ipv4Addr::LOCALHOST, real).into())
    }

    pub(super) fn peer(&self, proto: Proto, real: u16) -> Option<SocketAddrV4> {
        self.with(|tables| tables.peer(proto, real))
    }

    /// Checks and takes what a guest wants to bind; [`PodSockets::bound`] or [`PodSockets::release`] follows.
    pub(super) fn claim(&self, proto: Proto, asked: IpSocketAddress) -> Result<Claim, ErrorCode> {
        let asked = v4(asked)?;
        let reach = if asked.ip().is_loopback() { Reach::Pod } else { Reach::Cluster };
        if reach == Reach::Cluster && !asked.ip().is_unspecified() && *asked.ip() != self.ip {
            return Err(ErrorCode::AddressNotBindable);
        }
        let address = SocketAddrV4::new(self.ip, asked.port());
        if asked.port() != 0 {
            self.with(|tables| tables.reserve(proto, address)).map_err(|InUse| ErrorCode::AddressInUse)?;
        }
        Ok(Claim { asked, address, reach })
    }

    /// Gives a claim back: the real socket could not be bound.
    pub(super) fn release(&self, proto: Proto, claim: Claim) {
        if claim.address.port() != 0 {
            self.with(|tables| tables.unbind(proto, claim.address));
        }
    }

    /// Enters a socket whose real side is bound now.
    pub(super) fn bound(&mut self, proto: Proto, socket: u32, claim: Claim, real: u16) -> Result<(), ErrorCode> {
        let port = if claim.address.port() == 0 { real } else { claim.address.port() };
        let address = SocketAddrV4::new(self.ip, port);
        self.with(|tables| {
            if claim.address.port() == 0 {
                tables.reserve(proto, address).map_err(|InUse| ErrorCode::AddressInUse)?;
            }
            tables.bind(proto, address, claim.reach, real);
            tables.add_peer(proto, real, address);
            Ok::<(), ErrorCode>(())
        })?;
        let local = Some(SocketAddrV4::new(*claim.asked.ip(), port));
        let entry = VirtualSocket { local, real: Some(real), bound: Some(address), ..Default::default() };
        self.sockets(proto).insert(socket, entry);
        Ok(())
    }

    /// Enters a client's socket: bound by itself, reachable by nobody, known by its real port.
    pub(super) fn client(&mut self, socket: u32, address: Ipv4Addr, real: u16) {
        let address = SocketAddrV4::new(address, real);
        self.with(|tables| tables.add_peer(Proto::Tcp, real, address));
        let entry = VirtualSocket { local: Some(address), real: Some(real), ..Default::default() };
        self.tcp.insert(socket, entry);
    }

    pub(super) fn free(&mut self, proto: Proto, socket: u32) {
        if let Some(socket) = self.sockets(proto).remove(&socket) {
            self.forget(proto, &socket);
        }
    }

    fn forget(&self, proto: Proto, socket: &VirtualSocket) {
        self.with(|tables| {
            if let Some(address) = socket.bound {
                tables.unbind(proto, address);
            }
            if let Some(real) = socket.real {
                tables.close_peer(proto, real, Instant::now());
            }
        });
    }
}

impl Drop for PodSockets {
    fn drop(&mut self) {
        for (proto, sockets) in [(Proto::Tcp, &self.tcp), (Proto::Udp, &self.udp)] {
            for socket in sockets.values() {
                self.forget(proto, socket);
            }
        }
    }
}

/// The only family of the virtual network.
pub(super) fn v4(address: IpSocketAddress) -> Result<SocketAddrV4, ErrorCode> {
    match SocketAddr::from(address) {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(ErrorCode::NotSupported),
    }
}

pub(super) fn ip(address: SocketAddrV4) -> IpSocketAddress {
    SocketAddr::V4(address).into()
}

/// 127.0.0.1 and a port of the system's choosing: where every real socket is.
pub(super) fn anywhere() -> IpSocketAddress {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()
}
