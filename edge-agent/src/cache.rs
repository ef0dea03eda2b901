//! Compiled images and their data layers on disk: named by content, bounded, least recently used out
//! first, and never what runs.
//!
//! ```text
//!   cache/manifests/<component>   the signed frame that names the artifact: verified at each use
//!   cache/artifacts/<digest>      native code, 0400
//!   cache/roots/<image>/          unpacked data layers
//!   cache/tmp/                    downloads
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edge_agent_core::image::ImageId;
use edge_agent_runtime::ArtifactFile;
use protocol::blob::{ArtifactManifest, BlobAnswer};
use protocol::pod::Image;
use protocol::reported::Target;
use protocol::topic::{Leaf, Topic};
use protocol::{ClusterId, Digest, NodeName, frame};

use crate::blobs::{Answer, Blobs, FetchError, Hasher};
use crate::clock::Clock;
use crate::files;
use crate::identity::HubKey;

/// A pod's body is at most one; nothing sensible comes near.
const BODY_MAX: u64 = 16 << 20;

/// An image's files on disk, verified.
#[derive(Debug, Clone)]
pub struct OnDisk {
    pub artifact: ArtifactFile,
    pub root: Option<PathBuf>,
}

#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    limit: u64,
    target: Target,
    key: HubKey,
    topic: String,
    clock: Clock,
    /// What runs, by the number of users: never evicted.
    in_use: Mutex<BTreeMap<PathBuf, u32>>,
}

pub struct Settings {
    pub limit: u64,
    pub target: Target,
    pub key: HubKey,
    pub cluster: ClusterId,
    pub node: NodeName,
}

impl Cache {
    /// # Errors
    /// Directories that cannot be made.
    pub fn open(data_dir: &Path, settings: Settings, clock: Clock) -> Result<Self, FetchError> {
        let dir = data_dir.join("cache");
        for part in ["manifests", "artifacts", "roots", "tmp"] {
            let path = dir.join(part);
            files::private_dir(&path).map_err(|source| FetchError::Disk { path, source })?;
        }
        let topic = Topic::new(&settings.cluster, &settings.node, Leaf::BlobData).to_string();
        let shared = Shared {
            dir,
            limit: settings.limit,
            target: settings.target,
            key: settings.key,
            topic,
            clock,
            in_use: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether everything of the image is here.
    pub fn has(&self, id: ImageId, image: &Image) -> bool {
        let artifact = self.known_manifest(image.component).map(|manifest| self.path("artifacts", manifest.artifact));
        artifact.is_some_and(|path| path.exists()) && (image.layers.is_empty() || self.path("roots", id.0).exists())
    }

    /// Makes an image's files be here: at once if they are, else from the hub.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn image(&self, id: ImageId, image: &Image, blobs: &Blobs) -> Result<OnDisk, FetchError> {
        let manifest = match self.known_manifest(image.component) {
            Some(manifest) => manifest,
            None => self.learn_manifest(image.component, blobs).await?,
        };
        let path = self.path("artifacts", manifest.artifact);
        let artifact = ArtifactFile { path, artifact: manifest.artifact };
        if artifact.path.exists() {
            self.touch(&artifact.path);
        } else {
            self.make_room(manifest.blob_bytes.saturating_add(manifest.artifact_bytes))?;
            let compressed = self.path("tmp", manifest.blob);
            blobs.download(manifest.blob, manifest.blob_bytes, &compressed).await?;
            let to = artifact.path.clone();
            blocking(move || decompress(&compressed, &manifest, &to)).await?;
        }
        let root = if image.layers.is_empty() { None } else { Some(self.root(id, image, blobs).await?) };
        Ok(OnDisk { artifact, root })
    }

    /// The artifact does not load here: forget it, so that the hub is asked again.
    pub fn discard(&self, component: Digest) {
        if let Some(manifest) = self.known_manifest(component) {
            let _ = files::remove(&self.path("artifacts", manifest.artifact));
        }
        let _ = files::remove(&self.path("manifests", component));
    }

    /// A pod's body that did not fit the frame.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn body(&self, digest: Digest, blobs: &Blobs) -> Result<Vec<u8>, FetchError> {
        let path = self.path("tmp", digest);
        blobs.download(digest, BODY_MAX, &path).await?;
        let bytes = fs::read(&path).map_err(|source| FetchError::Disk { path: path.clone(), source })?;
        let _ = files::remove(&path);
        Ok(bytes)
    }

    /// Keeps an image's files while it is loaded.
    pub fn hold(&self, image: &OnDisk) {
        let mut in_use = self.in_use();
        for path in paths(image) {
            *in_use.entry(path).or_default() += 1;
        }
    }

    pub fn release(&self, image: &OnDisk) {
        let mut in_use = self.in_use();
        for path in paths(image) {
            if let Some(users) = in_use.get_mut(&path) {
                *users -= 1;
                if *users == 0 {
                    in_use.remove(&path);
                }
            }
        }
    }

    /// The manifest on disk, if our hub signed it for this node and engine.
    fn known_manifest(&self, component: Digest) -> Option<ArtifactManifest> {
        let bytes = fs::read(self.path("manifests", component)).ok()?;
        let manifest = verified_manifest(&self.shared, &bytes)?;
        (manifest.component == component && manifest.target == self.shared.target).then_some(manifest)
    }

    async fn learn_manifest(&self, component: Digest, blobs: &Blobs) -> Result<ArtifactManifest, FetchError> {
        let (manifest, frame) = blobs.manifest(component, &self.shared.target).await?;
        let path = self.path("manifests", component);
        files::write_atomic(&path, &frame, 0o600, files::Sync::Eventually)
            .map_err(|source| FetchError::Disk { path, source })?;
        Ok(manifest)
    }

    async fn root(&self, id: ImageId, image: &Image, blobs: &Blobs) -> Result<PathBuf, FetchError> {
        let root = self.path("roots", id.0);
        if root.exists() {
            self.touch(&root);
            return Ok(root);
        }
        self.make_room(image.layers.iter().map(|layer| layer.bytes).sum::<u64>().saturating_mul(2))?;
        let mut archives = Vec::new();
        for layer in &image.layers {
            let archive = self.path("tmp", layer.digest);
            blobs.download(layer.digest, layer.bytes, &archive).await?;
            archives.push(archive);
        }
        let (to, limit) = (root.clone(), self.shared.limit);
        blocking(move || unpack(&archives, &to, limit)).await?;
        Ok(root)
    }

    fn make_room(&self, needed: u64) -> Result<(), FetchError> {
        let in_use = self.in_use().clone();
        let mut entries = Vec::new();
        // Downloads given up half way count too.
        for part in ["artifacts", "roots", "tmp"] {
            let dir = self.shared.dir.join(part);
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                let modified = entry.metadata().and_then(|data| data.modified()).ok();
                entries.push((modified, size_of(&path), path));
            }
        }
        entries.sort();
        let mut used: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in &entries {
            if used.saturating_add(needed) <= self.shared.limit {
                break;
            }
            if !in_use.contains_key(path) && files::remove(path).is_ok() {
                tracing::debug!(path = %path.display(), size, "evicted from the cache");
                used -= size;
            }
        }
        if used.saturating_add(needed) > self.shared.limit {
            return Err(FetchError::CacheFull { needed, room: self.shared.limit.saturating_sub(used) });
        }
        Ok(())
    }

    fn touch(&self, path: &Path) {
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.shared.clock.trusted().0);
        if let Ok(file) = File::open(path) {
            // Only the order of eviction suffers.
            let _ = file.set_modified(now);
        }
    }

    fn path(&self, part: &str, digest: Digest) -> PathBuf {
        self.shared.dir.join(part).join(digest.hex())
    }

    fn in_use(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, u32>> {
        self.shared.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn paths(image: &OnDisk) -> impl Iterator<Item = PathBuf> {
    std::iter::once(image.artifact.path.clone()).chain(image.root.clone())
}

fn verified_manifest(shared: &Shared, bytes: &[u8]) -> Option<ArtifactManifest> {
    let frame = frame::Frame::parse(bytes).ok()?;
    frame.verify(&shared.topic, &shared.key).ok()?;
    match frame.body().ok()? {
        BlobAnswer::Artifact(manifest) => Some(manifest),
        BlobAnswer::Preparing { .. }
        | BlobAnswer::NoArtifact { .. }
        | BlobAnswer::Chunk { .. }
        | BlobAnswer::NoBlob { .. }
        | BlobAnswer::Certificate { .. }
        | BlobAnswer::NoCertificate { .. } => None,
    }
}

/// Takes an answer apart once its signature is known to be the hub's.
///
/// # Errors
/// [`frame::FrameError`]: forged, damaged or of another kind.
pub fn verified_answer(bytes: bytes::Bytes, topic: &str, key: &HubKey) -> Result<Answer, frame::FrameError> {
    let frame = frame::Frame::parse(&bytes)?;
    frame.verify(topic, key)?;
    let body = frame.body()?;
    Ok(Answer { body, frame: bytes })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Decompresses an artifact, checks it against the signed manifest, and only then gives it its name.
fn decompress(compressed: &Path, manifest: &ArtifactManifest, to: &Path) -> Result<(), FetchError> {
    let part = compressed.with_extension("artifact");
    let result = decompress_to(compressed, manifest, &part).and_then(|found| {
        if found != manifest.artifact {
            return Err(FetchError::Altered { blob: manifest.artifact, found });
        }
        fs::rename(&part, to).map_err(|source| FetchError::Disk { path: to.to_owned(), source })
    });
    let _ = files::remove(&part);
    let _ = files::remove(compressed);
    result
}

fn decompress_to(compressed: &Path, manifest: &ArtifactManifest, part: &Path) -> Result<Digest, FetchError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let disk = |source| FetchError::Disk { path: part.to_owned(), source };
    files::remove(part).map_err(disk)?;
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(part).map_err(disk)?;
    // One byte more than promised shows a bomb without unpacking it.
    let mut input = decoder(compressed).map_err(disk)?.take(manifest.artifact_bytes.saturating_add(1));
    let mut hash = Hasher::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match input.read(&mut buffer).map_err(disk)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                out.write_all(&buffer[..read]).map_err(disk)?;
            }
        }
    }
    out.sync_all().map_err(disk)?;
    Ok(hash.finish())
}

fn decoder(path: &Path) -> io::Result<zstd::stream::read::Decoder<'static, io::BufReader<File>>> {
    zstd::stream::read::Decoder::new(File::open(path)?)
}

/// Unpacks layers one over the other. `tar` itself refuses paths that leave the directory.
fn unpack(archives: &[PathBuf], to: &Path, limit: u64) -> Result<(), FetchError> {
    let part = to.with_extension("part");
    let disk = |source| FetchError::Disk { path: part.clone(), source };
    files::remove(&part).map_err(disk)?;
    files::private_dir(&part).map_err(disk)?;
    for archive in archives {
        let mut tar = tar::Archive::new(decoder(archive).map_err(disk)?.take(limit));
        tar.set_preserve_permissions(false);
        tar.unpack(&part).map_err(disk)?;
        let _ = files::remove(archive);
    }
    fs::rename(&part, to).map_err(disk)
}

fn size_of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
        }
        Ok(data) => data.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::UnixMillis;
    use protocol::reported::MemoryProfile;

    fn cache(dir: &Path, limit: u64) -> Cache {
        let target =
            Target { triple: "t".into(), cpu_features: vec![], memory: MemoryProfile::Fast, engine: "e".into() };
        let settings = Settings {
            limit,
            target,
            key: HubKey::new([0; 32]),
            cluster: "c".parse().unwrap(),
            node: "n".parse().unwrap(),
        };
        Cache::open(dir, settings, Clock::system(UnixMillis(0)).unwrap()).unwrap()
    }

    #[test]
    fn the_oldest_unused_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), 1000);
        let artifact = |name: &[u8], age: u64| {
            let path = cache.path("artifacts", Digest::of(name));
            fs::write(&path, [0; 300]).unwrap();
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age);
            File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
            path
        };
        let (oldest, middle, newest) = (artifact(b"a", 3), artifact(b"b", 2), artifact(b"c", 1));
        let held = OnDisk { artifact: ArtifactFile { path: oldest.clone(), artifact: Digest::of(b"a") }, root: None };
        cache.hold(&held);
        cache.make_room(400).unwrap();
        assert_eq!([oldest.exists(), middle.exists(), newest.exists()], [true, false, true]);
        assert!(matches!(cache.make_room(800), Err(FetchError::CacheFull { needed: 800, room: 700 })));
        cache.release(&held);
        cache.make_room(1000).unwrap();
        assert!(!oldest.exists());
    }

    #[test]
    fn an_artifact_longer_than_its_manifest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (compressed, to) = (dir.path().join("blob"), dir.path().join("artifact"));
        let content = vec![7; 1 << 20];
        let packed = zstd::stream::encode_all(&content[..], 1).unwrap();
        let manifest = |artifact_bytes| ArtifactManifest {
            component: Digest::of(b""),
            target: Target {
                triple: String::new(),
                cpu_features: vec![],
                memory: MemoryProfile::Fast,
                engine: String::new(),
            },
            blob: Digest::of(&packed),
            blob_bytes: packed.len() as u64,
            artifact: Digest::of(&content),
            artifact_bytes,
        };
        fs::write(&compressed, &packed).unwrap();
        assert!(matches!(decompress(&compressed, &manifest(1000), &to), Err(FetchError::Altered { .. })));
        assert!(!to.exists() && !compressed.exists());
        fs::write(&compressed, &packed).unwrap();
        decompress(&compressed, &manifest(1 << 20), &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), content);
    }
}
