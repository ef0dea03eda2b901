//! What a node is told of one pod: everything resolved, nothing left to look up.
//!
//! This is an assignment, not a Kubernetes object: the hub translates (hub-core's `assign`).
//! A `PodSpec` is named by the digest of its postcard bytes, so that a node pulls each version once.
//! Under one uid the containers' names never change; images, files and environment may.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::ids::{ContainerName, Digest, PodUid};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
    /// The pod's virtual address, unique in the cluster.
    pub ip: [u8; 4],
    pub hostname: String,
    pub restart: RestartPolicy,
    /// `terminationGracePeriodSeconds`.
    pub grace_seconds: u32,
    pub active_deadline_seconds: Option<u32>,
    /// `wherry.dev/stop-when-isolated`.
    pub stop_when_isolated_seconds: Option<u32>,
    /// Run one after the other, each to its end, before `containers`.
    pub init_containers: Vec<ContainerSpec>,
    pub containers: Vec<ContainerSpec>,
    pub volumes: Vec<VolumeSpec>,
    /// A sealed box (X25519, XSalsa20-Poly1305) to the node's key around postcard `Vec<Vec<u8>>`:
    /// the values that [`Value::Secret`] and [`FileContent::Secret`] name by index.
    pub sealed_secrets: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub name: ContainerName,
    /// As the user wrote it.
    pub image: String,
    pub resolution: ImageResolution,
    /// What the hub could not resolve (a ConfigMap that is not there): becomes
    /// CreateContainerConfigError until a corrected body arrives.
    pub config_error: Option<String>,
    /// The guest's argv after argv[0]: Kubernetes' `command`, without its first word, and `args`. One that `$(NAME)`
    /// put a Secret's value into is a secret itself.
    pub args: Vec<Value>,
    pub env: Vec<(String, Value)>,
    pub working_dir: Option<String>,
    pub ports: Vec<PortSpec>,
    pub mounts: Vec<MountSpec>,
    pub resources: Resources,
    pub liveness: Option<ProbeSpec>,
    pub readiness: Option<ProbeSpec>,
    pub startup: Option<ProbeSpec>,
    pub post_start: Option<HookAction>,
    pub pre_stop: Option<HookAction>,
    /// Requests one instance of an HTTP component serves before it is replaced (`wherry.dev/instance-reuse`); 1 = fresh each.
    pub instance_reuse: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageResolution {
    Resolved(Image),
    /// The registry has no such image: becomes ErrImagePull, then ImagePullBackOff, until the hub
    /// sends a resolved body.
    Unresolved {
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The component's digest (the Wasm bytes, before compilation).
    pub component: Digest,
    /// Read-only files: tar archives, zstd-compressed, unpacked one over the other at `/`.
    pub layers: Vec<Layer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Of the bytes that travel.
    pub digest: Digest,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    Literal(String),
    Secret(u16),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    pub name: String,
    pub port: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    pub volume: String,
    pub path: String,
    pub sub_path: String,
    pub access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// Bytes and thousandths of a core; `None` is no limit of the pod's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub memory_request: Option<u64>,
    pub memory_limit: Option<u64>,
    pub cpu_request_milli: Option<u32>,
    pub cpu_limit_milli: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    pub action: ProbeAction,
    pub initial_delay_seconds: u32,
    pub period_seconds: u32,
    pub timeout_seconds: u32,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    /// A probe's own `terminationGracePeriodSeconds`.
    pub grace_seconds: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeAction {
    HttpGet(HttpGet),
    TcpSocket { port: u16 },
    Exec { args: Vec<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpGet {
    pub port: u16,
    pub path: String,
    pub host: Option<String>,
    pub headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookAction {
    HttpGet(HttpGet),
    Exec { args: Vec<String> },
    Sleep { seconds: u32 },
    TcpSocket { port: u16 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    pub name: String,
    pub source: VolumeSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    EmptyDir {
        size_limit: Option<u64>,
    },
    /// Allowed only below a directory that the agent was started with.
    HostPath {
        path: String,
        kind: HostPathKind,
    },
    /// ConfigMaps, Secrets, downward API and projections: the files themselves. Changes appear in
    /// running containers.
    Files(Vec<FileSpec>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathKind {
    Unchecked,
    Directory,
    DirectoryOrCreate,
    File,
    FileOrCreate,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Relative to the volume, without `..`.
    pub path: String,
    pub mode: u32,
    pub content: FileContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileContent {
    Inline(Vec<u8>),
    Secret(u16),
}

impl PodSpec {
    /// Names this version of the pod's body.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The bytes that travel and are hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a PodSpec of plain owned data always serializes")
    }

    /// # Errors
    /// Bytes that are no pod body.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}
