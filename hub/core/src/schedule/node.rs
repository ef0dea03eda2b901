//! Nodes as the scheduler sees them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};

use super::resources::Amounts;
use crate::plan::{claim, pods};

/// Kubernetes' usual number of pods where a node does not say.
const USUAL_PODS: i64 = 110;

/// A node and what is on it.
#[derive(Debug, Clone)]
pub struct NodeView {
    name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) taints: Vec<Taint>,
    pub(super) is_cordoned: bool,
    pub(super) allocatable: Amounts,
    pub(super) most_pods: i64,
    pub(super) requested: Amounts,
    /// As scores count it; see [`Amounts::expected`].
    pub(super) expected: Amounts,
    pub(super) host_ports: BTreeSet<HostPort>,
    pub(super) tenants: Vec<Tenant>,
    /// Pods by the uid of their controller.
    by_owner: BTreeMap<String, i64>,
    /// Some tenant does not want certain others near.
    pub(super) has_wary_tenants: bool,
}

/// A pod on a node, as other pods' rules look at it.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) avoids: Vec<super::affinity::Near>,
    pub(super) is_going: bool,
}

/// A listener on the node itself. An empty address means all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    pub(super) port: i32,
    pub(super) protocol: String,
    pub(super) address: String,
}

/// All nodes, by name.
#[derive(Debug, Clone, Default)]
pub struct Nodes(BTreeMap<String, NodeView>);

impl Nodes {
    /// The nodes with the pods that are bound to them. Finished pods need no room.
    pub fn new<'a>(nodes: impl IntoIterator<Item = &'a Node>, bound: impl IntoIterator<Item = &'a Pod>) -> Self {
        let views = nodes.into_iter().filter(|node| node.metadata.deletion_timestamp.is_none()).map(NodeView::new);
        let mut nodes = Self(views.map(|view| (view.name.clone(), view)).collect());
        for pod in bound.into_iter().filter(|pod| !pods::is_finished(pod)) {
            if let Some(node) = pods::node_name(pod) {
                nodes.add(node, pod);
            }
        }
        nodes
    }

    /// A pod takes its room on a node; nothing happens where there is no such node.
    pub fn add(&mut self, node: &str, pod: &Pod) {
        if let Some(view) = self.0.get_mut(node) {
            view.add(pod);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&NodeView> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &NodeView> {
        self.0.values()
    }
}

impl NodeView {
    fn new(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        let mut allocatable = Amounts::new(allocatable);
        let most_pods = allocatable.others.remove("pods").unwrap_or(USUAL_PODS);
        Self {
            name: crate::plan::name(&node.metadata).to_owned(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            is_cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable,
            most_pods,
            requested: Amounts::default(),
            expected: Amounts::default(),
            host_ports: BTreeSet::new(),
            tenants: Vec::new(),
            by_owner: BTreeMap::new(),
            has_wary_tenants: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pods on it.
    pub fn pods(&self) -> usize {
        self.tenants.len()
    }

    /// Pods here that this owner controls.
    pub(super) fn pods_of(&self, owner: &str) -> i64 {
        self.by_owner.get(owner).copied().unwrap_or(0)
    }

    fn add(&mut self, pod: &Pod) {
        if let Some(owner) = claim::controller(&pod.metadata) {
            *self.by_owner.entry(owner.uid.clone()).or_default() += 1;
        }
        let avoids = super::affinity::avoided(pod);
        self.has_wary_tenants |= !avoids.is_empty();
        if let Some(spec) = &pod.spec {
            self.requested.add(&Amounts::requested(spec));
            self.expected.add(&Amounts::expected(spec));
            self.host_ports.extend(host_ports(spec));
        }
        self.tenants.push(Tenant {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            avoids,
            is_going: pod.metadata.deletion_timestamp.is_some(),
        });
    }
}

pub(super) fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let host_port = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let number = port.host_port.filter(|number| *number > 0)?;
        Some(HostPort {
            port: number,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            address: port.host_ip.clone().filter(|address| address != "0.0.0.0").unwrap_or_default(),
        })
    };
    ports.filter_map(host_port).collect()
}

impl HostPort {
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let same_address = self.address == other.address || self.address.is_empty() || other.address.is_empty();
        self.port == other.port && self.protocol == other.protocol && same_address
    }
}
