//! Garbage: what is left when an owner goes.
//!
//! ```text
//! background  the owner goes at once; dependents follow because their owner's uid is nowhere
//! foreground  the owner waits (finalizer) until dependents that block it are gone
//! orphan      the owner waits (finalizer) until dependents have let go of it
//! ```

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// An object and what is known of its relatives.
pub struct Input<'a> {
    pub object: &'a ObjectMeta,
    /// Whether its namespace is empty or an owner of that uid is there: a lookup by uid over all kinds.
    pub owner: &'a dyn Fn(&OwnerReference) -> Owner,
    /// Everything that names this object as an owner.
    pub dependents: &'a [&'a ObjectMeta],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Present,
    /// Being deleted in the foreground: it waits for its dependents.
    Waiting,
    Absent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Keep,
    /// Delete it in the background, or in the foreground if something of its own blocks an owner.
    Delete(Manner),
    /// Drop the references to these owners: others still hold it.
    DropOwners(BTreeSet<String>),
    /// Remove this finalizer of ours: what it waited for has happened.
    Release(&'static str),
    /// Let these dependents go: remove the reference to this object from them.
    Orphan,
    /// Delete the dependents that are not going yet; then look again.
    DeleteDependents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Background,
    Foreground,
}

/// What to do about one object now.
pub fn plan(input: &Input<'_>) -> Step {
    let has = |finalizer: &str| input.object.finalizers.iter().flatten().any(|f| f == finalizer);
    if input.object.deletion_timestamp.is_some() {
        return match (has(ORPHAN), has(FOREGROUND)) {
            (true, _) if input.dependents.is_empty() => Step::Release(ORPHAN),
            (true, _) => Step::Orphan,
            (false, true) => foreground(input),
            (false, false) => Step::Keep,
        };
    }
    owned(input)
}

fn foreground(input: &Input<'_>) -> Step {
    if !input.dependents.iter().any(|dependent| blocks(dependent, input.object)) {
        return Step::Release(FOREGROUND);
    }
    let to_delete = input.dependents.iter().any(|dependent| dependent.deletion_timestamp.is_none());
    if to_delete { Step::DeleteDependents } else { Step::Keep }
}

/// Whether `dependent` keeps `owner` from going in the foreground.
fn blocks(dependent: &ObjectMeta, owner: &ObjectMeta) -> bool {
    let references = dependent.owner_references.iter().flatten();
    references
        .filter(|reference| Some(&reference.uid) == owner.uid.as_ref())
        .any(|r| r.block_owner_deletion == Some(true))
}

fn owned(input: &Input<'_>) -> Step {
    let owners: Vec<(&OwnerReference, Owner)> =
        input.object.owner_references.iter().flatten().map(|reference| (reference, (input.owner)(reference))).collect();
    if owners.is_empty() {
        return Step::Keep;
    }
    let gone: BTreeSet<String> = owners
        .iter()
        .filter(|(_, owner)| *owner != Owner::Present)
        .map(|(reference, _)| reference.uid.clone())
        .collect();
    let is_held = owners.iter().any(|(_, owner)| *owner == Owner::Present);
    let is_awaited = owners.iter().any(|(_, owner)| *owner == Owner::Waiting);
    match (is_held, gone.is_empty()) {
        (true, true) => Step::Keep,
        (true, false) => Step::DropOwners(gone),
        (false, _) if is_awaited && input.dependents.iter().any(|dependent| blocks(dependent, input.object)) => {
            Step::Delete(Manner::Foreground)
        }
        (false, _) => Step::Delete(Manner::Background),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    fn owners(uids: &[&str]) -> Value {
        let reference =
            |uid: &&str| json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "blockOwnerDeletion": true});
        uids.iter().map(reference).collect()
    }

    /// Owners called `there` and `waiting` exist; others do not.
    #[track_caller]
    fn check(object: Value, dependents: &[Value], expected: Step) {
        let dependents: Vec<ObjectMeta> = dependents.iter().cloned().map(meta).collect();
        let owner = |reference: &OwnerReference| match reference.uid.as_str() {
            "there" => Owner::Present,
            "waiting" => Owner::Waiting,
            _ => Owner::Absent,
        };
        let object = meta(object);
        let step = plan(&Input { object: &object, owner: &owner, dependents: &dependents.iter().collect::<Vec<_>>() });
        assert_eq!(step, expected);
    }

    #[test]
    fn what_nobody_owns_any_more_goes() {
        check(json!({}), &[], Step::Keep);
        check(json!({"ownerReferences": owners(&["there"])}), &[], Step::Keep);
        check(json!({"ownerReferences": owners(&["gone"])}), &[], Step::Delete(Manner::Background));
        check(json!({"ownerReferences": owners(&["gone", "there"])}), &[], Step::DropOwners(["gone".into()].into()));
        check(json!({"ownerReferences": owners(&["waiting"])}), &[], Step::Delete(Manner::Background));
        let child = json!({"ownerReferences": owners(&["me"])});
        check(
            json!({"uid": "me", "ownerReferences": owners(&["waiting"])}),
            &[child],
            Step::Delete(Manner::Foreground),
        );
    }

    fn going(finalizer: &str) -> Value {
        json!({"uid": "me", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer]})
    }

    #[test]
    fn foreground_waits_for_dependents_that_block() {
        let child = json!({"ownerReferences": owners(&["me"])});
        let mut dying = child.clone();
        dying["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let indifferent = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "me"}]});
        check(going(FOREGROUND), &[], Step::Release(FOREGROUND));
        check(going(FOREGROUND), &[child], Step::DeleteDependents);
        check(going(FOREGROUND), &[dying], Step::Keep);
        check(going(FOREGROUND), &[indifferent], Step::Release(FOREGROUND));
        check(going("somebody.else/s"), &[], Step::Keep);
    }

    #[test]
    fn orphans_are_let_go_before_their_owner_goes() {
        let child = json!({"ownerReferences": owners(&["me"])});
        check(going(ORPHAN), &[child], Step::Orphan);
        check(going(ORPHAN), &[], Step::Release(ORPHAN));
    }
}
