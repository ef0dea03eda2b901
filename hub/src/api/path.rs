//! What a URL's path names.

/// A place below `/api`, `/apis` or `/openapi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `/api`
    Core,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Version { group: String, version: String },
    /// Everything deeper.
    Below { group: String, version: String, target: Target },
    /// `/openapi/...`, without the first part.
    OpenApi(String),
}

/// A collection, an object or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: Option<String>,
    pub(super) plural: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Place {
    /// `None` for a path that can name nothing.
    pub(super) fn parse(path: &str) -> Option<Self> {
        if let Some(document) = path.strip_prefix("/openapi/") {
            return Some(Self::OpenApi(document.to_owned()));
        }
        let segments: Vec<String> = path.trim_matches('/').split('/').map(decode).collect::<Option<_>>()?;
        let mut segments = segments.into_iter();
        let (group, version) = match segments.next()?.as_str() {
            "api" => match segments.next() {
                None => return Some(Self::Core),
                Some(version) => (String::new(), version),
            },
            "apis" => match (segments.next(), segments.next()) {
                (None, _) => return Some(Self::Groups),
                (Some(group), None) => return Some(Self::Group(group)),
                (Some(group), Some(version)) => (group, version),
            },
            _ => return None,
        };
        let rest: Vec<String> = segments.collect();
        if rest.is_empty() {
            return Some(Self::Version { group, version });
        }
        Target::parse(rest).map(|target| Self::Below { group, version, target })
    }
}

impl Target {
    fn parse(mut rest: Vec<String>) -> Option<Self> {
        if rest.iter().any(String::is_empty) {
            return None;
        }
        let of_namespace = |part: &str| matches!(part, "status" | "finalize");
        let namespace = match rest.as_slice() {
            // `/namespaces/x/status` is a part of the namespace itself.
            [first, _, third, ..] if first == "namespaces" && !(rest.len() == 3 && of_namespace(third)) => {
                Some(rest.remove(1))
            }
            _ => None,
        };
        if namespace.is_some() {
            rest.remove(0);
        }
        let mut rest = rest.into_iter();
        let target = Self { namespace, plural: rest.next()?, name: rest.next(), subresource: rest.next() };
        rest.next().is_none().then_some(target)
    }
}

/// Percent-decoding; `None` for what decodes to no text, or to one with a slash in it.
fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = segment.get(at + 1..at + 3)?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok().filter(|text| !text.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, expected: Option<Place>| assert_eq!(Place::parse(path), expected, "{path}");
        let below = |group: &str, version: &str, namespace: Option<&str>, rest: &[&str]| {
            let at = |at: usize| rest.get(at).map(|text| (*text).to_owned());
            let target = Target {
                namespace: namespace.map(str::to_owned),
                plural: rest[0].to_owned(),
                name: at(1),
                subresource: at(2),
            };
            Some(Place::Below { group: group.to_owned(), version: version.to_owned(), target })
        };
        check("/api", Some(Place::Core));
        check("/api/", Some(Place::Core));
        check("/apis", Some(Place::Groups));
        check("/apis/apps", Some(Place::Group("apps".into())));
        check("/api/v1", Some(Place::Version { group: String::new(), version: "v1".into() }));
        check("/apis/apps/v1", Some(Place::Version { group: "apps".into(), version: "v1".into() }));
        check("/api/v1/pods", below("", "v1", None, &["pods"]));
        check("/api/v1/namespaces", below("", "v1", None, &["namespaces"]));
        check("/api/v1/namespaces/a", below("", "v1", None, &["namespaces", "a"]));
        check("/api/v1/namespaces/a/status", below("", "v1", None, &["namespaces", "a", "status"]));
        check("/api/v1/namespaces/a/pods", below("", "v1", Some("a"), &["pods"]));
        check("/api/v1/namespaces/a/pods/b/log", below("", "v1", Some("a"), &["pods", "b", "log"]));
        check("/apis/apps/v1/namespaces/a/deployments/b", below("apps", "v1", Some("a"), &["deployments", "b"]));
        check("/api/v1/nodes/n%2D1", below("", "v1", None, &["nodes", "n-1"]));
        check("/openapi/v3/api/v1", Some(Place::OpenApi("v3/api/v1".into())));
        for nothing in
            ["/", "/other", "/api/v1/nodes/a/b/c", "/api/v1//pods", "/api/v1/nodes/a%2Fb", "/api/v1/nodes/%zz"]
        {
            check(nothing, None);
        }
    }
}
