//! One API object: JSON, as the client sent it, with accessors for what every object has.
//!
//! Fields that this version does not know are kept: clients are newer than hubs. Controllers and
//! printers that want types use [`Object::typed`].

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A JSON object with `apiVersion`, `kind` and `metadata`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Map<String, Value>);

impl Object {
    pub fn new(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// `None` for JSON that is no object.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self(map)),
            _ => None,
        }
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    pub fn as_map_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// The value at a path of field names: `object.at(&["spec", "replicas"])`.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, field| value.get(*field))
    }

    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    pub fn i64_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path)?.as_i64()
    }

    /// Sets a value, making the objects on the way (and replacing what is no object there).
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut map = &mut self.0;
        for field in parents {
            let slot = map.entry(*field).or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            let Value::Object(next) = slot else { unreachable!("made an object just above") };
            map = next;
        }
        map.insert((*last).to_owned(), value.into());
    }

    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let mut map = &mut self.0;
        for field in parents {
            map = map.get_mut(*field)?.as_object_mut()?;
        }
        map.shift_remove(*last)
    }

    pub fn kind(&self) -> &str {
        self.str_at(&["kind"]).unwrap_or_default()
    }

    pub fn api_version(&self) -> &str {
        self.str_at(&["apiVersion"]).unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.str_at(&["metadata", "name"]).unwrap_or_default()
    }

    /// Empty for objects of the cluster.
    pub fn namespace(&self) -> &str {
        self.str_at(&["metadata", "namespace"]).unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.str_at(&["metadata", "uid"]).unwrap_or_default()
    }

    /// The store revision of its last change; 0 where it was never stored.
    pub fn resource_version(&self) -> u64 {
        self.str_at(&["metadata", "resourceVersion"]).and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    pub fn generation(&self) -> i64 {
        self.i64_at(&["metadata", "generation"]).unwrap_or(0)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.str_at(&["metadata", "labels", key])
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.str_at(&["metadata", "annotations", key])
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.at(&["metadata", "finalizers"]).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    pub fn is_being_deleted(&self) -> bool {
        self.str_at(&["metadata", "deletionTimestamp"]).is_some()
    }

    /// The object as one of `k8s-openapi`'s types; unknown fields are dropped from the copy.
    ///
    /// # Errors
    /// A field of another type than the schema says.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(Value::Object(self.0.clone()))
    }
}
