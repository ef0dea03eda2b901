//! The compact tree of types.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::merge;
use super::roots::ROOTS;

/// All types, by full name.
pub(super) struct Types(BTreeMap<String, Type>);

/// An object with fields of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Type {
    /// `io.k8s.api.core.v1.Container`
    name: String,
    fields: BTreeMap<String, Field>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    pub shape: Shape,
    pub merge: Merge,
}

/// What JSON a field takes.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    /// Base64 text.
    Bytes,
    /// RFC 3339 text.
    Time,
    Integer(Width),
    Number,
    Switch,
    Quantity,
    IntegerOrText,
    Anything,
    List(Box<Shape>),
    /// An object with any keys.
    Map(Box<Shape>),
    /// An object of the named type.
    Object(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    Int32,
    Int64,
}

/// What a strategic merge patch does to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Objects are merged, all else is replaced.
    Default,
    /// A list of objects is merged item by item; this field tells items apart.
    ByKey(&'static str),
    /// The same; clients also say which of an item's fields to retain.
    ByKeyRetaining(&'static str),
    /// A list of plain values is a set.
    Set,
    /// An object is merged; clients also say which of its fields to retain.
    RetainKeys,
}

impl Merge {
    /// The field that tells a list's items apart.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::ByKey(key) | Self::ByKeyRetaining(key) => Some(key),
            Self::Default | Self::Set | Self::RetainKeys => None,
        }
    }
}

impl Types {
    pub(super) fn build() -> Self {
        let mut generator = SchemaSettings::openapi3().into_generator();
        for root in ROOTS {
            (root.add)(&mut generator);
        }
        let definitions = generator.take_definitions(true);
        let types = definitions.iter().filter_map(|(name, schema)| Some((name.clone(), Type::read(name, schema)?)));
        Self(types.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Type> {
        self.0.get(name)
    }
}

impl Type {
    /// `None` for a name given to a plain value, such as `Time`.
    fn read(name: &str, schema: &Value) -> Option<Self> {
        let properties = schema.get("properties")?.as_object()?;
        let field = |(field, schema): (&String, &Value)| {
            (field.clone(), Field { shape: Shape::read(schema), merge: merge::rule(name, field) })
        };
        Some(Self { name: name.to_owned(), fields: properties.iter().map(field).collect() })
    }

    /// `io.k8s.api.core.v1.Container`
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `Container`
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    /// The shape at a path of field names that crosses no list.
    pub fn shape_at(&self, path: &[&str]) -> Option<&Shape> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(&self.field(first)?.shape, |shape, name| Some(&shape.type_()?.field(name)?.shape))
    }
}

impl Shape {
    fn read(schema: &Value) -> Self {
        if let Some(name) = reference(schema) {
            return Self::named(name);
        }
        let Some(schema) = schema.as_object() else { return Self::Anything };
        let text = |field: &str| schema.get(field).and_then(Value::as_str).unwrap_or_default();
        match (text("type"), text("format")) {
            ("string", "byte") => Self::Bytes,
            ("string", "date-time") => Self::Time,
            ("string", _) => Self::Text,
            ("integer", "int32") => Self::Integer(Width::Int32),
            ("integer", _) => Self::Integer(Width::Int64),
            ("number", _) => Self::Number,
            ("boolean", _) => Self::Switch,
            ("array", _) => Self::List(Box::new(schema.get("items").map_or(Self::Anything, Self::read))),
            ("object", _) => Self::read_object(schema),
            _ => Self::Anything,
        }
    }

    fn read_object(schema: &Map<String, Value>) -> Self {
        match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => Self::Map(Box::new(Self::read(values))),
            _ => Self::Anything,
        }
    }

    /// Types that are plain values on the wire have names too.
    fn named(name: &str) -> Self {
        match name.rsplit('.').next().unwrap_or_default() {
            "Time" | "MicroTime" => Self::Time,
            "Quantity" => Self::Quantity,
            "IntOrString" => Self::IntegerOrText,
            "FieldsV1" | "RawExtension" | "JSON" => Self::Anything,
            _ => Self::Object(name.to_owned()),
        }
    }

    /// The type of an object with fields of its own.
    pub fn type_(&self) -> Option<&'static Type> {
        match self {
            Self::Object(name) => super::by_name(name),
            Self::Text
            | Self::Bytes
            | Self::Time
            | Self::Integer(_)
            | Self::Number
            | Self::Switch
            | Self::Quantity
            | Self::IntegerOrText
            | Self::Anything
            | Self::List(_)
            | Self::Map(_) => None,
        }
    }
}

/// The name behind `$ref`, which stands alone or in an `allOf` beside a description.
pub(crate) fn reference(schema: &Value) -> Option<&str> {
    let alone = schema.get("$ref");
    let wrapped = || schema.get("allOf")?.get(0)?.get("$ref");
    alone.or_else(wrapped)?.as_str()?.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::of_kind;

    #[track_caller]
    fn check(kind: (&str, &str), path: &[&str], shape: &Shape) {
        let mut type_ = of_kind(kind.0, kind.1).unwrap();
        let (last, parents) = path.split_last().unwrap();
        for field in parents {
            let shape = &type_.field(field).unwrap_or_else(|| panic!("no {field}")).shape;
            let shape = if let Shape::List(item) = shape { item } else { shape };
            type_ = shape.type_().unwrap_or_else(|| panic!("{field} is {shape:?}"));
        }
        assert_eq!(&type_.field(last).unwrap().shape, shape, "{path:?}");
    }

    #[test]
    fn shapes() {
        let pod = ("v1", "Pod");
        check(pod, &["kind"], &Shape::Text);
        check(pod, &["metadata", "labels"], &Shape::Map(Box::new(Shape::Text)));
        check(pod, &["metadata", "creationTimestamp"], &Shape::Time);
        check(pod, &["metadata", "managedFields", "fieldsV1"], &Shape::Anything);
        check(pod, &["spec", "hostNetwork"], &Shape::Switch);
        check(pod, &["spec", "terminationGracePeriodSeconds"], &Shape::Integer(Width::Int64));
        check(pod, &["spec", "containers", "command"], &Shape::List(Box::new(Shape::Text)));
        check(pod, &["spec", "containers", "resources", "limits"], &Shape::Map(Box::new(Shape::Quantity)));
        check(pod, &["spec", "containers", "livenessProbe", "httpGet", "port"], &Shape::IntegerOrText);
        check(("v1", "Secret"), &["data"], &Shape::Map(Box::new(Shape::Bytes)));
        check(("apps/v1", "Deployment"), &["spec", "replicas"], &Shape::Integer(Width::Int32));
        check(("v1", "DeleteOptions"), &["gracePeriodSeconds"], &Shape::Integer(Width::Int64));
        check(("policy/v1", "Eviction"), &["deleteOptions", "dryRun"], &Shape::List(Box::new(Shape::Text)));
        assert_eq!(of_kind("apps/v2", "Deployment"), None);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn follow(shape: &Shape) {
            match shape {
                Shape::List(inner) | Shape::Map(inner) => follow(inner),
                Shape::Object(name) => assert!(super::super::by_name(name).is_some(), "{name}"),
                _ => (),
            }
        }
        for type_ in Types::build().0.values() {
            type_.fields.values().for_each(|field| follow(&field.shape));
        }
    }
}
