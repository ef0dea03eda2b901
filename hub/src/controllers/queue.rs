//! The controllers' queue: what to look at again, and when.
//!
//! ```text
//!          add                    next                done
//!  (none) -----> ready (in turn) ------> active ----------------> (none)
//!                  ^                       | added meanwhile, or to be looked at later
//!                  +---- due <- delayed <--+
//! ```
//! A key is in here once, and worked on by one worker at a time: two adds are one look. The number of
//! keys is bounded by the number of objects.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The first wait after a failure; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait: what fails for minutes waits for a person, who should not wait long for it.
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// What came of looking at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Settled,
    /// Look again then, whatever happens.
    Again(Duration),
    /// Look again after a wait that grows with each failure.
    Failed,
}

pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    active: HashSet<K>,
    /// Added while active.
    again: HashSet<K>,
    /// By due time; the number tells keys of one instant apart.
    delayed: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    count: u64,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            active: HashSet::new(),
            again: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            count: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Look at this as soon as there is a worker.
    pub fn add(&self, key: K) {
        self.lock().add(key);
        self.changed.notify_one();
    }

    /// The next key, which is the caller's until [`Queue::done`].
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.lock();
                if let Some(key) = state.take(Instant::now()) {
                    return key;
                }
                state.delayed.keys().next().map(|(due, _)| *due)
            };
            match due {
                None => self.changed.notified().await,
                Some(due) => {
                    // Either way: look again.
                    let _ = tokio::time::timeout_at(due, self.changed.notified()).await;
                }
            }
        }
    }

    /// The worker is through with a key.
    pub fn done(&self, key: K, outcome: Outcome) {
        self.lock().done(key, outcome, Instant::now());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nothing in here panics between two halves of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.active.contains(&key) {
            self.again.insert(key);
            return;
        }
        if let Some(due) = self.due.remove(&key) {
            self.delayed.remove(&due);
        }
        if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self, now: Instant) -> Option<K> {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.active.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: K, outcome: Outcome, now: Instant) {
        self.active.remove(&key);
        let failures = match outcome {
            Outcome::Failed => self.failures.get(&key).copied().unwrap_or(0).saturating_add(1),
            Outcome::Settled | Outcome::Again(_) => 0,
        };
        if failures == 0 {
            self.failures.remove(&key);
        } else {
            self.failures.insert(key.clone(), failures);
        }
        let again = self.again.remove(&key);
        match outcome {
            // A failure waits even if something changed: what fails at once fails in a loop.
            Outcome::Failed => self.delay(key, now + backoff(failures)),
            Outcome::Settled | Outcome::Again(_) if again => self.add(key),
            Outcome::Settled => {}
            Outcome::Again(after) => self.delay(key, now + after),
        }
    }

    fn delay(&mut self, key: K, due: Instant) {
        self.count += 1;
        let at = (due, self.count);
        self.due.insert(key.clone(), at);
        self.delayed.insert(at, key);
    }
}

fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_BACKOFF.saturating_mul(1 << doublings).min(LAST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.lock().take(Instant::now())
    }

    #[tokio::test]
    async fn a_key_is_queued_once_and_worked_on_once() {
        let queue = Queue::default();
        ["a", "b", "a"].into_iter().for_each(|key| queue.add(key));
        assert_eq!((queue.next().await, queue.next().await), ("a", "b"));
        queue.add("a");
        assert_eq!(take(&queue), None, "a is being worked on");
        queue.done("a", Outcome::Settled);
        assert_eq!(queue.next().await, "a");
        queue.done("a", Outcome::Settled);
        assert_eq!(take(&queue), None);
    }

    #[test]
    fn later_means_later_unless_something_changes() {
        let queue = Queue::default();
        let (mut state, start) = (queue.lock(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        state.add("a");
        assert_eq!(state.take(start), Some("a"));
        state.done("a", Outcome::Again(Duration::from_secs(60)), start);
        assert_eq!((state.take(after(59)), state.take(after(60))), (None, Some("a")));
        state.done("a", Outcome::Again(Duration::from_secs(60)), after(60));
        state.add("a");
        assert_eq!(state.take(after(61)), Some("a"));
        state.done("a", Outcome::Settled, after(61));
        assert!(state.delayed.is_empty() && state.due.is_empty());
    }

    #[test]
    fn failures_wait_longer_each_time() {
        let queue = Queue::default();
        let (mut state, mut now) = (queue.lock(), Instant::now());
        state.add("a");
        for factor in [1, 2, 4, 8] {
            assert_eq!(state.take(now), Some("a"));
            state.add("a");
            state.done("a", Outcome::Failed, now);
            assert_eq!(state.take(now + FIRST_BACKOFF * factor - Duration::from_millis(1)), None);
            now += FIRST_BACKOFF * factor;
        }
        assert_eq!(state.take(now), Some("a"));
        state.done("a", Outcome::Settled, now);
        assert!(state.failures.is_empty());
        assert_eq!(backoff(1000), LAST_BACKOFF);
    }

    #[tokio::test]
    async fn waiting_for_a_key_ends_when_one_comes() {
        let queue = std::sync::Arc::new(Queue::default());
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add("a");
        assert_eq!(waiting.await.unwrap(), "a");
    }
}
