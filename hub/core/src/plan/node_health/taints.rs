//! Taints that follow from a node's state, and how long pods put up with them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// The node itself says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Nobody hears the node.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// `kubectl cordon`.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The node's taints as they should be; `None` if they are so. Others' taints stay as they are, but
/// a NoExecute taint without a time gets one: tolerations count from it.
pub(super) fn wanted(node: &Node, ready: &str, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let present: Vec<Taint> = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let is_cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
    let mut own: Vec<(&str, &str)> = Vec::new();
    match ready {
        "True" => {}
        "False" => own.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        _ => own.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
    }
    if is_cordoned {
        own.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_own = |taint: &Taint| [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str());
    let is_wanted = |taint: &Taint| own.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = present.iter().filter(|t| !is_own(t) || is_wanted(t)).cloned().collect();
    for (key, effect) in own {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added: None });
        }
    }
    for taint in &mut taints {
        let needs_time = taint.effect == "NoExecute" || is_own(taint);
        if needs_time && taint.time_added.is_none() {
            taint.time_added = Some(Time(now));
        }
    }
    (taints != present).then_some(taints)
}

pub(super) fn unreachable() -> Taint {
    Taint { key: UNREACHABLE.to_owned(), effect: "NoExecute".to_owned(), value: None, time_added: None }
}

/// How long a pod stays on a node with this NoExecute taint; `None`: as long as it likes. `default`
/// is for pods that say nothing about it.
pub(super) fn patience(pod: &Pod, taint: &Taint, default: Duration) -> Option<Duration> {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let matching: Vec<&Toleration> = tolerations.filter(|toleration| tolerates(toleration, taint)).collect();
    if matching.is_empty() {
        return Some(default);
    }
    // The least patient one decides; negative seconds mean at once.
    let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Whether a toleration is about a taint. An empty key with `Exists` is about all of them.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        Some("Equal" | "") | None => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        Some(_) => false,
    }
}
