//! A pod's status from its node's report.

use protocol::reported::{ContainerReport, ContainerState, Phase, PodReport};
use serde_json::{Value, json};

use super::Heard;
use super::condition::{Finding, Holds, Looked, merged};
use super::container::{CREATING, Container, named};
use crate::kinds::pod::qos;
use crate::object::Object;
use crate::time;

/// Which of a pod's lists of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Init,
    Main,
}

/// Writes what `report` says into the pod's status. A report of another pod changes nothing, nor does any
/// report of a pod that has ended, because an end is final. The order of reports is the link's to keep; a
/// count of restarts says nothing about it, because a node that lost its disk counts from 0 again.
pub fn fold_pod(pod: &mut Object, report: &PodReport, heard: &Heard<'_>) {
    let ended = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
    if ended || pod.uid() != report.uid.to_string() {
        return;
    }
    let init = statuses(pod, report, Role::Init, heard);
    let main = statuses(pod, report, Role::Main, heard);
    let conditions = merged(pod.at(&["status", "conditions"]), findings(pod, report), Looked::Probe, heard.now);
    pod.set(&["status", "phase"], phase(report.phase));
    pod.set(&["status", "conditions"], conditions);
    set_or_remove(pod, "reason", report.reason.as_deref());
    set_or_remove(pod, "message", report.message.as_deref());
    addresses(pod, heard.host_ip);
    if pod.str_at(&["status", "startTime"]).is_none() {
        let started = report.started_at.map_or_else(|| time::format(heard.now), |at| heard.stamp(at));
        pod.set(&["status", "startTime"], started);
    }
    if !init.is_empty() {
        pod.set(&["status", "initContainerStatuses"], init);
    }
    pod.set(&["status", "containerStatuses"], main);
    if pod.str_at(&["status", "qosClass"]).is_none() {
        let class = qos::class(pod);
        pod.set(&["status", "qosClass"], class.as_str());
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    }
}

fn set_or_remove(pod: &mut Object, field: &str, text: Option<&str>) {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => pod.set(&["status", field], text),
        None => drop(pod.remove(&["status", field])),
    }
}

fn addresses(pod: &mut Object, host_ip: &str) {
    if !host_ip.is_empty() {
        pod.set(&["status", "hostIP"], host_ip);
        pod.set(&["status", "hostIPs"], json!([{"ip": host_ip}]));
    }
    // The address came with the binding; its list form is what newer clients read.
    if let Some(ip) = pod.str_at(&["status", "podIP"]).filter(|ip| !ip.is_empty()).map(str::to_owned) {
        pod.set(&["status", "podIPs"], json!([{"ip": ip}]));
    }
}

fn items<'a>(pod: &'a Object, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    pod.at(path).and_then(Value::as_array).into_iter().flatten()
}

/// In the order of the spec, which people know.
fn statuses(pod: &Object, report: &PodReport, role: Role, heard: &Heard<'_>) -> Vec<Value> {
    let (spec, status, reports) = match role {
        Role::Init => ("initContainers", "initContainerStatuses", &report.init_containers),
        Role::Main => ("containers", "containerStatuses", &report.containers),
    };
    let waits_for_init = role == Role::Init || items(pod, &["spec", "initContainers"]).next().is_some();
    let waiting = if waits_for_init { "PodInitializing" } else { CREATING };
    let one = |container: &Value| {
        let name = container["name"].as_str().unwrap_or_default();
        let old = items(pod, &["status", status]).find(|old| old["name"] == name);
        let image = container["image"].as_str().unwrap_or_default();
        Container { pod_uid: pod.uid(), name, image, waiting, report: named(reports, name), old }.status(heard)
    };
    items(pod, &["spec", spec]).map(one).collect()
}

fn findings(pod: &Object, report: &PodReport) -> Vec<Finding> {
    let containers = containers_ready(pod, report);
    let ready = if containers.is_yes() { gates(pod) } else { containers.clone() };
    let mut findings = vec![
        Finding { kind: "PodReadyToStartContainers", holds: sandboxed(report) },
        Finding { kind: "Initialized", holds: initialized(pod, report) },
        Finding { kind: "Ready", holds: ready },
        Finding { kind: "ContainersReady", holds: containers },
    ];
    // The scheduler's to write; a pod that named its node itself passed it by.
    let scheduled = items(pod, &["status", "conditions"]).any(|c| c["type"] == "PodScheduled" && c["status"] == "True");
    if !scheduled {
        findings.push(Finding { kind: "PodScheduled", holds: Holds::Yes });
    }
    findings
}

/// Whether the pod has its place on the node: it has, once anything of it ran, and until all has ended.
fn sandboxed(report: &PodReport) -> Holds {
    let ran = |container: &ContainerReport| match container.state {
        ContainerState::Waiting { .. } => container.last.is_some(),
        ContainerState::Running { .. } | ContainerState::Terminated(_) => true,
    };
    match report.phase {
        Phase::Succeeded | Phase::Failed => Holds::No("", String::new()),
        Phase::Pending | Phase::Running if report.init_containers.iter().chain(&report.containers).any(ran) => {
            Holds::Yes
        }
        Phase::Pending | Phase::Running => Holds::No("", String::new()),
    }
}

fn initialized(pod: &Object, report: &PodReport) -> Holds {
    let done = |name: &str| {
        named(&report.init_containers, name).is_some_and(|container| match &container.state {
            ContainerState::Terminated(ended) => ended.exit_code == 0,
            ContainerState::Waiting { .. } | ContainerState::Running { .. } => false,
        })
    };
    let names = items(pod, &["spec", "initContainers"]).filter_map(|container| container["name"].as_str());
    let incomplete: Vec<&str> = names.filter(|name| !done(name)).collect();
    match report.phase {
        Phase::Succeeded => Holds::YesAs("PodCompleted", String::new()),
        // Main containers start only after all init containers, which may be forgotten by then.
        Phase::Running => Holds::Yes,
        Phase::Pending | Phase::Failed if incomplete.is_empty() => Holds::Yes,
        Phase::Pending | Phase::Failed => {
            let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
            Holds::No("ContainersNotInitialized", message)
        }
    }
}

fn containers_ready(pod: &Object, report: &PodReport) -> Holds {
    let names = items(pod, &["spec", "containers"]).filter_map(|container| container["name"].as_str());
    let unready: Vec<&str> =
        names.filter(|name| !named(&report.containers, name).is_some_and(|container| container.ready)).collect();
    match report.phase {
        Phase::Succeeded => Holds::No("PodCompleted", String::new()),
        Phase::Failed => Holds::No("PodFailed", String::new()),
        Phase::Pending | Phase::Running if unready.is_empty() => Holds::Yes,
        Phase::Pending | Phase::Running => {
            Holds::No("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
        }
    }
}

/// The conditions that the pod itself asks for.
fn gates(pod: &Object) -> Holds {
    let status = |kind: &str| {
        let condition = items(pod, &["status", "conditions"]).find(|condition| condition["type"] == kind)?;
        condition["status"].as_str()
    };
    let gates = items(pod, &["spec", "readinessGates"]).filter_map(|gate| gate["conditionType"].as_str());
    let unmet: Vec<String> = gates
        .filter_map(|gate| match status(gate) {
            Some("True") => None,
            Some(other) => Some(format!("the status of pod readiness gate {gate:?} is not \"True\", but {other}")),
            None => Some(format!("corresponding condition of pod readiness gate {gate:?} does not exist.")),
        })
        .collect();
    if unmet.is_empty() { Holds::Yes } else { Holds::No("ReadinessGatesNotReady", unmet.join(", ")) }
}

#[cfg(test)]
mod tests;
