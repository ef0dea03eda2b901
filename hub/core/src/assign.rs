//! Pod -> what its node is told of it.

pub mod annotation;
pub(crate) mod downward;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;

/// What a pod's environment may say of its node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// Its address in its own network; empty if it told none.
    pub address: String,
    /// What pods may use of it: stands in for limits that a container does not set.
    pub allocatable: BTreeMap<String, QuantityText>,
}
