//! What is worth telling the hub: the shards that changed, not too often, and everything after a
//! reconnect; and when the next heartbeat is due.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::limits::{FRAME_MAX, HEARTBEAT_SECONDS, SHARDS_MAX};
use protocol::reported::{NodeFacts, PodReport, Reported};
use protocol::{BootId, Digest, PodUid, Stamp, UnixMillis};

use crate::time::{Moment, Now};

/// Between two messages of one shard: a burst of changes becomes one message, a person notices nothing.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Room in a frame for everything but the pods.
const HEAD: usize = 8 * 1024;

/// What the node knows at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    pub boot: BootId,
    pub applied: Stamp,
    pub facts: &'a NodeFacts,
    pub pods: Vec<PodReport>,
}

#[derive(Debug, Default)]
pub struct Reporter {
    sent: BTreeMap<u8, (Digest, Moment)>,
    /// Only grows within one life of the agent, so that no pod changes its shard back and forth.
    shards: u8,
}

/// Messages due now, and when to look again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub messages: Vec<(Reported, Digest)>,
    pub wake_at: Option<Moment>,
}

impl Reporter {
    /// After a reconnect the broker may have forgotten everything.
    pub fn reset(&mut self) {
        self.sent.clear();
    }

    pub fn due(&mut self, snapshot: Snapshot<'_>, now: Now) -> Due {
        self.shards = shards_for(&snapshot.pods, self.shards.max(1));
        let mut due = Due::default();
        for message in split(snapshot, self.shards, now.wall) {
            let digest = content_digest(&message);
            match self.sent.get(&message.shard) {
                Some((sent, _)) if *sent == digest => {}
                Some((_, at)) if at.plus(PAUSE) > now.at => {
                    let again = at.plus(PAUSE);
                    due.wake_at = Some(due.wake_at.map_or(again, |earlier| earlier.min(again)));
                }
                Some(_) | None => due.messages.push((message, digest)),
            }
        }
        due
    }

    /// The link took this message.
    pub fn sent(&mut self, shard: u8, digest: Digest, now: Moment) {
        self.sent.insert(shard, (digest, now));
    }
}

pub fn shard_of(uid: PodUid, shards: u8) -> u8 {
    uid.0[0] % shards.max(1)
}

/// The first power of two, from `least` on, with which every shard fits a frame.
fn shards_for(pods: &[PodReport], least: u8) -> u8 {
    let sizes: Vec<(PodUid, usize)> = pods.iter().map(|pod| (pod.uid, size(pod))).collect();
    let mut shards = least;
    while shards < SHARDS_MAX {
        let mut sums = vec![0_usize; shards.into()];
        for (uid, size) in &sizes {
            sums[usize::from(shard_of(*uid, shards))] += size;
        }
        if sums.iter().all(|sum| *sum <= FRAME_MAX - HEAD) {
            break;
        }
        shards = shards.saturating_mul(2).min(SHARDS_MAX);
    }
    shards
}

fn size(pod: &PodReport) -> usize {
    postcard::to_allocvec(pod).map_or(FRAME_MAX, |bytes| bytes.len())
}

fn split(snapshot: Snapshot<'_>, shards: u8, sent_at: UnixMillis) -> Vec<Reported> {
    let mut messages: Vec<Reported> = (0..shards)
        .map(|shard| Reported {
            sent_at,
            boot: snapshot.boot,
            applied: snapshot.applied,
            shard,
            shards,
            node: (shard == 0).then(|| snapshot.facts.clone()),
            pods: Vec::new(),
        })
        .collect();
    for pod in snapshot.pods {
        messages[usize::from(shard_of(pod.uid, shards))].pods.push(pod);
    }
    messages
}

/// Of all but the sending time.
fn content_digest(message: &Reported) -> Digest {
    let timeless = Reported { sent_at: UnixMillis(0), ..message.clone() };
    Digest::of(&postcard::to_allocvec(&timeless).expect("plain owned data always serializes"))
}

/// Regular, whatever the loop did in between: a late beat does not shift the later ones.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    next: Moment,
}

impl Heartbeat {
    pub const PERIOD: Duration = Duration::from_secs(HEARTBEAT_SECONDS);

    pub fn new(now: Moment) -> Self {
        Self { next: now }
    }

    pub fn next(&self) -> Moment {
        self.next
    }

    /// Whether a beat is due; if so the following one is set, skipping those missed.
    pub fn beat(&mut self, now: Moment) -> bool {
        if now < self.next {
            return false;
        }
        let next = self.next.plus(Self::PERIOD);
        self.next = if next > now { next } else { now.plus(Self::PERIOD) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;
    use protocol::reported::{Capacity, MemoryProfile, Target};

    fn facts() -> NodeFacts {
        NodeFacts {
            arch: "amd64".into(),
            os: "linux".into(),
            os_image: String::new(),
            kernel: String::new(),
            machine_id: String::new(),
            agent_version: String::new(),
            target: Target {
                triple: String::new(),
                cpu_features: vec![],
                memory: MemoryProfile::Fast,
                engine: String::new(),
            },
            capacity: Capacity::default(),
            addresses: vec![],
            hostname: String::new(),
            labels: vec![],
            pressures: vec![],
        }
    }

    fn pod(number: u8) -> PodReport {
        status::ghost(PodUid([number; 16]), Digest([number; 32]))
    }

    fn due(reporter: &mut Reporter, pods: Vec<PodReport>, at: u64) -> (Vec<u8>, Option<Moment>) {
        let facts = facts();
        let snapshot = Snapshot { boot: BootId::default(), applied: Stamp::default(), facts: &facts, pods };
        let now = Now { at: Moment(at), wall: UnixMillis(at) };
        let due = reporter.due(snapshot, now);
        for (message, digest) in &due.messages {
            assert!(protocol::frame::encode(message).is_ok(), "a shard does not fit its frame");
            reporter.sent(message.shard, *digest, now.at);
        }
        (due.messages.iter().map(|(message, _)| message.shard).collect(), due.wake_at)
    }

    #[test]
    fn only_changes_are_sent_and_bursts_wait() {
        let mut reporter = Reporter::default();
        assert_eq!(due(&mut reporter, vec![], 0), (vec![0], None));
        assert_eq!(due(&mut reporter, vec![], 9_000), (vec![], None));
        assert_eq!(due(&mut reporter, vec![pod(1)], 9_000), (vec![0], None));
        assert_eq!(due(&mut reporter, vec![pod(2)], 9_020), (vec![], Some(Moment(9_050))));
        assert_eq!(due(&mut reporter, vec![pod(2)], 9_050), (vec![0], None));
        reporter.reset();
        assert_eq!(due(&mut reporter, vec![pod(2)], 9_051), (vec![0], None));
    }

    #[test]
    fn many_pods_are_spread_over_frames() {
        let mut reporter = Reporter::default();
        let many = |count: u32| {
            let big = |n: u32| {
                let mut uid = [0; 16];
                uid[..4].copy_from_slice(&n.wrapping_mul(0x9E37_79B9).to_be_bytes());
                PodReport { message: Some("x".repeat(900)), ..status::ghost(PodUid(uid), Digest([0; 32])) }
            };
            (0..count).map(big).collect::<Vec<_>>()
        };
        assert_eq!(due(&mut reporter, many(100), 0).0, [0]);
        assert_eq!(due(&mut reporter, many(900), 1_000).0, [0, 1, 2, 3]);
        assert_eq!(due(&mut reporter, many(1), 2_000).0.len(), 4, "shards do not shrink while the agent lives");
    }

    #[test]
    fn beats_keep_their_rhythm_and_skip_what_was_missed() {
        let mut heart = Heartbeat::new(Moment(0));
        assert!(heart.beat(Moment(0)));
        assert!(!heart.beat(Moment(4_999)));
        assert!(heart.beat(Moment(5_300)));
        assert_eq!(heart.next(), Moment(10_000));
        assert!(heart.beat(Moment(60_000)));
        assert_eq!(heart.next(), Moment(65_000));
    }
}
