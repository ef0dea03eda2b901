//! The objects that clients expect in every cluster.

use hub_core::kinds::find;
use hub_core::object::Object;
use hub_core::status::ApiError;
use serde_json::{Value, json};

use crate::objects::{Objects, WriteOptions};

/// Creates what is missing; what is there stays as it is.
pub(super) async fn seed(objects: &Objects) -> Result<(), ApiError> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ensure(objects, "namespaces", json!({"metadata": {"name": name}})).await?;
        ensure(objects, "serviceaccounts", json!({"metadata": {"name": "default", "namespace": name}})).await?;
    }
    // By which programs in a cluster find its API.
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": "10.43.0.1",
                 "ports": [{"name": "https", "port": 443, "targetPort": 6443, "protocol": "TCP"}]},
    });
    ensure(objects, "services", service).await
}

async fn ensure(objects: &Objects, plural: &str, value: Value) -> Result<(), ApiError> {
    let resource = find("", "v1", plural).expect("the table has the core kinds");
    let object = Object::from_value(value).expect("written above as an object");
    if objects.get(resource, object.namespace(), object.name()).is_ok() {
        return Ok(());
    }
    match objects.create(resource, object, WriteOptions::default()).await {
        Ok(_) => Ok(()),
        // The namespace is being deleted, since before this hub started.
        Err(error) if error.code == 409 || error.code == 403 => Ok(()),
        Err(error) => Err(error),
    }
}
