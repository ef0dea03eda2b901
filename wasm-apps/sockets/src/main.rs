//! Sockets from inside a pod, on WASI's own interfaces. Addresses are `a.b.c.d:port` or `[::1]:port`.
//!
//! ```text
//! sockets serve ADDRESS NAME     answers each connection with what it got, from whom and where; ends after "quit"
//! sockets get ADDRESS...         connects, says hi, prints both ends and the answer
//! sockets bind ADDRESS...        binds them all at once, prints what each came to
//! sockets resolve NAME...        prints the addresses of each name
//! sockets udp-serve ADDRESS      answers one datagram
//! sockets udp-get ADDRESS...     sends a datagram, prints who answered what
//! ```

use std::net::SocketAddr;
use std::process::exit;

use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::{OutgoingDatagram, UdpSocket};
use wasip2::sockets::udp_create_socket::create_udp_socket;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", address, name] => serve(address, name).unwrap_or_else(|e| fail("serve", e)),
        ["get", addresses @ ..] => addresses.iter().for_each(|a| tell(a, get(a))),
        ["bind", addresses @ ..] => {
            let all: Vec<_> = addresses.iter().map(|a| bind(a)).collect();
            for (address, bound) in addresses.iter().zip(&all) {
                tell(address, bound.as_ref().map_err(|e| *e).and_then(|s| s.local_address().map(text)));
            }
        }
        ["resolve", names @ ..] => names.iter().for_each(|n| tell(n, resolve(n))),
        ["udp-serve", address] => udp_serve(address).unwrap_or_else(|e| fail("udp-serve", e)),
        ["udp-get", addresses @ ..] => addresses.iter().for_each(|a| tell(a, udp_get(a))),
        _ => fail("usage", ErrorCode::InvalidArgument),
    }
}

fn fail(what: &str, error: ErrorCode) {
    println!("{what}: {}", error.name());
    exit(2);
}

fn tell(what: &str, result: Result<String, ErrorCode>) {
    match result {
        Ok(text) => println!("{what} -> {text}"),
        Err(error) => println!("{what} -> {}", error.name()),
    }
}

fn parse(address: &str) -> Result<IpSocketAddress, ErrorCode> {
    match address.parse() {
        Ok(SocketAddr::V4(v4)) => {
            let [a, b, c, d] = v4.ip().octets();
            Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) }))
        }
        Ok(SocketAddr::V6(v6)) => {
            let [a, b, c, d, e, f, g, h] = v6.ip().segments();
            let address = (a, b, c, d, e, f, g, h);
            Ok(IpSocketAddress::Ipv6(Ipv6SocketAddress { port: v6.port(), flow_info: 0, address, scope_id: 0 }))
        }
        Err(_) => Err(ErrorCode::InvalidArgument),
    }
}

fn family(address: IpSocketAddress) -> IpAddressFamily {
    match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

fn text(address: IpSocketAddress) -> String {
    match address {
        IpSocketAddress::Ipv4(v4) => {
            let (a, b, c, d) = v4.address;
            format!("{a}.{b}.{c}.{d}:{}", v4.port)
        }
        IpSocketAddress::Ipv6(v6) => format!("{v6:?}"),
    }
}

/// Calls until it no longer says "would block", sleeping on the socket in between.
fn wait<T>(ready: impl Fn(), mut call: impl FnMut() -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    loop {
        match call() {
            Err(ErrorCode::WouldBlock) => ready(),
            result => return result,
        }
    }
}

fn on(socket: &TcpSocket) -> impl Fn() + '_ {
    || socket.subscribe().block()
}

fn bind(address: &str) -> Result<TcpSocket, ErrorCode> {
    let address = parse(address)?;
    let socket = create_tcp_socket(family(address))?;
    let network: Network = instance_network();
    socket.start_bind(&network, address)?;
    wait(on(&socket), || socket.finish_bind())?;
    Ok(socket)
}

fn serve(address: &str, name: &str) -> Result<(), ErrorCode> {
    let listener = bind(address)?;
    listener.start_listen()?;
    wait(on(&listener), || listener.finish_listen())?;
    println!("listening on {}", text(listener.local_address()?));
    loop {
        let (socket, input, output) = wait(on(&listener), || listener.accept())?;
        let got = read_all(&input);
        let (peer, local) = (text(socket.remote_address()?), text(socket.local_address()?));
        write_all(&output, format!("{name} got {got} from {peer} on {local}").as_bytes());
        socket.shutdown(ShutdownType::Send)?;
        if got == "quit" {
            return Ok(());
        }
    }
}

fn get(address: &str) -> Result<String, ErrorCode> {
    let address = parse(address)?;
    let socket = create_tcp_socket(family(address))?;
    socket.start_connect(&instance_network(), address)?;
    let (input, output) = wait(on(&socket), || socket.finish_connect())?;
    write_all(&output, b"hi");
    socket.shutdown(ShutdownType::Send)?;
    let (local, peer) = (text(socket.local_address()?), text(socket.remote_address()?));
    Ok(format!("{} [from {local} to {peer}]", read_all(&input)))
}

fn read_all(input: &InputStream) -> String {
    let mut bytes = Vec::new();
    loop {
        match input.blocking_read(4096) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return format!("<{error:?}>"),
        }
    }
}

fn write_all(output: &OutputStream, bytes: &[u8]) {
    if let Err(error) = output.blocking_write_and_flush(bytes) {
        println!("write: {error:?}");
    }
}

fn resolve(name: &str) -> Result<String, ErrorCode> {
    let found = resolve_addresses(&instance_network(), name)?;
    let mut addresses = Vec::new();
    while let Some(address) = wait(|| found.subscribe().block(), || found.resolve_next_address())? {
        addresses.push(match address {
            IpAddress::Ipv4((a, b, c, d)) => format!("{a}.{b}.{c}.{d}"),
            IpAddress::Ipv6(v6) => format!("{v6:?}"),
        });
    }
    Ok(addresses.join(" "))
}

fn udp_bind(address: &str) -> Result<UdpSocket, ErrorCode> {
    let address = parse(address)?;
    let socket = create_udp_socket(family(address))?;
    socket.start_bind(&instance_network(), address)?;
    wait(|| socket.subscribe().block(), || socket.finish_bind())?;
    Ok(socket)
}

fn udp_serve(address: &str) -> Result<(), ErrorCode> {
    let socket = udp_bind(address)?;
    println!("listening on {}", text(socket.local_address()?));
    let (incoming, outgoing) = socket.stream(None)?;
    incoming.subscribe().block();
    for datagram in incoming.receive(8)? {
        println!("got {} from {}", String::from_utf8_lossy(&datagram.data), text(datagram.remote_address));
        outgoing.subscribe().block();
        outgoing.check_send()?;
        outgoing.send(&[OutgoingDatagram { data: b"pong".to_vec(), remote_address: Some(datagram.remote_address) }])?;
    }
    Ok(())
}

fn udp_get(address: &str) -> Result<String, ErrorCode> {
    let to = parse(address)?;
    let socket = udp_bind("0.0.0.0:0")?;
    let (incoming, outgoing) = socket.stream(None)?;
    outgoing.subscribe().block();
    outgoing.check_send()?;
    outgoing.send(&[OutgoingDatagram { data: b"ping".to_vec(), remote_address: Some(to) }])?;
    incoming.subscribe().block();
    let answers = incoming.receive(1)?;
    let told = answers.iter().map(|d| format!("{} from {}", String::from_utf8_lossy(&d.data), text(d.remote_address)));
    Ok(told.collect::<Vec<_>>().join(" "))
}
