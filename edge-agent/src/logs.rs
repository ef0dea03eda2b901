//! What containers print, kept in memory: one bounded ring a run, and the run before it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_agent_core::logs::Ring;
use edge_agent_core::plan::At;
use edge_agent_runtime::{LogSink, LogStream};
use protocol::PodUid;
use tokio::sync::Notify;

use crate::clock::Clock;

/// Bytes kept of one run: about a thousand lines, so that 500 flooding containers (and their previous
/// runs) stay within 128 MB.
const RING: usize = 128 * 1024;

/// The output of one run.
pub struct ContainerLog {
    ring: Mutex<Ring>,
    clock: Clock,
    changed: Notify,
    ended: AtomicBool,
}

impl ContainerLog {
    fn new(clock: Clock) -> Self {
        Self { ring: Mutex::new(Ring::new(RING)), clock, changed: Notify::new(), ended: AtomicBool::new(false) }
    }

    /// Held for a copy of some lines, never across a wait.
    pub fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Completes at the next change; created before looking, so that none is missed.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    pub fn finish(&self) {
        self.ring().finish(self.clock.now().wall);
        self.ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }
}

impl LogSink for ContainerLog {
    fn write(&self, _: LogStream, bytes: &[u8]) {
        self.ring().write(bytes, self.clock.now().wall);
        self.changed.notify_waiters();
    }
}

/// The logs of all containers; clones share them.
#[derive(Clone)]
pub struct LogBook {
    clock: Clock,
    pages: Arc<Mutex<BTreeMap<At, Page>>>,
}

#[derive(Clone)]
pub struct Page {
    pub current: Arc<ContainerLog>,
    pub previous: Option<Arc<ContainerLog>>,
}

impl LogBook {
    pub fn new(clock: Clock) -> Self {
        Self { clock, pages: Arc::default() }
    }

    /// A fresh ring for a run that starts; the one before becomes the previous.
    pub fn begin(&self, at: &At) -> Arc<ContainerLog> {
        let current = Arc::new(ContainerLog::new(self.clock.clone()));
        let mut pages = self.pages();
        let previous = pages.remove(at).map(|page| page.current);
        pages.insert(at.clone(), Page { current: current.clone(), previous });
        current
    }

    pub fn page(&self, at: &At) -> Option<Page> {
        self.pages().get(at).cloned()
    }

    pub fn remove(&self, pod: PodUid) {
        self.pages().retain(|at, _| at.pod != pod);
    }

    fn pages(&self) -> MutexGuard<'_, BTreeMap<At, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
