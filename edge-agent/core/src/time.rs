//! Two clocks as values: one that only runs forward, one that a person reads.
//!
//! Every delay is counted on the boot clock (which also runs while the machine sleeps); wall time is
//! only written down. A Pi without a battery clock starts in 1970 and jumps.

use core::time::Duration;
use protocol::UnixMillis;

/// Milliseconds since the machine booted, suspended time included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The time left until `later`; zero if it has passed.
    pub fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    pub at: Moment,
    pub wall: UnixMillis,
}

impl Now {
    /// What the wall clock would have said at `then`, by today's reading: earlier records stay in order
    /// even when the clock was set in between.
    pub fn wall_at(&self, then: Moment) -> UnixMillis {
        UnixMillis(self.wall.0.saturating_sub(millis(self.at.since(then))))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_ahead_is_not_long_ago() {
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
        assert_eq!(Moment(5).until(Moment(9)), Duration::from_millis(4));
        assert_eq!(Moment(u64::MAX).plus(Duration::from_secs(1)), Moment(u64::MAX));
    }

    #[test]
    fn wall_time_is_told_backwards_from_now() {
        let now = Now { at: Moment(10_000), wall: UnixMillis(1_000_000) };
        assert_eq!(now.wall_at(Moment(4_000)), UnixMillis(994_000));
        assert_eq!(now.wall_at(Moment(20_000)), UnixMillis(1_000_000));
    }
}
