//! The journals: one file per placement group, appended to and replaced, synced each time. What is in them is the node
//! machine's; here they are bytes.

use super::folder::Folder;
use super::{Fence, as_store_error};
use repair_core::id::PgId;
use repair_core::node::{JournalFile, StoreError};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

/// Beyond this a journal is not one: the machine compacts at kilobytes and lists at most some million extents of 48 bytes.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;
const SUFFIX: &str = ".journal";
/// Not yet a journal; removed at the start.
const SUFFIX_NEW: &str = ".journal.new";

/// The journals of a disk.
#[derive(Debug)]
pub struct Journals {
    folder: Folder,
    /// Open ones, with their length. Only whole appends count in it.
    open: Mutex<BTreeMap<PgId, (File, u64)>>,
}

fn name_of(pg: PgId) -> String {
    format!("{:08x}{SUFFIX}", pg.0)
}

/// One name per placement group: what else looks like one is not read twice.
fn pg_of(name: &str) -> Option<PgId> {
    let digits = name.strip_suffix(SUFFIX)?;
    let pg = PgId(u32::from_str_radix(digits, 16).ok()?);
    (name_of(pg) == name).then_some(pg)
}

impl Journals {
    /// The journals in a folder. What a crash left half replaced is removed.
    ///
    /// # Errors
    /// That of the system.
    pub fn new(folder: Folder) -> io::Result<Self> {
        folder.each_name(|name, _| {
            // What cannot be removed is met again when that journal is replaced.
            let _ = name.filter(|name| name.ends_with(SUFFIX_NEW)).map(|name| folder.remove(name));
            ControlFlow::Continue(())
        })?;
        Ok(Self { folder, open: Mutex::default() })
    }

    /// All journals, each read when it is its turn. One that cannot be read is among them, with the reason.
    ///
    /// # Errors
    /// That of the system, where the folder cannot be listed.
    pub fn read_all(&self) -> io::Result<impl Iterator<Item = JournalFile>> {
        let mut groups: Vec<PgId> = Vec::new();
        self.folder.each_name(|name, _| {
            groups.extend(name.and_then(pg_of));
            ControlFlow::Continue(())
        })?;
        groups.sort_unstable();
        let read = |pg| JournalFile { pg, bytes: self.read(pg).map_err(|error| error.to_string()) };
        Ok(groups.into_iter().map(read))
    }

    fn read(&self, pg: PgId) -> io::Result<Vec<u8>> {
        let file = self.folder.open_file(&name_of(pg))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a file"));
        }
        if metadata.len() > JOURNAL_BYTES_MAX {
            return Err(io::Error::other("longer than a journal can be"));
        }
        let mut bytes = Vec::new();
        file.take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Appends, durably. After an error the journal is as before; where that cannot be made sure, writing ends by `fence`.
    pub(super) fn append(&self, pg: PgId, bytes: &[u8], fence: &Fence) -> Result<(), StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, length, is_new) = match open.remove(&pg) {
            Some((file, length)) => (file, length, false),
            None => self.open(pg).map_err(|error| as_store_error("open a journal", &error))?,
        };
        drop(open);
        if let Err(error) = file.write_all_at(bytes, length) {
            // Half a record in front of a later one would pass for damage.
            let undone = file.set_len(length).and_then(|()| file.sync_all());
            if let Err(undo) = undone {
                fence.close("cut a journal back", &undo);
            }
            return Err(as_store_error("append to a journal", &error));
        }
        let synced = file.sync_data().and_then(|()| if is_new { self.folder.sync() } else { Ok(()) });
        synced.map_err(|error| fence.close("force a journal to the disk", &error))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(pg, (file, length + bytes.len() as u64));
        Ok(())
    }

    fn open(&self, pg: PgId) -> io::Result<(File, u64, bool)> {
        let name = name_of(pg);
        let file = self.folder.open_or_new_file(&name)?;
        let length = file.metadata()?.len();
        // An empty one may be new, or left by a crash before its name was durable.
        Ok((file, length, length == 0))
    }

    /// Puts `bytes` in the place of the whole journal, durably. After an error it is the old one; where that cannot be made
    /// sure, writing ends by `fence`.
    pub(super) fn replace(&self, pg: PgId, bytes: &[u8], fence: &Fence) -> Result<(), StoreError> {
        let (name, staged) = (name_of(pg), format!("{:08x}{SUFFIX_NEW}", pg.0));
        let write = || {
            match self.folder.remove(&staged) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = self.folder.new_file(&staged)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = write().map_err(|error| {
            let _ = self.folder.remove(&staged);
            as_store_error("write a journal anew", &error)
        })?;
        // From here on it is not known which of the two a crash would leave.
        let renamed = self.folder.replace(&staged, &name).and_then(|()| self.folder.sync());
        renamed.map_err(|error| fence.close("put a journal in its place", &error))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(pg, (file, bytes.len() as u64));
        Ok(())
    }
}
