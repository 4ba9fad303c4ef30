//! The catalog in one redb file, owned by one process.

use super::{Catalog, CatalogError};
use crate::files::staged::folder_of;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition,
    TableHandle,
};
use repair_core::catalog::{Found, Txn, TxnResult, Write};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Rows: by key, the revision and the value.
const ROWS: TableDefinition<'static, &[u8], (u64, &[u8])> = TableDefinition::new("rows");
/// `format` and `revision`, the revision of the last transaction.
const HEAD: TableDefinition<'static, &str, u64> = TableDefinition::new("head");
/// Layout of the two tables.
const FORMAT: u64 = 1;
/// The catalog of an exabyte is about 130 MB; redb's own default is a gibibyte.
const CACHE_BYTES: usize = 64 << 20;

/// A catalog in a redb file. One process opens it at a time.
#[derive(Debug)]
pub struct RedbCatalog {
    database: Database,
}

impl RedbCatalog {
    /// Opens the file, or makes it where there is none. Reads it whole: a file that was damaged is refused here, not met later.
    ///
    /// # Errors
    /// Another process has it open; it is damaged, or no catalog; the file system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The names of all that is stored are in it: nobody else's to read. An empty file is a new one to redb.
        drop(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?);
        let database = builder().create(path).map_err(opening)?;
        let catalog = Self::over(database)?;
        // Or a power failure could leave a cell without the file that says what it is. Also where the file was there: it may be of
        // a life that ended before this line.
        File::open(folder_of(path))?.sync_all()?;
        Ok(catalog)
    }

    /// A catalog over other storage than a file.
    ///
    /// # Errors
    /// As [`RedbCatalog::open`].
    pub fn open_backend(backend: impl StorageBackend) -> io::Result<Self> {
        Self::over(builder().create_with_backend(backend).map_err(opening)?)
    }

    fn over(database: Database) -> io::Result<Self> {
        let refused = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let tables: Vec<String> = {
            let read = database.begin_read().map_err(io::Error::other)?;
            let names = read.list_tables().map_err(io::Error::other)?;
            names.map(|table| table.name().to_owned()).collect()
        };
        if tables.is_empty() {
            let write = database.begin_write().map_err(io::Error::other)?;
            write.open_table(ROWS).map_err(io::Error::other)?;
            let head = write.open_table(HEAD).and_then(|mut head| {
                head.insert("format", FORMAT)?;
                head.insert("revision", 0)?;
                Ok(())
            });
            head.map_err(io::Error::other)?;
            write.commit().map_err(io::Error::other)?;
        } else {
            let read = database.begin_read().map_err(io::Error::other)?;
            let head = read.open_table(HEAD).map_err(|_| refused("a redb file, but no catalog".into()))?;
            let format = head.get("format").map_err(io::Error::other)?.map(|value| value.value());
            if format != Some(FORMAT) {
                return Err(refused(format!(
                    "its format is {}; this program knows {FORMAT}",
                    format.map_or("not said".into(), |format| format.to_string())
                )));
            }
        }
        Ok(Self { database })
    }

    fn apply(&self, txn: &Txn) -> Result<TxnResult, redb::Error> {
        let write = self.database.begin_write()?;
        let revision = {
            let mut rows = write.open_table(ROWS)?;
            for compare in &txn.compares {
                let revision = rows.get(compare.key.as_slice())?.map_or(0, |row| row.value().0);
                if revision != compare.revision {
                    // Dropped, the redb transaction leaves nothing.
                    return Ok(TxnResult::Refused);
                }
            }
            let mut head = write.open_table(HEAD)?;
            let revision = head.get("revision")?.map_or(0, |value| value.value()) + 1;
            head.insert("revision", revision)?;
            for change in &txn.writes {
                apply_write(&mut rows, change, revision)?;
            }
            revision
        };
        write.commit()?;
        Ok(TxnResult::Done { revision })
    }

    fn read_keys(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, redb::Error> {
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        let found = |key: &Vec<u8>| {
            let row = rows.get(key.as_slice())?;
            Ok(row.map(|row| {
                let (revision, value) = row.value();
                Found { key: key.clone(), value: value.to_vec(), revision }
            }))
        };
        keys.iter().map(found).collect()
    }

    fn read_range(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Found>, redb::Error> {
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = Vec::new();
        for row in rows.range::<&[u8]>((from, Bound::Unbounded))?.take(limit) {
            let (key, row) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (revision, value) = row.value();
            found.push(Found { key: key.value().to_vec(), value: value.to_vec(), revision });
        }
        Ok(found)
    }
}

impl Catalog for RedbCatalog {
    fn get(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Found>>, CatalogError> {
        self.read_keys(keys).map_err(broken)
    }

    fn range(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Found>, CatalogError> {
        self.read_range(prefix, after, limit).map_err(broken)
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResult, CatalogError> {
        self.apply(txn).map_err(broken)
    }
}

fn apply_write(rows: &mut Table<'_, &[u8], (u64, &[u8])>, change: &Write, revision: u64) -> Result<(), redb::Error> {
    match change {
        Write::Put { key, value } => {
            rows.insert(key.as_slice(), (revision, value.as_slice()))?;
        }
        Write::Delete { key } => {
            rows.remove(key.as_slice())?;
        }
        Write::DeletePrefix { prefix } => match after_prefix(prefix) {
            Some(end) => rows.retain_in::<&[u8], _>(prefix.as_slice()..end.as_slice(), |_, _| false)?,
            None => rows.retain_in::<&[u8], _>(prefix.as_slice().., |_, _| false)?,
        },
    }
    Ok(())
}

/// The first key after all that begin so; none where there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Without this check redb trusts a file that was closed in order, and may panic on one that was damaged since.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn opening(error: DatabaseError) -> io::Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen => io::Error::new(
            io::ErrorKind::WouldBlock,
            "another process has it open: one daemon owns a redb catalog alone",
        ),
        DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            io::Error::new(io::ErrorKind::InvalidData, "not a redb file, or its head is damaged")
        }
        DatabaseError::Storage(redb::StorageError::Io(error)) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {other}")),
    }
}

fn broken(error: redb::Error) -> CatalogError {
    CatalogError::Broken(error.to_string())
}

#[cfg(test)]
#[path = "redb_tests.rs"]
mod tests;
