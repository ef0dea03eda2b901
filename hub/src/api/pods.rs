//! What only pods have: a node to be bound to, and an end that may be asked for.

use axum::response::Response;
use http::StatusCode;
use hub_core::object::Object;
use hub_core::status::ApiError;
use serde_json::Value;

use super::answer::{Failure, success};
use super::write::options_of;
use super::{Api, Call, body};
use crate::objects::{Changed, WriteOptions};

/// `kubectl drain`: a deletion that could be refused. Disruption budgets are not served, so none is.
pub(super) async fn evict(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let Call { resource, namespace, params, request, .. } = call;
    let eviction = body::object(request, "policy/v1", "Eviction", params.field_validation()?).await?.object;
    let options = eviction.at(&["deleteOptions"]).cloned().and_then(Object::from_value).unwrap_or_default();
    let mut options = options_of(&options, &params)?;
    options.dry_run |= params.is_dry_run()?;
    api.objects().delete(resource, namespace.as_deref().unwrap_or_default(), name, options).await?;
    Ok(success(StatusCode::CREATED, Value::Null))
}

/// Puts a pod on a node, for schedulers of someone else's.
pub(super) async fn bind(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let Call { resource, namespace, params, request, subresource, .. } = call;
    let binding = body::object(request, "v1", "Binding", params.field_validation()?).await?.object;
    let Some(node) = binding.str_at(&["target", "name"]).filter(|node| !node.is_empty()) else {
        return Err(ApiError::bad_request("the binding names no node in target.name").into());
    };
    let options = WriteOptions { dry_run: params.is_dry_run()?, subresource };
    let change = |pod: &mut Object| {
        pod.set(&["spec", "nodeName"], node);
        Ok(Changed::Yes)
    };
    api.objects().modify(resource, namespace.as_deref().unwrap_or_default(), name, options, change).await?;
    Ok(success(StatusCode::CREATED, Value::Null))
}
