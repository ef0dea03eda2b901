//! Namespaces: one that is to go is emptied first.

use k8s_openapi::api::core::v1::Namespace;

/// In `spec.finalizers` of every namespace: removed when it is empty.
pub const FINALIZER: &str = "kubernetes";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Keep,
    /// Say `Terminating`, if it does not yet, and delete what is in it.
    Empty,
    /// Everything in it is going: wait for so many to be gone.
    Await {
        remaining: usize,
    },
    /// Nothing is left: drop [`FINALIZER`], which removes it.
    Release,
}

/// One object of the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Staying,
    Going,
}

pub fn plan(namespace: &Namespace, contents: &[Content]) -> Step {
    if namespace.metadata.deletion_timestamp.is_none() {
        return Step::Keep;
    }
    let says_so = namespace.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Terminating");
    if contents.contains(&Content::Staying) || !says_so {
        return Step::Empty;
    }
    match contents.len() {
        0 => Step::Release,
        remaining => Step::Await { remaining },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_namespace_goes_when_it_is_empty() {
        let check = |phase: &str, going: bool, contents: &[Content], expected: Step| {
            let mut namespace = json!({"metadata": {"name": "a"}, "status": {"phase": phase}});
            if going {
                namespace["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            assert_eq!(plan(&serde_json::from_value(namespace).unwrap(), contents), expected);
        };
        check("Active", false, &[Content::Staying], Step::Keep);
        check("Active", true, &[], Step::Empty);
        check("Terminating", true, &[Content::Staying, Content::Going], Step::Empty);
        check("Terminating", true, &[Content::Going], Step::Await { remaining: 1 });
        check("Terminating", true, &[], Step::Release);
    }
}
