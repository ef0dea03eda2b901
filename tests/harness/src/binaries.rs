//! Where the programs under test and the guests were built.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
    guests: PathBuf,
}

impl Binaries {
    /// Those of `WHERRY_BIN_DIR`, else of this workspace's dev build; guests of `WHERRY_GUESTS`, else of
    /// `wasm-apps`.
    ///
    /// # Errors
    /// Something is not built: says by which command it is.
    pub fn find() -> Result<Self> {
        let root = workspace_root();
        let folder = env::var_os("WHERRY_BIN_DIR").map_or_else(|| target_folder(&root).join("debug"), PathBuf::from);
        let guests = root.join("wasm-apps/target/wasm32-wasip2/release");
        let found = Self { folder, guests: env::var_os("WHERRY_GUESTS").map_or(guests, PathBuf::from) };
        for path in [found.hub(), found.agent(), found.compiler()] {
            if !path.is_file() {
                bail!(
                    "{} is not built; run `cargo build --workspace` (or `cargo xtask test`, which does)",
                    path.display()
                );
            }
        }
        Ok(found)
    }

    pub fn hub(&self) -> PathBuf {
        self.folder.join("hub")
    }

    pub fn agent(&self) -> PathBuf {
        self.folder.join("edge-agent")
    }

    pub fn compiler(&self) -> PathBuf {
        self.folder.join("hub-compiler")
    }

    /// A guest's component.
    ///
    /// # Errors
    /// It is not built: says by which command it is.
    pub fn guest(&self, name: &str) -> Result<PathBuf> {
        let path = self.guests.join(format!("{}.wasm", guest_file(name)));
        if !path.is_file() {
            bail!("{} is not built; run `cargo xtask guests`", path.display());
        }
        Ok(path)
    }
}

/// Cargo names a library's file with underscores and a program's as it is.
fn guest_file(name: &str) -> String {
    match name {
        "never-ready" => "never_ready".to_owned(),
        other => other.to_owned(),
    }
}

/// The guests that `wasm-apps` builds.
pub const GUESTS: [&str; 10] = [
    "hello",
    "web",
    "sensor",
    "crash-loop",
    "memory-hog",
    "spin-forever",
    "log-flood",
    "never-ready",
    "slow-stop",
    "sockets",
];

pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn target_folder(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
