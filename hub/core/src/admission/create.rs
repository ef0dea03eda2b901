//! A new object: metadata of its own, defaults, validation.

use super::{admit, claim};
use crate::kinds::{Resource, Scope, Subresource};
use crate::object::Object;
use crate::status::{ApiError, FieldError, FieldProblem};
use crate::{name, time};

/// What the server, not the client, knows of a new object.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub uid: &'a str,
    /// Unix seconds.
    pub now: i64,
    /// Chooses the tail of a generated name.
    pub random: u64,
}

/// Metadata that only the server writes, and `managedFields`, which stand for server-side apply.
const OURS: [&str; 8] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "resourceVersion",
    "managedFields",
];

/// The object as it is to be stored.
///
/// # Errors
/// 400 for another kind's object or one with a `resourceVersion`, 422 for wrong fields.
pub fn create(resource: &Resource, mut object: Object, identity: Identity<'_>) -> Result<Object, ApiError> {
    claim(resource, &mut object)?;
    if object.at(&["metadata"]).is_some_and(|metadata| !metadata.is_object()) {
        let problem =
            FieldProblem::Invalid(object.at(&["metadata"]).cloned().unwrap_or_default(), "must be an object".into());
        return Err(ApiError::invalid(resource.group, resource.kind, "", vec![FieldError::new("metadata", problem)]));
    }
    if object.str_at(&["metadata", "resourceVersion"]).is_some_and(|version| !version.is_empty() && version != "0") {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for field in OURS {
        object.remove(&["metadata", field]);
    }
    if object.name().is_empty()
        && let Some(prefix) = object.str_at(&["metadata", "generateName"]).filter(|prefix| !prefix.is_empty())
    {
        let generated = name::generate(prefix, identity.random);
        object.set(&["metadata", "name"], generated);
    }
    if resource.scope == Scope::Cluster && object.namespace().is_empty() {
        object.remove(&["metadata", "namespace"]);
    }
    object.set(&["metadata", "uid"], identity.uid);
    object.set(&["metadata", "creationTimestamp"], time::format(identity.now));
    if resource.has(Subresource::Status) {
        if object.at(&["spec"]).is_some() {
            object.set(&["metadata", "generation"], 1);
        }
        // A status is its controller's to say; a node's is what the node found, before it had an object.
        if resource.kind != "Node" {
            object.remove(&["status"]);
        }
    }
    admit(resource, &mut object, None)?;
    (resource.begin)(&mut object);
    Ok(object)
}
