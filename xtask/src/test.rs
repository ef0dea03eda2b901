//! Everything that must hold, in the order in which it fails fastest.

use std::process::Command;

use anyhow::Result;
use clap::Args;
use harness::binaries::workspace_root;

use crate::build::{self, cargo};
use crate::tools::{self, step};

#[derive(Args)]
pub struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Skip formatting and lints
    #[arg(long)]
    no_lint: bool,
}

/// # Errors
/// Something does not hold.
pub fn run_cargo(args: &[&str]) -> Result<()> {
    tools::run(Command::new(cargo()).args(args).current_dir(workspace_root()))
}

/// # Errors
/// Something does not hold.
pub fn run(options: &Options) -> Result<()> {
    if !options.no_lint {
        step("checking the formatting");
        run_cargo(&["fmt", "--all", "--check"])?;
    }
    build::workspace()?;
    build::guests()?;
    let mut test = Command::new(cargo());
    test.args(["test", "--workspace", "--no-fail-fast"]).current_dir(workspace_root());
    test.env("WHERRY_KUBECTL", tools::kubectl()?).env("WHERRY_SOLVER", tools::solver()?);
    match tools::mosquitto()? {
        Some(program) => drop(test.env("WHERRY_MOSQUITTO", program)),
        None => step("no mosquitto here and no root to install it: the stories on a second broker are left out"),
    }
    if let Some(filter) = &options.filter {
        test.arg(filter);
    }
    step("running the tests");
    tools::run(&mut test)?;
    if !options.no_lint {
        step("linting");
        run_cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    }
    step("everything holds");
    Ok(())
}
