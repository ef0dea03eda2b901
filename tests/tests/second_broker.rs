//! The main stories once more, on a broker of someone else's.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness::process::Process;
use harness::{AgentOptions, Cluster, HubOptions, eventually};
use wherry_tests::{LATER, SOON, phase, pod, restarts, started};

/// mosquitto with mutual TLS, as `docs/external-broker.md` says.
fn mosquitto(program: &Path, folder: &Path, keys: &Path, port: u16) -> Result<Process> {
    fs::create_dir_all(folder)?;
    let key = |name: &str| keys.join(name).display().to_string();
    let configuration = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
         use_identity_as_username true\nuse_username_as_clientid true\nallow_anonymous false\n\
         max_packet_size 262144\nmax_queued_messages 100000\nuser root\nacl_file {}\n",
        key("ca.crt"),
        key("broker.pem"),
        key("broker.key"),
        folder.join("acl").display(),
    );
    let leaves = ["reported/+", "presence", "metrics", "events", "blob/req", "stream/+/up"];
    let writes: String = leaves.iter().map(|leaf| format!("pattern write wherry/1/+/n/%u/{leaf}\n")).collect();
    fs::write(
        folder.join("acl"),
        format!("user wherry-hub\ntopic readwrite #\npattern read wherry/1/+/n/%u/#\n{writes}"),
    )?;
    fs::write(folder.join("mosquitto.conf"), configuration)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("mosquitto.conf"));
    Process::start("mosquitto", command, &folder.join("mosquitto.log"))
}

#[test]
fn the_stories_hold_on_mosquitto() -> Result<()> {
    let Some(program) = std::env::var_os("WHERRY_MOSQUITTO").map(PathBuf::from) else {
        eprintln!("left out: WHERRY_MOSQUITTO names no program (cargo xtask test installs one on Debian as root)");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    // A first start makes the CA that the broker shall trust.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    {
        let mut first = Cluster::start(HubOptions { args: vec![], folder: Some(folder.path().to_owned()) })?;
        first
            .hub
            .cli(&["broker-certificate", "--data-dir", &first.hub.data.display().to_string(), "--name", "127.0.0.1"])
            .context("no certificate for the broker")?;
        first.hub.process.terminate(SOON)?;
    }
    let mut broker = mosquitto(&program, &folder.path().join("broker"), &folder.path().join("hub/keys"), port)?;
    let args = vec!["--mqtt".to_owned(), format!("mqtts://127.0.0.1:{port}")];
    let mut cluster = Cluster::start(HubOptions { args, folder: Some(folder.path().to_owned()) })?;
    let mut agent = cluster.agent("node-1", AgentOptions::default())?;
    cluster.wait_node("node-1", SOON).with_context(|| broker.log_tail())?;
    cluster.push_guests(&["hello"])?;
    let kubectl = cluster.kubectl()?;
    kubectl.apply(&pod("first", "hello", "env: [{name: HELLO_INTERVAL_MS, value: '100'}]"))?;
    let before = kubectl.wait_ready("first", LATER)?;
    eventually("its lines", SOON, || Ok(kubectl.run(&["logs", "first"])?.contains("hello from first")))?;

    // The hub dies, the broker dies: no pod minds.
    cluster.hub.process.kill9();
    broker.kill9();
    let _broker = mosquitto(&program, &folder.path().join("broker"), &folder.path().join("hub/keys"), port)?;
    cluster.hub.start_again()?;
    cluster.wait_node("node-1", LATER)?;
    let after = kubectl.wait_ready("first", SOON)?;
    assert_eq!((started(&after), restarts(&after)), (started(&before), restarts(&before)));

    kubectl.apply(&pod("second", "hello", ""))?;
    kubectl.wait_pod("second", "running", LATER, |pod| phase(pod) == "Running")?;
    kubectl.run(&["delete", "pod", "first", "--timeout=30s"])?;
    agent.process.check_alive()
}
