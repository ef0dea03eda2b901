//! Guests that people write: Rust, built for wasm32-wasip2.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod support;

use std::sync::Arc;

use edge_agent_runtime::{ExitReason, StopSupport};
use protocol::reported::MemoryProfile;
use support::{Log, Node, container, end, guest};

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_guest_that_hears_its_stop_tidies_up_and_keeps_its_code() {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let image = node.load(&guest("slow-stop"));
    assert_eq!(image.stop_support(), StopSupport::Graceful);
    let mut config = container(&image, &log);
    config.env = env(&[("STOP_TAKES_MS", "50"), ("STOP_CODE", "1")]);
    let instance = node.pod(1).start(config).unwrap();
    log.wait_for("waiting for the stop signal").await;
    instance.signal_stop();
    let exit = end(&instance).await;
    assert!(log.text().contains("slow-stop: done"), "{}", log.text());
    assert_eq!((exit.code, exit.reason), (1, ExitReason::Error));
}

#[tokio::test]
async fn a_memory_hog_is_oom_killed() {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let mut config = container(&node.load(&guest("memory-hog")), &log);
    config.memory_limit = Some(32 << 20);
    let exit = end(&node.pod(1).start(config).unwrap()).await;
    assert_eq!(exit.reason, ExitReason::OomKilled, "{exit:?} {}", log.text());
}
