//! Patches: the ways a client says what to change instead of what the whole shall be.
//!
//! ```text
//! application/json-patch+json               a list of operations (RFC 6902)
//! application/merge-patch+json              a partial object, null removes (RFC 7386)
//! application/strategic-merge-patch+json    the same, and lists are merged by their items' keys
//! ```

mod strategic;

use json_patch::PatchOperation;
use serde_json::Value;

use crate::body;
use crate::object::Object;
use crate::schema::Type;
use crate::status::ApiError;

/// More operations than any client sends at once. Kubernetes' bound is 10,000, but each may walk the
/// whole document here.
const MOST_OPERATIONS: usize = 1_000;
/// `copy` can double a document with each operation: the bytes copied in total, as Kubernetes bounds them.
const MOST_COPIED: usize = 3 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error("patch is no list of operations: {0}")]
    NotOperations(String),
    #[error("the allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    #[error("json patch copies more than {MOST_COPIED} bytes")]
    CopiesTooMuch,
    #[error("json patch nests values deeper than {} levels", body::MOST_DEPTH)]
    TooDeep,
    #[error("{0}")]
    Operation(String),
    #[error("patch must be a JSON object")]
    NotAnObject,
    #[error("patch makes the object something else than a JSON object")]
    ObjectLost,
    #[error("strategic merge patches are not defined for this kind")]
    NoStrategy,
    #[error("unknown patch type found: {0}")]
    UnknownDirective(String),
    #[error("invalid patch at {path}: {problem}")]
    Strategic { path: String, problem: StrategicProblem },
}

/// What a strategic merge patch got wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicProblem {
    #[error("map does not contain declared merge key: {0}")]
    NoMergeKey(&'static str),
    #[error("list items must be objects")]
    ItemNotAnObject,
    #[error("{0} must be a list")]
    DirectiveNotAList(&'static str),
    #[error("the order in patch list doesn't match $setElementOrder list")]
    OrderMismatch,
    #[error("the $retainKeys list doesn't contain the patch's field {0:?}")]
    RetainKeysMissing(String),
    #[error("patch is nested deeper than {} levels", body::MOST_DEPTH)]
    TooDeep,
}

impl PatchKind {
    /// By the request's `Content-Type`; parameters such as `charset` are ignored.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// The object as the patch makes it. `type_` tells a strategic patch how lists merge.
///
/// # Errors
/// A patch that is malformed, or that does not fit the object.
pub fn apply(kind: PatchKind, object: &Object, patch: Value, type_: Option<&Type>) -> Result<Object, PatchError> {
    let mut document = object.clone().into_value();
    match kind {
        PatchKind::Json => json(&mut document, patch)?,
        PatchKind::Merge if patch.is_object() => json_patch::merge(&mut document, &patch),
        PatchKind::Merge => return Err(PatchError::NotAnObject),
        PatchKind::Strategic => {
            let type_ = type_.ok_or(PatchError::NoStrategy)?;
            let (Value::Object(original), Value::Object(patch)) = (&mut document, patch) else {
                return Err(PatchError::NotAnObject);
            };
            strategic::merge(type_, original, patch)?;
        }
    }
    Object::from_value(document).ok_or(PatchError::ObjectLost)
}

fn json(document: &mut Value, patch: Value) -> Result<(), PatchError> {
    let operations: Vec<PatchOperation> =
        serde_json::from_value(patch).map_err(|error| PatchError::NotOperations(error.to_string()))?;
    if operations.len() > MOST_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut copied = 0usize;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            let source = document.pointer(copy.from.as_str());
            copied = copied.saturating_add(source.map_or(0, |value| value.to_string().len()));
            if copied > MOST_COPIED {
                return Err(PatchError::CopiesTooMuch);
            }
        }
        if nests_too_deep(document, operation) {
            return Err(PatchError::TooDeep);
        }
        // The document is a copy already: no need to undo half a patch.
        json_patch::patch_unsafe(document, std::slice::from_ref(operation))
            .map_err(|error| PatchError::Operation(error.to_string()))?;
    }
    Ok(())
}

/// Whether an operation would put a value deeper than anything else may be. A document that grows
/// downwards step by step would end in a stack overflow, which nothing catches.
fn nests_too_deep(document: &Value, operation: &PatchOperation) -> bool {
    let (path, value) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Copy(copy) => (&copy.path, document.pointer(copy.from.as_str())),
        PatchOperation::Move(move_) => (&move_.path, document.pointer(move_.from.as_str())),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return false,
    };
    let above = path.as_str().matches('/').count();
    let left = body::MOST_DEPTH.checked_sub(above);
    value.is_some_and(|value| left.is_none_or(|left| !body::nests_within(value, left)))
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        let message = error.to_string();
        match error {
            // A failed `test` or a missing path: the patch is well-formed, but not for this object.
            PatchError::Operation(_) | PatchError::ObjectLost => Self::new(422, "Invalid", message),
            PatchError::TooManyOperations(_) | PatchError::CopiesTooMuch => {
                Self::new(413, "RequestEntityTooLarge", message)
            }
            PatchError::NoStrategy => Self::new(415, "UnsupportedMediaType", message),
            PatchError::NotOperations(_)
            | PatchError::TooDeep
            | PatchError::NotAnObject
            | PatchError::UnknownDirective(_)
            | PatchError::Strategic { .. } => Self::bad_request(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: PatchKind, object: Value, patch: Value, answer: Result<Value, &str>) {
        let object = Object::from_value(object).unwrap();
        let patched = apply(kind, &object, patch.clone(), None).map(Object::into_value).map_err(|e| e.to_string());
        assert_eq!(patched, answer.map_err(str::to_owned), "{patch}");
    }

    #[test]
    fn json_patches() {
        let check = |patch, answer| check(PatchKind::Json, json!({"a": {"b": [1, 2]}}), patch, answer);
        check(json!([]), Ok(json!({"a": {"b": [1, 2]}})));
        check(json!([{"op": "add", "path": "/a/b/-", "value": 3}]), Ok(json!({"a": {"b": [1, 2, 3]}})));
        check(json!([{"op": "add", "path": "/a/b/0", "value": 0}]), Ok(json!({"a": {"b": [0, 1, 2]}})));
        check(json!([{"op": "replace", "path": "/a/b", "value": null}]), Ok(json!({"a": {"b": null}})));
        check(json!([{"op": "remove", "path": "/a/b/1"}]), Ok(json!({"a": {"b": [1]}})));
        check(json!([{"op": "move", "from": "/a/b", "path": "/c"}]), Ok(json!({"a": {}, "c": [1, 2]})));
        check(
            json!([{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "add", "path": "/x~1y", "value": 1}]),
            Ok(json!({"a": {"b": [1, 2]}, "x/y": 1})),
        );
        check(
            json!([{"op": "replace", "path": "", "value": 1}]),
            Err("patch makes the object something else than a JSON object"),
        );
    }

    #[test]
    fn bad_json_patches_are_errors() {
        let object = Object::from_value(json!({"a": [1]})).unwrap();
        for patch in [
            json!({}),
            json!([{"op": "add"}]),
            json!([{"op": "jump", "path": "/a"}]),
            json!([{"op": "remove", "path": "/b"}]),
            json!([{"op": "remove", "path": "a"}]),
            json!([{"op": "add", "path": "/a/9", "value": 1}]),
            json!([{"op": "add", "path": "/a/x", "value": 1}]),
            json!([{"op": "replace", "path": "/a/18446744073709551616", "value": 1}]),
            json!([{"op": "test", "path": "/a/0", "value": 2}]),
            json!([{"op": "move", "from": "/a", "path": "/a/0"}]),
        ] {
            assert!(apply(PatchKind::Json, &object, patch.clone(), None).is_err(), "{patch}");
        }
        let doubling: Vec<Value> = (0..64)
            .flat_map(|i| {
                let path = format!("/a{i}");
                [json!({"op": "copy", "from": "", "path": path})]
            })
            .collect();
        assert_eq!(apply(PatchKind::Json, &object, Value::Array(doubling), None), Err(PatchError::CopiesTooMuch));
        // Copying the whole into its own depths doubles the depth.
        let deepening: Vec<Value> =
            (0..20).map(|i| json!({"op": "copy", "from": "", "path": "/x".repeat(1 << i)})).collect();
        let empty = Object::default();
        assert_eq!(apply(PatchKind::Json, &empty, Value::Array(deepening), None), Err(PatchError::TooDeep));
        let many = vec![json!({"op": "test", "path": "/a/0", "value": 1}); MOST_OPERATIONS + 1];
        assert_eq!(
            apply(PatchKind::Json, &object, Value::Array(many), None),
            Err(PatchError::TooManyOperations(MOST_OPERATIONS + 1))
        );
    }

    #[test]
    fn merge_patches() {
        let check = |patch, answer| check(PatchKind::Merge, json!({"a": {"b": 1, "c": [1]}, "d": 2}), patch, answer);
        check(json!({}), Ok(json!({"a": {"b": 1, "c": [1]}, "d": 2})));
        check(json!({"a": {"b": null, "c": [2], "e": {"f": null}}}), Ok(json!({"a": {"c": [2], "e": {}}, "d": 2})));
        check(json!({"d": {"x": 1}}), Ok(json!({"a": {"b": 1, "c": [1]}, "d": {"x": 1}})));
        check(json!([]), Err("patch must be a JSON object"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::from),
            "[a-c]|replace|delete|merge".prop_map(Value::String),
        ];
        let name = "spec|metadata|containers|finalizers|env|name|image|volumes|ports|\\$patch|\\$retainKeys|\\$setElementOrder/(containers|finalizers|env)|\\$deleteFromPrimitiveList/finalizers";
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map(name, inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_patch_panics(object in any_json(), patch in any_json()) {
            let type_ = crate::schema::of_kind("v1", "Pod");
            if let Some(object) = Object::from_value(object) {
                for kind in [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic] {
                    let _ = apply(kind, &object, patch.clone(), type_);
                }
            }
        }
    }

    #[test]
    fn content_types() {
        assert_eq!(PatchKind::of_content_type("application/merge-patch+json; charset=utf-8"), Some(PatchKind::Merge));
        assert_eq!(PatchKind::of_content_type("application/strategic-merge-patch+json"), Some(PatchKind::Strategic));
        assert_eq!(PatchKind::of_content_type("application/apply-patch+yaml"), None);
        assert_eq!(PatchKind::of_content_type(""), None);
    }
}
