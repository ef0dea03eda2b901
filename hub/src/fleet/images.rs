//! The registry and the compiler, as nodes and pods see them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hub_core::kinds;
use hub_core::object::Object;
use k8s_openapi::api::core::v1::{Container, Pod};
use protocol::Digest;
use protocol::blob::ArtifactManifest;
use protocol::pod::Image;
use protocol::reported::Target;
use tracing::{debug, info};

use super::blobs::{ArtifactError, Artifacts};
use crate::compiler::Compiler;
use crate::controllers::world::World;
use crate::objects::{Changed, IMAGES_ANNOTATION, Objects, WriteOptions};
use crate::registry::{InUse, Registry};

/// What `hub serve` gives to the fleet.
pub struct Images {
    pub registry: Registry,
    pub compiler: Compiler,
}

impl Artifacts for Images {
    fn image(&self, pinned: &str) -> Option<Image> {
        let found = self.registry.resolve(pinned).ok()?;
        Some(Image { component: found.component, layers: found.layers })
    }

    fn artifact(
        &self,
        component: Digest,
        target: Target,
    ) -> BoxFuture<'static, Result<ArtifactManifest, ArtifactError>> {
        let compiler = self.compiler.clone();
        Box::pin(async move {
            compiler.artifact(component, &target).await.map_err(|error| match error.verdict() {
                Some(reason) => ArtifactError::Never { reason, message: error.to_string() },
                None => ArtifactError::NotNow,
            })
        })
    }

    fn blob(&self, digest: Digest) -> Option<PathBuf> {
        self.compiler.blob_path(&digest).or_else(|| self.registry.blob(&digest)).map(|file| file.path)
    }
}

/// Gives pods that wait for an image its meaning once it is pushed. A meaning that is there never changes.
pub async fn pin_when_pushed(registry: Registry, objects: Objects, world: Arc<World>) {
    let mut changed = registry.changed();
    world.synced().await;
    loop {
        for pod in world.pods() {
            pin(&registry, &objects, &pod).await;
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

async fn pin(registry: &Registry, objects: &Objects, pod: &Pod) {
    let found: BTreeMap<String, String> = containers(pod)
        .filter(|container| !pinned(pod).contains_key(&container.name))
        .filter_map(|container| {
            let image = registry.resolve(container.image.as_deref()?).ok()?;
            Some((container.name.clone(), image.pinned))
        })
        .collect();
    let Some(resource) = kinds::find("", "v1", "pods").filter(|_| !found.is_empty()) else { return };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name, uid) = (text(&pod.metadata.namespace), text(&pod.metadata.name), text(&pod.metadata.uid));
    let write = |object: &mut Object| {
        if object.uid() != uid {
            return Ok(Changed::No);
        }
        let mut all: BTreeMap<String, String> =
            object.annotation(IMAGES_ANNOTATION).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        for (container, image) in &found {
            all.entry(container.clone()).or_insert_with(|| image.clone());
        }
        let text = serde_json::to_string(&all).expect("a map of texts serializes");
        object.set(&["metadata", "annotations", IMAGES_ANNOTATION], text);
        Ok(Changed::Yes)
    };
    match objects.modify(resource, &namespace, &name, WriteOptions::default(), write).await {
        Ok(_) => info!(namespace, pod = name, "image has been pushed"),
        // It is looked at again with the next push.
        Err(error) => debug!(namespace, pod = name, error = &error as &dyn std::error::Error, "cannot pin an image"),
    }
}

/// What the registry must keep: the images that pods are bound to. Unknown before the first full list.
pub fn in_use(world: Arc<World>) -> InUse {
    Box::new(move || {
        let pods = world.is_synced().then(|| world.pods())?;
        let digest = |image: &String| image.rsplit_once('@')?.1.parse().ok();
        Some(pods.iter().flat_map(|pod| pinned(pod).values().filter_map(digest).collect::<Vec<_>>()).collect())
    })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

fn pinned(pod: &Pod) -> BTreeMap<String, String> {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| serde_json::from_str(all.get(IMAGES_ANNOTATION)?).ok()).unwrap_or_default()
}
