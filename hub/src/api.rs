//! The verbs over HTTPS, as Kubernetes clients speak them.
//!
//! ```text
//! listener   TCP and TLS: bounded, hands each connection's certificate on
//! auth       who asks, and whether they may                      answer    bodies, errors, warnings
//! path       what a URL names         params   what its query asks for     negotiate   in which form
//! read       get and list             watch    a stream of changes         body        what clients send
//! write      create, update, patch, delete                       pods, logs  what only pods have
//! accounts   tokens and reviews of oneself                       about     discovery, version, metrics
//! scale      one number of a kind that has replicas              openapi   what fields there are
//! leases     of nodes, made from their heartbeats
//! ```
//! One set of handlers serves every row of the kinds' table; [`dispatch`] chooses among them.

mod about;
mod accounts;
mod answer;
mod auth;
mod body;
mod leases;
pub mod listener;
mod logs;
mod negotiate;
mod openapi;
mod params;
mod path;
mod pods;
mod read;
mod scale;
mod watch;
mod write;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::Method;
use hub_core::kinds::{Resource, Scope, Subresource, find};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::controllers::node_health::NodeHeartbeats;
use crate::fleet::Fleet;
use crate::objects::Objects;
use crate::pki::Authenticator;
use crate::pki::join::JoinCounters;
use answer::Failure;
use params::Params;
use path::{Place, Target};

/// What the handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Api {
    parts: Arc<Parts>,
}

pub struct Parts {
    pub objects: Objects,
    pub authenticator: Authenticator,
    pub clock: Clock,
    pub fleet: Fleet,
    pub heartbeats: Arc<NodeHeartbeats>,
    /// Silence that makes a node lost: what its lease says.
    pub node_grace: Duration,
    pub counters: Arc<JoinCounters>,
    /// Ends what would otherwise never end: watches and followed logs.
    pub stop: CancellationToken,
}

/// One request on an object or a collection of a kind we know.
struct Call {
    resource: &'static Resource,
    /// `None`: of the cluster, or all namespaces.
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<Subresource>,
    params: Params,
    request: Request,
}

impl Api {
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Everything that the hub serves over HTTPS: the API, and what other parts `mount` beside it.
    /// Only what is in `open` answers strangers.
    pub fn router(&self, mount: Router, open: Router) -> Router {
        let closed = Router::new()
            .route("/version", get(about::version))
            .route("/healthz", get(about::healthy))
            .route("/livez", get(about::healthy))
            .route("/readyz", get(about::ready))
            .route("/metrics", get(about::metrics))
            .route("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", get(about::no_definitions))
            .fallback(serve)
            .with_state(self.clone())
            .merge(mount)
            .layer(middleware::from_fn_with_state(self.clone(), auth::require));
        Router::new().fallback_service(closed).merge(open)
    }

    fn objects(&self) -> &Objects {
        &self.parts.objects
    }

    fn clock(&self) -> &Clock {
        &self.parts.clock
    }
}

async fn serve(State(api): State<Api>, request: Request) -> Response {
    match route(api, request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn route(api: Api, request: Request) -> Result<Response, Failure> {
    let params = Params::of(request.uri())?;
    let place = Place::parse(request.uri().path()).ok_or(Failure::NoSuchPath)?;
    match place {
        Place::Core | Place::Groups | Place::Group(_) | Place::Version { .. } => {
            about::discover(&place, request.method(), request.headers())
        }
        Place::OpenApi(document) => openapi::get(&document, &params, request.headers()),
        Place::Below { group, version, target } => {
            if let Some(answer) = accounts::review(&group, &target, request.method()) {
                return answer.of(request).await;
            }
            let call = call(&group, &version, target, params, request)?;
            dispatch(api, call).await
        }
    }
}

/// What a path names, as far as the table has it.
fn call(group: &str, version: &str, target: Target, params: Params, request: Request) -> Result<Call, Failure> {
    let resource = find(group, version, &target.plural).ok_or(Failure::NoSuchPath)?;
    let subresource = match target.subresource.as_deref() {
        None => None,
        Some(name) => Some(subresource(resource, name).ok_or(Failure::NoSuchPath)?),
    };
    match (resource.scope, &target.namespace, &target.name) {
        (Scope::Cluster, Some(_), _) | (Scope::Namespaced, None, Some(_)) => return Err(Failure::NoSuchPath),
        (Scope::Cluster, None, _) | (Scope::Namespaced, Some(_), _) | (Scope::Namespaced, None, None) => {}
    }
    Ok(Call { resource, namespace: target.namespace, name: target.name, subresource, params, request })
}

fn subresource(resource: &Resource, name: &str) -> Option<Subresource> {
    let known = [
        ("status", Subresource::Status),
        ("scale", Subresource::Scale),
        ("log", Subresource::Log),
        ("eviction", Subresource::Eviction),
        ("binding", Subresource::Binding),
        ("token", Subresource::Token),
    ];
    let found = known.iter().find(|(text, _)| *text == name).map(|(_, subresource)| *subresource)?;
    resource.subresources.contains(&found).then_some(found)
}

async fn dispatch(api: Api, mut call: Call) -> Result<Response, Failure> {
    let method = call.request.method().clone();
    let Some(name) = call.name.take() else {
        return match method {
            Method::GET | Method::HEAD if call.params.is_watch() => watch::watch(&api, &call, None),
            Method::GET | Method::HEAD => read::list(&api, &call),
            Method::POST => write::create(&api, call).await,
            Method::DELETE => write::delete_collection(&api, call).await,
            _ => Err(answer::method_not_allowed().into()),
        };
    };
    match (call.subresource, method) {
        (None | Some(Subresource::Status), Method::GET | Method::HEAD) if call.params.is_watch() => {
            watch::watch(&api, &call, Some(&name))
        }
        (None | Some(Subresource::Status), Method::GET | Method::HEAD) => read::get(&api, &call, &name),
        (None | Some(Subresource::Status), Method::PUT) => write::update(&api, call, &name).await,
        (None | Some(Subresource::Status), Method::PATCH) => write::patch(&api, call, &name).await,
        (None, Method::DELETE) => write::delete(&api, call, &name).await,
        (Some(Subresource::Scale), Method::GET | Method::HEAD) => scale::get(&api, &call, &name),
        (Some(Subresource::Scale), Method::PUT) => scale::update(&api, call, &name).await,
        (Some(Subresource::Scale), Method::PATCH) => scale::patch(&api, call, &name).await,
        (Some(Subresource::Log), Method::GET) => logs::logs(&api, call, &name).await,
        (Some(Subresource::Eviction), Method::POST) => pods::evict(&api, call, &name).await,
        (Some(Subresource::Binding), Method::POST) => pods::bind(&api, call, &name).await,
        (Some(Subresource::Token), Method::POST) => accounts::token(&api, call, &name).await,
        _ => Err(answer::method_not_allowed().into()),
    }
}
