//! What to do next: the pods as they are, against the pods as they shall be, at one moment.
//!
//! `plan` changes nothing; `Node::begin` marks what was begun, and then planning again yields nothing.

use std::collections::{BTreeMap, BTreeSet};

use protocol::pod::{ContainerSpec, Image, ImageResolution};
use protocol::{BootId, ContainerName, Digest, PodUid};

use crate::container::{Cause, Container, Launch, Outcome, PostStart, Run, Running, State, Step};
use crate::image::{ImageId, Images, Need, Trouble};
use crate::isolation::{Contact, Isolation};
use crate::pod::{Goal, Pod, Refresh, Sandbox, Stage};
use crate::probe::{Answer, ProbeKind, Turn};
use crate::time::{Moment, Now};

/// One container of one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub pod: PodUid,
    pub container: ContainerName,
}

/// Something for the shell to begin; it answers with [`Fact`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answer: `ImageReady` or `ImageFailed`.
    Fetch { id: ImageId, image: Image },
    /// Nobody wants it: free its memory.
    Unload { id: ImageId },
    /// Make the pod's directories, volumes and network. Answer: `Prepared` or `PrepareFailed`.
    Prepare { pod: PodUid },
    /// Bring the files in its volumes up to date. Answer: `Refreshed` or `RefreshFailed`.
    Refresh { pod: PodUid },
    /// Answer: `Started`, then `Exited`; or `Exited` alone.
    Start { at: At, run: Run },
    /// Answer: `HookEnded`.
    PostStart { at: At, run: Run },
    /// Answer: `Probed`.
    Probe { at: At, run: Run, kind: ProbeKind },
    /// Answer: `HookEnded` after `Step::PreStop`; `Exited` after the others.
    Stop { at: At, run: Run, cause: Cause, deadline: Moment, by: Means },
    /// Free the pod's network; keep its files and logs.
    Close { pod: PodUid },
    /// Delete everything of it.
    Remove { pod: PodUid },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    PreStop,
    Signal,
    Kill,
}

/// Something that the shell has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// It is not on disk: the hub is asked.
    Pulling {
        id: ImageId,
    },
    ImageReady {
        id: ImageId,
        source: Source,
    },
    ImageFailed {
        id: ImageId,
        trouble: Trouble,
        message: String,
    },
    Prepared {
        pod: PodUid,
        files: Digest,
    },
    PrepareFailed {
        pod: PodUid,
        message: String,
    },
    Refreshed {
        pod: PodUid,
        files: Digest,
    },
    RefreshFailed {
        pod: PodUid,
        message: String,
    },
    Started {
        at: At,
        run: Run,
    },
    Exited {
        at: At,
        run: Run,
        outcome: Outcome,
    },
    HookEnded {
        at: At,
        run: Run,
        hook: Hook,
        result: Answer,
    },
    Probed {
        at: At,
        run: Run,
        kind: ProbeKind,
        answer: Answer,
    },
}

/// Where an image's files came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Cache,
    Hub,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    PostStart,
    PreStop,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to look again if nothing happens before.
    pub wake_at: Option<Moment>,
}

impl Plan {
    fn wake_by(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }
}

/// What all pods are judged by.
pub(crate) struct World<'a> {
    pub(crate) boot: BootId,
    pub(crate) contact: &'a Contact,
    pub(crate) images: &'a Images,
    /// Runs numbered so far.
    pub(crate) runs: u64,
}

/// The steps that bring this node closer to its goals; none once it is there.
pub(crate) fn plan(pods: &BTreeMap<PodUid, Pod>, world: &World<'_>, now: Now) -> Plan {
    let mut planner = Planner { world, now, plan: Plan::default(), wanted: BTreeSet::new(), runs: world.runs };
    // Those that end go first: what they give back is free for the others in the same plan.
    let (ending, running): (Vec<_>, Vec<_>) =
        pods.iter().partition(|(_, pod)| pod.is_over() || matches!(pod.goal, Goal::End { .. }));
    for (uid, pod) in &ending {
        planner.end(**uid, pod);
    }
    let given_back = planner.given_back();
    let taken: BTreeMap<[u8; 4], PodUid> = pods
        .iter()
        .filter(|(uid, pod)| pod.has_address() && !given_back.contains(uid))
        .map(|(uid, pod)| (pod.spec.ip, *uid))
        .collect();
    for (uid, pod) in &running {
        let free = taken.get(&pod.spec.ip).is_none_or(|owner| owner == *uid);
        planner.run(**uid, pod, if free { Address::Free } else { Address::Taken });
    }
    let wanted = core::mem::take(&mut planner.wanted);
    for id in world.images.unwanted(&wanted) {
        planner.plan.push(Action::Unload { id });
    }
    planner.plan
}

/// Whether another pod, on its way out, still holds the address of this one.
enum Address {
    Free,
    Taken,
}

struct Planner<'a> {
    world: &'a World<'a>,
    now: Now,
    plan: Plan,
    wanted: BTreeSet<ImageId>,
    runs: u64,
}

impl Planner<'_> {
    fn run(&mut self, uid: PodUid, pod: &Pod, address: Address) {
        self.watch_limits(pod);
        let images_ready = self.fetch(pod);
        match &pod.sandbox {
            // Its owner's change of state wakes us.
            Sandbox::Closed if matches!(address, Address::Taken) => {}
            Sandbox::Closed => self.plan.push(Action::Prepare { pod: uid }),
            Sandbox::Failed { until, .. } if *until <= self.now.at => self.plan.push(Action::Prepare { pod: uid }),
            Sandbox::Failed { until, .. } => self.plan.wake_by(*until),
            Sandbox::Preparing { .. } => {}
            Sandbox::Open { files, refresh } => {
                self.refresh(uid, pod, files, *refresh);
                match pod.stage() {
                    Stage::Init(index) => {
                        self.drive(uid, &pod.init[index], &pod.spec.init_containers[index], pod, &images_ready);
                    }
                    Stage::App => {
                        for (container, spec) in pod.app.iter().zip(&pod.spec.containers) {
                            self.drive(uid, container, spec, pod, &images_ready);
                        }
                    }
                    // `is_over` was asked before.
                    Stage::Over => {}
                }
            }
        }
    }

    /// Time alone will end this pod, or end its isolation.
    fn watch_limits(&mut self, pod: &Pod) {
        if let Some(left) = pod.time_left(self.world.boot, self.now) {
            self.plan.wake_by(self.now.at.plus(left));
        }
        if let Some(limit) = pod.spec.stop_when_isolated_seconds {
            let limit = core::time::Duration::from_secs(limit.into());
            match self.world.contact.judge(limit, self.now.at) {
                Isolation::InTouch { until } => self.plan.wake_by(until),
                Isolation::Isolated => {}
            }
        }
    }

    /// Fetches what the pod's containers need, all at once; returns what is there.
    fn fetch(&mut self, pod: &Pod) -> BTreeSet<ImageId> {
        let mut ready = BTreeSet::new();
        for (container, spec, _) in pod.pairs() {
            if matches!(container.state, State::Finished(_)) {
                continue;
            }
            let ImageResolution::Resolved(image) = &spec.resolution else { continue };
            let id = ImageId::of(image);
            match self.world.images.need(id, self.now.at) {
                Need::Ready => {
                    ready.insert(id);
                }
                Need::Fetch if !self.wanted.contains(&id) => {
                    self.plan.push(Action::Fetch { id, image: image.clone() });
                }
                Need::Fetch | Need::Pending => {}
                Need::Wait { until } => self.plan.wake_by(until),
            }
            self.wanted.insert(id);
        }
        ready
    }

    /// Nothing new is fetched for a pod on its way out; what it has stays until it is over.
    fn keep_images(&mut self, pod: &Pod) {
        for (container, spec, _) in pod.pairs() {
            if let (true, ImageResolution::Resolved(image)) = (container.is_live(), &spec.resolution) {
                self.wanted.insert(ImageId::of(image));
            }
        }
    }

    fn refresh(&mut self, uid: PodUid, pod: &Pod, files: &Digest, refresh: Refresh) {
        if *files == pod.body {
            return;
        }
        match refresh {
            Refresh::Idle => self.plan.push(Action::Refresh { pod: uid }),
            Refresh::InFlight => {}
            Refresh::RetryAt(at) if at <= self.now.at => self.plan.push(Action::Refresh { pod: uid }),
            Refresh::RetryAt(at) => self.plan.wake_by(at),
        }
    }

    fn drive(
        &mut self,
        uid: PodUid,
        container: &Container,
        spec: &ContainerSpec,
        pod: &Pod,
        images_ready: &BTreeSet<ImageId>,
    ) {
        match &container.state {
            State::Created => self.start(uid, container, spec, pod, images_ready),
            State::Backoff { until, .. } if *until <= self.now.at => {
                self.start(uid, container, spec, pod, images_ready);
            }
            State::Backoff { until, .. } => self.plan.wake_by(*until),
            State::Starting { .. } | State::Finished(_) => {}
            State::Running(running) => self.tend(uid, container, running, spec, pod),
            State::Stopping(stopping) => self.stop(uid, container, spec, stopping.cause, stopping.deadline),
        }
    }

    fn start(
        &mut self,
        uid: PodUid,
        container: &Container,
        spec: &ContainerSpec,
        pod: &Pod,
        images_ready: &BTreeSet<ImageId>,
    ) {
        let ImageResolution::Resolved(image) = &spec.resolution else { return };
        // A changed body's files must be there before a container that may read them at its start.
        let files_current = matches!(&pod.sandbox, Sandbox::Open { files, .. } if *files == pod.body);
        if spec.config_error.is_some() || !images_ready.contains(&ImageId::of(image)) || !files_current {
            return;
        }
        self.runs += 1;
        self.plan.push(Action::Start { at: at(uid, container), run: Run(self.runs) });
    }

    /// A running container: its hook, its health, whether it is still the right one.
    fn tend(&mut self, uid: PodUid, container: &Container, running: &Running, spec: &ContainerSpec, pod: &Pod) {
        let grace = pod.grace();
        if Launch::of(spec).is_some_and(|launch| launch != running.launch) {
            return self.stop(uid, container, spec, Cause::Replaced, self.now.at.plus(grace));
        }
        match running.post_start {
            PostStart::Due => {
                return self.plan.push(Action::PostStart { at: at(uid, container), run: running.run });
            }
            PostStart::InFlight => return,
            PostStart::Done => {}
        }
        if let Some(kind) = running.probes.fatal() {
            let own = kind.spec(spec).and_then(|probe| probe.grace_seconds);
            let grace = own.map_or(grace, |seconds| core::time::Duration::from_secs(seconds.into()));
            return self.stop(uid, container, spec, Cause::Unhealthy, self.now.at.plus(grace));
        }
        for kind in ProbeKind::ALL {
            match running.probes.turn(kind, spec, self.now.at) {
                Turn::Ask => self.plan.push(Action::Probe { at: at(uid, container), run: running.run, kind }),
                Turn::Wait { until } => self.plan.wake_by(until),
                Turn::Rest => {}
            }
        }
    }

    fn end(&mut self, uid: PodUid, pod: &Pod) {
        self.keep_images(pod);
        if let Goal::End { deadline, .. } = pod.goal {
            for (container, spec, _) in pod.pairs() {
                self.stop(uid, container, spec, Cause::PodEnds, deadline);
            }
        }
        if !pod.is_live() {
            self.tidy(uid, pod);
        }
    }

    /// The next step of stopping: hook, signal, and at the deadline the end.
    fn stop(&mut self, uid: PodUid, container: &Container, spec: &ContainerSpec, cause: Cause, deadline: Moment) {
        let (run, deadline, step) = match &container.state {
            State::Created | State::Backoff { .. } | State::Finished(_) => return,
            // It has nothing to save yet.
            State::Starting { run, .. } => (*run, self.now.at, None),
            State::Running(running) => (running.run, deadline, None),
            State::Stopping(stopping) => (stopping.run, stopping.deadline.min(deadline), Some(stopping.step)),
        };
        let late = deadline <= self.now.at;
        let by = match step {
            Some(Step::Killed) => return,
            _ if late => Means::Kill,
            None if spec.pre_stop.is_some() => Means::PreStop,
            None | Some(Step::PreStopDone) => Means::Signal,
            Some(Step::PreStop | Step::Signalled) => return self.plan.wake_by(deadline),
        };
        self.plan.push(Action::Stop { at: at(uid, container), run, cause, deadline, by });
        if by != Means::Kill {
            self.plan.wake_by(deadline);
        }
    }

    /// The pods whose addresses this plan frees.
    fn given_back(&self) -> BTreeSet<PodUid> {
        let freed = |action: &Action| match action {
            Action::Close { pod } | Action::Remove { pod } => Some(*pod),
            Action::Fetch { .. }
            | Action::Unload { .. }
            | Action::Prepare { .. }
            | Action::Refresh { .. }
            | Action::Start { .. }
            | Action::PostStart { .. }
            | Action::Probe { .. }
            | Action::Stop { .. } => None,
        };
        self.plan.actions.iter().filter_map(freed).collect()
    }

    /// Nothing of it runs: give back its network, and once it is unlisted everything.
    fn tidy(&mut self, uid: PodUid, pod: &Pod) {
        let busy = match pod.sandbox {
            Sandbox::Preparing { .. } => true,
            Sandbox::Open { refresh, .. } => refresh == Refresh::InFlight,
            Sandbox::Closed | Sandbox::Failed { .. } => false,
        };
        match pod.goal {
            // Their answers come first.
            _ if busy => {}
            _ if !pod.listed => self.plan.push(Action::Remove { pod: uid }),
            _ if pod.sandbox != Sandbox::Closed => self.plan.push(Action::Close { pod: uid }),
            // Over, or waiting for contact, which wakes us.
            Goal::Run | Goal::End { .. } => {}
        }
    }
}

fn at(pod: PodUid, container: &Container) -> At {
    At { pod, container: container.name.clone() }
}
