//! Lists whose items are told apart by a key, and the order that merging leaves them in.
//!
//! Everything goes through indexes: a patch of 3 MB may hold a list of 100,000 items.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// What makes two items the same one: the key's value, or a plain value itself.
fn identity(key: Option<&str>, item: &Value) -> Option<String> {
    match key {
        Some(key) => item.get(key).map(Value::to_string),
        None => Some(item.to_string()),
    }
}

/// A list of objects with a key, merged item by item.
pub(super) struct List {
    key: &'static str,
    items: Vec<Value>,
    /// Where the item with a key's value stands; the first one where there are several.
    places: HashMap<String, usize>,
}

impl List {
    /// The list without the items whose key has one of the `doomed` values.
    pub(super) fn without(key: &'static str, items: Vec<Value>, doomed: &[Value]) -> Self {
        let doomed: HashSet<String> = doomed.iter().map(Value::to_string).collect();
        let mut list = Self { key, items: Vec::with_capacity(items.len()), places: HashMap::new() };
        for item in items {
            match identity(Some(key), &item) {
                Some(identity) if doomed.contains(&identity) => (),
                Some(_) | None => list.push(item),
            }
        }
        list
    }

    pub(super) fn find(&mut self, value: &Value) -> Option<&mut Map<String, Value>> {
        let place = *self.places.get(&value.to_string())?;
        self.items.get_mut(place)?.as_object_mut()
    }

    pub(super) fn push(&mut self, item: Value) {
        if let Some(identity) = identity(Some(self.key), &item) {
            self.places.entry(identity).or_insert(self.items.len());
        }
        self.items.push(item);
    }

    pub(super) fn into_items(self) -> Vec<Value> {
        self.items
    }
}

/// Both lists' plain values, each once.
pub(super) fn union(before: &[Value], patch: &[Value]) -> Vec<Value> {
    let mut seen = HashSet::new();
    before.iter().chain(patch).filter(|item| seen.insert(item.to_string())).cloned().collect()
}

/// A set without the `doomed` values.
pub(super) fn remove(items: &mut Vec<Value>, doomed: &[Value]) {
    let doomed: HashSet<String> = doomed.iter().map(Value::to_string).collect();
    items.retain(|item| !doomed.contains(&item.to_string()));
}

/// The order of a merged list. Items that the patch tells of come in the patch's order, items that
/// only the server knows keep theirs; one of the latter goes first only if it stood before the next
/// of the former all along. So new items come before what was there.
pub(super) struct Order {
    /// `None` for plain values.
    key: Option<&'static str>,
    wanted: HashMap<String, usize>,
    before: HashMap<String, usize>,
}

/// An item, with its place in the patch's order and in the former one.
struct Placed {
    item: Value,
    wanted: Option<usize>,
    before: Option<usize>,
}

impl Order {
    pub(super) fn new(key: Option<&'static str>, wanted: &[Value], before: &[Value]) -> Self {
        let places = |list: &[Value]| {
            let mut places = HashMap::new();
            for (place, item) in list.iter().enumerate() {
                if let Some(identity) = identity(key, item) {
                    places.entry(identity).or_insert(place);
                }
            }
            places
        };
        Self { key, wanted: places(wanted), before: places(before) }
    }

    pub(super) fn arrange(&self, merged: Vec<Value>) -> Vec<Value> {
        let placed = merged.into_iter().map(|item| {
            let identity = identity(self.key, &item);
            let place = |places: &HashMap<String, usize>| identity.as_ref().and_then(|id| places.get(id).copied());
            Placed { wanted: place(&self.wanted), before: place(&self.before), item }
        });
        let (mut told, mut others): (Vec<Placed>, Vec<Placed>) = placed.partition(|item| item.wanted.is_some());
        told.sort_by_key(|item| item.wanted);
        others.sort_by_key(|item| item.before);
        let mut arranged = Vec::with_capacity(told.len() + others.len());
        let (mut told, mut others) = (told.into_iter().peekable(), others.into_iter().peekable());
        while let (Some(next_told), Some(next_other)) = (told.peek(), others.peek()) {
            let stood_first = match (next_other.before, next_told.before) {
                (Some(other), Some(told)) => other < told,
                (None, _) | (_, None) => false,
            };
            arranged.extend(if stood_first { others.next() } else { told.next() });
        }
        arranged.extend(told);
        arranged.extend(others);
        arranged.into_iter().map(|placed| placed.item).collect()
    }
}

/// Whether the patch's items, without the ones it deletes, stand in the order that it asks for.
pub(super) fn is_in_order(key: Option<&'static str>, patch: &[Value], wanted: &[Value]) -> bool {
    let mut wanted = wanted.iter().map(|item| identity(key, item));
    let mut kept = patch.iter().filter(|item| item.get("$patch").is_none()).map(|item| identity(key, item));
    kept.all(|item| item.is_some() && wanted.any(|candidate| candidate == item))
}
