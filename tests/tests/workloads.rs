//! Deployments, ReplicaSets and the scheduler, through kubectl.

use anyhow::Result;
use harness::{eventually, wait_for};
use serde_json::Value;
use wherry_tests::{LATER, SOON, Stage, phase, pod};

fn deployment(replicas: u32, more: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
{more}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: web
        readinessProbe: {{httpGet: {{path: /healthz, port: 80}}, periodSeconds: 1}}
"
    )
}

#[test]
fn a_rolling_update_its_history_and_its_undo() -> Result<()> {
    let stage = Stage::new(2, &["web"])?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&deployment(3, ""))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;

    kubectl.run(&["set", "env", "deployment/web", "COLOUR=blue"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    let history = kubectl.run(&["rollout", "history", "deployment/web"])?;
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    assert_eq!(kubectl.json(&["get", "rs", "-l", "app=web"])?["items"].as_array().map(Vec::len), Some(2));

    kubectl.run(&["rollout", "undo", "deployment/web"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    let deployment = kubectl.json(&["get", "deployment", "web"])?;
    assert!(deployment["spec"]["template"]["spec"]["containers"][0]["env"].is_null(), "{deployment}");
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");

    kubectl.run(&["rollout", "restart", "deployment/web"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;

    kubectl.run(&["rollout", "pause", "deployment/web"])?;
    kubectl.run(&["set", "env", "deployment/web", "COLOUR=green"])?;
    kubectl.run(&["scale", "deployment/web", "--replicas=1"])?;
    eventually("the paused deployment to scale without rolling", SOON, || {
        let d = kubectl.json(&["get", "deployment", "web"])?;
        Ok(d["status"]["replicas"] == 1 && d["status"]["updatedReplicas"].as_u64().unwrap_or(0) == 0)
    })?;
    kubectl.run(&["rollout", "resume", "deployment/web"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    Ok(())
}

#[test]
fn a_rollout_that_cannot_succeed_leaves_the_old_pods_and_says_so() -> Result<()> {
    let stage = Stage::new(1, &["web"])?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&deployment(2, ""))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    kubectl.run(&["patch", "deployment", "web", "-p", r#"{"spec":{"progressDeadlineSeconds":3}}"#])?;
    kubectl.run(&["set", "image", "deployment/web", "web=not-there"])?;
    let refused = kubectl.refused(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    assert!(refused.contains("exceeded its progress deadline"), "{refused}");
    let deployment = kubectl.json(&["get", "deployment", "web"])?;
    assert!(deployment["status"]["availableReplicas"].as_u64() >= Some(2), "{}", deployment["status"]);
    eventually("ImagePullBackOff to show", SOON, || Ok(kubectl.run(&["get", "pods"])?.contains("ImagePullBackOff")))?;
    // Pushing the image heals it without another word.
    let file = stage.cluster.binaries.guest("web")?;
    stage.cluster.hub.cli(&["push", &file.to_string_lossy(), "not-there"])?;
    kubectl.run(&["wait", "deployment/web", "--for=condition=Progressing", "--timeout=60s"])?;
    wait_for("the rollout to finish", LATER, || {
        let d = kubectl.json(&["get", "deployment", "web"])?;
        Ok((d["status"]["updatedReplicas"] == 2
            && d["status"]["availableReplicas"] == 2
            && d["status"]["replicas"] == 2)
            .then_some(()))
    })
}

#[test]
fn recreate_never_runs_two_versions() -> Result<()> {
    let stage = Stage::new(1, &["web"])?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&deployment(2, "  strategy: {type: Recreate}\n"))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    kubectl.run(&["set", "env", "deployment/web", "COLOUR=blue"])?;
    wait_for("the new version", LATER, || {
        let pods = kubectl.pods("app=web")?;
        let hashes = |wanted: &dyn Fn(&Value) -> bool| {
            let mut found: Vec<String> = pods
                .iter()
                .filter(|p| wanted(p))
                .map(|p| p["metadata"]["labels"]["pod-template-hash"].to_string())
                .collect();
            found.sort();
            found.dedup();
            found
        };
        let running = hashes(&|pod| phase(pod) == "Running");
        anyhow::ensure!(running.len() <= 1, "two versions at once: {running:?}");
        let d = kubectl.json(&["get", "deployment", "web"])?;
        Ok((d["status"]["updatedReplicas"] == 2 && d["status"]["availableReplicas"] == 2).then_some(()))
    })
}

#[test]
fn a_replicaset_is_kept_whole() -> Result<()> {
    let stage = Stage::new(1, &["web"])?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&deployment(3, ""))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    let gone = kubectl.pods("app=web")?[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    kubectl.run(&["delete", "pod", &gone, "--timeout=30s"])?;
    eventually("three again", LATER, || {
        let pods = kubectl.pods("app=web")?;
        Ok(pods.iter().filter(|p| harness::kubectl::is_ready(p)).count() == 3)
    })?;
    kubectl.run(&["delete", "deployment", "web", "--timeout=30s"])?;
    eventually("everything it owned to go", SOON, || {
        Ok(kubectl.pods("app=web")?.is_empty()
            && kubectl.json(&["get", "rs"])?["items"].as_array().is_some_and(Vec::is_empty))
    })
}

#[test]
fn the_scheduler_says_why_not() -> Result<()> {
    let stage = Stage::with(2, &["hello"], &[], &["--memory", "64Mi", "--cpu", "1"])?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&pod("huge", "hello", "resources: {requests: {memory: 10Gi}}"))?;
    kubectl.apply(&format!("{}  nodeSelector: {{disk: ssd}}\n", pod("picky", "hello", "")))?;
    let expect = |name: &str, text: &str| {
        eventually(&format!("describe {name} to say {text:?}"), SOON, || {
            Ok(kubectl.run(&["describe", "pod", name])?.contains(text))
        })
    };
    expect("huge", "0/2 nodes are available: 2 Insufficient memory.")?;
    expect("picky", "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.")?;
    // A label makes the picky one fit.
    kubectl.run(&["label", "node", "node-2", "disk=ssd"])?;
    let placed = kubectl.wait_pod("picky", "placed", SOON, |pod| phase(pod) == "Running")?;
    assert_eq!(placed["spec"]["nodeName"], "node-2");
    Ok(())
}

#[test]
fn cordon_and_drain_empty_a_node() -> Result<()> {
    let stage = Stage::new(2, &["web", "hello"])?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&deployment(4, ""))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    kubectl.run(&["drain", "node-1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s"])?;
    assert!(kubectl.run(&["get", "node", "node-1"])?.contains("SchedulingDisabled"));
    eventually("all four on node-2", LATER, || {
        let pods = kubectl.pods("app=web")?;
        Ok(pods.iter().filter(|p| harness::kubectl::is_ready(p)).count() == 4
            && pods.iter().all(|p| p["spec"]["nodeName"] == "node-2"))
    })?;
    kubectl.run(&["uncordon", "node-1"])?;
    kubectl.run(&["taint", "node", "node-2", "maintenance=yes:NoSchedule"])?;
    kubectl.apply(&pod("elsewhere", "hello", ""))?;
    let placed = kubectl.wait_pod("elsewhere", "running", LATER, |pod| phase(pod) == "Running")?;
    assert_eq!(placed["spec"]["nodeName"], "node-1");
    Ok(())
}
