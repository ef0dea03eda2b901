//! What to tell a node, and when to tell it again.
//!
//! A node's generation is the revision at which the digest of what it shall run was last written to the
//! store, durably, before it is published. So a generation is never used for two contents, whatever
//! crashes; and after a restart the same content has the same generation.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::desired::{Desired, DesiredPod, Stop};
use protocol::limits::{FRAME_MAX, PODS_PER_NODE_MAX};
use protocol::{Digest, Generation, PodUid, Stamp};

use super::shards::Seen;

/// A node that has not applied what was published is told again after so long: its message may be lost,
/// or it is still at work.
pub const REPEAT_AFTER: Duration = Duration::from_secs(4);
/// Header, stamp, signature and the list's length.
const FRAME_OVERHEAD: usize = 256;
/// Of a pod without its body: uid, digest, tags and the grace.
const LISTED_BYTES: usize = 16 + 32 + 8;

/// One pod of a node, with its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub uid: PodUid,
    pub digest: Digest,
    /// `None`: only the node has it (a pod that a restored hub does not know).
    pub body: Option<Vec<u8>>,
    pub stop: Option<Stop>,
}

/// Everything a node shall run, in the order of uids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    items: BTreeMap<PodUid, Item>,
}

impl Listing {
    /// More than [`PODS_PER_NODE_MAX`] are cut: the node could not even be told of them.
    pub fn new(items: impl IntoIterator<Item = Item>) -> Self {
        let mut items: BTreeMap<PodUid, Item> = items.into_iter().map(|item| (item.uid, item)).collect();
        while items.len() > PODS_PER_NODE_MAX {
            items.pop_last();
        }
        Self { items }
    }

    /// Names what the node is told: pods, their bodies, and which shall stop.
    pub fn digest(&self) -> Digest {
        let mut text = Vec::with_capacity(self.items.len() * LISTED_BYTES);
        for item in self.items.values() {
            text.extend_from_slice(&item.uid.0);
            text.extend_from_slice(&item.digest.0);
            match item.stop {
                None => text.push(0),
                Some(Stop { grace_seconds }) => {
                    text.push(1);
                    text.extend_from_slice(&grace_seconds.to_be_bytes());
                }
            }
        }
        Digest::of(&text)
    }

    /// The message: bodies ride along while the frame has room, the rest is pulled. Which ones ride depends
    /// on the listing alone, so that the same generation is always the same bytes.
    pub fn to_message(&self) -> Desired {
        let listed = self.items.len() * LISTED_BYTES;
        let mut room = FRAME_MAX.saturating_sub(FRAME_OVERHEAD + listed);
        let pods = self.items.values().map(|item| {
            let body = item.body.as_ref().filter(|body| body.len() + 4 <= room);
            room -= body.map_or(0, |body| body.len() + 4);
            DesiredPod { uid: item.uid, digest: item.digest, body: body.cloned(), stop: item.stop }
        });
        Desired { pods: pods.collect() }
    }

    /// A pod's body by its digest: what a node may pull.
    pub fn body(&self, digest: Digest) -> Option<&[u8]> {
        self.items.values().find(|item| item.digest == digest)?.body.as_deref()
    }

    pub fn item(&self, uid: PodUid) -> Option<&Item> {
        self.items.get(&uid)
    }

    pub fn lists(&self, uid: PodUid) -> Listed {
        match self.items.get(&uid) {
            None => Listed::Not,
            Some(Item { stop: Some(_), .. }) => Listed::Stopping,
            Some(Item { stop: None, .. }) => Listed::Running,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    Not,
    Running,
    Stopping,
}

/// What the store says was last decided for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    pub content: Digest,
    pub generation: Generation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the digest; the commit's revision is the generation.
    Decide,
    /// Say what was decided.
    Publish(Generation),
    /// It has been said in this session.
    Nothing,
}

/// What to do for a node whose content is `content` now. `published`: in this session, on this link.
pub fn step(decided: Option<Decided>, content: Digest, published: Option<Generation>) -> Step {
    match decided {
        Some(decided) if decided.content == content && published == Some(decided.generation) => Step::Nothing,
        Some(decided) if decided.content == content => Step::Publish(decided.generation),
        Some(_) | None => Step::Decide,
    }
}

/// Whether a node that says it has applied `applied` must be told again.
pub fn must_repeat(published: Stamp, applied: Stamp, since: Duration) -> bool {
    applied < published && since >= REPEAT_AFTER
}

/// Whether nothing is left of a pod that is being deleted. `told` is how the newest published listing,
/// stamped `published`, has it.
pub fn is_gone(seen: &Seen<'_>, told: Listed, published: Option<Stamp>) -> bool {
    match (seen, told) {
        (Seen::Reported(report), _) => report.stopped,
        // Absent, though it was told to run: it has not come to it yet.
        (Seen::Absent { .. }, Listed::Running) | (Seen::Unheard, _) => false,
        (Seen::Absent { applied }, Listed::Stopping | Listed::Not) => {
            published.is_some_and(|published| *applied >= published)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Epoch;
    use protocol::frame::{self, Sign};
    use protocol::reported::{Phase, PodReport};

    fn item(first: u8, bytes: usize) -> Item {
        let body = vec![first; bytes];
        Item { uid: PodUid([first; 16]), digest: Digest::of(&body), body: Some(body), stop: None }
    }

    struct Key;

    impl Sign for Key {
        fn key_id(&self) -> [u8; 4] {
            [0; 4]
        }
        fn sign(&self, _message: &[u8]) -> [u8; 64] {
            [0; 64]
        }
    }

    #[test]
    fn bodies_ride_along_while_there_is_room() {
        for (count, bytes) in [(3, 1000), (5, 100_000), (200, 2_000), (255, 900), (1, 300_000)] {
            let listing = Listing::new((0..count).map(|n| item(n, bytes)));
            let message = listing.to_message();
            assert_eq!(message.pods.len(), usize::from(count));
            let inline = message.pods.iter().filter(|pod| pod.body.is_some()).count();
            assert_eq!(inline, usize::from(count).min((FRAME_MAX - 256 - usize::from(count) * 56) / (bytes + 4)));
            frame::encode_signed(&message, "t", Stamp::default(), &Key).unwrap();
        }
    }

    #[test]
    fn a_full_node_still_fits_a_frame() {
        let items = (0..5000u32).map(|n| {
            let mut item = item(7, 100);
            item.uid.0[..4].copy_from_slice(&n.to_be_bytes());
            item.stop = Some(Stop { grace_seconds: u32::MAX });
            item
        });
        let message = Listing::new(items).to_message();
        assert_eq!(message.pods.len(), PODS_PER_NODE_MAX);
        frame::encode_signed(&message, "t", Stamp::default(), &Key).unwrap();
    }

    #[test]
    fn content_is_pods_bodies_and_stops() {
        let plain = Listing::new([item(1, 10), item(2, 10)]);
        assert_eq!(plain.digest(), Listing::new([item(2, 10), item(1, 10)]).digest());
        let stopping = Item { stop: Some(Stop { grace_seconds: 30 }), ..item(2, 10) };
        assert_ne!(plain.digest(), Listing::new([item(1, 10), stopping]).digest());
        assert_ne!(plain.digest(), Listing::new([item(1, 10), item(2, 11)]).digest());
    }

    #[test]
    fn a_generation_is_decided_before_it_is_published() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let decided = Decided { content: one, generation: Generation(5) };
        let check = |decided, content, published: Option<u64>, want| {
            assert_eq!(step(decided, content, published.map(Generation)), want);
        };
        check(None, one, None, Step::Decide);
        check(Some(decided), two, Some(5), Step::Decide);
        check(Some(decided), one, None, Step::Publish(Generation(5)));
        check(Some(decided), one, Some(4), Step::Publish(Generation(5)));
        check(Some(decided), one, Some(5), Step::Nothing);
    }

    #[test]
    fn a_pod_is_gone_when_its_node_says_so_after_being_told() {
        let stamp = |generation| Stamp { epoch: Epoch { counter: 1, id: 1 }, generation: Generation(generation) };
        let absent = |generation| Seen::Absent { applied: stamp(generation) };
        let check = |seen: Seen<'_>, told, published: Option<u64>, want| {
            assert_eq!(is_gone(&seen, told, published.map(stamp)), want, "{seen:?} {told:?} {published:?}");
        };
        let mut report = PodReport {
            uid: PodUid([1; 16]),
            body: Digest([0; 32]),
            phase: Phase::Running,
            reason: None,
            message: None,
            started_at: None,
            init_containers: vec![],
            containers: vec![],
            stopped: false,
        };
        check(Seen::Reported(&report), Listed::Stopping, Some(5), false);
        report.stopped = true;
        check(Seen::Reported(&report), Listed::Stopping, Some(5), true);
        check(Seen::Reported(&report), Listed::Running, None, true);
        check(Seen::Unheard, Listed::Stopping, Some(5), false);
        check(absent(4), Listed::Stopping, Some(5), false);
        check(absent(5), Listed::Stopping, Some(5), true);
        check(absent(6), Listed::Not, Some(5), true);
        check(absent(9), Listed::Running, Some(5), false);
        check(absent(9), Listed::Stopping, None, false);
    }
}
