//! Heartbeat and usage: every [`crate::limits::HEARTBEAT_SECONDS`], at most once, not retained.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};
use crate::ids::{BootId, ContainerName, PodUid, Stamp, UnixMillis};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    pub sequence: u64,
    pub boot: BootId,
    pub sent_at: UnixMillis,
    /// Lets the hub notice a node whose retained `desired` was lost.
    pub applied: Stamp,
    pub node: NodeUsage,
    pub pods: Vec<PodUsage>,
}

impl Message for Metrics {
    const KIND: Kind = Kind::Metrics;
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    pub uptime_seconds: u64,
    /// CPU time of the whole machine since boot, all cores, in microseconds.
    pub cpu_micros: u64,
    pub memory_available: u64,
    pub agent_rss: u64,
    /// Thousandths of a degree Celsius, where the kernel tells.
    pub temperature_millis: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodUsage {
    pub uid: PodUid,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    pub name: ContainerName,
    /// CPU time since the container's first start, in microseconds.
    pub cpu_micros: u64,
    pub memory_bytes: u64,
    pub requests: u64,
    pub failed_requests: u64,
}
