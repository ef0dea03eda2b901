//! Measures whole processes and prints one table; `cargo xtask bench` builds what is measured.
//!
//! ```text
//! api      a keep-alive HTTPS client: kubectl's start-up would drown what is measured
//! machine  what this ran on                       stats    medians and percentiles
//! rows     one module a group of figures          table    how it is printed
//! ```

mod api;
mod machine;
mod rows;
mod stats;
mod table;

use anyhow::Result;
use clap::Parser;

use crate::rows::Row;

#[derive(Parser)]
struct Args {
    /// Only groups whose name contains this
    only: Option<String>,
    /// Samples of a latency
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// Also write the table as Markdown to this file
    #[arg(long)]
    write: Option<std::path::PathBuf>,
}

type Group = (&'static str, fn(usize) -> Result<Vec<Row>>);

const GROUPS: [Group; 7] = [
    ("sizes", |_| rows::sizes::measure()),
    ("idle", |_| rows::idle::measure()),
    ("latency", rows::latency::measure),
    ("density", |_| rows::density::measure()),
    ("failover", |_| rows::failover::measure()),
    ("heartbeat", |_| rows::heartbeat::measure()),
    ("scheduler", |_| rows::scheduler::measure()),
];

fn main() -> Result<()> {
    let args = Args::parse();
    let head = machine::describe()?;
    println!("{head}");
    let mut rows = Vec::new();
    for (name, measure) in GROUPS {
        if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        eprintln!("==> measuring {name}");
        match measure(args.samples) {
            Ok(found) => rows.extend(found),
            // One figure that cannot be had must not hide the others, nor be passed over in silence.
            Err(error) => rows.push(Row::new(name, format!("not measured: {error:#}"), "")),
        }
    }
    println!("{}", table::text(&rows));
    if let Some(path) = args.write {
        std::fs::write(path, format!("# Benchmarks\n\n```text\n{head}\n```\n\n{}", table::markdown(&rows)))?;
    }
    Ok(())
}
