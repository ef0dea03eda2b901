//! What happens to a body with fields that its kind does not have: the client's choice.

use serde_json::{Map, Value};

use super::{check, normalise, of_kind};
use crate::status::ApiError;

/// The query parameter `fieldValidation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    /// Unknown and duplicate fields come back as `Warning` headers.
    #[default]
    Warn,
    /// They are errors: what kubectl asks for.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter; absent or empty is the default.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" => Ok(Self::default()),
            "Ignore" => Ok(Self::Ignore),
            "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            other => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// Checks a body against its kind and brings it into normal form; returns texts for `Warning` headers.
/// `duplicates` come from [`crate::body::parse`]. A kind that is not ours is not checked.
///
/// # Errors
/// Values of wrong types, whatever the client asked for; in strict mode unknown and duplicate fields.
pub fn admit(
    api_version: &str,
    kind: &str,
    body: &mut Map<String, Value>,
    duplicates: &[String],
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    let Some(type_) = of_kind(api_version, kind) else { return Ok(Vec::new()) };
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let refuse = |why: String| {
        ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    };
    let findings = check(type_, body);
    if let Some(fatal) = findings.iter().find(|finding| finding.is_fatal()) {
        return Err(refuse(fatal.to_string()));
    }
    let duplicates = duplicates.iter().map(|path| format!("duplicate field {path:?}"));
    let lenient: Vec<String> = duplicates.chain(findings.iter().map(ToString::to_string)).collect();
    let warnings = match validation {
        FieldValidation::Strict if !lenient.is_empty() => {
            return Err(refuse(format!("strict decoding error: {}", lenient.join(", "))));
        }
        FieldValidation::Strict | FieldValidation::Warn => lenient,
        FieldValidation::Ignore => Vec::new(),
    };
    normalise(type_, body);
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use crate::body;

    use super::*;

    #[track_caller]
    fn check(text: &str, validation: FieldValidation, answer: Result<&[&str], &str>) {
        let body = body::parse(text.as_bytes()).unwrap();
        let Value::Object(mut object) = body.value else { panic!("{text} is no object") };
        let admitted = admit("apps/v1", "Deployment", &mut object, &body.duplicates, validation);
        let answer = answer.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(admitted.map_err(|error| error.message), answer.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn the_client_chooses() {
        let typo = r#"{"spec": {"replcias": 1, "paused": true, "paused": false}}"#;
        let (duplicate, unknown) = (r#"duplicate field "spec.paused""#, r#"unknown field "spec.replcias""#);
        check(typo, FieldValidation::Ignore, Ok(&[]));
        check(typo, FieldValidation::Warn, Ok(&[duplicate, unknown]));
        let strict = format!(
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: {duplicate}, {unknown}"
        );
        check(typo, FieldValidation::Strict, Err(&strict));
        check(
            r#"{"spec": {"replicas": "1"}}"#,
            FieldValidation::Ignore,
            Err(
                "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go \
                 struct field DeploymentSpec.spec.replicas of type int32",
            ),
        );
        check(r#"{"spec": {"replicas": 1}}"#, FieldValidation::Strict, Ok(&[]));
    }

    #[test]
    fn parameters() {
        assert_eq!(FieldValidation::parse(""), Ok(FieldValidation::Warn));
        assert_eq!(FieldValidation::parse("Strict"), Ok(FieldValidation::Strict));
        assert_eq!(FieldValidation::parse("strict").map_err(|error| error.code), Err(400));
    }
}
