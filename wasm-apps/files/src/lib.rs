//! Files through `wasi:filesystem` itself.
//!
//! `std::fs` goes through the C library below it, and one of the C libraries that guests may be
//! built with (Debian's, see `toolchain.sh`) finds no directory on this target. The interface does.

use std::fmt;

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

#[derive(Debug)]
pub enum FileError {
    /// No directory of this program's holds the path.
    Outside(String),
    Failed(String, ErrorCode),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Outside(path) => write!(f, "{path}: no such directory in this sandbox"),
            FileError::Failed(path, code) => write!(f, "{path}: {}", code.name()),
        }
    }
}

impl std::error::Error for FileError {}

pub fn read(path: &str) -> Result<Vec<u8>, FileError> {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let mut content = Vec::new();
    loop {
        let at = content.len() as u64;
        let (bytes, end) = file.read(64 * 1024, at).map_err(|code| failed(path, code))?;
        content.extend_from_slice(&bytes);
        if end {
            return Ok(content);
        }
    }
}

pub fn write(path: &str, content: &[u8]) -> Result<(), FileError> {
    let file = open(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE)?;
    let mut done = 0;
    while done < content.len() {
        let wrote = file.write(&content[done..], done as u64).map_err(|code| failed(path, code))?;
        done += usize::try_from(wrote).unwrap_or(content.len());
    }
    Ok(())
}

pub fn exists(path: &str) -> bool {
    let found = |(folder, rest): (Descriptor, String)| folder.stat_at(PathFlags::SYMLINK_FOLLOW, &rest).is_ok();
    locate(path).is_ok_and(found)
}

/// The names in a directory, sorted.
pub fn list(path: &str) -> Result<Vec<String>, FileError> {
    let folder = open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
    let entries = folder.read_directory().map_err(|code| failed(path, code))?;
    let mut names = Vec::new();
    while let Some(entry) = entries.read_directory_entry().map_err(|code| failed(path, code))? {
        names.push(entry.name);
    }
    names.sort();
    Ok(names)
}

fn open(path: &str, open: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, FileError> {
    let (folder, rest) = locate(path)?;
    folder.open_at(PathFlags::SYMLINK_FOLLOW, &rest, open, flags).map_err(|code| failed(path, code))
}

/// The deepest given directory above the path, and the path below it.
fn locate(path: &str) -> Result<(Descriptor, String), FileError> {
    let below = |folder: &str| -> Option<String> {
        let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
        let inside = rest.is_empty() || rest.starts_with('/');
        inside.then(|| Some(rest.trim_start_matches('/')).filter(|rest| !rest.is_empty()).unwrap_or(".").to_owned())
    };
    let candidates = get_directories().into_iter().filter_map(|(folder, name)| Some((below(&name)?, folder, name)));
    let deepest = candidates.max_by_key(|(_, _, name)| name.len());
    deepest.map(|(rest, folder, _)| (folder, rest)).ok_or_else(|| FileError::Outside(path.to_owned()))
}

fn failed(path: &str, code: ErrorCode) -> FileError {
    FileError::Failed(path.to_owned(), code)
}
