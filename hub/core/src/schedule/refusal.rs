//! Why a pod was placed nowhere.

use std::collections::BTreeMap;
use std::fmt;

/// Why one node refuses a pod. The texts are Kubernetes', which people search for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    #[error("node(s) were unschedulable")]
    Unschedulable,
    #[error("node(s) didn't match the requested node name")]
    NodeName,
    #[error("node(s) had untolerated taint {{{key}: {value}}}")]
    Taint { key: String, value: String },
    #[error("node(s) didn't match Pod's node affinity/selector")]
    NodeAffinity,
    #[error("node(s) didn't have free ports for the requested pod ports")]
    HostPort,
    #[error("Too many pods")]
    TooManyPods,
    #[error("Insufficient {0}")]
    Insufficient(String),
    #[error("node(s) didn't match pod topology spread constraints")]
    Spread,
    #[error("node(s) didn't match pod topology spread constraints (missing required label)")]
    SpreadLabel,
    #[error("node(s) didn't match pod affinity rules")]
    PodAffinity,
    #[error("node(s) didn't match pod anti-affinity rules")]
    PodAntiAffinity,
    #[error("node(s) didn't satisfy existing pods anti-affinity rules")]
    ExistingAntiAffinity,
}

/// All nodes refused: the reasons with the number of nodes that gave each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    nodes: usize,
    reasons: BTreeMap<Refusal, usize>,
}

impl Unplaced {
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes, reasons: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, refusals: Vec<Refusal>) {
        for refusal in refusals {
            *self.reasons.entry(refusal).or_default() += 1;
        }
    }

    pub fn reasons(&self) -> &BTreeMap<Refusal, usize> {
        &self.reasons
    }
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        // Sorted as texts, counts first: the order that Kubernetes' users know.
        let mut texts: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        texts.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, texts.join(", "))
    }
}
