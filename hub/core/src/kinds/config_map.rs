//! ConfigMaps: configuration as environment or files.

use super::{CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, VERBS, created_cells, no_warnings};

pub(super) const CONFIG_MAP: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
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
    selectable_fields: &[],
};
