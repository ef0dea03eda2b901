//! What is removed for being old: events, and pods that finished long ago.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::pods;
use crate::object::Object;

/// Events are kept for so long after they last happened, as in Kubernetes.
pub const EVENT_LIFE: Duration = Duration::from_secs(3600);
/// Finished pods kept in all. Kubernetes keeps 12,500; a hub on a Pi has less room.
pub const FINISHED_PODS: usize = 1000;

/// When an event that is kept for `life` goes.
pub fn expires_at(event: &Object, life: Duration) -> Timestamp {
    let fields: [&[&str]; 5] = [
        &["series", "lastObservedTime"],
        &["lastTimestamp"],
        &["eventTime"],
        &["firstTimestamp"],
        &["metadata", "creationTimestamp"],
    ];
    let last = fields.iter().filter_map(|path| event.str_at(path)?.parse::<Timestamp>().ok()).max();
    last.unwrap_or(Timestamp::UNIX_EPOCH).checked_add(life).unwrap_or(Timestamp::MAX)
}

/// Finished pods beyond `keep`, the oldest first.
pub fn finished_beyond<'a>(pods: &[&'a Pod], keep: usize) -> Vec<&'a Pod> {
    let is_rest = |pod: &&Pod| pods::is_finished(pod) && pod.metadata.deletion_timestamp.is_none();
    let mut finished: Vec<&Pod> = pods.iter().copied().filter(is_rest).collect();
    finished.sort_by_key(|pod| (super::created(&pod.metadata), pod.metadata.uid.clone()));
    let superfluous = finished.len().saturating_sub(keep);
    finished.truncate(superfluous);
    finished
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_lives_an_hour_past_its_last_sighting() {
        let check = |event: serde_json::Value, expected: &str| {
            assert_eq!(expires_at(&Object::from_value(event).unwrap(), EVENT_LIFE), expected.parse().unwrap());
        };
        let (first, last) = ("2026-06-01T10:00:00Z", "2026-06-01T11:00:00Z");
        check(json!({"firstTimestamp": first, "lastTimestamp": last}), "2026-06-01T12:00:00Z");
        check(json!({"eventTime": "2026-06-01T10:00:00.500000Z"}), "2026-06-01T11:00:00.5Z");
        check(json!({"metadata": {"creationTimestamp": first}, "lastTimestamp": null}), "2026-06-01T11:00:00Z");
        check(json!({}), "1970-01-01T01:00:00Z");
    }

    #[test]
    fn the_oldest_finished_pods_go() {
        let pod = |name: &str, phase: &str, hour: u8| -> Pod {
            let created = format!("2026-06-01T{hour:02}:00:00Z");
            let meta = json!({"name": name, "uid": name, "creationTimestamp": created});
            serde_json::from_value(json!({"metadata": meta, "status": {"phase": phase}})).unwrap()
        };
        let pods = [pod("a", "Failed", 3), pod("b", "Succeeded", 1), pod("c", "Running", 0), pod("d", "Failed", 2)];
        let gone = finished_beyond(&pods.iter().collect::<Vec<_>>(), 1);
        assert_eq!(gone.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect::<Vec<_>>(), ["b", "d"]);
    }
}
