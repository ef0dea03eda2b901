//! Get and list.

use axum::response::Response;
use http::StatusCode;
use hub_core::kinds::Resource;
use hub_core::object::Object;
use hub_core::printing::{Columns, metadata, metadata_list, table};
use hub_core::status::ApiError;
use serde_json::{Value, json};

use super::answer::{Failure, json};
use super::negotiate::{Form, include};
use super::params::continue_token;
use super::{Api, Call, leases};
use crate::objects::{List, ListOptions};

pub(super) fn get(api: &Api, call: &Call, name: &str) -> Result<Response, Failure> {
    let form = form(call)?;
    let namespace = call.namespace.as_deref().unwrap_or_default();
    let object = match api.objects().get(call.resource, namespace, name) {
        Ok(object) => object,
        Err(error) => {
            leases::of_node(api, call.resource, namespace, name).filter(|_| error.code == 404).ok_or(error)?
        }
    };
    Ok(one(api, call.resource, object, form, StatusCode::OK))
}

pub(super) fn form(call: &Call) -> Result<Form, ApiError> {
    let include = include(call.params.get("includeObject"))?;
    Form::accepted(call.request.headers(), include)
}

/// An object in the form that the client asked for.
pub(super) fn one(api: &Api, resource: &Resource, object: Object, form: Form, code: StatusCode) -> Response {
    let now = api.clock().unix_seconds();
    match form {
        Form::Whole => json(code, &object.into_value()),
        Form::Metadata => json(code, &metadata(&object)),
        Form::Table(include) => {
            let meta = json!({"resourceVersion": object.resource_version().to_string()});
            json(code, &table(resource, &[object], include, meta, Columns::Shown, now))
        }
    }
}

pub(super) fn list(api: &Api, call: &Call) -> Result<Response, Failure> {
    let Call { resource, params, .. } = call;
    let form = form(call)?;
    let prefix = resource.prefix(call.namespace.as_deref());
    check_version(api, call)?;
    let options = ListOptions {
        namespace: call.namespace.clone(),
        filter: params.filter(resource, None)?,
        limit: usize::try_from(params.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX),
        resume: params.resume(&prefix)?,
    };
    let mut list = api.objects().list(resource, &options)?;
    if list.resume.is_none() {
        let synthetic = leases::of_all_nodes(api, resource, call.namespace.as_deref());
        list.items.extend(synthetic.into_iter().filter(|lease| options.filter.matches(lease)));
    }
    let meta = list_meta(&list);
    let value = match form {
        Form::Whole => {
            let items: Vec<Value> = list.items.into_iter().map(Object::into_value).collect();
            json!({"kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(), "metadata": meta, "items": items})
        }
        Form::Metadata => metadata_list(&list.items, meta),
        Form::Table(include) => table(resource, &list.items, include, meta, Columns::Shown, api.clock().unix_seconds()),
    };
    Ok(json(StatusCode::OK, &value))
}

/// We always answer with the newest state; a client that insists on another is told so.
fn check_version(api: &Api, call: &Call) -> Result<(), ApiError> {
    let wanted = call.params.number("resourceVersion")?.unwrap_or(0);
    let current = api.objects().revision().0;
    let exact = call.params.get("resourceVersionMatch") == Some("Exact");
    if wanted > current {
        let mut error =
            ApiError::new(504, "Timeout", format!("Too large resource version: {wanted}, current: {current}"));
        error.retry_after_seconds = Some(1);
        return Err(error);
    }
    if exact && wanted != current {
        return Err(ApiError::expired(format!("The provided resource version {wanted} is no longer kept")));
    }
    Ok(())
}

fn list_meta(list: &List) -> Value {
    let mut meta = json!({"resourceVersion": list.revision.0.to_string()});
    if let Some(resume) = &list.resume {
        meta["continue"] = json!(continue_token(resume));
    }
    if let Some(remaining) = list.remaining {
        meta["remainingItemCount"] = json!(remaining);
    }
    meta
}
