//! Wires the hub together, and takes it down in order.
//!
//! ```text
//! run ─▶ Hub::start: data_dir (lock) ▶ store ▶ pki ▶ registry ▶ compiler ▶ world ▶ broker ▶ fleet ▶
//!                  controllers ▶ api
//!        until SIGTERM or SIGINT
//!        Hub::stop: the same backwards; a second signal ends the process at once
//! ```
//! [`Hub::start`] is what tests use: a whole hub within their own process.

mod announce;
mod data_dir;
mod seed;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_core::plan::node_health::Settings;
use hub_store::redb::RedbStore;
use hub_store::{Backend, Store, StoreError};
use protocol::UnixMillis;
use protocol::join::BulkConnection;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::api::{self, Api};
use crate::broker::{self, Broker};
use crate::clock::{Clock, Entropy};
use crate::compiler::worker::{Worker, WorkerLimits};
use crate::compiler::{self, Compiler, CompilerLimits};
use crate::config::{BrokerConfig, BrokerSecurity, Config, ExternalBroker, Restore};
use crate::controllers::node_health::NodeHeartbeats;
use crate::controllers::world::World;
use crate::controllers::{Controllers, ControllersConfig};
use crate::fleet::images::{self, Images};
use crate::fleet::{self, Fleet};
use crate::objects::Objects;
use crate::pki::join::{JoinSettings, JoinState, join_router, token_router};
use crate::pki::{HUB_CN, Pki, PkiError, TlsError};
use crate::registry::{self, Registry};
use data_dir::DataDir;

/// How long requests in flight may take to end. Service managers kill after 10 s or more.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    DataDir(#[from] data_dir::DataDirError),
    #[error("cannot listen for the API on {address}: stop what listens there, or choose another place with --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot open the store {path}")]
    Store { path: PathBuf, source: StoreError },
    #[error("cannot open the keys in {path}")]
    Pki { path: PathBuf, source: PkiError },
    #[error("cannot set up TLS")]
    Tls(#[source] TlsError),
    #[error("cannot find the compile worker; name it with --compiler")]
    Worker(#[source] std::io::Error),
    #[error(transparent)]
    Registry(#[from] registry::OpenError),
    #[error("cannot start the embedded broker; another place for it is chosen with --mqtt-listen")]
    Broker(#[source] broker::embedded::StartError),
    #[error("cannot reach another broker")]
    ExternalBroker(#[source] PkiError),
    #[error(transparent)]
    Compiler(#[from] compiler::OpenError),
    #[error(transparent)]
    Fleet(#[from] fleet::EpochError),
    #[error("cannot create the objects that every cluster has: {0}")]
    Seed(hub_core::status::ApiError),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// A hub that runs.
pub struct Hub {
    api: SocketAddr,
    objects: Objects,
    pki: Pki,
    broker: Arc<dyn Broker>,
    fleet: Fleet,
    controllers: Controllers,
    data_dir: DataDir,
    /// Ends the API; its tasks are in `serving`.
    stop_api: CancellationToken,
    serving: TaskTracker,
    /// Ends what works behind it.
    stop_work: CancellationToken,
    working: TaskTracker,
}

/// Runs a hub until SIGTERM or SIGINT.
///
/// # Errors
/// What kept the hub from starting, with the way out.
pub async fn run(config: Config) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let hub = Hub::start(config, Clock::system(), Entropy::system()).await?;
    tokio::select! {
        _ = terminate.recv() => info!("told to stop"),
        _ = interrupt.recv() => info!("told to stop"),
    }
    tokio::select! {
        () = hub.stop() => {}
        _ = terminate.recv() => warn!("told to stop twice"),
        _ = interrupt.recv() => warn!("told to stop twice"),
    }
    Ok(())
}

impl Hub {
    /// Starts everything; the hub answers when this returns.
    ///
    /// # Errors
    /// See [`ServeError`]; what was started before is taken down again.
    pub async fn start(config: Config, clock: Clock, entropy: Entropy) -> Result<Self, ServeError> {
        let began = Instant::now();
        let now = UnixMillis(clock.unix_millis());
        let data_dir = DataDir::open(&config.data_dir)?;
        // Before anything is written: a port in use is the commonest mistake.
        let listen = |source| ServeError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let api = listener.local_addr().map_err(listen)?;

        let path = data_dir.store();
        let store = RedbStore::open(&path).map_err(|source| ServeError::Store { path, source })?;
        let store = Arc::new(Backend::from(store));
        let path = data_dir.keys();
        let pki = Pki::open(&path, &config.tls_sans, now).map_err(|source| ServeError::Pki { path, source })?;
        let tls = pki.api_tls().map_err(ServeError::Tls)?;
        let limits = WorkerLimits { memory: config.compiler.max_memory, time: config.compiler.max_time };
        let worker = Worker::new(config.compiler.path.clone(), limits).map_err(ServeError::Worker)?;
        let limits = registry::Limits { image: config.max_image };
        let registry = Registry::open(&data_dir.registry(), limits, worker.clone(), clock.clone(), entropy.clone())?;

        let limits = CompilerLimits::default();
        let compiler =
            Compiler::open(&data_dir.artifacts(), limits, vec![worker], registry.clone(), clock.clone()).await?;

        let toleration = i64::try_from(config.eviction_grace.as_secs()).unwrap_or(i64::MAX);
        let objects = Objects::new(store.clone(), clock.clone(), entropy.clone(), Arc::new(registry.clone()))
            .with_toleration(toleration);
        seed::seed(&objects).await.map_err(ServeError::Seed)?;

        let (stop_work, working) = (CancellationToken::new(), TaskTracker::new());
        let world = World::new();
        let follow = (world.clone(), store.clone(), stop_work.clone());
        working.spawn(async move { follow.0.follow(follow.1, follow.2).await });
        registry.keep_what_is_in_use(images::in_use(world.clone()));
        let pin = images::pin_when_pushed(registry.clone(), objects.clone(), world.clone());
        working.spawn(stop_work.clone().run_until_cancelled_owned(pin));
        working.spawn(registry.clone().tend(stop_work.clone()));

        let started = match &config.broker {
            BrokerConfig::Embedded { listen } => {
                broker::embedded::start(pki.clone(), *listen).await.map_err(ServeError::Broker)?
            }
            BrokerConfig::External(external) => {
                let settings = external_settings(external, &pki, now).map_err(ServeError::ExternalBroker)?;
                broker::external::start(settings, entropy.clone())
            }
        };
        let broker = started.0.clone();
        let join = JoinState::new(pki.clone(), join_settings(&config, &*broker), clock.clone());
        let heartbeats = Arc::new(NodeHeartbeats::default());
        let parts = fleet::Parts {
            broker: started,
            pki: pki.clone(),
            objects: objects.clone(),
            world: world.clone(),
            heartbeats: heartbeats.clone(),
            artifacts: Arc::new(Images { registry: registry.clone(), compiler }),
            start: match config.restore {
                Restore::No => fleet::Start::Usual,
                Restore::Listen(listen) => fleet::Start::Restored { listen },
            },
        };
        let fleet = Fleet::start(parts).await?;
        let controllers = Controllers::start(objects.clone(), world, heartbeats.clone(), controllers_config(&config));

        let (stop_api, serving) = (CancellationToken::new(), TaskTracker::new());
        let parts = api::Parts {
            objects: objects.clone(),
            authenticator: pki.authenticator(),
            clock: clock.clone(),
            fleet: fleet.clone(),
            heartbeats: heartbeats.clone(),
            node_grace: config.node_grace,
            counters: join.counters().clone(),
            stop: stop_api.clone(),
        };
        let router = Api::new(parts).router(registry.router().merge(token_router(join.clone())), join_router(join));
        serving.spawn(api::listener::serve(listener, tls, router, stop_api.clone(), DRAIN));

        let hub =
            Self { api, objects, pki, broker, fleet, controllers, data_dir, stop_api, serving, stop_work, working };
        hub.announce(now, began).await?;
        Ok(hub)
    }

    async fn announce(&self, now: UnixMillis, began: Instant) -> Result<(), ServeError> {
        let addresses = announce::Addresses { api: self.api, mqtt: self.broker.address() };
        announce::write(&self.data_dir, &self.pki, &addresses, now)?;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(took_ms = took, api = %self.api, "hub is up");
        announce::tell(&self.data_dir, &addresses);
        Ok(())
    }

    /// Where the API listens.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where the embedded broker listens, if there is one.
    pub fn mqtt(&self) -> Option<SocketAddr> {
        self.broker.address()
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Takes everything down in the reverse order of its start.
    pub async fn stop(self) {
        self.stop_api.cancel();
        self.serving.close();
        self.serving.wait().await;
        self.controllers.stop().await;
        self.fleet.stop().await;
        self.stop_work.cancel();
        self.working.close();
        if tokio::time::timeout(DRAIN, self.working.wait()).await.is_err() {
            warn!(left = self.working.len(), "work was cut");
        }
        if let Err(error) = self.objects.store().flush().await {
            warn!(error = &error as &dyn std::error::Error, "cannot write the last changes");
        }
        announce::withdraw(&self.data_dir);
        info!("hub is down");
    }
}

fn controllers_config(config: &Config) -> ControllersConfig {
    let node_health = Settings {
        grace: config.node_grace,
        toleration: config.eviction_grace,
        hold: config.mass_loss_hold,
        ..Settings::default()
    };
    ControllersConfig { node_health, event_life: config.event_ttl, ..ControllersConfig::default() }
}

/// What joining nodes are told.
fn join_settings(config: &Config, broker: &dyn Broker) -> JoinSettings {
    let (address, bulk) = match (&config.broker, broker.address()) {
        // An empty host: the one by which the node reached the API.
        (BrokerConfig::Embedded { .. }, Some(address)) => (format!(":{}", address.port()), BulkConnection::Separate),
        (BrokerConfig::Embedded { listen }, None) => (format!(":{}", listen.port()), BulkConnection::Separate),
        // Brokers of others may force client ids to the certificate's name: one connection a node.
        (BrokerConfig::External(external), _) => {
            (format!("{}:{}", external.host, external.port), BulkConnection::Shared)
        }
    };
    JoinSettings { broker: address, bulk, advertise: None }
}

fn external_settings(
    external: &ExternalBroker,
    pki: &Pki,
    now: UnixMillis,
) -> Result<broker::external::Settings, PkiError> {
    let security = match external.security {
        BrokerSecurity::MutualTls => broker::external::Security::Tls(pki.hub_client_tls(now)?),
        BrokerSecurity::Plain => broker::external::Security::Plain,
    };
    Ok(broker::external::Settings {
        host: external.host.clone(),
        port: external.port,
        security,
        credentials: None,
        client_id: HUB_CN.to_owned(),
        cluster: pki.cluster().clone(),
    })
}
