//! One object for people: what it is, what it shall be, what it is now, and what happened to it.

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::age;
use crate::merge::LAST_APPLIED;
use crate::table::Table;

/// Where values start, so that the head reads as a table.
const INDENT: usize = 16;

pub(crate) fn describe(object: &Value, events: &[Value], now: Timestamp) -> String {
    let mut text = head(object);
    let secret = object["kind"] == "Secret";
    for (field, value) in object.as_object().into_iter().flatten() {
        if ["apiVersion", "kind", "metadata"].contains(&field.as_str()) || is_empty(value) {
            continue;
        }
        let value = if secret && field == "data" { sizes(value) } else { value.clone() };
        match value {
            value @ (Value::Object(_) | Value::Array(_)) => {
                text.push_str(&format!("{}:\n{}", title(field), yaml(&value, 2)));
            }
            scalar => text.push_str(&line(&title(field), &plain(&scalar))),
        }
    }
    text.push_str(&events_section(events, now));
    text
}

fn head(object: &Value) -> String {
    let metadata = &object["metadata"];
    let mut text = line("Name", &plain(&metadata["name"]));
    if let Some(namespace) = metadata["namespace"].as_str() {
        text.push_str(&line("Namespace", namespace));
    }
    text.push_str(&line("Kind", &plain(&object["kind"])));
    text.push_str(&pairs("Labels", &metadata["labels"]));
    text.push_str(&pairs("Annotations", &metadata["annotations"]));
    text.push_str(&line("Created", &plain(&metadata["creationTimestamp"])));
    if let Some(deleted) = metadata["deletionTimestamp"].as_str() {
        text.push_str(&line("Deleted", deleted));
    }
    let owners = metadata["ownerReferences"].as_array();
    for owner in owners.into_iter().flatten().filter(|owner| owner["controller"] == true) {
        text.push_str(&line("Controlled By", &format!("{}/{}", plain(&owner["kind"]), plain(&owner["name"]))));
    }
    text
}

fn line(name: &str, value: &str) -> String {
    format!("{:<INDENT$}{value}\n", format!("{name}:"))
}

fn pairs(name: &str, map: &Value) -> String {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != LAST_APPLIED)
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    if pairs.is_empty() {
        return line(name, "<none>");
    }
    let blank = format!("\n{}", " ".repeat(INDENT));
    line(name, &pairs.join(&blank))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn yaml(value: &Value, indent: usize) -> String {
    let text = serde_yaml_ng::to_string(value).unwrap_or_else(|_| value.to_string());
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(indent))).collect()
}

/// `nodeSelector` -> `Node Selector`
fn title(field: &str) -> String {
    let mut title = String::new();
    for (at, letter) in field.chars().enumerate() {
        if at == 0 {
            title.extend(letter.to_uppercase());
            continue;
        }
        if letter.is_uppercase() {
            title.push(' ');
        }
        title.push(letter);
    }
    title
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => false,
    }
}

/// A secret's values stay secret.
fn sizes(data: &Value) -> Value {
    let bytes = |text: &Value| {
        let text = text.as_str().unwrap_or_default();
        text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(text.len() / 4 * 3)
    };
    let entries = data.as_object().into_iter().flatten();
    Value::Object(entries.map(|(key, value)| (key.clone(), format!("{} bytes", bytes(value)).into())).collect())
}

fn events_section(events: &[Value], now: Timestamp) -> String {
    if events.is_empty() {
        return line("Events", "<none>");
    }
    let mut events: Vec<&Value> = events.iter().collect();
    events.sort_by_key(|event| when(event));
    let header = ["Type", "Reason", "Age", "From", "Message"].map(str::to_owned).to_vec();
    let row = |event: &&Value| {
        let count = event["count"].as_i64().unwrap_or(1);
        let age = match when(event).map(|at| age(at, now)) {
            Some(age) if count > 1 => format!("{age} (x{count})"),
            Some(age) => age,
            None => "<unknown>".to_owned(),
        };
        let from = [&event["source"]["component"], &event["reportingComponent"]];
        let from = from.into_iter().filter_map(Value::as_str).find(|text| !text.is_empty()).unwrap_or("<none>");
        let message = plain(&event["message"]).replace('\n', " ");
        vec![plain(&event["type"]), plain(&event["reason"]), age, from.to_owned(), message]
    };
    let table = Table { header, rows: events.iter().map(row).collect() };
    let lines: String = table.render().lines().map(|line| format!("  {line}\n")).collect();
    format!("Events:\n{lines}")
}

/// The last time that it happened.
fn when(event: &Value) -> Option<Timestamp> {
    let times =
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["firstTimestamp"]];
    let times = times.into_iter().chain([&event["metadata"]["creationTimestamp"]]);
    times.filter_map(Value::as_str).find_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_with_its_events() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1", "namespace": "default", "labels": {"app": "web", "tier": "edge"},
                "annotations": {(LAST_APPLIED): "{}"}, "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": true}],
            },
            "spec": {"nodeName": "pi-1", "containers": [{"name": "c", "image": "web"}]},
            "status": {},
        });
        let event = |reason: &str, at: &str, count: i64| {
            json!({
                "type": "Normal", "reason": reason, "lastTimestamp": at, "count": count,
                "source": {"component": "scheduler"}, "message": "it\nhappened",
            })
        };
        let events = [event("Started", "2026-01-01T00:00:30Z", 3), event("Scheduled", "2026-01-01T00:00:00Z", 1)];
        let text = describe(&pod, &events, "2026-01-01T00:01:00Z".parse().unwrap());
        let expected = "\
Name:           web-1
Namespace:      default
Kind:           Pod
Labels:         app=web
                tier=edge
Annotations:    <none>
Created:        2026-01-01T00:00:00Z
Controlled By:  ReplicaSet/web
Spec:
  nodeName: pi-1
  containers:
  - name: c
    image: web
Events:
  Type     Reason      Age        From        Message
  Normal   Scheduled   60s        scheduler   it happened
  Normal   Started     30s (x3)   scheduler   it happened
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_secret_keeps_its_values() {
        let secret = json!({"kind": "Secret", "type": "Opaque", "metadata": {"name": "s"}, "data": {"key": "aGVsbG8=", "none": ""}});
        let text = describe(&secret, &[], Timestamp::UNIX_EPOCH);
        assert!(text.contains("key: 5 bytes\n  none: 0 bytes\n") && !text.contains("aGVsbG8"), "{text}");
        assert!(text.contains("Type:           Opaque\n") && text.ends_with("Events:         <none>\n"), "{text}");
    }
}
