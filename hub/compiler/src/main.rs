//! `hub-compiler`: the worker that touches what users push.
//!
//! Parsing, adapting and compiling foreign WebAssembly happens in this process and no other: it limits its own
//! memory and CPU time, has no network and no files, reads one input from stdin and writes one result to stdout.
//! Whatever a hostile file does to it, the hub sees an exit code and one line of text.
//!
//! ```text
//! hub-compiler componentize   wasm -> component    (a preview 1 command is adapted, a component passes)
//! hub-compiler inspect        component -> JSON    (kind, imports, exports)
//! hub-compiler compile ...    component -> artifact
//! hub-compiler engine         prints the engine version it compiles for
//! ```
//! Exit code 1 with one line on stderr is a refusal. Death by a signal means that a limit was hit:
//! SIGXCPU the CPU time, SIGABRT the memory.

mod args;
mod compile;
mod componentize;
mod exit;
mod inspect;
mod limits;
mod parse;

use std::io::{Read, Write};
use std::panic::catch_unwind;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::args::{Args, Command};

/// Larger files are refused unread. The hub has a limit of its own for pushes, which users meet first.
const INPUT_MAX: u64 = 256 << 20;

/// Longest reason in bytes: it ends up in an event that a person reads.
const REASON_MAX: usize = 600;

fn main() -> ExitCode {
    let args = Args::parse();
    // A panic is our bug or the compiler's, but still one line and a plain exit code to the hub.
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(|| run(&args)).unwrap_or_else(|_| Err(anyhow::anyhow!("the compiler gave up on it")));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    limits::apply(args.max_memory, args.max_cpu_seconds).context("cannot limit this process")?;
    let output = match &args.command {
        Command::Engine => format!("{}\n", artifact::ENGINE).into_bytes(),
        Command::Componentize => componentize::componentize(input()?)?,
        Command::Inspect => {
            let mut text = serde_json::to_vec(&inspect::inspect(&input()?)?).context("cannot write the answer")?;
            text.push(b'\n');
            text
        }
        Command::Compile(target) => compile::compile(&target.target(), &input()?)?,
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&output).and_then(|()| stdout.flush()).context("cannot write the result")
}

fn input() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(INPUT_MAX + 1).read_to_end(&mut bytes).context("cannot read the input")?;
    anyhow::ensure!(bytes.len() as u64 <= INPUT_MAX, "the file is larger than {} MiB", INPUT_MAX >> 20);
    Ok(bytes)
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > REASON_MAX {
        let end = (0..=REASON_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(one_line("a\n  b: c\n"), "a b: c");
        let long = one_line(&"ä".repeat(REASON_MAX));
        assert!(long.ends_with("ä..."), "{long}");
        assert!(long.len() <= REASON_MAX + 3);
    }
}
