//! The kinds and bodies whose fields we know. A new kind is a line here.

use std::borrow::Cow;

use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, policy::v1 as policy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::{ListableResource, Resource};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Where types begin: a kind with its schema, not yet generated.
pub(crate) struct Root {
    /// Empty for the core group, and for bodies that every group takes.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) name: fn() -> Cow<'static, str>,
    /// Adds the type and all that it refers to, to the generator's definitions.
    pub(crate) add: fn(&mut SchemaGenerator) -> Schema,
    /// The kind that lists it, for kinds that are stored.
    pub(crate) list_kind: Option<&'static str>,
}

pub(crate) const ROOTS: &[Root] = &[
    listed::<core::ConfigMap>(),
    listed::<core::Event>(),
    listed::<core::Namespace>(),
    listed::<core::Node>(),
    listed::<core::Pod>(),
    listed::<core::Secret>(),
    listed::<core::Service>(),
    listed::<core::ServiceAccount>(),
    listed::<apps::Deployment>(),
    listed::<apps::ReplicaSet>(),
    listed::<coordination::Lease>(),
    listed::<discovery::EndpointSlice>(),
    listed::<events::Event>(),
    single::<core::Binding>(),
    single::<policy::Eviction>(),
    single::<autoscaling::Scale>(),
    single::<authentication::TokenRequest>(),
    single::<authentication::SelfSubjectReview>(),
    single::<authorization::SelfSubjectAccessReview>(),
    single::<authorization::SelfSubjectRulesReview>(),
    body::<meta::DeleteOptions>("DeleteOptions"),
    body::<meta::Status>("Status"),
    body::<meta::ListMeta>("ListMeta"),
];

const fn listed<T: Resource + ListableResource + JsonSchema>() -> Root {
    Root { list_kind: Some(T::LIST_KIND), ..single::<T>() }
}

const fn single<T: Resource + JsonSchema>() -> Root {
    Root { group: T::GROUP, version: T::VERSION, kind: T::KIND, ..body::<T>("") }
}

const fn body<T: JsonSchema>(kind: &'static str) -> Root {
    Root {
        group: "",
        version: "v1",
        kind,
        name: T::schema_name,
        add: |generator| generator.subschema_for::<T>(),
        list_kind: None,
    }
}

impl Root {
    pub(crate) fn is_version(&self, api_version: &str) -> bool {
        match api_version.split_once('/') {
            Some((group, version)) => (group, version) == (self.group, self.version),
            None => self.group.is_empty() && api_version == self.version,
        }
    }
}
