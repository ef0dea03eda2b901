//! The command line and its environment. What the values mean is checked in `config`.

use std::path::PathBuf;
use std::time::Duration;

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
    /// First wait before a container restarts, such as 500ms, 10s or 5m; tests shorten it
    #[arg(long, env = "WHERRY_AGENT_BACKOFF_BASE", hide = true, default_value = "10s", value_parser = duration)]
    pub backoff_base: Duration,
    /// The waits double up to this
    #[arg(long, env = "WHERRY_AGENT_BACKOFF_MAX", hide = true, default_value = "5m", value_parser = duration)]
    pub backoff_max: Duration,
    /// A container that ran so long starts over with the first wait
    #[arg(long, env = "WHERRY_AGENT_BACKOFF_RESET", hide = true, default_value = "10m", value_parser = duration)]
    pub backoff_reset: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MemoryProfile {
    Auto,
    Fast,
    Compact,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a number and ms, s, m or h, such as 500ms or 10s")]
pub struct InvalidDuration;

/// `500ms`, `10s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidDuration)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(InvalidDuration),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or(InvalidDuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(duration(text).ok(), want.map(Duration::from_millis), "{text:?}")
        };
        check("500ms", Some(500));
        check("10s", Some(10_000));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        for wrong in ["", "10", "s", "1d", "-1s", "1.5s", "99999999999999999999s", "9999999999999999999h"] {
            check(wrong, None);
        }
    }
}
