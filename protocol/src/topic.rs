//! Topics: built and parsed here and nowhere else.
//!
//! `wherry/1/<cluster>/n/<node>/<leaf>`. A node may touch its own prefix only.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::ids::{ClusterId, NodeName};

/// What a topic carries, and so who may write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaf {
    Desired,
    Reported(u8),
    Presence,
    Metrics,
    Events,
    BlobRequest,
    BlobData,
    StreamUp(u64),
    StreamDown(u64),
}

impl Leaf {
    /// Whether the node writes it; the hub writes the others.
    pub fn is_from_node(self) -> bool {
        match self {
            Leaf::Reported(_)
            | Leaf::Presence
            | Leaf::Metrics
            | Leaf::Events
            | Leaf::BlobRequest
            | Leaf::StreamUp(_) => true,
            Leaf::Desired | Leaf::BlobData | Leaf::StreamDown(_) => false,
        }
    }

    /// The leaves a broker keeps for late subscribers.
    pub fn is_retained(self) -> bool {
        matches!(self, Leaf::Desired | Leaf::Reported(_) | Leaf::Presence)
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leaf::Desired => f.write_str("desired"),
            Leaf::Reported(shard) => write!(f, "reported/{shard}"),
            Leaf::Presence => f.write_str("presence"),
            Leaf::Metrics => f.write_str("metrics"),
            Leaf::Events => f.write_str("events"),
            Leaf::BlobRequest => f.write_str("blob/req"),
            Leaf::BlobData => f.write_str("blob/dat"),
            Leaf::StreamUp(id) => write!(f, "stream/{id}/up"),
            Leaf::StreamDown(id) => write!(f, "stream/{id}/down"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    pub cluster: ClusterId,
    pub node: NodeName,
    pub leaf: Leaf,
}

impl Topic {
    pub fn new(cluster: &ClusterId, node: &NodeName, leaf: Leaf) -> Self {
        Self { cluster: cluster.clone(), node: node.clone(), leaf }
    }

    /// `None` for a topic that is not ours: others may share the broker.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("wherry/1/")?;
        let (cluster, rest) = rest.split_once("/n/")?;
        let (node, leaf) = rest.split_once('/')?;
        let leaf = match leaf {
            "desired" => Leaf::Desired,
            "presence" => Leaf::Presence,
            "metrics" => Leaf::Metrics,
            "events" => Leaf::Events,
            "blob/req" => Leaf::BlobRequest,
            "blob/dat" => Leaf::BlobData,
            other => parse_numbered(other)?,
        };
        Some(Self { cluster: cluster.parse().ok()?, node: node.parse().ok()?, leaf })
    }
}

fn parse_numbered(leaf: &str) -> Option<Leaf> {
    if let Some(shard) = leaf.strip_prefix("reported/") {
        return shard.parse().ok().map(Leaf::Reported);
    }
    match leaf.strip_prefix("stream/")?.split_once('/')? {
        (id, "up") => id.parse().ok().map(Leaf::StreamUp),
        (id, "down") => id.parse().ok().map(Leaf::StreamDown),
        _ => None,
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", node_prefix(&self.cluster, &self.node), self.leaf)
    }
}

/// Everything one node may touch.
pub fn node_prefix(cluster: &ClusterId, node: &NodeName) -> String {
    format!("wherry/1/{cluster}/n/{node}/")
}

/// What a node listens to on its control connection.
pub fn node_control_filters(cluster: &ClusterId, node: &NodeName) -> [String; 1] {
    [format!("{}desired", node_prefix(cluster, node))]
}

/// What a node listens to on its bulk connection.
pub fn node_bulk_filters(cluster: &ClusterId, node: &NodeName) -> [String; 2] {
    let prefix = node_prefix(cluster, node);
    [format!("{prefix}blob/dat"), format!("{prefix}stream/+/down")]
}

/// What the hub listens to: every leaf that nodes write. `desired` too, so that a hub hears of
/// another hub on the same cluster id.
pub fn hub_filters(cluster: &ClusterId) -> [String; 7] {
    let all = format!("wherry/1/{cluster}/n/+/");
    [
        format!("{all}reported/+"),
        format!("{all}presence"),
        format!("{all}metrics"),
        format!("{all}events"),
        format!("{all}blob/req"),
        format!("{all}stream/+/up"),
        format!("{all}desired"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_leaf_survives_its_text() {
        let leaves = [
            Leaf::Desired,
            Leaf::Reported(7),
            Leaf::Presence,
            Leaf::Metrics,
            Leaf::Events,
            Leaf::BlobRequest,
            Leaf::BlobData,
            Leaf::StreamUp(9),
            Leaf::StreamDown(9),
        ];
        for leaf in leaves {
            let topic = Topic { cluster: "c".parse().unwrap(), node: "pi-1".parse().unwrap(), leaf };
            assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
        }
    }

    #[test]
    fn foreign_topics_are_nobody_s() {
        for text in [
            "",
            "wherry/1/c/n/pi-1",
            "wherry/1/c/n/pi-1/",
            "wherry/2/c/n/pi-1/desired",
            "wherry/1/c/n/+/desired",
            "wherry/1/c/n/pi-1/reported/300",
            "wherry/1/c/n/pi-1/stream/1/sideways",
            "$SYS/broker",
        ] {
            assert_eq!(Topic::parse(text), None, "{text}");
        }
    }
}
