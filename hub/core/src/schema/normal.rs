//! What decoding into Go's types and encoding again would change in an object.
//!
//! Clients compare what they sent with what they get back; what Kubernetes would have rewritten, we
//! rewrite too: nulls vanish, quantities take their canonical form.

use serde_json::{Map, Value};

use super::types::{Shape, Type};
use crate::quantity::Quantity;

/// Brings an object that [`super::check`] found nothing fatal in, into normal form. Unknown fields stay.
pub fn normalise(type_: &Type, object: &mut Map<String, Value>) {
    object.retain(|name, value| !value.is_null() || type_.field(name).is_none());
    for (name, value) in object {
        if let Some(field) = type_.field(name) {
            normalise_value(&field.shape, value);
        }
    }
}

fn normalise_value(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Quantity, value) => {
            if let Ok(quantity) = Quantity::from_json(value) {
                *value = Value::String(quantity.to_string());
            }
        }
        (Shape::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| normalise_value(item, value)),
        (Shape::Map(item), Value::Object(entries)) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(|value| normalise_value(item, value));
        }
        (Shape::Object(_), Value::Object(object)) => {
            if let Some(type_) = shape.type_() {
                normalise(type_, object);
            }
        }
        (
            Shape::Text
            | Shape::Bytes
            | Shape::Time
            | Shape::Integer(_)
            | Shape::Number
            | Shape::Switch
            | Shape::IntegerOrText
            | Shape::Anything
            | Shape::List(_)
            | Shape::Map(_)
            | Shape::Object(_),
            _,
        ) => (),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::schema::of_kind;

    #[track_caller]
    fn check(mut body: Value, normal: Value) {
        super::normalise(of_kind("v1", "Pod").unwrap(), body.as_object_mut().unwrap());
        assert_eq!(body, normal);
    }

    #[test]
    fn nulls_vanish_and_quantities_are_canonical() {
        check(
            json!({"metadata": {"creationTimestamp": null, "labels": {"a": null, "b": "c"}}, "status": {}}),
            json!({"metadata": {"labels": {"b": "c"}}, "status": {}}),
        );
        check(
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Ki"}, "requests": null}}]}}),
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "500m", "memory": "1Mi"}}}]}}),
        );
        check(json!({"unknown": null, "spec": {"new": [null]}}), json!({"unknown": null, "spec": {"new": [null]}}));
    }
}
