//! Events: what a person reads in `kubectl describe`.
//!
//! Recording never waits and never fails anybody: events go into a bounded queue and are dropped when
//! it is full. The same thing said again counts up the event that there is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use hub_core::kinds::{self, Resource};
use hub_core::object::Object;
use hub_core::time;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::objects::{Changed, Objects, WriteOptions};

/// Events waiting to be written: a rollout of a few hundred pods at once.
const WAITING: usize = 1024;
/// Events remembered for counting up.
const REMEMBERED: usize = 4096;
/// Where events about objects of the cluster live, as in Kubernetes.
const CLUSTER_NAMESPACE: &str = "default";
/// The longest message that the API accepts.
const LONGEST: usize = 1024;

/// Handle for recording; cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder {
    sender: mpsc::Sender<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Severity {
    Normal,
    Warning,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct About {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Event {
    pub(super) about: About,
    pub(super) severity: Severity,
    /// For programs: `FailedScheduling`.
    pub(super) reason: String,
    /// For people.
    pub(super) message: String,
    /// Who says so: `deployment-controller`.
    pub(super) component: &'static str,
}

/// Where an event is in the store.
struct Known {
    namespace: String,
    name: String,
}

impl About {
    pub(super) fn new(resource: &Resource, metadata: &ObjectMeta) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self {
            api_version: resource.api_version(),
            kind: resource.kind.to_owned(),
            namespace: text(&metadata.namespace),
            name: text(&metadata.name),
            uid: text(&metadata.uid),
        }
    }
}

impl Recorder {
    /// A recorder, and the task that writes what it is given until all its handles are gone.
    pub(super) fn new(objects: Objects) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, write_all(objects, receiver))
    }

    pub(super) fn record(&self, event: Event) {
        if let Err(error) = self.sender.try_send(event) {
            debug!(error = &error as &dyn std::error::Error, "dropped an event");
        }
    }
}

async fn write_all(objects: Objects, mut events: mpsc::Receiver<Event>) {
    let Some(resource) = kinds::find("", "v1", "events") else { return };
    let mut known: HashMap<Arc<Event>, Known> = HashMap::new();
    let mut order: VecDeque<Arc<Event>> = VecDeque::new();
    while let Some(event) = events.recv().await {
        if let Some(told) = known.get(&event)
            && count_up(&objects, resource, told).await
        {
            continue;
        }
        let Some(told) = create(&objects, resource, &event).await else { continue };
        let event = Arc::new(event);
        if known.insert(event.clone(), told).is_none() {
            order.push_back(event);
        }
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }
}

/// Whether the event was still there to be counted up.
async fn count_up(objects: &Objects, resource: &'static Resource, told: &Known) -> bool {
    let now = time::format(objects.clock().unix_seconds());
    let again = |event: &mut Object| {
        let count = event.i64_at(&["count"]).unwrap_or(1).saturating_add(1);
        event.set(&["count"], count);
        event.set(&["lastTimestamp"], now.clone());
        Ok(Changed::Yes)
    };
    objects.modify(resource, &told.namespace, &told.name, WriteOptions::default(), again).await.is_ok()
}

async fn create(objects: &Objects, resource: &'static Resource, event: &Event) -> Option<Known> {
    let namespace = if event.about.namespace.is_empty() { CLUSTER_NAMESPACE } else { &event.about.namespace };
    let object = event_object(event, namespace, objects);
    match objects.create(resource, object, WriteOptions::default()).await {
        Ok(created) => Some(Known { namespace: namespace.to_owned(), name: created.name().to_owned() }),
        // Its namespace is going or gone: nobody is left to read it.
        Err(error) if matches!(error.code, 403 | 404) => None,
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, reason = event.reason, "cannot write an event");
            None
        }
    }
}

fn event_object(event: &Event, namespace: &str, objects: &Objects) -> Object {
    let now = time::format(objects.clock().unix_seconds());
    let Event { about, severity, reason, message, component } = event;
    let severity = match severity {
        Severity::Normal => "Normal",
        Severity::Warning => "Warning",
    };
    // As long as names may be, with room for the tail that makes it unique.
    let stem: String = about.name.chars().take(200).collect();
    let unique = format!("{stem}.{:016x}", u64::from_be_bytes(objects.entropy().bytes()));
    let mut involved =
        json!({"kind": about.kind, "name": about.name, "uid": about.uid, "apiVersion": about.api_version});
    if !about.namespace.is_empty() {
        involved["namespace"] = json!(about.namespace);
    }
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": unique, "namespace": namespace},
        "involvedObject": involved, "reason": reason, "message": shortened(message), "type": severity,
        "source": {"component": component}, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        "reportingComponent": component, "reportingInstance": "",
    });
    Object::from_value(event).unwrap_or_default()
}

fn shortened(message: &str) -> String {
    if message.len() <= LONGEST {
        return message.to_owned();
    }
    let end = (0..=LONGEST - 3).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &message[..end])
}

#[cfg(test)]
mod tests {
    use hub_store::Backend;
    use hub_store::memory::MemoryStore;

    use super::*;
    use crate::clock::{Clock, Entropy};
    use crate::objects::{ImageResolver, ListOptions};

    struct NoImages;

    impl ImageResolver for NoImages {
        fn resolve(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn event(namespace: &str, message: &str) -> Event {
        let about = About {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: namespace.to_owned(),
            name: "web".to_owned(),
            uid: "u".to_owned(),
        };
        let (reason, message) = ("Scheduled".to_owned(), message.to_owned());
        Event { about, severity: Severity::Normal, reason, message, component: "test" }
    }

    /// What is in the store after these were recorded: message and count.
    async fn recorded(events: Vec<Event>) -> Vec<(String, i64)> {
        let store = Arc::new(Backend::from(MemoryStore::new()));
        let objects = Objects::new(store, Clock::manual(0), Entropy::counting(), Arc::new(NoImages));
        let namespace = Object::from_value(json!({"metadata": {"name": "home"}})).expect("an object");
        let namespaces = kinds::find("", "v1", "namespaces").expect("the table has namespaces");
        objects.create(namespaces, namespace, WriteOptions::default()).await.expect("it is created");
        let (recorder, write) = Recorder::new(objects.clone());
        events.into_iter().for_each(|event| recorder.record(event));
        drop(recorder);
        write.await;
        let row = kinds::find("", "v1", "events").expect("the table has events");
        let events = objects.list(row, &ListOptions::default()).expect("events are listed").items;
        let text = |event: &Object| event.str_at(&["message"]).unwrap_or_default().to_owned();
        let mut events: Vec<_> =
            events.iter().map(|event| (text(event), event.i64_at(&["count"]).unwrap_or_default())).collect();
        events.sort();
        events
    }

    #[tokio::test]
    async fn what_is_said_again_is_counted() {
        let events = ["a", "b", "a", "a"].map(|message| event("home", message));
        assert_eq!(recorded(events.into()).await, [("a".to_owned(), 3), ("b".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn nobody_reads_events_of_a_namespace_that_is_gone() {
        assert_eq!(recorded(vec![event("away", "a"), event("home", "b")]).await, [("b".to_owned(), 1)]);
    }

    #[test]
    fn long_messages_are_cut_between_letters() {
        let cut = shortened(&"ü".repeat(1000));
        assert!(cut.len() <= LONGEST && cut.ends_with("ü..."), "{}", cut.len());
        assert_eq!(shortened("short"), "short");
    }
}
