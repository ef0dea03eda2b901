//! Node health: who counts as lost, what is written on them, and whose pods go.
//!
//! ```text
//!           silent for the grace              toleration over
//!   alive ------------------------> lost ---------------------> pods finalised
//!     ^                              |                             |
//!     +------------ heard -----------+-----------------------------+
//!
//!   caution: trusting --more than half vanish at once--> holding --10 min--> trickling
//!                ^---------------- at most half are lost ------------------------/
//! ```
//! All durations are on a clock that never jumps, and count from when our own link stood at the
//! earliest: a hub that was itself deaf, stopped or asleep blames nobody for the silence.

mod taints;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::pods;
use crate::assign::annotation::{STOP_WHEN_ISOLATED, isolation_seconds};
pub use taints::{NOT_READY, UNREACHABLE, UNSCHEDULABLE, tolerates};

/// What clocks that run at different speeds, and a stop itself, may add to [`STOP_WHEN_ISOLATED`].
const ISOLATION_MARGIN: Duration = Duration::from_secs(5);
/// Why a pod is not Ready although its node last said so.
pub const NODE_LOST: &str = "NodeLost";
/// Graces that a node gets on top while it has not been heard since our link stands: agents that lost
/// us try again after up to 60 s, three of the default graces.
const GRACES_TO_RECONNECT: u32 = 3;
/// A pod of a Node that does not exist is left alone for so long: the Node may be about to register.
const HOMELESS: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Silence that makes a node lost.
    pub grace: Duration,
    /// For pods that do not say how long they tolerate a lost node.
    pub toleration: Duration,
    /// How long evictions are held when most nodes vanish at once.
    pub hold: Duration,
    /// Between nodes once evictions start again after a hold.
    pub pace: Duration,
}

impl Default for Settings {
    /// Kubernetes has 50 s and 300 s; edge sites want their sensors back sooner. After a hold: one
    /// node per 10 s, so that a person can still step in.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(20),
            toleration: Duration::from_secs(30),
            hold: Duration::from_secs(600),
            pace: Duration::from_secs(10),
        }
    }
}

pub struct Input<'a> {
    pub nodes: Vec<Observed<'a>>,
    /// Pods bound to nodes that do not exist.
    pub homeless: &'a [&'a Pod],
    pub caution: Caution,
    /// Since some fixed moment of this process.
    pub uptime: Duration,
    pub now: Timestamp,
}

pub struct Observed<'a> {
    pub node: &'a Node,
    /// Since the node was last heard, or since our link stands if that is later.
    pub silent: Duration,
    /// Since our link stands: nothing is older than this to us.
    pub linked: Duration,
    pub pods: Vec<&'a Pod>,
}

/// How far we believe that silent nodes are gone, rather than our own link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Caution {
    #[default]
    Trusting,
    /// No evictions until this uptime.
    Holding { until: Duration },
    /// These nodes' pods go; the next node's at this uptime.
    Trickling { released: BTreeSet<String>, next: Duration },
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub nodes: Vec<NodeChange>,
    /// Pods of lost nodes that still say Ready: nobody can vouch for them.
    pub unready: Vec<PodName>,
    /// Pods of nodes that are heard again: what the node last said of them holds again, because a node
    /// that never noticed our silence has no reason to repeat it.
    pub ready_again: Vec<PodName>,
    pub evictions: Vec<Eviction>,
    pub caution: Caution,
}

/// What to write to one Node; `None`: it says so already.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeChange {
    pub name: String,
    pub conditions: Option<Vec<NodeCondition>>,
    pub taints: Option<Vec<Taint>>,
    /// What people are told.
    pub told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    NotReady,
    Ready,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    pub pod: PodName,
    pub node: String,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The node is alive: delete, and let it stop the pod in its grace.
    Delete,
    /// Nobody is there to confirm: remove at once.
    Finalise,
}

/// What to write on nodes and which pods to move, as of now.
pub fn plan(settings: &Settings, input: Input<'_>) -> Plan {
    let caution = next_caution(settings, &input);
    let nodes = input.nodes.iter().filter_map(|observed| change(settings, observed, input.now)).collect();
    let bound = input.nodes.iter().flat_map(|observed| evictions(settings, observed, &caution, input.now));
    let homeless = input.homeless.iter().filter(|pod| age(super::created(&pod.metadata), input.now) >= HOMELESS);
    let evictions = bound.chain(homeless.map(|pod| eviction(pod, How::Finalise))).collect();
    let (lost, heard): (Vec<_>, Vec<_>) = input.nodes.iter().partition(|observed| is_lost(settings, observed));
    let of_lost = lost.iter().flat_map(|observed| &observed.pods);
    let unready = of_lost.filter(|pod| pods::is_ready(pod)).map(|pod| pod_name(pod)).collect();
    let of_heard = heard.iter().filter(|o| o.silent < o.linked).flat_map(|observed| &observed.pods);
    let ready_again = of_heard.filter(|pod| was_ready(pod)).map(|pod| pod_name(pod)).collect();
    Plan { nodes, unready, ready_again, evictions, caution }
}

/// Whether only the loss of its node keeps a pod from being Ready.
fn was_ready(pod: &Pod) -> bool {
    let conditions = || pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions().any(|c| c.type_ == "Ready" && c.status == "False" && c.reason.as_deref() == Some(NODE_LOST))
        && conditions().any(|c| c.type_ == "ContainersReady" && c.status == "True")
}

fn next_caution(settings: &Settings, input: &Input<'_>) -> Caution {
    let lost: Vec<&Observed<'_>> = input.nodes.iter().filter(|observed| is_lost(settings, observed)).collect();
    let most_are_lost = lost.len() * 2 > input.nodes.len();
    match &input.caution {
        Caution::Trusting => {
            let vanished = lost.iter().filter(|observed| has_vanished(settings, observed, input.now)).count();
            let others = input.nodes.len() - lost.len();
            if vanished > others {
                Caution::Holding { until: input.uptime.saturating_add(settings.hold) }
            } else {
                Caution::Trusting
            }
        }
        Caution::Holding { .. } | Caution::Trickling { .. } if !most_are_lost => Caution::Trusting,
        Caution::Holding { until } if input.uptime < *until => input.caution.clone(),
        Caution::Holding { .. } => trickle(settings, &lost, BTreeSet::new(), input.uptime),
        Caution::Trickling { next, .. } if input.uptime < *next => input.caution.clone(),
        Caution::Trickling { released, .. } => trickle(settings, &lost, released.clone(), input.uptime),
    }
}

/// Lets one more node's pods go.
fn trickle(settings: &Settings, lost: &[&Observed<'_>], mut released: BTreeSet<String>, uptime: Duration) -> Caution {
    let names = lost.iter().map(|observed| super::name(&observed.node.metadata));
    if let Some(name) = names.filter(|name| !released.contains(*name)).min() {
        released.insert(name.to_owned());
    }
    Caution::Trickling { released, next: uptime.saturating_add(settings.pace) }
}

fn is_lost(settings: &Settings, observed: &Observed<'_>) -> bool {
    observed.silent >= grace(settings, observed)
}

/// The silence that makes this node lost.
fn grace(settings: &Settings, observed: &Observed<'_>) -> Duration {
    let was_heard = observed.silent < observed.linked;
    if was_heard { settings.grace } else { settings.grace.saturating_mul(1 + GRACES_TO_RECONNECT) }
}

/// Lost within the last grace, and not already lost when we began to listen.
fn has_vanished(settings: &Settings, observed: &Observed<'_>, now: Timestamp) -> bool {
    let ready = ready(observed.node);
    let unknown = ready.filter(|condition| condition.status == "Unknown");
    let before = unknown.and_then(|condition| condition.last_transition_time.as_ref());
    let lost_before = before.is_some_and(|at| age(at.0, now) > observed.silent);
    observed.silent < grace(settings, observed).saturating_add(settings.grace) && !lost_before
}

fn change(settings: &Settings, observed: &Observed<'_>, now: Timestamp) -> Option<NodeChange> {
    let node = observed.node;
    let said = ready(node).map_or("Unknown", |condition| condition.status.as_str());
    let status = match (is_lost(settings, observed), said) {
        (true, _) => "Unknown",
        // It is heard again; what it says about itself follows in its report.
        (false, "Unknown") if observed.silent < observed.linked => "True",
        (false, said) => said,
    };
    let conditions = (status != said || ready(node).is_none()).then(|| conditions(node, status, now));
    let taints = taints::wanted(node, status, now);
    let told = match (said, status) {
        (said, "Unknown") if said != "Unknown" => Some(Told::NotReady),
        ("Unknown", "True") => Some(Told::Ready),
        _ => None,
    };
    let change = NodeChange { name: super::name(&node.metadata).to_owned(), conditions, taints, told };
    (change.conditions.is_some() || change.taints.is_some()).then_some(change)
}

/// The node's conditions with Ready as it now is; nothing else is known of a lost node either.
fn conditions(node: &Node, ready: &str, now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == "Ready") {
        conditions.push(NodeCondition { type_: "Ready".to_owned(), ..NodeCondition::default() });
    }
    let (reason, message) = match ready {
        "Unknown" => ("NodeStatusUnknown", "The edge agent stopped posting node status."),
        _ => ("AgentReady", "The edge agent is posting node status."),
    };
    let touched = |condition: &&mut NodeCondition| condition.type_ == "Ready" || ready == "Unknown";
    for condition in conditions.iter_mut().filter(touched) {
        if condition.status != ready {
            condition.last_transition_time = Some(Time(now));
        }
        // Heartbeats themselves are not written down: this is the last one that changed anything.
        if ready == "True" || condition.last_heartbeat_time.is_none() {
            condition.last_heartbeat_time = Some(Time(now));
        }
        condition.status = ready.to_owned();
        condition.last_heartbeat_time = Some(Time(now));
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
    }
    conditions
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

fn evictions(settings: &Settings, observed: &Observed<'_>, caution: &Caution, now: Timestamp) -> Vec<Eviction> {
    if is_lost(settings, observed) {
        let lost_for = observed.silent.saturating_sub(grace(settings, observed));
        let is_held = match caution {
            Caution::Trusting => false,
            Caution::Holding { .. } => true,
            Caution::Trickling { released, .. } => !released.contains(super::name(&observed.node.metadata)),
        };
        let pods = observed.pods.iter().filter(|pod| is_given_up(settings, pod, lost_for, is_held));
        return pods.map(|pod| eviction(pod, How::Finalise)).collect();
    }
    let taints = observed.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let taints: Vec<&Taint> = taints.filter(|taint| taint.effect == "NoExecute" && taint.key != UNREACHABLE).collect();
    let staying = |pod: &&&Pod| pod.metadata.deletion_timestamp.is_none() && !pods::is_finished(pod);
    let driven = |pod: &&&Pod| taints.iter().any(|taint| drives_out(settings, taint, pod, observed.linked, now));
    observed.pods.iter().filter(staying).filter(driven).map(|pod| eviction(pod, How::Delete)).collect()
}

/// Whether a pod of a lost node goes without the node's word for it.
fn is_given_up(settings: &Settings, pod: &Pod, lost_for: Duration, is_held: bool) -> bool {
    let stops_itself = stop_when_isolated(pod).map_or(Duration::ZERO, |after| after.saturating_add(ISOLATION_MARGIN));
    let default = settings.toleration;
    // Somebody wants it gone: that is no eviction, so neither a hold nor endless patience keeps it.
    let patience = if pod.metadata.deletion_timestamp.is_some() {
        Some(taints::patience(pod, &taints::unreachable(), default).unwrap_or(default))
    } else {
        taints::patience(pod, &taints::unreachable(), default).filter(|_| !is_held)
    };
    patience.is_some_and(|patience| lost_for >= patience.max(stops_itself))
}

/// Whether a taint on a living node has outlasted a pod's patience.
fn drives_out(settings: &Settings, taint: &Taint, pod: &Pod, linked: Duration, now: Timestamp) -> bool {
    let default = if taint.key == NOT_READY { settings.toleration } else { Duration::ZERO };
    // What was added while we were away counts from our return.
    let since = taint.time_added.as_ref().map_or(Duration::ZERO, |at| age(at.0, now)).min(linked);
    taints::patience(pod, taint, default).is_some_and(|patience| since >= patience)
}

/// The annotation's duration. What is no duration is as if it were not there.
pub fn stop_when_isolated(pod: &Pod) -> Option<Duration> {
    let seconds = isolation_seconds(pods::annotation(pod, STOP_WHEN_ISOLATED)?)?;
    Some(Duration::from_secs(seconds.into()))
}

fn eviction(pod: &Pod, how: How) -> Eviction {
    Eviction { pod: pod_name(pod), node: pods::node_name(pod).unwrap_or_default().to_owned(), how }
}

fn pod_name(pod: &Pod) -> PodName {
    PodName {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: super::name(&pod.metadata).to_owned(),
        uid: super::uid(&pod.metadata).to_owned(),
    }
}

/// Zero for what lies in the future: clocks are set back.
fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
