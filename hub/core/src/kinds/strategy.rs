//! What of a request reaches the store: who may write which part of an object.
//!
//! ```text
//! Create    all but status (the server's own) and the fields only the server sets
//! Update    all but status; a changed spec raises metadata.generation
//! Status    status alone
//! Binding   a pod's node, once, and its status
//! ```

use serde_json::{Value, json};

use super::{Resource, Subresource};
use crate::object::Object;

/// What a request may change, with the stored object where there is one.
#[derive(Debug, Clone, Copy)]
pub enum Write<'a> {
    Create,
    Update { old: &'a Object },
    Status { old: &'a Object },
    Binding { old: &'a Object },
}

/// Whether `metadata.generation` counts a kind's spec changes, for `observedGeneration` to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    Counted,
    NotCounted,
}

/// Metadata that requests cannot set: it is the server's, or of features that are not served.
const SERVER_SET: [&str; 5] =
    ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "managedFields"];

/// Metadata that stays as stored whatever an update says.
const KEPT: [&str; 5] = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

impl Resource {
    /// Takes back from `new` what `write` may not change. For after defaulting and before validation.
    pub fn prepare(&self, new: &mut Object, write: Write<'_>) {
        match write {
            Write::Create => self.prepare_create(new),
            Write::Update { old } => self.prepare_update(new, old),
            Write::Status { old } => *new = with_parts_of(old, new, &[&["status"]]),
            Write::Binding { old } => {
                let bound = old.str_at(&["spec", "nodeName"]).is_some_and(|node| !node.is_empty());
                let parts: &[&[&str]] = if bound { &[&["status"]] } else { &[&["status"], &["spec", "nodeName"]] };
                *new = with_parts_of(old, new, parts);
            }
        }
    }

    fn prepare_create(&self, new: &mut Object) {
        for field in SERVER_SET {
            new.remove(&["metadata", field]);
        }
        if self.generation == Generation::Counted {
            new.set(&["metadata", "generation"], 1);
        }
        (self.begin)(new);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object) {
        for field in KEPT {
            copy(new, old, &["metadata", field]);
        }
        new.remove(&["metadata", "managedFields"]);
        if self.subresources.contains(&Subresource::Status) {
            copy(new, old, &["status"]);
        }
        if self.generation == Generation::Counted && new.at(&["spec"]) != old.at(&["spec"]) {
            new.set(&["metadata", "generation"], old.generation() + 1);
        }
    }
}

/// `old` with these parts as they are in `new`.
fn with_parts_of(old: &Object, new: &Object, parts: &[&[&str]]) -> Object {
    let mut merged = old.clone();
    for part in parts {
        copy(&mut merged, new, part);
    }
    merged
}

fn copy(to: &mut Object, from: &Object, path: &[&str]) {
    match from.at(path) {
        Some(value) => to.set(path, value.clone()),
        None => {
            to.remove(path);
        }
    }
}

/// A new object has no status: its controller writes it.
pub(super) fn without_status(new: &mut Object) {
    new.remove(&["status"]);
}

/// An empty status, which clients of some kinds expect to be there.
pub(super) fn empty_status(new: &mut Object) {
    new.set(&["status"], json!({}));
}

/// The status is the creator's to write: nodes register with one.
pub(super) fn as_sent(_: &mut Object) {}

/// A new object begins in this phase.
pub(super) fn in_phase(new: &mut Object, phase: &str) {
    new.set(&["status"], json!({ "phase": Value::from(phase) }));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Write;
    use crate::kinds;
    use crate::object::Object;

    fn object(value: &Value) -> Object {
        Object::from_value(value.clone()).unwrap()
    }

    fn pod(node: &str, image: &str, phase: &str) -> Object {
        object(&json!({
            "metadata": {"name": "a", "uid": "1", "generation": 3},
            "spec": {"nodeName": node, "image": image}, "status": {"phase": phase},
        }))
    }

    #[track_caller]
    fn check(write: &dyn for<'a> Fn(&'a Object) -> Write<'a>, old: &Object, new: &Object, want: &Value) {
        let row = kinds::find("", "v1", "pods").unwrap();
        let mut prepared = new.clone();
        row.prepare(&mut prepared, write(old));
        assert_eq!(prepared.into_value(), *want);
    }

    #[test]
    fn each_write_changes_its_part_alone() {
        let (old, new) = (pod("", "x", "Pending"), pod("n", "y", "Running"));
        let stored = |node: &str, image: &str, phase: &str, generation: i64| {
            json!({
                "metadata": {"name": "a", "uid": "1", "generation": generation},
                "spec": {"nodeName": node, "image": image}, "status": {"phase": phase},
            })
        };
        check(&|old| Write::Update { old }, &old, &new, &stored("n", "y", "Pending", 4));
        check(&|old| Write::Update { old }, &old, &pod("", "x", "Running"), &stored("", "x", "Pending", 3));
        check(&|old| Write::Status { old }, &old, &new, &stored("", "x", "Running", 3));
        check(&|old| Write::Binding { old }, &old, &new, &stored("n", "x", "Running", 3));
        check(&|old| Write::Binding { old }, &pod("m", "x", "Pending"), &new, &stored("m", "x", "Running", 3));
    }

    #[test]
    fn a_new_object_brings_no_server_fields() {
        let mut new = object(&json!({
            "metadata": {"name": "a", "deletionTimestamp": "t", "managedFields": [], "generation": 7},
            "spec": {"containers": []}, "status": {"phase": "Running", "podIP": "1.2.3.4"},
        }));
        kinds::find("", "v1", "pods").unwrap().prepare(&mut new, Write::Create);
        assert_eq!(new.at(&["metadata"]), Some(&json!({"name": "a", "generation": 1})));
        assert_eq!(new.at(&["status"]), Some(&json!({"phase": "Pending", "qosClass": "BestEffort"})));
    }
}
