//! The validated configuration: every value parsed, every problem told at once, no `Option` left over
//! that a default could fill.

use std::path::PathBuf;

use edge_agent_core::Params;
use edge_agent_core::restart::Backoff;
use protocol::NodeName;

use crate::args::{JoinArgs, MemoryProfile, RunArgs};

/// Kubernetes' default for a node.
pub const PODS: u32 = 110;

/// Memory the machine needs for itself and the agent, kept out of what is offered.
pub const RESERVED_MEMORY: u64 = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinConfig {
    pub name: NodeName,
    pub data_dir: PathBuf,
    /// How to join, if the machine has not yet.
    pub invitation: Option<Invitation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub hub: HubAddress,
    pub token: Token,
}

/// `https://host:port`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    pub host: String,
    pub port: u16,
}

/// A join token with the hash of the CA it was made by.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// `<id>.<secret>`: what the hub is shown.
    pub secret: String,
    /// SHA-256 of the CA's certificate.
    pub ca: protocol::Digest,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub join: JoinConfig,
    pub labels: Vec<(String, String)>,
    /// Thousandths of a core; `None` offers what the machine has.
    pub cpu_milli: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub pods: u32,
    pub host_paths: Vec<PathBuf>,
    pub memory_profile: MemoryProfile,
    pub cache_bytes: u64,
    pub params: Params,
}

/// Everything that is wrong, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Problems(pub Vec<String>);

impl Problems {
    fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|problem| self.0.push(problem)).ok()
    }
}

impl JoinConfig {
    /// # Errors
    /// [`Problems`]
    pub fn parse(args: &JoinArgs, hostname: &str) -> Result<Self, Problems> {
        let mut problems = Problems(Vec::new());
        let config = parse_join(args, hostname, &mut problems);
        config.filter(|_| problems.0.is_empty()).ok_or(problems)
    }
}

impl Config {
    /// # Errors
    /// [`Problems`]
    pub fn parse(args: &RunArgs, hostname: &str) -> Result<Self, Problems> {
        let mut problems = Problems(Vec::new());
        let join = parse_join(&args.join, hostname, &mut problems);
        let labels: Vec<_> = args.labels.iter().filter_map(|text| problems.take(label(text))).collect();
        let cpu_milli = args.cpu.as_deref().and_then(|text| problems.take(cpu(text)));
        let memory_bytes = args.memory.as_deref().and_then(|text| problems.take(bytes("--memory", text)));
        let cache_bytes = problems.take(bytes("--cache", &args.cache));
        let max = protocol::limits::PODS_PER_NODE_MAX as u32;
        if args.pods == 0 || args.pods > max {
            problems.0.push(format!("--pods is {}, but 1 to {max} are possible", args.pods));
        }
        for path in args.allow_host_path.iter().filter(|path| !path.is_absolute()) {
            problems.0.push(format!("--allow-host-path {} is not an absolute path", path.display()));
        }
        let backoff = Backoff {
            base: args.backoff_base,
            max: args.backoff_max.max(args.backoff_base),
            reset: args.backoff_reset,
        };
        match (join, cache_bytes) {
            (Some(join), Some(cache_bytes)) if problems.0.is_empty() => Ok(Self {
                join,
                labels,
                cpu_milli,
                memory_bytes,
                pods: args.pods,
                host_paths: args.allow_host_path.clone(),
                memory_profile: args.memory_profile,
                cache_bytes,
                params: Params { restart: backoff, pull: backoff },
            }),
            _ => Err(problems),
        }
    }
}

fn parse_join(args: &JoinArgs, hostname: &str, problems: &mut Problems) -> Option<JoinConfig> {
    let name = args.name.clone().unwrap_or_else(|| node_name_from(hostname));
    let name = problems.take(name.parse::<NodeName>().map_err(|error| format!("--name: {error}")));
    let hub = args.hub.as_deref().and_then(|text| problems.take(hub_address(text)));
    let token = args.token.as_deref().and_then(|text| problems.take(token(text)));
    let invitation = match (hub, token) {
        (Some(hub), Some(token)) => Some(Invitation { hub, token }),
        (None, Some(_)) if args.hub.is_none() => {
            problems.0.push("--token needs --hub, the address to join".to_owned());
            None
        }
        (Some(_) | None, None) | (None, Some(_)) => None,
    };
    Some(JoinConfig { name: name?, data_dir: args.data_dir.clone(), invitation })
}

/// A host name made fit to be a node's: `Pi.Local` becomes `pi`.
fn node_name_from(hostname: &str) -> String {
    let first = hostname.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let fit = first.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    fit.trim_matches('-').chars().take(protocol::limits::NAME_MAX).collect()
}

fn hub_address(text: &str) -> Result<HubAddress, String> {
    let problem = || format!("--hub {text:?} is no address like https://hub:6443");
    let rest = text.strip_prefix("https://").ok_or_else(problem)?.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
            (host, port.parse().map_err(|_| problem())?)
        }
        Some(_) | None => (rest, 6443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        return Err(problem());
    }
    Ok(HubAddress { host: host.to_owned(), port })
}

fn token(text: &str) -> Result<Token, String> {
    // Never repeats the text: it is a secret.
    let problem = || "--token is no token: it reads <id>.<secret>.<hash>, as `hub token create` prints".to_owned();
    let (secret, hash) = text.trim().rsplit_once('.').ok_or_else(problem)?;
    let ca = format!("sha256:{hash}").parse().map_err(|_| problem())?;
    if !secret.contains('.') {
        return Err(problem());
    }
    Ok(Token { secret: secret.to_owned(), ca })
}

fn label(text: &str) -> Result<(String, String), String> {
    let problem = || format!("--labels {text:?} is not of the form key=value");
    let (key, value) = text.split_once('=').ok_or_else(problem)?;
    let fits = |part: &str, extra: &str, max| {
        part.len() <= max && part.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b))
    };
    if key.is_empty() || !fits(key, "-_./", 317) || !fits(value, "-_.", 63) {
        return Err(problem());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `2`, `1.5` or `500m`.
fn cpu(text: &str) -> Result<u32, String> {
    let problem = || format!("--cpu {text:?} is no number of CPUs like 2, 1.5 or 500m");
    let milli = match text.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().map_err(|_| problem())?,
        None => text.parse::<f64>().map_err(|_| problem())? * 1000.0,
    };
    if !(1.0..=1_000_000.0).contains(&milli) {
        return Err(problem());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok(milli as u32)
}

/// `512Mi`, `2G`, `1048576`.
fn bytes(flag: &str, text: &str) -> Result<u64, String> {
    let problem = || format!("{flag} {text:?} is no size like 512Mi, 2G or 1048576");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(problem()),
    };
    let number: u64 = digits.parse().map_err(|_| problem())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn parse(line: &str) -> Result<Config, Problems> {
        let words = ["edge-agent", "run"].into_iter().chain(line.split_whitespace());
        let args = crate::args::Args::try_parse_from(words).unwrap();
        match args.command {
            crate::args::Command::Run(run) => Config::parse(&run, "Pi-4.local"),
            crate::args::Command::Join(_) => unreachable!("the line says run"),
        }
    }

    #[test]
    fn a_full_line_is_understood() {
        let hash = "ab".repeat(32);
        let config = parse(&format!(
            "--hub https://10.0.0.1:7443 --token id.secret.{hash} --labels a=b,x/y=z --cpu 1.5 --memory 512Mi \
             --allow-host-path /srv --pods 20"
        ))
        .unwrap();
        let invitation = config.join.invitation.unwrap();
        assert_eq!((invitation.hub.host.as_str(), invitation.hub.port), ("10.0.0.1", 7443));
        assert_eq!(invitation.token.secret, "id.secret");
        assert_eq!(config.join.name.as_str(), "pi-4");
        assert_eq!(config.labels, [("a".into(), "b".into()), ("x/y".into(), "z".into())]);
        assert_eq!((config.cpu_milli, config.memory_bytes, config.pods), (Some(1500), Some(512 << 20), 20));
    }

    #[test]
    fn every_problem_is_told_at_once_and_no_secret() {
        let error = parse("--hub http://x --token topsecret --name A --labels b --cpu much --memory 5X --pods 0")
            .unwrap_err()
            .to_string();
        for part in ["--hub", "--token", "A\" is no node name", "--labels", "--cpu", "--memory", "--pods"] {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
        assert!(!error.contains("topsecret"));
    }

    #[test]
    fn an_address_may_be_of_any_kind() {
        let address = |text| hub_address(text).map(|a| format!("{} {}", a.host, a.port));
        assert_eq!(address("https://hub"), Ok("hub 6443".into()));
        assert_eq!(address("https://hub:1/"), Ok("hub 1".into()));
        assert_eq!(address("https://[::1]:8443"), Ok("::1 8443".into()));
        for bad in ["hub:6443", "https://", "https://hub:x", "https://a/b"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
