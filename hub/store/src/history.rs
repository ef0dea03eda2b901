//! The bounded log of recent changes: what watches read.

use std::collections::VecDeque;

use crate::{Change, Revision, StoreError};

/// How much a store remembers for its watchers. Whichever bound is hit first drops the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    pub changes: usize,
    /// Of keys and values, before and after; entries that are still current are counted too.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    /// Five minutes of a busy hub (50 changes a second), in what a 512 MB machine can spare.
    fn default() -> Self {
        Self { changes: 16 * 1024, bytes: 16 * 1024 * 1024 }
    }
}

/// Changes in order of revision. One commit's changes share a revision, and stay or go together.
#[derive(Debug)]
pub(crate) struct History {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Every change after this one is kept.
    oldest: Revision,
    limits: HistoryLimits,
}

impl History {
    pub(crate) fn starting_after(oldest: Revision, limits: HistoryLimits) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, oldest, limits }
    }

    pub(crate) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// Adds whole commits.
    pub(crate) fn extend(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.bytes += size(&change);
            self.changes.push_back(change);
        }
        while self.changes.len() > self.limits.changes || self.bytes > self.limits.bytes {
            self.drop_oldest_commit();
        }
    }

    /// Forgets everything up to `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) {
        while self.changes.front().is_some_and(|change| change.revision <= revision) {
            self.drop_oldest_commit();
        }
        self.oldest = self.oldest.max(revision);
    }

    fn drop_oldest_commit(&mut self) {
        let Some(revision) = self.changes.front().map(|change| change.revision) else { return };
        while let Some(change) = self.changes.front().filter(|change| change.revision == revision) {
            self.bytes -= size(change);
            self.changes.pop_front();
        }
        self.oldest = revision;
    }

    /// About `limit` changes below `prefix` after `from`, and the revision up to which they are complete.
    pub(crate) fn after(
        &self,
        from: Revision,
        prefix: &str,
        limit: usize,
    ) -> Result<(Vec<Change>, Revision), StoreError> {
        if from < self.oldest {
            return Err(StoreError::Compacted { wanted: from, oldest: self.oldest });
        }
        let start = self.changes.partition_point(|change| change.revision <= from);
        let (mut found, mut seen) = (Vec::new(), from);
        for change in self.changes.range(start..) {
            // A commit is never torn: the limit counts only where a new revision begins.
            if found.len() >= limit && change.revision > seen {
                break;
            }
            seen = change.revision;
            if change.key.starts_with(prefix) {
                found.push(change.clone());
            }
        }
        Ok((found, seen))
    }
}

fn size(change: &Change) -> usize {
    let value =
        |entry: &Option<std::sync::Arc<crate::Entry>>| entry.as_ref().map_or(0, |e| e.value.len() + e.key.len());
    change.key.len() + value(&change.now) + value(&change.before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, key: &str) -> Change {
        Change { revision: Revision(revision), key: key.to_owned(), now: None, before: None }
    }

    /// What a watcher of `prefix` gets after `from`, as `revision key` words and the revision it has then seen.
    fn check(history: &History, prefix: &str, from: u64, limit: usize, expected: &str) {
        let got = match history.after(Revision(from), prefix, limit) {
            Ok((changes, seen)) => {
                let words: Vec<String> = changes.iter().map(|c| format!("{}{}", c.revision.0, c.key)).collect();
                format!("{} to {}", words.join(" "), seen.0)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got.trim(), expected, "{prefix:?} after {from}");
    }

    #[test]
    fn a_reader_gets_whole_commits_in_order() {
        let mut history = History::starting_after(Revision(4), HistoryLimits::default());
        history.extend([change(5, "a"), change(6, "b"), change(6, "a"), change(9, "c")]);
        check(&history, "", 4, 10, "5a 6b 6a 9c to 9");
        check(&history, "", 5, 10, "6b 6a 9c to 9");
        check(&history, "", 7, 10, "9c to 9");
        check(&history, "", 9, 10, "to 9");
        check(&history, "a", 4, 10, "5a 6a to 9");
        check(&history, "x", 4, 10, "to 9");
        check(&history, "", 5, 1, "6b 6a to 6");
        check(&history, "", 3, 10, "revision 3 is older than the kept history, which starts after 4");
    }

    #[test]
    fn the_oldest_commits_go_whole() {
        let mut history = History::starting_after(Revision(0), HistoryLimits { changes: 3, bytes: usize::MAX });
        history.extend([change(1, "a"), change(1, "b"), change(2, "c"), change(3, "d")]);
        check(&history, "", 1, 10, "2c 3d to 3");
        check(&history, "", 0, 10, "revision 0 is older than the kept history, which starts after 1");
        history.compact(Revision(7));
        check(&history, "", 7, 10, "to 7");
        check(&history, "", 6, 10, "revision 6 is older than the kept history, which starts after 7");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut history = History::starting_after(Revision(0), HistoryLimits { changes: 100, bytes: 10 });
        history.extend((1..=20).map(|revision| change(revision, "four")));
        check(&history, "", 18, 10, "19four 20four to 20");
        assert_eq!(history.oldest(), Revision(18));
    }
}
