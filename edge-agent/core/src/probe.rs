//! Probes of one run of a container: when to ask, and what the answers mean.
//!
//! As in Kubernetes: a startup probe holds the other two until it succeeds; liveness starts as good,
//! readiness as bad; a threshold counts answers in a row; an answer that could not be had counts as none.

use core::time::Duration;
use protocol::pod::{ContainerSpec, ProbeSpec};

use crate::time::Moment;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub fn spec(self, container: &ContainerSpec) -> Option<&ProbeSpec> {
        match self {
            Self::Startup => container.startup.as_ref(),
            Self::Liveness => container.liveness.as_ref(),
            Self::Readiness => container.readiness.as_ref(),
        }
    }

    /// As Kubernetes' events begin.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Success,
    Failure {
        message: String,
    },
    /// The probe itself did not work; says nothing of the container.
    Unknown {
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Ask,
    Wait {
        until: Moment,
    },
    /// An answer is on its way, or this probe has nothing (more) to ask.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Undecided,
    Passing,
    Failing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streak {
    None,
    Good(u32),
    Bad(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Track {
    asked: Option<Moment>,
    in_flight: bool,
    streak: Streak,
    verdict: Verdict,
}

impl Track {
    const NEW: Self = Self { asked: None, in_flight: false, streak: Streak::None, verdict: Verdict::Undecided };
}

/// The three probes of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probes {
    since: Moment,
    tracks: [Track; 3],
}

impl Probes {
    /// For a run that started at `since`.
    pub fn new(since: Moment) -> Self {
        Self { since, tracks: [Track::NEW; 3] }
    }

    pub fn started(&self, container: &ContainerSpec) -> bool {
        container.startup.is_none() || self.track(ProbeKind::Startup).verdict == Verdict::Passing
    }

    pub fn ready(&self, container: &ContainerSpec) -> bool {
        self.started(container)
            && (container.readiness.is_none() || self.track(ProbeKind::Readiness).verdict == Verdict::Passing)
    }

    /// The probe for whose failure the container must be restarted.
    pub fn fatal(&self) -> Option<ProbeKind> {
        [ProbeKind::Startup, ProbeKind::Liveness].into_iter().find(|k| self.track(*k).verdict == Verdict::Failing)
    }

    pub fn turn(&self, kind: ProbeKind, container: &ContainerSpec, now: Moment) -> Turn {
        let Some(spec) = kind.spec(container) else { return Turn::Rest };
        let track = self.track(kind);
        let held = match kind {
            ProbeKind::Startup => track.verdict == Verdict::Passing,
            ProbeKind::Liveness | ProbeKind::Readiness => !self.started(container),
        };
        if track.in_flight || held || self.fatal().is_some() {
            return Turn::Rest;
        }
        let due = match track.asked {
            None => self.since.plus(Duration::from_secs(spec.initial_delay_seconds.into())),
            Some(asked) => asked.plus(Duration::from_secs(spec.period_seconds.max(1).into())),
        };
        if due <= now { Turn::Ask } else { Turn::Wait { until: due } }
    }

    pub fn ask(&mut self, kind: ProbeKind, now: Moment) {
        let track = self.track_mut(kind);
        track.asked = Some(now);
        track.in_flight = true;
    }

    /// Takes an answer. A probe no longer in the spec, or not asked, changes nothing.
    pub fn answered(&mut self, kind: ProbeKind, answer: &Answer, container: &ContainerSpec) {
        let track = self.track_mut(kind);
        if !core::mem::replace(&mut track.in_flight, false) {
            return;
        }
        let Some(spec) = kind.spec(container) else { return };
        track.streak = match (answer, track.streak) {
            (Answer::Success, Streak::Good(n)) => Streak::Good(n.saturating_add(1)),
            (Answer::Success, Streak::None | Streak::Bad(_)) => Streak::Good(1),
            (Answer::Failure { .. }, Streak::Bad(n)) => Streak::Bad(n.saturating_add(1)),
            (Answer::Failure { .. }, Streak::None | Streak::Good(_)) => Streak::Bad(1),
            (Answer::Unknown { .. }, streak) => streak,
        };
        match track.streak {
            Streak::Good(n) if n >= spec.success_threshold => track.verdict = Verdict::Passing,
            Streak::Bad(n) if n >= spec.failure_threshold => track.verdict = Verdict::Failing,
            Streak::None | Streak::Good(_) | Streak::Bad(_) => (),
        }
    }

    /// Whether a failure is worth an event: each up to the threshold, then one in ten. A probe that
    /// never succeeds would fill a slow link with its events.
    pub fn is_news(&self, kind: ProbeKind, container: &ContainerSpec) -> bool {
        let threshold = kind.spec(container).map_or(0, |spec| spec.failure_threshold);
        match self.track(kind).streak {
            Streak::Bad(count) => count <= threshold || count.is_multiple_of(10),
            Streak::None | Streak::Good(_) => true,
        }
    }

    fn track(&self, kind: ProbeKind) -> &Track {
        &self.tracks[kind as usize]
    }

    fn track_mut(&mut self, kind: ProbeKind) -> &mut Track {
        &mut self.tracks[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::testing::container;
    use protocol::pod::ProbeAction;

    fn probe(initial_delay_seconds: u32, success_threshold: u32, failure_threshold: u32) -> Option<ProbeSpec> {
        Some(ProbeSpec {
            action: ProbeAction::TcpSocket { port: 80 },
            initial_delay_seconds,
            period_seconds: 10,
            timeout_seconds: 1,
            success_threshold,
            failure_threshold,
            grace_seconds: None,
        })
    }

    /// Runs the script: `s+` = startup answers well, `l-` = liveness badly, `r?` = readiness unknown;
    /// then tells what is held, started, ready or fatal.
    fn check(spec: &ContainerSpec, script: &str, want: &str) {
        let mut probes = Probes::new(Moment(0));
        let mut now = Moment(0);
        for step in script.split_whitespace() {
            let (kind, answer) = step.split_at(1);
            let kind = match kind {
                "s" => ProbeKind::Startup,
                "l" => ProbeKind::Liveness,
                _ => ProbeKind::Readiness,
            };
            while let Turn::Wait { until } = probes.turn(kind, spec, now) {
                now = until;
            }
            assert_eq!(probes.turn(kind, spec, now), Turn::Ask, "{step} of {script:?} cannot be asked");
            probes.ask(kind, now);
            assert_eq!(probes.turn(kind, spec, now), Turn::Rest, "asked twice");
            let message = String::new();
            let answer = match answer {
                "+" => Answer::Success,
                "-" => Answer::Failure { message },
                _ => Answer::Unknown { message },
            };
            probes.answered(kind, &answer, spec);
        }
        let mut got = Vec::new();
        got.extend(probes.started(spec).then_some("started".to_owned()));
        got.extend(probes.ready(spec).then_some("ready".to_owned()));
        got.extend(probes.fatal().map(|k| format!("fatal {}", k.word())));
        assert_eq!(got.join(" "), want, "after {script:?}");
    }

    #[test]
    fn without_probes_a_run_is_ready_at_once() {
        check(&container("c"), "", "started ready");
    }

    #[test]
    fn readiness_starts_bad_and_counts_in_a_row() {
        let spec = ContainerSpec { readiness: probe(0, 2, 3), ..container("c") };
        check(&spec, "", "started");
        check(&spec, "r+", "started");
        check(&spec, "r+ r- r+", "started");
        check(&spec, "r+ r+", "started ready");
        check(&spec, "r+ r+ r- r-", "started ready");
        check(&spec, "r+ r+ r- r- r-", "started");
        check(&spec, "r+ r? r+", "started ready");
    }

    #[test]
    fn liveness_starts_good_and_kills_after_its_threshold() {
        let spec = ContainerSpec { liveness: probe(0, 1, 3), ..container("c") };
        check(&spec, "l- l-", "started ready");
        check(&spec, "l- l- l+ l- l-", "started ready");
        check(&spec, "l- l- l-", "started ready fatal Liveness");
        check(&spec, "l? l? l? l?", "started ready");
    }

    #[test]
    fn startup_holds_the_others() {
        let spec = ContainerSpec { startup: probe(0, 1, 2), liveness: probe(0, 1, 1), ..container("c") };
        check(&spec, "", "");
        check(&spec, "s-", "");
        check(&spec, "s- s-", "fatal Startup");
        check(&spec, "s- s+", "started ready");
        check(&spec, "s+ l-", "started ready fatal Liveness");
        let probes = Probes::new(Moment(0));
        assert_eq!(probes.turn(ProbeKind::Liveness, &spec, Moment(99_000)), Turn::Rest);
    }

    #[test]
    fn endless_failures_are_told_now_and_then() {
        let spec = ContainerSpec { readiness: probe(0, 1, 3), ..container("c") };
        let mut probes = Probes::new(Moment(0));
        let mut told = Vec::new();
        for count in 1..=21 {
            probes.ask(ProbeKind::Readiness, Moment(0));
            probes.answered(ProbeKind::Readiness, &Answer::Failure { message: String::new() }, &spec);
            told.extend(probes.is_news(ProbeKind::Readiness, &spec).then_some(count));
        }
        assert_eq!(told, [1, 2, 3, 10, 20]);
    }

    #[test]
    fn the_first_question_waits_for_its_delay() {
        let spec = ContainerSpec { liveness: probe(5, 1, 1), ..container("c") };
        let probes = Probes::new(Moment(1_000));
        assert_eq!(probes.turn(ProbeKind::Liveness, &spec, Moment(1_000)), Turn::Wait { until: Moment(6_000) });
        assert_eq!(probes.turn(ProbeKind::Liveness, &spec, Moment(6_000)), Turn::Ask);
    }
}
