//! What this machine is: read from the kernel, at the start and, where it changes, now and then.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use protocol::reported::{Capacity, NodeFacts, Pressure, Target};

use crate::clock::Entropy;
use crate::config::{Config, RESERVED_MEMORY};
use crate::files::{self, Sync};

/// Below these shares the node is under pressure; the kubelet's defaults are 10 % of the disk and 100 MiB.
const DISK_LOW: u64 = 10;
const MEMORY_LOW: u64 = 32 << 20;

/// Where a Raspberry Pi's firmware tells its serial number: the one thing that is not copied with an SD card.
const SERIAL: &str = "/sys/firmware/devicetree/base/serial-number";

/// The machine's id: its serial number, else the system's own id, else one made once (containers, old boards).
pub fn machine_id(data_dir: &Path, entropy: &Entropy) -> String {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        Some(text.trim_matches(['\0', '\n', ' ']).to_owned()).filter(|id| !id.is_empty() && id.len() <= 128)
    };
    let own = data_dir.join("machine-id");
    if let Some(id) = read(Path::new(SERIAL)).or_else(|| read(&own)) {
        return id;
    }
    let id = read(Path::new("/etc/machine-id"))
        .unwrap_or_else(|| format!("{:016x}{:016x}", entropy.number(), entropy.number()));
    // Kept beside the identity: whatever the system's id becomes, this node stays this node.
    let _ = files::write_atomic(&own, id.as_bytes(), 0o600, Sync::Eventually);
    id
}

pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Everything that a node tells of itself.
pub fn gather(config: &Config, target: Target, machine_id: &str, hub_host: &str) -> NodeFacts {
    let system = rustix::system::uname();
    NodeFacts {
        arch: arch().to_owned(),
        os: std::env::consts::OS.to_owned(),
        os_image: os_image(),
        kernel: system.release().to_string_lossy().into_owned(),
        machine_id: machine_id.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        target,
        capacity: capacity(config),
        addresses: addresses(hub_host),
        hostname: hostname(),
        labels: config.labels.clone(),
        pressures: pressures(&config.join.data_dir),
    }
}

/// Kubernetes' word for the architecture.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

pub(crate) fn capacity(config: &Config) -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let all = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(1000);
    let memory = memory_total().saturating_sub(RESERVED_MEMORY);
    Capacity {
        cpu_milli: config.cpu_milli.unwrap_or(all),
        memory_bytes: config.memory_bytes.unwrap_or(memory),
        storage_bytes: disk(&config.join.data_dir).0,
        pods: config.pods,
    }
}

fn memory_total() -> u64 {
    let total = meminfo("MemTotal").unwrap_or(0);
    // In a container the limit is the machine.
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    limit.map_or(total, |limit: u64| limit.min(total))
}

/// A line of `/proc/meminfo`, in bytes.
pub fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Bytes of the disk below `path`: all, and those free for us.
fn disk(path: &Path) -> (u64, u64) {
    rustix::fs::statvfs(path).map_or((0, 0), |disk| (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
}

pub fn pressures(data_dir: &Path) -> Vec<Pressure> {
    let mut pressures = Vec::new();
    if meminfo("MemAvailable").is_some_and(|available| available < MEMORY_LOW) {
        pressures.push(Pressure::Memory);
    }
    let (all, free) = disk(data_dir);
    if all > 0 && free < all / 100 * DISK_LOW && free < (1 << 30) {
        pressures.push(Pressure::Disk);
    }
    pressures
}

/// The address from which the hub is reached: no packet is sent, the kernel only chooses a route.
fn addresses(hub_host: &str) -> Vec<[u8; 4]> {
    let route = |host: &str| {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect((host, 9)).ok()?;
        match socket.local_addr().ok()?.ip() {
            IpAddr::V4(address) => Some(address.octets()),
            IpAddr::V6(_) => None,
        }
    };
    route(hub_host).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_a_stable_id() {
        assert!(memory_total() > 1 << 20);
        let dir = tempfile::tempdir().unwrap();
        let id = machine_id(dir.path(), &Entropy::default());
        assert!(!id.is_empty());
        assert_eq!(machine_id(dir.path(), &Entropy::default()), id);
        assert_eq!(addresses("127.0.0.1"), [[127, 0, 0, 1]]);
    }
}
