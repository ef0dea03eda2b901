//! The command line and its environment. What the values mean is checked in `config`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "edge-agent", version, about = "Runs Wherry's pods on this machine", max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    /// What to log: error, warn, info, debug, trace, or a filter such as `edge_agent=debug`
    #[arg(long, global = true, env = "WHERRY_AGENT_LOG", default_value = "info")]
    pub log: String,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join the hub if this machine has not yet, then run its pods
    Run(Box<RunArgs>),
    /// Join the hub and stop: for images and installers
    Join(JoinArgs),
}

#[derive(Debug, Clone, ClapArgs)]
pub struct JoinArgs {
    /// The hub's address, such as https://hub:6443
    #[arg(long, env = "WHERRY_AGENT_HUB")]
    pub hub: Option<String>,
    /// From `hub token create`; needed to join only
    #[arg(long, env = "WHERRY_AGENT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// This node's name; the host name unless given
    #[arg(long, env = "WHERRY_AGENT_NAME")]
    pub name: Option<String>,
    /// Where identity, ledger and cache live
    #[arg(long, env = "WHERRY_AGENT_DATA_DIR", default_value = "/var/lib/wherry-agent")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct RunArgs {
    #[command(flatten)]
    pub join: JoinArgs,
    /// Labels of the node: a=b,c=d
    #[arg(long, env = "WHERRY_AGENT_LABELS", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// CPUs to offer, such as 2 or 500m; all unless given
    #[arg(long, env = "WHERRY_AGENT_CPU")]
    pub cpu: Option<String>,
    /// Memory to offer, such as 512Mi; all unless given
    #[arg(long, env = "WHERRY_AGENT_MEMORY")]
    pub memory: Option<String>,
    /// Pods to accept at most
    #[arg(long, env = "WHERRY_AGENT_PODS", default_value_t = crate::config::PODS)]
    pub pods: u32,
    /// Directories that hostPath volumes may show; none unless given
    #[arg(long, env = "WHERRY_AGENT_ALLOW_HOST_PATH", value_delimiter = ':')]
    pub allow_host_path: Vec<PathBuf>,
    /// How guests' memories are laid out; `auto` looks at the address space
    #[arg(long, env = "WHERRY_AGENT_MEMORY_PROFILE", value_enum, default_value_t = MemoryProfile::Auto)]
    pub memory_profile: MemoryProfile,
    /// Bytes the cache of compiled images may take, such as 1Gi
    #[arg(long, env = "WHERRY_AGENT_CACHE", default_value = "2Gi")]
    pub cache: String,
    /// First wait of a restart in milliseconds; tests shorten it
    #[arg(long, env = "WHERRY_AGENT_BACKOFF_BASE", hide = true, default_value_t = 10_000)]
    pub backoff_base: u64,
    #[arg(long, env = "WHERRY_AGENT_BACKOFF_MAX", hide = true, default_value_t = 300_000)]
    pub backoff_max: u64,
    #[arg(long, env = "WHERRY_AGENT_BACKOFF_RESET", hide = true, default_value_t = 600_000)]
    pub backoff_reset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MemoryProfile {
    Auto,
    Fast,
    Compact,
}
