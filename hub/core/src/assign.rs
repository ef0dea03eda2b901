//! Pod -> what its node is told of it: everything resolved, nothing left to look up.
//!
//! ```text
//! assign        the pod: identity, resources, images       probe   probes and hooks, ports by number
//! environment   env, envFrom, $(NAME) in arguments          files   volumes and their files
//! downward      what a pod is told of itself                annotation   Wherry's own settings
//! ```
//! The same pod and the same sources give the same bytes, so that a node is sent only real changes.
//! A value that comes from a Secret leaves here by its number alone; the values are sealed as one.

pub mod annotation;
pub(crate) mod downward;
mod environment;
mod files;
mod probe;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use protocol::ids::{ContainerName, InvalidId};
use protocol::pod::{
    Access, ContainerSpec, FileSpec, Image, ImageResolution, MountSpec, PodSpec, PortSpec, Protocol, Resources,
    RestartPolicy, Value,
};

use downward::amount;
use environment::Environment;
use files::Volumes;

/// DNS label: what a host name may have.
const HOSTNAME_MAX: usize = 63;

/// Kubernetes' default, for a pod that was stored without one.
const GRACE_SECONDS: u32 = 30;

/// What pods may refer to.
pub trait Lookup {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>>;
    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>>;
    /// What the registry holds as `NAME@sha256:...`.
    fn image(&self, pinned: &str) -> Option<Image>;
}

/// What a pod's environment may say of its node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// Its address in its own network; empty if it told none.
    pub address: String,
    /// What pods may use of it: stands in for limits that a container does not set.
    pub allocatable: BTreeMap<String, QuantityText>,
}

/// Why a pod cannot be told to a node at all. What is wrong with one container becomes its
/// [`ContainerSpec::config_error`] instead, so that its user reads it in the pod's status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    #[error("the pod has no valid uid")]
    Uid(#[source] InvalidId),
    #[error("the pod has no IPv4 address yet")]
    Address,
    #[error("container {name:?} has no valid name")]
    ContainerName { name: String, source: InvalidId },
    #[error("the pod refers to more than {} secret values", u16::MAX)]
    TooManySecrets,
}

/// Why a container cannot be configured, in the words that users know from Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ConfigProblem {
    #[error("configmap {0:?} not found")]
    NoConfigMap(String),
    #[error("secret {0:?} not found")]
    NoSecret(String),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("{0} is no field of the pod")]
    NoField(String),
    #[error("couldn't find port {0:?} of the container")]
    NoPort(String),
    #[error("MountVolume.SetUp failed for volume {volume:?} : {problem}")]
    Volume { volume: String, problem: Box<ConfigProblem> },
}

/// The values to seal, in the order of their numbers.
#[derive(Debug, Default)]
struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    fn add(&mut self, value: &[u8]) -> Result<u16, AssignError> {
        let number = u16::try_from(self.0.len()).map_err(|_| AssignError::TooManySecrets)?;
        self.0.push(value.to_vec());
        Ok(number)
    }
}

/// What every part of the translation looks at.
struct Sources<'a, L> {
    pod: &'a Pod,
    namespace: &'a str,
    node: &'a NodeView,
    lookup: &'a L,
}

/// Translates a bound pod. `sealer` seals the pod's secret values to its node's key; the same values
/// must give the same bytes.
///
/// # Errors
/// What keeps the whole pod from being told.
pub fn assign(
    pod: &Pod,
    node: &NodeView,
    lookup: &impl Lookup,
    sealer: &mut dyn FnMut(&[Vec<u8>]) -> Vec<u8>,
) -> Result<PodSpec, AssignError> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
    let spec = pod.spec.clone().unwrap_or_default();
    let sources = Sources { pod, namespace: &namespace, node, lookup };
    let mut secrets = Secrets::default();
    // Arguments are numbered first: they decide whether a container is started anew, so their numbers
    // must not move when a Secret gains a key.
    let mut drafts = |list: &[Container]| -> Result<Vec<Draft>, AssignError> {
        list.iter().map(|container| draft(&sources, container, &mut secrets)).collect()
    };
    let init_list = spec.init_containers.as_deref().unwrap_or_default();
    let (init_drafts, drafts) = (drafts(init_list)?, drafts(&spec.containers)?);
    let mut volumes = files::volumes(&sources, spec.volumes.as_deref().unwrap_or_default(), &mut secrets)?;
    let mut containers = |list: &[Container], drafts: Vec<Draft>| -> Result<Vec<ContainerSpec>, AssignError> {
        let pairs = list.iter().zip(drafts);
        pairs
            .map(|(container, draft)| self::container(&sources, container, draft, &mut volumes, &mut secrets))
            .collect()
    };
    let init_containers = containers(init_list, init_drafts)?;
    let containers = containers(&spec.containers, drafts)?;
    Ok(PodSpec {
        uid: text(&pod.metadata.uid).parse().map_err(AssignError::Uid)?,
        ip: address(pod)?,
        hostname: spec.hostname.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| hostname(&name)),
        namespace,
        name,
        restart: restart_policy(spec.restart_policy.as_deref()),
        grace_seconds: seconds(spec.termination_grace_period_seconds).unwrap_or(GRACE_SECONDS),
        active_deadline_seconds: seconds(spec.active_deadline_seconds),
        stop_when_isolated_seconds: own_annotation(pod, annotation::STOP_WHEN_ISOLATED)
            .and_then(annotation::isolation_seconds),
        init_containers,
        containers,
        volumes: volumes.specs,
        sealed_secrets: if secrets.0.is_empty() { None } else { Some(sealer(&secrets.0)) },
    })
}

fn address(pod: &Pod) -> Result<[u8; 4], AssignError> {
    let text = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default();
    text.parse::<Ipv4Addr>().map(|address| address.octets()).map_err(|_| AssignError::Address)
}

/// The pod's name, cut to a label.
fn hostname(name: &str) -> String {
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn restart_policy(text: Option<&str>) -> RestartPolicy {
    match text {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// Seconds as the wire has them; admission keeps them in its range.
fn seconds(value: Option<i64>) -> Option<u32> {
    value.map(|seconds| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
}

fn own_annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// What of a container is worked out before its secrets are numbered.
struct Draft {
    environment: Environment,
    problem: Option<ConfigProblem>,
    args: Vec<Value>,
}

fn draft<L: Lookup>(
    sources: &Sources<'_, L>,
    container: &Container,
    secrets: &mut Secrets,
) -> Result<Draft, AssignError> {
    let (environment, problem) = match environment::environment(sources, container) {
        Ok(environment) => (environment, None),
        Err(problem) => (Environment::default(), Some(problem)),
    };
    let args = environment.arguments(container, secrets)?;
    Ok(Draft { environment, problem, args })
}

fn container<L: Lookup>(
    sources: &Sources<'_, L>,
    container: &Container,
    draft: Draft,
    volumes: &mut Volumes,
    secrets: &mut Secrets,
) -> Result<ContainerSpec, AssignError> {
    let invalid = |source| AssignError::ContainerName { name: container.name.clone(), source };
    let name: ContainerName = container.name.parse().map_err(invalid)?;
    let mounts = mounts(container, volumes);
    let broken_mount = mounts.iter().find_map(|mount| volumes.problem(&mount.volume));
    let Draft { environment, problem, args } = draft;
    let (asked, probe_problem) = match probe::asked(container, &environment) {
        Ok(asked) => (asked, None),
        Err(problem) => (probe::Asked::default(), Some(problem)),
    };
    let env = environment.values(secrets)?;
    Ok(ContainerSpec {
        name,
        image: container.image.clone().unwrap_or_default(),
        resolution: resolution(sources, container),
        config_error: broken_mount.or(problem).or(probe_problem).map(|problem| problem.to_string()),
        args,
        env,
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
        ports: ports(container),
        mounts,
        resources: resources(container),
        liveness: asked.liveness,
        readiness: asked.readiness,
        startup: asked.startup,
        post_start: asked.post_start,
        pre_stop: asked.pre_stop,
        instance_reuse: own_annotation(sources.pod, annotation::INSTANCE_REUSE)
            .and_then(annotation::instance_reuse)
            .unwrap_or(1),
    })
}

/// What the image meant when the pod was made.
fn resolution<L: Lookup>(sources: &Sources<'_, L>, container: &Container) -> ImageResolution {
    let pinned: BTreeMap<String, String> = own_annotation(sources.pod, annotation::IMAGES)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let image = container.image.as_deref().unwrap_or_default();
    let Some(pinned) = pinned.get(&container.name) else {
        return ImageResolution::Unresolved { message: format!("image {image:?} is not in the hub's registry") };
    };
    match sources.lookup.image(pinned) {
        Some(image) => ImageResolution::Resolved(image),
        None => ImageResolution::Unresolved { message: format!("image {pinned:?} is no longer in the hub's registry") },
    }
}

fn ports(container: &Container) -> Vec<PortSpec> {
    let port = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        Some(PortSpec {
            name: port.name.clone().unwrap_or_default(),
            port: u16::try_from(port.container_port).ok()?,
            protocol: if port.protocol.as_deref() == Some("UDP") { Protocol::Udp } else { Protocol::Tcp },
        })
    };
    container.ports.iter().flatten().filter_map(port).collect()
}

fn mounts(container: &Container, volumes: &mut Volumes) -> Vec<MountSpec> {
    let wanted = container.volume_mounts.as_deref().unwrap_or_default();
    let is_taken = |directory: &str| wanted.iter().any(|mount| mount.mount_path.trim_end_matches('/') == directory);
    let mut mounts = Vec::new();
    for mount in wanted {
        let sub_path = mount.sub_path.clone().unwrap_or_default();
        let place = mount.mount_path.trim_end_matches('/').rsplit_once('/');
        match (volumes.file(&mount.name, &sub_path), place) {
            (Some(file), Some((directory, name))) if !is_taken(directory) => {
                let directory = if directory.is_empty() { "/" } else { directory };
                let file = FileSpec { path: name.to_owned(), ..file };
                volumes.mount_file(&container.name, &mut mounts, directory, file);
            }
            _ => mounts.push(MountSpec {
                volume: mount.name.clone(),
                path: mount.mount_path.clone(),
                sub_path,
                access: match mount.read_only {
                    Some(true) => Access::ReadOnly,
                    Some(false) | None => volumes.access(&mount.name),
                },
            }),
        }
    }
    mounts
}

fn resources(container: &Container) -> Resources {
    let Some(resources) = &container.resources else { return Resources::default() };
    let bytes = |list: &Option<BTreeMap<String, QuantityText>>| {
        amount(list.as_ref()?, "memory").and_then(|amount| u64::try_from(amount.value()).ok())
    };
    let milli = |list: &Option<BTreeMap<String, QuantityText>>| {
        amount(list.as_ref()?, "cpu").map(|amount| u32::try_from(amount.milli_value().max(0)).unwrap_or(u32::MAX))
    };
    // A limit without a request asks for as much, also in pods that were stored without that default.
    Resources {
        memory_request: bytes(&resources.requests).or_else(|| bytes(&resources.limits)),
        memory_limit: bytes(&resources.limits),
        cpu_request_milli: milli(&resources.requests).or_else(|| milli(&resources.limits)),
        cpu_limit_milli: milli(&resources.limits),
    }
}

#[cfg(test)]
mod tests;
