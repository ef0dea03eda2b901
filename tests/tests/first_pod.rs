//! From `hub push` to a pod that `kubectl` shows.

use anyhow::Result;
use harness::{eventually, wait_for};
use wherry_tests::{LATER, SOON, Stage, container, phase, pod};

#[test]
fn a_pushed_component_runs_as_a_pod() -> Result<()> {
    let stage = Stage::new(1, &["hello"])?;
    let kubectl = &stage.kubectl;
    kubectl.apply(&pod("first", "hello", "env: [{name: HELLO_INTERVAL_MS, value: '100'}]"))?;
    let pod = kubectl.wait_pod("first", "running", LATER, |pod| phase(pod) == "Running")?;
    assert_eq!(pod["spec"]["nodeName"], "node-1");
    assert!(container(&pod)["imageID"].as_str().is_some_and(|id| id.contains("sha256:")), "{pod}");

    let wide = kubectl.run(&["get", "pods", "-o", "wide"])?;
    assert!(
        wide.contains("first") && wide.contains("1/1") && wide.contains("Running") && wide.contains("node-1"),
        "{wide}"
    );

    eventually("the guest's lines", SOON, || {
        let log = kubectl.run(&["logs", "first"])?;
        Ok(log.contains("hello from first") && log.contains("first is still here, 3"))
    })?;

    kubectl.run(&["delete", "pod", "first", "--timeout=30s"])?;
    assert!(kubectl.pod("first")?.is_none());
    Ok(())
}

#[test]
fn two_pods_of_one_node_both_serve_port_80() -> Result<()> {
    let stage = Stage::new(1, &["web"])?;
    let more =
        "ports: [{containerPort: 80}]\nreadinessProbe:\n  httpGet: {path: /healthz, port: 80}\n  periodSeconds: 1";
    for name in ["web-a", "web-b"] {
        stage.kubectl.apply(&pod(name, "web", more))?;
    }
    let a = stage.kubectl.wait_ready("web-a", LATER)?;
    let b = stage.kubectl.wait_ready("web-b", LATER)?;
    assert_ne!(a["status"]["podIP"], b["status"]["podIP"]);
    Ok(())
}

#[test]
fn containers_of_a_pod_run_in_order_and_share_its_volume() -> Result<()> {
    let stage = Stage::new(1, &["hello"])?;
    stage.kubectl.apply(
        "
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {greeting: ahoy}
---
apiVersion: v1
kind: Secret
metadata: {name: vault}
stringData: {key: open-sesame}
---
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  restartPolicy: Never
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: words, configMap: {name: words}}
  - {name: vault, secret: {secretName: vault}}
  initContainers:
  - name: writer
    image: hello
    args: [write, /scratch/file, from, the, init, container]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  containers:
  - name: reader
    image: hello
    args: [cat, /scratch/file]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  - name: config
    image: hello
    args: [cat, /words/greeting]
    volumeMounts: [{name: words, mountPath: /words}]
  - name: secret
    image: hello
    args: [cat, /vault/key]
    volumeMounts: [{name: vault, mountPath: /vault}]
  - name: env
    image: hello
    args: [echo, $(NODE), $(WORD), $(KEY)]
    env:
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: WORD, valueFrom: {configMapKeyRef: {name: words, key: greeting}}}
    - {name: KEY, value: plain}
  - name: sealed
    image: hello
    args: [env, KEY]
    env:
    - {name: KEY, valueFrom: {secretKeyRef: {name: vault, key: key}}}
",
    )?;
    stage.kubectl.wait_pod("shared", "succeeded", LATER, |pod| phase(pod) == "Succeeded")?;
    for (container, text) in [
        ("reader", "from the init container"),
        ("config", "ahoy"),
        ("secret", "open-sesame"),
        ("env", "node-1 ahoy plain"),
        ("sealed", "open-sesame"),
    ] {
        let log = stage.kubectl.run(&["logs", "shared", "-c", container])?;
        assert_eq!(log.trim(), text, "container {container}");
    }
    Ok(())
}

#[test]
fn an_image_s_data_layers_are_read_only_files() -> Result<()> {
    let stage = Stage::new(1, &[])?;
    let files = tempfile::tempdir()?;
    std::fs::create_dir(files.path().join("etc"))?;
    std::fs::write(files.path().join("etc/motto"), "ferry small loads\n")?;
    let guest = stage.cluster.binaries.guest("hello")?;
    let (guest, folder) = (guest.to_string_lossy().into_owned(), files.path().to_string_lossy().into_owned());
    stage.cluster.hub.cli(&["push", &guest, "motto:1", "--files", &folder])?;
    let args = "args: [cat, /etc/motto]";
    stage.kubectl.apply(&format!("{}  restartPolicy: Never\n", pod("reads", "motto:1", args)))?;
    stage.kubectl.wait_pod("reads", "succeeded", LATER, |pod| phase(pod) == "Succeeded")?;
    assert_eq!(stage.kubectl.run(&["logs", "reads"])?, "ferry small loads\n");
    let args = "args: [write, /etc/motto, mine]";
    stage.kubectl.apply(&format!("{}  restartPolicy: Never\n", pod("writes", "motto:1", args)))?;
    stage.kubectl.wait_pod("writes", "failed", SOON, |pod| phase(pod) == "Failed")?;
    Ok(())
}

#[test]
fn someone_else_s_program_solves_a_problem() -> Result<()> {
    let Some(solver) = std::env::var_os("WHERRY_SOLVER") else {
        eprintln!("left out: WHERRY_SOLVER names no module (cargo xtask test fetches one)");
        return Ok(());
    };
    let stage = Stage::new(1, &[])?;
    let files = tempfile::tempdir()?;
    // Two numbers of 8 bits whose sum is 100 and of which the first is 42.
    let problem = "(set-logic QF_BV)(declare-fun a () (_ BitVec 8))(declare-fun b () (_ BitVec 8))\
        (assert (= (bvadd a b) #x64))(assert (= a #x2a))(check-sat)(get-model)";
    std::fs::write(files.path().join("problem.smt2"), problem)?;
    let (solver, folder) = (solver.to_string_lossy().into_owned(), files.path().to_string_lossy().into_owned());
    stage.cluster.hub.cli(&["push", &solver, "boolector", "--files", &folder])?;
    let args = "args: [--smt2, -m, /problem.smt2]";
    stage.kubectl.apply(&format!("{}  restartPolicy: Never\n", pod("solve", "boolector", args)))?;
    // The solver's exit code for "sat" is 10, which Kubernetes calls a failure; WASI 0.2 makes it 1.
    let log = wait_for("the solver's answer", LATER, || {
        let log = stage.kubectl.run(&["logs", "solve"])?;
        Ok(log.contains("sat").then_some(log))
    })?;
    assert!(log.starts_with("sat"), "{log}");
    let ended = stage.kubectl.wait_pod("solve", "ended", SOON, |pod| phase(pod) == "Failed")?;
    assert_ne!(container(&ended)["state"]["terminated"]["exitCode"], 0);
    Ok(())
}
