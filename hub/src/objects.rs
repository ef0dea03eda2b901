//! The API machine's verbs, without HTTP: what `api` serves and what controllers call.
//!
//! Every write goes through the same steps: defaulting, validation, compare-and-swap on the stored
//! revision. Conflicts of [`Objects::modify`] are retried here; everyone else gets them.

use std::sync::Arc;

use hub_core::kinds::{Resource, Subresource};
use hub_core::object::Object;
use hub_core::status::ApiError;

/// Handle on the verbs; cheap to clone.
#[derive(Clone)]
pub struct Objects {
    _inner: Arc<()>,
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

impl Objects {
    pub fn get(&self, _resource: &Resource, _namespace: &str, _name: &str) -> Result<Object, ApiError> {
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
        _subresource: Option<Subresource>,
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
}

/// Whether [`Objects::modify`] has something to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}
