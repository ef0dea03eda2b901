//! Field selectors: `spec.nodeName=n1,status.phase!=Failed`.

use std::borrow::Cow;

use serde_json::Value;

use super::MOST_TEXT;
use crate::kinds::Resource;
use crate::object::Object;
use crate::schema::{self, Shape};

/// Comparisons that must all hold; without any, everything matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector(Vec<Comparison>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    field: String,
    operator: Operator,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("selector is longer than {MOST_TEXT} bytes")]
    TooLong,
    #[error("invalid selector: '{0}'; can't understand '{0}'")]
    Syntax(String),
    #[error("invalid field selector: bad escape sequence in {0:?}")]
    Escape(String),
    #[error("field label not supported: {0}")]
    Unsupported(String),
}

impl FieldSelector {
    /// Reads a query string. Commas, equal signs and backslashes in values are escaped with a backslash.
    ///
    /// # Errors
    /// Another syntax.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        if text.len() > MOST_TEXT {
            return Err(FieldSelectorError::TooLong);
        }
        let terms = split_terms(text).into_iter().filter(|term| !term.is_empty());
        terms.map(Comparison::parse).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `field` must have, where the selector says so: watchers of one object are many.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let exact = |c: &&Comparison| c.field == field && c.operator == Operator::Equal;
        self.0.iter().find(exact).map(|c| c.value.as_str())
    }

    /// That the resource lets itself be selected by these fields.
    ///
    /// # Errors
    /// The first field that it does not know.
    pub fn check(&self, resource: &Resource) -> Result<(), FieldSelectorError> {
        match self.0.iter().find(|c| path(resource, &c.field).is_none()) {
            Some(unknown) => Err(FieldSelectorError::Unsupported(unknown.field.clone())),
            None => Ok(()),
        }
    }

    /// Whether an object matches; a field that the resource does not know matches nothing.
    pub fn matches(&self, resource: &Resource, object: &Object) -> bool {
        self.0.iter().all(|c| {
            path(resource, &c.field).is_some_and(|path| match object.at(path) {
                None | Some(Value::Null) => c.holds(zero(resource, path)),
                Some(value) => text(value).is_some_and(|text| c.holds(&text)),
            })
        })
    }
}

const NAME: &[&str] = &["metadata", "name"];
const NAMESPACE: &[&str] = &["metadata", "namespace"];

fn path(resource: &Resource, field: &str) -> Option<&'static [&'static str]> {
    match field {
        "metadata.name" => Some(NAME),
        "metadata.namespace" => Some(NAMESPACE),
        _ => resource.selectable_fields.iter().find(|(label, _)| *label == field).map(|(_, path)| *path),
    }
}

impl Comparison {
    fn parse(term: &str) -> Result<Self, FieldSelectorError> {
        let syntax = || FieldSelectorError::Syntax(term.to_owned());
        let at = unescaped(term, |rest| rest.starts_with('=') || rest.starts_with("!=")).ok_or_else(syntax)?;
        let (field, rest) = term.split_at(at);
        let (operator, value) = match (rest.strip_prefix("!="), rest.strip_prefix("==")) {
            (Some(value), _) => (Operator::NotEqual, value),
            (None, Some(value)) => (Operator::Equal, value),
            (None, None) => (Operator::Equal, &rest[1..]),
        };
        // Blanks around the name and the value are no part of them, as in label selectors.
        let (field, value) = (field.trim(), value.trim());
        if field.is_empty() {
            return Err(syntax());
        }
        Ok(Self { field: field.to_owned(), operator, value: unescape(value)? })
    }

    fn holds(&self, value: &str) -> bool {
        match self.operator {
            Operator::Equal => value == self.value,
            Operator::NotEqual => value != self.value,
        }
    }
}

/// A plain value as selectors write it; objects and lists match nothing.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(switch) => Some(Cow::Owned(switch.to_string())),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A field that is absent reads as the zero of its type.
fn zero(resource: &Resource, path: &[&str]) -> &'static str {
    match schema::of_kind(&resource.api_version(), resource.kind).and_then(|type_| type_.shape_at(path)) {
        Some(Shape::Switch) => "false",
        Some(Shape::Integer(_)) => "0",
        Some(_) | None => "",
    }
}

/// Where `found` first holds outside an escape.
fn unescaped(text: &str, found: impl Fn(&str) -> bool) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        if !escaped && found(&text[at..]) {
            return Some(at);
        }
        escaped = !escaped && letter == '\\';
    }
    None
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut rest = text;
    while let Some(at) = unescaped(rest, |rest| rest.starts_with(',')) {
        terms.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    terms.push(rest);
    terms
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let bad = || FieldSelectorError::Escape(value.to_owned());
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.push(letters.next().filter(|next| "\\,=".contains(*next)).ok_or_else(bad)?),
            // Anyone who wrote these bare meant something else.
            ',' | '=' => return Err(bad()),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::kinds::of_kind;

    #[track_caller]
    fn check(text: &str, answer: &str) {
        let pod = json!({"metadata": {"name": "p", "namespace": "a,b"}, "status": {"phase": "Running"}});
        let pod = Object::from_value(pod).unwrap();
        let pods = of_kind("v1", "Pod").unwrap();
        let got = match FieldSelector::parse(text).and_then(|s| s.check(pods).map(|()| s)) {
            Ok(selector) => selector.matches(pods, &pod).to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, answer, "{text:?}");
    }

    #[test]
    fn compares() {
        check("", "true");
        check("metadata.name=p", "true");
        check("metadata.name==p,status.phase=Running", "true");
        check(" metadata.name = p ", "true");
        check("status.phase!=Running", "false");
        check("status.phase!=Failed,status.phase!=Succeeded", "true");
        check("spec.nodeName=", "true");
        check("spec.nodeName!=", "false");
        check("spec.hostNetwork=false", "true");
        check("spec.hostNetwork=true", "false");
        check("spec.nodeName=false", "false");
        check(r"metadata.namespace=a\,b", "true");
        check("metadata.name=p,", "true");
    }

    #[test]
    fn refuses() {
        check("spec.color=red", "field label not supported: spec.color");
        check("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'");
        check("=p", "invalid selector: '=p'; can't understand '=p'");
        check(r"metadata.name=\p", r#"invalid field selector: bad escape sequence in "\\p""#);
        check("metadata.name=a=b", r#"invalid field selector: bad escape sequence in "a=b""#);
        check(r"metadata.name=a\", r#"invalid field selector: bad escape sequence in "a\\""#);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"[a-z.=!,\\ é]{0,20}") {
            let _ = FieldSelector::parse(&text);
        }
    }

    #[test]
    fn finds_exact_values() {
        let selector = FieldSelector::parse("metadata.name=p,status.phase!=Failed").unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("p"));
        assert_eq!(selector.exact("status.phase"), None);
    }
}
