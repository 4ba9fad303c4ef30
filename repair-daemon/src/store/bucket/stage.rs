//! Fragments on their way to a bucket: in files without names on this host, handed over when they are published.

use super::super::contract::{Published, Staged};
use super::super::folder::{Folder, Unnamed};
use super::super::{as_store_error, invalid};
use super::Bucket;
use crate::files::staged::random_u128;
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError};

/// Ends the names of files in the spool, where the file system needs names.
const SUFFIX: &str = ".spool";

/// The folder of the stages.
#[derive(Debug)]
pub(super) struct Spool(Folder);

impl Spool {
    /// Opens it, made if it is not there, and emptied of what a crash may have left.
    fn open(bucket: &Bucket) -> io::Result<Self> {
        std::fs::create_dir_all(&bucket.settings.spool)?;
        let folder = Folder::open(&bucket.settings.spool)?;
        for name in folder.names()?.iter().filter(|name| name.ends_with(SUFFIX)) {
            folder.remove(name)?;
        }
        Ok(Self(folder))
    }

    fn of(bucket: &Bucket) -> io::Result<Arc<Self>> {
        let mut spool = bucket.spool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spool) = &*spool {
            return Ok(Arc::clone(spool));
        }
        Ok(Arc::clone(spool.insert(Arc::new(Self::open(bucket)?))))
    }
}

/// A fragment on its way.
#[derive(Debug)]
struct Stage {
    bucket: Arc<Bucket>,
    spool: Arc<Spool>,
    file: Unnamed,
    /// Counted as used until it is dropped or published.
    room_bytes: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Sealed,
    /// It has a name, or an operation failed.
    Ended,
}

pub(super) fn begin(bucket: &Arc<Bucket>, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
    // A client must not send all of it to a bucket that is gone.
    bucket.wait(|bucket| async move { bucket.probe().await })?;
    let spool = Spool::of(bucket).map_err(|error| as_store_error("open the spool", &error))?;
    let room_bytes = bytes + super::PREAMBLE_BYTES;
    bucket.reserve(room_bytes)?;
    let name = || format!("{:032x}{SUFFIX}", random_u128().unwrap_or_default());
    match spool.0.unnamed(name, bytes) {
        Ok(file) => Ok(Box::new(Stage { bucket: Arc::clone(bucket), spool, file, room_bytes, state: State::Open })),
        Err(error) => {
            bucket.shrank(room_bytes);
            Err(as_store_error("reserve room in the spool", &error))
        }
    }
}

impl Bucket {
    /// Counts bytes that are to come as used, if there is room.
    fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        let capacity = self.settings.capacity_bytes.unwrap_or(u64::MAX);
        let add = |used: u64| used.checked_add(bytes).filter(|used| *used <= capacity);
        let full = |used| StoreError::NoSpace(format!("{bytes} bytes wanted, {used} of {capacity} used in the bucket"));
        self.used_bytes.fetch_update(Relaxed, Relaxed, add).map(drop).map_err(full)
    }
}

impl Stage {
    fn file(&self) -> &File {
        &self.file.file
    }
}

impl Staged for Stage {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let room_bytes = self.room_bytes - super::PREAMBLE_BYTES;
        let is_inside = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= room_bytes);
        if self.state != State::Open || !is_inside {
            return Err(invalid("a piece outside the room reserved, or behind the seal"));
        }
        self.state = State::Ended;
        self.file().write_all_at(bytes, offset).map_err(|error| as_store_error("write to the spool", &error))?;
        self.state = State::Open;
        Ok(())
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.file().read_exact_at(buffer, offset).map_err(|error| as_store_error("read from the spool", &error))
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        if self.state != State::Open || bytes + super::PREAMBLE_BYTES > self.room_bytes {
            return Err(invalid("the stage is sealed, or has less room"));
        }
        self.state = State::Ended;
        // Not synced: it is durable when it is published, and of no use after a crash before that.
        self.file().set_len(bytes).map_err(|error| as_store_error("write to the spool", &error))?;
        self.bucket.shrank(self.room_bytes - super::PREAMBLE_BYTES - bytes);
        self.room_bytes = bytes + super::PREAMBLE_BYTES;
        self.state = State::Sealed;
        Ok(())
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        if self.state != State::Sealed {
            return Err(invalid("the stage is not sealed, or has a name"));
        }
        self.state = State::Ended;
        let file = self.file().try_clone().map_err(|error| as_store_error("read from the spool", &error))?;
        let published = self.bucket.publish(fragment, file, self.room_bytes - super::PREAMBLE_BYTES)?;
        match published {
            // The room is the name's from here on.
            Published::New => self.room_bytes = 0,
            Published::NameTaken => self.state = State::Sealed,
        }
        Ok(published)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.spool.0.discard(&self.file);
        self.bucket.shrank(self.room_bytes);
    }
}
