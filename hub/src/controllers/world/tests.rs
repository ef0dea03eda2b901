use hub_store::memory::MemoryStore;
use hub_store::{Expect, Op, Write};
use serde_json::json;

use super::*;

/// Longer than anything takes here, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(20);

struct Fixture {
    store: Arc<MemoryStore>,
    world: Arc<World>,
    stop: CancellationToken,
}

impl Fixture {
    /// A store with these entries, and a world that follows it.
    async fn with(entries: &[(&str, Value)]) -> Self {
        let fixture = Self { store: Arc::new(MemoryStore::new()), world: World::new(), stop: CancellationToken::new() };
        for (key, value) in entries {
            fixture.put(key, value.clone()).await;
        }
        let (world, store, stop) = (fixture.world.clone(), fixture.store.clone(), fixture.stop.clone());
        tokio::spawn(async move { world.follow(store, stop).await });
        within(fixture.world.synced()).await;
        fixture
    }

    /// Writes, and waits for the world to show it.
    async fn put(&self, key: &str, value: Value) {
        let value = value.to_string().into_bytes();
        self.commit(Op::Put { key: key.to_owned(), value, expect: Expect::Anything }).await;
    }

    async fn delete(&self, key: &str) {
        self.commit(Op::Delete { key: key.to_owned(), expect: Expect::Anything }).await;
    }

    async fn commit(&self, op: Op) {
        let revision = self.store.commit(vec![op], Write::Relaxed).await.unwrap();
        if self.world.is_synced() {
            within(self.world.reached(revision)).await;
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}

fn pod(name: &str, node: &str, owner: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "home", "uid": name, "managedFields": [{}], "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": owner, "controller": true}]},
        "spec": {"nodeName": node, "containers": []}})
}

fn names(pods: Vec<Arc<Pod>>) -> Vec<String> {
    pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
}

#[tokio::test]
async fn what_the_store_holds_is_found_by_every_index() {
    let set = json!({"metadata": {"name": "r", "namespace": "home", "uid": "o"}, "spec": {"selector": {}}});
    let entries = [
        ("/core/pods/home/a", pod("a", "n1", "o")),
        ("/core/pods/homestead/b", pod("b", "n1", "p")),
        ("/apps/replicasets/home/r", set),
        ("/wherry/secret", json!({"not": "an object"})),
    ];
    let fixture = Fixture::with(&entries).await;
    let world = &fixture.world;
    assert_eq!(names(world.pods_on("n1")), ["a", "b"]);
    assert_eq!(names(world.pods_in("home")), ["a"], "homestead is another namespace");
    assert_eq!(names(world.pods_owned_by("o")), ["a"]);
    assert!(world.replica_set("home", "r").is_some() && world.by_uid("o").is_some());
    assert_eq!(world.in_namespace("home").len(), 2);
    assert_eq!(world.everything().len(), 3);
    let metadata = &world.pod("home", "a").unwrap().metadata;
    assert_eq!((metadata.resource_version.as_deref(), &metadata.managed_fields), (Some("1"), &None));
}

#[tokio::test]
async fn changes_move_objects_between_indexes() {
    let fixture = Fixture::with(&[("/core/pods/home/a", pod("a", "", "o"))]).await;
    let world = &fixture.world;
    assert!(world.pods_on("n1").is_empty());
    fixture.put("/core/pods/home/a", pod("a", "n1", "p")).await;
    assert_eq!(names(world.pods_on("n1")), ["a"]);
    assert!(world.pods_owned_by("o").is_empty());
    fixture.delete("/core/pods/home/a").await;
    assert!(world.pods_on("n1").is_empty() && world.pods_owned_by("p").is_empty());
    assert!(world.by_uid("a").is_none() && world.everything().is_empty());
}

#[tokio::test]
async fn subscribers_are_told_what_was_and_what_is() {
    let fixture = Fixture::with(&[]).await;
    let mut notices = fixture.world.subscribe();
    fixture.put("/core/pods/home/a", pod("a", "", "o")).await;
    fixture.delete("/core/pods/home/a").await;
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Some(Notice::Changed(changed)) = within(notices.next()).await {
            told.push((changed.name.to_string(), changed.before.is_some(), changed.now.is_some()));
        }
    }
    assert_eq!(told, [("a".to_owned(), false, true), ("a".to_owned(), true, false)]);
}

#[tokio::test]
async fn a_subscriber_that_lags_is_told_to_look_at_everything() {
    let fixture = Fixture::with(&[]).await;
    let mut notices = fixture.world.subscribe();
    for at in 0..=NOTICES {
        fixture.put("/core/pods/home/a", pod("a", &format!("n{at}"), "o")).await;
    }
    assert!(matches!(within(notices.next()).await, Some(Notice::Resync)));
}

#[tokio::test]
async fn an_object_that_does_not_fit_its_kind_keeps_its_metadata() {
    let odd = json!({"metadata": {"name": "odd", "namespace": "home", "uid": "u"}, "spec": {"containers": "none"}});
    let fixture = Fixture::with(&[("/core/pods/home/odd", odd)]).await;
    assert!(fixture.world.pods().is_empty());
    assert_eq!(fixture.world.by_uid("u").map(|record| record.name().to_owned()), Some("odd".to_owned()));
}

#[tokio::test]
async fn a_history_that_is_gone_is_listed_again() {
    let fixture = Fixture::with(&[("/core/pods/home/a", pod("a", "", "o"))]).await;
    let mut notices = fixture.world.subscribe();
    // Jumping forward compacts everything: the watch ends, and the world starts over.
    let at = fixture.store.advance(Revision(1_000)).await.unwrap();
    within(async { while !matches!(notices.next().await, Some(Notice::Resync) | None) {} }).await;
    within(fixture.world.reached(at)).await;
    assert_eq!(names(fixture.world.pods()), ["a"]);
    fixture.put("/core/pods/home/b", pod("b", "", "o")).await;
    assert_eq!(names(fixture.world.pods()), ["a", "b"]);
}
