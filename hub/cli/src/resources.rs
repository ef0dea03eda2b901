//! What the hub serves: found by any of its names, and where it lies.

use anyhow::anyhow;
use serde_json::Value;

use crate::client::{Call, Client, ClientError};

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A kind of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    singular: String,
    short: Vec<String>,
    categories: Vec<String>,
    pub(crate) namespaced: bool,
}

/// All of them, in the hub's order.
#[derive(Debug)]
pub(crate) struct Resources(Vec<Resource>);

/// Which namespace a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    One(String),
    All,
}

impl Resource {
    /// `deployment.apps`, `pod`: as `-o name` and confirmations have it.
    pub(crate) fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.singular.clone(),
            group => format!("{}.{group}", self.singular),
        }
    }

    /// `/apis/apps/v1/namespaces/default/deployments`
    pub(crate) fn collection(&self, place: &Place) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match place {
            Place::One(namespace) if self.namespaced => {
                format!("{root}/namespaces/{}/{}", encode(namespace), self.plural)
            }
            Place::One(_) | Place::All => format!("{root}/{}", self.plural),
        }
    }

    pub(crate) fn object(&self, place: &Place, name: &str) -> String {
        format!("{}/{}", self.collection(place), encode(name))
    }

    fn answers_to(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let (name, group) = word.split_once('.').unwrap_or((&word, ""));
        let group_fits = group.is_empty() || group == self.group || group == format!("{}.{}", self.version, self.group);
        let names = [&self.plural, &self.singular].into_iter().chain(&self.short);
        group_fits && names.into_iter().any(|own| own == name)
    }
}

impl Resources {
    pub(crate) async fn load(client: &mut Client) -> Result<Self, ClientError> {
        let mut all = Vec::new();
        for half in ["/api", "/apis"] {
            all.extend(parse(&client.json(Call::get(half).accept(DISCOVERY)).await?));
        }
        Ok(Self(all))
    }

    /// By plural, singular or short name, with or without its group.
    pub(crate) fn find(&self, word: &str) -> anyhow::Result<&Resource> {
        let found = self.0.iter().find(|resource| resource.answers_to(word));
        found.ok_or_else(|| anyhow!("the hub has no resource type {word:?}; kubectl api-resources lists them"))
    }

    /// One resource, or those of a category such as `all`.
    pub(crate) fn expand(&self, word: &str) -> anyhow::Result<Vec<&Resource>> {
        let of_category: Vec<_> =
            self.0.iter().filter(|resource| resource.categories.iter().any(|own| own == word)).collect();
        if of_category.is_empty() { self.find(word).map(|resource| vec![resource]) } else { Ok(of_category) }
    }

    /// What an object's own `apiVersion` and `kind` say.
    pub(crate) fn of(&self, object: &Value) -> anyhow::Result<&Resource> {
        let (version, kind) = (object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""));
        let (group, number) = version.split_once('/').unwrap_or(("", version));
        let fits =
            |resource: &&Resource| (&*resource.group, &*resource.version, &*resource.kind) == (group, number, kind);
        self.0.iter().find(fits).ok_or_else(|| anyhow!("the hub has no kind {kind:?} in {version:?}"))
    }
}

fn parse(list: &Value) -> Vec<Resource> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| items(value).iter().map(text).collect::<Vec<_>>();
    let mut all = Vec::new();
    for group in items(&list["items"]) {
        // The first version is the preferred one.
        let Some(version) = items(&group["versions"]).into_iter().next() else { continue };
        for resource in items(&version["resources"]) {
            if !texts(&resource["verbs"]).iter().any(|verb| verb == "get" || verb == "list") {
                continue;
            }
            all.push(Resource {
                group: text(&group["metadata"]["name"]),
                version: text(&version["version"]),
                kind: text(&resource["responseKind"]["kind"]),
                plural: text(&resource["resource"]),
                singular: text(&resource["singularResource"]),
                short: texts(&resource["shortNames"]),
                categories: texts(&resource["categories"]),
                namespaced: resource["scope"] == "Namespaced",
            });
        }
    }
    all
}

/// Percent-encodes a path segment or a query value.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn resources() -> Resources {
        let row = |plural: &str, kind: &str, scope: &str, short: &[&str], categories: &[&str]| {
            json!({
                "resource": plural, "responseKind": {"group": "", "version": "v1", "kind": kind}, "scope": scope,
                "singularResource": kind.to_lowercase(), "verbs": ["get", "list"], "shortNames": short,
                "categories": categories,
            })
        };
        let core = json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [
            row("pods", "Pod", "Namespaced", &["po"], &["all"]),
            row("nodes", "Node", "Cluster", &["no"], &[]),
        ]}]}]});
        let named = json!({"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
            row("deployments", "Deployment", "Namespaced", &["deploy"], &["all"]),
        ]}]}]});
        Resources([parse(&core), parse(&named)].concat())
    }

    #[test]
    fn resources_answer_to_all_their_names() {
        let resources = resources();
        for word in ["deployments", "deployment", "Deployment", "deploy", "deployments.apps", "deployment.v1.apps"] {
            assert_eq!(resources.find(word).unwrap().plural, "deployments", "{word}");
        }
        for word in ["pods.apps", "nothing", ""] {
            assert!(resources.find(word).is_err(), "{word}");
        }
        let all: Vec<_> = resources.expand("all").unwrap().into_iter().map(Resource::qualified).collect();
        assert_eq!(all, ["pod", "deployment.apps"]);
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        assert_eq!(resources.of(&object).unwrap().plural, "deployments");
        assert!(resources.of(&json!({"kind": "Deployment"})).is_err());
    }

    #[test]
    fn paths() {
        let resources = resources();
        let place = Place::One("a b".into());
        let check = |word: &str, place: &Place, expected: &str| {
            assert_eq!(resources.find(word).unwrap().object(place, "x/y"), expected);
        };
        check("pods", &place, "/api/v1/namespaces/a%20b/pods/x%2Fy");
        check("pods", &Place::All, "/api/v1/pods/x%2Fy");
        check("nodes", &place, "/api/v1/nodes/x%2Fy");
        check("deploy", &place, "/apis/apps/v1/namespaces/a%20b/deployments/x%2Fy");
    }
}
