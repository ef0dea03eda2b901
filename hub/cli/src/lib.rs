//! The client commands of the `hub` program; knows only the public API.
//!
//! ```text
//! commands/   one file a command: its arguments, what it asks, what it prints
//! connect     which hub: kubeconfig (flag, environment, data directory) and namespace
//! client      HTTPS with the kubeconfig's certificates; errors that name the way out
//! resources   what the hub serves (discovery), and the paths to it
//! manifests   YAML and JSON from files, directories and stdin
//! merge       what an apply changes: a three-way merge, pure
//! describe    one object for people, pure             table    the server's tables in columns, pure
//! output      -o json, yaml, name                     clock    the only place that reads one
//! ```
//! Data goes to stdout, talk to stderr, so that every command can stand in a pipe.

mod commands;

mod connect;
mod kubeconfig;

mod client;
mod resources;

mod manifests;
mod merge;

mod describe;
mod output;
mod table;

mod clock;

use std::process::ExitCode;

pub use commands::Command;

/// Runs one command; `program` is the whole program's definition, for shell completions.
pub fn run(command: Command, program: clap::Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hub: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(command, program)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough: `hub logs -f web | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}
