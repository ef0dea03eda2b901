//! Pods in, assignments out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use protocol::ids::Digest;
use protocol::pod::{
    Access, ContainerSpec, FileContent, HookAction, HostPathKind, HttpGet, Image, ImageResolution, MountSpec, PodSpec,
    ProbeAction, RestartPolicy, Value, VolumeSource,
};
use serde_json::{Value as Json, json};

use super::{AssignError, Lookup, NodeView, assign};

struct Sources;

impl Lookup for Sources {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        let map = json!({"data": {"color": "red", "a b=": "no name"}, "binaryData": {"logo": "AAE="}});
        ((namespace, name) == ("shop", "conf")).then(|| Arc::new(serde_json::from_value(map).unwrap()))
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        let secret = json!({"data": {"password": "c2VzYW1l", "user": "Ym9i"}});
        ((namespace, name) == ("shop", "login")).then(|| Arc::new(serde_json::from_value(secret).unwrap()))
    }

    fn image(&self, pinned: &str) -> Option<Image> {
        (pinned == "web@sha256:1").then(|| Image { component: Digest([1; 32]), layers: vec![] })
    }
}

/// Told in the clear, so that tests see what was sealed.
fn seal(values: &[Vec<u8>]) -> Vec<u8> {
    values.join(&b'|')
}

fn pod(spec: &Json) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "01234567-89ab-cdef-0123-456789abcdef",
            "labels": {"app": "web"},
            "annotations": {"wherry.dev/images": "{\"c\": \"web@sha256:1\"}", "wherry.dev/instance-reuse": "50",
                            "wherry.dev/stop-when-isolated": "1m"},
        },
        "spec": spec, "status": {"podIP": "10.42.0.7"},
    }))
    .unwrap()
}

fn assigned(spec: &Json) -> PodSpec {
    let node = NodeView { address: "192.168.1.9".into(), ..NodeView::default() };
    assign(&pod(spec), &node, &Sources, &mut seal).unwrap()
}

/// The one container, `fields` added to it, and what was sealed.
fn container(fields: Json) -> (ContainerSpec, String) {
    let mut container = json!({"name": "c", "image": "web"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let volumes = json!([
        {"name": "empty", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "lost", "secret": {"secretName": "lost"}},
    ]);
    let pod = assigned(&json!({"containers": [container], "volumes": volumes}));
    let sealed = pod.sealed_secrets.map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
    (pod.containers.into_iter().next().unwrap(), sealed)
}

#[test]
fn the_pod_itself() {
    let pod = assigned(&json!({
        "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 5, "activeDeadlineSeconds": 60,
        "containers": [{"name": "c", "image": "web"}], "initContainers": [{"name": "init", "image": "other"}],
    }));
    assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.hostname.as_str()), ("shop", "web-1", "web-1"));
    assert_eq!((pod.ip, pod.restart, pod.grace_seconds), ([10, 42, 0, 7], RestartPolicy::OnFailure, 5));
    assert_eq!((pod.active_deadline_seconds, pod.stop_when_isolated_seconds), (Some(60), Some(60)));
    assert!(
        matches!(&pod.containers[0].resolution, ImageResolution::Resolved(image) if image.component == Digest([1; 32]))
    );
    assert!(
        matches!(&pod.init_containers[0].resolution, ImageResolution::Unresolved { message } if message.contains("other"))
    );
    assert_eq!((pod.containers[0].instance_reuse, pod.sealed_secrets), (50, None));
}

#[test]
fn a_pod_without_address_or_identity_is_not_told() {
    let refused = |change: &dyn Fn(&mut Pod)| {
        let mut pod = pod(&json!({"containers": [{"name": "c"}]}));
        change(&mut pod);
        assign(&pod, &NodeView::default(), &Sources, &mut seal).unwrap_err()
    };
    assert_eq!(refused(&|pod| pod.status = None), AssignError::Address);
    assert!(matches!(refused(&|pod| pod.metadata.uid = None), AssignError::Uid(_)));
    let nameless = |pod: &mut Pod| pod.spec.as_mut().unwrap().containers[0].name = "A".into();
    assert!(matches!(refused(&nameless), AssignError::ContainerName { .. }));
}

#[track_caller]
fn check_env(fields: Json, want: &[(&str, &str)], want_sealed: &str) {
    let (container, sealed) = container(fields);
    assert_eq!(container.config_error, None);
    let text = |value: &Value| match value {
        Value::Literal(text) => text.clone(),
        Value::Secret(number) => format!("#{number}"),
    };
    let found: Vec<(String, String)> = container.env.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let want: Vec<(String, String)> = want.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    assert_eq!((found, sealed.as_str()), (want, want_sealed));
}

#[test]
fn environment() {
    let from = |name: &str, source: Json| json!({"name": name, "valueFrom": source});
    check_env(
        json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]}),
        &[("A", "1"), ("B", "12")],
        "",
    );
    check_env(
        json!({"env": [
            from("NAME", json!({"fieldRef": {"fieldPath": "metadata.name"}})),
            from("IP", json!({"fieldRef": {"fieldPath": "status.podIP"}})),
            from("HOST", json!({"fieldRef": {"fieldPath": "status.hostIP"}})),
            from("COLOR", json!({"configMapKeyRef": {"name": "conf", "key": "color"}})),
            from("GONE", json!({"configMapKeyRef": {"name": "none", "key": "x", "optional": true}})),
        ]}),
        &[("NAME", "web-1"), ("IP", "10.42.0.7"), ("HOST", "192.168.1.9"), ("COLOR", "red")],
        "",
    );
    // A name that cannot be a variable's is left out; a later value wins.
    check_env(
        json!({"envFrom": [{"configMapRef": {"name": "conf"}, "prefix": "P_"}], "env": [{"name": "P_color", "value": "blue"}]}),
        &[("P_color", "blue")],
        "",
    );
}

#[test]
fn secrets_travel_sealed_wherever_they_go() {
    let password = json!({"name": "PW", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}});
    check_env(
        json!({"env": [password, {"name": "URL", "value": "db://$(PW)@host"}]}),
        &[("PW", "#0"), ("URL", "#1")],
        "sesame|db://sesame@host",
    );
    check_env(
        json!({"envFrom": [{"secretRef": {"name": "login"}}]}),
        &[("password", "#0"), ("user", "#1")],
        "sesame|bob",
    );
    let (with_args, sealed) = container(json!({
        "env": [password], "command": ["app", "run", "--key=$(PW)"], "args": ["$(NONE)"],
        "livenessProbe": {"exec": {"command": ["app", "$(PW)"]}},
    }));
    let literal = |text: &str| Value::Literal(text.into());
    assert_eq!(with_args.args, [literal("run"), Value::Secret(0), literal("$(NONE)")]);
    assert_eq!((with_args.env, sealed.as_str()), (vec![("PW".into(), Value::Secret(1))], "--key=sesame|sesame"));
    let Some(probe) = with_args.liveness else { panic!("the probe is told") };
    assert_eq!(probe.action, ProbeAction::Exec { args: vec!["$(PW)".into()] });
}

#[track_caller]
fn check_problem(fields: Json, want: &str) {
    assert_eq!(container(fields).0.config_error.as_deref(), Some(want));
}

#[test]
fn what_is_missing_is_told_as_kubernetes_does() {
    let env = |source: Json| json!({"env": [{"name": "A", "valueFrom": source}]});
    check_problem(env(json!({"configMapKeyRef": {"name": "x", "key": "k"}})), "configmap \"x\" not found");
    check_problem(env(json!({"secretKeyRef": {"name": "x", "key": "k"}})), "secret \"x\" not found");
    let key = env(json!({"configMapKeyRef": {"name": "conf", "key": "k"}}));
    check_problem(key, "couldn't find key k in ConfigMap shop/conf");
    check_problem(
        env(json!({"secretKeyRef": {"name": "login", "key": "k"}})),
        "couldn't find key k in Secret shop/login",
    );
    check_problem(json!({"envFrom": [{"secretRef": {"name": "x"}}]}), "secret \"x\" not found");
    let mount = json!({"volumeMounts": [{"name": "lost", "mountPath": "/l"}]});
    check_problem(mount, "MountVolume.SetUp failed for volume \"lost\" : secret \"lost\" not found");
    check_problem(
        json!({"livenessProbe": {"tcpSocket": {"port": "web"}}}),
        "couldn't find port \"web\" of the container",
    );
}

#[test]
fn probes_and_hooks() {
    let (container, _) = container(json!({
        "ports": [{"name": "web", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"port": "web", "path": "/ok", "httpHeaders": [{"name": "A", "value": "b"}]}, "periodSeconds": 3},
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
    }));
    let Some(probe) = container.readiness else { panic!("the probe is told") };
    let get = HttpGet { port: 8080, path: "/ok".into(), host: None, headers: vec![("A".into(), "b".into())] };
    assert_eq!(probe.action, ProbeAction::HttpGet(get));
    assert_eq!((probe.period_seconds, probe.timeout_seconds, probe.failure_threshold), (3, 1, 3));
    assert_eq!(container.pre_stop, Some(HookAction::Sleep { seconds: 2 }));
}

#[test]
fn resources_and_mounts() {
    let (container, _) = container(json!({
        "resources": {"limits": {"memory": "64Mi", "cpu": "1500m"}, "requests": {"cpu": "250m"}},
        "volumeMounts": [{"name": "empty", "mountPath": "/data"}, {"name": "conf", "mountPath": "/conf", "subPath": "dir"}],
    }));
    let resources = container.resources;
    assert_eq!((resources.memory_limit, resources.memory_request), (Some(64 << 20), Some(64 << 20)));
    assert_eq!((resources.cpu_limit_milli, resources.cpu_request_milli), (Some(1500), Some(250)));
    assert_eq!(container.mounts[0].access, Access::ReadWrite);
    assert_eq!((container.mounts[1].access, container.mounts[1].sub_path.as_str()), (Access::ReadOnly, "dir"));
}

/// `path mode content` of each file of a volume.
#[track_caller]
fn check_files(source: Json, want: &[&str]) {
    let mut volume = source.clone();
    volume["name"] = json!("v");
    let pod = assigned(&json!({"containers": [{"name": "c"}], "volumes": [volume]}));
    let VolumeSource::Files(files) = &pod.volumes[0].source else { panic!("{source} is files") };
    let text = |content: &FileContent| match content {
        FileContent::Inline(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        FileContent::Secret(number) => format!("#{number}"),
    };
    let found: Vec<String> = files.iter().map(|f| format!("{} {:o} {}", f.path, f.mode, text(&f.content))).collect();
    assert_eq!(found, want, "{source}");
}

#[test]
fn volumes_of_files() {
    check_files(
        json!({"configMap": {"name": "conf", "defaultMode": 256}}),
        &["a b= 400 no name", "color 400 red", "logo 400 \0\u{1}"],
    );
    let items = json!([{"key": "color", "path": "paint/color", "mode": 384}]);
    check_files(json!({"configMap": {"name": "conf", "items": items}}), &["paint/color 600 red"]);
    check_files(json!({"secret": {"secretName": "login"}}), &["password 644 #0", "user 644 #1"]);
    check_files(json!({"secret": {"secretName": "none", "optional": true}}), &[]);
    let labels = json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}});
    check_files(json!({"downwardAPI": {"items": [labels]}}), &["labels 644 app=\"web\""]);
    let both = json!([{"configMap": {"name": "conf", "items": items}}, {"downwardAPI": {"items": [labels]}}]);
    check_files(json!({"projected": {"sources": both}}), &["labels 644 app=\"web\"", "paint/color 600 red"]);
}

/// `volume at path: files` of each mount of one container.
#[track_caller]
fn check_mounts(mounts: Json, want: &[&str]) {
    let container = json!({"name": "c", "volumeMounts": mounts});
    let volumes =
        json!([{"name": "v", "configMap": {"name": "conf"}}, {"name": "s", "secret": {"secretName": "login"}}]);
    let pod = assigned(&json!({"containers": [container], "volumes": volumes}));
    let text = |mount: &MountSpec| {
        let volume = pod.volumes.iter().find(|volume| volume.name == mount.volume).expect("a mount's volume is told");
        let VolumeSource::Files(files) = &volume.source else { panic!("{} is files", volume.name) };
        let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        format!("{}/{} at {}: {}", mount.volume, mount.sub_path, mount.path, names.join(" "))
    };
    let found: Vec<String> = pod.containers[0].mounts.iter().map(text).collect();
    assert_eq!(found, want);
}

#[test]
fn single_files_are_mounted_by_their_directory() {
    let mount = |volume: &str, path: &str, sub: &str| json!({"name": volume, "mountPath": path, "subPath": sub});
    check_mounts(json!([mount("v", "/etc/app/paint", "color")]), &["c_0/ at /etc/app: paint"]);
    check_mounts(
        json!([
            mount("v", "/etc/app/paint", "color"),
            mount("s", "/etc/app/key/", "password"),
            mount("v", "/logo", "logo")
        ]),
        &["c_0/ at /etc/app: paint key", "c_1/ at /: logo"],
    );
    // What is no file there, and a directory that is mounted already, stay as they are.
    check_mounts(json!([mount("v", "/a", "nothing")]), &["v/nothing at /a: a b= color logo"]);
    check_mounts(
        json!([mount("v", "/etc/app", ""), mount("s", "/etc/app/key", "password")]),
        &["v/ at /etc/app: a b= color logo", "s/password at /etc/app/key: password user"],
    );
}

#[test]
fn volumes_of_the_node() {
    let pod = assigned(&json!({"containers": [], "volumes": [
        {"name": "a", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "b", "hostPath": {"path": "/srv", "type": "Directory"}},
    ]}));
    assert_eq!(pod.volumes[0].source, VolumeSource::EmptyDir { size_limit: Some(1 << 20) });
    assert_eq!(pod.volumes[1].source, VolumeSource::HostPath { path: "/srv".into(), kind: HostPathKind::Directory });
}

#[test]
fn the_same_input_gives_the_same_digest() {
    let spec = json!({
        "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "login"}}, {"configMapRef": {"name": "conf"}}]}],
        "volumes": [{"name": "v", "secret": {"secretName": "login"}}],
    });
    assert_eq!(assigned(&spec).digest(), assigned(&spec).digest());
}
