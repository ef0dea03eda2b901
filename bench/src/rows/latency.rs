//! From the client's POST to `Running` in a watch.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{AgentOptions, Cluster, HubOptions, wait_for};

use super::{PATIENCE, Row, is_running, sleeper};
use crate::api::Api;
use crate::stats::summary;

const PODS: &str = "/api/v1/namespaces/default/pods";
/// Each compiles a component: fewer samples than the cached ones.
const COLD_SAMPLES: usize = 20;

/// # Errors
/// The cluster does not come up, or a pod does not run.
pub fn measure(samples: usize) -> Result<Vec<Row>> {
    let cluster = Cluster::start(HubOptions::default())?;
    let _agent = cluster.agent("node-1", AgentOptions::default())?;
    cluster.wait_node("node-1", PATIENCE)?;
    cluster.push_guests(&["hello"])?;
    let api = Api::new(&cluster.hub.kubeconfig())?;
    start(&api, "warm-up", "hello")?;

    let mut cached = Vec::new();
    let mut gone = Vec::new();
    for number in 0..samples {
        let name = format!("cached-{number}");
        cached.push(start(&api, &name, "hello")?);
        gone.push(stop(&api, &name)?);
    }
    let mut cold = Vec::new();
    for number in 0..COLD_SAMPLES.min(samples) {
        let image = push_variant(&cluster, number)?;
        let name = format!("cold-{number}");
        cold.push(start(&api, &name, &image)?);
        stop(&api, &name)?;
    }
    Ok(vec![
        Row::new("apply to Running, artifact cached", summary(&cached), "p50 20 ms, p99 100 ms"),
        Row::new("apply to Running, cold (compile, ship, map)", summary(&cold), ""),
        Row::new("delete to gone, grace 0", summary(&gone), ""),
    ])
}

fn start(api: &Api, name: &str, image: &str) -> Result<Duration> {
    let begun = Instant::now();
    let created = api.post(PODS, &sleeper(name, image))?;
    let version = created["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
    let path =
        format!("{PODS}?watch=true&fieldSelector=metadata.name={name}&resourceVersion={version}&timeoutSeconds=120");
    api.watch(&path, is_running)?;
    Ok(begun.elapsed())
}

fn stop(api: &Api, name: &str) -> Result<Duration> {
    let begun = Instant::now();
    api.delete(&format!("{PODS}/{name}"))?;
    wait_for("the pod to be gone", PATIENCE, || Ok(api.get(&format!("{PODS}/{name}")).is_err().then_some(())))?;
    Ok(begun.elapsed())
}

/// The same guest with another custom section: another digest, so nothing of it is cached.
fn push_variant(cluster: &Cluster, number: usize) -> Result<String> {
    let mut bytes = fs::read(cluster.binaries.guest("hello")?)?;
    let content = format!("\x05bench{number:08}");
    bytes.push(0);
    bytes.push(u8::try_from(content.len())?);
    bytes.extend_from_slice(content.as_bytes());
    let (file, name) = (cluster.folder().join("variant.wasm"), format!("variant-{number}"));
    fs::write(&file, bytes)?;
    cluster.hub.cli(&["push", &file.to_string_lossy(), &name])?;
    Ok(name)
}
