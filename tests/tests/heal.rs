//! Processes die at bad moments; pods do not mind.

use anyhow::Result;
use harness::{eventually, wait_for};
use serde_json::Value;
use wherry_tests::{LATER, SOON, Stage, pod, restarts, started};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web
        readinessProbe: {httpGet: {path: /healthz, port: 80}, periodSeconds: 1}
";

fn ready_pods(stage: &Stage, count: usize) -> Result<Vec<Value>> {
    wait_for(&format!("{count} ready pods"), LATER, || {
        let mut pods = stage.kubectl.pods("app=web")?;
        pods.retain(|pod| harness::kubectl::is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null());
        pods.sort_by_key(|pod| pod["metadata"]["name"].to_string());
        Ok((pods.len() == count).then_some(pods))
    })
}

fn identity(pod: &Value) -> (String, String, u64) {
    (pod["metadata"]["uid"].to_string(), started(pod).to_owned(), restarts(pod))
}

#[test]
fn a_hub_killed_and_restarted_touches_no_pod() -> Result<()> {
    let mut stage = Stage::new(2, &["web"])?;
    stage.kubectl.apply(DEPLOYMENT)?;
    let before: Vec<_> = ready_pods(&stage, 3)?.iter().map(identity).collect();
    for _ in 0..3 {
        stage.cluster.hub.process.kill9();
        stage.cluster.hub.start_again()?;
    }
    for node in ["node-1", "node-2"] {
        stage.cluster.wait_node(node, SOON)?;
    }
    // A write after the restart proves that the controllers are at work again.
    stage.kubectl.run(&["annotate", "deployment", "web", "seen=yes"])?;
    stage.kubectl.run(&["rollout", "status", "deployment/web", "--timeout=30s"])?;
    let after: Vec<_> = ready_pods(&stage, 3)?.iter().map(identity).collect();
    assert_eq!(before, after);
    Ok(())
}

#[test]
fn pods_of_a_dead_node_come_back_elsewhere() -> Result<()> {
    let mut stage = Stage::with(2, &["web"], &["--node-grace", "6s", "--eviction-grace", "1s"], &[])?;
    stage.kubectl.apply(DEPLOYMENT)?;
    let before = ready_pods(&stage, 3)?;
    assert!(before.iter().any(|pod| pod["spec"]["nodeName"] == "node-2"), "nothing was placed on node-2");
    stage.agents[1].process.kill9();
    eventually("node-2 to be NotReady", SOON, || {
        Ok(stage.kubectl.run(&["get", "node", "node-2"])?.contains("NotReady"))
    })?;
    eventually("all three on node-1", LATER, || {
        let mut pods = stage.kubectl.pods("app=web")?;
        pods.retain(harness::kubectl::is_ready);
        Ok(pods.len() == 3 && pods.iter().all(|pod| pod["spec"]["nodeName"] == "node-1"))
    })?;
    // The node returns and stops what is not its own any more.
    stage.agents[1].start_again()?;
    stage.cluster.wait_node("node-2", SOON)?;
    assert_eq!(ready_pods(&stage, 3)?.len(), 3);
    Ok(())
}

#[test]
fn an_agent_restarts_its_pods_from_its_ledger_without_a_hub() -> Result<()> {
    let mut stage = Stage::new(1, &["hello"])?;
    stage.kubectl.apply(&pod("steady", "hello", "env: [{name: HELLO_INTERVAL_MS, value: '200'}]"))?;
    stage.kubectl.wait_ready("steady", LATER)?;
    stage.cluster.hub.process.kill9();
    stage.agents[0].process.kill9();
    stage.agents[0].start_again()?;
    let log = &stage.agents[0].process;
    eventually("the agent to start the pod from its ledger", SOON, || {
        let log = log.log();
        Ok(log.matches("reason=\"Started\"").count() >= 2)
    })?;
    stage.cluster.hub.start_again()?;
    stage.cluster.wait_node("node-1", SOON)?;
    stage.kubectl.wait_ready("steady", SOON)?;
    Ok(())
}

#[test]
fn a_liveness_probe_restarts_and_a_startup_probe_waits() -> Result<()> {
    let stage = Stage::new(1, &["hello"])?;
    let more = "
livenessProbe:
  exec: {command: [hello, exists, /data/alive]}
  periodSeconds: 1
  failureThreshold: 2
startupProbe:
  exec: {command: [hello, ls, /data]}
  periodSeconds: 1
volumeMounts: [{name: data, mountPath: /data}]";
    stage
        .kubectl
        .apply(&format!("{}  volumes: [{{name: data, emptyDir: {{}}}}]\n", pod("probed", "hello", more.trim())))?;
    let pod = stage.kubectl.wait_pod("probed", "restarted", LATER, |pod| restarts(pod) >= 1)?;
    assert_eq!(pod["status"]["startTime"].as_str().map(str::is_empty), Some(false));
    let shown = stage.kubectl.run(&["describe", "pod", "probed"])?;
    assert!(shown.contains("Liveness probe failed"), "{shown}");
    Ok(())
}

#[test]
fn restart_policies_are_kept() -> Result<()> {
    let stage = Stage::new(1, &["hello"])?;
    let once = |name: &str, policy: &str, code: &str| {
        format!("{}  restartPolicy: {policy}\n", pod(name, "hello", &format!("args: [exit, '{code}']")))
    };
    stage.kubectl.apply(&once("done", "OnFailure", "0"))?;
    stage.kubectl.apply(&once("failed", "Never", "3"))?;
    stage.kubectl.apply(&once("again", "OnFailure", "4"))?;
    stage.kubectl.wait_pod("done", "succeeded", LATER, |pod| pod["status"]["phase"] == "Succeeded")?;
    let failed = stage.kubectl.wait_pod("failed", "failed", LATER, |pod| pod["status"]["phase"] == "Failed")?;
    // WASI 0.2 programs can only say that they failed, not how: every other code becomes 1.
    assert_ne!(wherry_tests::last_end(&failed)["exitCode"], 0);
    assert_eq!(restarts(&failed), 0);
    stage.kubectl.wait_pod("again", "restarted", LATER, |pod| restarts(pod) >= 1)?;
    Ok(())
}
