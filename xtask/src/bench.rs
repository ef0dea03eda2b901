//! Builds what ships and runs the program that measures it.

use std::process::Command;

use anyhow::Result;
use clap::Args;
use harness::binaries::workspace_root;

use crate::build::{self, cargo};
use crate::tools::{self, step};

#[derive(Args)]
pub struct Options {
    /// Only groups whose name contains this: sizes, idle, latency, density, failover, heartbeat, scheduler
    only: Option<String>,
    /// Samples of a latency
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// Measure the dev build instead: quick to try, worthless to quote
    #[arg(long)]
    dev: bool,
}

/// # Errors
/// Something does not build or cannot be measured.
pub fn run(options: &Options) -> Result<()> {
    build::guests()?;
    let root = workspace_root();
    let mut measure = Command::new(cargo());
    measure.args(["run", "--quiet", "--package", "bench"]).current_dir(&root);
    if options.dev {
        build::workspace()?;
    } else {
        // One package at a time: a workspace build would put the compiler into the agent.
        for package in ["edge-agent", "hub", "hub-compiler"] {
            step(&format!("building {package} as it ships (link-time optimisation takes minutes)"));
            tools::run(
                Command::new(cargo()).args(["build", "--profile", "dist", "--package", package]).current_dir(&root),
            )?;
        }
        measure.args(["--release"]).env("WHERRY_BIN_DIR", root.join("target/dist"));
    }
    measure.arg("--").args(["--samples", &options.samples.to_string()]);
    if options.only.is_none() && !options.dev {
        measure.args(["--write", "docs/benchmarks.md"]);
    }
    measure.args(&options.only);
    tools::run(&mut measure)
}
