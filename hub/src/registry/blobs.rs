//! Files named by the digest of their content. A blob is there whole or not at all: bytes go to a
//! temporary file, which is synced and then renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use protocol::ids::Digest;
use tempfile::NamedTempFile;

#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    dir: PathBuf,
    temporary: PathBuf,
}

/// A blob's file, whole and checked when it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFile {
    pub path: PathBuf,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("it is larger than {} MiB, the most this hub takes", limit >> 20)]
    TooLarge { limit: u64 },
    #[error("its digest is {actual}, not {expected}")]
    Mismatch { expected: Digest, actual: Digest },
    #[error("the hub's disk is full")]
    Full(#[source] io::Error),
    #[error("the hub cannot store it")]
    Io(#[source] io::Error),
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

impl Blobs {
    /// Opens or makes the directories; what an earlier process left unfinished goes.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let blobs = Self { dir: root.join("blobs").join("sha256"), temporary: root.join("incoming") };
        if blobs.temporary.exists() {
            fs::remove_dir_all(&blobs.temporary)?;
        }
        fs::create_dir_all(&blobs.temporary)?;
        fs::create_dir_all(&blobs.dir)?;
        Ok(blobs)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<BlobFile> {
        let path = self.path(digest);
        let bytes = fs::metadata(&path).ok()?.len();
        Some(BlobFile { path, bytes })
    }

    /// Starts a blob of at most `limit` bytes.
    pub(crate) fn receive(&self, limit: u64) -> Result<Incoming, BlobError> {
        let file = NamedTempFile::new_in(&self.temporary)?;
        let hash = ring::digest::Context::new(&ring::digest::SHA256);
        Ok(Incoming { file, hash, bytes: 0, limit, dir: self.dir.clone() })
    }

    /// Stores bytes that are at hand.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let mut incoming = self.receive(u64::MAX)?;
        incoming.write(bytes)?;
        incoming.keep(None)
    }

    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<()> {
        fs::remove_file(self.path(digest))
    }

    /// All blobs, and when each was stored.
    pub(crate) fn list(&self) -> io::Result<Vec<(Digest, SystemTime)>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let file = file?;
            let name = file.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            if let Some(digest) = digest {
                found.push((digest, file.metadata()?.modified()?));
            }
        }
        Ok(found)
    }
}

/// A blob on its way in. Dropping it leaves nothing behind.
pub(crate) struct Incoming {
    file: NamedTempFile,
    hash: ring::digest::Context,
    bytes: u64,
    limit: u64,
    dir: PathBuf,
}

impl Incoming {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The unfinished file.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.limit {
            return Err(BlobError::TooLarge { limit: self.limit });
        }
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes)?)
    }

    /// Makes it a blob, if it has the digest it should have. Blocks for two fsyncs.
    pub(crate) fn keep(self, expected: Option<Digest>) -> Result<Digest, BlobError> {
        let actual = digest_of(self.hash);
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(BlobError::Mismatch { expected, actual });
        }
        self.file.as_file().sync_all()?;
        // Over an equal blob, if it was there: that renews its age, so that it is not collected
        // before the manifest that is about to name it.
        self.file.persist(self.dir.join(actual.hex())).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(actual)
    }
}

fn digest_of(hash: ring::digest::Context) -> Digest {
    let mut digest = Digest([0; 32]);
    digest.0.copy_from_slice(hash.finish().as_ref());
    digest
}

/// Younger blobs may belong to a push that has not named them in a manifest yet.
pub(crate) const GRACE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello");

        let mut unfinished = blobs.receive(100).unwrap();
        unfinished.write(b"hel").unwrap();
        assert_eq!(blobs.get(&digest), None);
        drop(unfinished);
        assert_eq!(fs::read_dir(&blobs.temporary).unwrap().count(), 0);

        let mut incoming = blobs.receive(100).unwrap();
        incoming.write(b"hel").unwrap();
        incoming.write(b"lo").unwrap();
        assert_eq!(incoming.keep(Some(digest)).unwrap(), digest);
        let file = blobs.get(&digest).unwrap();
        assert_eq!((fs::read(file.path).unwrap(), file.bytes), (b"hello".to_vec(), 5));
        assert_eq!(blobs.list().unwrap()[0].0, digest);
    }

    #[test]
    fn wrong_and_oversized_blobs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut incoming = blobs.receive(5).unwrap();
        incoming.write(b"hello").unwrap();
        assert!(matches!(incoming.write(b"!"), Err(BlobError::TooLarge { limit: 5 })));
        let mut incoming = blobs.receive(5).unwrap();
        incoming.write(b"hullo").unwrap();
        assert!(matches!(incoming.keep(Some(Digest::of(b"hello"))), Err(BlobError::Mismatch { .. })));
        assert_eq!(blobs.list().unwrap(), []);
    }

    #[test]
    fn leftovers_of_a_crash_go_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        fs::write(blobs.temporary.join("half"), b"hel").unwrap();
        fs::write(blobs.dir.join("not-a-digest"), b"").unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(&blobs.temporary).unwrap().count(), 0);
        assert_eq!(blobs.list().unwrap(), []);
    }
}
