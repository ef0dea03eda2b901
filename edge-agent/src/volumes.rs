//! A pod's volumes on disk, and what each container sees of them.
//!
//! ```text
//!   pods/<uid>/volumes/<name>/            emptyDir: the directory itself
//!   pods/<uid>/volumes/<name>/<file>      -> ..data/<file>      ConfigMap, Secret and their like:
//!                             ..data      -> ..<digest>         swapped by one rename, so that a
//!                             ..<digest>/<file>                 reader never sees half an update
//! ```
//! hostPath volumes lie below a directory that the agent was started with, symlinks resolved.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use edge_agent_runtime::Mount;
use protocol::pod::{
    ContainerSpec, FileContent, FileSpec, HostPathKind, MountSpec, PodSpec, Value, VolumeSource, VolumeSpec,
};
use protocol::{Digest, PodUid};

use crate::files::{self, Sync};

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume {volume:?}: cannot make {}", path.display())]
    Make { volume: String, path: PathBuf, source: io::Error },
    #[error("volume {volume:?}: hostPath {} is not below a directory that this node allows (--allow-host-path)", path.display())]
    NotAllowed { volume: String, path: PathBuf },
    #[error("volume {volume:?}: hostPath {} is not there, or not of type {kind:?}", path.display())]
    WrongKind { volume: String, path: PathBuf, kind: HostPathKind },
    #[error("volume {volume:?}: {path:?} is no path within a volume")]
    Path { volume: String, path: String },
    #[error("there is no volume {volume:?}")]
    Unknown { volume: String },
    #[error("the pod's secrets cannot be opened with this node's key")]
    Sealed,
    #[error("the pod names secret {0}, but there are fewer")]
    NoSecret(u16),
}

/// Opened secrets of a pod, in memory only (and in the files that ask for them).
pub type Secrets = Arc<Vec<Vec<u8>>>;

#[derive(Clone)]
pub struct Volumes {
    dir: PathBuf,
    allowed: Arc<Vec<PathBuf>>,
    key: Arc<crypto_box::SecretKey>,
}

impl Volumes {
    pub fn new(data_dir: &Path, allowed: &[PathBuf], key: crypto_box::SecretKey) -> Self {
        // A directory that is not there yet is compared as written.
        let resolved = allowed.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
        Self { dir: data_dir.join("pods"), allowed: Arc::new(resolved), key: Arc::new(key) }
    }

    /// Makes the pod's volumes, or brings their files up to date; repeating it changes nothing.
    ///
    /// # Errors
    /// [`VolumeError`]
    pub fn prepare(&self, spec: &PodSpec) -> Result<Secrets, VolumeError> {
        let secrets = self.unseal(spec)?;
        for volume in &spec.volumes {
            let path = self.path(spec.uid, volume);
            let make = |source| VolumeError::Make { volume: volume.name.clone(), path: path.clone(), source };
            match &volume.source {
                VolumeSource::EmptyDir { .. } => files::private_dir(&path).map_err(make)?,
                VolumeSource::HostPath { path, kind } => drop(self.host_path(volume, Path::new(path), *kind)?),
                VolumeSource::Files(list) => {
                    files::private_dir(&path).map_err(make)?;
                    write_files(volume, &path, list, &secrets)?;
                }
            }
        }
        Ok(Arc::new(secrets))
    }

    pub fn remove(&self, uid: PodUid) -> io::Result<()> {
        files::remove(&self.dir.join(uid.to_string()))
    }

    /// Removes what pods left that are no longer known.
    pub fn keep_only(&self, known: impl Fn(PodUid) -> bool) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_str().and_then(|name| name.parse::<PodUid>().ok());
            if uid.is_some_and(|uid| !known(uid)) {
                let _ = files::remove(&entry.path());
            }
        }
    }

    /// What a container sees of the pod's volumes.
    ///
    /// # Errors
    /// [`VolumeError`]
    pub fn mounts(&self, spec: &PodSpec, container: &ContainerSpec) -> Result<Vec<Mount>, VolumeError> {
        container.mounts.iter().map(|mount| self.mount(spec, mount)).collect()
    }

    fn mount(&self, spec: &PodSpec, mount: &MountSpec) -> Result<Mount, VolumeError> {
        let volume = spec.volumes.iter().find(|volume| volume.name == mount.volume);
        let volume = volume.ok_or_else(|| VolumeError::Unknown { volume: mount.volume.clone() })?;
        let base = match &volume.source {
            VolumeSource::HostPath { path, kind } => self.host_path(volume, Path::new(path), *kind)?,
            VolumeSource::EmptyDir { .. } | VolumeSource::Files(_) => self.path(spec.uid, volume),
        };
        let host = if mount.sub_path.is_empty() { base } else { sub_path(volume, &base, &mount.sub_path)? };
        Ok(Mount { host, guest: mount.path.clone(), access: mount.access })
    }

    fn path(&self, uid: PodUid, volume: &VolumeSpec) -> PathBuf {
        // Volume names are DNS labels, but they come from outside: never a path of their own.
        self.dir.join(uid.to_string()).join("volumes").join(volume.name.replace(['/', '.'], "_"))
    }

    fn unseal(&self, spec: &PodSpec) -> Result<Vec<Vec<u8>>, VolumeError> {
        let Some(sealed) = &spec.sealed_secrets else { return Ok(Vec::new()) };
        let plain = self.key.unseal(sealed).map_err(|_| VolumeError::Sealed)?;
        postcard::from_bytes(&plain).map_err(|_| VolumeError::Sealed)
    }

    /// The directory or file a hostPath names, made if it asks for it, symlinks resolved.
    fn host_path(&self, volume: &VolumeSpec, path: &Path, kind: HostPathKind) -> Result<PathBuf, VolumeError> {
        let name = || volume.name.clone();
        let not_allowed = || VolumeError::NotAllowed { volume: name(), path: path.to_owned() };
        if !path.is_absolute() || path.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(not_allowed());
        }
        // What exists of it decides, before anything is made.
        let existing = path.ancestors().find_map(|ancestor| ancestor.canonicalize().ok()).ok_or_else(not_allowed)?;
        let allowed = |path: &Path| self.allowed.iter().any(|allowed| path.starts_with(allowed));
        if !allowed(&existing) {
            return Err(not_allowed());
        }
        let make = |source| VolumeError::Make { volume: name(), path: path.to_owned(), source };
        match kind {
            HostPathKind::DirectoryOrCreate => fs::create_dir_all(path).map_err(make)?,
            HostPathKind::FileOrCreate => {
                drop(fs::OpenOptions::new().create(true).append(true).open(path).map_err(make)?);
            }
            HostPathKind::Unchecked | HostPathKind::Directory | HostPathKind::File => {}
        }
        let wrong = || VolumeError::WrongKind { volume: name(), path: path.to_owned(), kind };
        let resolved = path.canonicalize().map_err(|_| wrong())?;
        let fits = match kind {
            HostPathKind::Unchecked => true,
            HostPathKind::Directory | HostPathKind::DirectoryOrCreate => resolved.is_dir(),
            HostPathKind::File | HostPathKind::FileOrCreate => resolved.is_file(),
        };
        match (allowed(&resolved), fits) {
            (true, true) => Ok(resolved),
            (true, false) => Err(wrong()),
            (false, _) => Err(not_allowed()),
        }
    }
}

/// A value of the environment.
///
/// # Errors
/// [`VolumeError::NoSecret`]
pub fn value(value: &Value, secrets: &Secrets) -> Result<String, VolumeError> {
    match value {
        Value::Literal(text) => Ok(text.clone()),
        Value::Secret(index) => Ok(String::from_utf8_lossy(secret(*index, secrets)?).into_owned()),
    }
}

fn secret(index: u16, secrets: &[Vec<u8>]) -> Result<&[u8], VolumeError> {
    secrets.get(usize::from(index)).map(Vec::as_slice).ok_or(VolumeError::NoSecret(index))
}

/// A path below a volume. Guests can make symlinks in volumes, so each step is looked at: nothing that
/// leaves the volume is followed, and nothing is made outside.
fn sub_path(volume: &VolumeSpec, base: &Path, path: &str) -> Result<PathBuf, VolumeError> {
    let bad = || VolumeError::Path { volume: volume.name.clone(), path: path.to_owned() };
    let make = |path: &Path, source| VolumeError::Make { volume: volume.name.clone(), path: path.to_owned(), source };
    let base = base.canonicalize().map_err(|source| make(base, source))?;
    let mut at = base.clone();
    for part in Path::new(path).components() {
        let Component::Normal(part) = part else { return Err(bad()) };
        let next = at.join(part);
        if fs::symlink_metadata(&next).is_err() {
            fs::create_dir(&next).map_err(|source| make(&next, source))?;
        }
        at = next.canonicalize().map_err(|_| bad())?;
        if !at.starts_with(&base) {
            return Err(bad());
        }
    }
    Ok(at)
}

fn write_files(volume: &VolumeSpec, dir: &Path, list: &[FileSpec], secrets: &[Vec<u8>]) -> Result<(), VolumeError> {
    let contents = resolve_files(volume, list, secrets)?;
    let generation = format!("..{}", &content_digest(&contents).hex()[..16]);
    let data = dir.join("..data");
    if fs::read_link(&data).is_ok_and(|target| target == Path::new(&generation)) {
        return Ok(());
    }
    let make = |path: &Path, source| VolumeError::Make { volume: volume.name.clone(), path: path.to_owned(), source };
    let fresh = dir.join(&generation);
    files::remove(&fresh).map_err(|source| make(&fresh, source))?;
    files::private_dir(&fresh).map_err(|source| make(&fresh, source))?;
    for (path, mode, content) in &contents {
        let path = fresh.join(path);
        let parent = path.parent().unwrap_or(&fresh);
        files::private_dir(parent).map_err(|source| make(parent, source))?;
        files::write_atomic(&path, content, *mode, Sync::Eventually).map_err(|source| make(&path, source))?;
    }
    replace_link(&data, Path::new(&generation)).map_err(|source| make(&data, source))?;
    link_names(dir, &contents).map_err(|source| make(dir, source))?;
    remove_stale(dir, &generation, &contents);
    Ok(())
}

type Content<'a> = (&'a Path, u32, &'a [u8]);

fn resolve_files<'a>(
    volume: &VolumeSpec,
    list: &'a [FileSpec],
    secrets: &'a [Vec<u8>],
) -> Result<Vec<Content<'a>>, VolumeError> {
    let mut contents = Vec::new();
    for file in list {
        let path = Path::new(&file.path);
        let plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"..")));
        if !plain || file.path.is_empty() {
            return Err(VolumeError::Path { volume: volume.name.clone(), path: file.path.clone() });
        }
        let content = match &file.content {
            FileContent::Inline(bytes) => bytes.as_slice(),
            FileContent::Secret(index) => secret(*index, secrets)?,
        };
        // For this user only; the guest does not see modes.
        contents.push((path, (file.mode & 0o700) | 0o400, content));
    }
    Ok(contents)
}

fn content_digest(contents: &[Content<'_>]) -> Digest {
    let mut hash = crate::blobs::Hasher::default();
    for (path, mode, content) in contents {
        let name = path.as_os_str().as_encoded_bytes();
        hash.update(&(name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update(&mode.to_be_bytes());
        hash.update(&(content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finish()
}

fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let fresh = path.with_file_name("..new");
    files::remove(&fresh)?;
    symlink(target, &fresh)?;
    fs::rename(&fresh, path)
}

/// The names a guest sees: each first part of a path, through `..data`.
fn link_names(dir: &Path, contents: &[Content<'_>]) -> io::Result<()> {
    for (path, _, _) in contents {
        let Some(first) = path.components().next() else { continue };
        let name = dir.join(first);
        if fs::symlink_metadata(&name).is_err() {
            symlink(Path::new("..data").join(first), &name)?;
        }
    }
    Ok(())
}

fn remove_stale(dir: &Path, generation: &str, contents: &[Content<'_>]) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let wanted = name == "..data"
            || name == generation
            || contents
                .iter()
                .any(|(path, _, _)| path.components().next().is_some_and(|first| first.as_os_str() == name));
        if !wanted {
            let _ = files::remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::pod::{Access, RestartPolicy};

    fn volumes(dir: &Path, allowed: &[PathBuf]) -> Volumes {
        Volumes::new(dir, allowed, crypto_box::SecretKey::from_bytes([1; 32]))
    }

    fn pod(source: VolumeSource) -> PodSpec {
        PodSpec {
            uid: PodUid([1; 16]),
            namespace: "default".into(),
            name: "p".into(),
            ip: [10, 42, 0, 1],
            hostname: "p".into(),
            restart: RestartPolicy::Always,
            grace_seconds: 1,
            active_deadline_seconds: None,
            stop_when_isolated_seconds: None,
            init_containers: vec![],
            containers: vec![],
            volumes: vec![VolumeSpec { name: "v".into(), source }],
            sealed_secrets: None,
        }
    }

    fn file(path: &str, content: &str) -> FileSpec {
        FileSpec { path: path.into(), mode: 0o644, content: FileContent::Inline(content.into()) }
    }

    fn mount(sub_path: &str) -> MountSpec {
        MountSpec { volume: "v".into(), path: "/v".into(), sub_path: sub_path.into(), access: Access::ReadWrite }
    }

    #[test]
    fn files_change_in_one_swap_and_old_names_go() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path(), &[]);
        let first = pod(VolumeSource::Files(vec![file("a", "1"), file("d/b", "2")]));
        volumes.prepare(&first).unwrap();
        let root = volumes.mount(&first, &mount("")).unwrap().host;
        let read = |name: &str| fs::read_to_string(root.join(name)).ok();
        assert_eq!((read("a"), read("d/b")), (Some("1".into()), Some("2".into())));
        let before = fs::read_link(root.join("..data")).unwrap();
        volumes.prepare(&first).unwrap();
        assert_eq!(fs::read_link(root.join("..data")).unwrap(), before, "nothing changed, nothing was written");
        volumes.prepare(&pod(VolumeSource::Files(vec![file("a", "3"), file("c", "4")]))).unwrap();
        assert_eq!((read("a"), read("c"), read("d/b")), (Some("3".into()), Some("4".into()), None));
        assert!(!root.join(before).exists());
    }

    #[test]
    fn secrets_are_opened_into_private_files() {
        use rand_chacha::rand_core::SeedableRng as _;
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path(), &[]);
        let plain = postcard::to_allocvec(&vec![b"hush".to_vec()]).unwrap();
        let files = vec![FileSpec { path: "s".into(), mode: 0o644, content: FileContent::Secret(0) }];
        let sealed_secrets =
            Some(volumes.key.public_key().seal(&mut rand_chacha::ChaCha20Rng::from_seed([7; 32]), &plain).unwrap());
        let spec = PodSpec { sealed_secrets, ..pod(VolumeSource::Files(files)) };
        let secrets = volumes.prepare(&spec).unwrap();
        let path = volumes.mount(&spec, &mount("")).unwrap().host.join("s");
        assert_eq!(fs::read(&path).unwrap(), b"hush");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        assert_eq!(value(&Value::Secret(0), &secrets).unwrap(), "hush");
        assert!(matches!(value(&Value::Secret(1), &secrets), Err(VolumeError::NoSecret(1))));
        let foreign = PodSpec { sealed_secrets: Some(vec![0; 80]), ..spec };
        assert!(matches!(volumes.prepare(&foreign), Err(VolumeError::Sealed)));
    }

    #[test]
    fn no_path_leaves_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path(), &[]);
        for path in ["../x", "/x", "a/../../x", "..data", ""] {
            let spec = pod(VolumeSource::Files(vec![file(path, "")]));
            assert!(matches!(volumes.prepare(&spec), Err(VolumeError::Path { .. })), "{path}");
        }
        let spec = pod(VolumeSource::EmptyDir { size_limit: None });
        volumes.prepare(&spec).unwrap();
        let root = volumes.mount(&spec, &mount("")).unwrap().host;
        assert!(volumes.mount(&spec, &mount("a/b")).unwrap().host.is_dir());
        symlink("/etc", root.join("evil")).unwrap();
        for path in ["evil", "evil/x", "../x"] {
            assert!(matches!(volumes.mount(&spec, &mount(path)), Err(VolumeError::Path { .. })), "{path}");
        }
    }

    #[test]
    fn a_host_path_lies_below_what_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = dir.path().join("ok");
        fs::create_dir(&allowed).unwrap();
        symlink("/etc", allowed.join("evil")).unwrap();
        let volumes = volumes(dir.path(), std::slice::from_ref(&allowed));
        let attempt = |path: &str, kind| {
            let path = dir.path().join(path).to_string_lossy().into_owned();
            volumes.prepare(&pod(VolumeSource::HostPath { path, kind })).map(|_| ())
        };
        attempt("ok", HostPathKind::Directory).unwrap();
        attempt("ok/new/deep", HostPathKind::DirectoryOrCreate).unwrap();
        attempt("ok/file", HostPathKind::FileOrCreate).unwrap();
        for (path, kind) in [
            ("", HostPathKind::Directory),
            ("ok/../other", HostPathKind::Unchecked),
            ("ok/evil", HostPathKind::Directory),
            ("ok/evil/x", HostPathKind::DirectoryOrCreate),
        ] {
            let result = attempt(path, kind);
            assert!(matches!(result, Err(VolumeError::NotAllowed { .. })), "{path}: {result:?}");
        }
        assert!(matches!(attempt("ok/none", HostPathKind::Unchecked), Err(VolumeError::WrongKind { .. })));
        assert!(matches!(attempt("ok/file", HostPathKind::Directory), Err(VolumeError::WrongKind { .. })));
    }
}
