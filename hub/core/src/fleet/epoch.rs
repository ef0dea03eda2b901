//! Fencing: a hub that is no longer the newest of its nodes falls silent. It never leapfrogs.

use protocol::{Epoch, Generation, Stamp};

/// A stamp that came from outside, about one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// What the node says that it has applied.
    Applied(Stamp),
    /// On its `desired` topic.
    Desired(Stamp),
    /// As before, but kept by the broker, perhaps since before our start.
    KeptDesired(Stamp),
}

/// Why the hub must be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    #[error("another hub with epoch {} commands these nodes (ours is {})", heard.counter, own.counter)]
    NewerHub { heard: Epoch, own: Epoch },
    #[error("a node has state {} of this hub, whose store knows none after {}: it was restored from a backup; start it with --restore", heard.0, decided.0)]
    OlderStore { heard: Generation, decided: Generation },
    #[error("another hub speaks with this hub's identity: one of them is a copy and must be stopped")]
    Twin,
}

/// Whether the hub may go on after hearing this. `decided` is the newest generation that the store has
/// for the node (zero if none): it is written before anything is said, so nobody can have heard more.
///
/// # Errors
/// [`Fenced`]: it may not.
pub fn judge(own: Epoch, decided: Generation, heard: Heard) -> Result<(), Fenced> {
    let (Heard::Applied(stamp) | Heard::Desired(stamp) | Heard::KeptDesired(stamp)) = heard;
    if stamp.epoch > own {
        return Err(Fenced::NewerHub { heard: stamp.epoch, own });
    }
    if stamp.epoch < own || stamp.generation <= decided {
        return Ok(());
    }
    Err(match heard {
        Heard::Applied(_) | Heard::KeptDesired(_) => Fenced::OlderStore { heard: stamp.generation, decided },
        Heard::Desired(_) => Fenced::Twin,
    })
}

/// What this hub may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    pub epoch: Epoch,
    /// The store's: no stamp of ours is newer.
    pub revision: u64,
}

/// Where a restored hub goes on: above everything that its nodes have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    pub epoch: Epoch,
    /// The store's revision must be at least this.
    pub revision: u64,
}

pub fn restore(own: Own, heard: impl IntoIterator<Item = Stamp>, random: u64) -> Restored {
    let newest = heard.into_iter().fold((own.epoch.counter, own.revision), |(counter, revision), stamp| {
        (counter.max(stamp.epoch.counter), revision.max(stamp.generation.0))
    });
    Restored { epoch: Epoch { counter: newest.0 + 1, id: random }, revision: newest.1 + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own { epoch: Epoch { counter: 3, id: 50 }, revision: 100 };

    fn stamp(counter: u64, id: u64, generation: u64) -> Stamp {
        Stamp { epoch: Epoch { counter, id }, generation: Generation(generation) }
    }

    /// Generation 90 was decided last.
    fn check(heard: Heard, want: &str) {
        let got = match judge(OWN.epoch, Generation(90), heard) {
            Ok(()) => "fine",
            Err(Fenced::NewerHub { .. }) => "newer hub",
            Err(Fenced::OlderStore { .. }) => "older store",
            Err(Fenced::Twin) => "twin",
        };
        assert_eq!(got, want, "{heard:?}");
    }

    #[test]
    fn what_nodes_have_applied() {
        check(Heard::Applied(stamp(0, 0, 0)), "fine");
        check(Heard::Applied(stamp(3, 50, 90)), "fine");
        check(Heard::Applied(stamp(3, 50, 91)), "older store");
        check(Heard::Applied(stamp(2, 99, 999)), "fine");
        check(Heard::Applied(stamp(4, 1, 1)), "newer hub");
        check(Heard::Applied(stamp(3, 51, 1)), "newer hub");
        check(Heard::Applied(stamp(3, 49, 999)), "fine");
    }

    #[test]
    fn what_is_published_as_desired() {
        check(Heard::Desired(stamp(3, 50, 90)), "fine");
        check(Heard::Desired(stamp(3, 50, 80)), "fine");
        check(Heard::Desired(stamp(3, 50, 95)), "twin");
        check(Heard::Desired(stamp(2, 50, 95)), "fine");
        check(Heard::Desired(stamp(4, 50, 1)), "newer hub");
        check(Heard::KeptDesired(stamp(3, 50, 90)), "fine");
        check(Heard::KeptDesired(stamp(3, 50, 95)), "older store");
    }

    #[test]
    fn a_restored_hub_goes_on_above_everything_heard() {
        let heard = [stamp(3, 50, 170), stamp(5, 7, 20), stamp(0, 0, 0)];
        let restored = restore(OWN, heard, 77);
        assert_eq!(restored, Restored { epoch: Epoch { counter: 6, id: 77 }, revision: 171 });
        assert!(heard.into_iter().all(|stamp| judge(restored.epoch, Generation(0), Heard::Applied(stamp)).is_ok()));
    }
}
