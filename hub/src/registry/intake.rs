//! From blobs and a manifest to an image that nodes can run, or the reason why they cannot.

use std::fs::File;
use std::io::{self, Read};

use protocol::ids::Digest;

use super::Registry;
use super::blobs::{BlobError, BlobFile};
use super::index::{FileLayer, Image, ImageKind, Sha256};
use super::manifest::{Compression, MANIFEST_TYPE, Manifest, ManifestError, config_json};
use super::reference::{RepositoryName, Version};
use crate::compiler::worker::{InspectedKind, Inspection, WorkerError};

/// A preview 1 module grows by its adapter when it becomes a component: about 100 KB.
const ADAPTER_BYTES: u64 = 1 << 20;
/// Files may unpack to this many times the image's limit, for layers that must be recompressed.
const UNPACKED_FACTOR: u64 = 8;
/// zstd's default: nearly as small as 19, and quick on a Pi.
const ZSTD_LEVEL: i32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("blob {digest} was not pushed before its manifest")]
    MissingBlob { digest: Digest },
    #[error("blob {digest} has {actual} bytes, and the manifest says {expected}")]
    Size { digest: Digest, expected: u64, actual: u64 },
    #[error("the image has {} MiB; this hub takes {} MiB at most", bytes.div_ceil(1 << 20), limit >> 20)]
    TooLarge { bytes: u64, limit: u64 },
    #[error("the file cannot be run: {0}")]
    NotRunnable(WorkerError),
    #[error(
        "the component exports neither wasi:cli/run (a command) nor wasi:http/incoming-handler (a server); it exports: {}",
        if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") }
    )]
    NoEntry { exports: Vec<String> },
    #[error("the layer of files {digest} cannot be read: {why}")]
    Files { digest: Digest, why: String },
    #[error("the hub cannot look into the image: {0}")]
    Worker(WorkerError),
    #[error("the hub cannot keep the image")]
    Store(#[from] BlobError),
}

/// A component made of a pushed file, looked into.
struct Component {
    digest: Digest,
    bytes: u64,
    kind: ImageKind,
    inspection: Inspection,
}

impl Registry {
    /// Stores a manifest whose blobs are here already.
    pub(super) async fn take_manifest(
        &self,
        name: &RepositoryName,
        version: &Version,
        json: &[u8],
    ) -> Result<(Digest, Image), IntakeError> {
        let manifest = Manifest::parse(json)?;
        let wasm = self.check_blobs(&manifest)?;
        let component = self.component(&wasm).await?;
        self.take(name, version, &manifest, json, &component).await
    }

    /// Makes an image of a Wasm blob and layers of files, all stored already.
    pub(super) async fn take_push(
        &self,
        name: &RepositoryName,
        version: &Version,
        wasm: Digest,
        files: &[Digest],
    ) -> Result<(Digest, Image), IntakeError> {
        let wasm_file = self.stored(&wasm)?;
        let component = self.component(&wasm_file).await?;
        let config = config_json(wasm, &component.inspection.imports, &component.inspection.exports);
        let config = super::manifest::Blob { digest: self.shared.blobs.put(&config)?, bytes: config.len() as u64 };
        let files = files.iter().map(|digest| {
            let file = self.stored(digest)?;
            let head = read_head(&file).map_err(BlobError::from)?;
            Ok((super::manifest::Blob { digest: *digest, bytes: file.bytes }, Compression::sniff(&head)))
        });
        let files = files.collect::<Result<_, IntakeError>>()?;
        let wasm = super::manifest::Blob { digest: wasm, bytes: wasm_file.bytes };
        let manifest = Manifest { config, wasm, files };
        self.check_blobs(&manifest)?;
        self.take(name, version, &manifest, &manifest.to_json(), &component).await
    }

    async fn take(
        &self,
        name: &RepositoryName,
        version: &Version,
        manifest: &Manifest,
        json: &[u8],
        component: &Component,
    ) -> Result<(Digest, Image), IntakeError> {
        let mut files = Vec::with_capacity(manifest.files.len());
        for (blob, compression) in &manifest.files {
            files.push(self.travelling(blob.digest, *compression).await?);
        }
        let image = Image {
            media_type: MANIFEST_TYPE.to_owned(),
            kind: component.kind,
            component: Sha256(component.digest),
            files,
            blobs: manifest.blobs().map(|blob| Sha256(blob.digest)).collect(),
            bytes: manifest.blobs().map(|blob| blob.bytes).sum(),
            pushed_unix_seconds: self.shared.clock.unix_seconds(),
        };
        let (registry, name, version) = (self.clone(), name.clone(), version.clone());
        let (json, kept) = (json.to_vec(), image.clone());
        let stored = blocking(move || {
            let digest = registry.shared.blobs.put(&json)?;
            registry.insert(&name, &version, digest, kept)?;
            Ok(digest)
        });
        let digest = stored.await?;
        tracing::info!(%digest, component = %component.digest, bytes = component.bytes, "took an image");
        Ok((digest, image))
    }

    /// All there, all of the size they are said to be, and together within the limit. Returns the Wasm file.
    fn check_blobs(&self, manifest: &Manifest) -> Result<BlobFile, IntakeError> {
        let limit = self.shared.limits.image;
        let bytes = manifest.blobs().fold(0_u64, |sum, blob| sum.saturating_add(blob.bytes));
        if bytes > limit {
            return Err(IntakeError::TooLarge { bytes, limit });
        }
        for blob in manifest.blobs() {
            let actual = self.stored(&blob.digest)?.bytes;
            if actual != blob.bytes {
                return Err(IntakeError::Size { digest: blob.digest, expected: blob.bytes, actual });
            }
        }
        self.stored(&manifest.wasm.digest)
    }

    fn stored(&self, digest: &Digest) -> Result<BlobFile, IntakeError> {
        self.shared.blobs.get(digest).ok_or(IntakeError::MissingBlob { digest: *digest })
    }

    /// The component that nodes run for a pushed Wasm file.
    async fn component(&self, wasm: &BlobFile) -> Result<Component, IntakeError> {
        let limit = self.shared.limits.image + ADAPTER_BYTES;
        let mut incoming = self.shared.blobs.receive(limit)?;
        let mut failed = None;
        let made = self.shared.worker.componentize(&wasm.path, limit, |bytes| {
            incoming.write(bytes).map_err(|error| {
                failed = Some(error);
                io::Error::other("the hub cannot store the component")
            })
        });
        let made = made.await;
        if let Some(error) = failed {
            return Err(error.into());
        }
        made.map_err(worker_error)?;
        let inspection = self.shared.worker.inspect(incoming.path()).await.map_err(worker_error)?;
        let kind = match inspection.kind {
            InspectedKind::Command => ImageKind::Command,
            InspectedKind::Http => ImageKind::Http,
            InspectedKind::Unknown => return Err(IntakeError::NoEntry { exports: inspection.exports }),
        };
        let bytes = incoming.bytes();
        let digest = blocking(move || incoming.keep(None)).await?;
        Ok(Component { digest, bytes, kind, inspection })
    }

    /// A layer of files as it travels to nodes: they unpack zstd only.
    async fn travelling(&self, digest: Digest, compression: Compression) -> Result<FileLayer, IntakeError> {
        let file = self.stored(&digest)?;
        if compression == Compression::Zstd {
            return Ok(FileLayer { digest: Sha256(digest), bytes: file.bytes });
        }
        let registry = self.clone();
        let recompressed = blocking(move || {
            let unpacked_max = registry.shared.limits.image * UNPACKED_FACTOR;
            let mut incoming = registry.shared.blobs.receive(registry.shared.limits.image)?;
            let mut written = Ok(());
            let source = File::open(&file.path)?;
            let copied = match compression {
                Compression::Gzip => {
                    recompress(flate2::read::MultiGzDecoder::new(source), unpacked_max, &mut incoming, &mut written)
                }
                Compression::None | Compression::Zstd => recompress(source, unpacked_max, &mut incoming, &mut written),
            };
            written?;
            if let Err(error) = copied {
                return Ok(Err(error.to_string()));
            }
            let bytes = incoming.bytes();
            Ok(Ok(FileLayer { digest: Sha256(incoming.keep(None)?), bytes }))
        });
        recompressed.await?.map_err(|why| IntakeError::Files { digest, why })
    }
}

/// Copies a tar archive, compressing it. What the reader fails with is returned, what the store
/// fails with goes to `written`.
fn recompress(
    source: impl Read,
    unpacked_max: u64,
    incoming: &mut super::blobs::Incoming,
    written: &mut Result<(), BlobError>,
) -> io::Result<()> {
    struct Sink<'a>(&'a mut super::blobs::Incoming, &'a mut Result<(), BlobError>);

    impl io::Write for Sink<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes).map(|()| bytes.len()).map_err(|error| {
                *self.1 = Err(error);
                io::Error::other("the hub cannot store it")
            })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut encoder = zstd::Encoder::new(Sink(incoming, written), ZSTD_LEVEL)?;
    let copied = io::copy(&mut source.take(unpacked_max + 1), &mut encoder)?;
    if copied > unpacked_max {
        return Err(io::Error::other(format!("it unpacks to more than {} MiB", unpacked_max >> 20)));
    }
    encoder.finish().map(drop)
}

fn read_head(file: &BlobFile) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(&file.path)?.take(4).read_to_end(&mut head)?;
    Ok(head)
}

fn worker_error(error: WorkerError) -> IntakeError {
    match error {
        // A bomb of a module is at fault for what it does to the worker.
        WorkerError::Refused { .. }
        | WorkerError::TimedOut { .. }
        | WorkerError::TooLarge { .. }
        | WorkerError::Died { .. } => IntakeError::NotRunnable(error),
        WorkerError::Missing { .. } | WorkerError::Io { .. } => IntakeError::Worker(error),
    }
}

/// Runs what waits for the disk beside the runtime's own threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BlobError::Io(io::Error::other(error))),
    }
}
