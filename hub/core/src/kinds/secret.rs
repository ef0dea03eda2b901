//! Secrets: configuration that leaves the hub only sealed to a node.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};

use super::config_map::{DATA_MAX, frozen};
use super::field::{Errors, Path};
use super::fill::{fill_text, object_or_new};
use super::print::{AGE, NAME, age, number, text};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, VERBS, no_warnings};
use super::{metadata, parse};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const SECRET: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Status,
    columns: COLUMNS,
    cells,
    default,
    begin: |_| (),
    validate,
    warnings: no_warnings,
    selectable_fields: &[("type", &["type"])],
};

const COLUMNS: &[Column] = &[NAME, text("Type", "What the keys mean."), number("Data", "How many keys it has."), AGE];

/// Types whose keys are agreed: a consumer may rely on all of them being there.
const REQUIRED_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

fn cells(object: &Object, now: i64) -> Vec<Value> {
    let keys = object.at(&["data"]).and_then(Value::as_object).map_or(0, Map::len);
    vec![json!(object.name()), json!(object.str_at(&["type"]).unwrap_or_default()), json!(keys), age(object, now)]
}

/// `stringData` is for writing only: it becomes `data`, over what is there.
fn default(object: &mut Object) {
    let map = object.as_map_mut();
    fill_text(map, "type", "Opaque");
    if let Some(Value::Object(plain)) = map.shift_remove("stringData")
        && let Some(data) = object_or_new(map, "data")
    {
        for (key, value) in plain {
            data.insert(key, Value::from(STANDARD.encode(value.as_str().unwrap_or_default())));
        }
    }
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    let Some(secret) = parse::<Secret>(&mut errors, new) else { return errors.into_vec() };
    let (data, path) = (secret.data.unwrap_or_default(), Path::new("data"));
    for key in data.keys() {
        errors.shape(&path.key(key), NameKind::DataKey, key);
    }
    if data.values().map(|bytes| bytes.0.len()).sum::<usize>() > DATA_MAX {
        errors.too_long(&path, DATA_MAX);
    }
    let kind = secret.type_.unwrap_or_default();
    let required = REQUIRED_KEYS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    for key in required.iter().filter(|key| !data.contains_key(**key)) {
        errors.required(&path.key(key), "");
    }
    if let Some(old) = old {
        if old.str_at(&["type"]) != Some(kind.as_str()) {
            errors.invalid(&Path::new("type"), kind, "field is immutable");
        }
        frozen(&mut errors, new, old, &["data"]);
    }
    errors.into_vec()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{SECRET, default, validate};
    use crate::kinds::print::tests::check_row;
    use crate::object::Object;

    fn object(fields: &Value) -> Object {
        let mut object = Object::from_value(fields.clone()).unwrap();
        object.set(&["metadata"], json!({"name": "a", "namespace": "x"}));
        default(&mut object);
        object
    }

    #[track_caller]
    fn check(fields: &Value, old: Option<&Value>, paths: &[&str]) {
        let old = old.map(object);
        let found: Vec<String> = validate(&object(fields), old.as_ref()).into_iter().map(|e| e.path).collect();
        assert_eq!(found, paths, "{fields}");
    }

    #[test]
    fn plain_text_becomes_data() {
        let secret = object(&json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "new"}}));
        assert_eq!(secret.at(&["data"]), Some(&json!({"a": "bmV3", "b": "eQ=="})));
        assert_eq!(secret.at(&["stringData"]), None);
        assert_eq!(secret.str_at(&["type"]), Some("Opaque"));
    }

    #[test]
    fn keys_types_and_immutability() {
        check(&json!({"data": {"a": "eA=="}}), None, &[]);
        check(&json!({"data": {"a b": "eA=="}}), None, &["data[a b]"]);
        check(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), None, &["data[tls.key]"]);
        check(&json!({"type": "other"}), Some(&json!({})), &["type"]);
        check(&json!({"immutable": true}), Some(&json!({"immutable": true, "data": {"a": ""}})), &["data"]);
    }

    #[test]
    fn rows() {
        check_row(&SECRET, json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": ""}}), "s|Opaque|1|60s");
    }
}
