//! What happens to an object between a client's request and the store: pure, for every kind alike.
//!
//! ```text
//! create    a new object: metadata of its own, defaults, validation
//! update    a changed one: what may not change stays, what did not change is not written
//! delete    gone at once, or marked and gone when finalizers and grace are through
//! ```
//! The hub's shell reads, calls one of these, and commits the answer if nobody was quicker.

mod create;
mod delete;
#[cfg(test)]
mod tests;
mod update;

pub use create::{Identity, create};
pub use delete::{DeleteOptions, Deletion, Propagation, delete, is_due};
pub use update::{Update, update};

use crate::kinds::{Resource, Subresource};
use crate::object::Object;
use crate::status::{ApiError, FieldError};

impl Resource {
    pub(crate) fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

/// Fills in `apiVersion` and `kind`, or refuses an object of another kind.
fn claim(resource: &Resource, object: &mut Object) -> Result<(), ApiError> {
    let api_version = resource.api_version();
    let found = (object.api_version(), object.kind());
    let agrees = |found: &str, expected: &str| found.is_empty() || found == expected;
    if !agrees(found.0, &api_version) || !agrees(found.1, resource.kind) {
        return Err(ApiError::bad_request(format!(
            "the object is of kind {} {}, and {} {} is expected here",
            found.0, found.1, api_version, resource.kind
        )));
    }
    // In this order, so that what was never written by a client reads like the rest.
    if found.0.is_empty() || found.1.is_empty() {
        let rest = std::mem::take(object.as_map_mut());
        object.set(&["apiVersion"], api_version);
        object.set(&["kind"], resource.kind);
        for (field, value) in rest {
            object.as_map_mut().entry(field).or_insert(value);
        }
    }
    Ok(())
}

fn admit(resource: &Resource, new: &mut Object, old: Option<&Object>) -> Result<(), ApiError> {
    (resource.default)(new);
    let errors: Vec<FieldError> = (resource.validate)(new, old);
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(resource.group, resource.kind, new.name(), errors))
}

fn conflict(resource: &Resource, object: &Object, why: &str) -> ApiError {
    ApiError::conflict(resource.group, resource.plural, object.name(), why)
}

/// The two preconditions that a write may carry.
fn check_preconditions(
    resource: &Resource,
    stored: &Object,
    uid: Option<&str>,
    resource_version: Option<u64>,
) -> Result<(), ApiError> {
    if let Some(uid) = uid.filter(|uid| *uid != stored.uid()) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", stored.uid());
        return Err(conflict(resource, stored, &why));
    }
    if resource_version.is_some_and(|version| version != stored.resource_version()) {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(conflict(resource, stored, why));
    }
    Ok(())
}
