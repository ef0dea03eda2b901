//! Node health: which nodes are alive, and what becomes of pods on those that are not.
//!
//! Heartbeats never touch the store (SD cards wear out): the fleet link writes them into
//! [`NodeHeartbeats`], and only a change of mind is written to a Node.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use protocol::ids::NodeName;

/// When each node was last heard, and since when we could have heard any.
#[derive(Debug, Default)]
pub struct NodeHeartbeats {
    heard: Mutex<Heard>,
}

#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Since when our own link to the broker stands; `None` while it does not. Silence counts from
    /// here at the earliest: a hub that was deaf itself blames nobody.
    pub link_since: Option<Instant>,
    /// By node, the last message that the node itself sent, whatever it was about.
    pub nodes: HashMap<NodeName, Instant>,
}

impl NodeHeartbeats {
    /// A node said something.
    pub fn heard(&self, node: &NodeName, at: Instant) {
        let mut heard = self.lock();
        match heard.nodes.get_mut(node) {
            Some(last) => *last = (*last).max(at),
            None => drop(heard.nodes.insert(node.clone(), at)),
        }
    }

    /// The hub's link to the broker stands, or stands again: every grace starts anew.
    pub fn link_up(&self, at: Instant) {
        self.lock().link_since = Some(at);
    }

    /// The link is gone: nobody is judged until it is back.
    pub fn link_down(&self) {
        self.lock().link_since = None;
    }

    /// The Node was deleted.
    pub fn forget(&self, node: &NodeName) {
        self.lock().nodes.remove(node);
    }

    pub fn snapshot(&self) -> Heard {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
