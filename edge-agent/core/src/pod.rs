//! One pod of this node: what it is to be, what the runtime has of it, how its life stands.

use core::time::Duration;
use std::sync::Arc;

use protocol::pod::{ContainerSpec, PodSpec};
use protocol::{BootId, ContainerName, Digest, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::container::{Container, Future, Rules, State};
use crate::restart::{Backoff, Role};
use crate::time::{Moment, Now};

/// When the pod began on this node; survives restarts of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub boot: BootId,
    /// On that boot's clock, in milliseconds.
    pub at: u64,
    pub wall: UnixMillis,
}

impl Begun {
    /// Within one boot by the boot clock; across boots only wall time can tell.
    pub fn age(&self, boot: BootId, now: Now) -> Duration {
        if self.boot == boot {
            now.at.since(Moment(self.at))
        } else {
            Duration::from_millis(now.wall.0.saturating_sub(self.wall.0))
        }
    }
}

/// Why a pod ends. The later one outranks the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Nothing heard from the hub for the time it allows itself; it may return.
    Isolated,
    /// The hub lists it no more.
    Unlisted,
    /// `activeDeadlineSeconds`.
    DeadlineExceeded,
    Deleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Run,
    End { why: Why, deadline: Moment },
}

/// The pod's network and volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    Closed,
    Preparing {
        failures: u32,
    },
    Failed {
        until: Moment,
        failures: u32,
        message: String,
    },
    /// `files` = the body whose files the volumes show.
    Open {
        files: Digest,
        refresh: Refresh,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    Idle,
    InFlight,
    RetryAt(Moment),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub spec: Arc<PodSpec>,
    /// Of the spec's bytes.
    pub body: Digest,
    pub listed: bool,
    pub goal: Goal,
    pub begun: Begun,
    pub sandbox: Sandbox,
    pub init: Vec<Container>,
    pub app: Vec<Container>,
}

/// Where an unfinished pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The init container at this index is next or runs.
    Init(usize),
    App,
    /// Nothing will start again: every container finished, or an init container failed for good.
    Over,
}

impl Pod {
    pub fn new(spec: Arc<PodSpec>, body: Digest, begun: Begun) -> Self {
        let containers = |specs: &[ContainerSpec]| specs.iter().map(|c| Container::new(c.name.clone())).collect();
        Self {
            init: containers(&spec.init_containers),
            app: containers(&spec.containers),
            spec,
            body,
            listed: true,
            goal: Goal::Run,
            begun,
            sandbox: Sandbox::Closed,
        }
    }

    pub fn stage(&self) -> Stage {
        for (index, container) in self.init.iter().enumerate() {
            match &container.state {
                State::Finished(exit) if exit.code == 0 => (),
                State::Finished(_) => return Stage::Over,
                State::Created
                | State::Starting { .. }
                | State::Running(_)
                | State::Stopping(_)
                | State::Backoff { .. } => return Stage::Init(index),
            }
        }
        if self.app.iter().all(|c| matches!(c.state, State::Finished(_))) { Stage::Over } else { Stage::App }
    }

    pub fn is_live(&self) -> bool {
        self.containers().any(Container::is_live)
    }

    /// Whether nothing more will happen to it but its removal.
    pub fn is_over(&self) -> bool {
        let ended = match self.goal {
            Goal::Run | Goal::End { why: Why::Isolated | Why::Unlisted, .. } => self.stage() == Stage::Over,
            Goal::End { why: Why::DeadlineExceeded | Why::Deleted, .. } => true,
        };
        ended && !self.is_live()
    }

    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.init.iter().chain(&self.app)
    }

    /// Each container with its spec and role.
    pub fn pairs(&self) -> impl Iterator<Item = (&Container, &ContainerSpec, Role)> {
        let init = self.init.iter().zip(&self.spec.init_containers).map(|(c, s)| (c, s, Role::Init));
        init.chain(self.app.iter().zip(&self.spec.containers).map(|(c, s)| (c, s, Role::App)))
    }

    pub fn container(&self, name: &ContainerName) -> Option<(&Container, &ContainerSpec)> {
        self.pairs().find(|(c, _, _)| c.name == *name).map(|(c, s, _)| (c, s))
    }

    /// The container, with what judges it, for a change of state.
    pub fn container_mut(
        &mut self,
        name: &ContainerName,
        backoff: Backoff,
    ) -> Option<(&mut Container, &ContainerSpec, Rules, Future)> {
        let future = self.future();
        let policy = self.spec.restart;
        let rules = |role| Rules { role, policy, backoff };
        let init = self.init.iter_mut().zip(&self.spec.init_containers).map(|(c, s)| (c, s, Role::Init));
        let app = self.app.iter_mut().zip(&self.spec.containers).map(|(c, s)| (c, s, Role::App));
        let found = init.chain(app).find(|(c, _, _)| c.name == *name);
        found.map(|(container, spec, role)| (container, spec, rules(role), future))
    }

    fn future(&self) -> Future {
        match self.goal {
            Goal::Run => Future::Policy,
            Goal::End { why: Why::Isolated | Why::Unlisted, .. } => Future::Paused,
            Goal::End { why: Why::DeadlineExceeded | Why::Deleted, .. } => Future::Over,
        }
    }

    /// Ends the pod, or ends it sooner or for a better reason.
    pub fn end(&mut self, why: Why, deadline: Moment) {
        self.goal = match self.goal {
            Goal::Run => Goal::End { why, deadline },
            Goal::End { why: old, deadline: at } => Goal::End { why: old.max(why), deadline: at.min(deadline) },
        };
    }

    /// Takes back an end for `why`; others stand.
    pub fn resume(&mut self, resumed: Why) {
        if let Goal::End { why, .. } = self.goal
            && why == resumed
        {
            self.goal = Goal::Run;
        }
    }

    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.spec.grace_seconds.into())
    }

    /// How much of `activeDeadlineSeconds` is left.
    pub fn time_left(&self, boot: BootId, now: Now) -> Option<Duration> {
        let limit = Duration::from_secs(self.spec.active_deadline_seconds?.into());
        Some(limit.saturating_sub(self.begun.age(boot, now)))
    }

    /// A new body under the same uid.
    ///
    /// # Errors
    /// Its containers are others: the hub never does that, so the old body stays.
    pub fn update(&mut self, spec: Arc<PodSpec>, body: Digest) -> Result<(), ChangedContainers> {
        let names = |specs: &[ContainerSpec]| specs.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        let same = names(&spec.init_containers) == names(&self.spec.init_containers)
            && names(&spec.containers) == names(&self.spec.containers)
            && spec.ip == self.spec.ip;
        if !same {
            return Err(ChangedContainers);
        }
        self.spec = spec;
        self.body = body;
        Ok(())
    }

    /// Whether the runtime holds its address.
    pub fn has_address(&self) -> bool {
        match self.sandbox {
            Sandbox::Closed | Sandbox::Failed { .. } => false,
            Sandbox::Preparing { .. } | Sandbox::Open { .. } => true,
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the new version of the pod has other containers or another address")]
pub struct ChangedContainers;

/// Specs for the tests of this crate.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use protocol::PodUid;
    use protocol::pod::{Image, ImageResolution, Resources, RestartPolicy};

    pub(crate) fn container(name: &str) -> ContainerSpec {
        ContainerSpec {
            name: name.parse().unwrap(),
            image: format!("{name}:1"),
            resolution: image(name),
            config_error: None,
            args: vec![],
            env: vec![],
            working_dir: None,
            ports: vec![],
            mounts: vec![],
            resources: Resources::default(),
            liveness: None,
            readiness: None,
            startup: None,
            post_start: None,
            pre_stop: None,
            instance_reuse: 1,
        }
    }

    pub(crate) fn image(content: &str) -> ImageResolution {
        ImageResolution::Resolved(Image { component: Digest::of(content.as_bytes()), layers: vec![] })
    }

    pub(crate) fn uid(number: u8) -> PodUid {
        PodUid([number; 16])
    }

    /// A pod of uid 1 with one container `app`.
    pub(crate) fn pod(restart: RestartPolicy) -> PodSpec {
        PodSpec {
            uid: uid(1),
            namespace: "default".into(),
            name: "pod-1".into(),
            ip: [10, 42, 0, 1],
            hostname: "pod-1".into(),
            restart,
            grace_seconds: 30,
            active_deadline_seconds: None,
            stop_when_isolated_seconds: None,
            init_containers: vec![],
            containers: vec![container("app")],
            volumes: vec![],
            sealed_secrets: None,
        }
    }
}
