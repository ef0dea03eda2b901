//! Reads the link: parses, judges, sorts. It waits for nothing but the next message.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hub_core::fleet::epoch::Heard;
use hub_core::fleet::presence::Verdict;
use hub_core::fleet::shards::{Accepted, Freshness};
use protocol::blob::BlobRequest;
use protocol::event::Events;
use protocol::frame::{Frame, FrameError};
use protocol::metrics::Metrics;
use protocol::presence::Presence;
use protocol::reported::Reported;
use protocol::stream::StreamUp;
use protocol::topic::{Leaf, Topic};
use protocol::{NodeName, UnixMillis};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::context::{Context, FromNode};
use super::streams::Heard as Stream;
use super::{blobs, streams};
use crate::broker::{Incoming, LinkEvent};

/// Clocks that differ by less are taken as equal: a report is that long on its way.
const SKEW_MIN_MILLIS: i64 = 2000;

pub(super) async fn run(context: Arc<Context>, mut events: mpsc::Receiver<LinkEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            LinkEvent::Up => {
                info!("linked to the nodes' broker");
                context.heartbeats.link_up(context.clock().monotonic());
                context.nodes.with_each(|state| state.unpublish());
                context.is_linked.store(true, Ordering::Release);
                context.mark_everything();
            }
            LinkEvent::Down => {
                context.is_linked.store(false, Ordering::Release);
                context.heartbeats.link_down();
            }
            // What was kept follows; what was not is told again by each heartbeat.
            LinkEvent::Lost => context.mark_everything(),
            LinkEvent::Message(message) => {
                if let Err(garbage) = hear(&context, &message) {
                    count_garbage(&context, &message, &garbage);
                }
            }
        }
    }
}

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
enum Garbage {
    #[error("the topic is none of ours")]
    Topic,
    #[error("the message is none of ours")]
    Frame(#[from] FrameError),
    #[error("the report's shards do not count")]
    Shards,
}

/// A node that sends garbage must not fill the disk with logs: said at every power of two.
fn count_garbage(context: &Context, message: &Incoming, garbage: &Garbage) {
    let count = context.counters.garbage.fetch_add(1, Ordering::Relaxed) + 1;
    if count.is_power_of_two() {
        warn!(
            topic = message.topic,
            bytes = message.payload.len(),
            count,
            error = garbage as &dyn std::error::Error,
            "message ignored"
        );
    }
}

fn hear(context: &Arc<Context>, message: &Incoming) -> Result<(), Garbage> {
    let topic = Topic::parse(&message.topic).filter(|topic| topic.cluster == *context.pki.cluster());
    let Topic { node, leaf, .. } = topic.ok_or(Garbage::Topic)?;
    if message.payload.is_empty() {
        return Ok(()); // Nothing said.
    }
    let frame = Frame::parse(&message.payload)?;
    let freshness = message.freshness;
    if freshness == Freshness::Live && leaf.is_from_node() {
        context.heartbeats.heard(&node, context.clock().monotonic());
    }
    match leaf {
        Leaf::Desired => hear_desired(context, &node, &frame, freshness),
        Leaf::Reported(shard) => hear_reported(context, &node, shard, frame.body()?, freshness)?,
        Leaf::Presence => hear_presence(context, &node, frame.body()?),
        Leaf::Metrics => hear_metrics(context, &node, frame.body()?),
        Leaf::Events => hear_events(context, &node, frame.body()?),
        Leaf::BlobRequest => blobs::request(context, &node, frame.body::<BlobRequest>()?),
        Leaf::StreamUp(id) => hear_stream(context, &node, id, frame.body()?),
        Leaf::BlobData | Leaf::StreamDown(_) => return Err(Garbage::Topic),
    }
    Ok(())
}

/// Another hub's, or what we said ourselves before a restart.
fn hear_desired(context: &Context, node: &NodeName, frame: &Frame<'_>, freshness: Freshness) {
    let Some(stamp) = frame.claimed_stamp() else { return };
    let heard = match freshness {
        Freshness::Live => Heard::Desired(stamp),
        Freshness::Kept => Heard::KeptDesired(stamp),
    };
    context.hear(node, heard);
}

fn hear_reported(
    context: &Context,
    node: &NodeName,
    shard: u8,
    reported: Reported,
    freshness: Freshness,
) -> Result<(), Garbage> {
    if reported.shard != shard {
        return Err(Garbage::Shards);
    }
    let (applied, sent_at) = (reported.applied, reported.sent_at);
    context.hear(node, Heard::Applied(applied));
    let skew = skew_millis(context, sent_at);
    let (accepted, is_first) = context.nodes.with(node, |state| {
        let is_first = state.applied.is_none();
        let accepted = state.collector.accept(reported, freshness);
        if accepted == Accepted::Fresh {
            state.applied = state.collector.applied();
            if freshness == Freshness::Live {
                state.is_live = true;
                state.skew_millis = skew;
            }
        }
        (accepted, is_first)
    });
    if is_first {
        context.desired.mark(node);
    }
    match accepted {
        Accepted::Fresh => context.reported.mark(node),
        Accepted::Stale => debug!(%node, shard, "stale report"),
        Accepted::Invalid => return Err(Garbage::Shards),
    }
    Ok(())
}

fn skew_millis(context: &Context, sent_at: UnixMillis) -> i64 {
    let millis = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let skew = millis(context.clock().unix_millis()).saturating_sub(millis(sent_at.0));
    if skew.abs() < SKEW_MIN_MILLIS { 0 } else { skew }
}

fn hear_presence(context: &Arc<Context>, node: &NodeName, presence: Presence) {
    let owner = context.pki.node(node).map(|record| record.machine_id);
    let verdict = context.nodes.with(node, |state| state.presence.hear(presence, owner.as_deref()));
    match verdict {
        Verdict::Stale => {}
        Verdict::Online => {
            info!(%node, "node is online");
            // While it was silent, node health may have written that nothing is known of it and its pods.
            context.nodes.with(node, |state| {
                state.unpublish();
                state.fold_again();
            });
            context.desired.mark(node);
            context.reported.mark(node);
        }
        Verdict::Offline => {
            info!(%node, "node is offline");
            context.streams.close_all_of(node);
        }
        Verdict::Duplicate { intruder } => {
            warn!(%node, process = intruder, "two machines have this node's identity");
            let message = "a second machine connects with this node's identity (a cloned SD card?) and is refused";
            context.tell(node, "DuplicateIdentity", message.to_owned());
            let (context, node) = (context.clone(), node.clone());
            tokio::spawn(async move { context.broker.block(&node, intruder).await });
        }
    }
}

fn hear_metrics(context: &Context, node: &NodeName, metrics: Metrics) {
    context.hear(node, Heard::Applied(metrics.applied));
    let (heard, applied) = (context.clock().monotonic(), metrics.applied);
    let before = context.nodes.with(node, |state| {
        state.usage = Some((heard, Arc::new(metrics)));
        state.applied.replace(applied)
    });
    if before.is_none() {
        context.desired.mark(node);
    }
}

fn hear_stream(context: &Arc<Context>, node: &NodeName, id: u64, message: StreamUp) {
    let is_close = matches!(message, StreamUp::Close { .. });
    if context.streams.hear(node, id, message) == Stream::Unknown && !is_close {
        streams::refuse(context, node, id);
    }
}

fn hear_events(context: &Context, node: &NodeName, events: Events) {
    let skew_millis = skew_millis(context, events.sent_at);
    for event in events.events {
        context.queue_event(FromNode { node: node.clone(), event, skew_millis });
    }
}
