//! The scheduler: binds waiting pods to the nodes that [`hub_core::schedule`] chooses.
//!
//! Node, address and condition of a pod are one durable write. A pod that somebody bound by hand gets
//! its address afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use hub_core::kinds::Subresource;
use hub_core::object::Object;
use hub_core::plan::pods;
use hub_core::schedule::{AddressPool, Decision, Nodes, Unplaced, place};
use hub_core::status::ApiError;
use hub_core::time;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tracing::warn;

use super::key::has_address;
use super::queue::Outcome;
use super::recorder::{About, Event, Severity};
use super::{Context, StepError, row};
use crate::objects::{Changed, WriteOptions};

const COMPONENT: &str = "default-scheduler";
/// Bindings written at a time: they share one fsync.
const BINDINGS: usize = 64;
/// An event that says again why a pod waits: events expire, and the pod may wait for long.
const REMIND: Duration = Duration::from_secs(300);
/// When to try again while there is no address left: pods end.
const NO_ADDRESS: Duration = Duration::from_secs(5);

/// What outlives one look.
#[derive(Default)]
pub(super) struct Memory {
    /// `None` before the first look.
    addresses: Mutex<Option<AddressPool>>,
    /// By uid, nodes of pods that are bound but may not be shown so yet.
    bound: Mutex<BTreeMap<String, String>>,
    /// By uid, when the event of a refusal was last recorded; of waiting pods only.
    told: Mutex<BTreeMap<String, Instant>>,
}

pub(super) async fn reconcile(context: &Context) -> Result<Outcome, StepError> {
    let all = context.world.pods();
    let is_live = |pod: &&Arc<Pod>| !pods::is_finished(pod) && pod.metadata.deletion_timestamp.is_none();
    let live: Vec<&Arc<Pod>> = all.iter().filter(is_live).collect();
    let waiting: Vec<&Pod> = live.iter().filter(|pod| is_waiting(pod)).map(|pod| &***pod).collect();
    context.scheduler.forget_placed(&waiting);
    let by_hand: Vec<&Pod> =
        live.iter().filter(|pod| pods::node_name(pod).is_some() && !has_address(pod)).map(|pod| &***pod).collect();
    if waiting.is_empty() && by_hand.is_empty() {
        return Ok(Outcome::Settled);
    }
    let mut addresses = context.scheduler.addresses(&all, context);
    let decisions = decide(context, &all, &waiting);
    let mut works = Vec::new();
    let mut short = false;
    let by_uid: BTreeMap<&str, &Pod> =
        waiting.iter().filter_map(|pod| Some((pod.metadata.uid.as_deref()?, *pod))).collect();
    for decision in decisions {
        let Some(pod) = by_uid.get(decision.uid.as_str()).copied() else { continue };
        match &decision.outcome {
            Err(unplaced) => works.push(Work::Refuse { pod, why: unplaced.clone() }),
            Ok(node) => match addresses.take() {
                Some(address) => works.push(Work::Bind { pod, node: node.clone(), address }),
                None => short = true,
            },
        }
    }
    for pod in by_hand {
        match addresses.take() {
            Some(address) => works.push(Work::Address { pod, address }),
            None => short = true,
        }
    }
    context.scheduler.keep(addresses);
    let works: Vec<_> = works.into_iter().map(|work| work.do_it(context)).collect();
    let results: Vec<Result<(), StepError>> = stream::iter(works).buffer_unordered(BINDINGS).collect().await;
    context.caught_up().await;
    // Races are news about the pod, and news come back here by themselves.
    if let Some(error) = results.into_iter().filter_map(Result::err).find(|error| !error.is_race()) {
        return Err(error);
    }
    if short {
        warn!("no pod address is left");
        return Ok(Outcome::Again(NO_ADDRESS));
    }
    Ok(Outcome::Settled)
}

fn is_waiting(pod: &Pod) -> bool {
    let is_gated = pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()));
    pods::node_name(pod).is_none() && !is_gated
}

fn decide(context: &Context, all: &[Arc<Pod>], waiting: &[&Pod]) -> Vec<Decision> {
    let nodes = context.world.nodes();
    let mut view = Nodes::new(nodes.iter().map(AsRef::as_ref), all.iter().map(AsRef::as_ref));
    let previous = context.scheduler.still_unseen(waiting);
    let decisions = place(waiting, &mut view, &previous);
    let placed = decisions.iter().filter_map(|decision| Some((decision.uid.clone(), decision.outcome.clone().ok()?)));
    context.scheduler.remember(placed);
    decisions
}

impl Memory {
    fn addresses(&self, all: &[Arc<Pod>], context: &Context) -> AddressPool {
        let holds = |pod: &&Arc<Pod>| !pods::is_finished(pod);
        let address = |pod: &Arc<Pod>| pod.status.as_ref()?.pod_ip.as_ref()?.parse::<Ipv4Addr>().ok();
        let taken: Vec<Ipv4Addr> = all.iter().filter(holds).filter_map(address).collect();
        let kept = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kept {
            None => AddressPool::new(u16::from_be_bytes(context.objects.entropy().bytes()), taken),
            Some(mut pool) => {
                pool.set_taken(taken);
                pool
            }
        }
    }

    fn keep(&self, pool: AddressPool) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = Some(pool);
    }

    /// Whether it is time to tell of a refusal again; notes that it is told.
    fn tell(&self, uid: &str, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.get(uid).is_none_or(|last| now.saturating_duration_since(*last) >= REMIND);
        if is_due {
            told.insert(uid.to_owned(), now);
        }
        is_due
    }

    fn forget_placed(&self, waiting: &[&Pod]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: BTreeSet<&str> = waiting.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        told.retain(|uid, _| waiting.contains(uid.as_str()));
    }

    /// What was decided for pods that still look unbound.
    fn still_unseen(&self, waiting: &[&Pod]) -> BTreeMap<String, String> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: BTreeSet<&str> = waiting.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        bound.retain(|uid, _| waiting.contains(uid.as_str()));
        bound.clone()
    }

    fn remember(&self, placed: impl Iterator<Item = (String, String)>) {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).extend(placed);
    }
}

enum Work<'a> {
    Bind { pod: &'a Pod, node: String, address: Ipv4Addr },
    Address { pod: &'a Pod, address: Ipv4Addr },
    Refuse { pod: &'a Pod, why: Unplaced },
}

impl Work<'_> {
    async fn do_it(self, context: &Context) -> Result<(), StepError> {
        match self {
            Self::Bind { pod, node, address } => bind(context, pod, &node, address).await,
            Self::Address { pod, address } => {
                let write = |current: &mut Object| {
                    place_at(current, address, context.objects.clock().unix_seconds());
                    Ok(())
                };
                modify(context, pod, Subresource::Status, "give an address to", write).await
            }
            Self::Refuse { pod, why } => refuse(context, pod, &why.to_string()).await,
        }
    }
}

async fn bind(context: &Context, pod: &Pod, node: &str, address: Ipv4Addr) -> Result<(), StepError> {
    let now = context.objects.clock().unix_seconds();
    let write = |current: &mut Object| {
        current.set(&["spec", "nodeName"], node);
        place_at(current, address, now);
        Ok(())
    };
    modify(context, pod, Subresource::Binding, "bind", write).await?;
    let (namespace, name) = names(pod);
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    record(context, pod, Severity::Normal, "Scheduled", message);
    Ok(())
}

/// What a pod's status says once it has a place.
fn place_at(pod: &mut Object, address: Ipv4Addr, now: i64) {
    pod.set(&["status", "podIP"], address.to_string());
    pod.set(&["status", "podIPs"], json!([{"ip": address.to_string()}]));
    set_scheduled(pod, json!({"type": "PodScheduled", "status": "True"}), now);
}

/// Says why a pod waits: in its condition when the reason changes, in an event now and then too.
async fn refuse(context: &Context, pod: &Pod, message: &str) -> Result<(), StepError> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let said = conditions.filter(|condition| condition.type_ == "PodScheduled").find_map(|c| c.message.as_deref());
    let is_new = said != Some(message);
    let is_due =
        context.scheduler.tell(pod.metadata.uid.as_deref().unwrap_or_default(), context.objects.clock().monotonic());
    if is_new || is_due {
        record(context, pod, Severity::Warning, "FailedScheduling", message.to_owned());
    }
    if !is_new {
        return Ok(());
    }
    let now = context.objects.clock().unix_seconds();
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
    let write = |current: &mut Object| {
        set_scheduled(current, condition.clone(), now);
        Ok(())
    };
    modify(context, pod, Subresource::Status, "explain", write).await
}

/// Replaces the PodScheduled condition; its transition time stays while its status does.
fn set_scheduled(pod: &mut Object, mut condition: Value, now: i64) {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    let mut conditions = conditions.cloned().unwrap_or_default();
    let at = conditions.iter().position(|condition| condition["type"] == "PodScheduled");
    let before = at.map(|at| conditions.remove(at)).filter(|before| before["status"] == condition["status"]);
    let since = before.map(|before| before["lastTransitionTime"].clone()).filter(Value::is_string);
    condition["lastTransitionTime"] = since.unwrap_or_else(|| json!(time::format(now)));
    conditions.insert(at.unwrap_or(conditions.len()), condition);
    pod.set(&["status", "conditions"], conditions);
}

async fn modify(
    context: &Context,
    pod: &Pod,
    subresource: Subresource,
    doing: &'static str,
    mut write: impl FnMut(&mut Object) -> Result<(), ApiError> + Send,
) -> Result<(), StepError> {
    let resource = row("", "v1", "pods");
    let (namespace, name) = names(pod);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let options = WriteOptions { subresource: Some(subresource), ..WriteOptions::default() };
    let change = |current: &mut Object| {
        if current.uid() != uid {
            return Err(ApiError::not_found(resource.group, resource.plural, name));
        }
        write(current).map(|()| Changed::Yes)
    };
    let written = context.objects.modify(resource, namespace, name, options, change).await;
    written.map(drop).map_err(StepError::new(doing, resource, name))
}

fn names(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

fn record(context: &Context, pod: &Pod, severity: Severity, reason: &str, message: String) {
    context.recorder.record(Event {
        about: About::new(row("", "v1", "pods"), &pod.metadata),
        severity,
        reason: reason.to_owned(),
        message,
        component: COMPONENT,
    });
}
