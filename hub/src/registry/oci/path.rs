//! Paths and parameters of `/v2`. Names have slashes in them, so a path is read from its end.

use std::str::FromStr;

use protocol::ids::Digest;

use super::answer::OciError;
use crate::registry::reference::{InvalidReference, RepositoryName, Version};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Catalog,
    Tags(RepositoryName),
    Blob(RepositoryName, Digest),
    Manifest(RepositoryName, Version),
    Uploads(RepositoryName),
    Upload(RepositoryName, String),
}

impl FromStr for Route {
    type Err = OciError;

    fn from_str(path: &str) -> Result<Self, OciError> {
        let path = path.strip_prefix("/v2/").ok_or(OciError::NotFound)?;
        if path == "_catalog" {
            return Ok(Self::Catalog);
        }
        let name = |text: &str| text.parse::<RepositoryName>().map_err(OciError::from);
        if let Some(repository) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name(repository)?));
        }
        if let Some(repository) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
            return Ok(Self::Uploads(name(repository)?));
        }
        let (rest, last) = path.rsplit_once('/').ok_or(OciError::NotFound)?;
        if let Some(repository) = rest.strip_suffix("/blobs/uploads") {
            return Ok(Self::Upload(name(repository)?, last.to_owned()));
        }
        if let Some(repository) = rest.strip_suffix("/blobs") {
            return Ok(Self::Blob(name(repository)?, digest(last)?));
        }
        if let Some(repository) = rest.strip_suffix("/manifests") {
            return Ok(Self::Manifest(name(repository)?, last.parse()?));
        }
        Err(OciError::NotFound)
    }
}

fn digest(text: &str) -> Result<Digest, OciError> {
    text.parse().map_err(|_| InvalidReference::Digest { digest: text.to_owned() }.into())
}

/// What stands after the `?`. The last of two wins.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key), percent_decode(value))
        });
        Self(pairs.collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn digest(&self, key: &str) -> Result<Option<Digest>, OciError> {
        self.get(key).map(digest).transpose()
    }
}

/// `%3A` and `+`; what is no escape stays as it is.
fn percent_decode(text: &str) -> String {
    let hex = |digit: Option<&u8>| digit.and_then(|d| char::from(*d).to_digit(16));
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hex digits make a byte"));
                at += 3;
            }
            (b'+', ..) => {
                decoded.push(b' ');
                at += 1;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &str) {
        let got = match path.parse::<Route>() {
            Ok(Route::Catalog) => "catalog".to_owned(),
            Ok(Route::Tags(name)) => format!("tags of {name}"),
            Ok(Route::Blob(name, _)) => format!("blob of {name}"),
            Ok(Route::Manifest(name, Version::Tag(tag))) => format!("manifest {tag} of {name}"),
            Ok(Route::Manifest(name, Version::Digest(_))) => format!("manifest by digest of {name}"),
            Ok(Route::Uploads(name)) => format!("uploads of {name}"),
            Ok(Route::Upload(name, id)) => format!("upload {id} of {name}"),
            Err(OciError::NotFound) => "not found".to_owned(),
            Err(_) => "invalid".to_owned(),
        };
        assert_eq!(got, expected, "{path}");
    }

    #[test]
    fn paths() {
        let sha = format!("sha256:{}", "0".repeat(64));
        check("/v2/_catalog", "catalog");
        check("/v2/hello/tags/list", "tags of hello");
        check("/v2/a/b/tags/list", "tags of a/b");
        check(&format!("/v2/a/blobs/{sha}"), "blob of a");
        check(&format!("/v2/blobs/blobs/{sha}"), "blob of blobs");
        check("/v2/a/blobs/sha256:1", "invalid");
        check("/v2/a/b/manifests/v1", "manifest v1 of a/b");
        check(&format!("/v2/a/manifests/{sha}"), "manifest by digest of a");
        check("/v2/a/manifests/.v1", "invalid");
        check("/v2/a/blobs/uploads/", "uploads of a");
        check("/v2/a/blobs/uploads", "uploads of a");
        check("/v2/a/blobs/uploads/7-f", "upload 7-f of a");
        check("/v2/../blobs/uploads/7", "invalid");
        check("/v2/A/tags/list", "invalid");
        check("/v2/hello", "not found");
        check("/v2/a/referrers/x", "not found");
        check("/v3/a/tags/list", "not found");
    }

    #[test]
    fn parameters() {
        let parameters = Parameters::parse("digest=sha256%3Aab&n=5&n=6&flag&x=%zz%4&y=a+b");
        assert_eq!(parameters.get("digest"), Some("sha256:ab"));
        assert_eq!(parameters.get("n"), Some("6"));
        assert_eq!(parameters.get("flag"), Some(""));
        assert_eq!(parameters.get("x"), Some("%zz%4"));
        assert_eq!(parameters.get("y"), Some("a b"));
        assert_eq!(parameters.get("none"), None);
    }
}
