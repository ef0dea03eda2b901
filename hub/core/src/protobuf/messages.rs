//! The table of messages, read from `messages.txt` once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A message: its fields by number.
pub(super) struct Message(Vec<Field>);

pub(super) struct Field {
    number: u32,
    pub(super) name: Name,
    pub(super) arity: Arity,
    pub(super) kind: Kind,
}

pub(super) enum Name {
    Own(&'static str),
    /// A struct that Go inlines: its fields stand in the parent.
    Inlined,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arity {
    /// One value; its zero means nothing and is left out.
    One,
    /// One value behind a pointer: its zero was meant.
    Pointer,
    List,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Switch,
    Integer,
    Bytes,
    Quantity,
    Time,
    MicroTime,
    IntOrText,
    FieldSet,
    Texts,
    /// A message by name.
    Message(&'static str),
}

static MESSAGES: LazyLock<BTreeMap<&'static str, Message>> = LazyLock::new(|| {
    let lines = include_str!("messages.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().expect("split gives at least one word");
            (name, Message(words.map(|word| Field::read(word).expect("the table is well-formed: tested")).collect()))
        })
        .collect()
});

/// The message of a kind: `apps/v1` `Deployment` is `apps.v1.Deployment`, and what belongs to no group
/// is in `meta`.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or_default();
    by_name(&format!("{package}.{version}.{kind}")).or_else(|| match kind {
        "DeleteOptions" => by_name("meta.v1.DeleteOptions"),
        _ => None,
    })
}

pub(super) fn by_name(name: &str) -> Option<&'static Message> {
    MESSAGES.get(name)
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.0.iter().find(|field| field.number == number)
    }
}

impl Field {
    /// Reads `NUMBER:NAME:TYPE`.
    fn read(word: &'static str) -> Option<Self> {
        let mut parts = word.split(':');
        let (number, name, type_) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let (arity, kind) = match type_.split_at_checked(1)? {
            ("*", rest) => (Arity::List, rest),
            ("%", rest) => (Arity::Map, rest),
            ("?", rest) => (Arity::Pointer, rest),
            _ => (Arity::One, type_),
        };
        let name = if name == "^" { Name::Inlined } else { Name::Own(name) };
        Some(Self { number, name, arity, kind: Kind::read(kind)? })
    }
}

impl Kind {
    fn read(text: &'static str) -> Option<Self> {
        Some(match text {
            "s" => Self::Text,
            "b" => Self::Switch,
            "i" => Self::Integer,
            "y" => Self::Bytes,
            "Q" => Self::Quantity,
            "T" => Self::Time,
            "U" => Self::MicroTime,
            "X" => Self::IntOrText,
            "F" => Self::FieldSet,
            "S" => Self::Texts,
            name if name.contains('.') => Self::Message(name),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_message_that_is_referred_to_is_there() {
        for (name, message) in MESSAGES.iter() {
            for field in &message.0 {
                if let Kind::Message(wanted) = field.kind {
                    assert!(by_name(wanted).is_some(), "{name} needs {wanted}");
                }
                let inlined = matches!(field.name, Name::Inlined);
                assert!(!inlined || matches!((field.kind, field.arity), (Kind::Message(_), Arity::One)), "{name}");
            }
        }
    }

    /// The JSON names are those that strict checks know, or every body would be refused.
    #[test]
    fn every_name_is_in_the_schema() {
        fn check(type_: &schema::Type, message: &Message) {
            for field in &message.0 {
                match (&field.name, field.kind) {
                    (Name::Own(name), _) => assert!(type_.field(name).is_some(), "{}.{name}", type_.name()),
                    (Name::Inlined, Kind::Message(inner)) => check(type_, by_name(inner).unwrap()),
                    (Name::Inlined, _) => panic!("only messages are inlined"),
                }
            }
        }
        let mut checked = 0;
        for (name, message) in MESSAGES.iter() {
            let prefix = if name.starts_with("meta.") { "io.k8s.apimachinery.pkg.apis" } else { "io.k8s.api" };
            // Messages that only ever stand inlined have no schema of their own.
            if let Some(type_) = schema::by_name(&format!("{prefix}.{name}")) {
                check(type_, message);
                checked += 1;
            }
        }
        assert!(checked > 200, "{checked}");
    }
}
