//! Builds the workspace and the guests.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use harness::binaries::{GUESTS, workspace_root};

use crate::tools::{run, step};

/// The dev build that demo, tests and daily work share. (What ships is built one package at a time:
/// a workspace build unifies features and puts the compiler into the agent, which the tests do not mind.)
///
/// # Errors
/// It does not compile.
pub fn workspace() -> Result<()> {
    step("building the workspace (the first time takes some minutes)");
    run(Command::new(cargo()).args(["build", "--workspace", "--bins"]).current_dir(workspace_root()))
}

/// The components in `wasm-apps/target/wasm32-wasip2/release`.
///
/// # Errors
/// No toolchain for the target, or they do not compile.
pub fn guests() -> Result<()> {
    step("building the guests in wasm-apps/");
    let folder = workspace_root().join("wasm-apps");
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "--target", "wasm32-wasip2"]).current_dir(&folder);
    // Cargo of the outer build must not leak into the guests' toolchain.
    for name in ["CARGO_BUILD_BUILD_DIR", "CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC"] {
        build.env_remove(name);
    }
    for (name, value) in toolchain(&folder)? {
        build.env(name, value);
    }
    run(&mut build)?;
    for guest in GUESTS {
        let file = folder.join(format!("target/wasm32-wasip2/release/{guest}.wasm"));
        let library = folder.join(format!("target/wasm32-wasip2/release/{}.wasm", guest.replace('-', "_")));
        if !file.is_file() && !library.is_file() {
            bail!("the build left no {}", file.display());
        }
    }
    Ok(())
}

/// The variables that `toolchain.sh` prints as one `export A=b C='d e'` line.
fn toolchain(folder: &std::path::Path) -> Result<Vec<(String, String)>> {
    let output = Command::new("bash")
        .arg(folder.join("toolchain.sh"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run bash for wasm-apps/toolchain.sh")?;
    if !output.status.success() {
        bail!("wasm-apps/toolchain.sh found no way to build guests; it says why above");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.trim().strip_prefix("export ").map(assignments).unwrap_or_default())
}

fn assignments(mut rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((name, value)) = rest.split_once('=') {
        let (value, after) = match value.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => value.split_once(' ').unwrap_or((value, "")),
        };
        found.push((name.trim().to_owned(), value.to_owned()));
        rest = after;
    }
    found
}

pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::assignments;

    #[test]
    fn reads_the_toolchain_s_line() {
        let pairs = assignments("A=/usr/bin/x B=y C='d e'");
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "/usr/bin/x"), ("B", "y"), ("C", "d e")]);
        assert!(assignments("").is_empty());
    }
}
