//! A changed object: what may not change stays, what did not change is not written.

use serde_json::Value;

use super::{admit, check_preconditions, claim, conflict, is_due};
use crate::kinds::{Resource, Subresource};
use crate::object::Object;
use crate::status::ApiError;

/// What an update comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Nothing to write.
    Unchanged,
    Write(Object),
    /// The last finalizer of a deleted object went with this update, and so does the object.
    Remove(Object),
}

/// Metadata that no update changes.
const KEPT: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
    "selfLink",
];

/// What is left of a pod's images where a client sends the object without our annotation.
const IMAGES: &str = "wherry.dev/images";

/// What replacing `stored` by `new` comes to; with a subresource, only its part of `new` counts.
/// `stored` carries its `resourceVersion`.
///
/// # Errors
/// 409 where `new` names another uid or version than the stored one's, 422 for wrong fields.
pub fn update(
    resource: &Resource,
    stored: &Object,
    mut new: Object,
    subresource: Option<Subresource>,
) -> Result<Update, ApiError> {
    claim(resource, &mut new)?;
    let uid = Some(new.uid()).filter(|uid| !uid.is_empty()).map(str::to_owned);
    let version = Some(new.resource_version()).filter(|version| *version != 0);
    check_preconditions(resource, stored, uid.as_deref(), version)?;

    let mut next = merge(resource, stored, new, subresource)?;
    for field in KEPT {
        match stored.at(&["metadata", field]) {
            Some(kept) => next.set(&["metadata", field], kept.clone()),
            None => drop(next.remove(&["metadata", field])),
        }
    }
    next.remove(&["metadata", "managedFields"]);
    next.remove(&["metadata", "resourceVersion"]);
    match subresource {
        // All but the status is as stored. A hub that has become stricter must still take reports.
        Some(Subresource::Status) => {}
        Some(
            Subresource::Scale | Subresource::Binding | Subresource::Log | Subresource::Eviction | Subresource::Token,
        )
        | None => admit(resource, &mut next, Some(stored))?,
    }

    let mut before = stored.clone();
    before.remove(&["metadata", "resourceVersion"]);
    if is_due(&next) {
        return Ok(Update::Remove(next));
    }
    if next == before {
        return Ok(Update::Unchanged);
    }
    if stored.generation() > 0 && is_new_wish(&before, &next) {
        next.set(&["metadata", "generation"], stored.generation() + 1);
    }
    Ok(Update::Write(next))
}

/// The object that results, before the server's own fields.
fn merge(
    resource: &Resource,
    stored: &Object,
    new: Object,
    subresource: Option<Subresource>,
) -> Result<Object, ApiError> {
    let mut next = stored.clone();
    let take = |next: &mut Object, path: &[&str]| match new.at(path) {
        Some(value) => next.set(path, value.clone()),
        None => drop(next.remove(path)),
    };
    match subresource {
        Some(Subresource::Status) => take(&mut next, &["status"]),
        Some(Subresource::Scale) => take(&mut next, &["spec", "replicas"]),
        // Where the scheduler puts a pod, and the address that comes with it, are one decision.
        Some(Subresource::Binding) => {
            if let Some(node) = stored.str_at(&["spec", "nodeName"]).filter(|node| !node.is_empty()) {
                let why = format!("pod {} is already assigned to node {node:?}", stored.name());
                return Err(conflict(resource, stored, &why));
            }
            if stored.is_being_deleted() {
                let why = format!("pod {} is being deleted, cannot be assigned to a host", stored.name());
                return Err(conflict(resource, stored, &why));
            }
            take(&mut next, &["spec", "nodeName"]);
            take(&mut next, &["status"]);
        }
        Some(Subresource::Log | Subresource::Eviction | Subresource::Token) | None => {
            return Ok(replace(resource, stored, new));
        }
    }
    Ok(next)
}

/// The whole object but for its status, where that is a subresource.
fn replace(resource: &Resource, stored: &Object, mut new: Object) -> Object {
    if resource.has(Subresource::Status) {
        match stored.at(&["status"]) {
            Some(status) => new.set(&["status"], status.clone()),
            None => drop(new.remove(&["status"])),
        }
    }
    if new.annotation(IMAGES).is_none()
        && let Some(images) = stored.annotation(IMAGES)
    {
        new.set(&["metadata", "annotations", IMAGES], images);
    }
    new
}

/// Whether anything but metadata and status differs.
fn is_new_wish(before: &Object, next: &Object) -> bool {
    let wish = |object: &Object| -> Vec<(String, Value)> {
        let told = ["metadata", "status", "apiVersion", "kind"];
        let fields = object.as_map().iter().filter(|(field, _)| !told.contains(&field.as_str()));
        let mut fields: Vec<(String, Value)> = fields.map(|(field, value)| (field.clone(), value.clone())).collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        fields
    };
    wish(before) != wish(next)
}
