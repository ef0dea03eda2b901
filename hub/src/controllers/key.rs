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

#[cfg(test)]
mod tests {
    use hub_store::memory::MemoryStore;
    use hub_store::{Expect, Op, Store, Write};
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::super::world::Notice;
    use super::*;

    /// What a change from `before` to `now` of the object at `key` concerns, in a world of a Deployment
    /// `web` (uid d), its ReplicaSet `web-1` (uid r), and a namespace that is going.
    async fn concerns(key: &str, before: Option<Value>, now: Option<Value>) -> Vec<String> {
        let (store, world, stop) = (Arc::new(MemoryStore::new()), World::new(), CancellationToken::new());
        let gone = json!("2026-01-01T00:00:00Z");
        let commit = async |key: &str, value: Option<&Value>| {
            let key = key.to_owned();
            let op = match value {
                Some(value) => Op::Put { key, value: value.to_string().into_bytes(), expect: Expect::Anything },
                None => Op::Delete { key, expect: Expect::Anything },
            };
            store.commit(vec![op], Write::Relaxed).await.unwrap();
        };
        let deployment = json!({"metadata": {"name": "web", "namespace": "home", "uid": "d"}});
        commit("/apps/deployments/home/web", Some(&deployment)).await;
        let set = json!({"metadata": {"name": "web-1", "namespace": "home", "uid": "r",
            "ownerReferences": owner("Deployment", "web", "d")}});
        commit("/apps/replicasets/home/web-1", Some(&set)).await;
        let going = json!({"metadata": {"name": "going", "deletionTimestamp": gone}});
        commit("/core/namespaces//going", Some(&going)).await;
        if let Some(before) = &before {
            commit(key, Some(before)).await;
        }
        let mut notices = world.subscribe();
        let follow = (world.clone(), store.clone(), stop.clone());
        tokio::spawn(async move { follow.0.follow(follow.1, follow.2).await });
        world.synced().await;
        commit(key, now.as_ref()).await;
        let changed = loop {
            match notices.next().await {
                Some(Notice::Changed(changed)) => break changed,
                Some(Notice::Resync) => {}
                None => panic!("the world is still there"),
            }
        };
        stop.cancel();
        concerned(&changed, &world).iter().map(|key| format!("{key:?}")).collect()
    }

    fn owner(kind: &str, name: &str, uid: &str) -> Value {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
    }

    fn pod(node: &str, phase: &str) -> Value {
        json!({"metadata": {"name": "p", "namespace": "home", "uid": "p",
            "ownerReferences": owner("ReplicaSet", "web-1", "r")},
            "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase, "podIP": "10.42.0.1"}})
    }

    /// The kinds of keys, in order.
    #[track_caller]
    fn check(found: Vec<String>, expected: &[&str]) {
        let kinds: Vec<&str> = found.iter().map(|key| key.split('(').next().unwrap_or_default()).collect();
        assert_eq!(kinds, expected, "{found:?}");
    }

    #[tokio::test]
    async fn a_pod_concerns_its_set_and_the_scheduler_while_it_waits() {
        let at = "/core/pods/home/p";
        check(concerns(at, None, Some(pod("", "Pending"))).await, &["Garbage", "ReplicaSet", "Scheduling"]);
        let running = concerns(at, Some(pod("n", "Pending")), Some(pod("n", "Running"))).await;
        check(running, &["Garbage", "ReplicaSet", "ReplicaSet"]);
        let ended = concerns(at, Some(pod("n", "Running")), Some(pod("n", "Failed"))).await;
        check(ended, &["Garbage", "Deployment", "ReplicaSet", "Deployment", "ReplicaSet", "Scheduling"]);
        check(concerns(at, Some(pod("n", "Running")), None).await, &["Deployment", "ReplicaSet", "Scheduling"]);
    }

    #[tokio::test]
    async fn an_orphan_concerns_whoever_may_adopt_it() {
        let mut orphan = pod("n", "Running");
        orphan["metadata"]["ownerReferences"] = json!([]);
        orphan["metadata"]["labels"] = json!({"app": "web"});
        check(concerns("/core/pods/home/p", None, Some(orphan)).await, &["ReplicaSet"]);
    }

    #[tokio::test]
    async fn an_owner_that_goes_concerns_its_dependents() {
        let deployment = json!({"metadata": {"name": "web", "namespace": "home", "uid": "d"}});
        let gone = concerns("/apps/deployments/home/web", Some(deployment), None).await;
        check(gone, &["Garbage", "Deployment"]);
    }

    #[tokio::test]
    async fn what_leaves_a_going_namespace_concerns_it() {
        let config = json!({"metadata": {"name": "c", "namespace": "going", "uid": "c"}});
        check(concerns("/core/configmaps/going/c", Some(config), None).await, &["Namespace"]);
    }

    #[tokio::test]
    async fn nodes_concern_all_waiting_pods() {
        let node = json!({"metadata": {"name": "n", "uid": "n"}});
        check(concerns("/core/nodes//n", None, Some(node)).await, &["Scheduling", "NodeHealth"]);
    }
}
