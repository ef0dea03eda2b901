//! ServiceAccounts: as far as clients expect one.

use serde_json::{Value, json};

use super::field::Errors;
use super::print::{AGE, NAME, age, items, number};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS};
use super::{metadata, no_warnings};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const SERVICE_ACCOUNT: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Token],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Object,
    columns: COLUMNS,
    cells,
    default: |_| (),
    begin: |_| (),
    validate,
    warnings: no_warnings,
    selectable_fields: &[],
};

const COLUMNS: &[Column] = &[NAME, number("Secrets", "How many secrets it lists."), AGE];

fn cells(object: &Object, now: i64) -> Vec<Value> {
    vec![json!(object.name()), json!(items(object.at(&["secrets"])).count()), age(object, now)]
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    errors.into_vec()
}
