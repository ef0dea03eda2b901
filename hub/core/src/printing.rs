//! Objects in the forms that clients ask for to show them: tables, and metadata alone.

use serde_json::{Map, Value, json};

use crate::kinds::Resource;
use crate::object::Object;

/// What the rows of a table hold besides their cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    /// What `--sort-by` and custom columns need.
    Object,
}

impl Include {
    /// Reads the query parameter `includeObject`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// Whether a table says what its columns are; in a watch only the first one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    Shown,
    Known,
}

/// A `Table` with a row for each object. `list_meta` is the list's metadata; `now` in unix seconds.
pub fn table(
    resource: &Resource,
    objects: &[Object],
    include: Include,
    list_meta: Value,
    columns: Columns,
    now: i64,
) -> Value {
    let definitions: Vec<Value> = match columns {
        Columns::Shown => resource
            .columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name, "type": column.kind, "format": column.format,
                    "description": column.description, "priority": column.priority,
                })
            })
            .collect(),
        Columns::Known => Vec::new(),
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells = (resource.cells)(object, now);
            match include {
                Include::None => json!({ "cells": cells }),
                Include::Metadata => json!({"cells": cells, "object": metadata(object)}),
                Include::Object => json!({"cells": cells, "object": object.as_map()}),
            }
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// An object's `PartialObjectMetadata`.
pub fn metadata(object: &Object) -> Value {
    let metadata = object.at(&["metadata"]).cloned().unwrap_or_else(|| Value::Object(Map::new()));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// A `PartialObjectMetadataList`.
pub fn metadata_list(objects: &[Object], list_meta: Value) -> Value {
    let items: Vec<Value> = objects.iter().map(metadata).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn named(name: &str) -> Object {
        Object::from_value(json!({"metadata": {"name": name}, "spec": {"x": 1}})).unwrap()
    }

    #[test]
    fn rows_hold_what_was_asked_for() {
        let config_map = kinds::of_kind("v1", "ConfigMap").unwrap();
        let row = |include| {
            let table = table(config_map, &[named("a")], include, json!({}), Columns::Shown, 0);
            table["rows"][0].get("object").cloned()
        };
        assert_eq!(row(Include::None), None);
        assert_eq!(
            row(Include::Metadata),
            Some(json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}}))
        );
        assert_eq!(row(Include::Object), Some(json!({"metadata": {"name": "a"}, "spec": {"x": 1}})));
    }

    /// kubectl pads and aligns by position: a cell too many or too few shifts a whole line.
    #[test]
    fn every_kind_has_a_cell_for_each_column() {
        for resource in kinds::table() {
            for object in [Object::default(), named("a")] {
                let table = table(resource, &[object], Include::None, json!({}), Columns::Shown, 0);
                let width = |value: &Value| value.as_array().map(Vec::len);
                assert_eq!(width(&table["rows"][0]["cells"]), width(&table["columnDefinitions"]), "{}", resource.kind);
            }
        }
    }

    #[test]
    fn later_tables_of_a_watch_repeat_no_columns() {
        let pods = kinds::of_kind("v1", "Pod").unwrap();
        let table = table(pods, &[], Include::None, json!({"resourceVersion": "7"}), Columns::Known, 0);
        assert_eq!(
            table,
            json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "7"},
                   "columnDefinitions": [], "rows": []})
        );
    }

    #[test]
    fn lists_of_metadata() {
        let list = metadata_list(&[named("a"), Object::default()], json!({"resourceVersion": "7"}));
        assert_eq!(list["items"][0]["metadata"], json!({"name": "a"}));
        assert_eq!(list["items"][1]["metadata"], json!({}));
        assert_eq!(Include::parse("Object"), Some(Include::Object));
        assert_eq!(Include::parse("object"), None);
    }
}
