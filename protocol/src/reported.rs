//! What a node runs: one message a shard, each the whole truth of its shard.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, Message};
use crate::ids::{BootId, ContainerName, Digest, PodUid, Stamp, UnixMillis};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The node's clock when it sent this; the hub shifts the other times by the difference.
    pub sent_at: UnixMillis,
    pub boot: BootId,
    /// The stamp of the newest desired state in the node's ledger.
    pub applied: Stamp,
    /// This message's shard, and how many there are. A pod's shard is its uid's first byte modulo `shards`.
    pub shard: u8,
    pub shards: u8,
    /// In shard 0.
    pub node: Option<NodeFacts>,
    pub pods: Vec<PodReport>,
}

impl Message for Reported {
    const KIND: Kind = Kind::Reported;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Kubernetes' names: `arm64`, `amd64`, `arm`.
    pub arch: String,
    pub os: String,
    pub os_image: String,
    pub kernel: String,
    pub machine_id: String,
    pub agent_version: String,
    pub target: Target,
    pub capacity: Capacity,
    pub addresses: Vec<[u8; 4]>,
    pub hostname: String,
    /// From `--labels`.
    pub labels: Vec<(String, String)>,
    pub pressures: Vec<Pressure>,
}

/// What the node's engine can load; part of an artifact's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// `x86_64-unknown-linux-gnu`, `aarch64-unknown-linux-gnu`, ...
    pub triple: String,
    /// CPU features beyond the triple's baseline, sorted, in Cranelift's words.
    pub cpu_features: Vec<String>,
    pub memory: MemoryProfile,
    /// Exact engine version and settings: `48.0.8+abi1`.
    pub engine: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemoryProfile {
    /// 4 GiB of address space a memory, bounds checks by guard pages.
    Fast,
    /// Address space as needed, explicit bounds checks: for small address spaces and many pods.
    Compact,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub cpu_milli: u32,
    pub memory_bytes: u64,
    pub storage_bytes: u64,
    pub pods: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pressure {
    Memory,
    Disk,
    Pids,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodReport {
    pub uid: PodUid,
    /// Of the body that the node works by.
    pub body: Digest,
    pub phase: Phase,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub started_at: Option<UnixMillis>,
    pub init_containers: Vec<ContainerReport>,
    pub containers: Vec<ContainerReport>,
    /// Every container has ended and nothing of the pod is left but its record: the hub may
    /// finalise a deletion.
    pub stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    pub name: ContainerName,
    pub state: ContainerState,
    pub last: Option<Terminated>,
    pub restarts: u32,
    pub ready: bool,
    pub started: bool,
    /// The component that runs or ran.
    pub image: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Waiting { reason: String, message: Option<String> },
    Running { since: UnixMillis },
    Terminated(Terminated),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ...
    pub reason: String,
    pub message: Option<String>,
    pub started_at: UnixMillis,
    pub finished_at: UnixMillis,
}
