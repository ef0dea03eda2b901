//! Answers: JSON with a newline at its end, errors as `Status`, warnings as headers.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{HeaderMap, StatusCode};
use hub_core::kinds::Resource;
use hub_core::object::Object;
use hub_core::status::ApiError;
use serde_json::{Value, json};

/// A warning longer than this is cut: some proxies drop larger headers.
const WARNING_MAX: usize = 1000;
/// More warnings than a person reads.
const WARNINGS_MAX: usize = 32;
pub(super) const JSON: &str = "application/json";

/// What kept a request from being served, on its way to the client.
#[derive(Debug)]
pub(super) enum Failure {
    /// The path is none of the API's. Clients word this themselves, and some trip over a `Status`
    /// that is about nothing.
    NoSuchPath,
    Error {
        error: Box<ApiError>,
        warnings: Vec<String>,
    },
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Error { error: Box::new(error), warnings: Vec::new() }
    }
}

impl Failure {
    pub(super) fn with_warnings(self, warnings: Vec<String>) -> Self {
        match self {
            Self::NoSuchPath => self,
            Self::Error { error, .. } => Self::Error { error, warnings },
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
            Self::Error { error: told, warnings } => {
                let mut response = error(&told);
                warn(response.headers_mut(), &warnings);
                response
            }
        }
    }
}

pub(super) fn method_not_allowed() -> ApiError {
    ApiError::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

pub(super) fn error(error: &ApiError) -> Response {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &error.to_json());
    if let Some(seconds) = error.retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(super) fn json(code: StatusCode, value: &Value) -> Response {
    typed(code, value, JSON)
}

/// JSON under a more special name.
pub(super) fn typed(code: StatusCode, value: &Value, content_type: &str) -> Response {
    let mut response = Response::new(Body::from(line(value)));
    *response.status_mut() = code;
    let content_type = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static(JSON));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub(super) fn line(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("JSON values are written as JSON");
    bytes.push(b'\n');
    bytes
}

/// `Status` of what worked, where there is no object to show.
pub(super) fn success(code: StatusCode, details: Value) -> Response {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if !details.is_null() {
        status["details"] = details;
    }
    if code != StatusCode::OK {
        status["code"] = json!(code.as_u16());
    }
    json(code, &status)
}

/// What a `Status` says of the object that it is about.
pub(super) fn details(resource: &Resource, object: &Object) -> Value {
    let mut details = json!({"name": object.name()});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    details["kind"] = json!(resource.plural);
    details["uid"] = json!(object.uid());
    details
}

/// `299 - "text"` for each, as kubectl prints them.
pub(super) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    for text in warnings.iter().take(WARNINGS_MAX) {
        let mut quoted = String::with_capacity(text.len() + 8);
        for letter in text.chars().take(WARNING_MAX) {
            match letter {
                '"' | '\\' => quoted.extend(['\\', letter]),
                letter if letter.is_control() => quoted.push(' '),
                letter => quoted.push(letter),
            }
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_never_break_the_header() {
        let mut headers = HeaderMap::new();
        warn(&mut headers, &["say \"hi\"\r\nX-Evil: 1".to_owned()]);
        assert_eq!(headers.get(WARNING).unwrap(), "299 - \"say \\\"hi\\\"  X-Evil: 1\"");
    }

    #[test]
    fn a_success_reads_as_kubernetes_writes_it() {
        let text = String::from_utf8(line(&json!({"kind": "Status", "apiVersion": "v1"}))).unwrap();
        assert_eq!(text, "{\"kind\":\"Status\",\"apiVersion\":\"v1\"}\n");
    }
}
