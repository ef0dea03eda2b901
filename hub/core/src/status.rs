//! API errors: a `Status` object, worded and ordered as Kubernetes clients expect it.

use serde_json::{Map, Value, json};

/// What went wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, ...: what programs branch on.
    pub reason: &'static str,
    pub message: String,
    /// What the error is about; empty where it is about nothing in particular.
    pub group: String,
    pub kind: String,
    pub name: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: Option<u32>,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, ...
    pub reason: &'static str,
    pub message: String,
    /// `spec.containers[0].image`
    pub field: String,
}

impl ApiError {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            group: String::new(),
            kind: String::new(),
            name: String::new(),
            causes: Vec::new(),
            retry_after_seconds: None,
        }
    }

    /// Names what the error is about: the resource's plural (or kind) and the object's name.
    #[must_use]
    pub fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        (self.group, self.kind, self.name) = (group.to_owned(), kind.to_owned(), name.to_owned());
        self
    }

    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", qualified(plural, group)))
            .about(group, plural, name)
    }

    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(plural, group)))
            .about(group, plural, name)
    }

    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(plural, group));
        Self::new(409, "Conflict", message).about(group, plural, name)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// A watch or a `continue` token from before the kept history: the client lists again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// `Deployment.apps "web" is invalid: [spec.replicas: Invalid value: -1: must be ...]`
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let texts: Vec<String> = errors.iter().map(FieldError::text).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = Self::new(422, "Invalid", format!("{} {name:?} is invalid: {list}", qualified(kind, group)));
        error.causes = errors.into_iter().map(FieldError::into_cause).collect();
        error.about(group, kind, name)
    }

    /// The `Status` object, its fields in the order that clients compare.
    pub fn to_json(&self) -> Value {
        let mut details = Map::new();
        for (field, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !text.is_empty() {
                details.insert(field.to_owned(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            let causes: Vec<Value> = self
                .causes
                .iter()
                .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
                .collect();
            details.insert("causes".to_owned(), Value::Array(causes));
        }
        if let Some(seconds) = self.retry_after_seconds {
            details.insert("retryAfterSeconds".to_owned(), json!(seconds));
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        if let Value::Object(map) = &mut status {
            if !details.is_empty() {
                map.insert("details".to_owned(), Value::Object(details));
            }
            map.insert("code".to_owned(), json!(self.code));
        }
        status
    }
}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// A field that admission refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub path: String,
    pub problem: FieldProblem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldProblem {
    Required(String),
    /// The value as JSON, and what is wrong with it.
    Invalid(Value, String),
    /// The value, and what would be right.
    NotSupported(Value, Vec<String>),
    Duplicate(Value),
    /// What is named here does not exist.
    NotFound(Value),
    Forbidden(String),
    TooLong(usize),
    TooMany(usize),
}

impl FieldError {
    pub fn new(path: impl Into<String>, problem: FieldProblem) -> Self {
        Self { path: path.into(), problem }
    }

    fn body(&self) -> String {
        match &self.problem {
            FieldProblem::Required(why) if why.is_empty() => "Required value".to_owned(),
            FieldProblem::Required(why) => format!("Required value: {why}"),
            FieldProblem::Invalid(value, why) => format!("Invalid value: {value}: {why}"),
            FieldProblem::NotSupported(value, choices) => {
                let quoted: Vec<String> = choices.iter().map(|c| format!("{c:?}")).collect();
                format!("Unsupported value: {value}: supported values: {}", quoted.join(", "))
            }
            FieldProblem::Duplicate(value) => format!("Duplicate value: {value}"),
            FieldProblem::NotFound(value) => format!("Not found: {value}"),
            FieldProblem::Forbidden(why) => format!("Forbidden: {why}"),
            FieldProblem::TooLong(most) => format!("Too long: may not be more than {most} bytes"),
            FieldProblem::TooMany(most) => format!("Too many: must have at most {most} items"),
        }
    }

    fn text(&self) -> String {
        format!("{}: {}", self.path, self.body())
    }

    fn into_cause(self) -> Cause {
        let reason = match &self.problem {
            FieldProblem::Required(_) => "FieldValueRequired",
            FieldProblem::Invalid(..) => "FieldValueInvalid",
            FieldProblem::NotSupported(..) => "FieldValueNotSupported",
            FieldProblem::Duplicate(_) => "FieldValueDuplicate",
            FieldProblem::NotFound(_) => "FieldValueNotFound",
            FieldProblem::Forbidden(_) => "FieldValueForbidden",
            FieldProblem::TooLong(_) => "FieldValueTooLong",
            FieldProblem::TooMany(_) => "FieldValueTooMany",
        };
        Cause { reason, message: self.body(), field: self.path }
    }
}
