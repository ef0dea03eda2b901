//! The one thread that writes: it takes what has queued up, decides it in order, and makes it durable
//! with a single fsync if anything in it asks for that.

use std::collections::BTreeSet;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, Failure};
use crate::shared::Publisher;
use crate::state::Draft;
use crate::{Op, Revision, StoreError, Write};

/// Revisions are reserved on disk this many at a time: one extra number in a write that happens
/// anyway. A restart skips what is left of them; 64 bits last for millions of years of that.
const RESERVE: u64 = 10_000;

/// Commits that share one fsync at most, so that the first of them is not kept waiting.
const BATCH: usize = 256;

/// How long relaxed changes wait for a durable commit to travel with, and how long the writer waits
/// after a failed attempt to write them.
const RELAXED_DELAY: Duration = Duration::from_secs(3);

pub(super) type Reply = oneshot::Sender<Result<Revision, StoreError>>;

#[derive(Debug)]
pub(super) enum Job {
    Commit { ops: Vec<Op>, write: Write, reply: Reply },
    Advance { to: Revision, reply: Reply },
}

/// Starts the thread; it ends, after a last flush, when the queue's senders are gone.
pub(super) fn spawn(publisher: Publisher, disk: Disk, queue: mpsc::Receiver<Job>) -> io::Result<JoinHandle<()>> {
    // A runtime of its own: the thread blocks in fsync, and still wants a timer beside its queue.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let ceiling = publisher.read().revision();
    let writer = Writer { publisher, disk, ceiling, unwritten: BTreeSet::new() };
    std::thread::Builder::new().name("store".to_owned()).spawn(move || runtime.block_on(writer.run(queue)))
}

struct Writer {
    publisher: Publisher,
    disk: Disk,
    /// The revision up to which numbers are reserved on disk.
    ceiling: Revision,
    /// Keys whose entry in memory may differ from the one on disk.
    unwritten: BTreeSet<String>,
}

/// Whether what a batch changed must be on disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    None,
    Disk,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        // Set while relaxed changes wait.
        let mut flush = None;
        loop {
            let due = async {
                match flush.as_mut() {
                    Some(sleep) => std::pin::Pin::new(sleep).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The timer first: a queue that never runs dry must not keep relaxed changes from the disk.
                biased;
                () = due => {
                    flush = None;
                    self.write_relaxed();
                }
                received = queue.recv_many(&mut jobs, BATCH) => match received {
                    0 => break,
                    _ => self.work(&mut jobs),
                },
            }
            if self.unwritten.is_empty() {
                flush = None;
            } else if flush.is_none() {
                flush = Some(Box::pin(tokio::time::sleep(RELAXED_DELAY)));
            }
        }
        self.write_relaxed();
    }

    fn work(&mut self, jobs: &mut Vec<Job>) {
        let mut commits = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Commit { ops, write, reply } => commits.push((ops, write, reply)),
                Job::Advance { to, reply } => {
                    self.commit(std::mem::take(&mut commits));
                    answer(reply, self.advance(to));
                }
            }
        }
        self.commit(commits);
    }

    fn commit(&mut self, commits: Vec<(Vec<Op>, Write, Reply)>) {
        if commits.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(commits.len());
        let mut demand = Demand::None;
        let draft = {
            let state = self.publisher.read();
            let mut draft = state.draft();
            for (ops, write, reply) in commits {
                let result = draft.commit(&state, ops);
                if result.is_ok() && write == Write::Durable {
                    demand = Demand::Disk;
                }
                answers.push((reply, result));
            }
            draft
        };
        if draft.revision() > self.ceiling {
            demand = Demand::Disk;
        }
        let written = match demand {
            Demand::None => {
                self.unwritten.extend(keys(&draft));
                Ok(())
            }
            Demand::Disk => self.write(&draft),
        };
        if written.is_ok() && !draft.changes().is_empty() {
            self.publisher.adopt(draft);
        }
        for (reply, result) in answers {
            match &written {
                Ok(()) => answer(reply, result),
                // Also those that conflicted: with what did not happen, perhaps.
                Err(failure) => answer(reply, Err(failure.clone().into_error())),
            }
        }
    }

    fn advance(&mut self, to: Revision) -> Result<Revision, StoreError> {
        let current = self.publisher.read().revision();
        if to <= current {
            return Ok(current);
        }
        let nothing = self.publisher.read().draft();
        self.write_reserving(&nothing, to).map_err(Failure::into_error)?;
        self.publisher.advance(to);
        Ok(to)
    }

    fn write_relaxed(&mut self) {
        let nothing = self.publisher.read().draft();
        // The changes are safe in memory and stay unwritten; only a crash before the next try loses them.
        if let Err(failure) = self.write(&nothing) {
            let error = failure.into_error();
            tracing::warn!(error = &error as &dyn std::error::Error, "could not write relaxed changes");
        }
    }

    /// Makes the draft, and everything before it, durable.
    fn write(&mut self, draft: &Draft) -> Result<(), Failure> {
        self.write_reserving(draft, draft.revision())
    }

    /// [`Writer::write`], with `revision` reserved too.
    fn write_reserving(&mut self, draft: &Draft, revision: Revision) -> Result<(), Failure> {
        let ceiling = if revision > self.ceiling { Revision(revision.0.saturating_add(RESERVE)) } else { self.ceiling };
        self.unwritten.extend(keys(draft));
        if self.unwritten.is_empty() && ceiling == self.ceiling {
            return Ok(());
        }
        let state = self.publisher.read();
        // On failure the keys stay unwritten: what reached the disk is unknown, and memory is right.
        self.disk.write(self.unwritten.iter().map(|key| (key.as_str(), draft.entry(&state, key))), ceiling)?;
        self.unwritten.clear();
        self.ceiling = ceiling;
        Ok(())
    }
}

fn keys(draft: &Draft) -> impl Iterator<Item = String> {
    draft.changes().iter().map(|change| change.key.clone())
}

fn answer(reply: Reply, result: Result<Revision, StoreError>) {
    // Whoever asked may have gone.
    drop(reply.send(result));
}
