//! One pod on this node: its virtual address, and the containers that share it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{ContainerName, PodUid};
use protocol::pod::{Access, HttpGet};

use crate::command;
use crate::exit::Exit;
use crate::http::{HttpServer, Requests};
use crate::instance::{Instance, Run};
use crate::load::{Entry, LoadedImage, StopSupport};
use crate::logs::LogSink;
use crate::memory::Budget;
use crate::net::{PodAddress, PodListener, PodStream};
use crate::probe::{self, ProbeError};
use crate::runtime::Runtime;
use crate::state::Template;

/// Where an HTTP component listens that declares no port.
const HTTP_PORT: u16 = 80;

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
pub struct Sandbox {
    runtime: Runtime,
    address: Arc<PodAddress>,
    spec: Arc<SandboxSpec>,
}

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
    /// Bytes of linear memory and tables over all its instances; `None` is whatever the node
    /// has left.
    pub memory_limit: Option<u64>,
    pub log: Arc<dyn LogSink>,
    /// TCP ports on which an HTTP component listens; none means 80. A command binds its own.
    pub ports: Vec<u16>,
    /// Requests an instance of an HTTP component serves before a fresh one replaces it; 0 counts as 1.
    pub instance_reuse: u32,
}

/// A directory of the host that the guest sees. (WASI opens directories; a single file is mounted by a directory
/// that holds it alone.)
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

impl Sandbox {
    pub(crate) fn new(runtime: Runtime, spec: SandboxSpec) -> Self {
        let address = Arc::new(runtime.net().join(spec.ip));
        Self { runtime, address, spec: Arc::new(spec) }
    }

    pub fn spec(&self) -> &SandboxSpec {
        &self.spec
    }

    /// Starts a container. It returns at once: the guest runs on the guests' own threads. An HTTP component
    /// is listening when this returns.
    ///
    /// # Errors
    /// A mount that cannot be opened, a port that another container of the pod has.
    pub fn start(&self, config: ContainerConfig) -> Result<Instance, StartError> {
        // Sockets, timers and tasks of the guest belong to the guests' threads, whoever calls.
        let _context = self.runtime.guests().threads.enter();
        let guests = self.runtime.guests().clone();
        let stop_support = config.image.stop_support();
        let image = config.image.clone();
        let template = self.template(config);
        let run = Run::new(template.budget.clone());
        let store = template.store(&run.control)?;
        match &image.entry {
            Entry::Command(command) => {
                run.spawn(&guests, command::run(command.clone(), store, run.clone(), guests.clone()));
            }
            Entry::Http { proxy, .. } => {
                // Opened only to find out now whether its mounts can be opened.
                drop(store);
                let listeners = self.listen(&template.config.ports)?;
                let requests = Requests::new(template, proxy.clone(), run.clone(), guests.clone());
                run.spawn(&guests, HttpServer { listeners, requests }.serve());
            }
        }
        Ok(Instance::new(run, stop_support))
    }

    /// Runs `args` in a fresh instance of the same component, with the same files, environment and address
    /// but memory of its own, and kills it after `timeout`. Output goes to `config.log`: pass a
    /// configuration with a sink that collects it. Dropping the future kills it too.
    ///
    /// # Errors
    /// A component that is no command, or what [`Sandbox::start`] refuses.
    pub async fn exec(
        &self,
        mut config: ContainerConfig,
        args: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        config.args = args;
        let command = config.image.command().cloned().ok_or(ExecError::NotACommand)?;
        let instance = {
            let _context = self.runtime.guests().threads.enter();
            let guests = self.runtime.guests().clone();
            let template = self.template(config);
            let run = Run::new(template.budget.clone());
            let store = template.store(&run.control).map_err(ExecError::Start)?;
            run.spawn(&guests, command::run(command, store, run.clone(), guests.clone()));
            Instance::new(run, StopSupport::AtOnce)
        };
        match tokio::time::timeout(timeout, instance.exited()).await {
            Ok(exit) => Ok(ExecOutcome::Exited(exit)),
            Err(_) => {
                instance.kill();
                instance.exited().await;
                Ok(ExecOutcome::TimedOut)
            }
        }
    }

    /// A probe's request to the pod's own address; answers with the HTTP status. Runs on the caller's
    /// tokio runtime.
    ///
    /// # Errors
    /// No listener, no answer in time, no HTTP.
    pub async fn http_get(&self, get: &HttpGet, timeout: Duration) -> Result<u16, ProbeError> {
        let to = SocketAddrV4::new(self.spec.ip, get.port);
        probe::within(timeout, probe::http_get(self.runtime.net(), to, get)).await
    }

    /// A probe's connection attempt, closed again at once.
    ///
    /// # Errors
    /// No listener, or none that answers in time.
    pub async fn tcp_connect(&self, port: u16, timeout: Duration) -> Result<(), ProbeError> {
        let to = SocketAddrV4::new(self.spec.ip, port);
        probe::within(timeout, probe::tcp_connect(self.runtime.net(), to)).await
    }

    /// A connection to one of the pod's TCP ports, on the caller's tokio runtime.
    ///
    /// # Errors
    /// No listener, as a Unix process would hear of it.
    pub async fn dial(&self, port: u16) -> std::io::Result<PodStream> {
        self.runtime.net().dial(SocketAddrV4::new(self.spec.ip, port)).await
    }

    fn template(&self, config: ContainerConfig) -> Template {
        Template {
            engine: self.runtime.engine().clone(),
            net: self.runtime.net().clone(),
            address: self.address.clone(),
            hostname: self.spec.hostname.clone(),
            budget: Budget::of_container(config.memory_limit, self.runtime.budget()),
            config,
        }
    }

    fn listen(&self, ports: &[u16]) -> Result<Vec<PodListener>, StartError> {
        let ports = if ports.is_empty() { &[HTTP_PORT] } else { ports };
        ports.iter().map(|port| self.listen_on(*port)).collect()
    }

    fn listen_on(&self, port: u16) -> Result<PodListener, StartError> {
        let address = SocketAddrV4::new(self.spec.ip, port);
        self.runtime.net().listen(address).map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => StartError::PortInUse { port },
            _ => StartError::Listen { port, source },
        })
    }
}
