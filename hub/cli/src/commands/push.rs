//! `hub push FILE NAME[:TAG]`

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::client::{Call, Client};
use crate::connect::Connect;
use crate::output::{DataFormat, print};
use crate::resources::encode;

/// A hub takes far less; this only keeps a mistyped name from filling our memory.
const FILE_MAX: u64 = 1 << 30;
/// The hub adapts and inspects the file before it answers: minutes for a large one on a small machine.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Deeper trees are loops of links.
const DEPTH_MAX: usize = 32;

#[derive(Debug, clap::Args)]
pub struct Push {
    /// A component, or a WASI preview 1 command
    file: PathBuf,

    /// What pods call it: NAME or NAME:TAG
    name: String,

    /// Directory whose files the program sees, read-only, at /
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,

    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<DataFormat>,

    #[command(flatten)]
    connect: Connect,
}

impl Push {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let wasm = read(&self.file)?;
        let layer = self.files.as_deref().map(archive).transpose()?;
        let mut connected = self.connect.open()?;
        let client = &mut connected.client;
        let mut path = format!("/wherry/v1/images?name={}", encode(&self.name));
        if let Some(layer) = layer {
            eprintln!("pushing {} KiB of files", layer.len().div_ceil(1024));
            let digest = push_blob(client, &self.name, layer).await?;
            path.push_str(&format!("&layers={}", encode(&digest)));
        }
        eprintln!("pushing {} ({} KiB)", self.file.display(), wasm.len().div_ceil(1024));
        let pushed = client.bytes(Call::upload(path, "application/wasm", wasm).patience(PATIENCE)).await?;
        let pushed: serde_json::Value = serde_json::from_slice(&pushed).context("the hub's answer makes no sense")?;
        match self.output {
            Some(format) => print(&format.render(&pushed)?),
            None => {
                let text = |field: &str| pushed[field].as_str().unwrap_or_default().to_owned();
                print(&format!("{}@{} ({})\n", text("name"), text("digest"), text("kind")))
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > FILE_MAX {
        bail!("{} is larger than {} MiB", path.display(), FILE_MAX >> 20);
    }
    Ok(bytes)
}

/// Uploads a layer; the hub tells its digest and checks nothing else of it.
async fn push_blob(client: &mut Client, name: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
    let digest = format!("sha256:{}", sha256(&bytes));
    // The repository only says who may push; blobs are shared.
    let repository = name.split(['@', ':']).next().unwrap_or(name);
    match client.bytes(Call::head(format!("/v2/{repository}/blobs/{digest}"))).await {
        Ok(_) => return Ok(digest),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", encode(&digest));
    client.bytes(Call::upload(path, "application/octet-stream", bytes).patience(PATIENCE)).await?;
    Ok(digest)
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A directory as a compressed archive. The same files give the same bytes: no times, no owners.
fn archive(dir: &Path) -> anyhow::Result<Vec<u8>> {
    if !dir.is_dir() {
        bail!("--files {} is no directory", dir.display());
    }
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    append(&mut builder, dir, Path::new(""), 0)?;
    let gzip = builder.into_inner().and_then(GzEncoder::finish);
    gzip.with_context(|| format!("cannot pack {}", dir.display()))
}

fn append<W: Write>(builder: &mut tar::Builder<W>, dir: &Path, inside: &Path, depth: usize) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read {}", dir.display());
    if depth > DEPTH_MAX {
        bail!("{} is more than {DEPTH_MAX} directories deep", dir.display());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(unreadable)? {
        names.push(entry.with_context(unreadable)?.file_name());
    }
    names.sort();
    for name in names {
        let (path, inside) = (dir.join(&name), inside.join(&name));
        // Links are followed: a guest sees files, not this machine's paths.
        let metadata = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        if metadata.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, &inside, std::io::empty())?;
            append(builder, &path, &inside, depth + 1)?;
        } else if metadata.is_file() {
            let bytes = read(&path)?;
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, &inside, &*bytes)?;
        } else {
            eprintln!("left out {}: neither file nor directory", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_depends_on_the_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let root = dir.path().join(name);
            std::fs::create_dir_all(root.join("deep")).unwrap();
            for (file, content) in [("b.txt", "bee"), ("deep/a.txt", "ay")] {
                std::fs::write(root.join(file), content).unwrap();
            }
            archive(&root).unwrap()
        };
        let one = make("one");
        assert_eq!(one, make("two"));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&*one));
        let entries: Vec<_> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(entries, ["b.txt", "deep", "deep/a.txt"]);
    }

    #[test]
    fn digests_are_sha_256() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
