//! How strategic merge patches treat lists and objects, where it is not plain replacement.
//!
//! Facts of the Kubernetes API, as its protobuf definitions tell them (`patchMergeKey`,
//! `patchStrategy`; read from the documentation of crate `k8s-pb` 0.9).

use super::types::Merge;

/// (type, field, what happens), by the type's name without its package's prefix.
const RULES: &[(&str, &str, Merge)] = &[
    ("meta.v1.ObjectMeta", "finalizers", Merge::Set),
    ("meta.v1.ObjectMeta", "ownerReferences", Merge::ByKey("uid")),
    ("apps.v1.DeploymentSpec", "strategy", Merge::RetainKeys),
    ("apps.v1.DeploymentStatus", "conditions", Merge::ByKey("type")),
    ("apps.v1.ReplicaSetStatus", "conditions", Merge::ByKey("type")),
    ("core.v1.Container", "env", Merge::ByKey("name")),
    ("core.v1.Container", "ports", Merge::ByKey("containerPort")),
    ("core.v1.Container", "volumeDevices", Merge::ByKey("devicePath")),
    ("core.v1.Container", "volumeMounts", Merge::ByKey("mountPath")),
    ("core.v1.ContainerStatus", "allocatedResourcesStatus", Merge::ByKey("name")),
    ("core.v1.ContainerStatus", "volumeMounts", Merge::ByKey("mountPath")),
    ("core.v1.EphemeralContainer", "env", Merge::ByKey("name")),
    ("core.v1.EphemeralContainer", "ports", Merge::ByKey("containerPort")),
    ("core.v1.EphemeralContainer", "volumeDevices", Merge::ByKey("devicePath")),
    ("core.v1.EphemeralContainer", "volumeMounts", Merge::ByKey("mountPath")),
    ("core.v1.NamespaceStatus", "conditions", Merge::ByKey("type")),
    ("core.v1.NodeSpec", "podCIDRs", Merge::Set),
    ("core.v1.NodeStatus", "addresses", Merge::ByKey("type")),
    ("core.v1.NodeStatus", "conditions", Merge::ByKey("type")),
    ("core.v1.PodSpec", "containers", Merge::ByKey("name")),
    ("core.v1.PodSpec", "ephemeralContainers", Merge::ByKey("name")),
    ("core.v1.PodSpec", "hostAliases", Merge::ByKey("ip")),
    ("core.v1.PodSpec", "imagePullSecrets", Merge::ByKey("name")),
    ("core.v1.PodSpec", "initContainers", Merge::ByKey("name")),
    ("core.v1.PodSpec", "resourceClaims", Merge::ByKeyRetaining("name")),
    ("core.v1.PodSpec", "schedulingGates", Merge::ByKey("name")),
    ("core.v1.PodSpec", "topologySpreadConstraints", Merge::ByKey("topologyKey")),
    ("core.v1.PodSpec", "volumes", Merge::ByKeyRetaining("name")),
    ("core.v1.PodStatus", "conditions", Merge::ByKey("type")),
    ("core.v1.PodStatus", "hostIPs", Merge::ByKey("ip")),
    ("core.v1.PodStatus", "podIPs", Merge::ByKey("ip")),
    ("core.v1.PodStatus", "resourceClaimStatuses", Merge::ByKeyRetaining("name")),
    ("core.v1.ServiceAccount", "secrets", Merge::ByKey("name")),
    ("core.v1.ServiceSpec", "ports", Merge::ByKey("port")),
    ("core.v1.ServiceStatus", "conditions", Merge::ByKey("type")),
];

/// The rule of a field; `type_name` is the full name of the type that has it.
pub(super) fn rule(type_name: &str, field: &str) -> Merge {
    let short = type_name
        .strip_prefix("io.k8s.api.")
        .or_else(|| type_name.strip_prefix("io.k8s.apimachinery.pkg.apis."))
        .unwrap_or(type_name);
    let found = RULES.iter().find(|(name, of, _)| *name == short && *of == field);
    found.map_or(Merge::Default, |(_, _, merge)| *merge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Shape, by_name};

    #[test]
    fn rules_name_fields_that_exist() {
        for (name, field, merge) in RULES {
            let package = if name.starts_with("meta.") { "io.k8s.apimachinery.pkg.apis." } else { "io.k8s.api." };
            let type_ = by_name(&format!("{package}{name}")).unwrap_or_else(|| panic!("no type {name}"));
            let found = type_.field(field).unwrap_or_else(|| panic!("no field {name}.{field}"));
            assert_eq!(found.merge, *merge, "{name}.{field}");
            let key = match merge {
                Merge::ByKey(key) | Merge::ByKeyRetaining(key) => key,
                Merge::Set => {
                    assert!(matches!(&found.shape, Shape::List(item) if **item == Shape::Text), "{name}.{field}");
                    continue;
                }
                Merge::RetainKeys | Merge::Default => continue,
            };
            let Shape::List(item) = &found.shape else { panic!("{name}.{field} is no list") };
            assert!(item.type_().is_some_and(|item| item.field(key).is_some()), "{name}.{field} has no {key}");
        }
    }
}
