//! Whether, and when, an ended container starts again: the kubelet's rules.
//!
//! The first restart is immediate, the next waits 10 s, then 20, up to 300 s; a run of ten minutes
//! clears the count. The same doubling serves image pulls.

use core::time::Duration;
use protocol::pod::RestartPolicy;

/// How long to wait after repeated failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
    /// A run at least this long ends a series of failures.
    pub reset: Duration,
}

impl Default for Backoff {
    /// Kubernetes' numbers: `CrashLoopBackOff` from 10 s to 5 min; forgotten after twice the maximum.
    fn default() -> Self {
        Self { base: Duration::from_secs(10), max: Duration::from_secs(300), reset: Duration::from_secs(600) }
    }
}

impl Backoff {
    /// The wait before try `failures + 1`; `base` after the first failure.
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }
}

/// Init containers run to success whatever the policy; `Always` counts as `OnFailure` for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Init,
    App,
}

/// A run as far as the decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i32,
    pub ran: Duration,
    /// Restarts in this series before this run ended.
    pub failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It stays ended.
    Finish,
    Restart {
        wait: Duration,
        failures: u32,
    },
}

/// The decision after one run.
pub fn next(policy: RestartPolicy, role: Role, ended: Ended, backoff: &Backoff) -> Next {
    let again = match (policy, role) {
        (RestartPolicy::Always, Role::App) => true,
        (RestartPolicy::Always | RestartPolicy::OnFailure, _) => ended.exit_code != 0,
        (RestartPolicy::Never, _) => false,
    };
    if !again {
        return Next::Finish;
    }
    let failures = if ended.ran >= backoff.reset { 1 } else { ended.failures.saturating_add(1) };
    let wait = if failures == 1 { Duration::ZERO } else { backoff.after(failures - 1) };
    Next::Restart { wait, failures }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RestartPolicy::{Always, Never, OnFailure};

    fn check(policy: RestartPolicy, role: Role, (exit_code, ran, failures): (i32, u64, u32), want: &str) {
        let ended = Ended { exit_code, ran: Duration::from_secs(ran), failures };
        let got = match next(policy, role, ended, &Backoff::default()) {
            Next::Finish => "finish".to_owned(),
            Next::Restart { wait, failures } => format!("restart {failures} in {}", wait.as_secs()),
        };
        assert_eq!(got, want, "{policy:?} {role:?} {ended:?}");
    }

    #[test]
    fn policies_are_the_kubelets() {
        check(Always, Role::App, (0, 1, 0), "restart 1 in 0");
        check(Always, Role::App, (1, 1, 0), "restart 1 in 0");
        check(OnFailure, Role::App, (0, 1, 0), "finish");
        check(OnFailure, Role::App, (3, 1, 0), "restart 1 in 0");
        check(Never, Role::App, (3, 1, 0), "finish");
        check(Never, Role::App, (0, 1, 0), "finish");
        check(Always, Role::Init, (0, 1, 0), "finish");
        check(Always, Role::Init, (1, 1, 0), "restart 1 in 0");
        check(Never, Role::Init, (1, 1, 0), "finish");
    }

    #[test]
    fn waits_double_to_five_minutes_and_a_long_run_forgives() {
        let waits = ["0", "10", "20", "40", "80", "160", "300", "300"];
        for (failures, wait) in (0..).zip(waits) {
            check(Always, Role::App, (1, 1, failures), &format!("restart {} in {wait}", failures + 1));
        }
        check(Always, Role::App, (1, 600, 7), "restart 1 in 0");
        check(Always, Role::App, (1, 599, 7), "restart 8 in 300");
        check(Always, Role::App, (1, 1, u32::MAX), "restart 4294967295 in 300");
    }
}
