//! Whether a node is there: a hint, never proof.
//!
//! The offline message is the connection's last will. Wills arrive after the next birth, so one whose
//! `connection` is not the newest heard of is ignored.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};
use crate::ids::BootId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub boot: BootId,
    /// Counts the connections of this agent process, in the high bits its start (unix seconds):
    /// later is larger, also across restarts with a sane clock.
    pub connection: u64,
    pub online: bool,
    pub machine_id: String,
    /// Random for each agent process: two processes with one identity are told apart by it.
    pub process: u64,
}

impl Message for Presence {
    const KIND: Kind = Kind::Presence;
}
