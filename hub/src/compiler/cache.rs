//! Artifacts on disk: compressed blobs, and beside each a record of what it was made of.
//!
//! A blob is written before its record, so that every record is true; what a crash left without one
//! goes at the next start. Beyond the budget the least recently used go: they can be made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use protocol::blob::ArtifactManifest;
use protocol::ids::Digest;
use protocol::reported::Target;
use serde::{Deserialize, Serialize};

use crate::registry::blobs::{BlobError, BlobFile, Blobs, Incoming};

/// How exactly the disk knows when an artifact was last used: each note of it is a write.
const USED_GRAIN_MILLIS: u64 = 60_000;

/// What an artifact is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) component: Digest,
    pub(super) target: Target,
}

impl Key {
    fn file_name(&self) -> String {
        let target = serde_json::to_vec(&self.target).expect("a target of strings has a JSON");
        format!("{}-{}.json", self.component.hex(), &Digest::of(&target).hex()[..16])
    }
}

/// A record's JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    component: String,
    target: Target,
    blob: String,
    blob_bytes: u64,
    artifact: String,
    artifact_bytes: u64,
}

impl Record {
    fn of(manifest: &ArtifactManifest) -> Self {
        Self {
            component: manifest.component.to_string(),
            target: manifest.target.clone(),
            blob: manifest.blob.to_string(),
            blob_bytes: manifest.blob_bytes,
            artifact: manifest.artifact.to_string(),
            artifact_bytes: manifest.artifact_bytes,
        }
    }

    fn manifest(self) -> Option<ArtifactManifest> {
        Some(ArtifactManifest {
            component: self.component.parse().ok()?,
            target: self.target,
            blob: self.blob.parse().ok()?,
            blob_bytes: self.blob_bytes,
            artifact: self.artifact.parse().ok()?,
            artifact_bytes: self.artifact_bytes,
        })
    }
}

pub(super) struct Cache {
    records: PathBuf,
    blobs: Blobs,
    budget: u64,
    artifacts: BTreeMap<Key, Artifact>,
}

struct Artifact {
    manifest: ArtifactManifest,
    /// Unix milliseconds.
    used: u64,
}

impl Cache {
    pub(super) fn open(dir: &Path, budget: u64) -> io::Result<Self> {
        let blobs = Blobs::open(dir)?;
        let records = dir.join("records");
        fs::create_dir_all(&records)?;
        let mut cache = Self { records, blobs, budget, artifacts: BTreeMap::new() };
        cache.load()?;
        Ok(cache)
    }

    fn load(&mut self) -> io::Result<()> {
        for file in fs::read_dir(&self.records)? {
            let file = file?;
            let record = fs::read(file.path())?;
            let manifest = serde_json::from_slice(&record).ok().and_then(Record::manifest);
            let complete = manifest.filter(|manifest| {
                self.blobs.get(&manifest.blob).is_some_and(|blob| blob.bytes == manifest.blob_bytes)
            });
            let Some(manifest) = complete else {
                fs::remove_file(file.path())?;
                continue;
            };
            let used = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let used = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
            let key = Key { component: manifest.component, target: manifest.target.clone() };
            self.artifacts.insert(key, Artifact { manifest, used });
        }
        for (blob, _) in self.blobs.list()? {
            if !self.artifacts.values().any(|artifact| artifact.manifest.blob == blob) {
                self.blobs.remove(&blob)?;
            }
        }
        Ok(())
    }

    /// Looks an artifact up, and notes that it was used.
    pub(super) fn get(&mut self, key: &Key, now_millis: u64) -> Option<ArtifactManifest> {
        let artifact = self.artifacts.get_mut(key)?;
        if now_millis.saturating_sub(artifact.used) > USED_GRAIN_MILLIS {
            let noted = File::open(self.records.join(key.file_name()))
                .and_then(|record| record.set_modified(UNIX_EPOCH + Duration::from_millis(now_millis)));
            if let Err(error) = noted {
                tracing::debug!(%error, "could not note the use of an artifact");
            }
        }
        artifact.used = artifact.used.max(now_millis);
        Some(artifact.manifest.clone())
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<BlobFile> {
        self.blobs.get(digest)
    }

    pub(super) fn receive(&self, limit: u64) -> Result<Incoming, BlobError> {
        self.blobs.receive(limit)
    }

    /// Keeps an artifact whose blob is stored, and makes room for it.
    pub(super) fn insert(&mut self, manifest: ArtifactManifest, now_millis: u64) -> Result<(), BlobError> {
        let key = Key { component: manifest.component, target: manifest.target.clone() };
        let mut record = tempfile::NamedTempFile::new_in(&self.records)?;
        record.write_all(&serde_json::to_vec_pretty(&Record::of(&manifest)).map_err(io::Error::from)?)?;
        record.as_file().sync_all()?;
        record.persist(self.records.join(key.file_name())).map_err(|error| error.error)?;
        self.artifacts.insert(key.clone(), Artifact { manifest, used: now_millis });
        let sizes = self.artifacts.iter().map(|(key, artifact)| (key, artifact.manifest.blob_bytes, artifact.used));
        for old in evictions(sizes, self.budget).into_iter().filter(|old| *old != key) {
            self.remove(&old)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> io::Result<()> {
        let Some(artifact) = self.artifacts.remove(key) else { return Ok(()) };
        fs::remove_file(self.records.join(key.file_name()))?;
        let blob = artifact.manifest.blob;
        if !self.artifacts.values().any(|other| other.manifest.blob == blob) {
            self.blobs.remove(&blob)?;
        }
        tracing::info!(component = %key.component, "dropped an artifact from the cache");
        Ok(())
    }
}

/// What must go so that the rest fits the budget: the longest unused first.
fn evictions<'a, K: Ord + Clone + 'a>(sizes: impl Iterator<Item = (&'a K, u64, u64)>, budget: u64) -> Vec<K> {
    let mut oldest_first: Vec<_> = sizes.collect();
    oldest_first.sort_by_key(|(key, _, used)| (*used, *key));
    let mut total: u64 = oldest_first.iter().map(|(_, bytes, _)| bytes).sum();
    let mut gone = Vec::new();
    for (key, bytes, _) in oldest_first {
        if total <= budget {
            break;
        }
        total -= bytes;
        gone.push(key.clone());
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_go_first() {
        let check = |sizes: &[(char, u64, u64)], budget: u64, expected: &str| {
            let gone = evictions(sizes.iter().map(|(key, bytes, used)| (key, *bytes, *used)), budget);
            assert_eq!(gone.into_iter().collect::<String>(), expected, "{sizes:?} in {budget}");
        };
        check(&[], 0, "");
        check(&[('a', 5, 1), ('b', 5, 2)], 10, "");
        check(&[('a', 5, 2), ('b', 5, 1)], 9, "b");
        check(&[('a', 5, 1), ('b', 1, 2), ('c', 5, 3)], 5, "ab");
        check(&[('a', 5, 1), ('b', 5, 1)], 0, "ab");
    }
}
