//! Controllers: what turns wishes into objects, one keyed queue and one dull executor each.
//!
//! ```text
//! world        what the store holds, typed and indexed, in memory: everyone here reads only this
//! node_health  heartbeats in, NotReady, taints and evictions out
//! ```
//! Each executor reads [`world::World`], asks a pure plan of `hub-core` what to do, and does it
//! through [`crate::objects::Objects`].

pub mod node_health;
pub mod world;
