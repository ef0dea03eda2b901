//! A process that writes is killed with -9 at any moment: what it acknowledged as durable is there
//! afterwards, commits are whole, and no revision is ever given out twice.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hub_store::redb::RedbStore;
use hub_store::{Expect, Op, Revision, Store, Write};

const ROUNDS: u64 = 20;
const DIR: &str = "WHERRY_CRASH_TEST_DIR";

/// What the writer says of one commit: `durable 17 key` or `relaxed 18 key`.
struct Acknowledged {
    durability: String,
    revision: u64,
    key: String,
}

#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut given: HashMap<u64, String> = HashMap::new();
    let mut durable: HashMap<String, u64> = HashMap::new();
    for round in 0..ROUNDS {
        // From "hardly started" to "well under way"; the scheduler adds the randomness.
        for line in write_and_die(dir.path(), Duration::from_millis(round * 37 % 150)) {
            if let Some(other) = given.insert(line.revision, line.key.clone()) {
                panic!("round {round}: revision {} went to {other} and to {}", line.revision, line.key);
            }
            if line.durability == "durable" {
                durable.insert(line.key, line.revision);
            }
        }

        let store = RedbStore::open(&path).unwrap();
        let newest = given.keys().max().copied().unwrap_or(0);
        assert!(store.revision() >= Revision(newest), "round {round}: the revision went back");
        for (key, revision) in &durable {
            for half in ["left", "right"] {
                let entry = store.get(&format!("{half}/{key}")).unwrap();
                let entry = entry.unwrap_or_else(|| panic!("round {round}: {half}/{key} is lost"));
                assert_eq!(entry.modified, Revision(*revision), "round {round}: {half}/{key}");
            }
        }
        let keys = |half: &str| -> Vec<String> {
            let entries = store.list(half, None, 0).unwrap().entries;
            entries.into_iter().map(|entry| entry.key[half.len()..].to_owned()).collect()
        };
        assert_eq!(keys("left/"), keys("right/"), "round {round}: half a commit survived");
    }
    assert!(durable.len() as u64 > ROUNDS, "the writer hardly wrote: {} commits", durable.len());
}

/// Runs the writer until it has acknowledged something and `extra` has passed; returns what it said.
fn write_and_die(dir: &std::path::Path, extra: Duration) -> Vec<Acknowledged> {
    let mut writer = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    let first = lines.by_ref().map_while(Result::ok).find_map(|line| parse(&line));
    said.push(first.expect("the writer acknowledges something before it ends"));
    std::thread::sleep(extra);
    writer.0.kill().unwrap();
    // What it wrote into the pipe before it died was acknowledged too.
    said.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    said
}

fn parse(line: &str) -> Option<Acknowledged> {
    let mut words = line.split(' ');
    let durability = words.next().filter(|word| ["durable", "relaxed"].contains(word))?.to_owned();
    let revision = words.next()?.parse().ok()?;
    // A line that the kill cut short has no end mark.
    let key = words.next().filter(|_| words.next() == Some("."))?.to_owned();
    Some(Acknowledged { durability, revision, key })
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
#[ignore = "the process that the test above kills"]
fn writer() {
    let dir = std::env::var_os(DIR).expect("started by the test above");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(RedbStore::open(std::path::Path::new(&dir).join("store.redb")).unwrap());
        let writers = (0..4).map(|writer| tokio::spawn(write_forever(store.clone(), writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

async fn write_forever(store: Arc<RedbStore>, writer: u32) {
    for n in 0.. {
        let (write, word) = if n % 3 == 0 { (Write::Durable, "durable") } else { (Write::Relaxed, "relaxed") };
        let key = format!("{writer}-{}-{n}", std::process::id());
        let ops = ["left", "right"].map(|half| Op::Put {
            key: format!("{half}/{key}"),
            value: vec![7; 200],
            expect: Expect::Absent,
        });
        let revision = store.commit(ops.into(), write).await.unwrap();
        let mut out = std::io::stdout().lock();
        // The parent may be gone: then the pipe breaks, and this process ends.
        writeln!(out, "{word} {} {key} .", revision.0).unwrap();
        out.flush().unwrap();
    }
}
