//! What the figures were measured on.

use std::fs;
use std::process::Command;

use anyhow::Result;

/// # Errors
/// Never in practice; `/proc` is there on Linux.
pub fn describe() -> Result<String> {
    let cpu = field(&fs::read_to_string("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let cores = std::thread::available_parallelism()?;
    let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg")?;
    let commit = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    Ok(format!(
        "machine  {cpu}, {cores} cores, {memory}, load {}\ncommit   {}\nmethod   whole processes on one machine over loopback; latencies from the client's POST to the status seen in a watch;\n         memory is VmRSS of /proc; medians over all samples, the machine shared with other work",
        load.split(' ').next().unwrap_or_default(),
        commit.unwrap_or_default(),
    ))
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find(|line| line.starts_with(name))?.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// Resident memory of a process in KiB.
///
/// # Errors
/// The process is gone.
pub fn rss_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let text = field(&status, "VmRSS").unwrap_or_default();
    Ok(text.trim_end_matches(" kB").parse()?)
}
