//! Pods: the containers that share an address, volumes and a lifetime.
//!
//! ```text
//! default    what Kubernetes would fill in
//! support    the table of fields that are refused or ignored, with the reasons
//! validate   the pod as a whole    container, probe, volume, scheduling   its parts
//! update     what may change while it runs
//! cells      the row of `kubectl get pods`                    qos          its class of service
//! ```

mod cells;
mod container;
pub(super) mod default;
mod probe;
pub(crate) mod qos;
mod scheduling;
pub(super) mod support;
mod update;
pub(super) mod validate;
mod volume;

pub use default::tolerate_lost_node;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::field::{Errors, Path};
use super::{DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS, metadata, parse};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const POD: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Status, Subresource::Log, Subresource::Eviction, Subresource::Binding],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Object,
    columns: cells::COLUMNS,
    cells: cells::cells,
    default: default::pod,
    begin,
    validate: validate_pod,
    warnings,
    selectable_fields: &[
        ("spec.nodeName", &["spec", "nodeName"]),
        ("spec.restartPolicy", &["spec", "restartPolicy"]),
        ("spec.schedulerName", &["spec", "schedulerName"]),
        ("spec.serviceAccountName", &["spec", "serviceAccountName"]),
        ("spec.hostNetwork", &["spec", "hostNetwork"]),
        ("status.phase", &["status", "phase"]),
        ("status.podIP", &["status", "podIP"]),
        ("status.nominatedNodeName", &["status", "nominatedNodeName"]),
    ],
};

fn begin(new: &mut Object) {
    new.set(&["status"], json!({"phase": "Pending", "qosClass": qos::class(new).as_str()}));
}

fn warnings(object: &Object) -> Vec<String> {
    object.at(&["spec"]).map(|spec| support::warnings(&Path::new("spec"), spec)).unwrap_or_default()
}

fn validate_pod(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::Subdomain);
    let Some(pod) = parse::<Pod>(&mut errors, new) else { return errors.into_vec() };
    let annotations = Path::new("metadata").field("annotations");
    validate::wherry_annotations(&mut errors, &annotations, pod.metadata.annotations.as_ref());
    let path = Path::new("spec");
    validate::spec(&mut errors, &path, &pod.spec.unwrap_or_default());
    if let Some(spec) = new.at(&["spec"]) {
        support::refuse(&mut errors, &path, spec);
    }
    if let Some(old) = old {
        update::validate(&mut errors, new, old);
    }
    errors.into_vec()
}
