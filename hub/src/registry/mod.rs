//! The images that pods name: content-addressed files, and an index of what they are called.
//!
//! ```text
//! reference   what is written after `image:`, parsed         manifest   OCI manifests, parsed and made
//! blobs       files named by their digest                    index      names and images, one JSON file
//! intake      blobs and a manifest -> an image that nodes can run
//! oci         /v2: push and pull by standard clients         images     /wherry/v1/images: `hub push`
//! ```
//! An image is looked into once, when it is pushed: what cannot run is refused there, with the reason,
//! and not on a node a week later. What a pod uses is never deleted.

pub mod reference;

pub mod manifest;

pub mod blobs;

pub mod index;

mod intake;

mod uploads;

mod oci;

mod images;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use protocol::ids::Digest;
use protocol::pod::Layer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Entropy};
use crate::compiler::worker::Worker;
use blobs::{BlobError, BlobFile, Blobs};
use index::{Image, ImageKind, Index, IndexFile, Removed};
use reference::{InvalidReference, Reference, RepositoryName, Version};
use uploads::Uploads;

pub use images::{ImageList, ImageSummary, Pushed};
pub use intake::IntakeError;

/// Bounds of what is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an image, all its layers together, and of each of them.
    pub image: u64,
}

impl Default for Limits {
    /// Room for a language runtime; a Pi's SD card takes a few seconds for it.
    fn default() -> Self {
        Self { image: 64 << 20 }
    }
}

/// Images that pods stop using go by and by; there is no hurry.
const TEND_EVERY: Duration = Duration::from_secs(600);

/// The manifests' digests that pods are bound to; `None` while that is not known yet.
pub type InUse = Box<dyn Fn() -> Option<BTreeSet<Digest>> + Send + Sync>;

/// Handle on the registry; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    blobs: Blobs,
    /// Replaced as a whole, so that nobody who looks an image up waits for the disk.
    index: RwLock<Arc<Index>>,
    /// Held while the index is changed.
    index_file: Mutex<IndexFile>,
    uploads: Uploads,
    worker: Worker,
    limits: Limits,
    clock: Clock,
    entropy: Entropy,
    in_use: OnceLock<InUse>,
    changed: watch::Sender<u64>,
}

/// An image, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// `name@sha256:...`: the same image for ever, whatever the tag does.
    pub pinned: String,
    pub manifest: Digest,
    /// What is compiled for nodes.
    pub component: Digest,
    pub layers: Vec<Layer>,
    pub kind: ImageKind,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Invalid(#[from] InvalidReference),
    #[error("image {image} not found on this hub; push it with: hub push FILE {image}")]
    NotFound { image: String },
    #[error(
        "image {image} is on {host}, and this hub does not pull from other registries; push it here and name it {name}"
    )]
    Foreign { image: String, host: String, name: String },
}

#[derive(Debug, thiserror::Error)]
#[error("cannot open the registry in {path}")]
pub struct OpenError {
    path: String,
    #[source]
    source: io::Error,
}

impl Registry {
    /// Opens the registry in `dir`, making it if it is not there.
    ///
    /// # Errors
    /// The directory cannot be used, or its index cannot be read.
    pub fn open(dir: &Path, limits: Limits, worker: Worker, clock: Clock, entropy: Entropy) -> Result<Self, OpenError> {
        let opened = || -> io::Result<_> { Ok((Blobs::open(dir)?, IndexFile::open(dir)?)) };
        let (blobs, (index_file, index)) =
            opened().map_err(|source| OpenError { path: dir.display().to_string(), source })?;
        let shared = Shared {
            blobs,
            index: RwLock::new(Arc::new(index)),
            index_file: Mutex::new(index_file),
            uploads: Uploads::default(),
            worker,
            limits,
            clock,
            entropy,
            in_use: OnceLock::new(),
            changed: watch::Sender::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tells the registry how to ask what pods use. Before that nothing is ever collected.
    pub fn keep_what_is_in_use(&self, in_use: InUse) {
        // A second caller would be a mistake in the wiring; the first answer stays valid.
        if self.shared.in_use.set(in_use).is_err() {
            tracing::warn!("the registry was told twice what is in use");
        }
    }

    /// The image that a pod's `image` names.
    ///
    /// # Errors
    /// It is no reference, names another registry, or there is no such image here.
    pub fn resolve(&self, reference: &str) -> Result<ResolvedImage, ResolveError> {
        let not_found = || ResolveError::NotFound { image: reference.to_owned() };
        let index = self.index();
        match reference.parse()? {
            Reference::Bare(digest) => {
                let (name, manifest, image) = index.find_anywhere(&digest).ok_or_else(not_found)?;
                Ok(resolved(name, manifest, image))
            }
            Reference::Named { host, name, version } => match index.find(&name, &version) {
                // Whatever name of this hub the host is: what we have under that name is what was meant.
                Some((manifest, image)) => Ok(resolved(name.as_str(), manifest, image)),
                None => match host.filter(|host| !is_loopback(host)) {
                    Some(host) => {
                        Err(ResolveError::Foreign { image: reference.to_owned(), host, name: name.as_str().to_owned() })
                    }
                    None => Err(not_found()),
                },
            },
        }
    }

    /// A blob's file: a component, a layer, a manifest.
    pub fn blob(&self, digest: &Digest) -> Option<BlobFile> {
        self.shared.blobs.get(digest)
    }

    /// What an image with this manifest or component is called, for messages.
    pub fn name_of(&self, digest: &Digest) -> Option<String> {
        self.index().find_anywhere(digest).map(|(name, ..)| name.to_owned())
    }

    /// A number that grows with each push and removal.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Collects now and then what came out of use, until it is told to stop.
    pub async fn tend(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(TEND_EVERY)).await.is_some() {
            let registry = self.clone();
            let collected = tokio::task::spawn_blocking(move || registry.collect()).await;
            if let Err(error) = collected {
                tracing::error!(%error, "collecting images panicked");
            }
        }
    }

    /// `/v2` and `/wherry/v1/images`. Whoever mounts it says who may call it.
    pub fn router(&self) -> Router {
        oci::router(self.clone()).merge(images::router(self.clone()))
    }

    fn index(&self) -> Arc<Index> {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the index on disk, then in memory. Blocks for the fsync.
    fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T, BlobError> {
        let file = self.shared.index_file.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.index();
        let mut next = Index::clone(&current);
        let result = change(&mut next);
        if next != *current {
            file.write(&next)?;
            *self.shared.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
            self.shared.changed.send_modify(|count| *count += 1);
        }
        Ok(result)
    }

    fn insert(
        &self,
        name: &RepositoryName,
        version: &Version,
        manifest: Digest,
        image: Image,
    ) -> Result<(), BlobError> {
        self.change_index(|index| index.insert(name, version, manifest, image))?;
        self.collect();
        Ok(())
    }

    fn remove(&self, name: &RepositoryName, version: &Version) -> Result<Removed, BlobError> {
        let removed = self.change_index(|index| index.remove(name, version))?;
        self.collect();
        Ok(removed)
    }

    /// Removes what nothing names and no pod uses. Failing is no harm: the next change tries again.
    fn collect(&self) {
        let Some(in_use) = self.shared.in_use.get().and_then(|ask| ask()) else { return };
        let collected = self.change_index(|index| index.drop_unnamed(&in_use)).and_then(|()| self.remove_orphans());
        if let Err(error) = collected {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not remove unused images");
        }
    }

    fn remove_orphans(&self) -> Result<(), BlobError> {
        let now = UNIX_EPOCH + Duration::from_millis(self.shared.clock.unix_millis());
        let stored = self.shared.blobs.list()?;
        let needed = self.index().blobs();
        for (digest, since) in stored {
            // A clock that was set back makes blobs of the future: those are young as well.
            let age = now.duration_since(since).unwrap_or_default();
            if !needed.contains(&digest) && age > blobs::GRACE {
                self.shared.blobs.remove(&digest)?;
                tracing::info!(%digest, "removed an unused blob");
            }
        }
        Ok(())
    }
}

fn resolved(name: &str, manifest: Digest, image: &Image) -> ResolvedImage {
    ResolvedImage {
        pinned: format!("{name}@{manifest}"),
        manifest,
        component: image.component.0,
        layers: image.files.iter().map(|layer| Layer { digest: layer.digest.0, bytes: layer.bytes }).collect(),
        kind: image.kind,
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}
