//! The table of resource kinds: adding a kind is adding a row.
//!
//! One set of handlers serves all rows; what differs between kinds is data or a pure function here.
//!
//! ```text
//! a kind a file: namespace, node, pod, service, ...   workload   what templates' controllers share
//! fill       defaults, step by step                    field      what is wrong, each with its path
//! metadata   what holds for every object               print      what columns have in common
//! ```

mod config_map;
mod deployment;
mod event;
mod lease;
mod namespace;
mod node;
pub(crate) mod pod;
mod replica_set;
mod secret;
mod service;
mod service_account;
mod workload;

mod field;
mod fill;
mod metadata;
mod print;

pub use pod::tolerate_lost_node;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::Object;
use crate::status::FieldError;
use field::{Errors, Path};

/// One kind of object and everything that the API machine must know of it.
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    pub durability: Durability,
    /// What DELETE answers with (clients decode it): the object, or a `Status`.
    pub delete_answers: DeleteAnswer,
    pub columns: &'static [Column],
    /// The cells of one row, in the order of `columns`. `now` in unix seconds.
    pub cells: fn(&Object, now: i64) -> Vec<Value>,
    /// Fills in what Kubernetes would, so that a round trip through `kubectl diff` is empty.
    pub default: fn(&mut Object),
    /// What the server adds to a new object once: its first status. For after defaulting.
    pub begin: fn(&mut Object),
    /// Everything wrong with the object; `old` on updates.
    pub validate: fn(new: &Object, old: Option<&Object>) -> Vec<FieldError>,
    /// Fields that are accepted and ignored: texts for `Warning` headers.
    pub warnings: fn(&Object) -> Vec<String>,
    /// Fields beyond metadata.name and metadata.namespace that field selectors may name, with their path.
    pub selectable_fields: &'static [(&'static str, &'static [&'static str])],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    Status,
    Scale,
    Log,
    Eviction,
    Binding,
    Token,
}

/// Whether an acknowledged write must survive a power cut (design section 4). The `status`
/// subresource is always relaxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Durable,
    Relaxed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteAnswer {
    Object,
    Status,
}

/// A column of `kubectl get`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`.
    pub kind: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 always shown, 1 with `-o wide`.
    pub priority: u8,
}

/// The rows.
pub fn table() -> &'static [Resource] {
    &[
        namespace::NAMESPACE,
        node::NODE,
        pod::POD,
        service::SERVICE,
        deployment::DEPLOYMENT,
        replica_set::REPLICA_SET,
        event::EVENT,
        config_map::CONFIG_MAP,
        secret::SECRET,
        lease::LEASE,
        service_account::SERVICE_ACCOUNT,
    ]
}

/// The row served at `/apis/<group>/<version>/.../<plural>`.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    table().iter().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// The row of an object's `apiVersion` and `kind`.
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    table().iter().find(|r| r.group == group && r.version == version && r.kind == kind)
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The store key of an object: `/<group or "core">/<plural>/<namespace or "">/<name>`.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}{name}", self.prefix(Some(namespace)))
    }

    /// The store prefix of all objects, or of a namespace's.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        let group = if self.group.is_empty() { "core" } else { self.group };
        match namespace {
            Some(namespace) => format!("/{group}/{}/{namespace}/", self.plural),
            None => format!("/{group}/{}/", self.plural),
        }
    }
}

/// What every stored kind can do.
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The object as a type to check; a field of another type is told as the one error.
fn parse<T: DeserializeOwned>(errors: &mut Errors, object: &Object) -> Option<T> {
    object.typed().map_err(|problem| errors.invalid(&Path::new(""), object.name(), problem)).ok()
}

fn no_warnings(_: &Object) -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_found_by_path_and_by_kind() {
        for row in table() {
            let by_path = find(row.group, row.version, row.plural).expect("each row is found by its path");
            let by_kind = of_kind(&row.api_version(), row.kind).expect("each row is found by its kind");
            assert!(std::ptr::eq(by_path, by_kind), "{} is there twice", row.kind);
            assert_eq!(row.singular, row.kind.to_lowercase());
        }
    }

    #[test]
    fn no_two_rows_share_a_name_that_kubectl_resolves() {
        let mut names: Vec<&str> =
            table().iter().flat_map(|r| r.short_names.iter().copied().chain([r.plural])).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    /// Objects that clients get wrong, and that a store may hold from before a check was there.
    fn odd_objects() -> Vec<Object> {
        let odd = [
            json!({}),
            json!({"metadata": null, "spec": null, "status": null}),
            json!({"metadata": {"name": 1, "labels": [], "annotations": {"a": 1}}, "spec": 1, "status": "x", "data": 7}),
            json!({"metadata": {"name": "a"}, "spec": {"template": 1, "strategy": [], "ports": {}, "selector": "x"}}),
            json!({"spec": {"template": {"spec": {"containers": [null, {"ports": 1, "env": [1], "resources": 1}]}}}}),
            json!({"spec": {"containers": [null, {"livenessProbe": {"httpGet": 1}}], "volumes": [{"configMap": 1}, 2]}}),
            json!({"status": {"conditions": {}, "containerStatuses": [{"state": 1, "restartCount": "x"}], "addresses": 1}}),
            json!({"involvedObject": 1, "series": 1, "stringData": {"a": 1}, "data": {"a": 1}, "type": 3}),
        ];
        odd.into_iter().map(|value| Object::from_value(value).unwrap()).collect()
    }

    #[test]
    fn odd_objects_make_no_row_panic() {
        for row in table() {
            for odd in odd_objects() {
                let mut object = odd.clone();
                (row.default)(&mut object);
                let once = object.clone();
                (row.default)(&mut object);
                assert_eq!(object, once, "defaulting a {} twice differs", row.kind);
                (row.begin)(&mut object);
                (row.validate)(&object, None);
                (row.validate)(&object, Some(&odd));
                (row.warnings)(&object);
                assert_eq!((row.cells)(&object, 0).len(), row.columns.len(), "{}", row.kind);
            }
        }
    }
}
