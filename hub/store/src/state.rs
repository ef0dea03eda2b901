//! What a store holds, and which commits hold against it: pure, shared by the backends.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::history::{History, HistoryLimits};
use crate::{Change, Entry, Expect, Op, Revision, StoreError};

#[derive(Debug)]
pub(crate) struct State {
    entries: BTreeMap<String, Arc<Entry>>,
    revision: Revision,
    history: History,
}

impl State {
    /// A state that was `entries` at `revision`, with nothing known of before.
    pub(crate) fn at(revision: Revision, entries: BTreeMap<String, Arc<Entry>>, limits: HistoryLimits) -> Self {
        Self { entries, revision, history: History::starting_after(revision, limits) }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// The entries of a page, and how many are left after it. See [`crate::Store::list`].
    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<Arc<Entry>>, u64) {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut range = self
            .entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries = range.by_ref().take(limit).cloned().collect();
        (entries, range.count() as u64)
    }

    /// A place to try commits before they happen.
    pub(crate) fn draft(&self) -> Draft {
        Draft { revision: self.revision, changes: Vec::new(), latest: HashMap::new() }
    }

    /// Makes the draft's changes happen. The draft must be of this state.
    pub(crate) fn adopt(&mut self, draft: Draft) {
        debug_assert!(draft.revision >= self.revision);
        for change in &draft.changes {
            match &change.now {
                Some(entry) => drop(self.entries.insert(change.key.clone(), entry.clone())),
                None => drop(self.entries.remove(&change.key)),
            }
        }
        self.revision = draft.revision;
        self.history.extend(draft.changes);
    }

    /// Jumps to `revision` if that is ahead, forgetting the history.
    pub(crate) fn advance(&mut self, revision: Revision) {
        if revision > self.revision {
            self.revision = revision;
            self.history.compact(revision);
        }
    }
}

/// Commits on top of a state that have not happened yet.
#[derive(Debug)]
pub(crate) struct Draft {
    revision: Revision,
    changes: Vec<Change>,
    /// Where in `changes` a key's last change is.
    latest: HashMap<String, usize>,
}

impl Draft {
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Adds one commit: all of `ops`, each seeing those before it, or none.
    pub(crate) fn commit(&mut self, base: &State, ops: Vec<Op>) -> Result<Revision, StoreError> {
        let revision = Revision(self.revision.0 + 1);
        let mut added: Vec<Change> = Vec::with_capacity(ops.len());
        for op in ops {
            let (key, value, expect) = match op {
                Op::Put { key, value, expect } => (key, Some(value), expect),
                Op::Delete { key, expect } => (key, None, expect),
            };
            let before = match added.iter().rev().find(|change| change.key == key) {
                Some(change) => change.now.clone(),
                None => self.entry(base, &key),
            };
            let actual = before.as_ref().map(|entry| entry.modified);
            if !holds(expect, actual) {
                return Err(StoreError::Conflict { key, actual });
            }
            if value.is_none() && before.is_none() {
                continue;
            }
            let now = value.map(|value| {
                let created = before.as_ref().map_or(revision, |entry| entry.created);
                Arc::new(Entry { key: key.clone(), value, created, modified: revision })
            });
            added.push(Change { revision, key, now, before });
        }
        if added.is_empty() {
            return Ok(self.revision);
        }
        for change in added {
            self.latest.insert(change.key.clone(), self.changes.len());
            self.changes.push(change);
        }
        self.revision = revision;
        Ok(revision)
    }

    /// The entry as it is after the draft.
    pub(crate) fn entry(&self, base: &State, key: &str) -> Option<Arc<Entry>> {
        match self.latest.get(key) {
            Some(&at) => self.changes[at].now.clone(),
            None => base.get(key).cloned(),
        }
    }
}

fn holds(expect: Expect, actual: Option<Revision>) -> bool {
    match expect {
        Expect::Anything => true,
        Expect::Absent => actual.is_none(),
        Expect::At(revision) => actual == Some(revision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(keys: &[&str]) -> State {
        let mut state = State::at(Revision(0), BTreeMap::new(), HistoryLimits::default());
        for key in keys {
            let mut draft = state.draft();
            draft.commit(&state, vec![put(key, Expect::Anything)]).unwrap();
            state.adopt(draft);
        }
        state
    }

    fn put(key: &str, expect: Expect) -> Op {
        Op::Put { key: key.to_owned(), value: Vec::new(), expect }
    }

    fn delete(key: &str, expect: Expect) -> Op {
        Op::Delete { key: key.to_owned(), expect }
    }

    /// What a commit on top of `a` at 1 and `b` at 2 comes to.
    fn check(ops: Vec<Op>, expected: &str) {
        let state = state(&["a", "b"]);
        let mut draft = state.draft();
        let got = match draft.commit(&state, ops) {
            Ok(revision) => format!("{} with {} changes", revision.0, draft.changes().len()),
            Err(error) => {
                assert!(draft.changes().is_empty(), "a refused commit left changes");
                error.to_string()
            }
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn a_commit_happens_whole_or_not() {
        check(vec![put("a", Expect::At(Revision(1)))], "3 with 1 changes");
        check(vec![put("a", Expect::At(Revision(2)))], "a was changed meanwhile");
        check(vec![put("a", Expect::Absent)], "a was changed meanwhile");
        check(vec![put("c", Expect::Absent), delete("b", Expect::Anything)], "3 with 2 changes");
        check(vec![put("c", Expect::Absent), delete("b", Expect::At(Revision(7)))], "b was changed meanwhile");
        check(vec![delete("c", Expect::At(Revision(1)))], "c was changed meanwhile");
    }

    #[test]
    fn what_changes_nothing_takes_no_revision() {
        check(vec![], "2 with 0 changes");
        check(vec![delete("c", Expect::Anything), delete("d", Expect::Absent)], "2 with 0 changes");
    }

    #[test]
    fn operations_of_one_commit_see_each_other() {
        check(vec![put("c", Expect::Absent), put("c", Expect::Absent)], "c was changed meanwhile");
        check(vec![delete("a", Expect::Anything), put("a", Expect::Absent)], "3 with 2 changes");
    }

    #[test]
    fn a_draft_sees_its_own_commits() {
        let mut state = state(&["a"]);
        let mut draft = state.draft();
        assert_eq!(draft.commit(&state, vec![put("a", Expect::At(Revision(1)))]).unwrap(), Revision(2));
        draft.commit(&state, vec![put("a", Expect::At(Revision(1)))]).unwrap_err();
        assert_eq!(draft.commit(&state, vec![delete("a", Expect::At(Revision(2)))]).unwrap(), Revision(3));
        assert_eq!(draft.commit(&state, vec![put("a", Expect::Absent)]).unwrap(), Revision(4));
        state.adopt(draft);
        let entry = state.get("a").unwrap();
        assert_eq!((entry.created, entry.modified), (Revision(4), Revision(4)));
    }

    #[test]
    fn pages_cover_a_prefix_once() {
        let state = state(&["a", "p/1", "p/2", "p/3", "q"]);
        let keys = |after, limit| {
            let (entries, remaining) = state.list("p/", after, limit);
            let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
            format!("{} +{remaining}", keys.join(" "))
        };
        assert_eq!(keys(None, 0), "p/1 p/2 p/3 +0");
        assert_eq!(keys(None, 2), "p/1 p/2 +1");
        assert_eq!(keys(Some("p/2"), 2), "p/3 +0");
        assert_eq!(keys(Some("a"), 1), "p/1 +2");
        assert_eq!(keys(Some("p/3"), 1), " +0");
        assert_eq!(keys(Some("z"), 1), " +0");
    }
}
