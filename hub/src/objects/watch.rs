//! Changes of one kind, as seen through a filter.

use hub_core::object::Object;
use hub_core::status::ApiError;
use hub_store::{Change, Revision};

use super::Filter;
use super::stored::{at, decode, store_error};

/// A change of an object: one that comes to match the filter is `Added`, one that no longer does is
/// `Deleted`, whatever happened to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Added(Object),
    Modified(Object),
    Deleted(Object),
}

/// A place in the stream of changes; see [`super::Objects::watch`].
pub struct Watch {
    changes: hub_store::Watch,
    filter: Filter,
}

impl Watch {
    pub(super) fn new(changes: hub_store::Watch, filter: Filter) -> Self {
        Self { changes, filter }
    }

    /// The next changes (never empty), waiting for one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// 410 `Expired` where the watcher fell behind the kept history: list again.
    pub async fn next(&mut self) -> Result<Vec<Event>, ApiError> {
        loop {
            let changes = self.changes.next().await.map_err(store_error)?;
            let mut events = Vec::with_capacity(changes.len());
            for change in &changes {
                events.extend(event(change, &self.filter)?);
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Every change up to here was delivered, or was none of this watch's.
    pub fn seen(&self) -> Revision {
        self.changes.seen()
    }
}

fn event(change: &Change, filter: &Filter) -> Result<Option<Event>, ApiError> {
    let object = |entry: &Option<std::sync::Arc<hub_store::Entry>>| entry.as_deref().map(decode).transpose();
    let now = object(&change.now)?.filter(|object| filter.matches(object));
    let before = object(&change.before)?.filter(|object| filter.matches(object));
    Ok(match (before, now) {
        (None, None) => None,
        (None, Some(now)) => Some(Event::Added(now)),
        (Some(_), Some(now)) => Some(Event::Modified(now)),
        (Some(before), None) => Some(Event::Deleted(at(before, change.revision))),
    })
}
