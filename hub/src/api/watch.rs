//! A watch: one JSON line per change, for as long as the client listens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use hub_core::kinds::Resource;
use hub_core::object::Object;
use hub_core::printing::{Columns, metadata, table};
use hub_core::status::ApiError;
use hub_store::Revision;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answer::{Failure, JSON, line};
use super::negotiate::Form;
use super::read::form;
use super::{Api, Call};
use crate::clock::Clock;
use crate::objects::{Event, ListOptions, Watch};

/// Clients that name no time watch again after this one; Kubernetes chooses 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How often an idle watcher learns how far it is; Kubernetes' pace.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// By which a client knows that it has seen everything there was.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What comes before the changes.
enum Start {
    /// Nothing: the client knows the state at this revision.
    From(Revision),
    /// Everything there is, as `ADDED`.
    Everything { end: End },
}

/// How a client learns that it has seen everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Silent,
    Bookmark,
}

struct Stream {
    watch: Watch,
    pending: VecDeque<Bytes>,
    writer: Writer,
    until: Instant,
    bookmarks: Option<Instant>,
    stop: CancellationToken,
    failed: bool,
}

/// Writes events in the form that the client asked for.
struct Writer {
    resource: &'static Resource,
    form: Form,
    columns: Columns,
    clock: Clock,
}

pub(super) fn watch(api: &Api, call: &Call, name: Option<&str>) -> Result<Response, Failure> {
    let Call { resource, params, .. } = call;
    let filter = params.filter(resource, name)?;
    let form = form(call)?;
    let timeout = params.number("timeoutSeconds")?.map_or(DEFAULT_TIMEOUT, Duration::from_secs).min(LONGEST_TIMEOUT);
    let bookmarks = params.is_set("allowWatchBookmarks").then(|| Instant::now() + BOOKMARKS);
    let mut writer = Writer { resource, form, columns: Columns::Shown, clock: api.clock().clone() };
    let mut pending = VecDeque::new();

    let namespace = call.namespace.as_deref();
    let (from, end) = match start(call)? {
        Start::From(revision) => (revision, End::Silent),
        Start::Everything { end } => {
            let options =
                ListOptions { namespace: call.namespace.clone(), filter: filter.clone(), ..ListOptions::default() };
            let list = api.objects().list(resource, &options)?;
            for object in list.items {
                pending.push_back(writer.event("ADDED", object));
            }
            (list.revision, end)
        }
    };
    if end == End::Bookmark {
        pending.push_back(writer.bookmark(from, Some(INITIAL_END)));
    }
    let watch = match api.objects().watch(resource, namespace, filter, from) {
        Ok(watch) => watch,
        // What is expired is told in the stream, where watchers look for it.
        Err(error) if error.code == 410 => return Ok(respond(Body::from(writer.error(&error)))),
        Err(error) => return Err(error.into()),
    };
    let stop = api.parts.stop.clone();
    let until = Instant::now() + timeout;
    let stream = Stream { watch, pending, writer, until, bookmarks, stop, failed: false };
    Ok(respond(Body::from_stream(futures_util::stream::unfold(stream, |mut stream| async {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    }))))
}

fn start(call: &Call) -> Result<Start, ApiError> {
    let params = &call.params;
    let from = params.number("resourceVersion")?.unwrap_or(0);
    if params.get("sendInitialEvents").is_some() && params.get("resourceVersionMatch") != Some("NotOlderThan") {
        return Err(ApiError::bad_request("sendInitialEvents is only allowed with resourceVersionMatch=NotOlderThan"));
    }
    if params.is_set("sendInitialEvents") {
        let end = if params.is_set("allowWatchBookmarks") { End::Bookmark } else { End::Silent };
        return Ok(Start::Everything { end });
    }
    if from == 0 {
        return Ok(Start::Everything { end: End::Silent });
    }
    Ok(Start::From(Revision(from)))
}

fn respond(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

impl Stream {
    /// The next line; `None` when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(bytes);
            }
            if self.failed {
                return None;
            }
            let bookmark_at = self.bookmarks.unwrap_or(self.until);
            tokio::select! {
                events = self.watch.next() => self.take(events),
                () = sleep_until(bookmark_at), if self.bookmarks.is_some() => self.bookmark(),
                () = sleep_until(self.until) => return None,
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn take(&mut self, events: Result<Vec<Event>, ApiError>) {
        match events {
            Ok(events) => {
                for event in events {
                    let (kind, object) = match event {
                        Event::Added(object) => ("ADDED", object),
                        Event::Modified(object) => ("MODIFIED", object),
                        Event::Deleted(object) => ("DELETED", object),
                    };
                    self.pending.push_back(self.writer.event(kind, object));
                }
            }
            Err(error) => {
                self.failed = true;
                self.pending.push_back(self.writer.error(&error));
            }
        }
    }

    fn bookmark(&mut self) {
        self.bookmarks = Some(Instant::now() + BOOKMARKS);
        // What lies ready is told before the place after it.
        if let Some(events) = self.watch.next().now_or_never() {
            self.take(events);
        }
        if !self.failed {
            self.pending.push_back(self.writer.bookmark(self.watch.seen(), None));
        }
    }
}

impl Writer {
    fn event(&mut self, kind: &str, object: Object) -> Bytes {
        let object = match self.form {
            Form::Whole => object.into_value(),
            Form::Metadata => metadata(&object),
            Form::Table(include) => {
                let meta = json!({"resourceVersion": object.resource_version().to_string()});
                let columns = std::mem::replace(&mut self.columns, Columns::Known);
                table(self.resource, &[object], include, meta, columns, self.clock.unix_seconds())
            }
        };
        write(kind, object)
    }

    fn bookmark(&self, at: Revision, mark: Option<&str>) -> Bytes {
        let mut meta = json!({"resourceVersion": at.0.to_string(), "creationTimestamp": null});
        if let Some(mark) = mark {
            meta["annotations"] = json!({mark: "true"});
        }
        let object = match self.form {
            Form::Whole => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": meta})
            }
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
            }
            Form::Table(_) => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                                     "columnDefinitions": [], "rows": []}),
        };
        write("BOOKMARK", object)
    }

    fn error(&self, error: &ApiError) -> Bytes {
        write("ERROR", error.to_json())
    }
}

fn write(kind: &str, object: Value) -> Bytes {
    Bytes::from(line(&json!({"type": kind, "object": object})))
}
