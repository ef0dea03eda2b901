//! Nodes that want another look: each queued once, worked on by one task at a time.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::NodeName;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// After a failure, before the next look.
const RETRY: Duration = Duration::from_secs(1);

/// Bounded by the number of nodes, as each is in it once.
#[derive(Default)]
pub(super) struct Dirty {
    nodes: Mutex<BTreeSet<NodeName>>,
    wake: Notify,
}

impl Dirty {
    pub(super) fn mark(&self, node: &NodeName) {
        self.mark_all([node.clone()]);
    }

    pub(super) fn mark_all(&self, nodes: impl IntoIterator<Item = NodeName>) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).extend(nodes);
        self.wake.notify_one();
    }

    async fn take(&self) -> BTreeSet<NodeName> {
        loop {
            let taken = std::mem::take(&mut *self.nodes.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// It failed; look again soon.
    Retry,
}

/// Looks at dirty nodes for ever, at `limit` of them at once. After a look a node rests for `rest`, so
/// that the first change of a burst is acted on at once and the others together.
pub(super) async fn work<L, F>(dirty: &Dirty, limit: usize, rest: Duration, look: L)
where
    L: Fn(NodeName) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut waiting = BTreeSet::new();
    let mut busy = BTreeSet::new();
    let mut tasks = JoinSet::new();
    loop {
        let free: Vec<NodeName> = waiting.difference(&busy).take(limit.saturating_sub(busy.len())).cloned().collect();
        for node in free {
            waiting.remove(&node);
            busy.insert(node.clone());
            let looking = look(node.clone());
            tasks.spawn(async move {
                let outcome = looking.await;
                tokio::time::sleep(if outcome == Outcome::Retry { RETRY } else { rest }).await;
                (node, outcome)
            });
        }
        tokio::select! {
            taken = dirty.take() => waiting.extend(taken),
            Some(ended) = tasks.join_next() => match ended {
                Ok((node, outcome)) => {
                    busy.remove(&node);
                    if outcome == Outcome::Retry {
                        waiting.insert(node);
                    }
                }
                // Our bug; its node stays busy and is not looked at again, the others go on.
                Err(panic) => tracing::error!(error = &panic as &dyn std::error::Error, "a look at a node failed"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::watch;

    #[tokio::test]
    async fn a_burst_is_two_looks_and_a_failure_is_retried() {
        let dirty = Arc::new(Dirty::default());
        let (looks, mut seen) = watch::channel(0);
        let node: NodeName = "pi-1".parse().unwrap();
        let queue = dirty.clone();
        let worker = tokio::spawn(async move {
            work(&queue, 4, Duration::from_millis(50), move |_| {
                looks.send_modify(|looks| *looks += 1);
                let outcome = if *looks.borrow() == 2 { Outcome::Retry } else { Outcome::Done };
                std::future::ready(outcome)
            })
            .await;
        });
        dirty.mark(&node);
        seen.wait_for(|looks| *looks == 1).await.unwrap();
        for _ in 0..100 {
            dirty.mark(&node);
            tokio::task::yield_now().await;
        }
        let third = tokio::time::timeout(Duration::from_secs(10), seen.wait_for(|looks| *looks >= 3)).await;
        assert_eq!(*third.expect("a failed look is repeated").unwrap(), 3);
        worker.abort();
    }
}
