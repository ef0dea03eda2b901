//! Services: a name and a virtual address for pods. Stored and shown; nothing routes to them yet.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use super::field::{Errors, Path};
use super::fill::{each, fill, fill_text, is_absent, object_or_new, spec};
use super::print::{AGE, NAME, age, items, labels, or_none, or_none_list, text, wide};
use super::{Column, DeleteAnswer, Durability, Resource, Scope, Subresource, VERBS};
use super::{metadata, no_warnings, parse};
use crate::name::NameKind;
use crate::object::Object;
use crate::status::FieldError;

pub(super) const SERVICE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    scope: Scope::Namespaced,
    verbs: VERBS,
    subresources: &[Subresource::Status],
    durability: Durability::Durable,
    delete_answers: DeleteAnswer::Object,
    columns: COLUMNS,
    cells,
    default,
    begin: |new| new.set(&["status"], json!({"loadBalancer": {}})),
    validate,
    warnings: no_warnings,
    selectable_fields: &[("spec.clusterIP", &["spec", "clusterIP"]), ("spec.type", &["spec", "type"])],
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Type", "How it is reached."),
    text("Cluster-IP", "Its virtual address."),
    text("External-IP", "Its addresses outside the cluster."),
    text("Port(s)", "Its ports."),
    AGE,
    wide("Selector", "Which pods answer."),
];

/// Seconds for which a client stays with its pod: Kubernetes' default.
const AFFINITY_SECONDS: i64 = 10_800;
/// Ports that `NodePort` services may ask for: Kubernetes' default range.
const NODE_PORTS: std::ops::RangeInclusive<i32> = 30_000..=32_767;

fn cells(object: &Object, now: i64) -> Vec<Value> {
    vec![
        json!(object.name()),
        json!(object.str_at(&["spec", "type"]).unwrap_or_default()),
        or_none(object.str_at(&["spec", "clusterIP"])),
        external_address(object),
        or_none_list(&items(object.at(&["spec", "ports"])).map(port).collect::<Vec<_>>()),
        age(object, now),
        or_none(Some(&labels(object.at(&["spec", "selector"]).and_then(Value::as_object)))),
    ]
}

fn port(port: &Value) -> String {
    let number = port["port"].as_i64().unwrap_or_default();
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    match port["nodePort"].as_i64().unwrap_or_default() {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

fn external_address(object: &Object) -> Value {
    let mut addresses: Vec<String> = items(object.at(&["status", "loadBalancer", "ingress"]))
        .filter_map(|entry| entry["ip"].as_str().or(entry["hostname"].as_str()).map(str::to_owned))
        .collect();
    addresses.extend(items(object.at(&["spec", "externalIPs"])).filter_map(Value::as_str).map(str::to_owned));
    match object.str_at(&["spec", "type"]) {
        Some("ExternalName") => or_none(object.str_at(&["spec", "externalName"])),
        Some("LoadBalancer") if addresses.is_empty() => json!("<pending>"),
        _ => or_none_list(&addresses),
    }
}

fn default(object: &mut Object) {
    let Some(spec) = spec(object) else { return };
    fill_text(spec, "sessionAffinity", "None");
    fill_text(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP"
        && let Some(client) = object_or_new(spec, "sessionAffinityConfig").and_then(|c| object_or_new(c, "clientIP"))
    {
        fill(client, "timeoutSeconds", AFFINITY_SECONDS);
    }
    for port in each(spec, "ports") {
        fill_text(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|t| t.is_null() || *t == json!(0) || *t == json!(""))
            && let Some(number) = port.get("port").cloned()
        {
            port.insert("targetPort".to_owned(), number);
        }
    }
    if spec["type"] != "ExternalName" {
        default_routing(spec);
    }
}

fn default_routing(spec: &mut Map<String, Value>) {
    fill_text(spec, "internalTrafficPolicy", "Cluster");
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if spec["type"] == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    fill_text(spec, "ipFamilyPolicy", "SingleStack");
    fill(spec, "ipFamilies", json!(["IPv4"]));
    if let Some(address) = spec.get("clusterIP").and_then(Value::as_str).filter(|a| !a.is_empty()).map(str::to_owned)
        && is_absent(spec, "clusterIPs")
    {
        spec.insert("clusterIPs".to_owned(), json!([address]));
    }
}

fn validate(new: &Object, old: Option<&Object>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::validate(&mut errors, new, old, Scope::Namespaced, NameKind::ServiceLabel);
    let Some(service) = parse::<Service>(&mut errors, new) else { return errors.into_vec() };
    let (spec, path) = (service.spec.unwrap_or_default(), Path::new("spec"));
    let kind = spec.type_.as_deref().unwrap_or_default();
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    errors.one_of(&path.field("type"), kind, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    errors.one_of(&path.field("sessionAffinity"), affinity, &["ClientIP", "None"]);
    metadata::labels(&mut errors, &path.field("selector"), spec.selector.as_ref());
    validate_address(&mut errors, &path, &spec, old);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && kind != "ExternalName" && spec.cluster_ip.as_deref() != Some("None") {
        errors.required(&path.field("ports"), "");
    }
    for (at, port) in ports.iter().enumerate() {
        validate_port(&mut errors, &path.field("ports").index(at), port, &ports[..at], ports.len());
    }
    errors.into_vec()
}

fn validate_address(errors: &mut Errors, path: &Path, spec: &ServiceSpec, old: Option<&Object>) {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let path_of = |field: &str| path.field(field);
    if kind == "ExternalName" {
        let name = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.');
        errors.name(&path_of("externalName"), NameKind::Subdomain, name);
        if !address.is_empty() {
            errors.forbidden(&path_of("clusterIP"), "may not be set when `type` is 'ExternalName'");
        }
        return;
    }
    if !matches!(address, "" | "None") && address.parse::<IpAddr>().is_err() {
        errors.invalid(&path_of("clusterIP"), address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    if address == "None" && kind != "ClusterIP" {
        let why = format!("may not be set to 'None' for {kind} services");
        errors.invalid(&path_of("clusterIP"), address, why);
    }
    let had = old.and_then(|old| old.str_at(&["spec", "clusterIP"])).unwrap_or_default();
    if !had.is_empty() && had != address {
        errors.invalid(&path_of("clusterIP"), address, "field is immutable");
    }
}

fn validate_port(errors: &mut Errors, path: &Path, port: &ServicePort, before: &[ServicePort], count: usize) {
    let name = port.name.as_deref().unwrap_or_default();
    if name.is_empty() && count > 1 {
        errors.required(&path.field("name"), "");
    } else if !name.is_empty() {
        errors.shape(&path.field("name"), NameKind::Label, name);
    }
    if !name.is_empty() && before.iter().any(|p| p.name.as_deref() == Some(name)) {
        errors.duplicate(&path.field("name"), name);
    }
    errors.port_number(&path.field("port"), port.port.into());
    let protocol = port.protocol.as_deref().unwrap_or_default();
    errors.one_of(&path.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    if before.iter().any(|p| p.port == port.port && p.protocol == port.protocol) {
        errors.duplicate(path, json!({"port": port.port, "protocol": protocol}));
    }
    match &port.target_port {
        Some(IntOrString::Int(number)) => errors.port_number(&path.field("targetPort"), (*number).into()),
        Some(IntOrString::String(name)) => errors.shape(&path.field("targetPort"), NameKind::Port, name),
        None => (),
    }
    if let Some(node) = port.node_port
        && node != 0
        && !NODE_PORTS.contains(&node)
    {
        errors.invalid(
            &path.field("nodePort"),
            node,
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{SERVICE, default, validate};
    use crate::kinds::print::tests::check_row;
    use crate::object::Object;

    fn service(spec: &Value) -> Object {
        let mut object =
            Object::from_value(json!({"metadata": {"name": "web", "namespace": "x"}, "spec": spec})).unwrap();
        default(&mut object);
        object
    }

    #[track_caller]
    fn check(spec: &Value, old: Option<&Value>, paths: &[&str]) {
        let old = old.map(service);
        let found: Vec<String> = validate(&service(spec), old.as_ref()).into_iter().map(|e| e.path).collect();
        assert_eq!(found, paths, "{spec}");
    }

    #[test]
    fn defaults_are_kubernetes_own() {
        assert_eq!(
            service(&json!({"ports": [{"port": 80}]})).at(&["spec"]),
            Some(&json!({
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                "type": "ClusterIP", "internalTrafficPolicy": "Cluster", "ipFamilyPolicy": "SingleStack",
                "ipFamilies": ["IPv4"],
            }))
        );
    }

    #[test]
    fn ports_and_addresses() {
        check(&json!({"ports": [{"port": 80}]}), None, &[]);
        check(&json!({}), None, &["spec.ports"]);
        check(&json!({"clusterIP": "None"}), None, &[]);
        check(&json!({"ports": [{"port": 0}]}), None, &["spec.ports[0].port", "spec.ports[0].targetPort"]);
        check(&json!({"ports": [{"port": 80}, {"port": 81, "name": "b"}]}), None, &["spec.ports[0].name"]);
        check(
            &json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "a"}]}),
            None,
            &["spec.ports[1].name", "spec.ports[1]"],
        );
        check(&json!({"ports": [{"port": 80}], "type": "Wide"}), None, &["spec.type"]);
        check(&json!({"type": "ExternalName"}), None, &["spec.externalName"]);
        check(&json!({"type": "ExternalName", "externalName": "example.com"}), None, &[]);
        let fixed = json!({"ports": [{"port": 80}], "clusterIP": "10.43.0.1"});
        check(&json!({"ports": [{"port": 80}], "clusterIP": "10.43.0.2"}), Some(&fixed), &["spec.clusterIP"]);
        check(&json!({"ports": [{"port": 80}], "clusterIP": "here"}), None, &["spec.clusterIP"]);
        check(&json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}), None, &["spec.ports[0].nodePort"]);
    }

    #[test]
    fn rows() {
        let spec = json!({
            "type": "NodePort", "clusterIP": "10.43.0.9", "selector": {"b": "2", "a": "1"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        });
        let want = "web|NodePort|10.43.0.9|<none>|80:30080/TCP,53/UDP|60s|a=1,b=2";
        check_row(&SERVICE, json!({"metadata": {"name": "web"}, "spec": spec}), want);
        let balanced = json!({"metadata": {"name": "w"}, "spec": {"type": "LoadBalancer"}});
        check_row(&SERVICE, balanced, "w|LoadBalancer|<none>|<pending>|<none>|60s|<none>");
        let external = json!({"metadata": {"name": "w"}, "spec": {"type": "ExternalName", "externalName": "e.org"}});
        check_row(&SERVICE, external, "w|ExternalName|<none>|e.org|<none>|60s|<none>");
    }
}
