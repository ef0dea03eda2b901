//! What a node shall run: the whole list, each time.
//!
//! The frame's stamp orders two of them; a pod that is missing here shall not run. An empty MQTT
//! payload is not an empty list: it says nothing.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};
use crate::ids::{Digest, PodUid};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    pub pods: Vec<DesiredPod>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredPod {
    pub uid: PodUid,
    /// Of the body's bytes.
    pub digest: Digest,
    /// The body while the frame has room; else the node pulls it by its digest.
    pub body: Option<Vec<u8>>,
    /// The pod is being deleted: stop it, report it finished, and keep it listed until it is gone
    /// from this list.
    pub stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub grace_seconds: u32,
}

impl Message for Desired {
    const KIND: Kind = Kind::Desired;
}
