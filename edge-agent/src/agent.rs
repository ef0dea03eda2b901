//! The agent's loop: the one owner of the node's state.
//!
//! ```text
//!   desired (link) ──▶┐                 ┌──▶ ledger (before acting)
//!   happenings ──────▶│ Node: plan ─────┼──▶ engine
//!   time ────────────▶┘                 └──▶ reported, events (link)
//! ```
//! An event only means "look again". The heartbeat, the link and the streams are tasks of their own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::ledger::{Durability, PodRecord};
use edge_agent_core::note::Note;
use edge_agent_core::report::{Reporter, Snapshot};
use edge_agent_core::session::{self, Accepted, Verdict};
use edge_agent_core::{Action, Listing, Moment, Node, Now};
use protocol::desired::Desired;
use protocol::event::{Event, Events, Severity};
use protocol::frame::{self, Frame, FrameError};
use protocol::limits::PODS_PER_NODE_MAX;
use protocol::pod::PodSpec;
use protocol::reported::NodeFacts;
use protocol::topic::Leaf;
use protocol::{Digest, PodUid, Stamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Entropy};
use crate::engine::{Engine, Happening};
use crate::identity::HubKey;
use crate::ledger::{Ledger, LedgerError, Memory};
use crate::link::{Outgoing, chain};

/// Rounds of planning for one event: each begins something, and starts are answered at once.
const ROUNDS: usize = 16;

/// Events kept while the link is down; the oldest go first.
const EVENTS: usize = 256;

/// Events in one message.
const EVENTS_A_MESSAGE: usize = 32;

/// Between two tries to write the ledger on a disk that was full.
const LEDGER_RETRY: Duration = Duration::from_secs(10);

/// Between two looks at the machine's pressures, and notes of the time.
const UPKEEP: Duration = Duration::from_secs(60);

/// Bodies being pulled at a time; more wait for the next round.
const BODIES: usize = 8;

/// What the loop is given.
pub struct Parts {
    pub params: edge_agent_core::Params,
    pub clock: Clock,
    pub entropy: Entropy,
    pub ledger: Ledger,
    pub engine: Engine,
    pub facts: NodeFacts,
    pub data_dir: std::path::PathBuf,
    pub key: HubKey,
    /// On which `desired` comes.
    pub topic: String,
    pub out: mpsc::Sender<Outgoing>,
    pub applied: watch::Sender<Stamp>,
}

/// What wakes the loop.
pub struct Inputs {
    pub happenings: mpsc::Receiver<Happening>,
    pub desired: watch::Receiver<bytes::Bytes>,
    pub up: watch::Receiver<Option<u64>>,
    pub heard: watch::Receiver<Moment>,
    pub shutdown: CancellationToken,
}

pub struct Agent {
    clock: Clock,
    entropy: Entropy,
    ledger: Ledger,
    engine: Engine,
    facts: NodeFacts,
    data_dir: std::path::PathBuf,
    key: HubKey,
    topic: String,
    out: mpsc::Sender<Outgoing>,
    applied: watch::Sender<Stamp>,

    node: Node,
    accepted: Option<Accepted>,
    desired: Desired,
    specs: BTreeMap<Digest, Arc<PodSpec>>,
    pulling: BTreeSet<Digest>,
    /// The frame that the disk would not take, and when to try again.
    unwritten: Option<(bytes::Bytes, Moment)>,
    /// Records as they are on disk.
    saved: BTreeMap<PodUid, PodRecord>,
    reporter: Reporter,
    connection: Option<u64>,
    events: VecDeque<Event>,
    upkeep_at: Moment,
}

/// A desired state that is not acted on.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is not from our hub")]
    Frame(#[from] FrameError),
    #[error("it does not follow what the ledger has")]
    Order(#[from] session::Refusal),
    #[error("it lists {0} pods, the bound is {PODS_PER_NODE_MAX}")]
    TooMany(usize),
}

impl Agent {
    pub fn new(parts: Parts) -> Self {
        let boot = parts.clock.boot();
        let upkeep_at = parts.clock.now().at.plus(UPKEEP);
        Self {
            node: Node::new(boot, parts.params),
            clock: parts.clock,
            entropy: parts.entropy,
            ledger: parts.ledger,
            engine: parts.engine,
            facts: parts.facts,
            data_dir: parts.data_dir,
            key: parts.key,
            topic: parts.topic,
            out: parts.out,
            applied: parts.applied,
            accepted: None,
            desired: Desired::default(),
            specs: BTreeMap::new(),
            pulling: BTreeSet::new(),
            unwritten: None,
            saved: BTreeMap::new(),
            reporter: Reporter::default(),
            connection: None,
            events: VecDeque::new(),
            upkeep_at,
        }
    }

    /// Goes on where an earlier life stopped: with no hub and no broker.
    pub fn recall(&mut self, memory: Memory) {
        for problem in memory.set_aside {
            self.tell("LedgerDamaged", problem);
        }
        for (digest, body) in memory.bodies {
            self.learn_body(digest, &body);
        }
        self.saved = memory.records;
        let Some(bytes) = memory.desired else { return };
        match self.verify(&bytes) {
            Ok((accepted, desired)) => {
                tracing::info!(
                    pods = desired.pods.len(),
                    generation = accepted.stamp.generation.0,
                    "recalled the desired state"
                );
                self.accepted = Some(accepted);
                self.desired = desired;
                self.applied.send_replace(accepted.stamp);
                self.assign();
                let listed: BTreeSet<PodUid> = self.desired.pods.iter().map(|pod| pod.uid).collect();
                self.engine.keep_only(&listed);
            }
            Err(error) => {
                let aside = self.ledger.set_desired_aside().unwrap_or_default();
                self.tell("LedgerDamaged", format!("{}: {aside}", chain(&error)));
            }
        }
    }

    pub async fn run(mut self, mut inputs: Inputs) {
        loop {
            // Copied out first: a borrow held over the await would stop the link, which writes there.
            let heard = *inputs.heard.borrow();
            let wake_at = self.step(heard).await;
            tokio::select! {
                Some(happening) = inputs.happenings.recv() => {
                    self.absorb(happening).await;
                    // What has piled up is decided on together.
                    for _ in 0..crate::engine::QUEUE {
                        let Ok(more) = inputs.happenings.try_recv() else { break };
                        self.absorb(more).await;
                    }
                }
                Ok(()) = inputs.desired.changed() => {
                    let bytes = inputs.desired.borrow_and_update().clone();
                    self.take_desired(bytes).await;
                }
                Ok(()) = inputs.up.changed() => {
                    self.connection = *inputs.up.borrow_and_update();
                    self.link_changed();
                }
                () = self.clock.sleep_until(wake_at) => {}
                () = inputs.shutdown.cancelled() => return,
            }
        }
    }

    /// The broker, and the hub behind it, may have forgotten everything; what waited for them is due.
    fn link_changed(&mut self) {
        self.reporter.reset();
        if self.connection.is_some() {
            self.node.link_up(self.clock.now().at);
            self.ask_for_bodies();
        }
    }

    /// Everything that can be done now; returns when to look again.
    async fn step(&mut self, heard: Moment) -> Option<Moment> {
        if heard > Moment::default() {
            self.node.heard(heard);
        }
        self.retry_ledger().await;
        let mut wake_at = None;
        for _ in 0..ROUNDS {
            let now = self.clock.now();
            self.node.tick(now);
            let plan = self.node.plan(now);
            wake_at = plan.wake_at;
            if plan.actions.is_empty() {
                break;
            }
            self.carry_out(plan.actions, now).await;
        }
        self.save().await;
        let now = self.clock.now();
        self.collect_notes();
        self.keep_up(now);
        let report_at = self.report(now);
        self.send_events(now);
        let retry_at = self.unwritten.as_ref().map(|(_, at)| *at);
        let times = [wake_at, report_at, retry_at, Some(self.upkeep_at), self.node.report_changes_at(now)];
        times.into_iter().flatten().min()
    }

    /// Marks, remembers, then does: in this order a power cut loses nothing that was begun.
    async fn carry_out(&mut self, actions: Vec<Action>, now: Now) {
        let mut pods = Vec::with_capacity(actions.len());
        for action in &actions {
            tracing::debug!(?action, "begin");
            self.node.begin(action, now);
            pods.push(pod_of(action).and_then(|uid| self.node.pod(uid)).cloned());
        }
        self.save().await;
        for (action, pod) in actions.into_iter().zip(pods) {
            if let Action::Remove { pod } = &action {
                self.saved.remove(pod);
                self.ledger.remove_record(*pod);
            }
            for fact in self.engine.begin(action, pod.as_ref()) {
                self.node.observe(fact, self.clock.now());
            }
        }
    }

    async fn absorb(&mut self, happening: Happening) {
        if let Happening::Body { digest, result } = happening {
            return self.take_body(digest, result).await;
        }
        if let Some(fact) = self.engine.absorb(happening) {
            tracing::debug!(?fact, "seen");
            self.node.observe(fact, self.clock.now());
        }
    }

    async fn take_desired(&mut self, bytes: bytes::Bytes) {
        match self.verify(&bytes) {
            Ok((accepted, desired)) => match session::judge(self.accepted, accepted) {
                Ok(Verdict::Repeat) => {}
                Ok(Verdict::Apply) => {
                    let generation = accepted.stamp.generation.0;
                    tracing::info!(generation, pods = desired.pods.len(), "a new desired state");
                    self.accepted = Some(accepted);
                    self.desired = desired;
                    self.write_desired(bytes).await;
                    self.assign();
                }
                Err(refusal) => self.refuse(&Refused::Order(refusal)),
            },
            Err(refused) => self.refuse(&refused),
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        let message = chain(refused);
        tracing::warn!(error = %message, "a desired state was refused");
        self.tell("DesiredRefused", message);
    }

    /// Takes hostile bytes; what comes out was signed by our hub for this node.
    fn verify(&self, bytes: &[u8]) -> Result<(Accepted, Desired), Refused> {
        let frame = Frame::parse(bytes)?;
        let stamp = frame.verify(&self.topic, &self.key)?;
        let desired: Desired = frame.body()?;
        if desired.pods.len() > PODS_PER_NODE_MAX {
            return Err(Refused::TooMany(desired.pods.len()));
        }
        // Whether bodies ride along is the hub's choice each time, and no part of what is desired.
        let names: Vec<_> = desired.pods.iter().map(|pod| (pod.uid, pod.digest, pod.stop)).collect();
        let bytes = postcard::to_allocvec(&names).expect("plain data always serializes");
        Ok((Accepted { stamp, digest: Digest::of(&bytes) }, desired))
    }

    /// Before acting. A disk that is full is told of, and tried again; the node follows its hub all
    /// the same: deleting pods may be what makes room.
    async fn write_desired(&mut self, bytes: bytes::Bytes) {
        let (ledger, frame) = (self.ledger.clone(), bytes.clone());
        match blocking(move || ledger.write_desired(&frame)).await {
            Ok(()) => {
                self.unwritten = None;
                if let Some(accepted) = self.accepted {
                    self.applied.send_replace(accepted.stamp);
                }
            }
            Err(error) => {
                self.ledger_failed(&error);
                self.unwritten = Some((bytes, self.clock.now().at.plus(LEDGER_RETRY)));
            }
        }
    }

    async fn retry_ledger(&mut self) {
        let now = self.clock.now().at;
        if let Some((bytes, _)) = self.unwritten.take_if(|(_, at)| *at <= now) {
            self.write_desired(bytes).await;
        }
    }

    fn ledger_failed(&mut self, error: &LedgerError) {
        let message = chain(error);
        tracing::error!(error = %message, "the ledger cannot be written");
        self.tell("LedgerWriteFailed", message);
    }

    /// Hands the whole list to the node, with the bodies that are here, and asks for the others.
    fn assign(&mut self) {
        let desired = std::mem::take(&mut self.desired);
        for pod in &desired.pods {
            if let Some(body) = &pod.body {
                self.learn_body(pod.digest, body);
            }
        }
        let wanted: BTreeSet<Digest> = desired.pods.iter().map(|pod| pod.digest).collect();
        self.specs.retain(|digest, _| wanted.contains(digest));
        self.ledger.keep_bodies(|digest| wanted.contains(digest));
        let mut listings = Vec::with_capacity(desired.pods.len());
        for pod in &desired.pods {
            let spec = self.specs.get(&pod.digest).filter(|spec| spec.uid == pod.uid).cloned();
            if spec.is_none() && pod.stop.is_none() && self.pulling.len() < BODIES && self.pulling.insert(pod.digest) {
                self.engine.fetch_body(pod.digest);
            }
            listings.push(Listing { uid: pod.uid, digest: pod.digest, spec, stop: pod.stop });
        }
        self.desired = desired;
        let saved = &self.saved;
        self.node.assign(&listings, |uid| saved.get(&uid).cloned(), self.clock.now());
        self.forget_strangers();
    }

    /// Asks again for the bodies that are still missing.
    fn ask_for_bodies(&mut self) {
        if self.desired.pods.iter().any(|pod| pod.stop.is_none() && !self.specs.contains_key(&pod.digest)) {
            self.assign();
        }
    }

    /// Records of pods that the list no longer names belong to nobody.
    fn forget_strangers(&mut self) {
        let strangers: Vec<PodUid> = self.saved.keys().filter(|uid| self.node.pod(**uid).is_none()).copied().collect();
        for uid in strangers {
            // Without its body a listed pod is not here yet; its record is.
            if !self.desired.pods.iter().any(|pod| pod.uid == uid) {
                self.saved.remove(&uid);
                self.ledger.remove_record(uid);
            }
        }
    }

    fn learn_body(&mut self, digest: Digest, body: &[u8]) {
        if self.specs.contains_key(&digest) {
            return;
        }
        if Digest::of(body) != digest {
            return tracing::warn!(%digest, "a pod's body is not what its digest says");
        }
        match PodSpec::from_bytes(body) {
            Ok(spec) => drop(self.specs.insert(digest, Arc::new(spec))),
            Err(error) => tracing::warn!(%digest, %error, "a pod's body does not decode"),
        }
    }

    async fn take_body(&mut self, digest: Digest, result: Result<Vec<u8>, crate::blobs::FetchError>) {
        self.pulling.remove(&digest);
        match result {
            Ok(body) => {
                let (ledger, bytes) = (self.ledger.clone(), body.clone());
                if let Err(error) = blocking(move || ledger.write_body(digest, &bytes)).await {
                    self.ledger_failed(&error);
                }
                self.learn_body(digest, &body);
                self.assign();
            }
            // Asked for again by the upkeep: once a minute.
            Err(error) => tracing::warn!(%digest, error = %chain(&error), "cannot pull a pod's body"),
        }
    }

    /// Writes the records that changed.
    async fn save(&mut self) {
        let boot = self.clock.boot();
        let mut changed = Vec::new();
        for (uid, pod) in self.node.pods() {
            let record = PodRecord::of(pod, boot);
            if self.saved.get(uid) != Some(&record) {
                changed.push((record, PodRecord::durability(pod)));
            }
        }
        if changed.is_empty() {
            return;
        }
        for (record, _) in &changed {
            self.saved.insert(record.uid, record.clone());
        }
        let ledger = self.ledger.clone();
        let written = blocking(move || write_records(&ledger, &changed)).await;
        if let Err(error) = written {
            self.ledger_failed(&error);
        }
    }

    /// Publishes what changed; returns when a change that was held back is due.
    fn report(&mut self, now: Now) -> Option<Moment> {
        self.connection?;
        let snapshot = Snapshot {
            boot: self.clock.boot(),
            applied: *self.applied.borrow(),
            facts: &self.facts,
            pods: self.node.reports(now),
        };
        let due = self.reporter.due(snapshot, now);
        let mut wake_at = due.wake_at;
        for (message, digest) in due.messages {
            let payload = match frame::encode(&message) {
                Ok(payload) => payload,
                Err(error) => {
                    tracing::error!(shard = message.shard, %error, "a report does not fit its frame");
                    self.reporter.sent(message.shard, digest, now.at);
                    continue;
                }
            };
            match self.out.try_send(Outgoing { leaf: Leaf::Reported(message.shard), payload }) {
                Ok(()) => self.reporter.sent(message.shard, digest, now.at),
                // The link is slow: what is newest then is sent then.
                Err(_) => wake_at = Some(now.at.plus(Duration::from_secs(1))),
            }
        }
        wake_at
    }

    fn collect_notes(&mut self) {
        for note in self.node.take_notes() {
            let Note { pod, container, severity, reason, message, at } = note;
            tracing::info!(pod = pod.map(tracing::field::display), container, reason, text = message, "event");
            self.push_event(Event {
                id: self.entropy.number(),
                pod,
                container,
                severity,
                reason: reason.to_owned(),
                message,
                at,
            });
        }
    }

    /// An event of the node itself.
    fn tell(&mut self, reason: &str, message: String) {
        let event = Event {
            id: self.entropy.number(),
            pod: None,
            container: None,
            severity: Severity::Warning,
            reason: reason.to_owned(),
            message: edge_agent_core::note::clip(message),
            at: self.clock.now().wall,
        };
        self.push_event(event);
    }

    fn push_event(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn send_events(&mut self, now: Now) {
        while self.connection.is_some() && !self.events.is_empty() {
            let count = self.events.len().min(EVENTS_A_MESSAGE);
            let events: Vec<Event> = self.events.iter().take(count).cloned().collect();
            let payload = frame::encode(&Events { sent_at: now.wall, events }).expect("32 clipped events fit a frame");
            if self.out.try_send(Outgoing { leaf: Leaf::Events, payload }).is_err() {
                return;
            }
            self.events.drain(..count);
        }
    }

    fn keep_up(&mut self, now: Now) {
        if now.at < self.upkeep_at {
            return;
        }
        self.upkeep_at = now.at.plus(UPKEEP);
        self.facts.pressures = crate::facts::pressures(&self.data_dir);
        self.ledger.write_seen(self.clock.trusted());
        self.ask_for_bodies();
    }
}

fn write_records(ledger: &Ledger, records: &[(PodRecord, Durability)]) -> Result<(), LedgerError> {
    records.iter().try_for_each(|(record, durability)| ledger.write_record(record, *durability))
}

fn pod_of(action: &Action) -> Option<PodUid> {
    match action {
        Action::Fetch { .. } | Action::Unload { .. } => None,
        Action::Prepare { pod } | Action::Refresh { pod } | Action::Close { pod } | Action::Remove { pod } => {
            Some(*pod)
        }
        Action::Start { at, .. }
        | Action::PostStart { at, .. }
        | Action::Probe { at, .. }
        | Action::Stop { at, .. } => Some(at.pod),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
