//! What Kubernetes fills in of a pod, so that a round trip through `kubectl diff` is empty.
//!
//! [`spec`] holds for pods and templates; [`pod`] adds what Kubernetes' admission gives to pods alone.

use serde_json::{Map, Value, json};

use crate::kinds::fill::{
    canonical_quantities, canonical_quantity, each, fill, fill_text, is_absent, object, object_or_new, spec as spec_of,
};
use crate::object::Object;

/// Design section 4: pods of a lost node move after 30 s (Kubernetes: 300 s).
const TOLERATION_SECONDS: i64 = 30;
const LOST_NODE_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

const GRACE_SECONDS: i64 = 30;
/// 0644
const FILE_MODE: i64 = 420;
const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

pub(super) fn pod(object: &mut Object) {
    let Some(map) = spec_of(object) else { return };
    for list in CONTAINER_LISTS {
        for container in each(map, list) {
            requests_from_limits(container);
        }
    }
    spec(map);
    fill(map, "enableServiceLinks", true);
    fill(map, "priority", 0);
    fill_text(map, "preemptionPolicy", "PreemptLowerPriority");
    service_account(map);
    tolerations(map, TOLERATION_SECONDS);
}

/// Defaults of a pod's spec wherever it stands.
pub(in crate::kinds) fn spec(map: &mut Map<String, Value>) {
    fill_text(map, "dnsPolicy", "ClusterFirst");
    fill_text(map, "restartPolicy", "Always");
    fill(map, "securityContext", json!({}));
    fill(map, "terminationGracePeriodSeconds", GRACE_SECONDS);
    fill_text(map, "schedulerName", "default-scheduler");
    for list in CONTAINER_LISTS {
        for each in each(map, list) {
            container(each);
        }
    }
    for each in each(map, "volumes") {
        volume(each);
    }
}

/// A limit without a request asks for as much.
fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = object(container, "resources") else { return };
    let Some(limits) = object(resources, "limits").map(|limits| limits.clone()) else { return };
    let Some(requests) = object_or_new(resources, "requests") else { return };
    for (name, amount) in limits {
        if is_absent(requests, &name) {
            requests.insert(name, amount);
        }
    }
}

/// The old name of the field mirrors the new one.
fn service_account(map: &mut Map<String, Value>) {
    let given = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|field| map.get(*field).and_then(Value::as_str).filter(|name| !name.is_empty()))
        .unwrap_or("default")
        .to_owned();
    fill_text(map, "serviceAccountName", &given);
    fill_text(map, "serviceAccount", &given);
}

/// What a new pod tolerates of a lost node, where it does not say: `seconds`, as the hub is configured.
/// Before the other defaults, which then leave it alone.
pub fn tolerate_lost_node(pod: &mut Object, seconds: i64) {
    if let Some(spec) = pod.as_map_mut().get_mut("spec").and_then(Value::as_object_mut) {
        tolerations(spec, seconds);
    }
}

fn tolerations(map: &mut Map<String, Value>, seconds: i64) {
    fill(map, "tolerations", json!([]));
    let Some(list) = map.get_mut("tolerations").and_then(Value::as_array_mut) else { return };
    for taint in LOST_NODE_TAINTS {
        let tolerated = list.iter().any(|toleration| {
            let key = toleration["key"].as_str().unwrap_or_default();
            let effect = toleration["effect"].as_str().unwrap_or_default();
            (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        });
        if !tolerated {
            list.push(json!({
                "effect": "NoExecute", "key": taint, "operator": "Exists", "tolerationSeconds": seconds,
            }));
        }
    }
}

fn container(map: &mut Map<String, Value>) {
    if let Some(policy) = map.get("image").and_then(Value::as_str).map(pull_policy) {
        fill_text(map, "imagePullPolicy", policy);
    }
    fill_text(map, "terminationMessagePath", "/dev/termination-log");
    fill_text(map, "terminationMessagePolicy", "File");
    if let Some(resources) = object_or_new(map, "resources") {
        canonical_quantities(resources, "limits");
        canonical_quantities(resources, "requests");
    }
    for port in each(map, "ports") {
        fill_text(port, "protocol", "TCP");
    }
    for variable in each(map, "env") {
        if let Some(source) = object(variable, "valueFrom") {
            references(source);
        }
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(each) = object(map, field) {
            probe(each);
        }
    }
    if let Some(lifecycle) = object(map, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(each) = object(lifecycle, hook) {
                handler(each);
            }
        }
    }
}

/// `:latest`, said or meant, may change at any time; every other tag, and a digest, stays.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.split_once(':').map(|(_, tag)| tag), digest) {
        (Some("latest"), _) | (None, None) => "Always",
        (Some(_), _) | (None, Some(_)) => "IfNotPresent",
    }
}

fn probe(map: &mut Map<String, Value>) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if map.get(field).is_none_or(|v| v.is_null() || *v == json!(0)) {
            map.insert(field.to_owned(), json!(value));
        }
    }
    if let Some(grpc) = object(map, "grpc") {
        fill(grpc, "service", "");
    }
    handler(map);
}

fn handler(map: &mut Map<String, Value>) {
    if let Some(get) = object(map, "httpGet") {
        fill_text(get, "path", "/");
        fill_text(get, "scheme", "HTTP");
    }
}

/// References to the pod's own fields.
fn references(map: &mut Map<String, Value>) {
    if let Some(field) = object(map, "fieldRef") {
        fill_text(field, "apiVersion", "v1");
    }
    if let Some(field) = object(map, "resourceFieldRef") {
        fill(field, "divisor", "0");
        canonical_quantity(field, "divisor");
    }
}

fn volume(map: &mut Map<String, Value>) {
    let sourceless = map.iter().all(|(field, value)| field == "name" || value.is_null());
    if sourceless {
        map.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(empty) = object(map, "emptyDir") {
        canonical_quantity(empty, "sizeLimit");
    }
    if let Some(host) = object(map, "hostPath") {
        fill(host, "type", "");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(files) = object(map, source) {
            fill(files, "defaultMode", FILE_MODE);
            projections(files);
        }
    }
}

fn projections(map: &mut Map<String, Value>) {
    each(map, "items").for_each(references);
    for source in each(map, "sources") {
        if let Some(downward) = object(source, "downwardAPI") {
            each(downward, "items").for_each(references);
        }
        if let Some(token) = object(source, "serviceAccountToken") {
            fill(token, "expirationSeconds", 3600);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{pod, pull_policy};
    use crate::object::Object;

    fn defaulted(spec: Value) -> Object {
        let mut object = Object::from_value(json!({"spec": spec})).unwrap();
        pod(&mut object);
        object
    }

    #[test]
    fn a_small_pod_is_filled_in() {
        let want = json!({
            "containers": [{
                "name": "a", "image": "web", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {},
            }],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
            "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
            "serviceAccountName": "default", "serviceAccount": "default",
            "tolerations": [
                {"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 30},
                {"effect": "NoExecute", "key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 30},
            ],
        });
        let object = defaulted(json!({"containers": [{"name": "a", "image": "web"}]}));
        assert_eq!(object.at(&["spec"]), Some(&want));
    }

    /// The container's field after defaulting.
    #[track_caller]
    fn check(container: Value, field: &str, want: Value) {
        let object = defaulted(json!({"containers": [container]}));
        assert_eq!(object.at(&["spec"]).unwrap()["containers"][0][field], want, "{field}");
    }

    #[test]
    fn containers() {
        check(
            json!({"resources": {"limits": {"cpu": 1, "memory": "1024Ki"}, "requests": {"cpu": "0.5"}}}),
            "resources",
            json!({"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "500m", "memory": "1Mi"}}),
        );
        check(json!({"ports": [{"containerPort": 80}]}), "ports", json!([{"containerPort": 80, "protocol": "TCP"}]));
        check(
            json!({"livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 0}}),
            "livenessProbe",
            json!({
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
            }),
        );
        check(
            json!({"lifecycle": {"preStop": {"httpGet": {"port": "web"}}}}),
            "lifecycle",
            json!({"preStop": {"httpGet": {"port": "web", "path": "/", "scheme": "HTTP"}}}),
        );
        check(
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                           {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}),
            "env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}},
                   {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}]),
        );
    }

    #[test]
    fn volumes() {
        let object = defaulted(json!({"volumes": [
            {"name": "a"}, {"name": "b", "configMap": {"name": "c"}}, {"name": "d", "hostPath": {"path": "/data"}},
            {"name": "e", "projected": {"sources": [{"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
        ]}));
        assert_eq!(
            object.at(&["spec", "volumes"]),
            Some(&json!([
                {"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "c", "defaultMode": 420}},
                {"name": "d", "hostPath": {"path": "/data", "type": ""}},
                {"name": "e", "projected": {"sources": [{"downwardAPI": {"items": [
                    {"path": "n", "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}]}}], "defaultMode": 420}},
            ]))
        );
    }

    #[test]
    fn own_tolerations_and_accounts_stay() {
        let tolerant = defaulted(json!({"tolerations": [{"operator": "Exists"}], "serviceAccount": "cam"}));
        assert_eq!(tolerant.at(&["spec", "tolerations"]), Some(&json!([{"operator": "Exists"}])));
        assert_eq!(tolerant.str_at(&["spec", "serviceAccountName"]), Some("cam"));
    }

    #[test]
    fn pull_policies_follow_the_tag() {
        for (image, policy) in [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("hub:5000/web", "Always"),
            ("web:1", "IfNotPresent"),
            ("hub:5000/web:1", "IfNotPresent"),
            ("web@sha256:ab", "IfNotPresent"),
            ("web:latest@sha256:ab", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn what_is_no_pod_does_not_panic() {
        for odd in [
            json!(null),
            json!(1),
            json!({"containers": 1}),
            json!({"containers": [1, {"resources": []}]}),
            json!({"volumes": [{}]}),
        ] {
            defaulted(odd);
        }
    }
}
