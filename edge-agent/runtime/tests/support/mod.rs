//! A runtime with what it needs around it: guests written as text or built by `cargo xtask guests`, compiled as the
//! hub compiles them, and pods to run them in.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_agent_runtime::{
    ArtifactFile, ContainerConfig, Exit, Instance, LoadError, LoadedImage, LogSink, LogStream, Runtime, RuntimeConfig,
    Sandbox, SandboxSpec,
};
use protocol::ids::{Digest, PodUid};
use protocol::reported::MemoryProfile;
use tempfile::TempDir;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};

/// Long enough for a loaded machine; no test waits it out unless it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A preview 1 command with a memory and these functions imported, in text.
pub(crate) fn command(body: &str) -> Vec<u8> {
    let module = wat::parse_str(format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (func $print (param $fd i32) (param $at i32) (param $length i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func $sleep (param $nanos i64)
                ;; One relative subscription to the monotonic clock.
                (memory.fill (i32.const 256) (i32.const 0) (i32.const 48))
                (i32.store (i32.const 272) (i32.const 1))
                (i64.store (i32.const 280) (local.get $nanos))
                (drop (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 8))))
            {body})"#
    ));
    wit_component::ComponentEncoder::default()
        .module(&module.unwrap())
        .unwrap()
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        .unwrap()
        .encode()
        .unwrap()
}

/// A guest of wasm-apps.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wasm-apps/target/wasm32-wasip2/release");
    let path = PathBuf::from(built).join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; build it with `cargo xtask guests`", path.display()))
}

pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) directory: TempDir,
}

impl Node {
    pub(crate) fn new(memory: MemoryProfile) -> Self {
        let runtime = Runtime::new(RuntimeConfig { memory, workers: 4, guest_memory: None }).unwrap();
        Self { runtime, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn compile(&self, component: &[u8]) -> ArtifactFile {
        let config = artifact::compiler_config(&self.runtime.target()).unwrap();
        let bytes = wasmtime::Engine::new(&config).unwrap().precompile_component(component).unwrap();
        let artifact = Digest::of(&bytes);
        let path = self.directory.path().join(artifact.hex());
        std::fs::write(&path, bytes).unwrap();
        ArtifactFile { path, artifact }
    }

    pub(crate) fn try_load(&self, component: &[u8]) -> Result<Arc<LoadedImage>, LoadError> {
        self.runtime.load(&self.compile(component))
    }

    pub(crate) fn load(&self, component: &[u8]) -> Arc<LoadedImage> {
        self.try_load(component).unwrap()
    }

    pub(crate) fn pod(&self, last: u8) -> Sandbox {
        self.runtime.sandbox(SandboxSpec {
            uid: PodUid([last; 16]),
            ip: Ipv4Addr::new(10, 42, 0, last),
            namespace: "default".into(),
            hostname: format!("pod-{last}"),
        })
    }
}

pub(crate) fn container(image: &Arc<LoadedImage>, log: &Arc<Log>) -> ContainerConfig {
    ContainerConfig {
        name: "main".parse().unwrap(),
        image: image.clone(),
        args: vec![],
        env: vec![],
        working_dir: None,
        root: None,
        mounts: vec![],
        memory_limit: Some(64 << 20),
        log: log.clone(),
        ports: vec![],
        instance_reuse: 1,
    }
}

/// Everything a guest printed, whatever the stream.
#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<u8>>);

impl LogSink for Log {
    fn write(&self, _: LogStream, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Waits until the guest has printed `text`.
    pub(crate) async fn wait_for(&self, text: &str) {
        let printed = async {
            while !self.text().contains(text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DEADLINE, printed).await.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.text()));
    }
}

pub(crate) async fn end(instance: &Instance) -> Exit {
    tokio::time::timeout(DEADLINE, instance.exited()).await.expect("the guest ends")
}
