//! The bytes of each message, pinned: a change here breaks fleets that upgrade node by node.
//!
//! To add a message, add a line with an empty golden text and copy what the failure prints.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use protocol::blob::{ArtifactManifest, BlobAnswer, BlobRequest};
use protocol::desired::{Desired, DesiredPod, Stop};
use protocol::event::{Event, Events, Severity};
use protocol::frame::{self, Frame, Message};
use protocol::metrics::{ContainerUsage, Metrics, NodeUsage, PodUsage};
use protocol::pod::{ContainerSpec, ImageResolution, PodSpec, Resources, RestartPolicy, Value};
use protocol::presence::Presence;
use protocol::reported::{
    ContainerReport, ContainerState, MemoryProfile, Phase, PodReport, Reported, Target, Terminated,
};
use protocol::stream::{LogsRequest, Purpose, StreamDown, StreamUp};
use protocol::{BootId, Digest, Epoch, Generation, PodUid, Stamp, UnixMillis};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check<M: Message + PartialEq + std::fmt::Debug>(message: &M, golden: &str) {
    let bytes = frame::encode(message).unwrap();
    assert_eq!(hex(&bytes), golden, "the bytes of {message:?} changed");
    assert_eq!(&Frame::parse(&bytes).unwrap().body::<M>().unwrap(), message);
}

fn uid() -> PodUid {
    PodUid([7; 16])
}

fn stamp() -> Stamp {
    Stamp { epoch: Epoch { counter: 3, id: 9 }, generation: Generation(300) }
}

fn target() -> Target {
    Target {
        triple: "aarch64-unknown-linux-gnu".into(),
        cpu_features: vec!["has_lse".into()],
        memory: MemoryProfile::Compact,
        engine: "48.0.8+abi1".into(),
    }
}

fn pod() -> PodSpec {
    PodSpec {
        uid: uid(),
        namespace: "default".into(),
        name: "web".into(),
        ip: [10, 42, 0, 7],
        hostname: "web".into(),
        restart: RestartPolicy::OnFailure,
        grace_seconds: 30,
        active_deadline_seconds: None,
        stop_when_isolated_seconds: Some(60),
        init_containers: vec![],
        containers: vec![ContainerSpec {
            name: "web".parse().unwrap(),
            image: "web:1".into(),
            resolution: ImageResolution::Unresolved { message: "no".into() },
            config_error: None,
            args: vec![Value::Literal("a".into())],
            env: vec![("A".into(), Value::Secret(1))],
            working_dir: None,
            ports: vec![],
            mounts: vec![],
            resources: Resources { memory_limit: Some(1 << 20), ..Resources::default() },
            liveness: None,
            readiness: None,
            startup: None,
            post_start: None,
            pre_stop: None,
            instance_reuse: 1,
        }],
        volumes: vec![],
        sealed_secrets: None,
    }
}

#[test]
fn a_pod_s_body() {
    let bytes = pod().to_bytes();
    assert_eq!(
        hex(&bytes),
        "070707070707070707070707070707070764656661756c74037765620a2a000703776562011e00013c000103776562057765623a3101026e6f00010001610101410101000000000180804000000000000000010000",
        "the bytes of a PodSpec changed: agents would see every pod's digest change"
    );
    assert_eq!(PodSpec::from_bytes(&bytes).unwrap(), pod());
}

#[test]
fn desired() {
    let pods = vec![
        DesiredPod { uid: uid(), digest: Digest([1; 32]), body: Some(vec![1, 2]), stop: None },
        DesiredPod { uid: uid(), digest: Digest([2; 32]), body: None, stop: Some(Stop { grace_seconds: 30 }) },
    ];
    check(
        &Desired { pods },
        "57480101000000000002070707070707070707070707070707070101010101010101010101010101010101010101010101010101010101010101010201020007070707070707070707070707070707020202020202020202020202020202020202020202020202020202020202020200011e",
    );
}

#[test]
fn reported() {
    let ended = Terminated {
        exit_code: -1,
        reason: "Error".into(),
        message: None,
        started_at: UnixMillis(1),
        finished_at: UnixMillis(2),
    };
    let container = ContainerReport {
        name: "web".parse().unwrap(),
        state: ContainerState::Waiting { reason: "CrashLoopBackOff".into(), message: None },
        last: Some(ended),
        restarts: 2,
        ready: false,
        started: false,
        image: Some(Digest([3; 32])),
    };
    let pod = PodReport {
        uid: uid(),
        body: Digest([1; 32]),
        phase: Phase::Running,
        reason: None,
        message: None,
        started_at: Some(UnixMillis(1_700_000_000_000)),
        init_containers: vec![],
        containers: vec![container],
        stopped: false,
    };
    let message = Reported {
        sent_at: UnixMillis(5),
        boot: BootId([4; 16]),
        applied: stamp(),
        shard: 0,
        shards: 1,
        node: None,
        pods: vec![pod],
    };
    check(
        &message,
        "57480102000000000005040404040404040404040404040404040309ac02000100010707070707070707070707070707070701010101010101010101010101010101010101010101010101010101010101010100000180d095ffbc31000103776562001043726173684c6f6f704261636b4f6666000101054572726f7200010202000001030303030303030303030303030303030303030303030303030303030303030300",
    );
}

#[test]
fn presence_and_metrics() {
    let presence = Presence { boot: BootId([4; 16]), connection: 2, online: true, machine_id: "m".into(), process: 6 };
    check(&presence, "574801030000000000040404040404040404040404040404040201016d06");
    let usage = ContainerUsage {
        name: "web".parse().unwrap(),
        cpu_micros: 10,
        memory_bytes: 65536,
        requests: 3,
        failed_requests: 1,
    };
    let metrics = Metrics {
        sequence: 8,
        boot: BootId([4; 16]),
        sent_at: UnixMillis(5),
        applied: stamp(),
        node: NodeUsage { temperature_millis: Some(-1000), ..NodeUsage::default() },
        pods: vec![PodUsage { uid: uid(), containers: vec![usage] }],
    };
    check(
        &metrics,
        "5748010400000000000804040404040404040404040404040404050309ac020000000001cf0f010707070707070707070707070707070701037765620a8080040301",
    );
}

#[test]
fn events() {
    let event = Event {
        id: 1,
        pod: Some(uid()),
        container: Some("web".into()),
        severity: Severity::Warning,
        reason: "BackOff".into(),
        message: "Back-off".into(),
        at: UnixMillis(5),
    };
    check(
        &Events { sent_at: UnixMillis(6), events: vec![event] },
        "5748010500000000000601010107070707070707070707070707070707010377656201074261636b4f6666084261636b2d6f666605",
    );
}

#[test]
fn blobs() {
    check(
        &BlobRequest::Artifact { component: Digest([1; 32]), target: target() },
        "57480106000000000000010101010101010101010101010101010101010101010101010101010101010119616172636836342d756e6b6e6f776e2d6c696e75782d676e7501076861735f6c7365010b34382e302e382b61626931",
    );
    check(
        &BlobRequest::Chunks { blob: Digest([1; 32]), first: 2, count: 8 },
        "5748010600000000000101010101010101010101010101010101010101010101010101010101010101010208",
    );
    let manifest = ArtifactManifest {
        component: Digest([1; 32]),
        target: target(),
        blob: Digest([2; 32]),
        blob_bytes: 1000,
        artifact: Digest([3; 32]),
        artifact_bytes: 4000,
    };
    check(
        &BlobAnswer::Artifact(manifest),
        "57480107000000000001010101010101010101010101010101010101010101010101010101010101010119616172636836342d756e6b6e6f776e2d6c696e75782d676e7501076861735f6c7365010b34382e302e382b616269310202020202020202020202020202020202020202020202020202020202020202e8070303030303030303030303030303030303030303030303030303030303030303a01f",
    );
    check(
        &BlobAnswer::Chunk { blob: Digest([2; 32]), number: 1, total: 70_000, bytes: vec![9; 3] },
        "57480107000000000003020202020202020202020202020202020202020202020202020202020202020201f0a20403090909",
    );
}

#[test]
fn streams() {
    let logs = LogsRequest {
        pod: uid(),
        container: "web".parse().unwrap(),
        previous: false,
        follow: true,
        timestamps: false,
        tail: Some(10),
        since_seconds: None,
        since: None,
        limit_bytes: None,
    };
    check(
        &StreamDown::Open { purpose: Purpose::Logs(logs), credit: 131_072 },
        "57480108000000000000000707070707070707070707070707070703776562000100010a000000808008",
    );
    check(&StreamUp::Data { sequence: 1, bytes: b"line\n".to_vec() }, "5748010900000000000101056c696e650a");
}
