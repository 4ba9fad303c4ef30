//! Where fragments go before they are gone: out of the way of readers, and still there.

use super::folder::Folder;
use super::{Fence, as_store_error};
use repair_core::node::StoreError;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Why each file is here, one line each.
const REASONS: &str = "reasons";
/// Then the lines begin anew: they are for people, nothing depends on them.
const REASONS_BYTES_MAX: u64 = 1 << 20;
/// Copies of one fragment kept: it may be damaged, rebuilt and damaged again.
const COPIES_MAX: u32 = 8;

/// The quarantine of a disk.
#[derive(Debug)]
pub struct Quarantine {
    folder: Folder,
    /// One move or unlink at a time: copies are numbered.
    moving: Mutex<()>,
}

fn copy_name(name: &str, copy: u32) -> String {
    format!("{name}.{copy}")
}

impl Quarantine {
    /// The quarantine in this folder.
    pub fn new(folder: Folder) -> Self {
        Self { folder, moving: Mutex::new(()) }
    }

    /// Moves what has this name, whatever it is, durably. False where nothing has the name and nothing was put aside under it.
    pub(super) fn take(
        &self,
        from: Option<&Folder>,
        name: &str,
        reason: &str,
        fence: &Fence,
    ) -> Result<bool, StoreError> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: io::Error| as_store_error("put a fragment aside", &error);
        let moved = match from {
            Some(from) => self.move_in(from, name).map_err(failed)?,
            None => false,
        };
        // Moved in a life that ended before it could say so: as good as moved now, once it is durable.
        if !moved && !self.folder.has(&copy_name(name, 0)).map_err(failed)? {
            return Ok(false);
        }
        // The new name first: between the two syncs a crash leaves both names, not none.
        let synced = self.folder.sync().and_then(|()| from.map_or(Ok(()), Folder::sync));
        synced.map_err(|error| fence.close("force the quarantine to the disk", &error))?;
        if moved {
            let _ = self.note(name, reason);
        }
        Ok(true)
    }

    fn move_in(&self, from: &Folder, name: &str) -> io::Result<bool> {
        for copy in 0..COPIES_MAX {
            match from.move_new(name, &self.folder, &copy_name(name, copy)) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        // What is put aside keeps nothing sound from its place: the oldest makes room.
        self.folder.remove(&copy_name(name, 0))?;
        for copy in 1..COPIES_MAX {
            self.folder.replace(&copy_name(name, copy), &copy_name(name, copy - 1))?;
        }
        from.move_new(name, &self.folder, &copy_name(name, COPIES_MAX - 1)).map(|()| true)
    }

    /// Removes all copies of a fragment for good, durably.
    pub(super) fn unlink(&self, name: &str, fence: &Fence) -> Result<(), StoreError> {
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = false;
        // From the last on: what a crash leaves is numbered from 0. Every number, since one in the moving of others leaves a gap.
        for copy in (0..COPIES_MAX).rev() {
            match self.folder.remove(&copy_name(name, copy)) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(as_store_error("remove what was put aside", &error)),
            }
        }
        if removed {
            self.folder.sync().map_err(|error| fence.close("force the quarantine to the disk", &error))?;
        }
        Ok(())
    }

    /// For people, so nothing waits for it and nothing fails by it: on a full disk it is not written.
    fn note(&self, name: &str, reason: &str) -> io::Result<()> {
        let mut file: File = self.folder.open_or_new_file(REASONS)?;
        if file.metadata()?.len() > REASONS_BYTES_MAX {
            file.set_len(0)?;
        }
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        let line = format!("{name} {}\n", crate::files::error::printable(reason));
        file.write_all(line.as_bytes())
    }
}
