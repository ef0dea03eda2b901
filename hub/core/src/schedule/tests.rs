use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::*;
use k8s_openapi::api::core::v1::Node;

/// `a cpu=2 memory=1Gi pods=3 zone=x cordoned taint=key`: cpu and memory are 4 and 4Gi if not said.
fn node(text: &str) -> Node {
    let mut words = text.split(' ');
    let name = words.next().unwrap();
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"taints": []},
        "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}},
    });
    for word in words {
        match word.split_once('=') {
            Some((key @ ("cpu" | "memory" | "pods"), value)) => node["status"]["allocatable"][key] = json!(value),
            Some(("taint", key)) => node["spec"]["taints"] = json!([{"key": key, "effect": "NoSchedule"}]),
            Some(("avoid", key)) => node["spec"]["taints"] = json!([{"key": key, "effect": "PreferNoSchedule"}]),
            Some((key, value)) => node["metadata"]["labels"][key] = json!(value),
            None => node["spec"]["unschedulable"] = json!(true),
        }
    }
    serde_json::from_value(node).unwrap()
}

/// `p cpu=1 memory=1Gi port=80 owner=o zone=x on=a app=web`; other words are given by `spec`.
fn pod_with(text: &str, spec: Value) -> Pod {
    let mut words = text.split(' ');
    let name = words.next().unwrap();
    let mut pod = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {}}}]}});
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "cpu" | "memory" => pod["spec"]["containers"][0]["resources"]["requests"][key] = json!(value),
            "port" => {
                let port: i32 = value.parse().unwrap();
                pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": port}]);
            }
            "owner" => {
                pod["metadata"]["ownerReferences"] =
                    json!([{"apiVersion": "v1", "kind": "R", "name": "r", "uid": value, "controller": true}]);
            }
            "zone" => pod["spec"]["nodeSelector"] = json!({"zone": value}),
            "on" => pod["spec"]["nodeName"] = json!(value),
            label => pod["metadata"]["labels"][label] = json!(value),
        }
    }
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn pod(text: &str) -> Pod {
    pod_with(text, json!({}))
}

fn nodes(texts: &[&str], bound: &[&str]) -> Nodes {
    let nodes: Vec<Node> = texts.iter().map(|text| node(text)).collect();
    let bound: Vec<Pod> = bound.iter().map(|text| pod(text)).collect();
    Nodes::new(&nodes, &bound)
}

#[track_caller]
fn check_pod(pod: &Pod, nodes: &mut Nodes, expected: &str) {
    let decision = place(&[pod], nodes, &BTreeMap::new()).remove(0);
    let text = decision.outcome.unwrap_or_else(|unplaced| unplaced.to_string());
    assert_eq!(text, expected);
}

#[track_caller]
fn check(wanted: &str, texts: &[&str], bound: &[&str], expected: &str) {
    check_pod(&pod(wanted), &mut nodes(texts, bound), expected);
}

#[test]
fn refusals_add_up_to_one_line() {
    check("p", &[], &[], "no nodes available to schedule pods");
    check(
        "p memory=8Gi",
        &["a cordoned", "b", "c"],
        &[],
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient memory.",
    );
    check("p cpu=5 memory=8Gi", &["a"], &[], "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.");
    check("p", &["a pods=1"], &["q on=a"], "0/1 nodes are available: 1 Too many pods.");
    check("p", &["a taint=x"], &[], "0/1 nodes are available: 1 node(s) had untolerated taint {x: }.");
    check(
        "p zone=n",
        &["a zone=s"],
        &[],
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    );
    check(
        "p port=80",
        &["a"],
        &["q port=80 on=a"],
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
    );
    check("p on=b", &["a"], &[], "0/1 nodes are available: 1 node(s) didn't match the requested node name.");
}

#[test]
fn room_is_what_others_left() {
    check("p cpu=2", &["a", "b"], &["q cpu=3 on=a"], "b");
    check("p cpu=1", &["a"], &["q cpu=3 on=a"], "a");
    check("p cpu=1001m", &["a"], &["q cpu=3 on=a"], "0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn init_containers_count_one_at_a_time() {
    let init = |cpu: &str| json!({"name": "i", "resources": {"requests": {"cpu": cpu}}});
    let wanted = pod_with("p cpu=2", json!({"initContainers": [init("3"), init("4")]}));
    check_pod(&wanted, &mut nodes(&["a"], &[]), "a");
    let wanted = pod_with("p cpu=2", json!({"initContainers": [init("5")]}));
    check_pod(&wanted, &mut nodes(&["a"], &[]), "0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn the_emptier_node_is_better() {
    check("p", &["a", "b"], &["q cpu=2 memory=2Gi on=a"], "b");
    check("p", &["b", "a"], &[], "a");
    check("p", &["a", "b"], &["q on=a"], "b");
    check("p", &["a avoid=x", "b"], &["q cpu=1 memory=1Gi on=b"], "b");
}

#[test]
fn siblings_spread_even_to_fuller_nodes() {
    check("p owner=o", &["a", "b"], &["q owner=o on=a", "r cpu=1 memory=1Gi on=b"], "b");
    let replicas: Vec<Pod> = (0..6).map(|at| pod(&format!("p{at} owner=o"))).collect();
    let placed = place(&replicas.iter().collect::<Vec<_>>(), &mut nodes(&["a", "b", "c"], &[]), &BTreeMap::new());
    let mut counts = BTreeMap::new();
    for decision in placed {
        *counts.entry(decision.outcome.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn node_affinity_requires_and_prefers() {
    let term = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]});
    let required = |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
    let check = |spec: Value, expected: &str| {
        check_pod(&pod_with("p", spec), &mut nodes(&["a zone=1", "b zone=2", "c"], &["q on=c"]), expected);
    };
    check(required(term("In", json!(["2"]))), "b");
    check(required(term("NotIn", json!(["1", "2"]))), "c");
    check(required(term("DoesNotExist", json!([]))), "c");
    check(required(term("Gt", json!(["1"]))), "b");
    check(
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 10, "preference": term("In", json!(["2"]))}]}}}),
        "b",
    );
}

#[test]
fn pods_stay_together_or_apart() {
    let near = |kind: &str| {
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]}}})
    };
    let with_web = || nodes(&["a", "b"], &["q app=web on=b"]);
    check_pod(&pod_with("p", near("podAffinity")), &mut with_web(), "b");
    check_pod(&pod_with("p", near("podAntiAffinity")), &mut with_web(), "a");
    let alone = || nodes(&["a"], &["q app=web on=a"]);
    let refused = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.";
    check_pod(&pod_with("p", near("podAntiAffinity")), &mut alone(), refused);
    check_pod(&pod_with("p app=web", near("podAffinity")), &mut nodes(&["a"], &[]), "a");
    let nobody = "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.";
    check_pod(&pod_with("p", near("podAffinity")), &mut nodes(&["a"], &[]), nobody);
    let hermit = pod_with("h on=a", near("podAntiAffinity"));
    let mut nodes = Nodes::new(&[node("a")], &[hermit]);
    let refused = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.";
    check_pod(&pod("p app=web"), &mut nodes, refused);
}

#[test]
fn hard_spread_constraints_refuse() {
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let wanted = pod_with("p app=web", spread);
    check_pod(&wanted, &mut nodes(&["a zone=1", "b zone=2"], &["q app=web on=a"]), "b");
    let refused = "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, \
                   1 node(s) were unschedulable.";
    check_pod(&wanted, &mut nodes(&["a zone=1", "b zone=2 cordoned"], &["q app=web on=a"]), refused);
}

#[test]
fn a_decided_place_is_kept_while_it_is_valid() {
    let wanted = pod("p cpu=1");
    let previous = BTreeMap::from([("p".to_owned(), "b".to_owned())]);
    let again = |texts: &[&str]| place(&[&wanted], &mut nodes(texts, &["q cpu=2 on=b"]), &previous).remove(0).outcome;
    assert_eq!(again(&["a", "b"]), Ok("b".to_owned()));
    assert_eq!(again(&["a", "b cordoned"]), Ok("a".to_owned()));
}

#[test]
fn finished_pods_need_no_room() {
    let mut done = pod("q cpu=4 on=a");
    done.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
    check_pod(&pod("p cpu=4"), &mut Nodes::new(&[node("a")], &[done]), "a");
}

proptest! {
    /// No node above capacity, nobody refused who would still fit, and nobody moves when asked again.
    #[test]
    fn placements_fit_and_stay(
        sizes in proptest::collection::vec((1..8i64, 1..9i64), 1..6),
        wants in proptest::collection::vec((0..6i64, 0..6i64), 0..25),
    ) {
        let texts: Vec<String> =
            sizes.iter().enumerate().map(|(at, (cpu, gigs))| format!("n{at} cpu={cpu} memory={gigs}Gi pods=6")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let pods: Vec<Pod> = wants.iter().enumerate()
            .map(|(at, (cpu, gigs))| pod(&format!("p{at:02} cpu={cpu} memory={gigs}Gi owner=o"))).collect();
        let pods: Vec<&Pod> = pods.iter().collect();
        let mut after = nodes(&texts, &[]);
        let decisions = place(&pods, &mut after, &BTreeMap::new());
        for (view, (cpu, gigs)) in after.iter().zip(&sizes) {
            prop_assert!(view.requested.cpu <= cpu * 1000 && view.requested.memory <= gigs << 30 && view.pods() <= 6);
        }
        for decision in &decisions {
            let wanted = pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(&decision.uid)).unwrap();
            let fits = place(&[wanted], &mut after.clone(), &BTreeMap::new()).remove(0).outcome.is_ok();
            prop_assert!(decision.outcome.is_ok() || !fits, "{} is refused but fits", decision.name);
        }
        let previous = decisions.iter().filter_map(|d| Some((d.uid.clone(), d.outcome.clone().ok()?))).collect();
        let again = place(&pods, &mut nodes(&texts, &[]), &previous);
        for decision in again.iter().filter(|decision| previous.contains_key(&decision.uid)) {
            prop_assert_eq!(decision.outcome.as_ref().ok(), previous.get(&decision.uid));
        }
    }
}
