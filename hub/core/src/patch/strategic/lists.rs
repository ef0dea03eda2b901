//! Lists whose items are told apart by a key, and the order that merging leaves them in.

use serde_json::{Map, Value};

/// A list of objects with a key.
pub(super) struct List {
    pub(super) key: &'static str,
    pub(super) items: Vec<Value>,
}

impl List {
    pub(super) fn find(&mut self, value: &Value) -> Option<&mut Map<String, Value>> {
        let key = self.key;
        self.items.iter_mut().filter_map(Value::as_object_mut).find(|item| item.get(key) == Some(value))
    }

    pub(super) fn remove(&mut self, value: &Value) {
        let key = self.key;
        self.items.retain(|item| item.get(key) != Some(value));
    }
}

/// The order of a merged list. Items that the patch tells of come in the patch's order, items that
/// only the server knows keep theirs; one of the latter goes first only if it stood before the next
/// of the former all along. So new items come before what was there.
pub(super) struct Order<'a> {
    /// `None` for plain values.
    pub(super) key: Option<&'static str>,
    pub(super) wanted: &'a [Value],
    pub(super) before: &'a [Value],
}

impl Order<'_> {
    pub(super) fn arrange(&self, merged: Vec<Value>) -> Vec<Value> {
        let (mut told, mut others): (Vec<Value>, Vec<Value>) =
            merged.into_iter().partition(|item| self.place(self.wanted, item).is_some());
        told.sort_by_key(|item| self.place(self.wanted, item));
        others.sort_by_key(|item| self.place(self.before, item));
        let mut arranged = Vec::with_capacity(told.len() + others.len());
        let (mut told, mut others) = (told.into_iter().peekable(), others.into_iter().peekable());
        while let (Some(next_told), Some(next_other)) = (told.peek(), others.peek()) {
            let stood_first = match (self.place(self.before, next_other), self.place(self.before, next_told)) {
                (Some(other), Some(told)) => other < told,
                (None, _) | (_, None) => false,
            };
            arranged.extend(if stood_first { others.next() } else { told.next() });
        }
        arranged.extend(told);
        arranged.extend(others);
        arranged
    }

    fn place(&self, list: &[Value], item: &Value) -> Option<usize> {
        list.iter().position(|candidate| is_same(self.key, candidate, item))
    }
}

fn is_same(key: Option<&str>, a: &Value, b: &Value) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// Whether the patch's items, without the ones it deletes, stand in the order that it asks for.
pub(super) fn is_in_order(key: Option<&'static str>, patch: &[Value], wanted: &[Value]) -> bool {
    let mut wanted = wanted.iter();
    let mut kept = patch.iter().filter(|item| item.get("$patch").is_none());
    kept.all(|item| wanted.any(|candidate| is_same(key, candidate, item)))
}
