//! A hub and its agents, each a real process, in a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::Binaries;
use crate::kubectl::Kubectl;
use crate::process::Process;
use crate::wait::wait_for;

/// The first start makes keys and certificates; a busy two-core machine takes seconds for it.
const HUB_START: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub binaries: Binaries,
    pub hub: Hub,
    folder: PathBuf,
    /// Removes the folder at the end, unless the caller gave one.
    _scratch: Option<tempfile::TempDir>,
}

#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// Further arguments of `hub serve`.
    pub args: Vec<String>,
    /// A folder that outlives the cluster.
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Default)]
pub struct AgentOptions {
    pub args: Vec<String>,
    /// Runs the agent below `ulimit -v` of so many KiB.
    pub address_space_kib: Option<u64>,
}

impl Cluster {
    /// A running hub with no nodes.
    ///
    /// # Errors
    /// Something is not built, or the hub does not come up.
    pub fn start(options: HubOptions) -> Result<Self> {
        let binaries = Binaries::find()?;
        let (folder, scratch) = match options.folder {
            Some(folder) => (folder, None),
            None => {
                let scratch = tempfile::Builder::new().prefix("wherry-").tempdir()?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        let hub = Hub::start(&binaries, &folder.join("hub"), options.args)?;
        Ok(Self { binaries, hub, folder, _scratch: scratch })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts an agent; on its first start it joins with a fresh token.
    ///
    /// # Errors
    /// The token is refused or the agent cannot be started.
    pub fn agent(&self, name: &str, options: AgentOptions) -> Result<Agent> {
        let data = self.folder.join(name);
        let token = if data.join("identity.json").exists() { None } else { Some(self.hub.token()?) };
        Agent::start(&self.binaries, &self.hub.api(), name, &data, token, options)
    }

    /// # Errors
    /// No kubectl.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Kubectl::new(&self.hub.kubeconfig())
    }

    /// Pushes guests of `wasm-apps` under their own names.
    ///
    /// # Errors
    /// A guest is not built or refused.
    pub fn push_guests(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let file = self.binaries.guest(name)?;
            self.hub.cli(&["push", &file.to_string_lossy(), name])?;
        }
        Ok(())
    }

    /// Waits until a node is Ready.
    ///
    /// # Errors
    /// It does not become so.
    pub fn wait_node(&self, name: &str, deadline: Duration) -> Result<()> {
        wait_for(&format!("node {name} to be Ready"), deadline, || {
            let node: Value = serde_json::from_str(&self.hub.cli(&["get", "node", name, "-o", "json"])?)?;
            Ok(condition(&node, "Ready").filter(|status| status == "True").map(drop))
        })
    }
}

/// The status of a condition.
pub fn condition(object: &Value, kind: &str) -> Option<String> {
    let all = object["status"]["conditions"].as_array()?;
    all.iter().find(|c| c["type"] == kind)?["status"].as_str().map(str::to_owned)
}

pub struct Hub {
    binaries: Binaries,
    pub data: PathBuf,
    args: Vec<String>,
    pub process: Process,
    api: String,
    mqtt: String,
}

impl Hub {
    /// Starts a hub on ports of the system's choice and waits until it serves.
    ///
    /// # Errors
    /// It ends, or does not serve in time.
    pub fn start(binaries: &Binaries, data: &Path, args: Vec<String>) -> Result<Self> {
        fs::create_dir_all(data)?;
        let (process, api, mqtt) = serve(binaries, data, "127.0.0.1:0", "127.0.0.1:0", &args)?;
        Ok(Self { binaries: binaries.clone(), data: data.to_owned(), args, process, api, mqtt })
    }

    /// `https://host:port`
    pub fn api(&self) -> String {
        self.api.clone()
    }

    /// `host:port` of the broker.
    pub fn mqtt(&self) -> String {
        self.mqtt.clone()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// A further argument from the next start on.
    pub fn add_argument(&mut self, argument: &str) {
        self.args.push(argument.to_owned());
    }

    /// Starts again on the same ports after the process has ended.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let listen = self.api.trim_start_matches("https://").to_owned();
        let mqtt = if self.mqtt.is_empty() { "127.0.0.1:0" } else { &self.mqtt };
        let (process, api, mqtt) = serve(&self.binaries, &self.data, &listen, mqtt, &self.args)?;
        (self.process, self.api, self.mqtt) = (process, api, mqtt);
        Ok(())
    }

    /// A command of the hub's own CLI.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn cli_output(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.binaries.hub());
        command.args(args).env("KUBECONFIG", self.kubeconfig());
        command.output().context("cannot run the hub's CLI")
    }

    /// Its standard output.
    ///
    /// # Errors
    /// It failed: with what it said.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let output = self.cli_output(args)?;
        if !output.status.success() {
            bail!("hub {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A fresh join token.
    ///
    /// # Errors
    /// The hub refuses.
    pub fn token(&self) -> Result<String> {
        let answer: Value = serde_json::from_str(&self.cli(&["token", "create", "-o", "json"])?)?;
        answer["token"].as_str().map(str::to_owned).context("`hub token create -o json` printed no token")
    }
}

fn serve(
    binaries: &Binaries,
    data: &Path,
    listen: &str,
    mqtt: &str,
    args: &[String],
) -> Result<(Process, String, String)> {
    let told = data.join("hub.json");
    let _ = fs::remove_file(&told);
    let mut command = Command::new(binaries.hub());
    command.args(["serve", "--listen", listen, "--data-dir"]).arg(data).args(args);
    if !args.iter().any(|arg| arg == "--mqtt") {
        command.args(["--mqtt-listen", mqtt]);
    }
    let mut process = Process::start("hub", command, &data.join("hub.log"))?;
    wait_for("the hub to serve", HUB_START, || {
        process.check_alive()?;
        let Ok(text) = fs::read_to_string(&told) else { return Ok(None) };
        let facts: Value = serde_json::from_str(&text)?;
        let text =
            |field: &str| facts[field].as_str().map(str::to_owned).with_context(|| format!("hub.json says no {field}"));
        // A hub on someone else's broker has none of its own to tell of.
        Ok(Some((text("api")?, text("mqtt").unwrap_or_default())))
    })
    .map(|(api, mqtt)| (process, api, mqtt))
}

pub struct Agent {
    pub name: String,
    pub data: PathBuf,
    command: AgentCommand,
    pub process: Process,
}

struct AgentCommand {
    program: PathBuf,
    args: Vec<String>,
    address_space_kib: Option<u64>,
}

impl Agent {
    /// # Errors
    /// The program cannot be started.
    pub fn start(
        binaries: &Binaries,
        api: &str,
        name: &str,
        data: &Path,
        token: Option<String>,
        options: AgentOptions,
    ) -> Result<Self> {
        fs::create_dir_all(data)?;
        let mut args: Vec<String> =
            ["run", "--hub", api, "--name", name, "--data-dir", &data.to_string_lossy()].map(str::to_owned).to_vec();
        if let Some(token) = token {
            args.extend(["--token".to_owned(), token]);
        }
        args.extend(options.args);
        let command = AgentCommand { program: binaries.agent(), args, address_space_kib: options.address_space_kib };
        let process = Process::start(name, command.build(), &data.join("agent.log"))?;
        Ok(Self { name: name.to_owned(), data: data.to_owned(), command, process })
    }

    /// Starts again with the same data after the process has ended.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = Process::start(&self.name, self.command.build(), &self.data.join("agent.log"))?;
        Ok(())
    }
}

impl AgentCommand {
    fn build(&self) -> Command {
        let Some(kib) = self.address_space_kib else {
            let mut command = Command::new(&self.program);
            command.args(&self.args);
            return command;
        };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {kib} && exec \"$0\" \"$@\"")]).arg(&self.program).args(&self.args);
        command
    }
}
