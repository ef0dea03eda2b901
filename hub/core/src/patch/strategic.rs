//! Strategic merge patches: a partial object whose lists are merged by their items' keys.
//!
//! Besides values a patch has directives:
//! `$patch: replace | delete | merge` in an object or as an item of a list; `$retainKeys: [..]` drops an
//! object's other fields; `$setElementOrder/<list>: [..]` puts a list in order;
//! `$deleteFromPrimitiveList/<list>: [..]` takes values out of a set.

mod lists;

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{PatchError, StrategicProblem};
use crate::body::MOST_DEPTH;
use crate::schema::{Merge, Shape, Type};
use lists::{List, Order};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into an object of a type.
pub(super) fn merge(
    type_: &Type,
    original: &mut Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<(), PatchError> {
    let shape = Shape::Object(type_.name().to_owned());
    Merger { path: Vec::new() }.object(&shape, original, patch)
}

/// What the `$patch` directive of an object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

impl Directive {
    /// Takes the directive out of a patch; merging is what goes without saying.
    fn take(patch: &mut Map<String, Value>) -> Result<Self, PatchError> {
        match patch.shift_remove(PATCH) {
            None => Ok(Self::Merge),
            Some(Value::String(text)) => match text.as_str() {
                "merge" => Ok(Self::Merge),
                "replace" => Ok(Self::Replace),
                "delete" => Ok(Self::Delete),
                _ => Err(PatchError::UnknownDirective(text)),
            },
            Some(other) => Err(PatchError::UnknownDirective(other.to_string())),
        }
    }
}

/// Carries where it is, for errors.
struct Merger {
    path: Vec<String>,
}

impl Merger {
    fn object(
        &mut self,
        shape: &Shape,
        original: &mut Map<String, Value>,
        mut patch: Map<String, Value>,
    ) -> Result<(), PatchError> {
        if self.path.len() > MOST_DEPTH {
            return Err(self.error(StrategicProblem::TooDeep));
        }
        match Directive::take(&mut patch)? {
            Directive::Merge => (),
            Directive::Replace => {
                *original = plain_object(patch);
                return Ok(());
            }
            Directive::Delete => {
                original.clear();
                return Ok(());
            }
        }
        self.retain_keys(original, &mut patch)?;
        self.ordered_lists(shape, original, &mut patch)?;
        // One pass, not a removal each: those shift what comes after.
        original.retain(|name, _| !patch.get(name).is_some_and(Value::is_null));
        for (name, value) in patch.into_iter().filter(|(_, value)| !value.is_null()) {
            self.path.push(name.clone());
            match name.strip_prefix(DELETE_FROM) {
                Some(list) => self.delete_from(original, list, &value)?,
                None => self.field(shape, original, name, value)?,
            }
            self.path.pop();
        }
        Ok(())
    }

    /// Drops the fields that the client does not list: one of several alternatives took over.
    fn retain_keys(&self, original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
        let Some(keys) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
        let Value::Array(keys) = keys else {
            return Err(self.error(StrategicProblem::DirectiveNotAList(RETAIN_KEYS)));
        };
        let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
        let is_listed = |name: &str| keys.contains(name);
        let is_directive = |name: &str| name.starts_with(SET_ORDER) || name.starts_with(DELETE_FROM);
        let stray = patch.iter().find(|(name, value)| !value.is_null() && !is_directive(name) && !is_listed(name));
        if let Some((name, _)) = stray {
            return Err(self.error(StrategicProblem::RetainKeysMissing(name.clone())));
        }
        original.retain(|name, _| is_listed(name));
        Ok(())
    }

    /// Merges the lists that come with `$setElementOrder`, and takes them out of the patch.
    fn ordered_lists(
        &mut self,
        shape: &Shape,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
    ) -> Result<(), PatchError> {
        let lists: Vec<String> =
            patch.keys().filter_map(|name| name.strip_prefix(SET_ORDER)).map(str::to_owned).collect();
        for name in lists {
            self.path.push(name.clone());
            let order = match patch.swap_remove(&format!("{SET_ORDER}{name}")) {
                Some(Value::Array(order)) => order,
                _ => return Err(self.error(StrategicProblem::DirectiveNotAList("$setElementOrder"))),
            };
            if let Some(doomed) = patch.swap_remove(&format!("{DELETE_FROM}{name}")) {
                self.delete_from(original, &name, &doomed)?;
            }
            let before = match original.get(&name) {
                Some(Value::Array(before)) => before.clone(),
                _ => Vec::new(),
            };
            let (field_shape, merge) = field_of(shape, &name);
            match patch.swap_remove(&name) {
                // A null or a value of another type: nothing to put in order.
                Some(
                    value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)),
                ) => {
                    self.field(shape, original, name.clone(), value)?;
                }
                Some(Value::Array(items)) => {
                    if !lists::is_in_order(merge.key(), &items, &order) {
                        return Err(self.error(StrategicProblem::OrderMismatch));
                    }
                    self.list(field_shape, merge, original, &name, items)?;
                }
                None => (),
            }
            if let Some(Value::Array(merged)) = original.get_mut(&name) {
                *merged = Order::new(merge.key(), &order, &before).arrange(std::mem::take(merged));
            }
            self.path.pop();
        }
        Ok(())
    }

    fn delete_from(&self, original: &mut Map<String, Value>, list: &str, doomed: &Value) -> Result<(), PatchError> {
        let Value::Array(doomed) = doomed else {
            return Err(self.error(StrategicProblem::DirectiveNotAList("$deleteFromPrimitiveList")));
        };
        if let Some(Value::Array(items)) = original.get_mut(list) {
            lists::remove(items, doomed);
        }
        Ok(())
    }

    fn field(
        &mut self,
        shape: &Shape,
        original: &mut Map<String, Value>,
        name: String,
        patch: Value,
    ) -> Result<(), PatchError> {
        let (field_shape, merge) = field_of(shape, &name);
        match (original.get_mut(&name), patch) {
            (_, Value::Null) => {
                original.shift_remove(&name);
                Ok(())
            }
            (Some(Value::Object(object)), Value::Object(patch)) => self.object(field_shape, object, patch),
            (Some(Value::Array(_)), Value::Array(items)) => self.list(field_shape, merge, original, &name, items),
            (Some(_) | None, value) => {
                match plain(value) {
                    Some(value) => original.insert(name, value),
                    None => original.shift_remove(&name),
                };
                Ok(())
            }
        }
    }

    fn list(
        &mut self,
        shape: &Shape,
        merge: Merge,
        original: &mut Map<String, Value>,
        name: &str,
        patch: Vec<Value>,
    ) -> Result<(), PatchError> {
        let before = match original.get_mut(name) {
            Some(Value::Array(before)) => std::mem::take(before),
            _ => Vec::new(),
        };
        let merged = match merge {
            Merge::Default | Merge::RetainKeys => patch.into_iter().filter_map(plain).collect(),
            Merge::Set => Order::new(None, &patch, &before).arrange(lists::union(&before, &patch)),
            Merge::ByKey(key) | Merge::ByKeyRetaining(key) => {
                let item_shape = if let Shape::List(item) = shape { item } else { &Shape::Anything };
                self.keyed_list(item_shape, key, before, patch)?
            }
        };
        original.insert(name.to_owned(), Value::Array(merged));
        Ok(())
    }

    fn keyed_list(
        &mut self,
        item_shape: &Shape,
        key: &'static str,
        before: Vec<Value>,
        patch: Vec<Value>,
    ) -> Result<Vec<Value>, PatchError> {
        let order = Order::new(Some(key), &patch, &before);
        let (mut merging, mut doomed) = (Vec::new(), Vec::new());
        let mut replaced = false;
        for item in patch {
            let Value::Object(mut item) = item else { return Err(self.error(StrategicProblem::ItemNotAnObject)) };
            match Directive::take(&mut item)? {
                Directive::Replace => replaced = true,
                Directive::Delete => doomed.push(self.key_of(key, &item)?.clone()),
                Directive::Merge => merging.push(item),
            }
        }
        if replaced {
            return Ok(merging.into_iter().map(|item| Value::Object(plain_object(item))).collect());
        }
        let mut list = List::without(key, before, &doomed);
        for item in merging {
            let value = self.key_of(key, &item)?.clone();
            match list.find(&value) {
                Some(existing) => self.object(item_shape, existing, item)?,
                None => list.push(Value::Object(plain_object(item))),
            }
        }
        Ok(order.arrange(list.into_items()))
    }

    fn key_of<'a>(&self, key: &'static str, item: &'a Map<String, Value>) -> Result<&'a Value, PatchError> {
        item.get(key).ok_or_else(|| self.error(StrategicProblem::NoMergeKey(key)))
    }

    fn error(&self, problem: StrategicProblem) -> PatchError {
        let path = if self.path.is_empty() { "the top".to_owned() } else { self.path.join(".") };
        PatchError::Strategic { path, problem }
    }
}

/// The shape and the rule of a field; what has no type is merged like plain JSON.
fn field_of<'a>(shape: &'a Shape, name: &str) -> (&'a Shape, Merge) {
    match shape {
        Shape::Object(_) => match shape.type_().and_then(|type_| type_.field(name)) {
            Some(field) => (&field.shape, field.merge),
            None => (&Shape::Anything, Merge::Default),
        },
        Shape::Map(values) => (values, Merge::Default),
        Shape::Text
        | Shape::Bytes
        | Shape::Time
        | Shape::Integer(_)
        | Shape::Number
        | Shape::Switch
        | Shape::Quantity
        | Shape::IntegerOrText
        | Shape::Anything
        | Shape::List(_) => (&Shape::Anything, Merge::Default),
    }
}

/// A new value without the patch's directives and nulls; `None` if it is itself about deletion.
fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(mut object) => match Directive::take(&mut object) {
            Ok(Directive::Delete) => None,
            Ok(Directive::Merge | Directive::Replace) | Err(_) => Some(Value::Object(plain_object(object))),
        },
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(plain).collect())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value),
    }
}

fn plain_object(object: Map<String, Value>) -> Map<String, Value> {
    let is_directive = |name: &str| {
        name == PATCH || name == RETAIN_KEYS || name.starts_with(SET_ORDER) || name.starts_with(DELETE_FROM)
    };
    let kept = object.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
    kept.filter_map(|(name, value)| Some((name, plain(value)?))).collect()
}

#[cfg(test)]
mod tests;
