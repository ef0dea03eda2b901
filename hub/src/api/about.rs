//! What the server says of itself: version, health, what it serves, and counts.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, StatusCode};
use hub_core::discovery::{self, AGGREGATED_MEDIA_TYPE, Half};
use hub_core::kinds::table;

use super::Api;
use super::answer::{Failure, json, method_not_allowed, typed};
use super::path::Place;
use crate::objects::ListOptions;

pub(super) async fn version() -> Response {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json(StatusCode::OK, &discovery::version(env!("CARGO_PKG_VERSION"), &format!("linux/{arch}")))
}

pub(super) async fn healthy() -> &'static str {
    "ok"
}

/// Whether nodes can be spoken to, and if not, why.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    match api.parts.fleet.ready() {
        Ok(()) => "ok".into_response(),
        Err(why) => {
            let causes = std::iter::successors(std::error::Error::source(&why), |error| error.source());
            let text = causes.fold(why.to_string(), |text, cause| format!("{text}: {cause}"));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// kubectl asks for definitions before it says that a kind does not exist, and gives up where it
/// cannot ask. There are none: kinds are rows of our table.
pub(super) async fn no_definitions() -> Response {
    let list = serde_json::json!({
        "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"resourceVersion": "0"}, "items": [],
    });
    json(StatusCode::OK, &list)
}

/// Counts in Prometheus' text format.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let mut text = String::from("# HELP wherry_objects Objects in the store.\n# TYPE wherry_objects gauge\n");
    for resource in table() {
        let count = api.objects().list(resource, &ListOptions::default()).map_or(0, |list| list.items.len());
        let _ = writeln!(text, "wherry_objects{{resource=\"{}\"}} {count}", resource.plural);
    }
    let (fleet, joins) = (api.parts.fleet.counters(), &api.parts.counters);
    let counters = [
        ("store_revision", "The newest change.", api.objects().revision().0),
        ("joins_total", "Nodes that joined.", joins.joined.load(Relaxed)),
        ("joins_refused_total", "Joins that were refused.", joins.refused.load(Relaxed)),
        ("fleet_published_total", "Messages to nodes.", fleet.published.load(Relaxed)),
        ("fleet_repeated_total", "Nodes that had to be told again.", fleet.repeated.load(Relaxed)),
        ("fleet_garbage_total", "Messages of nodes that were none.", fleet.garbage.load(Relaxed)),
        ("fleet_events_dropped_total", "Events of nodes beyond what is kept.", fleet.events_dropped.load(Relaxed)),
        (
            "fleet_requests_dropped_total",
            "Requests of nodes beyond what is served.",
            fleet.requests_dropped.load(Relaxed),
        ),
    ];
    for (name, help, value) in counters.into_iter().chain(api.parts.fleet.refusals()) {
        let _ = writeln!(text, "# HELP wherry_{name} {help}\n# TYPE wherry_{name} counter\nwherry_{name} {value}");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// The documents by which clients learn what is served.
pub(super) fn discover(place: &Place, method: &Method, headers: &HeaderMap) -> Result<Response, Failure> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(method_not_allowed().into());
    }
    let half = match place {
        Place::Core => Some(Half::Core),
        Place::Groups => Some(Half::Named),
        Place::Group(_) | Place::Version { .. } | Place::Below { .. } | Place::OpenApi(_) => None,
    };
    if let Some(half) = half.filter(|_| wants_aggregated(headers)) {
        return Ok(typed(StatusCode::OK, &discovery::aggregated(half), AGGREGATED_MEDIA_TYPE));
    }
    let document = match place {
        Place::Core => {
            let address = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            Some(discovery::versions(address))
        }
        Place::Groups => Some(discovery::groups()),
        Place::Group(group) => discovery::group(group),
        Place::Version { group, version } => discovery::resources(group, version),
        Place::Below { .. } | Place::OpenApi(_) => None,
    };
    match document {
        Some(document) => Ok(json(StatusCode::OK, &document)),
        None => Err(Failure::NoSuchPath),
    }
}

/// Whether the client reads the one document with everything, version 2.
fn wants_aggregated(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|range| {
        let has = |wanted: &str| range.split(';').any(|part| part.trim() == wanted);
        has("as=APIGroupDiscoveryList") && has("g=apidiscovery.k8s.io") && has("v=v2")
    })
}
