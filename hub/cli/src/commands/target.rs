//! `TYPE`, `TYPE NAME...`, `TYPE/NAME...`: what a command is about.

use anyhow::bail;

use crate::connect::Connected;
use crate::resources::{Place, Resource, Resources, encode};

/// Namespace and selectors, for the commands that take many objects.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Selection {
    /// Only objects with these labels, such as app=web,tier!=edge
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,

    /// Only objects with these fields, such as spec.nodeName=pi-1
    #[arg(long, value_name = "FIELDS")]
    pub(crate) field_selector: Option<String>,
}

impl Selection {
    pub(crate) fn is_empty(&self) -> bool {
        self.selector.is_none() && self.field_selector.is_none()
    }

    /// `?labelSelector=...`, or nothing.
    pub(crate) fn query(&self) -> String {
        let parts = [("labelSelector", &self.selector), ("fieldSelector", &self.field_selector)];
        let parts: Vec<String> = parts
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", encode(value))))
            .collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }
}

/// The namespace of `-n`, or the kubeconfig's.
pub(crate) fn place(namespace: Option<&String>, connected: &Connected) -> Place {
    Place::One(namespace.unwrap_or(&connected.namespace).clone())
}

/// Types, each with the names that are asked for; no names are all of them.
pub(crate) fn targets<'a>(
    words: &[String],
    resources: &'a Resources,
) -> anyhow::Result<Vec<(&'a Resource, Vec<String>)>> {
    let slashes = words.iter().filter(|word| word.contains('/')).count();
    if slashes == words.len() {
        let pairs = words.iter().map(|word| {
            let (kind, name) = word.split_once('/').unwrap_or((word, ""));
            if name.is_empty() {
                bail!("{word:?} names no object: write TYPE/NAME");
            }
            Ok((resources.find(kind)?, vec![name.to_owned()]))
        });
        return pairs.collect();
    }
    if slashes > 0 {
        bail!("write either TYPE NAME... or TYPE/NAME..., not both");
    }
    let Some((kinds, names)) = words.split_first() else { bail!("name a resource type, such as pods") };
    let mut found = Vec::new();
    for kind in kinds.split(',') {
        found.extend(resources.expand(kind)?.into_iter().map(|resource| (resource, names.to_vec())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::tests::resources;

    fn check(words: &[&str], expected: &str) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let got = match targets(&words, &resources()) {
            Ok(targets) => {
                let text = targets.iter().map(|(resource, names)| format!("{}:{}", resource.plural, names.join("+")));
                text.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{words:?}");
    }

    #[test]
    fn targets_are_written_in_several_ways() {
        check(&["pods"], "pods:");
        check(&["po", "a", "b"], "pods:a+b");
        check(&["pod/a", "deploy/b"], "pods:a deployments:b");
        check(&["pods,deploy"], "pods: deployments:");
        check(&["all"], "pods: deployments:");
        check(&["pod/a", "b"], "write either TYPE NAME... or TYPE/NAME..., not both");
        check(&["pod/"], "\"pod/\" names no object: write TYPE/NAME");
        check(&["boats"], "the hub has no resource type \"boats\"; kubectl api-resources lists them");
    }

    #[test]
    fn selectors_become_a_query() {
        let selection = Selection { selector: Some("app=web".into()), field_selector: None };
        assert_eq!(selection.query(), "?labelSelector=app%3Dweb");
        assert_eq!(Selection { selector: None, field_selector: None }.query(), "");
    }
}
