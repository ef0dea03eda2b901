//! In which form an answer is wanted: whole objects, metadata only, or a table for people.

use http::HeaderMap;
use http::header::ACCEPT;
use hub_core::printing::Include;
use hub_core::status::ApiError;

/// How objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    /// `PartialObjectMetadata`
    Metadata,
    Table(Include),
}

/// The query parameter `includeObject`; absent is metadata.
pub(super) fn include(text: Option<&str>) -> Result<Include, ApiError> {
    let Some(text) = text else { return Ok(Include::default()) };
    Include::parse(text).ok_or_else(|| {
        ApiError::bad_request(format!(
            "unrecognized includeObject value {text:?}: supported values: \"None\", \"Metadata\", \"Object\""
        ))
    })
}

impl Form {
    /// The first form of the `Accept` header that we can write. Answers are JSON only: clients that
    /// prefer protobuf take JSON, too.
    ///
    /// # Errors
    /// 406 where there is none.
    pub(super) fn accepted(headers: &HeaderMap, include: Include) -> Result<Self, ApiError> {
        let texts: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut ranges =
            texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()).peekable();
        if ranges.peek().is_none() {
            return Ok(Self::Whole);
        }
        ranges.find_map(|range| Self::of_range(range, include)).ok_or_else(|| {
            ApiError::new(406, "NotAcceptable", "only the following media types are accepted: application/json")
        })
    }

    fn of_range(range: &str, include: Include) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let (mut wanted, mut version, mut group) = (None, None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => wanted = Some(value),
                Some(("v", value)) => version = Some(value),
                Some(("g", value)) => group = Some(value),
                // `q`, `charset` and `stream` change nothing in what we write.
                _ => {}
            }
        }
        match (wanted, group, version) {
            (None, _, _) => Some(Self::Whole),
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Self::Table(include)),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
                Some(Self::Metadata)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_first_form_that_we_can_write() {
        let check = |accept: &'static str, expected: Option<Form>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Form::accepted(&headers, Include::Metadata).ok(), expected, "{accept}");
        };
        let table = Form::Table(Include::Metadata);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some(table),
        );
        check("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some(Form::Whole));
        check("application/vnd.kubernetes.protobuf,application/json", Some(Form::Whole));
        check("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Form::Metadata));
        check("*/*", Some(Form::Whole));
        check("", Some(Form::Whole));
        check("application/json;q=0.9", Some(Form::Whole));
        check("application/yaml", None);
    }
}
