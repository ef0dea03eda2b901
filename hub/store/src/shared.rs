//! A store's state as its backends share it with readers and watchers.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use crate::state::{Draft, State};
use crate::{Change, Entry, Page, Revision, StoreError};

/// Changes in one answer of [`Watch::next`]: enough to amortise the lock, few enough to stay small.
const BATCH: usize = 512;

/// The side that changes the state; one per store. Dropping it ends all watches.
#[derive(Debug)]
pub(crate) struct Publisher {
    state: Arc<RwLock<State>>,
    revision: watch::Sender<Revision>,
}

impl Publisher {
    pub(crate) fn new(state: State) -> Self {
        let revision = watch::Sender::new(state.revision());
        Self { state: Arc::new(RwLock::new(state)), revision }
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader { state: self.state.clone(), revision: self.revision.subscribe() }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn adopt(&self, draft: Draft) {
        self.change(|state| state.adopt(draft));
    }

    pub(crate) fn advance(&self, to: Revision) {
        self.change(|state| state.advance(to));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let revision = state.revision();
        drop(state);
        self.revision.send_replace(revision);
    }
}

/// The side that reads it.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    state: Arc<RwLock<State>>,
    revision: watch::Receiver<Revision>,
}

impl Reader {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn revision(&self) -> Revision {
        self.read().revision()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.read().get(key).map(|entry| Entry::clone(entry))
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        let (revision, (entries, remaining)) = {
            let state = self.read();
            (state.revision(), state.list(prefix, after, limit))
        };
        // Values are copied after the lock is gone: a list of everything must not hold up a commit.
        let entries = entries.into_iter().map(|entry| Entry::clone(&entry)).collect();
        Page { entries, revision, more: remaining > 0, remaining }
    }

    pub(crate) fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        let state = self.read();
        let (current, oldest) = (state.revision(), state.history().oldest());
        if from > current {
            return Err(StoreError::Future { wanted: from, current });
        }
        if from < oldest {
            return Err(StoreError::Compacted { wanted: from, oldest });
        }
        Ok(Watch { reader: self.clone(), prefix: prefix.to_owned(), seen: from })
    }
}

/// A place in the history; see [`crate::Store::watch`].
#[derive(Debug)]
pub struct Watch {
    reader: Reader,
    prefix: String,
    seen: Revision,
}

impl Watch {
    /// The next batch of changes (never empty), waiting for one if there is none. May be dropped and
    /// called again without losing any.
    ///
    /// # Errors
    /// `Compacted`: this watcher was too slow. `Closed`: the store is gone, and all was delivered.
    pub async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        loop {
            self.reader.revision.borrow_and_update();
            let (changes, seen) = self.reader.read().history().after(self.seen, &self.prefix, BATCH)?;
            let progress = seen > self.seen;
            self.seen = seen;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if !progress {
                self.reader.revision.changed().await.map_err(|_| StoreError::Closed)?;
            }
        }
    }

    /// Every change up to here was delivered or lies outside the prefix: what a bookmark says.
    pub fn seen(&self) -> Revision {
        self.seen
    }
}
