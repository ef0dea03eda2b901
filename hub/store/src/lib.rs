//! The hub's store: keys, values, one revision for all of them, and a watch from any recent one.
//!
//! The contract is etcd's, so that etcd can stand behind it later; `tests/conformance.rs` is the suite
//! that every backend passes. `redb` is the backend on disk, `memory` the one for tests.
//!
//! * One revision counts all changes. It never goes back and no number is used twice, also over a
//!   crash that lost relaxed writes.
//! * A [`Write::Durable`] commit is on disk before it is acknowledged; concurrent ones share an fsync.
//!   A [`Write::Relaxed`] one is ordered like the others, but a power cut may lose it: Pis have SD cards.
//! * The history for watches is in memory and bounded; what is older is [`StoreError::Compacted`], and
//!   so is everything before the process' start. Watchers list again then, as Kubernetes clients do.
//! * Deleting what is absent changes nothing, and a commit that changes nothing takes no revision.
//!
//! ```text
//! state     entries, revision, and Draft: which commits hold, and what they change (pure)
//! history   the bounded log behind watches (pure)
//! shared    the state behind a lock: Publisher changes it, Reader reads it, Watch waits for changes
//! memory    a Publisher, called directly
//! redb      a Publisher, owned by one thread:   writer   group commit, relaxed writes
//!                                               disk     the file: tables, errors, reopening
//! ```
//! Both backends answer reads from memory: a hub's objects are small (about 2 KB each), a read costs
//! no page, and a full or broken disk stops writes only.

mod state;

mod history;
mod shared;

pub mod memory;

pub mod redb;

use std::future::Future;

pub use history::HistoryLimits;
pub use shared::Watch;

/// The number of a change. 0 stands before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Vec<u8>,
    /// When the key was created, and when it was last changed.
    pub created: Revision,
    pub modified: Revision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// `value` may hold no revision: readers put `Entry::modified` where they need it.
    Put {
        key: String,
        value: Vec<u8>,
        expect: Expect,
    },
    Delete {
        key: String,
        expect: Expect,
    },
}

/// What must hold for an operation to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Absent,
    /// The key's `modified`.
    At(Revision),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Durable,
    Relaxed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// The store's revision at the time of reading.
    pub revision: Revision,
    /// There are more after the last entry.
    pub more: bool,
    /// How many entries are left after this page.
    pub remaining: u64,
}

/// One change, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub key: String,
    /// `None`: deleted.
    pub now: Option<std::sync::Arc<Entry>>,
    pub before: Option<std::sync::Arc<Entry>>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written. `actual` is `None` where the key is absent.
    #[error("{key} was changed meanwhile")]
    Conflict { key: String, actual: Option<Revision> },
    #[error("revision {wanted} is older than the kept history, which starts after {oldest}", wanted = wanted.0, oldest = oldest.0)]
    Compacted { wanted: Revision, oldest: Revision },
    #[error("revision {wanted} is in the future; the store is at {current}", wanted = wanted.0, current = current.0)]
    Future { wanted: Revision, current: Revision },
    #[error("the disk below the store is full")]
    Full(#[source] std::io::Error),
    #[error("the store's file is in use by another process")]
    InUse,
    #[error("the store is closed")]
    Closed,
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A backend.
pub trait Store: Send + Sync + 'static {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Entries whose key starts with `prefix`, in key order, after the key `after`, at most `limit` (0 = all).
    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StoreError>;

    /// All of `ops` in one revision, or none of them.
    fn commit(&self, ops: Vec<Op>, write: Write) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// The newest revision.
    fn revision(&self) -> Revision;

    /// Jumps the revision forward to at least `to` (a restored hub), compacting everything before.
    fn advance(&self, to: Revision) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// Changes below `prefix` after `from`, in order, without gaps. A watcher that falls behind the
    /// kept history gets `Compacted` from [`Watch::next`] and ends.
    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError>;

    /// Everything acknowledged is on disk when this returns.
    fn flush(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The backend that the configuration chose: [`Store::commit`] is async, so the trait makes no objects.
#[derive(Debug)]
pub enum Backend {
    Memory(memory::MemoryStore),
    Redb(redb::RedbStore),
}

impl From<memory::MemoryStore> for Backend {
    fn from(store: memory::MemoryStore) -> Self {
        Self::Memory(store)
    }
}

impl From<redb::RedbStore> for Backend {
    fn from(store: redb::RedbStore) -> Self {
        Self::Redb(store)
    }
}

impl Store for Backend {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        match self {
            Self::Memory(store) => store.get(key),
            Self::Redb(store) => store.get(key),
        }
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        match self {
            Self::Memory(store) => store.list(prefix, after, limit),
            Self::Redb(store) => store.list(prefix, after, limit),
        }
    }

    async fn commit(&self, ops: Vec<Op>, write: Write) -> Result<Revision, StoreError> {
        match self {
            Self::Memory(store) => store.commit(ops, write).await,
            Self::Redb(store) => store.commit(ops, write).await,
        }
    }

    fn revision(&self) -> Revision {
        match self {
            Self::Memory(store) => store.revision(),
            Self::Redb(store) => store.revision(),
        }
    }

    async fn advance(&self, to: Revision) -> Result<Revision, StoreError> {
        match self {
            Self::Memory(store) => store.advance(to).await,
            Self::Redb(store) => store.advance(to).await,
        }
    }

    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        match self {
            Self::Memory(store) => store.watch(prefix, from),
            Self::Redb(store) => store.watch(prefix, from),
        }
    }

    async fn flush(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.flush().await,
            Self::Redb(store) => store.flush().await,
        }
    }
}
