//! Probes and hooks as the node is told: ports by number, words expanded.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use protocol::pod::{HookAction, HttpGet, ProbeAction, ProbeSpec};

use super::environment::Environment;
use super::{ConfigProblem, seconds};

/// Everything that is asked of a running container.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) liveness: Option<ProbeSpec>,
    pub(super) readiness: Option<ProbeSpec>,
    pub(super) startup: Option<ProbeSpec>,
    pub(super) post_start: Option<HookAction>,
    pub(super) pre_stop: Option<HookAction>,
}

pub(super) fn asked(container: &Container, environment: &Environment) -> Result<Asked, ConfigProblem> {
    let probe = |probe: &Option<Probe>| match probe {
        Some(probe) => self::probe(container, environment, probe),
        None => Ok(None),
    };
    let hook = |hook: Option<&LifecycleHandler>| match hook {
        Some(hook) => self::hook(container, environment, hook),
        None => Ok(None),
    };
    let lifecycle = container.lifecycle.as_ref();
    Ok(Asked {
        liveness: probe(&container.liveness_probe)?,
        readiness: probe(&container.readiness_probe)?,
        startup: probe(&container.startup_probe)?,
        post_start: hook(lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()))?,
        pre_stop: hook(lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()))?,
    })
}

fn probe(container: &Container, environment: &Environment, probe: &Probe) -> Result<Option<ProbeSpec>, ConfigProblem> {
    let action = if let Some(get) = &probe.http_get {
        ProbeAction::HttpGet(http_get(container, get)?)
    } else if let Some(socket) = &probe.tcp_socket {
        ProbeAction::TcpSocket { port: port(container, &socket.port)? }
    } else if let Some(exec) = &probe.exec {
        ProbeAction::Exec { args: environment.plain_words(exec.command.as_deref().unwrap_or_default()) }
    } else {
        return Ok(None);
    };
    // Kubernetes' defaults, where a stored probe lacks them.
    let count = |value: Option<i32>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
    };
    Ok(Some(ProbeSpec {
        action,
        initial_delay_seconds: count(probe.initial_delay_seconds, 0),
        period_seconds: count(probe.period_seconds, 10),
        timeout_seconds: count(probe.timeout_seconds, 1),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, 3),
        grace_seconds: seconds(probe.termination_grace_period_seconds),
    }))
}

fn hook(
    container: &Container,
    environment: &Environment,
    hook: &LifecycleHandler,
) -> Result<Option<HookAction>, ConfigProblem> {
    Ok(if let Some(get) = &hook.http_get {
        Some(HookAction::HttpGet(http_get(container, get)?))
    } else if let Some(exec) = &hook.exec {
        let args = environment.plain_words(exec.command.as_deref().unwrap_or_default());
        Some(HookAction::Exec { args })
    } else if let Some(sleep) = &hook.sleep {
        Some(HookAction::Sleep { seconds: seconds(Some(sleep.seconds)).unwrap_or(0) })
    } else if let Some(socket) = &hook.tcp_socket {
        Some(HookAction::TcpSocket { port: port(container, &socket.port)? })
    } else {
        None
    })
}

fn http_get(container: &Container, get: &HTTPGetAction) -> Result<HttpGet, ConfigProblem> {
    let headers = get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    Ok(HttpGet {
        port: port(container, &get.port)?,
        path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
        host: get.host.clone().filter(|host| !host.is_empty()),
        headers: headers.collect(),
    })
}

/// A port's number, or the number of the container's port of that name.
fn port(container: &Container, port: &IntOrString) -> Result<u16, ConfigProblem> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port)
        }
    };
    let text = || match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| ConfigProblem::NoPort(text()))
}
