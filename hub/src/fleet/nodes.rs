//! What is known of each node right now, in memory: heard, folded, published.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hub_core::fleet::presence::Tracker;
use hub_core::fleet::publication::{Decided, Listing, must_repeat};
use hub_core::fleet::shards::Collector;
use protocol::metrics::Metrics;
use protocol::reported::{NodeFacts, PodReport};
use protocol::{Generation, NodeName, PodUid, Stamp};

/// The last metrics of a node.
#[derive(Debug, Clone)]
pub struct NodeUsage {
    pub node: NodeName,
    pub heard: Instant,
    pub metrics: Arc<Metrics>,
}

/// One node. Written by the inbox (what it says), the folder (`folded*`) and the publisher (`published`,
/// `decided`).
#[derive(Default)]
pub(super) struct NodeState {
    pub(super) presence: Tracker,
    pub(super) collector: Collector,
    /// Whether its report was sent in this link's lifetime, rather than kept by the broker.
    pub(super) is_live: bool,
    /// Hub's clock minus the node's, in milliseconds, from its last live message.
    pub(super) skew_millis: i64,
    pub(super) applied: Option<Stamp>,
    pub(super) usage: Option<(Instant, Arc<Metrics>)>,

    pub(super) folded: BTreeMap<PodUid, PodReport>,
    pub(super) folded_facts: Option<NodeFacts>,

    /// A restored hub has kept what the node runs and it does not know.
    pub(super) is_adopted: bool,
    pub(super) decided: Option<Decided>,
    pub(super) published: Option<Published>,
}

/// What was last said to a node.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) stamp: Stamp,
    pub(super) listing: Arc<Listing>,
    pub(super) at: Instant,
    /// Whether the broker has it on this link.
    pub(super) is_current: bool,
}

impl NodeState {
    /// Published in this session, on this link.
    pub(super) fn published_generation(&self) -> Option<Generation> {
        self.published.as_ref().filter(|published| published.is_current).map(|published| published.stamp.generation)
    }

    /// The broker may have lost it: it is to be said again.
    pub(super) fn unpublish(&mut self) {
        if let Some(published) = &mut self.published {
            published.is_current = false;
        }
    }

    /// Objects may have been changed by others: everything is to be written again where it differs.
    pub(super) fn fold_again(&mut self) {
        self.folded.clear();
        self.folded_facts = None;
    }

    /// What is not in the objects yet, as far as known.
    pub(super) fn unfolded(&self) -> Vec<PodReport> {
        self.collector.pods().filter(|pod| self.folded.get(&pod.uid) != Some(*pod)).cloned().collect()
    }

    fn is_behind(&self, now: Instant) -> bool {
        let (Some(published), Some(applied)) = (&self.published, self.applied) else { return false };
        published.is_current && must_repeat(published.stamp, applied, now.saturating_duration_since(published.at))
    }
}

/// All of them. Locks are held for a few lines, never across an await.
#[derive(Default)]
pub(super) struct Nodes {
    states: Mutex<BTreeMap<NodeName, NodeState>>,
}

impl Nodes {
    /// Runs `work` on a node's state, which is made if missing.
    pub(super) fn with<T>(&self, node: &NodeName, work: impl FnOnce(&mut NodeState) -> T) -> T {
        work(self.lock().entry(node.clone()).or_default())
    }

    pub(super) fn with_each(&self, work: impl FnMut(&mut NodeState)) {
        self.lock().values_mut().for_each(work);
    }

    pub(super) fn names(&self) -> Vec<NodeName> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn forget(&self, node: &NodeName) -> Option<NodeState> {
        self.lock().remove(node)
    }

    /// Nodes that should have applied by now what they were told.
    pub(super) fn behind(&self, now: Instant) -> Vec<NodeName> {
        self.lock().iter().filter(|(_, state)| state.is_behind(now)).map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn usage(&self) -> Vec<NodeUsage> {
        let usage = |(node, state): (&NodeName, &NodeState)| {
            let (heard, metrics) = state.usage.clone()?;
            Some(NodeUsage { node: node.clone(), heard, metrics })
        };
        self.lock().iter().filter_map(usage).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, NodeState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
