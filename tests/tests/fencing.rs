//! A hub from an older backup, and two hubs on one broker: neither may harm running pods.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::eventually;
use wherry_tests::{LATER, SOON, Stage, container, phase, pod, restarts, started};

fn copy(from: &Path, to: &Path) -> Result<()> {
    ensure!(Command::new("cp").arg("-a").arg(from).arg(to).status()?.success(), "cp -a failed");
    Ok(())
}

/// What must stay the same of a pod that nobody touched.
fn run_of(pod: &serde_json::Value) -> (String, u64) {
    (started(pod).to_owned(), restarts(pod))
}

#[test]
fn a_hub_from_an_older_backup_stops_and_a_restored_one_goes_on() -> Result<()> {
    let mut stage = Stage::new(1, &["hello"])?;
    stage.kubectl.apply(&pod("old", "hello", ""))?;
    let old = stage.kubectl.wait_ready("old", LATER)?;

    stage.cluster.hub.process.terminate(SOON)?;
    let (data, backup) = (stage.cluster.hub.data.clone(), stage.cluster.folder().join("backup"));
    copy(&data, &backup)?;
    stage.cluster.hub.start_again()?;
    stage.cluster.wait_node("node-1", SOON)?;
    stage.kubectl.apply(&pod("young", "hello", ""))?;
    let young = stage.kubectl.wait_ready("young", LATER)?;

    // The power goes, the disk is lost, the backup comes back.
    stage.cluster.hub.process.kill9();
    std::fs::rename(&data, stage.cluster.folder().join("lost"))?;
    copy(&backup, &data)?;
    stage.cluster.hub.start_again()?;
    eventually("the old hub to say that it stops publishing", SOON, || {
        Ok(stage.cluster.hub.process.log().contains("--restore"))
    })?;
    ensure!(stage.kubectl.pod("young")?.is_none());

    // Restored on purpose: it goes on above what the node has heard, and the young pod runs on.
    stage.cluster.hub.process.terminate(SOON)?;
    stage.cluster.hub.add_argument("--restore=3s");
    stage.cluster.hub.start_again()?;
    stage.cluster.wait_node("node-1", SOON)?;
    stage.kubectl.apply(&pod("new", "hello", ""))?;
    stage.kubectl.wait_ready("new", LATER)?;
    let still = stage.kubectl.wait_ready("old", SOON)?;
    assert_eq!(run_of(&still), run_of(&old), "the restored hub restarted a pod that it knew");
    eventually("the node to tell of the unknown pod", SOON, || {
        Ok(stage.kubectl.run(&["describe", "node", "node-1"])?.contains("does not know"))
    })?;
    let _ = young;
    Ok(())
}

#[test]
fn a_reconnect_after_the_broker_was_away_restarts_nothing() -> Result<()> {
    let mut stage = Stage::new(1, &["hello"])?;
    stage.kubectl.apply(&pod("steady", "hello", ""))?;
    let before = stage.kubectl.wait_ready("steady", LATER)?;
    stage.cluster.hub.process.kill9();
    // Long enough that the agent has noticed and retried: its log says so.
    let agent = &stage.agents[0].process;
    eventually("the agent to notice", SOON, || Ok(agent.log().contains("the link is down")))?;
    stage.cluster.hub.start_again()?;
    stage.cluster.wait_node("node-1", LATER)?;
    let after = stage.kubectl.wait_ready("steady", SOON)?;
    assert_eq!(run_of(&before), run_of(&after));
    assert_eq!(container(&after)["containerID"], container(&before)["containerID"]);
    assert_eq!(phase(&after), "Running");
    Ok(())
}
