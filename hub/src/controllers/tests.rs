//! The controllers together, over the store in memory. A fake fleet does what nodes do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_core::kinds::{Resource, Subresource};
use hub_core::object::Object;
use hub_core::plan::node_health::Settings;
use hub_core::plan::pods;
use hub_store::Backend;
use hub_store::memory::MemoryStore;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::node_health::NodeHeartbeats;
use super::world::World;
use super::{Controllers, ControllersConfig, row};
use crate::clock::{Clock, Entropy};
use crate::objects::{Changed, DeleteOptions, Deleted, ImageResolver, ListOptions, Objects, Propagation, WriteOptions};

/// Longer than anything takes here, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(30);

struct NoImages;

impl ImageResolver for NoImages {
    fn resolve(&self, _: &str) -> Option<String> {
        None
    }
}

/// A hub without doors: store, world, controllers.
struct Hub {
    objects: Objects,
    world: Arc<World>,
    heartbeats: Arc<NodeHeartbeats>,
    controllers: Controllers,
    stop: CancellationToken,
    /// Nodes that answer.
    alive: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Hub {
    async fn start(nodes: &[&str]) -> Self {
        Self::start_with(nodes, ControllersConfig::default()).await
    }

    async fn start_with(nodes: &[&str], config: ControllersConfig) -> Self {
        let store = Arc::new(Backend::from(MemoryStore::new()));
        let objects = Objects::new(store.clone(), Clock::system(), Entropy::system(), Arc::new(NoImages));
        let toleration = i64::try_from(config.node_health.toleration.as_secs()).unwrap();
        let objects = objects.with_toleration(toleration);
        let (world, heartbeats, stop) = (World::new(), Arc::new(NodeHeartbeats::default()), CancellationToken::new());
        tokio::spawn({
            let (world, stop) = (world.clone(), stop.clone());
            async move { world.follow(store, stop).await }
        });
        heartbeats.link_up(objects.clock().monotonic());
        let controllers = Controllers::start(objects.clone(), world.clone(), heartbeats.clone(), config);
        let hub = Self { objects, world, heartbeats, controllers, stop, alive: Arc::default() };
        hub.create("namespaces", json!({"metadata": {"name": "default"}})).await;
        for node in nodes {
            hub.add_node(node).await;
        }
        hub.spawn_fleet();
        hub
    }

    async fn add_node(&self, name: &str) {
        self.alive.lock().unwrap().push(name.to_owned());
        self.heartbeats.heard(&name.parse().unwrap(), self.objects.clock().monotonic());
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "20"},
                "conditions": [{"type": "Ready", "status": "True"}]}});
        self.create("nodes", node).await;
    }

    /// Living nodes send heartbeats, start what is bound to them and stop what is deleted.
    fn spawn_fleet(&self) {
        let (objects, world, heartbeats) = (self.objects.clone(), self.world.clone(), self.heartbeats.clone());
        let (alive, stop) = (self.alive.clone(), self.stop.clone());
        tokio::spawn(async move {
            let mut notices = world.subscribe();
            let mut beat = tokio::time::interval(Duration::from_millis(50));
            while !stop.is_cancelled() {
                tokio::select! {
                    _ = beat.tick() => {}
                    _ = notices.next() => {}
                }
                let alive = alive.lock().unwrap().clone();
                for node in &alive {
                    heartbeats.heard(&node.parse().unwrap(), objects.clock().monotonic());
                    for pod in world.pods_on(node) {
                        run_or_stop(&objects, &pod).await;
                    }
                }
            }
        });
    }

    fn kill_node(&self, name: &str) {
        self.alive.lock().unwrap().retain(|node| node != name);
    }

    async fn create(&self, plural: &str, value: Value) -> Object {
        let object = Object::from_value(value).unwrap();
        self.objects.create(kind(plural), object, WriteOptions::default()).await.expect("the object is created")
    }

    async fn change(&self, plural: &str, name: &str, mut change: impl FnMut(&mut Object) + Send) {
        let change = |object: &mut Object| {
            change(object);
            Ok(Changed::Yes)
        };
        let namespace = if plural == "nodes" { "" } else { "default" };
        let changed = self.objects.modify(kind(plural), namespace, name, WriteOptions::default(), change).await;
        changed.expect("the object is changed");
    }

    async fn delete(&self, plural: &str, name: &str, propagation: Propagation) -> Deleted {
        let options = DeleteOptions { propagation, ..DeleteOptions::default() };
        let namespace = if plural == "namespaces" { "" } else { "default" };
        self.objects.delete(kind(plural), namespace, name, options).await.expect("the object is deleted")
    }

    /// Waits until the condition gives something.
    #[track_caller]
    fn until<'a, T>(
        &'a self,
        what: &'a str,
        mut holds: impl FnMut() -> Option<T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut notices = self.world.subscribe();
            let waiting = async {
                loop {
                    if let Some(found) = holds() {
                        return found;
                    }
                    // The tick is for conditions that are not about the world.
                    let _ = tokio::time::timeout(Duration::from_millis(100), notices.next()).await;
                }
            };
            let result = tokio::time::timeout(DEADLINE, waiting).await;
            result.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?} ({caller}); pods: {:?}", self.pods()))
        }
    }

    /// Ready pods that are not going, by node.
    fn ready(&self) -> BTreeMap<String, usize> {
        let mut by_node = BTreeMap::new();
        for pod in self.world.pods_in("default") {
            if pods::is_ready(&pod) && pods::is_active(&pod) {
                *by_node.entry(pods::node_name(&pod).unwrap_or_default().to_owned()).or_insert(0) += 1;
            }
        }
        by_node
    }

    fn ready_count(&self) -> usize {
        self.ready().values().sum()
    }

    fn pods(&self) -> Vec<String> {
        self.world.pods_in("default").iter().map(|pod| format!("{} {}", name(pod), pods::phase(pod))).collect()
    }

    fn events(&self, reason: &str) -> Vec<String> {
        let events = self.objects.list(kind("events"), &ListOptions::default()).unwrap().items;
        let events = events.into_iter().filter(|event| event.str_at(&["reason"]) == Some(reason));
        events.filter_map(|event| event.str_at(&["message"]).map(str::to_owned)).collect()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.controllers.stop().await;
    }
}

async fn run_or_stop(objects: &Objects, pod: &Pod) {
    let resource = kind("pods");
    // Whoever is quicker: the next look sees it.
    if pod.metadata.deletion_timestamp.is_some() {
        let options =
            DeleteOptions { grace_period_seconds: Some(0), uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
        let _ = objects.delete(resource, "default", name(pod), options).await;
    } else if pods::phase(pod) == "Pending" {
        let options = WriteOptions { subresource: Some(Subresource::Status), ..WriteOptions::default() };
        let run = |pod: &mut Object| {
            pod.set(&["status", "phase"], "Running");
            pod.set(
                &["status", "conditions"],
                json!([{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "True"}]),
            );
            Ok(Changed::Yes)
        };
        let _ = objects.modify(resource, "default", name(pod), options, run).await;
    }
}

fn kind(plural: &str) -> &'static Resource {
    let group = if matches!(plural, "deployments" | "replicasets") { "apps" } else { "" };
    row(group, "v1", plural)
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

fn pod_spec(image: &str) -> Value {
    json!({"containers": [{"name": "main", "image": image}]})
}

fn deployment(name: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec("web:1")}}})
}

fn progressing(hub: &Hub, name: &str) -> Option<String> {
    let status = hub.world.deployment("default", name)?.status.clone()?;
    let conditions = status.conditions?;
    conditions.iter().find(|c| c.type_.as_deref() == Some("Progressing"))?.reason.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_becomes_pods_on_all_nodes() {
    let hub = Hub::start(&["n1", "n2", "n3"]).await;
    hub.create("deployments", deployment("web", 6)).await;
    hub.until("all are ready", || (hub.ready_count() == 6).then_some(())).await;
    assert_eq!(hub.ready().into_values().collect::<Vec<_>>(), [2, 2, 2]);
    hub.until("told", || (progressing(&hub, "web")? == "NewReplicaSetAvailable").then_some(())).await;
    let addresses: std::collections::BTreeSet<String> =
        hub.world.pods().iter().filter_map(|pod| pod.status.clone()?.pod_ip).collect();
    assert_eq!(addresses.len(), 6);
    hub.until("events", || (hub.events("Scheduled").len() == 6).then_some(())).await;
    assert_eq!(hub.events("SuccessfulCreate").len(), 6);
    assert!(hub.events("ScalingReplicaSet")[0].starts_with("Scaled up replica set web-"));
    hub.until("an account", || hub.world.service_account("default", "default")).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_template_rolls_out_within_its_bounds() {
    let hub = Hub::start(&["n1", "n2"]).await;
    hub.create("deployments", deployment("web", 4)).await;
    hub.until("the first rollout", || (progressing(&hub, "web")? == "NewReplicaSetAvailable").then_some(())).await;
    hub.change("deployments", "web", |web| {
        web.set(&["spec", "template", "spec"], pod_spec("web:2"));
    })
    .await;
    let is_new = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("web:2");
    hub.until("the second rollout", || {
        assert!(hub.ready_count() >= 3, "of 4, one may be unavailable");
        let pods = hub.world.pods_in("default");
        (pods.len() == 4 && pods.iter().all(|pod| is_new(pod) && pods::is_ready(pod))).then_some(())
    })
    .await;
    assert_eq!(hub.world.replica_sets_in("default").len(), 2);
    hub.change("deployments", "web", |web| web.set(&["spec", "replicas"], 1)).await;
    hub.until("scaled down", || (hub.world.pods_in("default").len() == 1).then_some(())).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_deployment_takes_all_with_it_or_leaves_it() {
    let hub = Hub::start(&["n1"]).await;
    for (name, propagation) in [("a", Propagation::Background), ("b", Propagation::Foreground)] {
        hub.create("deployments", deployment(name, 3)).await;
        hub.until("ready", || (hub.ready_count() == 3).then_some(())).await;
        hub.delete("deployments", name, propagation).await;
        hub.until("all gone", || {
            let none = hub.world.pods_in("default").is_empty() && hub.world.replica_sets_in("default").is_empty();
            (none && hub.world.deployment("default", name).is_none()).then_some(())
        })
        .await;
    }
    hub.create("deployments", deployment("c", 2)).await;
    hub.until("ready", || (hub.ready_count() == 2).then_some(())).await;
    hub.delete("deployments", "c", Propagation::Orphan).await;
    hub.until("the owner goes", || hub.world.deployment("default", "c").is_none().then_some(())).await;
    assert!(hub.world.replica_sets_in("default")[0].metadata.owner_references.is_none());
    assert_eq!(hub.ready_count(), 2);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_until_it_fits() {
    let hub = Hub::start(&["n1"]).await;
    hub.change("nodes", "n1", |node| node.set(&["spec", "unschedulable"], true)).await;
    hub.create("pods", json!({"metadata": {"name": "a", "namespace": "default"}, "spec": pod_spec("web:1")})).await;
    let message = hub
        .until("a reason", || {
            let conditions = hub.world.pod("default", "a")?.status.clone()?.conditions?;
            conditions.iter().find(|c| c.type_ == "PodScheduled")?.message.clone()
        })
        .await;
    assert_eq!(message, "0/1 nodes are available: 1 node(s) were unschedulable.");
    hub.until("an event", || (hub.events("FailedScheduling") == [message.clone()]).then_some(())).await;
    hub.change("nodes", "n1", |node| node.set(&["spec", "unschedulable"], false)).await;
    hub.until("it runs", || (hub.ready_count() == 1).then_some(())).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_lost_node_come_back_elsewhere() {
    let (grace, toleration) = (Duration::from_millis(1500), Duration::from_millis(500));
    let node_health = Settings { grace, toleration, ..Settings::default() };
    let hub = Hub::start_with(&["n1", "n2", "n3"], ControllersConfig { node_health, ..Default::default() }).await;
    hub.create("deployments", deployment("web", 3)).await;
    hub.until("one each", || (hub.ready().len() == 3 && hub.ready_count() == 3).then_some(())).await;
    hub.kill_node("n2");
    hub.until("moved", || (hub.ready_count() == 3 && !hub.ready().contains_key("n2")).then_some(())).await;
    let taints = hub.world.node("", "n2").unwrap().spec.clone().unwrap().taints.unwrap();
    assert!(taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable" && taint.effect == "NoExecute"));
    hub.until("told", || (!hub.events("NodeNotReady").is_empty()).then_some(())).await;
    hub.alive.lock().unwrap().push("n2".to_owned());
    hub.until("back", || {
        let node = hub.world.node("", "n2")?;
        node.spec.as_ref().is_none_or(|spec| spec.taints.as_ref().is_none_or(Vec::is_empty)).then_some(())
    })
    .await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_emptied_and_goes() {
    let hub = Hub::start(&["n1"]).await;
    hub.create("namespaces", json!({"metadata": {"name": "shop"}})).await;
    let mut web = deployment("web", 2);
    web["metadata"]["namespace"] = json!("shop");
    hub.create("deployments", web).await;
    hub.create("configmaps", json!({"metadata": {"name": "c", "namespace": "shop"}})).await;
    hub.until("pods", || (hub.world.pods_in("shop").len() == 2).then_some(())).await;
    hub.delete("namespaces", "shop", Propagation::Background).await;
    // The fake fleet stops pods of `default` only: the rest is done by hand.
    hub.until("only pods are left, and going", || {
        let left = hub.world.in_namespace("shop");
        left.iter().all(|record| record.metadata().deletion_timestamp.is_some()).then_some(())
    })
    .await;
    for pod in hub.world.pods_in("shop") {
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        let _ = hub.objects.delete(kind("pods"), "shop", name(&pod), options).await;
    }
    hub.until("it is gone", || hub.world.namespace("", "shop").is_none().then_some(())).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_are_adopted_and_strays_released() {
    let hub = Hub::start(&["n1"]).await;
    let stray = json!({"metadata": {"name": "stray", "namespace": "default", "labels": {"app": "web"}},
        "spec": pod_spec("web:1")});
    hub.create("pods", stray).await;
    let set = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec("web:1")}}});
    let uid = hub.create("replicasets", set).await.uid().to_owned();
    hub.until("two, one of them adopted", || (hub.world.pods_owned_by(&uid).len() == 2).then_some(())).await;
    assert!(hub.world.pods_owned_by(&uid).iter().any(|pod| name(pod) == "stray"));
    hub.change("pods", "stray", |pod| pod.set(&["metadata", "labels", "app"], "other")).await;
    hub.until("released and replaced", || {
        let stray = hub.world.pod("default", "stray")?;
        let is_free = stray.metadata.owner_references.as_ref().is_none_or(Vec::is_empty);
        (is_free && hub.world.pods_owned_by(&uid).len() == 2).then_some(())
    })
    .await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_a_node_that_was_only_silent_count_again() {
    let node_health = Settings { grace: Duration::from_millis(1500), ..Settings::default() };
    let hub = Hub::start_with(&["n1", "n2", "n3"], ControllersConfig { node_health, ..Default::default() }).await;
    hub.create("deployments", deployment("web", 3)).await;
    hub.until("one each", || (hub.ready().len() == 3 && hub.ready_count() == 3).then_some(())).await;
    hub.kill_node("n2");
    hub.until("doubted", || (hub.ready_count() == 2).then_some(())).await;
    hub.alive.lock().unwrap().push("n2".to_owned());
    hub.until("trusted", || (hub.ready_count() == 3 && hub.ready().len() == 3).then_some(())).await;
    assert_eq!(hub.world.pods_in("default").len(), 3, "nothing was replaced");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_most_nodes_vanish_only_what_people_delete_goes() {
    let (grace, toleration) = (Duration::from_millis(1500), Duration::from_secs(2));
    let node_health = Settings { grace, toleration, ..Settings::default() };
    let hub = Hub::start_with(&["n1", "n2", "n3"], ControllersConfig { node_health, ..Default::default() }).await;
    hub.create("deployments", deployment("web", 3)).await;
    hub.until("one each", || (hub.ready().len() == 3 && hub.ready_count() == 3).then_some(())).await;
    let before: Vec<String> = hub.world.pods_in("default").iter().map(|pod| name(pod).to_owned()).collect();
    let unwanted = name(&hub.world.pods_on("n2")[0]).to_owned();
    hub.alive.lock().unwrap().retain(|node| node == "n1");
    hub.until("both doubted", || (hub.ready_count() == 1).then_some(())).await;
    // A look that lets go of this one would have evicted the others.
    hub.delete("pods", &unwanted, Propagation::Background).await;
    hub.until("it goes", || hub.world.pod("default", &unwanted).is_none().then_some(())).await;
    for pod in before.iter().filter(|pod| **pod != unwanted) {
        assert!(hub.world.pod("default", pod).is_some(), "{pod} was evicted");
    }
    assert!(hub.events("TaintManagerEviction").is_empty());
    hub.stop().await;
}
