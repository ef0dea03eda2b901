//! Controllers: what turns wishes into objects. One queue for all, a pure plan and a dull executor each.
//!
//! ```text
//!  store --> world --changed--> key (whom does it concern) --> queue --> executor --> objects --> store
//!                                                               ^ later, or failed: backoff |
//!                                                               +---------------------------+
//! world        what the store holds, typed and indexed, in memory: executors read only this
//! key, queue   what to look at; each once, by one worker at a time
//! claims       adopting and letting go, for every kind of owner
//! deployment, replica_set, scheduler, node_health, garbage, namespace, expiry
//! recorder     events, for `kubectl describe`
//! ```
//! An executor reads [`world::World`], asks a plan of `hub_core::plan` what to do, does it through
//! [`Objects`], and waits until the world shows it. A change means only "look again": everything is also
//! looked at from time to time without one.

pub mod world;

mod key;
mod queue;

mod claims;
mod deployment;
mod expiry;
mod garbage;
mod namespace;
pub mod node_health;
mod replica_set;
mod scheduler;

mod recorder;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hub_core::kinds::{self, Resource};
use hub_core::object::Object;
use hub_core::plan::node_health::Settings;
use hub_core::status::ApiError;
use hub_store::Revision;
use k8s_openapi::jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::objects::Objects;
use key::Key;
use node_health::NodeHeartbeats;
use queue::{Outcome, Queue};
use recorder::Recorder;
use world::{Notice, World};

/// Keys worked on at a time. They wait for the store's disk, not for a processor: a few fill a group
/// commit, more only hold memory.
const WORKERS: usize = 16;
/// Everything is looked at this often without a change: the safety net below level triggering.
const RESYNC: Duration = Duration::from_secs(300);
/// How long an executor waits for the world to show its writes before it looks anyway.
const CATCH_UP: Duration = Duration::from_secs(5);
/// What is begun when the controllers are stopped has so long to end.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub struct ControllersConfig {
    pub node_health: Settings,
    /// How long events are kept after they last happened.
    pub event_life: Duration,
    /// Finished pods kept in all.
    pub finished_pods: usize,
}

impl Default for ControllersConfig {
    fn default() -> Self {
        let finished_pods = hub_core::plan::expiry::FINISHED_PODS;
        Self { node_health: Settings::default(), event_life: hub_core::plan::expiry::EVENT_LIFE, finished_pods }
    }
}

/// What executors work with.
struct Context {
    objects: Objects,
    world: Arc<World>,
    recorder: Recorder,
    heartbeats: Arc<NodeHeartbeats>,
    config: ControllersConfig,
    queue: Queue<Key>,
    scheduler: scheduler::Memory,
    node_health: node_health::Memory,
}

/// The running controllers.
pub struct Controllers {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Controllers {
    /// Starts them; they begin once the world is synced. `world` must be fed by [`World::follow`].
    pub fn start(
        objects: Objects,
        world: Arc<World>,
        heartbeats: Arc<NodeHeartbeats>,
        config: ControllersConfig,
    ) -> Self {
        let (recorder, write_events) = Recorder::new(objects.clone());
        // It ends with the last handle, which the context holds.
        tokio::spawn(write_events);
        let stop = CancellationToken::new();
        let node_health = node_health::Memory::new(objects.clock().monotonic());
        let (queue, scheduler) = (Queue::default(), scheduler::Memory::default());
        let context = Arc::new(Context { objects, world, recorder, heartbeats, config, queue, scheduler, node_health });
        let task = tokio::spawn(run(context, stop.clone()));
        Self { stop, task }
    }

    /// Ends what is begun and starts nothing more.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            warn!(error = &error as &dyn std::error::Error, "the controllers did not end well");
        }
    }
}

async fn run(context: Arc<Context>, stop: CancellationToken) {
    let listener = tokio::spawn(listen(context.clone(), stop.clone()));
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            key = context.queue.next(), if running.len() < WORKERS => running.push(work(&context, key)),
            Some(()) = running.next() => {}
            () = stop.cancelled() => break,
        }
    }
    let drained = tokio::time::timeout(DRAIN, async { while running.next().await.is_some() {} });
    if drained.await.is_err() {
        warn!(left = running.len(), "controllers had to be cut short");
    }
    listener.abort();
}

/// Puts what changes concern into the queue.
async fn listen(context: Arc<Context>, stop: CancellationToken) {
    let mut notices = context.world.subscribe();
    tokio::select! {
        () = context.world.synced() => {}
        () = stop.cancelled() => return,
    }
    let mut resync = tokio::time::interval(RESYNC);
    loop {
        let keys = tokio::select! {
            _ = resync.tick() => key::all(&context.world),
            notice = notices.next() => match notice {
                Some(Notice::Changed(changed)) => key::concerned(&changed, &context.world),
                Some(Notice::Resync) => key::all(&context.world),
                None => return,
            },
            () = stop.cancelled() => return,
        };
        keys.into_iter().for_each(|key| context.queue.add(key));
    }
}

async fn work(context: &Context, key: Key) {
    // A bug about one object must not end the care for all others.
    let outcome = match AssertUnwindSafe(reconcile(context, &key)).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        // Somebody was quicker, or it is gone: looking again tells.
        Ok(Err(error)) if error.is_race() => {
            debug!(?key, error = &error as &dyn std::error::Error, "lost a race");
            Outcome::Failed
        }
        Ok(Err(error)) => {
            warn!(?key, error = &error as &dyn std::error::Error, "will try again");
            Outcome::Failed
        }
        Err(_) => {
            error!(?key, "a controller panicked");
            Outcome::Failed
        }
    };
    context.queue.done(key, outcome);
}

async fn reconcile(context: &Context, key: &Key) -> Result<Outcome, StepError> {
    match key {
        Key::Deployment(name) => deployment::reconcile(context, name).await,
        Key::ReplicaSet(name) => replica_set::reconcile(context, name).await,
        Key::Scheduling => scheduler::reconcile(context).await,
        Key::NodeHealth => node_health::reconcile(context).await,
        Key::Garbage(object) => garbage::reconcile(context, object).await,
        Key::Namespace(name) => namespace::reconcile(context, name).await,
        Key::Expiry => expiry::reconcile(context).await,
    }
}

/// A step of an executor that did not work.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {kind} {name}")]
struct StepError {
    doing: &'static str,
    kind: &'static str,
    name: String,
    #[source]
    source: ApiError,
}

impl StepError {
    fn new<'a>(doing: &'static str, resource: &'static Resource, name: &'a str) -> impl FnOnce(ApiError) -> Self + 'a {
        move |source| Self { doing, kind: resource.kind, name: name.to_owned(), source }
    }

    fn is_race(&self) -> bool {
        let is_going = self.source.causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
        matches!(self.source.code, 404 | 409) || is_going
    }
}

impl Context {
    /// Seconds, as Kubernetes' times are written.
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.objects.clock().unix_seconds()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Waits until the world shows all that is written so far.
    async fn caught_up(&self) {
        let written: Revision = self.objects.revision();
        if tokio::time::timeout(CATCH_UP, self.world.reached(written)).await.is_err() {
            warn!(revision = written.0, "the world lags behind the store");
        }
    }
}

/// A row that the controllers cannot do without.
fn row(group: &str, version: &str, plural: &str) -> &'static Resource {
    kinds::find(group, version, plural).expect("the table has the kinds that controllers are about")
}

/// When to look again at something that changes by itself at `at`.
fn until(at: Option<Timestamp>, now: Timestamp) -> Outcome {
    match at {
        None => Outcome::Settled,
        Some(at) => Outcome::Again(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)),
    }
}

/// Sets or clears an owner reference with this uid.
fn without_owner(object: &mut Object, uid: &str) -> bool {
    let path = ["metadata", "ownerReferences"];
    let Some(owners) = object.at(&path).and_then(serde_json::Value::as_array) else { return false };
    let kept: Vec<_> = owners.iter().filter(|owner| owner["uid"].as_str() != Some(uid)).cloned().collect();
    let changed = kept.len() != owners.len();
    if changed && kept.is_empty() {
        object.remove(&path);
    } else if changed {
        object.set(&path, kept);
    }
    changed
}
