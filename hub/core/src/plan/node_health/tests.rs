use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Value {
    json!((now() - SignedDuration::from_secs(seconds)).to_string())
}

/// A node whose Ready condition says `ready` since 1000 s.
fn node(name: &str, ready: &str, taints: Value) -> Node {
    let conditions = json!([{"type": "Ready", "status": ready, "lastTransitionTime": ago(1000)}]);
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"taints": taints},
        "status": {"conditions": conditions}}))
    .unwrap()
}

fn pod(name: &str, extra: Value) -> Pod {
    let mut pod = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": ago(900)},
        "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running"}});
    for (key, value) in extra.as_object().unwrap() {
        match key.as_str() {
            "tolerations" => pod["spec"]["tolerations"] = value.clone(),
            other => pod["metadata"][other] = value.clone(),
        }
    }
    serde_json::from_value(pod).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn judge(node: &Node, silent: u64, pods: &[Pod]) -> Plan {
    let observed = Observed { node, silent: seconds(silent), linked: seconds(100_000), pods: pods.iter().collect() };
    // A second, healthy node, so that one loss is no mass loss.
    let (b, c) = (healthy("b"), healthy("c"));
    let others = [&b, &c].map(|node| Observed { node, silent: seconds(1), linked: seconds(100_000), pods: Vec::new() });
    let nodes = std::iter::once(observed).chain(others).collect();
    let input = Input { nodes, homeless: &[], caution: Caution::Trusting, uptime: seconds(1000), now: now() };
    plan(&Settings::default(), input)
}

fn healthy(name: &str) -> Node {
    node(name, "True", json!(null))
}

/// What becomes of a node that says `ready` and is silent for so long.
#[track_caller]
fn check(ready: &str, silent: u64, expected: Option<&str>, taints: &[&str]) {
    let plan = judge(&node("n1", ready, json!(null)), silent, &[]);
    let change = plan.nodes.first();
    let written = change.and_then(|change| change.conditions.as_ref()).map(|all| all[0].status.clone());
    assert_eq!(written.as_deref(), expected);
    let written = change.and_then(|change| change.taints.clone()).unwrap_or_default();
    let written: Vec<String> = written.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
    let wanted: Vec<String> = taints.iter().map(|taint| format!("node.kubernetes.io/{taint}")).collect();
    assert_eq!(written, wanted);
}

#[test]
fn silence_past_the_grace_makes_a_node_unknown() {
    check("True", 19, None, &[]);
    check("True", 20, Some("Unknown"), &["unreachable:NoSchedule", "unreachable:NoExecute"]);
    check("False", 5, None, &["not-ready:NoSchedule", "not-ready:NoExecute"]);
    check("Unknown", 5, Some("True"), &[]);
    check("Unknown", 100, None, &["unreachable:NoSchedule", "unreachable:NoExecute"]);
}

#[test]
fn after_a_start_nodes_have_time_to_find_us_again() {
    let node = healthy("n1");
    let judge = |seconds_up: u64| {
        let (silent, linked) = (seconds(seconds_up), seconds(seconds_up));
        let nodes = vec![Observed { node: &node, silent, linked, pods: Vec::new() }];
        let caution = Caution::Trusting;
        plan(&Settings::default(), Input { nodes, homeless: &[], caution, uptime: linked, now: now() }).nodes.len()
    };
    assert_eq!((judge(20), judge(79), judge(80)), (0, 0, 1));
}

#[test]
fn a_change_is_written_once() {
    let mut node = node("n1", "True", json!(null));
    let change = judge(&node, 30, &[]).nodes.remove(0);
    assert_eq!(change.told, Some(Told::NotReady));
    node.status.as_mut().unwrap().conditions = change.conditions;
    node.spec.as_mut().unwrap().taints = change.taints;
    assert_eq!(judge(&node, 31, &[]).nodes, []);
    let back = judge(&node, 1, &[]).nodes.remove(0);
    assert_eq!((back.told, back.taints), (Some(Told::Ready), Some(Vec::new())));
}

#[test]
fn cordoning_taints_and_others_taints_stay() {
    let mut node = node("n1", "True", json!([{"key": "gpu", "effect": "NoSchedule"}]));
    node.spec.as_mut().unwrap().unschedulable = Some(true);
    let taints = judge(&node, 1, &[]).nodes.remove(0).taints.unwrap();
    assert_eq!(taints.iter().map(|taint| taint.key.as_str()).collect::<Vec<_>>(), ["gpu", UNSCHEDULABLE]);
}

/// From which silence on a pod of a lost node is given up; `None`: never (within a day).
#[track_caller]
fn check_patience(extra: Value, expected: Option<u64>) {
    let (node, pods) = (node("n1", "True", json!(null)), [pod("a", extra)]);
    let given_up = (0..90_000).step_by(5).find(|silent| !judge(&node, *silent, &pods).evictions.is_empty());
    assert_eq!(given_up, expected);
}

#[test]
fn pods_of_a_lost_node_go_after_their_toleration() {
    let tolerations = |seconds: Value| json!({"tolerations": [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]});
    check_patience(json!({}), Some(20 + 30));
    check_patience(tolerations(json!(100)), Some(20 + 100));
    check_patience(tolerations(json!(0)), Some(20));
    check_patience(tolerations(json!(null)), None);
    let mut deleted = tolerations(json!(null));
    deleted["deletionTimestamp"] = ago(10);
    check_patience(deleted, Some(20 + 30));
    check_patience(json!({"annotations": {STOP_WHEN_ISOLATED: "60s"}}), Some(20 + 60 + 5));
    check_patience(json!({"annotations": {STOP_WHEN_ISOLATED: "soon"}}), Some(20 + 30));
    let plan = judge(&healthy("n1"), 60, &[pod("a", json!({}))]);
    assert_eq!(plan.evictions[0].how, How::Finalise);
}

#[test]
fn nobody_vouches_for_pods_of_a_lost_node() {
    let mut ready = pod("a", json!({}));
    ready.status = serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
    let pods = [ready, pod("b", json!({}))];
    assert_eq!(judge(&healthy("n1"), 19, &pods).unready, []);
    let unready = judge(&healthy("n1"), 20, &pods).unready;
    assert_eq!(unready.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_a_node_said_of_its_pods_holds_again_when_it_is_heard() {
    let lost_with = |containers_ready: &str| {
        let mut pod = pod("a", json!({}));
        pod.status = serde_json::from_value(json!({"conditions": [
            {"type": "ContainersReady", "status": containers_ready},
            {"type": "Ready", "status": "False", "reason": NODE_LOST}]}))
        .unwrap();
        [pod]
    };
    assert_eq!(judge(&healthy("n1"), 1, &lost_with("True")).ready_again.len(), 1);
    assert_eq!(judge(&healthy("n1"), 1, &lost_with("False")).ready_again, []);
    assert_eq!(judge(&healthy("n1"), 30, &lost_with("True")).ready_again, []);
}

#[test]
fn a_living_nodes_taints_drive_pods_out() {
    let taint = |seconds| json!([{"key": "leak", "effect": "NoExecute", "timeAdded": ago(seconds)}]);
    let tolerant = pod("b", json!({"tolerations": [{"key": "leak", "operator": "Exists", "tolerationSeconds": 60}]}));
    let gone = pod("c", json!({"deletionTimestamp": ago(1)}));
    let pods = [pod("a", json!({})), tolerant, gone];
    let names = |plan: &Plan| plan.evictions.iter().map(|e| (e.pod.name.clone(), e.how)).collect::<Vec<_>>();
    let early = judge(&node("n1", "True", taint(5)), 1, &pods);
    assert_eq!(names(&early), [("a".to_owned(), How::Delete)]);
    let late = judge(&node("n1", "True", taint(60)), 1, &pods);
    assert_eq!(names(&late).len(), 2);
}

#[test]
fn pods_of_a_node_that_does_not_exist_go_after_a_while() {
    let (old, mut young) = (pod("old", json!({})), pod("young", json!({})));
    young.metadata.creation_timestamp = Some(Time(now()));
    let homeless = [&old, &young];
    let caution = Caution::Trusting;
    let input = Input { nodes: Vec::new(), homeless: &homeless, caution, uptime: seconds(1), now: now() };
    let evictions = plan(&Settings::default(), input).evictions;
    assert_eq!(evictions.iter().map(|e| e.pod.name.as_str()).collect::<Vec<_>>(), ["old"]);
}

/// A fleet of which the first `lost` nodes have been silent for so long; each has a pod.
fn fleet_with(lost: usize, of: usize, silent: u64, uptime: u64, caution: Caution) -> Plan {
    let nodes: Vec<Node> = (0..of).map(|at| healthy(&format!("n{at}"))).collect();
    let pods: Vec<Pod> = (0..of).map(|at| pod(&format!("p{at}"), json!({}))).collect();
    let observed = nodes.iter().zip(&pods).enumerate().map(|(at, (node, pod))| {
        let silent = seconds(if at < lost { silent } else { 1 });
        Observed { node, silent, linked: seconds(uptime), pods: vec![pod] }
    });
    let input = Input { nodes: observed.collect(), homeless: &[], caution, uptime: seconds(uptime), now: now() };
    plan(&Settings::default(), input)
}

#[test]
fn when_most_nodes_vanish_at_once_we_suspect_ourselves() {
    assert_eq!(fleet_with(2, 4, 25, 1000, Caution::Trusting).caution, Caution::Trusting, "half is not most");
    let held = fleet_with(3, 4, 25, 1000, Caution::Trusting);
    assert_eq!(held.caution, Caution::Holding { until: seconds(1600) });
    assert_eq!(held.nodes.len(), 3, "they are told of as lost all the same");
    let later = fleet_with(3, 4, 500, 1599, held.caution);
    assert_eq!((later.evictions.len(), &later.caution), (0, &Caution::Holding { until: seconds(1600) }));
    let first = fleet_with(3, 4, 600, 1600, later.caution.clone());
    assert_eq!(first.evictions.len(), 1);
    let still = fleet_with(3, 4, 609, 1609, first.caution);
    assert_eq!(still.evictions.len(), 1);
    let second = fleet_with(3, 4, 610, 1610, still.caution);
    assert_eq!(second.evictions.len(), 2);
    assert_eq!(fleet_with(2, 4, 611, 1611, second.caution).caution, Caution::Trusting, "they came back");
}

#[test]
fn losing_nodes_one_after_the_other_is_no_mass_loss() {
    let slow = fleet_with(3, 4, 100, 1000, Caution::Trusting);
    assert_eq!(slow.caution, Caution::Trusting);
    assert_eq!(slow.evictions.len(), 3);
}
