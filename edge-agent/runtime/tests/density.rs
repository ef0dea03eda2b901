//! Many pods in a small address space, as on a Raspberry Pi.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use edge_agent_runtime::{ArtifactFile, ExitReason, Runtime, RuntimeConfig, probe_memory_profile};
use protocol::reported::MemoryProfile;
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{Log, Node, command, container, end};

/// `ulimit -v` in bytes.
const ADDRESS_SPACE: u64 = 3 << 30;
const PODS: usize = 100;

/// Where the outer test leaves the artifact for the limited process.
const ARTIFACT: &str = "WHERRY_TEST_ARTIFACT";

const SLEEP: &str = r#"(func (export "_start")
    (call $print (i32.const 1) (i32.const 64) (i32.const 1)) (call $sleep (i64.const 3600000000000)))"#;

#[test]
fn a_hundred_pods_fit_into_three_gibibytes_of_address_space() {
    // Compiled outside: an agent has no compiler in its address space.
    let node = Node::new(MemoryProfile::Compact);
    let file = node.compile(&command(SLEEP));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limited", "--ignored", "--nocapture"])
        .env(ARTIFACT, format!("{} {}", file.artifact, file.path.display()))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "runs in the limited process of the test above"]
fn limited() {
    let limit = Rlimit { current: Some(ADDRESS_SPACE), maximum: Some(ADDRESS_SPACE) };
    setrlimit(Resource::As, limit).unwrap();
    assert_eq!(probe_memory_profile(), MemoryProfile::Compact);
    let variable = std::env::var(ARTIFACT).unwrap();
    let (digest, path) = variable.split_once(' ').unwrap();
    let file = ArtifactFile { path: PathBuf::from(path), artifact: digest.parse().unwrap() };

    let workers = RuntimeConfig::workers_for(4);
    let runtime = Runtime::new(RuntimeConfig { memory: MemoryProfile::Compact, workers, guest_memory: None }).unwrap();
    let node = Node { runtime, directory: tempfile::tempdir().unwrap() };
    let image = node.runtime.load(&file).unwrap();
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    control.block_on(async {
        let start = || async {
            let log = Arc::new(Log::default());
            let instance = node.pod(1).start(container(&image, &log)).unwrap();
            log.wait_for("\0").await;
            instance
        };
        // The first pod pays for what all share.
        let first = start().await;
        let (before, begun) = (resident(), Instant::now());
        let mut pods = vec![first];
        while pods.len() < PODS {
            pods.push(start().await);
        }
        let each = (resident() - before) / (PODS as u64 - 1);
        println!("{} KiB and {:?} a pod", each >> 10, begun.elapsed() / (PODS as u32 - 1));
        assert!(pods.iter().all(|pod| pod.exit().is_none()), "all of them run");
        for pod in &pods {
            pod.kill();
            assert_eq!(end(pod).await.reason, ExitReason::Killed);
        }
    });
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
