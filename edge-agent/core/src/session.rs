//! Which desired state counts: the newest of our hub, and never an older one.
//!
//! The shell has verified the signature before it asks here; the ledger keeps what was accepted.

use protocol::{Digest, Stamp};

/// The desired state in the ledger: when it was decided, and which bytes it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub stamp: Stamp,
    /// Of the frame's bytes.
    pub digest: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Apply,
    /// The one we have: redelivered by a broker that retained it.
    Repeat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a newer desired state is in the ledger")]
    Older { have: Stamp, got: Stamp },
    #[error("two desired states carry one stamp: two hubs, or one restored from a copy")]
    Conflict { stamp: Stamp },
}

/// # Errors
/// The message is to be ignored and told of.
pub fn judge(current: Option<Accepted>, offered: Accepted) -> Result<Verdict, Refusal> {
    let Some(have) = current else { return Ok(Verdict::Apply) };
    match offered.stamp.cmp(&have.stamp) {
        core::cmp::Ordering::Greater => Ok(Verdict::Apply),
        core::cmp::Ordering::Less => Err(Refusal::Older { have: have.stamp, got: offered.stamp }),
        core::cmp::Ordering::Equal if offered.digest == have.digest => Ok(Verdict::Repeat),
        core::cmp::Ordering::Equal => Err(Refusal::Conflict { stamp: have.stamp }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Epoch, Generation};

    fn state((counter, id, generation): (u64, u64, u64), body: &str) -> Accepted {
        let stamp = Stamp { epoch: Epoch { counter, id }, generation: Generation(generation) };
        Accepted { stamp, digest: Digest::of(body.as_bytes()) }
    }

    fn check(offered: (u64, u64, u64), body: &str, want: &str) {
        let have = state((2, 7, 100), "a");
        let got = match judge(Some(have), state(offered, body)) {
            Ok(Verdict::Apply) => "apply",
            Ok(Verdict::Repeat) => "repeat",
            Err(Refusal::Older { .. }) => "older",
            Err(Refusal::Conflict { .. }) => "conflict",
        };
        assert_eq!(got, want, "{offered:?} {body}");
    }

    #[test]
    fn epoch_first_then_generation() {
        check((2, 7, 101), "b", "apply");
        check((3, 1, 1), "b", "apply");
        check((2, 7, 99), "b", "older");
        check((1, 9, 900), "b", "older");
        check((2, 7, 100), "a", "repeat");
        check((2, 7, 100), "b", "conflict");
    }

    #[test]
    fn an_empty_ledger_takes_anything() {
        assert_eq!(judge(None, state((0, 0, 0), "")), Ok(Verdict::Apply));
    }
}
