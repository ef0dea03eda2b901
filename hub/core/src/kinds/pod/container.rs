//! A pod's containers: names, images, environment, ports, mounts, resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, PodSpec, ResourceRequirements, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use serde_json::json;

use super::probe;
use crate::assign::downward::{self, PodField, ResourceField};
use crate::kinds::field::{Errors, Path};
use crate::name::{self, NameKind};
use crate::quantity::Quantity;

const STANDARD_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub(super) fn validate_all(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    if spec.containers.is_empty() {
        errors.required(&path.field("containers"), "");
    }
    let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let lists = [("containers", spec.containers.as_slice()), ("initContainers", inits)];
    let mut names: Vec<&str> = Vec::new();
    for (field, list) in lists {
        for (at, container) in list.iter().enumerate() {
            let path = path.field(field).index(at);
            validate(errors, &path, container, &volumes);
            if names.contains(&container.name.as_str()) {
                errors.duplicate(&path.field("name"), container.name.as_str());
            }
            names.push(&container.name);
        }
    }
    // An init container runs to its end: it is never ready, and nothing hooks into it.
    for (at, container) in inits.iter().enumerate() {
        let path = path.field("initContainers").index(at);
        for (field, set) in [
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ] {
            if set {
                errors.forbidden(&path.field(field), "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
}

fn validate(errors: &mut Errors, path: &Path, container: &Container, volumes: &[&str]) {
    errors.name(&path.field("name"), NameKind::Label, &container.name);
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        errors.required(&path.field("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
    if let Some(policy) = container.image_pull_policy.as_deref().filter(|policy| !policy.is_empty()) {
        errors.one_of(&path.field("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    }
    validate_ports(errors, &path.field("ports"), container.ports.as_deref().unwrap_or_default());
    for (at, variable) in container.env.iter().flatten().enumerate() {
        validate_variable(errors, &path.field("env").index(at), variable);
    }
    for (at, source) in container.env_from.iter().flatten().enumerate() {
        validate_env_from(errors, &path.field("envFrom").index(at), source);
    }
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    for (at, mount) in mounts.iter().enumerate() {
        validate_mount(errors, &path.field("volumeMounts").index(at), mount, &mounts[..at], volumes);
    }
    probe::validate_all(errors, path, container);
    if let Some(resources) = &container.resources {
        validate_resources(errors, &path.field("resources"), resources);
    }
}

fn validate_ports(errors: &mut Errors, path: &Path, ports: &[ContainerPort]) {
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            errors.shape(&path.field("name"), NameKind::Port, name);
            if ports[..at].iter().any(|other| other.name.as_deref() == Some(name)) {
                errors.duplicate(&path.field("name"), name);
            }
        }
        if port.container_port == 0 {
            errors.required(&path.field("containerPort"), "");
        } else {
            errors.port_number(&path.field("containerPort"), port.container_port.into());
        }
        errors.one_of(&path.field("protocol"), port.protocol.as_deref().unwrap_or("TCP"), &["TCP", "UDP"]);
    }
}

fn validate_variable(errors: &mut Errors, path: &Path, variable: &EnvVar) {
    errors.name(&path.field("name"), NameKind::EnvVar, &variable.name);
    let Some(source) = &variable.value_from else { return };
    let path = path.field("valueFrom");
    let given = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 if source.file_key_ref.is_some() => errors.forbidden(&path.field("fileKeyRef"), "is not supported yet"),
        0 => errors.invalid(
            &path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ),
        1 if variable.value.as_deref().is_some_and(|value| !value.is_empty()) => {
            errors.invalid(&path, "", "may not be specified when `value` is not empty");
        }
        1 => validate_source(errors, &path, source),
        _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
    }
}

fn validate_source(errors: &mut Errors, path: &Path, source: &EnvVarSource) {
    if let Some(field) = &source.field_ref {
        field_ref(errors, &path.field("fieldRef").field("fieldPath"), &field.field_path, downward::ENV_FIELDS);
    }
    if let Some(field) = &source.resource_field_ref {
        resource_ref(errors, &path.field("resourceFieldRef").field("resource"), &field.resource);
    }
    let keys = [
        ("configMapKeyRef", source.config_map_key_ref.as_ref().map(|r| (&r.name, &r.key))),
        ("secretKeyRef", source.secret_key_ref.as_ref().map(|r| (&r.name, &r.key))),
    ];
    for (field, reference) in keys {
        let Some((name, key)) = reference else { continue };
        errors.name(&path.field(field).field("name"), NameKind::Subdomain, name);
        errors.name(&path.field(field).field("key"), NameKind::DataKey, key);
    }
}

/// A path such as `metadata.labels['app']`, of those that `choices` allows.
pub(super) fn field_ref(errors: &mut Errors, path: &Path, text: &str, choices: &[&str]) {
    let base = text.split('[').next().unwrap_or(text);
    match PodField::parse(text) {
        _ if text.is_empty() => errors.required(path, ""),
        Some(PodField::Label(key) | PodField::Annotation(key)) => {
            errors.shape(path, NameKind::Qualified, &key.to_lowercase());
        }
        Some(_) if choices.contains(&base) => (),
        Some(_) | None => errors.one_of(path, text, choices),
    }
}

pub(super) fn resource_ref(errors: &mut Errors, path: &Path, text: &str) {
    if text.is_empty() {
        errors.required(path, "");
    } else if ResourceField::parse(text).is_none() {
        errors.one_of(path, text, downward::RESOURCE_FIELDS);
    }
}

fn validate_env_from(errors: &mut Errors, path: &Path, source: &EnvFromSource) {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if !prefix.is_empty() {
        errors.shape(&path.field("prefix"), NameKind::EnvVar, prefix);
    }
    match (&source.config_map_ref, &source.secret_ref) {
        (Some(map), None) => errors.name(&path.field("configMapRef").field("name"), NameKind::Subdomain, &map.name),
        (None, Some(secret)) => errors.name(&path.field("secretRef").field("name"), NameKind::Subdomain, &secret.name),
        (None, None) => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
        (Some(_), Some(_)) => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

fn validate_mount(errors: &mut Errors, path: &Path, mount: &VolumeMount, before: &[VolumeMount], volumes: &[&str]) {
    if mount.name.is_empty() {
        errors.required(&path.field("name"), "");
    } else if !volumes.contains(&mount.name.as_str()) {
        errors.not_found(&path.field("name"), mount.name.as_str());
    }
    let target = &mount.mount_path;
    if target.is_empty() {
        errors.required(&path.field("mountPath"), "");
    } else if !target.starts_with('/') {
        // There is no working directory of an image that a relative path could mean.
        errors.invalid(&path.field("mountPath"), target.as_str(), "must be an absolute path");
    } else if target.split('/').any(|part| part == "..") {
        errors.invalid(&path.field("mountPath"), target.as_str(), "must not contain '..'");
    }
    if before.iter().any(|other| other.mount_path == *target) {
        errors.invalid(&path.field("mountPath"), target.as_str(), "must be unique");
    }
    errors.inner_path(&path.field("subPath"), mount.sub_path.as_deref().unwrap_or_default());
}

fn validate_resources(errors: &mut Errors, path: &Path, resources: &ResourceRequirements) {
    let limits = amounts(errors, &path.field("limits"), resources.limits.as_ref());
    let requests = amounts(errors, &path.field("requests"), resources.requests.as_ref());
    for (name, request) in &requests {
        let path = path.field("requests");
        match limits.get(name) {
            Some(limit) if request > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&path, request.to_string(), why);
            }
            None if !STANDARD_RESOURCES.contains(name) => {
                errors.required(&path.key(name), "Limit must be set for non overcommitable resources");
            }
            Some(limit) if !STANDARD_RESOURCES.contains(name) && request != limit => {
                errors.invalid(&path, request.to_string(), format!("must be equal to {name} limit of {limit}"));
            }
            Some(_) | None => (),
        }
    }
}

/// The amounts that are right; what is wrong is told.
fn amounts<'a>(
    errors: &mut Errors,
    path: &Path,
    list: Option<&'a BTreeMap<String, QuantityText>>,
) -> BTreeMap<&'a str, Quantity> {
    let mut amounts = BTreeMap::new();
    for (name, text) in list.into_iter().flatten() {
        let path = path.key(name);
        let standard = STANDARD_RESOURCES.contains(&name.as_str());
        if !standard && !name.contains('/') {
            errors.invalid(&path, name.as_str(), "must be a standard resource for containers");
            continue;
        }
        if !name::is_valid(NameKind::Qualified, name) {
            errors.shape(&path, NameKind::Qualified, name);
        }
        let Some(amount) = errors.quantity(&path, &text.0) else { continue };
        if !standard && amount != Quantity::units(amount.value()) {
            errors.invalid(&path, json!(text), "must be an integer");
        }
        amounts.insert(name.as_str(), amount);
    }
    amounts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::kinds;
    use crate::object::Object;

    /// What is wrong with a container after `field` is set; paths without `spec.containers[0].`.
    #[track_caller]
    fn check(field: &str, value: Value, want: &[&str]) {
        let row = kinds::find("", "v1", "pods").unwrap();
        let mut container = json!({"name": "c", "image": "i"});
        container[field] = value.clone();
        let mut pod = Object::from_value(json!({
            "metadata": {"name": "a", "namespace": "x"},
            "spec": {"containers": [container], "volumes": [{"name": "data"}]},
        }))
        .unwrap();
        (row.default)(&mut pod);
        let errors = (row.validate)(&pod, None);
        let found: Vec<&str> = errors.iter().map(|e| e.path.trim_start_matches("spec.containers[0].")).collect();
        assert_eq!(found, want, "{field} = {value}");
    }

    #[test]
    fn names_and_images() {
        check("name", json!(""), &["name"]);
        check("name", json!("A"), &["name"]);
        check("image", json!(""), &["image"]);
        check("image", json!(" i"), &["image"]);
        check("imagePullPolicy", json!("Often"), &["imagePullPolicy"]);
    }

    #[test]
    fn ports() {
        check("ports", json!([{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]), &[]);
        check("ports", json!([{"containerPort": 0}]), &["ports[0].containerPort"]);
        check("ports", json!([{"containerPort": 65536}]), &["ports[0].containerPort"]);
        check("ports", json!([{"containerPort": 1, "name": "80"}]), &["ports[0].name"]);
        check(
            "ports",
            json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
            &["ports[1].name"],
        );
        check("ports", json!([{"containerPort": 1, "protocol": "SCTP"}]), &["ports[0].protocol"]);
        check("ports", json!([{"containerPort": 1, "hostPort": 1}]), &["ports[0].hostPort"]);
    }

    #[test]
    fn environment() {
        let from = |source: Value| json!([{"name": "A", "valueFrom": source}]);
        let path = |field: &str| format!("env[0].valueFrom.{field}");
        check("env", json!([{"name": "A", "value": "b"}]), &[]);
        check("env", json!([{"name": "A=B"}]), &["env[0].name"]);
        check("env", json!([{"value": "b"}]), &["env[0].name"]);
        check("env", from(json!({})), &["env[0].valueFrom"]);
        check("env", from(json!({"fieldRef": {"fieldPath": "status.podIP"}})), &[]);
        check("env", from(json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}})), &[]);
        check("env", from(json!({"fieldRef": {"fieldPath": "metadata.labels"}})), &[&path("fieldRef.fieldPath")]);
        check("env", from(json!({"fieldRef": {"fieldPath": "spec.x"}})), &[&path("fieldRef.fieldPath")]);
        check("env", from(json!({"resourceFieldRef": {"resource": "limits.cpu"}})), &[]);
        check("env", from(json!({"resourceFieldRef": {"resource": "cpu"}})), &[&path("resourceFieldRef.resource")]);
        check("env", from(json!({"secretKeyRef": {"name": "s"}})), &[&path("secretKeyRef.key")]);
        check("env", from(json!({"configMapKeyRef": {"key": "k"}})), &[&path("configMapKeyRef.name")]);
        let two = json!({"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "s", "key": "k"}});
        check("env", from(two), &["env[0].valueFrom"]);
        check("envFrom", json!([{"configMapRef": {"name": "c"}, "prefix": "P_"}, {"secretRef": {"name": "s"}}]), &[]);
        check("envFrom", json!([{}]), &["envFrom[0]"]);
    }

    #[test]
    fn mounts() {
        check("volumeMounts", json!([{"name": "data", "mountPath": "/d", "subPath": "a/b"}]), &[]);
        check("volumeMounts", json!([{"name": "other", "mountPath": "/d"}]), &["volumeMounts[0].name"]);
        check("volumeMounts", json!([{"name": "data", "mountPath": "d"}]), &["volumeMounts[0].mountPath"]);
        check("volumeMounts", json!([{"name": "data"}]), &["volumeMounts[0].mountPath"]);
        let twice = json!([{"name": "data", "mountPath": "/d"}, {"name": "data", "mountPath": "/d"}]);
        check("volumeMounts", twice, &["volumeMounts[1].mountPath"]);
        let climbing = json!([{"name": "data", "mountPath": "/d", "subPath": "../a"}]);
        check("volumeMounts", climbing, &["volumeMounts[0].subPath"]);
    }

    #[test]
    fn resources() {
        check("resources", json!({"limits": {"cpu": "1", "memory": "64Mi", "wherry.dev/gpio": 1}}), &[]);
        check("resources", json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}), &["resources.requests"]);
        check(
            "resources",
            json!({"limits": {"memory": "lots"}}),
            &["resources.limits[memory]", "resources.requests[memory]"],
        );
        check("resources", json!({"requests": {"cpu": "-1"}}), &["resources.requests[cpu]"]);
        check("resources", json!({"requests": {"gpu": 1}}), &["resources.requests[gpu]"]);
        check("resources", json!({"requests": {"wherry.dev/gpio": 1}}), &["resources.requests[wherry.dev/gpio]"]);
    }

    #[test]
    fn init_containers_have_names_of_their_own_and_no_probes() {
        let row = kinds::find("", "v1", "pods").unwrap();
        let probe = json!({"exec": {"command": ["x"]}});
        let mut pod = Object::from_value(json!({
            "metadata": {"name": "a", "namespace": "x"},
            "spec": {"containers": [{"name": "c", "image": "i"}],
                     "initContainers": [{"name": "c", "image": "i", "livenessProbe": probe}]},
        }))
        .unwrap();
        (row.default)(&mut pod);
        let found: Vec<String> = (row.validate)(&pod, None).into_iter().map(|e| e.path).collect();
        assert_eq!(found, ["spec.initContainers[0].name", "spec.initContainers[0].livenessProbe"]);
    }
}
