//! What a pod's image names mean: decided once, when the pod is made, so that all its restarts and all
//! its nodes run the same bytes.

use hub_core::object::Object;
use serde_json::{Map, Value};

/// Holds JSON: the image of each container as `NAME@sha256:...`. What is not in the registry is left
/// out, and added when it is pushed.
pub const IMAGES_ANNOTATION: &str = "wherry.dev/images";

/// Finds what an image name means now.
pub trait ImageResolver: Send + Sync + 'static {
    /// `NAME@sha256:...`; `None` for an image that is not there (yet).
    fn resolve(&self, reference: &str) -> Option<String>;
}

/// Writes what the images of `pod` mean; those that an update leaves alone keep their meaning.
pub(super) fn pin(pod: &mut Object, old: Option<&Object>, resolver: &dyn ImageResolver) {
    let kept = |container: &str, image: &str| {
        let old = old.filter(|old| images(old).any(|found| found == (container, image)));
        let pinned: Map<String, Value> = serde_json::from_str(old?.annotation(IMAGES_ANNOTATION)?).ok()?;
        pinned.get(container).cloned()
    };
    let written: Map<String, Value> = match old {
        // Who re-resolves images later does it by writing the annotation.
        Some(_) => {
            pod.annotation(IMAGES_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        }
        None => Map::new(),
    };
    let mut pinned = Map::new();
    for (container, image) in images(pod) {
        let same = old.is_none_or(|old| images(old).any(|found| found == (container, image)));
        let meaning = written
            .get(container)
            .filter(|_| same)
            .cloned()
            .or_else(|| kept(container, image))
            .or_else(|| resolver.resolve(image).map(Value::String));
        if let Some(meaning) = meaning {
            pinned.insert(container.to_owned(), meaning);
        }
    }
    if pinned.is_empty() {
        pod.remove(&["metadata", "annotations", IMAGES_ANNOTATION]);
    } else {
        let text = Value::Object(pinned).to_string();
        pod.set(&["metadata", "annotations", IMAGES_ANNOTATION], text);
    }
}

/// Container and image, the init containers' first.
fn images(pod: &Object) -> impl Iterator<Item = (&str, &str)> {
    let lists = [pod.at(&["spec", "initContainers"]), pod.at(&["spec", "containers"])];
    lists
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|container| Some((container.get("name")?.as_str()?, container.get("image")?.as_str()?)))
}

impl ImageResolver for crate::registry::Registry {
    fn resolve(&self, reference: &str) -> Option<String> {
        Self::resolve(self, reference).ok().map(|image| image.pinned)
    }
}
