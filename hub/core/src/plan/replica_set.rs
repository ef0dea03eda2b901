//! ReplicaSets: so many pods of one template, no more and no fewer.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::pods;

/// Pods made or deleted in one go. More follow in the next; it bounds what one bad template does.
pub const BURST: usize = 500;
/// Lets a user say which pods to keep when scaling down: an integer, lower goes first.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub struct Input<'a> {
    pub set: &'a ReplicaSet,
    /// All that the ReplicaSet controls, finished and going ones too.
    pub pods: &'a [&'a Pod],
    /// Active pods by node, of this ReplicaSet and its siblings (same Deployment): nodes that have
    /// many lose one first.
    pub crowd: &'a BTreeMap<String, usize>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many pods to make.
    pub create: usize,
    /// Which pods to delete, in this order.
    pub delete: Vec<Doomed>,
    /// The status as observed; write it if it differs.
    pub status: ReplicaSetStatus,
    /// When a pod that is ready has been so for `minReadySeconds`.
    pub wake_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    pub name: String,
    pub uid: String,
}

/// What making or deleting pods came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    Done,
    CreateFailed(&'a str),
    DeleteFailed(&'a str),
}

pub fn plan(input: &Input<'_>) -> Plan {
    let active: Vec<&Pod> = input.pods.iter().copied().filter(|pod| pods::is_active(pod)).collect();
    let going = input.set.metadata.deletion_timestamp.is_some();
    let wanted = usize::try_from(input.set.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let (create, delete) = match active.len() {
        // Whoever deletes the ReplicaSet decides about its pods, not the ReplicaSet.
        _ if going => (0, Vec::new()),
        present if present < wanted => ((wanted - present).min(BURST), Vec::new()),
        present => (0, doomed(input, &active, (present - wanted).min(BURST))),
    };
    let min_ready = input.set.spec.min_ready_seconds.unwrap_or(0);
    let available = active.iter().filter_map(|pod| pods::available_at(pod, min_ready));
    let wake_at = available.filter(|at| *at > input.now).min();
    Plan { create, delete, status: status(input, &active, min_ready), wake_at }
}

/// The status after acting: a failure is told in a condition until the next success.
pub fn with_outcome(mut status: ReplicaSetStatus, outcome: Outcome<'_>, now: Timestamp) -> ReplicaSetStatus {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let told = conditions.iter().any(is_failure);
    match outcome {
        Outcome::Done => conditions.retain(|condition| !is_failure(condition)),
        Outcome::CreateFailed(message) if !told => conditions.push(failure("FailedCreate", message, now)),
        Outcome::DeleteFailed(message) if !told => conditions.push(failure("FailedDelete", message, now)),
        Outcome::CreateFailed(_) | Outcome::DeleteFailed(_) => {}
    }
    status.conditions = Some(conditions).filter(|conditions| !conditions.is_empty());
    status
}

/// Sizes of the batches in which `total` pods are made: 1, 2, 4, ... so that what fails for all
/// fails for few.
pub fn batches(total: usize) -> impl Iterator<Item = usize> {
    let mut left = total;
    let mut size = 1;
    std::iter::from_fn(move || {
        let batch = size.min(left);
        (left, size) = (left - batch, size.saturating_mul(2));
        (batch > 0).then_some(batch)
    })
}

fn status(input: &Input<'_>, active: &[&Pod], min_ready: i32) -> ReplicaSetStatus {
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let counted = |holds: &dyn Fn(&Pod) -> bool| Some(count(holds)).filter(|count| *count > 0);
    let template = input.set.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let is_labelled = |pod: &Pod| {
        labels.iter().all(|(key, value)| pod.metadata.labels.as_ref().and_then(|l| l.get(key)) == Some(value))
    };
    let going = input.pods.iter().filter(|p| p.metadata.deletion_timestamp.is_some() && !pods::is_finished(p)).count();
    ReplicaSetStatus {
        observed_generation: input.set.metadata.generation,
        replicas: count(&|_| true),
        fully_labeled_replicas: counted(&is_labelled),
        ready_replicas: counted(&pods::is_ready),
        available_replicas: counted(&|pod| pods::available_at(pod, min_ready).is_some_and(|at| at <= input.now)),
        terminating_replicas: i32::try_from(going).ok().filter(|going| *going > 0),
        conditions: input.set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

fn doomed(input: &Input<'_>, active: &[&Pod], count: usize) -> Vec<Doomed> {
    let mut order = active.to_vec();
    order.sort_by_cached_key(|pod| worth(pod, input.crowd, input.now));
    let doomed = order.into_iter().take(count);
    doomed
        .map(|pod| Doomed { name: super::name(&pod.metadata).into(), uid: super::uid(&pod.metadata).into() })
        .collect()
}

/// What a pod is worth keeping for, compared field by field; the least goes first.
///
/// Durations count by powers of two and then by uid, so that "newest first" does not always empty the
/// same node. (Kubernetes compares uids before restarts where ready times differ, which is no total
/// order; here restarts come first.)
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    is_assigned: bool,
    phase: u8,
    is_ready: bool,
    deletion_cost: i32,
    crowd: Reverse<usize>,
    ready_for: i32,
    restarts: Reverse<i32>,
    age: i32,
    uid: String,
}

fn worth(pod: &Pod, crowd: &BTreeMap<String, usize>, now: Timestamp) -> Worth {
    let node = pods::node_name(pod);
    Worth {
        is_assigned: node.is_some(),
        phase: match pods::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        },
        is_ready: pods::is_ready(pod),
        deletion_cost: pods::annotation(pod, DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0),
        crowd: Reverse(node.and_then(|node| crowd.get(node)).copied().unwrap_or(0)),
        ready_for: pods::ready_since(pod).map_or(-1, |since| magnitude(since, now)),
        restarts: Reverse(pods::restarts(pod)),
        age: magnitude(super::created(&pod.metadata), now),
        uid: super::uid(&pod.metadata).to_owned(),
    }
}

/// The power of two that a duration in nanoseconds reaches; -1 for none.
fn magnitude(since: Timestamp, now: Timestamp) -> i32 {
    let nanoseconds = u128::try_from(now.duration_since(since).as_nanos()).unwrap_or(0);
    nanoseconds.checked_ilog2().and_then(|log| i32::try_from(log).ok()).unwrap_or(-1)
}

fn is_failure(condition: &ReplicaSetCondition) -> bool {
    condition.type_.as_deref() == Some("ReplicaFailure")
}

fn failure(reason: &str, message: &str, now: Timestamp) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: Some("ReplicaFailure".to_owned()),
        status: Some("True".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    /// `a@n1 Running ready=60 cost=1 restarts=2 age=100`: all but the name may be left out; seconds.
    fn pod(text: &str) -> Pod {
        let mut words = text.split(' ');
        let name = words.next().unwrap();
        let (name, node) = name.split_once('@').unwrap_or((name, ""));
        let stamp = |seconds: &str| (now() - SignedDuration::from_secs(seconds.parse().unwrap())).to_string();
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": stamp("1000"), "annotations": {}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": if node.is_empty() { "Pending" } else { "Running" }},
        });
        for word in words {
            match word.split_once('=') {
                Some(("ready", ago)) => {
                    pod["status"]["conditions"] =
                        json!([{"type": "Ready", "status": "True", "lastTransitionTime": stamp(ago)}]);
                }
                Some(("cost", cost)) => pod["metadata"]["annotations"][DELETION_COST] = json!(cost),
                Some(("restarts", count)) => {
                    let count: i32 = count.parse().unwrap();
                    pod["status"]["containerStatuses"] = json!([{"name": "c", "restartCount": count}]);
                }
                Some(("age", ago)) => pod["metadata"]["creationTimestamp"] = json!(stamp(ago)),
                Some(("going", ago)) => pod["metadata"]["deletionTimestamp"] = json!(stamp(ago)),
                _ => pod["status"]["phase"] = json!(word),
            }
        }
        serde_json::from_value(pod).unwrap()
    }

    use k8s_openapi::jiff::SignedDuration;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": "web", "generation": 3},
            "spec": {"replicas": replicas, "selector": {}}}))
        .unwrap()
    }

    fn plan_of(set: &ReplicaSet, pods: &[Pod]) -> Plan {
        let mut crowd = BTreeMap::new();
        for node in pods.iter().filter(|pod| pods::is_active(pod)).filter_map(pods::node_name) {
            *crowd.entry(node.to_owned()).or_insert(0) += 1;
        }
        plan(&Input { set, pods: &pods.iter().collect::<Vec<_>>(), crowd: &crowd, now: now() })
    }

    /// The order in which the pods would go.
    #[track_caller]
    fn check_order(pods: &[&str], expected: &str) {
        let pods: Vec<Pod> = pods.iter().map(|text| pod(text)).collect();
        let order: Vec<String> = plan_of(&set(0), &pods).delete.into_iter().map(|doomed| doomed.name).collect();
        assert_eq!(order.join(" "), expected);
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        check_order(&["a@n1", "b"], "b a");
        check_order(&["a@n1 Running", "b@n2 Pending", "c@n3 Unknown"], "b c a");
        check_order(&["a@n1 ready=5", "b@n2"], "b a");
        check_order(&["a@n1 ready=5", "b@n2 ready=5 cost=-1", "c@n3 ready=5 cost=7"], "b a c");
        check_order(&["a@n1 ready=5", "b@n2 ready=5", "c@n2 ready=5"], "b c a");
        check_order(&["a@n1 ready=500", "b@n2 ready=5"], "b a");
        check_order(&["a@n1 ready=5", "b@n2 ready=5 restarts=3"], "b a");
        check_order(&["a@n1 age=5000", "b@n2 age=10"], "b a");
        // Of about the same age: no preference but the uid's.
        check_order(&["b@n1 ready=61", "a@n2 ready=60"], "a b");
    }

    #[track_caller]
    fn check(replicas: i32, pods: &[&str], create: usize, delete: usize) {
        let pods: Vec<Pod> = pods.iter().map(|text| pod(text)).collect();
        let plan = plan_of(&set(replicas), &pods);
        assert_eq!((plan.create, plan.delete.len()), (create, delete));
    }

    #[test]
    fn finished_and_going_pods_are_replaced() {
        check(2, &[], 2, 0);
        check(2, &["a@n1", "b@n1"], 0, 0);
        check(2, &["a@n1 Failed", "b@n1 going=1", "c@n2"], 1, 0);
        check(1, &["a@n1", "b@n1", "c"], 0, 2);
        check(2000, &[], BURST, 0);
        let mut going = set(2);
        going.metadata.deletion_timestamp = Some(Time(now()));
        assert_eq!(plan_of(&going, &[]).create, 0);
    }

    #[test]
    fn batches_double() {
        assert_eq!(batches(10).collect::<Vec<_>>(), [1, 2, 4, 3]);
        assert_eq!(batches(0).count(), 0);
    }

    #[test]
    fn status_counts_and_wakes_for_availability() {
        let mut set = set(4);
        set.spec.min_ready_seconds = Some(30);
        let pods = ["a@n1 ready=60", "b@n1 ready=10", "c@n1", "d@n1 ready=60 going=1"].map(pod);
        let plan = plan_of(&set, &pods);
        let status = &plan.status;
        assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(2), Some(1)));
        assert_eq!((status.terminating_replicas, status.observed_generation), (Some(1), Some(3)));
        assert_eq!(plan.wake_at, Some(now() + SignedDuration::from_secs(20)));
    }

    #[test]
    fn a_failure_is_told_until_it_is_over() {
        let status = plan_of(&set(1), &[]).status;
        let failed = with_outcome(status, Outcome::CreateFailed("no"), now());
        assert_eq!(failed.conditions.as_ref().map(Vec::len), Some(1));
        let again = with_outcome(failed.clone(), Outcome::CreateFailed("still no"), now());
        assert_eq!(again, failed);
        assert_eq!(with_outcome(again, Outcome::Done, now()).conditions, None);
    }

    proptest! {
        /// Done and planned again, a plan is empty, and nothing useful goes before something useless.
        #[test]
        fn plans_settle(replicas in 0..8i32, ready in proptest::collection::vec(0..2u8, 0..12)) {
            let mut pods: Vec<Pod> = ready.iter().enumerate().map(|(at, ready)| {
                pod(&format!("p{at}@n{} {}", at % 3, if *ready == 1 { "ready=9" } else { "Running" }))
            }).collect();
            let plan = plan_of(&set(replicas), &pods);
            let ready_before = pods.iter().filter(|pod| pods::is_ready(pod)).count();
            pods.retain(|pod| !plan.delete.iter().any(|doomed| Some(&doomed.name) == pod.metadata.name.as_ref()));
            let ready_after = pods.iter().filter(|pod| pods::is_ready(pod)).count();
            prop_assert!(ready_after == ready_before.min(usize::try_from(replicas).unwrap()));
            pods.extend((0..plan.create).map(|at| pod(&format!("new{at}"))));
            let again = plan_of(&set(replicas), &pods);
            prop_assert_eq!((again.create, again.delete.len()), (0, 0));
        }
    }
}
