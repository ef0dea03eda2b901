//! Deployments: N replicas of a template, and how to go from one template to the next.

use super::{
    CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS, created_cells, no_warnings,
};

pub(super) const DEPLOYMENT: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Status, Subresource::Scale],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Status,
    columns: CREATED_COLUMNS,
    cells: created_cells,
    default: |_| (),
    validate: |_, _| Vec::new(),
    warnings: no_warnings,
    selectable_fields: &[],
};
