//! The world: every object of the store, typed and indexed, in memory.
//!
//! One task ([`World::follow`]) lists the store, then applies its changes; everybody else reads.
//! Readers get `Arc`s and never hold a lock longer than a call. A change tells only "look again":
//! a subscriber that lags is told to look at everything ([`Notice::Resync`]), so nothing depends on
//! having seen each change.
//!
//! Whoever has just written waits for the world to show it ([`World::reached`]) before planning
//! again. That replaces counting the creations and deletions that are still expected.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hub_core::kinds::{self, Resource};
use hub_store::{Change, Entry, Revision, Store, StoreError};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Changes kept for a slow subscriber. A burst of a few thousand pods fits; past it the subscriber
/// looks at everything once, which costs less than a longer queue.
const NOTICES: usize = 4096;
/// Entries read from the store at a time.
const PAGE: usize = 1000;
/// Between attempts on a store that fails.
const RETRY: Duration = Duration::from_millis(500);

/// One object as stored, in the type its readers want.
pub struct Record {
    pub resource: &'static Resource,
    pub revision: Revision,
    pub body: Body,
}

/// The kinds that controllers read whole; of the others the metadata.
#[derive(Debug, Clone)]
pub enum Body {
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    ReplicaSet(Arc<ReplicaSet>),
    Deployment(Arc<Deployment>),
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Secret>),
    Service(Arc<Service>),
    ServiceAccount(Arc<ServiceAccount>),
    /// Another kind, or an object that is no valid one of its kind.
    Other(Arc<ObjectMeta>),
}

/// What a subscriber is told.
#[derive(Clone)]
pub enum Notice {
    Changed(Changed),
    /// Changes were missed: look at everything.
    Resync,
}

/// One change; `None` stands for absent.
#[derive(Clone)]
pub struct Changed {
    pub resource: &'static Resource,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub before: Option<Arc<Record>>,
    pub now: Option<Arc<Record>>,
}

/// A subscription; see [`World::subscribe`].
pub struct Notices(broadcast::Receiver<Notice>);

#[derive(Default)]
struct State {
    /// By store key, so that a kind, and a kind in a namespace, is a range.
    records: BTreeMap<Arc<str>, Arc<Record>>,
    by_uid: HashMap<String, Arc<str>>,
    by_owner: HashMap<String, BTreeSet<Arc<str>>>,
    pods_by_node: HashMap<String, BTreeSet<Arc<str>>>,
}

pub struct World {
    state: RwLock<State>,
    /// The newest revision shown; `None` before the first full list.
    reached: watch::Sender<Option<Revision>>,
    notices: broadcast::Sender<Notice>,
}

impl Default for World {
    fn default() -> Self {
        Self { state: RwLock::default(), reached: watch::Sender::new(None), notices: broadcast::Sender::new(NOTICES) }
    }
}

/// Typed readers of one kind: all, and one by name. What belongs to no namespace has the empty one.
macro_rules! kind {
    ($body:ident, $prefix:literal, $all:ident, $one:ident) => {
        impl World {
            pub fn $all(&self) -> Vec<Arc<$body>> {
                self.read().range($prefix).filter_map(|record| record.body.$one()).collect()
            }

            pub fn $one(&self, namespace: &str, name: &str) -> Option<Arc<$body>> {
                self.read().records.get(format!("{}{namespace}/{name}", $prefix).as_str())?.body.$one()
            }
        }

        impl Body {
            pub fn $one(&self) -> Option<Arc<$body>> {
                if let Self::$body(object) = self { Some(object.clone()) } else { None }
            }
        }
    };
}

kind!(Namespace, "/core/namespaces/", namespaces, namespace);
kind!(Node, "/core/nodes/", nodes, node);
kind!(Pod, "/core/pods/", pods, pod);
kind!(ReplicaSet, "/apps/replicasets/", replica_sets, replica_set);
kind!(Deployment, "/apps/deployments/", deployments, deployment);
kind!(ConfigMap, "/core/configmaps/", config_maps, config_map);
kind!(Secret, "/core/secrets/", secrets, secret);
kind!(Service, "/core/services/", services, service);
kind!(ServiceAccount, "/core/serviceaccounts/", service_accounts, service_account);

impl World {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Whether the first full list has been read. Before that, absence means nothing.
    pub fn is_synced(&self) -> bool {
        self.reached.borrow().is_some()
    }

    /// Waits for the first full list.
    pub async fn synced(&self) {
        self.reached(Revision(0)).await;
    }

    /// Waits until the world shows everything up to `revision`: a write is read back after this.
    pub async fn reached(&self, revision: Revision) {
        let mut reached = self.reached.subscribe();
        // The sender lives in `self`, so this ends only when the condition holds.
        let _ = reached.wait_for(|at| at.is_some_and(|at| at >= revision)).await;
    }

    /// The newest revision shown; 0 before the first full list.
    pub fn revision(&self) -> Revision {
        self.reached.borrow().unwrap_or_default()
    }

    /// Changes from now on. Subscribe first, then read.
    pub fn subscribe(&self) -> Notices {
        Notices(self.notices.subscribe())
    }

    pub fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
        let state = self.read();
        state.indexed(state.pods_by_node.get(node)).filter_map(|record| record.body.pod()).collect()
    }

    pub fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.read().range(&format!("/core/pods/{namespace}/")).filter_map(|record| record.body.pod()).collect()
    }

    pub fn pods_owned_by(&self, uid: &str) -> Vec<Arc<Pod>> {
        self.owned_by(uid).iter().filter_map(|record| record.body.pod()).collect()
    }

    pub fn replica_sets_in(&self, namespace: &str) -> Vec<Arc<ReplicaSet>> {
        let prefix = format!("/apps/replicasets/{namespace}/");
        self.read().range(&prefix).filter_map(|record| record.body.replica_set()).collect()
    }

    pub fn replica_sets_owned_by(&self, uid: &str) -> Vec<Arc<ReplicaSet>> {
        self.owned_by(uid).iter().filter_map(|record| record.body.replica_set()).collect()
    }

    /// Everything, of every kind, that names `uid` among its owners.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Record>> {
        let state = self.read();
        state.indexed(state.by_owner.get(uid)).cloned().collect()
    }

    pub fn by_uid(&self, uid: &str) -> Option<Arc<Record>> {
        let state = self.read();
        state.records.get(state.by_uid.get(uid)?).cloned()
    }

    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Record>> {
        self.read().records.get(resource.key(namespace, name).as_str()).cloned()
    }

    /// Everything of every kind in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Record>> {
        let state = self.read();
        let namespaced = kinds::table().iter().filter(|row| row.scope == kinds::Scope::Namespaced);
        namespaced.flat_map(|row| state.range(&row.prefix(Some(namespace))).cloned().collect::<Vec<_>>()).collect()
    }

    /// All objects of a kind.
    pub fn all(&self, resource: &Resource) -> Vec<Arc<Record>> {
        self.read().range(&resource.prefix(None)).cloned().collect()
    }

    /// Everything there is.
    pub fn everything(&self) -> Vec<Arc<Record>> {
        self.read().records.values().cloned().collect()
    }

    /// Keeps the world equal to the store until `stop`, or until the store is closed.
    pub async fn follow<S: Store>(&self, store: Arc<S>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                ended = self.follow_once(&*store) => ended,
                () = stop.cancelled() => return,
            };
            match ended {
                StoreError::Closed => return,
                StoreError::Compacted { .. } => debug!("fell behind the store's history"),
                error => {
                    warn!(error = &error as &dyn std::error::Error, "cannot read the store");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Lists, then applies changes until the watch ends.
    async fn follow_once<S: Store>(&self, store: &S) -> StoreError {
        let listed = match self.relist(store) {
            Ok(listed) => listed,
            Err(error) => return error,
        };
        let mut watch = match store.watch("/", listed) {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        loop {
            match watch.next().await {
                Ok(changes) => self.apply(changes),
                Err(error) => return error,
            }
        }
    }

    /// Reads the whole store. What changes while the pages are read is replayed by the watch, which
    /// starts at the first page's revision.
    fn relist<S: Store>(&self, store: &S) -> Result<Revision, StoreError> {
        let mut fresh = State::default();
        let mut page = store.list("/", None, PAGE)?;
        let revision = page.revision;
        loop {
            let last = page.entries.last().map(|entry| entry.key.clone());
            for entry in &page.entries {
                if let Some(record) = decode(entry) {
                    fresh.put(&entry.key, record);
                }
            }
            match last {
                Some(last) if page.more => page = store.list("/", Some(&last), PAGE)?,
                Some(_) | None => break,
            }
        }
        info!(objects = fresh.records.len(), revision = revision.0, "read the store");
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.reached.send_replace(Some(revision));
        // No subscriber is fine: whoever comes later reads everything anyway.
        let _ = self.notices.send(Notice::Resync);
        Ok(revision)
    }

    fn apply(&self, changes: Vec<Change>) {
        let mut notices = Vec::with_capacity(changes.len());
        let mut newest = Revision(0);
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                newest = newest.max(change.revision);
                notices.extend(state.apply(&change));
            }
        }
        self.reached.send_modify(|at| *at = Some(at.unwrap_or_default().max(newest)));
        for changed in notices {
            let _ = self.notices.send(Notice::Changed(changed));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panicked writer leaves whole records behind; the next list repairs the rest.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notices {
    /// The next notice; `None` once the world is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                debug!(missed, "a subscriber lags");
                Some(Notice::Resync)
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Changed {
    /// The record after the change, or the last one before it was deleted.
    pub fn latest(&self) -> Option<&Arc<Record>> {
        self.now.as_ref().or(self.before.as_ref())
    }
}

impl Record {
    pub fn metadata(&self) -> &ObjectMeta {
        match &self.body {
            Body::Namespace(object) => &object.metadata,
            Body::Node(object) => &object.metadata,
            Body::Pod(object) => &object.metadata,
            Body::ReplicaSet(object) => &object.metadata,
            Body::Deployment(object) => &object.metadata,
            Body::ConfigMap(object) => &object.metadata,
            Body::Secret(object) => &object.metadata,
            Body::Service(object) => &object.metadata,
            Body::ServiceAccount(object) => &object.metadata,
            Body::Other(metadata) => metadata,
        }
    }

    pub fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    fn owners(&self) -> impl Iterator<Item = &str> {
        self.metadata().owner_references.iter().flatten().map(|owner| owner.uid.as_str())
    }

    fn node(&self) -> Option<String> {
        self.body.pod()?.spec.as_ref()?.node_name.clone().filter(|node| !node.is_empty())
    }
}

impl State {
    fn range<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a Arc<Record>> {
        let prefix = prefix.to_owned();
        let from = (std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded);
        self.records
            .range::<str, _>(from)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(_, record)| record)
    }

    fn indexed<'a>(&'a self, keys: Option<&'a BTreeSet<Arc<str>>>) -> impl Iterator<Item = &'a Arc<Record>> {
        keys.into_iter().flatten().filter_map(|key| self.records.get(key))
    }

    fn apply(&mut self, change: &Change) -> Option<Changed> {
        let known = self.records.get(change.key.as_str()).map(|record| record.revision);
        if known.is_some_and(|known| known >= change.revision) {
            return None; // Listed already.
        }
        let now = change.now.as_deref().and_then(decode).map(Arc::new);
        let before = self.remove(&change.key);
        if let Some(record) = &now {
            self.put(&change.key, record.clone());
        }
        let latest = now.as_ref().or(before.as_ref())?;
        Some(Changed {
            resource: latest.resource,
            namespace: latest.namespace().into(),
            name: latest.name().into(),
            before,
            now,
        })
    }

    fn put(&mut self, key: &str, record: impl Into<Arc<Record>>) {
        let (key, record): (Arc<str>, Arc<Record>) = (key.into(), record.into());
        self.by_uid.insert(record.uid().to_owned(), key.clone());
        for owner in record.owners() {
            self.by_owner.entry(owner.to_owned()).or_default().insert(key.clone());
        }
        if let Some(node) = record.node() {
            self.pods_by_node.entry(node).or_default().insert(key.clone());
        }
        self.records.insert(key, record);
    }

    fn remove(&mut self, key: &str) -> Option<Arc<Record>> {
        let record = self.records.remove(key)?;
        self.by_uid.remove(record.uid());
        for owner in record.owners() {
            forget(&mut self.by_owner, owner, key);
        }
        if let Some(node) = record.node() {
            forget(&mut self.pods_by_node, &node, key);
        }
        Some(record)
    }
}

fn forget(index: &mut HashMap<String, BTreeSet<Arc<str>>>, at: &str, key: &str) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

/// The entry as a record; `None` for keys that are no objects (the hub keeps a few of its own).
fn decode(entry: &Entry) -> Option<Record> {
    let mut parts = entry.key.split('/').skip(1);
    let (group, plural) = (parts.next()?, parts.next()?);
    let group = if group == "core" { "" } else { group };
    let resource = kinds::table().iter().find(|row| row.group == group && row.plural == plural)?;
    let mut value: Value = match serde_json::from_slice(&entry.value) {
        Ok(value) => value,
        Err(error) => {
            warn!(key = entry.key, error = &error as &dyn std::error::Error, "stored object is no json");
            return None;
        }
    };
    let metadata = value.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("resourceVersion".to_owned(), entry.modified.0.to_string().into());
    // Nobody here reads them, and they are half of many objects.
    metadata.shift_remove("managedFields");
    let metadata = Value::Object(metadata.clone());
    let body = typed_body(group, plural, value)
        .or_else(|error| {
            warn!(key = entry.key, error = &error as &dyn std::error::Error, "stored object does not fit its kind");
            parse(metadata).map(Body::Other)
        })
        .ok()?;
    Some(Record { resource, revision: entry.modified, body })
}

fn typed_body(group: &str, plural: &str, value: Value) -> Result<Body, serde_json::Error> {
    Ok(match (group, plural) {
        ("", "namespaces") => Body::Namespace(parse(value)?),
        ("", "nodes") => Body::Node(parse(value)?),
        ("", "pods") => Body::Pod(parse(value)?),
        ("", "configmaps") => Body::ConfigMap(parse(value)?),
        ("", "secrets") => Body::Secret(parse(value)?),
        ("", "services") => Body::Service(parse(value)?),
        ("", "serviceaccounts") => Body::ServiceAccount(parse(value)?),
        ("apps", "replicasets") => Body::ReplicaSet(parse(value)?),
        ("apps", "deployments") => Body::Deployment(parse(value)?),
        _ => Body::Other(parse(value.get("metadata").cloned().unwrap_or_default())?),
    })
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<Arc<T>, serde_json::Error> {
    T::deserialize(value).map(Arc::new)
}

#[cfg(test)]
mod tests;
