//! One pod on this node: its virtual address, and the containers that share it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{ContainerName, PodUid};
use protocol::pod::{Access, HttpGet};

use crate::exit::Exit;
use crate::instance::Instance;
use crate::load::LoadedImage;
use crate::logs::LogSink;

/// What all containers of a pod share.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    pub uid: PodUid,
    /// The pod's virtual address, unique in the cluster.
    pub ip: Ipv4Addr,
    pub namespace: String,
    /// Resolves to `ip` inside the pod.
    pub hostname: String,
}

/// A pod's sandbox; clones are the same pod. Its address is free again when the last clone and the
/// last instance are gone.
#[derive(Clone)]
pub struct Sandbox {}

/// Everything one container is started with; nothing left to look up.
#[derive(Clone)]
pub struct ContainerConfig {
    pub name: ContainerName,
    pub image: Arc<LoadedImage>,
    /// argv after argv[0], which is the container's name.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// The image's unpacked layers on the host: read-only files at `/`.
    pub root: Option<PathBuf>,
    pub mounts: Vec<Mount>,
    /// Bytes of linear memory and tables over all its instances; `None` leaves only the engine's own
    /// 4 GiB a memory.
    pub memory_limit: Option<u64>,
    pub log: Arc<dyn LogSink>,
    /// TCP ports on which an HTTP component listens; none means 80. A command binds its own.
    pub ports: Vec<u16>,
    /// Requests an instance of an HTTP component serves before a fresh one replaces it; 0 counts as 1.
    pub instance_reuse: u32,
}

/// A directory or file of the host that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub host: PathBuf,
    /// Absolute, in the guest.
    pub guest: String,
    pub access: Access,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot open {} for the mount at {guest}", host.display())]
    Mount {
        host: PathBuf,
        guest: String,
        #[source]
        source: std::io::Error,
    },
    #[error("port {port} is already in use in this pod")]
    PortInUse { port: u16 },
    #[error("cannot listen for port {port}")]
    Listen {
        port: u16,
        #[source]
        source: std::io::Error,
    },
}

/// What an exec came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutcome {
    Exited(Exit),
    /// It was killed at its timeout.
    TimedOut,
}

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("exec needs a component that exports wasi:cli/run; this one serves HTTP only")]
    NotACommand,
    #[error("cannot start")]
    Start(#[source] StartError),
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot connect to port {port}")]
    Connect {
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("no answer within {} ms", timeout.as_millis())]
    Timeout { timeout: Duration },
    #[error("the request cannot be built")]
    Request(#[source] http::Error),
    #[error("the connection broke before an answer came")]
    Exchange(#[source] hyper::Error),
}

impl Sandbox {
    /// Starts a container. It returns at once: the guest runs on the guests' own threads. An HTTP component
    /// is listening when this returns.
    ///
    /// # Errors
    /// A mount that cannot be opened, a port that another container of the pod has.
    pub fn start(&self, config: ContainerConfig) -> Result<Instance, StartError> {
        let _ = config;
        unimplemented!()
    }

    /// Runs `args` in a fresh instance of the same component, with the same files, environment and address
    /// but memory of its own, and kills it after `timeout`. Output goes to `config.log`: pass a
    /// configuration with a sink that collects it. Dropping the future kills it too.
    ///
    /// # Errors
    /// A component that is no command, or what [`Sandbox::start`] refuses.
    pub async fn exec(
        &self,
        config: ContainerConfig,
        args: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        let _ = (config, args, timeout);
        unimplemented!()
    }

    /// A probe's request to the pod's own address; answers with the HTTP status. Runs on the caller's
    /// tokio runtime.
    ///
    /// # Errors
    /// No listener, no answer in time, no HTTP.
    pub async fn http_get(&self, get: &HttpGet, timeout: Duration) -> Result<u16, ProbeError> {
        let _ = (get, timeout);
        unimplemented!()
    }

    /// A probe's connection attempt, closed again at once.
    ///
    /// # Errors
    /// No listener, or none that answers in time.
    pub async fn tcp_connect(&self, port: u16, timeout: Duration) -> Result<(), ProbeError> {
        let _ = (port, timeout);
        unimplemented!()
    }
}
