//! What a node said -> status.
//!
//! ```text
//! pod         phase, conditions, addresses      container   one container's state and its last one
//! node        labels, capacity, pressures       condition   when a condition last changed
//! ```
//! Folding is level-triggered: a report that says what is known already gives an equal object, so that
//! nothing is written. Nodes' clocks lie, so a time once recorded stays, and only new ones are shifted.

mod condition;
mod container;
mod node;
mod pod;

pub use node::{fold_labels, fold_node};
pub use pod::fold_pod;

use protocol::ids::UnixMillis;

use crate::time;

/// What the hub knows of a report besides its content.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// The node's address in its own network; empty if it told none.
    pub host_ip: &'a str,
    /// What to add to the node's times to have ours.
    pub skew_millis: i64,
    /// Unix seconds, on our clock.
    pub now: i64,
}

impl Heard<'_> {
    /// A node's time as the API writes it.
    fn stamp(&self, at: UnixMillis) -> String {
        let millis = i64::try_from(at.0).unwrap_or(i64::MAX).saturating_add(self.skew_millis);
        time::format(millis.div_euclid(1000))
    }
}
