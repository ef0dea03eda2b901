//! Placements a second, the pure function alone.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use hub_core::schedule::{Nodes, place};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::Row;

const PODS: usize = 1000;

/// # Errors
/// Never in practice: the objects are made here.
pub fn measure() -> Result<Vec<Row>> {
    [10, 100, 1_000, 10_000].into_iter().map(at).collect()
}

fn at(count: usize) -> Result<Row> {
    let nodes = (0..count).map(node).collect::<Result<Vec<Node>>>()?;
    let pods = (0..PODS).map(pod).collect::<Result<Vec<Pod>>>()?;
    let pending: Vec<&Pod> = pods.iter().collect();
    let mut view = Nodes::new(nodes.iter(), []);
    let begun = Instant::now();
    let decisions = place(&pending, &mut view, &BTreeMap::new());
    let rate = decisions.len() as f64 / begun.elapsed().as_secs_f64();
    let placed = decisions.iter().filter(|decision| decision.outcome.is_ok()).count();
    Ok(Row::new(
        format!("scheduler at {count} nodes"),
        format!("{rate:.0} placements/s ({placed} of {PODS} placed)"),
        "",
    ))
}

fn node(number: usize) -> Result<Node> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("node-{number}"), "labels": {"kubernetes.io/hostname": format!("node-{number}")}},
        "status": {
            "allocatable": {"cpu": "4", "memory": "1Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))?)
}

fn pod(number: usize) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("pod-{number}"), "namespace": "default", "uid": format!("uid-{number}"), "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "main", "image": "hello", "resources": {"requests": {"cpu": "10m", "memory": "4Mi"}}}]},
    }))?)
}
