//! What users and disks get wrong: a clear message where the user looks, nothing lost, no panic.

use std::fs;
use std::process::Command;

use anyhow::Result;
use harness::process::Process;
use harness::{Cluster, HubOptions, eventually};
use wherry_tests::{LATER, SOON, Stage, container, phase, pod};

fn push_refused(cluster: &Cluster, name: &str, bytes: &[u8]) -> Result<String> {
    let file = cluster.folder().join(format!("{name}.wasm"));
    fs::write(&file, bytes)?;
    let output = cluster.hub.cli_output(&["push", &file.to_string_lossy(), name])?;
    anyhow::ensure!(!output.status.success(), "{name} was accepted");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn files_that_are_no_guests_are_refused_with_a_reason() -> Result<()> {
    let cluster = Cluster::start(HubOptions::default())?;
    let good = fs::read(cluster.binaries.guest("hello")?)?;
    let said = push_refused(&cluster, "text", b"this is no wasm")?;
    assert!(said.contains("not WebAssembly") || said.contains("no WebAssembly"), "{said}");
    let said = push_refused(&cluster, "cut", &good[..good.len() / 2])?;
    assert!(
        said.to_lowercase().contains("truncated") || said.contains("unexpected end") || said.contains("ends"),
        "{said}"
    );
    let mut corrupt = good.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 64].fill(0xFF);
    assert!(!push_refused(&cluster, "corrupt", &corrupt)?.contains("panicked"));
    // An empty core module is WebAssembly, but no program.
    let said = push_refused(&cluster, "empty", b"\0asm\x01\0\0\0")?;
    assert!(said.contains("wasi") || said.contains("_start"), "{said}");
    let said = push_refused(&cluster, "huge", &vec![0; 200 << 20])?;
    assert!(said.contains("limit") || said.contains("larger"), "{said}");
    assert!(cluster.hub.cli(&["images"])?.lines().count() <= 1, "a refused file left an image");
    Ok(())
}

#[test]
fn an_image_that_is_not_there_yet() -> Result<()> {
    let stage = Stage::new(1, &[])?;
    stage.kubectl.apply(&pod("early", "hello", ""))?;
    stage.kubectl.wait_pod("early", "waiting for its image", SOON, |pod| {
        let reason = &container(pod)["state"]["waiting"]["reason"];
        reason == "ErrImagePull" || reason == "ImagePullBackOff"
    })?;
    let shown = stage.kubectl.run(&["describe", "pod", "early"])?;
    assert!(shown.contains("\"hello\" is not in the hub's registry"), "{shown}");
    stage.cluster.push_guests(&["hello"])?;
    stage.kubectl.wait_pod("early", "running", LATER, |pod| phase(pod) == "Running")?;
    Ok(())
}

#[test]
fn manifests_with_mistakes() -> Result<()> {
    let stage = Stage::new(0, &[])?;
    let refused = |manifest: String, texts: &[&str]| -> Result<()> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        fs::write(file.path(), &manifest)?;
        let said = stage.kubectl.refused(&["apply", "-f", &file.path().to_string_lossy()])?;
        for text in texts {
            anyhow::ensure!(said.contains(text), "expected {text:?} in: {said}");
        }
        Ok(())
    };
    let good = pod("p", "hello", "");
    refused(good.replace("image:", "imgae:"), &["unknown field", "imgae"])?;
    refused(good.replace("image: hello", "image: [hello]"), &["image"])?;
    refused(format!("{good}  hostNetwork: true\n"), &["spec.hostNetwork"])?;
    refused(
        pod("p", "hello", "securityContext: {privileged: true}"),
        &["spec.containers[0].securityContext.privileged"],
    )?;
    refused(good.replace("name: p\n", "name: Not_A_Name\n"), &["metadata.name", "RFC 1123"])?;
    refused(
        pod("p", "hello", "volumeMounts: [{name: gone, mountPath: /x}]"),
        &["spec.containers[0].volumeMounts[0].name", "gone"],
    )?;
    refused(pod("p", "hello", "resources: {requests: {memory: lots}}"), &["memory"])?;
    refused(good.replace("apiVersion: v1", "apiVersion: v9"), &["no matches for kind"])?;
    // Harmless to ignore: accepted, with a warning.
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    fs::write(file.path(), format!("{good}  dnsPolicy: Default\n"))?;
    let output = stage.kubectl.output(&["apply", "-f", &file.path().to_string_lossy()])?;
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Warning:") && said.contains("dnsPolicy"), "{said}");
    Ok(())
}

#[test]
fn a_missing_configmap_shows_and_heals() -> Result<()> {
    let stage = Stage::new(1, &["hello"])?;
    stage.kubectl.apply(&pod("needs", "hello", "envFrom: [{configMapRef: {name: later}}]"))?;
    stage.kubectl.wait_pod("needs", "waiting for its ConfigMap", SOON, |pod| {
        container(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    })?;
    stage.kubectl.run(&["create", "configmap", "later", "--from-literal=A=b"])?;
    stage.kubectl.wait_pod("needs", "running", LATER, |pod| phase(pod) == "Running")?;
    Ok(())
}

#[test]
fn a_second_hub_and_a_port_in_use() -> Result<()> {
    let cluster = Cluster::start(HubOptions::default())?;
    let serve = |data: &std::path::Path, listen: &str| -> Result<String> {
        fs::create_dir_all(data)?;
        let mut command = Command::new(cluster.binaries.hub());
        command.args(["serve", "--listen", listen, "--mqtt-listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        let log = cluster.folder().join(format!("second-{}.log", listen.replace(':', "-")));
        let mut process = Process::start("second hub", command, &log)?;
        anyhow::ensure!(!process.wait(SOON)?.success());
        Ok(process.log())
    };
    let said = serve(&cluster.hub.data, "127.0.0.1:0")?;
    assert!(said.contains("in use") && said.contains(&*cluster.hub.data.to_string_lossy()), "{said}");
    let taken = cluster.hub.api().trim_start_matches("https://").to_owned();
    let said = serve(&cluster.folder().join("other"), &taken)?;
    assert!(said.contains(&taken) && said.contains("in use"), "{said}");
    Ok(())
}

#[test]
fn the_cli_says_where_the_hub_should_be() -> Result<()> {
    let mut cluster = Cluster::start(HubOptions::default())?;
    cluster.hub.process.kill9();
    let output = cluster.hub.cli_output(&["get", "pods"])?;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&cluster.hub.api()) && said.contains("hub serve"), "{said}");
    Ok(())
}

#[test]
fn a_component_with_imports_that_nobody_provides() -> Result<()> {
    // The smallest such component would need a component toolchain; a guest whose import is renamed
    // serves as well.
    let stage = Stage::new(1, &[])?;
    let bytes = fs::read(stage.cluster.binaries.guest("slow-stop")?)?;
    let file = stage.cluster.folder().join("odd.wasm");
    fs::write(&file, replace_all(&bytes, b"wherry:pod/lifecycle@0.1.0", b"nobody:has/lifecycle@0.1.0"))?;
    stage.cluster.hub.cli(&["push", &file.to_string_lossy(), "odd"])?;
    stage.kubectl.apply(&pod("odd", "odd", ""))?;
    eventually("the event that names the import", LATER, || {
        Ok(stage.kubectl.run(&["describe", "pod", "odd"])?.contains("nobody:has/lifecycle@0.1.0"))
    })
}

/// Same length, so that every section of the component keeps its size.
fn replace_all(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at + from.len() <= out.len() {
        if &out[at..at + from.len()] == from {
            out[at..at + to.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
    out
}
