//! `/v2`: OCI distribution 1.1, as far as pushing and pulling needs it.
//!
//! Left out, as the specification allows: deleting single blobs, ranges of blobs, and referrers.
//! Blobs are shared by all repositories.

mod answer;
mod path;

use std::path::Path as FilePath;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use futures_util::StreamExt;
use http::{HeaderMap, Method, StatusCode, header};
use protocol::ids::Digest;
use tokio_util::io::ReaderStream;

use super::Registry;
use super::blobs::{BlobError, Incoming};
use super::index::Removed;
use super::intake::blocking;
use super::reference::{RepositoryName, Version};
use answer::{OciError, created, empty, page};
use path::Route;

pub(super) use answer::{chain, json, refusal};
pub(super) use path::Parameters;

/// OCI distribution 1.1 asks registries to take manifests of at least 4 MiB.
const MANIFEST_MAX: u64 = 4 << 20;
/// How long a body that is refused is still read, so that the client gets to the answer.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) fn router(registry: Registry) -> Router {
    Router::new().route("/v2", any(ping)).route("/v2/", any(ping)).route("/v2/{*path}", any(serve)).with_state(registry)
}

async fn ping() -> Response {
    json(StatusCode::OK, &serde_json::json!({}))
}

async fn serve(State(registry): State<Registry>, request: Request) -> Response {
    match dispatch(&registry, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn dispatch(registry: &Registry, request: Request) -> Result<Response, OciError> {
    let (parts, body) = request.into_parts();
    let route: Route = parts.uri.path().parse()?;
    let parameters = Parameters::parse(parts.uri.query().unwrap_or_default());
    match (parts.method, route) {
        (Method::GET, Route::Catalog) => Ok(catalog(registry, &parameters)),
        (Method::GET, Route::Tags(name)) => tags(registry, &name, &parameters),
        (method @ (Method::GET | Method::HEAD), Route::Blob(_, digest)) => blob(registry, &method, &digest).await,
        (method @ (Method::GET | Method::HEAD), Route::Manifest(name, version)) => {
            manifest(registry, &method, &name, &version).await
        }
        (Method::PUT, Route::Manifest(name, version)) => put_manifest(registry, &name, &version, body).await,
        (Method::DELETE, Route::Manifest(name, version)) => delete_manifest(registry, name, version).await,
        (Method::POST, Route::Uploads(name)) => start_upload(registry, &name, &parameters, body).await,
        (Method::PATCH, Route::Upload(name, id)) => append(registry, &name, &id, &parts.headers, body).await,
        (Method::PUT, Route::Upload(name, id)) => finish(registry, &name, &id, &parameters, &parts.headers, body).await,
        (Method::GET, Route::Upload(name, id)) => upload_status(registry, &name, &id).await,
        (Method::DELETE, Route::Upload(_, id)) => match registry.shared.uploads.end(&id) {
            Some(_) => Ok(empty(StatusCode::NO_CONTENT)),
            None => Err(OciError::UploadUnknown),
        },
        (
            _,
            Route::Catalog
            | Route::Tags(_)
            | Route::Blob(..)
            | Route::Manifest(..)
            | Route::Uploads(_)
            | Route::Upload(..),
        ) => Err(OciError::Unsupported),
    }
}

fn catalog(registry: &Registry, parameters: &Parameters) -> Response {
    let names: Vec<String> = registry.index().repositories().map(|(name, _)| name.to_owned()).collect();
    page("repositories", None, "/v2/_catalog", names, parameters)
}

fn tags(registry: &Registry, name: &RepositoryName, parameters: &Parameters) -> Result<Response, OciError> {
    let index = registry.index();
    let repository = index.repository(name).ok_or(OciError::NameUnknown)?;
    let tags = repository.tags.keys().cloned().collect();
    Ok(page("tags", Some(name), &format!("/v2/{name}/tags/list"), tags, parameters))
}

async fn blob(registry: &Registry, method: &Method, digest: &Digest) -> Result<Response, OciError> {
    let file = registry.blob(digest).ok_or(OciError::BlobUnknown)?;
    file_response(method, "application/octet-stream", digest, &file.path, file.bytes).await
}

async fn manifest(
    registry: &Registry,
    method: &Method,
    name: &RepositoryName,
    version: &Version,
) -> Result<Response, OciError> {
    let found = registry.index().find(name, version).map(|(digest, image)| (digest, image.media_type.clone()));
    let (digest, media_type) = found.ok_or(OciError::ManifestUnknown)?;
    let file = registry.blob(&digest).ok_or(OciError::ManifestUnknown)?;
    file_response(method, &media_type, &digest, &file.path, file.bytes).await
}

async fn file_response(
    method: &Method,
    media_type: &str,
    digest: &Digest,
    path: &FilePath,
    bytes: u64,
) -> Result<Response, OciError> {
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(ReaderStream::new(tokio::fs::File::open(path).await.map_err(BlobError::from)?)),
    };
    let response = Response::builder()
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CONTENT_LENGTH, bytes)
        .header("Docker-Content-Digest", digest.to_string());
    Ok(response.body(body).expect("these headers are valid: media types were checked when they came in"))
}

async fn put_manifest(
    registry: &Registry,
    name: &RepositoryName,
    version: &Version,
    body: Body,
) -> Result<Response, OciError> {
    let json = read(body, MANIFEST_MAX).await?;
    if let Version::Digest(expected) = version {
        let (expected, actual) = (*expected, Digest::of(&json));
        if expected != actual {
            return Err(BlobError::Mismatch { expected, actual }.into());
        }
    }
    let (digest, _) = registry.take_manifest(name, version, &json).await?;
    Ok(created(&format!("/v2/{name}/manifests/{digest}"), &digest))
}

async fn delete_manifest(registry: &Registry, name: RepositoryName, version: Version) -> Result<Response, OciError> {
    let registry = registry.clone();
    match blocking(move || registry.remove(&name, &version)).await? {
        Removed::Yes => Ok(empty(StatusCode::ACCEPTED)),
        Removed::No => Err(OciError::ManifestUnknown),
    }
}

async fn start_upload(
    registry: &Registry,
    name: &RepositoryName,
    parameters: &Parameters,
    body: Body,
) -> Result<Response, OciError> {
    if let Some(digest) = parameters.digest("mount")?.filter(|digest| registry.blob(digest).is_some()) {
        return Ok(blob_created(name, &digest));
    }
    let mut incoming = registry.shared.blobs.receive(registry.shared.limits.image)?;
    if let Some(digest) = parameters.digest("digest")? {
        receive(&mut incoming, body).await?;
        blocking(move || incoming.keep(Some(digest))).await?;
        return Ok(blob_created(name, &digest));
    }
    let id = registry.shared.entropy.uuid();
    registry.shared.uploads.start(id.clone(), incoming, registry.shared.clock.monotonic())?;
    Ok(upload_response(StatusCode::ACCEPTED, name, &id, 0))
}

async fn append(
    registry: &Registry,
    name: &RepositoryName,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, OciError> {
    let slot = registry.shared.uploads.get(id, registry.shared.clock.monotonic()).ok_or(OciError::UploadUnknown)?;
    let mut slot = slot.lock().await;
    let incoming = slot.as_mut().ok_or(OciError::UploadUnknown)?;
    check_start(headers, incoming.bytes())?;
    if let Err(error) = receive(incoming, body).await {
        // What came of the broken piece cannot be told from what the client will send again.
        *slot = None;
        registry.shared.uploads.end(id);
        return Err(error);
    }
    Ok(upload_response(StatusCode::ACCEPTED, name, id, incoming.bytes()))
}

async fn finish(
    registry: &Registry,
    name: &RepositoryName,
    id: &str,
    parameters: &Parameters,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, OciError> {
    let digest = parameters.digest("digest")?.ok_or(OciError::DigestMissing)?;
    let slot = registry.shared.uploads.end(id).ok_or(OciError::UploadUnknown)?;
    let mut incoming = slot.lock().await.take().ok_or(OciError::UploadUnknown)?;
    check_start(headers, incoming.bytes())?;
    receive(&mut incoming, body).await?;
    blocking(move || incoming.keep(Some(digest))).await?;
    Ok(blob_created(name, &digest))
}

async fn upload_status(registry: &Registry, name: &RepositoryName, id: &str) -> Result<Response, OciError> {
    let slot = registry.shared.uploads.get(id, registry.shared.clock.monotonic()).ok_or(OciError::UploadUnknown)?;
    let bytes = slot.lock().await.as_ref().map(Incoming::bytes).ok_or(OciError::UploadUnknown)?;
    Ok(upload_response(StatusCode::NO_CONTENT, name, id, bytes))
}

/// A piece that says where it starts must start where the last one ended.
fn check_start(headers: &HeaderMap, have: u64) -> Result<(), OciError> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    let start = range
        .to_str()
        .ok()
        .and_then(|range| range.trim_start_matches("bytes ").split_once('-')?.0.trim().parse::<u64>().ok());
    if start == Some(have) { Ok(()) } else { Err(OciError::Range { have }) }
}

fn blob_created(name: &RepositoryName, digest: &Digest) -> Response {
    created(&format!("/v2/{name}/blobs/{digest}"), digest)
}

fn upload_response(status: StatusCode, name: &RepositoryName, id: &str, bytes: u64) -> Response {
    let response = Response::builder()
        .status(status)
        .header(header::LOCATION, format!("/v2/{name}/blobs/uploads/{id}"))
        .header(header::RANGE, format!("0-{}", bytes.saturating_sub(1)))
        .header(header::CONTENT_LENGTH, 0)
        .header("Docker-Upload-UUID", id);
    response.body(Body::empty()).expect("names and ids are plain ASCII")
}

/// Reads a body into a blob. One that is too large is read on for a while and thrown away.
pub(super) async fn receive(incoming: &mut Incoming, body: Body) -> Result<(), OciError> {
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| OciError::Broken { why: error.to_string() })?;
        if let Err(error) = incoming.write(&piece) {
            let drained = tokio::time::timeout(DRAIN, pieces.for_each(|_| std::future::ready(()))).await;
            tracing::debug!(read_to_the_end = drained.is_ok(), "refused an upload");
            return Err(error.into());
        }
    }
    Ok(())
}

async fn read(body: Body, limit: u64) -> Result<Vec<u8>, OciError> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| OciError::Broken { why: error.to_string() })?);
        if bytes.len() as u64 > limit {
            return Err(BlobError::TooLarge { limit }.into());
        }
    }
    Ok(bytes)
}
