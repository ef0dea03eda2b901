//! Who may touch which topic: a node writes its own leaves, reads below its own prefix, and nothing else.

use protocol::join::BULK_SUFFIX;
use protocol::limits::SHARDS_MAX;
use protocol::topic::{Leaf, Topic, node_prefix};
use protocol::{ClusterId, NodeName};

/// A client whose certificate was verified.
#[derive(Debug, Clone)]
pub struct Peer {
    pub cluster: ClusterId,
    pub node: NodeName,
}

impl Peer {
    /// The node's name, or that of its second connection.
    pub fn may_be_called(&self, client_id: &str) -> bool {
        client_id.strip_suffix(BULK_SUFFIX).unwrap_or(client_id) == self.node.as_str()
    }

    pub fn may_publish(&self, topic: &str) -> bool {
        Topic::parse(topic).is_some_and(|topic| {
            let known = match topic.leaf {
                Leaf::Reported(shard) => shard < SHARDS_MAX,
                leaf => leaf.is_from_node(),
            };
            known && topic.cluster == self.cluster && topic.node == self.node
        })
    }

    pub fn may_subscribe(&self, filter: &str) -> bool {
        filter.strip_prefix(&node_prefix(&self.cluster, &self.node)).is_some_and(|below| !below.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: fn(&Peer, &str) -> bool, good: &[&str], bad: &[&str]) {
        let peer = Peer { cluster: "c".parse().unwrap(), node: "pi-1".parse().unwrap() };
        for text in good {
            assert!(allowed(&peer, text), "{text} was refused");
        }
        for text in bad {
            assert!(!allowed(&peer, text), "{text} was allowed");
        }
    }

    #[test]
    fn a_node_has_two_names() {
        check(Peer::may_be_called, &["pi-1", "pi-1.bulk"], &["", ".bulk", "pi-2", "pi-1.bulk.bulk", "wherry-hub"]);
    }

    #[test]
    fn a_node_writes_its_own_leaves() {
        check(
            Peer::may_publish,
            &["wherry/1/c/n/pi-1/presence", "wherry/1/c/n/pi-1/reported/63", "wherry/1/c/n/pi-1/stream/7/up"],
            &[
                "wherry/1/c/n/pi-1/desired",
                "wherry/1/c/n/pi-1/blob/dat",
                "wherry/1/c/n/pi-1/stream/7/down",
                "wherry/1/c/n/pi-1/reported/64",
                "wherry/1/c/n/pi-2/presence",
                "wherry/1/d/n/pi-1/presence",
                "wherry/1/c/n/pi-1/",
                "$SYS/x",
                "",
            ],
        );
    }

    #[test]
    fn a_node_reads_below_its_prefix() {
        check(
            Peer::may_subscribe,
            &["wherry/1/c/n/pi-1/desired", "wherry/1/c/n/pi-1/stream/+/down", "wherry/1/c/n/pi-1/#"],
            &[
                "#",
                "+/1/c/n/pi-1/desired",
                "wherry/1/c/n/+/desired",
                "wherry/1/c/n/pi-1",
                "wherry/1/c/n/pi-10/desired",
                "$share/g/wherry/1/c/n/pi-1/desired",
                "$SYS/#",
            ],
        );
    }
}
