//! The backend that forgets: for tests and for trying things out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::history::HistoryLimits;
use crate::shared::{Publisher, Reader, Watch};
use crate::state::State;
use crate::{Entry, Op, Page, Revision, Store, StoreError, Write};

#[derive(Debug)]
pub struct MemoryStore {
    reader: Reader,
    /// Held while a commit is decided and made.
    publisher: Mutex<Publisher>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::with_history(HistoryLimits::default())
    }

    pub fn with_history(limits: HistoryLimits) -> Self {
        let publisher = Publisher::new(State::at(Revision(0), BTreeMap::new(), limits));
        Self { reader: publisher.reader(), publisher: Mutex::new(publisher) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.reader.get(key))
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        Ok(self.reader.list(prefix, after, limit))
    }

    async fn commit(&self, ops: Vec<Op>, _: Write) -> Result<Revision, StoreError> {
        let publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let (draft, revision) = {
            let state = publisher.read();
            let mut draft = state.draft();
            let revision = draft.commit(&state, ops)?;
            (draft, revision)
        };
        publisher.adopt(draft);
        Ok(revision)
    }

    fn revision(&self) -> Revision {
        self.reader.revision()
    }

    async fn advance(&self, to: Revision) -> Result<Revision, StoreError> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner).advance(to);
        Ok(self.revision())
    }

    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.reader.watch(prefix, from)
    }

    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
