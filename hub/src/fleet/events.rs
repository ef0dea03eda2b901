//! What nodes tell people: node events as Event objects, each once, repeated ones counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hub_core::kinds;
use hub_core::object::Object;
use hub_core::status::ApiError;
use protocol::event::{Event, Severity};
use protocol::limits::{MESSAGE_MAX, REASON_MAX};
use protocol::{NodeName, UnixMillis};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::debug;

use super::context::{Context, FromNode};
use crate::objects::{Changed, WriteOptions};

/// Ids remembered, so that a message that comes twice makes one event. QoS 1 repeats soon or never.
const SEEN: usize = 4096;
/// Series remembered: an event like one of these counts it up instead of making another.
const SERIES: usize = 1024;

/// What makes two events the same to a reader.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    about: String,
    container: Option<String>,
    reason: String,
    message: String,
}

/// Remembers a bounded number of keys, the oldest forgotten first.
struct Memory<K, V> {
    order: VecDeque<K>,
    values: BTreeMap<K, V>,
    most: usize,
}

impl<K: Ord + Clone, V> Memory<K, V> {
    fn new(most: usize) -> Self {
        Self { order: VecDeque::new(), values: BTreeMap::new(), most }
    }

    fn put(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    fn forget(&mut self, key: &K) {
        self.values.remove(key);
        self.order.retain(|kept| kept != key);
    }
}

pub(super) async fn run(context: Arc<Context>, mut queue: mpsc::Receiver<FromNode>) {
    let mut seen = Memory::new(SEEN);
    let mut series = Memory::new(SERIES);
    while let Some(event) = queue.recv().await {
        let id = (event.node.clone(), event.event.id);
        if seen.get(&id).is_some() {
            continue;
        }
        seen.put(id, ());
        if let Err(error) = record(&context, &event, &mut series).await {
            debug!(node = %event.node, error = &error as &dyn std::error::Error, "event not kept");
        }
    }
}

/// The object that an event is about.
struct About {
    namespace: String,
    name: String,
    reference: Value,
}

async fn record(
    context: &Context,
    FromNode { node, event, skew_millis }: &FromNode,
    series: &mut Memory<Series, (String, String)>,
) -> Result<(), ApiError> {
    let Some(resource) = kinds::find("", "v1", "events") else { return Ok(()) };
    let Some(about) = about(context, node, event) else { return Ok(()) };
    let at = hub_core::time::format(shifted_seconds(event.at, *skew_millis));
    let like = Series {
        about: about.reference["uid"].as_str().unwrap_or_default().to_owned(),
        container: event.container.clone(),
        reason: event.reason.clone(),
        message: event.message.clone(),
    };
    if let Some((namespace, name)) = series.get(&like).cloned() {
        let again = |object: &mut Object| {
            object.set(&["count"], object.i64_at(&["count"]).unwrap_or(1) + 1);
            object.set(&["lastTimestamp"], at.as_str());
            Ok(Changed::Yes)
        };
        match context.objects.modify(resource, &namespace, &name, WriteOptions::default(), again).await {
            Ok(_) => return Ok(()),
            // It has expired meanwhile: a new series.
            Err(error) if error.code == 404 => series.forget(&like),
            Err(error) => return Err(error),
        }
    }
    let name = format!("{}.{:016x}", about.name, event.id);
    let object = object(node, event, &about, &name, &at);
    match context.objects.create(resource, object, WriteOptions::default()).await {
        Ok(_) => series.put(like, (about.namespace, name)),
        // From before a restart of the hub.
        Err(error) if error.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// `None` for a pod that is gone, or that is not the node's: a node speaks for its own.
fn about(context: &Context, node: &NodeName, event: &Event) -> Option<About> {
    let Some(pod) = event.pod else {
        // Kubernetes has the node's name as its uid here, and kubectl describe looks for that.
        let reference = json!({"kind": "Node", "name": node.as_str(), "uid": node.as_str(), "apiVersion": "v1"});
        return Some(About { namespace: "default".to_owned(), name: node.as_str().to_owned(), reference });
    };
    let record = context.world.by_uid(&pod.to_string())?;
    let object = record.body.pod()?;
    if super::desired::node_of(&object).as_ref() != Some(node) {
        return None;
    }
    let (namespace, name) = (record.namespace().to_owned(), record.name().to_owned());
    let mut reference = json!({
        "kind": "Pod", "namespace": namespace, "name": name, "uid": record.uid(), "apiVersion": "v1",
        "resourceVersion": record.revision.0.to_string(),
    });
    if let Some(container) = &event.container {
        reference["fieldPath"] = field_path(&object, container).into();
    }
    Some(About { namespace, name, reference })
}

fn field_path(pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> String {
    let init: BTreeSet<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .map(|container| container.name.as_str())
        .collect();
    let list = if init.contains(container) { "initContainers" } else { "containers" };
    format!("spec.{list}{{{container}}}")
}

fn object(node: &NodeName, event: &Event, about: &About, name: &str, at: &str) -> Object {
    let kind = match event.severity {
        Severity::Normal => "Normal",
        Severity::Warning => "Warning",
    };
    let value = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": about.namespace},
        "involvedObject": about.reference,
        "reason": cut(&event.reason, REASON_MAX),
        "message": cut(&event.message, MESSAGE_MAX),
        "type": kind,
        "source": {"component": "edge-agent", "host": node.as_str()},
        "reportingComponent": "edge-agent",
        "reportingInstance": node.as_str(),
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    });
    Object::from_value(value).expect("an object was written above")
}

/// At most `most` bytes, at a letter's end.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// On the hub's clock, in unix seconds.
fn shifted_seconds(at: UnixMillis, skew_millis: i64) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX).saturating_add(skew_millis) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_letters() {
        for (text, most, want) in [("short", 10, "short"), ("abcdefgh", 6, "abc…"), ("ääää", 7, "ää…")] {
            assert_eq!(cut(text, most), want);
        }
    }

    #[test]
    fn memory_forgets_the_oldest() {
        let mut memory = Memory::new(2);
        for key in [1, 2, 2, 3] {
            memory.put(key, key * 10);
        }
        assert_eq!((memory.get(&1), memory.get(&2), memory.get(&3)), (None, Some(&20), Some(&30)));
        memory.forget(&2);
        memory.put(4, 40);
        assert_eq!((memory.get(&3), memory.get(&4)), (Some(&30), Some(&40)));
    }
}
