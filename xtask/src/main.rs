//! `cargo xtask`: what a person types in this repository.
//!
//! ```text
//! demo    a hub and three agents on this machine, shown at work     guests  builds wasm-apps
//! test    everything that must hold, as CI runs it                  bench   the table of figures
//! ```
//! Each gets what it needs by itself (compilers for guests, kubectl, a second broker) through the
//! ordinary package clients, and says so.

mod bench;
mod build;
mod demo;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, shows, tests and measures Wherry")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a hub and three agents at work on this machine, then leaves the cluster up
    Demo(demo::Options),
    /// Builds the guests in wasm-apps/
    Guests,
    /// Checks formatting and lints, and runs every test
    Test(test::Options),
    /// Measures and prints one table
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Guests => build::guests(),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
