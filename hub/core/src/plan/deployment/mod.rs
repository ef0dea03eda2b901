//! Deployments: replacing pods of one template by pods of another, within bounds.
//!
//! ```text
//! template   which template a ReplicaSet has: equality and hash
//! sets       the ReplicaSets as planned so far: new, old, revisions and annotations
//! rollout    growing the new, shrinking the old; scaling in proportion; Recreate
//! progress   status and conditions, as `kubectl rollout status` reads them
//! ```
//! A plan is a sequence of steps to be done in order: each one alone keeps the number of pods within
//! `replicas + maxSurge` and the available ones above `replicas - maxUnavailable`.

mod progress;
mod rollout;
mod sets;
pub mod template;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use sets::Sets;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// What one decision is made from.
pub struct Input<'a> {
    pub deployment: &'a Deployment,
    /// Those that the Deployment controls.
    pub replica_sets: &'a [&'a ReplicaSet],
    /// Pods that have not finished, by their ReplicaSet's name: Recreate waits for them.
    pub running_pods: &'a BTreeMap<String, usize>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What the Deployment's status should be; write it if it differs.
    pub status: DeploymentStatus,
    /// When time alone changes the answer: the progress deadline.
    pub wake_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The ReplicaSet of the current template. If the name is taken by another template's, count the
    /// collision in the status and plan again.
    Create { name: String, hash: String, replicas: i32, annotations: BTreeMap<String, String> },
    /// `annotations` are to be set besides what is there.
    Scale { name: String, from: i32, to: i32, annotations: BTreeMap<String, String> },
    /// Bookkeeping without an event.
    Update { name: String, annotations: BTreeMap<String, String>, min_ready_seconds: i32 },
    /// An old ReplicaSet beyond `revisionHistoryLimit`.
    Delete { name: String, uid: String },
    /// The Deployment's own [`REVISION`].
    SetRevision(String),
}

/// A Deployment's wishes without gaps: `spec` with Kubernetes' defaults.
pub(super) struct Wishes<'a> {
    pub(super) object: &'a Deployment,
    pub(super) replicas: i32,
    pub(super) strategy: Strategy,
    pub(super) min_ready_seconds: i32,
    pub(super) history: usize,
    pub(super) paused: bool,
    /// Seconds without progress after which a rollout counts as failed; `None`: never.
    pub(super) deadline: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    RollingUpdate { surge: i32, unavailable: i32 },
    Recreate,
}

/// `i32::MAX` stands for "no deadline" in specs.
const NO_DEADLINE: i32 = i32::MAX;

/// The steps that bring the ReplicaSets closer to the Deployment, and its status as of now.
pub fn plan(input: &Input<'_>) -> Plan {
    let wishes = Wishes::new(input.deployment);
    let mut sets = Sets::new(&wishes, input.replica_sets);
    let mut status = progress::Progress::new(&wishes, input.now);
    if input.deployment.metadata.deletion_timestamp.is_some() {
        return status.without_rollout(&sets, Vec::new());
    }
    status.note_pause();
    let mut steps = sets.renumber(&wishes);
    if wishes.paused || sets.is_resized(&wishes) {
        steps.extend(rollout::resize(&wishes, &mut sets));
    }
    if wishes.paused {
        steps.extend(sets.clean_up(&wishes));
        return status.without_rollout(&sets, steps);
    }
    steps.extend(match wishes.strategy {
        Strategy::RollingUpdate { .. } => rollout::rolling_update(&wishes, &mut sets),
        Strategy::Recreate => rollout::recreate(&wishes, &mut sets, input.running_pods),
    });
    status.note_new_set(&sets);
    let mut plan = status.with_rollout(&sets, steps);
    if progress::is_complete(&wishes, &plan.status) {
        plan.steps.extend(sets.clean_up(&wishes));
    }
    plan
}

impl<'a> Wishes<'a> {
    fn new(object: &'a Deployment) -> Self {
        let spec = &object.spec;
        let replicas = spec.replicas.unwrap_or(1).max(0);
        Self {
            object,
            replicas,
            strategy: Strategy::new(spec, replicas),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            history: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
            paused: spec.paused.unwrap_or(false),
            deadline: spec.progress_deadline_seconds.filter(|seconds| *seconds != NO_DEADLINE),
        }
    }

    pub(super) fn name(&self) -> &str {
        super::name(&self.object.metadata)
    }

    /// The most pods at a time.
    pub(super) fn max_replicas(&self) -> i32 {
        match self.strategy {
            Strategy::RollingUpdate { surge, .. } => self.replicas.saturating_add(surge),
            Strategy::Recreate => self.replicas,
        }
    }

    /// The fewest available pods at a time.
    pub(super) fn min_available(&self) -> i32 {
        match self.strategy {
            Strategy::RollingUpdate { unavailable, .. } => self.replicas - unavailable.min(self.replicas),
            Strategy::Recreate => self.replicas,
        }
    }
}

impl Strategy {
    fn new(spec: &k8s_openapi::api::apps::v1::DeploymentSpec, replicas: i32) -> Self {
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
            return Self::Recreate;
        }
        let bounds = strategy.and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = bounds.and_then(|b| b.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = bounds.and_then(|b| b.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = resolve(surge, replicas, Rounding::Up);
        match resolve(unavailable, replicas, Rounding::Down) {
            // Neither more nor fewer pods than wanted would never move.
            0 if surge == 0 => Self::RollingUpdate { surge, unavailable: 1 },
            unavailable => Self::RollingUpdate { surge, unavailable },
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

/// A number, or a percentage of `whole`. What admission should not have let through counts as 0.
fn resolve(value: &IntOrString, whole: i32, rounding: Rounding) -> i32 {
    let resolved = match value {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(0);
            let hundredths = percent.saturating_mul(i64::from(whole));
            match rounding {
                Rounding::Up => hundredths.saturating_add(99).div_euclid(100),
                Rounding::Down => hundredths.div_euclid(100),
            }
        }
    };
    i32::try_from(resolved.max(0)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
