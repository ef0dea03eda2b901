//! The breadth of real kubectl against one cluster.

use anyhow::{Context, Result};
use harness::eventually;
use wherry_tests::{LATER, SOON, Stage, phase};

#[test]
fn every_verb_of_daily_work() -> Result<()> {
    let stage = Stage::new(1, &["hello", "web"])?;
    let k = &stage.kubectl;

    // Discovery and schema.
    assert!(k.run(&["version"])?.contains("Server Version"));
    assert!(k.run(&["cluster-info"])?.contains("is running at"));
    let resources = k.run(&["api-resources"])?;
    for kind in [
        "deployments",
        "replicasets",
        "pods",
        "nodes",
        "configmaps",
        "secrets",
        "services",
        "leases",
        "serviceaccounts",
    ] {
        assert!(resources.contains(kind), "api-resources lacks {kind}:\n{resources}");
    }
    assert!(k.run(&["explain", "deployment.spec.strategy"])?.contains("rollingUpdate"));
    assert!(k.run(&["explain", "pod.spec.containers"])?.contains("livenessProbe"));

    // create
    k.run(&["create", "namespace", "shop"])?;
    k.run(&["create", "configmap", "settings", "--from-literal=a=1", "-n", "shop"])?;
    k.run(&["create", "secret", "generic", "keys", "--from-literal=k=v", "-n", "shop"])?;
    k.run(&["create", "deployment", "web", "--image=web", "--replicas=2", "--port=80"])?;
    k.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    k.run(&["run", "single", "--image=hello", "--restart=Never", "--", "times", "1000"])?;
    k.run(&["wait", "pod/single", "--for=condition=Ready", "--timeout=60s"])?;

    // get, in every shape
    assert!(k.run(&["get", "pods", "-o", "name"])?.contains("pod/single"));
    assert!(k.run(&["get", "pods", "-o", "wide"])?.contains("NOMINATED NODE"));
    assert!(k.run(&["get", "pods", "-A", "-o", "yaml"])?.contains("kind: List"));
    assert!(k.run(&["get", "deploy,rs,pods", "-l", "app=web"])?.contains("deployment.apps/web"));
    assert!(k.run(&["get", "pods", "--field-selector", "status.phase=Running"])?.contains("single"));
    assert!(k.run(&["get", "pods", "--field-selector", "spec.nodeName=node-9"])?.is_empty());
    assert!(k.run(&["get", "pods", "--sort-by=.metadata.name"])?.contains("single"));
    assert!(k.run(&["get", "pods", "--show-labels"])?.contains("run=single"));
    assert!(k.run(&["get", "pods", "-L", "app"])?.contains("APP"));
    assert_eq!(k.run(&["get", "cm", "settings", "-n", "shop", "-o", "jsonpath={.data.a}"])?, "1");
    assert!(k.run(&["get", "all"])?.contains("replicaset.apps/web"));
    assert!(k.run(&["get", "ns"])?.contains("kube-system"));
    assert!(k.run(&["get", "nodes", "-o", "wide"])?.contains("wasmtime://"));
    assert!(k.run(&["get", "svc"])?.contains("kubernetes"));

    // describe, events, logs
    for what in ["pod/single", "deployment/web", "node/node-1", "ns/shop", "cm/settings -n shop", "secret/keys -n shop"]
    {
        let args: Vec<&str> = ["describe"].into_iter().chain(what.split(' ')).collect();
        assert!(k.run(&args)?.contains("Name:"), "describe {what}");
    }
    assert!(k.run(&["events"])?.contains("Scheduled"));
    assert!(k.run(&["get", "events"])?.contains("Started"));
    let stamped = k.run(&["logs", "single", "--tail=1", "--timestamps"])?;
    assert!(stamped.starts_with("20"), "{stamped}");
    assert!(k.run(&["logs", "deployment/web"])?.is_empty());

    // change
    k.run(&["scale", "deployment/web", "--replicas=3"])?;
    k.run(&["set", "image", "deployment/web", "web=web:latest"])?;
    k.run(&["set", "env", "deployment/web", "A=b"])?;
    k.run(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    k.run(&["label", "pod", "single", "colour=red"])?;
    k.run(&["annotate", "pod", "single", "note=this"])?;
    assert!(k.run(&["get", "pods", "-l", "colour in (red,blue)"])?.contains("single"));
    k.run(&["patch", "deployment", "web", "-p", r#"{"spec":{"minReadySeconds":1}}"#])?;
    k.run(&["patch", "deployment", "web", "--type=merge", "-p", r#"{"spec":{"minReadySeconds":0}}"#])?;
    k.run(&[
        "patch",
        "deployment",
        "web",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/spec/replicas","value":2}]"#,
    ])?;
    assert_eq!(k.run(&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"])?, "2");

    // delete
    k.run(&["delete", "pod", "single", "--timeout=30s"])?;
    k.run(&["delete", "namespace", "shop", "--timeout=30s"])?;
    assert!(k.refused(&["get", "cm", "settings", "-n", "shop"])?.contains("not found"));
    k.run(&["delete", "deployment", "web", "--timeout=30s"])?;
    eventually("the deployment's pods to go", SOON, || Ok(k.pods("app=web")?.is_empty()))
}

const MANIFEST: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: web
        env:
        - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
        ports: [{containerPort: 80}]
        livenessProbe: {httpGet: {path: /healthz, port: 80}}
        resources: {limits: {memory: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 80}]
";

#[test]
fn apply_is_idempotent_and_diff_is_empty() -> Result<()> {
    let stage = Stage::new(1, &["web"])?;
    let k = &stage.kubectl;
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    std::fs::write(file.path(), MANIFEST)?;
    let path = file.path().to_string_lossy().into_owned();
    k.run(&["apply", "-f", &path, "--dry-run=server"])?;
    assert!(k.refused(&["get", "deployment", "web"])?.contains("not found"), "a dry run wrote");
    k.run(&["apply", "-f", &path])?;
    assert_eq!(k.run(&["diff", "-f", &path])?, "");
    let again = k.run(&["apply", "-f", &path])?;
    assert_eq!(again.matches("unchanged").count(), 3, "{again}");

    // Three-way: a field taken out of the manifest goes, one set by somebody else stays.
    k.run(&["annotate", "deployment", "web", "by=hand"])?;
    std::fs::write(
        file.path(),
        MANIFEST.replace("replicas: 2", "replicas: 1").replace("        ports: [{containerPort: 80}]\n", ""),
    )?;
    k.run(&["apply", "-f", &path])?;
    let deployment = k.json(&["get", "deployment", "web"])?;
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["metadata"]["annotations"]["by"], "hand");
    assert!(deployment["spec"]["template"]["spec"]["containers"][0]["ports"].is_null());
    k.run(&["delete", "-f", &path, "--timeout=30s"])?;
    Ok(())
}

#[test]
fn watching_and_following() -> Result<()> {
    let stage = Stage::new(1, &["hello"])?;
    let k = &stage.kubectl;
    let folder = stage.cluster.folder();
    let watch =
        harness::process::Process::start("watch", k.command(&["get", "pods", "-w"]), &folder.join("watch.log"))?;
    k.apply(&wherry_tests::pod("ticks", "hello", "env: [{name: HELLO_INTERVAL_MS, value: '50'}]"))?;
    k.wait_pod("ticks", "running", LATER, |pod| phase(pod) == "Running")?;
    let follow =
        harness::process::Process::start("follow", k.command(&["logs", "-f", "ticks"]), &folder.join("follow.log"))?;
    eventually("the followed log to grow", SOON, || Ok(follow.log().contains("ticks is still here, 20")))?;
    k.run(&["delete", "pod", "ticks", "--timeout=30s"])?;
    eventually("the watch to have seen it all", SOON, || {
        let seen = watch.log();
        Ok(seen.contains("Pending") && seen.contains("Running") && seen.contains("Terminating"))
    })
}

#[test]
fn edit_writes_what_the_editor_saved() -> Result<()> {
    let stage = Stage::new(0, &[])?;
    let k = &stage.kubectl;
    k.run(&["create", "configmap", "settings", "--from-literal=a=1"])?;
    let output = k
        .command(&["edit", "configmap", "settings"])
        .env("EDITOR", "sed -i s/1/2/")
        .env("KUBE_EDITOR", "sed -i 's/a: \"1\"/a: \"2\"/'")
        .output()
        .context("kubectl edit")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(k.run(&["get", "cm", "settings", "-o", "jsonpath={.data.a}"])?, "2");
    Ok(())
}
