//! Selectors: which objects a list, a watch or a controller is about.
//!
//! ```text
//! labels  app=web, tier in (a, b), !canary      query strings, kubectl -l
//!         {matchLabels, matchExpressions}       JSON in specs
//! fields  metadata.name=x, status.phase!=Failed query strings, kubectl --field-selector
//! ```

mod fields;
mod labels;

pub use fields::{FieldSelector, FieldSelectorError};
pub use labels::{LabelSelector, LabelSelectorError, Operator, Requirement};

/// The longest selector that is read; URLs are shorter.
const MOST_TEXT: usize = 16 * 1024;
