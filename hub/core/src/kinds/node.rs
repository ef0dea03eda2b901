//! Nodes: an edge agent as the scheduler and `kubectl get nodes` see it.

use super::{
    CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS, created_cells, no_warnings,
};

pub(super) const NODE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    categories: &[],
    scope: Scope::Cluster,
    verbs: VERBS,
    subresources: &[Subresource::Status],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Status,
    columns: CREATED_COLUMNS,
    cells: created_cells,
    default: |_| (),
    validate: |_, _| Vec::new(),
    warnings: no_warnings,
    selectable_fields: &[("spec.unschedulable", &["spec", "unschedulable"])],
};
