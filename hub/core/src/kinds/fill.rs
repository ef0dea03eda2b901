//! Filling in defaults: small steps over JSON that keep every field they do not know.

use serde_json::{Map, Value};

use crate::object::Object;
use crate::quantity::Quantity;

/// Sets a field that is absent. `null` counts as absent, as it does in Kubernetes.
pub(super) fn fill(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if is_absent(map, field) {
        map.insert(field.to_owned(), value.into());
    }
}

/// Sets a text that is absent or empty: Kubernetes cannot tell these two apart.
pub(super) fn fill_text(map: &mut Map<String, Value>, field: &str, value: &str) {
    if map.get(field).is_none_or(|v| v.is_null() || v.as_str() == Some("")) {
        map.insert(field.to_owned(), Value::from(value));
    }
}

pub(super) fn is_absent(map: &Map<String, Value>, field: &str) -> bool {
    map.get(field).is_none_or(Value::is_null)
}

/// The object in a field, if one is there.
pub(super) fn object<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(field)?.as_object_mut()
}

/// The object in a field, made if absent; `None` for JSON of another type, which validation refuses.
pub(super) fn object_or_new<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    fill(map, field, Map::new());
    object(map, field)
}

/// The objects of a list field.
pub(super) fn each<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The `spec` of an object, made if absent.
pub(super) fn spec(object: &mut Object) -> Option<&mut Map<String, Value>> {
    object_or_new(object.as_map_mut(), "spec")
}

/// Writes a quantity as Kubernetes would: a text in canonical form. What is no quantity stays for
/// validation to name.
pub(super) fn canonical_quantity(map: &mut Map<String, Value>, field: &str) {
    if let Some(value) = map.get_mut(field)
        && let Ok(quantity) = Quantity::from_json(value)
    {
        *value = Value::from(quantity.to_string());
    }
}

/// [`canonical_quantity`] for each amount of a resource list.
pub(super) fn canonical_quantities(map: &mut Map<String, Value>, field: &str) {
    let Some(list) = object(map, field) else { return };
    for value in list.values_mut() {
        if let Ok(quantity) = Quantity::from_json(value) {
            *value = Value::from(quantity.to_string());
        }
    }
}
