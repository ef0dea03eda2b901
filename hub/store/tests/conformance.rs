//! What every backend must do: one suite, run on each. A new backend is one more line at the end.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_store::memory::MemoryStore;
use hub_store::redb::RedbStore;
use hub_store::{Backend, Change, Entry, Expect, HistoryLimits, Op, Revision, Store, StoreError, Watch, Write};

/// Small enough to overrun in a test, large enough for the tests that must not.
const HISTORY: HistoryLimits = HistoryLimits { changes: 4_000, bytes: 1 << 20 };

fn put(key: &str, value: &str, expect: Expect) -> Op {
    Op::Put { key: key.to_owned(), value: value.as_bytes().to_vec(), expect }
}

fn delete(key: &str, expect: Expect) -> Op {
    Op::Delete { key: key.to_owned(), expect }
}

/// The next batch, or the test fails.
async fn next(watch: &mut Watch) -> Result<Vec<Change>, StoreError> {
    tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("a change arrives in time")
}

/// Changes up to and including `last`.
async fn until(watch: &mut Watch, last: Revision) -> Vec<Change> {
    let mut all = Vec::new();
    while all.last().is_none_or(|change: &Change| change.revision < last) {
        all.extend(next(watch).await.unwrap());
    }
    all
}

async fn entries_keep_when_they_were_made_and_changed(store: Backend) {
    let start = store.revision();
    assert_eq!(store.get("a").unwrap(), None);
    let made = store.commit(vec![put("a", "1", Expect::Absent)], Write::Durable).await.unwrap();
    assert_eq!(made.0, start.0 + 1);
    let changed = store.commit(vec![put("a", "2", Expect::At(made))], Write::Relaxed).await.unwrap();
    let entry = store.get("a").unwrap().unwrap();
    assert_eq!(entry, Entry { key: "a".into(), value: b"2".into(), created: made, modified: changed });
    store.commit(vec![delete("a", Expect::At(changed))], Write::Durable).await.unwrap();
    assert_eq!(store.get("a").unwrap(), None);
    assert_eq!(store.revision().0, start.0 + 3);
}

async fn a_stale_write_names_the_key_and_its_revision(store: Backend) {
    let made = store.commit(vec![put("a", "1", Expect::Absent)], Write::Durable).await.unwrap();
    for (op, expected) in [
        (put("a", "2", Expect::Absent), Some(made)),
        (delete("a", Expect::At(Revision(made.0 + 7))), Some(made)),
        (put("b", "2", Expect::At(made)), None),
    ] {
        match store.commit(vec![put("c", "", Expect::Anything), op], Write::Durable).await {
            Err(StoreError::Conflict { key, actual }) => assert_eq!(actual, expected, "{key}"),
            other => panic!("expected a conflict, got {other:?}"),
        }
    }
    assert_eq!(store.revision(), made, "a refused commit took a revision");
    assert_eq!(store.get("c").unwrap(), None, "a refused commit left a change");
}

async fn one_of_many_racing_writers_wins(store: Backend) {
    let store = Arc::new(store);
    store.commit(vec![put("counter", "0", Expect::Absent)], Write::Durable).await.unwrap();
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    loop {
                        let entry = store.get("counter").unwrap().unwrap();
                        let count: u64 = String::from_utf8(entry.value).unwrap().parse().unwrap();
                        let op = put("counter", &(count + 1).to_string(), Expect::At(entry.modified));
                        match store.commit(vec![op], Write::Relaxed).await {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap();
    }
    assert_eq!(store.get("counter").unwrap().unwrap().value, b"200");
}

async fn watches_are_ordered_and_gap_free_under_concurrent_writers(store: Backend) {
    let store = Arc::new(store);
    let from = store.revision();
    let mut whole = store.watch("w/", from).unwrap();
    let mut part = store.watch("w/3/", from).unwrap();
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..60 {
                    let ops = vec![
                        put(&format!("w/{writer}/a"), &round.to_string(), Expect::Anything),
                        put(&format!("w/{writer}/b{round}"), "", Expect::Absent),
                        put(&format!("elsewhere/{writer}"), "", Expect::Anything),
                    ];
                    let write = if round % 10 == 0 { Write::Durable } else { Write::Relaxed };
                    store.commit(ops, write).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let changes = until(&mut whole, store.revision()).await;
    assert_eq!(changes.len(), 6 * 60 * 2);
    assert!(changes.is_sorted_by_key(|change| change.revision));
    // Replaying them over nothing gives what the store holds: nothing was lost, doubled or swapped.
    let mut replayed = BTreeMap::new();
    for change in &changes {
        let before = replayed.insert(change.key.clone(), change.now.clone().unwrap());
        assert_eq!(before, change.before, "{change:?}");
    }
    let listed = store.list("w/", None, 0).unwrap();
    assert_eq!(listed.entries, replayed.into_values().map(Arc::unwrap_or_clone).collect::<Vec<_>>());

    let last = changes.iter().rfind(|change| change.key.starts_with("w/3/")).unwrap().revision;
    let expected: Vec<Change> = changes.into_iter().filter(|change| change.key.starts_with("w/3/")).collect();
    assert_eq!(until(&mut part, last).await, expected);
}

async fn a_watch_starts_where_it_is_asked_to(store: Backend) {
    let first = store.commit(vec![put("a", "1", Expect::Anything)], Write::Relaxed).await.unwrap();
    let second = store.commit(vec![delete("a", Expect::Anything)], Write::Relaxed).await.unwrap();
    let mut watch = store.watch("", first).unwrap();
    let changes = next(&mut watch).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].revision, changes[0].now.is_none()), (second, true));
    assert_eq!(changes[0].before.as_ref().unwrap().modified, first);
    assert_eq!(watch.seen(), second);

    assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err(), "nothing happened");
    let third = store.commit(vec![put("b", "", Expect::Anything)], Write::Relaxed).await.unwrap();
    assert_eq!(until(&mut watch, third).await.len(), 1, "the abandoned wait lost nothing");

    let future = Revision(third.0 + 1);
    assert!(matches!(store.watch("", future), Err(StoreError::Future { wanted, .. }) if wanted == future));
}

async fn a_watcher_sees_past_other_prefixes(store: Backend) {
    let mut watch = store.watch("mine/", store.revision()).unwrap();
    for n in 0..1_000 {
        store.commit(vec![put("theirs", &n.to_string(), Expect::Anything)], Write::Relaxed).await.unwrap();
    }
    let quiet = store.revision();
    assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err());
    assert_eq!(watch.seen(), quiet);
    let mine = store.commit(vec![put("mine/1", "", Expect::Anything)], Write::Relaxed).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap()[0].revision, mine);
}

async fn pages_cover_a_prefix(store: Backend) {
    let keys: Vec<String> = (0..25).map(|n| format!("p/{n:02}")).collect();
    let ops = keys.iter().map(|key| put(key, key, Expect::Absent)).collect();
    let revision = store.commit(ops, Write::Durable).await.unwrap();
    store.commit(vec![put("o", "", Expect::Absent), put("q", "", Expect::Absent)], Write::Durable).await.unwrap();

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.list("p/", after.as_deref(), 10).unwrap();
        assert_eq!(page.revision, Revision(revision.0 + 1));
        assert!(page.entries.iter().all(|entry| entry.created == revision));
        seen.extend(page.entries.iter().map(|entry| entry.key.clone()));
        assert_eq!(page.remaining as usize, keys.len() - seen.len());
        assert_eq!(page.more, page.remaining > 0);
        if !page.more {
            break;
        }
        after = seen.last().cloned();
    }
    assert_eq!(seen, keys);
    assert_eq!(store.list("p/", None, 0).unwrap().entries.len(), 25);
    assert_eq!(store.list("nothing/", None, 0).unwrap().entries, []);
}

async fn a_watcher_that_falls_behind_is_told(store: Backend) {
    let from = store.commit(vec![put("a", "", Expect::Anything)], Write::Durable).await.unwrap();
    let mut slow = store.watch("", from).unwrap();
    for n in 0..HISTORY.changes + 10 {
        store.commit(vec![put("a", &n.to_string(), Expect::Anything)], Write::Relaxed).await.unwrap();
    }
    assert!(matches!(next(&mut slow).await, Err(StoreError::Compacted { .. })));
    match store.watch("", from) {
        Err(StoreError::Compacted { wanted, oldest }) => {
            assert_eq!(wanted, from);
            let mut rest = store.watch("", oldest).unwrap();
            assert_eq!(until(&mut rest, store.revision()).await.len(), HISTORY.changes);
        }
        other => panic!("expected Compacted, got {other:?}"),
    }
}

async fn advancing_jumps_and_compacts(store: Backend) {
    let from = store.commit(vec![put("a", "1", Expect::Anything)], Write::Durable).await.unwrap();
    let mut watch = store.watch("", from).unwrap();
    let far = Revision(from.0 + 1_000_000);
    assert_eq!(store.advance(far).await.unwrap(), far);
    assert_eq!(store.revision(), far);
    assert!(matches!(next(&mut watch).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.watch("", from), Err(StoreError::Compacted { .. })));
    assert_eq!(store.advance(from).await.unwrap(), far, "it never goes back");
    assert_eq!(store.get("a").unwrap().unwrap().modified, from, "entries keep their revisions");
    let next = store.commit(vec![put("a", "2", Expect::At(from))], Write::Durable).await.unwrap();
    assert_eq!(next.0, far.0 + 1);
}

async fn closing_ends_watches(store: Backend) {
    let mut watch = store.watch("", store.revision()).unwrap();
    store.commit(vec![put("a", "", Expect::Anything)], Write::Durable).await.unwrap();
    store.flush().await.unwrap();
    drop(store);
    assert_eq!(next(&mut watch).await.unwrap().len(), 1, "what happened before is delivered");
    assert!(matches!(next(&mut watch).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn redb_holds_everything_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = RedbStore::open(&path).unwrap();
    let durable = store.commit(vec![put("d", "1", Expect::Absent)], Write::Durable).await.unwrap();
    let relaxed = store.commit(vec![put("r", "2", Expect::Absent)], Write::Relaxed).await.unwrap();
    store.commit(vec![put("gone", "", Expect::Absent)], Write::Durable).await.unwrap();
    let last = store.commit(vec![delete("gone", Expect::Anything)], Write::Relaxed).await.unwrap();
    drop(store);

    let store = RedbStore::open(&path).unwrap();
    let entries = store.list("", None, 0).unwrap().entries;
    let expected = [("d", "1", durable), ("r", "2", relaxed)].map(|(key, value, revision)| Entry {
        key: key.into(),
        value: value.into(),
        created: revision,
        modified: revision,
    });
    assert_eq!(entries, expected);
    assert!(store.revision() > last);
    assert!(matches!(store.watch("", last), Err(StoreError::Compacted { .. })));
    let far = Revision(last.0 + 1_000_000);
    store.advance(far).await.unwrap();
    drop(store);
    assert!(RedbStore::open(&path).unwrap().revision() >= far, "an advance is durable");
}

#[tokio::test]
async fn redb_refuses_a_second_process_and_foreign_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let first = RedbStore::open(&path).unwrap();
    assert!(matches!(RedbStore::open(&path), Err(StoreError::InUse)));
    drop(first);
    RedbStore::open(&path).unwrap();

    let foreign = dir.path().join("foreign");
    std::fs::write(&foreign, "a text file of some length, which is no store at all").unwrap();
    assert!(matches!(RedbStore::open(&foreign), Err(StoreError::Backend(_))));
}

#[tokio::test]
async fn redb_tells_of_a_file_that_was_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = RedbStore::open(&path).unwrap();
    for n in 0..50 {
        let op = put(&format!("k{n}"), &"x".repeat(5_000), Expect::Absent);
        store.commit(vec![op], Write::Durable).await.unwrap();
    }
    drop(store);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for length in [file.metadata().unwrap().len() / 2, 5_000, 100] {
        file.set_len(length).unwrap();
        let opened = RedbStore::open(&path);
        assert!(matches!(opened, Err(StoreError::Backend(_))), "{length} bytes: {opened:?}");
    }
}

macro_rules! conformance {
    ($backend:ident, $open:expr, [$($case:ident),* $(,)?]) => {
        mod $backend {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let dir = tempfile::tempdir().unwrap();
                    let open: fn(&std::path::Path) -> Backend = $open;
                    super::$case(open(dir.path())).await;
                }
            )*
        }
    };
    ($($backend:ident: $open:expr;)*) => {
        $(conformance!($backend, $open, [
            entries_keep_when_they_were_made_and_changed,
            a_stale_write_names_the_key_and_its_revision,
            one_of_many_racing_writers_wins,
            watches_are_ordered_and_gap_free_under_concurrent_writers,
            a_watch_starts_where_it_is_asked_to,
            a_watcher_sees_past_other_prefixes,
            pages_cover_a_prefix,
            a_watcher_that_falls_behind_is_told,
            advancing_jumps_and_compacts,
            closing_ends_watches,
        ]);)*
    };
}

conformance! {
    memory: |_| MemoryStore::with_history(HISTORY).into();
    redb: |dir| RedbStore::open_with_history(dir.join("store.redb"), HISTORY).unwrap().into();
}
