//! What of a pod may change while it runs.

use serde_json::{Value, json};

use crate::kinds::field::{Errors, Path};
use crate::object::Object;

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`, \
                       `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions \
                       to existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                       previously negative)";
const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

pub(super) fn validate(errors: &mut Errors, new: &Object, old: &Object) {
    let path = Path::new("spec");
    for list in CONTAINER_LISTS {
        if names(new, list) != names(old, list) {
            errors.forbidden(&path.field(list), "pod updates may not add or remove containers");
            return;
        }
    }
    validate_deadline(errors, &path, new, old);
    validate_tolerations(errors, &path, new, old);
    let (new, old) = (fixed_part(new, old), fixed_part(old, old));
    if new != old {
        errors.forbidden(&path, format!("{MUTABLE}; changed: {}", changed(&new, &old).join(", ")));
    }
}

fn names<'a>(pod: &'a Object, list: &str) -> Vec<&'a str> {
    let containers = pod.at(&["spec", list]).and_then(Value::as_array);
    containers.into_iter().flatten().map(|c| c["name"].as_str().unwrap_or_default()).collect()
}

fn validate_deadline(errors: &mut Errors, path: &Path, new: &Object, old: &Object) {
    let field = ["spec", "activeDeadlineSeconds"];
    let path = path.field("activeDeadlineSeconds");
    match (old.i64_at(&field), new.i64_at(&field)) {
        (Some(had), Some(wants)) if wants > had => {
            errors.invalid(&path, wants, "must be less than or equal to previous value");
        }
        (Some(_), None) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
        }
        (Some(_) | None, Some(_)) | (None, None) => (),
    }
}

/// Each old one stays, though its seconds may change.
fn validate_tolerations(errors: &mut Errors, path: &Path, new: &Object, old: &Object) {
    let list = |pod: &Object| -> Vec<Value> {
        let mut list = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
        for toleration in list.iter_mut().filter_map(Value::as_object_mut) {
            toleration.shift_remove("tolerationSeconds");
        }
        list
    };
    let new_list = list(new);
    if list(old).iter().any(|toleration| !new_list.contains(toleration)) {
        errors.forbidden(
            &path.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

/// The spec with all that may change as it is in `old`.
fn fixed_part(pod: &Object, old: &Object) -> Value {
    let mut spec = pod.at(&["spec"]).cloned().unwrap_or_default();
    let Some(map) = spec.as_object_mut() else { return spec };
    for field in ["activeDeadlineSeconds", "tolerations"] {
        map.shift_remove(field);
    }
    if old.i64_at(&["spec", "terminationGracePeriodSeconds"]).is_some_and(|grace| grace < 0)
        && map.get("terminationGracePeriodSeconds") == Some(&json!(1))
    {
        map.insert(
            "terminationGracePeriodSeconds".to_owned(),
            old.as_map()["spec"]["terminationGracePeriodSeconds"].clone(),
        );
    }
    // A pod is bound once: an empty node name may be filled in.
    if old.str_at(&["spec", "nodeName"]).unwrap_or_default().is_empty() {
        map.shift_remove("nodeName");
    }
    for list in CONTAINER_LISTS {
        for container in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.shift_remove("image");
                container.shift_remove("imagePullPolicy");
            }
        }
    }
    spec
}

/// The names of the fields that differ.
fn changed(new: &Value, old: &Value) -> Vec<String> {
    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut fields: Vec<String> = keys(new).into_iter().chain(keys(old)).filter(|f| new.get(f) != old.get(f)).collect();
    fields.sort_unstable();
    fields.dedup();
    fields.into_iter().map(|field| format!("spec.{field}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::validate;
    use crate::kinds::field::Errors;
    use crate::object::Object;

    fn pod(field: &str, value: &Value) -> Object {
        let mut spec = json!({
            "containers": [{"name": "a", "image": "x:1", "args": ["1"]}], "activeDeadlineSeconds": 10,
            "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 5}],
        });
        spec[field] = value.clone();
        Object::from_value(json!({"spec": spec})).unwrap()
    }

    #[track_caller]
    fn check(old: (&str, Value), new: (&str, Value), want: &[&str]) {
        let mut errors = Errors::default();
        validate(&mut errors, &pod(new.0, &new.1), &pod(old.0, &old.1));
        let found: Vec<String> = errors.into_vec().into_iter().map(|e| e.path).collect();
        assert_eq!(found, want, "{old:?} -> {new:?}");
    }

    #[test]
    fn some_fields_may_change() {
        let none = || ("priority", Value::Null);
        let image = |image: &str, args: &str| json!([{"name": "a", "image": image, "args": [args]}]);
        check(none(), none(), &[]);
        check(none(), ("hostname", json!("h")), &["spec"]);
        check(("containers", image("x:1", "1")), ("containers", image("x:2", "1")), &[]);
        check(("containers", image("x:1", "1")), ("containers", image("x:1", "2")), &["spec"]);
        check(("activeDeadlineSeconds", json!(10)), ("activeDeadlineSeconds", json!(5)), &[]);
        check(
            ("activeDeadlineSeconds", json!(10)),
            ("activeDeadlineSeconds", json!(15)),
            &["spec.activeDeadlineSeconds"],
        );
        check(
            ("activeDeadlineSeconds", json!(10)),
            ("activeDeadlineSeconds", json!(null)),
            &["spec.activeDeadlineSeconds"],
        );
        check(("tolerations", json!([])), ("tolerations", json!([{"operator": "Exists"}])), &[]);
        check(("tolerations", json!([{"operator": "Exists"}])), ("tolerations", json!([])), &["spec.tolerations"]);
        check(("nodeName", json!("")), ("nodeName", json!("pi")), &[]);
        check(("nodeName", json!("pi")), ("nodeName", json!("po")), &["spec"]);
        check(("containers", image("x", "1")), ("containers", json!([])), &["spec.containers"]);
    }
}
