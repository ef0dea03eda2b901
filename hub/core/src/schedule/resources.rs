//! Requests and capacities, added up.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;

use crate::quantity::Quantity;

/// What a pod without requests counts as in scores.
const USUAL_CPU: i64 = 100;
const USUAL_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource name: CPU in thousandths, everything else in units or bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) others: BTreeMap<String, i64>,
}

impl Amounts {
    /// Reads `status.allocatable` or `requests`. What is no quantity counts as nothing: admission
    /// refuses it in pods, and a node that says it has none of it.
    pub(super) fn new(list: Option<&BTreeMap<String, QuantityText>>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in list.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&text.0) else { continue };
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                _ => drop(amounts.others.insert(name.clone(), quantity.value())),
            }
        }
        amounts
    }

    /// What a pod asks for: all containers together, or the most that one init container needs
    /// (they run one after the other), plus overhead.
    pub(super) fn requested(spec: &PodSpec) -> Self {
        Self::of_pod(spec, |container| Self::new(container.resources.as_ref().and_then(|r| r.requests.as_ref())))
    }

    /// The same for scores: a container that asks for nothing still uses something.
    pub(super) fn expected(spec: &PodSpec) -> Self {
        Self::of_pod(spec, |container| {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let asks = |name: &str| requests.is_some_and(|requests| requests.contains_key(name));
            let mut amounts = Self::new(requests);
            if !asks("cpu") {
                amounts.cpu = USUAL_CPU;
            }
            if !asks("memory") {
                amounts.memory = USUAL_MEMORY;
            }
            amounts
        })
    }

    fn of_pod(spec: &PodSpec, of: impl Fn(&Container) -> Self) -> Self {
        let mut total = Self::default();
        spec.containers.iter().for_each(|container| total.add(&of(container)));
        spec.init_containers.iter().flatten().for_each(|container| total.raise_to(&of(container)));
        total.add(&Self::new(spec.overhead.as_ref()));
        total
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
        for (name, amount) in &other.others {
            let slot = self.others.entry(name.clone()).or_default();
            *slot = slot.saturating_add(*amount);
        }
    }

    fn raise_to(&mut self, other: &Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.memory = self.memory.max(other.memory);
        for (name, amount) in &other.others {
            let slot = self.others.entry(name.clone()).or_default();
            *slot = (*slot).max(*amount);
        }
    }

    /// The resources of which `capacity`, less what is `used`, has not enough. CPU and memory first.
    pub(super) fn lacking(&self, capacity: &Self, used: &Self) -> Vec<String> {
        let lacks = |wanted: i64, capacity: i64, used: i64| wanted > 0 && wanted > capacity.saturating_sub(used);
        let mut names = Vec::new();
        if lacks(self.cpu, capacity.cpu, used.cpu) {
            names.push("cpu".to_owned());
        }
        if lacks(self.memory, capacity.memory, used.memory) {
            names.push("memory".to_owned());
        }
        let of = |amounts: &Self, name: &String| amounts.others.get(name).copied().unwrap_or(0);
        let others = self.others.iter().filter(|(name, wanted)| lacks(**wanted, of(capacity, name), of(used, name)));
        names.extend(others.map(|(name, _)| name.clone()));
        names
    }
}
