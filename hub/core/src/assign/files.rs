//! A pod's volumes: directories of the node, and files that the hub writes out.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, ProjectedVolumeSource, Secret, Volume,
};
use protocol::pod::{Access, FileContent, FileSpec, HostPathKind, MountSpec, VolumeSource, VolumeSpec};

use super::downward::{PodField, resource_value};
use super::{AssignError, ConfigProblem, Lookup, Secrets, Sources};
use crate::quantity::Quantity;

/// 0644, Kubernetes' default.
const FILE_MODE: u32 = 0o644;

/// The volumes as the node is told, and what is wrong with some.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    pub(super) specs: Vec<VolumeSpec>,
    problems: BTreeMap<String, ConfigProblem>,
}

impl Volumes {
    /// What keeps a volume from being mounted.
    pub(super) fn problem(&self, volume: &str) -> Option<ConfigProblem> {
        let problem = Box::new(self.problems.get(volume)?.clone());
        Some(ConfigProblem::Volume { volume: volume.to_owned(), problem })
    }

    /// The file of the hub's that a `subPath` names, if it names one rather than a directory.
    pub(super) fn file(&self, volume: &str, sub_path: &str) -> Option<FileSpec> {
        let spec = self.specs.iter().find(|spec| spec.name == volume)?;
        match &spec.source {
            VolumeSource::Files(files) => files.iter().find(|file| file.path == sub_path).cloned(),
            VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => None,
        }
    }

    /// Adds a file to the directory that stands for single files at `directory`. WASI guests are given
    /// directories, never files: so the file's directory is mounted, holding the files asked for and
    /// nothing else.
    pub(super) fn mount_file(&mut self, container: &str, mounts: &mut Vec<MountSpec>, directory: &str, file: FileSpec) {
        // No name of a volume of the pod's own has an underscore.
        let own = format!("{container}_");
        let found = mounts.iter().find(|mount| mount.path == directory && mount.volume.starts_with(&own));
        if let Some(mount) = found {
            let spec = self.specs.iter_mut().find(|spec| spec.name == mount.volume);
            if let Some(VolumeSource::Files(files)) = spec.map(|spec| &mut spec.source) {
                files.push(file);
            }
            return;
        }
        let volume = format!("{own}{}", mounts.len());
        self.specs.push(VolumeSpec { name: volume.clone(), source: VolumeSource::Files(vec![file]) });
        let (path, sub_path) = (directory.to_owned(), String::new());
        mounts.push(MountSpec { volume, path, sub_path, access: Access::ReadOnly });
    }

    /// Files from the hub are for reading: what a guest wrote would be lost at the next change.
    pub(super) fn access(&self, volume: &str) -> Access {
        match self.specs.iter().find(|spec| spec.name == volume).map(|spec| &spec.source) {
            Some(VolumeSource::Files(_)) => Access::ReadOnly,
            Some(VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. }) | None => Access::ReadWrite,
        }
    }
}

pub(super) fn volumes<L: Lookup>(
    sources: &Sources<'_, L>,
    volumes: &[Volume],
    secrets: &mut Secrets,
) -> Result<Volumes, AssignError> {
    let mut out = Volumes::default();
    for volume in volumes {
        let source = if let Some(host) = &volume.host_path {
            host_path(host)
        } else if let Some(files) = files(sources, volume) {
            let files = files.unwrap_or_else(|problem| {
                out.problems.insert(volume.name.clone(), problem);
                Files::default()
            });
            VolumeSource::Files(files.into_specs(secrets)?)
        } else {
            let limit = volume.empty_dir.as_ref().and_then(|empty| Quantity::parse(&empty.size_limit.as_ref()?.0).ok());
            VolumeSource::EmptyDir { size_limit: limit.and_then(|limit| u64::try_from(limit.value()).ok()) }
        };
        out.specs.push(VolumeSpec { name: volume.name.clone(), source });
    }
    Ok(out)
}

fn host_path(host: &HostPathVolumeSource) -> VolumeSource {
    let kind = match host.type_.as_deref().unwrap_or_default() {
        "Directory" => HostPathKind::Directory,
        "DirectoryOrCreate" => HostPathKind::DirectoryOrCreate,
        "File" => HostPathKind::File,
        "FileOrCreate" => HostPathKind::FileOrCreate,
        _ => HostPathKind::Unchecked,
    };
    VolumeSource::HostPath { path: host.path.clone(), kind }
}

/// Files by path, in order; a later source replaces an earlier one's file.
#[derive(Debug, Default)]
struct Files(BTreeMap<String, (u32, Content)>);

#[derive(Debug)]
enum Content {
    Plain(Vec<u8>),
    Secret(Vec<u8>),
}

impl Files {
    fn into_specs(self, secrets: &mut Secrets) -> Result<Vec<FileSpec>, AssignError> {
        let spec = |(path, (mode, content))| {
            let content = match content {
                Content::Plain(bytes) => FileContent::Inline(bytes),
                Content::Secret(bytes) => FileContent::Secret(secrets.add(&bytes)?),
            };
            Ok(FileSpec { path, mode, content })
        };
        self.0.into_iter().map(spec).collect()
    }
}

/// What is chosen of a ConfigMap or Secret.
struct Choice<'a> {
    kind: &'static str,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    mode: u32,
    optional: Option<bool>,
}

/// `None` for a volume that is no files of the hub's.
fn files<L: Lookup>(sources: &Sources<'_, L>, volume: &Volume) -> Option<Result<Files, ConfigProblem>> {
    let mut files = Files::default();
    let result = if let Some(source) = &volume.config_map {
        let choice = Choice {
            kind: "ConfigMap",
            name: &source.name,
            items: source.items.as_deref(),
            mode: mode(source.default_mode),
            optional: source.optional,
        };
        add_config_map(sources, &choice, &mut files)
    } else if let Some(source) = &volume.secret {
        let choice = Choice {
            kind: "Secret",
            name: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_deref(),
            mode: mode(source.default_mode),
            optional: source.optional,
        };
        add_secret(sources, &choice, &mut files)
    } else if let Some(source) = &volume.downward_api {
        add_downward(sources, source.items.as_deref().unwrap_or_default(), mode(source.default_mode), &mut files)
    } else if let Some(source) = &volume.projected {
        add_projected(sources, source, &mut files)
    } else {
        return None;
    };
    Some(result.map(|()| files))
}

fn mode(mode: Option<i32>) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(FILE_MODE)
}

fn add_projected<L: Lookup>(
    sources: &Sources<'_, L>,
    projected: &ProjectedVolumeSource,
    files: &mut Files,
) -> Result<(), ConfigProblem> {
    let mode = mode(projected.default_mode);
    for source in projected.sources.iter().flatten() {
        if let Some(map) = &source.config_map {
            let items = map.items.as_deref();
            let choice = Choice { kind: "ConfigMap", name: &map.name, items, mode, optional: map.optional };
            add_config_map(sources, &choice, files)?;
        }
        if let Some(secret) = &source.secret {
            let items = secret.items.as_deref();
            let choice = Choice { kind: "Secret", name: &secret.name, items, mode, optional: secret.optional };
            add_secret(sources, &choice, files)?;
        }
        if let Some(downward) = &source.downward_api {
            add_downward(sources, downward.items.as_deref().unwrap_or_default(), mode, files)?;
        }
    }
    Ok(())
}

fn add_config_map<L: Lookup>(
    sources: &Sources<'_, L>,
    choice: &Choice<'_>,
    files: &mut Files,
) -> Result<(), ConfigProblem> {
    let Some(map) = sources.lookup.config_map(sources.namespace, choice.name) else {
        return missing(choice, ConfigProblem::NoConfigMap(choice.name.to_owned()));
    };
    let ConfigMap { data, binary_data, .. } = &*map;
    let texts = data.iter().flatten().map(|(key, text)| (key.as_str(), text.as_bytes()));
    let binaries = binary_data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()));
    let keys: BTreeMap<&str, &[u8]> = texts.chain(binaries).collect();
    add_keys(sources.namespace, choice, &keys, |bytes| Content::Plain(bytes.to_vec()), files)
}

fn add_secret<L: Lookup>(
    sources: &Sources<'_, L>,
    choice: &Choice<'_>,
    files: &mut Files,
) -> Result<(), ConfigProblem> {
    let Some(secret) = sources.lookup.secret(sources.namespace, choice.name) else {
        return missing(choice, ConfigProblem::NoSecret(choice.name.to_owned()));
    };
    let Secret { data, .. } = &*secret;
    let keys = data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())).collect();
    add_keys(sources.namespace, choice, &keys, |bytes| Content::Secret(bytes.to_vec()), files)
}

fn missing(choice: &Choice<'_>, problem: ConfigProblem) -> Result<(), ConfigProblem> {
    if choice.optional == Some(true) { Ok(()) } else { Err(problem) }
}

/// All keys, or the chosen ones under their paths.
fn add_keys(
    namespace: &str,
    choice: &Choice<'_>,
    keys: &BTreeMap<&str, &[u8]>,
    content: impl Fn(&[u8]) -> Content,
    files: &mut Files,
) -> Result<(), ConfigProblem> {
    let Some(items) = choice.items.filter(|items| !items.is_empty()) else {
        files.0.extend(keys.iter().map(|(key, bytes)| ((*key).to_owned(), (choice.mode, content(bytes)))));
        return Ok(());
    };
    for item in items {
        match keys.get(item.key.as_str()) {
            Some(bytes) => {
                let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(choice.mode);
                files.0.insert(item.path.clone(), (mode, content(bytes)));
            }
            None => missing(
                choice,
                ConfigProblem::NoKey {
                    kind: choice.kind,
                    namespace: namespace.to_owned(),
                    name: choice.name.to_owned(),
                    key: item.key.clone(),
                },
            )?,
        }
    }
    Ok(())
}

fn add_downward<L>(
    sources: &Sources<'_, L>,
    items: &[DownwardAPIVolumeFile],
    mode: u32,
    files: &mut Files,
) -> Result<(), ConfigProblem> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            let parsed = PodField::parse(&field.field_path);
            let value = parsed.map(|parsed| parsed.value(sources.pod, sources.node));
            value.ok_or_else(|| ConfigProblem::NoField(field.field_path.clone()))?
        } else if let Some(field) = &item.resource_field_ref {
            let value = resource_value(sources.pod, None, sources.node, field);
            value.ok_or_else(|| ConfigProblem::NoField(field.resource.clone()))?
        } else {
            continue;
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
        files.0.insert(item.path.clone(), (mode, Content::Plain(text.into_bytes())));
    }
    Ok(())
}
