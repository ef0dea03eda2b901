//! A Deployment's status and conditions. Their reasons and messages are what
//! `kubectl rollout status` and `kubectl wait` read.

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::sets::{Set, Sets};
use super::{Plan, Step, Wishes};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reasons of [`PROGRESSING`].
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const NEW_CREATED: &str = "NewReplicaSetCreated";
const NEW_FOUND: &str = "FoundNewReplicaSet";
const UPDATED: &str = "ReplicaSetUpdated";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// The conditions as the plan has them so far.
pub(super) struct Progress<'a> {
    wishes: &'a Wishes<'a>,
    now: Timestamp,
    conditions: Vec<DeploymentCondition>,
}

/// All pods are of the current template, all are available, and there are no others.
pub(super) fn is_complete(wishes: &Wishes<'_>, status: &DeploymentStatus) -> bool {
    let is_all = |count: Option<i32>| count.unwrap_or(0) == wishes.replicas;
    is_all(status.updated_replicas)
        && is_all(status.replicas)
        && is_all(status.available_replicas)
        && status.observed_generation >= wishes.object.metadata.generation
}

impl<'a> Progress<'a> {
    pub(super) fn new(wishes: &'a Wishes<'a>, now: Timestamp) -> Self {
        let conditions = wishes.object.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        Self { wishes, now, conditions }
    }

    /// A paused Deployment makes no progress, and that is nobody's failure.
    pub(super) fn note_pause(&mut self) {
        let reason = self.progressing().and_then(|condition| condition.reason.clone());
        if self.wishes.deadline.is_none() || reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        match (self.wishes.paused, reason.as_deref() == Some(PAUSED)) {
            (true, false) => self.set(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned()),
            (false, true) => self.set(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".to_owned()),
            (true, true) | (false, false) => {}
        }
    }

    /// The new ReplicaSet was just made, or stood already when progress began to be watched.
    pub(super) fn note_new_set(&mut self, sets: &Sets) {
        let (Some(new), Some(_)) = (&sets.new, self.wishes.deadline) else { return };
        if new.is_planned() {
            self.set(PROGRESSING, "True", NEW_CREATED, format!("Created new replica set {:?}", new.name));
        } else if self.progressing().is_none() {
            self.set(PROGRESSING, "True", NEW_FOUND, format!("Found new replica set {:?}", new.name));
        }
    }

    /// The plan while nothing is rolled out: paused, or going.
    pub(super) fn without_rollout(mut self, sets: &Sets, steps: Vec<Step>) -> Plan {
        self.judge_availability(sets);
        Plan { steps, status: self.status(sets), wake_at: None }
    }

    pub(super) fn with_rollout(mut self, sets: &Sets, steps: Vec<Step>) -> Plan {
        self.judge_availability(sets);
        let counted = self.status(sets);
        self.judge_progress(sets, &counted);
        self.note_failure(sets);
        Plan { steps, wake_at: self.deadline(), status: self.status(sets) }
    }

    fn status(&self, sets: &Sets) -> DeploymentStatus {
        let sum = |of: fn(&Set) -> i32| sets.iter().map(of).sum::<i32>();
        let counted = |count: i32| (count != 0).then_some(count);
        let available = sum(|set| set.status.available);
        let terminating = sets.iter().filter_map(|set| set.status.terminating).sum::<i32>();
        DeploymentStatus {
            observed_generation: self.wishes.object.metadata.generation,
            replicas: counted(sum(|set| set.status.replicas)),
            updated_replicas: counted(sets.new.as_ref().map_or(0, |new| new.status.replicas)),
            ready_replicas: counted(sum(|set| set.status.ready)),
            available_replicas: counted(available),
            unavailable_replicas: counted((sets.replicas() - available).max(0)),
            terminating_replicas: counted(terminating),
            collision_count: self.wishes.object.status.as_ref().and_then(|status| status.collision_count),
            conditions: Some(self.conditions.clone()).filter(|conditions| !conditions.is_empty()),
        }
    }

    fn judge_availability(&mut self, sets: &Sets) {
        let available: i32 = sets.iter().map(|set| set.status.available).sum();
        if available >= self.wishes.min_available() {
            let message = "Deployment has minimum availability.".to_owned();
            self.set(AVAILABLE, "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            self.set(AVAILABLE, "False", "MinimumReplicasUnavailable", message);
        }
    }

    fn judge_progress(&mut self, sets: &Sets, counted: &DeploymentStatus) {
        let Some(deadline) = self.wishes.deadline else {
            self.conditions.retain(|condition| condition.type_.as_deref() != Some(PROGRESSING));
            return;
        };
        let was_available = self.progressing().is_some_and(|c| c.reason.as_deref() == Some(NEW_AVAILABLE));
        if was_available && counted.replicas == counted.updated_replicas {
            return; // Complete before: pods that fail later are no failed rollout.
        }
        let subject = match &sets.new {
            Some(new) => format!("ReplicaSet {:?}", new.name),
            None => format!("Deployment {:?}", self.wishes.name()),
        };
        if is_complete(self.wishes, counted) {
            self.set(PROGRESSING, "True", NEW_AVAILABLE, format!("{subject} has successfully progressed."));
        } else if self.has_progressed(counted) {
            self.renew_progress(format!("{subject} is progressing."));
        } else if self.has_timed_out(deadline) {
            self.set(PROGRESSING, "False", TIMED_OUT, format!("{subject} has timed out progressing."));
        }
    }

    /// More new pods, fewer old ones, more ready or more available ones than last time.
    fn has_progressed(&self, now: &DeploymentStatus) -> bool {
        let empty = DeploymentStatus::default();
        let before = self.wishes.object.status.as_ref().unwrap_or(&empty);
        let count = |field: Option<i32>| field.unwrap_or(0);
        let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
        count(now.updated_replicas) > count(before.updated_replicas)
            || old(now) < old(before)
            || count(now.ready_replicas) > count(before.ready_replicas)
            || count(now.available_replicas) > count(before.available_replicas)
    }

    fn has_timed_out(&self, deadline: i32) -> bool {
        self.progressing().is_some_and(|condition| match condition.reason.as_deref() {
            Some(NEW_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            Some(_) | None => condition.last_update_time.as_ref().is_some_and(|at| later(at, deadline) < self.now),
        })
    }

    /// When a rollout under way runs out of time.
    fn deadline(&self) -> Option<Timestamp> {
        let condition = self.progressing()?;
        match condition.reason.as_deref() {
            Some(NEW_AVAILABLE | TIMED_OUT) => None,
            // One second more, because "later than" decides.
            Some(_) | None => {
                Some(later(condition.last_update_time.as_ref()?, self.wishes.deadline?.saturating_add(1)))
            }
        }
    }

    fn note_failure(&mut self, sets: &Sets) {
        let failure = sets.new.iter().chain(&sets.old).find_map(Set::failure).cloned();
        match failure {
            Some(failure) => {
                let (reason, message) = (failure.reason.unwrap_or_default(), failure.message.unwrap_or_default());
                self.set(REPLICA_FAILURE, failure.status.as_deref().unwrap_or("True"), &reason, message);
            }
            None => self.conditions.retain(|condition| condition.type_.as_deref() != Some(REPLICA_FAILURE)),
        }
    }

    fn progressing(&self) -> Option<&DeploymentCondition> {
        self.conditions.iter().find(|condition| condition.type_.as_deref() == Some(PROGRESSING))
    }

    /// Writes a condition unless it says so already; keeps the transition time while the status stays.
    fn set(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let current = self.conditions.iter().position(|condition| condition.type_.as_deref() == Some(type_));
        let said = |c: &DeploymentCondition| c.status.as_deref() == Some(status) && c.reason.as_deref() == Some(reason);
        if current.is_some_and(|at| said(&self.conditions[at])) {
            return;
        }
        self.replace(type_, status, reason, message);
    }

    /// Progress under way: written at each step forward, because the deadline counts from it.
    fn renew_progress(&mut self, message: String) {
        self.replace(PROGRESSING, "True", UPDATED, message);
    }

    fn replace(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let at = self.conditions.iter().position(|condition| condition.type_.as_deref() == Some(type_));
        let before = at.map(|at| self.conditions.remove(at));
        let since =
            before.filter(|condition| condition.status.as_deref() == Some(status)).and_then(|c| c.last_transition_time);
        let condition = DeploymentCondition {
            type_: Some(type_.to_owned()),
            status: Some(status.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(since.unwrap_or(Time(self.now))),
        };
        self.conditions.insert(at.unwrap_or(self.conditions.len()), condition);
    }
}

fn later(at: &Time, seconds: i32) -> Timestamp {
    at.0.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}
