//! A store of one's own: fragments in one redb file, held to the promises: `cargo run -p repair-daemon --example own_store`.

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use repair_core::id::{CellKey, DiskId, ExtentKey, PgId};
use repair_core::wire::node::FragmentKey;
use repair_daemon::store::{
    BufferedStage, Capabilities, FragmentStore, Label, Published, ReadFrom, Room, Staged, StoreError, conformance,
};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

/// Whether it was set aside, then the placement group: a listing is a range.
type Key = (bool, u32, u128, u64, u16);
const FILES: TableDefinition<'static, Key, &'static [u8]> = TableDefinition::new("files");
const LABEL: TableDefinition<'static, (), (u128, Option<u128>)> = TableDefinition::new("label");
const TOTAL_BYTES: u64 = 1 << 30;
type Done<T> = Result<T, StoreError>;

#[derive(Debug)]
struct OneFile(Arc<Database>);

fn key(is_aside: bool, fragment: FragmentKey) -> Key {
    (is_aside, fragment.extent.pg().0, fragment.extent.0, fragment.generation, fragment.index)
}

/// Whatever fails here says nothing about a fragment.
fn io(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Io(error.into().to_string())
}

impl OneFile {
    fn open(path: &Path) -> Result<Self, redb::Error> {
        let database = Database::create(path)?;
        let transaction = database.begin_write()?;
        transaction.open_table(FILES)?;
        transaction.open_table(LABEL)?;
        transaction.commit()?;
        Ok(Self(Arc::new(database)))
    }

    /// Looks at what has the name.
    fn look<T>(&self, name: FragmentKey, look: impl FnOnce(&[u8]) -> T) -> Done<T> {
        let files = self.0.begin_read().map_err(io)?.open_table(FILES).map_err(io)?;
        files.get(key(false, name)).map_err(io)?.map(|bytes| look(bytes.value())).ok_or(StoreError::NotFound)
    }
}

/// One transaction, durable when it has ended well.
fn write<T>(database: &Database, job: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Done<T> {
    let transaction = database.begin_write().map_err(io)?;
    let done = job(&transaction).map_err(io)?;
    transaction.commit().map_err(io).map(|()| done)
}

impl FragmentStore for OneFile {
    fn capabilities(&self) -> Capabilities {
        Capabilities { direct_reads: false, in_place_writes: true, durable_names: true, list_max: 1000 }
    }

    fn label(&self) -> Done<Option<Label>> {
        let table = self.0.begin_read().map_err(io)?.open_table(LABEL).map_err(io)?;
        let row = table.get(()).map_err(io)?.map(|row| row.value());
        Ok(row.map(|(disk, cell)| Label { disk: DiskId(disk), cell: cell.map(CellKey) }))
    }

    fn set_label(&self, label: Label) -> Done<()> {
        Label::check_change(self.label()?, label)?;
        let row = (label.disk.0, label.cell.map(|cell| cell.0));
        write(&self.0, |transaction| Ok(transaction.open_table(LABEL)?.insert((), row).map(drop)?))
    }

    fn begin(&self, bytes: u64) -> Done<Box<dyn Staged>> {
        if bytes > self.room()?.free_bytes {
            return Err(StoreError::NoSpace("the file is as large as it may be".into()));
        }
        // In memory until it is published; then one transaction makes name and bytes durable.
        let database = Arc::clone(&self.0);
        BufferedStage::begin(bytes, move |name, bytes| {
            write(&database, |transaction| {
                let mut files = transaction.open_table(FILES)?;
                if files.get(key(false, name))?.is_some() {
                    return Ok(Published::NameTaken);
                }
                Ok(files.insert(key(false, name), bytes).map(|_| Published::New)?)
            })
        })
    }

    fn length(&self, name: FragmentKey) -> Done<u64> {
        self.look(name, |bytes| bytes.len() as u64)
    }

    fn read(&self, name: FragmentKey, offset: u64, buffer: &mut [u8], _: ReadFrom) -> Done<()> {
        let range = (offset as usize, buffer.len());
        let piece = |bytes: &[u8]| bytes.get(range.0..)?.get(..range.1).map(|found| buffer.copy_from_slice(found));
        self.look(name, piece)?.ok_or_else(|| StoreError::Damaged("ends before".into()))
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Done<Vec<FragmentKey>> {
        let files = self.0.begin_read().map_err(io)?.open_table(FILES).map_err(io)?;
        let (first, last) = ((false, pg.0, 0, 0, 0), (false, pg.0, u128::MAX, u64::MAX, u16::MAX));
        let names = files.range(after.map_or(first, |after| key(false, after))..=last).map_err(io)?.map(|row| {
            let (_, _, extent, generation, index) = row.map_err(io)?.0.value();
            Ok(FragmentKey { extent: ExtentKey(extent), generation, index })
        });
        names.filter(|name| name.is_err() || name.as_ref().ok() != after.as_ref()).take(max.min(1000)).collect()
    }

    fn set_aside(&self, name: FragmentKey, _reason: &str) -> Done<()> {
        let was_there = write(&self.0, |transaction| {
            let mut files = transaction.open_table(FILES)?;
            let Some(bytes) = files.remove(key(false, name))?.map(|bytes| bytes.value().to_vec()) else {
                return Ok(files.get(key(true, name))?.is_some());
            };
            Ok(files.insert(key(true, name), &bytes[..]).map(|_| true)?)
        })?;
        if was_there { Ok(()) } else { Err(StoreError::NotFound) }
    }

    fn purge(&self, name: FragmentKey) -> Done<()> {
        write(&self.0, |transaction| Ok(transaction.open_table(FILES)?.remove(key(true, name)).map(drop)?))
    }

    fn sync(&self, _: PgId) -> Done<()> {
        Ok(()) // A name is durable with the transaction that gave it.
    }

    fn room(&self) -> Done<Room> {
        let files = self.0.begin_read().map_err(io)?.open_table(FILES).map_err(io)?;
        let used_bytes = files.stats().map_err(io)?.stored_bytes();
        Ok(Room { free_bytes: TOTAL_BYTES.saturating_sub(used_bytes), total_bytes: TOTAL_BYTES })
    }
}

/// Runs the suite over stores in a folder for the time being.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let number = Cell::new(0);
    let open = |new: u32| {
        number.set(number.get() + new);
        OneFile::open(&folder.path().join(format!("{}.redb", number.get()))).expect("a file of redb")
    };
    let reopen = |store| {
        drop(store);
        open(0)
    };
    Ok(conformance(|| open(1), reopen, 1)?)
}
