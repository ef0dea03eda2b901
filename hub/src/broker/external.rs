//! A broker of someone else's, the hub a client of it.
//!
//! One supervisor task owns the connection. `rumqttc` is treated as lossy: each attempt gets a new
//! client (an old one can be wedged), no session is asked for (what matters is published again after
//! [`LinkEvent::Up`]), a poll that hangs is cut, and reconnects wait with full jitter.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hub_core::fleet::shards::Freshness;
use protocol::limits::{FRAME_MAX, PACKET_MAX};
use protocol::{ClusterId, NodeName, topic};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Broker, Delivery, EVENTS, Incoming, LinkEvent, PublishError, Started};
use crate::clock::Entropy;

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Twice the keep-alive, in which at least a ping passes, and some: a poll may hang for ever.
const POLL_TIMEOUT: Duration = Duration::from_secs(35);
const CONNECT_TIMEOUT_SECONDS: u64 = 10;
/// The library allocates a slot each up front: its default of 65,535 costs 14 MB.
const INFLIGHT: u16 = 100;
const REQUESTS: usize = 100;
/// How long a publisher waits for room among [`REQUESTS`].
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A connection that held so long was a good one: the next failure starts over.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Where the broker is and how the hub shows itself there.
#[derive(Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub credentials: Option<Credentials>,
    pub client_id: String,
    pub cluster: ClusterId,
}

#[derive(Clone)]
pub enum Security {
    /// The broker trusts our CA, and its certificate comes from there.
    Tls(Arc<rustls::ClientConfig>),
    /// For tests and for networks that are one machine.
    Plain,
}

#[derive(Clone)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

struct External {
    client: Arc<Mutex<Option<AsyncClient>>>,
    stop: CancellationToken,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

/// Starts to connect, and goes on until stopped; whether it succeeds is told by events.
pub fn start(settings: Settings, entropy: Entropy) -> Started {
    let (events, receiver) = mpsc::channel(EVENTS);
    let client = Arc::default();
    let stop = CancellationToken::new();
    let supervisor = Supervisor { settings, entropy, events, client: Arc::clone(&client) };
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            () = supervisor.run() => {}
            () = stopped.cancelled() => {}
        }
    });
    (Arc::new(External { client, stop, supervisor: Mutex::new(Some(task)) }), receiver)
}

struct Supervisor {
    settings: Settings,
    entropy: Entropy,
    events: mpsc::Sender<LinkEvent>,
    client: Arc<Mutex<Option<AsyncClient>>>,
}

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the connection broke")]
    Connection(#[source] Box<ConnectionError>),
    #[error("the connection hangs")]
    Hangs,
    #[error("the broker refuses to let the hub listen to {filter}")]
    Refused { filter: String },
    #[error("the hub is stopping")]
    Closed,
}

impl Supervisor {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let began = tokio::time::Instant::now();
            let error = self.connection().await;
            self.set_client(None);
            if matches!(error, LinkError::Closed) || self.events.send(LinkEvent::Down).await.is_err() {
                return;
            }
            failures = if began.elapsed() >= HEALTHY_AFTER { 0 } else { failures + 1 };
            let pause = backoff(failures, u64::from_be_bytes(self.entropy.bytes()));
            warn!(
                error = &error as &dyn std::error::Error,
                host = self.settings.host,
                port = self.settings.port,
                retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "no link to the mqtt broker"
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection, from connecting to its end.
    async fn connection(&self) -> LinkError {
        let (client, mut event_loop) = AsyncClient::new(self.options(), REQUESTS);
        let filters = topic::hub_filters(&self.settings.cluster);
        loop {
            match self.next(&mut event_loop).await {
                Ok(Packet::ConnAck(_)) => {
                    let wanted = filters.iter().map(|path| {
                        let mut filter = Filter::new(path, QoS::AtLeastOnce);
                        filter.nolocal = true;
                        filter
                    });
                    // An empty queue of 100 has room for one.
                    if client.try_subscribe_many(wanted).is_err() {
                        return LinkError::Hangs;
                    }
                }
                Ok(Packet::SubAck(answer)) => {
                    let refused = |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                    if let Some(at) = answer.return_codes.iter().position(refused) {
                        return LinkError::Refused { filter: filters.get(at).cloned().unwrap_or_default() };
                    }
                    info!(host = self.settings.host, port = self.settings.port, "linked to the mqtt broker");
                    self.set_client(Some(client.clone()));
                    if self.events.send(LinkEvent::Up).await.is_err() {
                        return LinkError::Closed;
                    }
                }
                Ok(Packet::Publish(publish)) => {
                    let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else { continue };
                    let freshness = if publish.retain { Freshness::Kept } else { Freshness::Live };
                    let message = LinkEvent::Message(Incoming { topic, payload: publish.payload, freshness });
                    if self.events.send(message).await.is_err() {
                        return LinkError::Closed;
                    }
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    async fn next(&self, event_loop: &mut EventLoop) -> Result<Packet, LinkError> {
        loop {
            match tokio::time::timeout(POLL_TIMEOUT, event_loop.poll()).await {
                Ok(Ok(Event::Incoming(packet))) => return Ok(packet),
                Ok(Ok(Event::Outgoing(_))) => {}
                Ok(Err(error)) => return Err(LinkError::Connection(Box::new(error))),
                Err(_) => return Err(LinkError::Hangs),
            }
        }
    }

    fn options(&self) -> MqttOptions {
        let settings = &self.settings;
        let mut options = MqttOptions::new(&settings.client_id, &settings.host, settings.port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_connection_timeout(CONNECT_TIMEOUT_SECONDS)
            .set_max_packet_size(Some(PACKET_MAX))
            .set_outgoing_inflight_upper_limit(INFLIGHT);
        if let Security::Tls(config) = &settings.security {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config.clone())));
        }
        if let Some(Credentials { user, password }) = &settings.credentials {
            options.set_credentials(user, password);
        }
        options
    }

    fn set_client(&self, client: Option<AsyncClient>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

/// Full jitter: anything up to a bound that doubles, never less than a tenth of the first.
fn backoff(failures: u32, random: u64) -> Duration {
    let bound = BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF_MAX);
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis((random % millis.max(1)).max(100))
}

impl Broker for External {
    fn publish<'a>(
        &'a self,
        topic: &'a str,
        payload: Bytes,
        delivery: Delivery,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            // A packet above the broker's limit would come back with each resumed session, for ever.
            if payload.len() > FRAME_MAX {
                return Err(PublishError::TooLarge { bytes: payload.len() });
            }
            let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let client = client.ok_or(PublishError::Offline)?;
            let (qos, retain) = match delivery {
                Delivery::Retained => (QoS::AtLeastOnce, true),
                Delivery::AtLeastOnce => (QoS::AtLeastOnce, false),
                Delivery::AtMostOnce => (QoS::AtMostOnce, false),
            };
            match tokio::time::timeout(PUBLISH_TIMEOUT, client.publish(topic, qos, retain, payload)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(PublishError::Offline),
                Err(_) => Err(PublishError::Busy),
            }
        })
    }

    /// Another's broker takes no orders; its own rules about equal client ids apply.
    fn kick<'a>(&'a self, _node: &'a NodeName) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// As [`External::kick`].
    fn block<'a>(&'a self, _node: &'a NodeName, _process: u64) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Brokers that take the client id from the certificate let in one of two hubs with one identity.
    fn yield_place(&self) -> BoxFuture<'_, ()> {
        self.stop()
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// The broker counts for itself.
    fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        Vec::new()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.cancel();
            let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(supervisor) = supervisor {
                // Ends at its next await; a panic in it was logged by the runtime.
                let _ = supervisor.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_minute() {
        let check = |failures, random, want_ms| {
            assert_eq!(backoff(failures, random), Duration::from_millis(want_ms), "{failures} failures");
        };
        check(0, 999, 999);
        check(1, 999, 999);
        check(2, 1999, 1999);
        check(3, 3999, 3999);
        check(50, 59_999, 59_999);
        check(50, 60_000, 100);
        check(1, 0, 100);
    }
}
