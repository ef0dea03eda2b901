//! The fleet, from a bound pod to what its node is told, and back; with nodes that lie, stutter and vanish.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{DEADLINE, NOW, copy, join_node, options, packet};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use hub::broker::embedded;
use hub::clock::{Clock, Entropy};
use hub::controllers::node_health::NodeHeartbeats;
use hub::controllers::world::World;
use hub::fleet::{ArtifactError, Artifacts, Fleet, NotReady, Parts, Start};
use hub::objects::{Changed, DeleteOptions, ImageResolver, Objects, WriteOptions};
use hub::pki::Pki;
use hub_core::kinds::{Resource, Subresource, find};
use hub_core::object::Object;
use hub_store::Backend;
use hub_store::memory::MemoryStore;
use protocol::blob::{ArtifactManifest, BlobAnswer, BlobRequest};
use protocol::desired::Desired;
use protocol::frame::{self, Frame, Message, Verify};
use protocol::limits::CHUNK;
use protocol::pod::{Image, PodSpec};
use protocol::presence::Presence;
use protocol::reported::{Capacity, MemoryProfile, NodeFacts, Phase, PodReport, Reported, Target};
use protocol::stream::{LogsRequest, StreamDown, StreamUp};
use protocol::topic::{Leaf, Topic};
use protocol::{BootId, Digest, Epoch, Generation, NodeName, PodUid, Stamp, UnixMillis};
use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

struct Known;

impl ImageResolver for Known {
    fn resolve(&self, reference: &str) -> Option<String> {
        Some(format!("{reference}@{}", Digest::of(b"component")))
    }
}

/// One image, one blob, no compiler.
struct OneImage {
    blob: PathBuf,
}

impl Artifacts for OneImage {
    fn image(&self, _pinned: &str) -> Option<Image> {
        Some(Image { component: Digest::of(b"component"), layers: vec![] })
    }

    fn artifact(
        &self,
        component: Digest,
        target: Target,
    ) -> BoxFuture<'static, Result<ArtifactManifest, ArtifactError>> {
        let digest = Digest::of(b"artifact");
        let manifest =
            ArtifactManifest { component, target, blob: digest, blob_bytes: 1, artifact: digest, artifact_bytes: 1 };
        Box::pin(std::future::ready(Ok(manifest)))
    }

    fn blob(&self, digest: Digest) -> Option<PathBuf> {
        (digest == Digest::of(b"artifact")).then(|| self.blob.clone())
    }
}

/// What outlives a hub process.
struct Disk {
    directory: tempfile::TempDir,
    store: Arc<Backend>,
}

struct Hub {
    pki: Pki,
    objects: Objects,
    fleet: Fleet,
    port: u16,
    stop: CancellationToken,
}

impl Disk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), store: Arc::new(Backend::from(MemoryStore::new())) }
    }

    async fn hub(&self, start: Start) -> Hub {
        let pki = Pki::open(&self.directory.path().join("keys"), &[], NOW).unwrap();
        let objects = Objects::new(self.store.clone(), Clock::system(), Entropy::system(), Arc::new(Known));
        for name in ["home", "default"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            // A second start finds them there.
            let _ = objects.create(row("namespaces"), object(namespace), WriteOptions::default()).await;
        }
        let (world, stop) = (World::new(), CancellationToken::new());
        let (follower, store, token) = (world.clone(), self.store.clone(), stop.clone());
        tokio::spawn(async move { follower.follow(store, token).await });
        let broker = embedded::start(pki.clone(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = broker.0.address().unwrap().port();
        let blob = self.directory.path().join("blob");
        std::fs::write(&blob, vec![7; CHUNK + 10]).unwrap();
        let parts = Parts {
            broker,
            pki: pki.clone(),
            objects: objects.clone(),
            world,
            heartbeats: Arc::new(NodeHeartbeats::default()),
            artifacts: Arc::new(OneImage { blob }),
            start,
        };
        let fleet = Fleet::start(parts).await.unwrap();
        Hub { pki, objects, fleet, port, stop }
    }
}

fn row(plural: &str) -> &'static Resource {
    find("", "v1", plural).expect("the kind is in the table")
}

fn object(value: serde_json::Value) -> Object {
    Object::from_value(value).expect("tests write objects")
}

impl Hub {
    /// Makes a pod and binds it, as a user and the scheduler would.
    async fn bind(&self, name: &str, node: &str) -> PodUid {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "home"},
            "spec": {"containers": [{"name": "main", "image": "known:1"}]},
        });
        let created = self.objects.create(row("pods"), object(pod), WriteOptions::default()).await.unwrap();
        let binding = WriteOptions { subresource: Some(Subresource::Binding), ..WriteOptions::default() };
        let bind = |pod: &mut Object| {
            pod.set(&["spec", "nodeName"], node);
            pod.set(&["status", "podIP"], "10.42.0.7");
            Ok(Changed::Yes)
        };
        self.objects.modify(row("pods"), "home", name, binding, bind).await.unwrap();
        created.uid().parse().unwrap()
    }

    async fn delete(&self, name: &str) {
        let options = DeleteOptions { grace_period_seconds: Some(5), ..DeleteOptions::default() };
        self.objects.delete(row("pods"), "home", name, options).await.unwrap();
    }

    /// Waits until an object is as wanted.
    async fn wait(&self, plural: &str, namespace: &str, name: &str, wanted: impl Fn(Option<&Object>) -> bool) {
        eventually(&format!("{plural} {name} is as wanted"), || {
            wanted(self.objects.get(row(plural), namespace, name).ok().as_ref())
        })
        .await;
    }

    async fn stop(self) {
        self.fleet.stop().await;
        self.stop.cancel();
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

/// The hub's key as a node keeps it.
struct HubKey(Vec<u8>);

impl Verify for HubKey {
    fn key_id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = Digest::of(&self.0).0;
        [a, b, c, d]
    }

    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &self.0);
        key.verify(message, signature).is_ok()
    }
}

/// An agent's link without an agent.
struct Node {
    name: NodeName,
    pki: Pki,
    client: AsyncClient,
    messages: mpsc::UnboundedReceiver<(Topic, Vec<u8>)>,
    poll: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

impl Node {
    /// Connects, subscribes to everything of its own, says that it is there.
    async fn connect(hub: &Hub, name: &str, papers: common::Papers, process: u64) -> Self {
        let mut options = options(&hub.pki, hub.port, name, papers);
        let name: NodeName = name.parse().unwrap();
        let presence = |online| Presence {
            boot: BootId([1; 16]),
            connection: 1,
            online,
            machine_id: name.as_str().to_owned(),
            process,
        };
        let topic = Topic::new(hub.pki.cluster(), &name, Leaf::Presence).to_string();
        let will = frame::encode(&presence(false)).unwrap();
        options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, true, None));
        let (client, mut event_loop) = AsyncClient::new(options, 50);
        packet(&mut event_loop, |packet| matches!(packet, Packet::ConnAck(_))).await.unwrap();
        client.try_subscribe(format!("wherry/1/{}/n/{name}/#", hub.pki.cluster()), QoS::AtLeastOnce).unwrap();
        packet(&mut event_loop, |packet| matches!(packet, Packet::SubAck(_))).await.unwrap();
        let (sender, messages) = mpsc::unbounded_channel();
        let poll = tokio::spawn(async move {
            while let Ok(Packet::Publish(publish)) =
                packet(&mut event_loop, |packet| matches!(packet, Packet::Publish(_))).await
            {
                let topic = Topic::parse(std::str::from_utf8(&publish.topic).unwrap());
                if let Some(topic) = topic.filter(|topic| !topic.leaf.is_from_node()) {
                    let _ = sender.send((topic, publish.payload.to_vec()));
                }
            }
        });
        let birth = presence(true);
        let node = Self { name, pki: hub.pki.clone(), client, messages, poll };
        node.say(Leaf::Presence, &birth);
        node
    }

    fn say<M: Message>(&self, leaf: Leaf, message: &M) {
        self.say_bytes(leaf, frame::encode(message).unwrap());
    }

    fn say_bytes(&self, leaf: Leaf, bytes: Vec<u8>) {
        let topic = Topic::new(self.pki.cluster(), &self.name, leaf).to_string();
        self.client.try_publish(topic, QoS::AtLeastOnce, leaf.is_retained(), bytes).unwrap();
    }

    fn report(&self, applied: Stamp, pods: Vec<PodReport>) {
        self.say(
            Leaf::Reported(0),
            &Reported {
                sent_at: UnixMillis(Clock::system().unix_millis()),
                boot: BootId([1; 16]),
                applied,
                shard: 0,
                shards: 1,
                node: Some(facts()),
                pods,
            },
        );
    }

    /// The next message of this kind, with its verified stamp.
    async fn next<M: Message>(&mut self) -> (Stamp, M) {
        let waiting = async {
            loop {
                let (topic, bytes) = self.messages.recv().await.expect("the link holds");
                let frame = Frame::parse(&bytes).unwrap();
                if frame.kind == M::KIND {
                    let key = HubKey(self.pki.identity().public_key().to_vec());
                    return (frame.verify(&topic.to_string(), &key).unwrap(), frame.body().unwrap());
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the hub speaks")
    }

    /// The next desired state that is as wanted.
    async fn desired(&mut self, wanted: impl Fn(&Desired) -> bool) -> (Stamp, Desired) {
        loop {
            let (stamp, desired) = self.next::<Desired>().await;
            if wanted(&desired) {
                return (stamp, desired);
            }
        }
    }
}

fn facts() -> NodeFacts {
    NodeFacts {
        arch: "arm64".into(),
        os: "linux".into(),
        os_image: "test".into(),
        kernel: "6".into(),
        machine_id: "m".into(),
        agent_version: "0".into(),
        target: Target { triple: "t".into(), cpu_features: vec![], memory: MemoryProfile::Fast, engine: "1".into() },
        capacity: Capacity { cpu_milli: 1000, memory_bytes: 1 << 30, storage_bytes: 1 << 30, pods: 10 },
        addresses: vec![[192, 168, 0, 7]],
        hostname: "pi".into(),
        labels: vec![("zone".into(), "shed".into())],
        pressures: vec![],
    }
}

fn pod(uid: PodUid, phase: Phase, stopped: bool) -> PodReport {
    PodReport {
        uid,
        body: Digest::of(b"body"),
        phase,
        reason: None,
        message: None,
        started_at: None,
        init_containers: vec![],
        containers: vec![],
        stopped,
    }
}

const NEVER: Stamp = Stamp { epoch: Epoch { counter: 0, id: 0 }, generation: Generation(0) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_s_way_to_its_node_and_back() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    node.report(NEVER, vec![]);
    hub.wait("nodes", "", "pi-1", |node| node.is_some_and(|node| node.label("zone") == Some("shed"))).await;
    hub.wait("nodes", "", "pi-1", |node| {
        node.is_some_and(|node| node.str_at(&["status", "capacity", "cpu"]) == Some("1"))
    })
    .await;
    let (empty, _) = node.desired(|desired| desired.pods.is_empty()).await;

    let uid = hub.bind("web", "pi-1").await;
    let (running, desired) = node.desired(|desired| !desired.pods.is_empty()).await;
    assert!(running > empty);
    let body = desired.pods[0].body.as_ref().unwrap();
    assert_eq!((desired.pods[0].uid, desired.pods[0].digest), (uid, Digest::of(body)));
    assert_eq!(PodSpec::from_bytes(body).unwrap().name, "web");

    node.report(running, vec![pod(uid, Phase::Running, false)]);
    let phase = |phase: &'static str| {
        move |pod: Option<&Object>| pod.is_some_and(|pod| pod.str_at(&["status", "phase"]) == Some(phase))
    };
    hub.wait("pods", "home", "web", phase("Running")).await;

    hub.delete("web").await;
    let (stopping, desired) = node.desired(|desired| desired.pods.iter().any(|pod| pod.stop.is_some())).await;
    assert_eq!(desired.pods[0].stop.unwrap().grace_seconds, 5);
    node.report(stopping, vec![pod(uid, Phase::Running, false)]);
    node.report(stopping, vec![pod(uid, Phase::Succeeded, true)]);
    hub.wait("pods", "home", "web", |pod| pod.is_none()).await;
    let (gone, _) = node.desired(|desired| desired.pods.is_empty()).await;
    assert!(gone > stopping);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_its_node_does_not_list_after_being_told_is_gone() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    node.report(NEVER, vec![]);
    let (before, _) = node.desired(|_| true).await;
    hub.bind("web", "pi-1").await;
    node.desired(|desired| !desired.pods.is_empty()).await;
    hub.delete("web").await;
    let (stopping, _) = node.desired(|desired| desired.pods.iter().any(|pod| pod.stop.is_some())).await;
    // Not yet told: its silence means nothing. Another pod's fold shows that the report was read.
    node.report(before, vec![]);
    let other = hub.bind("other", "pi-1").await;
    node.report(before, vec![pod(other, Phase::Running, false)]);
    hub.wait("pods", "home", "other", |pod| pod.unwrap().str_at(&["status", "phase"]) == Some("Running")).await;
    assert!(hub.objects.get(row("pods"), "home", "web").is_ok());
    let (newest, _) = node.desired(|desired| desired.pods.len() == 2).await;
    assert!(newest > stopping);
    node.report(newest, vec![pod(other, Phase::Running, false)]);
    hub.wait("pods", "home", "web", |pod| pod.is_none()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_says_the_same_under_the_same_generation() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", copy(&papers), 1).await;
    node.report(NEVER, vec![]);
    hub.wait("nodes", "", "pi-1", |node| node.is_some()).await;
    hub.bind("web", "pi-1").await;
    let before = node.desired(|desired| !desired.pods.is_empty()).await;
    drop(node);
    hub.stop().await;

    let hub = disk.hub(Start::Usual).await;
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    assert_eq!(node.desired(|_| true).await, before);
    hub.stop().await;
}

/// The node has applied what `heard` makes of the newest that this hub has said.
async fn check_fenced(heard: fn(Stamp) -> Stamp) {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    node.report(NEVER, vec![]);
    let (own, _) = node.desired(|_| true).await;
    eventually("the hub is ready", || hub.fleet.ready().is_ok()).await;
    node.report(heard(own), vec![]);
    eventually("the hub is fenced off", || matches!(hub.fleet.ready(), Err(NotReady::Fenced(_)))).await;
    hub.bind("web", "pi-1").await;
    eventually("the event is kept", || {
        let events = hub.objects.list(row("events"), &hub::objects::ListOptions::default()).unwrap().items;
        events.iter().any(|event| event.str_at(&["reason"]) == Some("HubFenced"))
    })
    .await;
    while let Ok((_, bytes)) = node.messages.try_recv() {
        let stamp = Frame::parse(&bytes).unwrap().claimed_stamp();
        assert_eq!(stamp, Some(own), "a fenced hub says nothing new");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_hears_of_a_newer_one_falls_silent() {
    check_fenced(|_| Stamp { epoch: Epoch { counter: 9, id: 9 }, generation: Generation(1) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_whose_store_is_older_than_its_nodes_falls_silent() {
    check_fenced(|own| Stamp { generation: Generation(own.generation.0 + 1), ..own }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_hub_goes_above_its_nodes_and_keeps_their_pods() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Restored { listen: Duration::from_millis(500) }).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    let newer = Stamp { epoch: Epoch { counter: 1, id: u64::MAX }, generation: Generation(5000) };
    let unknown = PodUid([3; 16]);
    node.report(newer, vec![pod(unknown, Phase::Running, false)]);
    let (stamp, desired) = node.desired(|_| true).await;
    assert!(stamp > newer, "{stamp:?}");
    assert_eq!((desired.pods[0].uid, desired.pods[0].digest), (unknown, Digest::of(b"body")));

    let confirm = |node: &mut Object| {
        node.set(&["metadata", "annotations", "wherry.dev/remove-unknown-pods"], "true");
        Ok(Changed::Yes)
    };
    hub.objects.modify(row("nodes"), "", "pi-1", WriteOptions::default(), confirm).await.unwrap();
    node.desired(|desired| desired.pods.is_empty()).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_every_topic_is_counted_and_survived() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    let leaves = [
        Leaf::Reported(0),
        Leaf::Reported(63),
        Leaf::Presence,
        Leaf::Metrics,
        Leaf::Events,
        Leaf::BlobRequest,
        Leaf::StreamUp(7),
    ];
    let other = frame::encode(&StreamUp::Accepted { credit: 1 }).unwrap();
    let mut sent = 0;
    for leaf in leaves {
        let mut garbage =
            vec![b"garbage".to_vec(), vec![0xff; 3000], b"WH\x01\x02\x00\x00\x00\x00\x00\xff\xff\xff".to_vec()];
        if !matches!(leaf, Leaf::StreamUp(_)) {
            garbage.push(other.clone());
        }
        for bytes in garbage {
            node.say_bytes(leaf, bytes);
            sent += 1;
            let garbage = || hub.fleet.counters().garbage.load(std::sync::atomic::Ordering::Relaxed);
            eventually("garbage is counted", || garbage() == sent).await;
        }
    }
    node.report(NEVER, vec![]);
    node.desired(|_| true).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_speaks_for_its_own_pods_only() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let (one, two) = (join_node(&hub.pki, "pi-1"), join_node(&hub.pki, "pi-2"));
    let mut victim = Node::connect(&hub, "pi-1", one, 1).await;
    let liar = Node::connect(&hub, "pi-2", two, 2).await;
    victim.report(NEVER, vec![]);
    hub.wait("nodes", "", "pi-1", |node| node.is_some()).await;
    let uid = hub.bind("web", "pi-1").await;
    let (stamp, _) = victim.desired(|desired| !desired.pods.is_empty()).await;
    liar.report(stamp, vec![pod(uid, Phase::Failed, true)]);
    // Its own Node shows that the report was read.
    hub.wait("nodes", "", "pi-2", |node| node.is_some()).await;
    victim.report(stamp, vec![pod(uid, Phase::Running, false)]);
    hub.wait("pods", "home", "web", |pod| pod.unwrap().str_at(&["status", "phase"]) == Some("Running")).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_node_comes_back_when_its_machine_does() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", copy(&papers), 1).await;
    node.report(NEVER, vec![]);
    node.desired(|_| true).await;
    hub.objects.delete(row("nodes"), "", "pi-1", DeleteOptions::default()).await.unwrap();
    eventually("the node is kicked", || node.poll.is_finished()).await;
    drop(node);
    assert!(hub.objects.get(row("nodes"), "", "pi-1").is_err());
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    node.report(NEVER, vec![]);
    node.desired(|_| true).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_blobs_come_from_node_and_hub() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let request = LogsRequest {
        pod: PodUid([1; 16]),
        container: "main".parse().unwrap(),
        previous: false,
        follow: false,
        timestamps: false,
        tail: None,
        since_seconds: None,
        since: None,
        limit_bytes: None,
    };
    let name: NodeName = "pi-1".parse().unwrap();
    assert!(hub.fleet.logs(&name, request.clone()).await.is_err(), "the node is not connected");
    let papers = join_node(&hub.pki, "pi-1");
    let mut node = Node::connect(&hub, "pi-1", papers, 1).await;
    node.report(NEVER, vec![]);
    node.desired(|_| true).await;

    let (fleet, wanted) = (hub.fleet.clone(), request.clone());
    let reader = tokio::spawn(async move {
        let mut log = fleet.logs(&name, wanted).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = log.next().await {
            bytes.extend(piece.unwrap());
        }
        bytes
    });
    let id = loop {
        let (topic, bytes) = node.messages.recv().await.unwrap();
        if let Leaf::StreamDown(id) = topic.leaf {
            let open: StreamDown = Frame::parse(&bytes).unwrap().body().unwrap();
            assert!(matches!(open, StreamDown::Open { .. }));
            break id;
        }
    };
    node.say(Leaf::StreamUp(id), &StreamUp::Accepted { credit: 0 });
    for sequence in [0, 0, 1] {
        node.say(Leaf::StreamUp(id), &StreamUp::Data { sequence, bytes: format!("line {sequence}\n").into_bytes() });
    }
    node.say(Leaf::StreamUp(id), &StreamUp::Close { error: None });
    assert_eq!(reader.await.unwrap(), b"line 0\nline 1\n");

    let blob = Digest::of(b"artifact");
    node.say(Leaf::BlobRequest, &BlobRequest::Chunks { blob, first: 0, count: 8 });
    let mut lengths = Vec::new();
    while lengths.len() < 2 {
        match node.next::<BlobAnswer>().await.1 {
            BlobAnswer::Chunk { number, total, bytes, .. } => lengths.push((number, total, bytes.len())),
            other => panic!("{other:?}"),
        }
    }
    let total = CHUNK as u64 + 10;
    assert_eq!(lengths, [(0, total, CHUNK), (1, total, 10)]);
    let missing = Digest::of(b"elsewhere");
    node.say(Leaf::BlobRequest, &BlobRequest::Chunks { blob: missing, first: 0, count: 1 });
    assert_eq!(node.next::<BlobAnswer>().await.1, BlobAnswer::NoBlob { blob: missing });
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_of_a_machine_is_told_of_and_refused() {
    let disk = Disk::new();
    let hub = disk.hub(Start::Usual).await;
    let papers = join_node(&hub.pki, "pi-1");
    let mut first = Node::connect(&hub, "pi-1", copy(&papers), 1).await;
    first.report(NEVER, vec![]);
    first.desired(|_| true).await;
    let mut clone = Node::connect(&hub, "pi-1", copy(&papers), 2).await;
    // Once kept by the broker, once because the hub has heard of it.
    clone.desired(|_| true).await;
    clone.desired(|_| true).await;
    eventually("the first is displaced", || first.poll.is_finished()).await;
    drop(first);
    // It comes back: now both are known to live.
    let first = Node::connect(&hub, "pi-1", copy(&papers), 1).await;
    eventually("the clone is told of", || {
        let events = hub.objects.list(row("events"), &hub::objects::ListOptions::default()).unwrap().items;
        events.iter().any(|event| event.str_at(&["reason"]) == Some("DuplicateIdentity"))
    })
    .await;
    drop((first, clone));
    let mut options = options(&hub.pki, hub.port, "pi-1", papers);
    let presence =
        Presence { boot: BootId([1; 16]), connection: 9, online: false, machine_id: "pi-1".to_owned(), process: 2 };
    let topic = Topic::new(hub.pki.cluster(), &"pi-1".parse().unwrap(), Leaf::Presence).to_string();
    options.set_last_will(LastWill::new(topic, frame::encode(&presence).unwrap(), QoS::AtLeastOnce, true, None));
    let (_client, mut event_loop) = AsyncClient::new(options, 10);
    let answer = packet(&mut event_loop, |packet| matches!(packet, Packet::ConnAck(_))).await;
    assert!(answer.is_err(), "the clone got in: {answer:?}");
    hub.stop().await;
}
