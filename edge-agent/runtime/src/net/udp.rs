//! UDP: bind, connect, datagrams and the two addresses.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceType};
use wasmtime_wasi::p2::SocketError;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream as Incoming, HostOutgoingDatagramStream as Outgoing, HostUdpSocket as Udp,
    IncomingDatagram, IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::overrides::{Answer, Override, again, answer};
use super::sockets::{anywhere, ip, v4};
use super::tables::Proto;
use crate::state::State;

pub(super) const OVERRIDES: &[Override] = &[
    Override {
        name: "udp-socket",
        // Redefined for its destructor: it frees the socket's virtual address.
        define: |instance, name| {
            instance.resource(name, ResourceType::host::<UdpSocket>(), |mut cx: StoreContextMut<'_, State>, rep| {
                cx.data_mut().sockets.free(Proto::Udp, rep);
                Udp::drop(&mut cx.data_mut().sockets(), Resource::new_own(rep))
            })
        },
    },
    Override {
        name: "[method]udp-socket.start-bind",
        define: |instance, name| instance.func_wrap_async(name, start_bind),
    },
    Override { name: "[method]udp-socket.stream", define: |instance, name| instance.func_wrap_async(name, stream) },
    Override {
        name: "[method]udp-socket.local-address",
        define: |instance, name| instance.func_wrap(name, local_address),
    },
    Override {
        name: "[method]udp-socket.remote-address",
        define: |instance, name| instance.func_wrap(name, remote_address),
    },
    Override {
        name: "[method]incoming-datagram-stream.receive",
        define: |instance, name| instance.func_wrap(name, receive),
    },
    Override { name: "[method]outgoing-datagram-stream.send", define: |instance, name| instance.func_wrap(name, send) },
];

/// Datagrams that one `send` takes at most: the guest's list is copied into host memory.
const BATCH: usize = 64;

/// Addresses a socket remembers having sent to, so that answers seem to come from there. Beyond it, an answer shows
/// the answering pod's own address.
const REMEMBERED: usize = 256;

type Streams = (Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>);

fn start_bind(
    mut cx: StoreContextMut<'_, State>,
    (socket, network, asked): (Resource<UdpSocket>, Resource<Network>, IpSocketAddress),
) -> Box<dyn Future<Output = Answer<()>> + Send + '_> {
    Box::new(async move { answer(bind(cx.data_mut(), socket, network, asked).await) })
}

async fn bind(
    state: &mut State,
    socket: Resource<UdpSocket>,
    network: Resource<Network>,
    asked: IpSocketAddress,
) -> Result<(), SocketError> {
    if state.sockets.udp.contains_key(&socket.rep()) {
        return Err(ErrorCode::InvalidState.into());
    }
    let claim = state.sockets.claim(Proto::Udp, asked)?;
    let mut original = state.sockets();
    let real = match Udp::start_bind(&mut original, again(&socket), network, anywhere()).await {
        Ok(()) => Udp::local_address(&mut original, again(&socket)).map(|a| SocketAddr::from(a).port()),
        Err(error) => Err(error),
    };
    match real {
        Ok(real) => Ok(state.sockets.bound(Proto::Udp, socket.rep(), claim, real)?),
        Err(error) => {
            state.sockets.release(Proto::Udp, claim);
            Err(error)
        }
    }
}

fn stream(
    mut cx: StoreContextMut<'_, State>,
    (socket, to): (Resource<UdpSocket>, Option<IpSocketAddress>),
) -> Box<dyn Future<Output = Answer<Streams>> + Send + '_> {
    Box::new(async move { answer(connect(cx.data_mut(), socket, to).await) })
}

/// `stream` with an address is UDP's connect.
async fn connect(
    state: &mut State,
    socket: Resource<UdpSocket>,
    to: Option<IpSocketAddress>,
) -> Result<Streams, SocketError> {
    let to = match to {
        Some(address) => {
            let address = v4(address)?;
            Some((address, state.sockets.route(Proto::Udp, address)?))
        }
        None => None,
    };
    let real = to.map(|(_, real)| real.into());
    let streams = Udp::stream(&mut state.sockets(), again(&socket), real).await?;
    let pod = &mut state.sockets;
    if let Some(entry) = pod.udp.get_mut(&socket.rep()) {
        entry.remote = to.map(|(address, _)| address);
        entry.sent_to.extend(to.map(|(address, real)| (real.port(), address)));
    }
    pod.streams.insert(streams.0.rep(), socket.rep());
    pod.streams.insert(streams.1.rep(), socket.rep());
    Ok(streams)
}

fn local_address(mut cx: StoreContextMut<'_, State>, (socket,): (Resource<UdpSocket>,)) -> Answer<IpSocketAddress> {
    let local = cx.data_mut().sockets.udp.get(&socket.rep()).and_then(|entry| entry.local);
    Ok((local.map(ip).ok_or(ErrorCode::InvalidState),))
}

fn remote_address(mut cx: StoreContextMut<'_, State>, (socket,): (Resource<UdpSocket>,)) -> Answer<IpSocketAddress> {
    let remote = cx.data_mut().sockets.udp.get(&socket.rep()).and_then(|entry| entry.remote);
    Ok((remote.map(ip).ok_or(ErrorCode::InvalidState),))
}

fn receive(
    mut cx: StoreContextMut<'_, State>,
    (stream, max): (Resource<IncomingDatagramStream>, u64),
) -> Answer<Vec<IncomingDatagram>> {
    let state = cx.data_mut();
    let mut datagrams = match Incoming::receive(&mut state.sockets(), again(&stream), max) {
        Ok(datagrams) => datagrams,
        Err(error) => return answer(Err(error)),
    };
    let pod = &state.sockets;
    let socket = pod.streams.get(&stream.rep()).and_then(|socket| pod.udp.get(socket));
    for datagram in &mut datagrams {
        let real = SocketAddr::from(datagram.remote_address).port();
        let answered = socket.and_then(|socket| socket.sent_to.get(&real).copied());
        let sender = answered.or_else(|| pod.peer(Proto::Udp, real));
        datagram.remote_address = ip(sender.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)));
    }
    Ok((Ok(datagrams),))
}

fn send(
    mut cx: StoreContextMut<'_, State>,
    (stream, mut datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>),
) -> Answer<u64> {
    let state = cx.data_mut();
    datagrams.truncate(BATCH);
    if let Err(refusal) = translate(state, &stream, &mut datagrams) {
        return Ok((Err(refusal),));
    }
    answer(Outgoing::send(&mut state.sockets(), stream, datagrams))
}

/// Gives each datagram its real destination. A datagram that cannot go ends the batch before it; the guest meets
/// the refusal when it sends the rest.
fn translate(
    state: &mut State,
    stream: &Resource<OutgoingDatagramStream>,
    datagrams: &mut Vec<OutgoingDatagram>,
) -> Result<(), ErrorCode> {
    let pod = &mut state.sockets;
    let socket = pod.streams.get(&stream.rep()).copied();
    for at in 0..datagrams.len() {
        let Some(to) = datagrams[at].remote_address else { continue };
        let route = v4(to).and_then(|to| Ok((to, pod.route(Proto::Udp, to)?)));
        match route {
            Ok((to, real)) => {
                datagrams[at].remote_address = Some(real.into());
                let entry = socket.and_then(|socket| pod.udp.get_mut(&socket));
                if let Some(entry) = entry.filter(|entry| entry.sent_to.len() < REMEMBERED) {
                    entry.sent_to.insert(real.port(), to);
                }
            }
            Err(refusal) if at == 0 => return Err(refusal),
            Err(_) => {
                datagrams.truncate(at);
                break;
            }
        }
    }
    Ok(())
}
