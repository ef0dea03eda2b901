//! Whether an object has only fields that its kind has, with values of their types.

use std::fmt;

use serde_json::{Map, Value};

use super::types::{Shape, Type, Width};
use crate::quantity::{Quantity, QuantityError};
use crate::time;

/// Findings beyond this many are not looked for: a body of garbage would answer with megabytes.
const MOST_FINDINGS: usize = 100;

/// Something wrong with a body; prints as Kubernetes says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A field that the kind does not have: an error or a warning, as the client chose.
    Unknown { path: String },
    /// JSON of the wrong type: always an error. `holder` is the type that has the field.
    WrongType { path: String, holder: String, got: &'static str, wanted: &'static str },
    /// Text that is no quantity: always an error.
    Quantity { path: String, error: QuantityError },
    /// Text that is no time: always an error.
    Time { path: String, text: String },
    /// Text that is no base64: always an error.
    Base64 { path: String },
}

impl Finding {
    /// Whether the object cannot be taken at all, however lenient the client asks us to be.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Unknown { .. } => false,
            Self::WrongType { .. } | Self::Quantity { .. } | Self::Time { .. } | Self::Base64 { .. } => true,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { path } => write!(f, "unknown field {path:?}"),
            Self::WrongType { path, holder, got, wanted } => {
                write!(f, "json: cannot unmarshal {got} into Go struct field {holder}.{path} of type {wanted}")
            }
            Self::Quantity { path, error } => write!(f, "{path}: {error}"),
            Self::Time { path, text } => write!(f, "{path}: parsing time {text:?} as RFC 3339: cannot parse"),
            Self::Base64 { path } => write!(f, "{path}: illegal base64 data"),
        }
    }
}

/// Everything wrong with `object` as a `type_`, in the order of its fields. Nulls stand for absence.
pub fn check(type_: &Type, object: &Map<String, Value>) -> Vec<Finding> {
    let mut walk = Walk { path: Path::default(), findings: Vec::new() };
    walk.object(type_, object);
    walk.findings
}

/// Where the walk is: `spec.containers[0].image`.
#[derive(Default)]
struct Path(Vec<Step>);

enum Step {
    Field(String),
    Index(usize),
}

impl Path {
    fn with_indexes(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Field(name) if text.is_empty() => text.push_str(name),
                Step::Field(name) => text.extend([".", name]),
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    /// The decoder of wrong types names no items of lists.
    fn without_indexes(&self) -> String {
        let names = self.0.iter().filter_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Index(_) => None,
        });
        names.collect::<Vec<_>>().join(".")
    }
}

struct Walk {
    path: Path,
    findings: Vec<Finding>,
}

impl Walk {
    fn object(&mut self, type_: &Type, object: &Map<String, Value>) {
        for (name, value) in object {
            self.path.0.push(Step::Field(name.clone()));
            match type_.field(name) {
                Some(field) => self.value(&field.shape, type_.short_name(), value),
                None => self.find(Finding::Unknown { path: self.path.with_indexes() }),
            }
            self.path.0.pop();
        }
    }

    fn value(&mut self, shape: &Shape, holder: &str, value: &Value) {
        match (shape, value) {
            (Shape::Anything, _) | (_, Value::Null) => (),
            (Shape::Text | Shape::IntegerOrText, Value::String(_)) | (Shape::Switch, Value::Bool(_)) => (),
            (Shape::Number, Value::Number(_)) => (),
            (Shape::Integer(width), Value::Number(number)) if fits(*width, number.as_i64()) => (),
            (Shape::IntegerOrText, Value::Number(number)) if fits(Width::Int32, number.as_i64()) => (),
            (Shape::Bytes, Value::String(text)) => {
                if !is_base64(text) {
                    self.find(Finding::Base64 { path: self.path.with_indexes() });
                }
            }
            (Shape::Time, Value::String(text)) => {
                if time::parse(text).is_none() {
                    self.find(Finding::Time { path: self.path.with_indexes(), text: text.clone() });
                }
            }
            (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
                if let Err(error) = Quantity::from_json(value) {
                    self.find(Finding::Quantity { path: self.path.with_indexes(), error });
                }
            }
            (Shape::List(item), Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.path.0.push(Step::Index(index));
                    self.value(item, holder, value);
                    self.path.0.pop();
                }
            }
            (Shape::Map(item), Value::Object(entries)) => {
                for (key, value) in entries {
                    self.path.0.push(Step::Field(key.clone()));
                    self.value(item, holder, value);
                    self.path.0.pop();
                }
            }
            (Shape::Object(_), Value::Object(object)) => {
                if let Some(type_) = shape.type_() {
                    self.object(type_, object);
                }
            }
            (
                Shape::Text
                | Shape::Bytes
                | Shape::Time
                | Shape::Integer(_)
                | Shape::Number
                | Shape::Switch
                | Shape::Quantity
                | Shape::IntegerOrText
                | Shape::List(_)
                | Shape::Map(_)
                | Shape::Object(_),
                _,
            ) => self.find(Finding::WrongType {
                path: self.path.without_indexes(),
                holder: holder.to_owned(),
                got: json_type(value),
                wanted: go_type(shape),
            }),
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        }
    }
}

fn fits(width: Width, number: Option<i64>) -> bool {
    match width {
        Width::Int32 => number.is_some_and(|number| i32::try_from(number).is_ok()),
        Width::Int64 => number.is_some(),
    }
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    // Line breaks are allowed, as Go's decoder skips them.
    if text.contains(['\n', '\r']) {
        let joined: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        return base64::engine::general_purpose::STANDARD.decode(joined).is_ok();
    }
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(shape: &Shape) -> &'static str {
    match shape {
        Shape::Text => "string",
        Shape::Bytes => "[]uint8",
        Shape::Time => "v1.Time",
        Shape::Integer(Width::Int32) => "int32",
        Shape::Integer(Width::Int64) => "int64",
        Shape::Number => "float64",
        Shape::Switch => "bool",
        Shape::Quantity => "resource.Quantity",
        Shape::IntegerOrText => "intstr.IntOrString",
        Shape::Anything => "any",
        Shape::List(_) => "list",
        Shape::Map(_) => "map",
        Shape::Object(_) => "struct",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::schema::of_kind;

    #[track_caller]
    fn check(api_version: &str, kind: &str, body: serde_json::Value, findings: &[&str]) {
        let type_ = of_kind(api_version, kind).unwrap();
        let found: Vec<String> =
            super::check(type_, body.as_object().unwrap()).iter().map(ToString::to_string).collect();
        assert_eq!(found, findings, "{body}");
    }

    #[test]
    fn good_objects_have_no_findings() {
        check("v1", "Pod", json!({}), &[]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "creationTimestamp": null, "labels": {"a.b/c": "d"}, "managedFields": [{"fieldsV1": {"f:x": {}}}]},
            "spec": {
                "containers": [{
                    "name": "c", "image": "i", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "resources": {"limits": {"cpu": 1, "memory": "64Mi"}, "requests": {"cpu": 0.5}},
                    "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5},
                    "ports": [{"containerPort": 80}],
                }],
                "terminationGracePeriodSeconds": 0, "hostNetwork": false,
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "x", "defaultMode": 420}}],
            },
            "status": {"startTime": "2026-11-23T17:00:00Z"},
        });
        check("v1", "Pod", pod, &[]);
        check("v1", "Secret", json!({"data": {"a": "aGk=", "b": "aG\nk="}, "stringData": {"c": "d"}}), &[]);
    }

    #[test]
    fn unknown_fields_have_a_path() {
        check(
            "apps/v1",
            "Deployment",
            json!({"spec": {"replcias": 3, "template": {"spec": {"containers": [{"name": "a"}, {"imagee": "x"}]}}}, "Spec": 1}),
            &[
                r#"unknown field "spec.replcias""#,
                r#"unknown field "spec.template.spec.containers[1].imagee""#,
                r#"unknown field "Spec""#,
            ],
        );
    }

    #[test]
    fn wrong_types_have_a_path() {
        check(
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": "3", "paused": 1, "template": {"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}}}),
            &[
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
                "json: cannot unmarshal number into Go struct field DeploymentSpec.spec.paused of type bool",
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
            ],
        );
        check(
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 3_000_000_000i64}}),
            &["json: cannot unmarshal number into Go struct field DeploymentSpec.spec.replicas of type int32"],
        );
        check(
            "v1",
            "ConfigMap",
            json!({"data": {"port": 80}}),
            &["json: cannot unmarshal number into Go struct field ConfigMap.data.port of type string"],
        );
        check(
            "v1",
            "Pod",
            json!({"spec": {"containers": {}}}),
            &["json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type list"],
        );
        check(
            "v1",
            "Pod",
            json!({"spec": []}),
            &["json: cannot unmarshal array into Go struct field Pod.spec of type struct"],
        );
    }

    #[test]
    fn bad_texts_have_a_path() {
        check(
            "v1",
            "Pod",
            json!({"metadata": {"creationTimestamp": "now"}, "spec": {"containers": [{"resources": {"limits": {"cpu": "many"}}}]}}),
            &[
                r#"metadata.creationTimestamp: parsing time "now" as RFC 3339: cannot parse"#,
                "spec.containers[0].resources.limits.cpu: quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ],
        );
        check("v1", "Secret", json!({"data": {"a": "?"}}), &["data.a: illegal base64 data"]);
    }

    #[test]
    fn garbage_is_bounded() {
        let garbage: serde_json::Map<_, _> = (0..1000).map(|i| (format!("f{i}"), json!(i))).collect();
        assert_eq!(super::check(of_kind("v1", "Pod").unwrap(), &garbage).len(), super::MOST_FINDINGS);
    }
}
