//! How long a killed agent's pods are missed: noticing, then starting elsewhere.

use std::time::Instant;

use anyhow::Result;
use harness::{AgentOptions, Cluster, HubOptions, wait_for};
use serde_json::{Value, json};

use super::{PATIENCE, Row};
use crate::api::Api;

const REPLICAS: usize = 6;

/// # Errors
/// The cluster does not come up, or the pods do not come back.
pub fn measure() -> Result<Vec<Row>> {
    let cluster = Cluster::start(HubOptions::default())?;
    let mut agents = Vec::new();
    for number in 1..=3 {
        agents.push(cluster.agent(&format!("node-{number}"), AgentOptions::default())?);
    }
    for number in 1..=3 {
        cluster.wait_node(&format!("node-{number}"), PATIENCE)?;
    }
    cluster.push_guests(&["hello"])?;
    let api = Api::new(&cluster.hub.kubeconfig())?;
    let labels = json!({"app": "sleepers"});
    api.post(
        "/apis/apps/v1/namespaces/default/deployments",
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "sleepers"},
            "spec": {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "hello"}]},
            }},
        }),
    )?;
    let ready = |without: Option<&str>| -> Result<Option<()>> {
        let list = api.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dsleepers")?;
        let all = list["items"].as_array().into_iter().flatten();
        let here = all.filter(|pod| harness::kubectl::is_ready(pod) && pod["spec"]["nodeName"].as_str() != without);
        Ok((here.count() == REPLICAS).then_some(()))
    };
    wait_for("the replicas", PATIENCE, || ready(None))?;

    agents[2].process.kill9();
    let killed = Instant::now();
    wait_for("the node to be NotReady", PATIENCE, || {
        let node: Value = api.get("/api/v1/nodes/node-3")?;
        Ok(harness::cluster::condition(&node, "Ready").filter(|status| status != "True").map(drop))
    })?;
    let noticed = killed.elapsed();
    wait_for("the replicas elsewhere", PATIENCE, || ready(Some("node-3")))?;
    let whole = killed.elapsed();
    Ok(vec![
        Row::new("killed agent: noticed (grace 20 s)", format!("{:.1} s", noticed.as_secs_f64()), ""),
        Row::new("killed agent: pods ready elsewhere (30 s toleration)", format!("{:.1} s", whole.as_secs_f64()), ""),
        Row::new("killed agent: of that beyond the two graces", format!("{:.2} s", whole.as_secs_f64() - 50.0), ""),
    ])
}
