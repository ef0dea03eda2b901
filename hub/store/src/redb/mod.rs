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
use crate::shared::{Publisher, Reader, Watch};
use crate::state::State;
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use ::redb::{Builder, StorageBackend};

    use super::*;
    use crate::Expect;

    /// A file on a disk that can be filled up.
    #[derive(Debug)]
    struct SmallDisk {
        file: File,
        full: Arc<AtomicBool>,
    }

    impl SmallDisk {
        fn room(&self) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for SmallDisk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.file.metadata()?.len())
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read_exact_at(out, offset)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.room()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.room()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.room()?;
            self.file.write_all_at(data, offset)
        }
    }

    fn on_small_disk(path: PathBuf, full: &Arc<AtomicBool>) -> RedbStore {
        let full = full.clone();
        let open = move || {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            Builder::new().create_with_backend(SmallDisk { file, full: full.clone() })
        };
        RedbStore::start(Disk::open(Box::new(open)).unwrap(), HistoryLimits::default()).unwrap()
    }

    fn put(key: &str) -> Vec<Op> {
        vec![Op::Put { key: key.to_owned(), value: Vec::new(), expect: Expect::Absent }]
    }

    fn keys(store: &RedbStore) -> String {
        let entries = store.list("", None, 0).unwrap().entries;
        entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn a_full_disk_stops_durable_writes_only_and_only_while_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let full = Arc::new(AtomicBool::new(false));
        let store = on_small_disk(path.clone(), &full);
        let before = store.commit(put("before"), Write::Durable).await.unwrap();

        full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert!(matches!(store.commit(put("refused"), Write::Durable).await, Err(StoreError::Full(_))));
        }
        let relaxed = store.commit(put("relaxed"), Write::Relaxed).await.unwrap();
        assert_eq!(relaxed.0, before.0 + 1, "refused commits took revisions");
        assert_eq!(keys(&store), "before relaxed");
        assert!(matches!(store.flush().await, Err(StoreError::Full(_))));

        full.store(false, Ordering::SeqCst);
        store.commit(put("after"), Write::Durable).await.unwrap();
        drop(store);
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(keys(&store), "after before relaxed", "a refused commit came back, or one was lost");
    }
}
