//! Who may join, and what a node may not do.

use std::process::Command;

use anyhow::Result;
use harness::process::Process;
use harness::{AgentOptions, Binaries, Cluster, HubOptions, eventually};
use wherry_tests::SOON;

/// Runs an agent that is expected to give up, and returns what it said.
fn refused(cluster: &Cluster, name: &str, token: &str) -> Result<String> {
    let data = cluster.folder().join(format!("{name}-refused"));
    std::fs::create_dir_all(&data)?;
    // Another machine, as far as the hub can tell: the same one may join again after it lost its data.
    std::fs::write(data.join("machine-id"), format!("machine-of-{name}"))?;
    let mut command = Command::new(Binaries::find()?.agent());
    command.args(["join", "--hub", &cluster.hub.api(), "--name", name, "--token", token, "--data-dir"]).arg(&data);
    let mut process = Process::start(name, command, &data.join("agent.log"))?;
    let status = process.wait(SOON)?;
    anyhow::ensure!(!status.success(), "{name} joined: {}", process.log());
    Ok(process.log())
}

#[test]
fn only_a_fresh_token_of_this_hub_joins() -> Result<()> {
    let cluster = Cluster::start(HubOptions::default())?;
    let good = cluster.hub.token()?;

    let said = refused(&cluster, "guess", "aaaaaa.bbbbbbbbbbbb.cccc")?;
    assert!(said.contains("token"), "{said}");
    let (head, hash) = good.rsplit_once('.').unwrap_or_default();
    let wrong_secret = format!("{}x.{hash}", &head[..head.len() - 1]);
    let said = refused(&cluster, "wrong", &wrong_secret)?;
    assert!(said.to_lowercase().contains("token"), "{said}");
    // Another hub's CA: the agent refuses before it sends anything.
    let other_ca = format!("{head}.{}", "0".repeat(64));
    let said = refused(&cluster, "other", &other_ca)?;
    assert!(said.to_lowercase().contains("ca") || said.contains("certificate"), "{said}");

    let data = cluster.folder().join("pi");
    let _agent = harness::Agent::start(
        &cluster.binaries,
        &cluster.hub.api(),
        "pi",
        &data,
        Some(good.clone()),
        AgentOptions::default(),
    )?;
    cluster.wait_node("pi", SOON)?;
    let said = refused(&cluster, "late", &good)?;
    assert!(said.contains("token"), "a used token was taken or refused without a reason: {said}");

    // A name that is taken is not given to another machine, whatever its token.
    let said = refused(&cluster, "pi", &cluster.hub.token()?)?;
    assert!(said.contains("pi"), "{said}");
    Ok(())
}

#[test]
fn the_api_is_closed_to_strangers() -> Result<()> {
    let cluster = Cluster::start(HubOptions::default())?;
    let kubeconfig = cluster.folder().join("stranger.kubeconfig");
    let stranger = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: {:?}, insecure-skip-tls-verify: true}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\ncurrent-context: c\nusers: [{{name: u, user: {{token: guess}}}}]\n",
        cluster.hub.api()
    );
    std::fs::write(&kubeconfig, stranger)?;
    let said = harness::Kubectl::new(&kubeconfig)?.refused(&["get", "pods"])?;
    assert!(said.to_lowercase().contains("unauthorized") || said.contains("logged in"), "{said}");

    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(cluster.hub.kubeconfig())?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Ok(())
}

#[test]
fn a_cloned_card_is_told_of() -> Result<()> {
    let cluster = Cluster::start(HubOptions::default())?;
    let original = cluster.agent("pi", AgentOptions::default())?;
    cluster.wait_node("pi", SOON)?;
    let clone = cluster.folder().join("clone");
    anyhow::ensure!(Command::new("cp").args(["-a"]).arg(&original.data).arg(&clone).status()?.success());
    let _second =
        harness::Agent::start(&cluster.binaries, &cluster.hub.api(), "pi", &clone, None, AgentOptions::default())?;
    let kubectl = cluster.kubectl()?;
    eventually("an event about the second machine", SOON, || {
        Ok(kubectl.run(&["describe", "node", "pi"])?.contains("DuplicateIdentity"))
    })
}
