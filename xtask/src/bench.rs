//! Figures, measured on whole processes; see `docs/benchmarks.md`.

use anyhow::{Result, bail};
use clap::Args;

#[derive(Args)]
pub struct Options {
    /// Only the rows whose name contains this
    only: Option<String>,
}

/// # Errors
/// Something cannot be measured.
pub fn run(options: &Options) -> Result<()> {
    let _ = &options.only;
    bail!("there is nothing to measure yet")
}
