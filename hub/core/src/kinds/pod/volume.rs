//! A pod's volumes: what can become files of a guest.

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource, Volume, VolumeProjection,
};
use serde_json::{Map, Value, json};

use super::container::{field_ref, resource_ref};
use crate::assign::downward;
use crate::kinds::field::{Errors, Path};
use crate::name::NameKind;

const SERVED: [&str; 6] = ["emptyDir", "configMap", "secret", "downwardAPI", "projected", "hostPath"];
/// The types that agents can check; the others name devices and sockets.
const HOST_PATH_TYPES: [&str; 5] = ["", "Directory", "DirectoryOrCreate", "File", "FileOrCreate"];
/// File modes: permission bits.
const MODE_MAX: i32 = 0o777;

pub(super) fn validate_all(errors: &mut Errors, path: &Path, volumes: &[Volume]) {
    for (at, volume) in volumes.iter().enumerate() {
        let path = path.index(at);
        errors.name(&path.field("name"), NameKind::Label, &volume.name);
        if volumes[..at].iter().any(|other| other.name == volume.name) {
            errors.duplicate(&path.field("name"), volume.name.as_str());
        }
        validate(errors, &path, volume);
    }
}

fn validate(errors: &mut Errors, path: &Path, volume: &Volume) {
    let fields = json!(volume);
    let sources: Vec<&String> =
        fields.as_object().map(Map::keys).into_iter().flatten().filter(|f| *f != "name").collect();
    match sources.as_slice() {
        [] => errors.required(path, "must specify a volume type"),
        [source] if !SERVED.contains(&source.as_str()) => {
            let why = match source.as_str() {
                "persistentVolumeClaim" | "ephemeral" => {
                    "persistent volumes are not supported; use hostPath or emptyDir"
                }
                _ => "is not supported; use emptyDir, hostPath, configMap, secret, downwardAPI or projected",
            };
            errors.forbidden(&path.field(source), why);
        }
        [_] => validate_source(errors, path, volume),
        [_, rest @ ..] => {
            for source in rest {
                errors.forbidden(&path.field(source), "may not specify more than 1 volume type");
            }
        }
    }
}

fn validate_source(errors: &mut Errors, path: &Path, volume: &Volume) {
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref()) {
        errors.quantity(&path.field("emptyDir").field("sizeLimit"), &limit.0);
    }
    if let Some(host) = &volume.host_path {
        validate_host_path(errors, &path.field("hostPath"), host);
    }
    if let Some(map) = &volume.config_map {
        let path = path.field("configMap");
        errors.name(&path.field("name"), NameKind::Subdomain, &map.name);
        validate_mode(errors, &path.field("defaultMode"), map.default_mode);
        validate_items(errors, &path.field("items"), map.items.as_deref().unwrap_or_default());
    }
    if let Some(secret) = &volume.secret {
        let path = path.field("secret");
        let name = secret.secret_name.as_deref().unwrap_or_default();
        errors.name(&path.field("secretName"), NameKind::Subdomain, name);
        validate_mode(errors, &path.field("defaultMode"), secret.default_mode);
        validate_items(errors, &path.field("items"), secret.items.as_deref().unwrap_or_default());
    }
    if let Some(downward) = &volume.downward_api {
        let path = path.field("downwardAPI");
        validate_mode(errors, &path.field("defaultMode"), downward.default_mode);
        validate_downward(errors, &path.field("items"), downward.items.as_deref().unwrap_or_default());
    }
    if let Some(projected) = &volume.projected {
        validate_projected(errors, &path.field("projected"), projected);
    }
}

fn validate_host_path(errors: &mut Errors, path: &Path, host: &HostPathVolumeSource) {
    let path_field = path.field("path");
    if host.path.is_empty() {
        errors.required(&path_field, "");
    } else if !host.path.starts_with('/') {
        errors.invalid(&path_field, host.path.as_str(), "must be an absolute path");
    } else if host.path.split('/').any(|part| part == "..") {
        errors.invalid(&path_field, host.path.as_str(), "must not contain '..'");
    }
    errors.one_of(&path.field("type"), host.type_.as_deref().unwrap_or_default(), &HOST_PATH_TYPES);
}

fn validate_projected(errors: &mut Errors, path: &Path, projected: &ProjectedVolumeSource) {
    validate_mode(errors, &path.field("defaultMode"), projected.default_mode);
    for (at, source) in projected.sources.iter().flatten().enumerate() {
        validate_projection(errors, &path.field("sources").index(at), source);
    }
}

fn validate_projection(errors: &mut Errors, path: &Path, source: &VolumeProjection) {
    let given = json!(source).as_object().map_or(0, Map::len);
    if given == 0 {
        errors.required(path, "must specify a source type");
    } else if given > 1 {
        errors.forbidden(path, "may not specify more than 1 volume type per source");
    }
    let named = [
        ("configMap", source.config_map.as_ref().map(|s| (&s.name, &s.items))),
        ("secret", source.secret.as_ref().map(|s| (&s.name, &s.items))),
    ];
    for (field, (name, items)) in named.into_iter().filter_map(|(field, source)| Some((field, source?))) {
        let path = path.field(field);
        errors.name(&path.field("name"), NameKind::Subdomain, name);
        validate_items(errors, &path.field("items"), items.as_deref().unwrap_or_default());
    }
    if let Some(downward) = &source.downward_api {
        let items = downward.items.as_deref().unwrap_or_default();
        validate_downward(errors, &path.field("downwardAPI").field("items"), items);
    }
}

fn validate_mode(errors: &mut Errors, path: &Path, mode: Option<i32>) {
    if let Some(mode) = mode
        && !(0..=MODE_MAX).contains(&mode)
    {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn validate_items(errors: &mut Errors, path: &Path, items: &[KeyToPath]) {
    for (at, item) in items.iter().enumerate() {
        let path = path.index(at);
        if item.key.is_empty() {
            errors.required(&path.field("key"), "");
        }
        validate_file(errors, &path.field("path"), &item.path);
        validate_mode(errors, &path.field("mode"), item.mode);
    }
}

fn validate_downward(errors: &mut Errors, path: &Path, items: &[DownwardAPIVolumeFile]) {
    for (at, item) in items.iter().enumerate() {
        let path = path.index(at);
        validate_file(errors, &path.field("path"), &item.path);
        validate_mode(errors, &path.field("mode"), item.mode);
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), None) => {
                let path = path.field("fieldRef").field("fieldPath");
                field_ref(errors, &path, &field.field_path, downward::FILE_FIELDS);
            }
            (None, Some(field)) => {
                let path = path.field("resourceFieldRef");
                resource_ref(errors, &path.field("resource"), &field.resource);
                // A volume belongs to no container, so it must say whose resources it means.
                if field.container_name.as_deref().unwrap_or_default().is_empty() {
                    errors.required(&path.field("containerName"), "");
                }
            }
            (Some(_), Some(_)) => {
                errors.invalid(&path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
            (None, None) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
        }
    }
}

fn validate_file(errors: &mut Errors, path: &Path, file: &str) {
    if file.is_empty() {
        errors.required(path, "");
        return;
    }
    errors.inner_path(path, file);
    if file.starts_with("..") && !file.starts_with("../") {
        errors.invalid(path, Value::from(file), "must not start with '..'");
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Volume;
    use serde_json::{Value, json};

    use super::validate_all;
    use crate::kinds::field::{Errors, Path};

    #[track_caller]
    fn check(source: Value, want: &[&str]) {
        let mut fields = source.clone();
        fields["name"] = json!("a");
        let volume: Volume = serde_json::from_value(fields).unwrap();
        let mut errors = Errors::default();
        validate_all(&mut errors, &Path::new("v"), &[volume]);
        let found: Vec<String> = errors.into_vec().into_iter().map(|e| e.path).collect();
        assert_eq!(found, want, "{source}");
    }

    #[test]
    fn sources() {
        check(json!({"emptyDir": {"sizeLimit": "1Gi"}}), &[]);
        check(json!({"emptyDir": {"sizeLimit": "big"}}), &["v[0].emptyDir.sizeLimit"]);
        check(json!({}), &["v[0]"]);
        check(json!({"emptyDir": {}, "hostPath": {"path": "/x"}}), &["v[0].hostPath"]);
        check(json!({"persistentVolumeClaim": {"claimName": "x"}}), &["v[0].persistentVolumeClaim"]);
        check(json!({"nfs": {"server": "x", "path": "/"}}), &["v[0].nfs"]);
        check(json!({"hostPath": {"path": "/data", "type": "DirectoryOrCreate"}}), &[]);
        check(json!({"hostPath": {"path": "/data/../etc"}}), &["v[0].hostPath.path"]);
        check(json!({"hostPath": {"path": "/dev/x", "type": "CharDevice"}}), &["v[0].hostPath.type"]);
    }

    #[test]
    fn files() {
        check(json!({"configMap": {"name": "c", "items": [{"key": "k", "path": "a/b"}]}}), &[]);
        check(json!({"configMap": {}}), &["v[0].configMap.name"]);
        check(json!({"configMap": {"name": "c", "defaultMode": 4096}}), &["v[0].configMap.defaultMode"]);
        check(
            json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "../b"}]}}),
            &["v[0].secret.items[0].path"],
        );
        check(
            json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "/b"}]}}),
            &["v[0].secret.items[0].path"],
        );
        check(json!({"secret": {"secretName": "s", "items": [{"path": "b"}]}}), &["v[0].secret.items[0].key"]);
        let labels = json!({"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}});
        check(json!({"downwardAPI": {"items": [labels]}}), &[]);
        let address = json!({"path": "l", "fieldRef": {"fieldPath": "status.podIP"}});
        check(json!({"downwardAPI": {"items": [address]}}), &["v[0].downwardAPI.items[0].fieldRef.fieldPath"]);
        let nameless = json!({"path": "l", "resourceFieldRef": {"resource": "limits.cpu"}});
        check(
            json!({"downwardAPI": {"items": [nameless]}}),
            &["v[0].downwardAPI.items[0].resourceFieldRef.containerName"],
        );
        check(json!({"projected": {"sources": [{"configMap": {"name": "c"}}, {}]}}), &["v[0].projected.sources[1]"]);
    }
}
