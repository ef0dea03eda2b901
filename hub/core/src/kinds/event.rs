//! Events: what a person reads in `kubectl describe` and `kubectl events`.

use super::{CREATED_COLUMNS, DeleteAnswer, Durability, Resource, Scope, VERBS, created_cells, no_warnings};

pub(super) const EVENT: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
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
    selectable_fields: &[
        ("involvedObject.kind", &["involvedObject", "kind"]),
        ("involvedObject.namespace", &["involvedObject", "namespace"]),
        ("involvedObject.name", &["involvedObject", "name"]),
        ("involvedObject.uid", &["involvedObject", "uid"]),
        ("involvedObject.apiVersion", &["involvedObject", "apiVersion"]),
        ("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"]),
        ("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
        ("reason", &["reason"]),
        ("reportingComponent", &["reportingComponent"]),
        ("source.component", &["source", "component"]),
        ("source.host", &["source", "host"]),
        ("type", &["type"]),
    ],
};
