//! All pods of this node, and the five ways in: what is desired, what was seen, what time did, what was
//! begun, and what an earlier life of the agent left behind.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::desired::Stop;
use protocol::event::Severity;
use protocol::pod::{ContainerSpec, ImageResolution, PodSpec};
use protocol::reported::PodReport;
use protocol::{BootId, ContainerName, Digest, PodUid};

use crate::container::{Cause, Container, ExitReason, Outcome, PostStart, Run, Running, State, Step};
use crate::image::{ImageId, Images, Trouble};
use crate::isolation::{Contact, Isolation};
use crate::ledger::PodRecord;
use crate::note::{Note, Notes};
use crate::plan::{self, Action, At, Fact, Hook, Means, Plan, Source, World};
use crate::pod::{Begun, Goal, Pod, Refresh, Sandbox, Why};
use crate::probe::{Answer, ProbeKind};
use crate::restart::Backoff;
use crate::status;
use crate::time::{Moment, Now};

/// Numbers that tests shorten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Params {
    pub restart: Backoff,
    pub pull: Backoff,
}

/// A pod as the newest desired state lists it.
#[derive(Debug, Clone)]
pub struct Listing {
    pub uid: PodUid,
    pub digest: Digest,
    /// `None` while its body is still on the way.
    pub spec: Option<Arc<PodSpec>>,
    pub stop: Option<Stop>,
}

#[derive(Debug)]
pub struct Node {
    params: Params,
    boot: BootId,
    pods: BTreeMap<PodUid, Pod>,
    /// Listed as deleted, and never known here: reported as stopped.
    ghosts: BTreeMap<PodUid, Digest>,
    images: Images,
    contact: Contact,
    runs: u64,
    notes: Notes,
}

impl Node {
    pub fn new(boot: BootId, params: Params) -> Self {
        Self {
            params,
            boot,
            pods: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            images: Images::default(),
            contact: Contact::default(),
            runs: 0,
            notes: Notes::default(),
        }
    }

    pub fn pods(&self) -> impl Iterator<Item = (&PodUid, &Pod)> {
        self.pods.iter()
    }

    pub fn pod(&self, uid: PodUid) -> Option<&Pod> {
        self.pods.get(&uid)
    }

    /// The whole list of what shall run, each time. `records` tells what the ledger knows of a pod
    /// that is new to this process.
    pub fn assign(&mut self, listings: &[Listing], mut records: impl FnMut(PodUid) -> Option<PodRecord>, now: Now) {
        self.ghosts.clear();
        for listing in listings {
            self.admit(listing, &mut records, now);
        }
        let listed: BTreeSet<PodUid> = listings.iter().map(|listing| listing.uid).collect();
        for (uid, pod) in &mut self.pods {
            if !listed.contains(uid) {
                pod.listed = false;
                pod.end(Why::Unlisted, now.at.plus(pod.grace()));
            }
        }
    }

    fn admit(&mut self, listing: &Listing, records: &mut impl FnMut(PodUid) -> Option<PodRecord>, now: Now) {
        let uid = listing.uid;
        let known = self.pods.contains_key(&uid);
        if !known {
            match (&listing.spec, listing.stop) {
                (Some(spec), _) => {
                    let pod = match records(uid) {
                        Some(record) => record.revive(spec.clone(), listing.digest, self.boot, &self.params, now),
                        None => {
                            let begun = Begun { boot: self.boot, at: now.at.0, wall: now.wall };
                            Pod::new(spec.clone(), listing.digest, begun)
                        }
                    };
                    self.pods.insert(uid, pod);
                }
                (None, Some(_)) => {
                    self.ghosts.insert(uid, listing.digest);
                }
                (None, None) => {}
            }
        }
        let before = known.then(|| self.pods.get(&uid).map(|pod| pod.spec.clone())).flatten();
        let Some(pod) = self.pods.get_mut(&uid) else { return };
        pod.listed = true;
        pod.resume(Why::Unlisted);
        if let Some(spec) = &listing.spec
            && pod.body != listing.digest
            && let Err(error) = pod.update(spec.clone(), listing.digest)
        {
            let message = error.to_string();
            self.notes.push(pod_note(uid, None, Severity::Warning, "FailedSync", message, now));
        }
        self.note_obstacles(uid, before.as_deref(), now);
        if let (Some(stop), Some(pod)) = (listing.stop, self.pods.get_mut(&uid)) {
            // Each message repeats the grace; the nearest deadline stands (`Pod::end`), so a repeat
            // cannot prolong it.
            pod.end(Why::Deleted, now.at.plus(Duration::from_secs(stop.grace_seconds.into())));
        }
    }

    /// The link is up again: pulls that failed without it need not wait out their back-off.
    pub fn link_up(&mut self, now: Moment) {
        self.images.retry_pulls(now);
    }

    /// The node has heard from its broker.
    pub fn heard(&mut self, at: Moment) {
        self.contact.heard(at);
    }

    /// What time alone decides: deadlines and isolation.
    pub fn tick(&mut self, now: Now) {
        for (uid, pod) in &mut self.pods {
            if pod.is_over() {
                continue;
            }
            let deadline = now.at.plus(pod.grace());
            if pod.time_left(self.boot, now) == Some(Duration::ZERO)
                && !matches!(pod.goal, Goal::End { why: Why::DeadlineExceeded | Why::Deleted, .. })
            {
                pod.end(Why::DeadlineExceeded, deadline);
                let message = "the pod was active on the node longer than its activeDeadlineSeconds".to_owned();
                self.notes.push(pod_note(*uid, None, Severity::Normal, "DeadlineExceeded", message, now));
            }
            let Some(limit) = pod.spec.stop_when_isolated_seconds else { continue };
            match (self.contact.judge(Duration::from_secs(limit.into()), now.at), pod.goal) {
                (Isolation::Isolated, Goal::Run) => pod.end(Why::Isolated, deadline),
                (Isolation::InTouch { .. }, Goal::End { .. }) => pod.resume(Why::Isolated),
                (Isolation::Isolated, Goal::End { .. }) | (Isolation::InTouch { .. }, Goal::Run) => {}
            }
        }
    }

    pub fn plan(&self, now: Now) -> Plan {
        let world = World { boot: self.boot, contact: &self.contact, images: &self.images, runs: self.runs };
        plan::plan(&self.pods, &world, now)
    }

    /// Marks an action as begun; the shell begins it right after.
    pub fn begin(&mut self, action: &Action, now: Now) {
        match action {
            Action::Fetch { id, .. } => self.images.begin(*id),
            Action::Unload { id } => self.images.forget(*id),
            Action::Prepare { pod } => self.with_pod(*pod, |pod| {
                let failures = match pod.sandbox {
                    Sandbox::Failed { failures, .. } | Sandbox::Preparing { failures } => failures,
                    Sandbox::Closed | Sandbox::Open { .. } => 0,
                };
                pod.sandbox = Sandbox::Preparing { failures };
            }),
            Action::Refresh { pod } => self.set_refresh(*pod, Refresh::InFlight),
            Action::Start { at, run } => {
                self.runs = self.runs.max(run.0);
                self.with_container(at, |container, spec| container.begin_start(*run, spec, now));
            }
            Action::PostStart { at, .. } => {
                self.with_running(at, |running, _| running.post_start = PostStart::InFlight)
            }
            Action::Probe { at, kind, .. } => self.with_running(at, |running, _| running.probes.ask(*kind, now.at)),
            Action::Stop { at, cause, deadline, by, .. } => self.begin_stop(at, *cause, *deadline, *by, now),
            Action::Close { pod } => self.with_pod(*pod, |pod| pod.sandbox = Sandbox::Closed),
            Action::Remove { pod } => {
                self.pods.remove(pod);
            }
        }
    }

    fn begin_stop(&mut self, at: &At, cause: Cause, deadline: Moment, by: Means, now: Now) {
        let first = self
            .pod(at.pod)
            .and_then(|pod| pod.container(&at.container))
            .is_some_and(|(container, _)| matches!(container.state, State::Starting { .. } | State::Running(_)));
        if first {
            let name = &at.container;
            let message = match cause {
                Cause::PodEnds => format!("Stopping container {name}"),
                Cause::Replaced => format!("Container {name} definition changed, will be restarted"),
                Cause::Unhealthy => format!("Container {name} failed its liveness or startup probe, will be restarted"),
                Cause::PostStartFailed => format!("Container {name} failed its postStart hook, will be restarted"),
            };
            self.note(at, Severity::Normal, "Killing", message, now);
        }
        let step = match by {
            Means::PreStop => Step::PreStop,
            Means::Signal => Step::Signalled,
            Means::Kill => Step::Killed,
        };
        self.with_container(at, |container, _| container.begin_stop(cause, deadline, step));
    }

    /// Takes what the shell has seen. A fact about something gone changes nothing.
    pub fn observe(&mut self, fact: Fact, now: Now) {
        match fact {
            Fact::Pulling { id } => {
                self.note_image(id, Severity::Normal, "Pulling", now, |image| format!("Pulling image \"{image}\""))
            }
            Fact::ImageReady { id, source } => {
                self.images.ready(id);
                self.note_image(id, Severity::Normal, "Pulled", now, |image| match source {
                    Source::Hub => format!("Successfully pulled image \"{image}\""),
                    Source::Cache => format!("Container image \"{image}\" already present on machine"),
                });
            }
            Fact::ImageFailed { id, trouble, message } => {
                self.note_image(id, Severity::Warning, "Failed", now, |image| match trouble {
                    Trouble::Pull => format!("Failed to pull image \"{image}\": {message}"),
                    Trouble::Unusable => format!("Image \"{image}\" cannot run on this node: {message}"),
                });
                self.images.failed(id, trouble, message, now.at, &self.params.pull);
            }
            Fact::Prepared { pod, files } => {
                self.with_pod(pod, |pod| pod.sandbox = Sandbox::Open { files, refresh: Refresh::Idle });
            }
            Fact::PrepareFailed { pod, message } => self.prepare_failed(pod, message, now),
            Fact::Refreshed { pod, files } => self.with_pod(pod, |pod| {
                if let Sandbox::Open { .. } = pod.sandbox {
                    pod.sandbox = Sandbox::Open { files, refresh: Refresh::Idle };
                }
            }),
            Fact::RefreshFailed { pod, message } => {
                self.set_refresh(pod, Refresh::RetryAt(now.at.plus(self.params.pull.base)));
                self.notes.push(pod_note(pod, None, Severity::Warning, "FailedMount", message, now));
            }
            Fact::Started { at, run } => {
                self.with_container(&at, |container, spec| container.started(run, spec, now));
                self.note(&at, Severity::Normal, "Created", format!("Created container {}", at.container), now);
                self.note(&at, Severity::Normal, "Started", format!("Started container {}", at.container), now);
            }
            Fact::Exited { at, run, outcome } => self.exited(&at, run, outcome, now),
            Fact::HookEnded { at, run, hook, result } => self.hook_ended(&at, run, hook, &result, now),
            Fact::Probed { at, run, kind, answer } => self.probed(&at, run, kind, &answer, now),
        }
    }

    fn prepare_failed(&mut self, uid: PodUid, message: String, now: Now) {
        let backoff = self.params.pull;
        self.notes.push(pod_note(uid, None, Severity::Warning, "FailedMount", message.clone(), now));
        self.with_pod(uid, |pod| {
            if let Sandbox::Preparing { failures } = pod.sandbox {
                let failures = failures.saturating_add(1);
                pod.sandbox = Sandbox::Failed { until: now.at.plus(backoff.after(failures)), failures, message };
            }
        });
    }

    fn exited(&mut self, at: &At, run: Run, outcome: Outcome, now: Now) {
        let backoff = self.params.restart;
        let Some(pod) = self.pods.get_mut(&at.pod) else { return };
        let name = format!("{}_{}", pod.spec.name, pod.spec.namespace);
        let Some((container, _, rules, future)) = pod.container_mut(&at.container, backoff) else { return };
        if container.run() != Some(run) {
            return;
        }
        if outcome.reason == ExitReason::StartError {
            let message = outcome.message.clone().unwrap_or_default();
            self.notes.push(pod_note(at.pod, Some(at), Severity::Warning, "Failed", message, now));
        }
        container.exited(run, outcome, future, &rules, now);
        if let State::Backoff { wait, .. } = &container.state
            && !wait.is_zero()
        {
            let message = format!("Back-off restarting failed container {} in pod {name}", at.container);
            self.note(at, Severity::Warning, "BackOff", message, now);
        }
    }

    fn hook_ended(&mut self, at: &At, run: Run, hook: Hook, result: &Answer, now: Now) {
        let failure = match result {
            Answer::Success => None,
            Answer::Failure { message } | Answer::Unknown { message } => Some(message.clone()),
        };
        let mut current = false;
        self.with_container(at, |container, _| match (&mut container.state, hook) {
            (State::Running(running), Hook::PostStart) if running.run == run => {
                current = true;
                running.post_start = PostStart::Done;
                if failure.is_some() {
                    // Killed without grace, as the kubelet does; `plan` sends the kill.
                    container.begin_stop(Cause::PostStartFailed, now.at, Step::PreStopDone);
                }
            }
            (State::Stopping(stopping), Hook::PreStop) if stopping.run == run => {
                current = true;
                if stopping.step == Step::PreStop {
                    stopping.step = Step::PreStopDone;
                }
            }
            (
                State::Created
                | State::Starting { .. }
                | State::Running(_)
                | State::Stopping(_)
                | State::Backoff { .. }
                | State::Finished(_),
                Hook::PostStart | Hook::PreStop,
            ) => {}
        });
        if let (true, Some(message)) = (current, failure) {
            let reason = match hook {
                Hook::PostStart => "FailedPostStartHook",
                Hook::PreStop => "FailedPreStopHook",
            };
            self.note(at, Severity::Warning, reason, message, now);
        }
    }

    fn probed(&mut self, at: &At, run: Run, kind: ProbeKind, answer: &Answer, now: Now) {
        let mut news = false;
        self.with_running(at, |running, spec| {
            if running.run == run {
                running.probes.answered(kind, answer, spec);
                news = running.probes.is_news(kind, spec);
            }
        });
        let message = match answer {
            _ if !news => return,
            Answer::Success => return,
            Answer::Failure { message } => format!("{} probe failed: {message}", kind.word()),
            Answer::Unknown { message } => format!("{} probe errored: {message}", kind.word()),
        };
        self.note(at, Severity::Warning, "Unhealthy", message, now);
    }

    /// What the hub is told of every pod.
    pub fn reports(&self, now: Now) -> Vec<PodReport> {
        let ghosts = self.ghosts.iter().map(|(uid, body)| status::ghost(*uid, *body));
        self.pods.values().map(|pod| status::report(pod, &self.images, now)).chain(ghosts).collect()
    }

    pub fn take_notes(&mut self) -> Vec<Note> {
        self.notes.take()
    }

    /// When a report changes by time alone: a fresh pull failure turns into a back-off.
    pub fn report_changes_at(&self, now: Now) -> Option<Moment> {
        status::changes_at(self.pods.values(), &self.images, now.at)
    }

    fn with_pod(&mut self, uid: PodUid, change: impl FnOnce(&mut Pod)) {
        if let Some(pod) = self.pods.get_mut(&uid) {
            change(pod);
        }
    }

    fn with_container(&mut self, at: &At, change: impl FnOnce(&mut Container, &ContainerSpec)) {
        let backoff = self.params.restart;
        if let Some(pod) = self.pods.get_mut(&at.pod)
            && let Some((container, spec, _, _)) = pod.container_mut(&at.container, backoff)
        {
            change(container, spec);
        }
    }

    fn with_running(&mut self, at: &At, change: impl FnOnce(&mut Running, &ContainerSpec)) {
        self.with_container(at, |container, spec| {
            if let State::Running(running) = &mut container.state {
                change(running, spec);
            }
        });
    }

    fn set_refresh(&mut self, uid: PodUid, to: Refresh) {
        self.with_pod(uid, |pod| {
            if let Sandbox::Open { refresh, .. } = &mut pod.sandbox {
                *refresh = to;
            }
        });
    }

    fn note(&mut self, at: &At, severity: Severity, reason: &'static str, message: String, now: Now) {
        self.notes.push(pod_note(at.pod, Some(at), severity, reason, message, now));
    }

    /// Tells what the hub could not resolve for a container, once for each new text.
    fn note_obstacles(&mut self, uid: PodUid, before: Option<&PodSpec>, now: Now) {
        let Some(pod) = self.pods.get(&uid) else { return };
        let told: BTreeSet<String> = before.into_iter().flat_map(obstacles).map(|(_, text)| text).collect();
        let fresh: Vec<_> = obstacles(&pod.spec).filter(|(_, text)| !told.contains(text)).collect();
        for (container, text) in fresh {
            self.note(&At { pod: uid, container }, Severity::Warning, "Failed", text, now);
        }
    }

    /// Tells every container that uses an image.
    fn note_image(
        &mut self,
        id: ImageId,
        severity: Severity,
        reason: &'static str,
        now: Now,
        message: impl Fn(&str) -> String,
    ) {
        for (at, image) in self.users(id) {
            self.note(&at, severity, reason, message(&image), now);
        }
    }

    /// The containers that wait for an image, with its name as each of them wrote it.
    fn users(&self, id: ImageId) -> Vec<(At, String)> {
        let mut users = Vec::new();
        for (uid, pod) in &self.pods {
            for (container, spec, _) in pod.pairs() {
                if let ImageResolution::Resolved(image) = &spec.resolution
                    && ImageId::of(image) == id
                {
                    users.push((At { pod: *uid, container: container.name.clone() }, spec.image.clone()));
                }
            }
        }
        users
    }
}

/// What keeps the containers of a pod from starting, as the hub told.
fn obstacles(spec: &PodSpec) -> impl Iterator<Item = (ContainerName, String)> {
    spec.init_containers.iter().chain(&spec.containers).filter_map(|container| {
        let text = match (&container.config_error, &container.resolution) {
            (Some(error), _) => format!("Error: {error}"),
            (None, ImageResolution::Unresolved { message }) => {
                format!("Failed to pull image \"{}\": {message}", container.image)
            }
            (None, ImageResolution::Resolved(_)) => return None,
        };
        Some((container.name.clone(), text))
    })
}

fn pod_note(pod: PodUid, at: Option<&At>, severity: Severity, reason: &'static str, message: String, now: Now) -> Note {
    let container = at.map(|at| at.container.to_string());
    Note { pod: Some(pod), container, severity, reason, message, at: now.wall }
}
