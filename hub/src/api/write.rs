//! Create, update, patch, delete.

use axum::response::Response;
use http::StatusCode;
use hub_core::kinds::{DeleteAnswer, Scope};
use hub_core::object::Object;
use hub_core::patch::{self, PatchKind};
use hub_core::schema;
use hub_core::status::ApiError;
use serde_json::Value;

use super::answer::{Failure, details, method_not_allowed, success, warn};
use super::body::{self, Sent};
use super::params::{FieldValidation, Params};
use super::read::{form, one};
use super::{Api, Call};
use crate::objects::{Changed, DeleteOptions, Deleted, ListOptions, Propagation, WriteOptions};

pub(super) async fn create(api: &Api, call: Call) -> Result<Response, Failure> {
    let form = form(&call)?;
    let Call { resource, namespace, params, request, .. } = call;
    if resource.scope == Scope::Namespaced && namespace.is_none() {
        return Err(method_not_allowed().into());
    }
    let options = WriteOptions { dry_run: params.is_dry_run()?, subresource: None };
    let validation = params.field_validation()?;
    let Sent { mut object, mut warnings } =
        body::object(request, &resource.api_version(), resource.kind, validation).await?;
    place(&mut object, namespace.as_deref())?;
    warnings.extend((resource.warnings)(&object));
    let created = api.objects().create(resource, object, options).await;
    let created = created.map_err(|error| Failure::from(error).with_warnings(warnings.clone()))?;
    let mut response = one(api, resource, created, form, StatusCode::CREATED);
    warn(response.headers_mut(), &warnings);
    Ok(response)
}

pub(super) async fn update(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let form = form(&call)?;
    let Call { resource, namespace, params, request, subresource, .. } = call;
    let options = WriteOptions { dry_run: params.is_dry_run()?, subresource };
    let validation = params.field_validation()?;
    let Sent { mut object, mut warnings } =
        body::object(request, &resource.api_version(), resource.kind, validation).await?;
    place(&mut object, namespace.as_deref())?;
    if object.name() != name {
        let message = format!("the name of the object ({}) does not match the name on the URL ({name})", object.name());
        return Err(ApiError::bad_request(message).into());
    }
    if subresource.is_none() {
        warnings.extend((resource.warnings)(&object));
    }
    let updated = api.objects().update(resource, object, options).await;
    let updated = updated.map_err(|error| Failure::from(error).with_warnings(warnings.clone()))?;
    let mut response = one(api, resource, updated, form, StatusCode::OK);
    warn(response.headers_mut(), &warnings);
    Ok(response)
}

/// The namespace of the URL is the object's.
fn place(object: &mut Object, namespace: Option<&str>) -> Result<(), ApiError> {
    let Some(namespace) = namespace else { return Ok(()) };
    match object.namespace() {
        "" => object.set(&["metadata", "namespace"], namespace),
        found if found == namespace => {}
        _ => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

pub(super) async fn patch(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let form = form(&call)?;
    let Call { resource, namespace, params, request, subresource, .. } = call;
    let options = WriteOptions { dry_run: params.is_dry_run()?, subresource };
    let patch = Patch::read(request, &resource.api_version(), resource.kind, &params).await?;
    let mut warnings = Vec::new();
    let change = |current: &mut Object| {
        warnings = patch.apply(current)?;
        if subresource.is_none() {
            warnings.extend((resource.warnings)(current));
        }
        Ok(Changed::Yes)
    };
    let patched = api.objects().modify(resource, namespace.as_deref().unwrap_or_default(), name, options, change).await;
    let patched = patched.map_err(|error| Failure::from(error).with_warnings(warnings.clone()))?;
    let mut response = one(api, resource, patched, form, StatusCode::OK);
    warn(response.headers_mut(), &warnings);
    Ok(response)
}

/// A patch as it was sent, to be applied to whatever is stored when its turn comes.
pub(super) struct Patch {
    kind: PatchKind,
    value: Value,
    api_version: String,
    of: String,
    validation: FieldValidation,
}

impl Patch {
    /// Reads a patch of objects of `api_version` and `kind`.
    pub(super) async fn read(
        request: axum::extract::Request,
        api_version: &str,
        kind: &str,
        params: &Params,
    ) -> Result<Self, ApiError> {
        let validation = params.field_validation()?;
        let (media, bytes) = body::read(request).await?;
        let of = kind.to_owned();
        let Some(kind) = PatchKind::of_content_type(&media) else {
            let message = if media.starts_with("application/apply-patch") {
                "server-side apply is not served yet: use kubectl apply without --server-side".to_owned()
            } else {
                format!(
                    "the body of the request was in an unknown format - {media}: accepted are application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
                )
            };
            return Err(ApiError::new(415, "UnsupportedMediaType", message));
        };
        let value = hub_core::body::parse(&bytes)?.value;
        Ok(Self { kind, value, api_version: api_version.to_owned(), of, validation })
    }

    /// Changes `current`; answers the warnings.
    pub(super) fn apply(&self, current: &mut Object) -> Result<Vec<String>, ApiError> {
        let type_ = schema::of_kind(&self.api_version, &self.of);
        let known = body::known_findings(current, &self.api_version, &self.of);
        let mut next = patch::apply(self.kind, current, self.value.clone(), type_)?;
        let warnings = body::check(&mut next, &self.api_version, &self.of, self.validation, Vec::new(), &known)?;
        *current = next;
        Ok(warnings)
    }
}

pub(super) async fn delete(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let form = form(&call)?;
    let Call { resource, namespace, params, request, .. } = call;
    let options = delete_options(request, &params).await?;
    let deleted = api.objects().delete(resource, namespace.as_deref().unwrap_or_default(), name, options).await?;
    Ok(match (deleted, resource.delete_answers) {
        (Deleted::Gone(object), DeleteAnswer::Status) => success(StatusCode::OK, details(resource, &object)),
        (Deleted::Gone(object), DeleteAnswer::Object) | (Deleted::Marked(object), _) => {
            one(api, resource, object, form, StatusCode::OK)
        }
    })
}

pub(super) async fn delete_collection(api: &Api, call: Call) -> Result<Response, Failure> {
    let Call { resource, namespace, params, request, .. } = call;
    if resource.scope == Scope::Namespaced && namespace.is_none() {
        return Err(method_not_allowed().into());
    }
    let which = ListOptions { namespace, filter: params.filter(resource, None)?, ..ListOptions::default() };
    let options = delete_options(request, &params).await?;
    api.objects().delete_collection(resource, &which, options).await?;
    Ok(success(StatusCode::OK, Value::Null))
}

/// The body's options; the query's count where the body says nothing.
pub(super) async fn delete_options(
    request: axum::extract::Request,
    params: &Params,
) -> Result<DeleteOptions, ApiError> {
    let (media, bytes) = body::read(request).await?;
    let body = if bytes.is_empty() {
        Object::default()
    } else {
        body::decode(&media, &bytes, "v1", "DeleteOptions", FieldValidation::Ignore)?.object
    };
    options_of(&body, params)
}

pub(super) fn options_of(body: &Object, params: &Params) -> Result<DeleteOptions, ApiError> {
    let grace = match body.i64_at(&["gracePeriodSeconds"]) {
        Some(grace) => Some(grace),
        None => params.number("gracePeriodSeconds")?.map(|grace| i64::try_from(grace).unwrap_or(i64::MAX)),
    };
    let orphans = body.at(&["orphanDependents"]).and_then(Value::as_bool);
    let orphans = orphans.or(params.get("orphanDependents").map(|text| text == "true"));
    let propagation = match (body.str_at(&["propagationPolicy"]).or(params.get("propagationPolicy")), orphans) {
        (None, Some(true)) | (Some("Orphan"), _) => Propagation::Orphan,
        (None, _) | (Some("Background"), _) => Propagation::Background,
        (Some("Foreground"), _) => Propagation::Foreground,
        (Some(other), _) => {
            return Err(ApiError::bad_request(format!(
                "invalid propagationPolicy {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
            )));
        }
    };
    let dry_run = match body.at(&["dryRun"]).and_then(Value::as_array).map(Vec::as_slice) {
        None | Some([]) => params.is_dry_run()?,
        Some([all]) if all == "All" => true,
        Some(_) => return Err(ApiError::bad_request("invalid dryRun value: supported values: \"All\"")),
    };
    let version = body
        .str_at(&["preconditions", "resourceVersion"])
        .map(|text| text.parse().map_err(|_| ApiError::bad_request(format!("invalid resourceVersion {text:?}"))));
    Ok(DeleteOptions {
        dry_run,
        grace_period_seconds: grace,
        propagation,
        uid: body.str_at(&["preconditions", "uid"]).map(str::to_owned),
        resource_version: version.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_body_wins_over_the_query() {
        let check = |body: Value, query: &str, grace: Option<i64>, propagation: Propagation| {
            let params = Params::of(&format!("/x?{query}").parse().unwrap()).unwrap();
            let options = options_of(&Object::from_value(body).unwrap(), &params).unwrap();
            assert_eq!((options.grace_period_seconds, options.propagation), (grace, propagation), "{query}");
        };
        check(json!({}), "", None, Propagation::Background);
        check(json!({"gracePeriodSeconds": 0}), "gracePeriodSeconds=9", Some(0), Propagation::Background);
        check(json!({}), "gracePeriodSeconds=9&propagationPolicy=Foreground", Some(9), Propagation::Foreground);
        check(json!({"propagationPolicy": "Orphan"}), "propagationPolicy=Foreground", None, Propagation::Orphan);
        check(json!({}), "orphanDependents=true", None, Propagation::Orphan);
        let wrong = Object::from_value(json!({"propagationPolicy": "Later"})).unwrap();
        assert!(options_of(&wrong, &Params::default()).is_err());
    }
}
