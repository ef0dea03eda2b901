//! What people write after `image:`: parsed here once, typed afterwards.

use std::fmt;
use std::str::FromStr;

use protocol::ids::Digest;

/// The tag where none is written.
const LATEST: &str = "latest";
/// OCI distribution 1.1: names of registries and clients together stay below 255 bytes.
const NAME_MAX: usize = 200;
/// OCI distribution 1.1.
const TAG_MAX: usize = 128;

/// A repository's name: `hello`, `plant/press-7/filter`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepositoryName(String);

impl RepositoryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let valid = text.len() <= NAME_MAX && text.split('/').all(is_component);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidReference::Name { name: text.to_owned() }) }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()].into_iter().all(|b| b.is_some_and(|b| alphanumeric(*b)));
    ends && bytes.split(|b| alphanumeric(*b)).all(|separator| match separator {
        b"" | b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|b| *b == b'-'),
    })
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = text.len() <= TAG_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidReference::Tag { tag: text.to_owned() }) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a repository's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    Tag(Tag),
    /// The manifest's.
    Digest(Digest),
}

impl FromStr for Version {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') { Ok(Self::Digest(digest(text)?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

/// An image, as named by its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Named {
        /// The registry's host, with its port, where one is written: `localhost:6443`.
        host: Option<String>,
        name: RepositoryName,
        version: Version,
    },
    /// `sha256:...`: a manifest's or a component's digest.
    Bare(Digest),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    #[error("{name:?} is no image name: use a-z, 0-9 and single . _ - or / between them")]
    Name { name: String },
    #[error("{tag:?} is no tag: use up to 128 letters, digits, . _ and -, not starting with . or -")]
    Tag { tag: String },
    #[error("{digest:?} is no digest: sha256: and 64 hex digits")]
    Digest { digest: String },
}

fn digest(text: &str) -> Result<Digest, InvalidReference> {
    text.parse().map_err(|_| InvalidReference::Digest { digest: text.to_owned() })
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let text = text.strip_prefix("oci://").unwrap_or(text);
        if text.starts_with("sha256:") {
            return digest(text).map(Self::Bare);
        }
        let (host, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first.to_owned()), rest),
            Some(_) | None => (None, text),
        };
        // With both, the digest decides and the tag is for people.
        let (rest, pinned) = match rest.split_once('@') {
            Some((rest, pin)) => (rest, Some(digest(pin)?)),
            None => (rest, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) => (name, tag.parse()?),
            None => (rest, Tag(LATEST.to_owned())),
        };
        let version = pinned.map_or(Version::Tag(tag), Version::Digest);
        Ok(Self::Named { host, name: name.parse()?, version })
    }
}

/// As Docker tells a host from the first part of a name.
fn is_host(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    starts && (text.contains(['.', ':']) || text == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match text.parse::<Reference>() {
            Ok(Reference::Bare(digest)) => format!("bare {}", &digest.hex()[..4]),
            Ok(Reference::Named { host, name, version }) => {
                let host = host.map_or(String::new(), |host| format!("{host} "));
                match version {
                    Version::Tag(tag) => format!("{host}{name} tag {tag}"),
                    Version::Digest(digest) => format!("{host}{name} digest {}", &digest.hex()[..4]),
                }
            }
            Err(InvalidReference::Name { name }) => format!("bad name {name}"),
            Err(InvalidReference::Tag { tag }) => format!("bad tag {tag}"),
            Err(InvalidReference::Digest { .. }) => "bad digest".to_owned(),
        };
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn references() {
        let sha = format!("sha256:{}", "ab".repeat(32));
        check("hello", "hello tag latest");
        check("hello:v1.2-rc", "hello tag v1.2-rc");
        check("plant/press-7/filter:1", "plant/press-7/filter tag 1");
        check("localhost/hello", "localhost hello tag latest");
        check("localhost:6443/a/b:1", "localhost:6443 a/b tag 1");
        check("ghcr.io/me/app", "ghcr.io me/app tag latest");
        check("oci://hub.local:6443/app:2", "hub.local:6443 app tag 2");
        check(&format!("hello@{sha}"), "hello digest abab");
        check(&format!("hello:v1@{sha}"), "hello digest abab");
        check(&sha, "bare abab");
        check("sha256:12", "bad digest");
        check("hello@sha256:zz", "bad digest");
        check("hello@latest", "bad digest");
    }

    #[test]
    fn hostile_references() {
        check("", "bad name ");
        check("Hello", "bad name Hello");
        check("a//b", "bad name a//b");
        check("../etc", "bad name ../etc");
        check("a/../b", "bad name a/../b");
        check("a/b/", "bad name a/b/");
        check("-a", "bad name -a");
        check("a___b", "bad name a___b");
        check("a:", "bad tag ");
        check("a:.b", "bad tag .b");
        check("a:b c", "bad tag b c");
        check("ä", "bad name ä");
        check(&"a".repeat(300), &format!("bad name {}", "a".repeat(300)));
    }

    #[test]
    fn separators_inside_names() {
        for good in ["a.b", "a_b", "a__b", "a-b", "a---b", "0"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in ["a..b", "a._b", "a.-b", "_a", "a.", "a b"] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }
}
