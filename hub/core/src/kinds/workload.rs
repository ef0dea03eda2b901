//! What Deployments and ReplicaSets share: a selector, a pod template, and how they print.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use serde_json::{Map, Value, json};

use super::field::{Errors, Path};
use super::fill::{fill, object_or_new};
use super::print::{self, NONE, items};
use super::{metadata, pod};
use crate::object::Object;
use crate::selector::LabelSelector;

/// Defaults of a controller's spec: one replica, and the template's pod.
pub(super) fn default(spec: &mut Map<String, Value>) {
    fill(spec, "replicas", 1);
    if let Some(template) = object_or_new(spec, "template")
        && let Some(pod) = object_or_new(template, "spec")
    {
        pod::default::spec(pod);
    }
}

/// The parts of a controller's spec that are checked here.
pub(super) struct Parts<'a> {
    /// As in "empty selector is invalid for deployment".
    pub(super) noun: &'a str,
    pub(super) selector: &'a Selector,
    pub(super) template: &'a PodTemplateSpec,
}

pub(super) fn validate(errors: &mut Errors, parts: &Parts<'_>, new: &Object, old: Option<&Object>) {
    let path = Path::new("spec");
    let selector_path = path.field("selector");
    let template_path = path.field("template");
    let json = json!(parts.selector);
    match LabelSelector::from_json(&json) {
        Err(problem) => errors.invalid(&selector_path, json, problem),
        Ok(selector) if selector.is_everything() && is_given(new) => {
            errors.invalid(&selector_path, json, format!("empty selector is invalid for {}", parts.noun));
        }
        Ok(selector) if selector.is_everything() => errors.required(&selector_path, ""),
        Ok(selector) => {
            let labels = parts.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
            let label = |key: &str| labels.and_then(|l| l.get(key)).map(String::as_str);
            if !selector.matches_labels(label) {
                let path = template_path.field("metadata").field("labels");
                errors.invalid(&path, json!(labels), "`selector` does not match template `labels`");
            }
        }
    }
    if old.is_some_and(|old| old.at(&["spec", "selector"]) != new.at(&["spec", "selector"])) {
        errors.invalid(
            &selector_path,
            new.at(&["spec", "selector"]).cloned().unwrap_or_default(),
            "field is immutable",
        );
    }
    validate_template(errors, &template_path, parts.template, new);
}

fn is_given(object: &Object) -> bool {
    object.at(&["spec", "selector"]).is_some_and(|selector| !selector.is_null())
}

fn validate_template(errors: &mut Errors, path: &Path, template: &PodTemplateSpec, new: &Object) {
    if let Some(metadata) = &template.metadata {
        metadata::labels(errors, &path.field("metadata").field("labels"), metadata.labels.as_ref());
        let annotations = metadata.annotations.as_ref();
        metadata::annotations(errors, &path.field("metadata").field("annotations"), annotations);
        pod::validate::wherry_annotations(errors, &path.field("metadata").field("annotations"), annotations);
    }
    let path = path.field("spec");
    let spec = template.spec.clone().unwrap_or_default();
    pod::validate::spec(errors, &path, &spec);
    if let Some(json) = new.at(&["spec", "template", "spec"]) {
        pod::support::refuse(errors, &path, json);
    }
    // Such pods end; their controller would only start them again.
    if matches!(spec.restart_policy.as_deref(), Some("Never" | "OnFailure")) {
        errors.one_of(&path.field("restartPolicy"), spec.restart_policy.as_deref().unwrap_or_default(), &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        errors.forbidden(&path.field("activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported");
    }
}

pub(super) fn warnings(object: &Object) -> Vec<String> {
    let path = Path::new("spec").field("template").field("spec");
    object.at(&["spec", "template", "spec"]).map(|spec| pod::support::warnings(&path, spec)).unwrap_or_default()
}

/// The cells of `-o wide`: CONTAINERS, IMAGES, SELECTOR.
pub(super) fn wide_cells(object: &Object) -> [Value; 3] {
    let containers = || items(object.at(&["spec", "template", "spec", "containers"]));
    let column =
        |field: &str| containers().map(|c| c[field].as_str().unwrap_or_default()).collect::<Vec<_>>().join(",");
    [json!(column("name")), json!(column("image")), json!(selector_text(object.at(&["spec", "selector"])))]
}

/// `app=web,tier in (a,b)`, as label selectors are typed.
fn selector_text(selector: Option<&Value>) -> String {
    let labels = print::labels(selector.and_then(|s| s["matchLabels"].as_object()));
    let mut terms: Vec<String> = labels.split(',').filter(|term| !term.is_empty()).map(str::to_owned).collect();
    for expression in items(selector.and_then(|s| s.get("matchExpressions"))) {
        let key = expression["key"].as_str().unwrap_or_default();
        let values = items(expression.get("values")).filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        terms.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    if terms.is_empty() { NONE.to_owned() } else { terms.join(",") }
}
