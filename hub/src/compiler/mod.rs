//! Compiling ahead of time, for the nodes' targets: in child processes, once, kept on disk.
//!
//! ```text
//! artifact(component, target) ── cached? ──> its manifest
//!        │ no                └── failed a moment ago? ──> the same error
//!        └── join the compilation that is under way, or start it; one runs at a time
//!              worker ── stdout ──> sha256, zstd ──> cache
//! ```

pub mod worker;

mod cache;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use protocol::blob::{ArtifactManifest, NoArtifact};
use protocol::ids::Digest;
use protocol::reported::Target;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::registry::Registry;
use crate::registry::blobs::{BlobError, BlobFile, Incoming};
use cache::{Cache, Key};
use worker::{Worker, WorkerError};

/// Components that wait to be compiled. More are refused, and asked for again by their nodes.
const WAITING_MAX: usize = 256;
/// An image that does not compile is not tried again for so long: nodes ask every few seconds.
const FAILURE_KEPT: Duration = Duration::from_secs(60);
/// What may pass by itself (a full disk, a missing worker) is tried sooner.
const HICCUP_KEPT: Duration = Duration::from_secs(5);
/// zstd: made once, sent to many nodes over slow links.
const ZSTD_LEVEL: i32 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompilerLimits {
    /// Bytes of one artifact, uncompressed.
    pub artifact: u64,
    /// Bytes of all kept artifacts, compressed.
    pub cache: u64,
}

impl Default for CompilerLimits {
    /// Native code is about five times its Wasm; some hundred images fit a Pi's SD card.
    fn default() -> Self {
        Self { artifact: 512 << 20, cache: 2 << 30 }
    }
}

/// Handle on the compiler; cheap to clone.
#[derive(Clone)]
pub struct Compiler {
    shared: Arc<Inner>,
}

struct Inner {
    /// By the engine they compile for: during an upgrade there may be two.
    workers: BTreeMap<String, Worker>,
    registry: Registry,
    limits: CompilerLimits,
    clock: Clock,
    turn: Semaphore,
    state: Mutex<State>,
}

struct State {
    cache: Cache,
    running: HashMap<Key, Running>,
    failures: HashMap<Key, (CompileError, Instant)>,
}

type Running = Shared<BoxFuture<'static, Result<ArtifactManifest, CompileError>>>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum CompileError {
    #[error("component {component} is not in the registry")]
    Unknown { component: Digest },
    #[error("no compiler for engine {engine}; this hub has: {available}")]
    UnknownEngine { engine: String, available: String },
    /// The component is at fault, or too much for the limits.
    #[error("image {image} does not compile for {triple}: {source}")]
    Invalid { image: String, triple: String, source: WorkerError },
    /// The hub is at fault; later it may work.
    #[error("cannot compile image {image} now: {why}")]
    Failed { image: String, why: String },
    #[error("{WAITING_MAX} images wait to be compiled already")]
    Busy,
}

impl CompileError {
    /// What a node is told; `None`: it should simply ask again.
    pub fn verdict(&self) -> Option<NoArtifact> {
        match self {
            Self::Unknown { .. } => Some(NoArtifact::Unknown),
            Self::UnknownEngine { .. } => Some(NoArtifact::Unsupported),
            Self::Invalid { .. } => Some(NoArtifact::Invalid),
            Self::Failed { .. } | Self::Busy => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot open the artifact cache in {path}")]
pub struct OpenError {
    path: String,
    #[source]
    source: io::Error,
}

impl Compiler {
    /// Opens the cache in `dir`. A worker that does not answer is left out, and told of.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub async fn open(
        dir: &Path,
        limits: CompilerLimits,
        workers: Vec<Worker>,
        registry: Registry,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let cache =
            Cache::open(dir, limits.cache).map_err(|source| OpenError { path: dir.display().to_string(), source })?;
        let mut by_engine = BTreeMap::new();
        for worker in workers {
            match worker.engine().await {
                Ok(engine) => drop(by_engine.insert(engine, worker)),
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "cannot use a compiler"),
            }
        }
        let state = State { cache, running: HashMap::new(), failures: HashMap::new() };
        let inner =
            Inner { workers: by_engine, registry, limits, clock, turn: Semaphore::new(1), state: Mutex::new(state) };
        Ok(Self { shared: Arc::new(inner) })
    }

    /// The artifact, if it is at hand.
    pub fn cached(&self, component: Digest, target: &Target) -> Option<ArtifactManifest> {
        let now = self.shared.clock.unix_millis();
        self.shared.state().cache.get(&Key { component, target: target.clone() }, now)
    }

    /// The artifact, compiled if need be; all who ask for the same one share one compilation, which
    /// goes on when they go away.
    ///
    /// # Errors
    /// See [`CompileError`]; the same error for a while, without another try.
    pub async fn artifact(&self, component: Digest, target: &Target) -> Result<ArtifactManifest, CompileError> {
        self.find_or_start(Key { component, target: target.clone() })?.await
    }

    /// The file of an artifact's compressed blob.
    pub fn blob_path(&self, digest: &Digest) -> Option<BlobFile> {
        self.shared.state().cache.blob(digest)
    }

    fn find_or_start(&self, key: Key) -> Result<Running, CompileError> {
        let (millis, now) = (self.shared.clock.unix_millis(), self.shared.clock.monotonic());
        let mut state = self.shared.state();
        if let Some(manifest) = state.cache.get(&key, millis) {
            return Ok(std::future::ready(Ok(manifest)).boxed().shared());
        }
        if let Some(running) = state.running.get(&key) {
            return Ok(running.clone());
        }
        state.failures.retain(|_, (_, until)| *until > now);
        if let Some((error, _)) = state.failures.get(&key) {
            return Err(error.clone());
        }
        if state.running.len() >= WAITING_MAX {
            return Err(CompileError::Busy);
        }
        let inner = self.shared.clone();
        let image = inner.image(&key);
        let task = tokio::spawn(inner.run(key.clone()));
        let running = async move {
            task.await.unwrap_or_else(|error| Err(CompileError::Failed { image, why: error.to_string() }))
        };
        let running = running.boxed().shared();
        state.running.insert(key, running.clone());
        Ok(running)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self, key: &Key) -> String {
        self.registry.name_of(&key.component).unwrap_or_else(|| key.component.to_string())
    }

    async fn run(self: Arc<Self>, key: Key) -> Result<ArtifactManifest, CompileError> {
        let result = self.compile(&key).await;
        let now = self.clock.monotonic();
        let mut state = self.state();
        state.running.remove(&key);
        if let Err(error) = &result {
            let kept = if error.verdict().is_some() { FAILURE_KEPT } else { HICCUP_KEPT };
            tracing::warn!(%error, "could not compile");
            // Bounded by the compilations that fit into the time they are kept, and by this.
            if state.failures.len() < WAITING_MAX {
                state.failures.insert(key, (error.clone(), now + kept));
            }
        }
        result
    }

    async fn compile(&self, key: &Key) -> Result<ArtifactManifest, CompileError> {
        let worker = self.workers.get(&key.target.engine).ok_or_else(|| CompileError::UnknownEngine {
            engine: key.target.engine.clone(),
            available: self.workers.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let unknown = CompileError::Unknown { component: key.component };
        let _turn = self.turn.acquire().await.expect("the semaphore is never closed");
        let source = self.registry.blob(&key.component).ok_or(unknown)?;
        let started = self.clock.monotonic();
        let packed = self.pack(worker, key, &source).await?;
        let elapsed = self.clock.monotonic().saturating_duration_since(started);
        tracing::info!(
            component = %key.component,
            triple = %key.target.triple,
            millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            bytes = packed.blob_bytes,
            "compiled an image"
        );
        let inserted = self.state().cache.insert(packed.clone(), self.clock.unix_millis());
        inserted.map_err(|error| self.failed(key, &error))?;
        Ok(packed)
    }

    /// Runs the worker and stores what it makes, compressed.
    async fn pack(&self, worker: &Worker, key: &Key, source: &BlobFile) -> Result<ArtifactManifest, CompileError> {
        let incoming = self.state().cache.receive(u64::MAX);
        let mut packer = Packer::new(incoming.map_err(|error| self.failed(key, &error))?)
            .map_err(|error| self.failed(key, &error))?;
        let made = worker.compile(&source.path, &key.target, self.limits.artifact, |bytes| packer.write(bytes)).await;
        if let Some(error) = packer.failure.take() {
            return Err(self.failed(key, &error));
        }
        made.map_err(|source| match source {
            WorkerError::Missing { .. } | WorkerError::Io { .. } => self.failed(key, &source),
            WorkerError::Refused { .. }
            | WorkerError::TimedOut { .. }
            | WorkerError::TooLarge { .. }
            | WorkerError::Died { .. } => {
                CompileError::Invalid { image: self.image(key), triple: key.target.triple.clone(), source }
            }
        })?;
        // For two fsyncs.
        let packed = tokio::task::spawn_blocking(move || packer.finish()).await;
        let packed = packed.map_err(|error| self.failed(key, &error))?.map_err(|error| self.failed(key, &error))?;
        Ok(ArtifactManifest {
            component: key.component,
            target: key.target.clone(),
            blob: packed.blob,
            blob_bytes: packed.blob_bytes,
            artifact: packed.artifact,
            artifact_bytes: packed.artifact_bytes,
        })
    }

    fn failed(&self, key: &Key, error: &dyn std::error::Error) -> CompileError {
        let mut why = error.to_string();
        if let Some(source) = error.source() {
            why = format!("{why}: {source}");
        }
        CompileError::Failed { image: self.image(key), why }
    }
}

/// Hashes and compresses an artifact on its way to the disk: it is never in memory as a whole.
struct Packer {
    encoder: zstd::Encoder<'static, Vec<u8>>,
    incoming: Incoming,
    hash: ring::digest::Context,
    bytes: u64,
    /// Why a write failed; the worker's driver knows only that it did.
    failure: Option<BlobError>,
}

struct Packed {
    blob: Digest,
    blob_bytes: u64,
    artifact: Digest,
    artifact_bytes: u64,
}

impl Packer {
    fn new(incoming: Incoming) -> Result<Self, BlobError> {
        let encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
        let hash = ring::digest::Context::new(&ring::digest::SHA256);
        Ok(Self { encoder, incoming, hash, bytes: 0, failure: None })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.encoder.write_all(bytes)?;
        let packed = std::mem::take(self.encoder.get_mut());
        self.incoming.write(&packed).map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the hub cannot store the artifact")
        })
    }

    fn finish(mut self) -> Result<Packed, BlobError> {
        let rest = self.encoder.finish()?;
        self.incoming.write(&rest)?;
        let mut artifact = Digest([0; 32]);
        artifact.0.copy_from_slice(self.hash.finish().as_ref());
        let blob_bytes = self.incoming.bytes();
        let blob = self.incoming.keep(None)?;
        Ok(Packed { blob, blob_bytes, artifact, artifact_bytes: self.bytes })
    }
}

#[cfg(test)]
mod tests {
    use protocol::reported::MemoryProfile;

    use super::*;
    use crate::registry::tests as images;

    /// Notes each compilation in `count`; "command bad" does not compile.
    const WORKER: &str = r#"
cd "$(dirname "$0")"
case $1 in
engine) echo 48.0.8+abi1 ;;
compile)
    input=$(cat)
    echo "$input" >> count
    case $input in *bad*) echo 'unknown import nobody:here' >&2; exit 1 ;; esac
    echo "native $input"
    ;;
esac
"#;

    struct Bench {
        dir: tempfile::TempDir,
        registry: Registry,
        clock: Clock,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("w")).unwrap();
            let registry = images::registry(dir.path());
            Self { dir, registry, clock: Clock::manual(1_000_000) }
        }

        async fn compiler(&self, limits: CompilerLimits) -> Compiler {
            let worker = worker::fake::worker(&self.dir.path().join("w"), WORKER);
            let dir = self.dir.path().join("artifacts");
            Compiler::open(&dir, limits, vec![worker], self.registry.clone(), self.clock.clone()).await.unwrap()
        }

        /// How often the worker compiled.
        fn compilations(&self) -> usize {
            std::fs::read_to_string(self.dir.path().join("w/count")).unwrap_or_default().lines().count()
        }
    }

    fn target(engine: &str) -> Target {
        Target {
            triple: "x86_64-unknown-linux-gnu".into(),
            cpu_features: vec!["avx2".into()],
            memory: MemoryProfile::Fast,
            engine: engine.into(),
        }
    }

    #[tokio::test]
    async fn one_compilation_serves_everyone_and_every_restart() {
        let bench = Bench::new();
        let component = images::push(&bench.registry, "a", "command 1").await;
        let compiler = bench.compiler(CompilerLimits::default()).await;
        let target = target("48.0.8+abi1");
        assert_eq!(compiler.cached(component, &target), None);
        let asked = (0..10).map(|_| compiler.artifact(component, &target));
        let manifests = futures_util::future::join_all(asked).await;
        let manifest = manifests[0].clone().unwrap();
        assert!(manifests.iter().all(|other| other.as_ref().unwrap() == &manifest));
        assert_eq!(bench.compilations(), 1);

        let file = compiler.blob_path(&manifest.blob).unwrap();
        assert_eq!(file.bytes, manifest.blob_bytes);
        let artifact = zstd::decode_all(std::fs::File::open(file.path).unwrap()).unwrap();
        assert_eq!(artifact, b"native command 1\n");
        assert_eq!((manifest.artifact, manifest.artifact_bytes), (Digest::of(&artifact), artifact.len() as u64));

        drop(compiler);
        let compiler = bench.compiler(CompilerLimits::default()).await;
        assert_eq!(compiler.artifact(component, &target).await.unwrap(), manifest);
        assert_eq!(bench.compilations(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_told_again_before_it_is_tried_again() {
        let bench = Bench::new();
        let component = images::push(&bench.registry, "a", "command bad").await;
        let compiler = bench.compiler(CompilerLimits::default()).await;
        let target = target("48.0.8+abi1");
        for _ in 0..3 {
            let error = compiler.artifact(component, &target).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "image a does not compile for x86_64-unknown-linux-gnu: unknown import nobody:here"
            );
            assert_eq!(error.verdict(), Some(NoArtifact::Invalid));
        }
        assert_eq!(bench.compilations(), 1);
        bench.clock.set(1_000_000 + FAILURE_KEPT.as_millis() as u64 + 1);
        compiler.artifact(component, &target).await.unwrap_err();
        assert_eq!(bench.compilations(), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_compiled_says_why() {
        let bench = Bench::new();
        let component = images::push(&bench.registry, "a", "command 1").await;
        let compiler = bench.compiler(CompilerLimits { artifact: 5, ..CompilerLimits::default() }).await;
        let check = async |component: Digest, engine: &str, verdict: NoArtifact, expected: &str| {
            let error = compiler.artifact(component, &target(engine)).await.unwrap_err();
            assert_eq!((error.verdict(), error.to_string().as_str()), (Some(verdict), expected));
        };
        let engine = "no compiler for engine 49.0.0+abi1; this hub has: 48.0.8+abi1";
        check(component, "49.0.0+abi1", NoArtifact::Unsupported, engine).await;
        let other = Digest::of(b"other");
        let unknown = format!("component {other} is not in the registry");
        check(other, "48.0.8+abi1", NoArtifact::Unknown, &unknown).await;
        let large = "image a does not compile for x86_64-unknown-linux-gnu: it grew beyond 5 bytes";
        check(component, "48.0.8+abi1", NoArtifact::Invalid, large).await;
    }

    #[tokio::test]
    async fn the_cache_keeps_to_its_budget() {
        let bench = Bench::new();
        let (first, second) = (
            images::push(&bench.registry, "a", "command 1").await,
            images::push(&bench.registry, "b", "command 2").await,
        );
        let target = target("48.0.8+abi1");
        let compiler = bench.compiler(CompilerLimits { cache: 30, ..CompilerLimits::default() }).await;
        let old = compiler.artifact(first, &target).await.unwrap();
        bench.clock.set(2_000_000);
        let new = compiler.artifact(second, &target).await.unwrap();
        assert!(old.blob_bytes + new.blob_bytes > 30, "the test needs a smaller budget");
        assert_eq!(compiler.cached(first, &target), None);
        assert_eq!(compiler.blob_path(&old.blob), None);
        assert_eq!(compiler.cached(second, &target), Some(new));
        assert_eq!(compiler.artifact(first, &target).await.unwrap(), old, "it can be made again");
    }
}
