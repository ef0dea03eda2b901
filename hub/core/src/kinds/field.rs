//! Collecting what is wrong with an object, each with the path of its field.

use std::fmt;

use serde_json::Value;

use crate::name::{self, NameKind};
use crate::quantity::Quantity;
use crate::status::{FieldError, FieldProblem};

/// The path of a field as users write it: `spec.containers[0].image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn field(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    pub(super) fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything wrong with one object, in the order found.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    pub(super) fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    fn push(&mut self, path: &Path, problem: FieldProblem) {
        self.0.push(FieldError::new(path.to_string(), problem));
    }

    pub(super) fn required(&mut self, path: &Path, why: &str) {
        self.push(path, FieldProblem::Required(why.to_owned()));
    }

    pub(super) fn invalid(&mut self, path: &Path, value: impl Into<Value>, why: impl fmt::Display) {
        self.push(path, FieldProblem::Invalid(value.into(), why.to_string()));
    }

    pub(super) fn forbidden(&mut self, path: &Path, why: impl Into<String>) {
        self.push(path, FieldProblem::Forbidden(why.into()));
    }

    pub(super) fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, FieldProblem::Duplicate(value.into()));
    }

    pub(super) fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, FieldProblem::NotFound(value.into()));
    }

    pub(super) fn too_long(&mut self, path: &Path, most: usize) {
        self.push(path, FieldProblem::TooLong(most));
    }

    /// One of a few words.
    pub(super) fn one_of(&mut self, path: &Path, value: &str, choices: &[&str]) {
        if !choices.contains(&value) {
            let choices = choices.iter().map(|c| (*c).to_owned()).collect();
            self.push(path, FieldProblem::NotSupported(Value::from(value), choices));
        }
    }

    /// A name that must be there and look right.
    pub(super) fn name(&mut self, path: &Path, kind: NameKind, text: &str) {
        if text.is_empty() {
            self.required(path, "");
        } else {
            self.shape(path, kind, text);
        }
    }

    /// A name that, empty or not, must look right.
    pub(super) fn shape(&mut self, path: &Path, kind: NameKind, text: &str) {
        for problem in name::problems(kind, text) {
            self.invalid(path, text, problem);
        }
    }

    pub(super) fn not_negative(&mut self, path: &Path, value: Option<impl Into<i64>>) {
        if let Some(value) = value.map(Into::into)
            && value < 0
        {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }

    pub(super) fn port_number(&mut self, path: &Path, port: i64) {
        if !(1..=65535).contains(&port) {
            self.invalid(path, port, "must be between 1 and 65535, inclusive");
        }
    }

    /// A quantity of zero or more.
    pub(super) fn quantity(&mut self, path: &Path, text: &str) -> Option<Quantity> {
        match Quantity::parse(text) {
            Ok(quantity) if quantity.is_negative() => {
                self.invalid(path, text, "must be greater than or equal to 0");
                None
            }
            Ok(quantity) => Some(quantity),
            Err(problem) => {
                self.invalid(path, text, problem);
                None
            }
        }
    }

    /// A path that stays below where it is mounted.
    pub(super) fn inner_path(&mut self, path: &Path, text: &str) {
        if text.starts_with('/') {
            self.invalid(path, text, "must be a relative path");
        }
        if text.split('/').any(|part| part == "..") {
            self.invalid(path, text, "must not contain '..'");
        }
    }
}
