//! What a store of fragments is: files by name, and nothing about what is in them.
//!
//! Header, tail, checksums and judgement lie above, in [`super::DiskStore`]; so do journals and the index. An implementation moves
//! bytes, and keeps a few promises about them:
//!
//! 1. **A name seals a whole file.** What has a name was sealed, has the length it was sealed with, and keeps its bytes for as long as it
//!    has that name. Publishing never replaces.
//! 2. **Sealed is durable**, whatever happens next; so is a name once [`FragmentStore::sync`] has ended well, and whatever
//!    [`FragmentStore::set_aside`] and [`FragmentStore::purge`] did once they have.
//! 3. **What is not published leaves nothing behind**, after a crash neither; but for what [`FragmentStore::begin_kept`] is asked to keep.
//! 4. **[`StoreError::NotFound`] is said only by who knows.** It lowers redundancy at once and begins repairs. A store that cannot
//!    look, or looks at a place that may not be its own, says [`StoreError::Io`].
//! 5. **Listings are complete**: a name is listed from the moment [`Staged::publish`] ended until [`FragmentStore::set_aside`] did.
//! 6. **A failed sync is final.** What it was to make durable is discarded; a second one that ends well would prove nothing.
//!
//! [`super::conformance`] holds an implementation to these.

use super::label::Label;
use repair_core::id::PgId;
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::fmt::Debug;
use std::fs::File;
use std::ops::Range;

/// What a store can do beyond what all must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// [`ReadFrom::Device`] bypasses every cache. Without it a check may judge memory instead of the medium.
    pub direct_reads: bool,
    /// Pieces of a stage may be written in any order. Without it they come from the beginning to the end.
    pub in_place_writes: bool,
    /// A name is durable from [`Staged::publish`] on; [`FragmentStore::sync`] has nothing to do.
    pub durable_names: bool,
    /// Names that one listing gives at most.
    pub list_max: usize,
}

/// Where bytes may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// From memory, if they are there.
    Cache,
    /// From the medium, where [`Capabilities::direct_reads`].
    Device,
}

/// Bytes free and in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free for fragments.
    pub free_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// How a publication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// The file has the name.
    New,
    /// Something had the name already and still has; the stage is as it was.
    NameTaken,
}

/// Fragments by name. Every operation may be called from any thread, several at a time, and blocks.
pub trait FragmentStore: Send + Sync + Debug {
    /// What it can do. The same for as long as it lives.
    fn capabilities(&self) -> Capabilities;

    /// Which disk this is, and of which cell, read anew; `None` before [`FragmentStore::set_label`].
    ///
    /// # Errors
    /// [`StoreError::Io`] where that cannot be told.
    fn label(&self) -> Result<Option<Label>, StoreError>;

    /// Writes the label durably where there is none, or one of the same disk without a cell.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] over any other label.
    fn set_label(&self, label: Label) -> Result<(), StoreError>;

    /// Whether the store is there at all: what [`StoreError::NotFound`] rests on.
    ///
    /// # Errors
    /// [`StoreError::Io`] where it is not, or where that cannot be told.
    fn probe(&self) -> Result<(), StoreError> {
        self.label().map(drop)
    }

    /// Begins a file without a name, with room for `bytes` reserved.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`]; nothing is left then.
    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError>;

    /// As [`FragmentStore::begin`], with a file that is found again by this name when it was left ([`Staged::leave`]) or the process ended: then it holds at
    /// least what the last [`Staged::checkpoint`] made durable. One of another `identity` is discarded first. At most one of a name is open. `None` from a
    /// store that keeps none, as this one does.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`]; nothing is left then.
    fn begin_kept(
        &self,
        _fragment: FragmentKey,
        _identity: [u8; 32],
        _bytes: u64,
    ) -> Result<Option<Box<dyn Staged>>, StoreError> {
        Ok(None)
    }

    /// Names of what is kept, asked at the start.
    fn kept(&self) -> Vec<FragmentKey> {
        Vec::new()
    }

    /// Discards what is kept under a name and not open; nothing to discard is well too.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn drop_kept(&self, _fragment: FragmentKey) -> Result<(), StoreError> {
        Ok(())
    }

    /// Length of a published file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Damaged`] where something has the name that is no readable file.
    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError>;

    /// Fills all of `buffer` from `offset` of a published file.
    ///
    /// # Errors
    /// As [`FragmentStore::length`], and [`StoreError::Damaged`] where the file ends before. `buffer` says nothing then.
    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], from: ReadFrom) -> Result<(), StoreError>;

    /// The names of a placement group behind `after`, in order: at most `max` and at most [`Capabilities::list_max`]. Fewer than the
    /// lesser of the two are the last. A group that nobody has published in is empty.
    ///
    /// # Errors
    /// [`StoreError::Io`]; never part of a listing.
    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError>;

    /// Takes a name from what has it, whatever that is, and keeps it out of the way until [`FragmentStore::purge`]. Done in an earlier life is done.
    /// Must work in a full store.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where nothing has the name and nothing was set aside under it.
    fn set_aside(&self, fragment: FragmentKey, reason: &str) -> Result<(), StoreError>;

    /// Removes for good what was set aside under a name; nothing to remove is well too. Never touches what has the name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError>;

    /// Makes the names of a placement group durable.
    ///
    /// # Errors
    /// [`StoreError::Io`]: no name published since the last one may be counted on, and none becomes so by asking again.
    fn sync(&self, pg: PgId) -> Result<(), StoreError>;

    /// Bytes free and in all.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn room(&self) -> Result<Room, StoreError>;

    /// Names that are not this store's, skipped at the start and when each group was last listed.
    fn junk(&self) -> u64 {
        0
    }

    /// Why the store takes nothing any more for as long as it is open, where that is so.
    fn broken(&self) -> Option<&str> {
        None
    }

    /// The file itself, open for reading, where there is such a thing: its pages then go to sockets, and it to clients on this host.
    ///
    /// # Errors
    /// As [`FragmentStore::length`].
    fn open_file(&self, _fragment: FragmentKey) -> Result<Option<File>, StoreError> {
        Ok(None)
    }

    /// Whether the name is still that of a file from [`FragmentStore::open_file`].
    fn is_still(&self, _fragment: FragmentKey, _file: &File) -> bool {
        false
    }
}

/// A file without a name. Dropped unpublished, it is discarded, unless it was left.
pub trait Staged: Send + Debug {
    /// Writes a piece inside the room reserved.
    ///
    /// # Errors
    /// Any: the stage is of no more use. [`StoreError::Invalid`] once it is sealed.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError>;

    /// Fills `buffer` with what was written, past every cache where [`Capabilities::direct_reads`].
    ///
    /// # Errors
    /// Any: the stage is of no more use.
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError>;

    /// Gives it its final length, not above the room reserved, and makes it durable. What was not written in between is zeros. Where
    /// [`Capabilities::durable_names`], the publication may make both durable as one.
    ///
    /// # Errors
    /// Any: the stage is of no more use, and no second try would make it so.
    fn seal(&mut self, bytes: u64) -> Result<(), StoreError>;

    /// Gives it its name, if nothing has that. At most once with [`Published::New`].
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where it is not sealed, or has a name.
    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError>;

    /// Of a kept one: ranges that an earlier opening made durable, in order and apart. They may be written again.
    fn found(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Of a kept one: makes durable what was written, and remembers that it is there.
    ///
    /// # Errors
    /// Any: the stage is of no more use.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Of a kept one: does as [`Staged::checkpoint`], and stays when it is dropped.
    ///
    /// # Errors
    /// Any: the stage is of no more use, and discarded.
    fn leave(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
