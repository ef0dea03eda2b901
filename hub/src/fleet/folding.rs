//! Gives hub-core's `fold` what it needs, and says whether there is something to write.

use hub_core::object::Object;
use k8s_openapi::api::core::v1::Node;
use protocol::NodeName;
use protocol::reported::{NodeFacts, PodReport};

use crate::objects::Changed;

/// The labels that a node's facts give it; those that people put there stay.
pub(super) fn labels(object: &mut Object, node: &NodeName, facts: &NodeFacts) -> Changed {
    let own = [
        ("kubernetes.io/arch", facts.arch.as_str()),
        ("kubernetes.io/os", facts.os.as_str()),
        ("kubernetes.io/hostname", node.as_str()),
        ("wherry.dev/runtime", "wasmtime"),
    ];
    let given = facts.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut changed = Changed::No;
    for (key, value) in own.into_iter().chain(given) {
        if object.label(key) != Some(value) {
            object.set(&["metadata", "labels", key], value);
            changed = Changed::Yes;
        }
    }
    changed
}

pub(super) fn node(object: &mut Object, facts: &NodeFacts, now: i64) -> Changed {
    let _ = (object, facts, now);
    Changed::No
}

pub(super) fn pod(object: &mut Object, report: &PodReport, node: Option<&Node>, skew_millis: i64, now: i64) -> Changed {
    let _ = (object, report, node, skew_millis, now);
    Changed::No
}
