//! A container's memory: one budget over all its instances, and the memory of having been refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// Core instances, tables and memories of one store: a component of an adapted module has four instances; these
/// leave room for composed ones and bound what a hostile one can ask for.
const INSTANCES_MAX: usize = 64;
const TABLES_MAX: usize = 64;
const MEMORIES_MAX: usize = 16;

/// Host bytes behind one table entry.
const TABLE_ENTRY: usize = size_of::<usize>();

/// Bytes of linear memory and tables that the instances of one container hold together.
///
/// A container's budget is a part of the node's: a guest without a limit of its own must not bring down the agent,
/// and with it every other pod.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
    /// The last growth was refused: what the guest dies of next is taken for want of memory.
    starved: AtomicBool,
    node: Option<Arc<Budget>>,
}

impl Budget {
    /// What all guests of the node may hold; `None` is no limit.
    pub(crate) fn of_node(limit: Option<u64>) -> Arc<Self> {
        Self::new(limit, None)
    }

    /// What one container may hold of it; `None` is whatever the node has left.
    pub(crate) fn of_container(limit: Option<u64>, node: &Arc<Self>) -> Arc<Self> {
        Self::new(limit, Some(node.clone()))
    }

    fn new(limit: Option<u64>, node: Option<Arc<Self>>) -> Arc<Self> {
        let limit = limit.unwrap_or(u64::MAX);
        Arc::new(Self { limit, used: AtomicU64::new(0), starved: AtomicBool::new(false), node })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// All or nothing, here and on the node.
    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let here = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        let taken = here && self.node.as_ref().is_none_or(|node| node.take(bytes));
        if here && !taken {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.starved.store(!taken, Ordering::Relaxed);
        taken
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(node) = &self.node {
            node.give_back(bytes);
        }
    }
}

/// One store's share of its container's budget, given back when the store is dropped.
#[derive(Debug)]
pub(crate) struct StoreMemory {
    budget: Arc<Budget>,
    held: u64,
    /// Granted last, in case the system refuses it after we have not.
    last: u64,
}

impl StoreMemory {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), held: 0, last: 0 }
    }

    fn grow(&mut self, current: usize, desired: usize, unit: usize) -> bool {
        let bytes = (desired.saturating_sub(current) as u64).saturating_mul(unit as u64);
        let granted = self.budget.take(bytes);
        self.last = if granted { bytes } else { 0 };
        self.held += self.last;
        granted
    }

    fn failed(&mut self) {
        self.budget.give_back(self.last);
        self.held -= self.last;
        self.last = 0;
        self.budget.starved.store(true, Ordering::Relaxed);
    }
}

impl ResourceLimiter for StoreMemory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, 1))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(error = %format!("{error:#}"), "the system refused a guest memory");
        self.failed();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, TABLE_ENTRY))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

impl Drop for StoreMemory {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_share_a_budget_and_give_it_back() {
        let budget = Budget::of_container(Some(100), &Budget::of_node(None));
        let (mut one, mut two) = (StoreMemory::new(&budget), StoreMemory::new(&budget));
        assert!(one.memory_growing(0, 60, None).unwrap());
        assert!(!two.memory_growing(0, 60, None).unwrap());
        assert!(budget.starved());
        assert!(two.memory_growing(0, 40, None).unwrap());
        assert!(!budget.starved(), "a later growth succeeded");
        assert_eq!(budget.used(), 100);
        drop(one);
        assert_eq!(budget.used(), 40);
        assert!(!two.table_growing(0, 10, None).unwrap(), "a table entry is eight bytes");
        drop(two);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn containers_without_a_limit_share_the_node() {
        let node = Budget::of_node(Some(100));
        let (small, greedy) = (Budget::of_container(Some(50), &node), Budget::of_container(None, &node));
        let (mut one, mut two) = (StoreMemory::new(&small), StoreMemory::new(&greedy));
        assert!(two.memory_growing(0, 60, None).unwrap());
        assert!(!one.memory_growing(0, 50, None).unwrap());
        assert_eq!((small.used(), node.used()), (0, 60), "refused by the node, so not taken here either");
        assert!(small.starved());
        assert!(one.memory_growing(0, 40, None).unwrap());
        drop((one, two));
        assert_eq!(node.used(), 0);
    }

    #[test]
    fn what_the_system_refuses_is_not_counted() {
        let budget = Budget::of_container(None, &Budget::of_node(None));
        let mut one = StoreMemory::new(&budget);
        assert!(one.memory_growing(0, 10, None).unwrap());
        assert!(one.memory_growing(10, 30, None).unwrap());
        one.memory_grow_failed(wasmtime::format_err!("no")).unwrap();
        assert_eq!(budget.used(), 10);
        assert!(budget.starved());
        // A growth that we refused ourselves is reported as no failure of the system's.
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
