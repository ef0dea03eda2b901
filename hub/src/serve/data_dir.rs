//! The directory with everything the hub keeps, for one hub at a time.
//!
//! ```text
//! lock  held while a hub runs         hub.redb  the store        keys/  CA, identity, tokens, nodes
//! hub.json  where the hub listens     registry/  images          artifacts/  compiled images
//! admin.kubeconfig  the administrator's way in
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "the data directory {path} is in use by another hub{pid}: stop that one, or choose another directory with --data-dir"
    )]
    InUse { path: PathBuf, pid: String },
    #[error("cannot use the data directory {path}: make it writable for this user, or choose another with --data-dir")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// The directory, locked.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// The system releases the lock with the file, however the process ends.
    _lock: File,
}

impl DataDir {
    pub(super) fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        // An absolute path survives a change of the working directory and reads better in messages.
        let path = fs::canonicalize(path).map_err(unusable)?;
        let unusable = |source| DataDirError::Unusable { path: path.clone(), source };
        let file = path.join("lock");
        let mut lock =
            File::options().read(true).write(true).create(true).truncate(false).open(&file).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who holds it is a help for the reader only.
                let _ = lock.read_to_string(&mut text);
                let pid = text.trim().parse::<u32>().map(|pid| format!(" (process {pid})")).unwrap_or_default();
                return Err(DataDirError::InUse { path, pid });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        // Not being able to write here is told at once, not at the first object.
        let write = |source| DataDirError::Write { path: file.clone(), source };
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(write)?;
        lock.write_all(std::process::id().to_string().as_bytes()).map_err(write)?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path.join("hub.redb")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    pub(super) fn registry(&self) -> PathBuf {
        self.path.join("registry")
    }

    pub(super) fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.path.join("admin.kubeconfig")
    }

    pub(super) fn addresses(&self) -> PathBuf {
        self.path.join("hub.json")
    }

    /// Writes a small file whole or not at all, for this user only.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Write { path: path.to_owned(), source };
        let mut file = tempfile::NamedTempFile::new_in(&self.path).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hub_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        let pid = format!("(process {})", std::process::id());
        assert!(refused.contains(&pid) && refused.contains("--data-dir"), "{refused}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_no_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains("file") && refused.contains("--data-dir"), "{refused}");
    }
}
