//! What fields our kinds have: the types that strict checks, patches and OpenAPI documents share.
//!
//! ```text
//! roots       the kinds and bodies that are read        source: k8s-openapi's JSON schemas
//! types       a compact tree built from them once       merge: how a list's items are told apart
//! check       unknown fields and wrong types, worded as kubectl's users know them
//! normal      what decoding into Go's types would change: nulls, quantities
//! ```
//! The schemas with their descriptions are 1.5 MB of JSON; the tree that stays in memory is a tenth.

mod check;
mod merge;
mod normal;
mod roots;
mod types;

pub use check::{Finding, check};
pub use normal::normalise;
pub(crate) use roots::{ROOTS, Root};
pub use types::{Field, Merge, Shape, Type, Width};

use std::sync::LazyLock;

use types::Types;

static TYPES: LazyLock<Types> = LazyLock::new(Types::build);

/// The fields of a kind, or `None` for one that is not ours.
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Type> {
    let root = ROOTS.iter().find(|root| root.kind == kind && root.is_version(api_version))?;
    TYPES.get(&(root.name)())
}

/// A type by its full name: `io.k8s.api.core.v1.Container`.
pub(crate) fn by_name(name: &str) -> Option<&'static Type> {
    TYPES.get(name)
}
