//! A node's report, collected from its shards. Each shard is the whole truth of its pods.

use std::collections::BTreeMap;

use protocol::limits::SHARDS_MAX;
use protocol::reported::{NodeFacts, PodReport, Reported};
use protocol::{BootId, PodUid, Stamp, UnixMillis};

/// Whether the broker kept a message for us, or it was just sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Live,
    /// Perhaps from before a restart; says nothing about now.
    Kept,
}

/// What one node has reported last.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    layout: Option<Layout>,
    shards: BTreeMap<u8, Shard>,
    facts: Option<NodeFacts>,
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    boot: BootId,
    shards: u8,
    newest: UnixMillis,
}

#[derive(Debug, Clone)]
struct Shard {
    applied: Stamp,
    pods: BTreeMap<PodUid, PodReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    Fresh,
    /// An older one than we have.
    Stale,
    /// No node of ours counts shards like that.
    Invalid,
}

/// What the node says of one pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen<'a> {
    Reported(&'a PodReport),
    /// The node had applied this when it did not list the pod.
    Absent {
        applied: Stamp,
    },
    /// Its shard has not been heard.
    Unheard,
}

impl Collector {
    pub fn accept(&mut self, reported: Reported, freshness: Freshness) -> Accepted {
        let Reported { sent_at, boot, applied, shard, shards, node, pods } = reported;
        if shards == 0 || shards > SHARDS_MAX || shard >= shards {
            return Accepted::Invalid;
        }
        let is_same = self.layout.is_some_and(|layout| layout.boot == boot && layout.shards == shards);
        // Only what the broker kept can be old: one client's messages to one topic stay in order, and a
        // node's clock may be set back.
        if freshness == Freshness::Kept && self.layout.is_some_and(|layout| sent_at < layout.newest && !is_same) {
            return Accepted::Stale;
        }
        if !is_same {
            self.shards.clear();
        }
        let newest =
            self.layout.filter(|_| is_same && freshness == Freshness::Kept).map_or(sent_at, |l| l.newest.max(sent_at));
        self.layout = Some(Layout { boot, shards, newest });
        self.facts = node.or(self.facts.take());
        let pods = pods.into_iter().map(|pod| (pod.uid, pod)).collect();
        self.shards.insert(shard, Shard { applied, pods });
        Accepted::Fresh
    }

    pub fn facts(&self) -> Option<&NodeFacts> {
        self.facts.as_ref()
    }

    /// The boot that the newest report is from.
    pub fn boot(&self) -> BootId {
        self.layout.map(|layout| layout.boot).unwrap_or_default()
    }

    /// How many shards the node uses now; 0 before the first.
    pub fn shards(&self) -> u8 {
        self.layout.map_or(0, |layout| layout.shards)
    }

    /// Whether every shard has been heard.
    pub fn is_complete(&self) -> bool {
        self.layout.is_some_and(|layout| self.shards.len() == usize::from(layout.shards))
    }

    pub fn seen(&self, uid: PodUid) -> Seen<'_> {
        let Some(layout) = self.layout else { return Seen::Unheard };
        match self.shards.get(&(uid.0[0] % layout.shards)) {
            None => Seen::Unheard,
            Some(shard) => match shard.pods.get(&uid) {
                Some(report) => Seen::Reported(report),
                None => Seen::Absent { applied: shard.applied },
            },
        }
    }

    pub fn pods(&self) -> impl Iterator<Item = &PodReport> {
        self.shards.values().flat_map(|shard| shard.pods.values())
    }

    /// The oldest stamp among the shards heard: all of the node is at least there.
    pub fn applied(&self) -> Option<Stamp> {
        self.shards.values().map(|shard| shard.applied).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::reported::Phase;
    use protocol::{Digest, Epoch, Generation};

    fn report(boot: u8, shard: u8, shards: u8, sent: u64, generation: u64, pods: &[u8]) -> Reported {
        let pod = |first: &u8| PodReport {
            uid: uid(*first),
            body: Digest([0; 32]),
            phase: Phase::Running,
            reason: None,
            message: None,
            started_at: None,
            init_containers: vec![],
            containers: vec![],
            stopped: false,
        };
        Reported {
            sent_at: UnixMillis(sent),
            boot: BootId([boot; 16]),
            applied: Stamp { epoch: Epoch { counter: 1, id: 1 }, generation: Generation(generation) },
            shard,
            shards,
            node: None,
            pods: pods.iter().map(pod).collect(),
        }
    }

    fn uid(first: u8) -> PodUid {
        PodUid([first; 16])
    }

    fn text(collector: &Collector, first: u8) -> String {
        match collector.seen(uid(first)) {
            Seen::Reported(_) => "there".into(),
            Seen::Absent { applied } => format!("absent at {}", applied.generation.0),
            Seen::Unheard => "unheard".into(),
        }
    }

    #[test]
    fn absence_is_told_by_the_pod_s_own_shard() {
        let mut collector = Collector::default();
        assert_eq!(text(&collector, 1), "unheard");
        assert_eq!(collector.accept(report(1, 0, 2, 10, 5, &[0, 2]), Freshness::Live), Accepted::Fresh);
        assert_eq!(text(&collector, 2), "there");
        assert_eq!(text(&collector, 4), "absent at 5");
        assert_eq!(text(&collector, 1), "unheard");
        collector.accept(report(1, 1, 2, 11, 6, &[]), Freshness::Live);
        assert_eq!(text(&collector, 1), "absent at 6");
        assert_eq!(collector.applied().unwrap().generation, Generation(5));
    }

    #[test]
    fn what_a_broker_kept_from_another_layout_does_not_mix() {
        let mut collector = Collector::default();
        collector.accept(report(1, 0, 1, 100, 5, &[2]), Freshness::Live);
        assert_eq!(collector.accept(report(1, 1, 2, 50, 4, &[1]), Freshness::Kept), Accepted::Stale);
        assert_eq!(text(&collector, 1), "absent at 5");
        // The other order: the old one first.
        let mut collector = Collector::default();
        collector.accept(report(1, 1, 2, 50, 4, &[1]), Freshness::Kept);
        assert_eq!(collector.accept(report(1, 0, 1, 100, 5, &[2]), Freshness::Kept), Accepted::Fresh);
        assert_eq!(text(&collector, 1), "absent at 5");
    }

    #[test]
    fn a_clock_set_back_does_not_silence_a_node() {
        let mut collector = Collector::default();
        collector.accept(report(1, 0, 1, 1000, 5, &[]), Freshness::Live);
        assert_eq!(collector.accept(report(1, 0, 1, 10, 6, &[3]), Freshness::Live), Accepted::Fresh);
        assert_eq!(collector.accept(report(2, 0, 1, 5, 6, &[4]), Freshness::Live), Accepted::Fresh);
        assert_eq!(text(&collector, 4), "there");
    }

    #[test]
    fn a_report_that_counts_wrongly_is_refused() {
        let mut collector = Collector::default();
        for (shard, shards) in [(0, 0), (1, 1), (0, 65), (255, 255)] {
            assert_eq!(collector.accept(report(1, shard, shards, 1, 1, &[]), Freshness::Live), Accepted::Invalid);
        }
    }
}
