//! What the columns of `kubectl get` have in common.

use serde_json::{Map, Value};

use super::Column;
use crate::object::Object;
use crate::time;

/// Shown for what is empty.
pub(super) const NONE: &str = "<none>";

pub(super) const NAME: Column =
    Column { name: "Name", kind: "string", format: "name", description: "Unique within a namespace.", priority: 0 };

pub(super) const AGE: Column = text("Age", "The time since the object was created.");

/// A column that always shows.
pub(super) const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

pub(super) const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", format: "", description, priority: 0 }
}

/// A column that shows with `-o wide`.
pub(super) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 1 }
}

pub(super) fn age(object: &Object, now: i64) -> Value {
    Value::from(time::age(object.str_at(&["metadata", "creationTimestamp"]), now))
}

/// A text, or `<none>` for nothing.
pub(super) fn or_none(text: Option<&str>) -> Value {
    Value::from(text.filter(|t| !t.is_empty()).unwrap_or(NONE))
}

pub(super) fn or_none_list(parts: &[String]) -> Value {
    or_none(Some(&parts.join(",")))
}

/// `a=b,c=d`, sorted.
pub(super) fn labels(labels: Option<&Map<String, Value>>) -> String {
    let mut pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// The objects of a list.
pub(super) fn items(list: Option<&Value>) -> impl DoubleEndedIterator<Item = &Value> {
    list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default().iter()
}

/// The status of the condition of this type: `True`, `False` or `Unknown`.
pub(super) fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a str> {
    items(object.at(&["status", "conditions"])).find(|c| c["type"] == kind)?["status"].as_str()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use crate::kinds::Resource;
    use crate::object::Object;

    /// When test rows are printed: objects "created" at 0 are 60 s old.
    pub(crate) const NOW: i64 = 60;

    /// Prints one row as `kubectl get -o wide` would, columns apart by `|`.
    #[track_caller]
    pub(crate) fn check_row(row: &Resource, object: Value, want: &str) {
        let mut object = Object::from_value(object).unwrap();
        object.set(&["metadata", "creationTimestamp"], json!("1970-01-01T00:00:00Z"));
        let cells = (row.cells)(&object, NOW);
        assert_eq!(cells.len(), row.columns.len(), "each column of {} has a cell", row.kind);
        let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        assert_eq!(cells.iter().map(text).collect::<Vec<_>>().join("|"), want);
    }
}
