//! The verbs against the store in memory.

use std::sync::Arc;

use hub_core::kinds::{Resource, Subresource, find};
use hub_core::object::Object;
use hub_store::memory::MemoryStore;
use hub_store::{Backend, Revision};
use serde_json::{Value, json};

use super::{
    Changed, DeleteOptions, Deleted, Event, Filter, IMAGES_ANNOTATION, ImageResolver, ListOptions, Objects,
    Propagation, WriteOptions,
};
use crate::clock::{Clock, Entropy};

/// Knows the images whose name says so.
struct Known;

impl ImageResolver for Known {
    fn resolve(&self, reference: &str) -> Option<String> {
        reference.starts_with("known").then(|| format!("{reference}@sha256:{}", "0".repeat(64)))
    }
}

async fn objects() -> Objects {
    let store = Arc::new(Backend::from(MemoryStore::new()));
    let objects = Objects::new(store, Clock::manual(1_700_000_000_000), Entropy::counting(), Arc::new(Known));
    create(&objects, "namespaces", json!({"metadata": {"name": "home"}})).await;
    objects
}

fn row(plural: &str) -> &'static Resource {
    find("", "v1", plural).or_else(|| find("apps", "v1", plural)).expect("the kind is in the table")
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("tests write objects")
}

async fn create(objects: &Objects, plural: &str, value: Value) -> Object {
    objects.create(row(plural), object(value), WriteOptions::default()).await.expect("the object is created")
}

fn config(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "home"}, "data": {"a": "1"}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "home"},
           "spec": {"containers": [{"name": "main", "image": "known:1"}, {"name": "side", "image": "missing:1"}]}})
}

async fn bind(objects: &Objects, name: &str) -> Object {
    let options = WriteOptions { subresource: Some(Subresource::Binding), ..WriteOptions::default() };
    let change = |pod: &mut Object| {
        pod.set(&["spec", "nodeName"], "pi");
        pod.set(&["metadata", "labels", "ignored"], "yes");
        Ok(Changed::Yes)
    };
    objects.modify(row("pods"), "home", name, options, change).await.expect("the pod is bound")
}

#[tokio::test]
async fn a_created_object_is_what_get_and_list_say() {
    let objects = objects().await;
    let created = create(&objects, "configmaps", config("one")).await;
    assert_eq!(created.at(&["metadata", "creationTimestamp"]), Some(&json!("2023-11-14T22:13:20Z")));
    assert_eq!(created.uid().len(), 36);
    assert_ne!(created.resource_version(), 0);
    assert_eq!(objects.get(row("configmaps"), "home", "one").unwrap(), created);
    let list = objects.list(row("configmaps"), &ListOptions::default()).unwrap();
    assert_eq!((list.items, list.revision.0), (vec![created.clone()], created.resource_version()));
}

#[tokio::test]
async fn creation_is_refused_with_the_reason_that_programs_branch_on() {
    let objects = objects().await;
    create(&objects, "configmaps", config("one")).await;
    let check = async |value: Value, code: u16, reason: &str| {
        let error = objects.create(row("configmaps"), object(value), WriteOptions::default()).await.unwrap_err();
        assert_eq!((error.code, error.reason), (code, reason), "{error}");
    };
    check(config("one"), 409, "AlreadyExists").await;
    check(json!({"metadata": {"name": "x", "namespace": "away"}}), 404, "NotFound").await;
    check(json!({"kind": "Secret", "metadata": {"name": "x", "namespace": "home"}}), 400, "BadRequest").await;
    check(json!({"metadata": {"name": "x", "namespace": "home", "resourceVersion": "7"}}), 400, "BadRequest").await;
    check(json!({"metadata": 3}), 422, "Invalid").await;
    let mark = |namespace: &mut Object| {
        namespace.set(&["metadata", "finalizers"], json!(["test/hold"]));
        Ok(Changed::Yes)
    };
    objects.modify(row("namespaces"), "", "home", WriteOptions::default(), mark).await.unwrap();
    objects.delete(row("namespaces"), "", "home", DeleteOptions::default()).await.unwrap();
    check(config("two"), 403, "Forbidden").await;
}

#[tokio::test]
async fn names_are_generated_until_one_is_free() {
    let objects = objects().await;
    let value = json!({"metadata": {"generateName": "job-", "namespace": "home"}});
    let (one, two) = (create(&objects, "configmaps", value.clone()).await, create(&objects, "configmaps", value).await);
    assert!(one.name().starts_with("job-") && one.name().len() == 9, "{}", one.name());
    assert_ne!(one.name(), two.name());
}

#[tokio::test]
async fn a_dry_run_answers_and_writes_nothing() {
    let objects = objects().await;
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let before = objects.revision();
    let answer = objects.create(row("configmaps"), object(config("one")), dry.clone()).await.unwrap();
    assert_eq!((answer.name(), answer.resource_version()), ("one", 0));
    assert_eq!(objects.revision(), before);
    create(&objects, "configmaps", config("one")).await;
    let error = objects.create(row("configmaps"), object(config("one")), dry).await.unwrap_err();
    assert_eq!(error.reason, "AlreadyExists");
    let options = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    objects.delete(row("configmaps"), "home", "one", options).await.unwrap();
    objects.get(row("configmaps"), "home", "one").expect("it is still there");
}

#[tokio::test]
async fn an_update_needs_the_version_that_it_was_made_from() {
    let objects = objects().await;
    let first = create(&objects, "configmaps", config("one")).await;
    let mut next = first.clone();
    next.set(&["data", "a"], "2");
    let second = objects.update(row("configmaps"), next.clone(), WriteOptions::default()).await.unwrap();
    assert!(second.resource_version() > first.resource_version());
    let error = objects.update(row("configmaps"), next, WriteOptions::default()).await.unwrap_err();
    assert_eq!((error.code, error.reason), (409, "Conflict"));
    let mut blind = second.clone();
    blind.remove(&["metadata", "resourceVersion"]);
    blind.set(&["data", "a"], "3");
    let third = objects.update(row("configmaps"), blind.clone(), WriteOptions::default()).await.unwrap();
    let same = objects.update(row("configmaps"), blind, WriteOptions::default()).await.unwrap();
    assert_eq!(same.resource_version(), third.resource_version(), "what changes nothing is not written");
}

#[tokio::test]
async fn a_subresource_changes_its_part_only() {
    let objects = objects().await;
    let value = json!({"metadata": {"name": "web", "namespace": "home"}, "status": {"replicas": 9},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
                 "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let created = create(&objects, "deployments", value).await;
    assert_eq!(created.at(&["status", "replicas"]), None, "a status is not the creator's to say");
    assert_eq!(created.generation(), 1);
    let change = |subresource| {
        let options = WriteOptions { subresource, ..WriteOptions::default() };
        let objects = objects.clone();
        async move {
            let change = |object: &mut Object| {
                object.set(&["metadata", "labels", "new"], "yes");
                object.set(&["spec", "replicas"], 5);
                object.set(&["status", "replicas"], 5);
                Ok(Changed::Yes)
            };
            objects.modify(row("deployments"), "home", "web", options, change).await.unwrap()
        }
    };
    let seen = |object: &Object| {
        let replicas = |part: &str| object.i64_at(&[part, "replicas"]);
        (object.label("new").is_some(), replicas("spec"), replicas("status"), object.generation())
    };
    assert_eq!(seen(&change(Some(Subresource::Status)).await), (false, Some(1), Some(5), 1));
    assert_eq!(seen(&change(Some(Subresource::Scale)).await), (false, Some(5), Some(5), 2));
    assert_eq!(seen(&change(None).await), (true, Some(5), Some(5), 2));
}

#[tokio::test]
async fn what_has_finalizers_goes_with_the_last_one() {
    let objects = objects().await;
    let mut value = config("held");
    value["metadata"]["finalizers"] = json!(["test/hold"]);
    create(&objects, "configmaps", value).await;
    let options = DeleteOptions { propagation: Propagation::Foreground, ..DeleteOptions::default() };
    let Deleted::Marked(marked) = objects.delete(row("configmaps"), "home", "held", options).await.unwrap() else {
        panic!("finalizers hold it back")
    };
    assert_eq!(marked.finalizers().collect::<Vec<_>>(), ["test/hold", "foregroundDeletion"]);
    let release = |object: &mut Object| {
        object.remove(&["metadata", "finalizers"]);
        Ok(Changed::Yes)
    };
    objects.modify(row("configmaps"), "home", "held", WriteOptions::default(), release).await.unwrap();
    assert_eq!(objects.get(row("configmaps"), "home", "held").unwrap_err().code, 404);
}

#[tokio::test]
async fn a_bound_pod_gets_its_grace_and_others_go_at_once() {
    let objects = objects().await;
    create(&objects, "pods", pod("waiting")).await;
    let gone = objects.delete(row("pods"), "home", "waiting", DeleteOptions::default()).await.unwrap();
    assert!(matches!(gone, Deleted::Gone(_)));

    create(&objects, "pods", pod("running")).await;
    let bound = bind(&objects, "running").await;
    assert_eq!((bound.str_at(&["spec", "nodeName"]), bound.label("ignored")), (Some("pi"), None));
    let delete = |grace: Option<i64>| {
        let options = DeleteOptions { grace_period_seconds: grace, ..DeleteOptions::default() };
        let objects = objects.clone();
        async move {
            match objects.delete(row("pods"), "home", "running", options).await.unwrap() {
                Deleted::Marked(pod) => pod.i64_at(&["metadata", "deletionGracePeriodSeconds"]),
                Deleted::Gone(_) => None,
            }
        }
    };
    assert_eq!(delete(None).await, Some(30));
    assert_eq!(delete(Some(60)).await, Some(30), "a deadline never moves away");
    assert_eq!(delete(Some(5)).await, Some(5));
    assert_eq!(delete(Some(0)).await, None, "the node confirms");
    assert_eq!(objects.get(row("pods"), "home", "running").unwrap_err().code, 404);
}

#[tokio::test]
async fn preconditions_hold_or_nothing_is_deleted() {
    let objects = objects().await;
    let one = create(&objects, "configmaps", config("one")).await;
    let wrong = [
        DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() },
        DeleteOptions { resource_version: Some(1), ..DeleteOptions::default() },
    ];
    for options in wrong {
        let error = objects.delete(row("configmaps"), "home", "one", options).await.unwrap_err();
        assert_eq!((error.code, error.reason), (409, "Conflict"));
    }
    let right = DeleteOptions { uid: Some(one.uid().into()), ..DeleteOptions::default() };
    objects.delete(row("configmaps"), "home", "one", right).await.unwrap();
}

#[tokio::test]
async fn an_image_keeps_the_meaning_it_had_when_the_pod_was_made() {
    let objects = objects().await;
    let created = create(&objects, "pods", pod("one")).await;
    let pinned = |pod: &Object| -> Value { serde_json::from_str(pod.annotation(IMAGES_ANNOTATION).unwrap()).unwrap() };
    let digest = "0".repeat(64);
    assert_eq!(pinned(&created), json!({"main": format!("known:1@sha256:{digest}")}));
    let change = |pod: &mut Object| {
        pod.remove(&["metadata", "annotations"]);
        pod.set(&["metadata", "labels", "a"], "b");
        Ok(Changed::Yes)
    };
    let changed = objects.modify(row("pods"), "home", "one", WriteOptions::default(), change).await.unwrap();
    assert_eq!(pinned(&changed), pinned(&created));
}

#[tokio::test]
async fn a_list_in_pages_holds_everything_once() {
    let objects = objects().await;
    for n in 0..7 {
        let value = json!({"metadata": {"name": format!("c{n}"), "namespace": "home", "labels": {"even": (n % 2 == 0).to_string()}}});
        create(&objects, "configmaps", value).await;
    }
    let check = |filter: Filter, limit: usize, pages: &[&[&str]]| {
        let mut options = ListOptions { filter, limit, ..ListOptions::default() };
        for (at, page) in pages.iter().enumerate() {
            let list = objects.list(row("configmaps"), &options).unwrap();
            let names: Vec<&str> = list.items.iter().map(Object::name).collect();
            assert_eq!(names, *page);
            assert_eq!(list.resume.is_some(), at + 1 < pages.len(), "page {at}");
            options.resume = list.resume;
        }
    };
    let even = || Filter::new(|object| object.label("even") == Some("true"));
    check(Filter::all(), 0, &[&["c0", "c1", "c2", "c3", "c4", "c5", "c6"]]);
    check(Filter::all(), 3, &[&["c0", "c1", "c2"], &["c3", "c4", "c5"], &["c6"]]);
    check(even(), 2, &[&["c0", "c2"], &["c4", "c6"]]);
    check(even(), 3, &[&["c0", "c2", "c4"], &["c6"]]);
}

#[tokio::test]
async fn a_watch_sees_objects_come_into_its_filter_and_leave_it() {
    let objects = objects().await;
    let filter = Filter::new(|object| object.label("on").is_some());
    let mut watch = objects.watch(row("configmaps"), Some("home"), filter, objects.revision()).unwrap();
    create(&objects, "configmaps", config("one")).await;
    for on in [json!("1"), json!("2"), Value::Null] {
        let change = |object: &mut Object| {
            object.remove(&["metadata", "labels"]);
            if !on.is_null() {
                object.set(&["metadata", "labels", "on"], on.clone());
            }
            Ok(Changed::Yes)
        };
        objects.modify(row("configmaps"), "home", "one", WriteOptions::default(), change).await.unwrap();
    }
    objects.delete(row("configmaps"), "home", "one", DeleteOptions::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(watch.next().await.unwrap().into_iter().map(|event| match event {
            Event::Added(object) => ("added", object.label("on").map(str::to_owned)),
            Event::Modified(object) => ("modified", object.label("on").map(str::to_owned)),
            Event::Deleted(object) => ("deleted", object.label("on").map(str::to_owned)),
        }));
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(seen, [("added", text("1")), ("modified", text("2")), ("deleted", text("2"))]);
}

#[tokio::test]
async fn a_watch_from_the_future_is_told_to_wait() {
    let objects = objects().await;
    let error = objects.watch(row("pods"), None, Filter::all(), Revision(1 << 40)).err().expect("it is refused");
    assert_eq!(error.code, 504);
}
