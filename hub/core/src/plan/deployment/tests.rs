//! Rollouts as tables, and as a game against a scripted cluster.

use proptest::prelude::{Just, prop, prop_assert, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-06-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// `10 +3 -2`: ten replicas, surge 3, unavailable 2; `10 recreate`; `paused` at the end.
fn deployment(text: &str) -> Deployment {
    let mut words = text.split(' ');
    let replicas: i32 = words.next().unwrap().parse().unwrap();
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "1"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
            "template": template("new"), "strategy": {"type": "RollingUpdate", "rollingUpdate": {}}},
        "status": {"observedGeneration": 2},
    });
    for word in words {
        let amount = |text: &str| text.parse().map_or_else(|_| json!(text), |number: i32| json!(number));
        let spec = &mut object["spec"];
        match word.split_at(1) {
            ("+", surge) => spec["strategy"]["rollingUpdate"]["maxSurge"] = amount(surge),
            ("-", unavailable) => spec["strategy"]["rollingUpdate"]["maxUnavailable"] = amount(unavailable),
            ("r", _) => spec["strategy"] = json!({"type": "Recreate"}),
            ("p", _) => spec["paused"] = json!(true),
            other => panic!("{other:?} means nothing here"),
        }
    }
    serde_json::from_value(object).unwrap()
}

fn template(image: &str) -> Value {
    let image = if image.starts_with("new") { "new" } else { image };
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// `old 10/8`: wants ten, has eight available; `old 10/8 of 10+3`: sized for that Deployment.
fn replica_set(age: usize, text: &str) -> ReplicaSet {
    let (size, sized_for) = text.split_once(" of ").map_or((text, None), |(size, of)| (size, Some(of)));
    let (name, counts) = size.split_once(' ').unwrap();
    let (replicas, available) = counts.split_once('/').unwrap();
    let (replicas, available): (i32, i32) = (replicas.parse().unwrap(), available.parse().unwrap());
    let mut annotations = json!({"deployment.kubernetes.io/revision": (age + 1).to_string()});
    if let Some((desired, surge)) = sized_for.and_then(|of| of.split_once('+')) {
        let most = desired.parse::<i32>().unwrap() + surge.parse::<i32>().unwrap();
        annotations[DESIRED_REPLICAS] = json!(desired);
        annotations[MAX_REPLICAS] = json!(most.to_string());
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "annotations": annotations,
            "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z")},
        "spec": {"replicas": replicas, "selector": {}, "template": template(name)},
        "status": {"replicas": replicas, "availableReplicas": available, "readyReplicas": available},
    }))
    .unwrap()
}

fn steps(plan: &Plan) -> String {
    let text = |step: &Step| match step {
        Step::Create { replicas, .. } => Some(format!("create {replicas}")),
        Step::Scale { name, from, to, .. } => Some(format!("{name} {from}>{to}")),
        Step::Delete { name, .. } => Some(format!("delete {name}")),
        // Bookkeeping has tests of its own.
        Step::Update { .. } | Step::SetRevision(_) => None,
    };
    plan.steps.iter().filter_map(text).collect::<Vec<_>>().join(", ")
}

fn plan_of(deployment: &Deployment, sets: &[ReplicaSet], running: &[(&str, usize)]) -> Plan {
    let running_pods = running.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let replica_sets: Vec<&ReplicaSet> = sets.iter().collect();
    plan(&Input { deployment, replica_sets: &replica_sets, running_pods: &running_pods, now: now() })
}

/// The ReplicaSets are listed oldest first.
#[track_caller]
fn check(wanted: &str, sets: &[&str], expected: &str) {
    let sets: Vec<ReplicaSet> = sets.iter().enumerate().map(|(age, text)| replica_set(age, text)).collect();
    assert_eq!(steps(&plan_of(&deployment(wanted), &sets, &[])), expected, "{wanted}");
}

#[test]
fn a_first_rollout_makes_all_pods_at_once() {
    check("3 +1 -0", &[], "create 3");
    check("0 +1 -0", &[], "create 0");
    check("3 recreate", &[], "create 3");
}

#[test]
fn new_pods_come_as_room_allows() {
    check("10 +3 -2", &["old 10/10", "new 0/0"], "new 0>3, old 10>8, new 3>5");
    check("10 +0 -2", &["old 10/10", "new 0/0"], "old 10>8, new 0>2");
    check("10 +3 -0", &["old 10/10", "new 0/0"], "new 0>3");
    check("10 +3 -0", &["old 10/10", "new 3/3"], "old 10>7, new 3>6");
    check("10 +0 -0", &["old 10/10", "new 0/0"], "old 10>9, new 0>1");
    check("4 +25% -25%", &["old 4/4", "new 0/0"], "new 0>1, old 4>3, new 1>2");
    check("3 +25% -25%", &["old 3/3", "new 0/0"], "new 0>1");
}

#[test]
fn old_pods_that_serve_nobody_go_first() {
    check("10 +0 -2", &["old 10/8", "new 0/0"], "old 10>8, new 0>2");
    check("10 +2 -2", &["older 3/1", "old 7/7", "new 2/0"], "older 3>1, new 2>4");
    check("10 +0 -2", &["old 8/8", "new 2/0"], "");
    check("10 +0 -2", &["old 8/8", "new 2/1"], "old 8>7, new 2>3");
    check("3 +0 -1", &["old 3/0", "new 0/0"], "old 3>2, new 0>1");
}

#[test]
fn a_new_set_too_large_shrinks() {
    check("3 +1 -0", &["new 5/5 of 3+1"], "new 5>3");
}

#[test]
fn mid_rollout_each_set_is_resized_in_its_proportion() {
    check("12 +0 -3 paused", &["old 5/5 of 10+0", "new 5/5 of 10+0"], "new 5>6, old 5>6");
    check("20 +2 -0 paused", &["old 8/8 of 10+2", "new 4/4 of 10+2"], "old 8>15, new 4>7");
    check("5 +0 -0 paused", &["old 8/8 of 10+0", "new 2/2 of 10+0"], "old 8>4, new 2>1");
    check("0 +2 -0 paused", &["old 8/8 of 10+2", "new 4/4 of 10+2"], "old 8>0, new 4>0");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    check("5 +1 -0 paused", &["old 3/3 of 3+1"], "old 3>5");
    check("3 +1 -0 paused", &["old 3/3 of 3+1"], "");
    check("3 +1 -0 paused", &[], "");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    check("3 recreate", &["old 3/3"], "old 3>0");
    let old = [replica_set(0, "old 0/0")];
    let gone = plan_of(&deployment("3 recreate"), &old, &[]);
    let going = plan_of(&deployment("3 recreate"), &old, &[("old", 1)]);
    assert_eq!((steps(&going), steps(&gone)), (String::new(), "create 3".to_owned()));
    check("3 recreate", &["new 1/1"], "new 1>3");
}

#[test]
fn history_beyond_its_limit_is_forgotten_once_complete() {
    let mut wanted = deployment("1 +1 -0");
    wanted.spec.revision_history_limit = Some(1);
    let mut sets: Vec<ReplicaSet> =
        ["a 0/0", "b 0/0", "c 0/0", "new 1/1 of 1+1"].iter().enumerate().map(|(i, t)| replica_set(i, t)).collect();
    assert_eq!(steps(&plan_of(&wanted, &sets, &[])), "delete a, delete b");
    sets[0].status.as_mut().unwrap().replicas = 1;
    assert_eq!(steps(&plan_of(&wanted, &sets, &[])), "", "a pod of an old set is still there");
    sets[0] = replica_set(0, "a 1/1");
    let plan = plan_of(&wanted, &sets, &[]);
    assert!(!steps(&plan).contains("delete"), "not complete: {}", steps(&plan));
}

#[test]
fn revisions_count_up_and_a_rollback_takes_the_next_number() {
    let sets = [replica_set(0, "new 1/1 of 1+1"), replica_set(1, "old 0/0")];
    let plan = plan_of(&deployment("1 +1 -0"), &sets, &[]);
    let update = plan.steps.iter().find_map(|step| match step {
        Step::Update { annotations, .. } => Some(annotations.clone()),
        _ => None,
    });
    let update = update.expect("the new set is renumbered");
    assert_eq!(update[REVISION], "3");
    assert_eq!(update["deployment.kubernetes.io/revision-history"], "1");
    assert!(plan.steps.contains(&Step::SetRevision("3".to_owned())));
}

fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<(&'a str, &'a str)> {
    let condition = status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(type_))?;
    Some((condition.status.as_deref()?, condition.reason.as_deref()?))
}

#[test]
fn conditions_tell_the_story_of_a_rollout() {
    let mut wanted = deployment("2 +1 -0");
    let check = |wanted: &mut Deployment, sets: &[&str], progressing, available| {
        let sets: Vec<ReplicaSet> = sets.iter().enumerate().map(|(age, text)| replica_set(age, text)).collect();
        let plan = plan_of(wanted, &sets, &[]);
        assert_eq!(condition(&plan.status, "Progressing"), Some(progressing));
        assert_eq!(condition(&plan.status, "Available"), Some(available));
        wanted.status = Some(plan.status.clone());
        plan
    };
    let poor = ("False", "MinimumReplicasUnavailable");
    let good = ("True", "MinimumReplicasAvailable");
    let first = check(&mut wanted, &[], ("True", "NewReplicaSetCreated"), poor);
    assert_eq!(first.wake_at, Some("2026-06-01T00:10:01Z".parse().unwrap()));
    check(&mut wanted, &["new 2/1 of 2+1"], ("True", "ReplicaSetUpdated"), poor);
    let done = check(&mut wanted, &["new 2/2 of 2+1"], ("True", "NewReplicaSetAvailable"), good);
    assert_eq!(done.wake_at, None);
    check(&mut wanted, &["new 2/1 of 2+1"], ("True", "NewReplicaSetAvailable"), poor);
}

#[test]
fn a_rollout_without_progress_times_out() {
    let mut wanted = deployment("2 +1 -0");
    let status = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "conditions": [{
        "type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "",
        "lastUpdateTime": "2026-05-31T23:49:00Z", "lastTransitionTime": "2026-05-31T23:00:00Z"}]});
    wanted.status = Some(serde_json::from_value(status).unwrap());
    let plan = plan_of(&wanted, &[replica_set(0, "new 2/0 of 2+1")], &[]);
    assert_eq!(condition(&plan.status, "Progressing"), Some(("False", "ProgressDeadlineExceeded")));
    wanted.status = Some(plan.status);
    wanted.spec.paused = Some(true);
    let plan = plan_of(&wanted, &[replica_set(0, "new 2/0 of 2+1")], &[]);
    assert_eq!(condition(&plan.status, "Progressing"), Some(("False", "ProgressDeadlineExceeded")), "stays told");
}

#[test]
fn a_pause_is_told_in_the_conditions() {
    let mut wanted = deployment("2 +1 -0 paused");
    let sets = [replica_set(0, "new 2/2 of 2+1")];
    let paused = plan_of(&wanted, &sets, &[]);
    assert_eq!(condition(&paused.status, "Progressing"), Some(("Unknown", "DeploymentPaused")));
    wanted.status = Some(paused.status);
    wanted.spec.paused = None;
    wanted.spec.replicas = Some(3);
    let resumed = plan_of(&wanted, &sets, &[]);
    assert_eq!(condition(&resumed.status, "Progressing"), Some(("Unknown", "DeploymentResumed")));
}

/// A cluster that does what ReplicaSets say, at its own pace.
#[derive(Debug, Clone)]
struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The Deployment's controller looks.
    Plan,
    /// A ReplicaSet's controller makes and deletes pods as wanted, unready ones first.
    Follow(usize),
    /// One more pod of a ReplicaSet becomes available.
    Ready(usize),
}

fn events() -> impl Generator<Value = Vec<Event>> {
    let event =
        prop_oneof![Just(Event::Plan), (0..3usize).prop_map(Event::Follow), (0..3usize).prop_map(Event::Ready),];
    prop::collection::vec(event, 0..120)
}

impl Cluster {
    fn apply(&mut self, plan: &Plan) {
        for step in &plan.steps {
            match step {
                Step::Create { name, replicas, annotations, .. } => {
                    let mut set = replica_set(self.sets.len(), "new 0/0");
                    set.metadata.name = Some(name.clone());
                    set.metadata.uid = Some(name.clone());
                    set.metadata.annotations = Some(annotations.clone());
                    set.spec.replicas = Some(*replicas);
                    self.sets.push(set);
                }
                Step::Scale { name, to, annotations, .. } => {
                    let set = self.set(name);
                    set.spec.replicas = Some(*to);
                    set.metadata.annotations.get_or_insert_default().extend(annotations.clone());
                }
                Step::Update { name, annotations, min_ready_seconds } => {
                    let set = self.set(name);
                    set.metadata.annotations.get_or_insert_default().extend(annotations.clone());
                    set.spec.min_ready_seconds = Some(*min_ready_seconds);
                }
                Step::Delete { name, .. } => self.sets.retain(|set| set.metadata.name.as_ref() != Some(name)),
                Step::SetRevision(revision) => {
                    let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                    annotations.insert(REVISION.to_owned(), revision.clone());
                }
            }
        }
        self.deployment.status = Some(plan.status.clone());
    }

    fn set(&mut self, name: &str) -> &mut ReplicaSet {
        self.sets.iter_mut().find(|set| set.metadata.name.as_deref() == Some(name)).expect("plans name what is there")
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Plan => {
                let plan = plan_of(&self.deployment, &self.sets, &[]);
                self.apply(&plan);
                let again = plan_of(&self.deployment, &self.sets, &[]);
                assert_eq!((again.steps, again.status), (Vec::new(), plan.status), "planned again");
            }
            Event::Follow(at) => {
                let Some(set) = self.sets.get_mut(at) else { return };
                let status = set.status.as_mut().unwrap();
                status.replicas = set.spec.replicas.unwrap();
                status.available_replicas = Some(status.available_replicas.unwrap_or(0).min(status.replicas));
                status.ready_replicas = status.available_replicas;
            }
            Event::Ready(at) => {
                let Some(set) = self.sets.get_mut(at) else { return };
                let status = set.status.as_mut().unwrap();
                status.available_replicas = Some((status.available_replicas.unwrap_or(0) + 1).min(status.replicas));
                status.ready_replicas = status.available_replicas;
            }
        }
    }

    fn pods(&self) -> i32 {
        self.sets.iter().map(|set| set.status.as_ref().unwrap().replicas).sum()
    }

    fn available(&self) -> i32 {
        self.sets.iter().map(|set| set.status.as_ref().unwrap().available_replicas.unwrap_or(0)).sum()
    }

    fn follow_shrinking_first(&mut self) {
        let mut order: Vec<usize> = (0..self.sets.len()).collect();
        order.sort_by_key(|at| {
            let set = &self.sets[*at];
            set.spec.replicas.unwrap() - set.status.as_ref().unwrap().replicas
        });
        order.into_iter().for_each(|at| self.happen(Event::Follow(at)));
    }
}

proptest! {
    /// Whatever order things happen in: never more wanted than replicas and surge, never fewer
    /// available than replicas less unavailable, and in the end only new pods.
    #[test]
    fn rollouts_stay_within_their_bounds(
        replicas in 0..12i32, surge in 0..5i32, unavailable in 0..5i32, events in events()
    ) {
        let wanted = deployment(&format!("{replicas} +{surge} -{unavailable}"));
        let sets = vec![replica_set(0, &format!("old {replicas}/{replicas} of {replicas}+{surge}"))];
        let mut cluster = Cluster { deployment: wanted, sets };
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        for event in events {
            cluster.happen(event);
            let asked: i32 = cluster.sets.iter().map(|set| set.spec.replicas.unwrap()).sum();
            prop_assert!(asked <= replicas + surge, "asks for {asked}");
            prop_assert!(cluster.available() >= replicas - unavailable, "{} available", cluster.available());
        }
        for _ in 0..60 {
            cluster.happen(Event::Plan);
            cluster.follow_shrinking_first();
            prop_assert!(cluster.pods() <= replicas + surge);
            (0..12).for_each(|_| (0..3).for_each(|at| cluster.happen(Event::Ready(at))));
        }
        cluster.happen(Event::Plan);
        prop_assert!(is_complete_now(&cluster), "{:?}", cluster.deployment.status);
    }

    /// Resizing mid-rollout gives out exactly what the new size allows, and settles.
    #[test]
    fn resizing_settles(before in 1..12i32, after in 0..20i32, old in 1..8i32, new in 1..8i32, surge in 0..4i32) {
        let sets = vec![
            replica_set(0, &format!("old {old}/{old} of {before}+{surge}")),
            replica_set(1, &format!("new {new}/{new} of {before}+{surge}")),
        ];
        let mut cluster = Cluster { deployment: deployment(&format!("{after} +{surge} -1 paused")), sets };
        cluster.happen(Event::Plan);
        let asked: i32 = cluster.sets.iter().map(|set| set.spec.replicas.unwrap()).sum();
        let saturated = asked == after || new == after;
        prop_assert!(before == after || saturated || asked == after + surge, "asks for {asked}");
    }
}

fn is_complete_now(cluster: &Cluster) -> bool {
    condition(cluster.deployment.status.as_ref().unwrap(), "Progressing") == Some(("True", "NewReplicaSetAvailable"))
}
