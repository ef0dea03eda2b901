//! Leases of nodes: what clients read of heartbeats, which are never written to the store.

use hub_core::kinds::{Resource, find};
use hub_core::object::Object;
use hub_core::time;
use serde_json::json;

use super::Api;
use crate::objects::ListOptions;

/// Where Kubernetes keeps them.
const NAMESPACE: &str = "kube-node-lease";

/// The lease of one node, if this is what is asked for.
pub(super) fn of_node(api: &Api, resource: &Resource, namespace: &str, name: &str) -> Option<Object> {
    if resource.kind != "Lease" || namespace != NAMESPACE {
        return None;
    }
    let node = api.objects().get(find("", "v1", "nodes")?, "", name).ok()?;
    Some(lease(api, resource, &node))
}

/// The leases of all nodes, if a list of `resource` in `namespace` has them.
pub(super) fn of_all_nodes(api: &Api, resource: &Resource, namespace: Option<&str>) -> Vec<Object> {
    if resource.kind != "Lease" || namespace.is_some_and(|namespace| namespace != NAMESPACE) {
        return Vec::new();
    }
    let nodes = find("", "v1", "nodes").and_then(|nodes| api.objects().list(nodes, &ListOptions::default()).ok());
    nodes.map(|list| list.items.iter().map(|node| lease(api, resource, node)).collect()).unwrap_or_default()
}

fn lease(api: &Api, resource: &Resource, node: &Object) -> Object {
    let heard = api.parts.heartbeats.snapshot();
    let heard = node.name().parse().ok().and_then(|name| heard.nodes.get(&name).copied());
    let renewed = heard.map(|at| {
        let ago = api.clock().monotonic().saturating_duration_since(at);
        let micros = u128::from(api.clock().unix_millis()) * 1000;
        time::format_micros(i64::try_from(micros.saturating_sub(ago.as_micros())).unwrap_or(i64::MAX))
    });
    let mut lease = json!({
        "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": {
            "name": node.name(), "namespace": NAMESPACE, "uid": node.uid(),
            "resourceVersion": node.resource_version().to_string(),
            "creationTimestamp": node.at(&["metadata", "creationTimestamp"]),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node.name(), "uid": node.uid()}],
        },
        "spec": {"holderIdentity": node.name(), "leaseDurationSeconds": api.parts.node_grace.as_secs()},
    });
    if let Some(renewed) = renewed {
        lease["spec"]["renewTime"] = json!(renewed);
    }
    Object::from_value(lease).expect("written above as an object")
}
