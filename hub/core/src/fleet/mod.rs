//! What the hub makes of what it hears from nodes, and when it speaks to them: decisions only.
//!
//! ```text
//! epoch      are we still the one hub of these nodes, or must we be silent?
//! presence   who is connected: restarts, late wills, two machines with one name
//! shards     a node's report, collected from its parts       publication  what to tell a node, and when
//! ```
//! Messages come lost, doubled and reordered; each function here answers the same for every order that
//! can happen, and never takes silence for absence.

pub mod epoch;
pub mod presence;
pub mod publication;
pub mod shards;
