//! A pod's spec as a whole; its parts have files of their own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;

use super::{container, scheduling, volume};
use crate::kinds::field::{Errors, Path};
use crate::name::NameKind;

/// What the wire holds of a grace or a deadline, in seconds.
const SECONDS_MAX: i64 = i32::MAX as i64;

pub(in crate::kinds) fn spec(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    volume::validate_all(errors, &path.field("volumes"), spec.volumes.as_deref().unwrap_or_default());
    container::validate_all(errors, path, spec);
    let restart = spec.restart_policy.as_deref().unwrap_or_default();
    errors.one_of(&path.field("restartPolicy"), restart, &["Always", "OnFailure", "Never"]);
    let dns = spec.dns_policy.as_deref().unwrap_or_default();
    errors.one_of(&path.field("dnsPolicy"), dns, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    seconds(errors, path, spec);
    for (field, text, kind) in [
        ("nodeName", &spec.node_name, NameKind::Label),
        ("hostname", &spec.hostname, NameKind::Label),
        ("subdomain", &spec.subdomain, NameKind::Label),
        ("serviceAccountName", &spec.service_account_name, NameKind::Subdomain),
    ] {
        if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
            errors.shape(&path.field(field), kind, text);
        }
    }
    scheduling::validate_all(errors, path, spec);
    for (at, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.field("readinessGates").index(at).field("conditionType");
        errors.shape(&path, NameKind::Qualified, &gate.condition_type);
    }
}

fn seconds(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    if let Some(grace) = spec.termination_grace_period_seconds {
        let path = path.field("terminationGracePeriodSeconds");
        errors.not_negative(&path, Some(grace));
        if grace > SECONDS_MAX {
            errors.invalid(&path, grace, format!("must be less than or equal to {SECONDS_MAX}"));
        }
    }
    if let Some(deadline) = spec.active_deadline_seconds
        && !(1..=SECONDS_MAX).contains(&deadline)
    {
        let why = format!("must be between 1 and {SECONDS_MAX}, inclusive");
        errors.invalid(&path.field("activeDeadlineSeconds"), deadline, why);
    }
}

/// Wherry's own annotations mean something, so they are checked like fields.
pub(in crate::kinds) fn wherry_annotations(
    errors: &mut Errors,
    path: &Path,
    annotations: Option<&BTreeMap<String, String>>,
) {
    use crate::assign::annotation::{INSTANCE_REUSE, STOP_WHEN_ISOLATED, instance_reuse, isolation_seconds};
    let Some(annotations) = annotations else { return };
    if let Some(text) = annotations.get(STOP_WHEN_ISOLATED)
        && isolation_seconds(text).is_none()
    {
        let why = "must be a duration between 1s and 24h, such as 60s or 5m";
        errors.invalid(&path.key(STOP_WHEN_ISOLATED), text.as_str(), why);
    }
    if let Some(text) = annotations.get(INSTANCE_REUSE)
        && instance_reuse(text).is_none()
    {
        errors.invalid(&path.key(INSTANCE_REUSE), text.as_str(), "must be a number of requests between 1 and 1000000");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kinds;
    use crate::object::Object;

    /// What is wrong with a pod of one container after `field` of its spec is set.
    #[track_caller]
    fn check(field: &str, value: Value, want: &[&str]) {
        let row = kinds::find("", "v1", "pods").unwrap();
        let mut pod = Object::from_value(json!({
            "metadata": {"name": "a", "namespace": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        pod.set(&["spec", field], value.clone());
        (row.default)(&mut pod);
        let found: Vec<String> = (row.validate)(&pod, None).into_iter().map(|e| e.path).collect();
        assert_eq!(found, want, "{field} = {value}");
    }

    #[test]
    fn fields_of_the_spec() {
        check("restartPolicy", json!("OnFailure"), &[]);
        check("restartPolicy", json!("Sometimes"), &["spec.restartPolicy"]);
        check("dnsPolicy", json!("Mine"), &["spec.dnsPolicy"]);
        check("terminationGracePeriodSeconds", json!(-1), &["spec.terminationGracePeriodSeconds"]);
        check("terminationGracePeriodSeconds", json!(0), &[]);
        check("activeDeadlineSeconds", json!(0), &["spec.activeDeadlineSeconds"]);
        check("nodeSelector", json!({"kubernetes.io/arch": "arm64"}), &[]);
        check("nodeSelector", json!({"a b": "c"}), &["spec.nodeSelector"]);
        check("hostname", json!("A"), &["spec.hostname"]);
        check("containers", json!([]), &["spec.containers"]);
        check("containers", json!("none"), &[""]);
        check("hostPID", json!(true), &["spec.hostPID"]);
    }
}
