//! Who has joined: a file a node, so that one node's join never rewrites another's record.
//!
//! A certificate that our CA signed is not enough to be a node: its key must be one that the record
//! names. So a name that another machine takes over is lost to the machine that had it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::{Digest, NodeName, UnixMillis};
use serde::{Deserialize, Serialize};

use super::PkiError;
use super::files::{self, FileError};
use super::sealing::SealingKey;

/// Design section 10 speaks of 10,000 agents; this bounds memory and disk, not ambition.
const NODES_MAX: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub name: NodeName,
    pub machine_id: String,
    /// X25519, base64.
    pub sealing_key: String,
    /// The key of its certificate, and the one before: a renewal's answer may be lost.
    keys: Vec<String>,
    pub joined: UnixMillis,
    /// Its Node object was deleted: another machine may take the name.
    pub claim: Claim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    Held,
    Released,
}

impl NodeRecord {
    /// `None` never happens for records made by [`NodeBook::admit`], which got a parsed key.
    pub fn sealing_key(&self) -> Option<SealingKey> {
        SealingKey::from_base64(&self.sealing_key)
    }
}

/// A machine that has shown a valid token.
#[derive(Debug, Clone)]
pub struct Applicant {
    pub name: NodeName,
    pub machine_id: String,
    pub sealing_key: String,
    pub key: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    #[error("node {name} is another machine; take another --name, or delete the node first")]
    Taken { name: NodeName },
    #[error("this hub has {NODES_MAX} nodes already")]
    Full,
    #[error("cannot keep the node's record")]
    File(#[from] FileError),
}

pub struct NodeBook {
    directory: PathBuf,
    records: BTreeMap<NodeName, NodeRecord>,
}

impl NodeBook {
    pub(super) fn open(directory: &Path) -> Result<Self, PkiError> {
        files::private_directory(directory)?;
        let mut records = BTreeMap::new();
        for path in files::json_files(directory)? {
            let bytes = files::read(&path)?.unwrap_or_default();
            let record: NodeRecord =
                serde_json::from_slice(&bytes).map_err(|source| PkiError::Node { path: path.clone(), source })?;
            records.insert(record.name.clone(), record);
        }
        Ok(Self { directory: directory.to_owned(), records })
    }

    pub fn get(&self, name: &NodeName) -> Option<&NodeRecord> {
        self.records.get(name)
    }

    /// Whether `key` is one that the node holds now.
    pub fn holds(&self, name: &NodeName, key: Digest) -> bool {
        self.records.get(name).is_some_and(|record| record.keys.contains(&key.hex()))
    }

    /// Whether the applicant may have the name: it is free, released, or the machine's own.
    ///
    /// # Errors
    /// [`AdmitError::Taken`] or [`AdmitError::Full`].
    pub fn check(&self, applicant: &Applicant) -> Result<(), AdmitError> {
        match self.records.get(&applicant.name) {
            None if self.records.len() >= NODES_MAX => Err(AdmitError::Full),
            None => Ok(()),
            Some(record) if record.claim == Claim::Released || record.machine_id == applicant.machine_id => Ok(()),
            Some(_) => Err(AdmitError::Taken { name: applicant.name.clone() }),
        }
    }

    /// Keeps the applicant as the node of its name; on disk when this returns.
    ///
    /// # Errors
    /// As [`NodeBook::check`], or [`AdmitError::File`]; nothing has changed then.
    pub fn admit(&mut self, applicant: Applicant, now: UnixMillis) -> Result<(), AdmitError> {
        self.check(&applicant)?;
        let Applicant { name, machine_id, sealing_key, key } = applicant;
        let record =
            NodeRecord { name, machine_id, sealing_key, keys: vec![key.hex()], joined: now, claim: Claim::Held };
        Ok(self.keep(record)?)
    }

    /// The node has a certificate for another key; the one before still counts.
    ///
    /// # Errors
    /// [`FileError`]; nothing has changed then.
    pub fn renew(&mut self, name: &NodeName, key: Digest) -> Result<(), FileError> {
        let Some(record) = self.records.get(name) else { return Ok(()) };
        if record.keys.first() == Some(&key.hex()) {
            return Ok(());
        }
        let mut record = record.clone();
        record.keys.insert(0, key.hex());
        record.keys.truncate(2);
        self.keep(record)
    }

    /// Frees the name for another machine; the one that has it keeps it until then.
    ///
    /// # Errors
    /// [`FileError`]; nothing has changed then.
    pub fn release(&mut self, name: &NodeName) -> Result<(), FileError> {
        self.claim(name, Claim::Released)
    }

    /// The machine that has the name is back as a node.
    ///
    /// # Errors
    /// [`FileError`]; nothing has changed then.
    pub fn reclaim(&mut self, name: &NodeName) -> Result<(), FileError> {
        self.claim(name, Claim::Held)
    }

    fn claim(&mut self, name: &NodeName, claim: Claim) -> Result<(), FileError> {
        match self.records.get(name) {
            Some(record) if record.claim != claim => self.keep(NodeRecord { claim, ..record.clone() }),
            Some(_) | None => Ok(()),
        }
    }

    fn keep(&mut self, record: NodeRecord) -> Result<(), FileError> {
        let bytes = serde_json::to_vec_pretty(&record).expect("records are plain data");
        // A node's name is a DNS label, so it is a file name too.
        files::write_atomic(&self.directory.join(format!("{}.json", record.name)), &bytes)?;
        self.records.insert(record.name.clone(), record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn applicant(machine: &str, key: &str) -> Applicant {
        Applicant {
            name: "pi-1".parse().unwrap(),
            machine_id: machine.into(),
            sealing_key: String::new(),
            key: Digest::of(key.as_bytes()),
        }
    }

    fn book(directory: &tempfile::TempDir) -> NodeBook {
        NodeBook::open(&directory.path().join("nodes")).unwrap()
    }

    #[test]
    fn a_name_belongs_to_one_machine_until_it_is_released() {
        let directory = tempfile::tempdir().unwrap();
        let name: NodeName = "pi-1".parse().unwrap();
        book(&directory).admit(applicant("m1", "k1"), NOW).unwrap();
        assert!(matches!(book(&directory).admit(applicant("m2", "k2"), NOW), Err(AdmitError::Taken { .. })));
        book(&directory).admit(applicant("m1", "k3"), NOW).unwrap();
        assert!(!book(&directory).holds(&name, Digest::of(b"k1")), "joining again replaces the key");

        book(&directory).release(&name).unwrap();
        assert!(book(&directory).holds(&name, Digest::of(b"k3")), "released is not revoked");
        book(&directory).admit(applicant("m2", "k2"), NOW).unwrap();
        assert!(!book(&directory).holds(&name, Digest::of(b"k3")));
        assert!(book(&directory).holds(&name, Digest::of(b"k2")));
    }

    #[test]
    fn after_a_renewal_two_keys_count() {
        let directory = tempfile::tempdir().unwrap();
        let name: NodeName = "pi-1".parse().unwrap();
        let mut book = book(&directory);
        book.admit(applicant("m1", "k1"), NOW).unwrap();
        for (key, counting) in [("k1", ["k1", "k1"]), ("k2", ["k1", "k2"]), ("k3", ["k2", "k3"])] {
            book.renew(&name, Digest::of(key.as_bytes())).unwrap();
            for counts in counting {
                assert!(book.holds(&name, Digest::of(counts.as_bytes())), "{counts} after {key}");
            }
        }
        assert!(!book.holds(&name, Digest::of(b"k1")));
    }
}
