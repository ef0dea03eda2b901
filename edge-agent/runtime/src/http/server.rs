//! Listeners and connections of one HTTP container.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::request::Requests;
use crate::exit::Exit;
use crate::net::PodListener;

/// Connections of one container at a time; more wait in the system's backlog.
const CONNECTIONS_MAX: usize = 256;

/// Bytes a connection buffers; also the longest head of a request.
const BUFFER: usize = 64 << 10;

/// A client that takes longer to send a request's head is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a refused accept (no file descriptors left), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For the answers that a container which gives up still owes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A server in the pod's name: it is listening from the moment it exists.
pub(crate) struct HttpServer {
    pub(crate) listeners: Vec<PodListener>,
    pub(crate) requests: Arc<Requests>,
}

impl HttpServer {
    /// Serves until it is stopped (and drained), cut, or its guest has trapped too often.
    pub(crate) async fn serve(mut self) -> Exit {
        let control = self.requests.control();
        let mut stop = control.stop.subscribe();
        let mut connections = JoinSet::new();
        let draining = watch::Sender::new(false);
        let (exit, patience) = loop {
            tokio::select! {
                biased;
                exit = control.wait_cut() => break (exit, Duration::ZERO),
                exit = self.requests.given_up() => break (exit, LAST_WORDS),
                () = raised(&mut stop) => break (Exit::completed(), Duration::MAX),
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = accept(&self.listeners), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok(stream) => {
                        connections.spawn(connection(stream, self.requests.clone(), draining.subscribe()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        // Listeners go first: who calls now must find another pod.
        self.listeners.clear();
        draining.send_replace(true);
        let exit = tokio::select! {
            biased;
            exit = control.wait_cut() => exit,
            _ = tokio::time::timeout(patience, drain(&mut connections)) => exit,
        };
        connections.shutdown().await;
        self.requests.shutdown().await;
        exit
    }
}

/// Resolves when the signal is given; also when nobody is left to give it, which is the end of the container.
async fn raised(signal: &mut watch::Receiver<bool>) {
    drop(signal.wait_for(|raised| *raised).await);
}

async fn drain(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

async fn accept(listeners: &[PodListener]) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        let ready = listeners.iter().find_map(|listener| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

async fn connection(stream: TcpStream, requests: Arc<Requests>, mut draining: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let requests = requests.clone();
        async move { Ok::<_, Infallible>(requests.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = raised(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A client that went away is everyday life.
        tracing::debug!(%error, "connection ended early");
    }
}
