//! What names, labels and keys may look like, and how the server makes up a name.
//!
//! The texts say what Kubernetes' say, down to the expression: people look them up.

use std::fmt;

/// What a name is for decides its alphabet and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// RFC 1123 label, 63 bytes: namespaces, containers, volumes.
    Label,
    /// RFC 1123 subdomain, 253 bytes: most objects.
    Subdomain,
    /// RFC 1035 label, 63 bytes, starts with a letter: services.
    ServiceLabel,
    /// `[prefix/]name`: keys of labels, annotations, taints.
    Qualified,
    /// At most 63 bytes, may be empty.
    LabelValue,
    /// A key of a ConfigMap or Secret, which becomes a file's name.
    DataKey,
    /// An environment variable.
    EnvVar,
    /// A port's name: 15 bytes, at least one letter.
    Port,
}

const LABEL_MOST: usize = 63;
const SUBDOMAIN_MOST: usize = 253;
const PORT_MOST: usize = 15;
/// The server adds this many characters to `generateName`.
const SUFFIX_LEN: usize = 5;
/// No vowels and nothing that reads as one, so that no words come out.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// What is wrong with a name; prints as the text for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    #[error("must be no more than {0} bytes")]
    TooLong(usize),
    #[error("must be non-empty")]
    Empty,
    #[error("{rule} (e.g. {examples}, regex used for validation is '{regex}')")]
    Shape { rule: &'static str, examples: &'static str, regex: &'static str },
    #[error("{0}")]
    Rule(&'static str),
    /// A problem with one half of a qualified name.
    #[error("{part} part {problem}")]
    Part { part: Part, problem: Box<NameProblem> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Prefix,
    Name,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "prefix",
            Self::Name => "name",
        })
    }
}

/// Everything wrong with `text` as a name of that kind; empty if nothing is.
pub fn problems(kind: NameKind, text: &str) -> Vec<NameProblem> {
    match kind {
        NameKind::Label => within(LABEL_MOST, text, is_dns_label(text), LABEL_RULE),
        NameKind::Subdomain => within(SUBDOMAIN_MOST, text, is_subdomain(text), SUBDOMAIN_RULE),
        NameKind::ServiceLabel => {
            let shape = is_dns_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
            within(LABEL_MOST, text, shape, SERVICE_RULE)
        }
        NameKind::Qualified => qualified_problems(text),
        NameKind::LabelValue => within(LABEL_MOST, text, text.is_empty() || is_word(text), LABEL_VALUE_RULE),
        NameKind::DataKey => data_key_problems(text),
        NameKind::EnvVar => env_var_problems(text),
        NameKind::Port => port_problems(text),
    }
}

/// Whether `text` is a name of that kind.
pub fn is_valid(kind: NameKind, text: &str) -> bool {
    problems(kind, text).is_empty()
}

const LABEL_RULE: NameProblem = NameProblem::Shape {
    rule: "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
           end with an alphanumeric character",
    examples: "'my-name', or '123-abc'",
    regex: "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
};

const SUBDOMAIN_RULE: NameProblem = NameProblem::Shape {
    rule: "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
           start and end with an alphanumeric character",
    examples: "'example.com'",
    regex: r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
};

const SERVICE_RULE: NameProblem = NameProblem::Shape {
    rule: "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
           character, and end with an alphanumeric character",
    examples: "'my-name', or 'abc-123'",
    regex: "[a-z]([-a-z0-9]*[a-z0-9])?",
};

const QUALIFIED_RULE: NameProblem = NameProblem::Shape {
    rule: "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
           character",
    examples: "'MyName', or 'my.name', or '123-abc'",
    regex: "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
};

const LABEL_VALUE_RULE: NameProblem = NameProblem::Shape {
    rule: "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
           start and end with an alphanumeric character",
    examples: "'MyValue', or 'my_value', or '12345'",
    regex: "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
};

const DATA_KEY_RULE: NameProblem = NameProblem::Shape {
    rule: "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    examples: "'key.name', or 'KEY_NAME', or 'key-name'",
    regex: "[-._a-zA-Z0-9]+",
};

fn within(most: usize, text: &str, shape: bool, rule: NameProblem) -> Vec<NameProblem> {
    let too_long = (text.len() > most).then_some(NameProblem::TooLong(most));
    too_long.into_iter().chain((!shape).then_some(rule)).collect()
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    !text.is_empty() && text.bytes().all(|b| inner(&b)) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns_label)
}

fn is_word(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(is_word_byte)
}

fn is_word_byte(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.".contains(b)
}

fn qualified_problems(text: &str) -> Vec<NameProblem> {
    let part = |part, problem| NameProblem::Part { part, problem: Box::new(problem) };
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if name.contains('/') {
        return vec![NameProblem::Rule(
            "a qualified name must consist of a name part and an optional DNS subdomain prefix and '/' (e.g. \
             'example.com/MyName')",
        )];
    }
    let prefix_problems = match prefix {
        None => Vec::new(),
        Some("") => vec![NameProblem::Empty],
        Some(prefix) => problems(NameKind::Subdomain, prefix),
    };
    let name_problems = if name.is_empty() {
        vec![NameProblem::Empty]
    } else {
        within(LABEL_MOST, name, is_word(name), QUALIFIED_RULE)
    };
    let prefix_problems = prefix_problems.into_iter().map(|problem| part(Part::Prefix, problem));
    prefix_problems.chain(name_problems.into_iter().map(|problem| part(Part::Name, problem))).collect()
}

fn data_key_problems(text: &str) -> Vec<NameProblem> {
    let shape = !text.is_empty() && text.bytes().all(|b| is_word_byte(&b));
    let mut found = within(SUBDOMAIN_MOST, text, shape, DATA_KEY_RULE);
    // Such a key would name a directory, or hide among the links that updates swap.
    match text {
        "." => found.push(NameProblem::Rule("must not be '.'")),
        ".." => found.push(NameProblem::Rule("must not be '..'")),
        _ if text.starts_with("..") => found.push(NameProblem::Rule("must not start with '..'")),
        _ => (),
    }
    found
}

fn env_var_problems(text: &str) -> Vec<NameProblem> {
    if text.is_empty() {
        return vec![NameProblem::Empty];
    }
    let shape = text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    let rule = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    if shape { Vec::new() } else { vec![NameProblem::Rule(rule)] }
}

fn port_problems(text: &str) -> Vec<NameProblem> {
    let rules = [
        (
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (text.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (!text.contains("--"), "must not contain consecutive hyphens"),
        (!text.starts_with('-') && !text.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    let too_long = (text.len() > PORT_MOST).then_some(NameProblem::TooLong(PORT_MOST));
    let broken = rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| NameProblem::Rule(rule));
    too_long.into_iter().chain(broken).collect()
}

/// A name from `generateName`: the prefix, cut so that the whole stays a label, and five characters
/// drawn from `random`.
pub fn generate(prefix: &str, random: u64) -> String {
    let mut end = prefix.len().min(LABEL_MOST - SUFFIX_LEN);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], suffix(random))
}

/// Five characters that spell no word.
pub fn suffix(random: u64) -> String {
    let mut rest = random;
    let base = SUFFIX_ALPHABET.len() as u64;
    let letters = std::iter::repeat_with(|| {
        let letter = SUFFIX_ALPHABET[(rest % base) as usize];
        rest /= base;
        char::from(letter)
    });
    letters.take(SUFFIX_LEN).collect()
}

/// Text in the suffixes' alphabet, byte by byte: turns the digits of a hash into a label's value.
pub fn encode_safely(text: &str) -> String {
    text.bytes().map(|b| char::from(SUFFIX_ALPHABET[usize::from(b) % SUFFIX_ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: NameKind, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(problems(kind, text), Vec::new(), "{text:?}");
        }
        for text in bad {
            assert!(!is_valid(kind, text), "{text:?} should be refused");
        }
    }

    #[test]
    fn alphabets() {
        let long = "a".repeat(64);
        check(NameKind::Label, &["a", "ab", "a1", "1", "0a", "a--b"], &["", "A", "-a", "a-", "a.b", "a_b", "é", &long]);
        check(
            NameKind::Subdomain,
            &["a", "a.b", "1.2.3", &long, "a.".repeat(126).trim_end_matches('.')],
            &["", ".", "a.", ".a", "a..b", "A.b", "a_b", &"a".repeat(254)],
        );
        check(NameKind::ServiceLabel, &["a", "a1", "a-b"], &["1a", "", "a.b", "-a", &long]);
        check(
            NameKind::Qualified,
            &["simple", "1-num", "a.b/c", "example.com/MyName_1"],
            &["", "/a", "a/", "a/b/c", "A.com/x", "-a", "a-", "a b", &long],
        );
        check(NameKind::LabelValue, &["", "a", "A_b-c.d", "1"], &["-", "a/b", "a ", &long]);
        check(NameKind::DataKey, &["a", "A.b_c-d", ".hidden", "-"], &["", ".", "..", "..a", "a/b", "a b"]);
        check(NameKind::EnvVar, &["A", "a.b-c", "1", "a b"], &["", "a=b", "é", "a\n"]);
        check(NameKind::Port, &["http", "p2p", "a-1"], &["", "80", "HTTP", "a--b", "-a", "sixteen-letters-"]);
    }

    #[test]
    fn texts_name_the_part() {
        let text =
            |kind, name: &str| problems(kind, name).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(text(NameKind::Label, "A").starts_with("a lowercase RFC 1123 label must consist of"));
        assert!(text(NameKind::Label, "A").ends_with("regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"));
        assert_eq!(text(NameKind::Label, &"a".repeat(64)), "must be no more than 63 bytes");
        assert_eq!(text(NameKind::Qualified, ""), "name part must be non-empty");
        assert!(text(NameKind::Qualified, "A_/x").starts_with("prefix part a lowercase RFC 1123 subdomain"));
    }

    #[test]
    fn generated_names_are_labels() {
        assert_eq!(generate("web-", 0), "web-bbbbb");
        for random in [0, 1, 27, u64::MAX, 0x1234_5678_9abc_def0] {
            let name = generate(&"x".repeat(100), random);
            assert_eq!(name.len(), 63);
            assert!(is_valid(NameKind::Label, &name), "{name}");
        }
        assert_ne!(suffix(1), suffix(2));
        assert_eq!(generate(&"é".repeat(50), 0).chars().count(), 29 + 5);
        assert_eq!(encode_safely("1234567890").len(), 10);
    }
}
