use serde_json::{Value, json};

use crate::object::Object;
use crate::patch::{PatchKind, apply};
use crate::schema::of_kind;

#[track_caller]
fn check_kind(kind: (&str, &str), object: Value, patch: Value, answer: Result<Value, &str>) {
    let type_ = of_kind(kind.0, kind.1).unwrap();
    let object = Object::from_value(object).unwrap();
    let patched = apply(PatchKind::Strategic, &object, patch.clone(), Some(type_));
    let patched = patched.map(Object::into_value).map_err(|error| error.to_string());
    assert_eq!(patched, answer.map_err(str::to_owned), "{patch}");
}

#[track_caller]
fn check(object: Value, patch: Value, answer: Value) {
    check_kind(("v1", "Pod"), object, patch, Ok(answer));
}

/// The same with everything below `spec`.
#[track_caller]
fn check_spec(object: Value, patch: Value, answer: Value) {
    check(json!({ "spec": object }), json!({ "spec": patch }), json!({ "spec": answer }));
}

#[track_caller]
fn check_error(object: Value, patch: Value, error: &str) {
    check_kind(("v1", "Pod"), json!({ "spec": object }), json!({ "spec": patch }), Err(error));
}

#[test]
fn objects_merge() {
    check_spec(json!({"nodeName": "a"}), json!({"hostname": "b"}), json!({"nodeName": "a", "hostname": "b"}));
    check_spec(json!({"nodeName": "a"}), json!({"nodeName": null}), json!({}));
    check_spec(json!({}), json!({"nodeName": null}), json!({}));
    check_spec(json!({"nodeName": "a"}), json!({"nodeName": {"x": null, "y": 1}}), json!({"nodeName": {"y": 1}}));
    check(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
        json!({"metadata": {"labels": {"a": null, "c": "3"}, "annotations": {"x": "y"}}}),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}, "annotations": {"x": "y"}}}),
    );
    check(
        json!({"unknown": {"a": 1, "l": [1]}}),
        json!({"unknown": {"b": 2, "l": [2]}}),
        json!({"unknown": {"a": 1, "l": [2], "b": 2}}),
    );
}

#[test]
fn objects_are_replaced_and_deleted() {
    check_spec(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"$patch": "replace", "fsGroup": 2}}),
        json!({"securityContext": {"fsGroup": 2}}),
    );
    check_spec(
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"$patch": "delete"}}),
        json!({"securityContext": {}}),
    );
    check_spec(json!({}), json!({"securityContext": {"$patch": "delete"}}), json!({}));
    check_spec(
        json!({}),
        json!({"securityContext": {"$patch": "merge", "runAsUser": 1}}),
        json!({"securityContext": {"runAsUser": 1}}),
    );
    check(json!({"a": 1, "spec": {}}), json!({"$patch": "replace", "b": 2}), json!({"b": 2}));
    check_error(json!({"x": {}}), json!({"$patch": "explode"}), "unknown patch type found: explode");
    check_error(json!({"x": {}}), json!({"$patch": 1}), "unknown patch type found: 1");
}

#[test]
fn atomic_lists_are_replaced() {
    check_spec(
        json!({"tolerations": [{"key": "a"}]}),
        json!({"tolerations": [{"key": "b"}]}),
        json!({"tolerations": [{"key": "b"}]}),
    );
    check_spec(
        json!({"containers": [{"name": "a", "command": ["x", "y"]}]}),
        json!({"containers": [{"name": "a", "command": ["z"]}]}),
        json!({"containers": [{"name": "a", "command": ["z"]}]}),
    );
}

#[test]
fn keyed_lists_merge() {
    check_spec(
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
        json!({"containers": [{"name": "b", "image": "2"}]}),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
    );
    // A new item goes before those that the patch does not tell of.
    check_spec(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"name": "b", "stdin": null}]}),
        json!({"containers": [{"name": "b"}, {"name": "a"}]}),
    );
    check_spec(
        json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}], "ports": [{"containerPort": 80}]}]}),
        json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}],
                               "ports": [{"containerPort": 80, "name": "http"}]}]}),
        json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}],
                               "ports": [{"containerPort": 80, "name": "http"}]}]}),
    );
    check_spec(
        json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}),
        json!({"containers": [{"name": "a", "env": [{"name": "X", "value": null, "valueFrom": {"fieldRef": {"fieldPath": "f"}}}]}]}),
        json!({"containers": [{"name": "a", "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "f"}}}]}]}),
    );
    check_spec(json!({}), json!({"containers": [{"name": "a"}]}), json!({"containers": [{"name": "a"}]}));
    check_spec(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": []}),
        json!({"containers": [{"name": "a"}]}),
    );
    check_spec(json!({"containers": [{"name": "a"}]}), json!({"containers": null}), json!({}));
    check(
        json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}]}}),
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x"}, {"type": "New", "status": "True"}]}}),
    );
}

#[test]
fn items_are_deleted_and_lists_replaced() {
    check_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
    check_spec(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"name": "x", "$patch": "delete"}, {"name": "b"}]}),
        json!({"containers": [{"name": "b"}, {"name": "a"}]}),
    );
    check_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "c"}, {"$patch": "replace"}]}),
        json!({"containers": [{"name": "c"}]}),
    );
    check_spec(
        json!({"containers": [{"name": "a", "image": "1", "tty": true}]}),
        json!({"containers": [{"$patch": "replace"}, {"name": "a", "image": "2"}]}),
        json!({"containers": [{"name": "a", "image": "2"}]}),
    );
    check_spec(json!({}), json!({"containers": [{"name": "a", "$patch": "delete"}]}), json!({"containers": []}));
}

#[test]
fn sets_merge() {
    let check = |before: Value, patch: Value, after: Value| {
        check(
            json!({ "metadata": { "finalizers": before } }),
            json!({ "metadata": patch }),
            json!({ "metadata": { "finalizers": after } }),
        );
    };
    check(json!(["a"]), json!({"finalizers": ["b"]}), json!(["b", "a"]));
    check(json!(["a", "b"]), json!({"finalizers": ["b"]}), json!(["a", "b"]));
    check(json!(["a", "b"]), json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), json!(["b"]));
    check(
        json!(["a", "b"]),
        json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}),
        json!(["c", "b"]),
    );
    check(json!(["a", "b", "c"]), json!({"$setElementOrder/finalizers": ["c", "a"]}), json!(["b", "c", "a"]));
}

#[test]
fn lists_are_put_in_order() {
    check_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}),
    );
    // What kubectl apply sends for a changed image beside a container that something injected.
    check_spec(
        json!({"containers": [{"name": "web", "image": "1"}, {"name": "injected"}]}),
        json!({"$setElementOrder/containers": [{"name": "web"}], "containers": [{"name": "web", "image": "2"}]}),
        json!({"containers": [{"name": "web", "image": "2"}, {"name": "injected"}]}),
    );
    check_spec(
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "n"}, {"name": "b"}],
               "containers": [{"name": "n"}, {"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "n"}, {"name": "b"}]}),
    );
    check_spec(json!({}), json!({"$setElementOrder/containers": [{"name": "a"}]}), json!({}));
    check_error(
        json!({}),
        json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "b"}, {"name": "a"}]}),
        "invalid patch at spec.containers: the order in patch list doesn't match $setElementOrder list",
    );
    check_error(
        json!({}),
        json!({"$setElementOrder/containers": 1}),
        "invalid patch at spec.containers: $setElementOrder must be a list",
    );
}

#[test]
fn keys_are_retained() {
    let deployment = ("apps/v1", "Deployment");
    let before = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    check_kind(
        deployment,
        before.clone(),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})),
    );
    check_kind(
        deployment,
        before.clone(),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null}}}),
        Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})),
    );
    check_kind(
        deployment,
        before.clone(),
        json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}}),
        Err("invalid patch at spec.strategy: the $retainKeys list doesn't contain the patch's field \"type\""),
    );
    check_kind(
        deployment,
        before,
        json!({"spec": {"strategy": {"$retainKeys": true}}}),
        Err("invalid patch at spec.strategy: $retainKeys must be a list"),
    );
    check_spec(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    );
}

#[test]
fn services_merge_ports() {
    check_kind(
        ("v1", "Service"),
        json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}),
        json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}}),
        Ok(json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}]}})),
    );
}

#[test]
fn bad_patches_are_errors() {
    check_error(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"image": "x"}]}),
        "invalid patch at spec.containers: map does not contain declared merge key: name",
    );
    check_error(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": ["x"]}),
        "invalid patch at spec.containers: list items must be objects",
    );
    check_error(
        json!({}),
        json!({"$deleteFromPrimitiveList/x": "y"}),
        "invalid patch at spec.$deleteFromPrimitiveList/x: $deleteFromPrimitiveList must be a list",
    );
    check_kind(("v1", "Pod"), json!({}), json!([]), Err("patch must be a JSON object"));
    let deep = |leaf: Value| (0..100).fold(leaf, |inner, _| json!({ "a": inner }));
    assert!(
        apply(
            PatchKind::Strategic,
            &Object::from_value(deep(json!({}))).unwrap(),
            deep(json!({"b": 1})),
            of_kind("v1", "Pod")
        )
        .is_err()
    );
}

/// Merging is not quadratic: this would take most of a minute if it were.
#[test]
fn long_lists_merge() {
    let env =
        |value: &str| -> Value { (0..10_000).map(|i| json!({"name": format!("N{i}"), "value": value})).collect() };
    let names: Value = (0..10_000).map(|i| json!(format!("a.b/{i}"))).collect();
    let pod = |value: &str| json!({"metadata": {"finalizers": names}, "spec": {"containers": [{"name": "c", "env": env(value)}]}});
    check(pod("1"), pod("2"), pod("2"));
    let labels =
        |value: Value| -> serde_json::Map<_, _> { (0..10_000).map(|i| (format!("l{i}"), value.clone())).collect() };
    check(
        json!({"metadata": {"labels": labels(json!("x"))}}),
        json!({"metadata": {"labels": labels(Value::Null)}}),
        json!({"metadata": {"labels": {}}}),
    );
}
