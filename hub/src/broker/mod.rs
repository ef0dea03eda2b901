//! The MQTT broker between hub and nodes, and the hub's own end of it.
//!
//! ```text
//! embedded   a broker in this process, its accept loop ours: certificates, limits, access
//! acl        who may touch which topic                       admission  how many may be at the door
//! external   a broker of someone else's, the hub a client of it      certificate  what such a broker serves with
//! ```
//! Both are a [`Broker`] and a stream of [`LinkEvent`]s. Nothing relies on what a broker keeps: after
//! each [`LinkEvent::Up`] and [`LinkEvent::Lost`] the fleet publishes and reads everything again.

pub mod acl;
mod admission;
pub mod certificate;
pub mod embedded;
pub mod external;

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hub_core::fleet::shards::Freshness;
use protocol::NodeName;
use tokio::sync::mpsc;

/// Messages on their way to the fleet. The fleet only sorts them into memory, so this is a burst's
/// worth; when it is full the broker stops reading from its clients.
pub const EVENTS: usize = 1024;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 1, and kept for late subscribers.
    Retained,
    AtLeastOnce,
    AtMostOnce,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the link to the broker is down")]
    Offline,
    #[error("the broker takes no more messages for now")]
    Busy,
    #[error("{bytes} bytes are more than a message may have")]
    TooLarge { bytes: usize },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub topic: String,
    pub payload: Bytes,
    pub freshness: Freshness,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The link stands, and what the hub listens to is subscribed.
    Up,
    Down,
    Message(Incoming),
    /// Messages were dropped on the way: retained ones follow once more.
    Lost,
}

/// The hub's end. `publish` returns once the message is on its way, not when it has arrived.
pub trait Broker: Send + Sync + 'static {
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        payload: Bytes,
        delivery: Delivery,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// Ends the node's connections, where this broker is ours to say so. It may come back.
    fn kick<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, ()>;

    /// Kicks the node and, where this broker is ours, refuses that agent process from now on: it is
    /// a clone of a machine that has the name.
    fn block<'a>(&'a self, node: &'a NodeName, process: u64) -> BoxFuture<'a, ()>;

    /// Another hub owns these topics: on a broker of someone else's its place is left to it.
    fn yield_place(&self) -> BoxFuture<'_, ()>;

    /// Where nodes connect; `None` for a broker of someone else's.
    fn address(&self) -> Option<SocketAddr>;

    /// What was refused so far: a name, what it means, how often.
    fn counts(&self) -> Vec<(&'static str, &'static str, u64)>;

    /// Ends everything; the event stream ends first, so that nobody hears the nodes' last wills.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// What [`embedded::start`] and [`external::start`] answer.
pub type Started = (std::sync::Arc<dyn Broker>, mpsc::Receiver<LinkEvent>);
