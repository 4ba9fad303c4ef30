//! The store of one data folder.

use super::folder::Folder;
use super::fragments::{Fragments, OpenedFragment, file_name};
use super::index::Index;
use super::journal_file::Journals;
use super::label::{Label, LabelError};
use super::quarantine::Quarantine;
use super::reserve::Reserve;
use super::stage::Stages;
use super::{Fence, invalid};
use crate::files::staged::random_u128;
use repair_core::id::{CellKey, DiskId, PgId, RecordHash};
use repair_core::node::{Body, JournalFile, StoreCall, StoreError, StoreOk};
use repair_core::wire::node::{FragmentKey, StageKey};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const LOCK: &str = "lock";
const INDEX: &str = "index.redb";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("another node is running on it; stop that one or give this one a folder of its own")]
    Locked,
    /// There is no label, and it is not empty.
    #[error(
        "it is not empty and has no label, so it is not a disk of ours, or the disk is not mounted; give an empty or new folder"
    )]
    Foreign,
    /// There is a label nobody can read.
    #[error("{0}; nothing was changed")]
    Label(String),
    /// The system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// A data folder, locked by this process. Every operation may be called from any thread and blocks.
#[derive(Debug)]
pub struct DiskStore {
    root: Folder,
    label: Mutex<Label>,
    fragments: Fragments,
    stages: Stages,
    journals: Journals,
    quarantine: Quarantine,
    reserve: Reserve,
    index: Index,
    pub(super) fence: Fence,
    /// Unlocks the folder when it is closed: last.
    _lock: File,
}

impl DiskStore {
    /// Opens a data folder, made and labelled if it is not there or empty.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |action: &'static str| move |source: io::Error| OpenError::Io { action, source };
        make_folder(path, &mut sync_folder).map_err(io("make the folder"))?;
        let root = Folder::open(path).map_err(io("open the folder"))?;
        let lock = lock(&root)?;
        let label = label(&root)?;
        let part = |name: &str| root.folder_or_new(name);
        let fragments = Fragments::new(part("fragments").map_err(io("open the fragments"))?);
        let staging = part("staging").and_then(Stages::new).map_err(io("empty the staging folder"))?;
        let journals = part("journal").and_then(Journals::new).map_err(io("open the journals"))?;
        let quarantine = Quarantine::new(part("quarantine").map_err(io("open the quarantine"))?);
        // The folders just made, and those of a life that ended before it synced them.
        root.sync().map_err(io("force the folder to the disk"))?;
        Ok(Self {
            label: Mutex::new(label),
            reserve: Reserve::new(&root),
            index: Index::open(&path.join(INDEX)),
            fence: Fence::default(),
            stages: staging,
            root,
            fragments,
            journals,
            quarantine,
            _lock: lock,
        })
    }

    fn label(&self) -> Label {
        *self.label.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, by its label.
    pub fn disk(&self) -> DiskId {
        self.label().disk
    }

    /// The cell, by its label.
    pub fn cell(&self) -> Option<CellKey> {
        self.label().cell
    }

    /// Writes the cell into the label, durably.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where it is of another cell.
    pub fn set_cell(&self, cell: CellKey) -> Result<StoreOk, StoreError> {
        let mut label = self.label.lock().unwrap_or_else(PoisonError::into_inner);
        match label.cell {
            Some(known) if known == cell => return Ok(StoreOk::Done),
            Some(_) => return Err(invalid("the disk is of another cell")),
            None => {}
        }
        let labelled = Label { cell: Some(cell), ..*label };
        labelled.write(&self.root).map_err(|error| self.fence.close("write the label", &error))?;
        *label = labelled;
        Ok(StoreOk::Done)
    }

    /// All journals, read.
    ///
    /// # Errors
    /// That of the system, where they cannot be listed.
    pub fn journals(&self) -> io::Result<Vec<JournalFile>> {
        self.journals.read_all()
    }

    /// Bytes free and bytes in all.
    ///
    /// # Errors
    /// That of the system.
    pub fn room(&self) -> io::Result<(u64, u64)> {
        // A disk that vanished leaves its folder open and empty, with the room of whatever lies under it.
        self.is_there().map_err(io::Error::other)?;
        self.reserve.restore(&self.root);
        self.root.room()
    }

    /// Why all writing has ended, where it has.
    pub fn broken(&self) -> Option<&str> {
        self.fence.reason()
    }

    /// Commits what the index has gathered. Nothing depends on it.
    pub fn flush_index(&self) {
        self.index.flush();
    }

    /// Does what the node machine wants of its disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn perform(&self, call: StoreCall) -> Result<StoreOk, StoreError> {
        match call {
            StoreCall::OpenStage { key, header } => {
                self.fence.check()?;
                self.is_there()?;
                self.stages.begin(key, *header)
            }
            StoreCall::WriteStage { key, offset, body } => self.stages.write(key, offset, &body),
            StoreCall::SealStage { key } => self.stages.seal(key),
            StoreCall::FinishStage { key, record } => {
                self.fence.check()?;
                self.stages.finish(key, &record)
            }
            StoreCall::PublishStage { key } => self.publish(key),
            StoreCall::SyncFolder { pg } => {
                self.fence.check()?;
                self.fragments.sync(pg, &self.fence)
            }
            StoreCall::DropStage { key } => {
                self.stages.forget(key);
                Ok(StoreOk::Done)
            }
            StoreCall::Read { fragment, range } => self.or_not_found(self.fragments.read(fragment, range)),
            StoreCall::ReadRecord { fragment, hash } => self.read_record(fragment, hash),
            StoreCall::Check { fragment, hash } => self.or_not_found(self.fragments.check(fragment, hash)),
            StoreCall::Quarantine { fragment, reason } => self.put_aside(fragment, &reason),
            StoreCall::UnlinkQuarantined { fragment } => {
                self.fence.check()?;
                self.quarantine.unlink(&file_name(fragment), &self.fence)
            }
            StoreCall::Touch => self.is_there().map(|()| StoreOk::Done),
            StoreCall::ListFolder { pg } => self.list(pg),
            StoreCall::AppendJournal { pg, bytes } => {
                self.even_if_full(|| self.journals.append(pg, &bytes, &self.fence)).map(|()| StoreOk::Done)
            }
            StoreCall::ReplaceJournal { pg, bytes } => {
                self.even_if_full(|| self.journals.replace(pg, &bytes, &self.fence)).map(|()| StoreOk::Done)
            }
            StoreCall::IndexPut { fragment, record } => {
                self.index.put(fragment, &record);
                Ok(StoreOk::Done)
            }
            StoreCall::IndexRemove { fragment } => {
                self.index.remove(fragment);
                Ok(StoreOk::Done)
            }
        }
    }

    /// The file of a fragment, opened once more for somebody else to read. `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError`], as reading it would give.
    pub fn open_fragment(&self, fragment: FragmentKey) -> Result<Option<OpenedFragment>, StoreError> {
        self.fragments.open_once_more(fragment)
    }

    fn publish(&self, key: StageKey) -> Result<StoreOk, StoreError> {
        self.fence.check()?;
        let generation = self.stages.generation(key)?;
        let folder = self.fragments.folder_or_new(key.extent.pg())?;
        self.fragments.forget(FragmentKey { extent: key.extent, generation, index: key.index });
        self.stages.publish(key, &folder).map(StoreOk::Published)
    }

    fn read_record(&self, fragment: FragmentKey, hash: RecordHash) -> Result<StoreOk, StoreError> {
        let is_it = |record: &Body| RecordHash::of(record) == hash;
        if let Some(record) = self.index.get(fragment).filter(is_it) {
            return Ok(StoreOk::Record(record));
        }
        let record = self.fragments.record(fragment)?.filter(is_it);
        if let Some(record) = &record {
            self.index.put(fragment, record);
        }
        self.or_not_found(Ok(record.map(StoreOk::Record)))
    }

    fn put_aside(&self, fragment: FragmentKey, reason: &str) -> Result<StoreOk, StoreError> {
        let name = file_name(fragment);
        let folder = self.fragments.folder(fragment.extent.pg())?;
        self.fragments.forget(fragment);
        let taken = self.even_if_full(|| self.quarantine.take(folder.as_ref(), &name, reason, &self.fence));
        // A reader may have opened it again before it was moved.
        self.fragments.forget(fragment);
        self.or_not_found(taken)
    }

    fn list(&self, pg: PgId) -> Result<StoreOk, StoreError> {
        let found = self.fragments.list(pg)?;
        // After the listing: what was listed before the label was seen may be another folder's.
        self.is_there()?;
        Ok(StoreOk::Folder(found))
    }

    /// Whether the disk is there at all: its label is.
    fn is_there(&self) -> Result<(), StoreError> {
        let disk = self.disk();
        let what = match Label::read(&self.root) {
            Ok(Some(label)) if label.disk == disk => return Ok(()),
            // The system may be short of something for a moment: that says nothing about the disk.
            Err(LabelError::Io(error)) => return Err(StoreError::Io(format!("cannot read the label: {error}"))),
            Ok(Some(_)) => "the label is another disk's".to_owned(),
            Ok(None) => "the label is gone".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(self.fence.close_over(format!("{what}: nothing can be said about this disk")))
    }

    fn or_not_found(&self, found: Result<Option<StoreOk>, StoreError>) -> Result<StoreOk, StoreError> {
        match found? {
            Some(found) => Ok(found),
            None => Err(self.is_there().err().unwrap_or(StoreError::NotFound)),
        }
    }

    /// Deletes must work on a full disk, and they need room: the reserve is for that.
    fn even_if_full<T>(&self, job: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.fence.check()?;
        match job() {
            Err(StoreError::NoSpace(_)) if self.reserve.release(&self.root) => {
                self.fence.check()?;
                job()
            }
            other => other,
        }
    }
}

/// Makes the folder, and those it lies in, and has the name of each made durable by `sync` of the folder that has it. One that is
/// there may be of a life that ended before it could do so.
fn make_folder(path: &Path, sync: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if path.is_dir() {
        return match sync(parent) {
            // Somebody else's folder, and made by somebody else, who saw to it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    make_folder(parent, sync)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync(parent)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn lock(root: &Folder) -> Result<File, OpenError> {
    let io = |source: io::Error| OpenError::Io { action: "lock the folder", source };
    // Not even a lock is left in a folder that is not ours.
    if !root.has(super::label::LABEL).map_err(io)? && !is_ours(root).map_err(io)? {
        return Err(OpenError::Foreign);
    }
    let file = root.open_or_new_file(LOCK).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Locked),
        Err(error) => Err(io(error.into())),
    }
}

/// Whether a folder without a label is empty, or holds only what a crash leaves that came before the label.
fn is_ours(root: &Folder) -> io::Result<bool> {
    let before_label = [LOCK, "label.new", "lost+found"];
    Ok(root.names()?.iter().all(|name| before_label.contains(&name.as_str())))
}

/// The label, written if there is none.
fn label(root: &Folder) -> Result<Label, OpenError> {
    let refused = |error: LabelError| match error {
        LabelError::Io(source) => OpenError::Io { action: "read the label", source },
        other => OpenError::Label(other.to_string()),
    };
    if let Some(label) = Label::read(root).map_err(refused)? {
        return Ok(label);
    }
    let io = |source: io::Error| OpenError::Io { action: "write the label", source };
    let disk = random_u128().map_err(|error| io(io::Error::other(error)))?;
    let label = Label { disk: DiskId(disk), cell: None };
    label.write(root).map_err(io)?;
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_name_of_every_folder_made_is_made_durable() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        let synced = |path: &Path| {
            let mut synced: Vec<PathBuf> = Vec::new();
            make_folder(path, &mut |folder| {
                synced.push(folder.strip_prefix(base).map(Path::to_owned).unwrap_or_default());
                sync_folder(folder)
            })
            .unwrap();
            synced
        };
        let path = base.join("a/b/c");
        let made = synced(&path);
        for parent in ["", "a", "a/b"] {
            assert!(made.contains(&PathBuf::from(parent)), "{parent:?} in {made:?}");
        }
        assert!(path.is_dir());
        // A life that was killed behind a `mkdir`.
        assert_eq!(synced(&path), [PathBuf::from("a/b")]);
        assert_eq!(synced(&base.join("a/b/d")), [PathBuf::from("a"), PathBuf::from("a/b")]);
    }
}
