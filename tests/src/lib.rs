//! What the end-to-end stories share: see `tests/tests/` for the stories, `tests/harness` for the
//! processes.

use std::time::Duration;

use anyhow::Result;
use harness::{Agent, AgentOptions, Cluster, HubOptions, Kubectl};
use serde_json::Value;

/// What a condition may take on a busy two-core machine before it counts as never.
pub const SOON: Duration = Duration::from_secs(30);
/// The same where something compiles or a grace must pass first.
pub const LATER: Duration = Duration::from_secs(90);

/// A cluster with running agents and pushed guests.
pub struct Stage {
    pub cluster: Cluster,
    pub agents: Vec<Agent>,
    pub kubectl: Kubectl,
}

impl Stage {
    /// Agents `node-1` to `node-<nodes>`, all Ready, with short restart backoffs.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn new(nodes: usize, guests: &[&str]) -> Result<Self> {
        Self::with(nodes, guests, &[], &[])
    }

    /// [`Stage::new`] with further arguments for hub and agents.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn with(nodes: usize, guests: &[&str], hub: &[&str], agent: &[&str]) -> Result<Self> {
        let own = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let cluster = Cluster::start(HubOptions { args: own(hub), folder: None })?;
        let quick = ["--backoff-base", "500ms", "--backoff-max", "4s"];
        let mut agents = Vec::new();
        for number in 1..=nodes {
            let args = own(&[&quick, agent].concat());
            agents.push(cluster.agent(&format!("node-{number}"), AgentOptions { args, address_space_kib: None })?);
        }
        for number in 1..=nodes {
            cluster.wait_node(&format!("node-{number}"), SOON)?;
        }
        cluster.push_guests(guests)?;
        let kubectl = cluster.kubectl()?;
        Ok(Self { cluster, agents, kubectl })
    }
}

/// A pod of one container.
pub fn pod(name: &str, image: &str, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  containers:\n  - name: main\n    image: {image}\n{more}"
    )
}

/// The first container's status.
pub fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

pub fn restarts(pod: &Value) -> u64 {
    container(pod)["restartCount"].as_u64().unwrap_or(0)
}

pub fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

/// When the first container's present run started; changes with every restart.
pub fn started(pod: &Value) -> &str {
    container(pod)["state"]["running"]["startedAt"].as_str().unwrap_or_default()
}

/// How the first container's last run ended.
pub fn last_end(pod: &Value) -> &Value {
    let now = &container(pod)["state"]["terminated"];
    if now.is_null() { &container(pod)["lastState"]["terminated"] } else { now }
}
