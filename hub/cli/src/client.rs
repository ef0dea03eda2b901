//! HTTPS to one hub: one connection, kept while it lives, and errors that name the way out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::kubeconfig::Target;

/// A hub that is there answers a connection within this, also over a bad link.
const CONNECT_TIME: Duration = Duration::from_secs(15);
/// Until an answer begins. Pushes and watches say otherwise.
const ANSWER_TIME: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("hub is not running at {server}; start it with: hub serve")]
    NotRunning { server: String },
    #[error("{server} cannot be reached")]
    Unreachable {
        server: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{server} is not the hub that this kubeconfig is for")]
    Tls {
        server: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{server} does not answer")]
    Silent { server: String },
    #[error("lost the connection to {server}")]
    Lost {
        server: String,
        #[source]
        source: hyper::Error,
    },
    #[error("the hub does not accept this kubeconfig's credentials; a fresh one is in the hub's data directory")]
    Unauthorized,
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("the hub's answer makes no sense")]
    Nonsense(#[source] serde_json::Error),
}

impl ClientError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// One request.
pub(crate) struct Call {
    method: Method,
    path: String,
    accept: &'static str,
    body: Bytes,
    content_type: &'static str,
    answer_time: Duration,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            accept: "application/json",
            body: Bytes::new(),
            content_type: "application/json",
            answer_time: ANSWER_TIME,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn head(path: impl Into<String>) -> Self {
        Self::new(Method::HEAD, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path).body("application/json", body.to_string().into_bytes())
    }

    pub(crate) fn merge_patch(path: impl Into<String>, patch: &Value) -> Self {
        Self::new(Method::PATCH, path).body("application/merge-patch+json", patch.to_string().into_bytes())
    }

    pub(crate) fn upload(path: impl Into<String>, content_type: &'static str, bytes: Vec<u8>) -> Self {
        Self::new(Method::POST, path).body(content_type, bytes)
    }

    pub(crate) fn body(mut self, content_type: &'static str, bytes: Vec<u8>) -> Self {
        (self.content_type, self.body) = (content_type, bytes.into());
        self
    }

    pub(crate) fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = media_type;
        self
    }

    /// How long the hub may work before its answer begins.
    pub(crate) fn patience(mut self, answer_time: Duration) -> Self {
        self.answer_time = answer_time;
        self
    }
}

pub(crate) struct Client {
    target: Target,
    tls: TlsConnector,
    name: ServerName<'static>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub(crate) fn new(target: Target) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in &target.ca {
            roots.add(certificate.clone()).context("the kubeconfig's certificate-authority cannot be used")?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .with_root_certificates(roots);
        let config = match &target.identity {
            Some((certificates, key)) => builder
                .with_client_auth_cert(certificates.clone(), key.clone_key())
                .context("the kubeconfig's client-certificate cannot be used")?,
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from(target.host.clone()).context("the kubeconfig's server has no valid name")?;
        Ok(Self { target, tls: TlsConnector::from(Arc::new(config)), name, connection: None })
    }

    pub(crate) fn server(&self) -> String {
        let host = &self.target.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("https://{host}:{}", self.target.port)
    }

    /// Sends a request; answers other than success become errors with the hub's own words.
    pub(crate) async fn send(&mut self, call: Call) -> Result<Response<Incoming>, ClientError> {
        let response = self.send_raw(call).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.read(response).await.unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED {
            return Err(ClientError::Unauthorized);
        }
        Err(ClientError::Refused { status, message: message_of(status, &body) })
    }

    /// The whole answer.
    pub(crate) async fn bytes(&mut self, call: Call) -> Result<Bytes, ClientError> {
        let response = self.send(call).await?;
        self.read(response).await
    }

    pub(crate) async fn json(&mut self, call: Call) -> Result<Value, ClientError> {
        let bytes = self.bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(ClientError::Nonsense)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let collected = response.into_body().collect().await;
        Ok(collected.map_err(|source| ClientError::Lost { server: self.server(), source })?.to_bytes())
    }

    async fn send_raw(&mut self, call: Call) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(&call.path)
            .header(header::HOST, self.server().trim_start_matches("https://"))
            .header(header::USER_AGENT, concat!("hub/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, call.accept);
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, call.content_type);
        }
        if let Some(token) = &self.target.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(call.body)).map_err(|error| ClientError::Refused {
            status: StatusCode::BAD_REQUEST,
            message: format!("{:?} cannot be asked for: {error}", call.path),
        })?;
        let server = self.server();
        let kept = match self.connection.take() {
            Some(mut connection) => connection.ready().await.is_ok().then_some(connection),
            None => None,
        };
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = tokio::time::timeout(call.answer_time, connection.send_request(request)).await;
        let answer = answer.map_err(|_| ClientError::Silent { server: server.clone() })?;
        let response = answer.map_err(|source| ClientError::Lost { server, source })?;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let silent = || ClientError::Silent { server: self.server() };
        tokio::time::timeout(CONNECT_TIME, self.connect_at_last()).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn connect_at_last(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let server = self.server();
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await.map_err(|source| {
            let server = server.clone();
            match source.kind() {
                std::io::ErrorKind::ConnectionRefused => ClientError::NotRunning { server },
                _ => ClientError::Unreachable { server, source },
            }
        })?;
        let stream = self.tls.connect(self.name.clone(), stream).await;
        let stream = stream.map_err(|source| ClientError::Tls { server: server.clone(), source })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ClientError::Lost { server: server.clone(), source })?;
        // It ends with the program, or when the hub closes it; requests then tell.
        drop(tokio::spawn(connection));
        Ok(sender)
    }
}

/// The hub's own words: a Status of the API, an error of the registry, or of joining.
fn message_of(status: StatusCode, body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let told = [&json["message"], &json["error"], &json["errors"][0]["message"]];
    match told.into_iter().find_map(Value::as_str) {
        Some(message) => message.to_owned(),
        None => match String::from_utf8_lossy(body).trim() {
            "" => format!("the hub answered {status}"),
            text => format!("the hub answered {status}: {}", text.chars().take(300).collect::<String>()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_the_hubs_words() {
        let check = |body: &str, expected: &str| {
            assert_eq!(message_of(StatusCode::CONFLICT, body.as_bytes()), expected);
        };
        check(r#"{"kind":"Status","message":"pods \"a\" not found"}"#, "pods \"a\" not found");
        check(r#"{"error":"the token is used"}"#, "the token is used");
        check(r#"{"errors":[{"code":"X","message":"too large"}]}"#, "too large");
        check("", "the hub answered 409 Conflict");
        check("oops\n", "the hub answered 409 Conflict: oops");
    }
}
