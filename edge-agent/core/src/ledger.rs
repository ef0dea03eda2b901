//! What a node remembers of its pods' outcomes, and what it makes of that memory when it starts.
//!
//! Written before a container starts and after it ends, so that after a power cut the record tells
//! what was running. Rules at the start: a run that was cut has ended with reason `Unknown`; `Never` is
//! not run twice; finished init containers do not run again within the same boot; counts are kept.

use core::time::Duration;
use std::sync::Arc;

use protocol::pod::{PodSpec, RestartPolicy};
use protocol::{BootId, ContainerName, Digest, PodUid, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::container::{Container, Exit, ExitReason, Future, Rules, State};
use crate::node::Params;
use crate::pod::{Begun, Goal, Pod, Why};
use crate::restart::Role;
use crate::time::Now;

/// First byte of a record. A reader refuses others; a changed struct gets the next number.
const VERSION: u8 = 1;

/// The exit code of a run that nobody saw end, as the kubelet gives it.
const CUT: i32 = 255;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    pub uid: PodUid,
    /// The boot in which it was written.
    pub boot: BootId,
    pub begun: Begun,
    pub verdict: Verdict,
    pub init: Vec<ContainerRecord>,
    pub app: Vec<ContainerRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Open,
    DeadlineExceeded,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub name: ContainerName,
    pub restarts: u32,
    pub failures: u32,
    pub last: Option<Exit>,
    pub image: Option<Digest>,
    pub state: Recorded,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recorded {
    Created,
    /// It ran, or was about to.
    Live {
        since: UnixMillis,
    },
    /// Ended, to be started again.
    Between(Exit),
    Finished(Exit),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record has version {0}, this agent reads {VERSION}")]
    Version(u8),
    #[error("the record is empty or cut short")]
    Truncated,
    #[error("the record does not decode")]
    Decode(#[source] postcard::Error),
}

/// What a lost write of this record would change. Records of `Always` pods hold only counts, so they
/// need not wait for the disk; the others decide what runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    BeforeActing,
    WheneverConvenient,
}

impl PodRecord {
    pub fn of(pod: &Pod, boot: BootId) -> Self {
        let records = |list: &[Container]| list.iter().map(ContainerRecord::of).collect();
        let verdict = match pod.goal {
            Goal::End { why: Why::DeadlineExceeded, .. } => Verdict::DeadlineExceeded,
            Goal::Run | Goal::End { why: Why::Isolated | Why::Unlisted | Why::Deleted, .. } => Verdict::Open,
        };
        Self { uid: pod.spec.uid, boot, begun: pod.begun, verdict, init: records(&pod.init), app: records(&pod.app) }
    }

    pub fn durability(pod: &Pod) -> Durability {
        match pod.spec.restart {
            RestartPolicy::Always if pod.init.is_empty() => Durability::WheneverConvenient,
            RestartPolicy::Always | RestartPolicy::OnFailure | RestartPolicy::Never => Durability::BeforeActing,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("plain owned data always serializes")
    }

    /// # Errors
    /// Bytes that no agent of this version wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let (version, body) = bytes.split_first().ok_or(RecordError::Truncated)?;
        if *version != VERSION {
            return Err(RecordError::Version(*version));
        }
        postcard::from_bytes(body).map_err(RecordError::Decode)
    }

    /// The pod as it goes on in this life of the agent.
    pub(crate) fn revive(self, spec: Arc<PodSpec>, body: Digest, boot: BootId, params: &Params, now: Now) -> Pod {
        let mut pod = Pod::new(spec, body, self.begun);
        let policy = pod.spec.restart;
        let backoff = params.restart;
        let rebooted = self.boot != boot;
        let over = self.app.iter().all(|c| matches!(c.state, Recorded::Finished(_)));
        for (container, record) in pod.init.iter_mut().zip(self.init) {
            let rules = Rules { role: Role::Init, policy, backoff };
            let done = matches!(&record.state, Recorded::Finished(exit) if exit.code == 0);
            record.restore(container, &rules, now);
            // A new boot is a new sandbox: initialization starts over, unless there is nothing left
            // to initialize.
            if rebooted && done && !over && policy != RestartPolicy::Never {
                container.state = State::Created;
            }
        }
        for (container, record) in pod.app.iter_mut().zip(self.app) {
            record.restore(container, &Rules { role: Role::App, policy, backoff }, now);
        }
        if self.verdict == Verdict::DeadlineExceeded {
            pod.end(Why::DeadlineExceeded, now.at);
        }
        pod
    }
}

impl ContainerRecord {
    fn of(container: &Container) -> Self {
        let state = match &container.state {
            State::Created => Recorded::Created,
            State::Starting { asked: since, .. } => Recorded::Live { since: since.wall },
            State::Running(running) => Recorded::Live { since: running.since.wall },
            State::Stopping(stopping) => Recorded::Live { since: stopping.since.wall },
            State::Backoff { exit, .. } => Recorded::Between(exit.clone()),
            State::Finished(exit) => Recorded::Finished(exit.clone()),
        };
        Self {
            name: container.name.clone(),
            restarts: container.restarts,
            failures: container.failures,
            last: container.last.clone(),
            image: container.image,
            state,
        }
    }

    fn restore(self, container: &mut Container, rules: &Rules, now: Now) {
        if self.name != container.name {
            return;
        }
        container.restarts = self.restarts;
        container.failures = self.failures;
        container.last = self.last;
        container.image = self.image;
        match self.state {
            Recorded::Created => {}
            Recorded::Finished(exit) => container.state = State::Finished(exit),
            Recorded::Between(exit) => {
                container.state = State::Backoff { until: now.at, wait: Duration::ZERO, exit };
            }
            Recorded::Live { since } => {
                let message = Some("the node or its agent stopped while the container ran".to_owned());
                let exit = Exit { code: CUT, reason: ExitReason::Cut, message, started: since, finished: now.wall };
                // Not its own fault: at once, and no step of the backoff.
                container.ended(exit, None, Duration::ZERO, Future::Paused, rules, now.at);
            }
        }
    }
}
