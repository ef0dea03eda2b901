//! One container of a pod: its states, and how facts move it between them.
//!
//! ```text
//!   Created ──▶ Starting ──▶ Running ──▶ Stopping (preStop, signal, kill)
//!                  ▲  │         │            │
//!                  │  └─────────┴─── exit ───┤
//!               Backoff ◀── policy restarts ─┴─▶ Finished
//! ```
//! Only `plan` starts and stops; here the state follows. A fact about another run is ignored.

use core::time::Duration;
use protocol::pod::{ContainerSpec, ImageResolution, RestartPolicy};
use protocol::{ContainerName, Digest, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::probe::Probes;
use crate::restart::{self, Backoff, Ended, Next, Role};
use crate::time::{Moment, Now};

/// Numbers the starts of one agent process, over all containers: an old run's facts are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u64);

/// What a running container was started with, as far as a change needs a restart. Environment and
/// files are not part of it: files change live, the environment counts at the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch(Digest);

impl Launch {
    /// `None` while the image has no digest: nothing can be started from it, and nothing compared.
    pub fn of(spec: &ContainerSpec) -> Option<Self> {
        let ImageResolution::Resolved(image) = &spec.resolution else { return None };
        let parts = (
            image,
            &spec.args,
            &spec.working_dir,
            &spec.ports,
            &spec.mounts,
            spec.resources.memory_limit,
            spec.instance_reuse,
        );
        let bytes = postcard::to_allocvec(&parts).expect("plain owned data always serializes");
        Some(Self(Digest::of(&bytes)))
    }
}

/// Why a run ended, in Kubernetes' words. Variants are appended: the ledger numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    Completed,
    Error,
    OutOfMemory,
    /// It never ran.
    StartError,
    /// The node or the agent stopped while it ran; nobody saw how it ended.
    Cut,
}

impl ExitReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OutOfMemory => "OOMKilled",
            Self::StartError => "StartError",
            Self::Cut => "Unknown",
        }
    }
}

/// How a run ended, as the runtime tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub reason: ExitReason,
    pub message: Option<String>,
}

/// An ended run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    pub reason: ExitReason,
    pub message: Option<String>,
    pub started: UnixMillis,
    pub finished: UnixMillis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostStart {
    Due,
    InFlight,
    Done,
}

/// Why a run is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    PodEnds,
    /// Its image or another part of its launch changed.
    Replaced,
    Unhealthy,
    PostStartFailed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    PreStop,
    /// The hook is over; the signal is next.
    PreStopDone,
    Signalled,
    Killed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub run: Run,
    pub launch: Launch,
    pub since: Now,
    pub post_start: PostStart,
    pub probes: Probes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopping {
    pub run: Run,
    pub since: Now,
    pub cause: Cause,
    pub deadline: Moment,
    pub step: Step,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Created,
    Starting {
        run: Run,
        launch: Launch,
        asked: Now,
    },
    Running(Running),
    Stopping(Stopping),
    /// Ended, and due again at `until`; a `wait` of zero is no CrashLoopBackOff.
    Backoff {
        until: Moment,
        wait: Duration,
        exit: Exit,
    },
    Finished(Exit),
}

/// Whether an ended run may be followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Future {
    /// The pod goes on: the policy decides.
    Policy,
    /// The pod pauses and may return: all but `Never` start again then.
    Paused,
    /// The pod ends for good.
    Over,
}

/// What a container is judged by besides its own state.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub role: Role,
    pub policy: RestartPolicy,
    pub backoff: Backoff,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: ContainerName,
    pub restarts: u32,
    /// Restarts of the present series: the exponent of the backoff.
    pub failures: u32,
    /// The run before the present one.
    pub last: Option<Exit>,
    /// The component that runs or ran.
    pub image: Option<Digest>,
    pub state: State,
}

impl Container {
    pub fn new(name: ContainerName) -> Self {
        Self { name, restarts: 0, failures: 0, last: None, image: None, state: State::Created }
    }

    /// Whether the runtime has something of it.
    pub fn is_live(&self) -> bool {
        self.run().is_some()
    }

    pub fn run(&self) -> Option<Run> {
        match &self.state {
            State::Starting { run, .. } => Some(*run),
            State::Running(running) => Some(running.run),
            State::Stopping(stopping) => Some(stopping.run),
            State::Created | State::Backoff { .. } | State::Finished(_) => None,
        }
    }

    /// How the newest run ended, if none is live.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Backoff { exit, .. } | State::Finished(exit) => Some(exit),
            State::Created | State::Starting { .. } | State::Running(_) | State::Stopping(_) => None,
        }
    }

    pub fn begin_start(&mut self, run: Run, spec: &ContainerSpec, now: Now) {
        let Some(launch) = Launch::of(spec) else { return };
        if let ImageResolution::Resolved(image) = &spec.resolution {
            self.image = Some(image.component);
        }
        if let Some(exit) = self.exit().cloned() {
            self.restarts = self.restarts.saturating_add(1);
            self.last = Some(exit);
        }
        self.state = State::Starting { run, launch, asked: now };
    }

    pub fn started(&mut self, run: Run, spec: &ContainerSpec, now: Now) {
        if let State::Starting { run: asked, launch, .. } = self.state
            && asked == run
        {
            let post_start = if spec.post_start.is_some() { PostStart::Due } else { PostStart::Done };
            self.state = State::Running(Running { run, launch, since: now, post_start, probes: Probes::new(now.at) });
        }
    }

    /// One more step of a stop that `plan` decided.
    pub fn begin_stop(&mut self, cause: Cause, deadline: Moment, step: Step) {
        let (run, since, cause, deadline) = match &self.state {
            State::Starting { run, asked, .. } => (*run, *asked, cause, deadline),
            State::Running(running) => (running.run, running.since, cause, deadline),
            // The first cause stands; a deadline only comes nearer.
            State::Stopping(s) => (s.run, s.since, s.cause, s.deadline.min(deadline)),
            State::Created | State::Backoff { .. } | State::Finished(_) => return,
        };
        self.state = State::Stopping(Stopping { run, since, cause, deadline, step });
    }

    pub fn exited(&mut self, run: Run, outcome: Outcome, future: Future, rules: &Rules, now: Now) {
        if self.run() != Some(run) {
            return;
        }
        let (since, cause) = match &self.state {
            State::Starting { asked, .. } => (*asked, None),
            State::Running(running) => (running.since, None),
            State::Stopping(stopping) => (stopping.since, Some(stopping.cause)),
            State::Created | State::Backoff { .. } | State::Finished(_) => return,
        };
        let exit = Exit {
            code: outcome.code,
            reason: outcome.reason,
            message: outcome.message,
            started: now.wall_at(since.at),
            finished: now.wall,
        };
        self.ended(exit, cause, now.at.since(since.at), future, rules, now.at);
    }

    /// Decides what follows an ended run; also for runs that the ledger says were cut.
    pub fn ended(
        &mut self,
        exit: Exit,
        cause: Option<Cause>,
        ran: Duration,
        future: Future,
        rules: &Rules,
        now: Moment,
    ) {
        let at_once = |exit| State::Backoff { until: now, wait: Duration::ZERO, exit };
        let done = rules.policy == RestartPolicy::Never || (rules.role == Role::Init && exit.code == 0);
        self.state = match (future, cause) {
            (Future::Over, _) => State::Finished(exit),
            (Future::Paused, _) if done => State::Finished(exit),
            (Future::Paused, _) => at_once(exit),
            (Future::Policy, Some(Cause::Replaced)) => {
                self.failures = 0;
                at_once(exit)
            }
            // A pod that was to end and may go on after all.
            (Future::Policy, Some(Cause::PodEnds)) if !done => at_once(exit),
            (Future::Policy, Some(Cause::PodEnds | Cause::Unhealthy | Cause::PostStartFailed) | None) => {
                let ended = Ended { exit_code: exit.code, ran, failures: self.failures };
                match restart::next(rules.policy, rules.role, ended, &rules.backoff) {
                    Next::Finish => State::Finished(exit),
                    Next::Restart { wait, failures } => {
                        self.failures = failures;
                        State::Backoff { until: now.plus(wait), wait, exit }
                    }
                }
            }
        };
    }
}
