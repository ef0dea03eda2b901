//! Probes and lifecycle hooks: what is asked of a running container.

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kinds::field::{Errors, Path};
use crate::name::NameKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Liveness,
    Readiness,
    Startup,
}

pub(super) fn validate_all(errors: &mut Errors, path: &Path, container: &Container) {
    for (field, role, probe) in [
        ("livenessProbe", Role::Liveness, &container.liveness_probe),
        ("readinessProbe", Role::Readiness, &container.readiness_probe),
        ("startupProbe", Role::Startup, &container.startup_probe),
    ] {
        if let Some(probe) = probe {
            validate(errors, &path.field(field), role, probe);
        }
    }
    let path = path.field("lifecycle");
    let lifecycle = container.lifecycle.clone().unwrap_or_default();
    for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            validate_hook(errors, &path.field(field), hook);
        }
    }
}

fn validate(errors: &mut Errors, path: &Path, role: Role, probe: &Probe) {
    let actions = [
        probe.exec.as_ref().map(Action::Exec),
        probe.http_get.as_ref().map(Action::HttpGet),
        probe.tcp_socket.as_ref().map(Action::TcpSocket),
    ];
    let given: Vec<Action<'_>> = actions.into_iter().flatten().collect();
    // A grpc probe is refused by the table of fields, so it is not missing here.
    match given.len() + usize::from(probe.grpc.is_some()) {
        0 => errors.required(path, "must specify a handler type"),
        1 => given.iter().for_each(|action| action.validate(errors, path)),
        _ => errors.forbidden(path, "may not specify more than 1 handler type"),
    }
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        errors.not_negative(&path.field(field), value);
    }
    let successes = probe.success_threshold.unwrap_or(1);
    if role != Role::Readiness && successes > 1 {
        errors.invalid(&path.field("successThreshold"), successes, "must be 1");
    }
    if let Some(grace) = probe.termination_grace_period_seconds {
        let path = path.field("terminationGracePeriodSeconds");
        if role == Role::Readiness {
            errors.invalid(&path, grace, "must not be set for readinessProbes");
        } else if grace <= 0 || grace > i64::from(i32::MAX) {
            errors.invalid(&path, grace, "must be greater than 0");
        }
    }
}

enum Action<'a> {
    Exec(&'a ExecAction),
    HttpGet(&'a HTTPGetAction),
    TcpSocket(&'a TCPSocketAction),
}

impl Action<'_> {
    fn validate(&self, errors: &mut Errors, path: &Path) {
        match self {
            Self::Exec(exec) => {
                if exec.command.as_deref().unwrap_or_default().is_empty() {
                    errors.required(&path.field("exec").field("command"), "");
                }
            }
            Self::HttpGet(get) => validate_get(errors, &path.field("httpGet"), get),
            Self::TcpSocket(socket) => validate_port(errors, &path.field("tcpSocket").field("port"), &socket.port),
        }
    }
}

fn validate_get(errors: &mut Errors, path: &Path, get: &HTTPGetAction) {
    if get.path.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.field("path"), "");
    }
    validate_port(errors, &path.field("port"), &get.port);
    match get.scheme.as_deref().unwrap_or("HTTP") {
        "HTTPS" => errors.forbidden(&path.field("scheme"), "guests serve plain HTTP to their own node"),
        scheme => errors.one_of(&path.field("scheme"), scheme, &["HTTP"]),
    }
    for (at, header) in get.http_headers.iter().flatten().enumerate() {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if header.name.is_empty() || !header.name.bytes().all(is_token) {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex \
                       used for validation is '[-A-Za-z0-9]+')";
            errors.invalid(&path.field("httpHeaders").index(at), header.name.as_str(), why);
        }
    }
}

fn validate_port(errors: &mut Errors, path: &Path, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => errors.port_number(path, (*number).into()),
        IntOrString::String(name) => errors.name(path, NameKind::Port, name),
    }
}

fn validate_hook(errors: &mut Errors, path: &Path, hook: &LifecycleHandler) {
    let actions = [
        hook.exec.as_ref().map(Action::Exec),
        hook.http_get.as_ref().map(Action::HttpGet),
        hook.tcp_socket.as_ref().map(Action::TcpSocket),
    ];
    let given: Vec<Action<'_>> = actions.into_iter().flatten().collect();
    match given.len() + usize::from(hook.sleep.is_some()) {
        0 => errors.required(path, "must specify a handler type"),
        1 => given.iter().for_each(|action| action.validate(errors, path)),
        _ => errors.forbidden(path, "may not specify more than 1 handler type"),
    }
    if let Some(sleep) = &hook.sleep
        && !(0..=i64::from(i32::MAX)).contains(&sleep.seconds)
    {
        errors.invalid(&path.field("sleep").field("seconds"), sleep.seconds, "must be greater than or equal to 0");
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Container;
    use serde_json::{Value, json};

    use super::validate_all;
    use crate::kinds::field::{Errors, Path};

    #[track_caller]
    fn check(fields: Value, want: &[&str]) {
        let container: Container = serde_json::from_value(fields.clone()).unwrap();
        let mut errors = Errors::default();
        validate_all(&mut errors, &Path::new("c"), &container);
        let found: Vec<String> = errors.into_vec().into_iter().map(|e| e.path).collect();
        assert_eq!(found, want, "{fields}");
    }

    #[test]
    fn probes() {
        let get = json!({"path": "/", "port": 80});
        check(json!({"livenessProbe": {"httpGet": get}}), &[]);
        check(json!({"livenessProbe": {"tcpSocket": {"port": "web"}}}), &[]);
        check(json!({"livenessProbe": {}}), &["c.livenessProbe"]);
        check(json!({"livenessProbe": {"httpGet": get, "exec": {"command": ["x"]}}}), &["c.livenessProbe"]);
        check(json!({"startupProbe": {"exec": {}}}), &["c.startupProbe.exec.command"]);
        check(json!({"readinessProbe": {"httpGet": get, "successThreshold": 2}}), &[]);
        check(json!({"startupProbe": {"httpGet": get, "successThreshold": 2}}), &["c.startupProbe.successThreshold"]);
        check(json!({"livenessProbe": {"httpGet": get, "periodSeconds": -1}}), &["c.livenessProbe.periodSeconds"]);
        check(json!({"livenessProbe": {"httpGet": {"path": "/", "port": 0}}}), &["c.livenessProbe.httpGet.port"]);
        check(
            json!({"livenessProbe": {"httpGet": {"path": "/", "port": 1, "scheme": "HTTPS"}}}),
            &["c.livenessProbe.httpGet.scheme"],
        );
        let grace = json!({"readinessProbe": {"httpGet": get, "terminationGracePeriodSeconds": 1}});
        check(grace, &["c.readinessProbe.terminationGracePeriodSeconds"]);
        let header = json!({"path": "/", "port": 80, "httpHeaders": [{"name": "a b", "value": ""}]});
        check(json!({"livenessProbe": {"httpGet": header}}), &["c.livenessProbe.httpGet.httpHeaders[0]"]);
    }

    #[test]
    fn hooks() {
        check(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}), &[]);
        check(json!({"lifecycle": {"preStop": {"sleep": {"seconds": -5}}}}), &["c.lifecycle.preStop.sleep.seconds"]);
        check(json!({"lifecycle": {"postStart": {}}}), &["c.lifecycle.postStart"]);
    }
}
