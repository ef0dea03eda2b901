//! ReplicaSets: makes and deletes pods as [`plan::replica_set`] says.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use hub_core::kinds::{Resource, Subresource};
use hub_core::object::Object;
use hub_core::plan::claim::{Claimant, controller, controller_reference};
use hub_core::plan::pods;
use hub_core::plan::replica_set::{self as plan, Doomed, Input, batches};
use hub_core::status::ApiError;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::key::Name;
use super::queue::Outcome;
use super::recorder::{About, Event, Severity};
use super::{Context, StepError, claims, row, until};
use crate::objects::{Changed, DeleteOptions, WriteOptions};

const COMPONENT: &str = "replicaset-controller";
/// Deletions under way at a time.
const DELETIONS: usize = 32;

pub(super) async fn reconcile(context: &Context, name: &Name) -> Result<Outcome, StepError> {
    let Some(set) = context.world.replica_set(&name.namespace, &name.name) else { return Ok(Outcome::Settled) };
    let work = Work {
        context,
        set: &set,
        namespace: &name.namespace,
        resource: row("apps", "v1", "replicasets"),
        pods: row("", "v1", "pods"),
    };
    let own = work.claim_pods().await?;
    let crowd = work.crowd();
    let pods: Vec<&Pod> = own.iter().map(AsRef::as_ref).collect();
    let now = context.now();
    let plan = plan::plan(&Input { set: &set, pods: &pods, crowd: &crowd, now });
    let result = match (plan.create, plan.delete.as_slice()) {
        (0, []) => Ok(()),
        (0, doomed) => work.delete(doomed).await,
        (count, _) => work.create(count).await,
    };
    let outcome = match &result {
        Ok(()) => plan::Outcome::Done,
        Err((Failure::Create, error)) => plan::Outcome::CreateFailed(&error.message),
        Err((Failure::Delete, error)) => plan::Outcome::DeleteFailed(&error.message),
    };
    let status = plan::with_outcome(plan.status, outcome, now);
    work.write_status(status).await?;
    context.caught_up().await;
    match result {
        Ok(()) => Ok(until(plan.wake_at, now)),
        Err((_, error)) => Err(StepError::new("keep the pods of", work.resource, &name.name)(error)),
    }
}

enum Failure {
    Create,
    Delete,
}

struct Work<'a> {
    context: &'a Context,
    set: &'a ReplicaSet,
    namespace: &'a str,
    resource: &'static Resource,
    pods: &'static Resource,
}

impl Work<'_> {
    async fn claim_pods(&self) -> Result<Vec<Arc<Pod>>, StepError> {
        let claimant = Claimant::new(&self.set.metadata, &self.set.spec.selector);
        let mut own = Vec::new();
        for pod in self.context.world.pods_in(self.namespace) {
            // What has finished is not worth adopting, but what is ours is counted.
            let is_ours = controller(&pod.metadata).is_some();
            if !is_ours && pods::is_finished(&pod) {
                continue;
            }
            if claims::settle(self.context, self.resource, &claimant, self.pods, &pod.metadata).await? {
                own.push(pod);
            }
        }
        Ok(own)
    }

    /// Active pods by node, of this ReplicaSet and those with the same owner.
    fn crowd(&self) -> BTreeMap<String, usize> {
        let world = &self.context.world;
        let uid = self.set.metadata.uid.as_deref().unwrap_or_default();
        let siblings = match controller(&self.set.metadata) {
            Some(owner) => world.replica_sets_owned_by(&owner.uid),
            None => Vec::new(),
        };
        let others = siblings.iter().filter_map(|set| set.metadata.uid.as_deref()).filter(|other| *other != uid);
        let mut crowd = BTreeMap::new();
        for pod in std::iter::once(uid).chain(others).flat_map(|uid| world.pods_owned_by(uid)) {
            if let Some(node) = pods::node_name(&pod).filter(|_| pods::is_active(&pod)) {
                *crowd.entry(node.to_owned()).or_insert(0) += 1;
            }
        }
        crowd
    }

    /// In growing batches; the first batch with a failure is the last.
    async fn create(&self, count: usize) -> Result<(), (Failure, ApiError)> {
        let name = self.set.metadata.name.as_deref().unwrap_or_default();
        let stored = self.context.objects.get(self.resource, self.namespace, name);
        let pod = self.pod(&stored.map_err(|error| (Failure::Create, error))?);
        for batch in batches(count) {
            let attempts =
                (0..batch).map(|_| self.context.objects.create(self.pods, pod.clone(), WriteOptions::default()));
            for attempt in join_all(attempts).await {
                match attempt {
                    Ok(created) => self.tell("SuccessfulCreate", format!("Created pod: {}", created.name())),
                    Err(error) => {
                        self.warn("FailedCreate", format!("Error creating: {error}"));
                        return Err((Failure::Create, error));
                    }
                }
            }
        }
        Ok(())
    }

    fn pod(&self, stored: &Object) -> Object {
        let owner = controller_reference(&self.resource.api_version(), self.resource.kind, &self.set.metadata);
        let mut pod = Object::default();
        pod.set(&["apiVersion"], self.pods.api_version());
        pod.set(&["kind"], self.pods.kind);
        pod.set(&["metadata", "generateName"], format!("{}-", stored.name()));
        pod.set(&["metadata", "namespace"], self.namespace);
        for field in ["labels", "annotations", "finalizers"] {
            if let Some(value) = stored.at(&["spec", "template", "metadata", field]) {
                pod.set(&["metadata", field], value.clone());
            }
        }
        pod.set(&["metadata", "ownerReferences"], json!([owner]));
        pod.set(&["spec"], stored.at(&["spec", "template", "spec"]).cloned().unwrap_or_default());
        pod
    }

    async fn delete(&self, doomed: &[Doomed]) -> Result<(), (Failure, ApiError)> {
        for some in doomed.chunks(DELETIONS) {
            let attempts = some.iter().map(|pod| async move {
                let options = DeleteOptions { uid: Some(pod.uid.clone()), ..DeleteOptions::default() };
                (pod, self.context.objects.delete(self.pods, self.namespace, &pod.name, options).await)
            });
            for (pod, attempt) in join_all(attempts).await {
                match attempt {
                    Ok(_) => self.tell("SuccessfulDelete", format!("Deleted pod: {}", pod.name)),
                    // Gone, or another pod by now.
                    Err(error) if matches!(error.code, 404 | 409) => {}
                    Err(error) => {
                        self.warn("FailedDelete", format!("Error deleting: {error}"));
                        return Err((Failure::Delete, error));
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_status(&self, status: ReplicaSetStatus) -> Result<(), StepError> {
        if self.set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let name = self.set.metadata.name.as_deref().unwrap_or_default();
        let options = WriteOptions { subresource: Some(Subresource::Status), ..WriteOptions::default() };
        let write = |set: &mut Object| {
            set.set(&["status"], json!(status));
            Ok(Changed::Yes)
        };
        let written = self.context.objects.modify(self.resource, self.namespace, name, options, write).await;
        written.map(drop).map_err(StepError::new("update", self.resource, name))
    }

    fn tell(&self, reason: &str, message: String) {
        self.record(Severity::Normal, reason, message);
    }

    fn warn(&self, reason: &str, message: String) {
        self.record(Severity::Warning, reason, message);
    }

    fn record(&self, severity: Severity, reason: &str, message: String) {
        self.context.recorder.record(Event {
            about: About::new(self.resource, &self.set.metadata),
            severity,
            reason: reason.to_owned(),
            message,
            component: COMPONENT,
        });
    }
}
