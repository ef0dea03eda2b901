//! ReplicaSets: N replicas of one template.

use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use super::field::{Errors, Path};
use super::fill;
use super::print::{AGE, NAME, age, number, wide};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS};
use super::{metadata, parse, workload};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const REPLICA_SET: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Status, Subresource::Scale],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Status,
    columns: COLUMNS,
    cells,
    default,
    begin: |new| new.set(&["status"], json!({"replicas": 0})),
    validate,
    warnings: workload::warnings,
    selectable_fields: &[("status.replicas", &["status", "replicas"])],
};

const COLUMNS: &[Column] = &[
    NAME,
    number("Desired", "How many pods there shall be."),
    number("Current", "How many pods there are."),
    number("Ready", "How many pods are ready."),
    AGE,
    wide("Containers", "Names of the template's containers."),
    wide("Images", "Images of the template's containers."),
    wide("Selector", "Which pods are its own."),
];

fn cells(object: &Object, now: i64) -> Vec<Value> {
    let count = |path: &[&str]| json!(object.i64_at(path).unwrap_or(0));
    let mut cells = vec![
        json!(object.name()),
        count(&["spec", "replicas"]),
        count(&["status", "replicas"]),
        count(&["status", "readyReplicas"]),
        age(object, now),
    ];
    cells.extend(workload::wide_cells(object));
    cells
}

fn default(object: &mut Object) {
    if let Some(spec) = fill::spec(object) {
        workload::default(spec);
    }
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    let Some(set) = parse::<ReplicaSet>(&mut errors, new) else { return errors.into_vec() };
    let (spec, path) = (set.spec, Path::new("spec"));
    errors.not_negative(&path.field("replicas"), spec.replicas);
    errors.not_negative(&path.field("minReadySeconds"), spec.min_ready_seconds);
    let template = spec.template.unwrap_or_default();
    let parts = workload::Parts { noun: "replicaset", selector: &spec.selector, template: &template };
    workload::validate(&mut errors, &parts, new, old);
    errors.into_vec()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::REPLICA_SET;
    use crate::kinds::print::tests::check_row;

    #[test]
    fn rows() {
        check_row(
            &REPLICA_SET,
            json!({
                "metadata": {"name": "web-1"},
                "spec": {
                    "replicas": 3,
                    "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [
                        {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
                    ]},
                    "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}},
                },
                "status": {"replicas": 2, "readyReplicas": 1},
            }),
            "web-1|3|2|1|60s|a,b|x:1,y|app=web,tier in (a,b),!old",
        );
    }
}
