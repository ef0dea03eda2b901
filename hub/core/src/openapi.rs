//! OpenAPI v3 documents: what `kubectl apply`, `diff`, `edit`, `explain` and its validation read.
//!
//! One document for each group version, with the schemas of its kinds and all that they refer to. The
//! schemas are `k8s-openapi`'s; added here is what that crate leaves out: how patches merge lists, and
//! which schema is which kind. A PATCH operation lists the parameter `fieldValidation`, or kubectl
//! would fall back to checking fields itself, against documents of version 2, which we do not have.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::discovery;
use crate::kinds::{Resource, Scope, Subresource, table};
use crate::schema::{Merge, ROOTS, Root, by_name};

/// All documents, as they go over the wire.
pub struct Documents {
    /// `/openapi/v3`
    pub index: String,
    by_path: BTreeMap<String, Document>,
}

/// `/openapi/v3/PATH`
pub struct Document {
    pub json: String,
    /// Changes when the content does: the `hash` in the index, and the `ETag`.
    pub hash: String,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(Documents::build);

/// Made at the first call (tens of milliseconds), then kept: about 1 MB.
pub fn documents() -> &'static Documents {
    &DOCUMENTS
}

impl Documents {
    /// The document at a path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    pub fn get(&self, path: &str) -> Option<&Document> {
        self.by_path.get(path)
    }

    fn build() -> Self {
        let document = |(group, version): (&str, &str)| {
            let json = document(group, version).to_string();
            let hash = format!("{:016X}", fingerprint(json.as_bytes()));
            (base_path(group, version), Document { json, hash })
        };
        let by_path: BTreeMap<String, Document> = discovery::all_versions().into_iter().map(document).collect();
        let paths: Map<String, Value> = by_path
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({ "serverRelativeURL": url }))
            })
            .collect();
        Self { index: json!({ "paths": paths }).to_string(), by_path }
    }
}

/// FNV-1a: tells versions of a document apart, nothing more.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn base_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn document(group: &str, version: &str) -> Value {
    let rows = table().iter().filter(|row| row.group == group && row.version == version);
    let paths: Map<String, Value> = rows.flat_map(paths).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": discovery::git_version(env!("CARGO_PKG_VERSION"))},
        "paths": paths,
        "components": {"schemas": schemas(group, version)},
    })
}

/// The kinds that a group version's document speaks of: its own, and bodies that its paths take.
fn is_in(root: &Root, group: &str, version: &str) -> bool {
    let own = root.group == group && root.version == version;
    let shared = matches!(root.kind, "DeleteOptions" | "Status" | "ListMeta") && root.list_kind.is_none();
    let subresources = table().iter().filter(|row| row.group == group && row.version == version);
    let posted = subresources.flat_map(|row| row.subresources).any(|subresource| match subresource {
        Subresource::Scale => root.kind == "Scale",
        Subresource::Eviction => root.kind == "Eviction",
        Subresource::Token => root.kind == "TokenRequest",
        Subresource::Status | Subresource::Log | Subresource::Binding => false,
    });
    own || shared || posted
}

fn schemas(group: &str, version: &str) -> Map<String, Value> {
    let roots: Vec<&Root> = ROOTS.iter().filter(|root| is_in(root, group, version)).collect();
    let mut generator = SchemaSettings::openapi3().into_generator();
    for root in &roots {
        (root.add)(&mut generator);
    }
    let mut schemas: Map<String, Value> = generator
        .take_definitions(true)
        .into_iter()
        .map(|(name, schema)| (name.clone(), finished(&name, schema)))
        .collect();
    for root in roots {
        let name = (root.name)();
        if let Some(Value::Object(schema)) = schemas.get_mut(name.as_ref()) {
            schema.insert(
                "x-kubernetes-group-version-kind".to_owned(),
                json!([kind(root.group, root.version, root.kind)]),
            );
            make_metadata_optional(schema);
        }
        if let Some(list_kind) = root.list_kind {
            let list_name = format!("{}{list_kind}", name.strip_suffix(root.kind).unwrap_or_default());
            schemas.insert(list_name, list_schema(root, list_kind, &name));
        }
    }
    schemas
}

/// The crate demands `metadata` of every object; the API does not.
fn make_metadata_optional(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            schema.shift_remove("required");
        }
    }
}

fn list_schema(root: &Root, list_kind: &str, item: &str) -> Value {
    json!({
        "description": format!("{list_kind} is a list of {} objects.", root.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this representation."},
            "kind": {"type": "string", "description": "The kind of this object."},
            "metadata": {
                "description": "Standard list metadata.",
                "allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"}],
            },
            "items": {
                "type": "array", "description": "The objects.",
                "items": {"allOf": [{"$ref": format!("#/components/schemas/{item}")}]},
            },
        },
        "x-kubernetes-group-version-kind": [kind(root.group, root.version, list_kind)],
    })
}

/// A definition as Kubernetes publishes it.
fn finished(name: &str, mut schema: Value) -> Value {
    if let Value::Object(definition) = &mut schema {
        let plain_forms = match name.rsplit('.').next() {
            Some("Quantity") => json!([{"type": "string"}, {"type": "number"}]),
            Some("IntOrString") => {
                definition.insert("format".to_owned(), json!("int-or-string"));
                json!([{"type": "integer"}, {"type": "string"}])
            }
            _ => Value::Null,
        };
        if definition.shift_remove("x-kubernetes-int-or-string").is_some() {
            definition.insert("oneOf".to_owned(), plain_forms);
        }
        if let (Some(type_), Some(Value::Object(fields))) = (by_name(name), definition.get_mut("properties")) {
            for (field, schema) in fields {
                if let (Some(known), Value::Object(schema)) = (type_.field(field), schema) {
                    schema.extend(patch_extensions(known.merge));
                }
            }
        }
    }
    schema
}

fn patch_extensions(merge: Merge) -> Vec<(String, Value)> {
    let strategy = match merge {
        Merge::Default => return Vec::new(),
        Merge::ByKey(_) | Merge::Set => "merge",
        Merge::ByKeyRetaining(_) => "merge,retainKeys",
        Merge::RetainKeys => "retainKeys",
    };
    let key = merge.key().map(|key| ("x-kubernetes-patch-merge-key".to_owned(), json!(key)));
    key.into_iter().chain([("x-kubernetes-patch-strategy".to_owned(), json!(strategy))]).collect()
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// The paths of a kind, with what can be done at each.
fn paths(row: &Resource) -> Vec<(String, Value)> {
    let base = format!("/{}", base_path(row.group, row.version));
    let (collection, mut placeholders) = match row.scope {
        Scope::Cluster => (format!("{base}/{}", row.plural), Vec::new()),
        Scope::Namespaced => {
            (format!("{base}/namespaces/{{namespace}}/{}", row.plural), vec![placeholder("namespace")])
        }
    };
    let object = format!("{collection}/{{name}}");
    let operations = |places: &[Place], placeholders: &[Value]| {
        let mut operations: Map<String, Value> =
            places.iter().filter(|place| row.verbs.contains(&place.verb())).map(|place| place.operation(row)).collect();
        operations.insert("parameters".to_owned(), json!(placeholders));
        Value::Object(operations)
    };
    let mut paths = Vec::new();
    if row.scope == Scope::Namespaced {
        paths.push((format!("{base}/{}", row.plural), operations(&[Place::ListAll], &[])));
    }
    paths.push((collection, operations(&[Place::List, Place::Create, Place::DeleteAll], &placeholders)));
    placeholders.push(placeholder("name"));
    paths.push((object.clone(), operations(&[Place::Get, Place::Replace, Place::Patch, Place::Delete], &placeholders)));
    if row.subresources.contains(&Subresource::Status) {
        let places = [Place::Get, Place::Replace, Place::Patch];
        paths.push((format!("{object}/status"), operations(&places, &placeholders)));
    }
    paths
}

fn placeholder(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
}

/// What can be done at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    List,
    ListAll,
    Create,
    DeleteAll,
    Get,
    Replace,
    Patch,
    Delete,
}

impl Place {
    /// The verb as the kinds' table has it.
    fn verb(self) -> &'static str {
        match self {
            Self::List | Self::ListAll => "list",
            Self::Create => "create",
            Self::DeleteAll => "deletecollection",
            Self::Get => "get",
            Self::Replace => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// The HTTP method, and the name of the action in `x-kubernetes-action`.
    fn method_and_action(self) -> (&'static str, &'static str) {
        match self {
            Self::List | Self::ListAll => ("get", "list"),
            Self::Create => ("post", "post"),
            Self::DeleteAll => ("delete", "deletecollection"),
            Self::Get => ("get", "get"),
            Self::Replace => ("put", "put"),
            Self::Patch => ("patch", "patch"),
            Self::Delete => ("delete", "delete"),
        }
    }

    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::List | Self::ListAll | Self::DeleteAll => {
                &["fieldSelector", "labelSelector", "limit", "continue", "resourceVersion", "watch"]
            }
            Self::Get => &[],
            Self::Create | Self::Replace => &["dryRun", "fieldManager", "fieldValidation"],
            Self::Patch => &["dryRun", "fieldManager", "fieldValidation", "force"],
            Self::Delete => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        }
    }

    fn operation(self, row: &Resource) -> (String, Value) {
        let (method, action) = self.method_and_action();
        let parameters: Vec<Value> = self
            .parameters()
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        let operation = json!({
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind(row.group, row.version, row.kind),
        });
        (method.to_owned(), operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Value {
        serde_json::from_str(&documents().get(path).unwrap().json).unwrap()
    }

    #[track_caller]
    fn check(path: &str, pointer: &str, answer: &Value) {
        assert_eq!(read(path).pointer(pointer), Some(answer), "{path} {pointer}");
    }

    #[test]
    fn the_index_leads_to_documents() {
        let index: Value = serde_json::from_str(&documents().index).unwrap();
        let paths = index["paths"].as_object().unwrap();
        assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
        for (path, entry) in paths {
            let url = entry["serverRelativeURL"].as_str().unwrap();
            assert_eq!(url, format!("/openapi/v3/{path}?hash={}", documents().get(path).unwrap().hash));
        }
        assert!(documents().get("api/v2").is_none());
    }

    #[test]
    fn every_kind_can_be_patched_with_validation() {
        for row in table().iter().filter(|row| row.verbs.contains(&"patch")) {
            let document = read(&base_path(row.group, row.version));
            let gvk = kind(row.group, row.version, row.kind);
            let patches = document["paths"].as_object().unwrap().values().filter_map(|path| path.get("patch"));
            let own: Vec<&Value> = patches.filter(|patch| patch["x-kubernetes-group-version-kind"] == gvk).collect();
            assert!(!own.is_empty(), "{}", row.kind);
            for patch in own {
                let parameters = patch["parameters"].as_array().unwrap();
                for name in ["fieldValidation", "dryRun"] {
                    assert!(parameters.iter().any(|parameter| parameter["name"] == name), "{} {name}", row.kind);
                }
            }
        }
    }

    #[test]
    fn every_kind_has_a_schema() {
        for row in table() {
            let document = read(&base_path(row.group, row.version));
            let schemas = document["components"]["schemas"].as_object().unwrap();
            for wanted in [row.kind.to_owned(), format!("{}List", row.kind)] {
                let gvk = json!([kind(row.group, row.version, &wanted)]);
                assert!(
                    schemas.values().any(|schema| schema.get("x-kubernetes-group-version-kind") == Some(&gvk)),
                    "{wanted}"
                );
            }
        }
    }

    #[test]
    fn references_stay_in_the_document() {
        fn follow(value: &Value, schemas: &Map<String, Value>) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let name = reference.strip_prefix("#/components/schemas/").unwrap();
                        assert!(schemas.contains_key(name), "{name}");
                    }
                    fields.values().for_each(|field| follow(field, schemas));
                }
                Value::Array(items) => items.iter().for_each(|item| follow(item, schemas)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
            }
        }
        for path in documents().by_path.keys() {
            let document = read(path);
            follow(&document, document["components"]["schemas"].as_object().unwrap());
        }
    }

    #[test]
    fn patches_know_how_lists_merge() {
        let containers = "/components/schemas/io.k8s.api.core.v1.PodSpec/properties/containers";
        check("api/v1", &format!("{containers}/x-kubernetes-patch-merge-key"), &json!("name"));
        check("apis/apps/v1", &format!("{containers}/x-kubernetes-patch-strategy"), &json!("merge"));
        let volumes = "/components/schemas/io.k8s.api.core.v1.PodSpec/properties/volumes/x-kubernetes-patch-strategy";
        check("api/v1", volumes, &json!("merge,retainKeys"));
        check(
            "api/v1",
            "/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity/oneOf",
            &json!([{"type": "string"}, {"type": "number"}]),
        );
        let pod = &read("api/v1")["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod.get("required"), None);
    }
}
