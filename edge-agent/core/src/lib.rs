//! What an edge agent decides, and nothing it does: no I/O, no clock, no task.
//!
//! ```text
//!   desired list ──▶ Node::assign ─┐
//!   facts (exit, probe, image) ──▶ Node::observe ─┤      ┌──▶ plan ──▶ actions, wake_at
//!   time ──▶ Node::tick ───────────┘──▶  Node ────┼──▶ reports (status)
//!                                                 └──▶ records (ledger)
//! ```
//!
//! Read in this order: `time`, `node` (the whole), `pod` and `container` (the states), `plan` (what to
//! do next), `restart` and `probe` (the kubelet's arithmetic), `image`, `isolation`, `status` (what the
//! hub is told), `ledger` (what survives), and then the link's part: `session` (which desired state
//! counts), `report` (what is worth sending), `download` (blobs over a slow link), `logs` (which lines).
//!
//! A pod's life:
//!
//! ```text
//!   Run ──▶ prepare sandbox and volumes ──▶ init containers, one by one ──▶ containers
//!    │ deleted, gone from the list, past its deadline, isolated
//!    ▼
//!   End ──▶ preStop ──▶ stop signal ──▶ kill at the deadline ──▶ sandbox closed ──▶ removed once unlisted
//! ```
//!
//! Facts are level-triggered where they can be and carry a run's number where they cannot: one about an
//! earlier run of a container changes nothing.

pub mod time;

pub mod container;
pub mod image;
pub mod isolation;
pub mod node;
pub mod note;
pub mod plan;
pub mod pod;
pub mod probe;
pub mod restart;
pub mod status;

pub mod ledger;

pub mod download;
pub mod logs;
pub mod report;
pub mod session;

#[cfg(test)]
mod scenarios;

pub use node::{Listing, Node, Params};
pub use plan::{Action, Fact, Plan};
pub use time::{Moment, Now};
