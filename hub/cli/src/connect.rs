//! Which hub a command talks to, and in which namespace.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::client::Client;
use crate::kubeconfig::{Kubeconfig, Target};

/// Where `hub serve` keeps everything when it is not told otherwise.
const DATA_DIR: &str = "wherry-data";
const ADMIN: &str = "admin.kubeconfig";

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connect {
    /// Kubeconfig file [default: the hub's own, in its data directory]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", hide_env_values = true)]
    kubeconfig: Option<PathBuf>,

    /// The hub's data directory, for its admin kubeconfig
    #[arg(long, env = "WHERRY_DATA_DIR", value_name = "DIR", default_value = DATA_DIR)]
    data_dir: PathBuf,
}

/// A hub, and the namespace that its kubeconfig suggests.
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Connect {
    /// The file in use.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.kubeconfig {
            Some(list) if !list.as_os_str().is_empty() => first_of(list),
            Some(_) | None => {
                let path = self.data_dir.join(ADMIN);
                if !path.exists() {
                    bail!(
                        "there is no {}; start a hub here with: hub serve, or name a kubeconfig with --kubeconfig FILE",
                        path.display()
                    );
                }
                Ok(path)
            }
        }
    }

    fn target(&self) -> anyhow::Result<Target> {
        let path = self.path()?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let kubeconfig: Kubeconfig = text.parse().with_context(|| format!("cannot use {}", path.display()))?;
        kubeconfig.target(folder).with_context(|| format!("cannot use {}", path.display()))
    }

    pub(crate) fn open(&self) -> anyhow::Result<Connected> {
        let target = self.target()?;
        let namespace = target.namespace.clone();
        Ok(Connected { client: Client::new(target)?, namespace })
    }
}

/// KUBECONFIG may name several files; kubectl merges them, we take the first that is there.
fn first_of(list: &Path) -> anyhow::Result<PathBuf> {
    let files: Vec<PathBuf> = std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect();
    match files.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => bail!("there is no kubeconfig at {}", list.display()),
    }
}
