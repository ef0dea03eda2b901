//! Where a pod may go: node selectors, affinities, tolerations, spreading.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint,
};
use serde_json::json;

use crate::kinds::field::{Errors, Path};
use crate::kinds::metadata;
use crate::name::NameKind;
use crate::selector::LabelSelector;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate_all(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    metadata::labels(errors, &path.field("nodeSelector"), spec.node_selector.as_ref());
    if let Some(affinity) = &spec.affinity {
        validate_affinity(errors, &path.field("affinity"), affinity);
    }
    for (at, toleration) in spec.tolerations.iter().flatten().enumerate() {
        validate_toleration(errors, &path.field("tolerations").index(at), toleration);
    }
    let spread = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    for (at, constraint) in spread.iter().enumerate() {
        validate_spread(errors, &path.field("topologySpreadConstraints").index(at), constraint, &spread[..at]);
    }
}

fn validate_affinity(errors: &mut Errors, path: &Path, affinity: &Affinity) {
    if let Some(node) = &affinity.node_affinity {
        let path = path.field("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let path = path.field(REQUIRED).field("nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                errors.required(&path, "must have at least one node selector term");
            }
            for (at, term) in required.node_selector_terms.iter().enumerate() {
                validate_node_term(errors, &path.index(at), term);
            }
        }
        for (at, term) in node.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate() {
            let path = path.field(PREFERRED).index(at);
            if !(1..=100).contains(&term.weight) {
                errors.invalid(&path.field("weight"), term.weight, "must be in the range 1-100");
            }
            validate_node_term(errors, &path.field("preference"), &term.preference);
        }
    }
    let near =
        affinity.pod_affinity.as_ref().and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let far = affinity
        .pod_anti_affinity
        .as_ref()
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    for (field, terms) in [("podAffinity", near), ("podAntiAffinity", far)] {
        for (at, term) in terms.into_iter().flatten().enumerate() {
            validate_pod_term(errors, &path.field(field).field(REQUIRED).index(at), term);
        }
    }
}

fn validate_node_term(errors: &mut Errors, path: &Path, term: &NodeSelectorTerm) {
    for (at, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.field("matchExpressions").index(at);
        validate_requirement(errors, &path, requirement);
        errors.shape(&path.field("key"), NameKind::Qualified, &requirement.key);
    }
    for (at, requirement) in term.match_fields.iter().flatten().enumerate() {
        let path = path.field("matchFields").index(at);
        validate_requirement(errors, &path, requirement);
        if requirement.key != "metadata.name" {
            errors.invalid(&path.field("key"), requirement.key.as_str(), "not a valid field selector key");
        }
    }
}

fn validate_requirement(errors: &mut Errors, path: &Path, requirement: &NodeSelectorRequirement) {
    let count = requirement.values.as_ref().map_or(0, Vec::len);
    let values = path.field("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if count == 0 => {
            errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if count != 1 => {
            errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => (),
        other => errors.invalid(&path.field("operator"), other, "not a valid selector operator"),
    }
}

fn validate_pod_term(errors: &mut Errors, path: &Path, term: &PodAffinityTerm) {
    errors.name(&path.field("topologyKey"), NameKind::Qualified, &term.topology_key);
    for (field, set) in [
        ("namespaceSelector", term.namespace_selector.is_some()),
        ("matchLabelKeys", term.match_label_keys.as_ref().is_some_and(|keys| !keys.is_empty())),
        ("mismatchLabelKeys", term.mismatch_label_keys.as_ref().is_some_and(|keys| !keys.is_empty())),
    ] {
        if set {
            errors.forbidden(&path.field(field), "is not supported yet");
        }
    }
    let selector = term.label_selector.as_ref().map(|selector| json!(selector));
    if let Some(selector) = selector
        && let Err(problem) = LabelSelector::from_json(&selector)
    {
        errors.invalid(&path.field("labelSelector"), selector, problem);
    }
}

fn validate_toleration(errors: &mut Errors, path: &Path, toleration: &Toleration) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    if !key.is_empty() {
        errors.shape(&path.field("key"), NameKind::Qualified, &key);
    } else if operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid(&path.field("operator"), operator.as_str(), why);
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        errors.invalid(
            &path.field("effect"),
            effect.as_str(),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match operator.as_str() {
        "Equal" | "" => errors.shape(&path.field("operator"), NameKind::LabelValue, &value),
        "Exists" if value.is_empty() => (),
        "Exists" => errors.invalid(&path.field("operator"), value, "value must be empty when `operator` is 'Exists'"),
        _ => errors.one_of(&path.field("operator"), &operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        errors.one_of(&path.field("effect"), &effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    }
}

fn validate_spread(
    errors: &mut Errors,
    path: &Path,
    constraint: &TopologySpreadConstraint,
    before: &[TopologySpreadConstraint],
) {
    if constraint.max_skew <= 0 {
        errors.invalid(&path.field("maxSkew"), constraint.max_skew, "must be greater than zero");
    }
    errors.name(&path.field("topologyKey"), NameKind::Qualified, &constraint.topology_key);
    let when = constraint.when_unsatisfiable.as_str();
    errors.one_of(&path.field("whenUnsatisfiable"), when, &["DoNotSchedule", "ScheduleAnyway"]);
    let twice =
        |c: &TopologySpreadConstraint| c.topology_key == constraint.topology_key && c.when_unsatisfiable == when;
    if before.iter().any(twice) {
        errors.duplicate(path, format!("{{{}, {when}}}", constraint.topology_key));
    }
    let selector = constraint.label_selector.as_ref().map(|selector| json!(selector));
    if let Some(selector) = selector
        && let Err(problem) = LabelSelector::from_json(&selector)
    {
        errors.invalid(&path.field("labelSelector"), selector, problem);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kinds;
    use crate::object::Object;

    /// What is wrong with a pod of one container after `field` of its spec is set.
    #[track_caller]
    fn check(field: &str, value: Value, want: &[&str]) {
        let row = kinds::find("", "v1", "pods").unwrap();
        let mut pod = Object::from_value(json!({
            "metadata": {"name": "a", "namespace": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        pod.set(&["spec", field], value.clone());
        (row.default)(&mut pod);
        let found: Vec<String> = (row.validate)(&pod, None).into_iter().map(|e| e.path).collect();
        assert_eq!(found, want, "{field} = {value}");
    }

    #[test]
    fn tolerations() {
        let one = |toleration: Value| json!([toleration]);
        check("tolerations", one(json!({"operator": "Exists"})), &[]);
        check("tolerations", one(json!({"key": "a", "value": "b", "effect": "NoSchedule"})), &[]);
        check("tolerations", one(json!({"value": "b"})), &["spec.tolerations[0].operator"]);
        check(
            "tolerations",
            one(json!({"key": "a", "operator": "Exists", "value": "b"})),
            &["spec.tolerations[0].operator"],
        );
        check("tolerations", one(json!({"key": "a", "operator": "Lt"})), &["spec.tolerations[0].operator"]);
        check("tolerations", one(json!({"key": "a", "tolerationSeconds": 5})), &["spec.tolerations[0].effect"]);
        check("tolerations", one(json!({"key": "a", "effect": "Never"})), &["spec.tolerations[0].effect"]);
    }

    #[test]
    fn spreading() {
        let good = json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"});
        let path = |field: &str| format!("spec.topologySpreadConstraints[0].{field}");
        check("topologySpreadConstraints", json!([good]), &[]);
        check("topologySpreadConstraints", json!([good, good]), &["spec.topologySpreadConstraints[1]"]);
        let bad = json!([{"maxSkew": 0, "whenUnsatisfiable": "Perhaps"}]);
        let want = [path("maxSkew"), path("topologyKey"), path("whenUnsatisfiable")];
        check("topologySpreadConstraints", bad, &want.each_ref().map(String::as_str));
    }

    #[test]
    fn affinities() {
        let node = |term: Value| {
            let required = json!({"nodeSelectorTerms": [{"matchExpressions": [term]}]});
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})
        };
        let terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let path = |field: &str| format!("{terms}[0].matchExpressions[0].{field}");
        check("affinity", node(json!({"key": "a", "operator": "In", "values": ["b"]})), &[]);
        check("affinity", node(json!({"key": "a", "operator": "In"})), &[&path("values")]);
        check("affinity", node(json!({"key": "a", "operator": "Exists", "values": ["b"]})), &[&path("values")]);
        check("affinity", node(json!({"key": "a", "operator": "Like"})), &[&path("operator")]);
        check("affinity", node(json!({"key": "a b", "operator": "Exists"})), &[&path("key")]);
        let empty =
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}});
        check("affinity", empty, &[terms]);
        let apart =
            |term: Value| json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let path = |field: &str| {
            format!("spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].{field}")
        };
        check("affinity", apart(json!({"topologyKey": "kubernetes.io/hostname"})), &[]);
        check("affinity", apart(json!({})), &[&path("topologyKey")]);
        let selected = json!({"topologyKey": "zone", "namespaceSelector": {}});
        check("affinity", apart(selected), &[&path("namespaceSelector")]);
    }
}
