//! The downward API: what a pod is told of itself, as environment or files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;

use super::NodeView;
use crate::quantity::Quantity;

/// What `fieldRef` may name in the environment; labels and annotations with a key.
pub(crate) const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What `fieldRef` may name in a volume.
pub(crate) const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

pub(crate) const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A field of the pod that `fieldRef` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PodField {
    Name,
    Namespace,
    Uid,
    NodeName,
    ServiceAccountName,
    HostIp,
    PodIp,
    Labels,
    Annotations,
    Label(String),
    Annotation(String),
}

impl PodField {
    /// Reads `metadata.name`, `metadata.labels['app']`, ...
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let key_of = |field: &str| {
            let key = path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")?;
            (!key.is_empty()).then(|| key.to_owned())
        };
        if let Some(key) = key_of("metadata.labels") {
            return Some(Self::Label(key));
        }
        if let Some(key) = key_of("metadata.annotations") {
            return Some(Self::Annotation(key));
        }
        Some(match path {
            "metadata.name" => Self::Name,
            "metadata.namespace" => Self::Namespace,
            "metadata.uid" => Self::Uid,
            "metadata.labels" => Self::Labels,
            "metadata.annotations" => Self::Annotations,
            "spec.nodeName" => Self::NodeName,
            "spec.serviceAccountName" => Self::ServiceAccountName,
            "status.hostIP" | "status.hostIPs" => Self::HostIp,
            "status.podIP" | "status.podIPs" => Self::PodIp,
            _ => return None,
        })
    }

    pub(crate) fn value(&self, pod: &Pod, node: &NodeView) -> String {
        let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
        let text = |field: Option<&String>| field.cloned().unwrap_or_default();
        let keyed = |map: &Option<BTreeMap<String, String>>, key: &str| text(map.as_ref().and_then(|m| m.get(key)));
        match self {
            Self::Name => text(metadata.name.as_ref()),
            Self::Namespace => text(metadata.namespace.as_ref()),
            Self::Uid => text(metadata.uid.as_ref()),
            Self::NodeName => text(spec.and_then(|s| s.node_name.as_ref())),
            Self::ServiceAccountName => text(spec.and_then(|s| s.service_account_name.as_ref())),
            Self::HostIp => node.address.clone(),
            Self::PodIp => text(pod.status.as_ref().and_then(|s| s.pod_ip.as_ref())),
            Self::Labels => lines(metadata.labels.as_ref()),
            Self::Annotations => lines(metadata.annotations.as_ref()),
            Self::Label(key) => keyed(&metadata.labels, key),
            Self::Annotation(key) => keyed(&metadata.annotations, key),
        }
    }
}

/// One `key="value"` a line, sorted, values quoted as in Go.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// An amount that `resourceFieldRef` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResourceField {
    list: List,
    resource: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Limits,
    Requests,
}

impl ResourceField {
    /// Reads `limits.cpu`, `requests.memory`, ...
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (list, resource) = path.split_once('.')?;
        let list = match list {
            "limits" => List::Limits,
            "requests" => List::Requests,
            _ => return None,
        };
        let resource = ["cpu", "memory", "ephemeral-storage"].into_iter().find(|name| *name == resource)?;
        Some(Self { list, resource })
    }

    /// The amount in units of the divisor, rounded up; where the container sets no limit, what its node has.
    fn value(self, container: &Container, node: &NodeView, divisor: Quantity) -> String {
        let resources = container.resources.as_ref();
        let list = match self.list {
            List::Limits => resources.and_then(|r| r.limits.as_ref()),
            List::Requests => resources.and_then(|r| r.requests.as_ref()),
        };
        let own = list.and_then(|list| amount(list, self.resource));
        let amount = match self.list {
            List::Limits => own.or_else(|| amount(&node.allocatable, self.resource)),
            List::Requests => own,
        };
        divided(amount.unwrap_or(Quantity::ZERO), divisor, self.resource).to_string()
    }
}

pub(super) fn amount(list: &BTreeMap<String, QuantityText>, name: &str) -> Option<Quantity> {
    Quantity::parse(&list.get(name)?.0).ok()
}

/// CPU is divided in thousandths, so that a divisor of `1m` gives millicores.
fn divided(amount: Quantity, divisor: Quantity, resource: &str) -> i64 {
    let divisor = if divisor.is_zero() { Quantity::units(1) } else { divisor };
    let (amount, divisor) = match resource {
        "cpu" => (amount.milli_value(), divisor.milli_value()),
        _ => (amount.value(), divisor.value()),
    };
    let divisor = divisor.max(1);
    amount / divisor + i64::from(amount % divisor > 0)
}

/// What a `resourceFieldRef` says; `None` where it names no container or amount.
pub(super) fn resource_value(
    pod: &Pod,
    container: Option<&Container>,
    node: &NodeView,
    field: &ResourceFieldSelector,
) -> Option<String> {
    let named = field.container_name.as_deref().filter(|name| !name.is_empty());
    let spec = pod.spec.as_ref()?;
    let container = match named {
        Some(name) => spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)?,
        None => container?,
    };
    let divisor = field.divisor.as_ref().and_then(|text| Quantity::parse(&text.0).ok()).unwrap_or(Quantity::ZERO);
    Some(ResourceField::parse(&field.resource)?.value(container, node, divisor))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};
    use serde_json::json;

    use super::{PodField, ResourceField, resource_value};
    use crate::assign::NodeView;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "say \"x\""}},
            "spec": {"nodeName": "pi", "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}}}]},
            "status": {"podIP": "10.42.0.3"},
        }))
        .unwrap()
    }

    fn node() -> NodeView {
        NodeView {
            address: "192.168.1.4".into(),
            allocatable: serde_json::from_value(json!({"cpu": "4", "memory": "1Gi"})).unwrap(),
        }
    }

    #[test]
    fn fields_of_the_pod() {
        for (path, value) in [
            ("metadata.name", "p"),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['c']", ""),
            ("metadata.labels", "a=\"say \\\"x\\\"\"\nb=\"2\""),
            ("metadata.annotations", ""),
            ("spec.nodeName", "pi"),
            ("status.podIP", "10.42.0.3"),
            ("status.hostIP", "192.168.1.4"),
        ] {
            assert_eq!(PodField::parse(path).unwrap().value(&pod(), &node()), value, "{path}");
        }
        for path in ["", "metadata", "metadata.labels[]", "metadata.labels['']", "status.phase"] {
            assert_eq!(PodField::parse(path), None, "{path}");
        }
    }

    #[test]
    fn amounts() {
        let check = |resource: &str, divisor: &str, want: Option<&str>| {
            let field: ResourceFieldSelector =
                serde_json::from_value(json!({"containerName": "c", "resource": resource, "divisor": divisor}))
                    .unwrap();
            assert_eq!(resource_value(&pod(), None, &node(), &field).as_deref(), want, "{resource} / {divisor}");
        };
        check("limits.cpu", "0", Some("2"));
        check("limits.cpu", "1m", Some("1500"));
        check("limits.memory", "1Mi", Some("1024"));
        check("requests.memory", "1", Some("0"));
        check("limits.disk", "1", None);
        assert_eq!(ResourceField::parse("cpu"), None);
    }
}
