//! From a checked configuration to a running agent, and to its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_agent_runtime::{Runtime, RuntimeConfig, RuntimeError, probe_memory_profile};
use protocol::frame::Frame;
use protocol::reported::MemoryProfile;
use protocol::topic::{Leaf, Topic};
use protocol::{NodeName, Stamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Agent};
use crate::args;
use crate::blobs::{Blobs, FetchError};
use crate::cache::{self, Cache};
use crate::clock::{Clock, ClockError, Entropy};
use crate::config::{Config, JoinConfig};
use crate::engine::{self, Engine};
use crate::identity::{HubKey, Identity, IdentityError, Membership};
use crate::join::{self, JoinError};
use crate::ledger::{Ledger, LedgerError};
use crate::link::{self, Incoming, chain};
use crate::logs::LogBook;
use crate::metrics::{self, Pulse, UsageBook};
use crate::streams::Streams;
use crate::volumes::Volumes;
use crate::{facts, files, renew};

/// The wait before joining again doubles up to this.
const JOIN_RETRY_MAX: Duration = Duration::from_secs(60);

/// A second in all: a killed process with spinning guests needs a few milliseconds to be gone.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot use the data directory {}", path.display())]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error("another agent is running on {}; stop it, or choose another --data-dir", path.display())]
    Taken { path: PathBuf },
    #[error("{} belongs to node {have}, not {want}; choose another --data-dir or --name {have}", path.display())]
    OtherNode { path: PathBuf, have: Box<NodeName>, want: Box<NodeName> },
    #[error("this machine has not joined a hub yet: pass --hub and --token, as `hub token create` prints them")]
    NotJoined,
    #[error("cannot join the hub")]
    Join(#[from] JoinError),
    #[error("cannot use this machine's identity")]
    Identity(#[from] IdentityError),
    #[error("cannot tell the time")]
    Clock(#[from] ClockError),
    #[error("cannot use the ledger")]
    Ledger(#[from] LedgerError),
    #[error("cannot use the cache")]
    Cache(#[source] FetchError),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot start the engine")]
    Runtime(#[from] RuntimeError),
}

/// What every command needs: the directory, for us alone, and who we are.
struct Base {
    /// Held for as long as the agent lives.
    _lock: File,
    clock: Clock,
    entropy: Entropy,
    identity: Identity,
    machine_id: String,
}

fn open(config: &JoinConfig) -> Result<Base, RunError> {
    let dir = &config.data_dir;
    let unusable = |source| RunError::DataDir { path: dir.clone(), source };
    files::private_dir(dir).map_err(unusable)?;
    let lock = lock(dir)?;
    let entropy = Entropy::default();
    let identity = Identity::open(dir, &config.name, &entropy)?;
    if identity.node != config.name {
        let (have, want) = (Box::new(identity.node), Box::new(config.name.clone()));
        return Err(RunError::OtherNode { path: dir.clone(), have, want });
    }
    let clock = Clock::system(Ledger::last_seen(dir))?;
    let machine_id = facts::machine_id(dir, &entropy);
    Ok(Base { _lock: lock, clock, entropy, identity, machine_id })
}

/// One agent a directory. A predecessor that was just killed may hold it for a moment longer.
fn lock(dir: &Path) -> Result<File, RunError> {
    let unusable = |source| RunError::DataDir { path: dir.to_owned(), source };
    let file = File::create(dir.join("lock")).map_err(unusable)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(std::fs::TryLockError::Error(source)) => return Err(unusable(source)),
        }
    }
    Err(RunError::Taken { path: dir.to_owned() })
}

/// Joins, and nothing else.
///
/// # Errors
/// [`RunError`]
pub async fn join(config: &JoinConfig) -> Result<(), RunError> {
    let mut base = open(config)?;
    if base.identity.membership.is_some() {
        tracing::info!(node = %config.name, "this machine has joined already");
        return Ok(());
    }
    let invitation = config.invitation.as_ref().ok_or(RunError::NotJoined)?;
    join::join(&mut base.identity, &config.data_dir, invitation, &base.machine_id, &base.clock).await?;
    tracing::info!(node = %config.name, "joined");
    Ok(())
}

/// Joins if the machine has not yet, then runs pods until `shutdown`.
///
/// # Errors
/// [`RunError`]: what a person must mend. A hub or broker that is away is none.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let mut base = open(&config.join)?;
    if base.identity.membership.is_none() {
        tokio::select! {
            joined = join_patiently(&mut base, &config.join) => joined?,
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    serve(config, base, shutdown).await
}

/// The agent at work, from the ledger to the goodbye.
async fn serve(config: Config, base: Base, shutdown: CancellationToken) -> Result<(), RunError> {
    let membership = base.identity.membership.as_ref().ok_or(RunError::NotJoined)?;
    let cluster = membership.answer.cluster.clone();
    let node = base.identity.node.clone();
    let key = membership.hub_key()?;
    let runtime = Runtime::new(runtime_config(&config))?;
    let facts = facts::gather(&config, runtime.target(), &base.machine_id, &membership.hub_host);
    tracing::info!(%node, triple = facts.target.triple, memory = ?facts.target.memory, "starting");

    let ledger = Ledger::open(&config.join.data_dir)?;
    let memory = ledger.recall()?;
    let (tls, presented) = watch::channel(Arc::new(join::mutual_tls(&base.identity, &base.clock)?));
    let (link, mut link_tasks) = start_link(&base, membership, presented, &shutdown)?;
    let blobs = Blobs::new(link.bulk.clone(), link.bulk_up.clone(), base.clock.clone());
    let logs = LogBook::new(base.clock.clone());
    let usage = UsageBook::default();
    let settings = cache::Settings {
        limit: config.cache_bytes,
        target: facts.target.clone(),
        key: key.clone(),
        cluster: cluster.clone(),
        node: node.clone(),
    };
    let parts = engine::Parts {
        runtime,
        cache: Cache::open(&config.join.data_dir, settings, base.clock.clone()).map_err(RunError::Cache)?,
        blobs: blobs.clone(),
        volumes: Volumes::new(&config.join.data_dir, &config.host_paths, base.identity.sealing_secret()?),
        logs: logs.clone(),
        usage: usage.clone(),
    };
    let (happened, happenings) = mpsc::channel(engine::QUEUE);
    let (applied, applied_seen) = watch::channel(Stamp::default());
    let mut agent = Agent::new(agent::Parts {
        params: config.params,
        clock: base.clock.clone(),
        entropy: base.entropy.clone(),
        ledger,
        engine: Engine::new(parts, happened),
        facts,
        data_dir: config.join.data_dir.clone(),
        key: key.clone(),
        topic: Topic::new(&cluster, &node, Leaf::Desired).to_string(),
        out: link.control.clone(),
        applied,
    });
    agent.recall(memory);

    // Dropped, and so aborted, at the end.
    let mut beside = tokio::task::JoinSet::new();
    let streams = Streams::new(logs, base.clock.clone(), link.bulk);
    beside.spawn(read_bulk(link.incoming, key, blobs.clone(), streams));
    beside.spawn(metrics::beat(Pulse {
        clock: base.clock.clone(),
        usage,
        applied: applied_seen,
        up: link.up.clone(),
        out: link.control,
        shutdown: shutdown.clone(),
    }));
    let (clock, data_dir) = (base.clock.clone(), config.join.data_dir.clone());
    let renewal = renew::Renewal { identity: base.identity, data_dir, clock, blobs, tls, shutdown: shutdown.clone() };
    beside.spawn(renewal.run());
    agent.run(agent::Inputs { happenings, desired: link.desired, up: link.up, heard: link.heard, shutdown }).await;
    // Guests ended with the agent's state; the ledger keeps them desired.
    while link_tasks.join_next().await.is_some() {}
    tracing::info!("stopped");
    Ok(())
}

/// A hub that is not there yet is waited for; one that refuses is told of.
async fn join_patiently(base: &mut Base, config: &JoinConfig) -> Result<(), RunError> {
    let invitation = config.invitation.as_ref().ok_or(RunError::NotJoined)?;
    let mut wait = Duration::from_secs(1);
    loop {
        let joined = join::join(&mut base.identity, &config.data_dir, invitation, &base.machine_id, &base.clock).await;
        match joined {
            Ok(()) => {
                tracing::info!(node = %config.name, "joined");
                return Ok(());
            }
            Err(error @ (JoinError::Connect { .. } | JoinError::Timeout | JoinError::Http(_) | JoinError::Body(_))) => {
                let pause = base.entropy.up_to(wait);
                wait = (wait * 2).min(JOIN_RETRY_MAX);
                tracing::warn!(error = %chain(&error), wait_ms = pause.as_millis(), "cannot join yet");
                tokio::time::sleep(pause).await;
            }
            Err(
                error @ (JoinError::Identity(_)
                | JoinError::Host { .. }
                | JoinError::Tls { .. }
                | JoinError::Refused { .. }
                | JoinError::Parse(_)),
            ) => return Err(error.into()),
        }
    }
}

fn runtime_config(config: &Config) -> RuntimeConfig {
    let memory = match config.memory_profile {
        args::MemoryProfile::Auto => probe_memory_profile(),
        args::MemoryProfile::Fast => MemoryProfile::Fast,
        args::MemoryProfile::Compact => MemoryProfile::Compact,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Guests without a limit of their own share what the node says it has, and never take the agent down.
    let guest_memory = Some(facts::capacity(config).memory_bytes);
    RuntimeConfig { memory, workers: RuntimeConfig::workers_for(cores), guest_memory }
}

fn start_link(
    base: &Base,
    membership: &Membership,
    tls: watch::Receiver<Arc<rustls::ClientConfig>>,
    shutdown: &CancellationToken,
) -> Result<(link::Link, tokio::task::JoinSet<()>), RunError> {
    let (host, port) = membership.broker()?;
    let settings = link::Settings {
        host,
        port,
        tls,
        cluster: membership.answer.cluster.clone(),
        node: base.identity.node.clone(),
        bulk: membership.answer.bulk,
        boot: base.clock.boot(),
        machine_id: base.machine_id.clone(),
        process: base.entropy.number(),
    };
    Ok(link::start(settings, &base.clock, &base.entropy, shutdown))
}

/// The reader of the bulk topics: nothing passes that the hub did not sign for that very topic.
async fn read_bulk(mut incoming: mpsc::Receiver<Incoming>, key: HubKey, blobs: Blobs, mut streams: Streams) {
    while let Some(Incoming { topic, payload }) = incoming.recv().await {
        let text = topic.to_string();
        let refused = match topic.leaf {
            Leaf::BlobData => cache::verified_answer(payload, &text, &key).map(|answer| blobs.deliver(&answer)),
            Leaf::StreamDown(id) => Frame::parse(&payload).and_then(|frame| {
                frame.verify(&text, &key)?;
                streams.deliver(id, frame.body()?);
                Ok(())
            }),
            Leaf::Desired
            | Leaf::Reported(_)
            | Leaf::Presence
            | Leaf::Metrics
            | Leaf::Events
            | Leaf::BlobRequest
            | Leaf::StreamUp(_) => Ok(()),
        };
        if let Err(error) = refused {
            tracing::warn!(topic = text, %error, "a message was refused");
        }
    }
}
