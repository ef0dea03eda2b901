//! Commits a second on the disk below a directory: `cargo run --example throughput -- DIR`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_store::redb::RedbStore;
use hub_store::{Expect, Op, Store, Write};

const LASTS: Duration = Duration::from_secs(3);
/// A small pod's JSON.
const VALUE_BYTES: usize = 2_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("name a directory on the disk to measure")?;
    let path = std::path::Path::new(&dir).join(format!("throughput-{}.redb", std::process::id()));
    println!("{:>8} {:>8} {:>12}", "write", "tasks", "commits/s");
    for write in [Write::Durable, Write::Relaxed] {
        for tasks in [1, 16, 128] {
            let store = Arc::new(RedbStore::open(&path)?);
            let start = Instant::now();
            let workers: Vec<_> =
                (0..tasks).map(|task| tokio::spawn(work(store.clone(), write, task, start))).collect();
            let mut commits = 0;
            for worker in workers {
                commits += worker.await?;
            }
            println!(
                "{:>8} {tasks:>8} {:>12.0}",
                format!("{write:?}"),
                f64::from(commits) / start.elapsed().as_secs_f64()
            );
        }
    }
    std::fs::remove_file(path)?;
    Ok(())
}

async fn work(store: Arc<RedbStore>, write: Write, task: u32, start: Instant) -> u32 {
    let mut commits = 0;
    while start.elapsed() < LASTS {
        let key = format!("pods/{task}/{}", commits % 100);
        let op = Op::Put { key, value: vec![b'x'; VALUE_BYTES], expect: Expect::Anything };
        store.commit(vec![op], write).await.expect("a put without a condition happens");
        commits += 1;
    }
    commits
}
