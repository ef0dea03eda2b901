//! Pods that a restored hub does not know, but its nodes run.
//!
//! A backup is older than what happened since. What runs on nodes and is not in it goes on, by the digest
//! that the node itself reported, until a person confirms the removal by annotating the Node with
//! [`REMOVE_ANNOTATION`].

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
    let adopted = match context.store().get(&key(node))? {
        Some(entry) => decode(&entry.value),
        None if context.start == Start::Usual => return Ok(Some(Vec::new())),
        None if context.nodes.with(node, |state| state.collector.is_complete() && state.is_live) => Vec::new(),
        None => return Ok(None),
    };
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
    if context.store().get(&key(node)).is_ok_and(|entry| entry.is_some()) {
        return;
    }
    let heard: Option<Vec<(PodUid, Digest)>> = context.nodes.with(node, |state| {
        let is_whole = state.collector.is_complete() && state.is_live;
        is_whole.then(|| state.collector.pods().map(|pod| (pod.uid, pod.body)).collect())
    });
    let Some(mut unknown) = heard else { return };
    unknown.retain(|(uid, _)| context.world.by_uid(&uid.to_string()).is_none());
    let op = Op::Put { key: key(node), value: encode(&unknown), expect: Expect::Anything };
    match context.store().commit(vec![op], Write::Durable).await {
        Ok(_) if unknown.is_empty() => {}
        Ok(_) => {
            info!(%node, pods = unknown.len(), "node runs pods that the restored hub does not know");
            let message = format!(
                "{} pods run here that the restored hub does not know; they go on until: kubectl annotate node {node} {REMOVE_ANNOTATION}=true",
                unknown.len()
            );
            context.tell(node, "UnknownPods", message);
        }
        Err(error) => warn!(%node, error = &error as &dyn std::error::Error, "cannot keep what the node runs"),
    }
    context.desired.mark(node);
}

fn encode(pods: &[(PodUid, Digest)]) -> Vec<u8> {
    postcard::to_allocvec(pods).expect("plain data always serializes")
}

fn decode(bytes: &[u8]) -> Vec<(PodUid, Digest)> {
    // Only this file writes it.
    postcard::from_bytes(bytes).unwrap_or_default()
}
