//! The node's MQTT connections: one supervisor task for each, which owns everything of it.
//!
//! ```text
//!   control  desired in; presence, reported, metrics, events out
//!   bulk     blobs and streams, both ways: a slow transfer never delays a heartbeat
//! ```
//! The MQTT client is treated as lossy: it forgets what was queued when the session is gone, may hang
//! in a write, and retries a refused packet for ever. So each connection is a new client, each poll has
//! a guard, sizes are checked before, and after each connect everything that matters is said again.

use std::sync::Arc;
use std::time::Duration;

use protocol::join::{BULK_SUFFIX, BulkConnection};
use protocol::limits::{FRAME_MAX, PACKET_MAX};
use protocol::presence::Presence;
use protocol::topic::{Leaf, Topic, node_bulk_filters, node_control_filters};
use protocol::{BootId, ClusterId, NodeName, frame};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ClientError, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Entropy};

/// A dead link shows after one and a half of these.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The client can hang in a write without an error (measured: 75 s and more); a healthy one returns
/// with each ping.
const POLL_GUARD: Duration = Duration::from_secs(12);

const CONNECT_SECONDS: u64 = 10;

/// The wait before a retry is drawn from zero to this, which doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A connection that held this long was a good one: the next failure starts over.
const HEALTHY: Duration = Duration::from_secs(60);

/// The client allocates a slot for each message in flight; its default costs 14 MB.
const IN_FLIGHT: u16 = 100;

/// Messages between the agent and a connection: a report of all shards fits.
const QUEUE: usize = 128;

/// Messages from the hub that wait for their reader; more are dropped and asked for again.
const INCOMING: usize = 128;

/// Time for saying goodbye.
const GOODBYE: Duration = Duration::from_millis(800);

#[derive(Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    /// What the next connection presents; renewed now and then.
    pub tls: watch::Receiver<Arc<rustls::ClientConfig>>,
    pub cluster: ClusterId,
    pub node: NodeName,
    pub bulk: BulkConnection,
    pub boot: BootId,
    pub machine_id: String,
    /// Random for this process.
    pub process: u64,
}

/// Something to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub leaf: Leaf,
    pub payload: Vec<u8>,
}

/// What the hub said on the bulk topics, not yet verified.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub topic: Topic,
    pub payload: bytes::Bytes,
}

/// Both connections, from the agent's side.
pub struct Link {
    pub control: mpsc::Sender<Outgoing>,
    pub bulk: mpsc::Sender<Outgoing>,
    /// The newest `desired` as it came; a slow reader sees only the last.
    pub desired: watch::Receiver<bytes::Bytes>,
    /// The number of the present control connection.
    pub up: watch::Receiver<Option<u64>>,
    pub bulk_up: watch::Receiver<Option<u64>>,
    /// Changes whenever the broker was heard.
    pub heard: watch::Receiver<edge_agent_core::Moment>,
    pub incoming: mpsc::Receiver<Incoming>,
}

/// Which topics a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Control,
    Bulk,
    /// For brokers that allow a certificate one client id only.
    Both,
}

struct Supervisor {
    settings: Settings,
    role: Role,
    clock: Clock,
    entropy: Entropy,
    connections: u64,
    outgoing: mpsc::Receiver<Outgoing>,
    /// For the other role's messages when one connection carries both.
    outgoing_too: Option<mpsc::Receiver<Outgoing>>,
    up: watch::Sender<Option<u64>>,
    up_too: Option<watch::Sender<Option<u64>>>,
    desired: watch::Sender<bytes::Bytes>,
    heard: watch::Sender<edge_agent_core::Moment>,
    incoming: mpsc::Sender<Incoming>,
    /// The other connection: where it comes up, this one need not wait.
    sibling: watch::Receiver<Option<u64>>,
    shutdown: CancellationToken,
}

/// Starts the supervisors; they end, with a goodbye, when `shutdown` is cancelled.
pub fn start(
    settings: Settings,
    clock: &Clock,
    entropy: &Entropy,
    shutdown: &CancellationToken,
) -> (Link, tokio::task::JoinSet<()>) {
    let (control, control_out) = mpsc::channel(QUEUE);
    let (bulk, bulk_out) = mpsc::channel(QUEUE);
    let (incoming_in, incoming) = mpsc::channel(INCOMING);
    let (up_in, up) = watch::channel(None);
    let (bulk_up_in, bulk_up) = watch::channel(None);
    let (desired_in, desired) = watch::channel(bytes::Bytes::new());
    let (heard_in, heard) = watch::channel(edge_agent_core::Moment::default());
    // Later processes count from higher numbers, as far as the clock is sane.
    let connections = (clock.trusted().0 / 1000) << 20;
    let (control_up, bulk_too) = (up.clone(), bulk_up.clone());
    let supervisor = |role, outgoing, outgoing_too, up, up_too| Supervisor {
        sibling: if role == Role::Bulk { control_up.clone() } else { bulk_too.clone() },
        settings: settings.clone(),
        role,
        clock: clock.clone(),
        entropy: entropy.clone(),
        connections,
        outgoing,
        outgoing_too,
        up,
        up_too,
        desired: desired_in.clone(),
        heard: heard_in.clone(),
        incoming: incoming_in.clone(),
        shutdown: shutdown.clone(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    match settings.bulk {
        BulkConnection::Separate => {
            tasks.spawn(supervisor(Role::Control, control_out, None, up_in, None).run());
            tasks.spawn(supervisor(Role::Bulk, bulk_out, None, bulk_up_in, None).run());
        }
        BulkConnection::Shared => {
            tasks.spawn(supervisor(Role::Both, control_out, Some(bulk_out), up_in, Some(bulk_up_in)).run());
        }
    }
    (Link { control, bulk, desired, up, bulk_up, heard, incoming }, tasks)
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the connection failed")]
    Failed(#[from] ConnectionError),
    #[error("the connection hung for {} s", POLL_GUARD.as_secs())]
    Hung,
    #[error("the client is gone")]
    Client(#[from] ClientError),
    #[error("the broker refused a subscription: {0:?}")]
    Refused(SubscribeReasonCode),
    #[error("the agent stops")]
    Shutdown,
}

impl Supervisor {
    async fn run(mut self) {
        let mut retry = RETRY_FIRST;
        loop {
            let began = self.clock.now().at;
            let ended = self.connection().await;
            self.set_up(None);
            if matches!(ended, Ended::Shutdown) {
                return;
            }
            if self.clock.now().at.since(began) >= HEALTHY {
                retry = RETRY_FIRST;
            }
            let wait = self.entropy.up_to(retry);
            retry = (retry * 2).min(RETRY_MAX);
            let role = self.role;
            tracing::warn!(?role, error = %chain(&ended), wait_ms = wait.as_millis(), "the link is down");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = comes_up(&mut self.sibling) => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    fn set_up(&self, number: Option<u64>) {
        self.up.send_replace(number);
        if let Some(too) = &self.up_too {
            too.send_replace(number);
        }
    }

    /// One connection from connect to its end. A new client each time: one that lost its session can
    /// wedge for good.
    async fn connection(&mut self) -> Ended {
        self.connections += 1;
        let number = self.connections;
        let (client, mut events) = AsyncClient::new(self.options(number), QUEUE);
        // What waited for an earlier connection is stale; after the connect all of it is said anew.
        while self.outgoing.try_recv().is_ok() {}
        loop {
            let event = tokio::select! {
                event = poll(&mut events) => event,
                () = self.shutdown.cancelled() => return Ended::Shutdown,
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => break,
                Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
                Err(ended) => return ended,
            }
        }
        if let Err(error) = self.greet(&client, number).await {
            return Ended::Client(error);
        }
        let ended = self.converse(&client, &mut events, number).await;
        if matches!(ended, Ended::Shutdown) {
            self.goodbye(&client, &mut events, number).await;
        }
        ended
    }

    /// Subscriptions, and on the control connection the birth message.
    async fn greet(&self, client: &AsyncClient, number: u64) -> Result<(), ClientError> {
        let Settings { cluster, node, .. } = &self.settings;
        let control = node_control_filters(cluster, node);
        let bulk = node_bulk_filters(cluster, node);
        let filters: Vec<String> = match self.role {
            Role::Control => control.into(),
            Role::Bulk => bulk.into(),
            Role::Both => control.into_iter().chain(bulk).collect(),
        };
        if self.role != Role::Bulk {
            let (topic, payload) = self.presence(number, Online::Yes);
            client.try_publish(topic, QoS::AtLeastOnce, true, payload)?;
        }
        client.try_subscribe_many(filters.into_iter().map(|filter| Filter::new(filter, QoS::AtLeastOnce)))
    }

    async fn converse(&mut self, client: &AsyncClient, events: &mut EventLoop, number: u64) -> Ended {
        let shutdown = self.shutdown.clone();
        let (up, up_too) = (self.up.clone(), self.up_too.clone());
        let reader =
            Reader { desired: &self.desired, heard: &self.heard, incoming: &self.incoming, clock: &self.clock };
        let receive = async {
            loop {
                match poll(events).await {
                    Ok(Event::Incoming(packet)) => match reader.take(packet) {
                        Ok(Taken::Subscribed) => {
                            tracing::info!(number, "the link is up");
                            for up in up_too.iter().chain([&up]) {
                                up.send_replace(Some(number));
                            }
                        }
                        Ok(Taken::Other) => {}
                        Err(code) => return Ended::Refused(code),
                    },
                    Ok(Event::Outgoing(_)) => {}
                    Err(ended) => return ended,
                }
            }
        };
        let settings = &self.settings;
        let (outgoing, outgoing_too) = (&mut self.outgoing, &mut self.outgoing_too);
        let send = async {
            loop {
                let message = tokio::select! {
                    Some(message) = outgoing.recv() => message,
                    Some(message) = next(outgoing_too) => message,
                    else => std::future::pending().await,
                };
                if let Err(error) = publish(client, settings, message).await {
                    return Ended::Client(error);
                }
            }
        };
        tokio::select! {
            ended = receive => ended,
            ended = send => ended,
            () = shutdown.cancelled() => Ended::Shutdown,
        }
    }

    /// Says that the node goes, so that nobody waits for the last will; gives up quickly.
    async fn goodbye(&self, client: &AsyncClient, events: &mut EventLoop, number: u64) {
        if self.role != Role::Bulk {
            let (topic, payload) = self.presence(number, Online::No);
            let _ = client.try_publish(topic, QoS::AtLeastOnce, true, payload);
        }
        let _ = client.try_disconnect();
        let said = async {
            loop {
                match poll(events).await {
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) | Err(_) => return,
                    Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
                }
            }
        };
        let _ = tokio::time::timeout(GOODBYE, said).await;
        // The last packet leaves with the poll after it.
        let _ = tokio::time::timeout(Duration::from_millis(50), poll(events)).await;
    }

    fn presence(&self, connection: u64, online: Online) -> (String, Vec<u8>) {
        let Settings { cluster, node, boot, machine_id, process, .. } = &self.settings;
        let presence = Presence {
            boot: *boot,
            connection,
            online: online == Online::Yes,
            machine_id: machine_id.clone(),
            process: *process,
        };
        let payload = frame::encode(&presence).expect("a presence is far smaller than a frame");
        (Topic::new(cluster, node, Leaf::Presence).to_string(), payload)
    }

    fn options(&self, number: u64) -> MqttOptions {
        let settings = &self.settings;
        let id = match self.role {
            Role::Control | Role::Both => settings.node.to_string(),
            Role::Bulk => format!("{}{BULK_SUFFIX}", settings.node),
        };
        let mut options = MqttOptions::new(id, settings.host.clone(), settings.port);
        let tls = TlsConfiguration::Rustls(settings.tls.borrow().clone());
        options
            .set_transport(Transport::tls_with_config(tls))
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_connection_timeout(CONNECT_SECONDS)
            .set_max_packet_size(Some(PACKET_MAX))
            .set_outgoing_inflight_upper_limit(IN_FLIGHT);
        if self.role != Role::Bulk {
            let (topic, payload) = self.presence(number, Online::No);
            options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true, None));
        }
        options
    }
}

/// Completes when the connection becomes up; not when it is so already, or a refused sibling would
/// retry without a pause.
async fn comes_up(connection: &mut watch::Receiver<Option<u64>>) {
    connection.mark_unchanged();
    loop {
        match connection.changed().await {
            Ok(()) if connection.borrow_and_update().is_some() => return,
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Online {
    Yes,
    No,
}

/// The next event, or the end of a client that hangs.
async fn poll(events: &mut EventLoop) -> Result<Event, Ended> {
    match tokio::time::timeout(POLL_GUARD, events.poll()).await {
        Ok(event) => Ok(event?),
        Err(_) => Err(Ended::Hung),
    }
}

async fn next(receiver: &mut Option<mpsc::Receiver<Outgoing>>) -> Option<Outgoing> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

async fn publish(client: &AsyncClient, settings: &Settings, message: Outgoing) -> Result<(), ClientError> {
    if message.payload.len() > FRAME_MAX {
        // The broker would drop the connection, and the client would try again for ever.
        tracing::error!(leaf = %message.leaf, bytes = message.payload.len(), "a message too large was not sent");
        return Ok(());
    }
    let qos = match message.leaf {
        Leaf::Metrics => QoS::AtMostOnce,
        Leaf::Desired
        | Leaf::Reported(_)
        | Leaf::Presence
        | Leaf::Events
        | Leaf::BlobRequest
        | Leaf::BlobData
        | Leaf::StreamUp(_)
        | Leaf::StreamDown(_) => QoS::AtLeastOnce,
    };
    let topic = Topic::new(&settings.cluster, &settings.node, message.leaf).to_string();
    client.publish(topic, qos, message.leaf.is_retained(), message.payload).await
}

/// Where arriving packets go. Never waits: a poll that waits misses its pings.
struct Reader<'a> {
    desired: &'a watch::Sender<bytes::Bytes>,
    heard: &'a watch::Sender<edge_agent_core::Moment>,
    incoming: &'a mpsc::Sender<Incoming>,
    clock: &'a Clock,
}

enum Taken {
    Subscribed,
    Other,
}

impl Reader<'_> {
    fn take(&self, packet: Packet) -> Result<Taken, SubscribeReasonCode> {
        self.heard.send_replace(self.clock.now().at);
        match packet {
            Packet::SubAck(ack) => {
                let refused =
                    ack.return_codes.into_iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                refused.map_or(Ok(Taken::Subscribed), Err)
            }
            Packet::Publish(publish) => {
                self.dispatch(&publish.topic, publish.payload);
                Ok(Taken::Other)
            }
            Packet::PubAck(ack) => {
                tracing::trace!(reason = ?ack.reason, "published");
                Ok(Taken::Other)
            }
            _ => Ok(Taken::Other),
        }
    }

    fn dispatch(&self, topic: &[u8], payload: bytes::Bytes) {
        let Some(topic) = std::str::from_utf8(topic).ok().and_then(Topic::parse) else { return };
        match topic.leaf {
            // An empty payload means "nothing said", never "zero pods".
            Leaf::Desired if payload.is_empty() => {}
            Leaf::Desired => drop(self.desired.send_replace(payload)),
            Leaf::BlobData | Leaf::StreamDown(_) => {
                if self.incoming.try_send(Incoming { topic, payload }).is_err() {
                    tracing::debug!("a bulk message was dropped: its reader is behind");
                }
            }
            Leaf::Reported(_)
            | Leaf::Presence
            | Leaf::Metrics
            | Leaf::Events
            | Leaf::BlobRequest
            | Leaf::StreamUp(_) => {}
        }
    }
}

/// An error with its sources, as one line for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
