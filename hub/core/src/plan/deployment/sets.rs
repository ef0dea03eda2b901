//! A Deployment's ReplicaSets as the plan has them so far.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition};
use k8s_openapi::jiff::Timestamp;

use super::{DESIRED_REPLICAS, MAX_REPLICAS, REVISION, Step, Wishes, template};

/// Annotations of a Deployment that are about itself and not for its ReplicaSets.
const OWN_ANNOTATIONS: [&str; 5] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS];
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";

/// One ReplicaSet: as observed, but for what earlier steps of the plan have changed.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) name: String,
    uid: String,
    created: Timestamp,
    pub(super) replicas: i32,
    pub(super) status: Counts,
    annotations: BTreeMap<String, String>,
    min_ready_seconds: i32,
    failure: Option<ReplicaSetCondition>,
    /// Its controller has seen the newest spec.
    settled: bool,
    going: bool,
}

/// Pods as the ReplicaSet's status counts them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) replicas: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) terminating: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resize {
    Grow,
    Shrink,
}

/// The new ReplicaSet (the one of the current template) and the old ones, oldest first.
pub(super) struct Sets {
    pub(super) new: Option<Set>,
    pub(super) old: Vec<Set>,
}

impl Set {
    fn new(object: &ReplicaSet) -> Self {
        let (spec, status, meta) = (&object.spec, object.status.as_ref(), &object.metadata);
        let count = |field: Option<i32>| field.unwrap_or(0);
        Self {
            name: crate::plan::name(meta).to_owned(),
            uid: crate::plan::uid(meta).to_owned(),
            created: crate::plan::created(meta),
            replicas: spec.replicas.unwrap_or(1),
            status: Counts {
                replicas: status.map_or(0, |s| s.replicas),
                ready: count(status.and_then(|s| s.ready_replicas)),
                available: count(status.and_then(|s| s.available_replicas)),
                terminating: status.and_then(|s| s.terminating_replicas),
            },
            annotations: meta.annotations.clone().unwrap_or_default(),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            failure: status
                .and_then(|s| s.conditions.as_ref())
                .and_then(|conditions| {
                    conditions.iter().find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"))
                })
                .cloned(),
            settled: status.and_then(|s| s.observed_generation).unwrap_or(0) >= meta.generation.unwrap_or(0),
            going: meta.deletion_timestamp.is_some(),
        }
    }

    /// Available pods that will still be there once the planned size holds: pods that are not
    /// available are deleted first.
    pub(super) fn available(&self) -> i32 {
        self.status.available.min(self.replicas)
    }

    pub(super) fn unavailable(&self) -> i32 {
        self.replicas - self.available()
    }

    /// It is to be made by this plan.
    pub(super) fn is_planned(&self) -> bool {
        self.uid.is_empty()
    }

    fn revision(&self) -> i64 {
        self.number(REVISION).unwrap_or(0)
    }

    fn number(&self, annotation: &str) -> Option<i64> {
        self.annotations.get(annotation)?.parse().ok()
    }

    pub(super) fn desired_replicas(&self) -> Option<i64> {
        self.number(DESIRED_REPLICAS)
    }

    pub(super) fn max_replicas(&self) -> Option<i64> {
        self.number(MAX_REPLICAS)
    }

    pub(super) fn failure(&self) -> Option<&ReplicaSetCondition> {
        self.failure.as_ref()
    }

    /// Sets annotations; those that were not so already.
    fn annotate(&mut self, wanted: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let changed: BTreeMap<_, _> =
            wanted.into_iter().filter(|(key, value)| self.annotations.get(key) != Some(value)).collect();
        self.annotations.extend(changed.clone());
        changed
    }

    /// The step to another size; none if it has it.
    pub(super) fn scale(&mut self, wishes: &Wishes<'_>, to: i32) -> Option<Step> {
        let from = std::mem::replace(&mut self.replicas, to);
        let annotations = self.annotate(size_annotations(wishes));
        if from != to {
            return Some(Step::Scale { name: self.name.clone(), from, to, annotations });
        }
        let min_ready_seconds = self.min_ready_seconds;
        (!annotations.is_empty()).then(|| Step::Update { name: self.name.clone(), annotations, min_ready_seconds })
    }
}

impl Sets {
    pub(super) fn new(wishes: &Wishes<'_>, objects: &[&ReplicaSet]) -> Self {
        let mut objects = objects.to_vec();
        objects.sort_by_key(|set| (crate::plan::created(&set.metadata), set.metadata.name.clone()));
        let template = &wishes.object.spec.template;
        // The oldest of several: what a second hub or a restored one made is the younger.
        let at = objects
            .iter()
            .position(|set| set.metadata.deletion_timestamp.is_none() && template::matches(set, template));
        let new = at.map(|at| Set::new(objects.remove(at)));
        Self { new, old: objects.into_iter().map(Set::new).collect() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Set> {
        self.old.iter_mut().chain(&mut self.new)
    }

    /// Pods wanted of all.
    pub(super) fn replicas(&self) -> i32 {
        self.iter().map(|set| set.replicas).sum()
    }

    pub(super) fn old_replicas(&self) -> i32 {
        self.old.iter().map(|set| set.replicas).sum()
    }

    /// Whether some ReplicaSet was last sized for another number of replicas.
    pub(super) fn is_resized(&self, wishes: &Wishes<'_>) -> bool {
        let wanted = i64::from(wishes.replicas);
        self.iter().filter(|set| set.replicas > 0).any(|set| set.desired_replicas().is_some_and(|d| d != wanted))
    }

    /// Gives the new ReplicaSet the highest revision and the Deployment's annotations, and the
    /// Deployment its revision.
    pub(super) fn renumber(&mut self, wishes: &Wishes<'_>) -> Vec<Step> {
        let next = self.next_revision();
        let Some(new) = &mut self.new else { return Vec::new() };
        let mut wanted = inherited(wishes);
        let revision = new.revision();
        if revision < next {
            wanted.insert(REVISION.to_owned(), next.to_string());
            if revision > 0 {
                let history = new.annotations.get(REVISION_HISTORY).map(|h| format!("{h},")).unwrap_or_default();
                wanted.insert(REVISION_HISTORY.to_owned(), format!("{history}{revision}"));
            }
        }
        let annotations = new.annotate(wanted);
        let mut steps = Vec::new();
        if !annotations.is_empty() || new.min_ready_seconds != wishes.min_ready_seconds {
            new.min_ready_seconds = wishes.min_ready_seconds;
            let (name, min_ready_seconds) = (new.name.clone(), wishes.min_ready_seconds);
            steps.push(Step::Update { name, annotations, min_ready_seconds });
        }
        steps.extend(set_revision(wishes, new.revision()));
        steps
    }

    /// The steps that make the new ReplicaSet, of this size.
    pub(super) fn create(&mut self, wishes: &Wishes<'_>, replicas: i32) -> Vec<Step> {
        let collisions = wishes.object.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let hash = template::hash(&wishes.object.spec.template, collisions);
        let revision = self.next_revision();
        let mut annotations = inherited(wishes);
        annotations.extend(size_annotations(wishes));
        annotations.insert(REVISION.to_owned(), revision.to_string());
        let name = format!("{}-{hash}", wishes.name());
        self.new = Some(Set {
            name: name.clone(),
            uid: String::new(),
            created: Timestamp::MAX,
            replicas,
            status: Counts::default(),
            annotations: annotations.clone(),
            min_ready_seconds: wishes.min_ready_seconds,
            failure: None,
            settled: false,
            going: false,
        });
        let mut steps = vec![Step::Create { name, hash, replicas, annotations }];
        steps.extend(set_revision(wishes, revision));
        steps
    }

    /// The steps that forget old ReplicaSets beyond the history limit, the lowest revisions first.
    pub(super) fn clean_up(&mut self, wishes: &Wishes<'_>) -> Vec<Step> {
        let mut candidates: Vec<&Set> = self.old.iter().filter(|set| !set.going).collect();
        let superfluous = candidates.len().saturating_sub(wishes.history);
        candidates.sort_by_key(|set| (set.revision(), set.created));
        candidates
            .into_iter()
            .take(superfluous)
            .filter(|set| set.replicas == 0 && set.status.replicas == 0 && set.settled)
            .map(|set| Step::Delete { name: set.name.clone(), uid: set.uid.clone() })
            .collect()
    }

    /// The only ReplicaSet with pods, or the newest if none has any; `None` while several have pods.
    pub(super) fn active_or_latest(&mut self) -> Option<&mut Set> {
        match self.iter().filter(|set| set.replicas > 0).count() {
            0 if self.new.is_some() => self.new.as_mut(),
            0 => self.old.iter_mut().max_by_key(|set| set.created),
            1 => self.iter_mut().find(|set| set.replicas > 0),
            _ => None,
        }
    }

    /// Those with pods, the largest first; among equals the newer first when growing, the older
    /// first when shrinking.
    pub(super) fn by_size(&mut self, change: Resize) -> Vec<&mut Set> {
        let mut sets: Vec<&mut Set> = self.iter_mut().filter(|set| set.replicas > 0).collect();
        match change {
            Resize::Grow => sets.sort_by_key(|set| (Reverse(set.replicas), Reverse(set.created))),
            Resize::Shrink => sets.sort_by_key(|set| (Reverse(set.replicas), set.created)),
        }
        sets
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(Set::revision).max().unwrap_or(0).saturating_add(1)
    }
}

fn set_revision(wishes: &Wishes<'_>, revision: i64) -> Option<Step> {
    let now = wishes.object.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    let wanted = revision.to_string();
    (now != Some(&wanted)).then_some(Step::SetRevision(wanted))
}

/// The Deployment's annotations that its new ReplicaSet shows too.
fn inherited(wishes: &Wishes<'_>) -> BTreeMap<String, String> {
    let annotations = wishes.object.metadata.annotations.iter().flatten();
    annotations
        .filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// For which size of the Deployment a ReplicaSet was sized: what proportional scaling starts from.
fn size_annotations(wishes: &Wishes<'_>) -> BTreeMap<String, String> {
    BTreeMap::from([
        (DESIRED_REPLICAS.to_owned(), wishes.replicas.to_string()),
        (MAX_REPLICAS.to_owned(), wishes.max_replicas().to_string()),
    ])
}
