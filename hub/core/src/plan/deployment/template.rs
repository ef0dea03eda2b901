//! Which template a ReplicaSet has.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::TEMPLATE_HASH;

/// What names are encoded with: no vowels (no accidental words), nothing that looks like another.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash that tells ReplicaSets of one Deployment apart: FNV-1a over the template's canonical
/// JSON and the collisions so far, in an alphabet fit for names. Opaque to clients.
pub fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut fnv = Fnv::default();
    // Serialising a value of ours cannot fail; an empty text would only make a collision.
    let json = serde_json::to_value(template).unwrap_or_default();
    canonical(&json, &mut fnv);
    if collisions > 0 {
        fnv.eat(&collisions.to_le_bytes());
    }
    fnv.0.to_string().bytes().map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()])).collect()
}

/// Whether a ReplicaSet was made from this template, whatever hash it was labelled with.
pub fn matches(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(theirs) = &set.spec.template else { return false };
    without_hash(theirs) == without_hash(template)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(metadata) = &mut template.metadata {
        if let Some(labels) = &mut metadata.labels {
            labels.remove(TEMPLATE_HASH);
        }
        metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
        metadata.annotations = metadata.annotations.take().filter(|annotations| !annotations.is_empty());
    }
    template
}

/// Objects by sorted key and everything delimited, so that equal values and only they look equal.
fn canonical(value: &Value, into: &mut Fnv) {
    match value {
        Value::Null => into.eat(b"n"),
        Value::Bool(true) => into.eat(b"t"),
        Value::Bool(false) => into.eat(b"f"),
        Value::Number(number) => into.eat(number.to_string().as_bytes()),
        Value::String(text) => {
            into.eat(b"\"");
            into.eat(text.as_bytes());
            into.eat(b"\0");
        }
        Value::Array(items) => {
            into.eat(b"[");
            items.iter().for_each(|item| canonical(item, into));
            into.eat(b"]");
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            into.eat(b"{");
            for (name, value) in fields {
                into.eat(name.as_bytes());
                into.eat(b"\0");
                canonical(value, into);
            }
            into.eat(b"}");
        }
    }
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    fn hash_of(value: Value) -> String {
        hash(&template(value), 0)
    }

    #[test]
    fn the_hash_knows_values_not_their_order() {
        let one = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "c"}]}});
        let same = json!({"spec": {"containers": [{"name": "c"}]}, "metadata": {"labels": {"b": "2", "a": "1"}}});
        let other = json!({"metadata": {"labels": {"a": "12", "b": ""}}, "spec": {"containers": [{"name": "c"}]}});
        assert_eq!(hash_of(one.clone()), hash_of(same));
        assert_ne!(hash_of(one.clone()), hash_of(other));
        assert_ne!(hash(&template(one.clone()), 1), hash_of(one));
    }

    #[test]
    fn a_hash_is_fit_for_names() {
        let hash = hash_of(json!({"spec": {"containers": []}}));
        assert!((1..=10).contains(&hash.len()) && hash.bytes().all(|byte| SAFE.contains(&byte)), "{hash}");
    }

    #[test]
    fn the_hash_label_is_not_part_of_the_template() {
        let set: ReplicaSet = serde_json::from_value(json!({"spec": {"selector": {}, "template": {
            "metadata": {"labels": {"app": "web", "pod-template-hash": "x"}}, "spec": {"containers": [{"name": "c"}]}}}}))
        .unwrap();
        let mut template =
            template(json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}));
        assert!(matches(&set, &template));
        template.metadata.as_mut().unwrap().labels.as_mut().unwrap().insert("v".into(), "2".into());
        assert!(!matches(&set, &template));
    }
}
