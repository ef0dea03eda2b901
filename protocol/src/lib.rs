//! What hub and agents say to each other, and nothing else.
//!
//! ```text
//! ids      names and numbers with a meaning        limits   every bound, with its reason
//! topic    where a message goes                    frame    how a message is wrapped and signed
//! pod      what a node is told of one pod          desired  what a node shall run      (hub -> node)
//! reported what a node runs                        presence whether it is there        (node -> hub)
//! metrics  heartbeat and usage                     event    what a person reads        (node -> hub)
//! blob     artifacts and bodies, pulled in chunks  stream   logs and other byte streams (both)
//! join     the one HTTPS exchange before MQTT
//! ```
//!
//! Read `ids`, `frame` and `desired` first. The crate does no I/O, reads no clock, holds no key:
//! signing and verifying are traits that the shells implement.
//!
//! Compatibility: enum variants are appended, never reordered (postcard numbers them); a changed
//! struct is a new [`frame::Kind`]. `tests/golden.rs` pins the bytes of each message.
#![no_std]

extern crate alloc;

pub mod blob;
pub mod desired;
pub mod event;
pub mod frame;
pub mod ids;
pub mod join;
pub mod limits;
pub mod metrics;
pub mod pod;
pub mod presence;
pub mod reported;
pub mod stream;
pub mod topic;

pub use ids::{
    BootId, ClusterId, ContainerName, Digest, Epoch, Generation, InvalidId, NodeName, PodUid, Stamp, UnixMillis,
};
