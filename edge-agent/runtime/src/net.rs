//! The pods' network: virtual addresses over loopback sockets, without root and without the system's help.
//!
//! Guests see addresses of 10.42/16 and may bind any port of their own pod. A dozen functions of WASI's socket
//! interfaces are ours ([`tcp`], [`udp`], [`names`]), the rest stays wasmtime-wasi's: ours translate a virtual
//! address by the [`tables`], let the original work on 127.0.0.1, and translate back what the guest may see.
//!
//! ```text
//! guest: connect 10.42.0.5:80 ── tables.route ──> original: connect 127.0.0.1:40123 ──> pod 5's listener
//! pod 5: remote_address       <── tables.peer ─── real source port, registered before connecting
//! ```
//! What is not in the tables does not exist for a guest, the node's own ports included. IPv6 is not supported.

mod names;
mod overrides;
mod sockets;
mod tables;
mod tcp;
mod udp;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

pub(crate) use overrides::link_sockets;
pub(crate) use sockets::PodSockets;
use tables::Tables;
pub(crate) use tables::{InUse, Proto, Reach, Refusal};

/// The node itself as pods see it when it calls them: link-local, because no pod has such an address.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// The virtual network of this node; clones are the same network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Net(Arc<Mutex<Tables>>);

impl Net {
    /// Held for a few table look-ups, never across an await.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().expect("no code panics while it holds the tables")
    }

    /// Makes a pod's address known for as long as the guard lives.
    pub(crate) fn join(&self, ip: Ipv4Addr) -> PodAddress {
        self.tables().add_pod(ip);
        PodAddress { net: self.clone(), ip }
    }

    /// Connects the agent itself to a pod's port: registered first, or the pod's own gate would reset it.
    pub(crate) async fn dial(&self, to: SocketAddrV4) -> io::Result<PodStream> {
        let real = self.tables().route(NODE, Proto::Tcp, to).map_err(|refusal| match refusal {
            Refusal::Refused => io::ErrorKind::ConnectionRefused,
            Refusal::Unreachable => io::ErrorKind::HostUnreachable,
            Refusal::Denied => io::ErrorKind::PermissionDenied,
        })?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let port = socket.local_addr()?.port();
        self.tables().add_peer(Proto::Tcp, port, SocketAddrV4::new(NODE, port));
        let peer = PeerGuard { net: self.clone(), port };
        let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, real))).await?;
        Ok(PodStream { stream, _peer: peer })
    }

    /// Listens for a pod, on behalf of an HTTP component that has no sockets of its own.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if the pod has that port already, or the system's refusal.
    pub(crate) fn listen(&self, address: SocketAddrV4) -> io::Result<PodListener> {
        self.tables().reserve(Proto::Tcp, address).map_err(|InUse| io::ErrorKind::AddrInUse)?;
        let guard = BoundGuard { net: self.clone(), address };
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let real = listener.local_addr()?.port();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        self.tables().bind(Proto::Tcp, address, Reach::Cluster, real);
        Ok(PodListener { listener, net: self.clone(), _bound: guard })
    }
}

/// Keeps a pod's address known.
#[derive(Debug)]
pub(crate) struct PodAddress {
    net: Net,
    pub(crate) ip: Ipv4Addr,
}

impl Drop for PodAddress {
    fn drop(&mut self) {
        self.net.tables().remove_pod(self.ip);
    }
}

/// A connection of the agent to a pod.
#[derive(Debug)]
pub struct PodStream {
    stream: TcpStream,
    _peer: PeerGuard,
}

impl AsyncRead for PodStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PodStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Keeps a real port known as the node's.
#[derive(Debug)]
struct PeerGuard {
    net: Net,
    port: u16,
}

impl Drop for PeerGuard {
    fn drop(&mut self) {
        self.net.tables().close_peer(Proto::Tcp, self.port, Instant::now());
    }
}

#[derive(Debug)]
struct BoundGuard {
    net: Net,
    address: SocketAddrV4,
}

impl Drop for BoundGuard {
    fn drop(&mut self) {
        self.net.tables().unbind(Proto::Tcp, self.address);
    }
}

/// A listener in a pod's name.
#[derive(Debug)]
pub(crate) struct PodListener {
    listener: tokio::net::TcpListener,
    net: Net,
    _bound: BoundGuard,
}

impl PodListener {
    /// The next connection of the virtual network; those of other processes of the node are dropped unanswered.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        loop {
            let (stream, peer) = ready!(self.listener.poll_accept(cx))?;
            if self.net.tables().peer(Proto::Tcp, peer.port()).is_some() {
                return Poll::Ready(Ok(stream));
            }
        }
    }
}
