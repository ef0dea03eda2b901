//! Services: stored and shown.

use super::{
    CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS, created_cells, no_warnings,
};

pub(super) const SERVICE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Status],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Object,
    columns: CREATED_COLUMNS,
    cells: created_cells,
    default: |_| (),
    validate: |_, _| Vec::new(),
    warnings: no_warnings,
    selectable_fields: &[("spec.clusterIP", &["spec", "clusterIP"]), ("spec.type", &["spec", "type"])],
};
