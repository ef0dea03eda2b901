//! Label selectors.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::MOST_TEXT;
use crate::name::{NameKind, NameProblem, problems};
use crate::object::Object;

/// Requirements that must all hold; without any, everything matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector(Vec<Requirement>);

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// There, with one of these values.
    In(BTreeSet<String>),
    /// Absent, or with none of these values.
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    /// There, an integer, and greater.
    GreaterThan(i64),
    LessThan(i64),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    #[error("selector is longer than {MOST_TEXT} bytes")]
    TooLong,
    #[error("found '{found}', expected: {expected}")]
    Syntax { found: String, expected: &'static str },
    #[error("key: Invalid value: {key:?}: {problem}")]
    Key { key: String, problem: NameProblem },
    #[error("values[0][{key}]: Invalid value: {value:?}: {problem}")]
    Value { key: String, value: String, problem: NameProblem },
    #[error("values: Invalid value: for 'Gt', 'Lt' operators, the value must be an integer")]
    NotAnInteger,
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    #[error("for '{0}' operators, values set can't be empty")]
    NoValues(&'static str),
    #[error("values set must be empty for exists and does not exist")]
    SuperfluousValues,
    #[error("label selector is of the wrong type at {0}")]
    Type(&'static str),
}

impl LabelSelector {
    /// Reads a query string: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`. Empty text matches everything.
    ///
    /// # Errors
    /// Another syntax, or keys and values that no label can have.
    pub fn parse(text: &str) -> Result<Self, LabelSelectorError> {
        if text.len() > MOST_TEXT {
            return Err(LabelSelectorError::TooLong);
        }
        let mut tokens = Tokens { rest: text };
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Self::default());
        }
        loop {
            requirements.push(tokens.requirement()?);
            match tokens.take() {
                Token::End => break,
                Token::Comma => (),
                other => return Err(other.unexpected("',' or 'end of string'")),
            }
        }
        Self::new(requirements)
    }

    /// Reads the `selector` of a spec: `{matchLabels, matchExpressions}`.
    ///
    /// # Errors
    /// JSON of another shape, unknown operators, keys and values that no label can have.
    pub fn from_json(selector: &Value) -> Result<Self, LabelSelectorError> {
        let selector = selector.as_object().ok_or(LabelSelectorError::Type("selector"))?;
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").filter(|value| !value.is_null()) {
            let labels = labels.as_object().ok_or(LabelSelectorError::Type("matchLabels"))?;
            for (key, value) in labels {
                let value = value.as_str().ok_or(LabelSelectorError::Type("matchLabels"))?;
                requirements.push(Requirement::equals(key, value));
            }
        }
        if let Some(expressions) = selector.get("matchExpressions").filter(|value| !value.is_null()) {
            let expressions = expressions.as_array().ok_or(LabelSelectorError::Type("matchExpressions"))?;
            for expression in expressions {
                requirements.push(Requirement::from_json(expression)?);
            }
        }
        Self::new(requirements)
    }

    /// Reads the `selector` of a Service: plain labels.
    pub fn from_labels(labels: &Map<String, Value>) -> Self {
        let equal = labels.iter().filter_map(|(key, value)| Some(Requirement::equals(key, value.as_str()?)));
        Self(sorted(equal.collect()))
    }

    fn new(requirements: Vec<Requirement>) -> Result<Self, LabelSelectorError> {
        requirements.iter().try_for_each(Requirement::check)?;
        Ok(Self(sorted(requirements)))
    }

    /// Whether it has no requirement, and so matches everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.matches_labels(|key| object.label(key))
    }

    /// The same over any set of labels.
    pub fn matches_labels<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }
}

fn sorted(mut requirements: Vec<Requirement>) -> Vec<Requirement> {
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    requirements
}

impl Requirement {
    fn equals(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), operator: Operator::In(BTreeSet::from([value.to_owned()])) }
    }

    fn from_json(expression: &Value) -> Result<Self, LabelSelectorError> {
        let text = |field| expression.get(field).and_then(Value::as_str);
        let key = text("key").ok_or(LabelSelectorError::Type("matchExpressions.key"))?;
        let values: BTreeSet<String> = match expression.get("values") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or(LabelSelectorError::Type("matchExpressions.values"))?,
            Some(_) => return Err(LabelSelectorError::Type("matchExpressions.values")),
        };
        let operator = match (text("operator").unwrap_or_default(), values.is_empty()) {
            ("In", false) => Operator::In(values),
            ("NotIn", false) => Operator::NotIn(values),
            ("In" | "NotIn", true) => return Err(LabelSelectorError::NoValues("in', 'notin")),
            ("Exists", true) => Operator::Exists,
            ("DoesNotExist", true) => Operator::Absent,
            ("Exists" | "DoesNotExist", false) => return Err(LabelSelectorError::SuperfluousValues),
            (other, _) => return Err(LabelSelectorError::Operator(other.to_owned())),
        };
        Ok(Self { key: key.to_owned(), operator })
    }

    /// That the key and the values are ones that labels can have.
    fn check(&self) -> Result<(), LabelSelectorError> {
        if let Some(problem) = problems(NameKind::Qualified, &self.key).into_iter().next() {
            return Err(LabelSelectorError::Key { key: self.key.clone(), problem });
        }
        let values = match &self.operator {
            Operator::In(values) | Operator::NotIn(values) => values,
            Operator::Exists | Operator::Absent | Operator::GreaterThan(_) | Operator::LessThan(_) => return Ok(()),
        };
        let broken = values.iter().find_map(|value| {
            let problem = problems(NameKind::LabelValue, value).into_iter().next()?;
            Some(LabelSelectorError::Value { key: self.key.clone(), value: value.clone(), problem })
        });
        broken.map_or(Ok(()), Err)
    }

    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// The query string again, keys in order; `<none>` for everything, as columns show it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("<none>");
        }
        for (index, requirement) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => f.write_str(key),
            Operator::Absent => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Comma,
    Not,
    Equal,
    NotEqual,
    Greater,
    Less,
    Open,
    Close,
    End,
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::End => "",
        }
    }

    fn unexpected(&self, expected: &'static str) -> LabelSelectorError {
        LabelSelectorError::Syntax { found: self.text().to_owned(), expected }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    const SYMBOLS: [(&'static str, Token<'static>); 9] = [
        ("!=", Token::NotEqual),
        ("==", Token::Equal),
        ("=", Token::Equal),
        ("!", Token::Not),
        (",", Token::Comma),
        ("(", Token::Open),
        (")", Token::Close),
        (">", Token::Greater),
        ("<", Token::Less),
    ];

    fn peek(&self) -> Token<'a> {
        self.split().0
    }

    fn take(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }

    fn split(&self) -> (Token<'a>, &'a str) {
        let text = self.rest.trim_start();
        if text.is_empty() {
            return (Token::End, text);
        }
        for (symbol, token) in Self::SYMBOLS {
            if let Some(rest) = text.strip_prefix(symbol) {
                return (token, rest);
            }
        }
        let end = text.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(text.len());
        (Token::Word(&text[..end]), &text[end..])
    }

    fn requirement(&mut self) -> Result<Requirement, LabelSelectorError> {
        let (negated, first) = match self.take() {
            Token::Not => (true, self.take()),
            other => (false, other),
        };
        let Token::Word(key) = first else { return Err(first.unexpected("'identifier'")) };
        let operator = if negated { Operator::Absent } else { self.operator()? };
        Ok(Requirement { key: key.to_owned(), operator })
    }

    fn operator(&mut self) -> Result<Operator, LabelSelectorError> {
        match self.peek() {
            Token::End | Token::Comma => return Ok(Operator::Exists),
            _ => (),
        }
        match self.take() {
            Token::Equal => Ok(Operator::In(BTreeSet::from([self.value().to_owned()]))),
            Token::NotEqual => Ok(Operator::NotIn(BTreeSet::from([self.value().to_owned()]))),
            Token::Word("in") => self.values().map(Operator::In),
            Token::Word("notin") => self.values().map(Operator::NotIn),
            Token::Greater => self.number().map(Operator::GreaterThan),
            Token::Less => self.number().map(Operator::LessThan),
            other => Err(other.unexpected("'in', 'notin', '=', '==', '!=', '>', '<'")),
        }
    }

    /// A value may be missing: `a=` asks for the empty one.
    fn value(&mut self) -> &'a str {
        match self.peek() {
            Token::Word(word) => {
                self.take();
                word
            }
            _ => "",
        }
    }

    fn number(&mut self) -> Result<i64, LabelSelectorError> {
        self.value().parse().map_err(|_| LabelSelectorError::NotAnInteger)
    }

    fn values(&mut self) -> Result<BTreeSet<String>, LabelSelectorError> {
        match self.take() {
            Token::Open => (),
            other => return Err(other.unexpected("'('")),
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value().to_owned());
            match self.take() {
                Token::Close => return Ok(values),
                Token::Comma => (),
                other => return Err(other.unexpected("',' or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The labels of the object under test.
    fn labels(key: &str) -> Option<&'static str> {
        [("app", "web"), ("tier", "front"), ("n", "7"), ("empty", "")].iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    #[track_caller]
    fn check(text: &str, printed: &str, matches: bool) {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.to_string(), printed, "{text:?}");
        assert_eq!(selector.matches_labels(labels), matches, "{text:?}");
        if !selector.is_everything() {
            assert_eq!(LabelSelector::parse(printed).unwrap(), selector, "{text:?} reads back");
        }
    }

    #[test]
    fn query_strings() {
        check("", "<none>", true);
        check("  ", "<none>", true);
        check("app=web", "app=web", true);
        check("app == web", "app=web", true);
        check("app=db", "app=db", false);
        check("app!=web", "app!=web", false);
        check("other!=web", "other!=web", true);
        check("tier in (front, back)", "tier in (back,front)", true);
        check("tier in (back)", "tier=back", false);
        check("tier notin (back,)", "tier notin (,back)", true);
        check("absent notin (a,b)", "absent notin (a,b)", true);
        check("app", "app", true);
        check("!app", "!app", false);
        check("! absent", "!absent", true);
        check("tier=front,app=web", "app=web,tier=front", true);
        check("tier=front,app=db", "app=db,tier=front", false);
        check("n>6,n<8", "n>6,n<8", true);
        check("n > 7", "n>7", false);
        check("app>1", "app>1", false);
        check("empty=", "empty=", true);
        check("app=", "app=", false);
        check("in in (in)", "in=in", false);
        check("kubernetes.io/arch!=arm64", "kubernetes.io/arch!=arm64", true);
    }

    #[test]
    fn bad_query_strings() {
        for text in [
            ",",
            "a,",
            "=a",
            "a=b c",
            "a in",
            "a in b",
            "a in (b",
            "a in (b c)",
            "a b",
            "!",
            "!a=b",
            "a>x",
            "a=b=c",
            "a_/b",
            "a=é",
            "a=-",
            "(",
            "a=(b)",
        ] {
            assert!(LabelSelector::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(LabelSelector::parse(&"a".repeat(MOST_TEXT + 1)), Err(LabelSelectorError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(text in "[ab=!,()<> in1é]{0,16}") {
            if let Ok(selector) = LabelSelector::parse(&text) && !selector.is_everything() {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }

    #[track_caller]
    fn check_json(selector: &Value, answer: &str) {
        let text = match LabelSelector::from_json(selector) {
            Ok(selector) => selector.to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(text, answer, "{selector}");
    }

    #[test]
    fn selectors_of_specs() {
        let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
        check_json(&json!({}), "<none>");
        check_json(&json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2");
        check_json(&json!({"matchLabels": null, "matchExpressions": null}), "<none>");
        check_json(&expression("In", json!(["x", "y"])), "a in (x,y)");
        check_json(&expression("NotIn", json!(["x"])), "a!=x");
        check_json(&expression("Exists", Value::Null), "a");
        check_json(&expression("DoesNotExist", json!([])), "!a");
        check_json(&expression("In", json!([])), "error: for 'in', 'notin' operators, values set can't be empty");
        check_json(
            &expression("Exists", json!(["x"])),
            "error: values set must be empty for exists and does not exist",
        );
        check_json(&expression("Near", json!(["x"])), "error: \"Near\" is not a valid label selector operator");
        check_json(&json!([]), "error: label selector is of the wrong type at selector");
        check_json(&json!({"matchLabels": {"a": 1}}), "error: label selector is of the wrong type at matchLabels");
    }

    #[test]
    fn matches_objects() {
        let object = Object::from_value(json!({"metadata": {"labels": {"app": "web"}}})).unwrap();
        let selector = LabelSelector::from_labels(json!({"app": "web"}).as_object().unwrap());
        assert!(selector.matches(&object));
        assert!(!selector.matches(&Object::default()));
    }
}
