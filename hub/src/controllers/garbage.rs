//! Garbage: does what [`plan::garbage`] says about one object.

use hub_core::kinds::of_kind;
use hub_core::object::Object;
use hub_core::plan::garbage::{self as plan, FOREGROUND, Input, Manner, Owner, Step};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use tracing::debug;

use super::key::{Key, ObjectName};
use super::queue::Outcome;
use super::world::World;
use super::{Context, StepError, without_owner};
use crate::objects::{Changed, DeleteOptions, Propagation, WriteOptions};

pub(super) async fn reconcile(context: &Context, name: &ObjectName) -> Result<Outcome, StepError> {
    let world = &context.world;
    let Some(record) = world.get(name.resource, &name.name.namespace, &name.name.name) else {
        return Ok(Outcome::Settled);
    };
    let uid = record.uid();
    let dependents = world.owned_by(uid);
    let metadata: Vec<&ObjectMeta> = dependents.iter().map(|dependent| dependent.metadata()).collect();
    let owner = |reference: &OwnerReference| owner(world, reference);
    let step = plan::plan(&Input { object: record.metadata(), owner: &owner, dependents: &metadata });
    match step {
        Step::Keep => {}
        Step::Delete(manner) => {
            debug!(object = ?name, ?manner, "collecting garbage");
            let propagation = match manner {
                Manner::Background => Propagation::Background,
                Manner::Foreground => Propagation::Foreground,
            };
            let options = DeleteOptions { uid: Some(uid.to_owned()), propagation, ..DeleteOptions::default() };
            let (namespace, name) = (record.namespace(), record.name());
            let deleted = context.objects.delete(record.resource, namespace, name, options).await;
            deleted.map_err(StepError::new("collect", record.resource, name))?;
        }
        Step::DropOwners(uids) => {
            let drop_owners =
                // Counted, not asked for any: each of them goes.
                |object: &mut Object| uids.iter().filter(|uid| without_owner(object, uid)).count() > 0;
            change(context, name, drop_owners).await?;
        }
        Step::Release(finalizer) => change(context, name, |object| without_finalizer(object, finalizer)).await?,
        Step::Orphan => {
            for dependent in &dependents {
                change(context, &ObjectName::of(dependent), |object| without_owner(object, uid)).await?;
            }
        }
        Step::DeleteDependents => {
            dependents.iter().for_each(|dependent| context.queue.add(Key::Garbage(ObjectName::of(dependent))));
        }
    }
    context.caught_up().await;
    Ok(Outcome::Settled)
}

/// An owner of a kind that this hub does not have may be anywhere: it counts as there.
fn owner(world: &World, reference: &OwnerReference) -> Owner {
    if of_kind(&reference.api_version, &reference.kind).is_none() {
        return Owner::Present;
    }
    let Some(record) = world.by_uid(&reference.uid) else { return Owner::Absent };
    let metadata = record.metadata();
    let waits = metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
    if metadata.deletion_timestamp.is_some() && waits { Owner::Waiting } else { Owner::Present }
}

async fn change(
    context: &Context,
    name: &ObjectName,
    mut apply: impl FnMut(&mut Object) -> bool + Send,
) -> Result<(), StepError> {
    let change = |object: &mut Object| Ok(if apply(object) { Changed::Yes } else { Changed::No });
    let (namespace, of) = (&*name.name.namespace, &*name.name.name);
    let written = context.objects.modify(name.resource, namespace, of, WriteOptions::default(), change).await;
    written.map(drop).map_err(StepError::new("release", name.resource, of))
}

pub(super) fn without_finalizer(object: &mut Object, finalizer: &str) -> bool {
    let kept: Vec<Value> = object.finalizers().filter(|had| *had != finalizer).map(|name| json!(name)).collect();
    let changed = kept.len() != object.finalizers().count();
    match (changed, kept.is_empty()) {
        (true, true) => drop(object.remove(&["metadata", "finalizers"])),
        (true, false) => object.set(&["metadata", "finalizers"], kept),
        (false, _) => {}
    }
    changed
}
