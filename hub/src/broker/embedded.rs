//! The broker in this process: `mqtt5`'s sessions and routing behind an accept loop of our own.
//!
//! Its own TLS listener stops at one idle peer and never shows a certificate to whoever decides on
//! access. So handshakes run here, each in a task with a deadline, and every connection gets an
//! [`AuthProvider`] of its own that knows the verified node. The crate's version is pinned exactly.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hub_core::fleet::shards::Freshness;
use mqtt5::QoS;
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::client_handler::ClientHandler;
use mqtt5::broker::config::BrokerConfig;
use mqtt5::broker::resource_monitor::{ResourceLimits, ResourceMonitor};
use mqtt5::broker::router::{DeliveryLanes, LaneReceivers, MessageRouter, SubscriptionRequest};
use mqtt5::broker::storage::{DynamicStorage, MemoryBackend, QueueHandle, QueueLimits, StorageBackend as _};
use mqtt5::broker::sys_topics::BrokerStats;
use mqtt5::broker::tls_acceptor::TlsStreamWrapper;
use mqtt5::broker::transport::BrokerTransport;
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::packet::publish::PublishPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use protocol::frame::Frame;
use protocol::join::BULK_SUFFIX;
use protocol::limits::PACKET_MAX;
use protocol::presence::Presence;
use protocol::{NodeName, topic};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::acl::Peer;
use super::admission::{Connection, Door, Handshake};
use super::{Broker, Delivery, EVENTS, Incoming, LinkEvent, PublishError, Started};
use crate::pki::authority::subject_of;
use crate::pki::{HUB_CN, Pki, PkiError};

/// A node on a bad link needs a second or two; whoever needs longer comes again.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages for an offline or slow node. It gets everything that matters anew when it is back.
const QUEUE: QueueLimits = QueueLimits { max_messages: 1000, max_bytes: 4 << 20 };
/// Retained messages: desired, presence and up to 64 shards of a report for each node.
const RETAINED_MAX: usize = 200_000;
/// Two filters and a handful of streams: more is no agent of ours.
const SUBSCRIPTIONS_MAX: usize = 256;
/// Messages that wait for the hub's reader; each up to a packet, so this bounds memory, too.
const HUB_LANE: usize = 512;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept: the process is out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen for MQTT on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot set up TLS for MQTT")]
    Tls(#[source] PkiError),
    #[error("cannot set up the broker")]
    Setup(#[source] mqtt5::MqttError),
}

/// What was refused.
#[derive(Debug, Default)]
struct Counters {
    handshakes_failed: AtomicU64,
    handshakes_turned_away: AtomicU64,
    clients_refused: AtomicU64,
    topics_refused: AtomicU64,
}

/// The broker, its listener and the hub's place in it.
pub struct Embedded {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Shared {
    pki: Pki,
    config: Arc<BrokerConfig>,
    storage: Arc<DynamicStorage>,
    router: Arc<MessageRouter>,
    monitor: Arc<ResourceMonitor>,
    stats: Arc<BrokerStats>,
    door: Arc<Door>,
    counters: Counters,
    /// Ends every connection.
    shutdown: broadcast::Sender<()>,
    blocked: Blocked,
}

struct Running {
    accept: JoinHandle<()>,
    sweep: JoinHandle<()>,
    reader: JoinHandle<()>,
    /// Closed once the last connection's task has ended.
    alive: mpsc::Receiver<()>,
}

/// Starts the broker; port 0 takes a free one.
///
/// # Errors
/// [`StartError`]
pub async fn start(pki: Pki, listen: SocketAddr) -> Result<Started, StartError> {
    let tls = TlsAcceptor::from(pki.broker_tls().map_err(|source| StartError::Tls(source.into()))?);
    let listening = |source| StartError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    let shared = Arc::new(shared(pki).await?);
    let (events, receiver) = mpsc::channel(EVENTS);
    let reader = shared.join_as_hub(events).await?;
    let (alive, ended) = mpsc::channel(1);
    let running = Running {
        accept: tokio::spawn(shared.clone().accept(listener, tls, alive)),
        sweep: tokio::spawn(shared.clone().sweep()),
        reader,
        alive: ended,
    };
    info!(%address, "mqtt broker listens");
    Ok((Arc::new(Embedded { address, shared, running: Mutex::new(Some(running)) }), receiver))
}

async fn shared(pki: Pki) -> Result<Shared, StartError> {
    let packet = PACKET_MAX as usize;
    let mut config = BrokerConfig::new()
        .with_max_packet_size(packet)
        .with_max_subscriptions_per_client(SUBSCRIPTIONS_MAX)
        .with_max_retained_messages(RETAINED_MAX)
        .with_max_retained_message_size(packet);
    // Sessions outlive a reconnect, not a holiday: a queue is a convenience.
    config.session_expiry_interval = Duration::from_secs(3600);
    config.topic_alias_maximum = 0;
    config.shared_subscription_available = false;
    config.sys_topics_enabled = false;
    config.client_channel_capacity = 128;
    config.max_outbound_inflight = 32;
    config.server_receive_maximum = Some(64);
    let storage = Arc::new(DynamicStorage::Memory(MemoryBackend::with_queue_limits(QUEUE)));
    let router = Arc::new(MessageRouter::with_storage(storage.clone()).with_retained_limits(RETAINED_MAX, packet));
    router.initialize().await.map_err(StartError::Setup)?;
    // Its defaults (100 connections an address, 100 a minute) would lock out a plant behind NAT; our own
    // door counts connections. What a client sends beyond this in a second is refused and lost, so the
    // bound is one that only a flood meets.
    let monitor = Arc::new(ResourceMonitor::new(ResourceLimits {
        max_connections: usize::MAX,
        max_connections_per_ip: usize::MAX,
        max_connection_rate: u32::MAX,
        max_message_rate_per_client: 5000,
        max_bandwidth_per_client: 64 << 20,
        rate_limit_window: Duration::from_secs(1),
    }));
    let (shutdown, _) = broadcast::channel(1);
    Ok(Shared {
        pki,
        config: Arc::new(config),
        storage,
        router,
        monitor,
        stats: Arc::new(BrokerStats::new()),
        door: Arc::default(),
        counters: Counters::default(),
        shutdown,
        blocked: Blocked::default(),
    })
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener, tls: TlsAcceptor, alive: mpsc::Sender<()>) {
        loop {
            match listener.accept().await {
                Ok((tcp, peer)) => match self.door.knock(peer.ip()) {
                    Some((handshake, connection)) => {
                        let (shared, tls, alive) = (self.clone(), tls.clone(), alive.clone());
                        tokio::spawn(async move {
                            shared.serve(tcp, peer, tls, handshake, connection).await;
                            drop(alive);
                        });
                    }
                    None => {
                        let turned_away = count(&self.counters.handshakes_turned_away);
                        debug!(%peer, turned_away, "too many connections at the door");
                    }
                },
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection, from its handshake to its end.
    async fn serve(
        self: Arc<Self>,
        tcp: TcpStream,
        peer: SocketAddr,
        tls: TlsAcceptor,
        handshake: Handshake,
        _connection: Connection,
    ) {
        let mut shutdown = self.shutdown.subscribe();
        // Small packets, each awaited by someone; failing to say so costs latency, nothing else.
        let _ = tcp.set_nodelay(true);
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)) => accepted,
            _ = shutdown.recv() => return,
        };
        drop(handshake);
        let Ok(Ok(stream)) = accepted else {
            let failed = count(&self.counters.handshakes_failed);
            let reason =
                accepted.map_or_else(|_| "timeout".to_owned(), |r| r.err().map_or_else(String::new, |e| e.to_string()));
            warn!(%peer, failed, reason, "mqtt handshake failed");
            return;
        };
        let Some(node) = self.node_of(&stream) else {
            let refused = count(&self.counters.clients_refused);
            warn!(%peer, refused, "certificate belongs to no node of this hub");
            return;
        };
        let access = Access { peer: Peer { cluster: self.pki.cluster().clone(), node }, shared: self.clone() };
        let handler = ClientHandler::new(
            BrokerTransport::tls(TlsStreamWrapper::new(stream)),
            peer,
            self.config.clone(),
            self.router.clone(),
            Arc::new(access),
            Some(self.storage.clone()),
            self.stats.clone(),
            self.monitor.clone(),
            shutdown,
        );
        if let Err(error) = handler.run().await {
            debug!(%peer, error = &error as &dyn std::error::Error, "mqtt connection ended");
        }
    }

    /// The node behind a verified certificate: one that joined, with the key that it has now.
    fn node_of(&self, stream: &TlsStream<TcpStream>) -> Option<NodeName> {
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        let subject = subject_of(certificate).filter(|subject| subject.organizations.is_empty())?;
        let node = subject.name.parse().ok()?;
        self.pki.is_current(&node, certificate).then_some(node)
    }

    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            if let Err(error) = self.storage.cleanup_expired().await {
                warn!(error = &error as &dyn std::error::Error, "cannot clean up mqtt sessions");
            }
            self.router.sweep_sessions().await;
            self.monitor.cleanup_expired_windows().await;
        }
    }

    /// Subscribes the hub without a socket.
    async fn join_as_hub(self: &Arc<Self>, events: mpsc::Sender<LinkEvent>) -> Result<JoinHandle<()>, StartError> {
        let (lanes, receivers) = DeliveryLanes::channel(HUB_LANE);
        let (disconnect, keep) = oneshot::channel();
        let queue = self.router.queue_handle(HUB_CN);
        let registration = self.router.register_client(HUB_CN.to_owned(), lanes, queue.clone(), disconnect).await;
        queue.mark_bound(registration.generation);
        let filters = topic::hub_filters(self.pki.cluster());
        for filter in &filters {
            let request = SubscriptionRequest::new(HUB_CN, filter.as_str(), QoS::AtLeastOnce).with_no_local(true);
            self.router.subscribe(request).await.map_err(StartError::Setup)?;
        }
        let shared = self.clone();
        Ok(tokio::spawn(async move {
            shared.read_as_hub(receivers, queue, &filters, events).await;
            drop(keep);
        }))
    }

    async fn read_as_hub(
        &self,
        mut lanes: LaneReceivers,
        queue: QueueHandle,
        filters: &[String],
        events: mpsc::Sender<LinkEvent>,
    ) {
        if events.send(LinkEvent::Up).await.is_err() {
            return;
        }
        while let Some(message) = lanes.recv().await {
            if forward(&events, message.publish, Freshness::Live).await.is_err() {
                return;
            }
            // What overflowed the lane went to a queue that nobody reads: drop it, read retained anew.
            if queue.count() > 0 {
                queue.clear(None);
                if self.resend(filters, &events).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn resend(&self, filters: &[String], events: &mpsc::Sender<LinkEvent>) -> Result<(), Closed> {
        warn!("the hub was too slow for its broker");
        events.send(LinkEvent::Lost).await.map_err(|_| Closed)?;
        for filter in filters {
            for retained in self.router.get_retained_messages(filter).await {
                forward(events, retained, Freshness::Kept).await?;
            }
        }
        Ok(())
    }
}

/// The fleet has ended.
struct Closed;

/// The router hands out what was just published; what it keeps is fetched, never sent.
async fn forward(events: &mpsc::Sender<LinkEvent>, packet: PublishPacket, freshness: Freshness) -> Result<(), Closed> {
    let message = Incoming { topic: packet.topic_name, payload: packet.payload, freshness };
    events.send(LinkEvent::Message(message)).await.map_err(|_| Closed)
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

/// What one connection may do.
struct Access {
    peer: Peer,
    shared: Arc<Shared>,
}

impl Access {
    fn judge(&self, connect: &ConnectPacket) -> Result<(), (ReasonCode, &'static str)> {
        if connect.protocol_version != 5 {
            return Err((ReasonCode::UnsupportedProtocolVersion, "not mqtt 5"));
        }
        if !self.peer.may_be_called(&connect.client_id) {
            return Err((ReasonCode::ClientIdentifierNotValid, "foreign client id"));
        }
        let Some(will) = &connect.will else { return Ok(()) };
        if !self.peer.may_publish(&will.topic) {
            return Err((ReasonCode::NotAuthorized, "foreign will"));
        }
        let process = Frame::parse(&will.payload).ok().and_then(|f| f.body::<Presence>().ok()).map(|p| p.process);
        match process {
            Some(process) if self.shared.blocked.contains(&self.peer.node, process) => {
                Err((ReasonCode::Banned, "another machine has this identity"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn topic_verdict(&self, verb: &'static str, topic: &str, allowed: bool) -> bool {
        if !allowed {
            let refused = count(&self.shared.counters.topics_refused);
            warn!(node = %self.peer.node, verb, topic, refused, "topic is not the node's");
        }
        allowed
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        address: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        let answer = match self.judge(connect) {
            Ok(()) => AuthResult::success_with_user(self.peer.node.as_str()),
            Err((code, reason)) => {
                let refused = count(&self.shared.counters.clients_refused);
                warn!(node = %self.peer.node, %address, client_id = connect.client_id, reason, refused, "mqtt client refused");
                AuthResult::fail_with_reason(code, reason)
            }
        };
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn authorize_publish<'a>(&'a self, _client: &str, _user: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        let allowed = self.topic_verdict("publish", topic, self.peer.may_publish(topic));
        Box::pin(std::future::ready(allowed))
    }

    fn authorize_subscribe<'a>(&'a self, _client: &str, _user: Option<&'a str>, filter: &'a str) -> Answer<'a, bool> {
        let allowed = self.topic_verdict("subscribe", filter, self.peer.may_subscribe(filter));
        Box::pin(std::future::ready(allowed))
    }
}

/// Processes that may not come back: clones of a machine that is connected. Forgotten oldest first.
#[derive(Default)]
struct Blocked(Mutex<std::collections::VecDeque<(NodeName, u64)>>);

const BLOCKED_MAX: usize = 1024;

impl Blocked {
    fn contains(&self, node: &NodeName, process: u64) -> bool {
        let blocked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.iter().any(|(name, number)| name == node && *number == process)
    }

    fn add(&self, node: &NodeName, process: u64) {
        let mut blocked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if blocked.len() >= BLOCKED_MAX {
            blocked.pop_front();
        }
        blocked.push_back((node.clone(), process));
    }
}

impl Broker for Embedded {
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        payload: Bytes,
        delivery: Delivery,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            if payload.len() > protocol::limits::FRAME_MAX {
                return Err(PublishError::TooLarge { bytes: payload.len() });
            }
            let (qos, retain) = match delivery {
                Delivery::Retained => (QoS::AtLeastOnce, true),
                Delivery::AtLeastOnce => (QoS::AtLeastOnce, false),
                Delivery::AtMostOnce => (QoS::AtMostOnce, false),
            };
            let packet = PublishPacket::new(topic, payload, qos).with_retain(retain);
            self.shared.router.route_message(&packet, Some(HUB_CN)).await;
            Ok(())
        })
    }

    fn kick<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.shared.router.disconnect_client(node.as_str()).await;
            self.shared.router.disconnect_client(&format!("{node}{BULK_SUFFIX}")).await;
        })
    }

    fn block<'a>(&'a self, node: &'a NodeName, process: u64) -> BoxFuture<'a, ()> {
        self.shared.blocked.add(node, process);
        self.kick(node)
    }

    /// Nobody else can be the hub of our own broker; what nodes report is still worth showing.
    fn yield_place(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let Counters { handshakes_failed, handshakes_turned_away, clients_refused, topics_refused } =
            &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("mqtt_handshakes_failed_total", "TLS handshakes that failed.", count(handshakes_failed)),
            ("mqtt_turned_away_total", "Connections beyond what fits at the door.", count(handshakes_turned_away)),
            ("mqtt_clients_refused_total", "Clients with a foreign name, will or paper.", count(clients_refused)),
            ("mqtt_topics_refused_total", "Uses of topics that are not the node's.", count(topics_refused)),
        ]
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(mut running) = running else { return };
            running.reader.abort();
            self.shared.router.unregister_client(HUB_CN).await;
            running.accept.abort();
            running.sweep.abort();
            // Both own nothing that the others wait for; awaiting them frees the port and the lanes.
            let _ = running.accept.await;
            let _ = running.reader.await;
            // Nobody listening is fine: there are no connections then.
            let _ = self.shared.shutdown.send(());
            if tokio::time::timeout(STOP_TIMEOUT, running.alive.recv()).await.is_err() {
                warn!("some mqtt connections did not end in time");
            }
        })
    }
}
