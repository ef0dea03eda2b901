//! Conditions: a status that remembers since when it holds.

use serde_json::{Map, Value, json};

use crate::time;

/// What holds of one condition now.
pub(super) struct Finding {
    pub(super) kind: &'static str,
    pub(super) holds: Holds,
}

/// Whether it holds; if there is something to say, a word for programs and a text for people.
#[derive(Debug, Clone)]
pub(super) enum Holds {
    Yes,
    YesAs(&'static str, String),
    No(&'static str, String),
}

impl Holds {
    fn parts(self) -> (&'static str, &'static str, String) {
        match self {
            Self::Yes => ("True", "", String::new()),
            Self::YesAs(reason, message) => ("True", reason, message),
            Self::No(reason, message) => ("False", reason, message),
        }
    }

    pub(super) fn is_yes(&self) -> bool {
        match self {
            Self::Yes | Self::YesAs(..) => true,
            Self::No(..) => false,
        }
    }
}

/// The fields of a condition that say when it was looked at, which only some objects have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looked {
    /// Pods: `lastProbeTime`, always null.
    Probe,
    /// Nodes: `lastHeartbeatTime`, when it was last written.
    Heartbeat,
}

/// `old` with the findings in; conditions of others stay as they are and where they are.
pub(super) fn merged(old: Option<&Value>, findings: Vec<Finding>, looked: Looked, now: i64) -> Value {
    let mut conditions: Vec<Value> = old.and_then(Value::as_array).cloned().unwrap_or_default();
    for finding in findings {
        let at = conditions.iter().position(|condition| condition["type"] == finding.kind);
        let new = written(finding, at.map(|at| &conditions[at]), looked, now);
        match at {
            Some(at) => conditions[at] = new,
            None => conditions.push(new),
        }
    }
    Value::Array(conditions)
}

fn written(finding: Finding, old: Option<&Value>, looked: Looked, now: i64) -> Value {
    let (status, reason, message) = finding.holds.parts();
    let same = old.filter(|old| old["status"] == status);
    let unchanged = same.filter(|old| text(old, "reason") == reason && text(old, "message") == message);
    if let Some(old) = unchanged {
        return old.clone();
    }
    let since =
        same.and_then(|old| old["lastTransitionTime"].as_str()).map_or_else(|| time::format(now), str::to_owned);
    let mut condition = Map::new();
    condition.insert("type".to_owned(), json!(finding.kind));
    condition.insert("status".to_owned(), json!(status));
    match looked {
        Looked::Probe => condition.insert("lastProbeTime".to_owned(), Value::Null),
        Looked::Heartbeat => condition.insert("lastHeartbeatTime".to_owned(), json!(time::format(now))),
    };
    condition.insert("lastTransitionTime".to_owned(), json!(since));
    for (field, text) in [("reason", reason), ("message", message.as_str())] {
        if !text.is_empty() {
            condition.insert(field.to_owned(), json!(text));
        }
    }
    Value::Object(condition)
}

fn text<'a>(condition: &'a Value, field: &str) -> &'a str {
    condition[field].as_str().unwrap_or_default()
}
