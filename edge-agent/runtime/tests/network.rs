//! The virtual network as guests meet it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use edge_agent_runtime::{ExecOutcome, Instance, LoadedImage, Sandbox};
use protocol::reported::MemoryProfile;
use support::{DEADLINE, Log, Node, container, guest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Net {
    node: Node,
    image: Arc<LoadedImage>,
}

impl Net {
    fn new() -> Self {
        let node = Node::new(MemoryProfile::Compact);
        let image = node.load(&guest("sockets"));
        Self { node, image }
    }

    /// Starts a guest that serves, and waits until it does.
    async fn serve(&self, pod: &Sandbox, words: &[&str]) -> (Instance, Arc<Log>) {
        let log = Arc::new(Log::default());
        let mut config = container(&self.image, &log);
        config.args = words.iter().map(ToString::to_string).collect();
        let instance = pod.start(config).unwrap();
        log.wait_for("listening").await;
        (instance, log)
    }

    /// Runs a guest to its end; its output, line by line.
    async fn run(&self, pod: &Sandbox, words: &[&str]) -> Vec<String> {
        let log = Arc::new(Log::default());
        let args = words.iter().map(ToString::to_string).collect();
        let outcome = pod.exec(container(&self.image, &log), args, DEADLINE).await.unwrap();
        assert!(matches!(&outcome, ExecOutcome::Exited(exit) if exit.code == 0), "{outcome:?}: {}", log.text());
        log.text().lines().map(str::to_owned).collect()
    }
}

/// The ephemeral ports in `line` replaced by `*`.
fn hide_ports(line: &str, known: &[&str]) -> String {
    let word = |word: &str| match word.rsplit_once(':') {
        Some((host, port)) if host.contains('.') && !known.contains(&port.trim_end_matches(']')) => {
            format!("{host}:*{}", if port.ends_with(']') { "]" } else { "" })
        }
        _ => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn pods_reach_each_other_and_see_virtual_addresses_only() {
    let net = Net::new();
    let (five, six, seven) = (net.node.pod(5), net.node.pod(6), net.node.pod(7));
    let (_a, log) = net.serve(&five, &["serve", "0.0.0.0:80", "FIVE"]).await;
    let _b = net.serve(&six, &["serve", "10.42.0.6:80", "SIX"]).await;
    let _c = net.serve(&six, &["serve", "127.0.0.1:81", "LOOP"]).await;
    assert_eq!(log.text(), "listening on 0.0.0.0:80\n");

    let told = net.run(&seven, &["get", "10.42.0.5:80", "10.42.0.6:80", "10.42.0.6:81", "10.42.0.6:82"]).await;
    let told: Vec<_> = told.iter().map(|line| hide_ports(line, &["80", "81", "82"])).collect();
    assert_eq!(
        told,
        [
            "10.42.0.5:80 -> FIVE got hi from 10.42.0.7:* on 10.42.0.5:80 [from 10.42.0.7:* to 10.42.0.5:80]",
            "10.42.0.6:80 -> SIX got hi from 10.42.0.7:* on 10.42.0.6:80 [from 10.42.0.7:* to 10.42.0.6:80]",
            "10.42.0.6:81 -> connection-refused",
            "10.42.0.6:82 -> connection-refused",
        ]
    );
    let told = net.run(&six, &["get", "127.0.0.1:80", "127.0.0.1:81", "10.42.0.6:81"]).await;
    let told: Vec<_> = told.iter().map(|line| hide_ports(line, &["80", "81"])).collect();
    assert_eq!(
        told,
        [
            "127.0.0.1:80 -> SIX got hi from 127.0.0.1:* on 127.0.0.1:80 [from 127.0.0.1:* to 127.0.0.1:80]",
            "127.0.0.1:81 -> LOOP got hi from 127.0.0.1:* on 127.0.0.1:81 [from 127.0.0.1:* to 127.0.0.1:81]",
            "10.42.0.6:81 -> LOOP got hi from 10.42.0.6:* on 10.42.0.6:81 [from 10.42.0.6:* to 10.42.0.6:81]",
        ]
    );
}

#[tokio::test]
async fn what_is_outside_does_not_exist() {
    let net = Net::new();
    let pod = net.node.pod(7);
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let (local, own) = (format!("127.0.0.1:{port}"), format!("10.42.0.7:{port}"));
    let told = net.run(&pod, &["get", &local, &own, "1.1.1.1:80", "10.43.0.1:80", "10.42.0.99:80", "[::1]:80"]).await;
    let codes: Vec<_> = told.iter().map(|line| line.split(" -> ").nth(1).unwrap()).collect();
    assert_eq!(
        codes,
        [
            "connection-refused",
            "connection-refused",
            "access-denied",
            "remote-unreachable",
            "remote-unreachable",
            "not-supported",
        ]
    );
    let told = net.run(&pod, &["udp-get", "8.8.8.8:53", &local]).await;
    assert!(told[0].ends_with("access-denied") && told[1].ends_with("connection-refused"), "{told:?}");
}

#[tokio::test]
async fn a_pod_binds_any_port_of_its_own_once() {
    let net = Net::new();
    let (five, six) = (net.node.pod(5), net.node.pod(6));
    let (server, _) = net.serve(&five, &["serve", "0.0.0.0:80", "FIVE"]).await;
    let told = net
        .run(&five, &["bind", "0.0.0.0:80", "10.42.0.6:99", "0.0.0.0:81", "127.0.0.1:81", "0.0.0.0:0", "[::]:80"])
        .await;
    assert_eq!(told[0], "0.0.0.0:80 -> address-in-use");
    assert_eq!(told[1], "10.42.0.6:99 -> address-not-bindable");
    assert_eq!(told[2], "0.0.0.0:81 -> 0.0.0.0:81");
    assert_eq!(told[3], "127.0.0.1:81 -> address-in-use");
    assert!(told[4].starts_with("0.0.0.0:0 -> 0.0.0.0:") && !told[4].ends_with(":0"), "{}", told[4]);
    assert_eq!(told[5], "[::]:80 -> not-supported");
    // Another pod has ports of its own, and a guest's are free once it is gone.
    assert_eq!(net.run(&six, &["bind", "0.0.0.0:80"]).await, ["0.0.0.0:80 -> 0.0.0.0:80"]);
    server.kill();
    support::end(&server).await;
    assert_eq!(net.run(&five, &["bind", "0.0.0.0:80"]).await, ["0.0.0.0:80 -> 0.0.0.0:80"]);
}

#[tokio::test]
async fn a_pod_knows_its_own_names() {
    let net = Net::new();
    let told = net.run(&net.node.pod(5), &["resolve", "pod-5", "localhost", "10.42.0.9", "example.com"]).await;
    assert_eq!(
        told,
        ["pod-5 -> 10.42.0.5", "localhost -> 127.0.0.1", "10.42.0.9 -> 10.42.0.9", "example.com -> name-unresolvable",]
    );
}

#[tokio::test]
async fn datagrams_are_answered_from_where_they_were_sent_to() {
    let net = Net::new();
    let (five, seven) = (net.node.pod(5), net.node.pod(7));
    let (server, log) = net.serve(&five, &["udp-serve", "0.0.0.0:53"]).await;
    assert_eq!(net.run(&seven, &["udp-get", "10.42.0.5:53"]).await, ["10.42.0.5:53 -> pong from 10.42.0.5:53"]);
    support::end(&server).await;
    assert!(log.text().contains("got ping from 10.42.0.7:"), "{}", log.text());
}

#[tokio::test]
async fn the_agent_calls_a_pod_as_the_node() {
    let net = Net::new();
    let pod = net.node.pod(8);
    let (server, _) = net.serve(&pod, &["serve", "0.0.0.0:70", "EIGHT"]).await;
    pod.tcp_connect(70, DEADLINE).await.unwrap();
    let mut stream = pod.dial(70).await.unwrap();
    stream.write_all(b"quit").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("EIGHT got quit from 169.254.0.1:"), "{answer}");
    assert_eq!(support::end(&server).await.code, 0);
    let refused = pod.tcp_connect(70, Duration::from_secs(5)).await.unwrap_err();
    assert!(refused.to_string().contains("port 70"), "{refused}");
}
