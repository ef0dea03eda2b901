//! One container's status, as its node last reported it.

use protocol::reported::{ContainerReport, ContainerState, Terminated};
use serde_json::{Map, Value, json};

use super::Heard;

/// The agent's word for a start that is under way.
pub(super) const CREATING: &str = "ContainerCreating";

/// What a container's status is made of.
pub(super) struct Container<'a> {
    pub(super) pod_uid: &'a str,
    pub(super) name: &'a str,
    /// As in the pod's spec.
    pub(super) image: &'a str,
    /// Shown until the node reports the container.
    pub(super) waiting: &'static str,
    pub(super) report: Option<&'a ContainerReport>,
    /// Its status as stored.
    pub(super) old: Option<&'a Value>,
}

impl Container<'_> {
    pub(super) fn status(&self, heard: &Heard<'_>) -> Value {
        let Some(report) = self.report else {
            return self.old.cloned().unwrap_or_else(|| self.unreported());
        };
        let mut status = Map::new();
        let mut put = |field: &str, value: Value| status.insert(field.to_owned(), value);
        put("name", json!(self.name));
        put("state", self.state(report, heard));
        put("lastState", self.last_state(report, heard));
        put("ready", json!(report.ready));
        put("restartCount", json!(report.restarts));
        put("image", json!(self.image));
        put("imageID", json!(report.image.map(|digest| digest.to_string()).unwrap_or_default()));
        match &report.state {
            ContainerState::Running { .. } | ContainerState::Terminated(_) => {
                put("containerID", json!(self.id(report.restarts)));
            }
            ContainerState::Waiting { .. } if report.last.is_some() => {
                put("containerID", json!(self.id(self.last_run(report))));
            }
            ContainerState::Waiting { .. } => (),
        }
        put("started", json!(report.started));
        Value::Object(status)
    }

    fn unreported(&self) -> Value {
        json!({
            "name": self.name, "state": {"waiting": {"reason": self.waiting}}, "lastState": {}, "ready": false,
            "restartCount": 0, "image": self.image, "imageID": "", "started": false,
        })
    }

    /// `wasmtime://<uid>/<container>/<how often it had been restarted>`: one id a run.
    fn id(&self, run: u32) -> String {
        format!("wasmtime://{}/{}/{run}", self.pod_uid, self.name)
    }

    /// Which run `last` was: a start is counted when it begins, so a container that is being created
    /// anew has counted one more than one that waits for its turn.
    fn last_run(&self, report: &ContainerReport) -> u32 {
        match &report.state {
            ContainerState::Waiting { reason, .. } if reason != CREATING => report.restarts,
            ContainerState::Waiting { .. } | ContainerState::Running { .. } | ContainerState::Terminated(_) => {
                report.restarts.saturating_sub(1)
            }
        }
    }

    fn state(&self, report: &ContainerReport, heard: &Heard<'_>) -> Value {
        match &report.state {
            ContainerState::Waiting { reason, message } => {
                let mut waiting = Map::from_iter([("reason".to_owned(), json!(reason))]);
                if let Some(message) = message {
                    waiting.insert("message".to_owned(), json!(message));
                }
                json!({ "waiting": waiting })
            }
            ContainerState::Running { since } => {
                let started = self.started(report.restarts).unwrap_or_else(|| heard.stamp(*since));
                json!({"running": {"startedAt": started}})
            }
            ContainerState::Terminated(ended) => json!({"terminated": self.terminated(ended, report.restarts, heard)}),
        }
    }

    fn last_state(&self, report: &ContainerReport, heard: &Heard<'_>) -> Value {
        match &report.last {
            Some(ended) => json!({"terminated": self.terminated(ended, self.last_run(report), heard)}),
            None => json!({}),
        }
    }

    fn terminated(&self, ended: &Terminated, run: u32, heard: &Heard<'_>) -> Value {
        let id = self.id(run);
        let known = self
            .ended(&id)
            .filter(|known| known["exitCode"] == ended.exit_code && known["reason"] == ended.reason.as_str());
        if let Some(known) = known {
            return known.clone();
        }
        let started = self.started(run).unwrap_or_else(|| heard.stamp(ended.started_at));
        let mut terminated = Map::new();
        let mut put = |field: &str, value: Value| terminated.insert(field.to_owned(), value);
        put("exitCode", json!(ended.exit_code));
        put("reason", json!(ended.reason));
        if let Some(message) = &ended.message {
            put("message", json!(message));
        }
        put("startedAt", json!(started));
        put("finishedAt", json!(heard.stamp(ended.finished_at)));
        put("containerID", json!(id));
        Value::Object(terminated)
    }

    /// When this run started, if that was recorded while it ran.
    fn started(&self, run: u32) -> Option<String> {
        let old = self.old.filter(|old| old["containerID"] == self.id(run).as_str())?;
        old["state"]["running"]["startedAt"].as_str().map(str::to_owned)
    }

    /// How this run ended, if that was recorded.
    fn ended(&self, id: &str) -> Option<&Value> {
        let old = self.old?;
        [&old["state"]["terminated"], &old["lastState"]["terminated"]]
            .into_iter()
            .find(|ended| ended["containerID"] == id)
    }
}

/// The report of the container of that name.
pub(super) fn named<'a>(reports: &'a [ContainerReport], name: &str) -> Option<&'a ContainerReport> {
    reports.iter().find(|report| report.name.as_str() == name)
}
