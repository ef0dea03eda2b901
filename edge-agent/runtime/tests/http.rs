//! HTTP components: requests, failures, reuse, draining, and the probes that look at them.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use edge_agent_runtime::{ContainerConfig, ContainerKind, ExitReason, Instance, ProbeError, Sandbox, StartError};
use protocol::pod::HttpGet;
use protocol::reported::MemoryProfile;
use support::{DEADLINE, Log, Node, container, end, guest};

struct Server {
    node: Node,
    log: Arc<Log>,
    pod: Sandbox,
    config: ContainerConfig,
}

impl Server {
    fn new() -> Self {
        let node = Node::new(MemoryProfile::Fast);
        let log = Arc::new(Log::default());
        let image = node.load(&guest("web"));
        assert_eq!(image.kind(), ContainerKind::Http);
        Self { pod: node.pod(5), config: container(&image, &log), node, log }
    }

    fn start(&self) -> Instance {
        self.pod.start(self.config.clone()).unwrap()
    }
}

async fn get(pod: &Sandbox, port: u16, path: &str) -> Result<u16, ProbeError> {
    let get = HttpGet { port, path: path.into(), host: None, headers: vec![] };
    pod.http_get(&get, DEADLINE).await
}

#[tokio::test]
async fn it_listens_when_it_is_started_and_counts_what_it_answers() {
    let server = Server::new();
    let instance = server.start();
    assert_eq!(get(&server.pod, 80, "/healthz").await.unwrap(), 200);
    assert_eq!(get(&server.pod, 80, "/nowhere").await.unwrap(), 404);
    server.pod.tcp_connect(80, DEADLINE).await.unwrap();
    let refused = get(&server.pod, 81, "/").await.unwrap_err();
    assert!(matches!(&refused, ProbeError::Connect { port: 81, .. }), "{refused}");
    let usage = instance.usage();
    assert_eq!((usage.requests, usage.failed_requests), (2, 0));
    assert!(usage.cpu_micros > 0);
    assert_eq!(instance.exit(), None);
}

#[tokio::test]
async fn two_pods_have_the_same_port_and_one_pod_has_it_once() {
    let server = Server::new();
    let _first = server.start();
    let other = server.node.pod(6);
    let _second = other.start(server.config.clone()).unwrap();
    assert_eq!(get(&other, 80, "/").await.unwrap(), 200);
    let refused = server.pod.start(server.config.clone()).err().expect("the port is taken");
    assert!(matches!(refused, StartError::PortInUse { port: 80 }), "{refused}");
}

#[tokio::test]
async fn a_declared_port_replaces_the_default_and_is_free_after_the_end() {
    let mut server = Server::new();
    server.config.ports = vec![8080, 9090];
    let instance = server.start();
    assert_eq!(get(&server.pod, 8080, "/").await.unwrap(), 200);
    assert_eq!(get(&server.pod, 9090, "/").await.unwrap(), 200);
    assert!(get(&server.pod, 80, "/").await.is_err());
    instance.kill();
    assert_eq!(end(&instance).await.reason, ExitReason::Killed);
    assert!(get(&server.pod, 8080, "/").await.is_err());
    let _again = server.start();
    assert_eq!(get(&server.pod, 8080, "/").await.unwrap(), 200);
}

#[tokio::test]
async fn a_trap_is_a_500_and_several_in_a_row_are_the_end() {
    let server = Server::new();
    let instance = server.start();
    for _ in 0..4 {
        assert_eq!(get(&server.pod, 80, "/trap").await.unwrap(), 500);
    }
    // A request that succeeds starts the count again.
    assert_eq!(get(&server.pod, 80, "/").await.unwrap(), 200);
    for _ in 0..5 {
        assert_eq!(get(&server.pod, 80, "/trap").await.unwrap(), 500);
    }
    let exit = end(&instance).await;
    assert_eq!((exit.code, exit.reason), (134, ExitReason::HttpTraps));
    assert!(exit.message.unwrap().starts_with("5 requests in a row failed"), "the message says why");
    assert_eq!(instance.usage().failed_requests, 9);
    assert!(server.log.text().contains("wherry: the guest failed: wasm trap"), "{}", server.log.text());
}

#[tokio::test]
async fn a_guest_that_never_fits_its_memory_limit_is_oom_killed() {
    let mut server = Server::new();
    server.config.memory_limit = Some(64 << 10);
    let instance = server.start();
    for _ in 0..5 {
        assert_eq!(get(&server.pod, 80, "/").await.unwrap(), 500);
    }
    assert_eq!(end(&instance).await.reason, ExitReason::OomKilled);
}

#[tokio::test]
async fn instances_are_fresh_unless_they_may_be_reused() {
    for (reuse, expected) in [(0, vec!["1", "1", "1"]), (1, vec!["1", "1", "1"]), (2, vec!["1", "2", "1"])] {
        let mut server = Server::new();
        server.config.instance_reuse = reuse;
        let _instance = server.start();
        let mut counts = Vec::new();
        for _ in 0..3 {
            counts.push(body(&server.pod, "/count").await.trim().to_owned());
        }
        assert_eq!(counts, expected, "reuse {reuse}");
    }
}

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let server = Server::new();
    let instance = server.start();
    let pod = server.pod.clone();
    let slow = tokio::spawn(async move { get(&pod, 80, "/slow?ms=300").await });
    wait_for_memory(&instance).await;
    instance.signal_stop();
    let exit = end(&instance).await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Completed));
    assert_eq!(slow.await.unwrap().unwrap(), 200);
    assert!(get(&server.pod, 80, "/").await.is_err());
}

#[tokio::test]
async fn a_kill_waits_for_nobody() {
    let server = Server::new();
    let instance = server.start();
    for path in ["/slow?ms=60000", "/burn?ms=60000"] {
        let pod = server.pod.clone();
        tokio::spawn(async move { get(&pod, 80, path).await });
    }
    wait_for_memory(&instance).await;
    instance.kill();
    assert_eq!(end(&instance).await.reason, ExitReason::Killed);
    assert_eq!(instance.usage().memory_bytes, 0, "no guest is left");
}

#[tokio::test]
async fn a_probe_gives_up_at_its_timeout() {
    let server = Server::new();
    let _instance = server.start();
    let slow = HttpGet { port: 80, path: "/slow?ms=60000".into(), host: None, headers: vec![] };
    let refused = server.pod.http_get(&slow, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(refused, ProbeError::Timeout { .. }), "{refused}");
}

#[tokio::test]
async fn spinning_requests_do_not_keep_others_from_being_answered() {
    let server = Server::new();
    let _instance = server.start();
    for _ in 0..8 {
        let pod = server.pod.clone();
        tokio::spawn(async move { get(&pod, 80, "/burn?ms=2000").await });
    }
    assert_eq!(get(&server.pod, 80, "/").await.unwrap(), 200);
}

#[tokio::test]
async fn processes_of_the_node_do_not_reach_a_pod() {
    let server = Server::new();
    let _instance = server.start();
    // The real port is whichever this process listens on: try them all as another process would.
    let ports = listening_ports();
    assert!(!ports.is_empty());
    for port in ports {
        use std::io::{Read, Write};
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { continue };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut answer = Vec::new();
        let sent = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        let read = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{sent:?} {read:?}: {}", String::from_utf8_lossy(&answer));
    }
}

/// Loopback TCP ports on which this very process listens.
fn listening_ports() -> Vec<u16> {
    let inodes: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A" && inodes.iter().any(|inode| inode == row[9]))
        .map(|row| u16::from_str_radix(row[1].split(':').nth(1).unwrap(), 16).unwrap())
        .collect()
}

/// Waits until a guest holds memory: a request is being answered.
async fn wait_for_memory(instance: &Instance) {
    let busy = async {
        while instance.usage().memory_bytes == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, busy).await.expect("the guest is instantiated");
}

async fn body(pod: &Sandbox, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = pod.dial(80).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    // One chunk, which ends with a line feed of its own: length, content, nothing, 0, nothing.
    answer.lines().rev().nth(3).unwrap_or_default().to_owned()
}
