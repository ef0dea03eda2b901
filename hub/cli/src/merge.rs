//! What an apply changes: three-way, between what was applied last, what is wanted now, and what is live.
//!
//! Fields that others own stay: what was never applied is not touched, what was applied and is not
//! wanted any more goes. A list is one value, unless the live one says the same and more.

use serde_json::{Map, Value};

/// Where an object keeps what was applied last; kubectl's, so that both may be used on one object.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object with itself noted as what was applied. One whose annotations are no map stays as it is:
/// the server says what is wrong with it.
pub(crate) fn with_note(mut object: Value) -> Value {
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let note = object.to_string();
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(LAST_APPLIED.to_owned(), Value::String(note));
    }
    object
}

/// What was applied last, if anything was.
pub(crate) fn noted(live: &Value) -> Value {
    let note = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    note.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

/// The merge patch that makes `live` what is `wanted`; `None` where nothing is to be done.
pub(crate) fn patch(last: &Value, wanted: &Value, live: &Value) -> Option<Value> {
    let empty = Map::new();
    let (wanted, live) = (wanted.as_object()?, live.as_object().unwrap_or(&empty));
    let mut changes = Map::new();
    for (field, value) in wanted {
        let change = match (value, live.get(field)) {
            (Value::Object(_), Some(current @ Value::Object(_))) => patch(&last[field], value, current),
            (_, Some(current)) if covers(current, value) && is_as_before(&last[field], value) => None,
            (value, _) => Some(value.clone()),
        };
        if let Some(change) = change {
            changes.insert(field.clone(), change);
        }
    }
    for field in last.as_object().unwrap_or(&empty).keys() {
        if !wanted.contains_key(field) && live.contains_key(field) {
            changes.insert(field.clone(), Value::Null);
        }
    }
    (!changes.is_empty()).then_some(Value::Object(changes))
}

/// A list that lost a field since the last apply is covered by the live one, and still a change.
fn is_as_before(last: &Value, wanted: &Value) -> bool {
    last.is_null() || last == wanted
}

/// Whether `live` says everything that `wanted` says; it may say more (defaults).
fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(field, value)| live.get(field).is_some_and(|current| covers(current, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(last: Value, wanted: Value, live: Value, expected: Value) {
        assert_eq!(patch(&last, &wanted, &live).unwrap_or_default(), expected, "{last} -> {wanted} on {live}");
    }

    #[test]
    fn only_differences_are_sent() {
        check(json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "default": 7}), json!(null));
        check(json!({"a": 1}), json!({"a": 2}), json!({"a": 1}), json!({"a": 2}));
        check(json!(null), json!({"a": {"b": 1}}), json!({"a": {"c": 2}}), json!({"a": {"b": 1}}));
        check(json!(null), json!({"a": {"b": 1}}), json!({}), json!({"a": {"b": 1}}));
    }

    #[test]
    fn what_is_not_wanted_any_more_goes_and_what_others_set_stays() {
        check(json!({"a": 1, "b": 2}), json!({"a": 1}), json!({"a": 1, "b": 2, "c": 3}), json!({"b": null}));
        check(
            json!({"m": {"x": 1, "y": 1}}),
            json!({"m": {"x": 1}}),
            json!({"m": {"x": 1, "y": 1}}),
            json!({"m": {"y": null}}),
        );
        check(json!({"b": 2}), json!({}), json!({"c": 3}), json!(null));
    }

    #[test]
    fn lists_with_defaults_filled_in_are_the_same_lists() {
        let live = json!({"list": [{"name": "a", "policy": "Always"}]});
        check(json!(null), json!({"list": [{"name": "a"}]}), live.clone(), json!(null));
        check(json!(null), json!({"list": [{"name": "b"}]}), live.clone(), json!({"list": [{"name": "b"}]}));
        check(json!(null), json!({"list": []}), live.clone(), json!({"list": []}));
        let last = json!({"list": [{"name": "a", "policy": "Always"}]});
        check(last, json!({"list": [{"name": "a"}]}), live, json!({"list": [{"name": "a"}]}));
    }

    #[test]
    fn the_note_is_of_the_object_without_notes() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a"}});
        let once = with_note(object.clone());
        assert_eq!(noted(&once)["metadata"], json!({"name": "a"}));
        assert_eq!(with_note(once.clone())["metadata"]["annotations"].as_object().unwrap().len(), 1);
        assert_eq!(noted(&object), Value::Null);
    }
}
