//! Deployments: does the steps of [`plan::deployment`].

use std::collections::BTreeMap;

use hub_core::kinds::{Resource, Subresource};
use hub_core::object::Object;
use hub_core::plan::claim::{Claimant, controller, controller_reference};
use hub_core::plan::deployment::{self as plan, Input, REVISION, Step, TEMPLATE_HASH, template};
use hub_core::plan::pods;
use hub_core::status::ApiError;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::{Value, json};

use super::key::Name;
use super::queue::Outcome;
use super::recorder::{About, Event, Severity};
use super::{Context, StepError, claims, row, until};
use crate::objects::{Changed, DeleteOptions, WriteOptions};

const COMPONENT: &str = "deployment-controller";

pub(super) async fn reconcile(context: &Context, name: &Name) -> Result<Outcome, StepError> {
    let Some(deployment) = context.world.deployment(&name.namespace, &name.name) else { return Ok(Outcome::Settled) };
    let (resource, sets) = (row("apps", "v1", "deployments"), row("apps", "v1", "replicasets"));
    let claimant = Claimant::new(&deployment.metadata, &deployment.spec.selector);
    let mut own = Vec::new();
    for set in context.world.replica_sets_in(&name.namespace) {
        if claims::settle(context, resource, &claimant, sets, &set.metadata).await? {
            own.push(set);
        }
    }
    let running_pods = own.iter().map(|set| (text(&set.metadata.name), running(context, set))).collect();
    let replica_sets: Vec<&ReplicaSet> = own.iter().map(AsRef::as_ref).collect();
    let now = context.now();
    let input = Input { deployment: &deployment, replica_sets: &replica_sets, running_pods: &running_pods, now };
    let plan = plan::plan(&input);
    let work = Work { context, deployment: &deployment, name, resource, sets };
    for step in &plan.steps {
        work.take(step).await?;
    }
    if deployment.status.as_ref() != Some(&plan.status) {
        work.write_status(&json!(plan.status)).await?;
    }
    if !plan.steps.is_empty() {
        context.caught_up().await;
    }
    Ok(until(plan.wake_at, now))
}

fn running(context: &Context, set: &ReplicaSet) -> usize {
    let pods = context.world.pods_owned_by(set.metadata.uid.as_deref().unwrap_or_default());
    pods.iter().filter(|pod| !pods::is_finished(pod)).count()
}

struct Work<'a> {
    context: &'a Context,
    deployment: &'a Deployment,
    name: &'a Name,
    resource: &'static Resource,
    sets: &'static Resource,
}

impl Work<'_> {
    async fn take(&self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Create { name, hash, replicas, annotations } => self.create(name, hash, *replicas, annotations).await,
            Step::Scale { name, from, to, annotations } => self.scale(name, *from, *to, annotations).await,
            Step::Update { name, annotations, min_ready_seconds } => {
                let update = |set: &mut Object| {
                    annotate(set, annotations);
                    set.set(&["spec", "minReadySeconds"], *min_ready_seconds);
                    Ok(Changed::Yes)
                };
                self.modify(self.sets, name, None, update).await
            }
            Step::Delete { name, uid } => {
                let options = DeleteOptions { uid: Some(uid.clone()), ..DeleteOptions::default() };
                let deleted = self.context.objects.delete(self.sets, &self.name.namespace, name, options).await;
                deleted.map(drop).map_err(StepError::new("delete", self.sets, name))
            }
            Step::SetRevision(revision) => {
                let set_revision = |deployment: &mut Object| {
                    deployment.set(&["metadata", "annotations", REVISION], revision.clone());
                    Ok(Changed::Yes)
                };
                self.modify(self.resource, &self.name.name, None, set_revision).await
            }
        }
    }

    async fn create(
        &self,
        name: &str,
        hash: &str,
        replicas: i32,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), StepError> {
        let stored = self.context.objects.get(self.resource, &self.name.namespace, &self.name.name);
        let stored = stored.map_err(StepError::new("read", self.resource, &self.name.name))?;
        if stored.generation() != self.deployment.metadata.generation.unwrap_or(0) {
            let why = "it was changed since the plan was made";
            let error = ApiError::conflict(self.resource.group, self.resource.plural, &self.name.name, why);
            return Err(StepError::new("roll out", self.resource, &self.name.name)(error));
        }
        let set = self.replica_set(&stored, name, hash, replicas, annotations);
        match self.context.objects.create(self.sets, set, WriteOptions::default()).await {
            Ok(_) if replicas == 0 => Ok(()),
            Ok(_) => {
                self.tell(format!("Scaled up replica set {name} from 0 to {replicas}"));
                Ok(())
            }
            Err(error) if error.reason == "AlreadyExists" => self.resolve_collision(name).await,
            Err(error) => Err(StepError::new("create", self.sets, name)(error)),
        }
    }

    /// The template as the client wrote it: fields that this version does not know reach the pods.
    fn replica_set(
        &self,
        deployment: &Object,
        name: &str,
        hash: &str,
        replicas: i32,
        annotations: &BTreeMap<String, String>,
    ) -> Object {
        let owner = controller_reference(&self.resource.api_version(), self.resource.kind, &self.deployment.metadata);
        let mut set = Object::default();
        set.set(&["apiVersion"], self.sets.api_version());
        set.set(&["kind"], self.sets.kind);
        set.set(&["metadata"], json!({"name": name, "namespace": &*self.name.namespace, "ownerReferences": [owner]}));
        let part = |path: &[&str]| deployment.at(path).cloned().unwrap_or_else(|| json!({}));
        set.set(&["metadata", "labels"], part(&["spec", "template", "metadata", "labels"]));
        set.set(&["metadata", "labels", TEMPLATE_HASH], hash);
        set.set(&["metadata", "annotations"], json!(annotations));
        set.set(&["spec", "replicas"], replicas);
        set.set(&["spec", "minReadySeconds"], self.deployment.spec.min_ready_seconds.unwrap_or(0));
        set.set(&["spec", "selector"], part(&["spec", "selector"]));
        set.set(&["spec", "selector", "matchLabels", TEMPLATE_HASH], hash);
        set.set(&["spec", "template"], part(&["spec", "template"]));
        set.set(&["spec", "template", "metadata", "labels", TEMPLATE_HASH], hash);
        set
    }

    /// The name is taken: by our own creation that the world does not show yet, or by another template
    /// with the same hash, which is counted so that the next hash differs.
    async fn resolve_collision(&self, name: &str) -> Result<(), StepError> {
        let taken = self.context.objects.get(self.sets, &self.name.namespace, name);
        let taken = taken.map_err(StepError::new("read", self.sets, name))?;
        let is_ours = taken.typed::<ReplicaSet>().is_ok_and(|set| {
            let owner = controller(&set.metadata).map(|owner| owner.uid.as_str());
            owner == self.deployment.metadata.uid.as_deref() && template::matches(&set, &self.deployment.spec.template)
        });
        if is_ours {
            return Ok(());
        }
        let before = self.deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let count = |deployment: &mut Object| {
            deployment.set(&["status", "collisionCount"], before.saturating_add(1));
            Ok(Changed::Yes)
        };
        self.modify(self.resource, &self.name.name, Some(Subresource::Status), count).await?;
        self.context.caught_up().await;
        let why = format!("{name} is another template's");
        let error = ApiError::conflict(self.sets.group, self.sets.plural, name, &why);
        Err(StepError::new("create", self.sets, name)(error))
    }

    async fn scale(
        &self,
        name: &str,
        from: i32,
        to: i32,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), StepError> {
        let scale = |set: &mut Object| {
            if set.i64_at(&["spec", "replicas"]) != Some(i64::from(from)) {
                let why = "it was scaled since the plan was made";
                return Err(ApiError::conflict(self.sets.group, self.sets.plural, name, why));
            }
            set.set(&["spec", "replicas"], to);
            annotate(set, annotations);
            Ok(Changed::Yes)
        };
        self.modify(self.sets, name, None, scale).await?;
        let direction = if to > from { "up" } else { "down" };
        self.tell(format!("Scaled {direction} replica set {name} from {from} to {to}"));
        Ok(())
    }

    async fn write_status(&self, status: &Value) -> Result<(), StepError> {
        let write = |deployment: &mut Object| {
            deployment.set(&["status"], status.clone());
            Ok(Changed::Yes)
        };
        self.modify(self.resource, &self.name.name, Some(Subresource::Status), write).await
    }

    async fn modify<F>(
        &self,
        resource: &'static Resource,
        name: &str,
        subresource: Option<Subresource>,
        change: F,
    ) -> Result<(), StepError>
    where
        F: FnMut(&mut Object) -> Result<Changed, ApiError> + Send,
    {
        let options = WriteOptions { subresource, ..WriteOptions::default() };
        let written = self.context.objects.modify(resource, &self.name.namespace, name, options, change).await;
        written.map(drop).map_err(StepError::new("update", resource, name))
    }

    fn tell(&self, message: String) {
        self.context.recorder.record(Event {
            about: About::new(self.resource, &self.deployment.metadata),
            severity: Severity::Normal,
            reason: "ScalingReplicaSet".to_owned(),
            message,
            component: COMPONENT,
        });
    }
}

fn annotate(set: &mut Object, annotations: &BTreeMap<String, String>) {
    for (key, value) in annotations {
        set.set(&["metadata", "annotations", key], value.clone());
    }
}

fn text(field: &Option<String>) -> String {
    field.clone().unwrap_or_default()
}
