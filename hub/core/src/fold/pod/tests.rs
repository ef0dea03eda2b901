//! Reports in, statuses out.

use protocol::ids::{Digest, UnixMillis};
use protocol::reported::{ContainerReport, ContainerState, Phase, PodReport, Terminated};
use serde_json::{Value, json};

use super::super::Heard;
use super::fold_pod;
use crate::object::Object;

const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
/// The node's clock is 50 s behind: its second 10 is our second 60.
const HEARD: Heard<'_> = Heard { host_ip: "192.168.1.9", skew_millis: 50_000, now: 100 };

fn pod() -> Object {
    Object::from_value(json!({
        "metadata": {"name": "p", "uid": UID},
        "spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}]},
        "status": {"phase": "Pending", "podIP": "10.42.0.3", "qosClass": "BestEffort"},
    }))
    .unwrap()
}

fn running(name: &str) -> ContainerReport {
    ContainerReport {
        name: name.parse().unwrap(),
        state: ContainerState::Running { since: UnixMillis(10_000) },
        last: None,
        restarts: 0,
        ready: true,
        started: true,
        image: Some(Digest([0; 32])),
    }
}

fn waiting(name: &str, reason: &str) -> ContainerReport {
    let state = ContainerState::Waiting { reason: reason.into(), message: None };
    ContainerReport { state, ready: false, started: false, image: None, ..running(name) }
}

fn ended(exit_code: i32, reason: &str) -> Terminated {
    Terminated {
        exit_code,
        reason: reason.into(),
        message: None,
        started_at: UnixMillis(10_000),
        finished_at: UnixMillis(20_000),
    }
}

fn terminated(name: &str, exit_code: i32, reason: &str) -> ContainerReport {
    let state = ContainerState::Terminated(ended(exit_code, reason));
    ContainerReport { state, ready: false, started: false, ..running(name) }
}

fn report(phase: Phase, containers: Vec<ContainerReport>) -> PodReport {
    PodReport {
        uid: UID.parse().unwrap(),
        body: Digest([0; 32]),
        phase,
        reason: None,
        message: None,
        started_at: Some(UnixMillis(5_000)),
        init_containers: vec![],
        containers,
        stopped: false,
    }
}

fn folded(mut pod: Object, report: &PodReport) -> Object {
    fold_pod(&mut pod, report, &HEARD);
    pod
}

/// `type=status reason` of each condition, those of `Ready` and its kin first.
fn conditions(pod: &Object) -> Vec<String> {
    let text = |c: &Value| {
        format!(
            "{}={} {}",
            c["type"].as_str().unwrap(),
            c["status"].as_str().unwrap(),
            c["reason"].as_str().unwrap_or("-")
        )
    };
    pod.at(&["status", "conditions"]).unwrap().as_array().unwrap().iter().map(text).collect()
}

#[test]
fn a_running_pod() {
    let pod = folded(pod(), &report(Phase::Running, vec![running("b"), running("a")]));
    let status = pod.at(&["status"]).unwrap();
    assert_eq!(
        status["containerStatuses"][0],
        json!({
            "name": "a", "state": {"running": {"startedAt": "1970-01-01T00:01:00Z"}}, "lastState": {}, "ready": true,
            "restartCount": 0, "image": "x:1", "imageID": format!("sha256:{}", "0".repeat(64)),
            "containerID": format!("wasmtime://{UID}/a/0"), "started": true,
        })
    );
    assert_eq!(status["containerStatuses"][1]["name"], "b");
    assert_eq!((&status["phase"], &status["startTime"]), (&json!("Running"), &json!("1970-01-01T00:00:55Z")));
    assert_eq!((&status["hostIP"], &status["podIPs"]), (&json!("192.168.1.9"), &json!([{"ip": "10.42.0.3"}])));
    assert_eq!(
        conditions(&pod),
        [
            "PodReadyToStartContainers=True -",
            "Initialized=True -",
            "Ready=True -",
            "ContainersReady=True -",
            "PodScheduled=True -"
        ]
    );
}

#[test]
fn no_news_changes_nothing() {
    for report in [
        report(Phase::Running, vec![running("a"), running("b")]),
        report(Phase::Pending, vec![waiting("a", "ErrImagePull")]),
        report(Phase::Running, vec![terminated("a", 1, "Error"), running("b")]),
    ] {
        let once = folded(pod(), &report);
        let mut twice = once.clone();
        // Another estimate of the clocks' difference, later: what is recorded stays.
        fold_pod(&mut twice, &report, &Heard { skew_millis: 53_000, now: 500, ..HEARD });
        assert_eq!(twice, once);
    }
}

#[test]
fn unready_containers_are_named() {
    let pod =
        folded(pod(), &report(Phase::Running, vec![running("a"), ContainerReport { ready: false, ..running("b") }]));
    assert!(conditions(&pod).contains(&"Ready=False ContainersNotReady".to_owned()));
    let ready = pod.at(&["status", "conditions"]).unwrap().as_array().unwrap().iter().find(|c| c["type"] == "Ready");
    assert_eq!(ready.unwrap()["message"], "containers with unready status: [b]");
}

#[test]
fn a_condition_remembers_since_when() {
    let first = folded(pod(), &report(Phase::Pending, vec![waiting("a", "ContainerCreating")]));
    let ready = |pod: &Object| pod.at(&["status", "conditions"]).unwrap()[2].clone();
    let mut later = first.clone();
    let half = report(Phase::Running, vec![running("a"), waiting("b", "ContainerCreating")]);
    fold_pod(&mut later, &half, &Heard { now: 200, ..HEARD });
    assert_ne!(ready(&later)["message"], ready(&first)["message"]);
    assert_eq!(ready(&later)["lastTransitionTime"], "1970-01-01T00:01:40Z");
    let all = report(Phase::Running, vec![running("a"), running("b")]);
    fold_pod(&mut later, &all, &Heard { now: 300, ..HEARD });
    assert_eq!(ready(&later)["lastTransitionTime"], "1970-01-01T00:05:00Z");
}

#[test]
fn restarts_keep_the_times_of_each_run() {
    let crashed = ContainerReport { last: Some(ended(1, "Error")), ..waiting("a", "CrashLoopBackOff") };
    let starting = ContainerReport { restarts: 1, last: Some(ended(1, "Error")), ..waiting("a", "ContainerCreating") };
    let again = ContainerReport {
        restarts: 1,
        last: Some(ended(1, "Error")),
        state: ContainerState::Running { since: UnixMillis(30_000) },
        ..running("a")
    };
    let mut pod = folded(pod(), &report(Phase::Running, vec![running("a"), running("b")]));
    for state in [crashed, starting, again] {
        fold_pod(&mut pod, &report(Phase::Running, vec![state, running("b")]), &HEARD);
        assert_eq!(
            pod.at(&["status", "containerStatuses"]).unwrap()[0]["lastState"]["terminated"],
            json!({
                "exitCode": 1, "reason": "Error", "startedAt": "1970-01-01T00:01:00Z",
                "finishedAt": "1970-01-01T00:01:10Z", "containerID": format!("wasmtime://{UID}/a/0"),
            })
        );
    }
    let now = &pod.at(&["status", "containerStatuses"]).unwrap()[0];
    assert_eq!(
        (&now["restartCount"], &now["state"]["running"]["startedAt"]),
        (&json!(1), &json!("1970-01-01T00:01:20Z"))
    );
    // A node that lost its disk counts from 0 again.
    fold_pod(&mut pod, &report(Phase::Running, vec![running("a"), running("b")]), &HEARD);
    assert_eq!(pod.at(&["status", "containerStatuses"]).unwrap()[0]["restartCount"], 0);
}

#[test]
fn an_end_is_final() {
    let done = folded(
        pod(),
        &report(Phase::Succeeded, vec![terminated("a", 0, "Completed"), terminated("b", 0, "Completed")]),
    );
    assert_eq!(
        conditions(&done)[..4],
        [
            "PodReadyToStartContainers=False -",
            "Initialized=True PodCompleted",
            "Ready=False PodCompleted",
            "ContainersReady=False PodCompleted"
        ]
    );
    assert_eq!(folded(done.clone(), &report(Phase::Running, vec![running("a"), running("b")])), done);
}

#[test]
fn another_pod_of_the_name_is_left_alone() {
    let mut other = report(Phase::Running, vec![running("a")]);
    other.uid = "ffffffff-ffff-ffff-ffff-ffffffffffff".parse().unwrap();
    assert_eq!(folded(pod(), &other), pod());
}

#[test]
fn init_containers_come_first() {
    let mut with_init = pod();
    with_init.set(&["spec", "initContainers"], json!([{"name": "i", "image": "z"}, {"name": "j", "image": "z"}]));
    let mut first = report(Phase::Pending, vec![]);
    first.init_containers = vec![running("i")];
    let pending = folded(with_init, &first);
    let status = pending.at(&["status"]).unwrap();
    assert_eq!(status["initContainerStatuses"][1]["state"], json!({"waiting": {"reason": "PodInitializing"}}));
    assert_eq!(status["containerStatuses"][0]["state"], json!({"waiting": {"reason": "PodInitializing"}}));
    let initialized = &status["conditions"][1];
    assert_eq!(initialized["message"], "containers with incomplete status: [i j]");
}

#[test]
fn gates_are_someone_else_s() {
    let mut gated = pod();
    gated.set(&["spec", "readinessGates"], json!([{"conditionType": "a/b"}]));
    let all = report(Phase::Running, vec![running("a"), running("b")]);
    let closed = folded(gated.clone(), &all);
    assert!(conditions(&closed).contains(&"Ready=False ReadinessGatesNotReady".to_owned()));
    gated.set(&["status", "conditions"], json!([{"type": "a/b", "status": "True"}]));
    let open = folded(gated, &all);
    assert_eq!(open.at(&["status", "conditions"]).unwrap()[0], json!({"type": "a/b", "status": "True"}));
    assert!(conditions(&open).contains(&"Ready=True -".to_owned()));
}
