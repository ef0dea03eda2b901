//! The API machine's verbs, without HTTP: what `api` serves and what controllers call.
//!
//! Every write goes through the same steps: defaulting, validation, compare-and-swap on the stored
//! revision. Conflicts of [`Objects::modify`] are retried here; everyone else gets them.

use std::sync::Arc;

use hub_core::kinds::{Resource, Subresource};
use hub_core::object::Object;
use hub_core::status::ApiError;
use hub_store::Revision;

use crate::clock::{Clock, Entropy};

/// Handle on the verbs; cheap to clone.
#[derive(Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    entropy: Entropy,
    images: Arc<dyn ImageResolver>,
}

/// Finds what an image name means now; the answer is kept with the pod for its whole life.
pub trait ImageResolver: Send + Sync + 'static {
    /// `NAME@sha256:...`; `None` for an image that is not there (yet).
    fn resolve(&self, reference: &str) -> Option<String>;
}

/// Which objects a list or a watch is about.
#[derive(Clone, Default)]
pub struct Filter(Option<Arc<dyn Fn(&Object) -> bool + Send + Sync>>);

impl Filter {
    /// Every object.
    pub fn all() -> Self {
        Self(None)
    }

    pub fn new(matches: impl Fn(&Object) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(matches)))
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.0.as_ref().is_none_or(|matches| matches(object))
    }
}

#[derive(Clone, Default)]
pub struct ListOptions {
    /// `None`: all namespaces (and what has none).
    pub namespace: Option<String>,
    pub filter: Filter,
    /// 0 = all.
    pub limit: usize,
    pub resume: Option<Resume>,
}

/// Where a list in pages goes on: the `continue` token's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The store's revision when the first page was read: a watch from there misses nothing.
    pub revision: Revision,
    /// The last key of the page before.
    pub after: String,
}

#[derive(Debug, Clone)]
pub struct List {
    pub items: Vec<Object>,
    /// A watch from here on misses nothing.
    pub revision: Revision,
    pub resume: Option<Resume>,
    /// How many are left after this page; `None` where a filter makes that unknown.
    pub remaining: Option<u64>,
}

/// A change of an object, as seen through a filter: one that comes to match is `Added`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Added(Object),
    Modified(Object),
    Deleted(Object),
}

/// A place in the stream of changes; see [`Objects::watch`].
pub struct Watch {
    _filter: Filter,
}

impl Watch {
    /// The next changes (never empty), waiting for one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// 410 `Expired` where the watcher fell behind the kept history: list again.
    pub async fn next(&mut self) -> Result<Vec<Event>, ApiError> {
        unimplemented!()
    }
}

#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// `None`: spec and metadata. `Some(Status)` and `Some(Scale)` change nothing else.
    pub subresource: Option<Subresource>,
}

#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Propagation,
    pub uid: Option<String>,
    pub resource_version: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// What a deletion came to.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// It is gone.
    Gone(Object),
    /// It has finalizers or a grace period: it is marked and will go.
    Marked(Object),
}

/// Whether [`Objects::modify`] has something to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}

impl Objects {
    pub fn get(&self, _resource: &Resource, _namespace: &str, _name: &str) -> Result<Object, ApiError> {
        unimplemented!()
    }

    pub fn list(&self, _resource: &Resource, _options: &ListOptions) -> Result<List, ApiError> {
        unimplemented!()
    }

    /// Changes after `from`.
    ///
    /// # Errors
    /// 410 `Expired` where `from` is before the kept history.
    pub fn watch(
        &self,
        _resource: &Resource,
        _namespace: Option<&str>,
        _filter: Filter,
        _from: Revision,
    ) -> Result<Watch, ApiError> {
        unimplemented!()
    }

    pub async fn create(
        &self,
        _resource: &'static Resource,
        _object: Object,
        _options: WriteOptions,
    ) -> Result<Object, ApiError> {
        unimplemented!()
    }

    /// Replaces an object; its `resourceVersion`, if set, must be the stored one.
    pub async fn update(
        &self,
        _resource: &'static Resource,
        _object: Object,
        _options: WriteOptions,
    ) -> Result<Object, ApiError> {
        unimplemented!()
    }

    /// Reads, changes, writes; again on conflict. `change` returns whether there is something to write.
    pub async fn modify<F>(
        &self,
        _resource: &'static Resource,
        _namespace: &str,
        _name: &str,
        _options: WriteOptions,
        _change: F,
    ) -> Result<Object, ApiError>
    where
        F: FnMut(&mut Object) -> Result<Changed, ApiError> + Send,
    {
        unimplemented!()
    }

    pub async fn delete(
        &self,
        _resource: &'static Resource,
        _namespace: &str,
        _name: &str,
        _options: DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        unimplemented!()
    }

    /// Deletes all that match; what is gone meanwhile is no error.
    pub async fn delete_collection(
        &self,
        _resource: &'static Resource,
        _which: &ListOptions,
        _options: DeleteOptions,
    ) -> Result<Vec<Deleted>, ApiError> {
        unimplemented!()
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub fn entropy(&self) -> &Entropy {
        &self.inner.entropy
    }

    pub fn images(&self) -> &Arc<dyn ImageResolver> {
        &self.inner.images
    }
}
