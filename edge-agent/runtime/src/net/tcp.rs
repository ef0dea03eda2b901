//! TCP: bind, connect, accept and the two addresses.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::{HostTcpSocket as Tcp, TcpSocket};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, SocketError};
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::overrides::{Answer, Override, again, answer};
use super::sockets::{VirtualSocket, anywhere, ip, v4};
use super::tables::Proto;
use crate::state::State;

pub(super) const OVERRIDES: &[Override] = &[
    Override {
        name: "tcp-socket",
        // Redefined for its destructor: it frees the socket's virtual address.
        define: |instance, name| {
            instance.resource(name, ResourceType::host::<TcpSocket>(), |mut cx: StoreContextMut<'_, State>, rep| {
                cx.data_mut().sockets.free(Proto::Tcp, rep);
                Tcp::drop(&mut cx.data_mut().sockets(), Resource::new_own(rep))
            })
        },
    },
    Override {
        name: "[method]tcp-socket.start-bind",
        define: |instance, name| instance.func_wrap_async(name, start_bind),
    },
    Override {
        name: "[method]tcp-socket.start-connect",
        define: |instance, name| instance.func_wrap_async(name, start_connect),
    },
    Override { name: "[method]tcp-socket.accept", define: |instance, name| instance.func_wrap(name, accept) },
    Override {
        name: "[method]tcp-socket.local-address",
        define: |instance, name| instance.func_wrap(name, local_address),
    },
    Override {
        name: "[method]tcp-socket.remote-address",
        define: |instance, name| instance.func_wrap(name, remote_address),
    },
];

type Bind = (Resource<TcpSocket>, Resource<Network>, IpSocketAddress);
type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);

fn start_bind(
    mut cx: StoreContextMut<'_, State>,
    (socket, network, asked): Bind,
) -> Box<dyn Future<Output = Answer<()>> + Send + '_> {
    Box::new(async move { answer(bind(cx.data_mut(), socket, network, asked).await) })
}

async fn bind(
    state: &mut State,
    socket: Resource<TcpSocket>,
    network: Resource<Network>,
    asked: IpSocketAddress,
) -> Result<(), SocketError> {
    if state.sockets.tcp.contains_key(&socket.rep()) {
        return Err(ErrorCode::InvalidState.into());
    }
    let claim = state.sockets.claim(Proto::Tcp, asked)?;
    let mut original = state.sockets();
    let real = match Tcp::start_bind(&mut original, again(&socket), network, anywhere()).await {
        Ok(()) => real_port(&mut original, &socket),
        Err(error) => Err(error),
    };
    match real {
        Ok(real) => Ok(state.sockets.bound(Proto::Tcp, socket.rep(), claim, real)?),
        Err(error) => {
            state.sockets.release(Proto::Tcp, claim);
            Err(error)
        }
    }
}

fn real_port<S: Tcp>(original: &mut S, socket: &Resource<TcpSocket>) -> Result<u16, SocketError> {
    Ok(SocketAddr::from(Tcp::local_address(original, again(socket))?).port())
}

fn start_connect(
    mut cx: StoreContextMut<'_, State>,
    (socket, network, to): Bind,
) -> Box<dyn Future<Output = Answer<()>> + Send + '_> {
    Box::new(async move { answer(connect(cx.data_mut(), socket, network, to).await) })
}

async fn connect(
    state: &mut State,
    socket: Resource<TcpSocket>,
    network: Resource<Network>,
    to: IpSocketAddress,
) -> Result<(), SocketError> {
    let to = v4(to)?;
    let real = state.sockets.route(Proto::Tcp, to)?;
    if !state.sockets.tcp.contains_key(&socket.rep()) {
        // Bound before connecting, so that the other side can be told who calls.
        let mut original = state.sockets();
        Tcp::start_bind(&mut original, again(&socket), again(&network), anywhere()).await?;
        Tcp::finish_bind(&mut original, again(&socket))?;
        let own = real_port(&mut original, &socket)?;
        // Both ends of a loopback connection show 127.0.0.1.
        let address = if to.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { state.sockets.ip };
        state.sockets.client(socket.rep(), address, own);
    }
    if let Some(entry) = state.sockets.tcp.get_mut(&socket.rep()) {
        entry.remote = Some(to);
    }
    Tcp::start_connect(&mut state.sockets(), socket, network, real.into())
}

fn accept(mut cx: StoreContextMut<'_, State>, (listener,): (Resource<TcpSocket>,)) -> Answer<Accepted> {
    answer(accept_one(cx.data_mut(), &listener))
}

fn accept_one(state: &mut State, listener: &Resource<TcpSocket>) -> Result<Accepted, SocketError> {
    let mut original = state.sockets();
    let accepted = Tcp::accept(&mut original, again(listener))?;
    // A client that has hung up already has no address any more; its connection is accepted all the same.
    let peer = Tcp::remote_address(&mut original, again(&accepted.0)).ok();
    let pod = &mut state.sockets;
    let remote = peer.and_then(|peer| pod.peer(Proto::Tcp, SocketAddr::from(peer).port()));
    let port = pod.tcp.get(&listener.rep()).and_then(|entry| entry.local).map_or(0, |local| local.port());
    let own = if remote.is_some_and(|r| r.ip().is_loopback()) { Ipv4Addr::LOCALHOST } else { pod.ip };
    let local = SocketAddrV4::new(own, port);
    pod.tcp.insert(accepted.0.rep(), VirtualSocket::accepted(local, remote));
    Ok(accepted)
}

fn local_address(mut cx: StoreContextMut<'_, State>, (socket,): (Resource<TcpSocket>,)) -> Answer<IpSocketAddress> {
    let local = cx.data_mut().sockets.tcp.get(&socket.rep()).and_then(|entry| entry.local);
    Ok((local.map(ip).ok_or(ErrorCode::InvalidState),))
}

fn remote_address(mut cx: StoreContextMut<'_, State>, (socket,): (Resource<TcpSocket>,)) -> Answer<IpSocketAddress> {
    // Not asked of the original: it forgets the peer as soon as both sides have closed.
    let remote = cx.data_mut().sockets.tcp.get(&socket.rep()).and_then(|entry| entry.remote);
    Ok((remote.map(ip).ok_or(ErrorCode::InvalidState),))
}
