//! What nodes pull: artifacts, data layers, pod bodies, and new certificates.
//!
//! Each node has a short queue and a task of its own while it asks for something; requests that do not
//! fit are dropped, because nodes ask again. Chunks are read from disk one at a time: a slow node holds
//! one chunk in memory, not a file.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use protocol::blob::{ArtifactManifest, BlobAnswer, BlobRequest, NoArtifact};
use protocol::limits::CHUNK;
use protocol::pod::Image;
use protocol::reported::Target;
use protocol::topic::Leaf;
use protocol::{Digest, Generation, NodeName, UnixMillis};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::context::{Context, SendError};
use crate::broker::Delivery;

/// Requests of one node that wait: a window of chunks, and a few images at once.
const QUEUE: usize = 32;
/// A node's task ends when it has asked for nothing for so long.
const IDLE: Duration = Duration::from_secs(60);
/// How long an answer may take before the node is told to wait: a cached artifact takes less.
const PATIENCE: Duration = Duration::from_millis(200);
/// Chunks served of one request; a node that wants more asks again.
const WINDOW_MAX: u16 = 16;

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("{message}")]
    Never { reason: NoArtifact, message: String },
    #[error("the compiler is busy or failing; later it may work")]
    NotNow,
}

/// What the registry and the compiler hold.
pub trait Artifacts: Send + Sync + 'static {
    /// What the registry holds as `NAME@sha256:...`.
    fn image(&self, pinned: &str) -> Option<Image>;

    /// The component compiled for the target: from the cache at once, else after compiling. Callers may
    /// stop waiting; the work goes on.
    fn artifact(
        &self,
        component: Digest,
        target: Target,
    ) -> BoxFuture<'static, Result<ArtifactManifest, ArtifactError>>;

    /// The file with these bytes, an artifact or a data layer.
    fn blob(&self, digest: Digest) -> Option<PathBuf>;
}

#[derive(Default)]
pub(super) struct Blobs {
    queues: Mutex<BTreeMap<NodeName, mpsc::Sender<BlobRequest>>>,
}

/// Queues a node's request; makes its task if there is none.
pub(super) fn request(context: &Arc<Context>, node: &NodeName, request: BlobRequest) {
    let mut queues = context.blobs.queues.lock().unwrap_or_else(PoisonError::into_inner);
    let request = match queues.get(node) {
        None => request,
        Some(queue) => match queue.try_send(request) {
            Ok(()) => return,
            // Its task has just ended.
            Err(mpsc::error::TrySendError::Closed(request)) => request,
            Err(mpsc::error::TrySendError::Full(_)) => {
                context.counters.requests_dropped.fetch_add(1, Ordering::Relaxed);
                debug!(%node, "too many requests for blobs");
                return;
            }
        },
    };
    let (queue, requests) = mpsc::channel(QUEUE);
    // An empty queue of 32 takes one.
    let _ = queue.try_send(request);
    queues.insert(node.clone(), queue);
    tokio::spawn(serve(context.clone(), node.clone(), requests));
}

async fn serve(context: Arc<Context>, node: NodeName, mut requests: mpsc::Receiver<BlobRequest>) {
    while let Ok(Some(request)) = tokio::time::timeout(IDLE, requests.recv()).await {
        if let Err(error) = answer(&context, &node, request).await {
            debug!(%node, error = &error as &dyn std::error::Error, "blob not sent");
        }
    }
}

async fn answer(context: &Arc<Context>, node: &NodeName, request: BlobRequest) -> Result<(), SendError> {
    match request {
        BlobRequest::Artifact { component, target } => answer_artifact(context, node, component, target).await,
        BlobRequest::Chunks { blob, first, count } => answer_chunks(context, node, blob, first, count).await,
        BlobRequest::Certificate { csr } => {
            let renewed = renew(context, node, &csr);
            send(context, node, &renewed).await
        }
    }
}

async fn send(context: &Context, node: &NodeName, answer: &BlobAnswer) -> Result<(), SendError> {
    context.send(node, Leaf::BlobData, answer, Generation(0), Delivery::AtMostOnce).await.map(drop)
}

/// From the cache at once; else says that it takes a while and answers when it is done.
async fn answer_artifact(
    context: &Arc<Context>,
    node: &NodeName,
    component: Digest,
    target: Target,
) -> Result<(), SendError> {
    let mut compiling = context.artifacts.artifact(component, target);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut compiling).await {
        return send(context, node, &manifest(component, done)).await;
    }
    send(context, node, &BlobAnswer::Preparing { component }).await?;
    let (context, node) = (context.clone(), node.clone());
    // Compilations are few (the compiler runs one at a time); the node's other requests go on.
    tokio::spawn(async move {
        let done = compiling.await;
        if let Err(error) = send(&context, &node, &manifest(component, done)).await {
            debug!(%node, error = &error as &dyn std::error::Error, "artifact not announced");
        }
    });
    Ok(())
}

fn manifest(component: Digest, done: Result<ArtifactManifest, ArtifactError>) -> BlobAnswer {
    match done {
        Ok(manifest) => BlobAnswer::Artifact(manifest),
        Err(ArtifactError::Never { reason, message }) => BlobAnswer::NoArtifact { component, reason, message },
        Err(ArtifactError::NotNow) => BlobAnswer::Preparing { component },
    }
}

/// Where a blob's bytes come from.
enum Source {
    File(PathBuf),
    Memory(Vec<u8>),
}

async fn answer_chunks(
    context: &Context,
    node: &NodeName,
    blob: Digest,
    first: u32,
    count: u16,
) -> Result<(), SendError> {
    // A body is the node's own or nobody's: another node's would not open, but is none of its business.
    let body = context.nodes.with(node, |state| {
        let listing = state.published.as_ref().map(|published| published.listing.clone());
        listing.and_then(|listing| listing.body(blob).map(<[u8]>::to_vec))
    });
    let source = body.map(Source::Memory).or_else(|| context.artifacts.blob(blob).map(Source::File));
    let Some(source) = source else { return send(context, node, &BlobAnswer::NoBlob { blob }).await };
    let source = Arc::new(source);
    for number in first..first.saturating_add(u32::from(count.clamp(1, WINDOW_MAX))) {
        let reading = source.clone();
        let read = tokio::task::spawn_blocking(move || read_chunk(&reading, number)).await;
        match read {
            Ok(Ok(Some((total, bytes)))) => {
                send(context, node, &BlobAnswer::Chunk { blob, number, total, bytes }).await?;
            }
            Ok(Ok(None)) => break, // Past the end.
            Ok(Err(error)) => {
                warn!(%node, blob = %blob, error = &error as &dyn std::error::Error, "cannot read a blob");
                return send(context, node, &BlobAnswer::NoBlob { blob }).await;
            }
            Err(panic) => {
                warn!(%node, blob = %blob, error = &panic as &dyn std::error::Error, "reading a blob failed");
                break;
            }
        }
    }
    Ok(())
}

/// A chunk and the blob's whole length; `None` past the end.
fn read_chunk(source: &Source, number: u32) -> io::Result<Option<(u64, Vec<u8>)>> {
    let offset = u64::from(number) * CHUNK as u64;
    match source {
        Source::Memory(bytes) => {
            let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let chunk = &bytes[at..bytes.len().min(at.saturating_add(CHUNK))];
            Ok((!chunk.is_empty()).then(|| (bytes.len() as u64, chunk.to_vec())))
        }
        Source::File(path) => read_file_chunk(path, offset),
    }
}

fn read_file_chunk(path: &Path, offset: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let file = std::fs::File::open(path)?;
    let total = file.metadata()?.len();
    if offset >= total {
        return Ok(None);
    }
    let mut bytes = vec![0; CHUNK.min(usize::try_from(total - offset).unwrap_or(CHUNK))];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(Some((total, bytes)))
}

/// Only a connection with the node's current certificate reaches the node's topics, so that is the proof.
fn renew(context: &Context, node: &NodeName, csr: &str) -> BlobAnswer {
    let now = UnixMillis(context.clock().unix_millis());
    match context.pki.renew(node, csr, now) {
        Ok(pem) => {
            info!(%node, "certificate renewed");
            BlobAnswer::Certificate { pem }
        }
        Err(error) => {
            warn!(%node, error = &error as &dyn std::error::Error, "certificate not renewed");
            BlobAnswer::NoCertificate { message: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_files_and_of_memory_are_alike() {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..CHUNK * 2 + 5).map(|at| at.to_le_bytes()[0]).collect();
        let path = directory.path().join("blob");
        std::fs::write(&path, &bytes).unwrap();
        for source in [Source::File(path), Source::Memory(bytes.clone())] {
            let mut read = Vec::new();
            for number in 0.. {
                let Some((total, chunk)) = read_chunk(&source, number).unwrap() else { break };
                assert_eq!(total, bytes.len() as u64);
                read.extend(chunk);
            }
            assert_eq!(read, bytes);
            assert!(read_chunk(&source, u32::MAX).unwrap().is_none());
        }
    }
}
