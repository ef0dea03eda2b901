//! The registry over its HTTP surface, with a worker that judges text files.

use std::io::Write;
use std::path::Path;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::Service;

use super::*;
use crate::compiler::worker::fake;

/// "core ..." becomes a component, "command ..." and "server ..." are ones that run, "library ..." is not.
const WORKER: &str = r#"
input=$(cat)
case "$1 $input" in
"componentize core"*) printf 'command made of %s' "$input" ;;
"componentize command"* | "componentize server"* | "componentize library"*) printf '%s' "$input" ;;
"inspect command"*) echo '{"kind":"command","imports":[],"exports":["wasi:cli/run@0.2.0"]}' ;;
"inspect server"*) echo '{"kind":"http","imports":[],"exports":["wasi:http/incoming-handler@0.2.0"]}' ;;
"inspect library"*) echo '{"kind":"unknown","imports":[],"exports":["math:add/api"]}' ;;
*) echo 'it is no Wasm file' >&2; exit 1 ;;
esac
"#;

const LIMIT: u64 = 10_000;

pub(crate) fn registry(dir: &Path) -> Registry {
    let limits = Limits { image: LIMIT };
    let clock = Clock::manual(Clock::system().unix_millis());
    Registry::open(&dir.join("registry"), limits, fake::worker(dir, WORKER), clock, Entropy::counting()).unwrap()
}

/// Pushes a "component" and returns its digest.
pub(crate) async fn push(registry: &Registry, name: &str, content: &str) -> Digest {
    let answer = call(registry, "POST", &format!("/wherry/v1/images?name={name}"), &[], content).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json()["component"].as_str().unwrap().parse().unwrap()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn call(
    registry: &Registry,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.into())).unwrap();
    let response = registry.router().call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

fn manifest(layers: &[(&str, &[u8])]) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

async fn upload(registry: &Registry, bytes: &[u8]) {
    let uri = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(bytes));
    assert_eq!(call(registry, "POST", &uri, &[], bytes).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_push_is_found_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let mut changed = registry.changed();
    let component = push(&registry, "hello", "command 1").await;
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();

    let image = registry.resolve("hello").unwrap();
    assert_eq!((image.component, image.kind), (component, ImageKind::Command));
    for same in
        [&image.pinned, "oci://localhost:6443/hello:latest", &image.manifest.to_string(), &component.to_string()]
    {
        assert_eq!(registry.resolve(same).unwrap(), image, "{same}");
    }
    assert_eq!(registry.name_of(&component).as_deref(), Some("hello"));
    push(&registry, "hello", "command 1").await;
    assert!(!changed.has_changed().unwrap() || registry.images().images.len() == 1, "the same push is the same image");

    let listed = call(&registry, "GET", "/wherry/v1/images", &[], "").await.json();
    let first = &listed["images"][0];
    assert_eq!((&first["name"], &first["tag"], &first["kind"]), (&json!("hello"), &json!("latest"), &json!("command")));

    assert_eq!(call(&registry, "DELETE", "/wherry/v1/images/hello:v9", &[], "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(call(&registry, "DELETE", "/wherry/v1/images/hello:latest", &[], "").await.status, StatusCode::OK);
    let gone = registry.resolve("hello").unwrap_err().to_string();
    assert_eq!(gone, "image hello not found on this hub; push it with: hub push FILE hello");
}

#[tokio::test]
async fn a_restart_keeps_every_image() {
    let dir = tempfile::tempdir().unwrap();
    let before = registry(dir.path());
    push(&before, "plant/filter:v1", "server 1").await;
    let image = before.resolve("plant/filter:v1").unwrap();
    drop(before);
    assert_eq!(registry(dir.path()).resolve("plant/filter:v1").unwrap(), image);
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let check = async |name: &str, content: Vec<u8>, status: u16, message: &str| {
        let answer = call(&registry, "POST", &format!("/wherry/v1/images?name={name}"), &[], content).await;
        let told = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status.as_u16(), told.as_str()), (status, message), "{name}");
    };
    check("a", b"ELF".to_vec(), 422, "cannot take image a: the file cannot be run: it is no Wasm file").await;
    let library = "cannot take image a: the component exports neither wasi:cli/run (a command) nor \
                   wasi:http/incoming-handler (a server); it exports: math:add/api";
    check("a", b"library".to_vec(), 422, library).await;
    let large = vec![b'c'; LIMIT as usize + 1];
    check("a", large, 413, "cannot take image a: it is larger than 0 MiB, the most this hub takes").await;
    check("A", Vec::new(), 400, "\"A\" is no image name: use a-z, 0-9 and single . _ - or / between them").await;
    let layer = Digest::of(b"nowhere");
    let missing = format!("cannot take image a: blob {layer} was not pushed before its manifest");
    check(&format!("a&layers={layer}"), b"command".to_vec(), 404, &missing).await;
    assert_eq!(registry.images().images, []);

    let foreign = registry.resolve("docker.io/library/nginx:1").unwrap_err().to_string();
    assert!(foreign.contains("docker.io") && foreign.contains("name it library/nginx"), "{foreign}");
}

#[tokio::test]
async fn a_preview_1_module_runs_as_the_component_made_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let component = push(&registry, "old", "core module").await;
    assert_eq!(component, Digest::of(b"command made of core module"));
    let file = registry.blob(&component).unwrap();
    assert_eq!(std::fs::read(file.path).unwrap(), b"command made of core module");
    assert!(registry.blob(&Digest::of(b"core module")).is_some(), "who pulls it gets what was pushed");
}

#[tokio::test]
async fn layers_of_files_travel_as_zstd() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let tar = b"a tar archive";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    for layer in [&gzip, &zstd] {
        upload(&registry, layer).await;
    }
    let layers = format!("{},{}", Digest::of(&gzip), Digest::of(&zstd));
    push(&registry, &format!("files&layers={layers}"), "command").await;
    let image = registry.resolve("files").unwrap();
    assert_eq!(image.layers.len(), 2);
    for layer in &image.layers {
        let file = registry.blob(&layer.digest).unwrap();
        assert_eq!(file.bytes, layer.bytes);
        assert_eq!(zstd::decode_all(std::fs::File::open(file.path).unwrap()).unwrap(), tar);
    }
    assert_eq!(image.layers[1].digest, Digest::of(&zstd), "what is zstd already stays as it is");

    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 1_000_000]).unwrap();
    for bad in [bomb.finish().unwrap(), b"\x1f\x8b and no gzip".to_vec()] {
        upload(&registry, &bad).await;
        let uri = format!("/wherry/v1/images?name=bad&layers={}", Digest::of(&bad));
        let answer = call(&registry, "POST", &uri, &[], "command").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text());
    }
}

#[tokio::test]
async fn standard_clients_push_and_pull() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    assert_eq!(call(&registry, "GET", "/v2/", &[], "").await.status, StatusCode::OK);

    // In pieces, as oras and docker do.
    let started = call(&registry, "POST", "/v2/a/b/blobs/uploads/", &[], "").await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    let session = started.header("location").to_owned();
    let first = call(&registry, "PATCH", &session, &[("content-range", "0-6")], "command").await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, "0-6"));
    let gap = call(&registry, "PATCH", &session, &[("content-range", "9-10")], "??").await;
    assert_eq!((gap.status, gap.header("range")), (StatusCode::RANGE_NOT_SATISFIABLE, "0-6"));
    assert_eq!(call(&registry, "GET", &session, &[], "").await.header("range"), "0-6");
    let wasm = b"command 2";
    let finish = format!("{session}?digest={}", Digest::of(wasm).to_string().replace(':', "%3A"));
    let finished = call(&registry, "PUT", &finish, &[("content-range", "7-8")], " 2").await;
    assert_eq!(finished.status, StatusCode::CREATED, "{}", finished.text());
    assert_eq!(finished.header("docker-content-digest"), Digest::of(wasm).to_string());
    assert_eq!(call(&registry, "PUT", &finish, &[], "").await.status, StatusCode::NOT_FOUND, "it is finished");

    let pushed = manifest(&[("application/vnd.wasm.content.layer.v1+wasm", wasm)]);
    let early = call(&registry, "PUT", "/v2/a/b/manifests/v1", &[], pushed.clone()).await;
    assert_eq!(early.json()["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
    upload(&registry, b"{}").await;
    let put = call(&registry, "PUT", "/v2/a/b/manifests/v1", &[], pushed.clone()).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text());

    let head = call(&registry, "HEAD", "/v2/a/b/manifests/v1", &[], "").await;
    assert_eq!((head.header("content-length"), head.body.len()), (pushed.len().to_string().as_str(), 0));
    let digest = head.header("docker-content-digest").to_owned();
    let pulled = call(&registry, "GET", &format!("/v2/a/b/manifests/{digest}"), &[], "").await;
    assert_eq!((&pulled.body, pulled.header("content-type")), (&pushed, "application/vnd.oci.image.manifest.v1+json"));
    let blob = call(&registry, "GET", &format!("/v2/a/b/blobs/{}", Digest::of(wasm)), &[], "").await;
    assert_eq!(blob.body, wasm);
    assert_eq!(registry.resolve("a/b:v1").unwrap().component, Digest::of(wasm));

    call(&registry, "PUT", "/v2/a/b/manifests/v2", &[], pushed.clone()).await;
    let tags = call(&registry, "GET", "/v2/a/b/tags/list?n=1", &[], "").await;
    assert_eq!(tags.json(), json!({"tags": ["v1"], "name": "a/b"}));
    assert_eq!(tags.header("link"), "</v2/a/b/tags/list?n=1&last=v1>; rel=\"next\"");
    assert_eq!(call(&registry, "GET", "/v2/_catalog", &[], "").await.json(), json!({"repositories": ["a/b"]}));

    assert_eq!(call(&registry, "DELETE", "/v2/a/b/manifests/v1", &[], "").await.status, StatusCode::ACCEPTED);
    assert_eq!(call(&registry, "GET", "/v2/a/b/manifests/v1", &[], "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(call(&registry, "GET", "/v2/a/b/manifests/v2", &[], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn lying_clients_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let check = async |method: &str, uri: &str, body: Vec<u8>, status: u16, code: &str| {
        let answer = call(&registry, method, uri, &[], body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {uri}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["code"], code, "{method} {uri}");
    };
    let other = Digest::of(b"other");
    check("POST", &format!("/v2/a/blobs/uploads/?digest={other}"), b"x".to_vec(), 400, "DIGEST_INVALID").await;
    check("POST", "/v2/a/blobs/uploads/?digest=md5:1", Vec::new(), 400, "DIGEST_INVALID").await;
    let large = vec![0; LIMIT as usize + 1];
    let uri = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&large));
    check("POST", &uri, large, 413, "SIZE_INVALID").await;
    check("PUT", "/v2/a/manifests/v1", b"{}".to_vec(), 400, "MANIFEST_INVALID").await;
    check("PUT", &format!("/v2/a/manifests/{other}"), b"{}".to_vec(), 400, "DIGEST_INVALID").await;
    check("PATCH", "/v2/a/blobs/uploads/1", Vec::new(), 404, "BLOB_UPLOAD_UNKNOWN").await;
    check("GET", "/v2/a/tags/list", Vec::new(), 404, "NAME_UNKNOWN").await;
    check("GET", &format!("/v2/a/blobs/{other}"), Vec::new(), 404, "BLOB_UNKNOWN").await;
    check("DELETE", "/v2/a/manifests/v1", Vec::new(), 404, "MANIFEST_UNKNOWN").await;
    check("DELETE", &format!("/v2/a/blobs/{other}"), Vec::new(), 405, "UNSUPPORTED").await;
    check("GET", "/v2/../../etc/passwd", Vec::new(), 404, "UNSUPPORTED").await;

    upload(&registry, b"command").await;
    upload(&registry, b"{}").await;
    let mut lie: Value = serde_json::from_slice(&manifest(&[("application/wasm", b"command")])).unwrap();
    lie["layers"][0]["size"] = json!(3);
    check("PUT", "/v2/a/manifests/v1", lie.to_string().into_bytes(), 400, "SIZE_INVALID").await;
    lie["layers"][0]["size"] = json!(u64::MAX);
    check("PUT", "/v2/a/manifests/v1", lie.to_string().into_bytes(), 413, "SIZE_INVALID").await;
    assert_eq!(registry.images().images, []);
}

#[tokio::test]
async fn only_what_nobody_uses_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry(dir.path());
    let component = push(&registry, "a", "command 1").await;
    let image = registry.resolve("a").unwrap();
    // Blobs are dated by the disk's clock; ours says that they are old.
    registry.shared.clock.set(Clock::system().unix_millis() + 2 * blobs::GRACE.as_millis() as u64);

    let used = Arc::new(Mutex::new(None));
    let asked = used.clone();
    registry.keep_what_is_in_use(Box::new(move || asked.lock().unwrap().clone()));
    push(&registry, "a", "command 2").await;
    assert!(registry.resolve(&image.pinned).is_ok(), "what is in use is not known yet");

    *used.lock().unwrap() = Some(BTreeSet::from([image.manifest]));
    push(&registry, "a", "command 3").await;
    assert_eq!(registry.resolve(&image.pinned).unwrap().component, component, "a pod uses it");
    assert!(registry.blob(&component).is_some());
    assert!(registry.blob(&Digest::of(b"command 2")).is_none(), "nobody does");

    *used.lock().unwrap() = Some(BTreeSet::new());
    call(&registry, "DELETE", "/wherry/v1/images/a", &[], "").await;
    assert!(registry.blob(&component).is_none());
    assert_eq!(registry.shared.blobs.list().unwrap(), []);
}
