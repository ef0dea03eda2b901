//! The node's memory on disk: the newest desired state, the bodies it names, and each pod's outcomes.
//!
//! ```text
//!   ledger/desired          the signed frame as it came, with its topic: verified again at each start
//!   ledger/bodies/<hex>     bodies that did not fit the frame
//!   ledger/pods/<uid>       edge_agent_core::ledger::PodRecord
//!   ledger/seen             the latest wall time, for a machine without a battery clock
//! ```
//! Files are replaced whole. One that does not read is set aside as `<name>.corrupt` and told of.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use edge_agent_core::ledger::{Durability, PodRecord};
use protocol::{Digest, PodUid, UnixMillis};

use crate::files::{self, Sync};

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What an earlier life of the agent left.
#[derive(Debug, Default)]
pub struct Memory {
    pub desired: Option<Vec<u8>>,
    pub bodies: BTreeMap<Digest, Vec<u8>>,
    pub records: BTreeMap<PodUid, PodRecord>,
    /// Files that did not read, for a person.
    pub set_aside: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Ledger {
    dir: PathBuf,
}

impl Ledger {
    /// # Errors
    /// A directory that cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, LedgerError> {
        let dir = data_dir.join("ledger");
        for part in ["bodies", "pods"] {
            let path = dir.join(part);
            files::private_dir(&path).map_err(|source| LedgerError::Write { path, source })?;
        }
        Ok(Self { dir })
    }

    /// # Errors
    /// A disk that does not read. Damaged content is no error: it is set aside.
    pub fn recall(&self) -> Result<Memory, LedgerError> {
        let mut memory = Memory { desired: read(&self.desired_path())?, ..Memory::default() };
        for (path, bytes) in self.read_dir("bodies")? {
            match name_of(&path).and_then(|name| format!("sha256:{name}").parse::<Digest>().ok()) {
                Some(digest) if Digest::of(&bytes) == digest => drop(memory.bodies.insert(digest, bytes)),
                Some(_) | None => memory.set_aside.extend(set_aside(&path)),
            }
        }
        for (path, bytes) in self.read_dir("pods")? {
            let uid = name_of(&path).and_then(|name| name.parse::<PodUid>().ok());
            match (uid, PodRecord::from_bytes(&bytes)) {
                (Some(uid), Ok(record)) if record.uid == uid => drop(memory.records.insert(uid, record)),
                _ => memory.set_aside.extend(set_aside(&path)),
            }
        }
        Ok(memory)
    }

    /// The frame turned out not to be one of ours.
    pub fn set_desired_aside(&self) -> Option<String> {
        set_aside(&self.desired_path())
    }

    /// # Errors
    /// [`LedgerError::Write`], a full disk above all.
    pub fn write_desired(&self, frame: &[u8]) -> Result<(), LedgerError> {
        write(&self.desired_path(), frame, Sync::BeforeReturning)
    }

    /// # Errors
    /// As [`Ledger::write_desired`].
    pub fn write_body(&self, digest: Digest, body: &[u8]) -> Result<(), LedgerError> {
        write(&self.dir.join("bodies").join(digest.hex()), body, Sync::BeforeReturning)
    }

    /// Drops bodies that the desired state no longer names.
    pub fn keep_bodies(&self, wanted: impl Fn(&Digest) -> bool) {
        let Ok(entries) = std::fs::read_dir(self.dir.join("bodies")) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let digest = name_of(&path).and_then(|name| format!("sha256:{name}").parse::<Digest>().ok());
            if digest.is_some_and(|digest| !wanted(&digest)) {
                let _ = files::remove(&path);
            }
        }
    }

    /// # Errors
    /// As [`Ledger::write_desired`].
    pub fn write_record(&self, record: &PodRecord, durability: Durability) -> Result<(), LedgerError> {
        let sync = match durability {
            Durability::BeforeActing => Sync::BeforeReturning,
            Durability::WheneverConvenient => Sync::Eventually,
        };
        write(&self.record_path(record.uid), &record.to_bytes(), sync)
    }

    pub fn remove_record(&self, uid: PodUid) {
        if let Err(error) = files::remove(&self.record_path(uid)) {
            tracing::warn!(pod = %uid, %error, "cannot remove a record");
        }
    }

    /// The latest time that an earlier life saw; zero if it did not say.
    pub fn last_seen(data_dir: &Path) -> UnixMillis {
        let text = std::fs::read_to_string(data_dir.join("ledger/seen")).unwrap_or_default();
        UnixMillis(text.trim().parse().unwrap_or(0))
    }

    pub fn write_seen(&self, at: UnixMillis) {
        let path = self.dir.join("seen");
        if let Err(error) = write(&path, at.0.to_string().as_bytes(), Sync::Eventually) {
            tracing::debug!(error = %crate::link::chain(&error), "cannot note the time");
        }
    }

    fn desired_path(&self) -> PathBuf {
        self.dir.join("desired")
    }

    fn record_path(&self, uid: PodUid) -> PathBuf {
        self.dir.join("pods").join(uid.to_string())
    }

    fn read_dir(&self, part: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, LedgerError> {
        let dir = self.dir.join(part);
        let entries = std::fs::read_dir(&dir).map_err(|source| LedgerError::Read { path: dir, source })?;
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = name_of(&path).unwrap_or_default();
            if name.starts_with('.') || name.ends_with(".corrupt") {
                continue;
            }
            if let Some(bytes) = read(&path)? {
                found.push((path, bytes));
            }
        }
        Ok(found)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LedgerError::Read { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), LedgerError> {
    files::write_atomic(path, bytes, 0o600, sync).map_err(|source| LedgerError::Write { path: path.to_owned(), source })
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn set_aside(path: &Path) -> Option<String> {
    let aside = PathBuf::from(format!("{}.corrupt", path.display()));
    match std::fs::rename(path, &aside) {
        Ok(()) => Some(format!("{} does not read and was set aside as {}", path.display(), aside.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{} does not read and cannot be moved: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_agent_core::ledger::Verdict;
    use edge_agent_core::pod::Begun;
    use protocol::BootId;

    fn record(number: u8) -> PodRecord {
        let boot = BootId([1; 16]);
        PodRecord {
            uid: PodUid([number; 16]),
            boot,
            begun: Begun { boot, at: 5, wall: UnixMillis(6) },
            verdict: Verdict::Open,
            init: vec![],
            app: vec![],
        }
    }

    #[test]
    fn what_was_written_is_recalled() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        ledger.write_desired(b"frame").unwrap();
        ledger.write_body(Digest::of(b"body"), b"body").unwrap();
        ledger.write_record(&record(1), Durability::BeforeActing).unwrap();
        ledger.write_record(&record(2), Durability::WheneverConvenient).unwrap();
        ledger.remove_record(PodUid([2; 16]));
        ledger.write_seen(UnixMillis(77));
        let memory = Ledger::open(dir.path()).unwrap().recall().unwrap();
        assert_eq!(memory.desired.as_deref(), Some(&b"frame"[..]));
        assert_eq!(memory.bodies.into_values().collect::<Vec<_>>(), [b"body"]);
        assert_eq!(memory.records.into_values().collect::<Vec<_>>(), [record(1)]);
        assert_eq!((memory.set_aside.len(), Ledger::last_seen(dir.path())), (0, UnixMillis(77)));
    }

    #[test]
    fn damage_is_set_aside_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        ledger.write_record(&record(1), Durability::BeforeActing).unwrap();
        let pods = dir.path().join("ledger/pods");
        std::fs::write(pods.join(PodUid([2; 16]).to_string()), b"").unwrap();
        std::fs::write(dir.path().join("ledger/bodies").join(Digest::of(b"x").hex()), b"y").unwrap();
        let memory = ledger.recall().unwrap();
        assert_eq!((memory.records.len(), memory.bodies.len(), memory.set_aside.len()), (1, 0, 2));
        assert_eq!(ledger.recall().unwrap().set_aside.len(), 0, "what was set aside stays aside");
    }
}
