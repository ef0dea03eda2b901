//! Tokens of ServiceAccounts, and what a client asks about itself.

use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use hub_core::time;
use protocol::UnixMillis;
use serde_json::json;

use super::answer::{Failure, json};
use super::auth::is_administrator;
use super::path::Target;
use super::{Api, Call, body};
use crate::pki::User;

/// Kubernetes' default, and its bounds: shorter tokens expire before they are used.
const TOKEN_SECONDS: i64 = 3600;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

/// `kubectl create token`
pub(super) async fn token(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let Call { resource, namespace, params, request, .. } = call;
    let namespace = namespace.unwrap_or_default();
    let account = api.objects().get(resource, &namespace, name)?;
    let wish = body::object(request, "authentication.k8s.io/v1", "TokenRequest", params.field_validation()?).await?;
    let mut answer = wish.object;
    let seconds = answer.i64_at(&["spec", "expirationSeconds"]).unwrap_or(TOKEN_SECONDS);
    let seconds = seconds.clamp(TOKEN_SECONDS_MIN, TOKEN_SECONDS_MAX);
    let now = UnixMillis(api.clock().unix_millis());
    let ttl = u64::try_from(seconds).unwrap_or(0);
    let token = api.parts.authenticator.service_account_token(&namespace, name, account.uid(), now, ttl);
    answer.set(&["kind"], "TokenRequest");
    answer.set(&["apiVersion"], "authentication.k8s.io/v1");
    answer.set(&["metadata", "name"], name);
    answer.set(&["metadata", "namespace"], namespace);
    answer.set(&["spec", "expirationSeconds"], seconds);
    answer.set(&["status", "token"], token);
    answer.set(&["status", "expirationTimestamp"], time::format(api.clock().unix_seconds() + seconds));
    Ok(json(StatusCode::CREATED, &answer.into_value()))
}

/// What a client may ask about itself: posted, answered and not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Review {
    WhoAmI,
    Access,
    Rules,
}

pub(super) fn review(group: &str, target: &Target, method: &Method) -> Option<Review> {
    let review = match (group, target.plural.as_str()) {
        ("authentication.k8s.io", "selfsubjectreviews") => Review::WhoAmI,
        ("authorization.k8s.io", "selfsubjectaccessreviews") => Review::Access,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => Review::Rules,
        _ => return None,
    };
    (method == Method::POST && target.name.is_none()).then_some(review)
}

impl Review {
    pub(super) async fn of(self, request: Request) -> Result<Response, Failure> {
        let user = request.extensions().get::<User>().cloned();
        let Some(user) = user else { return Err(hub_core::status::ApiError::unauthorized().into()) };
        let (group, kind) = match self {
            Self::WhoAmI => ("authentication.k8s.io", "SelfSubjectReview"),
            Self::Access => ("authorization.k8s.io", "SelfSubjectAccessReview"),
            Self::Rules => ("authorization.k8s.io", "SelfSubjectRulesReview"),
        };
        let api_version = format!("{group}/v1");
        let mut answer =
            body::object(request, &api_version, kind, super::params::FieldValidation::Ignore).await?.object;
        answer.set(&["kind"], kind);
        answer.set(&["apiVersion"], api_version);
        let may = is_administrator(&user);
        let status = match self {
            Self::WhoAmI => json!({"userInfo": {"username": user.name, "groups": user.groups}}),
            Self::Access if may => json!({"allowed": true, "reason": "administrators may do everything"}),
            Self::Access => json!({"allowed": false, "reason": "only administrators may; roles are not served yet"}),
            Self::Rules => {
                let all = json!(["*"]);
                let (resources, urls) = if may {
                    (
                        json!([{"verbs": all, "apiGroups": all, "resources": all}]),
                        json!([{"verbs": all, "nonResourceURLs": all}]),
                    )
                } else {
                    (json!([]), json!([]))
                };
                json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": false})
            }
        };
        answer.set(&["status"], status);
        Ok(json(StatusCode::CREATED, &answer.into_value()))
    }
}
