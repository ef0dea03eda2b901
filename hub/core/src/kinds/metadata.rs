//! What holds for every object's `metadata`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use super::Scope;
use super::field::{Errors, Path};
use crate::name::NameKind;
use crate::object::Object;

/// Kubernetes' bound on all annotations of an object together, keys and values.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Checks `metadata`; `old` on updates.
pub(super) fn validate(errors: &mut Errors, object: &Object, old: Option<&Object>, scope: Scope, name: NameKind) {
    let path = Path::new("metadata");
    let Some(metadata) = typed(object) else {
        errors.required(&path, "");
        return;
    };
    match metadata.name.as_deref() {
        None | Some("") => errors.required(&path.field("name"), "name or generateName is required"),
        Some(text) => errors.shape(&path.field("name"), name, text),
    }
    match (scope, metadata.namespace.as_deref().unwrap_or_default()) {
        (Scope::Namespaced, "") => errors.required(&path.field("namespace"), ""),
        (Scope::Namespaced, text) => errors.shape(&path.field("namespace"), NameKind::Label, text),
        (Scope::Cluster, "") => (),
        (Scope::Cluster, _) => errors.forbidden(&path.field("namespace"), "not allowed on this type"),
    }
    labels(errors, &path.field("labels"), metadata.labels.as_ref());
    annotations(errors, &path.field("annotations"), metadata.annotations.as_ref());
    owners(errors, &path.field("ownerReferences"), metadata.owner_references.as_deref().unwrap_or_default());
    for finalizer in metadata.finalizers.iter().flatten() {
        errors.shape(&path.field("finalizers"), NameKind::Qualified, finalizer);
    }
    if let Some(old) = old {
        unchanged(errors, &path, object, old);
    }
}

fn typed(object: &Object) -> Option<ObjectMeta> {
    serde_json::from_value(object.at(&["metadata"])?.clone()).ok()
}

/// Checks labels wherever they stand: metadata, templates, selectors.
pub(super) fn labels(errors: &mut Errors, path: &Path, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        errors.shape(path, NameKind::Qualified, key);
        errors.shape(path, NameKind::LabelValue, value);
    }
}

pub(super) fn annotations(errors: &mut Errors, path: &Path, annotations: Option<&BTreeMap<String, String>>) {
    let mut bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        errors.shape(path, NameKind::Qualified, &key.to_lowercase());
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

fn owners(errors: &mut Errors, path: &Path, owners: &[OwnerReference]) {
    let mut controller: Option<&OwnerReference> = None;
    for (at, owner) in owners.iter().enumerate() {
        let path = path.index(at);
        for (field, text) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)]
        {
            if text.is_empty() {
                errors.invalid(&path.field(field), text.as_str(), format!("{field} must not be empty"));
            }
        }
        if owner.controller == Some(true)
            && let Some(first) = controller.replace(owner)
        {
            let why = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                first.kind, first.name, owner.kind, owner.name
            );
            errors.invalid(&path, json!(owner), why);
        }
    }
}

fn unchanged(errors: &mut Errors, path: &Path, object: &Object, old: &Object) {
    for field in ["name", "namespace", "uid"] {
        let (new, old) = (object.at(&["metadata", field]), old.at(&["metadata", field]));
        if new != old && new.is_some_and(|new| !new.is_null()) {
            errors.invalid(&path.field(field), new.cloned().unwrap_or_default(), "field is immutable");
        }
    }
    if old.is_being_deleted() {
        let added: Vec<&str> = object.finalizers().filter(|new| old.finalizers().all(|had| had != *new)).collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                added.join(", ")
            );
            errors.forbidden(&path.field("finalizers"), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{ANNOTATIONS_MAX, validate};
    use crate::kinds::Scope;
    use crate::kinds::field::Errors;
    use crate::name::NameKind;
    use crate::object::Object;

    #[track_caller]
    fn check(metadata: &Value, old: Option<&Value>, paths: &[&str]) {
        let object = |metadata: &Value| Object::from_value(json!({"metadata": metadata})).unwrap();
        let mut errors = Errors::default();
        let old = old.map(object);
        validate(&mut errors, &object(metadata), old.as_ref(), Scope::Namespaced, NameKind::Subdomain);
        let found: Vec<String> = errors.into_vec().into_iter().map(|e| e.path).collect();
        assert_eq!(found, paths, "{metadata}");
    }

    #[test]
    fn names_labels_annotations_owners() {
        check(&json!({"name": "a.b", "namespace": "x", "labels": {"app": "web"}}), None, &[]);
        check(&json!({"name": "A", "namespace": "x"}), None, &["metadata.name"]);
        check(&json!({"namespace": "x"}), None, &["metadata.name"]);
        check(&json!({"name": "a"}), None, &["metadata.namespace"]);
        check(&json!({"name": "a", "namespace": "a.b"}), None, &["metadata.namespace"]);
        check(&json!({"name": "a", "namespace": "x", "labels": {"-": "a b"}}), None, &["metadata.labels"; 2]);
        check(
            &json!({"name": "a", "namespace": "x", "annotations": {"a/b/c": "any thing"}}),
            None,
            &["metadata.annotations"],
        );
        let large = json!({"name": "a", "namespace": "x", "annotations": {"a": "x".repeat(ANNOTATIONS_MAX)}});
        check(&large, None, &["metadata.annotations"]);
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true});
        let owners = json!({"name": "a", "namespace": "x", "ownerReferences": [owner, owner]});
        check(&owners, None, &["metadata.ownerReferences[1]"]);
        let nameless =
            json!({"name": "a", "namespace": "x", "ownerReferences": [{"kind": "K", "name": "n", "uid": "u"}]});
        check(&nameless, None, &["metadata.ownerReferences[0].apiVersion"]);
    }

    #[test]
    fn identity_does_not_change() {
        let old = json!({"name": "a", "namespace": "x", "uid": "1", "finalizers": ["k/one"], "deletionTimestamp": "t"});
        check(&json!({"name": "a", "namespace": "x", "uid": "2"}), Some(&old), &["metadata.uid"]);
        check(&json!({"name": "a", "namespace": "x"}), Some(&old), &[]);
        let more = json!({"name": "a", "namespace": "x", "finalizers": ["k/one", "k/two"]});
        check(&more, Some(&old), &["metadata.finalizers"]);
        check(&json!({"name": "a", "namespace": "x", "finalizers": ["k/one"]}), Some(&old), &[]);
    }
}
