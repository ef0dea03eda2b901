//! Memory with nothing to do.

use anyhow::Result;
use harness::{AgentOptions, Cluster, HubOptions};

use super::{PATIENCE, Row, mib};
use crate::machine::rss_kib;

/// # Errors
/// The cluster does not come up.
pub fn measure() -> Result<Vec<Row>> {
    let cluster = Cluster::start(HubOptions::default())?;
    let agent = cluster.agent("node-1", AgentOptions::default())?;
    cluster.wait_node("node-1", PATIENCE)?;
    Ok(vec![
        Row::new("idle RSS edge-agent (joined, no pods)", mib(rss_kib(agent.process.id())?), "12 MB"),
        Row::new("idle RSS hub (one node)", mib(rss_kib(cluster.hub.process.id())?), "30 MB"),
    ])
}
