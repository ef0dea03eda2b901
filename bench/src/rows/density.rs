//! Memory a pod costs its node.

use anyhow::Result;
use harness::{AgentOptions, Cluster, HubOptions, wait_for};

use super::{PATIENCE, Row, is_running, sleeper};
use crate::api::Api;
use crate::machine::rss_kib;

const PODS: &str = "/api/v1/namespaces/default/pods";
const STEPS: [usize; 3] = [10, 100, 500];

/// # Errors
/// The cluster does not come up, or a pod does not run.
pub fn measure() -> Result<Vec<Row>> {
    let cluster = Cluster::start(HubOptions::default())?;
    let options = AgentOptions { args: ["--pods", "600"].map(str::to_owned).to_vec(), address_space_kib: None };
    let agent = cluster.agent("node-1", options)?;
    cluster.wait_node("node-1", PATIENCE)?;
    cluster.push_guests(&["hello"])?;
    let api = Api::new(&cluster.hub.kubeconfig())?;
    let empty = rss_kib(agent.process.id())?;
    let (mut started, mut rows) = (0, Vec::new());
    for step in STEPS {
        for number in started..step {
            api.post(PODS, &sleeper(&format!("sleeper-{number}"), "hello"))?;
        }
        started = step;
        wait_for(&format!("{step} running pods"), PATIENCE, || {
            let list = api.get(PODS)?;
            let running = list["items"].as_array().into_iter().flatten().filter(|pod| is_running(pod)).count();
            Ok((running == step).then_some(()))
        })?;
        let now = rss_kib(agent.process.id())?;
        let each = now.saturating_sub(empty) as f64 / step as f64;
        let budget = if step == 500 { "25 KB and the guest's own heap" } else { "" };
        rows.push(Row::new(
            format!("agent RSS a pod at {step} pods"),
            format!("{each:.0} KB (RSS {} KB)", now),
            budget,
        ));
    }
    Ok(rows)
}
