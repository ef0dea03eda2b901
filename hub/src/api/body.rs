//! What clients send: bounded bytes, decoded and checked as strictly as they wish.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use hub_core::object::Object;
use hub_core::schema::{self, Finding};
use hub_core::status::ApiError;
use hub_core::{body, protobuf};
use serde_json::Value;
use tokio::time::timeout;

use super::params::FieldValidation;

/// As Kubernetes bounds its bodies.
const BODY_MAX: usize = 3 * 1024 * 1024;
/// 3 MB over a bad link of 50 KB/s; who is slower holds a connection for nothing.
const BODY_TIME: Duration = Duration::from_secs(60);

/// A decoded object, and what its sender is to be warned of.
pub(super) struct Sent {
    pub(super) object: Object,
    pub(super) warnings: Vec<String>,
}

/// The whole body, and its media type without parameters (empty where none is said).
pub(super) async fn read(request: Request) -> Result<(String, Bytes), ApiError> {
    let media = media_type(request.headers()).to_owned();
    let bytes = timeout(BODY_TIME, to_bytes(request.into_body(), BODY_MAX)).await;
    let bytes = bytes.map_err(|_| ApiError::new(408, "Timeout", "the request body took too long"))?;
    let bytes = bytes.map_err(|error| {
        // axum boxes hyper's errors and its own alike; the text tells them apart.
        if std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("limit")) {
            ApiError::new(413, "RequestEntityTooLarge", format!("limit is {BODY_MAX} bytes"))
        } else {
            ApiError::bad_request("the request body could not be read to its end")
        }
    })?;
    Ok((media, bytes))
}

fn media_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// An object of `api_version` and `kind`, which it may leave out.
pub(super) async fn object(
    request: Request,
    api_version: &str,
    kind: &str,
    validation: FieldValidation,
) -> Result<Sent, ApiError> {
    let (media, bytes) = read(request).await?;
    if bytes.is_empty() {
        return Err(ApiError::bad_request("the request has no body"));
    }
    decode(&media, &bytes, api_version, kind, validation)
}

pub(super) fn decode(
    media: &str,
    bytes: &[u8],
    api_version: &str,
    kind: &str,
    validation: FieldValidation,
) -> Result<Sent, ApiError> {
    let (value, duplicates) = match media {
        "" | "application/json" => {
            let body = body::parse(bytes)?;
            (body.value, body.duplicates)
        }
        "application/yaml" => (yaml(bytes)?, Vec::new()),
        protobuf::MEDIA_TYPE => (protobuf::decode(bytes)?.into_value(), Vec::new()),
        other => {
            let message = format!(
                "the body of the request was in an unknown format - {other}: accepted are application/json, application/yaml, application/vnd.kubernetes.protobuf"
            );
            return Err(ApiError::new(415, "UnsupportedMediaType", message));
        }
    };
    let Some(mut object) = Object::from_value(value) else {
        return Err(ApiError::bad_request("the body of the request is no JSON object"));
    };
    let twice = duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
    let warnings = check(&mut object, api_version, kind, validation, twice, &[])?;
    Ok(Sent { object, warnings })
}

pub(super) fn yaml(bytes: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_yaml_ng::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("error converting YAML to JSON: {error}")))?;
    if body::is_too_deep(&value) {
        return Err(ApiError::bad_request("the YAML is nested too deeply"));
    }
    Ok(value)
}

/// Checks an object against its kind's fields and brings it into normal form; answers the warnings.
/// What is in `known` is not told again: stored objects may have fields that we do not know.
pub(super) fn check(
    object: &mut Object,
    api_version: &str,
    kind: &str,
    validation: FieldValidation,
    duplicates: Vec<String>,
    known: &[Finding],
) -> Result<Vec<String>, ApiError> {
    let Some(type_) = schema::of_kind(api_version, kind) else { return Ok(Vec::new()) };
    let findings = schema::check(type_, object.as_map());
    let refuse = |why: String| {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    };
    if let Some(fatal) = findings.iter().find(|finding| finding.is_fatal()) {
        return Err(refuse(fatal.to_string()));
    }
    let unknown = findings.iter().filter(|finding| !known.contains(finding)).map(Finding::to_string);
    let told: Vec<String> = unknown.chain(duplicates).collect();
    schema::normalise(type_, object.as_map_mut());
    match validation {
        FieldValidation::Strict if !told.is_empty() => {
            Err(refuse(format!("strict decoding error: {}", told.join(", "))))
        }
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(told),
    }
}

/// What the stored object has that its kind does not; see [`check`].
pub(super) fn known_findings(object: &Object, api_version: &str, kind: &str) -> Vec<Finding> {
    schema::of_kind(api_version, kind).map(|type_| schema::check(type_, object.as_map())).unwrap_or_default()
}
