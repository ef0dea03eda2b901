//! How a machine becomes a node: one POST with a token and a key, answered with a certificate.
//!
//! Two routers: [`join_router`] is open to everyone, the token being the proof; [`token_router`] is for
//! administrators, and whoever serves it puts its authentication in front.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::join::{BulkConnection, JoinAnswer, JoinRequest, PATH};
use protocol::{NodeName, UnixMillis};
use serde::Deserialize;
use serde_json::json;

use super::authority::{IssueError, SigningRequest};
use super::files::FileError;
use super::nodes::{AdmitError, Applicant};
use super::sealing::SealingKey;
use super::tokens::{self, Refusal, TokenError, TokenWish, Uses};
use super::{Pki, RESERVED_PREFIX};
use crate::clock::Clock;

/// A request holds a token, a name, a signing request and two ids: 2 KB.
const BODY_MAX: usize = 32 * 1024;
/// Longer than any machine id in use (a UUID has 36 letters).
const MACHINE_ID_MAX: usize = 128;

/// What a joining node is told of the world.
#[derive(Debug, Clone)]
pub struct JoinSettings {
    /// `host:port` of the broker; an empty host means the hub's own.
    pub broker: String,
    pub bulk: BulkConnection,
    /// `https://host:port` for the command to paste, where it is not the address that the user called.
    pub advertise: Option<String>,
}

/// Counts for the hub's own metrics.
#[derive(Debug, Default)]
pub struct JoinCounters {
    pub joined: AtomicU64,
    pub refused: AtomicU64,
}

#[derive(Clone)]
pub struct JoinState {
    pki: Pki,
    settings: Arc<JoinSettings>,
    counters: Arc<JoinCounters>,
    clock: Clock,
}

impl JoinState {
    pub fn new(pki: Pki, settings: JoinSettings, clock: Clock) -> Self {
        Self { pki, settings: Arc::new(settings), counters: Arc::default(), clock }
    }

    pub fn counters(&self) -> &Arc<JoinCounters> {
        &self.counters
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.clock.unix_millis())
    }
}

pub fn join_router(state: JoinState) -> Router {
    Router::new().route(PATH, post(serve_join)).layer(DefaultBodyLimit::max(BODY_MAX)).with_state(state)
}

pub fn token_router(state: JoinState) -> Router {
    Router::new()
        .route("/wherry/v1/tokens", post(create_token).get(list_tokens))
        .route("/wherry/v1/tokens/{id}", delete(delete_token))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(state)
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the join request does not parse")]
    Parse(#[source] serde_json::Error),
    #[error("the join request is not valid: {0}")]
    Invalid(&'static str),
    #[error("names that start with {RESERVED_PREFIX:?} belong to the hub; take another --name")]
    ReservedName,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Admit(#[from] AdmitError),
    #[error("cannot certify the key")]
    Issue(#[from] IssueError),
    #[error("cannot keep that the token was used")]
    Keep(#[from] FileError),
}

impl JoinError {
    fn status(&self) -> StatusCode {
        match self {
            JoinError::Parse(_) | JoinError::Invalid(_) | JoinError::Issue(IssueError::Request(_)) => {
                StatusCode::BAD_REQUEST
            }
            JoinError::Refused(Refusal::Unknown | Refusal::Expired | Refusal::Used { .. }) => StatusCode::UNAUTHORIZED,
            JoinError::Refused(Refusal::OtherNode { .. }) | JoinError::ReservedName => StatusCode::FORBIDDEN,
            JoinError::Admit(AdmitError::Taken { .. }) => StatusCode::CONFLICT,
            JoinError::Admit(AdmitError::Full) => StatusCode::SERVICE_UNAVAILABLE,
            JoinError::Admit(AdmitError::File(_)) | JoinError::Keep(_) => StatusCode::INSUFFICIENT_STORAGE,
            JoinError::Issue(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Joins a machine, or says why not. Whatever fails, a later try with the same token and key works.
///
/// # Errors
/// [`JoinError`]
pub fn join(pki: &Pki, settings: &JoinSettings, body: &[u8], now: UnixMillis) -> Result<JoinAnswer, JoinError> {
    let request: JoinRequest = serde_json::from_slice(body).map_err(JoinError::Parse)?;
    let applicant = parse_applicant(&request)?;
    let csr = SigningRequest::from_pem(&request.csr)?;
    let (node, key) = (request.node, csr.key_digest());
    pki.tokens(|tokens| tokens.check(&request.token, &node, key, now))?;
    let applicant = Applicant { key, ..applicant };
    pki.nodes(|nodes| nodes.check(&applicant))?;
    let certificate = pki.authority().sign_node(&node, &csr, now)?;
    pki.tokens(|tokens| match tokens.check(&request.token, &node, key, now) {
        // Again under the lock that marks: of two machines with one token, one gets in.
        Ok(()) => tokens.mark_used(&request.token, &node, key).map_err(JoinError::Keep),
        Err(refusal) => Err(JoinError::Refused(refusal)),
    })?;
    pki.nodes(|nodes| nodes.admit(applicant, now))?;
    Ok(JoinAnswer {
        cluster: pki.cluster().clone(),
        ca: pki.authority().pem().to_owned(),
        certificate,
        hub_key: BASE64.encode(pki.identity().public_key()),
        broker: settings.broker.clone(),
        bulk: settings.bulk,
    })
}

/// Everything but the key, which the signing request brings.
fn parse_applicant(request: &JoinRequest) -> Result<Applicant, JoinError> {
    if request.node.as_str().starts_with(RESERVED_PREFIX) {
        return Err(JoinError::ReservedName);
    }
    if SealingKey::from_base64(&request.sealing_key).is_none() {
        return Err(JoinError::Invalid("sealing_key is no X25519 key in base64"));
    }
    if request.machine_id.is_empty() || request.machine_id.len() > MACHINE_ID_MAX {
        return Err(JoinError::Invalid("machine_id has 1 to 128 letters"));
    }
    Ok(Applicant {
        name: request.node.clone(),
        machine_id: request.machine_id.clone(),
        sealing_key: request.sealing_key.clone(),
        key: protocol::Digest([0; 32]),
    })
}

async fn serve_join(State(state): State<JoinState>, body: Bytes) -> Response {
    let outcome = {
        let state = state.clone();
        // Two fsyncs: not on a thread that serves others.
        tokio::task::spawn_blocking(move || join(&state.pki, &state.settings, &body, state.now())).await
    };
    match outcome {
        Ok(Ok(answer)) => {
            state.counters.joined.fetch_add(1, Ordering::Relaxed);
            tracing::info!("node joined");
            answer_json(StatusCode::OK, &answer)
        }
        Ok(Err(error)) => {
            let refused = state.counters.refused.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(error = &error as &dyn std::error::Error, refused, "join refused");
            answer_error(error.status(), &error)
        }
        Err(panic) => {
            tracing::error!(error = &panic as &dyn std::error::Error, "join failed");
            answer_error(StatusCode::INTERNAL_SERVER_ERROR, &panic)
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TokenRequest {
    ttl_seconds: Option<u64>,
    node: Option<NodeName>,
    /// Good for many machines until it expires.
    reusable: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the request does not parse")]
struct TokenRequestError(#[source] serde_json::Error);

async fn create_token(State(state): State<JoinState>, headers: HeaderMap, body: Bytes) -> Response {
    let request: TokenRequest = match body.is_empty() {
        true => TokenRequest::default(),
        false => match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => return answer_error(StatusCode::BAD_REQUEST, &TokenRequestError(error)),
        },
    };
    let wish = TokenWish {
        ttl_seconds: request.ttl_seconds.unwrap_or(tokens::DEFAULT_TTL_SECONDS),
        uses: if request.reusable { Uses::UntilExpiry } else { Uses::Once },
        node: request.node.clone(),
    };
    match state.pki.tokens(|tokens| tokens.create(wish, state.now())) {
        Ok(short) => {
            let token = format!("{short}.{}", state.pki.authority().digest().hex());
            let hub = hub_url(&state.settings, &headers);
            let name = request.node.as_ref().map_or("NAME", NodeName::as_str);
            let command = format!("edge-agent run --hub {hub} --token {token} --name {name}");
            answer_json(StatusCode::CREATED, &json!({"token": token, "command": command}))
        }
        Err(error) => {
            let status = match &error {
                TokenError::Ttl => StatusCode::BAD_REQUEST,
                TokenError::Full => StatusCode::CONFLICT,
                TokenError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
                TokenError::File(_) => StatusCode::INSUFFICIENT_STORAGE,
            };
            tracing::warn!(error = &error as &dyn std::error::Error, "no token made");
            answer_error(status, &error)
        }
    }
}

/// Where whoever asked reached us: the best guess of where a node does.
fn hub_url(settings: &JoinSettings, headers: &HeaderMap) -> String {
    let called = || headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(|host| format!("https://{host}"));
    settings.advertise.clone().or_else(called).unwrap_or_else(|| "https://HUB:6443".to_owned())
}

async fn list_tokens(State(state): State<JoinState>) -> Response {
    let tokens = state.pki.tokens(|tokens| tokens.list(state.now()));
    answer_json(StatusCode::OK, &json!({"tokens": tokens}))
}

async fn delete_token(State(state): State<JoinState>, Path(id): Path<String>) -> Response {
    match state.pki.tokens(|tokens| tokens.delete(&id)) {
        Ok(tokens::Deleted::Gone) => answer_json(StatusCode::OK, &json!({"deleted": id})),
        Ok(tokens::Deleted::Unknown) => {
            answer_json(StatusCode::NOT_FOUND, &json!({"error": format!("there is no token {id:?}")}))
        }
        Err(error) => answer_error(StatusCode::INSUFFICIENT_STORAGE, &error),
    }
}

fn answer_json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let bytes = serde_json::to_vec(body).expect("answers are plain data");
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// The error with its causes, each once.
fn answer_error(status: StatusCode, error: &(dyn std::error::Error + 'static)) -> Response {
    let chain: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    answer_json(status, &json!({"error": chain.join(": ")}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::authority;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    struct Hub {
        pki: Pki,
        _directory: tempfile::TempDir,
    }

    fn hub() -> Hub {
        let directory = tempfile::tempdir().unwrap();
        Hub { pki: Pki::open(directory.path(), &[], NOW).unwrap(), _directory: directory }
    }

    impl Hub {
        fn token(&self, node: Option<&str>) -> String {
            let wish = TokenWish { ttl_seconds: 60, uses: Uses::Once, node: node.map(|n| n.parse().unwrap()) };
            self.pki.tokens(|tokens| tokens.create(wish, NOW)).unwrap()
        }

        fn join(&self, token: &str, node: &str, machine: &str, key: &rcgen::KeyPair) -> Result<JoinAnswer, JoinError> {
            let csr = rcgen::CertificateParams::default().serialize_request(key).unwrap().pem().unwrap();
            let body = json!({
                "token": token, "node": node, "csr": csr, "machine_id": machine,
                "sealing_key": BASE64.encode([9; 32]),
            });
            let settings = JoinSettings { broker: ":8883".into(), bulk: BulkConnection::Separate, advertise: None };
            join(&self.pki, &settings, body.to_string().as_bytes(), NOW)
        }
    }

    fn check(got: Result<JoinAnswer, JoinError>, status: u16) {
        let got = got.map_or_else(|error| error.status().as_u16(), |_| 200);
        assert_eq!(got, status);
    }

    #[test]
    fn a_token_opens_once_for_one_machine() {
        let hub = hub();
        let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let token = hub.token(None);
        check(hub.join("00000000.11", "pi-1", "m1", &key), 401);
        check(hub.join(&token, "wherry-hub", "m1", &key), 403);
        check(hub.join(&token, "pi-1", "", &key), 400);
        let answer = hub.join(&token, "pi-1", "m1", &key).unwrap();
        let der = CertificateDer::from_pem_slice(answer.certificate.as_bytes()).unwrap();
        assert!(hub.pki.is_current(&"pi-1".parse().unwrap(), &der));
        assert_eq!(authority::subject_of(&der).unwrap().name, "pi-1");
        check(hub.join(&token, "pi-1", "m1", &key), 200);
        check(hub.join(&token, "pi-2", "m2", &other), 401);
        check(hub.join(&hub.token(None), "pi-1", "m2", &other), 409);
        check(hub.join(&hub.token(Some("pi-3")), "pi-2", "m2", &other), 403);
    }

    #[test]
    fn a_refused_join_does_not_use_up_the_token() {
        let hub = hub();
        let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        check(hub.join(&hub.token(None), "pi-1", "m1", &key), 200);
        let token = hub.token(None);
        check(hub.join(&token, "pi-1", "m2", &other), 409);
        check(hub.join(&token, "pi-2", "m2", &other), 200);
    }
}
