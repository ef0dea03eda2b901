//! Who is where in the virtual network of this node: plain values, no sockets, no clock.
//!
//! A pod's socket is in truth a socket on 127.0.0.1 with a port of the system's choosing. Two tables connect the
//! two worlds: `bound` says where a virtual address really listens, `peers` says whose socket a real port is.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use wasmtime_wasi::sockets::SocketAddrUse;

/// The addresses of pods (design section 6), of which each has one, unique in the cluster.
const PODS: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 42, 0, 0), 16);
/// The addresses of Services.
const SERVICES: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 43, 0, 0), 16);

/// How long a closed socket's real port is still known as its pod's: what it sent last may wait to be accepted.
/// Without it "connect, write, exit" before the server accepts is reset. The system may hand the port to another
/// process within this time, which then passes for that pod at the gate; ports are picked at random out of 28,000.
const AFTERLIFE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Proto {
    Tcp,
    Udp,
}

/// From where a bound socket can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Bound to 127.0.0.1: from its own pod only.
    Pod,
    Cluster,
}

/// Why an address cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// ECONNREFUSED: the pod is here, but nothing listens.
    Refused,
    /// EHOSTUNREACH: a pod's address, but no pod of this node.
    Unreachable,
    /// EACCES: outside the virtual network.
    Denied,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InUse;

#[derive(Debug)]
enum Bound {
    /// Taken, while the real socket is being bound.
    Reserved,
    At {
        real: u16,
        reach: Reach,
    },
}

#[derive(Debug)]
struct Peer {
    address: SocketAddrV4,
    closed: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Addresses of this node's sandboxes.
    pods: HashMap<Ipv4Addr, usize>,
    bound: HashMap<(Proto, SocketAddrV4), Bound>,
    /// Real ports of `bound`.
    listening: HashMap<(Proto, u16), SocketAddrV4>,
    peers: HashMap<(Proto, u16), Peer>,
    /// Closed peers, oldest first.
    closing: VecDeque<(Instant, (Proto, u16))>,
}

fn within(address: Ipv4Addr, (network, bits): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (32 - bits) == 0
}

impl Tables {
    pub(crate) fn add_pod(&mut self, ip: Ipv4Addr) {
        *self.pods.entry(ip).or_default() += 1;
    }

    pub(crate) fn remove_pod(&mut self, ip: Ipv4Addr) {
        if let Some(count) = self.pods.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.pods.remove(&ip);
            }
        }
    }

    /// The real port that serves `to`, as seen from the pod at `me`.
    pub(crate) fn route(&self, me: Ipv4Addr, proto: Proto, to: SocketAddrV4) -> Result<u16, Refusal> {
        let to = if to.ip().is_loopback() { SocketAddrV4::new(me, to.port()) } else { to };
        // Service addresses translate to an endpoint here once the node is told of Services.
        match self.bound.get(&(proto, to)) {
            Some(Bound::At { real, reach: Reach::Cluster }) => Ok(*real),
            Some(Bound::At { real, reach: Reach::Pod }) if *to.ip() == me => Ok(*real),
            Some(Bound::At { reach: Reach::Pod, .. } | Bound::Reserved) => Err(Refusal::Refused),
            None if *to.ip() == me || self.pods.contains_key(to.ip()) => Err(Refusal::Refused),
            None if within(*to.ip(), PODS) || within(*to.ip(), SERVICES) => Err(Refusal::Unreachable),
            None => Err(Refusal::Denied),
        }
    }

    /// Takes a virtual address; [`Tables::bind`] or [`Tables::unbind`] follows.
    pub(crate) fn reserve(&mut self, proto: Proto, address: SocketAddrV4) -> Result<(), InUse> {
        match self.bound.entry((proto, address)) {
            std::collections::hash_map::Entry::Occupied(_) => Err(InUse),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Bound::Reserved);
                Ok(())
            }
        }
    }

    /// Says where a reserved address really listens.
    pub(crate) fn bind(&mut self, proto: Proto, address: SocketAddrV4, reach: Reach, real: u16) {
        self.bound.insert((proto, address), Bound::At { real, reach });
        self.listening.insert((proto, real), address);
    }

    pub(crate) fn unbind(&mut self, proto: Proto, address: SocketAddrV4) {
        if let Some(Bound::At { real, .. }) = self.bound.remove(&(proto, address)) {
            self.listening.remove(&(proto, real));
        }
    }

    /// Says whose socket a real port is.
    pub(crate) fn add_peer(&mut self, proto: Proto, real: u16, address: SocketAddrV4) {
        self.peers.insert((proto, real), Peer { address, closed: None });
    }

    pub(crate) fn close_peer(&mut self, proto: Proto, real: u16, now: Instant) {
        while let Some((at, key)) = self.closing.front().copied() {
            if now.saturating_duration_since(at) < AFTERLIFE {
                break;
            }
            self.closing.pop_front();
            // The port may be another socket's by now, or have been closed again since.
            if self.peers.get(&key).is_some_and(|peer| peer.closed == Some(at)) {
                self.peers.remove(&key);
            }
        }
        if let Some(peer) = self.peers.get_mut(&(proto, real)) {
            peer.closed = Some(now);
            self.closing.push_back((now, (proto, real)));
        }
    }

    pub(crate) fn peer(&self, proto: Proto, real: u16) -> Option<SocketAddrV4> {
        self.peers.get(&(proto, real)).map(|peer| peer.address)
    }

    /// The second gate, on real addresses, asked by wasmtime-wasi itself: even a socket function that slipped past
    /// the overrides reaches nothing but pods, and no process of the node reaches a pod.
    pub(crate) fn admits(&self, real: SocketAddr, purpose: SocketAddrUse) -> bool {
        let local = real.ip() == Ipv4Addr::LOCALHOST;
        match purpose {
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => local && real.port() == 0,
            SocketAddrUse::TcpListen => local,
            SocketAddrUse::TcpConnect => local && self.listening.contains_key(&(Proto::Tcp, real.port())),
            SocketAddrUse::TcpAccept => local && self.peers.contains_key(&(Proto::Tcp, real.port())),
            SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => {
                local && self.peers.contains_key(&(Proto::Udp, real.port()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    fn tables() -> Tables {
        let mut tables = Tables::default();
        for pod in ["10.42.0.5", "10.42.0.6"] {
            tables.add_pod(pod.parse().unwrap());
        }
        tables.bind(Proto::Tcp, address("10.42.0.5:80"), Reach::Cluster, 4000);
        tables.bind(Proto::Tcp, address("10.42.0.6:80"), Reach::Cluster, 4001);
        tables.bind(Proto::Tcp, address("10.42.0.6:81"), Reach::Pod, 4002);
        tables.bind(Proto::Udp, address("10.42.0.5:53"), Reach::Cluster, 4003);
        tables.reserve(Proto::Tcp, address("10.42.0.5:99")).unwrap();
        tables
    }

    fn check(me: &str, proto: Proto, to: &str, expected: Result<u16, Refusal>) {
        assert_eq!(tables().route(me.parse().unwrap(), proto, address(to)), expected, "{me} {proto:?} -> {to}");
    }

    #[test]
    fn routes() {
        let (five, six) = ("10.42.0.5", "10.42.0.6");
        check(five, Proto::Tcp, "10.42.0.6:80", Ok(4001));
        check(six, Proto::Tcp, "10.42.0.5:80", Ok(4000));
        // Loopback is one's own pod.
        check(five, Proto::Tcp, "127.0.0.1:80", Ok(4000));
        check(six, Proto::Tcp, "127.0.0.1:80", Ok(4001));
        check(six, Proto::Tcp, "127.0.0.1:81", Ok(4002));
        check(six, Proto::Tcp, "10.42.0.6:81", Ok(4002));
        check(five, Proto::Tcp, "10.42.0.6:81", Err(Refusal::Refused));
        check(five, Proto::Tcp, "127.0.0.1:81", Err(Refusal::Refused));
        // Protocols are worlds of their own; half a bind is none.
        check(six, Proto::Udp, "10.42.0.5:53", Ok(4003));
        check(six, Proto::Udp, "10.42.0.5:80", Err(Refusal::Refused));
        check(six, Proto::Tcp, "10.42.0.5:99", Err(Refusal::Refused));
        // A real port is no address.
        check(five, Proto::Tcp, "127.0.0.1:4001", Err(Refusal::Refused));
        check(five, Proto::Tcp, "10.42.0.77:80", Err(Refusal::Unreachable));
        check(five, Proto::Tcp, "10.43.0.1:80", Err(Refusal::Unreachable));
        check(five, Proto::Tcp, "1.1.1.1:80", Err(Refusal::Denied));
        check(five, Proto::Tcp, "10.44.0.1:80", Err(Refusal::Denied));
    }

    #[test]
    fn an_address_is_taken_once_until_it_is_freed() {
        let mut tables = tables();
        assert_eq!(tables.reserve(Proto::Tcp, address("10.42.0.5:80")), Err(InUse));
        assert_eq!(tables.reserve(Proto::Udp, address("10.42.0.5:80")), Ok(()));
        tables.unbind(Proto::Tcp, address("10.42.0.5:80"));
        assert_eq!(tables.reserve(Proto::Tcp, address("10.42.0.5:80")), Ok(()));
    }

    #[test]
    fn the_gate_knows_real_addresses_only() {
        let mut tables = tables();
        tables.add_peer(Proto::Tcp, 5000, address("10.42.0.6:5000"));
        let admits = |real: &str, purpose| tables.admits(real.parse().unwrap(), purpose);
        assert!(admits("127.0.0.1:0", SocketAddrUse::TcpBind));
        assert!(!admits("127.0.0.1:80", SocketAddrUse::TcpBind));
        assert!(!admits("0.0.0.0:0", SocketAddrUse::TcpBind));
        assert!(!admits("[::1]:0", SocketAddrUse::UdpBind));
        assert!(admits("127.0.0.1:4000", SocketAddrUse::TcpConnect));
        assert!(!admits("127.0.0.1:4003", SocketAddrUse::TcpConnect));
        assert!(!admits("127.0.0.1:22", SocketAddrUse::TcpConnect));
        assert!(!admits("10.0.0.1:4000", SocketAddrUse::TcpConnect));
        assert!(admits("127.0.0.1:5000", SocketAddrUse::TcpAccept));
        assert!(!admits("127.0.0.1:5001", SocketAddrUse::TcpAccept));
        assert!(!admits("127.0.0.1:5000", SocketAddrUse::UdpReceive));
    }

    #[test]
    fn a_closed_socket_is_remembered_for_a_while() {
        let (mut tables, start) = (tables(), Instant::now());
        tables.add_peer(Proto::Tcp, 5000, address("10.42.0.6:5000"));
        tables.close_peer(Proto::Tcp, 5000, start);
        tables.add_peer(Proto::Tcp, 5001, address("10.42.0.6:5001"));
        tables.close_peer(Proto::Tcp, 5001, start + AFTERLIFE / 2);
        assert!(tables.peer(Proto::Tcp, 5000).is_some());
        // The second port is a new socket's when its old one's time is over.
        tables.add_peer(Proto::Tcp, 5001, address("10.42.0.5:5001"));
        tables.close_peer(Proto::Udp, 1, start + AFTERLIFE * 2);
        assert!(tables.peer(Proto::Tcp, 5000).is_none());
        assert_eq!(tables.peer(Proto::Tcp, 5001), Some(address("10.42.0.5:5001")));
    }
}
