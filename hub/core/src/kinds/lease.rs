//! Leases: who leads, and until when.

use super::{CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, VERBS, created_cells, no_warnings};

pub(super) const LEASE: Resource = Resource {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[],
    durability: Durability::Relaxed,
    delete_answers: DeleteAnswer::Status,
    columns: CREATED_COLUMNS,
    cells: created_cells,
    default: |_| (),
    validate: |_, _| Vec::new(),
    warnings: no_warnings,
    selectable_fields: &[],
};
