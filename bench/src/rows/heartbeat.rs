//! Heartbeats beside a spinning guest on every core.

use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{AgentOptions, Cluster, HubOptions, wait_for};

use super::{PATIENCE, Row, is_running, sleeper};
use crate::api::Api;
use crate::stats::{millis, percentile};

const PODS: &str = "/api/v1/namespaces/default/pods";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1";
/// As `protocol::limits::HEARTBEAT_SECONDS` has it.
const PERIOD: Duration = Duration::from_secs(5);
const BEATS: usize = 12;

/// # Errors
/// The cluster does not come up, or a heartbeat does not come at all.
pub fn measure() -> Result<Vec<Row>> {
    let cluster = Cluster::start(HubOptions::default())?;
    let _agent = cluster.agent("node-1", AgentOptions::default())?;
    cluster.wait_node("node-1", PATIENCE)?;
    cluster.push_guests(&["spin-forever"])?;
    let api = Api::new(&cluster.hub.kubeconfig())?;
    let idle = jitter(&api)?;
    let cores = available_parallelism()?.get();
    for number in 0..cores {
        api.post(PODS, &sleeper(&format!("spin-{number}"), "spin-forever"))?;
    }
    wait_for("the spinning pods", PATIENCE, || {
        let list = api.get(PODS)?;
        Ok((list["items"].as_array().into_iter().flatten().filter(|pod| is_running(pod)).count() == cores)
            .then_some(()))
    })?;
    let spinning = jitter(&api)?;
    let row = |what: &str, off: &[Duration]| {
        let worst = off.iter().max().copied().unwrap_or_default();
        Row::new(
            what,
            format!("median {} off, worst {} ({BEATS} beats)", millis(percentile(off, 0.5)), millis(worst)),
            "",
        )
    };
    Ok(vec![
        row("heartbeat of 5 s, idle node", &idle),
        row("heartbeat of 5 s, a spinning guest on every core", &spinning),
    ])
}

/// How far from 5 s the intervals between two changes of the node's Lease are.
fn jitter(api: &Api) -> Result<Vec<Duration>> {
    let next = |before: &str| {
        wait_for("a heartbeat", PERIOD * 4, || {
            let lease = api.get(LEASE)?;
            let time = lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned();
            sleep(Duration::from_millis(2));
            Ok((time != before).then(|| (time, Instant::now())))
        })
    };
    let (mut time, _) = next("")?;
    let (seen, mut at) = next(&time)?;
    time = seen;
    let mut off = Vec::new();
    for _ in 0..BEATS {
        let (seen, now) = next(&time)?;
        off.push((now - at).abs_diff(PERIOD));
        (time, at) = (seen, now);
    }
    Ok(off)
}
