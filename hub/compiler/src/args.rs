//! The command line: the contract between the hub and this worker.

use clap::{Parser, Subcommand, ValueEnum};
use protocol::reported::{MemoryProfile, Target};

#[derive(Debug, Parser)]
#[command(name = "hub-compiler", about = "Turns pushed WebAssembly into what agents run; driven by the hub")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Bytes of address space this process may use.
    #[arg(long, global = true)]
    pub(crate) max_memory: Option<u64>,
    /// Seconds of CPU time, over all its threads, after which it is killed.
    #[arg(long, global = true)]
    pub(crate) max_cpu_seconds: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the engine version that this worker compiles for.
    Engine,
    /// Read a component or a preview 1 command from stdin, write a component.
    Componentize,
    /// Read a component from stdin, write its kind, imports and exports as JSON.
    Inspect,
    /// Read a component from stdin, write the artifact.
    Compile(CompileArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompileArgs {
    #[arg(long)]
    triple: String,
    /// Comma-separated, in the code generator's words; empty for the triple's baseline.
    #[arg(long, default_value = "", value_delimiter = ',')]
    cpu_features: Vec<String>,
    #[arg(long, value_enum)]
    memory: Memory,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Memory {
    Fast,
    Compact,
}

impl CompileArgs {
    pub(crate) fn target(&self) -> Target {
        Target {
            triple: self.triple.clone(),
            cpu_features: self.cpu_features.iter().filter(|f| !f.is_empty()).cloned().collect(),
            memory: match self.memory {
                Memory::Fast => MemoryProfile::Fast,
                Memory::Compact => MemoryProfile::Compact,
            },
            engine: artifact::ENGINE.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_features_is_the_baseline() {
        for words in [&["--cpu-features", ""][..], &[]] {
            let line = [&["hub-compiler", "compile", "--triple", "t", "--memory", "compact"], words].concat();
            let Command::Compile(args) = Args::try_parse_from(line).unwrap().command else { panic!("compile") };
            assert_eq!(args.target().cpu_features, Vec::<String>::new());
            assert_eq!(args.target().memory, MemoryProfile::Compact);
        }
    }
}
