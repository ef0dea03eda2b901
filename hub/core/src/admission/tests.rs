//! What requests come to, as tables.

use serde_json::{Value, json};

use super::{DeleteOptions, Deletion, Identity, Propagation, Update, create, delete, update};
use crate::kinds::{Resource, Subresource, find};
use crate::object::Object;

const NOW: i64 = 1_700_000_000;

fn row(plural: &str) -> &'static Resource {
    find("", "v1", plural).or_else(|| find("apps", "v1", plural)).expect("the kind is in the table")
}

fn object(value: Value) -> Object {
    Object::from_value(value).expect("tests write objects")
}

fn pod(extra: Value) -> Object {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "home", "uid": "u", "resourceVersion": "7"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    json_patch::merge(&mut value, &extra);
    object(value)
}

/// A deletion in a few words: `remove`, `pending`, or what is marked.
fn told(deletion: Deletion) -> String {
    match deletion {
        Deletion::Remove => "remove".to_owned(),
        Deletion::Pending => "pending".to_owned(),
        Deletion::Mark(object) => {
            let until = object.str_at(&["metadata", "deletionTimestamp"]).and_then(crate::time::parse).unwrap_or(0);
            let grace = object.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(-1);
            let held: Vec<&str> = object.finalizers().collect();
            format!("mark +{} grace {grace} {}", until - NOW, held.join(",")).trim_end().to_owned()
        }
    }
}

#[test]
fn deletions() {
    let check = |what: &str, object: Object, options: DeleteOptions, expected: &str| {
        let deletion = delete(row("pods"), &object, &options, NOW).expect("the preconditions hold");
        assert_eq!(told(deletion), expected, "{what}");
    };
    let any = DeleteOptions::default;
    let within = |grace| DeleteOptions { grace_period_seconds: Some(grace), ..any() };
    let by = |propagation| DeleteOptions { propagation, ..any() };
    let bound = json!({"spec": {"nodeName": "pi", "terminationGracePeriodSeconds": 9}});
    check("no node runs it", pod(json!({})), any(), "remove");
    check("its own grace", pod(bound.clone()), any(), "mark +9 grace 9");
    check("the default grace", pod(json!({"spec": {"nodeName": "pi"}})), any(), "mark +30 grace 30");
    check("another grace", pod(bound.clone()), within(2), "mark +2 grace 2");
    check("a negative grace is the shortest", pod(bound.clone()), within(-5), "mark +1 grace 1");
    check("by force", pod(bound.clone()), within(0), "remove");
    check("its dependents first", pod(json!({})), by(Propagation::Foreground), "mark +0 grace 0 foregroundDeletion");
    check("its dependents stay", pod(json!({})), by(Propagation::Orphan), "mark +0 grace 0 orphan");
    let finished = json!({"spec": {"nodeName": "pi"}, "status": {"phase": "Failed"}});
    check("it has ended", pod(finished), any(), "remove");
    let held = json!({"metadata": {"finalizers": ["test/hold"]}});
    check("held", pod(held), any(), "mark +0 grace 0 test/hold");

    let mut marked = bound;
    marked["metadata"] =
        json!({"deletionTimestamp": crate::time::format(NOW - 3 + 9), "deletionGracePeriodSeconds": 9});
    check("again", pod(marked.clone()), any(), "pending");
    check("later than before", pod(marked.clone()), within(60), "pending");
    check("sooner than before", pod(marked.clone()), within(4), "mark +1 grace 4");
    check("now, after all", pod(marked), within(0), "remove");
}

#[test]
fn a_namespace_waits_for_its_content() {
    let namespace =
        object(json!({"kind": "Namespace", "metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}));
    let deletion = delete(row("namespaces"), &namespace, &DeleteOptions::default(), NOW).unwrap();
    let Deletion::Mark(marked) = deletion else { panic!("it is removed before its content") };
    assert_eq!(marked.str_at(&["status", "phase"]), Some("Terminating"));
    let mut empty = marked.clone();
    empty.set(&["spec", "finalizers"], json!([]));
    assert!(matches!(update(row("namespaces"), &marked, empty, None).unwrap(), Update::Remove(_)));
}

#[test]
fn some_namespaces_stay() {
    let default = object(json!({"kind": "Namespace", "metadata": {"name": "default"}}));
    assert_eq!(delete(row("namespaces"), &default, &DeleteOptions::default(), NOW).unwrap_err().code, 403);
}

#[test]
fn what_an_update_leaves_alone() {
    let stored = object(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7",
                     "creationTimestamp": "2023-11-14T22:13:20Z"},
    }));
    let mut wish = stored.clone();
    wish.set(&["metadata", "creationTimestamp"], "1999-01-01T00:00:00Z");
    wish.set(&["metadata", "deletionTimestamp"], "1999-01-01T00:00:00Z");
    wish.set(&["metadata", "generation"], 9);
    wish.set(&["metadata", "managedFields"], json!([{}]));
    assert_eq!(update(row("configmaps"), &stored, wish.clone(), None).unwrap(), Update::Unchanged);
    wish.set(&["data", "a"], "2");
    let Update::Write(written) = update(row("configmaps"), &stored, wish, None).unwrap() else { panic!("it differs") };
    let mut expected = stored.clone();
    expected.remove(&["metadata", "resourceVersion"]);
    expected.set(&["data", "a"], "2");
    assert_eq!(written, expected);
}

#[test]
fn a_pod_is_bound_once() {
    let bind = |stored: &Object| {
        let mut wish = stored.clone();
        wish.set(&["spec", "nodeName"], "pi");
        wish.set(&["status", "podIP"], "10.42.0.2");
        update(row("pods"), stored, wish, Some(Subresource::Binding))
    };
    let mut stored = pod(json!({}));
    (row("pods").default)(&mut stored);
    let Update::Write(bound) = bind(&stored).unwrap() else { panic!("it is bound") };
    assert_eq!(
        (bound.str_at(&["spec", "nodeName"]), bound.str_at(&["status", "podIP"])),
        (Some("pi"), Some("10.42.0.2"))
    );
    let bound_again = bind(&bound).unwrap_err();
    assert_eq!((bound_again.code, bound_again.reason), (409, "Conflict"));
    stored.set(&["metadata", "deletionTimestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(bind(&stored).unwrap_err().code, 409);
}

#[test]
fn what_the_server_writes_is_not_the_clients() {
    let identity = Identity { uid: "new", now: NOW, random: 1 };
    let wish = object(json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "mine", "generation": 7, "creationTimestamp": "x",
                     "deletionTimestamp": "x", "managedFields": [{}], "selfLink": "/x"},
    }));
    let created = create(row("configmaps"), wish, identity).unwrap();
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "n", "uid": "new", "creationTimestamp": "2023-11-14T22:13:20Z"},
    });
    assert_eq!(created.into_value(), expected);
}
