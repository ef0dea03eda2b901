//! Pods: the containers that share an address, volumes and a lifetime.

use crate::kinds::{
    CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS, created_cells, no_warnings,
};

pub(super) const POD: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Status, Subresource::Log, Subresource::Eviction, Subresource::Binding],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Object,
    columns: CREATED_COLUMNS,
    cells: created_cells,
    default: |_| (),
    validate: |_, _| Vec::new(),
    warnings: no_warnings,
    selectable_fields: &[
        ("spec.nodeName", &["spec", "nodeName"]),
        ("spec.restartPolicy", &["spec", "restartPolicy"]),
        ("spec.schedulerName", &["spec", "schedulerName"]),
        ("spec.serviceAccountName", &["spec", "serviceAccountName"]),
        ("spec.hostNetwork", &["spec", "hostNetwork"]),
        ("status.phase", &["status", "phase"]),
        ("status.podIP", &["status", "podIP"]),
        ("status.nominatedNodeName", &["status", "nominatedNodeName"]),
    ],
};
