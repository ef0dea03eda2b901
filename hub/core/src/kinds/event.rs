//! Events: what a person reads in `kubectl describe` and `kubectl events`.

use serde_json::{Value, json};

use super::field::{Errors, Path};
use super::print::{text, wide};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, VERBS};
use super::{metadata, no_warnings};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;
use crate::time;

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
    columns: COLUMNS,
    cells,
    default: |_| (),
    begin: |_| (),
    validate,
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
        ("source", &["source", "component"]),
        ("type", &["type"]),
    ],
};

const COLUMNS: &[Column] = &[
    text("Last Seen", "When it last happened."),
    text("Type", "Normal or Warning."),
    text("Reason", "A word for what happened, for programs."),
    text("Object", "What it happened to."),
    wide("Subobject", "The part of the object."),
    wide("Source", "Who says so."),
    text("Message", "What happened, for people."),
    wide("First Seen", "When it first happened."),
    Column { name: "Count", kind: "integer", format: "", description: "How often it happened.", priority: 1 },
    Column { name: "Name", kind: "string", format: "name", description: "The event's own name.", priority: 1 },
];

fn cells(event: &Object, now: i64) -> Vec<Value> {
    let field = |path: &[&str]| event.str_at(path).filter(|text| !text.is_empty());
    let first = field(&["firstTimestamp"]).or_else(|| field(&["eventTime"]));
    let (last, count) = match event.at(&["series"]).filter(|series| series.is_object()) {
        Some(series) => (series["lastObservedTime"].as_str(), series["count"].as_i64().unwrap_or(1)),
        None => (field(&["lastTimestamp"]).or(first), event.i64_at(&["count"]).filter(|n| *n > 0).unwrap_or(1)),
    };
    vec![
        json!(time::age(last, now)),
        json!(field(&["type"]).unwrap_or_default()),
        json!(field(&["reason"]).unwrap_or_default()),
        json!(target(event)),
        json!(field(&["involvedObject", "fieldPath"]).unwrap_or_default()),
        json!(source(event)),
        json!(field(&["message"]).unwrap_or_default().trim()),
        json!(time::age(first, now)),
        json!(count),
        json!(event.name()),
    ]
}

/// `pod/web-1`
fn target(event: &Object) -> String {
    let kind = event.str_at(&["involvedObject", "kind"]).unwrap_or_default().to_lowercase();
    match event.str_at(&["involvedObject", "name"]).unwrap_or_default() {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

/// Who says so, and on which node.
fn source(event: &Object) -> String {
    let either = |old: &[&str], new: &[&str]| {
        let text = |path: &[&str]| event.str_at(path).filter(|text| !text.is_empty()).map(str::to_owned);
        text(old).or_else(|| text(new))
    };
    let component = either(&["source", "component"], &["reportingComponent"]).unwrap_or_default();
    match either(&["source", "host"], &["reportingInstance"]) {
        Some(host) => format!("{component}, {host}"),
        None => component,
    }
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    // Events about objects of the cluster live in `default`.
    let about = new.str_at(&["involvedObject", "namespace"]).unwrap_or_default();
    let fits =
        if about.is_empty() { matches!(new.namespace(), "default" | "kube-system") } else { about == new.namespace() };
    if !fits {
        let path = Path::new("involvedObject").field("namespace");
        errors.invalid(&path, about, "does not match event.namespace");
    }
    errors.into_vec()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::EVENT;
    use crate::kinds::print::tests::check_row;

    #[test]
    fn rows() {
        check_row(
            &EVENT,
            json!({
                "metadata": {"name": "web.1"}, "type": "Warning", "reason": "BackOff", "message": " again\n", "count": 3,
                "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
                "source": {"component": "edge-agent", "host": "pi-1"},
                "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:00:50Z",
            }),
            "10s|Warning|BackOff|pod/web|spec.containers{a}|edge-agent, pi-1|again|60s|3|web.1",
        );
        check_row(
            &EVENT,
            json!({
                "metadata": {"name": "e"}, "eventTime": "1970-01-01T00:00:30.000000Z", "reportingComponent": "scheduler",
                "involvedObject": {"kind": "Node"}, "lastTimestamp": null,
            }),
            "30s|||node||scheduler||30s|1|e",
        );
        let series =
            json!({"metadata": {"name": "e"}, "series": {"count": 7, "lastObservedTime": "1970-01-01T00:00:59Z"}});
        check_row(&EVENT, series, "1s|||||||<unknown>|7|e");
    }
}
