//! Deletion: gone at once, or marked and gone when finalizers and grace are through.
//!
//! ```text
//!             finalizers, or a grace period          the last finalizer goes,
//!  live ────────────────────────────────▶ marked ─── or the node confirms ───▶ gone
//!    └───────────────── neither ──────────────────────────────────────────────▶
//! ```

use serde_json::{Value, json};

use super::check_preconditions;
use crate::kinds::Resource;
use crate::object::Object;
use crate::status::ApiError;
use crate::time;

/// Clients count on these; Kubernetes keeps them, too.
const LASTING_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Kubernetes' default for pods.
const GRACE_SECONDS: i64 = 30;

#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Propagation,
    pub uid: Option<String>,
    pub resource_version: Option<u64>,
}

/// What happens to what the object owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes it afterwards.
    #[default]
    Background,
    /// It goes first.
    Foreground,
    /// It stays, without this owner.
    Orphan,
}

impl Propagation {
    /// By which the garbage collector knows what to do before the object may go.
    fn finalizer(self) -> Option<&'static str> {
        match self {
            Self::Background => None,
            Self::Foreground => Some("foregroundDeletion"),
            Self::Orphan => Some("orphan"),
        }
    }
}

/// What a request to delete comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Deletion {
    Remove,
    Mark(Object),
    /// It is marked already, and this request makes it no quicker.
    Pending,
}

/// Whether nothing holds a deleted object back any more.
pub fn is_due(object: &Object) -> bool {
    let graceful = object.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) > 0;
    object.is_being_deleted() && !graceful && !is_held(object)
}

/// `now` in unix seconds.
///
/// # Errors
/// 409 where the preconditions do not hold, 403 for a namespace that stays.
pub fn delete(resource: &Resource, stored: &Object, options: &DeleteOptions, now: i64) -> Result<Deletion, ApiError> {
    check_preconditions(resource, stored, options.uid.as_deref(), options.resource_version)?;
    if resource.kind == "Namespace" && LASTING_NAMESPACES.contains(&stored.name()) {
        let message = format!("namespaces {:?} is forbidden: this namespace may not be deleted", stored.name());
        return Err(ApiError::forbidden(message).about("", "namespaces", stored.name()));
    }
    let mut next = stored.clone();
    if let Some(finalizer) = options.propagation.finalizer()
        && stored.finalizers().all(|had| had != finalizer)
    {
        let mut finalizers: Vec<Value> = stored.finalizers().map(|name| json!(name)).collect();
        finalizers.push(json!(finalizer));
        next.set(&["metadata", "finalizers"], finalizers);
    }
    let grace = grace(resource, stored, options);
    if grace == 0 && !is_held(&next) {
        return Ok(Deletion::Remove);
    }
    mark(&mut next, stored, grace, now);
    if resource.kind == "Namespace" {
        next.set(&["status", "phase"], "Terminating");
    }
    if next == *stored { Ok(Deletion::Pending) } else { Ok(Deletion::Mark(next)) }
}

fn mark(next: &mut Object, stored: &Object, grace: i64, now: i64) {
    let pending = stored.i64_at(&["metadata", "deletionGracePeriodSeconds"]);
    let since = stored.str_at(&["metadata", "deletionTimestamp"]).and_then(time::parse);
    let (grace, until) = match (pending, since) {
        // A deadline may come nearer, never move away.
        (Some(before), Some(until)) if before <= grace => (before, until),
        (Some(before), Some(until)) => (grace, until - before + grace),
        _ => (grace, now + grace),
    };
    next.set(&["metadata", "deletionTimestamp"], time::format(until));
    next.set(&["metadata", "deletionGracePeriodSeconds"], grace);
    if !stored.is_being_deleted() && stored.generation() > 0 {
        next.set(&["metadata", "generation"], stored.generation() + 1);
    }
}

/// Only a pod that a node may be running needs time to stop.
fn grace(resource: &Resource, stored: &Object, options: &DeleteOptions) -> i64 {
    if resource.kind != "Pod" {
        return 0;
    }
    let bound = stored.str_at(&["spec", "nodeName"]).is_some_and(|node| !node.is_empty());
    let finished = matches!(stored.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
    if !bound || finished {
        return 0;
    }
    let wished = stored.i64_at(&["spec", "terminationGracePeriodSeconds"]);
    let grace = options.grace_period_seconds.or(wished).unwrap_or(GRACE_SECONDS);
    // Kubernetes reads a negative grace as the shortest one.
    if grace < 0 { 1 } else { grace }
}

/// A finalizer of its own, or (namespaces) of its spec.
fn is_held(object: &Object) -> bool {
    let of_spec = object.at(&["spec", "finalizers"]).and_then(Value::as_array);
    object.finalizers().next().is_some()
        || (object.kind() == "Namespace" && of_spec.is_some_and(|finalizers| !finalizers.is_empty()))
}
