//! What the embedded broker lets a node do, and what it makes of everything else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{DEADLINE, NOW, Papers, copy, join_node, options, packet};
use hub::broker::{Broker, Delivery, LinkEvent, embedded};
use hub::pki::{Authority, Pki};
use protocol::NodeName;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, LastWill, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, EventLoop, MqttOptions};
use tokio::sync::mpsc;

struct Hub {
    pki: Pki,
    broker: Arc<dyn Broker>,
    events: mpsc::Receiver<LinkEvent>,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Hub {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), &[], NOW).unwrap();
        let (broker, mut events) = embedded::start(pki.clone(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_eq!(events.recv().await, Some(LinkEvent::Up));
        let port = broker.address().unwrap().port();
        Self { pki, broker, events, port, _directory: directory }
    }

    fn topic(&self, node: &str, leaf: &str) -> String {
        format!("wherry/1/{}/n/{node}/{leaf}", self.pki.cluster())
    }

    fn join(&self, node: &str) -> Papers {
        join_node(&self.pki, node)
    }

    fn options(&self, client_id: &str, papers: Papers) -> MqttOptions {
        options(&self.pki, self.port, client_id, papers)
    }

    /// The next message that the hub hears.
    async fn hears(&mut self) -> (String, Vec<u8>) {
        loop {
            match tokio::time::timeout(DEADLINE, self.events.recv()).await.expect("the hub hears something").unwrap() {
                LinkEvent::Message(message) => return (message.topic, message.payload.to_vec()),
                LinkEvent::Up | LinkEvent::Down | LinkEvent::Lost => {}
            }
        }
    }

    async fn connect(&self, client_id: &str, papers: Papers) -> Client {
        let (client, mut event_loop) = AsyncClient::new(self.options(client_id, papers), 10);
        let answer = packet(&mut event_loop, |packet| matches!(packet, Packet::ConnAck(_))).await;
        answer.expect("the client may connect");
        Client { client, event_loop }
    }
}

struct Client {
    client: AsyncClient,
    event_loop: EventLoop,
}

impl Client {
    async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
        match packet(&mut self.event_loop, |packet| matches!(packet, Packet::SubAck(_))).await.unwrap() {
            Packet::SubAck(answer) => answer.return_codes[0],
            other => panic!("{other:?}"),
        }
    }

    async fn publish(&mut self, topic: &str, payload: &[u8]) -> PubAckReason {
        self.client.try_publish(topic, QoS::AtLeastOnce, false, payload.to_vec()).unwrap();
        match packet(&mut self.event_loop, |packet| matches!(packet, Packet::PubAck(_))).await.unwrap() {
            Packet::PubAck(answer) => answer.reason,
            other => panic!("{other:?}"),
        }
    }
}

async fn refusal(options: MqttOptions) -> ConnectionError {
    let (_client, mut event_loop) = AsyncClient::new(options, 10);
    packet(&mut event_loop, |packet| matches!(packet, Packet::ConnAck(_) | Packet::PingResp(_)))
        .await
        .and(packet(&mut event_loop, |packet| matches!(packet, Packet::PingResp(_))).await)
        .expect_err("the broker refuses")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_speaks_and_listens_below_its_own_prefix_only() {
    let mut hub = Hub::start().await;
    let papers = hub.join("pi-1");
    let mut client = hub.connect("pi-1", papers).await;

    assert_eq!(client.subscribe(&hub.topic("pi-1", "desired")).await, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    for foreign in ["#".to_owned(), hub.topic("pi-2", "desired"), hub.topic("+", "desired"), "$SYS/#".to_owned()] {
        assert_eq!(client.subscribe(&foreign).await, SubscribeReasonCode::NotAuthorized, "{foreign}");
    }
    for foreign in [hub.topic("pi-2", "presence"), hub.topic("pi-1", "desired"), "elsewhere".to_owned()] {
        assert_eq!(client.publish(&foreign, b"x").await, PubAckReason::NotAuthorized, "{foreign}");
    }
    let refused = hub.broker.counts().into_iter().find(|(name, ..)| name.starts_with("mqtt_topics")).unwrap();
    assert_eq!(refused.2, 7);
    assert_eq!(client.publish(&hub.topic("pi-1", "events"), b"mine").await, PubAckReason::Success);
    assert_eq!(hub.hears().await, (hub.topic("pi-1", "events"), b"mine".to_vec()));

    let desired = hub.topic("pi-1", "desired");
    hub.broker.publish(&desired, "do this".into(), Delivery::Retained).await.unwrap();
    match packet(&mut client.event_loop, |packet| matches!(packet, Packet::Publish(_))).await.unwrap() {
        Packet::Publish(publish) => {
            assert_eq!((&publish.topic[..], &publish.payload[..]), (desired.as_bytes(), &b"do this"[..]))
        }
        other => panic!("{other:?}"),
    }
    hub.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_its_own_two_names_and_its_own_will() {
    let hub = Hub::start().await;
    let (one, two) = (hub.join("pi-1"), hub.join("pi-2"));
    hub.connect("pi-1", copy(&one)).await;
    hub.connect("pi-1.bulk", copy(&one)).await;

    for foreign in ["pi-2", "pi-2.bulk", "wherry-hub", "other"] {
        let error = refusal(hub.options(foreign, copy(&one))).await;
        let code = ConnectReturnCode::ClientIdentifierNotValid;
        assert!(matches!(&error, ConnectionError::ConnectionRefused(c) if *c == code), "{foreign}: {error:?}");
    }
    let mut options = hub.options("pi-1", copy(&one));
    options.set_last_will(LastWill::new(hub.topic("pi-2", "presence"), "gone", QoS::AtLeastOnce, true, None));
    let error = refusal(options).await;
    assert!(
        matches!(&error, ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized)),
        "foreign will: {error:?}"
    );
    hub.connect("pi-2", copy(&two)).await;
    hub.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_stay_outside() {
    let hub = Hub::start().await;
    refusal(hub.options("pi-1", None)).await;

    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = Authority::open(&elsewhere.path().join("ca.pem")).unwrap().issue_client("pi-1", None, NOW).unwrap();
    refusal(hub.options("pi-1", Some((foreign.certificate.clone(), foreign.private_key())))).await;

    // Ours, but of no node that has joined; and the administrator's.
    for organization in [None, Some("system:masters")] {
        let issued = hub.pki.authority().issue_client("pi-1", organization, NOW).unwrap();
        refusal(hub.options("pi-1", Some((issued.certificate.clone(), issued.private_key())))).await;
    }

    // A name that another machine took over is lost to the one that had it.
    let old = hub.join("pi-3");
    hub.pki.release_node(&"pi-3".parse::<NodeName>().unwrap()).unwrap();
    hub.connect("pi-3", copy(&old)).await;
    let new = hub.join("pi-3");
    refusal(hub.options("pi-3", old)).await;
    hub.connect("pi-3", new).await;
    hub.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_idle_peers_keeps_nobody_out() {
    let hub = Hub::start().await;
    let papers = hub.join("pi-1");
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(tokio::net::TcpStream::connect(("127.0.0.1", hub.port)).await.unwrap());
    }
    hub.connect("pi-1", papers).await;
    let began = std::time::Instant::now();
    hub.broker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4), "stopping waited for idle peers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_fires_no_will_at_the_hub() {
    let mut hub = Hub::start().await;
    let papers = hub.join("pi-1");
    let mut options = hub.options("pi-1", papers);
    options.set_last_will(LastWill::new(hub.topic("pi-1", "presence"), "gone", QoS::AtLeastOnce, true, None));
    let (client, mut event_loop) = AsyncClient::new(options, 10);
    packet(&mut event_loop, |packet| matches!(packet, Packet::ConnAck(_))).await.unwrap();
    client.try_publish(hub.topic("pi-1", "events"), QoS::AtLeastOnce, false, "hello").unwrap();
    packet(&mut event_loop, |packet| matches!(packet, Packet::PubAck(_))).await.unwrap();
    hub.hears().await;
    hub.broker.stop().await;
    while let Some(event) = hub.events.recv().await {
        assert!(!matches!(event, LinkEvent::Message(_)), "{event:?}");
    }
}
