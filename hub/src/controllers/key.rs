//! What a controller looks at, and which of them a change concerns.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hub_core::kinds::Resource;
use hub_core::plan::{claim, pods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::world::{Body, Changed, Record, World};

/// One thing to look at; the queue holds each once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Deployment(Name),
    ReplicaSet(Name),
    /// All waiting pods together: places are scarce.
    Scheduling,
    /// All nodes together: most of them vanishing is another matter than one.
    NodeHealth,
    Garbage(ObjectName),
    Namespace(Arc<str>),
    Expiry,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

/// An object of any kind.
#[derive(Clone)]
pub(super) struct ObjectName {
    pub(super) resource: &'static Resource,
    pub(super) name: Name,
}

impl ObjectName {
    pub(super) fn of(record: &Record) -> Self {
        Self { resource: record.resource, name: Name::new(record.namespace(), record.name()) }
    }

    fn parts(&self) -> (&'static str, &'static str, &Name) {
        (self.resource.group, self.resource.plural, &self.name)
    }
}

impl PartialEq for ObjectName {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for ObjectName {}

impl Hash for ObjectName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl std::fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.resource.plural, self.name.namespace, self.name.name)
    }
}

impl Name {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// Everything there is to look at: after a start, and after missed changes.
pub(super) fn all(world: &World) -> Vec<Key> {
    let mut keys = vec![Key::Scheduling, Key::NodeHealth, Key::Expiry];
    for record in world.everything() {
        let name = || Name::new(record.namespace(), record.name());
        match &record.body {
            Body::Deployment(_) => keys.push(Key::Deployment(name())),
            Body::ReplicaSet(_) => keys.push(Key::ReplicaSet(name())),
            Body::Namespace(_) => keys.push(Key::Namespace(record.name().into())),
            Body::Node(_) | Body::Pod(_) | Body::ConfigMap(_) | Body::Secret(_) => {}
            Body::Service(_) | Body::ServiceAccount(_) | Body::Other(_) => {}
        }
        if is_garbage_candidate(record.metadata()) {
            keys.push(Key::Garbage(ObjectName::of(&record)));
        }
    }
    keys
}

/// What one change concerns.
pub(super) fn concerned(changed: &Changed, world: &World) -> Vec<Key> {
    let mut keys = garbage(changed, world);
    let Some(latest) = changed.latest() else { return keys };
    let name = Name { namespace: changed.namespace.clone(), name: changed.name.clone() };
    match &latest.body {
        Body::Deployment(_) => keys.push(Key::Deployment(name)),
        Body::ReplicaSet(_) => {
            keys.push(Key::ReplicaSet(name));
            keys.extend(deployments_of(changed, world));
        }
        Body::Pod(pod) => {
            keys.extend(of_pod(changed, world));
            if concerns_scheduling(changed, pod) {
                keys.push(Key::Scheduling);
            }
        }
        Body::Node(_) => keys.extend([Key::Scheduling, Key::NodeHealth]),
        Body::Namespace(_) => keys.push(Key::Namespace(name.name)),
        Body::ServiceAccount(_) if changed.now.is_none() => keys.push(Key::Namespace(name.namespace)),
        Body::ConfigMap(_) | Body::Secret(_) | Body::Service(_) | Body::ServiceAccount(_) | Body::Other(_) => {}
    }
    // A namespace that is going waits for what is in it.
    if changed.now.is_none() && !changed.namespace.is_empty() {
        let namespace = world.namespace("", &changed.namespace);
        if namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            keys.push(Key::Namespace(changed.namespace.clone()));
        }
    }
    keys
}

/// Who controls it now or did before, if of this kind.
fn controllers<'a>(changed: &'a Changed, kind: &'a str) -> impl Iterator<Item = Name> + 'a {
    let records = changed.now.iter().chain(&changed.before);
    let owners = records.filter_map(|record| claim::controller(record.metadata()));
    owners.filter(move |owner| owner.kind == kind).map(|owner| Name::new(&changed.namespace, &owner.name))
}

fn is_orphan(record: &Record) -> bool {
    claim::controller(record.metadata()).is_none() && record.metadata().labels.is_some()
}

/// The Deployments that a ReplicaSet belongs to, or may be adopted by.
fn deployments_of(changed: &Changed, world: &World) -> Vec<Key> {
    let mut keys: Vec<Key> = controllers(changed, "Deployment").map(Key::Deployment).collect();
    if changed.now.as_deref().is_some_and(is_orphan) {
        let deployments = world.deployments().into_iter().filter(|d| is_in(&d.metadata, &changed.namespace));
        keys.extend(deployments.map(|d| Key::Deployment(name_of(&d.metadata))));
    }
    keys
}

/// The ReplicaSets that a pod belongs to, or may be adopted by; Deployments that wait for it to end.
fn of_pod(changed: &Changed, world: &World) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let has_ended =
        changed.now.as_ref().is_none_or(|record| record.body.pod().is_some_and(|pod| pods::is_finished(&pod)));
    for set in controllers(changed, "ReplicaSet") {
        let found = if has_ended { world.replica_set(&set.namespace, &set.name) } else { None };
        let owner = found.as_ref().and_then(|found| claim::controller(&found.metadata));
        keys.extend(owner.map(|owner| Key::Deployment(Name::new(&set.namespace, &owner.name))));
        keys.push(Key::ReplicaSet(set));
    }
    if changed.now.as_deref().is_some_and(is_orphan) {
        let sets = world.replica_sets_in(&changed.namespace);
        keys.extend(sets.iter().map(|set| Key::ReplicaSet(name_of(&set.metadata))));
    }
    keys
}

/// A pod waits for a place or an address, or has left its place.
fn concerns_scheduling(changed: &Changed, latest: &Pod) -> bool {
    let holds_place = |pod: &Pod| pods::node_name(pod).is_some() && !pods::is_finished(pod);
    let had_place = changed.before.as_ref().and_then(|record| record.body.pod()).is_some_and(|pod| holds_place(&pod));
    match &changed.now {
        None => had_place,
        Some(_) if pods::node_name(latest).is_none() => latest.metadata.deletion_timestamp.is_none(),
        Some(_) => !has_address(latest) || (had_place && !holds_place(latest)),
    }
}

pub(super) fn has_address(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).is_some_and(|address| !address.is_empty())
}

/// What the garbage collector looks at: the object itself, its dependents once it goes, its owners
/// once it has gone.
fn garbage(changed: &Changed, world: &World) -> Vec<Key> {
    let mut keys = Vec::new();
    let going = changed.now.as_ref().is_none_or(|record| record.metadata().deletion_timestamp.is_some());
    if let Some(now) = changed.now.as_ref().filter(|record| is_garbage_candidate(record.metadata())) {
        keys.push(Key::Garbage(ObjectName::of(now)));
    }
    if going && let Some(latest) = changed.latest() {
        keys.extend(world.owned_by(latest.uid()).iter().map(|record| Key::Garbage(ObjectName::of(record))));
    }
    let owners = changed.before.iter().flat_map(|record| record.metadata().owner_references.iter().flatten());
    let waiting = owners.filter_map(|owner| world.by_uid(&owner.uid));
    let waiting = waiting.filter(|owner| owner.metadata().deletion_timestamp.is_some());
    keys.extend(waiting.map(|owner| Key::Garbage(ObjectName::of(&owner))));
    keys
}

fn is_garbage_candidate(metadata: &ObjectMeta) -> bool {
    let is_going = metadata.deletion_timestamp.is_some() && metadata.finalizers.is_some();
    is_going || metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty())
}

fn is_in(metadata: &ObjectMeta, namespace: &str) -> bool {
    metadata.namespace.as_deref() == Some(namespace)
}

fn name_of(metadata: &ObjectMeta) -> Name {
    Name::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}
