//! A container's environment and arguments: values, references, and `$(NAME)`.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource};
use protocol::pod::Value;

use super::downward::{PodField, resource_value};
use super::{AssignError, ConfigProblem, Lookup, Secrets, Sources};
use crate::name::{self, NameKind};

/// A text, and whether any of it comes from a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    text: String,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Plain,
    Secret,
}

impl Text {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), origin: Origin::Plain }
    }

    /// A guest's environment is text: bytes that are none become replacement characters.
    fn secret(bytes: &ByteString) -> Self {
        Self { text: String::from_utf8_lossy(&bytes.0).into_owned(), origin: Origin::Secret }
    }

    fn push(&mut self, other: &Self) {
        self.text.push_str(&other.text);
        if other.origin == Origin::Secret {
            self.origin = Origin::Secret;
        }
    }

    fn into_value(self, secrets: &mut Secrets) -> Result<Value, AssignError> {
        match self.origin {
            Origin::Plain => Ok(Value::Literal(self.text)),
            Origin::Secret => secrets.add(self.text.as_bytes()).map(Value::Secret),
        }
    }
}

/// Variables in the order of their first appearance; a later value replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct Environment(Vec<(String, Text)>);

impl Environment {
    fn set(&mut self, name: &str, text: Text) {
        match self.0.iter_mut().find(|(had, _)| had == name) {
            Some((_, value)) => *value = text,
            None => self.0.push((name.to_owned(), text)),
        }
    }

    fn get(&self, name: &str) -> Option<&Text> {
        self.0.iter().find(|(had, _)| had == name).map(|(_, text)| text)
    }

    pub(super) fn values(&self, secrets: &mut Secrets) -> Result<Vec<(String, Value)>, AssignError> {
        self.0.iter().map(|(name, text)| Ok((name.clone(), text.clone().into_value(secrets)?))).collect()
    }

    /// What follows argv[0] of `command` and `args`. The first word of `command` names the program, as in
    /// Kubernetes; an image holds only one, so the name chooses nothing.
    pub(super) fn arguments(&self, container: &Container, secrets: &mut Secrets) -> Result<Vec<Value>, AssignError> {
        let words = container.command.iter().flatten().skip(1).chain(container.args.iter().flatten());
        words.map(|word| expand(word, |name| self.get(name)).into_value(secrets)).collect()
    }

    /// The words of a probe or hook after the program's name. They travel in the clear: a Secret's value is not put in.
    pub(super) fn plain_words(&self, words: &[String]) -> Vec<String> {
        let plain = |name: &str| self.get(name).filter(|text| text.origin == Origin::Plain);
        words.iter().skip(1).map(|word| expand(word, plain).text).collect()
    }
}

/// Puts values in for `$(NAME)`; `$$` is a dollar sign, and what names nothing stays as it is.
fn expand<'a>(input: &str, value: impl Fn(&str) -> Option<&'a Text>) -> Text {
    let mut out = Text::plain("");
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some(escaped) = after.strip_prefix('$') {
            out.text.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = reference {
            match value(name) {
                Some(text) => out.push(text),
                None => out.text.push_str(&rest[at..rest.len() - tail.len()]),
            }
            rest = tail;
        } else {
            out.text.push('$');
            rest = after;
        }
    }
    out.text.push_str(rest);
    out
}

pub(super) fn environment<L: Lookup>(
    sources: &Sources<'_, L>,
    container: &Container,
) -> Result<Environment, ConfigProblem> {
    let mut environment = Environment::default();
    for source in container.env_from.iter().flatten() {
        add_all(sources, source, &mut environment)?;
    }
    // As in Kubernetes, a value may name the variables above it in `env`, not those of `envFrom`.
    let mut named = Environment::default();
    for variable in container.env.iter().flatten() {
        let text = match &variable.value_from {
            Some(source) => resolve(sources, container, source)?,
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), |name| named.get(name))),
        };
        if let Some(text) = text {
            named.set(&variable.name, text.clone());
            environment.set(&variable.name, text);
        }
    }
    Ok(environment)
}

/// All keys of a ConfigMap or Secret that can be names of variables.
fn add_all<L: Lookup>(
    sources: &Sources<'_, L>,
    source: &EnvFromSource,
    environment: &mut Environment,
) -> Result<(), ConfigProblem> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut add = |key: &str, text: Text| {
        let variable = format!("{prefix}{key}");
        if name::is_valid(NameKind::EnvVar, &variable) {
            environment.set(&variable, text);
        }
    };
    if let Some(reference) = &source.config_map_ref {
        match sources.lookup.config_map(sources.namespace, &reference.name) {
            Some(map) => map.data.iter().flatten().for_each(|(key, value)| add(key, Text::plain(value))),
            None if reference.optional == Some(true) => (),
            None => return Err(ConfigProblem::NoConfigMap(reference.name.clone())),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match sources.lookup.secret(sources.namespace, &reference.name) {
            Some(secret) => secret.data.iter().flatten().for_each(|(key, value)| add(key, Text::secret(value))),
            None if reference.optional == Some(true) => (),
            None => return Err(ConfigProblem::NoSecret(reference.name.clone())),
        }
    }
    Ok(())
}

/// `None` for an optional reference to what is not there: the variable is not set.
fn resolve<L: Lookup>(
    sources: &Sources<'_, L>,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<Text>, ConfigProblem> {
    let no_key = |kind, name: &str, key: &str| ConfigProblem::NoKey {
        kind,
        namespace: sources.namespace.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
    };
    let found = if let Some(field) = &source.field_ref {
        let parsed = PodField::parse(&field.field_path);
        let value = parsed.map(|parsed| Text::plain(parsed.value(sources.pod, sources.node)));
        return value.map(Some).ok_or_else(|| ConfigProblem::NoField(field.field_path.clone()));
    } else if let Some(field) = &source.resource_field_ref {
        let value = resource_value(sources.pod, Some(container), sources.node, field).map(Text::plain);
        return value.map(Some).ok_or_else(|| ConfigProblem::NoField(field.resource.clone()));
    } else if let Some(reference) = &source.config_map_key_ref {
        let map = sources.lookup.config_map(sources.namespace, &reference.name);
        let value = map.as_ref().and_then(|map| map.data.as_ref()?.get(&reference.key)).map(Text::plain);
        let problem = match &map {
            Some(_) => no_key("ConfigMap", &reference.name, &reference.key),
            None => ConfigProblem::NoConfigMap(reference.name.clone()),
        };
        (value, reference.optional, problem)
    } else if let Some(reference) = &source.secret_key_ref {
        let secret = sources.lookup.secret(sources.namespace, &reference.name);
        let value = secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(&reference.key)).map(Text::secret);
        let problem = match &secret {
            Some(_) => no_key("Secret", &reference.name, &reference.key),
            None => ConfigProblem::NoSecret(reference.name.clone()),
        };
        (value, reference.optional, problem)
    } else {
        return Ok(None);
    };
    match found {
        (Some(text), _, _) => Ok(Some(text)),
        (None, Some(true), _) => Ok(None),
        (None, _, problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, Text, expand};

    #[test]
    fn dollars() {
        let mut environment = Environment::default();
        environment.set("A", Text::plain("1"));
        environment.set("B", Text::plain("$(A)"));
        for (input, output) in [
            ("", ""),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$", "$"),
            ("$$", "$"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("é$(A)é", "é1é"),
        ] {
            assert_eq!(expand(input, |name| environment.get(name)).text, output, "{input:?}");
        }
    }
}
