//! hub-core's `fold`, and whether it leaves something to write.

use hub_core::fold::{self, Heard};
use hub_core::object::Object;
use protocol::BootId;
use protocol::reported::{NodeFacts, PodReport};

use super::nodes::NodeState;
use crate::objects::Changed;

/// What the hub knows of a node's report besides its content.
#[derive(Debug, Clone)]
pub(super) struct Hearing {
    host_ip: String,
    skew_millis: i64,
    now: i64,
}

impl Hearing {
    /// `now` in unix seconds.
    pub(super) fn of(state: &NodeState, now: i64) -> Self {
        let address = state.collector.facts().and_then(|facts| facts.addresses.first());
        let host_ip = address.map(|[a, b, c, d]| format!("{a}.{b}.{c}.{d}")).unwrap_or_default();
        Self { host_ip, skew_millis: state.skew_millis, now }
    }

    fn heard(&self) -> Heard<'_> {
        Heard { host_ip: &self.host_ip, skew_millis: self.skew_millis, now: self.now }
    }
}

pub(super) fn labels(object: &mut Object, facts: &NodeFacts) -> Changed {
    changed(object, |object| fold::fold_labels(object, facts))
}

pub(super) fn node(object: &mut Object, facts: &NodeFacts, boot: BootId, hearing: &Hearing) -> Changed {
    changed(object, |object| fold::fold_node(object, facts, boot, &hearing.heard()))
}

pub(super) fn pod(object: &mut Object, report: &PodReport, hearing: &Hearing) -> Changed {
    changed(object, |object| fold::fold_pod(object, report, &hearing.heard()))
}

fn changed(object: &mut Object, fold: impl FnOnce(&mut Object)) -> Changed {
    let before = object.clone();
    fold(object);
    if *object == before { Changed::No } else { Changed::Yes }
}
