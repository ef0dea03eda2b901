//! ServiceAccounts: as far as clients expect one.

use super::{
    CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS, created_cells, no_warnings,
};

pub(super) const SERVICE_ACCOUNT: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Token],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Object,
    columns: CREATED_COLUMNS,
    cells: created_cells,
    default: |_| (),
    validate: |_, _| Vec::new(),
    warnings: no_warnings,
    selectable_fields: &[],
};
