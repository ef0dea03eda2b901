//! Who controls what: an owner claims the objects that its selector matches and nobody else controls.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as SelectorSpec, ObjectMeta, OwnerReference};

use crate::selector::LabelSelector;

/// An owner looking for what is its own.
pub struct Claimant<'a> {
    pub owner: &'a ObjectMeta,
    selector: Option<LabelSelector>,
}

/// What an object is to an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Controlled by the owner, and selected.
    Keep,
    /// Selected and controlled by nobody: the owner makes itself the controller.
    Adopt,
    /// Controlled by the owner but no longer selected: the owner lets go of it.
    Release,
    /// Somebody else's, or nothing to do with it.
    Leave,
}

impl<'a> Claimant<'a> {
    /// A selector that cannot be read selects nothing: better no pods than everybody's.
    pub fn new(owner: &'a ObjectMeta, selector: &SelectorSpec) -> Self {
        let selector = serde_json::to_value(selector).ok().and_then(|json| LabelSelector::from_json(&json).ok());
        Self { owner, selector: selector.filter(|selector| !selector.is_everything()) }
    }

    pub fn claim(&self, object: &ObjectMeta) -> Claim {
        let owner_goes = self.owner.deletion_timestamp.is_some();
        let object_goes = object.deletion_timestamp.is_some();
        match controller(object) {
            Some(controller) if Some(&controller.uid) != self.owner.uid.as_ref() => Claim::Leave,
            Some(_) if self.selects(object) => Claim::Keep,
            // What is going anyway is not worth a write; and an owner that goes lets the collector decide.
            Some(_) if owner_goes || object_goes => Claim::Leave,
            Some(_) => Claim::Release,
            None if owner_goes || object_goes || !self.selects(object) => Claim::Leave,
            None => Claim::Adopt,
        }
    }

    fn selects(&self, object: &ObjectMeta) -> bool {
        let label = |key: &str| object.labels.as_ref()?.get(key).map(String::as_str);
        self.selector.as_ref().is_some_and(|selector| selector.matches_labels(label))
    }
}

/// The owner that controls an object; there is at most one.
pub fn controller(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The reference that makes `owner` the controller.
pub fn controller_reference(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: super::name(owner).to_owned(),
        uid: super::uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(selector: Value, object: Value, expected: Claim) {
        let owner: ObjectMeta = serde_json::from_value(json!({"name": "web", "uid": "u1"})).unwrap();
        let object: ObjectMeta = serde_json::from_value(object).unwrap();
        let selector = serde_json::from_value(selector).unwrap();
        assert_eq!(Claimant::new(&owner, &selector).claim(&object), expected);
    }

    fn owned_by(uid: &str) -> Value {
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}])
    }

    #[test]
    fn an_owner_claims_what_it_selects_and_nobody_controls() {
        let web = || json!({"matchLabels": {"app": "web"}});
        check(web(), json!({"labels": {"app": "web"}}), Claim::Adopt);
        check(web(), json!({"labels": {"app": "web"}, "ownerReferences": owned_by("u1")}), Claim::Keep);
        check(web(), json!({"labels": {"app": "web"}, "ownerReferences": owned_by("u2")}), Claim::Leave);
        check(web(), json!({"labels": {"app": "db"}, "ownerReferences": owned_by("u1")}), Claim::Release);
        check(web(), json!({"labels": {"app": "db"}}), Claim::Leave);
        let going = json!({"labels": {"app": "web"}, "deletionTimestamp": "2026-01-01T00:00:00Z"});
        check(web(), going, Claim::Leave);
    }

    #[test]
    fn an_empty_selector_claims_nothing() {
        check(json!({}), json!({"labels": {"app": "web"}}), Claim::Leave);
    }
}
