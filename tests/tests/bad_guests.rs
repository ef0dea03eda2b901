//! Every bad guest and its outcome.

use std::time::{Duration, Instant};

use anyhow::Result;
use harness::eventually;
use wherry_tests::{LATER, SOON, Stage, container, last_end, phase, pod, restarts, started};

#[test]
fn crash_loop_backs_off_and_keeps_its_last_words() -> Result<()> {
    let stage = Stage::new(1, &["crash-loop"])?;
    stage.kubectl.apply(&pod("crash", "crash-loop", "env: [{name: CRASH_AFTER_MS, value: '50'}]"))?;
    let pod = stage.kubectl.wait_pod("crash", "backing off after two restarts", LATER, |pod| {
        restarts(pod) >= 2 && container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    })?;
    assert_eq!(last_end(&pod)["exitCode"], 1);
    assert_eq!(last_end(&pod)["reason"], "Error");
    let previous = stage.kubectl.run(&["logs", "crash", "--previous"])?;
    assert!(previous.contains("giving up"), "{previous}");
    let shown = stage.kubectl.run(&["describe", "pod", "crash"])?;
    assert!(shown.contains("Back-off restarting failed container"), "{shown}");
    Ok(())
}

#[test]
fn memory_hog_is_killed_at_its_limit_and_hurts_nobody() -> Result<()> {
    let stage = Stage::new(1, &["memory-hog", "hello"])?;
    stage.kubectl.apply(&pod("calm", "hello", ""))?;
    stage.kubectl.apply(&pod("hog", "memory-hog", "resources: {limits: {memory: 8Mi}}"))?;
    let hog = stage.kubectl.wait_pod("hog", "OOMKilled", LATER, |pod| last_end(pod)["reason"] == "OOMKilled")?;
    assert_eq!(last_end(&hog)["exitCode"], 137);
    let calm = stage.kubectl.wait_pod("calm", "running", SOON, |pod| phase(pod) == "Running")?;
    assert_eq!(restarts(&calm), 0);
    Ok(())
}

#[test]
fn spinning_guests_delay_neither_heartbeats_nor_stops() -> Result<()> {
    let stage = Stage::new(1, &["spin-forever", "hello"])?;
    let cores = std::thread::available_parallelism()?.get();
    for number in 0..cores * 2 {
        stage.kubectl.apply(&pod(&format!("spin-{number}"), "spin-forever", ""))?;
    }
    for number in 0..cores * 2 {
        stage.kubectl.wait_pod(&format!("spin-{number}"), "running", LATER, |pod| phase(pod) == "Running")?;
    }
    stage.kubectl.apply(&pod("calm", "hello", ""))?;
    stage.kubectl.wait_pod("calm", "running beside them", SOON, |pod| phase(pod) == "Running")?;
    stage.cluster.wait_node("node-1", SOON)?;
    // The guest cannot hear a stop signal, so nothing is gained by a grace: it stops at once.
    let asked = Instant::now();
    stage.kubectl.run(&["delete", "pod", "spin-0", "--timeout=20s"])?;
    assert!(asked.elapsed() < Duration::from_secs(20));
    assert!(stage.kubectl.pod("spin-0")?.is_none());
    Ok(())
}

#[test]
fn log_flood_keeps_the_newest_lines_within_its_bound() -> Result<()> {
    let stage = Stage::new(1, &["log-flood"])?;
    stage.kubectl.apply(&pod("flood", "log-flood", ""))?;
    stage.kubectl.wait_pod("flood", "running", LATER, |pod| phase(pod) == "Running")?;
    eventually("old lines to be dropped", LATER, || {
        let log = stage.kubectl.run(&["logs", "flood", "--tail=1"])?;
        Ok(log.split_whitespace().nth(2).and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > 200_000))
    })?;
    let kept = stage.kubectl.run(&["logs", "flood"])?;
    assert!(kept.len() < 16 << 20, "{} bytes of log are kept", kept.len());
    let tail = stage.kubectl.run(&["logs", "flood", "--tail=5"])?;
    assert_eq!(tail.lines().count(), 5);
    Ok(())
}

#[test]
fn never_ready_runs_but_is_not_ready() -> Result<()> {
    let stage = Stage::new(1, &["never-ready"])?;
    let probe = "readinessProbe:\n  httpGet: {path: /, port: 80}\n  periodSeconds: 1";
    stage.kubectl.apply(&pod("never", "never-ready", probe))?;
    stage.kubectl.wait_pod("never", "running", LATER, |pod| phase(pod) == "Running")?;
    eventually("the event of a failed probe", SOON, || {
        Ok(stage.kubectl.run(&["describe", "pod", "never"])?.contains("Readiness probe failed"))
    })?;
    let pod = stage.kubectl.wait_pod("never", "there", SOON, |_| true)?;
    assert_eq!(container(&pod)["ready"], false);
    assert_eq!(restarts(&pod), 0);
    Ok(())
}

#[test]
fn slow_stop_gets_its_grace_and_not_more() -> Result<()> {
    let stage = Stage::new(1, &["slow-stop"])?;
    for (name, takes) in [("polite", "300"), ("stubborn", "60000")] {
        let more = format!("env: [{{name: STOP_TAKES_MS, value: '{takes}'}}]");
        stage.kubectl.apply(&format!("{}  terminationGracePeriodSeconds: 2\n", pod(name, "slow-stop", &more)))?;
        stage.kubectl.wait_pod(name, "running", LATER, |pod| !started(pod).is_empty())?;
    }
    let asked = Instant::now();
    stage.kubectl.run(&["delete", "pod", "polite", "stubborn", "--timeout=20s"])?;
    assert!(asked.elapsed() >= Duration::from_secs(2), "the stubborn one did not get its grace");
    Ok(())
}
