//! Nodes: an edge agent as the scheduler and `kubectl get nodes` see it.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::field::{Errors, Path};
use super::print::{AGE, NAME, NONE, age, condition, items, text, wide};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS};
use super::{metadata, no_warnings, parse};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

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
    columns: COLUMNS,
    cells,
    default: |_| (),
    begin: |_| (),
    validate,
    warnings: no_warnings,
    selectable_fields: &[("spec.unschedulable", &["spec", "unschedulable"])],
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "Whether it answers, and takes new pods."),
    text("Roles", "From its node-role.kubernetes.io/ labels."),
    AGE,
    text("Version", "The agent's version."),
    wide("Internal-IP", "Its address in its own network."),
    wide("External-IP", "Its address seen from outside."),
    wide("OS-Image", "Its operating system."),
    wide("Kernel-Version", "Its kernel."),
    wide("Container-Runtime", "The engine that runs its pods."),
];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

fn cells(object: &Object, now: i64) -> Vec<Value> {
    let info = |field: &str| object.str_at(&["status", "nodeInfo", field]).filter(|text| !text.is_empty());
    vec![
        json!(object.name()),
        json!(status(object)),
        json!(roles(object)),
        age(object, now),
        json!(info("kubeletVersion").unwrap_or_default()),
        json!(address(object, "InternalIP")),
        json!(address(object, "ExternalIP")),
        json!(info("osImage").unwrap_or("<unknown>")),
        json!(info("kernelVersion").unwrap_or("<unknown>")),
        json!(info("containerRuntimeVersion").unwrap_or("<unknown>")),
    ]
}

fn status(object: &Object) -> String {
    let ready = match condition(object, "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = object.at(&["spec", "unschedulable"]) == Some(&Value::Bool(true));
    if cordoned { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn roles(object: &Object) -> String {
    let labels = object.at(&["metadata", "labels"]).and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn address<'a>(object: &'a Object, kind: &str) -> &'a str {
    let found = items(object.at(&["status", "addresses"])).find(|a| a["type"] == kind);
    found.and_then(|a| a["address"].as_str()).unwrap_or(NONE)
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    // A node's name is also its certificate's name, a part of topics, and the agent's host name.
    metadata::validate(&mut errors, new, old, Scope::Cluster, NameKind::Label);
    let Some(node) = parse::<Node>(&mut errors, new) else { return errors.into_vec() };
    let path = Path::new("spec").field("taints");
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    for (at, taint) in taints.iter().enumerate() {
        let path = path.index(at);
        errors.name(&path.field("key"), NameKind::Qualified, &taint.key);
        errors.shape(&path.field("value"), NameKind::LabelValue, taint.value.as_deref().unwrap_or_default());
        errors.one_of(&path.field("effect"), &taint.effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        if taints[..at].iter().any(|t| t.key == taint.key && t.effect == taint.effect) {
            errors.duplicate(&path, json!(taint));
        }
    }
    errors.into_vec()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{NODE, validate};
    use crate::kinds::print::tests::check_row;
    use crate::object::Object;

    #[test]
    fn rows() {
        check_row(
            &NODE,
            json!({
                "metadata": {"name": "pi-1", "labels": {"node-role.kubernetes.io/edge": "", "kubernetes.io/role": "cam"}},
                "spec": {"unschedulable": true},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.7"}],
                    "nodeInfo": {"kubeletVersion": "v0.1.0", "osImage": "Debian 13", "kernelVersion": "6.12",
                                 "containerRuntimeVersion": "wasmtime://48.0.8"},
                },
            }),
            "pi-1|Ready,SchedulingDisabled|cam,edge|60s|v0.1.0|10.0.0.7|<none>|Debian 13|6.12|wasmtime://48.0.8",
        );
        let lost =
            json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        check_row(&NODE, lost, "n|NotReady|<none>|60s||<none>|<none>|<unknown>|<unknown>|<unknown>");
        let new = json!({"metadata": {"name": "n"}});
        check_row(&NODE, new, "n|Unknown|<none>|60s||<none>|<none>|<unknown>|<unknown>|<unknown>");
    }

    #[track_caller]
    fn check(taints: Value, paths: &[&str]) {
        let node = json!({"metadata": {"name": "pi"}, "spec": {"taints": taints}});
        let found: Vec<String> =
            validate(&Object::from_value(node).unwrap(), None).into_iter().map(|e| e.path).collect();
        assert_eq!(found, paths, "{taints}");
    }

    #[test]
    fn taints() {
        check(json!([{"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}]), &[]);
        check(json!([{"effect": "NoSchedule"}]), &["spec.taints[0].key"]);
        check(json!([{"key": "a", "effect": "Never"}]), &["spec.taints[0].effect"]);
        let twice = json!([{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]);
        check(twice, &["spec.taints[1]"]);
    }
}
