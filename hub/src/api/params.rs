//! What a URL's query asks for.

use axum::extract::Query;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::Uri;
use hub_core::kinds::Resource;
use hub_core::selector::{FieldSelector, LabelSelector};
use hub_core::status::ApiError;
use hub_store::Revision;
use serde::{Deserialize, Serialize};

use crate::objects::{Filter, Resume};

/// The query, decoded.
#[derive(Debug, Clone, Default)]
pub(super) struct Params(Vec<(String, String)>);

/// How strictly fields are checked that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// What a `continue` token holds; opaque to clients.
#[derive(Serialize, Deserialize)]
struct Token {
    rv: u64,
    after: String,
}

impl Params {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        Query::try_from_uri(uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::bad_request(format!("the query cannot be read: {error}")))
    }

    /// The first value of that name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// `true`, `1`, or the bare name.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(key, value)| key == name && matches!(value.as_str(), "" | "1" | "t" | "true" | "True" | "TRUE"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| ApiError::bad_request(format!("invalid value {text:?} for parameter {name}")))
        };
        self.get(name).map(parse).transpose()
    }

    pub(super) fn is_watch(&self) -> bool {
        self.is_set("watch")
    }

    pub(super) fn is_dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                Err(ApiError::bad_request(format!("invalid dryRun value {other:?}: supported values: \"All\"")))
            }
        }
    }

    pub(super) fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(ApiError::bad_request(format!(
                "invalid fieldValidation value {other:?}: supported values: \"Ignore\", \"Warn\", \"Strict\""
            ))),
        }
    }

    /// Both selectors, and the name if the path gives one.
    pub(super) fn filter(&self, resource: &'static Resource, name: Option<&str>) -> Result<Filter, ApiError> {
        let labels = LabelSelector::parse(self.get("labelSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(format!("unable to parse requirement: {error}")))?;
        let fields = FieldSelector::parse(self.get("fieldSelector").unwrap_or_default())
            .and_then(|fields| fields.check(resource).map(|()| fields))
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        if labels.is_everything() && fields.is_everything() && name.is_none() {
            return Ok(Filter::all());
        }
        let name = name.map(str::to_owned);
        Ok(Filter::new(move |object| {
            name.as_deref().is_none_or(|name| object.name() == name)
                && labels.matches(object)
                && fields.matches(resource, object)
        }))
    }

    /// Where a list in pages goes on. The token must be of the same list.
    pub(super) fn resume(&self, prefix: &str) -> Result<Option<Resume>, ApiError> {
        let Some(text) = self.get("continue") else { return Ok(None) };
        let token = BASE64.decode(text).ok().and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok());
        match token {
            Some(token) if token.after.starts_with(prefix) => {
                Ok(Some(Resume { revision: Revision(token.rv), after: token.after }))
            }
            _ => Err(ApiError::bad_request("continue key is not valid")),
        }
    }
}

pub(super) fn continue_token(resume: &Resume) -> String {
    let token = Token { rv: resume.revision.0, after: resume.after.clone() };
    BASE64.encode(serde_json::to_vec(&token).expect("a token is plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn switches_and_choices() {
        assert!(params("watch=true").is_watch() && params("watch=1").is_watch() && params("watch").is_watch());
        assert!(!params("watch=false").is_watch() && !params("").is_watch());
        assert!(params("dryRun=All").is_dry_run().unwrap() && !params("").is_dry_run().unwrap());
        assert!(params("dryRun=Some").is_dry_run().is_err());
        assert_eq!(params("").field_validation().unwrap(), FieldValidation::Warn);
        assert!(params("fieldValidation=strict").field_validation().is_err());
        assert!(params("limit=many").number("limit").is_err());
    }

    #[test]
    fn a_token_goes_on_in_its_own_list_only() {
        let resume = Resume { revision: Revision(7), after: "/core/pods/a/b".into() };
        let params = params(&format!("continue={}", continue_token(&resume)));
        assert_eq!(params.resume("/core/pods/").unwrap(), Some(resume));
        assert!(params.resume("/core/secrets/").is_err());
        assert!(super::tests::params("continue=x").resume("/").is_err());
    }
}
