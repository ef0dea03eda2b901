//! Whole lives of pods, read as what happens and what is begun: tables over `Node`, and properties.

use std::sync::Arc;

use proptest::prelude::*;
use protocol::desired::Stop;
use protocol::pod::{
    ContainerSpec, HookAction, Image, ImageResolution, PodSpec, ProbeAction, ProbeSpec,
    RestartPolicy::{self, Always, Never, OnFailure},
};
use protocol::reported::{ContainerState, PodReport};
use protocol::{BootId, Digest, UnixMillis};

use crate::container::{ExitReason, Outcome, Run};
use crate::image::Trouble;
use crate::ledger::PodRecord;
use crate::node::{Listing, Node, Params};
use crate::plan::{Action, At, Fact, Hook, Means, Source};
use crate::pod::testing::{container, image, pod, uid};
use crate::probe::{Answer, ProbeKind};
use crate::time::{Moment, Now};

/// A node with one pod, driven by words.
struct Story {
    node: Node,
    spec: PodSpec,
    seconds: u64,
    boot: u8,
}

impl Story {
    fn new(spec: PodSpec) -> Self {
        Self { node: Node::new(BootId([1; 16]), Params::default()), spec, seconds: 1_000, boot: 1 }
    }

    fn now(&self) -> Now {
        Now { at: Moment(self.seconds * 1000), wall: UnixMillis(self.seconds * 1000) }
    }

    fn list(&mut self, stop: Option<u32>) {
        let digest = self.spec.digest();
        let stop = stop.map(|grace_seconds| Stop { grace_seconds });
        let listing = Listing { uid: self.spec.uid, digest, spec: Some(Arc::new(self.spec.clone())), stop };
        self.node.assign(&[listing], |_| None, self.now());
    }

    /// The agent dies with all guests, and starts again from its ledger.
    fn restart(&mut self) {
        let boot = BootId([self.boot; 16]);
        let old = BootId([1; 16]);
        let record = self.node.pod(uid(1)).map(|pod| PodRecord::of(pod, old).to_bytes());
        self.node = Node::new(boot, Params::default());
        let listing =
            Listing { uid: uid(1), digest: self.spec.digest(), spec: Some(Arc::new(self.spec.clone())), stop: None };
        let read = |_| record.as_deref().map(|bytes| PodRecord::from_bytes(bytes).expect("just written"));
        self.node.assign(&[listing], read, self.now());
    }

    fn at(&self, name: &str) -> (At, Run) {
        let name = name.parse().unwrap();
        let run = self.node.pod(uid(1)).and_then(|pod| pod.container(&name)).and_then(|(c, _)| c.run());
        (At { pod: uid(1), container: name }, run.unwrap_or_default())
    }

    fn happen(&mut self, event: &str) {
        let words: Vec<&str> = event.split_whitespace().collect();
        let now = self.now();
        match words.as_slice() {
            ["list"] => self.list(None),
            ["unlist"] => self.node.assign(&[], |_| None, now),
            ["delete", grace] => self.list(Some(grace.parse().unwrap())),
            ["heard"] => self.node.heard(now.at),
            ["restart"] => self.restart(),
            ["reboot"] => {
                self.boot += 1;
                self.restart();
            }
            ["image", name] => {
                self.spec.containers[0].resolution = image(name);
                self.list(None);
            }
            ["env"] => {
                let value = protocol::pod::Value::Literal(self.seconds.to_string());
                self.spec.containers[0].env = vec![("SECONDS".into(), value)];
                self.list(None);
            }
            [time] if time.starts_with('+') => self.seconds += time[1..].parse::<u64>().unwrap(),
            words => {
                let fact = self.fact(words);
                self.node.observe(fact, now);
            }
        }
    }

    fn fact(&self, words: &[&str]) -> Fact {
        let pod = uid(1);
        let app = |name: &[&str]| self.at(name.first().copied().unwrap_or("app"));
        match words {
            ["pulled"] => Fact::ImageReady { id: self.fetching(), source: Source::Hub },
            ["unpullable"] => {
                Fact::ImageFailed { id: self.fetching(), trouble: Trouble::Pull, message: "no such image".into() }
            }
            ["prepared"] => Fact::Prepared { pod, files: self.spec.digest() },
            ["unprepared"] => Fact::PrepareFailed { pod, message: "no such directory".into() },
            ["refreshed"] => Fact::Refreshed { pod, files: self.spec.digest() },
            ["started", name @ ..] => {
                let (at, run) = app(name);
                Fact::Started { at, run }
            }
            ["exit", code, name @ ..] => {
                let (at, run) = app(name);
                let code = code.parse().unwrap();
                let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
                Fact::Exited { at, run, outcome: Outcome { code, reason, message: None } }
            }
            ["hook", result] => {
                let (at, run) = app(&[]);
                let hook = if self.spec.containers[0].pre_stop.is_some() { Hook::PreStop } else { Hook::PostStart };
                Fact::HookEnded { at, run, hook, result: answer(result) }
            }
            [kind, result] => {
                let (at, run) = app(&[]);
                let kind = match *kind {
                    "startup" => ProbeKind::Startup,
                    "liveness" => ProbeKind::Liveness,
                    _ => ProbeKind::Readiness,
                };
                Fact::Probed { at, run, kind, answer: answer(result) }
            }
            other => panic!("no such event: {other:?}"),
        }
    }

    fn fetching(&self) -> crate::image::ImageId {
        let ImageResolution::Resolved(image) = &self.spec.containers[0].resolution else { panic!("unresolved") };
        crate::image::ImageId::of(image)
    }

    /// Plans, begins, and checks that nothing is left to begin.
    fn act(&mut self) -> String {
        let now = self.now();
        self.node.tick(now);
        let plan = self.node.plan(now);
        for action in &plan.actions {
            self.node.begin(action, now);
        }
        let again = self.node.plan(now);
        assert_eq!(again.actions, [], "planning again after beginning {plan:?}");
        plan.actions.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    fn report(&self) -> PodReport {
        self.node.reports(self.now()).remove(0)
    }
}

fn answer(text: &str) -> Answer {
    match text {
        "ok" => Answer::Success,
        _ => Answer::Failure { message: "refused".into() },
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Fetch { .. } => "fetch".into(),
        Action::Unload { .. } => "unload".into(),
        Action::Prepare { .. } => "prepare".into(),
        Action::Refresh { .. } => "refresh".into(),
        Action::Start { at, .. } => format!("start {}", at.container),
        Action::PostStart { at, .. } => format!("post-start {}", at.container),
        Action::Probe { kind, .. } => format!("probe {}", kind.word().to_lowercase()),
        Action::Stop { at, by: Means::PreStop, .. } => format!("pre-stop {}", at.container),
        Action::Stop { at, by: Means::Signal, .. } => format!("signal {}", at.container),
        Action::Stop { at, by: Means::Kill, .. } => format!("kill {}", at.container),
        Action::Close { .. } => "close".into(),
        Action::Remove { .. } => "remove".into(),
    }
}

/// Each step: events separated by `;`, and what they lead to.
fn check(spec: PodSpec, steps: &[(&str, &str)]) -> Story {
    let mut story = Story::new(spec);
    for (index, (events, want)) in steps.iter().enumerate() {
        for event in events.split(';').map(str::trim).filter(|event| !event.is_empty()) {
            story.happen(event);
        }
        assert_eq!(story.act(), *want, "step {index}: {events}");
    }
    story
}

const UP: [(&str, &str); 3] = [("list", "fetch, prepare"), ("pulled; prepared", "start app"), ("started", "")];

fn after_up(spec: PodSpec, steps: &[(&str, &str)]) -> Story {
    let all: Vec<_> = UP.iter().chain(steps).copied().collect();
    check(spec, &all)
}

fn shown(story: &Story) -> String {
    let report = story.report();
    let one = |c: &protocol::reported::ContainerReport| match &c.state {
        ContainerState::Waiting { reason, .. } => format!("{} waits {reason} x{}", c.name, c.restarts),
        ContainerState::Running { .. } => {
            format!("{} runs{} x{}", c.name, if c.ready { " ready" } else { "" }, c.restarts)
        }
        ContainerState::Terminated(t) => format!("{} ended {} {} x{}", c.name, t.exit_code, t.reason, c.restarts),
    };
    let containers: Vec<_> = report.init_containers.iter().chain(&report.containers).map(one).collect();
    let stopped = if report.stopped { " stopped" } else { "" };
    format!("{:?}{stopped}: {}", report.phase, containers.join("; "))
}

fn with_app(restart: RestartPolicy, change: impl FnOnce(&mut ContainerSpec)) -> PodSpec {
    let mut spec = pod(restart);
    change(&mut spec.containers[0]);
    spec
}

fn probe(failure_threshold: u32) -> ProbeSpec {
    ProbeSpec {
        action: ProbeAction::TcpSocket { port: 80 },
        initial_delay_seconds: 0,
        period_seconds: 10,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold,
        grace_seconds: None,
    }
}

#[test]
fn a_pod_starts_and_tells_so() {
    let story = after_up(pod(Always), &[]);
    assert_eq!(shown(&story), "Running: app runs ready x0");
}

#[test]
fn crashes_back_off_and_a_clean_run_forgives() {
    let story = after_up(
        pod(Always),
        &[
            ("exit 1", "start app"),
            ("started; exit 1", ""),
            ("+9", ""),
            ("+1", "start app"),
            ("started; exit 1", ""),
            ("+19", ""),
            ("+1", "start app"),
            ("started; +600; exit 1", "start app"),
            ("started; exit 1", ""),
        ],
    );
    assert_eq!(shown(&story), "Running: app waits CrashLoopBackOff x4");
}

#[test]
fn policies_end_pods() {
    assert_eq!(
        shown(&after_up(pod(Never), &[("exit 3", "close, unload"), ("", "")])),
        "Failed stopped: app ended 3 Error x0"
    );
    let done = after_up(pod(OnFailure), &[("exit 3", "start app"), ("started; exit 0", "close, unload")]);
    assert_eq!(shown(&done), "Succeeded stopped: app ended 0 Completed x1");
}

#[test]
fn a_deletion_signals_then_kills_at_the_grace() {
    let steps = [("delete 5", "signal app"), ("+4", ""), ("+1", "kill app"), ("exit 137", "close, unload")];
    let story = after_up(pod(Always), &steps);
    assert_eq!(shown(&story), "Failed stopped: app ended 137 Error x0");
    after_up(pod(Always), &[("delete 5", "signal app"), ("exit 0", "close, unload"), ("unlist", "remove")]);
    after_up(pod(Always), &[("delete 0", "kill app"), ("exit 137; unlist", "remove, unload")]);
}

#[test]
fn a_shorter_grace_wins_and_a_longer_one_does_not() {
    let steps = [("delete 30", "signal app"), ("+1; delete 2", ""), ("+1; delete 30", ""), ("+1", "kill app")];
    after_up(pod(Always), &steps);
}

#[test]
fn the_stop_hook_runs_inside_the_grace() {
    let spec = with_app(Always, |app| app.pre_stop = Some(HookAction::Sleep { seconds: 3 }));
    after_up(spec.clone(), &[("delete 10", "pre-stop app"), ("+3; hook ok", "signal app"), ("+7", "kill app")]);
    after_up(
        spec,
        &[("delete 10", "pre-stop app"), ("+10", "kill app"), ("hook ok", ""), ("exit 137", "close, unload")],
    );
}

#[test]
fn a_failed_start_hook_kills_and_restarts() {
    let spec = with_app(Always, |app| app.post_start = Some(HookAction::Sleep { seconds: 3 }));
    let up = [UP[0], UP[1], ("started", "post-start app")];
    let story = check(spec.clone(), &up);
    assert_eq!(shown(&story), "Pending: app waits ContainerCreating x0");
    let story = check(spec.clone(), &[up[0], up[1], up[2], ("hook ok", "")]);
    assert_eq!(shown(&story), "Running: app runs ready x0");
    check(spec, &[up[0], up[1], up[2], ("hook bad", "kill app"), ("exit 137", "start app")]);
}

#[test]
fn init_containers_run_in_order_before_the_rest() {
    let mut spec = pod(Always);
    spec.init_containers = vec![container("one"), container("two")];
    for c in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        c.resolution = image("same");
    }
    let up = [
        ("list", "fetch, prepare"),
        ("pulled; prepared", "start one"),
        ("started one; exit 1 one", "start one"),
        ("started one; exit 0 one", "start two"),
    ];
    let story = check(spec.clone(), &up);
    assert_eq!(
        shown(&story),
        "Pending: one ended 0 Completed x1; two waits ContainerCreating x0; app waits PodInitializing x0"
    );
    let all: Vec<_> = up.into_iter().chain([("started two; exit 0 two", "start app"), ("started", "")]).collect();
    check(spec.clone(), &all);
    let again: Vec<_> =
        all.iter().copied().chain([("restart", "fetch, prepare"), ("pulled; prepared", "start app")]).collect();
    check(spec.clone(), &again);
    let reboot: Vec<_> =
        all.into_iter().chain([("reboot", "fetch, prepare"), ("pulled; prepared", "start one")]).collect();
    check(spec.clone(), &reboot);
    spec.restart = Never;
    let story = check(spec, &[up[0], up[1], ("started one; exit 1 one", "close, unload")]);
    assert_eq!(
        shown(&story),
        "Failed stopped: one ended 1 Error x0; two waits PodInitializing x0; app waits PodInitializing x0"
    );
}

#[test]
fn a_cut_run_is_restarted_unless_never() {
    let story =
        after_up(pod(Always), &[("reboot", "fetch, prepare"), ("pulled; prepared", "start app"), ("started", "")]);
    assert_eq!(shown(&story), "Running: app runs ready x1");
    assert_eq!(story.report().containers[0].last.as_ref().map(|t| t.exit_code), Some(255));
    after_up(pod(OnFailure), &[("restart", "fetch, prepare"), ("pulled; prepared", "start app")]);
    let story = after_up(pod(Never), &[("reboot", "")]);
    assert_eq!(shown(&story), "Failed stopped: app ended 255 Unknown x0");
    let story = after_up(pod(OnFailure), &[("exit 0", "close, unload"), ("reboot", "")]);
    assert_eq!(shown(&story), "Succeeded stopped: app ended 0 Completed x0");
    // Counts go on where they were.
    let crashing = [("exit 1", "start app"), ("started; exit 1", ""), ("restart", "fetch, prepare")];
    let story = after_up(pod(Always), &[crashing[0], crashing[1], crashing[2], ("pulled; prepared", "start app")]);
    assert_eq!(story.report().containers[0].restarts, 2);
}

#[test]
fn a_failing_liveness_probe_restarts() {
    let spec = with_app(Always, |app| app.liveness = Some(probe(2)));
    let up = [UP[0], UP[1], ("started", "probe liveness")];
    let steps = [
        up[0],
        up[1],
        up[2],
        ("liveness bad", ""),
        ("+10", "probe liveness"),
        ("liveness bad", "signal app"),
        ("+30", "kill app"),
        ("exit 137", "start app"),
        ("started", "probe liveness"),
        ("liveness ok", ""),
    ];
    assert_eq!(shown(&check(spec, &steps)), "Running: app runs ready x1");
}

#[test]
fn a_changed_image_restarts_only_for_itself_and_files_change_live() {
    after_up(
        pod(Always),
        &[
            ("image new", "fetch, refresh, signal app, unload"),
            ("refreshed; pulled; exit 0", "start app"),
            ("started", ""),
            ("env", "refresh"),
            ("refreshed", ""),
        ],
    );
}

#[test]
fn what_cannot_start_says_why() {
    let spec = with_app(Always, |app| app.config_error = Some("configmap \"x\" not found".into()));
    let story = check(spec, &[("list", "fetch, prepare"), ("pulled; prepared", "")]);
    assert_eq!(shown(&story), "Pending: app waits CreateContainerConfigError x0");
    let spec = with_app(Always, |app| app.resolution = ImageResolution::Unresolved { message: "unknown".into() });
    let story = check(spec.clone(), &[("list", "prepare"), ("prepared", "")]);
    assert_eq!(shown(&story), "Pending: app waits ErrImagePull x0");
    let story = check(spec, &[("list", "prepare"), ("prepared", ""), ("+2", "")]);
    assert_eq!(shown(&story), "Pending: app waits ImagePullBackOff x0");
    let story =
        check(pod(Always), &[("list", "fetch, prepare"), ("unpullable; prepared", ""), ("+9", ""), ("+1", "fetch")]);
    assert_eq!(shown(&story), "Pending: app waits ContainerCreating x0");
    let story = check(pod(Always), &[("list", "fetch, prepare"), ("unpullable; unprepared", ""), ("+5", "")]);
    assert_eq!(shown(&story), "Pending: app waits ImagePullBackOff x0");
}

#[test]
fn an_obstacle_is_told_once() {
    let spec = with_app(Always, |app| app.config_error = Some("configmap \"x\" not found".into()));
    let mut story = Story::new(spec);
    story.happen("list");
    story.happen("env");
    story.happen("list");
    let told: Vec<String> = story.node.take_notes().into_iter().map(|note| note.message).collect();
    assert_eq!(told, ["Error: configmap \"x\" not found"]);
}

#[test]
fn a_resolved_body_ends_the_wait() {
    let spec = with_app(Always, |app| app.resolution = ImageResolution::Unresolved { message: "unknown".into() });
    check(
        spec,
        &[("list", "prepare"), ("prepared", ""), ("image new", "fetch, refresh"), ("pulled; refreshed", "start app")],
    );
}

#[test]
fn the_active_deadline_fails_the_pod() {
    let spec = PodSpec { active_deadline_seconds: Some(60), ..pod(Always) };
    let story = after_up(spec, &[("+59", ""), ("+1", "signal app"), ("exit 0", "close, unload"), ("reboot", "")]);
    assert_eq!(shown(&story), "Failed stopped: app ended 0 Completed x0");
    assert_eq!(story.report().reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn isolation_pauses_a_pod_and_contact_brings_it_back() {
    let spec = PodSpec { stop_when_isolated_seconds: Some(60), ..pod(Always) };
    let story = check(
        spec,
        &[
            // After a start of the agent: not before the first contact.
            ("list", ""),
            ("heard", "fetch, prepare"),
            ("pulled; prepared", "start app"),
            ("started; +59", ""),
            ("+1", "signal app"),
            ("exit 0", "close, unload"),
            ("+600", ""),
            ("heard", "fetch, prepare"),
            ("pulled; prepared", "start app"),
        ],
    );
    assert_eq!(story.report().containers[0].restarts, 1);
}

#[test]
fn a_deletion_of_an_unknown_pod_is_confirmed() {
    let mut node = Node::new(BootId([1; 16]), Params::default());
    let listing = Listing { uid: uid(9), digest: Digest([0; 32]), spec: None, stop: Some(Stop { grace_seconds: 30 }) };
    node.assign(&[listing], |_| None, Now::default());
    assert!(node.reports(Now::default())[0].stopped);
}

#[test]
fn an_address_is_given_back_before_it_is_given_on() {
    let mut story = after_up(pod(Always), &[]);
    let second = PodSpec { uid: uid(2), name: "pod-2".into(), ..pod(Always) };
    let listing = |spec: &PodSpec| Listing {
        uid: spec.uid,
        digest: spec.digest(),
        spec: Some(Arc::new(spec.clone())),
        stop: None,
    };
    story.node.assign(&[listing(&second)], |_| None, story.now());
    assert_eq!(story.act(), "signal app");
    story.happen("exit 0");
    assert_eq!(story.act(), "remove, prepare");
}

/// Events of a fuzzed life; those that do not fit the moment are facts about nothing.
fn events() -> impl Strategy<Value = Vec<&'static str>> {
    let words = prop::sample::select(vec![
        "list",
        "unlist",
        "delete 5",
        "heard",
        "image new",
        "env",
        "+1",
        "+10",
        "+300",
        "pulled",
        "unpullable",
        "prepared",
        "unprepared",
        "refreshed",
        "started",
        "exit 0",
        "exit 1",
        "hook ok",
        "hook bad",
        "startup ok",
        "startup bad",
        "liveness ok",
        "liveness bad",
        "readiness ok",
        "restart",
        "reboot",
    ]);
    prop::collection::vec(words, 0..60)
}

fn any_spec() -> impl Strategy<Value = PodSpec> {
    let policy = prop::sample::select(vec![Always, OnFailure, Never]);
    (policy, any::<[bool; 5]>()).prop_map(|(policy, [hook, startup, liveness, isolated, deadline])| {
        let mut spec = with_app(policy, |app| {
            app.pre_stop = hook.then_some(HookAction::Sleep { seconds: 1 });
            app.startup = startup.then(|| probe(1));
            app.liveness = liveness.then(|| probe(1));
        });
        spec.stop_when_isolated_seconds = isolated.then_some(60);
        spec.active_deadline_seconds = deadline.then_some(100);
        spec
    })
}

proptest! {
    /// In any order of events: planning again is empty (`act` asserts it), a removed pod is gone, and
    /// a deleted one ends once its containers have.
    #[test]
    fn any_order_of_events_converges(spec in any_spec(), events in events()) {
        let mut story = Story::new(spec);
        story.happen("list");
        for event in events {
            story.happen(event);
            story.act();
        }
        story.happen("delete 5");
        story.act();
        for event in ["prepared", "refreshed", "hook ok", "+5", "exit 137", "prepared", "refreshed"] {
            story.happen(event);
            story.act();
        }
        prop_assert!(story.report().stopped, "{}", shown(&story));
        story.happen("unlist");
        story.act();
        prop_assert_eq!(story.node.pods().count(), 0);
    }

    /// A `Never` pod's container runs once, whatever is cut when.
    #[test]
    fn never_is_never_twice(events in events()) {
        let mut story = Story::new(pod(Never));
        story.happen("list");
        let mut starts = 0;
        for event in events {
            if matches!(event, "unlist" | "image new") {
                continue;
            }
            story.happen(event);
            starts += story.act().matches("start app").count();
        }
        prop_assert!(starts <= 1, "started {starts} times");
    }

    #[test]
    fn hostile_records_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = PodRecord::from_bytes(&bytes);
    }
}

#[test]
fn an_image_is_named_by_all_its_parts() {
    let plain = Image { component: Digest([1; 32]), layers: vec![] };
    let layer = protocol::pod::Layer { digest: Digest([2; 32]), bytes: 3 };
    let layered = Image { layers: vec![layer], ..plain.clone() };
    assert_ne!(crate::image::ImageId::of(&plain), crate::image::ImageId::of(&layered));
}
