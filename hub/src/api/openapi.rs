//! `/openapi/v3`: by which kubectl knows fields. Each document's URL names its content, so that clients
//! keep it for ever. Version 2 is an empty document: kubectl wants one where version 3 does not know a
//! kind, before it says that there is no such kind.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, StatusCode};
use hub_core::openapi::documents;

use super::answer::{Failure, JSON};
use super::params::Params;

/// `swagger: "2.0"` as a protobuf message, the only form in which version 2 is asked for.
const EMPTY_V2: &[u8] = b"\x0a\x032.0";
const V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Documents of version 3 are served in JSON; clients of today do without protobuf.
pub(super) fn get(document: &str, params: &Params, headers: &HeaderMap) -> Result<Response, Failure> {
    let document = document.trim_end_matches('/');
    if document == "v3" {
        return Ok(answer(&documents().index, None, CachedFor::Now, headers));
    }
    if document == "v2" {
        let mut response = Response::new(Body::from(EMPTY_V2));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(V2_TYPE));
        return Ok(response);
    }
    let found = document.strip_prefix("v3/").and_then(|path| documents().get(path)).ok_or(Failure::NoSuchPath)?;
    let cached = match params.get("hash") {
        Some(hash) if hash == found.hash => CachedFor::Ever,
        _ => CachedFor::Now,
    };
    Ok(answer(&found.json, Some(&found.hash), cached, headers))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CachedFor {
    Now,
    Ever,
}

fn answer(text: &str, hash: Option<&str>, cached: CachedFor, headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    let etag = hash.and_then(|hash| HeaderValue::from_str(&format!("\"{hash}\"")).ok());
    if let Some(etag) = &etag {
        response.headers_mut().insert(ETAG, etag.clone());
    }
    let control = match cached {
        CachedFor::Ever => "public, immutable, max-age=31536000",
        CachedFor::Now => "no-cache, private",
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(control));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if etag.is_some() && headers.get(IF_NONE_MATCH) == etag.as_ref() {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    let body = match compressed(text, headers) {
        Some(bytes) => {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Body::from(bytes)
        }
        None => Body::from(text.to_owned()),
    };
    *response.body_mut() = body;
    response
}

/// The text in gzip, for clients that read it: a tenth of half a megabyte.
fn compressed(text: &str, headers: &HeaderMap) -> Option<Vec<u8>> {
    let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    accepted
        .split(',')
        .any(|encoding| encoding.split(';').next().is_some_and(|name| name.trim() == "gzip"))
        .then_some(())?;
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text.as_bytes()).ok()?;
    encoder.finish().ok()
}
