//! What the hub is told of a pod: phases, reasons and words as the kubelet gives them.

use protocol::Digest;
use protocol::PodUid;
use protocol::pod::{ContainerSpec, ImageResolution, RestartPolicy};
use protocol::reported::{ContainerReport, ContainerState, Phase, PodReport, Terminated};

use crate::container::{Container, Exit, PostStart, State};
use crate::image::{self, FRESH_FAILURE, ImageId, Images, Trouble};
use crate::pod::{Goal, Pod, Sandbox, Stage, Why};
use crate::time::{Moment, Now};

pub(crate) fn report(pod: &Pod, images: &Images, now: Now) -> PodReport {
    let containers = |list: &[Container], specs: &[ContainerSpec], turn: &dyn Fn(usize) -> Turn| {
        let pairs = list.iter().zip(specs).enumerate();
        pairs.map(|(index, (c, spec))| container_report(c, spec, pod, images, turn(index), now)).collect()
    };
    // Those after the one whose turn it is wait for it.
    let (init_turn, app_turn) = match pod.init.iter().position(|c| c.exit().is_none_or(|exit| exit.code != 0)) {
        Some(current) => (current, Turn::Later),
        None => (pod.init.len(), Turn::Now),
    };
    let (reason, message) = why(pod);
    PodReport {
        uid: pod.spec.uid,
        body: pod.body,
        phase: phase(pod),
        reason,
        message,
        started_at: Some(pod.begun.wall),
        init_containers: containers(&pod.init, &pod.spec.init_containers, &|index| {
            if index > init_turn { Turn::Later } else { Turn::Now }
        }),
        containers: containers(&pod.app, &pod.spec.containers, &|_| app_turn),
        stopped: pod.is_over(),
    }
}

/// A pod that the hub deletes and this node never had.
pub(crate) fn ghost(uid: PodUid, body: Digest) -> PodReport {
    PodReport {
        uid,
        body,
        phase: Phase::Failed,
        reason: None,
        message: None,
        started_at: None,
        init_containers: vec![],
        containers: vec![],
        stopped: true,
    }
}

/// The next moment at which a waiting reason changes by itself.
pub(crate) fn changes_at<'a>(pods: impl Iterator<Item = &'a Pod>, images: &Images, now: Moment) -> Option<Moment> {
    let unresolved =
        |pod: &&Pod| pod.pairs().any(|(_, spec, _)| matches!(spec.resolution, ImageResolution::Unresolved { .. }));
    let begun = pods.filter(unresolved).map(|pod| Moment(pod.begun.at));
    begun.chain(images.failures()).map(|at| at.plus(FRESH_FAILURE)).filter(|at| *at > now).min()
}

/// Whether a container still waits for the init containers before it.
#[derive(Clone, Copy)]
enum Turn {
    Now,
    Later,
}

fn why(pod: &Pod) -> (Option<String>, Option<String>) {
    let told = |reason: &str, message: &str| (Some(reason.to_owned()), Some(message.to_owned()));
    match pod.goal {
        Goal::End { why: Why::DeadlineExceeded, .. } => {
            told("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        }
        Goal::End { why: Why::Isolated, .. } => {
            told("NodeIsolated", "the node heard nothing for longer than wherry.dev/stop-when-isolated allows")
        }
        Goal::Run | Goal::End { why: Why::Unlisted | Why::Deleted, .. } => (None, None),
    }
}

/// The kubelet's phase rules, and the deadline's.
fn phase(pod: &Pod) -> Phase {
    if let Goal::End { why, .. } = pod.goal
        && pod.is_over()
    {
        let clean = pod.app.iter().all(|c| c.exit().is_some_and(|exit| exit.code == 0));
        return if clean && why != Why::DeadlineExceeded { Phase::Succeeded } else { Phase::Failed };
    }
    if pod.init.iter().any(|c| matches!(&c.state, State::Finished(exit) if exit.code != 0)) {
        return Phase::Failed;
    }
    if let Stage::Init(_) = pod.stage() {
        return Phase::Pending;
    }
    let (mut waiting, mut running, mut failed) = (0, 0, 0);
    for container in &pod.app {
        match &container.state {
            State::Created | State::Starting { .. } if container.last.is_none() => waiting += 1,
            State::Running(r) if r.post_start != PostStart::Done && container.last.is_none() => waiting += 1,
            State::Running(_) | State::Stopping(_) => running += 1,
            // Between two runs: it counts by how the last one ended.
            State::Created | State::Starting { .. } => {
                failed += usize::from(container.last.as_ref().is_some_and(|exit| exit.code != 0));
            }
            State::Backoff { exit, .. } | State::Finished(exit) => failed += usize::from(exit.code != 0),
        }
    }
    let over = matches!(pod.stage(), Stage::Over);
    match pod.spec.restart {
        _ if waiting > 0 => Phase::Pending,
        _ if running > 0 => Phase::Running,
        RestartPolicy::Always => Phase::Running,
        RestartPolicy::OnFailure | RestartPolicy::Never if over && failed == 0 => Phase::Succeeded,
        RestartPolicy::OnFailure | RestartPolicy::Never if over => Phase::Failed,
        RestartPolicy::OnFailure | RestartPolicy::Never => Phase::Running,
    }
}

fn container_report(
    container: &Container,
    spec: &ContainerSpec,
    pod: &Pod,
    images: &Images,
    turn: Turn,
    now: Now,
) -> ContainerReport {
    let (mut ready, mut started) = (false, false);
    let mut last = container.last.as_ref().map(terminated);
    let state = match &container.state {
        State::Created => waiting_reason(spec, pod, images, turn, now),
        State::Starting { .. } => waiting("ContainerCreating", None),
        State::Running(running) if running.post_start != PostStart::Done => waiting("ContainerCreating", None),
        State::Running(running) => {
            started = running.probes.started(spec);
            ready = running.probes.ready(spec);
            ContainerState::Running { since: running.since.wall }
        }
        State::Stopping(stopping) => ContainerState::Running { since: stopping.since.wall },
        State::Backoff { wait, exit, until } if matches!(pod.goal, Goal::Run) => {
            last = Some(terminated(exit));
            if *until > now.at && !wait.is_zero() {
                let message = format!(
                    "back-off {}s restarting failed container={} pod={}_{}({})",
                    wait.as_secs(),
                    container.name,
                    pod.spec.name,
                    pod.spec.namespace,
                    pod.spec.uid
                );
                waiting("CrashLoopBackOff", Some(message))
            } else {
                match waiting_reason(spec, pod, images, turn, now) {
                    ContainerState::Waiting { reason, .. } if reason == "ContainerCreating" => {
                        last = container.last.as_ref().map(terminated);
                        ContainerState::Terminated(terminated(exit))
                    }
                    held => held,
                }
            }
        }
        State::Backoff { exit, .. } | State::Finished(exit) => {
            // An init container that did its work is ready, as in Kubernetes.
            ready = exit.code == 0 && pod.init.iter().any(|c| c.name == container.name);
            ContainerState::Terminated(terminated(exit))
        }
    };
    ContainerReport {
        name: container.name.clone(),
        state,
        last,
        restarts: container.restarts,
        ready,
        started,
        image: container.image,
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message }
}

/// Why a container that could start does not.
fn waiting_reason(spec: &ContainerSpec, pod: &Pod, images: &Images, turn: Turn, now: Now) -> ContainerState {
    if let Some(error) = &spec.config_error {
        return waiting("CreateContainerConfigError", Some(error.clone()));
    }
    let image = match &spec.resolution {
        ImageResolution::Unresolved { message } => {
            let fresh = now.at.since(Moment(pod.begun.at)) < FRESH_FAILURE;
            let reason = if fresh { "ErrImagePull" } else { "ImagePullBackOff" };
            return waiting(reason, Some(message.clone()));
        }
        ImageResolution::Resolved(image) => image,
    };
    if let Some(image::State::Failed { at, trouble, message, .. }) = images.state(ImageId::of(image)) {
        let reason = match trouble {
            Trouble::Unusable => "CreateContainerError",
            Trouble::Pull if now.at.since(*at) < FRESH_FAILURE => "ErrImagePull",
            Trouble::Pull => "ImagePullBackOff",
        };
        return waiting(reason, Some(message.clone()));
    }
    let message = match &pod.sandbox {
        Sandbox::Failed { message, .. } => Some(message.clone()),
        Sandbox::Closed | Sandbox::Preparing { .. } | Sandbox::Open { .. } => None,
    };
    match turn {
        Turn::Later => waiting("PodInitializing", message),
        Turn::Now => waiting("ContainerCreating", message),
    }
}

fn terminated(exit: &Exit) -> Terminated {
    Terminated {
        exit_code: exit.code,
        reason: exit.reason.as_str().to_owned(),
        message: exit.message.clone(),
        started_at: exit.started,
        finished_at: exit.finished,
    }
}
