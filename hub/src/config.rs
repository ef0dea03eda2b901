//! What the hub is told at start: flags over environment over a file over defaults.
//!
//! [`Settings`] is what a person wrote, all of it optional text; [`Config`] is what the hub runs on,
//! all of it checked. [`Config::resolve`] is the only way from one to the other and reports every
//! problem at once, before a port is opened.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// The Kubernetes API's usual port.
const LISTEN: &str = "0.0.0.0:6443";
/// MQTT over TLS, as IANA has it.
const MQTT_LISTEN: &str = "0.0.0.0:8883";
/// Four missed heartbeats of 5 s (design section 4; Kubernetes waits 50 s).
const NODE_GRACE: Duration = Duration::from_secs(20);
/// How long pods stay on a node that is not ready (Kubernetes: 300 s).
const EVICTION_GRACE: Duration = Duration::from_secs(30);
/// More than half the nodes gone at once is likelier our own link than theirs.
const MASS_LOSS_HOLD: Duration = Duration::from_secs(600);
/// Kubernetes keeps events for an hour, too.
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// Room for a language runtime compiled to wasm; small enough for a Pi's SD card.
const MAX_IMAGE_MIB: u64 = 128;
/// A Pi with 512 MB compiles within this, other programs beside it.
const COMPILE_MEMORY_MIB: u64 = 1024;
/// Ten times what the largest module of the tests takes on a Pi 3.
const COMPILE_TIME: Duration = Duration::from_secs(600);

/// What a person wrote: on the command line, in the environment, or in the file.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// File with the settings below, in TOML, named as here without the dashes
    #[arg(long, env = "WHERRY_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Directory for everything the hub keeps; made if missing [default: wherry-data]
    #[arg(long, env = "WHERRY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where the API listens; port 0 takes a free one [default: 0.0.0.0:6443]
    #[arg(long, env = "WHERRY_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,

    /// Where the embedded MQTT broker listens [default: 0.0.0.0:8883]
    #[arg(long, env = "WHERRY_MQTT_LISTEN", value_name = "ADDRESS:PORT")]
    pub mqtt_listen: Option<String>,

    /// An MQTT 5 broker to use instead of the embedded one
    #[arg(long, env = "WHERRY_MQTT", value_name = "mqtts://HOST:PORT")]
    pub mqtt: Option<String>,

    /// More names and addresses by which clients and nodes reach this hub (may be repeated)
    #[arg(long, env = "WHERRY_TLS_SAN", value_name = "NAME", value_delimiter = ',')]
    #[serde(default)]
    pub tls_san: Vec<String>,

    /// How long a silent node counts as ready [default: 20s]
    #[arg(long, env = "WHERRY_NODE_GRACE", value_name = "DURATION")]
    pub node_grace: Option<String>,

    /// How long pods stay on a node that is not ready [default: 30s]
    #[arg(long, env = "WHERRY_EVICTION_GRACE", value_name = "DURATION")]
    pub eviction_grace: Option<String>,

    /// How long evictions wait after most nodes vanished at once [default: 10m]
    #[arg(long, env = "WHERRY_MASS_LOSS_HOLD", value_name = "DURATION")]
    pub mass_loss_hold: Option<String>,

    /// The data directory comes from a backup: listen to the nodes for this long before telling them anything
    #[arg(long, env = "WHERRY_RESTORE", value_name = "DURATION", num_args = 0..=1, default_missing_value = "30s")]
    pub restore: Option<String>,

    /// How long events are kept [default: 1h]
    #[arg(long, env = "WHERRY_EVENT_TTL", value_name = "DURATION")]
    pub event_ttl: Option<String>,

    /// The compile worker [default: hub-compiler beside this program]
    #[arg(long, env = "WHERRY_COMPILER", value_name = "PATH")]
    pub compiler: Option<PathBuf>,

    /// Memory that one compilation may take, in MiB [default: 1024]
    #[arg(long, env = "WHERRY_COMPILE_MEMORY_MIB", value_name = "MIB")]
    pub compile_memory_mib: Option<u64>,

    /// Time that one compilation may take [default: 10m]
    #[arg(long, env = "WHERRY_COMPILE_TIME", value_name = "DURATION")]
    pub compile_time: Option<String>,

    /// The largest image that may be pushed, in MiB [default: 128]
    #[arg(long, env = "WHERRY_MAX_IMAGE_MIB", value_name = "MIB")]
    pub max_image_mib: Option<u64>,
}

/// What the hub runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub broker: BrokerConfig,
    pub tls_sans: Vec<String>,
    pub node_grace: Duration,
    pub eviction_grace: Duration,
    pub mass_loss_hold: Duration,
    pub restore: Restore,
    pub event_ttl: Duration,
    pub compiler: CompilerConfig,
    /// Bytes.
    pub max_image: u64,
}

/// Whether the data directory may be older than what the nodes were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    No,
    /// It is from a backup: nodes are listened to for so long, so that all that are there are heard.
    Listen(Duration),
}

/// Which broker carries the fleet's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerConfig {
    Embedded { listen: SocketAddr },
    External(ExternalBroker),
}

/// A broker of someone else's: `mqtts://HOST[:PORT]`, or `mqtt://` for one without TLS on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBroker {
    pub host: String,
    pub port: u16,
    pub security: BrokerSecurity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerSecurity {
    /// Both sides show certificates of this hub's CA.
    MutualTls,
    Plain,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerConfig {
    /// `None`: `hub-compiler` beside the hub's own executable.
    pub path: Option<PathBuf>,
    /// Bytes.
    pub max_memory: u64,
    pub max_time: Duration,
}

/// Everything wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings cannot be used:")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the settings' file, if they name one, and checks the whole.
    ///
    /// # Errors
    /// Every problem of every setting.
    pub fn load(settings: Settings) -> Result<Self, ConfigError> {
        let file = match &settings.config {
            None => Settings::default(),
            Some(path) => read_file(path)?,
        };
        Self::resolve(settings.or(file))
    }

    /// Defaults for what is not set, and every problem of what is.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn resolve(settings: Settings) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let config = Self {
            data_dir: settings.data_dir.unwrap_or_else(|| PathBuf::from("wherry-data")),
            listen: problems.address("listen", settings.listen.as_deref(), LISTEN),
            broker: problems.broker(settings.mqtt.as_deref(), settings.mqtt_listen.as_deref()),
            tls_sans: problems.names("tls-san", settings.tls_san),
            node_grace: problems.duration("node-grace", settings.node_grace.as_deref(), NODE_GRACE),
            eviction_grace: problems.duration("eviction-grace", settings.eviction_grace.as_deref(), EVICTION_GRACE),
            mass_loss_hold: problems.duration("mass-loss-hold", settings.mass_loss_hold.as_deref(), MASS_LOSS_HOLD),
            restore: match settings.restore.as_deref() {
                None => Restore::No,
                Some(text) => Restore::Listen(problems.duration("restore", Some(text), Duration::ZERO)),
            },
            event_ttl: problems.duration("event-ttl", settings.event_ttl.as_deref(), EVENT_TTL),
            compiler: CompilerConfig {
                path: settings.compiler,
                max_memory: problems.mebibytes("compile-memory-mib", settings.compile_memory_mib, COMPILE_MEMORY_MIB),
                max_time: problems.duration("compile-time", settings.compile_time.as_deref(), COMPILE_TIME),
            },
            max_image: problems.mebibytes("max-image-mib", settings.max_image_mib, MAX_IMAGE_MIB),
        };
        if problems.0.is_empty() { Ok(config) } else { Err(ConfigError(problems.0)) }
    }
}

impl Settings {
    /// What is set here, and `below` for the rest.
    #[must_use]
    fn or(self, below: Self) -> Self {
        Self {
            config: self.config,
            data_dir: self.data_dir.or(below.data_dir),
            listen: self.listen.or(below.listen),
            mqtt_listen: self.mqtt_listen.or(below.mqtt_listen),
            mqtt: self.mqtt.or(below.mqtt),
            tls_san: if self.tls_san.is_empty() { below.tls_san } else { self.tls_san },
            node_grace: self.node_grace.or(below.node_grace),
            eviction_grace: self.eviction_grace.or(below.eviction_grace),
            mass_loss_hold: self.mass_loss_hold.or(below.mass_loss_hold),
            restore: self.restore.or(below.restore),
            event_ttl: self.event_ttl.or(below.event_ttl),
            compiler: self.compiler.or(below.compiler),
            compile_memory_mib: self.compile_memory_mib.or(below.compile_memory_mib),
            compile_time: self.compile_time.or(below.compile_time),
            max_image_mib: self.max_image_mib.or(below.max_image_mib),
        }
    }
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let problem = |error: &dyn fmt::Display| {
        ConfigError(vec![format!("config: cannot use {}: {}", path.display(), error.to_string().trim_end())])
    };
    let text = std::fs::read_to_string(path).map_err(|error| problem(&error))?;
    toml::from_str(&text).map_err(|error| problem(&error))
}

/// Collects what is wrong; a wrong setting takes its default so that the others are checked, too.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn address(&mut self, name: &str, text: Option<&str>, default: &str) -> SocketAddr {
        let text = text.unwrap_or(default);
        text.parse().unwrap_or_else(|_| {
            self.0.push(format!("{name}: {text:?} is no ADDRESS:PORT, such as {default}"));
            default.parse().expect("defaults are addresses")
        })
    }

    fn broker(&mut self, url: Option<&str>, listen: Option<&str>) -> BrokerConfig {
        let Some(url) = url else {
            return BrokerConfig::Embedded { listen: self.address("mqtt-listen", listen, MQTT_LISTEN) };
        };
        if listen.is_some() {
            self.0.push("mqtt-listen: there is no embedded broker to listen where mqtt names another".to_owned());
        }
        let parsed = [("mqtts://", BrokerSecurity::MutualTls, 8883), ("mqtt://", BrokerSecurity::Plain, 1883)]
            .into_iter()
            .find_map(|(scheme, security, port)| {
                let rest = url.strip_prefix(scheme)?.trim_end_matches('/');
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) => (host, port.parse().ok()?),
                    None => (rest, port),
                };
                (!host.is_empty()).then(|| ExternalBroker { host: host.to_owned(), port, security })
            });
        let parsed = parsed.unwrap_or_else(|| {
            self.0.push(format!("mqtt: {url:?} is no mqtts://HOST:PORT"));
            ExternalBroker { host: String::new(), port: 0, security: BrokerSecurity::MutualTls }
        });
        BrokerConfig::External(parsed)
    }

    fn names(&mut self, name: &str, names: Vec<String>) -> Vec<String> {
        let mut kept: Vec<String> = Vec::with_capacity(names.len());
        for text in names {
            let text = text.trim().to_owned();
            let valid = !text.is_empty()
                && (text.parse::<std::net::IpAddr>().is_ok()
                    || text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')));
            if !valid {
                self.0.push(format!("{name}: {text:?} is neither a host name nor an IP address"));
            } else if !kept.contains(&text) {
                kept.push(text);
            }
        }
        kept
    }

    fn duration(&mut self, name: &str, text: Option<&str>, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        match parse_duration(text) {
            Some(duration) => duration,
            None => {
                self.0.push(format!("{name}: {text:?} is no duration, such as 500ms, 20s, 5m, 1h or 1h30m"));
                default
            }
        }
    }

    fn mebibytes(&mut self, name: &str, count: Option<u64>, default: u64) -> u64 {
        let count = count.unwrap_or(default);
        // More than a tebibyte is a typing error.
        if !(1..=1 << 20).contains(&count) {
            self.0.push(format!("{name}: {count} is not between 1 and {}", 1 << 20));
        }
        count.min(1 << 20) << 20
    }
}

/// `1h30m`, `20s`, `500ms`; numbers with a unit each, the largest first or not.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let units = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(units);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text:?}");
        };
        check("20s", Some(20_000));
        check("500ms", Some(500));
        check("1h30m", Some(5_400_000));
        check(" 1d ", Some(86_400_000));
        for bad in ["", "20", "s", "1x", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615h"] {
            check(bad, None);
        }
    }

    #[test]
    fn nothing_set_is_the_defaults() {
        let config = Config::resolve(Settings::default()).unwrap();
        assert_eq!(config.listen.to_string(), LISTEN);
        assert_eq!(config.broker, BrokerConfig::Embedded { listen: MQTT_LISTEN.parse().unwrap() });
        assert_eq!((config.node_grace, config.eviction_grace), (NODE_GRACE, EVICTION_GRACE));
        assert_eq!(config.max_image, 128 << 20);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = Settings {
            listen: Some("localhost".into()),
            mqtt: Some("tcp://broker".into()),
            mqtt_listen: Some("0.0.0.0:1".into()),
            node_grace: Some("soon".into()),
            tls_san: vec!["a b".into(), "pi.local".into(), "10.0.0.1".into(), "pi.local".into()],
            max_image_mib: Some(0),
            ..Settings::default()
        };
        let ConfigError(problems) = Config::resolve(settings).unwrap_err();
        let names: Vec<&str> = problems.iter().filter_map(|p| p.split(':').next()).collect();
        assert_eq!(names, ["listen", "mqtt-listen", "mqtt", "tls-san", "node-grace", "max-image-mib"]);
    }

    #[test]
    fn flags_win_over_the_file() {
        let file: Settings = toml::from_str("listen = \"1.2.3.4:5\"\nnode-grace = \"7s\"\ntls-san = [\"a\"]").unwrap();
        let flags = Settings { listen: Some("127.0.0.1:0".into()), ..Settings::default() };
        let config = Config::resolve(flags.or(file)).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.node_grace, Duration::from_secs(7));
        assert_eq!(config.tls_sans, ["a"]);
        assert!(toml::from_str::<Settings>("lisen = \"1.2.3.4:5\"").is_err(), "a typing error is told");
    }

    #[test]
    fn an_external_broker() {
        let check = |url: &str, host: &str, port: u16, security: BrokerSecurity| {
            let settings = Settings { mqtt: Some(url.into()), ..Settings::default() };
            let expected = BrokerConfig::External(ExternalBroker { host: host.into(), port, security });
            assert_eq!(Config::resolve(settings).unwrap().broker, expected);
        };
        check("mqtts://broker.local:18883", "broker.local", 18883, BrokerSecurity::MutualTls);
        check("mqtts://10.0.0.7/", "10.0.0.7", 8883, BrokerSecurity::MutualTls);
        check("mqtt://localhost", "localhost", 1883, BrokerSecurity::Plain);
    }
}
