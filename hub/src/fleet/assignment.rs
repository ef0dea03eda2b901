//! Gives hub-core's `assign` what it looks things up in: the world, the registry, the node's key.

use std::sync::Arc;

use hub_core::assign::{self, AssignError, Lookup, NodeView};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use protocol::NodeName;
use protocol::pod::{Image, PodSpec};

use super::context::Context;

struct Sources<'a>(&'a Context);

impl Lookup for Sources<'_> {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.0.world.config_map(namespace, name)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.0.world.secret(namespace, name)
    }

    fn image(&self, pinned: &str) -> Option<Image> {
        self.0.artifacts.image(pinned)
    }
}

pub(super) fn assign(context: &Context, name: &NodeName, node: &Node, pod: &Pod) -> Result<PodSpec, AssignError> {
    let key = context.pki.node(name).and_then(|record| record.sealing_key());
    let mut sealer = |values: &[Vec<u8>]| match &key {
        Some(key) => key.seal(context.pki.identity(), values),
        // A node that never joined cannot be running; nothing may leave in the clear.
        None => Vec::new(),
    };
    assign::assign(pod, &view(node), &Sources(context), &mut sealer)
}

fn view(node: &Node) -> NodeView {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref());
    let internal = addresses.and_then(|all| all.iter().find(|address| address.type_ == "InternalIP"));
    NodeView {
        address: internal.map(|address| address.address.clone()).unwrap_or_default(),
        allocatable: status.and_then(|status| status.allocatable.clone()).unwrap_or_default(),
    }
}
