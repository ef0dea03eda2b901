//! Asks the hub for artifacts and blobs over the bulk connection, and hands each answer to who waits.
//!
//! Questions are repeated until answered: answers may be lost (QoS 0) and compiling takes its time. One
//! blob is downloaded at a time, so that the link serves one second of work, not ten.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edge_agent_core::download::{BadChunk, Download, Place, Turn};
use protocol::Digest;
use protocol::blob::{ArtifactManifest, BlobAnswer, BlobRequest, NoArtifact};
use protocol::frame;
use protocol::reported::Target;
use protocol::topic::Leaf;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::clock::Clock;
use crate::link::Outgoing;

/// How long a fetch waits for the link before it is told as failed (and tried again later).
const LINK_PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions whether an artifact is compiled by now.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A compilation that takes longer than this has failed on the hub, whose own limit is shorter.
const COMPILE_PATIENCE: Duration = Duration::from_secs(600);

/// Answers waiting for one asker: a whole window of chunks.
const ANSWERS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("there is no connection to the hub")]
    NoLink,
    #[error("the hub does not answer")]
    NoAnswer,
    #[error("the hub has no compiled form for this node: {message}")]
    NoArtifact { why: NoArtifact, message: String },
    #[error("the hub has no blob {blob}")]
    NoBlob { blob: Digest },
    #[error("blob {blob} cannot be used")]
    BadChunk { blob: Digest, source: BadChunk },
    #[error("blob {blob} arrived altered: its digest is {found}")]
    Altered { blob: Digest, found: Digest },
    #[error("cannot keep {}", path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("the image needs {needed} bytes, the cache has room for {room}")]
    CacheFull { needed: u64, room: u64 },
    #[error("the hub will not renew the certificate: {message}")]
    NoCertificate { message: String },
}

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Component(Digest),
    Blob(Digest),
    Certificate,
}

/// A verified answer, with the signed frame it came in.
#[derive(Debug, Clone)]
pub struct Answer {
    pub body: BlobAnswer,
    pub frame: bytes::Bytes,
}

/// Handle; clones share everything.
#[derive(Clone)]
pub struct Blobs {
    shared: Arc<Shared>,
}

struct Shared {
    out: mpsc::Sender<Outgoing>,
    up: watch::Receiver<Option<u64>>,
    waiting: Mutex<HashMap<Subject, Vec<mpsc::Sender<Answer>>>>,
    clock: Clock,
    downloads: Semaphore,
}

impl Blobs {
    pub fn new(out: mpsc::Sender<Outgoing>, up: watch::Receiver<Option<u64>>, clock: Clock) -> Self {
        let shared = Shared { out, up, waiting: Mutex::default(), clock, downloads: Semaphore::new(1) };
        Self { shared: Arc::new(shared) }
    }

    /// Hands a verified answer to those who asked; one that nobody asked for is dropped.
    pub fn deliver(&self, answer: &Answer) {
        let subject = match &answer.body {
            BlobAnswer::Preparing { component } | BlobAnswer::NoArtifact { component, .. } => {
                Subject::Component(*component)
            }
            BlobAnswer::Artifact(manifest) => Subject::Component(manifest.component),
            BlobAnswer::Chunk { blob, .. } | BlobAnswer::NoBlob { blob } => Subject::Blob(*blob),
            BlobAnswer::Certificate { .. } | BlobAnswer::NoCertificate { .. } => Subject::Certificate,
        };
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(askers) = waiting.get_mut(&subject) {
            // A full asker asks again for what it missed.
            askers.retain(|asker| !matches!(asker.try_send(answer.clone()), Err(mpsc::error::TrySendError::Closed(_))));
            if askers.is_empty() {
                waiting.remove(&subject);
            }
        }
    }

    /// Which blob is this component, compiled for this node? Waits while the hub compiles.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn manifest(
        &self,
        component: Digest,
        target: &Target,
    ) -> Result<(ArtifactManifest, bytes::Bytes), FetchError> {
        let mut answers = self.subscribe(Subject::Component(component));
        let search = async {
            loop {
                self.linked().await?;
                self.ask(&BlobRequest::Artifact { component, target: target.clone() }).await?;
                let Ok(answer) = tokio::time::timeout(ASK_AGAIN, answers.recv()).await else { continue };
                let answer = answer.ok_or(FetchError::NoAnswer)?;
                match answer.body {
                    BlobAnswer::Artifact(manifest) if manifest.target == *target => {
                        return Ok((manifest, answer.frame));
                    }
                    BlobAnswer::NoArtifact { reason, message, .. } => {
                        return Err(FetchError::NoArtifact { why: reason, message });
                    }
                    BlobAnswer::Preparing { .. } | BlobAnswer::Artifact(_) => {
                        // The hub may tell by itself once it is done.
                        let _ = tokio::time::timeout(ASK_AGAIN, wait_for_more(&mut answers)).await;
                    }
                    BlobAnswer::Chunk { .. }
                    | BlobAnswer::NoBlob { .. }
                    | BlobAnswer::Certificate { .. }
                    | BlobAnswer::NoCertificate { .. } => {}
                }
            }
        };
        tokio::time::timeout(COMPILE_PATIENCE, search).await.unwrap_or(Err(FetchError::NoAnswer))
    }

    /// Downloads a blob to `path`, going on from what an earlier try left beside it.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn download(&self, blob: Digest, limit: u64, path: &Path) -> Result<(), FetchError> {
        let _turn = self.shared.downloads.acquire().await.expect("the semaphore is never closed");
        if path.exists() {
            return Ok(());
        }
        let part = path.with_extension("part");
        let disk = |source| FetchError::Disk { path: part.clone(), source };
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&part).map_err(disk)?;
        let mut download = Download::new(blob, limit, file.metadata().map_err(disk)?.len());
        file.set_len(download.kept_bytes()).map_err(disk)?;
        self.pull(&mut download, blob, &mut file, &part).await?;
        drop(file);
        let (checked, to) = (part.clone(), path.to_owned());
        let verified = tokio::task::spawn_blocking(move || verify(&checked, blob, &to)).await;
        verified.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    async fn pull(
        &self,
        download: &mut Download,
        blob: Digest,
        file: &mut File,
        part: &Path,
    ) -> Result<(), FetchError> {
        let mut answers = self.subscribe(Subject::Blob(blob));
        self.linked().await?;
        loop {
            let until = match download.poll(self.shared.clock.now().at) {
                Turn::Ask(request) => {
                    self.ask(&request).await?;
                    continue;
                }
                Turn::Complete => return Ok(()),
                Turn::GiveUp => return Err(FetchError::NoAnswer),
                Turn::Wait { until } => until,
            };
            let answer = tokio::select! {
                answer = answers.recv() => answer.ok_or(FetchError::NoAnswer)?,
                () = self.shared.clock.sleep_until(Some(until)) => continue,
            };
            match answer.body {
                BlobAnswer::Chunk { number, total, bytes, .. } => {
                    let now = self.shared.clock.now().at;
                    let place = download.chunk(number, total, &bytes, now);
                    match place.map_err(|source| FetchError::BadChunk { blob, source })? {
                        Place::Append => {
                            let written = file.write_all(&bytes);
                            written.map_err(|source| FetchError::Disk { path: part.to_owned(), source })?;
                        }
                        Place::Drop => {}
                    }
                }
                BlobAnswer::NoBlob { .. } => return Err(FetchError::NoBlob { blob }),
                BlobAnswer::Preparing { .. }
                | BlobAnswer::Artifact(_)
                | BlobAnswer::NoArtifact { .. }
                | BlobAnswer::Certificate { .. }
                | BlobAnswer::NoCertificate { .. } => {}
            }
        }
    }

    /// A new certificate for this node's key.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn certificate(&self, csr: String) -> Result<String, FetchError> {
        let mut answers = self.subscribe(Subject::Certificate);
        self.linked().await?;
        self.ask(&BlobRequest::Certificate { csr }).await?;
        let answer = tokio::time::timeout(LINK_PATIENCE, answers.recv()).await;
        match answer.map_err(|_| FetchError::NoAnswer)?.ok_or(FetchError::NoAnswer)?.body {
            BlobAnswer::Certificate { pem } => Ok(pem),
            BlobAnswer::NoCertificate { message } => Err(FetchError::NoCertificate { message }),
            BlobAnswer::Preparing { .. }
            | BlobAnswer::Artifact(_)
            | BlobAnswer::NoArtifact { .. }
            | BlobAnswer::Chunk { .. }
            | BlobAnswer::NoBlob { .. } => Err(FetchError::NoAnswer),
        }
    }

    fn subscribe(&self, subject: Subject) -> mpsc::Receiver<Answer> {
        let (asker, answers) = mpsc::channel(ANSWERS);
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, askers| {
            askers.retain(|asker| !asker.is_closed());
            !askers.is_empty()
        });
        waiting.entry(subject).or_default().push(asker);
        answers
    }

    async fn linked(&self) -> Result<(), FetchError> {
        let mut up = self.shared.up.clone();
        match tokio::time::timeout(LINK_PATIENCE, up.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(FetchError::NoLink),
        }
    }

    async fn ask(&self, request: &BlobRequest) -> Result<(), FetchError> {
        let payload = frame::encode(request).expect("a request is far smaller than a frame");
        let message = Outgoing { leaf: Leaf::BlobRequest, payload };
        self.shared.out.send(message).await.map_err(|_| FetchError::NoLink)
    }
}

async fn wait_for_more(answers: &mut mpsc::Receiver<Answer>) {
    while answers.is_empty() && !answers.is_closed() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Hashes the whole file; a good one gets its name, a bad one goes.
fn verify(part: &Path, blob: Digest, path: &Path) -> Result<(), FetchError> {
    let disk = |source| FetchError::Disk { path: part.to_owned(), source };
    let found = digest_of(part).map_err(disk)?;
    if found != blob {
        let _ = std::fs::remove_file(part);
        return Err(FetchError::Altered { blob, found });
    }
    std::fs::rename(part, path).map_err(disk)
}

pub fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hash = Hasher::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// SHA-256 over pieces.
pub struct Hasher(ring::digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let digest = self.0.finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::UnixMillis;
    use protocol::limits::CHUNK;

    /// A hub that answers from memory, for as long as the test runs.
    fn hub(content: Vec<u8>) -> Blobs {
        let (out, mut requests) = mpsc::channel::<Outgoing>(64);
        let (up, up_rx) = watch::channel(Some(1));
        let blobs = Blobs::new(out, up_rx, Clock::system(UnixMillis(0)).unwrap());
        let answers = blobs.clone();
        tokio::spawn(async move {
            let _up = up;
            while let Some(request) = requests.recv().await {
                let frame = frame::Frame::parse(&request.payload).unwrap();
                let BlobRequest::Chunks { blob, first, count } = frame.body().unwrap() else { continue };
                for number in first..first + u32::from(count) {
                    let start = number as usize * CHUNK;
                    if start >= content.len() {
                        continue;
                    }
                    let bytes = content[start..content.len().min(start + CHUNK)].to_vec();
                    let body = BlobAnswer::Chunk { blob, number, total: content.len() as u64, bytes };
                    answers.deliver(&Answer { body, frame: bytes::Bytes::new() });
                }
            }
        });
        blobs
    }

    #[tokio::test]
    async fn a_blob_arrives_whole_and_resumes() {
        let content: Vec<u8> = (0..10 * CHUNK + 99).map(|n| (n % 251) as u8).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(path.with_extension("part"), &content[..2 * CHUNK + 7]).unwrap();
        hub(content.clone()).download(Digest::of(&content), 1 << 30, &path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), content);
        assert!(!path.with_extension("part").exists());
    }

    #[tokio::test]
    async fn an_altered_blob_is_refused_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        let result = hub(b"something else".to_vec()).download(Digest::of(b"wanted"), 1 << 30, &path).await;
        assert!(matches!(result, Err(FetchError::Altered { .. })), "{result:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
