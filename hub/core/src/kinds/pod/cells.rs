//! The row of `kubectl get pods`: STATUS and READY as people know them from Kubernetes.

use serde_json::{Value, json};

use crate::kinds::Column;
use crate::kinds::print::{AGE, NAME, age, condition, items, or_none, text, wide};
use crate::object::Object;
use crate::time;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "How many containers are ready, of how many there are."),
    text("Status", "What the pod does, or why it does not."),
    text("Restarts", "How often its containers were started again, and when last."),
    AGE,
    wide("IP", "Its virtual address."),
    wide("Node", "Where it runs."),
    wide("Nominated Node", "Where it may run once room is made."),
    wide("Readiness Gates", "How many of its own conditions hold."),
];

pub(super) fn cells(pod: &Object, now: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let containers = items(pod.at(&["spec", "containers"])).count();
    let address = items(pod.at(&["status", "podIPs"])).next().and_then(|entry| entry["ip"].as_str());
    vec![
        json!(pod.name()),
        json!(format!("{}/{containers}", summary.ready)),
        json!(summary.status),
        json!(restarts(&summary, now)),
        age(pod, now),
        or_none(address.or(pod.str_at(&["status", "podIP"]))),
        or_none(pod.str_at(&["spec", "nodeName"])),
        or_none(pod.str_at(&["status", "nominatedNodeName"])),
        or_none(gates(pod).as_deref()),
    ]
}

/// `3 (5s ago)`
fn restarts(summary: &Summary, now: i64) -> String {
    match summary.last_restart {
        Some(at) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, time::human(now.saturating_sub(at)))
        }
        Some(_) | None => summary.restarts.to_string(),
    }
}

fn gates(pod: &Object) -> Option<String> {
    let gates: Vec<&str> =
        items(pod.at(&["spec", "readinessGates"])).filter_map(|gate| gate["conditionType"].as_str()).collect();
    let met = gates.iter().filter(|gate| condition(pod, gate) == Some("True")).count();
    if gates.is_empty() { None } else { Some(format!("{met}/{}", gates.len())) }
}

/// What all container statuses together say.
struct Summary {
    status: String,
    ready: usize,
    restarts: i64,
    /// Unix seconds.
    last_restart: Option<i64>,
}

impl Summary {
    fn of(pod: &Object) -> Self {
        let text = |path: &[&str]| pod.str_at(path).filter(|text| !text.is_empty());
        let phase = text(&["status", "phase"]).unwrap_or_default();
        let mut summary = Self {
            status: text(&["status", "reason"]).unwrap_or(phase).to_owned(),
            ready: 0,
            restarts: 0,
            last_restart: None,
        };
        let initializing = summary.add_init_containers(pod);
        if !initializing || condition(pod, "Initialized") == Some("True") {
            (summary.restarts, summary.last_restart) = (0, None);
            summary.add_containers(pod);
        }
        if pod.is_being_deleted() && text(&["status", "reason"]) == Some("NodeLost") {
            summary.status = "Unknown".to_owned();
        } else if pod.is_being_deleted() && !matches!(phase, "Succeeded" | "Failed") {
            summary.status = "Terminating".to_owned();
        }
        summary
    }

    /// Whether one of them still has to end well.
    fn add_init_containers(&mut self, pod: &Object) -> bool {
        let total = items(pod.at(&["spec", "initContainers"])).count();
        for (at, status) in items(pod.at(&["status", "initContainerStatuses"])).enumerate() {
            self.add_restarts(status);
            let state = &status["state"];
            if state["terminated"]["exitCode"] == 0 {
                continue;
            }
            let waiting = reason(&state["waiting"]).filter(|reason| *reason != "PodInitializing");
            self.status = if state["terminated"].is_object() {
                format!("Init:{}", ended(&state["terminated"]))
            } else if let Some(reason) = waiting {
                format!("Init:{reason}")
            } else {
                format!("Init:{at}/{total}")
            };
            return true;
        }
        false
    }

    /// The first container with something to say names the status, so they are walked backwards.
    fn add_containers(&mut self, pod: &Object) {
        let mut has_running = false;
        for status in items(pod.at(&["status", "containerStatuses"])).rev() {
            self.add_restarts(status);
            let state = &status["state"];
            if let Some(reason) = reason(&state["waiting"]) {
                self.status = reason.to_owned();
            } else if state["terminated"].is_object() {
                self.status = ended(&state["terminated"]);
            } else if status["ready"] == true && state["running"].is_object() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && has_running {
            let ready = condition(pod, "Ready") == Some("True");
            self.status = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn add_restarts(&mut self, status: &Value) {
        self.restarts += status["restartCount"].as_i64().unwrap_or(0);
        let ended = status["lastState"]["terminated"]["finishedAt"].as_str().and_then(time::parse);
        self.last_restart = self.last_restart.max(ended);
    }
}

fn reason(state: &Value) -> Option<&str> {
    state["reason"].as_str().filter(|reason| !reason.is_empty())
}

/// Why a container ended: its reason, else its signal or exit code.
fn ended(terminated: &Value) -> String {
    match (reason(terminated), terminated["signal"].as_i64().unwrap_or(0)) {
        (Some(reason), _) => reason.to_owned(),
        (None, 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        (None, signal) => format!("Signal:{signal}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::POD;
    use super::{Summary, cells};
    use crate::kinds::print::tests::{NOW, check_row};
    use crate::object::Object;

    /// READY, STATUS and RESTARTS of a pod with two containers and two init containers.
    #[track_caller]
    fn check(status: Value, want: &str) {
        let pod = json!({
            "metadata": {"name": "p"}, "status": status,
            "spec": {"containers": [{}, {}], "initContainers": [{}, {}]},
        });
        let cells = cells(&Object::from_value(pod).unwrap(), NOW);
        let shown: Vec<&str> = cells[1..4].iter().map(|cell| cell.as_str().unwrap()).collect();
        assert_eq!(shown.join(" "), want);
    }

    fn waiting(reason: &str) -> Value {
        json!({"state": {"waiting": {"reason": reason}}})
    }

    fn running() -> Value {
        json!({"ready": true, "state": {"running": {}}})
    }

    fn ended(code: i64, reason: &str) -> Value {
        json!({"state": {"terminated": {"exitCode": code, "reason": reason}}})
    }

    #[test]
    fn statuses() {
        let both = |a: Value, b: Value| json!({"phase": "Running", "containerStatuses": [a, b]});
        check(json!({"phase": "Pending"}), "0/2 Pending 0");
        check(both(running(), running()), "2/2 Running 0");
        check(both(waiting("CrashLoopBackOff"), running()), "1/2 CrashLoopBackOff 0");
        check(both(waiting("ErrImagePull"), waiting("ImagePullBackOff")), "0/2 ErrImagePull 0");
        check(both(ended(0, "Completed"), running()), "1/2 NotReady 0");
        check(both(ended(137, "OOMKilled"), running()), "1/2 OOMKilled 0");
        check(both(ended(2, ""), running()), "1/2 ExitCode:2 0");
        check(json!({"phase": "Failed", "reason": "Evicted"}), "0/2 Evicted 0");
    }

    #[test]
    fn init_containers() {
        let init = |a: Value, b: Value| json!({"phase": "Pending", "initContainerStatuses": [a, b]});
        check(init(json!({"state": {"running": {}}}), waiting("PodInitializing")), "0/2 Init:0/2 0");
        check(init(ended(0, "Completed"), json!({"state": {"running": {}}})), "0/2 Init:1/2 0");
        check(init(ended(1, "Error"), waiting("PodInitializing")), "0/2 Init:Error 0");
        check(init(ended(1, ""), waiting("PodInitializing")), "0/2 Init:ExitCode:1 0");
        check(init(waiting("CrashLoopBackOff"), waiting("PodInitializing")), "0/2 Init:CrashLoopBackOff 0");
        check(init(ended(0, "Completed"), ended(0, "Completed")), "0/2 Pending 0");
    }

    #[test]
    fn restarts_say_when() {
        let crashed = json!({
            "restartCount": 3, "ready": true, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "1970-01-01T00:00:55Z"}},
        });
        check(json!({"phase": "Running", "containerStatuses": [crashed, running()]}), "2/2 Running 3 (5s ago)");
        let never = json!({"restartCount": 2, "ready": true, "state": {"running": {}}});
        check(json!({"phase": "Running", "containerStatuses": [never, running()]}), "2/2 Running 2");
    }

    #[test]
    fn deletion() {
        let deleted = |status: Value| {
            let pod = json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}, "status": status});
            Summary::of(&Object::from_value(pod).unwrap()).status
        };
        assert_eq!(deleted(json!({"phase": "Running"})), "Terminating");
        assert_eq!(deleted(json!({"phase": "Running", "reason": "NodeLost"})), "Unknown");
        assert_eq!(deleted(json!({"phase": "Succeeded"})), "Succeeded");
    }

    #[test]
    fn wide_rows() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"nodeName": "pi", "containers": [{}], "readinessGates": [{"conditionType": "a/b"}, {"conditionType": "c"}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.42.0.9"}], "containerStatuses": [running()],
                       "conditions": [{"type": "c", "status": "True"}]},
        });
        check_row(&POD, pod, "p|1/1|Running|0|60s|10.42.0.9|pi|<none>|1/2");
        check_row(&POD, json!({"metadata": {"name": "p"}}), "p|0/0||0|60s|<none>|<none>|<none>|<none>");
    }
}
