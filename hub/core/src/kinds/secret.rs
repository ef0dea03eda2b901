//! Secrets: configuration that leaves the hub only sealed to a node.

use super::{CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, VERBS, created_cells, no_warnings};

pub(super) const SECRET: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Status,
    columns: CREATED_COLUMNS,
    cells: created_cells,
    default: |_| (),
    validate: |_, _| Vec::new(),
    warnings: no_warnings,
    selectable_fields: &[("type", &["type"])],
};
