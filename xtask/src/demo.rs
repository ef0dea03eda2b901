//! A hub and three agents on this machine, shown at work.
//!
//! Each step says what it does, does it, and checks it; `--once` ends there, else the cluster stays up
//! until Ctrl-C.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::binaries::workspace_root;
use harness::{Agent, AgentOptions, Cluster, HubOptions, wait_for};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::build;
use crate::tools::step;

#[derive(Args)]
pub struct Options {
    /// Check every step, take the cluster down, and exit (0 if all went well)
    #[arg(long)]
    once: bool,
    /// Where the cluster lives; emptied first
    #[arg(long, default_value = "target/demo")]
    folder: PathBuf,
}

const NODES: [&str; 3] = ["pi-1", "pi-2", "pi-3"];
const MINUTE: Duration = Duration::from_secs(60);

const MANIFEST: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: web
        image: web
        ports:
        - containerPort: 80
        readinessProbe:
          httpGet: {path: /healthz, port: 80}
          periodSeconds: 2
---
apiVersion: v1
kind: Pod
metadata:
  name: crash
spec:
  containers:
  - name: crash
    image: crash-loop
";

/// # Errors
/// A step that did not come out as told.
pub fn run(options: &Options) -> Result<()> {
    let begun = Instant::now();
    build::workspace()?;
    build::guests()?;

    let folder = workspace_root().join(&options.folder);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    step("starting a hub: API server, MQTT broker and store in one process");
    // The default graces are 20 s + 30 s; a demo need not wait so long to show that a dead node is replaced.
    let args = ["--node-grace", "8s", "--eviction-grace", "2s"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start(HubOptions { args, folder: Some(folder) })?;
    say(&format!("the Kubernetes API is at {}, MQTT at {}", cluster.hub.api(), cluster.hub.mqtt()));

    step("starting three agents; each joins with a one-time token and from then on speaks mutual TLS over MQTT");
    let mut agents = Vec::new();
    for name in NODES {
        agents.push(cluster.agent(name, AgentOptions::default())?);
    }
    for name in NODES {
        cluster.wait_node(name, MINUTE)?;
    }
    show(&cluster, &["get", "nodes"])?;

    step("pushing guests to the hub's registry");
    cluster.push_guests(&["hello", "web", "sensor", "crash-loop"])?;
    show(&cluster, &["images"])?;

    step("applying a Deployment with 3 replicas and a Pod that crash-loops");
    let manifest = cluster.folder().join("demo.yaml");
    fs::write(&manifest, MANIFEST)?;
    let applied = Instant::now();
    show(&cluster, &["apply", "-f", &manifest.to_string_lossy()])?;
    let pods = wait_web(&cluster, 3, &NODES)?;
    say(&format!(
        "3 pods ready {:.1} s after the apply (the hub compiled them once, for all three nodes)",
        applied.elapsed().as_secs_f32()
    ));
    show(&cluster, &["get", "pods", "-o", "wide"])?;
    let nodes: Vec<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    ensure!(
        NODES.iter().all(|node| nodes.contains(node)),
        "the three pods are not spread over the three nodes: {nodes:?}"
    );
    wait_crash_loop(&cluster)?;

    step("killing pi-3 with -9: its pod must come back elsewhere");
    agents[2].process.kill9();
    let killed = Instant::now();
    let pods = wait_web(&cluster, 3, &NODES[..2])?;
    say(&format!(
        "3 pods ready on pi-1 and pi-2, {:.1} s after the kill (10 s of it is the grace before a node counts as lost)",
        killed.elapsed().as_secs_f32()
    ));
    show(&cluster, &["get", "pods", "-o", "wide"])?;

    step("restarting the hub with -9: no pod may notice");
    cluster.hub.process.kill9();
    cluster.hub.start_again()?;
    for name in &NODES[..2] {
        cluster.wait_node(name, MINUTE)?;
    }
    let after = wait_web(&cluster, 3, &NODES[..2])?;
    ensure!(pods == after, "the hub's restart touched pods:\nbefore {pods:?}\nafter  {after:?}");
    say("the same pods, the same start times, no restart");

    step("starting pi-3 again");
    agents[2].start_again()?;
    cluster.wait_node("pi-3", MINUTE)?;
    show(&cluster, &["get", "nodes"])?;
    say(&format!("all of it took {:.0} s, the builds included", begun.elapsed().as_secs_f32()));

    if options.once {
        step("every step held; taking the cluster down");
        return Ok(());
    }
    stay_up(&mut cluster, &mut agents)
}

fn say(text: &str) {
    eprintln!("    {text}");
}

/// Runs a command of the hub's CLI and shows both.
fn show(cluster: &Cluster, args: &[&str]) -> Result<()> {
    say(&format!("$ hub {}", args.join(" ")));
    for line in cluster.hub.cli(args)?.lines() {
        say(line);
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Pod {
    name: String,
    node: String,
    started: String,
    restarts: u64,
}

/// Waits until `count` ready pods of the Deployment run, all of them on `nodes`.
fn wait_web(cluster: &Cluster, count: usize, nodes: &[&str]) -> Result<Vec<Pod>> {
    wait_for(&format!("{count} ready pods on {}", nodes.join(", ")), 2 * MINUTE, || {
        let list: Value = serde_json::from_str(&cluster.hub.cli(&["get", "pods", "-l", "app=web", "-o", "json"])?)?;
        let mut pods: Vec<Pod> =
            list["items"].as_array().into_iter().flatten().filter(|p| harness::kubectl::is_ready(p)).map(pod).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods.retain(|pod| nodes.contains(&pod.node.as_str()));
        if pods.len() == count { Ok(Some(pods)) } else { bail!("there are {}: {pods:?}", pods.len()) }
    })
}

fn pod(object: &Value) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let container = &object["status"]["containerStatuses"][0];
    Pod {
        name: text(&object["metadata"]["name"]),
        node: text(&object["spec"]["nodeName"]),
        started: text(&container["state"]["running"]["startedAt"]),
        restarts: container["restartCount"].as_u64().unwrap_or(0),
    }
}

fn wait_crash_loop(cluster: &Cluster) -> Result<()> {
    say("waiting for the crash-looping pod to be in CrashLoopBackOff");
    wait_for("pod crash to back off", MINUTE, || {
        let pod: Value = serde_json::from_str(&cluster.hub.cli(&["get", "pod", "crash", "-o", "json"])?)?;
        let state = &pod["status"]["containerStatuses"][0];
        Ok((state["state"]["waiting"]["reason"] == "CrashLoopBackOff").then_some(()))
    })?;
    show(cluster, &["get", "pod", "crash"])
}

/// Until Ctrl-C.
fn stay_up(cluster: &mut Cluster, agents: &mut [Agent]) -> Result<()> {
    step("the cluster stays up; in another terminal:");
    say(&format!("export KUBECONFIG={}", cluster.hub.kubeconfig().display()));
    say("kubectl get pods -o wide");
    say(&format!("{} get pods -o wide        (the same without kubectl)", cluster.binaries.hub().display()));
    say("Ctrl-C here takes it down");
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot listen for Ctrl-C")?;
    }
    while !stop.load(Ordering::Relaxed) {
        cluster.hub.process.check_alive()?;
        for agent in agents.iter_mut() {
            agent.process.check_alive()?;
        }
        sleep(Duration::from_millis(200));
    }
    step("stopping");
    for agent in agents {
        agent.process.terminate(Duration::from_secs(10))?;
    }
    cluster.hub.process.terminate(Duration::from_secs(10))?;
    Ok(())
}
