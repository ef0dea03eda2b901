//! Request bodies as JSON: read once, with what `serde_json` alone does not tell.
//!
//! Duplicate fields are legal JSON whose meaning nobody agrees on, so they are reported with their
//! path. Nesting is bounded well below what would hurt a stack.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::status::ApiError;

/// The deepest nesting that is read. Kubernetes' own types need about 20; `serde_json` stops at 128.
pub const MOST_DEPTH: usize = 64;
/// Duplicates beyond this many are not reported.
const MOST_DUPLICATES: usize = 100;

/// A body, and the paths of fields that it has twice (the last one counts).
#[derive(Debug, PartialEq)]
pub struct Body {
    pub value: Value,
    pub duplicates: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("couldn't get version/kind; json parse error")]
    Syntax(#[source] serde_json::Error),
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let BodyError::Syntax(source) = &error;
        Self::bad_request(format!("{error}: {source}"))
    }
}

/// Reads JSON.
///
/// # Errors
/// No JSON, or JSON nested deeper than [`MOST_DEPTH`].
pub fn parse(bytes: &[u8]) -> Result<Body, BodyError> {
    let duplicates = RefCell::new(Vec::new());
    let seed = Seed { path: None, depth: 0, duplicates: &duplicates };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = seed.deserialize(&mut deserializer).map_err(BodyError::Syntax)?;
    deserializer.end().map_err(BodyError::Syntax)?;
    Ok(Body { value, duplicates: duplicates.into_inner() })
}

/// Whether a value from elsewhere (YAML) nests deeper than [`MOST_DEPTH`].
pub fn is_too_deep(value: &Value) -> bool {
    !nests_within(value, MOST_DEPTH)
}

/// Whether a value has at most `levels` of objects and lists inside each other.
pub(crate) fn nests_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => levels > 0 && items.iter().all(|item| nests_within(item, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|field| nests_within(field, levels - 1)),
    }
}

/// Where a value stands; a chain on the stack, made into text only for a duplicate.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_some() => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    path: Option<&'a Place<'a>>,
    depth: usize,
    duplicates: &'a RefCell<Vec<String>>,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= MOST_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MOST_DEPTH} levels")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        loop {
            let place = Place { parent: self.path, step: Step::Index(list.len()) };
            let seed = Seed { path: Some(&place), depth, duplicates: self.duplicates };
            match items.next_element_seed(seed)? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let place = Place { parent: self.path, step: Step::Field(&name) };
            let value = fields.next_value_seed(Seed { path: Some(&place), depth, duplicates: self.duplicates })?;
            if map.contains_key(&name) {
                let mut duplicates = self.duplicates.try_borrow_mut().map_err(A::Error::custom)?;
                if duplicates.len() < MOST_DUPLICATES {
                    duplicates.push(place.to_string());
                }
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, value: &str, duplicates: &[&str]) {
        let body = parse(text.as_bytes()).unwrap();
        assert_eq!(body.value.to_string(), value, "{text}");
        assert_eq!(body.duplicates, duplicates, "{text}");
    }

    #[test]
    fn duplicates_are_told() {
        check(r#"{"a": 1, "b": [null, true, -1, 1.5, "x"]}"#, r#"{"a":1,"b":[null,true,-1,1.5,"x"]}"#, &[]);
        check(r#"{"a": 1, "a": 2}"#, r#"{"a":2}"#, &["a"]);
        check(
            r#"{"spec": {"containers": [{}, {"env": 1, "env": 2}], "x": 1, "x": 1, "x": 1}}"#,
            r#"{"spec":{"containers":[{},{"env":2}],"x":1}}"#,
            &["spec.containers[1].env", "spec.x", "spec.x"],
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MOST_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MOST_DEPTH + 1).as_bytes()).is_err());
        assert!(parse(nested(1_000_000).as_bytes()).is_err());
        let value: Value = serde_json::from_str(&nested(MOST_DEPTH)).unwrap();
        assert!(!is_too_deep(&value));
        assert!(is_too_deep(&Value::Array(vec![value])));
    }

    #[test]
    fn bad_json_is_an_error() {
        for text in ["", "{", "{}x", "nul", "{\"a\"}", "\u{0}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}":,0-9a-c ]{0,24}"#) {
            let theirs: Option<Value> = serde_json::from_str(&text).ok();
            let ours = parse(text.as_bytes()).ok().map(|body| body.value);
            prop_assert_eq!(ours, theirs);
        }
    }
}
