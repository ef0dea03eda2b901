//! Who asks, and whether they may.
//!
//! A client certificate of our CA or a bearer token, or 401. Roles are not served yet: administrators
//! may do everything, and everyone else may ask who they are and what there is.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method};
use hub_core::status::ApiError;
use protocol::UnixMillis;
use rustls::pki_types::CertificateDer;

use super::answer::Failure;
use super::{Api, answer};
use crate::pki::User;

/// The certificate that a connection showed, verified by TLS; put into each of its requests.
#[derive(Clone, Default)]
pub struct Peer(pub Option<CertificateDer<'static>>);

/// ServiceAccounts of this namespace run the cluster, as in Kubernetes.
const SYSTEM_ACCOUNTS: &str = "system:serviceaccounts:kube-system";

/// Lets a request through with its [`User`] in it, or answers 401 or 403.
pub(super) async fn require(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let bearer = bearer(request.headers());
    let now = UnixMillis(api.clock().unix_millis());
    let Some(user) = api.parts.authenticator.identify(peer.0.as_ref(), bearer.as_deref(), now) else {
        let mut response = answer::error(&ApiError::unauthorized());
        // Registry clients send what they know only after being asked.
        if request.uri().path().starts_with("/v2") {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"wherry\""));
        }
        return response;
    };
    if !may(&user, request.method(), request.uri().path()) {
        let message = format!(
            "User {:?} cannot {} {}",
            user.name,
            request.method().as_str().to_lowercase(),
            request.uri().path()
        );
        return Failure::from(ApiError::forbidden(format!("forbidden: {message}"))).into_response();
    }
    request.extensions_mut().insert(user);
    next.run(request).await
}

/// The token of an `Authorization` header; registry clients put it where a password stands.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(BASE64.decode(credentials.trim()).ok()?).ok()?;
        return decoded.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

pub(super) fn is_administrator(user: &User) -> bool {
    user.is_master() || user.groups.iter().any(|group| group == SYSTEM_ACCOUNTS)
}

fn may(user: &User, method: &Method, path: &str) -> bool {
    if is_administrator(user) {
        return true;
    }
    if user.is_node() {
        return false;
    }
    let path = path.trim_end_matches('/');
    let depth = path.split('/').count();
    let of_oneself = path.contains(".k8s.io/v1/selfsubject");
    match *method {
        Method::GET | Method::HEAD => {
            matches!(path, "/version" | "/healthz" | "/livez" | "/readyz")
                || path.starts_with("/openapi/")
                || (path.starts_with("/apis") && depth <= 4)
                || (path.starts_with("/api") && !path.starts_with("/apis") && depth <= 3)
        }
        Method::POST => of_oneself,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_do_what() {
        let user = |group: &str| User { name: "x".into(), groups: vec![group.into()] };
        let check = |group: &str, method: Method, path: &str, expected: bool| {
            assert_eq!(may(&user(group), &method, path), expected, "{group} {method} {path}");
        };
        check("system:masters", Method::DELETE, "/api/v1/nodes/a", true);
        check(SYSTEM_ACCOUNTS, Method::POST, "/api/v1/namespaces/a/pods", true);
        for path in ["/version", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/openapi/v3/api/v1"] {
            check("system:serviceaccounts:home", Method::GET, path, true);
            check("system:nodes", Method::GET, path, false);
        }
        for path in ["/api/v1/pods", "/apis/apps/v1/deployments", "/wherry/v1/tokens", "/v2/", "/metrics"] {
            check("system:serviceaccounts:home", Method::GET, path, false);
        }
        check("system:serviceaccounts:home", Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews", true);
        check("system:serviceaccounts:home", Method::POST, "/api/v1/namespaces", false);
    }

    #[test]
    fn tokens_stand_in_two_places() {
        let check = |value: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            assert_eq!(bearer(&headers).as_deref(), expected, "{value}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer  abc", Some("abc"));
        check(&format!("Basic {}", BASE64.encode("me:abc:d")), Some("abc:d"));
        for nothing in ["abc", "Digest x", "Basic !", "Basic YQ=="] {
            check(nothing, None);
        }
    }
}
