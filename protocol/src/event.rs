//! What a person reads under Events in `kubectl describe`.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};
use crate::ids::{PodUid, UnixMillis};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    pub sent_at: UnixMillis,
    pub events: Vec<Event>,
}

impl Message for Events {
    const KIND: Kind = Kind::Events;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Random; a message that arrives twice is recognised by it.
    pub id: u64,
    /// `None`: of the node itself.
    pub pod: Option<PodUid>,
    pub container: Option<String>,
    pub severity: Severity,
    pub reason: String,
    pub message: String,
    pub at: UnixMillis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    Normal,
    Warning,
}
