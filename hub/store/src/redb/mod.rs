//! The backend on disk: one `redb` file, written by one thread.
//!
//! Memory answers the reads and decides the commits; the file is what survives. A durable commit
//! waits for its fsync before anyone sees it. Relaxed ones are seen at once, and reach the file with
//! the next durable commit or after a few seconds, several changes of one key as one: so a crash
//! loses the newest of them, never one from the middle, and status updates spare the SD card.

mod disk;
mod writer;

use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::history::HistoryLimits;
use crate::state::State;
use crate::watch::{Publisher, Reader, Watch};
use crate::{Entry, Op, Page, Revision, Store, StoreError, Write};
use disk::Disk;
use writer::{Job, Reply};

/// Commits that may wait for the writer; more wait for a place in the queue.
const QUEUE: usize = 1024;

#[derive(Debug)]
pub struct RedbStore {
    reader: Reader,
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl RedbStore {
    /// Opens the store in this file, making it if there is none.
    ///
    /// # Errors
    /// `InUse` where another process has it open, `Full`, or `Backend` for a file that is no store.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with_history(path, HistoryLimits::default())
    }

    /// [`RedbStore::open`] with another bound for the watch history.
    ///
    /// # Errors
    /// See [`RedbStore::open`].
    pub fn open_with_history(path: impl AsRef<Path>, limits: HistoryLimits) -> Result<Self, StoreError> {
        Self::start(Disk::open(disk::file(path.as_ref()))?, limits)
    }

    fn start((disk, loaded): (Disk, disk::Loaded), limits: HistoryLimits) -> Result<Self, StoreError> {
        let publisher = Publisher::new(State::at(loaded.ceiling, loaded.entries, limits));
        let reader = publisher.reader();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = writer::spawn(publisher, disk, queue).map_err(|error| StoreError::Backend(Box::new(error)))?;
        Ok(Self { reader, jobs: Some(jobs), writer: Some(writer) })
    }

    async fn ask(&self, job: impl FnOnce(Reply) -> Job) -> Result<Revision, StoreError> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for RedbStore {
    /// Flushes and releases the file before returning, so that it can be opened again at once.
    fn drop(&mut self) {
        self.jobs = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the store's writer had panicked");
        }
    }
}

impl Store for RedbStore {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.reader.get(key))
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        Ok(self.reader.list(prefix, after, limit))
    }

    async fn commit(&self, ops: Vec<Op>, write: Write) -> Result<Revision, StoreError> {
        self.ask(|reply| Job::Commit { ops, write, reply }).await
    }

    fn revision(&self) -> Revision {
        self.reader.revision()
    }

    async fn advance(&self, to: Revision) -> Result<Revision, StoreError> {
        self.ask(|reply| Job::Advance { to, reply }).await
    }

    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.reader.watch(prefix, from)
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.commit(Vec::new(), Write::Durable).await.map(drop)
    }
}
