//! Probes and hooks: the agent's own calls into the virtual network, on the agent's own threads.

use std::future::Future;
use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{CONNECTION, HOST, HeaderName, USER_AGENT};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use protocol::pod::HttpGet;

use crate::net::Net;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot connect to port {port}")]
    Connect {
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("no answer within {} ms", timeout.as_millis())]
    Timeout { timeout: Duration },
    #[error("the request cannot be built")]
    Request(#[source] http::Error),
    #[error("the connection broke before an answer came")]
    Exchange(#[source] hyper::Error),
}

pub(crate) async fn within<T>(
    timeout: Duration,
    probe: impl Future<Output = Result<T, ProbeError>>,
) -> Result<T, ProbeError> {
    tokio::time::timeout(timeout, probe).await.unwrap_or(Err(ProbeError::Timeout { timeout }))
}

pub(crate) async fn tcp_connect(net: &Net, to: SocketAddrV4) -> Result<(), ProbeError> {
    net.dial(to).await.map(drop).map_err(|source| ProbeError::Connect { port: to.port(), source })
}

/// The status of the answer; its body is not read.
pub(crate) async fn http_get(net: &Net, to: SocketAddrV4, get: &HttpGet) -> Result<u16, ProbeError> {
    let request = request(to, get).map_err(ProbeError::Request)?;
    let stream = net.dial(to).await.map_err(|source| ProbeError::Connect { port: to.port(), source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ProbeError::Exchange)?;
    let exchange = sender.send_request(request);
    tokio::pin!(connection, exchange);
    // The connection is driven here and dropped with this future: no task is left behind.
    let answer = tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    };
    answer.map(|answer| answer.status().as_u16()).map_err(ProbeError::Exchange)
}

fn request(to: SocketAddrV4, get: &HttpGet) -> Result<Request<Empty<Bytes>>, http::Error> {
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let mut request = Request::builder().uri(path);
    for (name, value) in &get.headers {
        request = request.header(name, value);
    }
    let given = |name: &HeaderName| get.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name.as_str()));
    if !given(&HOST) {
        request = request.header(HOST, get.host.clone().unwrap_or_else(|| to.to_string()));
    }
    if !given(&USER_AGENT) {
        request = request.header(USER_AGENT, "wherry-probe");
    }
    request.header(CONNECTION, "close").body(Empty::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, host: Option<&str>, headers: &[(&str, &str)], expected: &str) {
        let get = HttpGet {
            port: 8080,
            path: path.into(),
            host: host.map(Into::into),
            headers: headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        };
        let told = match request("10.42.0.5:8080".parse().unwrap(), &get) {
            Ok(request) => format!("{} {}", request.uri(), request.headers()[HOST].to_str().unwrap()),
            Err(_) => "error".into(),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn requests_are_what_the_probe_says() {
        check("/healthz?a=b", None, &[], "/healthz?a=b 10.42.0.5:8080");
        check("healthz", Some("example"), &[], "/healthz example");
        check("/", None, &[("host", "other")], "/ other");
        check("/", None, &[("bad name", "x")], "error");
        check("/ä b", None, &[], "error");
    }
}
