//! Hard rules: what makes a node refuse a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Taint, TopologySpreadConstraint};

use super::affinity::{self, Near};
use super::node::{HostPort, NodeView, Nodes, host_ports};
use super::refusal::Refusal;
use super::resources::Amounts;
use crate::plan::claim;
use crate::plan::node_health::{UNSCHEDULABLE, tolerates};
use crate::selector::LabelSelector;

/// A waiting pod, parsed once for all nodes.
pub(super) struct Request<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: PodSpec,
    pub(super) requested: Amounts,
    pub(super) expected: Amounts,
    pub(super) owner: Option<String>,
    host_ports: Vec<HostPort>,
    sought: Vec<Near>,
    avoided: Vec<Near>,
}

/// What a pod's rules need to know of all nodes at once.
pub(super) struct Context<'a> {
    nodes: &'a Nodes,
    spreads: Vec<Spread>,
    /// Nodes' tenants that avoid this pod: the node they are on, and their rule.
    repelled: Vec<(&'a NodeView, &'a Near)>,
}

/// One topology spread constraint: matching pods by domain.
pub(super) struct Spread {
    key: String,
    most_skew: i64,
    is_hard: bool,
    counts: BTreeMap<String, i64>,
    /// 1 if the pod itself matches, which it usually does.
    own: i64,
}

impl<'a> Request<'a> {
    pub(super) fn new(pod: &'a Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        Self {
            requested: Amounts::requested(&spec),
            expected: Amounts::expected(&spec),
            host_ports: host_ports(&spec),
            owner: claim::controller(&pod.metadata).map(|owner| owner.uid.clone()),
            sought: affinity::sought(pod),
            avoided: affinity::avoided(pod),
            pod,
            spec,
        }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        self.spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, taint))
    }

    /// The taints of one effect that it does not tolerate.
    pub(super) fn untolerated<'n>(&self, node: &'n NodeView, effects: &[&str]) -> Vec<&'n Taint> {
        node.taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()) && !self.tolerates(taint)).collect()
    }
}

impl<'a> Context<'a> {
    pub(super) fn new(request: &Request<'_>, nodes: &'a Nodes) -> Self {
        let constraints = request.spec.topology_spread_constraints.iter().flatten();
        let spreads = constraints.map(|constraint| Spread::new(constraint, request, nodes)).collect();
        // Few pods avoid others, and this is asked for each waiting one.
        let wary = nodes.iter().filter(|node| node.has_wary_tenants);
        let tenants = wary.flat_map(|node| node.tenants.iter().map(move |tenant| (node, tenant)));
        let repelled = tenants
            .flat_map(|(node, tenant)| tenant.avoids.iter().map(move |near| (node, near)))
            .filter(|(_, near)| near.selects_pod(request.pod))
            .collect();
        Self { nodes, spreads, repelled }
    }

    /// How far soft constraints are from even if the pod goes to this node: pods in its domains.
    pub(super) fn unevenness(&self, node: &NodeView) -> Option<i64> {
        let soft = self.spreads.iter().filter(|spread| !spread.is_hard);
        soft.map(|spread| spread.count(node).unwrap_or(i64::from(i32::MAX))).reduce(i64::saturating_add)
    }
}

impl Spread {
    fn new(constraint: &TopologySpreadConstraint, request: &Request<'_>, nodes: &Nodes) -> Self {
        let key = constraint.topology_key.clone();
        let selector = constraint.label_selector.as_ref().and_then(super::selector);
        let namespace = request.pod.metadata.namespace.as_deref().unwrap_or_default();
        let matches = |labels: Option<&BTreeMap<String, String>>| {
            let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
            selector.as_ref().is_some_and(|selector: &LabelSelector| selector.matches_labels(label))
        };
        let mut counts = BTreeMap::new();
        // Only nodes that the pod may go to count as domains.
        for node in nodes.iter().filter(|node| affinity::allows(&request.spec, node)) {
            let Some(domain) = node.labels.get(&key) else { continue };
            let here =
                node.tenants.iter().filter(|t| t.namespace == namespace && !t.is_going && matches(Some(&t.labels)));
            *counts.entry(domain.clone()).or_default() += i64::try_from(here.count()).unwrap_or(i64::MAX);
        }
        Self {
            key,
            most_skew: i64::from(constraint.max_skew),
            is_hard: constraint.when_unsatisfiable != "ScheduleAnyway",
            counts,
            own: i64::from(matches(request.pod.metadata.labels.as_ref())),
        }
    }

    fn count(&self, node: &NodeView) -> Option<i64> {
        self.counts.get(node.labels.get(&self.key)?).copied()
    }

    fn refusal(&self, node: &NodeView) -> Option<Refusal> {
        let Some(count) = self.count(node) else { return Some(Refusal::SpreadLabel) };
        let fewest = self.counts.values().copied().min().unwrap_or(0);
        (count + self.own - fewest > self.most_skew).then_some(Refusal::Spread)
    }
}

/// Why this node refuses the pod: the first rule that does, with all that it lacks; empty if none does.
pub(super) fn refusals(request: &Request<'_>, node: &NodeView, context: &Context<'_>) -> Vec<Refusal> {
    let first = cordon(request, node)
        .or_else(|| node_name(request, node))
        .or_else(|| taint(request, node))
        .or_else(|| (!affinity::allows(&request.spec, node)).then_some(Refusal::NodeAffinity))
        .or_else(|| host_port(request, node));
    if let Some(first) = first {
        return vec![first];
    }
    let lacking = lacking(request, node);
    if !lacking.is_empty() {
        return lacking;
    }
    let spread = context.spreads.iter().filter(|spread| spread.is_hard).find_map(|spread| spread.refusal(node));
    spread.or_else(|| neighbours(request, node, context)).into_iter().collect()
}

fn cordon(request: &Request<'_>, node: &NodeView) -> Option<Refusal> {
    if !node.is_cordoned {
        return None;
    }
    let key = UNSCHEDULABLE.to_owned();
    let taint = Taint { key, effect: "NoSchedule".to_owned(), value: None, time_added: None };
    (!request.tolerates(&taint)).then_some(Refusal::Unschedulable)
}

fn node_name(request: &Request<'_>, node: &NodeView) -> Option<Refusal> {
    let wanted = request.spec.node_name.as_deref().filter(|name| !name.is_empty());
    wanted.is_some_and(|wanted| wanted != node.name()).then_some(Refusal::NodeName)
}

fn taint(request: &Request<'_>, node: &NodeView) -> Option<Refusal> {
    let taint = *request.untolerated(node, &["NoSchedule", "NoExecute"]).first()?;
    Some(Refusal::Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default() })
}

fn host_port(request: &Request<'_>, node: &NodeView) -> Option<Refusal> {
    let taken = |wanted: &HostPort| node.host_ports.iter().any(|used| used.conflicts(wanted));
    request.host_ports.iter().any(taken).then_some(Refusal::HostPort)
}

fn lacking(request: &Request<'_>, node: &NodeView) -> Vec<Refusal> {
    let is_full = i64::try_from(node.pods()).is_ok_and(|pods| pods >= node.most_pods);
    let mut refusals: Vec<Refusal> = is_full.then_some(Refusal::TooManyPods).into_iter().collect();
    refusals
        .extend(request.requested.lacking(&node.allocatable, &node.requested).into_iter().map(Refusal::Insufficient));
    refusals
}

fn neighbours(request: &Request<'_>, node: &NodeView, context: &Context<'_>) -> Option<Refusal> {
    // The first of a group that wants to be together may go anywhere, or none ever could.
    let is_first = |near: &Near| near.selects_pod(request.pod) && !near.is_met_anywhere(context.nodes);
    if !request.sought.iter().all(|near| near.is_met(node, context.nodes) || is_first(near)) {
        return Some(Refusal::PodAffinity);
    }
    if request.avoided.iter().any(|near| near.is_met(node, context.nodes)) {
        return Some(Refusal::PodAntiAffinity);
    }
    let is_repelled = context.repelled.iter().any(|(at, near)| near.is_near(at, node));
    is_repelled.then_some(Refusal::ExistingAntiAffinity)
}
