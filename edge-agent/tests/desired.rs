//! The agent's loop between a hub and a disk that the test holds: what is acted on, what is refused,
//! what is remembered. No broker, no guest.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::path::Path;
use std::time::Duration;

use edge_agent::agent::{Agent, Inputs, Parts};
use edge_agent::blobs::Blobs;
use edge_agent::cache::{self, Cache};
use edge_agent::clock::{Clock, Entropy};
use edge_agent::engine::{self, Engine};
use edge_agent::facts;
use edge_agent::identity::HubKey;
use edge_agent::ledger::Ledger;
use edge_agent::link::Outgoing;
use edge_agent::logs::LogBook;
use edge_agent::metrics::UsageBook;
use edge_agent::volumes::Volumes;
use edge_agent_core::{Moment, Params};
use edge_agent_runtime::{Runtime, RuntimeConfig};
use protocol::desired::{Desired, DesiredPod, Stop};
use protocol::event::Events;
use protocol::frame::{self, Frame, KeyId, Sign};
use protocol::pod::{ContainerSpec, ImageResolution, PodSpec, Resources, RestartPolicy};
use protocol::reported::{ContainerState, MemoryProfile, NodeFacts, Reported};
use protocol::topic::{Leaf, Topic};
use protocol::{Digest, Epoch, Generation, PodUid, Stamp, UnixMillis};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "wherry/1/c/n/pi-1/desired";

struct Hub(Ed25519KeyPair);

impl Hub {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn public(&self) -> HubKey {
        HubKey::new(self.0.public_key().as_ref().try_into().unwrap())
    }

    fn says(&self, generation: u64, pods: Vec<DesiredPod>) -> bytes::Bytes {
        let stamp = Stamp { epoch: Epoch { counter: 1, id: 1 }, generation: Generation(generation) };
        frame::encode_signed(&Desired { pods }, TOPIC, stamp, self).unwrap().into()
    }
}

impl Sign for Hub {
    fn key_id(&self) -> KeyId {
        let digest = Digest::of(self.0.public_key().as_ref()).0;
        [digest[0], digest[1], digest[2], digest[3]]
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).as_ref().try_into().unwrap()
    }
}

/// A pod that needs nothing but a report: its image is not known to the hub.
fn pod(number: u8) -> DesiredPod {
    let container = ContainerSpec {
        name: "app".parse().unwrap(),
        image: "none:1".into(),
        resolution: ImageResolution::Unresolved { message: "no such image".into() },
        config_error: None,
        args: vec![],
        env: vec![],
        working_dir: None,
        ports: vec![],
        mounts: vec![],
        resources: Resources::default(),
        liveness: None,
        readiness: None,
        startup: None,
        post_start: None,
        pre_stop: None,
        instance_reuse: 1,
    };
    let spec = PodSpec {
        uid: PodUid([number; 16]),
        namespace: "default".into(),
        name: format!("pod-{number}"),
        ip: [10, 42, 0, number],
        hostname: format!("pod-{number}"),
        restart: RestartPolicy::Always,
        grace_seconds: 1,
        active_deadline_seconds: None,
        stop_when_isolated_seconds: None,
        init_containers: vec![],
        containers: vec![container],
        volumes: vec![],
        sealed_secrets: None,
    };
    DesiredPod { uid: spec.uid, digest: spec.digest(), body: Some(spec.to_bytes()), stop: None }
}

struct Agency {
    desired: watch::Sender<bytes::Bytes>,
    up: watch::Sender<Option<u64>>,
    out: mpsc::Receiver<Outgoing>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _heard: watch::Sender<Moment>,
}

fn node_facts(runtime: &Runtime) -> NodeFacts {
    NodeFacts {
        arch: "amd64".into(),
        os: "linux".into(),
        os_image: String::new(),
        kernel: String::new(),
        machine_id: "m".into(),
        agent_version: "0".into(),
        target: runtime.target(),
        capacity: protocol::reported::Capacity::default(),
        addresses: vec![],
        hostname: facts::hostname(),
        labels: vec![],
        pressures: vec![],
    }
}

fn start(dir: &Path, hub: &Hub) -> Agency {
    let clock = Clock::system(UnixMillis(0)).unwrap();
    let runtime =
        Runtime::new(RuntimeConfig { memory: MemoryProfile::Compact, workers: 1, guest_memory: Some(64 << 20) })
            .unwrap();
    let (up, up_seen) = watch::channel(None);
    let (bulk, _) = mpsc::channel(8);
    let blobs = Blobs::new(bulk, up_seen.clone(), clock.clone());
    let facts = node_facts(&runtime);
    let topic: Topic = Topic::parse(TOPIC).unwrap();
    let settings = cache::Settings {
        limit: 1 << 20,
        target: facts.target.clone(),
        key: hub.public(),
        cluster: topic.cluster.clone(),
        node: topic.node.clone(),
    };
    let engine_parts = engine::Parts {
        runtime,
        cache: Cache::open(dir, settings, clock.clone()).unwrap(),
        blobs,
        volumes: Volumes::new(dir, &[], crypto_box::SecretKey::from_bytes([1; 32])),
        logs: LogBook::new(clock.clone()),
        usage: UsageBook::default(),
    };
    let (happened, happenings) = mpsc::channel(engine::QUEUE);
    let (out, from_agent) = mpsc::channel(128);
    let (applied, _) = watch::channel(Stamp::default());
    let ledger = Ledger::open(dir).unwrap();
    let memory = ledger.recall().unwrap();
    let mut agent = Agent::new(Parts {
        params: Params::default(),
        clock,
        entropy: Entropy::default(),
        ledger,
        engine: Engine::new(engine_parts, happened),
        facts,
        data_dir: dir.to_owned(),
        key: hub.public(),
        topic: TOPIC.to_owned(),
        out,
        applied,
    });
    agent.recall(memory);
    let (desired, desired_seen) = watch::channel(bytes::Bytes::new());
    let (heard, heard_seen) = watch::channel(Moment::default());
    let shutdown = CancellationToken::new();
    let inputs =
        Inputs { happenings, desired: desired_seen, up: up_seen, heard: heard_seen, shutdown: shutdown.clone() };
    let task = tokio::spawn(agent.run(inputs));
    Agency { desired, up, out: from_agent, shutdown, task, _heard: heard }
}

impl Agency {
    /// The next message that `pick` takes.
    async fn wait<T>(&mut self, what: &str, pick: impl Fn(&Outgoing) -> Option<T>) -> T {
        let search = async {
            loop {
                let message = self.out.recv().await.expect("the agent runs");
                if let Some(found) = pick(&message) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.unwrap_or_else(|_| panic!("no {what} in time"))
    }

    async fn report(&mut self, what: &str, want: impl Fn(&Reported) -> bool) -> Reported {
        self.wait(what, |message| {
            let reported = matches!(message.leaf, Leaf::Reported(_)).then(|| Frame::parse(&message.payload).unwrap());
            reported.map(|frame| frame.body::<Reported>().unwrap()).filter(|report| want(report))
        })
        .await
    }

    async fn event(&mut self, reason: &str) -> String {
        self.wait(reason, |message| {
            let events = (message.leaf == Leaf::Events).then(|| Frame::parse(&message.payload).unwrap())?;
            let events = events.body::<Events>().unwrap().events;
            events.into_iter().find(|event| event.reason == reason).map(|event| event.message)
        })
        .await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("the agent stops").unwrap();
    }
}

fn generation(report: &Reported) -> u64 {
    report.applied.generation.0
}

#[tokio::test]
async fn what_our_hub_desires_is_reported_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(1);
    let mut agent = start(dir.path(), &hub);
    agent.up.send_replace(Some(1));
    agent.desired.send_replace(hub.says(5, vec![pod(1)]));
    let report = agent.report("pod", |report| generation(report) == 5 && report.pods.len() == 1).await;
    let ContainerState::Waiting { reason, .. } = &report.pods[0].containers[0].state else { panic!("{report:?}") };
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()), "{reason}");
    agent.stop().await;

    // No hub says anything: the ledger does.
    let mut agent = start(dir.path(), &hub);
    agent.up.send_replace(Some(2));
    let report = agent.report("recalled pod", |report| generation(report) == 5).await;
    assert_eq!(report.pods[0].uid, PodUid([1; 16]));
    agent.desired.send_replace(hub.says(6, vec![]));
    agent.report("empty list", |report| generation(report) == 6 && report.pods.is_empty()).await;
    assert_eq!(std::fs::read_dir(dir.path().join("ledger/pods")).unwrap().count(), 0);
    agent.stop().await;
}

#[tokio::test]
async fn what_is_not_from_our_hub_or_not_new_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(1);
    let mut agent = start(dir.path(), &hub);
    agent.up.send_replace(Some(1));
    agent.desired.send_replace(hub.says(5, vec![pod(1)]));
    agent.report("pod", |report| generation(report) == 5).await;

    let mut altered = hub.says(9, vec![]).to_vec();
    altered[20] ^= 1;
    let elsewhere = frame::encode_signed(&Desired::default(), "wherry/1/c/n/pi-2/desired", Stamp::default(), &hub);
    let refused: [(&str, bytes::Bytes); 7] = [
        ("another hub's", Hub::new(2).says(9, vec![])),
        ("an altered one", altered.into()),
        ("another node's", elsewhere.unwrap().into()),
        ("an unsigned one", frame::encode(&Desired::default()).unwrap().into()),
        ("garbage", bytes::Bytes::from_static(b"\x00garbage")),
        ("an older one", hub.says(4, vec![])),
        ("another one of the same stamp", hub.says(5, vec![pod(2)])),
    ];
    for (what, bytes) in refused {
        agent.desired.send_replace(bytes);
        let message = agent.event("DesiredRefused").await;
        assert!(!message.is_empty(), "{what}");
    }
    agent.up.send_replace(Some(2));
    let report = agent.report("unchanged pod", |report| generation(report) == 5).await;
    assert_eq!(report.pods.iter().map(|pod| pod.uid).collect::<Vec<_>>(), [PodUid([1; 16])]);
    agent.stop().await;
}

#[tokio::test]
async fn a_deletion_is_confirmed_also_of_a_pod_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(1);
    let mut agent = start(dir.path(), &hub);
    agent.up.send_replace(Some(1));
    let stopping = |pod: DesiredPod| DesiredPod { stop: Some(Stop { grace_seconds: 1 }), ..pod };
    let unseen = DesiredPod { body: None, ..stopping(pod(2)) };
    agent.desired.send_replace(hub.says(5, vec![stopping(pod(1)), unseen]));
    let report =
        agent.report("two stopped pods", |report| report.pods.iter().filter(|pod| pod.stopped).count() == 2).await;
    assert_eq!(generation(&report), 5);
    agent.stop().await;
}

#[tokio::test]
async fn a_damaged_ledger_is_told_and_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new(1);
    let ledger = Ledger::open(dir.path()).unwrap();
    ledger.write_desired(b"not a frame").unwrap();
    let mut agent = start(dir.path(), &hub);
    agent.up.send_replace(Some(1));
    let message = agent.event("LedgerDamaged").await;
    assert!(message.contains("set aside"), "{message}");
    agent.desired.send_replace(hub.says(1, vec![pod(1)]));
    agent.report("pod", |report| report.pods.len() == 1).await;
    agent.stop().await;
}
