//! Usage, and the heartbeat with it: every five seconds from a task of its own, so that a slow disk in
//! the agent's loop delays none.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_agent_core::plan::At;
use edge_agent_core::report::Heartbeat;
use edge_agent_runtime::{Instance, Usage};
use protocol::metrics::{ContainerUsage, Metrics, NodeUsage, PodUsage};
use protocol::topic::Leaf;
use protocol::{PodUid, Stamp, frame};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::facts::meminfo;
use crate::link::Outgoing;

/// What each container has used, over all its runs; clones share it.
#[derive(Clone, Default)]
pub struct UsageBook(Arc<Mutex<BTreeMap<At, Account>>>);

#[derive(Default)]
struct Account {
    /// Of ended runs.
    before: Usage,
    running: Option<Arc<Instance>>,
}

impl UsageBook {
    pub fn begin(&self, at: &At, instance: Arc<Instance>) {
        self.book().entry(at.clone()).or_default().running = Some(instance);
    }

    pub fn end(&self, at: &At) {
        if let Some(account) = self.book().get_mut(at)
            && let Some(instance) = account.running.take()
        {
            account.before = sum(account.before, instance.usage());
            account.before.memory_bytes = 0;
        }
    }

    pub fn remove(&self, pod: PodUid) {
        self.book().retain(|at, _| at.pod != pod);
    }

    pub fn usage(&self) -> Vec<PodUsage> {
        let mut pods: Vec<PodUsage> = Vec::new();
        for (at, account) in self.book().iter() {
            let total = account.running.as_ref().map_or(account.before, |i| sum(account.before, i.usage()));
            let usage = ContainerUsage {
                name: at.container.clone(),
                cpu_micros: total.cpu_micros,
                memory_bytes: total.memory_bytes,
                requests: total.requests,
                failed_requests: total.failed_requests,
            };
            match pods.last_mut() {
                Some(pod) if pod.uid == at.pod => pod.containers.push(usage),
                Some(_) | None => pods.push(PodUsage { uid: at.pod, containers: vec![usage] }),
            }
        }
        pods
    }

    fn book(&self) -> MutexGuard<'_, BTreeMap<At, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        cpu_micros: a.cpu_micros.saturating_add(b.cpu_micros),
        memory_bytes: a.memory_bytes.saturating_add(b.memory_bytes),
        requests: a.requests.saturating_add(b.requests),
        failed_requests: a.failed_requests.saturating_add(b.failed_requests),
    }
}

/// What a heartbeat needs to know.
pub struct Pulse {
    pub clock: Clock,
    pub usage: UsageBook,
    pub applied: watch::Receiver<Stamp>,
    pub up: watch::Receiver<Option<u64>>,
    pub out: mpsc::Sender<Outgoing>,
    pub shutdown: CancellationToken,
}

pub async fn beat(mut pulse: Pulse) {
    let mut heart = Heartbeat::new(pulse.clock.now().at);
    let mut sequence = 0;
    loop {
        tokio::select! {
            () = pulse.clock.sleep_until(Some(heart.next())) => {}
            // The first beat after a connect comes at once: the hub waits for it.
            Ok(()) = pulse.up.changed() => heart = Heartbeat::new(pulse.clock.now().at),
            () = pulse.shutdown.cancelled() => return,
        }
        let now = pulse.clock.now();
        if !heart.beat(now.at) || pulse.up.borrow_and_update().is_none() {
            continue;
        }
        let metrics = Metrics {
            sequence,
            boot: pulse.clock.boot(),
            sent_at: now.wall,
            applied: *pulse.applied.borrow(),
            node: node_usage(now.at.0 / 1000),
            pods: pulse.usage.usage(),
        };
        sequence += 1;
        send(&pulse.out, metrics);
    }
}

/// A heartbeat must get through: if the usage of very many pods is too large, it goes without.
fn send(out: &mpsc::Sender<Outgoing>, mut metrics: Metrics) {
    let payload = frame::encode(&metrics).or_else(|_| {
        metrics.pods.clear();
        frame::encode(&metrics)
    });
    if let Ok(payload) = payload {
        // A full queue is a link that does not move: this beat would come late anyway.
        let _ = out.try_send(Outgoing { leaf: Leaf::Metrics, payload });
    }
}

fn node_usage(uptime_seconds: u64) -> NodeUsage {
    NodeUsage {
        uptime_seconds,
        cpu_micros: cpu_micros().unwrap_or(0),
        memory_available: meminfo("MemAvailable").unwrap_or(0),
        agent_rss: own_rss().unwrap_or(0),
        temperature_millis: temperature(),
    }
}

/// Busy time of all cores: `/proc/stat` counts hundredths of a second; idle and iowait are not work.
fn cpu_micros() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let numbers = text.lines().next()?.split_whitespace().skip(1).take(8).map(|word| word.parse::<u64>());
    let numbers = numbers.collect::<Result<Vec<_>, _>>().ok()?;
    let busy: u64 = numbers.iter().enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, n)| n).sum();
    Some(busy * 10_000)
}

fn own_rss() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn temperature() -> Option<i32> {
    fs::read_to_string("/sys/class/thermal/thermal_zone0/temp").ok()?.trim().parse().ok()
}
