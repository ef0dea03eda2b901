//! `/wherry/v1/images`: what `hub push`, `hub images` and `hub rmi` talk to.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{delete, get};
use http::StatusCode;
use hub_core::status::ApiError;
use protocol::ids::Digest;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::blobs::BlobError;
use super::index::{ImageKind, Removed};
use super::intake::{IntakeError, blocking};
use super::oci::{self, chain, refusal};
use super::reference::{InvalidReference, Reference, RepositoryName, Tag, Version};

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    /// `name:tag`.
    pub name: String,
    /// The manifest's.
    pub digest: String,
    /// Of what nodes run: not the pushed file's where that was a preview 1 module.
    pub component: String,
    pub kind: ImageKind,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageList {
    pub images: Vec<ImageSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    pub name: String,
    /// `None`: pushed by digest, or kept for the pods that use it.
    pub tag: Option<String>,
    pub digest: String,
    pub component: String,
    pub kind: ImageKind,
    pub layers: usize,
    pub bytes: u64,
    pub pushed_unix_seconds: i64,
}

pub(super) fn router(registry: Registry) -> Router {
    Router::new()
        .route("/wherry/v1/images", get(list).post(push))
        .route("/wherry/v1/images/{*reference}", delete(remove))
        .with_state(registry)
}

impl Registry {
    /// Every image under each of its names, in order.
    pub fn images(&self) -> ImageList {
        let index = self.index();
        let mut images = Vec::new();
        for (name, repository) in index.repositories() {
            for (digest, image) in &repository.images {
                let summary = |tag: Option<&String>| ImageSummary {
                    name: name.to_owned(),
                    tag: tag.cloned(),
                    digest: digest.to_string(),
                    component: image.component.to_string(),
                    kind: image.kind,
                    layers: image.files.len(),
                    bytes: image.bytes,
                    pushed_unix_seconds: image.pushed_unix_seconds,
                };
                let tags: Vec<_> =
                    repository.tags.iter().filter(|(_, tagged)| *tagged == digest).map(|(tag, _)| tag).collect();
                if tags.is_empty() {
                    images.push(summary(None));
                }
                images.extend(tags.into_iter().map(|tag| summary(Some(tag))));
            }
        }
        images.sort_by(|a, b| (&a.name, &a.tag).cmp(&(&b.name, &b.tag)));
        ImageList { images }
    }
}

async fn list(State(registry): State<Registry>) -> Response {
    let list = serde_json::to_value(registry.images()).expect("names and numbers have a JSON");
    oci::json(StatusCode::OK, &list)
}

async fn push(State(registry): State<Registry>, RawQuery(query): RawQuery, body: Body) -> Response {
    match take(&registry, &query.unwrap_or_default(), body).await {
        Ok(pushed) => {
            let pushed = serde_json::to_value(pushed).expect("names and numbers have a JSON");
            oci::json(StatusCode::CREATED, &pushed)
        }
        Err(error) => status_response(&error),
    }
}

async fn take(registry: &Registry, query: &str, body: Body) -> Result<Pushed, ApiError> {
    let parameters = oci::Parameters::parse(query);
    let reference = parameters.get("name").ok_or_else(|| ApiError::bad_request("the name parameter is missing"))?;
    let (name, tag) = name_and_tag(reference)?;
    let version = Version::Tag(tag.clone());
    let layers = parameters.get("layers").unwrap_or_default().split(',').filter(|text| !text.is_empty());
    let layers = layers.map(|text| {
        text.parse().map_err(|_| ApiError::bad_request(InvalidReference::Digest { digest: text.into() }.to_string()))
    });
    let layers = layers.collect::<Result<Vec<Digest>, _>>()?;

    let refused = |status: StatusCode, error: &dyn std::error::Error| {
        let reason = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
            StatusCode::INSUFFICIENT_STORAGE | StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
            StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
            StatusCode::NOT_FOUND => "NotFound",
            _ => "BadRequest",
        };
        ApiError::new(status.as_u16(), reason, format!("cannot take image {reference}: {}", chain(error)))
    };
    let blob_refused = |error: BlobError| {
        let error = IntakeError::Store(error);
        refused(refusal(&error), &error)
    };
    let mut incoming = registry.shared.blobs.receive(registry.shared.limits.image).map_err(blob_refused)?;
    oci::receive(&mut incoming, body).await.map_err(|error| refused(error.status(), &error))?;
    let wasm = blocking(move || incoming.keep(None)).await.map_err(blob_refused)?;
    let taken = registry.take_push(&name, &version, wasm, &layers).await;
    let (digest, image) = taken.map_err(|error| refused(refusal(&error), &error))?;
    Ok(Pushed {
        name: format!("{name}:{tag}"),
        digest: digest.to_string(),
        component: image.component.to_string(),
        kind: image.kind,
        bytes: image.bytes,
    })
}

/// A push goes to a tag: its digest is not known before.
fn name_and_tag(reference: &str) -> Result<(RepositoryName, Tag), ApiError> {
    match reference.parse().map_err(|error: InvalidReference| ApiError::bad_request(error.to_string()))? {
        Reference::Named { name, version: Version::Tag(tag), .. } => Ok((name, tag)),
        Reference::Named { version: Version::Digest(_), .. } | Reference::Bare(_) => {
            Err(ApiError::bad_request(format!("push to a tag, not to a digest: {reference}")))
        }
    }
}

async fn remove(State(registry): State<Registry>, Path(reference): Path<String>) -> Response {
    let removed = match target(&registry, &reference) {
        Ok((name, version)) => {
            let registry = registry.clone();
            match blocking(move || registry.remove(&name, &version)).await {
                Ok(Removed::Yes) => Ok(()),
                Ok(Removed::No) => Err(unknown(&reference)),
                Err(error) => Err(ApiError::internal(chain(&error))),
            }
        }
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => oci::json(StatusCode::OK, &serde_json::json!({"removed": reference})),
        Err(error) => status_response(&error),
    }
}

fn target(registry: &Registry, reference: &str) -> Result<(RepositoryName, Version), ApiError> {
    match reference.parse().map_err(|error: InvalidReference| ApiError::bad_request(error.to_string()))? {
        Reference::Named { name, version, .. } => Ok((name, version)),
        Reference::Bare(digest) => {
            let index = registry.index();
            let (name, manifest, _) = index.find_anywhere(&digest).ok_or_else(|| unknown(reference))?;
            let name = name.parse().expect("names in the index were parsed when they came in");
            Ok((name, Version::Digest(manifest)))
        }
    }
}

fn unknown(reference: &str) -> ApiError {
    ApiError::not_found("wherry.dev", "images", reference)
}

fn status_response(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    oci::json(status, &error.to_json())
}
