//! What passes between the hub and its nodes.
//!
//! ```text
//!            world changes                         broker's messages
//!                 |                                      |
//!   watch -> dirty nodes -> desired (publish)      inbox: parse, judge, sort into `nodes`
//!                                ^                  |        |        |        |        |
//!                                |               reported  events   blobs   streams   usage
//!              epoch: may we speak at all?     (fold into objects)
//! ```
//! One task reads the link and only sorts; whoever does the work is woken and reads the newest state from
//! [`nodes::Nodes`]. So every arrow is level-triggered: nothing depends on having seen each message. A
//! tick looks at everything again.

mod adopted;
mod assignment;
mod blobs;
mod context;
mod desired;
mod epoch;
mod events;
mod folding;
pub mod images;
mod inbox;
mod keyed;
mod nodes;
mod reported;
mod streams;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hub_core::fleet::epoch::Fenced;
use protocol::NodeName;
use protocol::stream::LogsRequest;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use blobs::{ArtifactError, Artifacts};
pub use context::Counters;
pub use epoch::EpochError;
pub use nodes::NodeUsage;
pub use streams::{LogStream, StreamError};

use crate::broker;
use crate::controllers::node_health::NodeHeartbeats;
use crate::controllers::world::World;
use crate::objects::Objects;
use crate::pki::Pki;
use context::{Context, Handles};

/// Between looks at everything: what makes up for an event that nobody saw.
const RESYNC_EVERY: Duration = Duration::from_secs(30);
/// Between looks at who has not applied what it was told.
const REPEAT_EVERY: Duration = Duration::from_secs(2);

/// What the fleet works with.
pub struct Parts {
    pub broker: broker::Started,
    pub pki: Pki,
    pub objects: Objects,
    pub world: Arc<World>,
    pub heartbeats: Arc<NodeHeartbeats>,
    pub artifacts: Arc<dyn Artifacts>,
    pub start: Start,
}

/// How this hub came to its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Usual,
    /// From a backup that may be older than what the nodes have (`--restore`): first listen for so long.
    Restored {
        listen: Duration,
    },
}

/// Why the fleet cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("no link to the mqtt broker")]
    Offline,
    #[error("this hub is fenced off")]
    Fenced(#[from] Fenced),
    #[error("the hub was restored and still listens to its nodes")]
    Restoring,
}

/// Handle on the running fleet; cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    context: Arc<Context>,
    stop: CancellationToken,
    tasks: Arc<tokio::sync::Mutex<JoinSet<()>>>,
}

impl Fleet {
    /// Starts everything that links hub and nodes.
    ///
    /// # Errors
    /// [`EpochError`]: the store could not tell or keep which incarnation this is.
    pub async fn start(parts: Parts) -> Result<Self, EpochError> {
        let Parts { broker: (broker, messages), pki, objects, world, heartbeats, artifacts, start } = parts;
        let epoch = epoch::load(objects.store(), objects.entropy()).await?;
        let handles = Handles { broker, pki, objects, world, heartbeats, artifacts, start };
        let (context, events) = Context::new(handles, epoch);
        let context = Arc::new(context);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut spawn = |task: futures_util::future::BoxFuture<'static, ()>| {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = task => {}
                    () = stop.cancelled() => {}
                }
            });
        };
        spawn(Box::pin(inbox::run(context.clone(), messages)));
        spawn(Box::pin(desired::watch(context.clone())));
        spawn(Box::pin(desired::run(context.clone())));
        spawn(Box::pin(reported::run(context.clone())));
        spawn(Box::pin(events::run(context.clone(), events)));
        spawn(Box::pin(repeat(context.clone())));
        spawn(Box::pin(resync(context.clone())));
        if let Start::Restored { listen } = context.start {
            spawn(Box::pin(epoch::restore(context.clone(), listen)));
        }
        info!(epoch = context.epoch().counter, "fleet started");
        Ok(Self { context, stop, tasks: Arc::new(tokio::sync::Mutex::new(tasks)) })
    }

    /// Ends the link first, so that nobody hears the nodes' last wills, then everything else.
    pub async fn stop(&self) {
        self.stop.cancel();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        self.context.broker.stop().await;
    }

    /// Whether nodes can be spoken to.
    ///
    /// # Errors
    /// [`NotReady`]
    pub fn ready(&self) -> Result<(), NotReady> {
        self.context.ready()
    }

    /// What the nodes' last messages said of their use, with when they were heard.
    pub fn usage(&self) -> Vec<NodeUsage> {
        self.context.nodes.usage()
    }

    /// A container's log, as its node has it.
    ///
    /// # Errors
    /// [`StreamError`] where the node cannot be asked, or refuses.
    pub async fn logs(&self, node: &NodeName, request: LogsRequest) -> Result<LogStream, StreamError> {
        streams::logs(self.context.clone(), node, request).await
    }

    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// What the broker refused: a name, what it means, how often.
    pub fn refusals(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.context.broker.counts()
    }
}

/// Tells nodes again what they have not applied.
async fn repeat(context: Arc<Context>) {
    loop {
        tokio::time::sleep(REPEAT_EVERY).await;
        for node in context.nodes.behind(context.clock().monotonic()) {
            context.counters.repeated.fetch_add(1, Ordering::Relaxed);
            context.nodes.with(&node, |state| state.unpublish());
            context.desired.mark(&node);
        }
    }
}

async fn resync(context: Arc<Context>) {
    loop {
        tokio::time::sleep(RESYNC_EVERY).await;
        context.nodes.with_each(nodes::NodeState::fold_again);
        context.mark_everything();
    }
}
