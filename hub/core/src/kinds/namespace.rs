//! Namespaces: what scopes names, and goes with everything in it.

use serde_json::{Value, json};

use super::field::Errors;
use super::print::{AGE, NAME, age, text};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS};
use super::{metadata, no_warnings};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const NAMESPACE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    scope: Scope::Cluster,
    verbs: VERBS,
    subresources: &[Subresource::Status],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Object,
    columns: COLUMNS,
    cells,
    default,
    begin,
    validate,
    warnings: no_warnings,
    selectable_fields: &[("status.phase", &["status", "phase"])],
};

const COLUMNS: &[Column] = &[NAME, text("Status", "Active, or Terminating while its objects go."), AGE];

fn cells(object: &Object, now: i64) -> Vec<Value> {
    vec![json!(object.name()), json!(object.str_at(&["status", "phase"]).unwrap_or_default()), age(object, now)]
}

/// The finalizer holds a deleted namespace until its objects are gone.
fn begin(new: &mut Object) {
    new.set(&["spec", "finalizers"], json!(["kubernetes"]));
    new.set(&["status"], json!({"phase": "Active"}));
}

/// Selectors by label can name a namespace, as Kubernetes promises.
fn default(object: &mut Object) {
    let name = object.name().to_owned();
    if !name.is_empty() {
        object.set(&["metadata", "labels", "kubernetes.io/metadata.name"], name);
    }
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Cluster, NameKind::Label);
    errors.into_vec()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::NAMESPACE;
    use crate::kinds::print::tests::check_row;

    #[test]
    fn rows() {
        check_row(&NAMESPACE, json!({"metadata": {"name": "shop"}, "status": {"phase": "Active"}}), "shop|Active|60s");
    }
}
