//! The real kubectl, pointed at a hub.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::workspace_root;
use crate::wait::wait_for;

#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

/// Where `cargo xtask test` puts it.
pub fn fetched_path() -> PathBuf {
    workspace_root().join("target/tools/kubectl/bin/kubectl")
}

impl Kubectl {
    /// `WHERRY_KUBECTL`, else the one that `cargo xtask test` fetched.
    ///
    /// # Errors
    /// There is none.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let program = std::env::var_os("WHERRY_KUBECTL").map_or_else(fetched_path, PathBuf::from);
        if !program.is_file() {
            bail!("no kubectl at {}; `cargo xtask test` fetches one, or set WHERRY_KUBECTL", program.display());
        }
        // Discovery is cached for hours by default: each cluster gets a cache of its own.
        let cache = kubeconfig.with_extension("kubectl-cache");
        Ok(Self { program, kubeconfig: kubeconfig.to_owned(), cache })
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache).args(args);
        command
    }

    /// # Errors
    /// kubectl cannot be started.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        self.command(args).stdin(Stdio::null()).output().context("cannot run kubectl")
    }

    /// Its standard output.
    ///
    /// # Errors
    /// It failed: with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args)?;
        if !output.status.success() {
            bail!("kubectl {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it says on stderr when it refuses.
    ///
    /// # Errors
    /// It did not refuse.
    pub fn refused(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args)?;
        if output.status.success() {
            bail!("kubectl {} was not refused: {}", args.join(" "), String::from_utf8_lossy(&output.stdout));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// # Errors
    /// It failed, or printed no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Applies a manifest from text.
    ///
    /// # Errors
    /// It was refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(file.path(), manifest)?;
        self.run(&["apply", "-f", &file.path().to_string_lossy()])
    }

    /// A pod, or `None` when there is none.
    ///
    /// # Errors
    /// kubectl failed otherwise.
    pub fn pod(&self, name: &str) -> Result<Option<Value>> {
        let text = self.run(&["get", "pod", name, "--ignore-not-found", "-o", "json"])?;
        if text.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&text)?)) }
    }

    /// Waits until a pod is as `holds` wants it, and returns it.
    ///
    /// # Errors
    /// It does not become so: with its last status.
    pub fn wait_pod(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait_for(&format!("pod {name} to be {what}"), deadline, || match self.pod(name)? {
            Some(pod) if holds(&pod) => Ok(Some(pod)),
            Some(pod) => bail!("its status is {}", pod["status"]),
            None => bail!("there is no such pod"),
        })
    }

    /// # Errors
    /// As [`Kubectl::wait_pod`].
    pub fn wait_ready(&self, name: &str, deadline: Duration) -> Result<Value> {
        self.wait_pod(name, "ready", deadline, is_ready)
    }

    /// The pods of a selector.
    ///
    /// # Errors
    /// kubectl failed.
    pub fn pods(&self, selector: &str) -> Result<Vec<Value>> {
        let list = self.json(&["get", "pods", "-l", selector])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}

/// Condition Ready is True.
pub fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}
