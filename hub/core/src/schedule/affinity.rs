//! Node selectors and affinities, and rules about pods near each other.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec};

use super::node::{NodeView, Nodes, Tenant};
use crate::selector::LabelSelector;

/// Whether the node is one that `nodeSelector` and the required node affinity allow.
pub(super) fn allows(spec: &PodSpec, node: &NodeView) -> bool {
    let mut selector = spec.node_selector.iter().flatten();
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selector.all(|(key, value)| node.labels.get(key) == Some(value))
        && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| matches(term, node)))
}

/// The weights of the preferred terms that the node matches.
pub(super) fn preference(spec: &PodSpec, node: &NodeView) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let matching = preferred.into_iter().flatten().filter(|term| matches(&term.preference, node));
    matching.map(|term| i64::from(term.weight)).sum()
}

/// All of a term's expressions; a term without any matches no node.
fn matches(term: &NodeSelectorTerm, node: &NodeView) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let name = |key: &str| (key == "metadata.name").then(|| node.name());
    let label = |key: &str| node.labels.get(key).map(String::as_str);
    let is_empty = expressions.clone().next().is_none() && fields.clone().next().is_none();
    !is_empty && expressions.clone().all(|e| holds(e, label(&e.key))) && fields.clone().all(|e| holds(e, name(&e.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|one| one == value);
    let compare = |holds: fn(&i64, &i64) -> bool| {
        let numbers = value.and_then(|v| v.parse::<i64>().ok()).zip(values.first().and_then(|v| v.parse::<i64>().ok()));
        numbers.is_some_and(|(value, bound)| holds(&value, &bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// A required rule about pods near: which pods, and what counts as near.
#[derive(Debug, Clone)]
pub(super) struct Near {
    selector: Option<LabelSelector>,
    namespaces: Vec<String>,
    topology: String,
}

/// What must be near.
pub(super) fn sought(pod: &Pod) -> Vec<Near> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()).and_then(|a| a.pod_affinity.as_ref());
    let terms = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    terms.into_iter().flatten().map(|term| Near::new(term, pod)).collect()
}

/// What must not be near.
pub(super) fn avoided(pod: &Pod) -> Vec<Near> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()).and_then(|a| a.pod_anti_affinity.as_ref());
    let terms = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    terms.into_iter().flatten().map(|term| Near::new(term, pod)).collect()
}

impl Near {
    fn new(term: &PodAffinityTerm, pod: &Pod) -> Self {
        let own = pod.metadata.namespace.clone().unwrap_or_default();
        Self {
            selector: term.label_selector.as_ref().and_then(super::selector),
            namespaces: term.namespaces.clone().filter(|list| !list.is_empty()).unwrap_or_else(|| vec![own]),
            topology: term.topology_key.clone(),
        }
    }

    fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let label = |key: &str| labels.get(key).map(String::as_str);
        self.namespaces.iter().any(|one| one == namespace)
            && self.selector.as_ref().is_some_and(|selector| selector.matches_labels(label))
    }

    pub(super) fn selects_pod(&self, pod: &Pod) -> bool {
        let none = BTreeMap::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
        self.selects(pod.metadata.namespace.as_deref().unwrap_or_default(), labels)
    }

    /// Whether a selected pod is in the node's domain. A node without the label is in none.
    pub(super) fn is_met(&self, node: &NodeView, nodes: &Nodes) -> bool {
        let Some(domain) = node.labels.get(&self.topology) else { return false };
        let neighbours = nodes.iter().filter(|other| other.labels.get(&self.topology) == Some(domain));
        neighbours.flat_map(|other| &other.tenants).any(|tenant| self.selects_tenant(tenant))
    }

    /// Whether a selected pod is anywhere.
    pub(super) fn is_met_anywhere(&self, nodes: &Nodes) -> bool {
        nodes.iter().flat_map(|node| &node.tenants).any(|tenant| self.selects_tenant(tenant))
    }

    /// Whether two nodes are near each other by this rule.
    pub(super) fn is_near(&self, one: &NodeView, other: &NodeView) -> bool {
        let domain = one.labels.get(&self.topology);
        domain.is_some() && domain == other.labels.get(&self.topology)
    }

    fn selects_tenant(&self, tenant: &Tenant) -> bool {
        self.selects(&tenant.namespace, &tenant.labels)
    }
}
