//! The API as its clients meet it: HTTPS to a whole hub in this process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends where it stands")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hub::clock::{Clock, Entropy};
use hub::config::{Config, Settings};
use hub::serve::Hub;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Anything that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A hub, and its administrator.
struct Fixture {
    hub: Hub,
    admin: Client,
    directory: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::start(config(directory.path()), Clock::system(), Entropy::system()).await.unwrap();
        let admin = Client::from_kubeconfig(&directory.path().join("admin.kubeconfig"));
        Self { hub, admin, directory }
    }

    async fn stop(self) {
        timeout(PATIENCE, self.hub.stop()).await.expect("a hub stops");
    }
}

fn config(directory: &Path) -> Config {
    Config::resolve(Settings {
        data_dir: Some(directory.to_owned()),
        listen: Some("127.0.0.1:0".into()),
        mqtt_listen: Some("127.0.0.1:0".into()),
        ..Settings::default()
    })
    .unwrap()
}

/// One HTTP/1 connection a request: nothing to share, nothing to leak.
#[derive(Clone)]
struct Client {
    address: String,
    tls: Arc<ClientConfig>,
    token: Option<String>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }
}

impl Client {
    fn from_kubeconfig(path: &Path) -> Self {
        let config: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let pem = |value: &Value| BASE64.decode(value.as_str().unwrap()).unwrap();
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem(&cluster["certificate-authority-data"])).unwrap()).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem(&user["client-certificate-data"])).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])).unwrap();
        let tls = builder(roots).with_client_auth_cert(vec![certificate], key).unwrap();
        let address = cluster["server"].as_str().unwrap().trim_start_matches("https://").to_owned();
        Self { address, tls: Arc::new(tls), token: None }
    }

    /// The same server, nothing to show.
    fn stranger(&self, hub: &Hub) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(hub.pki().authority().certificate().clone()).unwrap();
        Self { tls: Arc::new(builder(roots).with_no_client_auth()), ..self.clone() }
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> http::Response<Incoming> {
        let tcp = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(self.tls.clone()).connect(name, tcp).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let exchange = async {
            let response = self.open(method, path, headers, body).await;
            let (parts, body) = response.into_parts();
            Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
        };
        timeout(PATIENCE, exchange).await.expect("the hub answers")
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    async fn post(&self, path: &str, value: &Value) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], value.to_string().into_bytes()).await
    }

    async fn patch(&self, path: &str, kind: &str, value: &Value) -> Answer {
        let kind = format!("application/{kind}");
        self.send(Method::PATCH, path, &[("content-type", &kind)], value.to_string().into_bytes()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Vec::new()).await
    }
}

fn builder(roots: RootCertStore) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    versions.with_root_certificates(roots)
}

const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_401_and_tokens_what_is_theirs() {
    let fixture = Fixture::start().await;
    let stranger = fixture.admin.stranger(&fixture.hub);
    for path in ["/api", "/version", "/healthz", "/api/v1/pods", "/v2/", "/wherry/v1/tokens", "/nothing"] {
        let answer = stranger.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(stranger.get("/api/v1/pods").await.json()["reason"], "Unauthorized");
    assert_eq!(stranger.post("/wherry/v1/join", &json!({})).await.status, 400, "joining brings its own token");

    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = fixture.admin.post(path, &json!({"spec": {}})).await;
    assert_eq!(answer.status, 201);
    let token = answer.json()["status"]["token"].as_str().unwrap().to_owned();
    let account = Client { token: Some(token), ..stranger.clone() };
    let review = account.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.json();
    assert_eq!(review["status"]["userInfo"]["username"], "system:serviceaccount:default:default");
    assert_eq!(account.get("/api/v1/pods").await.status, 403);
    let forged = Client { token: Some("a.b.c".into()), ..stranger };
    assert_eq!(forged.get("/api").await.status, 401);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_created_read_changed_and_deleted() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    let created = admin.post(CONFIGS, &config_map("one")).await;
    assert_eq!(
        (created.status, created.json()["metadata"]["namespace"].as_str()),
        (StatusCode::CREATED, Some("default"))
    );
    let again = admin.post(CONFIGS, &config_map("one")).await;
    assert_eq!((again.status, again.json()["reason"].as_str()), (StatusCode::CONFLICT, Some("AlreadyExists")));

    let path = format!("{CONFIGS}/one");
    let merged = admin.patch(&path, "merge-patch+json", &json!({"data": {"a": null, "b": "2"}})).await;
    assert_eq!(merged.json()["data"], json!({"b": "2"}));
    let listed = admin.patch(&path, "json-patch+json", &json!([{"op": "add", "path": "/data/c", "value": "3"}])).await;
    assert_eq!(listed.json()["data"], json!({"b": "2", "c": "3"}));
    let failed = admin.patch(&path, "json-patch+json", &json!([{"op": "test", "path": "/data/c", "value": "4"}])).await;
    assert_eq!(failed.status, 422);
    assert_eq!(admin.delete("/api/v1/namespaces/default").await.status, 403, "some namespaces stay");
    let refused = admin.patch(&path, "apply-patch+yaml", &json!({})).await;
    assert_eq!(
        (refused.status, refused.json()["reason"].as_str()),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("UnsupportedMediaType"))
    );

    let mut old = created.json();
    old["data"] = json!({"d": "4"});
    let conflict = admin.send(Method::PUT, &path, &[], old.to_string().into_bytes()).await;
    assert_eq!((conflict.status, conflict.json()["reason"].as_str()), (StatusCode::CONFLICT, Some("Conflict")));
    old["metadata"]["resourceVersion"] = Value::Null;
    assert_eq!(
        admin.send(Method::PUT, &path, &[], old.to_string().into_bytes()).await.json()["data"],
        json!({"d": "4"})
    );

    let dry = admin.delete(&format!("{path}?dryRun=All")).await;
    assert_eq!(dry.status, 200);
    let gone = admin.delete(&path).await.json();
    assert_eq!(
        (&gone["kind"], &gone["status"], &gone["details"]["name"]),
        (&json!("Status"), &json!("Success"), &json!("one"))
    );
    let missing = admin.get(&path).await;
    assert_eq!(missing.json()["message"], "configmaps \"one\" not found");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_warned_of_or_ignored() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    let mut value = deployment("web");
    value["spec"]["replicsa"] = json!(3);
    let strict = admin.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &value).await;
    assert_eq!(strict.status, 400);
    assert!(strict.json()["message"].as_str().unwrap().contains("unknown field \"spec.replicsa\""));
    let warned = admin.post(&format!("{DEPLOYMENTS}?dryRun=All"), &value).await;
    assert_eq!(warned.status, 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.replicsa\\\"\"");
    let ignored = admin.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore&dryRun=All"), &value).await;
    assert!(ignored.headers.get("warning").is_none());
    value["spec"]["replicas"] = json!("many");
    let wrong = admin.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &value).await;
    assert_eq!(wrong.status, 400);
    let negative = admin.patch(&format!("{DEPLOYMENTS}/none"), "merge-patch+json", &json!({})).await;
    assert_eq!(negative.status, 404);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_and_do_no_harm() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    let check = async |method: Method, path: &str, kind: &str, body: &[u8], code: u16| {
        let answer = admin.send(method, path, &[("content-type", kind)], body.to_vec()).await;
        assert_eq!(answer.status, code, "{path} {kind} {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json()["kind"], "Status");
    };
    let json = "application/json";
    check(Method::POST, CONFIGS, json, b"", 400).await;
    check(Method::POST, CONFIGS, json, b"{\"a\":", 400).await;
    check(Method::POST, CONFIGS, json, b"[]", 400).await;
    check(Method::POST, CONFIGS, json, "[".repeat(5000).as_bytes(), 400).await;
    check(Method::POST, CONFIGS, "text/plain", b"hello", 415).await;
    check(Method::POST, CONFIGS, "application/vnd.kubernetes.protobuf", b"k8s\0\xff\xff\xff", 400).await;
    check(Method::POST, CONFIGS, json, &vec![b' '; 4 << 20], 413).await;
    check(Method::POST, "/api/v1/configmaps", json, b"{}", 405).await;
    check(Method::PUT, CONFIGS, json, b"{}", 405).await;
    check(Method::GET, "/api/v1/pods?limit=x", json, b"", 400).await;
    check(Method::GET, "/api/v1/pods?labelSelector=a+in+(b", json, b"", 400).await;
    check(Method::GET, "/api/v1/pods?fieldSelector=spec.colour%3Dred", json, b"", 400).await;
    check(Method::GET, "/api/v1/pods?continue=xyz", json, b"", 400).await;
    check(Method::GET, "/api/v1/pods?resourceVersion=99999999", json, b"", 504).await;
    for nothing in ["/api/v1/namespaces/default/nodes", "/apis/none.example/v1/things", "/%00%ff"] {
        let answer = admin.get(nothing).await;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::NOT_FOUND, &b"404 page not found\n"[..]),
            "{nothing}"
        );
    }
    let accept = admin.send(Method::GET, CONFIGS, &[("accept", "application/yaml")], Vec::new()).await;
    assert_eq!(accept.status, 406);
    let other = json!({"metadata": {"name": "x", "namespace": "other"}});
    assert_eq!(admin.post(CONFIGS, &other).await.status, 400);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_tables_and_metadata() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    for name in ["a", "b", "c"] {
        admin.post(CONFIGS, &config_map(name)).await;
    }
    let first = admin.get(&format!("{CONFIGS}?limit=2")).await.json();
    assert_eq!((first["items"].as_array().unwrap().len(), &first["metadata"]["remainingItemCount"]), (2, &json!(1)));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = admin.get(&format!("{CONFIGS}?limit=2&continue={token}")).await.json();
    assert_eq!(
        (second["items"][0]["metadata"]["name"].as_str(), second["metadata"].get("continue")),
        (Some("c"), None)
    );
    assert_eq!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);

    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let answer = admin.send(Method::GET, CONFIGS, &table, Vec::new()).await.json();
    assert_eq!((&answer["kind"], answer["rows"].as_array().unwrap().len()), (&json!("Table"), 3));
    assert_eq!(answer["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(answer["columnDefinitions"][0]["name"], "Name");
    let metadata = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let answer = admin.send(Method::GET, CONFIGS, &metadata, Vec::new()).await.json();
    assert_eq!((&answer["kind"], answer["items"][0].get("data")), (&json!("PartialObjectMetadataList"), None));
    fixture.stop().await;
}

/// Reads a watch line by line.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    async fn open(client: &Client, path: &str) -> Self {
        let response = timeout(PATIENCE, client.open(Method::GET, path, &[], Vec::new())).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event's type and object; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                return Some((event["type"].as_str().unwrap().to_owned(), event["object"].clone()));
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("the watch goes on")?;
            self.rest.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let (found, object) = self.next().await.expect("there is an event");
        assert_eq!((found.as_str(), object["metadata"]["name"].as_str().unwrap_or_default()), (kind, name));
        object
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_and_what_happens() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    admin.post(CONFIGS, &config_map("one")).await;
    let initial = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(admin, &format!("{CONFIGS}?{initial}")).await;
    lines.expect("ADDED", "one").await;
    let bookmark = lines.expect("BOOKMARK", "").await;
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");

    let labelled = "watch=true&labelSelector=on&resourceVersion=";
    let version = bookmark["metadata"]["resourceVersion"].as_str().unwrap();
    let mut filtered = Lines::open(admin, &format!("{CONFIGS}?{labelled}{version}")).await;
    let path = format!("{CONFIGS}/one");
    admin.patch(&path, "merge-patch+json", &json!({"metadata": {"labels": {"on": "1"}}})).await;
    admin.patch(&path, "merge-patch+json", &json!({"metadata": {"labels": null}})).await;
    filtered.expect("ADDED", "one").await;
    filtered.expect("DELETED", "one").await;
    lines.expect("MODIFIED", "one").await;
    lines.expect("MODIFIED", "one").await;
    admin.delete(&path).await;
    lines.expect("DELETED", "one").await;
    fixture.stop().await;
    assert_eq!(lines.next().await, None, "a hub that stops ends its watches");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_the_history_is_told_so_in_its_stream() {
    let fixture = Fixture::start().await;
    fixture.admin.post(CONFIGS, &config_map("one")).await;
    let directory = fixture.directory.path().to_owned();
    timeout(PATIENCE, fixture.hub.stop()).await.unwrap();
    // The history is in memory: after a restart, everything before is gone.
    let hub = Hub::start(config(&directory), Clock::system(), Entropy::system()).await.unwrap();
    let admin = Client::from_kubeconfig(&directory.join("admin.kubeconfig"));
    assert_eq!(admin.get(&format!("{CONFIGS}/one")).await.status, 200, "what was acknowledged is there");
    let mut lines = Lines::open(&admin, &format!("{CONFIGS}?watch=true&resourceVersion=1")).await;
    let (kind, status) = lines.next().await.unwrap();
    assert_eq!((kind.as_str(), &status["code"], &status["reason"]), ("ERROR", &json!(410), &json!("Expired")));
    assert_eq!(lines.next().await, None);
    timeout(PATIENCE, hub.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_is_one_number() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    assert_eq!(admin.post(DEPLOYMENTS, &deployment("web")).await.status, 201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = admin.get(&path).await.json();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(0), &json!("app=web")));
    let scaled = admin.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 2}})).await;
    assert_eq!(scaled.json()["spec"]["replicas"], 2);
    assert_eq!(admin.get(&format!("{DEPLOYMENTS}/web")).await.json()["spec"]["replicas"], 2);
    let refused = admin.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": -2}})).await;
    assert_eq!(refused.status, 422);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_once_asked_for_its_log_and_evicted() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "none:1"}]}});
    assert_eq!(admin.post(pods, &pod).await.status, 201);
    let log = admin.get(&format!("{pods}/p/log")).await;
    assert_eq!(log.status, 400, "no node has it yet");

    let binding = json!({"target": {"kind": "Node", "name": "pi"}});
    assert_eq!(admin.post(&format!("{pods}/p/binding"), &binding).await.status, 201);
    let again = admin.post(&format!("{pods}/p/binding"), &binding).await;
    assert_eq!((again.status, again.json()["reason"].as_str()), (StatusCode::CONFLICT, Some("Conflict")));
    assert_eq!(admin.get(&format!("{pods}/p")).await.json()["spec"]["nodeName"], "pi");
    let log = admin.get(&format!("{pods}/p/log?container=other")).await;
    assert_eq!(log.status, 400);

    let eviction = json!({"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 7}});
    assert_eq!(admin.post(&format!("{pods}/p/eviction?dryRun=All"), &eviction).await.status, 201);
    assert!(admin.get(&format!("{pods}/p")).await.json()["metadata"].get("deletionTimestamp").is_none());
    assert_eq!(admin.post(&format!("{pods}/p/eviction"), &eviction).await.status, 201);
    assert_eq!(admin.get(&format!("{pods}/p")).await.json()["metadata"]["deletionGracePeriodSeconds"], 7);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_leases_that_nobody_wrote() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    assert_eq!(admin.post("/api/v1/nodes", &json!({"metadata": {"name": "pi"}})).await.status, 201);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(admin.get(&format!("{leases}/pi")).await.json()["spec"]["holderIdentity"], "pi");
    assert_eq!(admin.get(leases).await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get(&format!("{leases}/other")).await.status, 404);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_told() {
    let fixture = Fixture::start().await;
    let admin = &fixture.admin;
    assert_eq!(admin.get("/api").await.json()["versions"], json!(["v1"]));
    let aggregated = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let groups = admin.send(Method::GET, "/apis", &aggregated, Vec::new()).await;
    assert_eq!(groups.headers["content-type"], aggregated[0].1);
    assert_eq!(groups.json()["items"][0]["metadata"]["name"], "apps");

    let index = admin.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = admin.get(&url).await;
    assert!(document.headers["cache-control"].to_str().unwrap().contains("immutable"));
    let tag = document.headers["etag"].to_str().unwrap();
    let known = admin.send(Method::GET, &url, &[("if-none-match", tag)], Vec::new()).await;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let small = admin.send(Method::GET, &url, &[("accept-encoding", "gzip")], Vec::new()).await;
    assert!(small.body.len() * 3 < document.body.len());
    // Version 2 is there and empty: kubectl asks it for kinds that version 3 does not have.
    assert_eq!(admin.get("/openapi/v2").await.body, &b"\x0a\x032.0"[..]);
    let metrics = admin.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.body).contains("wherry_objects{resource=\"namespaces\"} 4"));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hub_a_directory_and_one_a_port() {
    let fixture = Fixture::start().await;
    let start = |config: Config| Hub::start(config, Clock::system(), Entropy::system());
    let second = start(config(fixture.directory.path())).await.err().expect("the directory is taken").to_string();
    assert!(second.contains("in use by another hub") && second.contains("--data-dir"), "{second}");
    let other = tempfile::tempdir().unwrap();
    let taken = Config { listen: fixture.hub.api(), ..config(other.path()) };
    let second = start(taken).await.err().expect("the port is taken").to_string();
    assert!(second.contains(&fixture.hub.api().to_string()) && second.contains("--listen"), "{second}");
    fixture.stop().await;
}
