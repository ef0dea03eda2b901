//! What all parts of the fleet share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use hub_core::fleet::epoch::{Fenced, Heard, Own, judge};
use hub_store::{Backend, Store as _};
use protocol::event::Event;
use protocol::frame::{self, Message};
use protocol::topic::{Leaf, Topic};
use protocol::{Epoch, Generation, NodeName, Stamp};
use tokio::sync::{mpsc, watch};
use tracing::error;

use super::blobs::{Artifacts, Blobs};
use super::desired;
use super::keyed::Dirty;
use super::nodes::Nodes;
use super::streams::Streams;
use super::{NotReady, Start};
use crate::broker::{Broker, Delivery, PublishError};
use crate::clock::Clock;
use crate::controllers::node_health::NodeHeartbeats;
use crate::controllers::world::World;
use crate::objects::Objects;
use crate::pki::Pki;

/// Events on their way to the API; what does not fit is counted and dropped: they are for people.
const EVENTS: usize = 1024;

/// Counts for the hub's own metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that are none: garbage, foreign topics, wrong kinds.
    pub garbage: AtomicU64,
    pub events_dropped: AtomicU64,
    pub requests_dropped: AtomicU64,
    pub repeated: AtomicU64,
    pub published: AtomicU64,
}

/// What the fleet was given.
pub(super) struct Handles {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) pki: Pki,
    pub(super) objects: Objects,
    pub(super) world: Arc<World>,
    pub(super) heartbeats: Arc<NodeHeartbeats>,
    pub(super) artifacts: Arc<dyn Artifacts>,
    pub(super) start: Start,
}

pub(super) struct Context {
    handles: Handles,
    pub(super) nodes: Nodes,
    /// Nodes to tell, and nodes to fold.
    pub(super) desired: Dirty,
    pub(super) reported: Dirty,
    pub(super) blobs: Blobs,
    pub(super) streams: Streams,
    pub(super) events: mpsc::Sender<FromNode>,
    pub(super) counters: Counters,
    pub(super) is_linked: AtomicBool,
    epoch: RwLock<Epoch>,
    fenced: watch::Sender<Option<Fenced>>,
    restoring: AtomicBool,
}

/// An event and who told it, with the hub's clock minus the node's.
pub(super) struct FromNode {
    pub(super) node: NodeName,
    pub(super) event: Event,
    pub(super) skew_millis: i64,
}

impl std::ops::Deref for Context {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.handles
    }
}

impl Context {
    /// With the queue of what nodes tell people.
    pub(super) fn new(handles: Handles, epoch: Epoch) -> (Self, mpsc::Receiver<FromNode>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let restoring = handles.start != Start::Usual;
        let context = Self {
            handles,
            nodes: Nodes::default(),
            desired: Dirty::default(),
            reported: Dirty::default(),
            blobs: Blobs::default(),
            streams: Streams::default(),
            events,
            counters: Counters::default(),
            is_linked: AtomicBool::new(false),
            epoch: RwLock::new(epoch),
            fenced: watch::Sender::new(None),
            restoring: AtomicBool::new(restoring),
        };
        (context, receiver)
    }

    pub(super) fn store(&self) -> &Arc<Backend> {
        self.objects.store()
    }

    pub(super) fn clock(&self) -> &Clock {
        self.objects.clock()
    }

    pub(super) fn epoch(&self) -> Epoch {
        *self.epoch.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn own(&self) -> Own {
        Own { epoch: self.epoch(), revision: self.store().revision().0 }
    }

    /// A restored hub goes on under this epoch.
    pub(super) fn restored(&self, epoch: Epoch) {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = epoch;
        self.restoring.store(false, Ordering::Release);
        self.nodes.with_each(|state| state.unpublish());
        self.mark_everything();
    }

    pub(super) fn ready(&self) -> Result<(), NotReady> {
        if let Some(fenced) = *self.fenced.borrow() {
            return Err(NotReady::Fenced(fenced));
        }
        if self.restoring.load(Ordering::Acquire) {
            return Err(NotReady::Restoring);
        }
        if self.is_linked.load(Ordering::Acquire) { Ok(()) } else { Err(NotReady::Offline) }
    }

    /// Judges a stamp from outside. A hub that finds itself fenced off falls silent until it is started
    /// again; one that was restored on purpose listens on and goes above what it hears.
    pub(super) fn hear(&self, node: &NodeName, heard: Heard) {
        let decided = match desired::decided(self, node) {
            Ok(decided) => decided.map(|decided| decided.generation).unwrap_or_default(),
            // Nothing is published either while the store does not answer.
            Err(_) => return,
        };
        let Err(fenced) = judge(self.epoch(), decided, heard) else { return };
        if self.start != Start::Usual && fenced != Fenced::Twin {
            return;
        }
        if self.fenced.borrow().is_some() {
            return;
        }
        error!(%node, error = &fenced as &dyn std::error::Error, "this hub falls silent");
        self.fenced.send_replace(Some(fenced));
        let broker = self.broker.clone();
        tokio::spawn(async move { broker.yield_place().await });
        self.tell(node, "HubFenced", fenced.to_string());
    }

    /// An event about a node, of the hub's own.
    pub(super) fn tell(&self, node: &NodeName, reason: &str, message: String) {
        let event = Event {
            id: u64::from_be_bytes(self.objects.entropy().bytes()),
            pod: None,
            container: None,
            severity: protocol::event::Severity::Warning,
            reason: reason.to_owned(),
            message,
            at: protocol::UnixMillis(self.clock().unix_millis()),
        };
        self.queue_event(FromNode { node: node.clone(), event, skew_millis: 0 });
    }

    pub(super) fn queue_event(&self, event: FromNode) {
        if self.events.try_send(event).is_err() {
            self.counters.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn topic(&self, node: &NodeName, leaf: Leaf) -> String {
        Topic::new(self.pki.cluster(), node, leaf).to_string()
    }

    /// Signs and sends. `generation` is zero for everything but `desired`.
    pub(super) async fn send<M: Message>(
        &self,
        node: &NodeName,
        leaf: Leaf,
        message: &M,
        generation: Generation,
        delivery: Delivery,
    ) -> Result<Stamp, SendError> {
        let topic = self.topic(node, leaf);
        let stamp = Stamp { epoch: self.epoch(), generation };
        let frame = frame::encode_signed(message, &topic, stamp, &**self.pki.identity()).map_err(SendError::Encode)?;
        self.broker.publish(&topic, Bytes::from(frame), delivery).await.map_err(SendError::Publish)?;
        Ok(stamp)
    }

    /// Everything is to be looked at again.
    pub(super) fn mark_everything(&self) {
        let mut names = self.nodes.names();
        let known = self.world.nodes();
        let listed = known.iter().filter_map(|node| node.metadata.name.as_deref()?.parse::<NodeName>().ok());
        names.extend(listed);
        self.reported.mark_all(names.iter().cloned());
        self.desired.mark_all(names);
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("cannot encode the message")]
    Encode(#[source] frame::FrameError),
    #[error("cannot hand the message to the broker")]
    Publish(#[source] PublishError),
}
