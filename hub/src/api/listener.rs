//! TCP and TLS: takes connections, bounded in number and patience, and serves HTTP/1 and 2 on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::auth::Peer;

/// A busy kubectl holds two; a dashboard a dozen. Beyond, newcomers wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// A Pi on a bad link needs 3 s for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the first byte of a request to the end of its headers.
const HEADERS: Duration = Duration::from_secs(30);
/// After which a silent HTTP/2 peer is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Requests of one connection at a time: watches stay open, and a client-go process watches a dozen kinds.
const STREAMS: u32 = 250;
/// Between attempts when the system gives no more sockets.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Serves until `stop`; then requests in flight end, at most for `drain`.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    stop: CancellationToken,
    drain: Duration,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(tcp, peer, acceptor, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(drain, connections.wait()).await.is_err() {
        warn!(left = connections.len(), "connections were cut");
    }
}

async fn connection(tcp: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    // Watches are small packets that somebody waits for.
    let _ = tcp.set_nodelay(true);
    let handshake = tokio::select! {
        handshake = timeout(HANDSHAKE, acceptor.accept(tcp)) => handshake,
        () = stop.cancelled() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => return debug!(%peer, "TLS handshake took too long"),
    };
    let certificate =
        stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|first| first.clone().into_owned());
    let shown = Peer(certificate);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(shown.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(HANDSHAKE);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, error = &*error, "connection ended");
    }
}
