//! Pods that a restored hub does not know, but its nodes run.
//!
//! A backup is older than what happened since. What runs on nodes and is not in it goes on, by the digest
//! that the node itself reported, until a person confirms the removal by annotating the Node with
//! [`REMOVE_ANNOTATION`].

use std::collections::BTreeMap;

use hub_core::fleet::publication::Item;
use hub_store::{Expect, Op, Store as _, StoreError, Write};
use protocol::{Digest, NodeName, PodUid};
use tracing::{info, warn};

use super::Start;
use super::context::Context;

/// On a Node, with any value but `false`: its pods that the hub does not know are stopped.
pub(super) const REMOVE_ANNOTATION: &str = "wherry.dev/remove-unknown-pods";

pub(super) fn key(node: &NodeName) -> String {
    format!("/wherry/adopted/{node}")
}

/// The adopted pods of a node; `None` while a restored hub has not heard all that the node runs.
pub(super) fn items(context: &Context, node: &NodeName) -> Result<Option<Vec<Item>>, StoreError> {
    if context.start != Start::Usual && !context.nodes.with(node, |state| state.is_adopted) {
        return Ok(None);
    }
    let adopted = read(context, node)?;
    if is_removal_confirmed(context, node) {
        return Ok(Some(Vec::new()));
    }
    let unknown = adopted.into_iter().filter(|(uid, _)| context.world.by_uid(&uid.to_string()).is_none());
    let item = |(uid, digest)| Item { uid, digest, body: None, stop: None };
    Ok(Some(unknown.map(item).collect()))
}

fn is_removal_confirmed(context: &Context, node: &NodeName) -> bool {
    let object = context.world.node("", node.as_str());
    let annotations = object.as_ref().and_then(|object| object.metadata.annotations.as_ref());
    annotations.and_then(|all| all.get(REMOVE_ANNOTATION)).is_some_and(|value| value != "false")
}

/// Keeps what a restored hub hears of and does not know, before it first speaks to the node.
pub(super) async fn adopt(context: &Context, node: &NodeName) {
    if context.start == Start::Usual || !context.world.is_synced() {
        return;
    }
    if context.nodes.with(node, |state| state.is_adopted) {
        return;
    }
    let heard: Option<Vec<(PodUid, Digest)>> = context.nodes.with(node, |state| {
        let is_whole = state.collector.is_complete() && state.is_live;
        is_whole.then(|| state.collector.pods().map(|pod| (pod.uid, pod.body)).collect())
    });
    let Some(mut unknown) = heard else { return };
    unknown.retain(|(uid, _)| context.world.by_uid(&uid.to_string()).is_none());
    if let Err(error) = keep(context, node, &unknown).await {
        warn!(%node, error = &error as &dyn std::error::Error, "cannot keep what the node runs");
        return; // Its next report, or the next look at everything, tries again.
    }
    context.nodes.with(node, |state| state.is_adopted = true);
    context.desired.mark(node);
    if unknown.is_empty() {
        return;
    }
    info!(%node, pods = unknown.len(), "node runs pods that the restored hub does not know");
    let message = format!(
        "{} pods run here that the restored hub does not know; they go on until: kubectl annotate node {node} {REMOVE_ANNOTATION}=true",
        unknown.len()
    );
    context.tell(node, "UnknownPods", message);
}

/// With those of a restore before.
async fn keep(context: &Context, node: &NodeName, unknown: &[(PodUid, Digest)]) -> Result<(), StoreError> {
    let mut all: BTreeMap<PodUid, Digest> = read(context, node)?.into_iter().collect();
    all.extend(unknown.iter().copied());
    let value = encode(&all.into_iter().collect::<Vec<_>>());
    let op = Op::Put { key: key(node), value, expect: Expect::Anything };
    context.store().commit(vec![op], Write::Durable).await.map(drop)
}

fn read(context: &Context, node: &NodeName) -> Result<Vec<(PodUid, Digest)>, StoreError> {
    Ok(context.store().get(&key(node))?.map(|entry| decode(&entry.value)).unwrap_or_default())
}

fn encode(pods: &[(PodUid, Digest)]) -> Vec<u8> {
    postcard::to_allocvec(pods).expect("plain data always serializes")
}

fn decode(bytes: &[u8]) -> Vec<(PodUid, Digest)> {
    // Only this file writes it.
    postcard::from_bytes(bytes).unwrap_or_default()
}
