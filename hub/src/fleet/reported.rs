//! Folds what nodes report into objects, and finalises what they say is gone.
//!
//! The hub never guesses an outcome: a pod's status is what its node said last, and a pod that is being
//! deleted goes when its node says that nothing of it is left, or lists it no more after being told.

use std::sync::Arc;
use std::time::Duration;

use hub_core::admission::DeleteOptions;
use hub_core::fleet::publication::is_gone;
use hub_core::kinds::{self, Resource, Subresource};
use hub_core::object::Object;
use hub_core::status::ApiError;
use k8s_openapi::api::core::v1::Pod;
use protocol::NodeName;
use protocol::reported::{NodeFacts, PodReport};
use serde_json::json;
use tracing::{debug, info, warn};

use super::adopted;
use super::context::Context;
use super::desired::{node_of, uid_of};
use super::folding::{self, Hearing};
use super::keyed::{self, Outcome};
use crate::objects::{Changed, WriteOptions};

/// Nodes folded at once: a fold writes to the store, which orders all writes anyway.
const AT_ONCE: usize = 16;
const REST: Duration = Duration::from_millis(5);

pub(super) async fn run(context: Arc<Context>) {
    context.world.synced().await;
    keyed::work(&context.reported, AT_ONCE, REST, |node| {
        let context = context.clone();
        async move {
            match fold(&context, &node).await {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    warn!(%node, error = &error as &dyn std::error::Error, "cannot fold a node's report");
                    Outcome::Retry
                }
            }
        }
    })
    .await;
}

fn row(kind: &'static str) -> &'static Resource {
    kinds::of_kind("v1", kind).expect("Node and Pod are in the table of kinds")
}

async fn fold(context: &Context, node: &NodeName) -> Result<(), ApiError> {
    adopted::adopt(context, node).await;
    fold_node(context, node).await?;
    let now = context.clock().unix_seconds();
    let (reports, hearing) = context.nodes.with(node, |state| (state.unfolded(), Hearing::of(state, now)));
    for report in reports {
        match fold_pod(context, node, &report, &hearing).await? {
            Folded::Written => drop(context.nodes.with(node, |state| state.folded.insert(report.uid, report))),
            // Should it appear, its node is marked.
            Folded::Unknown => {}
        }
    }
    finalise(context, node).await
}

/// Writes the node's facts, and makes the Node if it is not there: by a report that was just sent, not by
/// one that the broker kept.
async fn fold_node(context: &Context, node: &NodeName) -> Result<(), ApiError> {
    let now = context.clock().unix_seconds();
    let (facts, boot, is_live, hearing) = context.nodes.with(node, |state| {
        let facts = state.collector.facts().filter(|facts| state.folded_facts.as_ref() != Some(*facts)).cloned();
        (facts, state.collector.boot(), state.is_live, Hearing::of(state, now))
    });
    let Some(facts) = facts else { return Ok(()) };
    let resource = row("Node");
    match context.objects.get(resource, "", node.as_str()) {
        Ok(_) => {}
        Err(error) if error.code == 404 && is_live => create(context, node, &facts).await?,
        Err(error) if error.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    }
    let labels = |object: &mut Object| Ok(folding::labels(object, &facts));
    context.objects.modify(resource, "", node.as_str(), WriteOptions::default(), labels).await?;
    let status = |object: &mut Object| Ok(folding::node(object, &facts, boot, &hearing));
    context.objects.modify(resource, "", node.as_str(), status_only(), status).await?;
    context.nodes.with(node, |state| state.folded_facts = Some(facts));
    Ok(())
}

async fn create(context: &Context, node: &NodeName, facts: &NodeFacts) -> Result<(), ApiError> {
    let value = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.as_str()}, "spec": {}});
    let mut object = Object::from_value(value).expect("an object was written above");
    folding::labels(&mut object, facts);
    match context.objects.create(row("Node"), object, WriteOptions::default()).await {
        Ok(_) => info!(%node, "node registered"),
        Err(error) if error.code == 409 => {}
        Err(error) => return Err(error),
    }
    if let Err(error) = context.pki.reclaim_node(node) {
        warn!(%node, error = &error as &dyn std::error::Error, "cannot take the node's name back");
    }
    Ok(())
}

fn status_only() -> WriteOptions {
    WriteOptions { dry_run: false, subresource: Some(Subresource::Status) }
}

/// Whether a report found its pod.
enum Folded {
    Written,
    Unknown,
}

/// Writes one pod's status. A pod that is unknown here, or that is another node's, is left alone.
async fn fold_pod(
    context: &Context,
    node: &NodeName,
    report: &PodReport,
    hearing: &Hearing,
) -> Result<Folded, ApiError> {
    let uid = report.uid.to_string();
    let Some(record) = context.world.by_uid(&uid) else { return Ok(Folded::Unknown) };
    let Some(pod) = record.body.pod() else { return Ok(Folded::Unknown) };
    if node_of(&pod).as_ref() != Some(node) {
        debug!(%node, pod = uid, "node reports another node's pod");
        return Ok(Folded::Unknown);
    }
    let fold = |pod: &mut Object| {
        // Another pod may have its name by now.
        if pod.uid() != uid {
            return Ok(Changed::No);
        }
        Ok(folding::pod(pod, report, hearing))
    };
    match context.objects.modify(row("Pod"), record.namespace(), record.name(), status_only(), fold).await {
        Ok(_) => Ok(Folded::Written),
        Err(error) if error.code == 404 => Ok(Folded::Unknown),
        Err(error) => Err(error),
    }
}

/// Removes the pods that were to be deleted and of which nothing is left.
async fn finalise(context: &Context, node: &NodeName) -> Result<(), ApiError> {
    let pods = context.world.pods_on(node.as_str());
    let deleted = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
    for pod in deleted.filter(|pod| is_over(context, node, pod)) {
        let name = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name) = (name(&pod.metadata.namespace), name(&pod.metadata.name));
        let options =
            DeleteOptions { grace_period_seconds: Some(0), uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
        match context.objects.delete(row("Pod"), &namespace, &name, options).await {
            Ok(_) => info!(%node, namespace, pod = name, "pod is gone"),
            // Gone already, or another pod has the name.
            Err(error) if matches!(error.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_over(context: &Context, node: &NodeName, pod: &Pod) -> bool {
    let Some(uid) = uid_of(pod) else { return false };
    context.nodes.with(node, |state| {
        let published = state.published.as_ref();
        let told = published.map(|published| (published.stamp, published.listing.lists(uid)));
        let seen = state.collector.seen(uid);
        match told {
            Some((stamp, listed)) => is_gone(&seen, listed, Some(stamp)),
            None => is_gone(&seen, hub_core::fleet::publication::Listed::Not, None),
        }
    })
}
