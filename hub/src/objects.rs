//! The API machine's verbs, without HTTP: what `api` serves and what controllers call.
//!
//! Every write goes through the same steps: read, decide (`hub_core::admission`), commit if nobody was
//! quicker. Conflicts of [`Objects::modify`] are retried here; everyone else gets them.
//!
//! ```text
//! objects   the verbs           stored   JSON with a revision <-> store entries
//! watch     changes, as seen through a filter          images   what a pod's image names mean
//! ```

mod images;
mod stored;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use hub_core::admission::{self, Deletion, Identity, Update};
pub use hub_core::admission::{DeleteOptions, Propagation};
use hub_core::kinds::{self, Durability, Resource, Scope, Subresource};
use hub_core::object::Object;
use hub_core::status::{ApiError, Cause};
use hub_store::{Backend, Entry, Expect, Op, Revision, Store, StoreError, Write};

use crate::clock::{Clock, Entropy};
pub use images::{IMAGES_ANNOTATION, ImageResolver};
use stored::{decode, encode, store_error};
pub use watch::{Event, Watch};

/// Attempts of one write against others: each lost attempt is someone else's success, so a handful of
/// writers of one object never need more.
const ATTEMPTS: usize = 32;
/// Entries read at a time where a filter leaves out most of them.
const PAGE: usize = 500;

/// Handle on the verbs; cheap to clone.
#[derive(Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Backend>,
    clock: Clock,
    entropy: Entropy,
    images: Arc<dyn ImageResolver>,
    /// Seconds; see [`Objects::with_toleration`].
    toleration: Option<i64>,
}

/// Which objects a list or a watch is about.
#[derive(Clone, Default)]
pub struct Filter(Option<Arc<Predicate>>);

type Predicate = dyn Fn(&Object) -> bool + Send + Sync;

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

#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// `None`: spec and metadata. `Some(Status)` and `Some(Scale)` change nothing else, and
    /// `Some(Binding)` a pod's node and status.
    pub subresource: Option<Subresource>,
}

/// What a deletion came to.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// It is gone.
    Gone(Object),
    /// It has finalizers or a grace period: it is marked and will go.
    Marked(Object),
}

impl Deleted {
    pub fn into_object(self) -> Object {
        match self {
            Self::Gone(object) | Self::Marked(object) => object,
        }
    }
}

/// Whether [`Objects::modify`] has something to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}

/// What became of one attempt to write.
enum Attempt<T> {
    Done(T),
    /// Someone else was quicker.
    Lost(ApiError),
}

impl Objects {
    pub fn new(store: Arc<Backend>, clock: Clock, entropy: Entropy, images: Arc<dyn ImageResolver>) -> Self {
        Self { inner: Arc::new(Inner { store, clock, entropy, images, toleration: None }) }
    }

    /// New pods that do not say how long they tolerate a lost node do so for `seconds`.
    #[must_use]
    pub fn with_toleration(self, seconds: i64) -> Self {
        let Inner { store, clock, entropy, images, .. } = &*self.inner;
        let (store, clock, entropy, images) = (store.clone(), clock.clone(), entropy.clone(), images.clone());
        Self { inner: Arc::new(Inner { store, clock, entropy, images, toleration: Some(seconds) }) }
    }

    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Object, ApiError> {
        let entry = self.inner.store.get(&resource.key(namespace, name)).map_err(store_error)?;
        match entry {
            Some(entry) => decode(&entry),
            None => Err(ApiError::not_found(resource.group, resource.plural, name)),
        }
    }

    /// # Errors
    /// 410 `Expired` where the list goes on from before the kept history.
    pub fn list(&self, resource: &Resource, options: &ListOptions) -> Result<List, ApiError> {
        let prefix = resource.prefix(options.namespace.as_deref());
        let first = match &options.resume {
            None => self.inner.store.revision(),
            Some(resume) => {
                self.inner.store.watch(&prefix, resume.revision).map_err(store_error)?;
                resume.revision
            }
        };
        let mut items = Vec::new();
        let mut after = options.resume.as_ref().map(|resume| resume.after.clone());
        loop {
            let wanted = if options.limit == 0 { 0 } else { options.limit - items.len() };
            let size = if options.filter.0.is_none() || wanted == 0 { wanted } else { PAGE };
            let page = self.inner.store.list(&prefix, after.as_deref(), size).map_err(store_error)?;
            let read = page.entries.len();
            for (at, entry) in page.entries.into_iter().enumerate() {
                let object = decode(&entry)?;
                if options.filter.matches(&object) {
                    items.push(object);
                }
                after = Some(entry.key);
                let left = page.remaining + (read - at - 1) as u64;
                if options.limit != 0 && items.len() == options.limit && left > 0 {
                    let resume = after.map(|after| Resume { revision: first, after });
                    let remaining = options.filter.0.is_none().then_some(left);
                    return Ok(List { items, revision: first, resume, remaining });
                }
            }
            if !page.more {
                return Ok(List { items, revision: first, resume: None, remaining: None });
            }
        }
    }

    /// Changes after `from`.
    ///
    /// # Errors
    /// 410 `Expired` where `from` is before the kept history.
    pub fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        filter: Filter,
        from: Revision,
    ) -> Result<Watch, ApiError> {
        let watch = self.inner.store.watch(&resource.prefix(namespace), from).map_err(store_error)?;
        Ok(Watch::new(watch, filter))
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.inner.store.revision()
    }

    /// # Errors
    /// 409 `AlreadyExists`, 403 in a namespace that is going, 404 in one that is not there, 422.
    pub async fn create(
        &self,
        resource: &'static Resource,
        object: Object,
        options: WriteOptions,
    ) -> Result<Object, ApiError> {
        let generated = object.name().is_empty();
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_create(resource, object.clone(), &options).await? {
                Attempt::Done(created) => return Ok(created),
                Attempt::Lost(error) if generated => last = Some(error),
                Attempt::Lost(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ApiError::internal("no attempt was made")))
    }

    async fn try_create(
        &self,
        resource: &'static Resource,
        mut object: Object,
        options: &WriteOptions,
    ) -> Result<Attempt<Object>, ApiError> {
        let Inner { clock, entropy, images, toleration, .. } = &*self.inner;
        if let Some(seconds) = toleration.filter(|_| resource.kind == "Pod") {
            kinds::tolerate_lost_node(&mut object, seconds);
        }
        let uid = entropy.uuid();
        let identity = Identity { uid: &uid, now: clock.unix_seconds(), random: u64::from_be_bytes(entropy.bytes()) };
        let mut object = admission::create(resource, object, identity)?;
        self.check_namespace(resource, &object)?;
        if resource.kind == "Pod" {
            images::pin(&mut object, None, &**images);
        }
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        let taken = || ApiError::already_exists(resource.group, resource.plural, &name);
        let key = resource.key(&namespace, &name);
        if options.dry_run {
            let found = self.inner.store.get(&key).map_err(store_error)?;
            return Ok(if found.is_some() { Attempt::Lost(taken()) } else { Attempt::Done(object) });
        }
        let put = Op::Put { key, value: encode(&object), expect: Expect::Absent };
        match self.inner.store.commit(vec![put], durability(resource, None)).await {
            Ok(revision) => Ok(Attempt::Done(stored::at(object, revision))),
            Err(StoreError::Conflict { .. }) => Ok(Attempt::Lost(taken())),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Replaces an object; its `resourceVersion`, if set, must be the stored one.
    ///
    /// # Errors
    /// 404, 409 `Conflict`, 422.
    pub async fn update(
        &self,
        resource: &'static Resource,
        object: Object,
        options: WriteOptions,
    ) -> Result<Object, ApiError> {
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        let replace = |current: &mut Object| {
            *current = object.clone();
            Ok(Changed::Yes)
        };
        self.modify(resource, &namespace, &name, options, replace).await
    }

    /// Reads, changes, writes; again on conflict. `change` returns whether there is something to write.
    /// It sees the object with its `resourceVersion`; putting another one there insists on that one.
    ///
    /// # Errors
    /// 404, 422, what `change` answers, and 409 `Conflict` if others are quicker all the time.
    pub async fn modify<F>(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: WriteOptions,
        mut change: F,
    ) -> Result<Object, ApiError>
    where
        F: FnMut(&mut Object) -> Result<Changed, ApiError> + Send,
    {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let stored = self.get(resource, namespace, name)?;
            let mut next = stored.clone();
            if change(&mut next)? == Changed::No {
                return Ok(stored);
            }
            match self.try_update(resource, stored, next, &options).await? {
                Attempt::Done(updated) => return Ok(updated),
                Attempt::Lost(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ApiError::internal("no attempt was made")))
    }

    async fn try_update(
        &self,
        resource: &'static Resource,
        stored: Object,
        next: Object,
        options: &WriteOptions,
    ) -> Result<Attempt<Object>, ApiError> {
        let subresource = options.subresource;
        let (removes, mut next) = match admission::update(resource, &stored, next, subresource)? {
            Update::Unchanged => return Ok(Attempt::Done(stored)),
            Update::Write(next) => (false, next),
            Update::Remove(next) => (true, next),
        };
        if resource.kind == "Pod" && subresource.is_none() {
            images::pin(&mut next, Some(&stored), &*self.inner.images);
        }
        if options.dry_run {
            return Ok(Attempt::Done(stored::at(next, Revision(stored.resource_version()))));
        }
        let key = resource.key(stored.namespace(), stored.name());
        let expect = Expect::At(Revision(stored.resource_version()));
        let op = if removes { Op::Delete { key, expect } } else { Op::Put { key, value: encode(&next), expect } };
        self.commit(resource, &stored, op, durability(resource, subresource), next).await
    }

    /// # Errors
    /// 404, 409 where the preconditions do not hold.
    pub async fn delete(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_delete(resource, namespace, name, &options).await? {
                Attempt::Done(deleted) => return Ok(deleted),
                Attempt::Lost(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ApiError::internal("no attempt was made")))
    }

    async fn try_delete(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Attempt<Deleted>, ApiError> {
        let stored = self.get(resource, namespace, name)?;
        let key = resource.key(namespace, name);
        let expect = Expect::At(Revision(stored.resource_version()));
        let write = durability(resource, None);
        let decision = admission::delete(resource, &stored, options, self.inner.clock.unix_seconds())?;
        let attempt = match decision {
            Deletion::Pending => return Ok(Attempt::Done(Deleted::Marked(stored))),
            Deletion::Remove if options.dry_run => return Ok(Attempt::Done(Deleted::Gone(stored))),
            Deletion::Mark(next) if options.dry_run => return Ok(Attempt::Done(Deleted::Marked(next))),
            Deletion::Remove => {
                let next = stored.clone();
                let op = Op::Delete { key, expect };
                (self.commit(resource, &stored, op, write, next).await?, Deleted::Gone as fn(Object) -> Deleted)
            }
            Deletion::Mark(next) => {
                let op = Op::Put { key, value: encode(&next), expect };
                (self.commit(resource, &stored, op, write, next).await?, Deleted::Marked as fn(Object) -> Deleted)
            }
        };
        Ok(match attempt {
            (Attempt::Done(object), deleted) => Attempt::Done(deleted(object)),
            (Attempt::Lost(error), _) => Attempt::Lost(error),
        })
    }

    /// Deletes all that match; what is gone meanwhile is no error.
    ///
    /// # Errors
    /// The first error of another kind; what was deleted before stays so.
    pub async fn delete_collection(
        &self,
        resource: &'static Resource,
        which: &ListOptions,
        options: DeleteOptions,
    ) -> Result<Vec<Deleted>, ApiError> {
        let mut deleted = Vec::new();
        for object in self.list(resource, which)?.items {
            match self.delete(resource, object.namespace(), object.name(), options.clone()).await {
                Ok(one) => deleted.push(one),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(deleted)
    }

    /// One operation on `stored`, which must still be as it was read.
    async fn commit(
        &self,
        resource: &Resource,
        stored: &Object,
        op: Op,
        write: Write,
        result: Object,
    ) -> Result<Attempt<Object>, ApiError> {
        match self.inner.store.commit(vec![op], write).await {
            Ok(revision) => Ok(Attempt::Done(stored::at(result, revision))),
            Err(StoreError::Conflict { actual: None, .. }) => {
                Err(ApiError::not_found(resource.group, resource.plural, stored.name()))
            }
            Err(StoreError::Conflict { .. }) => {
                let why = "the object has been modified; please apply your changes to the latest version and try again";
                Ok(Attempt::Lost(ApiError::conflict(resource.group, resource.plural, stored.name(), why)))
            }
            Err(error) => Err(store_error(error)),
        }
    }

    fn check_namespace(&self, resource: &Resource, object: &Object) -> Result<(), ApiError> {
        if resource.scope == Scope::Cluster {
            return Ok(());
        }
        let Some(namespaces) = kinds::find("", "v1", "namespaces") else { return Ok(()) };
        let namespace = self.get(namespaces, "", object.namespace())?;
        if !namespace.is_being_deleted() {
            return Ok(());
        }
        let of = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
        let message = format!(
            "{}{of} {:?} is forbidden: unable to create new content in namespace {} because it is being terminated",
            resource.plural,
            object.name(),
            namespace.name()
        );
        let mut error = ApiError::forbidden(message).about(resource.group, resource.plural, object.name());
        error.causes.push(Cause {
            reason: "NamespaceTerminating",
            message: format!("namespace {} is being terminated", namespace.name()),
            field: "metadata.namespace".to_owned(),
        });
        Err(error)
    }

    pub fn store(&self) -> &Arc<Backend> {
        &self.inner.store
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

/// An entry of the store as an object with its `resourceVersion`.
///
/// # Errors
/// 500 for an entry that is no JSON object: the store's file was changed by someone else.
pub fn object_of(entry: &Entry) -> Result<Object, ApiError> {
    decode(entry)
}

fn durability(resource: &Resource, subresource: Option<Subresource>) -> Write {
    match (resource.durability, subresource) {
        (Durability::Relaxed, _) | (Durability::Durable, Some(Subresource::Status)) => Write::Relaxed,
        (Durability::Durable, _) => Write::Durable,
    }
}
