//! The client commands of the `hub` program; knows only the public API.

use std::process::ExitCode;

/// The commands beside `hub serve`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the version of this program
    Version,
}

/// Runs one command; `program` is the whole program's definition, for shell completions.
pub fn run(command: Command, program: clap::Command) -> ExitCode {
    match command {
        Command::Version => println!("{}", program.render_version().trim_end()),
    }
    ExitCode::SUCCESS
}
