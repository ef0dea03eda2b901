//! The only place of the agent that reads clocks and takes random numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge_agent_core::{Moment, Now};
use protocol::{BootId, UnixMillis};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::time::{ClockId, clock_gettime};

/// 2026-01-01: the hub's certificates start here, so a clock before it is certainly wrong.
const EARLIEST: UnixMillis = UnixMillis(1_767_225_600_000);

#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    #[error("cannot read {BOOT_ID}")]
    Read(#[source] std::io::Error),
    #[error("{BOOT_ID} holds {text:?}, which is no uuid")]
    Parse { text: String },
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Boot time for delays, wall time for people and certificates. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock {
    boot: BootId,
    /// The latest wall time ever seen, also by earlier lives of this agent.
    seen: Arc<AtomicU64>,
}

impl Clock {
    /// # Errors
    /// A kernel that does not tell which boot this is.
    pub fn system(last_seen: UnixMillis) -> Result<Self, ClockError> {
        let text = std::fs::read_to_string(BOOT_ID).map_err(ClockError::Read)?;
        let uid: protocol::PodUid = text.trim().parse().map_err(|_| ClockError::Parse { text })?;
        let seen = last_seen.0.max(EARLIEST.0);
        Ok(Self { boot: BootId(uid.0), seen: Arc::new(AtomicU64::new(seen)) })
    }

    pub fn boot(&self) -> BootId {
        self.boot
    }

    pub fn now(&self) -> Now {
        Now { at: boot_time(), wall: wall_time() }
    }

    /// Time for checking certificates: a Pi without a battery starts in 1970, so the latest time it
    /// has ever seen counts.
    pub fn trusted(&self) -> UnixMillis {
        let now = wall_time().0;
        UnixMillis(self.seen.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// Sleeps until `at`; for ever without one.
    pub async fn sleep_until(&self, at: Option<Moment>) {
        match at {
            Some(at) => tokio::time::sleep(boot_time().until(at)).await,
            None => std::future::pending().await,
        }
    }
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_millis(self.trusted().0)))
    }
}

fn boot_time() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Moment(seconds * 1000 + u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
fn wall_time() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The system's random numbers.
#[derive(Debug, Clone)]
pub struct Entropy(SystemRandom);

impl Default for Entropy {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Entropy {
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).expect("the kernel has random numbers once it runs processes");
        bytes
    }

    pub fn number(&self) -> u64 {
        u64::from_be_bytes(self.bytes())
    }

    /// A duration from zero to `most`, every millisecond as likely.
    pub fn up_to(&self, most: Duration) -> Duration {
        let span = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_millis(self.number() % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_the_past_is_not_trusted() {
        let future = UnixMillis(4_000_000_000_000);
        assert_eq!(Clock::system(future).unwrap().trusted(), future);
        assert!(Clock::system(UnixMillis(0)).unwrap().trusted() >= EARLIEST);
    }

    #[test]
    fn jitter_stays_within_its_span() {
        let entropy = Entropy::default();
        assert_eq!(entropy.up_to(Duration::ZERO), Duration::ZERO);
        for _ in 0..100 {
            assert!(entropy.up_to(Duration::from_millis(5)) <= Duration::from_millis(5));
        }
    }
}
