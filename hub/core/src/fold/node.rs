//! A node's object from what its agent found.
//!
//! Three write to a Node: people (labels, taints, cordon), node health (the Ready condition, taints of
//! lost nodes), and this fold. It touches the labels it set itself, facts, capacity and pressures.

use std::collections::BTreeMap;

use protocol::ids::BootId;
use protocol::reported::{NodeFacts, Pressure};
use serde_json::{Value, json};

use super::Heard;
use super::condition::{Finding, Holds, Looked, merged};
use crate::name::{NameKind, is_valid};
use crate::object::Object;
use crate::quantity::Quantity;

/// The keys of the labels that came from the agent, so that those it no longer has are taken away.
const AGENT_LABELS: &str = "wherry.dev/agent-labels";

/// Writes the node's labels: what it is, and those that its agent was started with (`--labels`), which
/// cannot replace the former. Labels that others set stay.
pub fn fold_labels(node: &mut Object, facts: &NodeFacts) {
    let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let name = node.name().to_owned();
    let mut labels: BTreeMap<String, String> = facts
        .labels
        .iter()
        .filter(|(key, value)| is_valid(NameKind::Qualified, key) && is_valid(NameKind::LabelValue, value))
        .cloned()
        .collect();
    labels.extend([
        own("kubernetes.io/arch", &facts.arch),
        own("kubernetes.io/os", &facts.os),
        // The name, not the host's: spreading over it must tell two agents of one host apart.
        own("kubernetes.io/hostname", &name),
        own("wherry.dev/runtime", "wasmtime"),
    ]);
    let before = node.annotation(AGENT_LABELS).unwrap_or_default().to_owned();
    for key in before.split(',').filter(|key| !key.is_empty() && !labels.contains_key(*key)) {
        node.remove(&["metadata", "labels", key]);
    }
    let keys = labels.keys().map(String::as_str).collect::<Vec<_>>().join(",");
    for (key, value) in labels {
        node.set(&["metadata", "labels", &key], value);
    }
    node.set(&["metadata", "annotations", AGENT_LABELS], keys);
}

/// Writes the node's status, but for its Ready condition, which node health owns.
pub fn fold_node(node: &mut Object, facts: &NodeFacts, boot: BootId, heard: &Heard<'_>) {
    let findings = PRESSURES.iter().map(|pressure| pressure.finding(facts)).collect();
    let conditions = merged(node.at(&["status", "conditions"]), findings, Looked::Heartbeat, heard.now);
    let mut addresses: Vec<Value> = facts
        .addresses
        .iter()
        .map(|[a, b, c, d]| json!({"type": "InternalIP", "address": format!("{a}.{b}.{c}.{d}")}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": facts.hostname}));
    node.set(&["status", "capacity"], amounts(facts));
    node.set(&["status", "allocatable"], amounts(facts));
    node.set(&["status", "conditions"], conditions);
    node.set(&["status", "addresses"], addresses);
    node.set(&["status", "nodeInfo"], info(facts, boot));
}

fn amounts(facts: &NodeFacts) -> Value {
    let bytes = |bytes: u64| Quantity::bytes(i64::try_from(bytes).unwrap_or(i64::MAX)).to_string();
    let capacity = &facts.capacity;
    json!({
        "cpu": Quantity::milli(capacity.cpu_milli.into()).to_string(),
        "ephemeral-storage": bytes(capacity.storage_bytes),
        "memory": bytes(capacity.memory_bytes),
        "pods": capacity.pods.to_string(),
    })
}

fn info(facts: &NodeFacts, boot: BootId) -> Value {
    // `48.0.8+abi1`: the settings baked into artifacts are ours to compare, the version is people's.
    let engine = facts.target.engine.split('+').next().unwrap_or_default();
    json!({
        "architecture": facts.arch,
        "bootID": uuid(boot),
        "containerRuntimeVersion": format!("wasmtime://{engine}"),
        "kernelVersion": facts.kernel,
        "kubeProxyVersion": "",
        "kubeletVersion": format!("v{}", facts.agent_version.trim_start_matches('v')),
        "machineID": facts.machine_id,
        "operatingSystem": facts.os,
        "osImage": facts.os_image,
        "systemUUID": facts.machine_id,
    })
}

/// Dashed, as Linux shows it.
fn uuid(boot: BootId) -> String {
    protocol::ids::PodUid(boot.0).to_string()
}

/// How a pressure shows as a condition.
struct PressureWords {
    pressure: Pressure,
    condition: &'static str,
    enough: &'static str,
    short: &'static str,
    what: &'static str,
}

const PRESSURES: [PressureWords; 3] = [
    PressureWords {
        pressure: Pressure::Memory,
        condition: "MemoryPressure",
        enough: "AgentHasSufficientMemory",
        short: "AgentHasInsufficientMemory",
        what: "memory",
    },
    PressureWords {
        pressure: Pressure::Disk,
        condition: "DiskPressure",
        enough: "AgentHasNoDiskPressure",
        short: "AgentHasDiskPressure",
        what: "disk space",
    },
    PressureWords {
        pressure: Pressure::Pids,
        condition: "PIDPressure",
        enough: "AgentHasSufficientPID",
        short: "AgentHasInsufficientPID",
        what: "process ids",
    },
];

impl PressureWords {
    /// `False` is the good answer here.
    fn finding(&self, facts: &NodeFacts) -> Finding {
        let what = self.what;
        let holds = if facts.pressures.contains(&self.pressure) {
            Holds::YesAs(self.short, format!("the edge agent runs short of {what}"))
        } else {
            Holds::No(self.enough, format!("the edge agent has enough {what}"))
        };
        Finding { kind: self.condition, holds }
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::BootId;
    use protocol::reported::{Capacity, MemoryProfile, NodeFacts, Pressure, Target};
    use serde_json::json;

    use super::super::Heard;
    use super::{fold_labels, fold_node};
    use crate::object::Object;

    const HEARD: Heard<'_> = Heard { host_ip: "", skew_millis: 0, now: 60 };

    fn facts() -> NodeFacts {
        NodeFacts {
            arch: "arm64".into(),
            os: "linux".into(),
            os_image: "Debian GNU/Linux 13".into(),
            kernel: "6.12.0".into(),
            machine_id: "m".into(),
            agent_version: "0.1.0".into(),
            target: Target {
                triple: "aarch64-unknown-linux-gnu".into(),
                cpu_features: vec![],
                memory: MemoryProfile::Fast,
                engine: "48.0.8+abi1".into(),
            },
            capacity: Capacity { cpu_milli: 4000, memory_bytes: 1 << 30, storage_bytes: 1 << 33, pods: 110 },
            addresses: vec![[10, 0, 0, 7]],
            hostname: "raspberrypi".into(),
            labels: vec![("site".into(), "roof".into()), ("bad key".into(), "x".into())],
            pressures: vec![],
        }
    }

    fn node() -> Object {
        Object::from_value(json!({"metadata": {"name": "pi", "labels": {"by": "hand"}}})).unwrap()
    }

    #[test]
    fn labels_say_what_it_is_and_what_it_was_told() {
        let mut node = node();
        fold_labels(&mut node, &facts());
        let labels = json!({
            "by": "hand", "site": "roof", "kubernetes.io/arch": "arm64", "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": "pi", "wherry.dev/runtime": "wasmtime",
        });
        assert_eq!(node.at(&["metadata", "labels"]), Some(&labels));
        let before = node.clone();
        fold_labels(&mut node, &facts());
        assert_eq!(node, before);
        fold_labels(&mut node, &NodeFacts { labels: vec![("kubernetes.io/os".into(), "plan9".into())], ..facts() });
        assert_eq!(
            (node.label("site"), node.label("by"), node.label("kubernetes.io/os")),
            (None, Some("hand"), Some("linux"))
        );
    }

    #[test]
    fn facts_capacity_and_addresses() {
        let mut node = node();
        fold_node(&mut node, &facts(), BootId([1; 16]), &HEARD);
        let status = node.at(&["status"]).unwrap();
        assert_eq!(status["capacity"], json!({"cpu": "4", "ephemeral-storage": "8Gi", "memory": "1Gi", "pods": "110"}));
        assert_eq!(status["allocatable"], status["capacity"]);
        assert_eq!(
            status["addresses"],
            json!([{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "Hostname", "address": "raspberrypi"}])
        );
        let info = &status["nodeInfo"];
        assert_eq!(info["containerRuntimeVersion"], "wasmtime://48.0.8");
        assert_eq!(
            (&info["kubeletVersion"], &info["bootID"]),
            (&json!("v0.1.0"), &json!("01010101-0101-0101-0101-010101010101"))
        );
        let before = node.clone();
        fold_node(&mut node, &facts(), BootId([1; 16]), &Heard { now: 999, ..HEARD });
        assert_eq!(node, before);
    }

    #[test]
    fn pressures_come_and_go_and_ready_is_left_alone() {
        let mut node = node();
        let ready = json!({"type": "Ready", "status": "Unknown"});
        node.set(&["status", "conditions"], json!([ready]));
        let disk = |node: &Object| node.at(&["status", "conditions"]).unwrap()[2].clone();
        fold_node(&mut node, &NodeFacts { pressures: vec![Pressure::Disk], ..facts() }, BootId([1; 16]), &HEARD);
        assert_eq!((&disk(&node)["type"], &disk(&node)["status"]), (&json!("DiskPressure"), &json!("True")));
        fold_node(&mut node, &facts(), BootId([1; 16]), &Heard { now: 120, ..HEARD });
        assert_eq!(
            (&disk(&node)["status"], &disk(&node)["lastTransitionTime"]),
            (&json!("False"), &json!("1970-01-01T00:02:00Z"))
        );
        assert_eq!(node.at(&["status", "conditions"]).unwrap()[0], ready);
    }
}
