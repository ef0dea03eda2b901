//! Adopting and letting go: claims as writes, the same for every kind of owner.

use hub_core::kinds::Resource;
use hub_core::object::Object;
use hub_core::plan::claim::{Claim, Claimant, controller_reference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Context, StepError, without_owner};
use crate::objects::{Changed, WriteOptions};

/// Writes what a claim on one object asks for; whether the object belongs to the owner now.
pub(super) async fn settle(
    context: &Context,
    owner: &'static Resource,
    claimant: &Claimant<'_>,
    resource: &'static Resource,
    object: &ObjectMeta,
) -> Result<bool, StepError> {
    let uid = object.uid.as_deref().unwrap_or_default();
    let owner_uid = claimant.owner.uid.as_deref().unwrap_or_default();
    match claimant.claim(object) {
        Claim::Keep => return Ok(true),
        Claim::Leave => return Ok(false),
        Claim::Adopt => {
            let reference = controller_reference(&owner.api_version(), owner.kind, claimant.owner);
            change(context, resource, object, |current| adopt(current, uid, &json!(reference))).await?;
        }
        Claim::Release => {
            change(context, resource, object, |current| current.uid() == uid && without_owner(current, owner_uid))
                .await?;
        }
    }
    // What was adopted counts once the world shows it.
    Ok(false)
}

fn adopt(current: &mut Object, uid: &str, reference: &serde_json::Value) -> bool {
    let path = ["metadata", "ownerReferences"];
    let mut owners = current.at(&path).and_then(|owners| owners.as_array().cloned()).unwrap_or_default();
    let is_controlled = owners.iter().any(|owner| owner["controller"] == json!(true));
    if is_controlled || current.uid() != uid || current.is_being_deleted() {
        return false; // The world was behind: the next look decides.
    }
    owners.push(reference.clone());
    current.set(&path, owners);
    true
}

async fn change(
    context: &Context,
    resource: &'static Resource,
    object: &ObjectMeta,
    mut apply: impl FnMut(&mut Object) -> bool + Send,
) -> Result<(), StepError> {
    let (namespace, name) =
        (object.namespace.as_deref().unwrap_or_default(), object.name.as_deref().unwrap_or_default());
    let change = |current: &mut Object| Ok(if apply(current) { Changed::Yes } else { Changed::No });
    let written = context.objects.modify(resource, namespace, name, WriteOptions::default(), change).await;
    written.map(drop).map_err(StepError::new("claim", resource, name))
}
