//! Begins what the plan says, and turns what comes of it into facts. Decides nothing.
//!
//! Everything that takes time is a task; its end arrives as a [`Happening`] in the one queue that the
//! agent's loop reads. The engine itself is owned by that loop.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edge_agent_core::container::{ExitReason, Outcome, Run};
use edge_agent_core::image::{ImageId, Trouble};
use edge_agent_core::plan::{Action, At, Fact, Hook, Means, Source};
use edge_agent_core::pod::Pod;
use edge_agent_core::probe::{Answer, ProbeKind};
use edge_agent_runtime::{
    ContainerConfig, ExecError, ExecOutcome, Exit, Instance, LoadError, LoadedImage, LogSink, LogStream, Runtime,
    Sandbox, SandboxSpec,
};
use protocol::blob::NoArtifact;
use protocol::pod::{ContainerSpec, HookAction, HttpGet, Image, ImageResolution, PodSpec, ProbeAction, Protocol};
use protocol::{Digest, PodUid};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::blobs::{Blobs, FetchError};
use crate::cache::{Cache, OnDisk};
use crate::link::chain;
use crate::logs::{ContainerLog, LogBook};
use crate::metrics::UsageBook;
use crate::volumes::{self, Secrets, VolumeError, Volumes};

/// Facts waiting for the loop: a few for every container of a full node. Tasks wait when it is full.
pub const QUEUE: usize = 1024;

/// A start hook has no deadline in Kubernetes; one that never ends must not stay for ever.
const HOOK_PATIENCE: Duration = Duration::from_secs(600);

/// Output of a failed exec probe kept for its message.
const EXEC_OUTPUT: usize = 1024;

/// What a task came to.
pub enum Happening {
    Fact(Fact),
    Loaded {
        id: ImageId,
        image: Arc<LoadedImage>,
        files: OnDisk,
        source: Source,
    },
    Prepared {
        pod: Arc<PodSpec>,
        body: Digest,
        secrets: Secrets,
    },
    Refreshed {
        pod: PodUid,
        body: Digest,
        secrets: Secrets,
    },
    Exited {
        at: At,
        run: Run,
        exit: Exit,
    },
    /// A pod's body that did not fit the frame.
    Body {
        digest: Digest,
        result: Result<Vec<u8>, FetchError>,
    },
}

pub struct Engine {
    runtime: Runtime,
    cache: Cache,
    blobs: Blobs,
    volumes: Volumes,
    logs: LogBook,
    usage: UsageBook,
    happenings: mpsc::Sender<Happening>,
    images: HashMap<ImageId, (Arc<LoadedImage>, OnDisk)>,
    places: HashMap<PodUid, Place>,
    live: BTreeMap<At, Live>,
}

/// One pod's network, with its opened secrets.
struct Place {
    sandbox: Sandbox,
    secrets: Secrets,
}

/// One run of a container.
struct Live {
    run: Run,
    instance: Arc<Instance>,
    config: ContainerConfig,
    log: Arc<ContainerLog>,
    /// Its probes and hooks: they end with it.
    tasks: Vec<AbortHandle>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What the engine works with.
pub struct Parts {
    pub runtime: Runtime,
    pub cache: Cache,
    pub blobs: Blobs,
    pub volumes: Volumes,
    pub logs: LogBook,
    pub usage: UsageBook,
}

/// Why a container could not be started; shown as its last state.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the image or the sandbox is gone")]
    Gone,
    #[error("cannot set up its volumes or environment")]
    Volumes(#[from] VolumeError),
    #[error("cannot start it")]
    Runtime(#[from] edge_agent_runtime::StartError),
}

impl Engine {
    pub fn new(parts: Parts, happenings: mpsc::Sender<Happening>) -> Self {
        let Parts { runtime, cache, blobs, volumes, logs, usage } = parts;
        Self {
            runtime,
            cache,
            blobs,
            volumes,
            logs,
            usage,
            happenings,
            images: HashMap::new(),
            places: HashMap::new(),
            live: BTreeMap::new(),
        }
    }

    /// Begins an action for `pod` (`None` for those about images, and for pods just removed); what is
    /// known at once comes back, the rest as happenings.
    pub fn begin(&mut self, action: Action, pod: Option<&Pod>) -> Vec<Fact> {
        match (action, pod) {
            (Action::Fetch { id, image }, _) => self.fetch(id, image),
            (Action::Unload { id }, _) => {
                if let Some((_, files)) = self.images.remove(&id) {
                    self.cache.release(&files);
                }
            }
            (Action::Prepare { .. }, Some(pod)) => self.prepare(pod),
            (Action::Refresh { .. }, Some(pod)) => self.refresh(pod),
            (Action::Start { at, run }, Some(pod)) => return self.start(at, run, pod),
            (Action::PostStart { at, run }, Some(pod)) => {
                let hook = spec(pod, &at).and_then(|spec| spec.post_start.clone());
                self.hook(at, run, Hook::PostStart, hook);
            }
            (Action::Probe { at, run, kind }, Some(pod)) => {
                let probe = spec(pod, &at).and_then(|spec| kind.spec(spec)).cloned();
                if let Some(probe) = probe {
                    let timeout = Duration::from_secs(probe.timeout_seconds.max(1).into());
                    self.probe(at, run, kind, probe.action, timeout);
                }
            }
            (Action::Stop { at, run, by, .. }, Some(pod)) => {
                let hook = spec(pod, &at).and_then(|spec| spec.pre_stop.clone());
                self.stop(at, run, by, hook);
            }
            (Action::Close { pod }, _) => drop(self.places.remove(&pod)),
            (Action::Remove { pod }, _) => self.remove(pod),
            (
                Action::Prepare { .. }
                | Action::Refresh { .. }
                | Action::Start { .. }
                | Action::PostStart { .. }
                | Action::Probe { .. }
                | Action::Stop { .. },
                None,
            ) => {}
        }
        Vec::new()
    }

    /// Takes a happening in; the fact in it is for the node.
    pub fn absorb(&mut self, happening: Happening) -> Option<Fact> {
        match happening {
            Happening::Fact(fact) => Some(fact),
            Happening::Loaded { id, image, files, source } => {
                self.cache.hold(&files);
                if let Some((_, before)) = self.images.insert(id, (image, files)) {
                    self.cache.release(&before);
                }
                Some(Fact::ImageReady { id, source })
            }
            Happening::Prepared { pod, body, secrets } => {
                let sandbox = self.runtime.sandbox(SandboxSpec {
                    uid: pod.uid,
                    ip: Ipv4Addr::from(pod.ip),
                    namespace: pod.namespace.clone(),
                    hostname: pod.hostname.clone(),
                });
                self.places.insert(pod.uid, Place { sandbox, secrets });
                Some(Fact::Prepared { pod: pod.uid, files: body })
            }
            Happening::Refreshed { pod, body, secrets } => {
                if let Some(place) = self.places.get_mut(&pod) {
                    place.secrets = secrets;
                }
                Some(Fact::Refreshed { pod, files: body })
            }
            Happening::Exited { at, run, exit } => {
                tracing::info!(pod = %at.pod, container = %at.container, code = exit.code, "container ended");
                if self.live.get(&at).is_some_and(|live| live.run == run)
                    && let Some(live) = self.live.remove(&at)
                {
                    live.log.finish();
                    self.usage.end(&at);
                }
                Some(Fact::Exited { at, run, outcome: outcome(exit) })
            }
            Happening::Body { .. } => None,
        }
    }

    /// Removes the directories of pods that are listed no more, left by an earlier life.
    pub fn keep_only(&self, listed: &BTreeSet<PodUid>) {
        self.volumes.keep_only(|uid| listed.contains(&uid));
    }

    /// Fetches a pod's body.
    pub fn fetch_body(&self, digest: Digest) {
        let (cache, blobs) = (self.cache.clone(), self.blobs.clone());
        self.spawn(async move { Happening::Body { digest, result: cache.body(digest, &blobs).await } });
    }

    fn fetch(&self, id: ImageId, image: Image) {
        let (cache, blobs, runtime) = (self.cache.clone(), self.blobs.clone(), self.runtime.clone());
        let happenings = self.happenings.clone();
        self.spawn(async move {
            let source = if cache.has(id, &image) { Source::Cache } else { Source::Hub };
            if source == Source::Hub {
                let _ = happenings.send(Happening::Fact(Fact::Pulling { id })).await;
            }
            match load(&cache, &blobs, &runtime, id, &image).await {
                Ok((image, files)) => Happening::Loaded { id, image, files, source },
                Err(error) => {
                    let (trouble, message) = (error.trouble(), chain(&error));
                    Happening::Fact(Fact::ImageFailed { id, trouble, message })
                }
            }
        });
    }

    fn prepare(&self, pod: &Pod) {
        let (volumes, spec, body) = (self.volumes.clone(), pod.spec.clone(), pod.body);
        self.spawn(async move {
            let for_disk = spec.clone();
            match blocking(move || volumes.prepare(&for_disk)).await {
                Ok(secrets) => Happening::Prepared { pod: spec, body, secrets },
                Err(error) => Happening::Fact(Fact::PrepareFailed { pod: spec.uid, message: chain(&error) }),
            }
        });
    }

    fn refresh(&self, pod: &Pod) {
        let (volumes, spec, body) = (self.volumes.clone(), pod.spec.clone(), pod.body);
        self.spawn(async move {
            let (uid, for_disk) = (spec.uid, spec.clone());
            match blocking(move || volumes.prepare(&for_disk)).await {
                Ok(secrets) => Happening::Refreshed { pod: uid, body, secrets },
                Err(error) => Happening::Fact(Fact::RefreshFailed { pod: uid, message: chain(&error) }),
            }
        });
    }

    fn start(&mut self, at: At, run: Run, pod: &Pod) -> Vec<Fact> {
        match self.try_start(&at, run, pod) {
            Ok(()) => {
                tracing::info!(pod = %at.pod, name = pod.spec.name, container = %at.container, "started container");
                vec![Fact::Started { at, run }]
            }
            Err(error) => {
                let message = Some(edge_agent_core::note::clip(chain(&error)));
                // 128 is what shells give for "could not be run".
                let outcome = Outcome { code: 128, reason: ExitReason::StartError, message };
                vec![Fact::Exited { at, run, outcome }]
            }
        }
    }

    fn try_start(&mut self, at: &At, run: Run, pod: &Pod) -> Result<(), StartError> {
        let spec = spec(pod, at).ok_or(StartError::Gone)?;
        let place = self.places.get(&at.pod).ok_or(StartError::Gone)?;
        let ImageResolution::Resolved(image) = &spec.resolution else { return Err(StartError::Gone) };
        let (loaded, files) = self.images.get(&ImageId::of(image)).ok_or(StartError::Gone)?;
        let log = self.logs.begin(at);
        let config = ContainerConfig {
            name: spec.name.clone(),
            image: loaded.clone(),
            args: spec.args.iter().map(|arg| volumes::value(arg, &place.secrets)).collect::<Result<_, _>>()?,
            env: environment(pod, spec, &place.secrets)?,
            working_dir: spec.working_dir.clone(),
            root: files.root.clone(),
            mounts: self.volumes.mounts(&pod.spec, spec)?,
            memory_limit: spec.resources.memory_limit,
            log: log.clone(),
            ports: spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| port.port).collect(),
            instance_reuse: spec.instance_reuse,
        };
        let instance = Arc::new(place.sandbox.start(config.clone()).inspect_err(|_| log.finish())?);
        self.usage.begin(at, instance.clone());
        let exited = instance.exited();
        let watched = at.clone();
        self.spawn(async move { Happening::Exited { at: watched, run, exit: exited.await } });
        self.live.insert(at.clone(), Live { run, instance, config, log, tasks: Vec::new() });
        Ok(())
    }

    fn stop(&mut self, at: At, run: Run, by: Means, hook: Option<HookAction>) {
        let Some(live) = self.live.get(&at).filter(|live| live.run == run) else { return };
        match by {
            Means::PreStop => self.hook(at, run, Hook::PreStop, hook),
            Means::Signal => live.instance.signal_stop(),
            Means::Kill => live.instance.kill(),
        }
    }

    fn hook(&mut self, at: At, run: Run, hook: Hook, action: Option<HookAction>) {
        let work = self.exercise(&at, run);
        self.spawn_for(at.clone(), run, async move {
            let result = match (action, work) {
                (Some(action), Some(work)) => work.hook(action).await,
                (None, _) | (_, None) => Answer::Success,
            };
            Happening::Fact(Fact::HookEnded { at, run, hook, result })
        });
    }

    fn probe(&mut self, at: At, run: Run, kind: ProbeKind, action: ProbeAction, timeout: Duration) {
        let Some(work) = self.exercise(&at, run) else { return };
        self.spawn_for(at.clone(), run, async move {
            let answer = match action {
                ProbeAction::HttpGet(get) => work.http_get(&get, timeout).await,
                ProbeAction::TcpSocket { port } => work.tcp_connect(port, timeout).await,
                ProbeAction::Exec { args } => work.exec(args, timeout).await,
            };
            Happening::Fact(Fact::Probed { at, run, kind, answer })
        });
    }

    fn remove(&mut self, pod: PodUid) {
        self.places.remove(&pod);
        self.live.retain(|at, _| at.pod != pod);
        self.logs.remove(pod);
        self.usage.remove(pod);
        let volumes = self.volumes.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = volumes.remove(pod) {
                tracing::warn!(%pod, %error, "cannot remove a pod's volumes");
            }
        });
    }

    /// What probes and hooks of a run need.
    fn exercise(&self, at: &At, run: Run) -> Option<Exercise> {
        let live = self.live.get(at).filter(|live| live.run == run)?;
        let place = self.places.get(&at.pod)?;
        Some(Exercise { sandbox: place.sandbox.clone(), config: live.config.clone() })
    }

    fn spawn(&self, work: impl Future<Output = Happening> + Send + 'static) -> AbortHandle {
        let happenings = self.happenings.clone();
        // The loop that reads them may be gone first, at the end.
        tokio::spawn(async move { drop(happenings.send(work.await).await) }).abort_handle()
    }

    fn spawn_for(&mut self, at: At, run: Run, work: impl Future<Output = Happening> + Send + 'static) {
        let task = self.spawn(work);
        if let Some(live) = self.live.get_mut(&at).filter(|live| live.run == run) {
            live.tasks.retain(|task| !task.is_finished());
            live.tasks.push(task);
        }
    }
}

fn spec<'a>(pod: &'a Pod, at: &At) -> Option<&'a ContainerSpec> {
    pod.container(&at.container).map(|(_, spec)| spec)
}

fn environment(pod: &Pod, spec: &ContainerSpec, secrets: &Secrets) -> Result<Vec<(String, String)>, VolumeError> {
    let mut env = Vec::new();
    for (name, value) in &spec.env {
        env.push((name.clone(), volumes::value(value, secrets)?));
    }
    if !env.iter().any(|(name, _)| name == "HOSTNAME") {
        env.push(("HOSTNAME".to_owned(), pod.spec.hostname.clone()));
    }
    Ok(env)
}

fn outcome(exit: Exit) -> Outcome {
    use edge_agent_runtime::ExitReason as Told;
    let reason = match exit.reason {
        Told::Completed => ExitReason::Completed,
        Told::OomKilled => ExitReason::OutOfMemory,
        Told::Error | Told::Stopped | Told::Killed | Told::HttpTraps => ExitReason::Error,
    };
    Outcome { code: exit.code, reason, message: exit.message.map(edge_agent_core::note::clip) }
}

#[derive(Debug, thiserror::Error)]
enum ImageError {
    #[error("cannot fetch it")]
    Fetch(#[from] FetchError),
    #[error("cannot load it")]
    Load(#[from] LoadError),
}

impl ImageError {
    fn trouble(&self) -> Trouble {
        match self {
            Self::Fetch(FetchError::NoArtifact { why: NoArtifact::Invalid | NoArtifact::Unsupported, .. }) => {
                Trouble::Unusable
            }
            Self::Load(LoadError::Read { .. } | LoadError::Altered { .. } | LoadError::Incompatible { .. }) => {
                Trouble::Pull
            }
            Self::Fetch(_) => Trouble::Pull,
            Self::Load(LoadError::UnsupportedImports { .. } | LoadError::UnknownKind | LoadError::Link { .. }) => {
                Trouble::Unusable
            }
        }
    }
}

async fn load(
    cache: &Cache,
    blobs: &Blobs,
    runtime: &Runtime,
    id: ImageId,
    image: &Image,
) -> Result<(Arc<LoadedImage>, OnDisk), ImageError> {
    let files = cache.image(id, image, blobs).await?;
    let (runtime, artifact) = (runtime.clone(), files.artifact.clone());
    match blocking(move || runtime.load(&artifact)).await {
        Ok(loaded) => Ok((loaded, files)),
        Err(error) => {
            // What is on disk is of no use: the next try asks the hub.
            match &error {
                LoadError::Read { .. } | LoadError::Altered { .. } | LoadError::Incompatible { .. } => {
                    cache.discard(image.component);
                }
                LoadError::UnsupportedImports { .. } | LoadError::UnknownKind | LoadError::Link { .. } => {}
            }
            Err(error.into())
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Carries out probes and hooks of one run.
struct Exercise {
    sandbox: Sandbox,
    config: ContainerConfig,
}

impl Exercise {
    async fn hook(&self, action: HookAction) -> Answer {
        match action {
            HookAction::HttpGet(get) => self.http_get(&get, HOOK_PATIENCE).await,
            HookAction::TcpSocket { port } => self.tcp_connect(port, HOOK_PATIENCE).await,
            HookAction::Exec { args } => self.exec(args, HOOK_PATIENCE).await,
            HookAction::Sleep { seconds } => {
                tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                Answer::Success
            }
        }
    }

    async fn http_get(&self, get: &HttpGet, timeout: Duration) -> Answer {
        match self.sandbox.http_get(get, timeout).await {
            Ok(200..=399) => Answer::Success,
            Ok(status) => Answer::Failure { message: format!("HTTP probe failed with statuscode: {status}") },
            Err(error) => Answer::Failure { message: chain(&error) },
        }
    }

    async fn tcp_connect(&self, port: u16, timeout: Duration) -> Answer {
        match self.sandbox.tcp_connect(port, timeout).await {
            Ok(()) => Answer::Success,
            Err(error) => Answer::Failure { message: chain(&error) },
        }
    }

    async fn exec(&self, args: Vec<String>, timeout: Duration) -> Answer {
        let output = Arc::new(Output::default());
        let config = ContainerConfig { log: output.clone(), ..self.config.clone() };
        match self.sandbox.exec(config, args, timeout).await {
            Ok(ExecOutcome::Exited(exit)) if exit.code == 0 => Answer::Success,
            Ok(ExecOutcome::Exited(exit)) => {
                Answer::Failure { message: format!("command exited with {}: {}", exit.code, output.text()) }
            }
            Ok(ExecOutcome::TimedOut) => {
                Answer::Failure { message: format!("command timed out after {} s", timeout.as_secs()) }
            }
            Err(error @ (ExecError::NotACommand | ExecError::Start(_))) => Answer::Unknown { message: chain(&error) },
        }
    }
}

/// The first bytes of what an exec prints.
#[derive(Default)]
struct Output(Mutex<Vec<u8>>);

impl Output {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl LogSink for Output {
    fn write(&self, _: LogStream, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = EXEC_OUTPUT - kept.len().min(EXEC_OUTPUT);
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
