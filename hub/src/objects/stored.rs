//! Objects as the store has them: JSON without the revision, which the store itself counts.

use hub_core::object::Object;
use hub_core::status::ApiError;
use hub_store::{Entry, Revision, StoreError};
use tracing::error;

pub(super) fn decode(entry: &Entry) -> Result<Object, ApiError> {
    let object = serde_json::from_slice(&entry.value).ok().and_then(Object::from_value);
    match object {
        Some(object) => Ok(at(object, entry.modified)),
        None => Err(ApiError::internal(format!("the store's entry {} is no object", entry.key))),
    }
}

pub(super) fn encode(object: &Object) -> Vec<u8> {
    let mut object = object.clone();
    object.remove(&["metadata", "resourceVersion"]);
    serde_json::to_vec(object.as_map()).expect("JSON values are written as JSON")
}

/// The object as of `revision`; 0 for one that was never stored (a dry run).
pub(super) fn at(mut object: Object, revision: Revision) -> Object {
    if revision.0 != 0 {
        object.set(&["metadata", "resourceVersion"], revision.0.to_string());
    }
    object
}

/// What a client is told of the store's trouble.
pub(super) fn store_error(failure: StoreError) -> ApiError {
    match failure {
        StoreError::Conflict { key, .. } => ApiError::new(409, "Conflict", format!("{key} was changed meanwhile")),
        StoreError::Compacted { wanted, oldest } => {
            ApiError::expired(format!("too old resource version: {} ({})", wanted.0, oldest.0))
        }
        StoreError::Future { wanted, current } => {
            let mut error = ApiError::new(
                504,
                "Timeout",
                format!("Too large resource version: {}, current: {}", wanted.0, current.0),
            );
            error.retry_after_seconds = Some(1);
            error
        }
        StoreError::Full(source) => {
            error!(error = %source, "the disk is full");
            let message =
                "the hub's disk is full and nothing was written: free space below its data directory, then try again";
            ApiError::new(507, "InsufficientStorage", message)
        }
        StoreError::InUse | StoreError::Closed => ApiError::new(503, "ServiceUnavailable", "the hub is stopping"),
        StoreError::Backend(source) => {
            error!(error = &*source, "the store failed");
            ApiError::internal(format!("the hub's store failed: {source}"))
        }
    }
}
