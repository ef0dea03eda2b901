//! Files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// When a write must have reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    BeforeReturning,
    /// The kernel decides; a power cut may lose it.
    Eventually,
}

/// Replaces `path` by a file of `mode`: written beside it, made durable, renamed over it.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.new"));
    let written = write_new(&temporary, bytes, mode, sync).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is half there (a full disk) must not stay.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    match sync {
        Sync::BeforeReturning => File::open(parent)?.sync_all(),
        Sync::Eventually => Ok(()),
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    match sync {
        Sync::BeforeReturning => file.sync_all(),
        Sync::Eventually => Ok(()),
    }
}

/// Makes a directory, and those above it, for this user only.
pub fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a file or a whole directory; fine if there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_atomic(&path, b"one", 0o600, Sync::BeforeReturning).unwrap();
        write_atomic(&path, b"two", 0o400, Sync::Eventually).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_nothing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("none")).unwrap();
        private_dir(&dir.path().join("a/b")).unwrap();
        remove(&dir.path().join("a")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
