//! Deployments: N replicas of a template, and how to go from one template to the next.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use super::field::{Errors, Path};
use super::fill::{self, fill, fill_text, object_or_new};
use super::print::{AGE, NAME, age, number, text, wide};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS};
use super::{metadata, parse, workload};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

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
    columns: COLUMNS,
    cells,
    default,
    begin: |new| new.set(&["status"], json!({})),
    validate,
    warnings: workload::warnings,
    selectable_fields: &[],
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "How many pods are ready, of how many there shall be."),
    number("Up-to-date", "How many pods have the newest template."),
    number("Available", "How many pods have been ready for long enough."),
    AGE,
    wide("Containers", "Names of the template's containers."),
    wide("Images", "Images of the template's containers."),
    wide("Selector", "Which pods are its own."),
];

/// Kubernetes' defaults.
const SURGE: &str = "25%";
const UNAVAILABLE: &str = "25%";
const REVISION_HISTORY: i64 = 10;
const PROGRESS_DEADLINE_SECONDS: i32 = 600;

fn cells(object: &Object, now: i64) -> Vec<Value> {
    let count = |path: &[&str]| object.i64_at(path).unwrap_or(0);
    let mut cells = vec![
        json!(object.name()),
        json!(format!("{}/{}", count(&["status", "readyReplicas"]), count(&["spec", "replicas"]))),
        json!(count(&["status", "updatedReplicas"])),
        json!(count(&["status", "availableReplicas"])),
        age(object, now),
    ];
    cells.extend(workload::wide_cells(object));
    cells
}

fn default(object: &mut Object) {
    let Some(spec) = fill::spec(object) else { return };
    workload::default(spec);
    if let Some(strategy) = object_or_new(spec, "strategy") {
        default_strategy(strategy);
    }
    fill(spec, "revisionHistoryLimit", REVISION_HISTORY);
    fill(spec, "progressDeadlineSeconds", PROGRESS_DEADLINE_SECONDS);
}

fn default_strategy(strategy: &mut Map<String, Value>) {
    fill_text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
    {
        fill(rolling, "maxUnavailable", UNAVAILABLE);
        fill(rolling, "maxSurge", SURGE);
    }
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    let Some(deployment) = parse::<Deployment>(&mut errors, new) else { return errors.into_vec() };
    let spec = deployment.spec;
    let parts = workload::Parts { noun: "deployment", selector: &spec.selector, template: &spec.template };
    validate_numbers(&mut errors, &spec);
    workload::validate(&mut errors, &parts, new, old);
    let strategy = spec.strategy.unwrap_or_default();
    let path = Path::new("spec").field("strategy");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errors.forbidden(&path.field("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'");
        }
        ("RollingUpdate", Some(rolling)) => validate_rolling(&mut errors, &path.field("rollingUpdate"), rolling),
        ("RollingUpdate", None) => {
            errors.required(&path.field("rollingUpdate"), "this should be defaulted and never be nil")
        }
        (kind, _) => errors.one_of(&path.field("type"), kind, &["Recreate", "RollingUpdate"]),
    }
    errors.into_vec()
}

fn validate_numbers(errors: &mut Errors, spec: &DeploymentSpec) {
    let path = Path::new("spec");
    errors.not_negative(&path.field("replicas"), spec.replicas);
    errors.not_negative(&path.field("minReadySeconds"), spec.min_ready_seconds);
    errors.not_negative(&path.field("revisionHistoryLimit"), spec.revision_history_limit);
    if let Some(seconds) = spec.progress_deadline_seconds {
        errors.not_negative(&path.field("progressDeadlineSeconds"), Some(seconds));
        if seconds <= spec.min_ready_seconds.unwrap_or(0) {
            errors.invalid(&path.field("progressDeadlineSeconds"), seconds, "must be greater than minReadySeconds");
        }
    }
}

fn validate_rolling(errors: &mut Errors, path: &Path, rolling: &RollingUpdateDeployment) {
    let unavailable = portion(errors, &path.field("maxUnavailable"), rolling.max_unavailable.as_ref());
    let surge = portion(errors, &path.field("maxSurge"), rolling.max_surge.as_ref());
    if unavailable == Some(0) && surge == Some(0) {
        let value = json!(rolling.max_unavailable);
        errors.invalid(&path.field("maxUnavailable"), value, "may not be 0 when `maxSurge` is 0");
    }
    if let Some(IntOrString::String(text)) = &rolling.max_unavailable
        && unavailable.is_some_and(|percent| percent > 100)
    {
        errors.invalid(&path.field("maxUnavailable"), text.as_str(), "must not be greater than 100%");
    }
}

/// The number in `3` or `25%`; `None` where it is neither, which is told.
fn portion(errors: &mut Errors, path: &Path, value: Option<&IntOrString>) -> Option<u32> {
    match value? {
        IntOrString::Int(number) => {
            errors.not_negative(path, Some(*number));
            u32::try_from(*number).ok()
        }
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let percent = digits.and_then(|d| d.parse().ok());
            if percent.is_none() {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                           '93%', regex used for validation is '[0-9]+%')";
                errors.invalid(path, text.as_str(), why);
            }
            percent
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{DEPLOYMENT, default, validate};
    use crate::kinds::print::tests::check_row;
    use crate::object::Object;

    fn deployment(change: &dyn Fn(&mut Object)) -> Object {
        let mut object = Object::from_value(json!({
            "metadata": {"name": "web", "namespace": "x"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "a", "image": "web:1"}]},
                },
            },
        }))
        .unwrap();
        change(&mut object);
        default(&mut object);
        object
    }

    #[track_caller]
    fn check(path: &[&str], value: &Value, want: &[&str]) {
        let object = deployment(&|object| object.set(path, value.clone()));
        let found: Vec<String> = validate(&object, None).into_iter().map(|e| e.path).collect();
        assert_eq!(found, want, "{path:?} = {value}");
    }

    #[test]
    fn defaults_are_kubernetes_own() {
        let object = deployment(&|_| ());
        let spec = object.at(&["spec"]).unwrap();
        assert_eq!(spec["replicas"], 1);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!((&spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]), (&json!(10), &json!(600)));
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        // These are the pod's, not the template's: kubectl diff would show them for ever.
        for field in ["tolerations", "serviceAccountName", "enableServiceLinks", "priority"] {
            assert_eq!(spec["template"]["spec"][field], Value::Null, "{field}");
        }
        let recreate = deployment(&|object| object.set(&["spec", "strategy", "type"], "Recreate"));
        assert_eq!(recreate.at(&["spec", "strategy"]), Some(&json!({"type": "Recreate"})));
    }

    #[test]
    fn defaulting_twice_changes_nothing() {
        let once = deployment(&|_| ());
        let mut twice = once.clone();
        default(&mut twice);
        assert_eq!(twice, once);
    }

    #[test]
    fn strategies() {
        let rolling = |field: &'static str| ["spec", "strategy", "rollingUpdate", field];
        let both = json!({"maxSurge": 0, "maxUnavailable": "0%"});
        check(&[], &json!({}), &[]);
        check(&["spec", "strategy", "rollingUpdate"], &both, &["spec.strategy.rollingUpdate.maxUnavailable"]);
        check(&rolling("maxSurge"), &json!("half"), &["spec.strategy.rollingUpdate.maxSurge"]);
        check(&rolling("maxSurge"), &json!(-1), &["spec.strategy.rollingUpdate.maxSurge"]);
        check(&rolling("maxSurge"), &json!("200%"), &[]);
        check(&rolling("maxUnavailable"), &json!("101%"), &["spec.strategy.rollingUpdate.maxUnavailable"]);
        check(&["spec", "strategy", "type"], &json!("Blue"), &["spec.strategy.type"]);
        let mixed = json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}});
        check(&["spec", "strategy"], &mixed, &["spec.strategy.rollingUpdate"]);
    }

    #[test]
    fn numbers_selector_and_template() {
        check(&["spec", "replicas"], &json!(-1), &["spec.replicas"]);
        check(&["spec", "progressDeadlineSeconds"], &json!(0), &["spec.progressDeadlineSeconds"]);
        check(&["spec", "selector"], &json!({}), &["spec.selector"]);
        check(&["spec", "selector"], &Value::Null, &["spec.selector"]);
        check(&["spec", "selector", "matchLabels", "app"], &json!("api"), &["spec.template.metadata.labels"]);
        let template = |field: &'static str| ["spec", "template", "spec", field];
        check(&template("restartPolicy"), &json!("Never"), &["spec.template.spec.restartPolicy"]);
        check(&template("activeDeadlineSeconds"), &json!(5), &["spec.template.spec.activeDeadlineSeconds"]);
        check(&template("containers"), &json!([]), &["spec.template.spec.containers"]);
        check(&template("hostNetwork"), &json!(true), &["spec.template.spec.hostNetwork"]);
    }

    #[test]
    fn the_selector_stays() {
        let old = deployment(&|_| ());
        let new = deployment(&|object| {
            object.set(&["spec", "selector", "matchLabels", "v"], "2");
            object.set(&["spec", "template", "metadata", "labels", "v"], "2");
        });
        let found: Vec<String> = validate(&new, Some(&old)).into_iter().map(|e| e.path).collect();
        assert_eq!(found, ["spec.selector"]);
    }

    #[test]
    fn rows() {
        let mut object = deployment(&|object| object.set(&["spec", "replicas"], 3));
        object.set(&["status"], json!({"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}));
        check_row(&DEPLOYMENT, object.into_value(), "web|1/3|2|1|60s|a|web:1|app=web");
    }
}
