//! Leases: who leads, and until when.

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use super::field::{Errors, Path};
use super::print::{AGE, NAME, age, text};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, VERBS, no_warnings};
use super::{metadata, parse};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const LEASE: Resource = Resource {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[],
    durability: Durability::Relaxed,
    delete_answers: DeleteAnswer::Status,
    columns: COLUMNS,
    cells,
    default: |_| (),
    begin: |_| (),
    validate,
    warnings: no_warnings,
    selectable_fields: &[],
};

const COLUMNS: &[Column] = &[NAME, text("Holder", "Who holds it."), AGE];

fn cells(object: &Object, now: i64) -> Vec<Value> {
    let holder = object.str_at(&["spec", "holderIdentity"]).unwrap_or_default();
    vec![json!(object.name()), json!(holder), age(object, now)]
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    let Some(lease) = parse::<Lease>(&mut errors, new) else { return errors.into_vec() };
    let (spec, path) = (lease.spec.unwrap_or_default(), Path::new("spec"));
    if let Some(seconds) = spec.lease_duration_seconds
        && seconds <= 0
    {
        errors.invalid(&path.field("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    errors.not_negative(&path.field("leaseTransitions"), spec.lease_transitions);
    errors.into_vec()
}
