//! The disk store: what a node machine wants of a disk.
//!
//! [`FragmentStore`] moves fragments as opaque files by name; anybody may implement it for a store of their own. [`FolderStore`] is that of a
//! folder. [`DiskStore`] stands on one: it knows what a fragment is, keeps the journals and the index, and reads and judges.
//!
//! ```text
//! DIR/label                    which disk, of which cell; not there: this is not the disk
//! DIR/life                     which of the disk's lives was let in last: a copy has an earlier one
//! DIR/lock                     held by the one process that may use the folder
//! DIR/fragments/PG/EXTENT.GENERATION.INDEX.frag
//! DIR/journal/PG.journal       the truth about each placement group
//! DIR/quarantine/              what was put aside, and `reasons`
//! DIR/staging/                 fragments without a name yet, where the file system needs names; emptied from the start on, but for
//!                              what repairs keep there (`kept`)
//! DIR/reserve                  room for journals and deletes on a full disk
//! DIR/index.redb               a cache of records
//! DIR/door                     the socket of `crate::door`
//! ```
//!
//! A fragment is written without a name, synced, linked under its name if nothing has that name, and its folder synced: a name
//! seals a whole file. Everything is found through folders held open since the start. A failed sync is final: of a
//! stage or the staging folder it costs the stage, of a journal or any other folder it ends all writing, because nobody can tell what reached
//! the disk. *Not found* is said only while the label is there.

#[cfg(test)]
mod at_once_tests;
#[cfg(feature = "object-store")]
pub mod bucket;
mod buffered;
mod checked_file;
mod conformance;
mod conformance_full;
#[cfg(test)]
mod conformance_tests;
mod contract;
mod counted;
mod data_folder;
pub mod disk;
mod faulty;
mod folder;
mod folder_store;
mod fragments;
mod index;
mod journal_file;
#[cfg(test)]
mod junk_tests;
mod kept;
mod kept_model;
#[cfg(test)]
mod kept_tests;
mod label;
mod memory;
mod model;
#[cfg(test)]
mod over_tests;
mod pieces;
mod quarantine;
mod read_back;
mod reserve;
mod slice_map;
#[cfg(test)]
pub(crate) mod small_disk;
mod stage;
#[cfg(test)]
mod store_tests;
mod sweep;
mod throttled;

pub use buffered::BufferedStage;
pub use conformance::{Difference, conformance, conformance_away};
pub use conformance_full::conformance_full;
pub use contract::{Capabilities, FragmentStore, Published, ReadFrom, Room, Staged};
pub use counted::{Counted, Counts};
pub use data_folder::{OpenError, Unlabelled};
pub use disk::DiskStore;
pub use faulty::{Fault, Faults, Faulty};
pub use folder_store::FolderStore;
pub use fragments::{OpenedFragment, file_name};
pub use index::{Index, examine_index};
pub use label::Label;
pub use memory::MemoryStore;
pub use read_back::ReadBack;
pub use repair_core::node::StoreError;
pub use throttled::{Rate, Throttled};

use rustix::io::Errno;
use std::io;
use std::sync::OnceLock;

/// Closed for good once a journal or folder could not be synced; reading goes on.
#[derive(Debug, Default)]
struct Fence(OnceLock<String>);

impl Fence {
    /// Ends all writing.
    fn close(&self, what: &str, error: &io::Error) -> StoreError {
        let reason = format!("cannot {what}: {error}");
        let _ = self.0.set(reason.clone());
        StoreError::Io(reason)
    }

    /// Ends all writing: this is not the disk it was.
    fn close_over(&self, reason: String) -> StoreError {
        let _ = self.0.set(reason.clone());
        StoreError::Io(reason)
    }

    fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(ended(reason)),
        }
    }
}

fn ended(reason: &str) -> StoreError {
    StoreError::Io(format!("writing ended until the node is started again: {reason}"))
}

/// Goes over the wire, so it says what was done and names no path.
fn as_store_error(what: &str, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::NoSpace(format!("cannot {what}: {error}"))
        }
        // The limit of this process on the length of a file is room it does not have.
        _ if error.raw_os_error() == Some(Errno::FBIG.raw_os_error()) => {
            StoreError::NoSpace(format!("cannot {what}: {error}"))
        }
        _ => StoreError::Io(format!("cannot {what}: {error}")),
    }
}

fn invalid(what: &str) -> StoreError {
    StoreError::Invalid(what.to_owned())
}
