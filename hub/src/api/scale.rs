//! The `scale` subresource: one number, the same for every kind that has one.

use axum::response::Response;
use http::StatusCode;
use hub_core::object::Object;
use hub_core::selector::LabelSelector;
use hub_core::status::{ApiError, FieldError, FieldProblem};
use serde_json::json;

use super::answer::{Failure, json};
use super::write::Patch;
use super::{Api, Call, body};
use crate::objects::{Changed, WriteOptions};

const API_VERSION: &str = "autoscaling/v1";
const KIND: &str = "Scale";

pub(super) fn get(api: &Api, call: &Call, name: &str) -> Result<Response, Failure> {
    let object = api.objects().get(call.resource, call.namespace.as_deref().unwrap_or_default(), name)?;
    Ok(answer(&object))
}

pub(super) async fn update(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let validation = call.params.field_validation()?;
    let Call { resource, namespace, params, request, subresource, .. } = call;
    let options = WriteOptions { dry_run: params.is_dry_run()?, subresource };
    let wanted = body::object(request, API_VERSION, KIND, validation).await?.object;
    let change = |current: &mut Object| take(current, &wanted);
    let scaled =
        api.objects().modify(resource, namespace.as_deref().unwrap_or_default(), name, options, change).await?;
    Ok(answer(&scaled))
}

pub(super) async fn patch(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let Call { resource, namespace, params, request, subresource, .. } = call;
    let options = WriteOptions { dry_run: params.is_dry_run()?, subresource };
    let patch = Patch::read(request, API_VERSION, KIND, &params).await?;
    let change = |current: &mut Object| {
        let mut scale = of(current);
        patch.apply(&mut scale)?;
        take(current, &scale)
    };
    let scaled =
        api.objects().modify(resource, namespace.as_deref().unwrap_or_default(), name, options, change).await?;
    Ok(answer(&scaled))
}

fn answer(object: &Object) -> Response {
    json(StatusCode::OK, &of(object).into_value())
}

/// An object's `Scale`.
fn of(object: &Object) -> Object {
    let selector = object.at(&["spec", "selector"]).and_then(|selector| LabelSelector::from_json(selector).ok());
    let number = |path: &[&str]| object.i64_at(path).unwrap_or(0);
    let scale = json!({
        "kind": KIND, "apiVersion": API_VERSION,
        "metadata": {
            "name": object.name(), "namespace": object.namespace(), "uid": object.uid(),
            "resourceVersion": object.resource_version().to_string(),
            "creationTimestamp": object.at(&["metadata", "creationTimestamp"]),
        },
        "spec": {"replicas": number(&["spec", "replicas"])},
        "status": {
            "replicas": number(&["status", "replicas"]),
            "selector": selector.map(|selector| selector.to_string()).unwrap_or_default(),
        },
    });
    Object::from_value(scale).expect("a scale is an object")
}

/// Takes the wished number, and the version that the wish insists on.
fn take(current: &mut Object, scale: &Object) -> Result<Changed, ApiError> {
    let replicas = scale.i64_at(&["spec", "replicas"]).unwrap_or(0);
    if !(0..=i64::from(i32::MAX)).contains(&replicas) {
        let problem = FieldProblem::Invalid(json!(replicas), "must be greater than or equal to 0".into());
        let errors = vec![FieldError::new("spec.replicas", problem)];
        return Err(ApiError::invalid("autoscaling", KIND, current.name(), errors));
    }
    if scale.resource_version() != 0 {
        current.set(&["metadata", "resourceVersion"], scale.resource_version().to_string());
    }
    current.set(&["spec", "replicas"], replicas);
    Ok(Changed::Yes)
}
