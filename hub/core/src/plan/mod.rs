//! What the controllers decide: functions from what is to what to do.
//!
//! ```text
//! claim        which objects belong to which owner: adopt, keep, release
//! deployment   rolling updates, Recreate, scaling, history, conditions
//! replica_set  how many pods to make, which to delete first
//! node_health  who is NotReady, whose pods go, and when we rather suspect ourselves
//! garbage      owners that are gone, foreground and orphan deletion
//! namespace    emptying a namespace before it goes
//! expiry       which events and finished pods are old enough to go
//! pods         what plans ask of a pod
//! ```
//! Nothing here waits, reads a clock or keeps anything. Each plan, done and planned again, is empty.

pub mod claim;
pub mod deployment;
pub mod replica_set;

pub mod node_health;

pub mod garbage;

pub mod namespace;

pub mod expiry;

pub mod pods;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

/// A text of the metadata, which stored objects always have.
pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub(crate) fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// When it was created; the beginning of time where an object does not say.
pub(crate) fn created(meta: &ObjectMeta) -> Timestamp {
    meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
