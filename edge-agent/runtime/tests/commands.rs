//! Commands from start to exit: codes, traps, limits, files, stop and kill.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_agent_runtime::{
    ContainerKind, ExecError, ExecOutcome, ExitReason, LoadError, Mount, StartError, StopSupport, code,
};
use protocol::pod::Access;
use protocol::reported::MemoryProfile;
use support::{Log, Node, command, container, end, guest};

const HELLO: &str = r#"(data (i32.const 64) "hello\n")
    (func (export "_start") (call $print (i32.const 1) (i32.const 64) (i32.const 6)))"#;
const SPIN: &str =
    r#"(func (export "_start") (call $print (i32.const 1) (i32.const 64) (i32.const 1)) (loop $l (br $l)))"#;
const SLEEP: &str = r#"(func (export "_start")
    (call $print (i32.const 1) (i32.const 64) (i32.const 1)) (call $sleep (i64.const 3600000000000)))"#;
/// Grows until it is refused, then dies as `abort` dies.
const HOG: &str = r#"(func (export "_start")
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable))"#;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// `code reason message`, or `code reason` without one.
async fn run(component: &[u8], args: &[&str]) -> String {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let mut config = container(&node.load(component), &log);
    config.args = words(args);
    let instance = node.pod(1).start(config).unwrap();
    let exit = end(&instance).await;
    assert_eq!(instance.exit(), Some(exit.clone()));
    assert_eq!(instance.usage().memory_bytes, 0, "its memory is given back");
    format!("{} {:?} {}", exit.code, exit.reason, exit.message.unwrap_or_default()).trim().to_owned()
}

#[tokio::test]
async fn exits_have_code_reason_and_message() {
    let text = async |body: &str| run(&command(body), &[]).await;
    assert_eq!(text(HELLO).await, "0 Completed");
    assert_eq!(
        text(r#"(func (export "_start") (unreachable))"#).await,
        "134 Error wasm trap: wasm `unreachable` instruction executed"
    );
    let hog = text(HOG).await;
    assert!(hog.starts_with("137 OomKilled its memory limit refused it more memory"), "{hog}");
    let deep = text(r#"(func $f (call $f)) (func (export "_start") (call $f))"#).await;
    assert_eq!(deep, "134 Error wasm trap: call stack exhausted");
    let tool = guest("hello");
    assert_eq!(run(&tool, &["exit", "0"]).await, "0 Completed");
    assert_eq!(run(&tool, &["exit", "1"]).await, "1 Error");
}

#[tokio::test]
async fn a_memory_limit_below_the_guests_first_memory_is_an_oom_kill() {
    let node = Node::new(MemoryProfile::Compact);
    let log = Arc::new(Log::default());
    let mut config = container(&node.load(&command(HELLO)), &log);
    config.memory_limit = Some(64 << 10);
    let exit = end(&node.pod(1).start(config).unwrap()).await;
    assert_eq!((exit.code, exit.reason), (code::KILLED, ExitReason::OomKilled), "{exit:?}");
}

#[tokio::test]
async fn output_reaches_the_log_and_cpu_is_billed() {
    let node = Node::new(MemoryProfile::Compact);
    let log = Arc::new(Log::default());
    let image = node.load(&command(HELLO));
    assert_eq!((image.kind(), image.stop_support()), (ContainerKind::Command, StopSupport::AtOnce));
    let instance = node.pod(1).start(container(&image, &log)).unwrap();
    assert_eq!(end(&instance).await.reason, ExitReason::Completed);
    assert_eq!(log.text(), "hello\n");
    assert!(instance.usage().cpu_micros > 0);
}

#[tokio::test]
async fn spinning_and_sleeping_guests_are_killed_at_once() {
    let node = Node::new(MemoryProfile::Fast);
    for body in [SPIN, SLEEP] {
        let log = Arc::new(Log::default());
        let instance = node.pod(1).start(container(&node.load(&command(body)), &log)).unwrap();
        log.wait_for("\0").await;
        let asked = Instant::now();
        instance.kill();
        let exit = end(&instance).await;
        assert_eq!((exit.code, exit.reason), (code::KILLED, ExitReason::Killed));
        println!("killed after {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn more_spinning_guests_than_workers_all_run_and_all_die() {
    let node = Node::new(MemoryProfile::Compact);
    let image = node.load(&command(SPIN));
    let logs: Vec<_> = (0..9).map(|_| Arc::new(Log::default())).collect();
    let instances: Vec<_> =
        (1..).zip(&logs).map(|(pod, log)| node.pod(pod).start(container(&image, log)).unwrap()).collect();
    for log in &logs {
        log.wait_for("\0").await;
    }
    for instance in &instances {
        instance.kill();
    }
    for instance in &instances {
        assert_eq!(end(instance).await.reason, ExitReason::Killed);
    }
}

#[tokio::test]
async fn a_command_that_cannot_hear_is_stopped_at_once() {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let instance = node.pod(1).start(container(&node.load(&command(SLEEP)), &log)).unwrap();
    instance.signal_stop();
    instance.kill();
    let exit = end(&instance).await;
    assert_eq!((exit.code, exit.reason), (code::STOPPED, ExitReason::Stopped), "the first cause counts");
}

#[tokio::test]
async fn a_guest_dies_with_its_handle() {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let instance = node.pod(1).start(container(&node.load(&command(SPIN)), &log)).unwrap();
    log.wait_for("\0").await;
    let exited = instance.exited();
    drop(instance);
    let exit = tokio::time::timeout(support::DEADLINE, exited).await.unwrap();
    assert_eq!(exit.reason, ExitReason::Killed);
}

#[tokio::test]
async fn exec_is_a_fresh_instance_with_other_arguments() {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let pod = node.pod(1);
    let tool = container(&node.load(&guest("hello")), &log);
    let outcome = pod.exec(tool, words(&["echo", "a", "b"]), support::DEADLINE).await.unwrap();
    assert!(matches!(&outcome, ExecOutcome::Exited(exit) if exit.code == 0), "{outcome:?}");
    assert_eq!(log.text(), "a b\n");

    for body in [SPIN, SLEEP] {
        let config = container(&node.load(&command(body)), &log);
        let asked = Instant::now();
        let outcome = pod.exec(config, vec![], Duration::from_millis(100)).await.unwrap();
        assert_eq!(outcome, ExecOutcome::TimedOut);
        assert!(asked.elapsed() >= Duration::from_millis(100));
    }
}

#[tokio::test]
async fn files_are_what_their_access_says() {
    let node = Node::new(MemoryProfile::Fast);
    let (volume, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(root.path().join("readme"), "from the image").unwrap();
    let file = volume.path().join("data.txt");
    std::fs::write(&file, "from the host").unwrap();
    let image = node.load(&guest("hello"));
    let run = async |access, args: &[&str]| {
        let log = Arc::new(Log::default());
        let mut config = container(&image, &log);
        config.root = Some(root.path().into());
        config.mounts = vec![Mount { host: volume.path().into(), guest: "/data".into(), access }];
        config.args = words(args);
        let exit = end(&node.pod(1).start(config).unwrap()).await;
        assert_ne!(exit.code, code::TRAP, "{exit:?}");
        (exit.code, log.text())
    };
    assert_eq!(run(Access::ReadOnly, &["cat", "/data/data.txt"]).await, (0, "from the host".into()));
    assert_eq!(run(Access::ReadOnly, &["cat", "/readme"]).await, (0, "from the image".into()));
    assert_eq!(run(Access::ReadOnly, &["write", "/data/data.txt", "x"]).await.0, 1);
    assert_eq!(run(Access::ReadWrite, &["write", "/readme", "x"]).await.0, 1, "an image is never written");
    assert_eq!(run(Access::ReadWrite, &["cat", "/data/../../etc/passwd"]).await.0, 1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "from the host");
    assert_eq!(run(Access::ReadWrite, &["write", "/data/data.txt", "x"]).await.0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");

    let log = Arc::new(Log::default());
    let mut config = container(&image, &log);
    let host = volume.path().join("nowhere");
    config.mounts = vec![Mount { host, guest: "/data".into(), access: Access::ReadOnly }];
    let refused = node.pod(1).start(config).err().expect("the directory does not exist");
    assert!(matches!(&refused, StartError::Mount { guest, .. } if guest == "/data"), "{refused:?}");
}

/// Blocks on `stop` of `wherry:pod/lifecycle`, then fails of its own will: exit code 1.
const HEARS: &str = r#"(component
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $p (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $p))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wherry:pod/lifecycle@0.1.0" (instance $lifecycle
        (alias outer 1 $pollable (type $outer))
        (export "pollable" (type $p (eq $outer)))
        (export "stop" (func (result (own $p))))))
    (core func $stop (canon lower (func $lifecycle "stop")))
    (core func $block (canon lower (func $poll "[method]pollable.block")))
    (core module $m
        (import "host" "stop" (func $stop (result i32)))
        (import "host" "block" (func $block (param i32)))
        (func (export "run") (result i32) (call $block (call $stop)) (i32.const 1)))
    (core instance $i (instantiate $m
        (with "host" (instance (export "stop" (func $stop)) (export "block" (func $block))))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (component $c (import "run" (func $f (result (result)))) (export "run" (func $f)))
    (instance $exported (instantiate $c (with "run" (func $run))))
    (export "wasi:cli/run@0.2.0" (instance $exported)))"#;

#[tokio::test]
async fn a_command_that_hears_its_stop_ends_as_it_likes() {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let image = node.load(&wat::parse_str(HEARS).unwrap());
    assert_eq!(image.stop_support(), StopSupport::Graceful);
    let instance = node.pod(1).start(container(&image, &log)).unwrap();
    instance.signal_stop();
    let exit = end(&instance).await;
    assert_eq!((exit.code, exit.reason), (1, ExitReason::Error));
}

#[tokio::test]
async fn what_cannot_be_loaded_says_why() {
    let node = Node::new(MemoryProfile::Fast);
    let load = |text: &str| node.try_load(&wat::parse_str(text).unwrap()).unwrap_err().to_string();
    assert_eq!(
        load(r#"(component (import "acme:gpio/pins@1.0.0" (instance (export "f" (func)))) (import "log" (func)))"#),
        "the component imports what this node does not provide: acme:gpio/pins@1.0.0, log"
    );
    assert_eq!(load("(component)"), "the component exports neither wasi:cli/run nor wasi:http/incoming-handler");
    assert!(
        load(r#"(component (import "wasi:cli/exit@0.2.0" (instance (export "nonsense" (func)))))"#)
            .starts_with("the component cannot be linked: ")
    );

    let mut file = node.compile(&command(HELLO));
    let other = Node::new(MemoryProfile::Compact);
    let refused = other.runtime.load(&file).unwrap_err();
    assert!(matches!(refused, LoadError::Incompatible { .. }), "{refused}");

    let mut bytes = std::fs::read(&file.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file.path, bytes).unwrap();
    assert!(matches!(node.runtime.load(&file).unwrap_err(), LoadError::Altered { .. }));
    file.path.push("nowhere");
    assert!(matches!(node.runtime.load(&file).unwrap_err(), LoadError::Read { .. }));
}

#[tokio::test]
async fn a_server_without_a_command_takes_no_exec() {
    let node = Node::new(MemoryProfile::Fast);
    let log = Arc::new(Log::default());
    let image = node.load(&guest("web"));
    let refused = node.pod(1).exec(container(&image, &log), vec![], support::DEADLINE).await.unwrap_err();
    assert!(matches!(refused, ExecError::NotACommand));
}
