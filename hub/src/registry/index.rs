//! Which images there are, under which names: one JSON file, replaced as a whole at each change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use protocol::ids::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::reference::{RepositoryName, Version};

/// A digest that is text in JSON, also as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sha256(pub(crate) Digest);

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    repositories: BTreeMap<String, Repository>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repository {
    pub(crate) tags: BTreeMap<String, Sha256>,
    /// Pushed by digest: these stay without a tag.
    #[serde(default)]
    pub(crate) untagged: BTreeSet<Sha256>,
    /// By the manifest's digest.
    pub(crate) images: BTreeMap<Sha256, Image>,
}

/// What is known of an image from the push on, so that nobody looks into its files again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Image {
    pub(crate) media_type: String,
    pub(crate) kind: ImageKind,
    /// What nodes run: the pushed component, or the one made of the pushed preview 1 module.
    pub(crate) component: Sha256,
    /// The files, as they travel: tar archives, zstd-compressed.
    pub(crate) files: Vec<FileLayer>,
    /// What the manifest names: it must stay for clients that pull.
    pub(crate) blobs: Vec<Sha256>,
    /// Of all of those.
    pub(crate) bytes: u64,
    pub(crate) pushed_unix_seconds: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileLayer {
    pub(crate) digest: Sha256,
    pub(crate) bytes: u64,
}

/// How an image is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// `wasi:cli/run`: a process.
    Command,
    /// `wasi:http/incoming-handler`: a server.
    Http,
}

/// What a removal left to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    Yes,
    /// There was none.
    No,
}

impl Index {
    pub(crate) fn repositories(&self) -> impl Iterator<Item = (&str, &Repository)> {
        self.repositories.iter().map(|(name, repository)| (name.as_str(), repository))
    }

    pub(crate) fn repository(&self, name: &RepositoryName) -> Option<&Repository> {
        self.repositories.get(name.as_str())
    }

    pub(crate) fn find(&self, name: &RepositoryName, version: &Version) -> Option<(Digest, &Image)> {
        let repository = self.repository(name)?;
        let digest = match version {
            Version::Tag(tag) => *repository.tags.get(tag.as_str())?,
            Version::Digest(digest) => Sha256(*digest),
        };
        repository.images.get(&digest).map(|image| (digest.0, image))
    }

    /// An image of any repository, by its manifest's or its component's digest.
    pub(crate) fn find_anywhere(&self, digest: &Digest) -> Option<(&str, Digest, &Image)> {
        let images = || {
            self.repositories().flat_map(|(name, repository)| {
                repository.images.iter().map(move |(digest, image)| (name, digest.0, image))
            })
        };
        let by_manifest = images().find(|(_, manifest, _)| manifest == digest);
        by_manifest.or_else(|| images().find(|(_, _, image)| image.component.0 == *digest))
    }

    /// Adds an image, or names it anew.
    pub(crate) fn insert(&mut self, name: &RepositoryName, version: &Version, manifest: Digest, image: Image) {
        let repository = self.repositories.entry(name.as_str().to_owned()).or_default();
        match version {
            Version::Tag(tag) => drop(repository.tags.insert(tag.as_str().to_owned(), Sha256(manifest))),
            Version::Digest(_) => drop(repository.untagged.insert(Sha256(manifest))),
        }
        repository.images.insert(Sha256(manifest), image);
    }

    /// Takes a tag away, or all tags of a digest. The images go with [`Index::drop_unnamed`].
    pub(crate) fn remove(&mut self, name: &RepositoryName, version: &Version) -> Removed {
        let Some(repository) = self.repositories.get_mut(name.as_str()) else { return Removed::No };
        match version {
            Version::Tag(tag) => match repository.tags.remove(tag.as_str()) {
                Some(_) => Removed::Yes,
                None => Removed::No,
            },
            Version::Digest(digest) => {
                if !repository.images.contains_key(&Sha256(*digest)) {
                    return Removed::No;
                }
                repository.tags.retain(|_, tagged| tagged.0 != *digest);
                repository.untagged.remove(&Sha256(*digest));
                Removed::Yes
            }
        }
    }

    /// Forgets images that have no name (any more) and are not in use; then repositories without images.
    pub(crate) fn drop_unnamed(&mut self, in_use: &BTreeSet<Digest>) {
        for repository in self.repositories.values_mut() {
            let tagged: BTreeSet<Sha256> = repository.tags.values().copied().collect();
            let Repository { images, untagged, .. } = repository;
            images
                .retain(|digest, _| tagged.contains(digest) || untagged.contains(digest) || in_use.contains(&digest.0));
        }
        self.repositories.retain(|_, repository| !repository.images.is_empty());
    }

    /// Every blob that something in here needs.
    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        let images = self.repositories.values().flat_map(|repository| &repository.images);
        let needs = |(manifest, image): (&Sha256, &Image)| {
            let files = image.files.iter().map(|layer| layer.digest);
            let own = [*manifest, image.component];
            own.into_iter().chain(files).chain(image.blobs.iter().copied()).map(|sha| sha.0).collect::<Vec<_>>()
        };
        images.flat_map(needs).collect()
    }
}

/// The index's file.
#[derive(Debug)]
pub(crate) struct IndexFile {
    path: PathBuf,
}

impl IndexFile {
    pub(crate) fn open(root: &Path) -> io::Result<(Self, Index)> {
        let path = root.join("index.json");
        let index = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(error) => return Err(error),
        };
        Ok((Self { path }, index))
    }

    /// Replaces the file; after a crash it is the old one or the new one.
    pub(crate) fn write(&self, index: &Index) -> io::Result<()> {
        let dir = self.path.parent().expect("the index lies in the registry's directory");
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&serde_json::to_vec_pretty(index)?)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn image(text: &str) -> (Digest, Image) {
        let sha = |part: &str| Sha256(Digest::of(format!("{text}/{part}").as_bytes()));
        let image = Image {
            media_type: "m".into(),
            kind: ImageKind::Command,
            component: sha("component"),
            files: vec![FileLayer { digest: sha("files"), bytes: 3 }],
            blobs: vec![sha("config"), sha("wasm")],
            bytes: 10,
            pushed_unix_seconds: 0,
        };
        (sha("manifest").0, image)
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn images_are_found_by_tag_digest_and_component() {
        let mut index = Index::default();
        let (digest, one) = image("one");
        index.insert(&name("a"), &version("v1"), digest, one.clone());
        assert_eq!(index.find(&name("a"), &version("v1")), Some((digest, &one)));
        assert_eq!(index.find(&name("a"), &Version::Digest(digest)), Some((digest, &one)));
        assert_eq!(index.find(&name("a"), &version("v2")), None);
        assert_eq!(index.find(&name("b"), &version("v1")), None);
        assert_eq!(index.find_anywhere(&digest).unwrap().0, "a");
        assert_eq!(index.find_anywhere(&one.component.0).unwrap().1, digest);
        assert_eq!(index.find_anywhere(&Digest([7; 32])), None);
    }

    #[test]
    fn an_image_goes_with_its_last_name_unless_it_is_in_use() {
        let (digest, one) = image("one");
        let mut index = Index::default();
        index.insert(&name("a"), &version("v1"), digest, one.clone());
        index.insert(&name("a"), &version("v2"), digest, one);
        let nobody = BTreeSet::new();

        assert_eq!(index.remove(&name("a"), &version("v3")), Removed::No);
        assert_eq!(index.remove(&name("a"), &version("v1")), Removed::Yes);
        index.drop_unnamed(&nobody);
        assert_eq!(index.blobs().len(), 5, "it still has a name");

        assert_eq!(index.remove(&name("a"), &Version::Digest(digest)), Removed::Yes);
        index.drop_unnamed(&BTreeSet::from([digest]));
        assert_eq!(index.blobs().len(), 5, "a pod uses it");
        index.drop_unnamed(&nobody);
        assert_eq!(index, Index::default());
    }

    #[test]
    fn an_image_pushed_by_digest_needs_no_tag() {
        let (digest, one) = image("one");
        let mut index = Index::default();
        index.insert(&name("a"), &Version::Digest(digest), digest, one);
        index.drop_unnamed(&BTreeSet::new());
        assert!(index.find(&name("a"), &Version::Digest(digest)).is_some());
        assert_eq!(index.remove(&name("a"), &Version::Digest(digest)), Removed::Yes);
        index.drop_unnamed(&BTreeSet::new());
        assert_eq!(index, Index::default());
    }

    #[test]
    fn a_tag_moves_to_the_next_push() {
        let mut index = Index::default();
        let ((old, one), (new, two)) = (image("one"), image("two"));
        index.insert(&name("a"), &version("v1"), old, one);
        index.insert(&name("a"), &version("v1"), new, two);
        index.drop_unnamed(&BTreeSet::new());
        assert_eq!(index.find(&name("a"), &version("v1")).unwrap().0, new);
        assert_eq!(index.find(&name("a"), &Version::Digest(old)), None);
    }

    #[test]
    fn the_file_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, mut index) = IndexFile::open(dir.path()).unwrap();
        let (digest, one) = image("one");
        index.insert(&name("a/b"), &version("v1"), digest, one);
        file.write(&index).unwrap();
        assert_eq!(IndexFile::open(dir.path()).unwrap().1, index);
        fs::write(dir.path().join("index.json"), "{").unwrap();
        assert_eq!(IndexFile::open(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
