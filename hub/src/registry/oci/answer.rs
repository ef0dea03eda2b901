//! Answers and errors, in the form that OCI clients read.

use axum::body::Body;
use axum::response::Response;
use http::{StatusCode, header};
use protocol::ids::Digest;
use serde_json::{Value, json};

use super::path::Parameters;
use crate::registry::blobs::BlobError;
use crate::registry::intake::IntakeError;
use crate::registry::reference::{InvalidReference, RepositoryName};
use crate::registry::uploads::TooMany;

/// Entries of a list in one answer, whatever the client asks for.
const PAGE_MAX: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub(in crate::registry) enum OciError {
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this hub does not do that")]
    Unsupported,
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    #[error("there is no image of this name")]
    NameUnknown,
    #[error("there is no such manifest")]
    ManifestUnknown,
    #[error("there is no such blob")]
    BlobUnknown,
    #[error("there is no such upload; start it again")]
    UploadUnknown,
    #[error("the digest parameter is missing")]
    DigestMissing,
    #[error("the piece does not start at byte {have}, where the last one ended")]
    Range { have: u64 },
    #[error("the request broke off: {why}")]
    Broken { why: String },
    #[error(transparent)]
    Busy(#[from] TooMany),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

impl OciError {
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            Self::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::Reference(InvalidReference::Name { .. }) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::Reference(InvalidReference::Tag { .. }) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::Reference(InvalidReference::Digest { .. }) | Self::DigestMissing => {
                (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
            }
            Self::NameUnknown => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::ManifestUnknown => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::BlobUnknown => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::UploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::Broken { .. } => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Blob(error) => blob_kind(error),
            Self::Intake(error) => (refusal(error), intake_code(error)),
        }
    }

    pub(in crate::registry) fn status(&self) -> StatusCode {
        self.kind().0
    }

    pub(super) fn into_response(self) -> Response {
        let (status, code) = self.kind();
        if status.is_server_error() {
            tracing::warn!(error = chain(&self), "a registry request failed");
        }
        let mut response = json(status, &json!({"errors": [{"code": code, "message": chain(&self)}]}));
        if let Self::Range { have } = self
            && let Ok(range) = format!("0-{}", have.saturating_sub(1)).parse()
        {
            response.headers_mut().insert(header::RANGE, range);
        }
        response
    }
}

fn blob_kind(error: &BlobError) -> (StatusCode, &'static str) {
    match error {
        BlobError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        BlobError::Mismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        BlobError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "DENIED"),
        BlobError::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

/// The HTTP status of an image that was not taken.
pub(in crate::registry) fn refusal(error: &IntakeError) -> StatusCode {
    match error {
        IntakeError::Manifest(_) | IntakeError::Size { .. } => StatusCode::BAD_REQUEST,
        IntakeError::MissingBlob { .. } => StatusCode::NOT_FOUND,
        IntakeError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        IntakeError::NotRunnable(_) | IntakeError::NoEntry { .. } | IntakeError::Files { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        IntakeError::Worker(_) => StatusCode::INTERNAL_SERVER_ERROR,
        IntakeError::Store(error) => blob_kind(error).0,
    }
}

fn intake_code(error: &IntakeError) -> &'static str {
    match error {
        IntakeError::Manifest(_)
        | IntakeError::NotRunnable(_)
        | IntakeError::NoEntry { .. }
        | IntakeError::Files { .. } => "MANIFEST_INVALID",
        IntakeError::MissingBlob { .. } => "MANIFEST_BLOB_UNKNOWN",
        IntakeError::Size { .. } | IntakeError::TooLarge { .. } => "SIZE_INVALID",
        IntakeError::Worker(_) => "UNKNOWN",
        IntakeError::Store(error) => blob_kind(error).1,
    }
}

/// An error and its causes in one line.
pub(in crate::registry) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub(in crate::registry) fn json(status: StatusCode, value: &Value) -> Response {
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header("Docker-Distribution-API-Version", "registry/2.0");
    response.body(Body::from(value.to_string())).expect("constant headers are valid")
}

pub(super) fn empty(status: StatusCode) -> Response {
    Response::builder().status(status).body(Body::empty()).expect("a status alone is valid")
}

pub(super) fn created(location: &str, digest: &Digest) -> Response {
    let response = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, location)
        .header(header::CONTENT_LENGTH, 0)
        .header("Docker-Content-Digest", digest.to_string());
    response.body(Body::empty()).expect("names and digests are plain ASCII")
}

/// A list, in order, in pages of `n` after `last`.
pub(super) fn page(
    field: &str,
    name: Option<&RepositoryName>,
    path: &str,
    entries: Vec<String>,
    parameters: &Parameters,
) -> Response {
    let size = parameters.get("n").and_then(|n| n.parse().ok()).unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let mut rest: Vec<String> = match parameters.get("last") {
        Some(last) => entries.into_iter().filter(|entry| entry.as_str() > last).collect(),
        None => entries,
    };
    let more = rest.len() > size;
    rest.truncate(size);
    let next = rest.last().filter(|_| more).map(|last| format!("<{path}?n={size}&last={last}>; rel=\"next\""));
    let mut body = json!({ field: rest });
    if let Some(name) = name {
        body["name"] = json!(name.as_str());
    }
    let mut response = json(StatusCode::OK, &body);
    if let Some(link) = next.and_then(|link| link.parse().ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
