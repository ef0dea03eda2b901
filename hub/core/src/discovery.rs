//! What the server serves, as clients ask before anything else.
//!
//! ```text
//! /api, /apis                 versions() and groups(), or aggregated() for clients that accept it
//! /apis/GROUP                 group()
//! /api/v1, /apis/GROUP/VER    resources()
//! /version                    version()
//! ```
//! All of it follows from the kinds' table, and from the bodies that are posted but never stored.

use serde_json::{Map, Value, json};

use crate::kinds::{Resource, Scope, Subresource, table};

/// The Kubernetes minor version whose clients we are tested with.
const MAJOR: &str = "1";
const MINOR: &str = "37";

/// A kind that is only ever created, for the answer: nothing is stored.
struct Review {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
}

const REVIEWS: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
    },
    Review {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
    },
    Review {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
    },
];

/// Which half of the API: `/api` has the core group, `/apis` the named ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    Core,
    Named,
}

/// The media type of [`aggregated`], as clients ask for it and as it is answered.
pub const AGGREGATED_MEDIA_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `/api`. `address` is where the client reached us: `host:port`.
pub fn versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`
pub fn groups() -> Value {
    let groups: Vec<Value> = group_names().into_iter().filter(|group| !group.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`
pub fn group(name: &str) -> Option<Value> {
    if name.is_empty() || !group_names().contains(&name) {
        return None;
    }
    let mut entry = Map::new();
    entry.insert("kind".to_owned(), json!("APIGroup"));
    entry.insert("apiVersion".to_owned(), json!("v1"));
    if let Value::Object(fields) = group_entry(name) {
        entry.extend(fields);
    }
    Some(Value::Object(entry))
}

/// `/api/v1` (with an empty group) and `/apis/GROUP/VERSION`
pub fn resources(group: &str, version: &str) -> Option<Value> {
    if !group_versions(group).contains(&version) {
        return None;
    }
    let stored = table().iter().filter(|row| row.group == group && row.version == version).flat_map(resource_entries);
    let reviews = REVIEWS.iter().filter(|review| review.group == group && review.version == version).map(review_entry);
    let resources: Vec<Value> = stored.chain(reviews).collect();
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version(group, version), "resources": resources,
    }))
}

/// `/api` and `/apis` for clients that want all of it in one answer.
pub fn aggregated(half: Half) -> Value {
    let is_wanted = |group: &&str| match half {
        Half::Core => group.is_empty(),
        Half::Named => !group.is_empty(),
    };
    let items: Vec<Value> = group_names().into_iter().filter(is_wanted).map(aggregated_group).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

/// `/version`. `build` tells our own version: `0.1.0`; `platform` is `linux/arm64`.
pub fn version(build: &str, platform: &str) -> Value {
    json!({
        "major": MAJOR, "minor": MINOR, "emulationMajor": MAJOR, "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR, "minCompatibilityMinor": MINOR,
        "gitVersion": git_version(build), "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": platform,
    })
}

/// `v1.37.0+wherry-0.1.0`: what clients compare, and what we are.
pub fn git_version(build: &str) -> String {
    format!("v{MAJOR}.{MINOR}.0+wherry-{build}")
}

/// Every served group version as clients write it (`v1`, `apps/v1`), in the order of discovery.
pub fn all_versions() -> Vec<(&'static str, &'static str)> {
    let of_group = |group| group_versions(group).into_iter().map(move |version| (group, version));
    group_names().into_iter().flat_map(of_group).collect()
}

/// Groups in the order of the table, reviews last.
fn group_names() -> Vec<&'static str> {
    unique(table().iter().map(|row| row.group).chain(REVIEWS.iter().map(|review| review.group)))
}

fn group_versions(group: &str) -> Vec<&'static str> {
    let stored = table().iter().filter(|row| row.group == group).map(|row| row.version);
    let reviews = REVIEWS.iter().filter(|review| review.group == group).map(|review| review.version);
    unique(stored.chain(reviews))
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.fold(Vec::new(), |mut unique, name| {
        if !unique.contains(&name) {
            unique.push(name);
        }
        unique
    })
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_entry(group: &str) -> Value {
    let versions: Vec<Value> = group_versions(group)
        .into_iter()
        .map(|version| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    // Clients take the first version where they have no opinion.
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// A kind's entry, then one for each of its subresources.
fn resource_entries(row: &Resource) -> Vec<Value> {
    let namespaced = row.scope == Scope::Namespaced;
    let mut own = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": namespaced, "kind": row.kind, "verbs": row.verbs,
    });
    put_names(&mut own, row);
    let subresources = row.subresources.iter().map(|subresource| {
        let served = Served::of(row, *subresource);
        let mut entry =
            json!({"name": format!("{}/{}", row.plural, served.name), "singularName": "", "namespaced": namespaced});
        // Only what differs from the parent is told.
        if (served.group, served.version) != (row.group, row.version) {
            entry["group"] = json!(served.group);
            entry["version"] = json!(served.version);
        }
        entry["kind"] = json!(served.kind);
        entry["verbs"] = json!(served.verbs);
        entry
    });
    std::iter::once(own).chain(subresources).collect()
}

fn put_names(entry: &mut Value, row: &Resource) {
    for (field, names) in [("shortNames", row.short_names), ("categories", row.categories)] {
        if !names.is_empty() {
            entry[field] = json!(names);
        }
    }
}

fn review_entry(review: &Review) -> Value {
    json!({
        "name": review.plural, "singularName": review.singular, "namespaced": false,
        "kind": review.kind, "verbs": ["create"],
    })
}

fn aggregated_group(group: &str) -> Value {
    let versions: Vec<Value> = group_versions(group)
        .into_iter()
        .map(|version| {
            let stored = table().iter().filter(|row| row.group == group && row.version == version);
            let reviews = REVIEWS.iter().filter(|review| review.group == group && review.version == version);
            let resources: Vec<Value> = stored.map(aggregated_row).chain(reviews.map(aggregated_review)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_row(row: &Resource) -> Value {
    let scope = match row.scope {
        Scope::Cluster => "Cluster",
        Scope::Namespaced => "Namespaced",
    };
    let mut entry = json!({
        "resource": row.plural, "responseKind": kind_json(row.group, row.version, row.kind), "scope": scope,
        "singularResource": row.singular, "verbs": row.verbs,
    });
    put_names(&mut entry, row);
    let subresources: Vec<Value> = row
        .subresources
        .iter()
        .map(|subresource| {
            let served = Served::of(row, *subresource);
            json!({
                "subresource": served.name, "responseKind": kind_json(served.group, served.version, served.kind),
                "verbs": served.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = Value::Array(subresources);
    }
    entry
}

fn aggregated_review(review: &Review) -> Value {
    json!({
        "resource": review.plural, "responseKind": kind_json(review.group, review.version, review.kind),
        "scope": "Cluster", "singularResource": review.singular, "verbs": ["create"],
    })
}

fn kind_json(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// What is served below an object.
struct Served {
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
}

impl Served {
    fn of(row: &Resource, subresource: Subresource) -> Self {
        let own = |name, verbs| Self { name, group: row.group, version: row.version, kind: row.kind, verbs };
        let change = &["get", "patch", "update"];
        let create = &["create"];
        match subresource {
            Subresource::Status => own("status", change),
            Subresource::Scale => {
                Self { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: change }
            }
            Subresource::Log => own("log", &["get"]),
            Subresource::Eviction => {
                Self { name: "eviction", group: "policy", version: "v1", kind: "Eviction", verbs: create }
            }
            Subresource::Binding => Self { name: "binding", group: "", version: "v1", kind: "Binding", verbs: create },
            Subresource::Token => Self {
                name: "token",
                group: "authentication.k8s.io",
                version: "v1",
                kind: "TokenRequest",
                verbs: create,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &Value, field: &str) -> Vec<String> {
        list.as_array().unwrap().iter().map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn core_resources() {
        let list = resources("", "v1").unwrap();
        assert_eq!(list["groupVersion"], "v1");
        let names = names(&list["resources"], "name");
        for name in ["pods", "pods/status", "pods/log", "pods/eviction", "nodes", "namespaces", "configmaps", "secrets"]
        {
            assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
        }
        let find =
            |name: &str| list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        assert_eq!(find("pods")["kind"], "Pod");
        assert_eq!(find("pods")["shortNames"], json!(["po"]));
        assert_eq!(find("pods")["namespaced"], true);
        assert_eq!(find("nodes")["namespaced"], false);
        assert_eq!(find("pods/eviction")["group"], "policy");
        assert_eq!(find("pods/status").get("group"), None);
    }

    #[test]
    fn named_groups() {
        let list = groups();
        let names = names(&list["groups"], "name");
        assert!(names.contains(&"apps".to_owned()) && names.contains(&"coordination.k8s.io".to_owned()), "{names:?}");
        assert!(!names.contains(&String::new()));
        assert_eq!(group("apps").unwrap()["preferredVersion"], json!({"groupVersion": "apps/v1", "version": "v1"}));
        assert_eq!(group("batch.example"), None);
        assert_eq!(group(""), None);
        assert_eq!(resources("apps", "v2"), None);
        let scale = &resources("apps", "v1").unwrap()["resources"];
        let scale =
            scale.as_array().unwrap().iter().find(|entry| entry["name"] == "deployments/scale").unwrap().clone();
        assert_eq!((&scale["group"], &scale["kind"]), (&json!("autoscaling"), &json!("Scale")));
    }

    #[test]
    fn aggregated_has_the_same_resources() {
        for (half, groups) in [(Half::Core, vec![""]), (Half::Named, group_names().into_iter().skip(1).collect())] {
            let list = aggregated(half);
            let items = list["items"].as_array().unwrap();
            assert_eq!(items.len(), groups.len());
            for (item, group) in items.iter().zip(groups) {
                assert_eq!(item["metadata"].get("name").and_then(Value::as_str).unwrap_or_default(), group);
                for version in item["versions"].as_array().unwrap() {
                    let legacy = resources(group, version["version"].as_str().unwrap()).unwrap();
                    let legacy: Vec<_> =
                        names(&legacy["resources"], "name").into_iter().filter(|name| !name.contains('/')).collect();
                    assert_eq!(names(&version["resources"], "resource"), legacy);
                }
            }
        }
    }

    #[test]
    fn versions_name_both() {
        assert_eq!(version("0.1.0", "linux/arm64")["gitVersion"], "v1.37.0+wherry-0.1.0");
        assert!(all_versions().contains(&("", "v1")) && all_versions().contains(&("apps", "v1")));
    }
}
