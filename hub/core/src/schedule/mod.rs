//! Which node each waiting pod goes to, and why not the others. `README.md` here lists the wanted
//! properties.
//!
//! ```text
//! node       a node as the scheduler sees it: parsed once, pods added as they are placed
//! resources  requests and capacities              affinity  node selectors, pods near and apart
//! filter     hard rules, each with its refusal    score     soft ones, 0 to 100
//! refusal    why nodes refused, in one line       address   pod addresses
//! ```

mod address;
mod affinity;
mod filter;
mod node;
mod refusal;
mod resources;
mod score;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as SelectorSpec;

use crate::selector::LabelSelector;

pub use address::{AddressPool, PODS};
pub use node::{NodeView, Nodes};
pub use refusal::{Refusal, Unplaced};

/// What became of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub outcome: Result<String, Unplaced>,
}

/// Places the waiting pods, the most important and oldest first. Each placement counts for the next.
///
/// `previous` has, by uid, what was decided before and is not yet visible in `nodes`: such a pod
/// stays there if the place is still valid.
pub fn place(pending: &[&Pod], nodes: &mut Nodes, previous: &BTreeMap<String, String>) -> Vec<Decision> {
    let mut order = pending.to_vec();
    order.sort_by_cached_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        (Reverse(priority), crate::plan::created(&pod.metadata), pod.metadata.uid.clone())
    });
    // What was decided takes its room first, so that no newcomer gets it.
    let (decided, fresh): (Vec<&Pod>, Vec<&Pod>) =
        order.into_iter().partition(|pod| previous.contains_key(crate::plan::uid(&pod.metadata)));
    decided.into_iter().chain(fresh).map(|pod| decide(pod, nodes, previous)).collect()
}

fn decide(pod: &Pod, nodes: &mut Nodes, previous: &BTreeMap<String, String>) -> Decision {
    let request = filter::Request::new(pod);
    let before = previous.get(crate::plan::uid(&pod.metadata));
    let outcome = place_one(&request, nodes, before.map(String::as_str));
    if let Ok(node) = &outcome {
        nodes.add(node, pod);
    }
    Decision {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: crate::plan::name(&pod.metadata).to_owned(),
        uid: crate::plan::uid(&pod.metadata).to_owned(),
        outcome,
    }
}

fn place_one(request: &filter::Request<'_>, nodes: &Nodes, before: Option<&str>) -> Result<String, Unplaced> {
    let mut unplaced = Unplaced::new(nodes.len());
    let mut fitting: Vec<&NodeView> = Vec::new();
    let context = filter::Context::new(request, nodes);
    for node in nodes.iter() {
        match filter::refusals(request, node, &context) {
            refusals if refusals.is_empty() => fitting.push(node),
            refusals => unplaced.add(refusals),
        }
    }
    if let Some(kept) = fitting.iter().find(|node| Some(node.name()) == before) {
        return Ok(kept.name().to_owned());
    }
    let scores = score::scores(request, &fitting, &context);
    let best =
        fitting.iter().zip(scores).max_by_key(|(node, score)| (*score, Reverse(node.pods()), Reverse(node.name())));
    best.map(|(node, _)| node.name().to_owned()).ok_or(unplaced)
}

/// A selector in a pod's spec; one that cannot be read selects nothing.
fn selector(spec: &SelectorSpec) -> Option<LabelSelector> {
    LabelSelector::from_json(&serde_json::to_value(spec).ok()?).ok()
}

#[cfg(test)]
mod tests;
