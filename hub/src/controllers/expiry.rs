//! Expiry: old events, and finished pods beyond the bound.

use std::time::Duration;

use hub_core::plan::expiry;
use k8s_openapi::api::core::v1::Pod;

use super::queue::Outcome;
use super::{Context, StepError, row};
use crate::objects::{DeleteOptions, ListOptions};

/// Between looks. Nobody minds an event that stays a minute longer.
const PERIOD: Duration = Duration::from_secs(60);
/// Events read at a time.
const PAGE: usize = 500;

pub(super) async fn reconcile(context: &Context) -> Result<Outcome, StepError> {
    expire_events(context).await?;
    let all = context.world.pods();
    let pods: Vec<&Pod> = all.iter().map(AsRef::as_ref).collect();
    let resource = row("", "v1", "pods");
    for pod in expiry::finished_beyond(&pods, context.config.finished_pods) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
        let options = DeleteOptions { uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
        match context.objects.delete(resource, &namespace, &name, options).await {
            Ok(_) => {}
            Err(error) if matches!(error.code, 404 | 409) => {}
            Err(error) => return Err(StepError::new("collect", resource, &name)(error)),
        }
    }
    Ok(Outcome::Again(PERIOD))
}

async fn expire_events(context: &Context) -> Result<(), StepError> {
    let resource = row("", "v1", "events");
    let (now, life) = (context.now(), context.config.event_life);
    let mut options = ListOptions { limit: PAGE, ..ListOptions::default() };
    loop {
        let page = match context.objects.list(resource, &options) {
            Ok(page) => page,
            // The history went on while we read: the next look sees the rest.
            Err(error) if error.code == 410 => return Ok(()),
            Err(error) => return Err(StepError::new("list", resource, "")(error)),
        };
        for event in page.items.iter().filter(|event| expiry::expires_at(event, life) <= now) {
            let version = Some(event.resource_version());
            let options = DeleteOptions { resource_version: version, ..DeleteOptions::default() };
            match context.objects.delete(resource, event.namespace(), event.name(), options).await {
                Ok(_) => {}
                // Gone, or it happened again just now.
                Err(error) if matches!(error.code, 404 | 409) => {}
                Err(error) => return Err(StepError::new("expire", resource, event.name())(error)),
            }
        }
        match page.resume {
            Some(resume) => options.resume = Some(resume),
            None => return Ok(()),
        }
    }
}
