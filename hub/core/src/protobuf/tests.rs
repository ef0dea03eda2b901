use proptest::prelude::*;
use serde_json::{Value, json};

use super::{MAGIC, ProtobufError, decode};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// What kubectl 1.37 sent, and what it means.
#[track_caller]
fn check(hex: &str, answer: Value) {
    assert_eq!(decode(&bytes(hex)).map(|object| object.into_value()), Ok(answer));
}

#[test]
fn create_deployment() {
    // kubectl create deployment web --image=hello:1 --replicas=0 --port=80 -- /bin/serve -v
    check(
        "6b3873000a150a07617070732f7631120a4465706c6f796d656e7412ca010a1f0a0377656212001a0022002a003200380042\
         005a0a0a0361707012037765621298010800120c0a0a0a0361707012037765621a7e0a1c0a0012001a0022002a0032003800\
         42005a0a0a036170701203776562125e12400a0568656c6c6f120768656c6c6f3a311a0a2f62696e2f73657276651a022d76\
         2a00320a0a001000185022002a0042006a007200800100880100900100a201001a00320042004a0052005800600068008201\
         008a01009a0100c2010022020a00280038001a0c0800100018002000280038001a002200",
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [{
                            "name": "hello", "image": "hello:1", "command": ["/bin/serve", "-v"],
                            "ports": [{"containerPort": 80}], "resources": {},
                        }],
                    },
                },
                "strategy": {},
            },
            "status": {},
        }),
    );
}

#[test]
fn create_config_map_and_secret() {
    // kubectl create configmap cm --from-literal=a=b --from-literal=empty=
    check(
        "6b3873000a0f0a0276311209436f6e6669674d617012270a120a02636d12001a0022002a0032003800420012060a01611201\
         6212090a05656d70747912001a002200",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "b", "empty": ""}}),
    );
    // kubectl create secret generic s --from-literal=k=v
    check(
        "6b3873000a0c0a0276311206536563726574121d0a110a017312001a0022002a0032003800420012060a016b1201761a001a\
         002200",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="}}),
    );
}

#[test]
fn create_namespace_and_account() {
    // kubectl create namespace ns
    check(
        "6b3873000a0f0a02763112094e616d657370616365121a0a120a026e7312001a0022002a0032003800420012001a020a001a\
         002200",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}, "spec": {}, "status": {}}),
    );
    // kubectl create serviceaccount robot
    check(
        "6b3873000a140a027631120e536572766963654163636f756e7412170a150a05726f626f7412001a0022002a003200380042\
         001a002200",
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}),
    );
}

#[test]
fn create_service() {
    // kubectl create service clusterip svc --tcp=80:http
    check(
        "6b3873000a0d0a027631120753657276696365126c0a1f0a0373766312001a0022002a003200380042005a0a0a0361707012\
         0373766312450a1e0a0738302d6874747012035443501850220a080110001a04687474702800120a0a036170701203737663\
         1a002209436c757374657249503a00420052005a00600068001a020a001a002200",
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc", "labels": {"app": "svc"}},
            "spec": {
                "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http"}],
                "selector": {"app": "svc"}, "type": "ClusterIP",
            },
            "status": {"loadBalancer": {}},
        }),
    );
}

#[test]
fn create_token_and_reviews() {
    // kubectl create token robot --duration=1h
    check(
        "6b3873000a280a1861757468656e7469636174696f6e2e6b38732e696f2f7631120c546f6b656e52657175657374121d0a10\
         0a0012001a0022002a00320038004200120320901c1a040a0012001a002200",
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
            "spec": {"expirationSeconds": 3600}, "status": {},
        }),
    );
    // kubectl auth can-i get pods
    check(
        "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a656374416363657373\
         526576696577123c0a100a0012001a0022002a00320038004200121e0a1c0a0764656661756c7412036765741a0022002a04\
         706f647332003a001a08080012001a0020001a002200",
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
            "status": {"allowed": false},
        }),
    );
}

/// A field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    [field, content.to_vec()].concat()
}

/// A field of a number.
fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &type_meta), field(2, raw)].concat()
}

#[track_caller]
fn check_pod_spec(spec: &[u8], answer: Value) {
    let pod = decode(&body("v1", "Pod", &field(2, spec))).map(|pod| pod.at(&["spec"]).cloned());
    assert_eq!(pod, Ok(Some(answer)));
}

#[test]
fn special_types() {
    let entry = |key: &str, value: &[u8]| [field(1, key.as_bytes()), field(2, value)].concat();
    // Quantities are messages, in a map.
    let limits = field(1, &entry("cpu", &field(1, b"500m")));
    check_pod_spec(&field(2, &field(8, &limits)), json!({"containers": [{"resources": {"limits": {"cpu": "500m"}}}]}));
    // A probe's handler is inlined; its port is one of two.
    let http = |port: &[u8]| field(2, &field(10, &field(1, &field(2, &field(2, port)))));
    check_pod_spec(&http(&number(2, 80)), json!({"containers": [{"livenessProbe": {"httpGet": {"port": 80}}}]}));
    let named = [number(1, 1), field(3, b"http")].concat();
    check_pod_spec(&http(&named), json!({"containers": [{"livenessProbe": {"httpGet": {"port": "http"}}}]}));
    // A volume's source is inlined, and an empty one was meant.
    check_pod_spec(
        &field(1, &[field(1, b"v"), field(2, &field(2, b""))].concat()),
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
    );
    // A reference's name is inlined; its pointer keeps the zero.
    let key = [field(1, &field(1, b"cm")), field(2, b"k"), number(3, 0)].concat();
    check_pod_spec(
        &field(2, &field(7, &[field(1, b"X"), field(2, b""), field(3, &field(3, &key))].concat())),
        json!({"containers": [{"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k", "optional": false}}}]}]}),
    );
    check_pod_spec(&[number(11, 0), number(4, 0)].concat(), json!({"terminationGracePeriodSeconds": 0}));
    // Packed and plain numbers.
    let groups = |content: Vec<u8>| field(14, &content);
    check_pod_spec(&groups(field(4, &[1, 2])), json!({"securityContext": {"supplementalGroups": [1, 2]}}));
    check_pod_spec(
        &groups([number(4, 1), number(4, 2)].concat()),
        json!({"securityContext": {"supplementalGroups": [1, 2]}}),
    );
}

#[test]
fn times() {
    let meta =
        |content: &[u8]| decode(&body("v1", "Pod", &field(1, content))).map(|pod| pod.at(&["metadata"]).cloned());
    assert_eq!(meta(&field(8, &number(1, 60))), Ok(Some(json!({"creationTimestamp": "1970-01-01T00:01:00Z"}))));
    assert_eq!(meta(&field(8, b"")), Ok(Some(json!({}))));
    let lease = field(2, &[field(1, b""), field(4, &[number(1, 1), vec![2 << 3, 0xe8, 0x07]].concat())].concat());
    assert_eq!(
        decode(&body("coordination.k8s.io/v1", "Lease", &lease)).map(|lease| lease.at(&["spec"]).cloned()),
        Ok(Some(json!({"holderIdentity": "", "renewTime": "1970-01-01T00:00:01.000001Z"}))),
    );
}

#[test]
fn bodies_of_other_groups() {
    let options = decode(&body("apps/v1", "DeleteOptions", &[number(1, 0), field(4, b"Orphan")].concat()));
    let wanted = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan"});
    assert_eq!(options.map(|options| options.into_value()), Ok(wanted));
}

#[track_caller]
fn check_error(bytes: &[u8], error: &ProtobufError) {
    assert_eq!(decode(bytes).as_ref(), Err(error));
}

#[test]
fn hostile_bytes_are_errors() {
    check_error(b"", &ProtobufError::NoMagic);
    check_error(b"{}", &ProtobufError::NoMagic);
    let nothing = ProtobufError::UnknownKind { api_version: String::new(), kind: String::new() };
    check_error(MAGIC, &nothing);
    let widget = ProtobufError::UnknownKind { api_version: "v1".to_owned(), kind: "Widget".to_owned() };
    check_error(&body("v1", "Widget", b""), &widget);
    check_error(&[MAGIC.as_slice(), &[0x0a, 0xff]].concat(), &ProtobufError::CutShort);
    check_error(&body("v1", "Pod", &[0x0a, 0x7f]), &ProtobufError::CutShort);
    check_error(&body("v1", "Pod", &[0x0b]), &ProtobufError::Malformed("unknown wire type"));
    check_error(&body("v1", "Pod", &[0x02, 0x00]), &ProtobufError::Malformed("field number zero"));
    check_error(&body("v1", "Pod", &number(1, 1)), &ProtobufError::Malformed("number where bytes are expected"));
    check_error(&body("v1", "Pod", &field(1, &field(1, &[0xff]))), &ProtobufError::NotUtf8);
    check_error(&body("v1", "Pod", &[0xff; 11]), &ProtobufError::Malformed("number out of range"));
    let gzip = [MAGIC.to_vec(), field(3, b"gzip")].concat();
    check_error(&gzip, &ProtobufError::Encoding("gzip".to_owned()));
    let containers = field(2, &[0x12, 0x00].repeat(super::MOST_VALUES));
    check_error(&body("v1", "Pod", &containers), &ProtobufError::TooLarge);
}

#[test]
fn unknown_fields_are_skipped() {
    let pod = [field(15, b"newer"), vec![0xfd, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3, 4], field(1, &field(1, b"p"))].concat();
    let wanted = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    assert_eq!(decode(&body("v1", "Pod", &pod)).map(|pod| pod.into_value()), Ok(wanted));
}

proptest! {
    #[test]
    fn garbage_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&raw);
        let _ = decode(&body("v1", "Pod", &raw));
        let _ = decode(&body("apps/v1", "Deployment", &field(2, &field(3, &raw))));
    }
}
