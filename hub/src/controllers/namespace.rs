//! Namespaces: one that is going is emptied; one that stays has its default account.

use std::sync::Arc;

use futures_util::future::join_all;
use hub_core::kinds::Subresource;
use hub_core::object::Object;
use hub_core::plan::namespace::{self as plan, Content, FINALIZER, Step};
use serde_json::{Value, json};

use super::queue::Outcome;
use super::world::Record;
use super::{Context, StepError, row};
use crate::objects::{Changed, DeleteOptions, WriteOptions};

/// Deletions under way at a time: they share one fsync.
const DELETIONS: usize = 64;
/// Every namespace has it; pods that name no account get it.
const ACCOUNT: &str = "default";

pub(super) async fn reconcile(context: &Context, name: &str) -> Result<Outcome, StepError> {
    let Some(namespace) = context.world.namespace("", name) else { return Ok(Outcome::Settled) };
    if namespace.metadata.deletion_timestamp.is_some() {
        // Creation is forbidden by now; what was created just before must be seen.
        context.caught_up().await;
    }
    let contents = context.world.in_namespace(name);
    let content = |record: &Arc<Record>| match record.metadata().deletion_timestamp {
        Some(_) => Content::Going,
        None => Content::Staying,
    };
    let step = plan::plan(&namespace, &contents.iter().map(content).collect::<Vec<_>>());
    match step {
        Step::Keep => ensure_account(context, name).await?,
        Step::Empty => {
            write(context, name, Some(Subresource::Status), |namespace| {
                namespace.set(&["status", "phase"], "Terminating");
            })
            .await?;
            let is_staying = |record: &&Arc<Record>| record.metadata().deletion_timestamp.is_none();
            let staying: Vec<&Arc<Record>> = contents.iter().filter(is_staying).collect();
            for some in staying.chunks(DELETIONS) {
                let results = join_all(some.iter().map(|record| delete(context, record))).await;
                results.into_iter().collect::<Result<(), _>>()?;
            }
        }
        // Each of them tells when it is gone.
        Step::Await { .. } => {}
        Step::Release => {
            write(context, name, None, |namespace| {
                let finalizers = namespace.at(&["spec", "finalizers"]).and_then(Value::as_array);
                let kept: Vec<Value> = finalizers.into_iter().flatten().filter(|f| *f != FINALIZER).cloned().collect();
                namespace.set(&["spec", "finalizers"], kept);
            })
            .await?;
        }
    }
    Ok(Outcome::Settled)
}

async fn delete(context: &Context, record: &Record) -> Result<(), StepError> {
    let options = DeleteOptions { uid: Some(record.uid().to_owned()), ..DeleteOptions::default() };
    match context.objects.delete(record.resource, record.namespace(), record.name(), options).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code, 404 | 409) => Ok(()),
        Err(error) => Err(StepError::new("delete", record.resource, record.name())(error)),
    }
}

async fn ensure_account(context: &Context, namespace: &str) -> Result<(), StepError> {
    let resource = row("", "v1", "serviceaccounts");
    if context.world.service_account(namespace, ACCOUNT).is_some() {
        return Ok(());
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": ACCOUNT, "namespace": namespace}});
    let account = Object::from_value(account).unwrap_or_default();
    match context.objects.create(resource, account, WriteOptions::default()).await {
        Ok(_) => Ok(()),
        // Made already, or the namespace went meanwhile.
        Err(error) if matches!(error.code, 403 | 404 | 409) => Ok(()),
        Err(error) => Err(StepError::new("create", resource, ACCOUNT)(error)),
    }
}

async fn write(
    context: &Context,
    name: &str,
    subresource: Option<Subresource>,
    mut apply: impl FnMut(&mut Object) + Send,
) -> Result<(), StepError> {
    let resource = row("", "v1", "namespaces");
    let change = |namespace: &mut Object| {
        if !namespace.is_being_deleted() {
            return Ok(Changed::No); // Another namespace of that name.
        }
        apply(namespace);
        Ok(Changed::Yes)
    };
    let options = WriteOptions { subresource, ..WriteOptions::default() };
    let written = context.objects.modify(resource, "", name, options, change).await;
    written.map(drop).map_err(StepError::new("update", resource, name))
}
