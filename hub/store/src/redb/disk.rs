//! The file: two tables, one writer, and a way back after an error.
//!
//! redb refuses everything after a failed write until its file is opened again, so [`Disk::write`]
//! does that; until it succeeds, the state in memory is what is true.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ::redb::{
    Builder, Database, DatabaseError, Error, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

use crate::{Entry, Revision, StoreError};

/// Key to (created, modified, value).
const ENTRIES: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("entries");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// No revision above this one was given out, and after opening none up to it is given out again.
const CEILING: &str = "revision-ceiling";

/// Only the writer reads pages, and only those it changes; redb's own default is 1 GiB.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// How the database is opened; called again after an error.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

pub(super) fn file(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || Builder::new().set_cache_size(CACHE_BYTES).create(&path))
}

pub(super) struct Disk {
    open: Opener,
    /// `None` after an error, until it could be opened again.
    database: Option<Database>,
}

/// What the file held.
pub(super) struct Loaded {
    pub(super) entries: BTreeMap<String, Arc<Entry>>,
    pub(super) ceiling: Revision,
}

impl Disk {
    pub(super) fn open(open: Opener) -> Result<(Self, Loaded), StoreError> {
        let database = open().map_err(|error| Failure::from(error).into_error())?;
        let loaded = load(&database).map_err(|error| Failure::from(error).into_error())?;
        Ok((Self { open, database: Some(database) }, loaded))
    }

    /// Makes these entries (`None`: deletions) and the ceiling durable in one transaction.
    pub(super) fn write<'a>(
        &mut self,
        entries: impl Iterator<Item = (&'a str, Option<Arc<Entry>>)>,
        ceiling: Revision,
    ) -> Result<(), Failure> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)()?,
        };
        write(&database, entries, ceiling)?;
        self.database = Some(database);
        Ok(())
    }
}

fn write<'a>(
    database: &Database,
    entries: impl Iterator<Item = (&'a str, Option<Arc<Entry>>)>,
    ceiling: Revision,
) -> Result<(), Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ENTRIES)?;
        for (key, entry) in entries {
            match entry {
                Some(entry) => {
                    drop(table.insert(key, (entry.created.0, entry.modified.0, entry.value.as_slice()))?);
                }
                None => drop(table.remove(key)?),
            }
        }
        transaction.open_table(NUMBERS)?.insert(CEILING, ceiling.0)?;
    }
    transaction.commit()?;
    Ok(())
}

fn load(database: &Database) -> Result<Loaded, Error> {
    let transaction = database.begin_read()?;
    let ceiling = match transaction.open_table(NUMBERS) {
        Ok(numbers) => Revision(numbers.get(CEILING)?.map_or(0, |number| number.value())),
        // A new file.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Loaded { entries: BTreeMap::new(), ceiling: Revision(0) }),
        Err(error) => return Err(error.into()),
    };
    let mut entries = BTreeMap::new();
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, row) = row?;
        let key = key.value().to_owned();
        let (created, modified, value) = row.value();
        let (created, modified) = (Revision(created), Revision(modified));
        entries.insert(key.clone(), Arc::new(Entry { key, value: value.to_vec(), created, modified }));
    }
    Ok(Loaded { entries, ceiling })
}

/// Why the file could not be used. Many commits may have shared the attempt, so it is cheap to copy.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Full(io::ErrorKind),
    InUse,
    Other(Arc<Error>),
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Full(kind) => StoreError::Full(kind.into()),
            Self::InUse => StoreError::InUse,
            Self::Other(error) => StoreError::Backend(Box::new(SharedError(error))),
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) if is_full(error.kind()) => Self::Full(error.kind()),
            Error::DatabaseAlreadyOpen => Self::InUse,
            other => Self::Other(Arc::new(other)),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Error::from(error).into()
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// One error that several callers get.
#[derive(Debug)]
struct SharedError(Arc<Error>);

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SharedError {}
