//! The only place of the hub that reads clocks and takes random numbers.
//!
//! Everyone else is given a [`Clock`] or an [`Entropy`], so that tests hold the time still and know
//! the names that come out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

/// The time of day, which people set and NTP corrects, and the time that only goes forward.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    start: Instant,
}

#[derive(Debug, Clone)]
enum Source {
    System,
    /// Unix milliseconds, as the test says.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub fn system() -> Self {
        Self { source: Source::System, start: Instant::now() }
    }

    /// A clock that stands still at `unix_millis` until [`Clock::set`] moves it.
    pub fn manual(unix_millis: u64) -> Self {
        Self { source: Source::Manual(Arc::new(AtomicU64::new(unix_millis))), start: Instant::now() }
    }

    /// Moves a manual clock; the system's is not ours to set.
    pub fn set(&self, unix_millis: u64) {
        match &self.source {
            Source::System => {}
            Source::Manual(now) => now.store(unix_millis, Ordering::Relaxed),
        }
    }

    pub fn unix_millis(&self) -> u64 {
        match &self.source {
            Source::Manual(now) => now.load(Ordering::Relaxed),
            Source::System => system_millis(),
        }
    }

    pub fn unix_seconds(&self) -> i64 {
        i64::try_from(self.unix_millis() / 1000).unwrap_or(i64::MAX)
    }

    /// Never goes back, whatever is done to the time of day: for graces and deadlines.
    pub fn monotonic(&self) -> Instant {
        match &self.source {
            Source::System => Instant::now(),
            Source::Manual(now) => self.start + std::time::Duration::from_millis(now.load(Ordering::Relaxed)),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the clock that everyone else is given")]
fn system_millis() -> u64 {
    // A Pi without a clock chip may think it is before 1970: 0 then, never a panic.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Random numbers for uids, tokens and generated names.
#[derive(Debug, Clone)]
pub struct Entropy {
    source: RandomSource,
}

#[derive(Debug, Clone)]
enum RandomSource {
    System(SystemRandom),
    /// A counter, spread over the bytes: the same names in each run of a test.
    Counter(Arc<AtomicU64>),
}

impl Entropy {
    pub fn system() -> Self {
        Self { source: RandomSource::System(SystemRandom::new()) }
    }

    /// Numbers that look random and are the same each time. For tests.
    pub fn counting() -> Self {
        Self { source: RandomSource::Counter(Arc::new(AtomicU64::new(0))) }
    }

    pub fn fill(&self, bytes: &mut [u8]) {
        match &self.source {
            RandomSource::System(random) => random.fill(bytes).expect("the system gives random numbers"),
            RandomSource::Counter(counter) => {
                for chunk in bytes.chunks_mut(8) {
                    let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
                    // SplitMix64's increment and first mixer: neighbours look nothing alike.
                    let mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    chunk.copy_from_slice(&mixed.to_be_bytes()[..chunk.len()]);
                }
            }
        }
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random (version 4) UUID in its usual text.
    pub fn uuid(&self) -> String {
        let mut bytes: [u8; 16] = self.bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        protocol::ids::PodUid(bytes).to_string()
    }

    /// The tail of a generated name, from an alphabet without vowels: no accidental words.
    pub fn name_suffix(&self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let bytes: [u8; 5] = self.bytes();
        bytes.iter().map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still() {
        let clock = Clock::manual(5_000);
        let before = clock.monotonic();
        clock.set(7_500);
        assert_eq!((clock.unix_millis(), clock.unix_seconds()), (7_500, 7));
        assert_eq!(clock.monotonic() - before, std::time::Duration::from_millis(2_500));
    }

    #[test]
    fn uuids_are_version_4_and_differ() {
        let entropy = Entropy::system();
        let (one, two) = (entropy.uuid(), entropy.uuid());
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
        assert_eq!(Entropy::counting().name_suffix(), Entropy::counting().name_suffix());
    }
}
