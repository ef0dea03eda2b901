//! Soft rules: which of the nodes that take a pod is best. Each gives 0 to 100; the weights are
//! Kubernetes'.

use super::affinity;
use super::filter::{Context, Request};
use super::node::NodeView;

const BEST: i64 = 100;

const TAINTS: i64 = 3;
const AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const LEAST_ALLOCATED: i64 = 1;
const BALANCED: i64 = 1;

/// One score for each node, in their order.
pub(super) fn scores(request: &Request<'_>, nodes: &[&NodeView], context: &Context<'_>) -> Vec<i64> {
    let each = |of: &dyn Fn(&NodeView) -> i64| nodes.iter().map(|node| of(node)).collect::<Vec<i64>>();
    let count = |list: usize| i64::try_from(list).unwrap_or(i64::MAX);
    let taints = fewer_is_better(each(&|node| count(request.untolerated(node, &["PreferNoSchedule"]).len())));
    let affinity = more_is_better(each(&|node| affinity::preference(&request.spec, node)));
    let spread = fewer_is_better(each(&|node| context.unevenness(node).unwrap_or_else(|| siblings(request, node))));
    let least = each(&|node| least_allocated(request, node));
    let balanced = each(&|node| balance(request, node));
    (0..nodes.len())
        .map(|at| {
            TAINTS * taints[at]
                + AFFINITY * affinity[at]
                + SPREAD * spread[at]
                + LEAST_ALLOCATED * least[at]
                + BALANCED * balanced[at]
        })
        .collect()
}

/// Pods of the same owner on a node; 0 for pods that nobody controls.
fn siblings(request: &Request<'_>, node: &NodeView) -> i64 {
    request.owner.as_ref().map_or(0, |owner| node.pods_of(owner))
}

fn more_is_better(raw: Vec<i64>) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most <= 0 {
        return vec![0; raw.len()];
    }
    raw.into_iter().map(|value| value.max(0).saturating_mul(BEST) / most).collect()
}

fn fewer_is_better(raw: Vec<i64>) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most <= 0 {
        return vec![BEST; raw.len()];
    }
    raw.into_iter().map(|value| BEST - value.max(0).saturating_mul(BEST) / most).collect()
}

/// The free share of CPU and memory once the pod is there.
fn least_allocated(request: &Request<'_>, node: &NodeView) -> i64 {
    let free = |capacity: i64, used: i64| {
        if capacity <= 0 { 0 } else { (capacity - used).max(0).saturating_mul(BEST) / capacity }
    };
    let (cpu, memory) = used(request, node);
    i64::midpoint(free(node.allocatable.cpu, cpu), free(node.allocatable.memory, memory))
}

/// How close the used shares of CPU and memory are: a node short of one wastes the other.
fn balance(request: &Request<'_>, node: &NodeView) -> i64 {
    let share = |capacity: i64, used: i64| {
        if capacity <= 0 { BEST } else { (used.saturating_mul(BEST) / capacity).min(BEST) }
    };
    let (cpu, memory) = used(request, node);
    BEST - (share(node.allocatable.cpu, cpu) - share(node.allocatable.memory, memory)).abs() / 2
}

fn used(request: &Request<'_>, node: &NodeView) -> (i64, i64) {
    let cpu = node.expected.cpu.saturating_add(request.expected.cpu);
    (cpu, node.expected.memory.saturating_add(request.expected.memory))
}
