//! Tells nodes what they shall run: folds their bound pods, decides a generation, publishes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hub_core::fleet::publication::{Decided, Item, Listing, Step, step};
use hub_store::{Expect, Op, Store as _, StoreError, Write};
use k8s_openapi::api::core::v1::{Node, Pod};
use protocol::desired::Stop;
use protocol::limits::SHARDS_MAX;
use protocol::topic::Leaf;
use protocol::{Digest, Generation, NodeName, PodUid};
use tracing::{debug, info, warn};

use super::context::{Context, SendError};
use super::keyed::{self, Outcome};
use super::nodes::Published;
use super::{adopted, assignment};
use crate::broker::Delivery;
use crate::controllers::world::{Body, Changed, Notice};

/// Nodes published to at once: each waits for an fsync that the store shares among them.
const AT_ONCE: usize = 64;
/// After a publication the node rests: what a burst brings meanwhile goes out together.
const REST: Duration = Duration::from_millis(20);
/// Kubernetes' default, for a deletion that does not say.
const GRACE_SECONDS: i64 = 30;

/// Marks nodes as the world changes.
pub(super) async fn watch(context: Arc<Context>) {
    let mut notices = context.world.subscribe();
    context.world.synced().await;
    context.mark_everything();
    while let Some(notice) = notices.next().await {
        match notice {
            Notice::Resync => context.mark_everything(),
            Notice::Changed(changed) => mark(&context, &changed).await,
        }
    }
}

async fn mark(context: &Arc<Context>, changed: &Changed) {
    let Some(latest) = changed.latest() else { return };
    match &latest.body {
        Body::Pod(_) => mark_pod(context, changed),
        Body::Node(_) => {
            let Ok(node) = changed.name.parse() else { return };
            match changed.now {
                Some(_) => {
                    context.desired.mark(&node);
                    if changed.before.is_none() {
                        context.reported.mark(&node);
                    }
                }
                None => retire(context, &node).await,
            }
        }
        // Whose pods refer to it is found out by folding them; only a real difference is published.
        Body::ConfigMap(_) | Body::Secret(_) => {
            let pods = context.world.pods_in(&changed.namespace);
            context.desired.mark_all(pods.iter().filter_map(|pod| node_of(pod)));
        }
        Body::Namespace(_)
        | Body::ReplicaSet(_)
        | Body::Deployment(_)
        | Body::Service(_)
        | Body::ServiceAccount(_)
        | Body::Other(_) => {}
    }
}

fn mark_pod(context: &Context, changed: &Changed) {
    let before = changed.before.as_ref().and_then(|record| record.body.pod());
    let now = changed.now.as_ref().and_then(|record| record.body.pod());
    let nodes = [&before, &now].map(|pod| pod.as_ref().and_then(|pod| node_of(pod)));
    if before.as_deref().map(told) != now.as_deref().map(told) {
        context.desired.mark_all(nodes.iter().flatten().cloned());
    }
    // A pod that appears may have been reported already, and one that goes may be reported stopped.
    if before.is_none() || now.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()) {
        context.reported.mark_all(nodes.into_iter().flatten());
    }
}

/// The parts of a pod that its node is told of; the rest of its status comes from there.
fn told(pod: &Pod) -> impl PartialEq + '_ {
    let metadata = &pod.metadata;
    (
        pod.spec.as_ref(),
        &metadata.labels,
        &metadata.annotations,
        metadata.deletion_timestamp.as_ref(),
        metadata.deletion_grace_period_seconds,
        pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()),
    )
}

pub(super) fn node_of(pod: &Pod) -> Option<NodeName> {
    pod.spec.as_ref()?.node_name.as_deref()?.parse().ok()
}

pub(super) fn uid_of(pod: &Pod) -> Option<PodUid> {
    pod.metadata.uid.as_deref()?.parse().ok()
}

/// Publishes to marked nodes, for ever.
pub(super) async fn run(context: Arc<Context>) {
    keyed::work(&context.desired, AT_ONCE, REST, |node| {
        let context = context.clone();
        async move {
            match publish(&context, &node).await {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    warn!(%node, error = &error as &dyn std::error::Error, "cannot publish desired state");
                    Outcome::Retry
                }
            }
        }
    })
    .await;
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("cannot keep the node's generation")]
    Store(#[from] StoreError),
    #[error("cannot send")]
    Send(#[from] SendError),
}

async fn publish(context: &Context, node: &NodeName) -> Result<(), PublishError> {
    if context.ready().is_err() || !context.world.is_synced() {
        return Ok(()); // Everything is marked again once that changes.
    }
    let (published, is_heard) =
        context.nodes.with(node, |state| (state.published_generation(), state.applied.is_some()));
    let listing = match context.world.node("", node.as_str()) {
        Some(object) => listing(context, node, &object)?,
        // Deleted, but its machine still speaks: it is told to run nothing. What it answers makes it a
        // node again.
        None if is_heard => adopted::items(context, node)?.map(Listing::new),
        None => None,
    };
    let Some(listing) = listing else { return Ok(()) };
    let content = listing.digest();
    let decided = decided(context, node)?;
    let generation = match step(decided, content, published) {
        Step::Nothing => return Ok(()),
        Step::Publish(generation) => generation,
        // Only what a node has heard tells whether our store is the newest; it is marked when it speaks.
        Step::Decide if !is_heard => return Ok(()),
        Step::Decide => decide(context, node, content).await?,
    };
    context.nodes.with(node, |state| state.decided = Some(Decided { content, generation }));
    let stamp = context.send(node, Leaf::Desired, &listing.to_message(), generation, Delivery::Retained).await?;
    debug!(%node, generation = generation.0, "published desired state");
    context.counters.published.fetch_add(1, Ordering::Relaxed);
    let at = context.clock().monotonic();
    context.nodes.with(node, |state| {
        state.published = Some(Published { stamp, listing: Arc::new(listing), at, is_current: true });
    });
    Ok(())
}

/// Everything the node shall run; `None` while that cannot be said.
fn listing(context: &Context, node: &NodeName, object: &Node) -> Result<Option<Listing>, StoreError> {
    let previous = context.nodes.with(node, |state| state.published.as_ref().map(|p| p.listing.clone()));
    let pods = context.world.pods_on(node.as_str());
    let items = pods.iter().filter_map(|pod| item(context, node, object, pod, previous.as_deref()));
    let Some(adopted) = adopted::items(context, node)? else { return Ok(None) };
    Ok(Some(Listing::new(items.chain(adopted))))
}

fn item(context: &Context, node: &NodeName, object: &Node, pod: &Pod, previous: Option<&Listing>) -> Option<Item> {
    let uid = uid_of(pod)?;
    let metadata = &pod.metadata;
    let stop = metadata.deletion_timestamp.as_ref().map(|_| {
        let grace = metadata.deletion_grace_period_seconds.unwrap_or(GRACE_SECONDS);
        Stop { grace_seconds: u32::try_from(grace).unwrap_or(0) }
    });
    match assignment::assign(context, node, object, pod) {
        Ok(spec) => {
            let body = spec.to_bytes();
            Some(Item { uid, digest: Digest::of(&body), body: Some(body), stop })
        }
        Err(error) => {
            warn!(%node, pod = %uid, error = &error as &dyn std::error::Error, "cannot translate a pod");
            // What runs goes on as it was: a translation that fails is no reason to stop it.
            previous.and_then(|listing| listing.item(uid)).map(|item| Item { stop, ..item.clone() })
        }
    }
}

fn key(node: &NodeName) -> String {
    format!("/wherry/desired/{node}")
}

/// What was last decided for the node, by this process or one before.
pub(super) fn decided(context: &Context, node: &NodeName) -> Result<Option<Decided>, StoreError> {
    if let Some(decided) = context.nodes.with(node, |state| state.decided) {
        return Ok(Some(decided));
    }
    let Some(entry) = context.store().get(&key(node))? else { return Ok(None) };
    let content = <[u8; 32]>::try_from(entry.value.as_slice()).ok().map(Digest);
    let decided = content.map(|content| Decided { content, generation: Generation(entry.modified.0) });
    context.nodes.with(node, |state| state.decided = state.decided.or(decided));
    Ok(decided)
}

/// The revision of this write is the generation: durable before anything is said under it.
async fn decide(context: &Context, node: &NodeName, content: Digest) -> Result<Generation, StoreError> {
    let op = Op::Put { key: key(node), value: content.0.to_vec(), expect: Expect::Anything };
    Ok(Generation(context.store().commit(vec![op], Write::Durable).await?.0))
}

/// The Node object was deleted: forgets the node and clears what the broker keeps of it. A machine that
/// is still there connects again, reports, and is a node again.
async fn retire(context: &Context, node: &NodeName) {
    info!(%node, "node deleted");
    let shards = context.nodes.forget(node).map_or(0, |state| state.collector.shards()).clamp(1, SHARDS_MAX);
    context.heartbeats.forget(node);
    context.streams.close_all_of(node);
    let leaves = (0..shards).map(Leaf::Reported).chain([Leaf::Desired, Leaf::Presence]);
    for leaf in leaves {
        let topic = context.topic(node, leaf);
        if let Err(error) = context.broker.publish(&topic, bytes::Bytes::new(), Delivery::Retained).await {
            debug!(%node, error = &error as &dyn std::error::Error, "cannot clear a topic");
        }
    }
    // Its generation stays: the machine may come back with it.
    let gone = Op::Delete { key: adopted::key(node), expect: Expect::Anything };
    if let Err(error) = context.store().commit(vec![gone], Write::Relaxed).await {
        debug!(%node, error = &error as &dyn std::error::Error, "cannot forget the pods adopted");
    }
    if let Err(error) = context.pki.release_node(node) {
        warn!(%node, error = &error as &dyn std::error::Error, "cannot free the node's name");
    }
    context.broker.kick(node).await;
}
