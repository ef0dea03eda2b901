//! Node health: which nodes are alive, and what becomes of pods on those that are not.
//!
//! Heartbeats never touch the store (SD cards wear out): the fleet link writes them into
//! [`NodeHeartbeats`], and only a change of mind is written to a Node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hub_core::kinds::{Resource, Subresource};
use hub_core::object::Object;
use hub_core::plan::node_health::{self as plan, Caution, Eviction, How, Input, NodeChange, Observed, PodName, Told};
use hub_core::plan::pods;
use hub_core::status::ApiError;
use hub_core::time;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use protocol::ids::NodeName;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::queue::Outcome;
use super::recorder::{About, Event, Severity};
use super::{Context, StepError, row};
use crate::objects::{Changed, DeleteOptions, WriteOptions};

const COMPONENT: &str = "node-controller";
/// Between looks. A second is little beside a grace of 20 s, and one look is cheap.
const PERIOD: Duration = Duration::from_secs(1);
/// Pods evicted at a time: they share one fsync.
const EVICTIONS: usize = 64;
/// When the time of day runs so far ahead of the clock that stands still in suspend, we were asleep
/// (or someone set the time, which costs one grace).
const ASLEEP: Duration = Duration::from_secs(5);

/// When each node was last heard, and since when we could have heard any.
#[derive(Debug, Default)]
pub struct NodeHeartbeats {
    heard: Mutex<Heard>,
}

#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Since when our own link to the broker stands; `None` while it does not. Silence counts from
    /// here at the earliest: a hub that was deaf itself blames nobody.
    pub link_since: Option<Instant>,
    /// By node, the last message that the node itself sent, whatever it was about.
    pub nodes: HashMap<NodeName, Instant>,
}

impl NodeHeartbeats {
    /// A node said something.
    pub fn heard(&self, node: &NodeName, at: Instant) {
        let mut heard = self.lock();
        match heard.nodes.get_mut(node) {
            Some(last) => *last = (*last).max(at),
            None => drop(heard.nodes.insert(node.clone(), at)),
        }
    }

    /// The hub's link to the broker stands, or stands again: every grace starts anew.
    pub fn link_up(&self, at: Instant) {
        self.lock().link_since = Some(at);
    }

    /// The link is gone: nobody is judged until it is back.
    pub fn link_down(&self) {
        self.lock().link_since = None;
    }

    /// The Node was deleted.
    pub fn forget(&self, node: &NodeName) {
        self.lock().nodes.remove(node);
    }

    pub fn snapshot(&self) -> Heard {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What outlives one look.
pub(super) struct Memory {
    start: Instant,
    state: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    caution: Caution,
    /// Both clocks at the last look.
    clocks: Option<(Instant, u64)>,
    /// When we last found that we had been asleep.
    woke: Option<Instant>,
}

impl Memory {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Takes note of both clocks; a gap between them is a sleep.
    fn look(&mut self, now: Instant, unix_millis: u64) {
        if let Some((before, millis)) = self.clocks.replace((now, unix_millis)) {
            let of_day = Duration::from_millis(unix_millis.saturating_sub(millis));
            if of_day > now.saturating_duration_since(before) + ASLEEP {
                info!(seconds = of_day.as_secs(), "was asleep: all nodes get a new grace");
                self.woke = Some(now);
            }
        }
    }
}

pub(super) async fn reconcile(context: &Context) -> Result<Outcome, StepError> {
    let clock = context.objects.clock();
    let now = clock.monotonic();
    let heard = context.heartbeats.snapshot();
    let (caution, woke) = {
        let mut seen = context.node_health.lock();
        seen.look(now, clock.unix_millis());
        (seen.caution.clone(), seen.woke)
    };
    let Some(linked) = heard.link_since else { return Ok(Outcome::Again(PERIOD)) };
    let since = woke.map_or(linked, |woke| woke.max(linked));
    let nodes = context.world.nodes();
    let all = context.world.pods();
    let by_node = by_node(&all);
    let observed = nodes.iter().map(|node| observe(node, &heard, since, now, &by_node)).collect();
    let homeless: Vec<&Pod> = by_node
        .iter()
        .filter(|(name, _)| context.world.node("", name).is_none())
        .flat_map(|(_, pods)| pods.iter().copied())
        .collect();
    let uptime = now.saturating_duration_since(context.node_health.start);
    let input = Input { nodes: observed, homeless: &homeless, caution, uptime, now: context.now() };
    let plan = plan::plan(&context.config.node_health, input);
    note_caution(context, plan.caution.clone());
    let work = Work { context, nodes: row("", "v1", "nodes"), pods: row("", "v1", "pods") };
    let mut failed = None;
    for change in &plan.nodes {
        failed = work.write_node(change).await.err().or(failed);
    }
    for pod in &plan.unready {
        failed = work.mark_unready(pod).await.err().or(failed);
    }
    for pod in &plan.ready_again {
        failed = work.set_ready(pod, ("False", "True"), None).await.err().or(failed);
    }
    for some in plan.evictions.chunks(EVICTIONS) {
        let results = join_all(some.iter().map(|eviction| work.evict(eviction))).await;
        failed = results.into_iter().find_map(Result::err).or(failed);
    }
    let vouches = plan.unready.len() + plan.ready_again.len();
    if plan.nodes.len() + vouches + plan.evictions.len() > 0 {
        context.caught_up().await;
    }
    // Never later than the next look: a failed write must not stop the watch over the other nodes.
    if let Some(error) = failed.filter(|error| !error.is_race()) {
        warn!(error = &error as &dyn std::error::Error, "cannot tell of a node");
    }
    Ok(Outcome::Again(PERIOD))
}

fn by_node(all: &[Arc<Pod>]) -> HashMap<&str, Vec<&Pod>> {
    let mut by_node: HashMap<&str, Vec<&Pod>> = HashMap::new();
    for pod in all {
        if let Some(node) = pods::node_name(pod) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    by_node
}

fn observe<'a>(
    node: &'a Node,
    heard: &Heard,
    since: Instant,
    now: Instant,
    by_node: &HashMap<&str, Vec<&'a Pod>>,
) -> Observed<'a> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let last = name.parse::<NodeName>().ok().and_then(|name| heard.nodes.get(&name).copied());
    Observed {
        node,
        silent: now.saturating_duration_since(last.map_or(since, |last| last.max(since))),
        linked: now.saturating_duration_since(since),
        pods: by_node.get(name).cloned().unwrap_or_default(),
    }
}

fn note_caution(context: &Context, caution: Caution) {
    let mut seen = context.node_health.lock();
    if seen.caution == caution {
        return;
    }
    match &caution {
        Caution::Trusting => info!("most nodes are heard again"),
        Caution::Holding { .. } => warn!("most nodes vanished at once: evictions are held"),
        Caution::Trickling { released, .. } => warn!(nodes = released.len(), "evicting from one more node"),
    }
    seen.caution = caution;
}

struct Work<'a> {
    context: &'a Context,
    nodes: &'static Resource,
    pods: &'static Resource,
}

impl Work<'_> {
    async fn write_node(&self, change: &NodeChange) -> Result<(), StepError> {
        if let Some(conditions) = &change.conditions {
            let write = |node: &mut Object| {
                node.set(&["status", "conditions"], json!(conditions));
                Ok(Changed::Yes)
            };
            self.modify(self.nodes, "", &change.name, Some(Subresource::Status), write).await?;
        }
        if let Some(taints) = &change.taints {
            let write = |node: &mut Object| {
                match taints.as_slice() {
                    [] => drop(node.remove(&["spec", "taints"])),
                    taints => node.set(&["spec", "taints"], json!(taints)),
                }
                Ok(Changed::Yes)
            };
            self.modify(self.nodes, "", &change.name, None, write).await?;
        }
        if let Some(told) = change.told {
            let status = match told {
                Told::NotReady => "NodeNotReady",
                Told::Ready => "NodeReady",
            };
            info!(node = change.name, status, "node changed");
            let metadata = self.context.world.node("", &change.name).map(|node| node.metadata.clone());
            let about = About::new(self.nodes, &metadata.unwrap_or_default());
            self.record(about, Severity::Normal, status, format!("Node {} status is now: {status}", change.name));
        }
        Ok(())
    }

    async fn mark_unready(&self, pod: &PodName) -> Result<(), StepError> {
        self.set_ready(pod, ("True", "False"), Some((plan::NODE_LOST, "The node does not answer."))).await?;
        self.record(self.about(pod), Severity::Warning, "NodeNotReady", "Node is not ready".to_owned());
        Ok(())
    }

    /// Changes the pod's Ready condition from one status to the other.
    async fn set_ready(
        &self,
        pod: &PodName,
        (from, to): (&str, &str),
        why: Option<(&str, &str)>,
    ) -> Result<(), StepError> {
        let now = time::format(self.context.objects.clock().unix_seconds());
        let write = |current: &mut Object| {
            let conditions = current.at(&["status", "conditions"]).and_then(Value::as_array).cloned();
            let mut conditions = conditions.unwrap_or_default();
            let ready = conditions.iter_mut().find(|c| c["type"] == "Ready" && c["status"] == from);
            let Some(ready) = ready.filter(|_| current.uid() == pod.uid) else { return Ok(Changed::No) };
            *ready = json!({"type": "Ready", "status": to, "lastTransitionTime": now});
            if let Some((reason, message)) = why {
                (ready["reason"], ready["message"]) = (json!(reason), json!(message));
            }
            current.set(&["status", "conditions"], conditions);
            Ok(Changed::Yes)
        };
        self.modify(self.pods, &pod.namespace, &pod.name, Some(Subresource::Status), write).await
    }

    async fn evict(&self, eviction: &Eviction) -> Result<(), StepError> {
        let pod = &eviction.pod;
        let grace_period_seconds = match eviction.how {
            How::Delete => None,
            How::Finalise => Some(0),
        };
        let options = DeleteOptions { grace_period_seconds, uid: Some(pod.uid.clone()), ..DeleteOptions::default() };
        // One that is being deleted already is only let go of; that is told once, by whoever deleted it.
        let known = self.context.world.pod(&pod.namespace, &pod.name);
        if known.is_some_and(|known| known.metadata.deletion_timestamp.is_none()) {
            info!(namespace = pod.namespace, pod = pod.name, node = eviction.node, how = ?eviction.how, "evicting a pod");
            let message = format!("Marking for deletion Pod {}/{}", pod.namespace, pod.name);
            self.record(self.about(pod), Severity::Normal, "TaintManagerEviction", message);
        }
        let deleted = self.context.objects.delete(self.pods, &pod.namespace, &pod.name, options).await;
        deleted.map(drop).map_err(StepError::new("evict", self.pods, &pod.name))
    }

    async fn modify<F>(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        subresource: Option<Subresource>,
        change: F,
    ) -> Result<(), StepError>
    where
        F: FnMut(&mut Object) -> Result<Changed, ApiError> + Send,
    {
        let options = WriteOptions { subresource, ..WriteOptions::default() };
        let written = self.context.objects.modify(resource, namespace, name, options, change).await;
        written.map(drop).map_err(StepError::new("update", resource, name))
    }

    fn about(&self, pod: &PodName) -> About {
        let metadata = ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectMeta::default()
        };
        About::new(self.pods, &metadata)
    }

    fn record(&self, about: About, severity: Severity, reason: &str, message: String) {
        let event = Event { about, severity, reason: reason.to_owned(), message, component: COMPONENT };
        self.context.recorder.record(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_a_gap_between_the_clocks() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut seen = Seen::default();
        seen.look(start, 1_000);
        seen.look(start + second, 2_100);
        assert_eq!(seen.woke, None);
        seen.look(start + second * 2, 3_600_000);
        assert_eq!(seen.woke, Some(start + second * 2));
        seen.look(start + second * 3, 2_000);
        assert_eq!(seen.woke, Some(start + second * 2), "a clock set back is no sleep");
    }

    #[test]
    fn a_hub_that_was_deaf_counts_from_its_return() {
        let heartbeats = NodeHeartbeats::default();
        let (start, node) = (Instant::now(), "n1".parse::<NodeName>().expect("a name"));
        heartbeats.heard(&node, start + Duration::from_secs(5));
        heartbeats.heard(&node, start);
        assert_eq!(heartbeats.snapshot().nodes[&node], start + Duration::from_secs(5), "the latest counts");
        let object =
            Node { metadata: ObjectMeta { name: Some("n1".to_owned()), ..ObjectMeta::default() }, ..Node::default() };
        let since = start + Duration::from_secs(60);
        let now = start + Duration::from_secs(70);
        let observed = observe(&object, &heartbeats.snapshot(), since, now, &HashMap::new());
        assert_eq!((observed.silent.as_secs(), observed.linked.as_secs()), (10, 10));
        heartbeats.forget(&node);
        assert!(heartbeats.snapshot().nodes.is_empty());
    }
}
