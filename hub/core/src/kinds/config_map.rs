//! ConfigMaps: configuration as environment or files.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Map, Value, json};

use super::field::{Errors, Path};
use super::print::{AGE, NAME, age, number};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, VERBS, no_warnings};
use super::{metadata, parse};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const CONFIG_MAP: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Status,
    columns: COLUMNS,
    cells,
    default: |_| (),
    begin: |_| (),
    validate,
    warnings: no_warnings,
    selectable_fields: &[],
};

const COLUMNS: &[Column] = &[NAME, number("Data", "How many keys it has."), AGE];

/// Kubernetes' bound on all values together.
pub(super) const DATA_MAX: usize = 1024 * 1024;

fn cells(object: &Object, now: i64) -> Vec<Value> {
    let keys = |field: &str| object.at(&[field]).and_then(Value::as_object).map_or(0, Map::len);
    vec![json!(object.name()), json!(keys("data") + keys("binaryData")), age(object, now)]
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    let Some(map) = parse::<ConfigMap>(&mut errors, new) else { return errors.into_vec() };
    let (data, binary) = (map.data.unwrap_or_default(), map.binary_data.unwrap_or_default());
    for key in data.keys() {
        let path = Path::new("data").key(key);
        errors.shape(&path, NameKind::DataKey, key);
        if binary.contains_key(key) {
            errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
        }
    }
    for key in binary.keys() {
        errors.shape(&Path::new("binaryData").key(key), NameKind::DataKey, key);
    }
    let bytes: usize = data.values().map(String::len).chain(binary.values().map(|b| b.0.len())).sum();
    if bytes > DATA_MAX {
        errors.too_long(&Path::new(""), DATA_MAX);
    }
    if let Some(old) = old {
        frozen(&mut errors, new, old, &["data", "binaryData"]);
    }
    errors.into_vec()
}

/// What was made immutable stays as it is, for good.
pub(super) fn frozen(errors: &mut Errors, new: &Object, old: &Object, fields: &[&str]) {
    let is_immutable = |object: &Object| object.at(&["immutable"]) == Some(&Value::Bool(true));
    if !is_immutable(old) {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !is_immutable(new) {
        errors.forbidden(&Path::new("immutable"), why);
    }
    for field in fields {
        if new.at(&[field]) != old.at(&[field]) {
            errors.forbidden(&Path::new(field), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{CONFIG_MAP, DATA_MAX, validate};
    use crate::kinds::print::tests::check_row;
    use crate::object::Object;

    #[track_caller]
    fn check(fields: &Value, old: Option<&Value>, paths: &[&str]) {
        let object = |fields: &Value| {
            let mut object = Object::from_value(fields.clone()).unwrap();
            object.set(&["metadata"], json!({"name": "a", "namespace": "x"}));
            object
        };
        let found: Vec<String> =
            validate(&object(fields), old.map(object).as_ref()).into_iter().map(|e| e.path).collect();
        assert_eq!(found, paths, "{fields}");
    }

    #[test]
    fn keys_size_and_immutability() {
        check(&json!({"data": {"a.txt": "1"}, "binaryData": {"b": "AAE="}}), None, &[]);
        check(&json!({"data": {"a/b": "1"}}), None, &["data[a/b]"]);
        check(&json!({"data": {"a": "1"}, "binaryData": {"a": ""}}), None, &["data[a]"]);
        check(&json!({"data": {"a": "x".repeat(DATA_MAX + 1)}}), None, &[""]);
        let frozen = json!({"data": {"a": "1"}, "immutable": true});
        check(&frozen, Some(&frozen), &[]);
        check(&json!({"data": {"a": "2"}}), Some(&frozen), &["immutable", "data"]);
    }

    #[test]
    fn rows() {
        check_row(&CONFIG_MAP, json!({"metadata": {"name": "c"}, "data": {"a": "", "b": ""}}), "c|2|60s");
    }
}
