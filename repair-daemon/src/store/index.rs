//! The index: records by fragment, in redb. A cache: every record also lies in its fragment's tail, so what is lost here or
//! cannot be read is begun anew, and what is read is believed only by its hash.
//!
//! Changes are gathered in memory and committed many at a time: a commit costs two syncs, and nobody waits for these.

use super::checked_file::CheckedFile;
use redb::{Database, ReadableDatabase, TableDefinition};
use repair_core::node::Body;
use repair_core::wire::node::FragmentKey;
use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Changes gathered before they are committed. A killed process loses this many records, which are then read from tails.
const PENDING_MAX: usize = 64;
/// Pages that redb keeps in memory. A host may run a node per disk.
const CACHE_BYTES: usize = 1 << 20;
/// Ends the name of the file with the checksums of its pages.
const SUMS: &str = "sums";

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("record.1");

/// The index of one disk.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// None where no database can be had: then only what is pending is known.
    database: Option<Database>,
    /// What was changed and is not committed; None takes a record away.
    pending: BTreeMap<[u8; KEY_BYTES], Option<Body>>,
}

const KEY_BYTES: usize = 26;

/// In the order of fragments: extent, generation, index.
fn key_of(fragment: FragmentKey) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(&fragment.extent.0.to_be_bytes());
    key[16..24].copy_from_slice(&fragment.generation.to_be_bytes());
    key[24..].copy_from_slice(&fragment.index.to_be_bytes());
    key
}

impl Index {
    /// Opens the index, or makes it. It never fails: without an index the tails are read.
    pub fn open(path: &Path) -> Self {
        let inner = Inner { database: open_or_begin_anew(path), pending: BTreeMap::new() };
        Self { path: path.to_path_buf(), inner: Mutex::new(inner) }
    }

    /// Remembers a record.
    pub fn put(&self, fragment: FragmentKey, record: &[u8]) {
        // A copy of its own: the body may be a piece of a much larger buffer.
        self.change(fragment, Some(Body::copy_from_slice(record)));
    }

    /// Forgets a record.
    pub fn remove(&self, fragment: FragmentKey) {
        self.change(fragment, None);
    }

    fn change(&self, fragment: FragmentKey, record: Option<Body>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.pending.insert(key_of(fragment), record);
        if inner.pending.len() >= PENDING_MAX {
            self.commit(&mut inner);
        }
    }

    /// The record remembered for a fragment.
    pub fn get(&self, fragment: FragmentKey) -> Option<Body> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key_of(fragment);
        if let Some(pending) = inner.pending.get(&key) {
            return pending.clone();
        }
        let database = inner.database.as_ref()?;
        match guarded(|| read(database, &key)) {
            Ok(record) => record,
            Err(()) => {
                self.begin_anew(&mut inner);
                None
            }
        }
    }

    /// Commits what is pending.
    pub fn flush(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.pending.is_empty() {
            self.commit(&mut inner);
        }
    }

    fn commit(&self, inner: &mut Inner) {
        let pending = std::mem::take(&mut inner.pending);
        let Some(database) = inner.database.as_ref() else { return };
        if guarded(|| write(database, &pending)).is_err() {
            self.begin_anew(inner);
        }
    }

    fn begin_anew(&self, inner: &mut Inner) {
        // Closing a damaged database may panic like any other use of it.
        let _ = guarded(|| {
            drop(inner.database.take());
            Ok(())
        });
        let _ = remove(&self.path, &self.path.with_extension(SUMS));
        inner.database = open_or_begin_anew(&self.path);
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open_or_begin_anew(path: &Path) -> Option<Database> {
    let sums = path.with_extension(SUMS);
    let open = || guarded(|| prepared(CheckedFile::new(file(path)?, file(&sums)?)?));
    match open() {
        Ok(database) => Some(database),
        Err(()) => {
            remove(path, &sums).ok()?;
            open().ok()
        }
    }
}

/// A link or a folder in its place is nothing to write through, and stays.
fn file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits().cast_signed());
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn remove(path: &Path, sums: &Path) -> io::Result<()> {
    for path in [path, sums] {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::InvalidInput.into()),
            Err(_) => {}
        }
    }
    Ok(())
}

fn prepared(file: CheckedFile) -> Result<Database, redb::Error> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file)?;
    // Shows now, and not at the first read, whether the table is one of ours.
    let transaction = database.begin_write()?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok(database)
}

fn read(database: &Database, key: &[u8]) -> Result<Option<Body>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    Ok(table.get(key)?.map(|record| Body::copy_from_slice(record.value())))
}

fn write(database: &Database, pending: &BTreeMap<[u8; KEY_BYTES], Option<Body>>) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // A killed node must not go through the whole file before it serves again.
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (key, record) in pending {
            match record {
                Some(record) => table.insert(&key[..], &record[..])?,
                None => table.remove(&key[..])?,
            };
        }
    }
    Ok(transaction.commit()?)
}

/// Uses bytes as a node uses the files of its index: they are opened, asked for each of these fragments, and told of the first one anew. Gives the
/// records found; none where the node would begin new ones. No damage of either file gives other records than were put.
pub fn examine_index(pages: &[u8], sums: &[u8], fragments: &[FragmentKey]) -> Option<Vec<Option<Body>>> {
    let memory = |bytes: &[u8]| {
        let file = File::from(memfd_create("index", MemfdFlags::CLOEXEC)?);
        file.write_all_at(bytes, 0).map(|()| file)
    };
    let database = guarded(|| prepared(CheckedFile::new(memory(pages)?, memory(sums)?)?)).ok()?;
    let found = fragments.iter().map(|fragment| guarded(|| read(&database, &key_of(*fragment))));
    let found = found.collect::<Result<Vec<_>, ()>>();
    let anew = fragments.first().map(|first| (key_of(*first), Some(Body::from_static(b"anew"))));
    let written = guarded(|| write(&database, &anew.into_iter().collect()));
    // Closing a damaged database may panic like any other use of it.
    let closed = guarded(|| {
        drop(database);
        Ok(())
    });
    (written.is_ok() && closed.is_ok()).then_some(found.ok()).flatten()
}

/// Runs something on the database. A damaged file can make redb fail its own assertions; for a cache that is a miss and no
/// reason to end.
fn guarded<T>(job: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, ()> {
    match catch_unwind(AssertUnwindSafe(job)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::id::ExtentKey;

    fn fragment(extent: u128) -> FragmentKey {
        FragmentKey { extent: ExtentKey(extent), generation: 1, index: 3 }
    }

    fn record(seed: u8) -> Body {
        Body::from(vec![seed; 1800])
    }

    #[test]
    fn records_are_kept_over_a_restart_and_forgotten_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.redb");
        let index = Index::open(&path);
        // More than are gathered before a commit.
        for at in 0..200 {
            index.put(fragment(at), &record(at as u8));
        }
        index.remove(fragment(5));
        assert_eq!((index.get(fragment(5)), index.get(fragment(199))), (None, Some(record(199))));
        drop(index);
        let index = Index::open(&path);
        assert_eq!((index.get(fragment(5)), index.get(fragment(7))), (None, Some(record(7))));
        assert_eq!(index.get(FragmentKey { index: 4, ..fragment(7) }), None);
    }

    #[test]
    fn an_empty_index_is_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.redb");
        drop(Index::open(&path));
        assert!(fs::metadata(&path).unwrap().len() < 256 << 10);
    }

    #[test]
    fn damage_costs_the_cache_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.redb");
        let full = || {
            let _ = fs::remove_file(&path);
            let index = Index::open(&path);
            (0..300).for_each(|at| index.put(fragment(at), &record(at as u8)));
            drop(index);
            fs::read(&path).unwrap()
        };
        let whole = full();
        let mut damaged: Vec<Vec<u8>> = [0, 1, 100, 4096, whole.len() / 2]
            .map(|bytes| whole[..bytes].to_vec())
            .into_iter()
            .chain([b"not a database".repeat(1000)])
            .collect();
        for step in [1, 97, 4096] {
            let mut bytes = whole.clone();
            bytes.iter_mut().skip(step).step_by(step * 7).for_each(|byte| *byte = byte.wrapping_add(0x55));
            damaged.push(bytes);
        }
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            let index = Index::open(&path);
            // Whatever it answers, it goes on; a second look at what was put is right.
            (0..300).for_each(|at| drop(index.get(fragment(at))));
            (0..PENDING_MAX as u128).for_each(|at| index.put(fragment(at), &record(1)));
            index.flush();
            drop(index);
            let index = Index::open(&path);
            assert_eq!(index.get(fragment(1)).map_or(record(1), |found| found), record(1));
            index.put(fragment(9), &record(2));
            assert_eq!(index.get(fragment(9)), Some(record(2)));
        }
    }

    #[test]
    fn where_no_index_can_be_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.redb");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        let index = Index::open(&path);
        index.put(fragment(1), &record(1));
        assert_eq!(index.get(fragment(1)), Some(record(1)));
        index.flush();
        assert_eq!(index.get(fragment(1)), None);
        assert!(!folder.path().join("elsewhere").exists());
    }
}
