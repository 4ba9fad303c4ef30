//! The store of one node: what its machine wants of a disk, done over a [`FragmentStore`] and files of its own.

use super::contract::FragmentStore;
use super::data_folder::{DataFolder, OpenError, Unlabelled};
use super::folder_store::FolderStore;
use super::fragments::{Fragments, OpenedFragment};
use super::index::Index;
use super::journal_file::Journals;
use super::label::Label;
use super::read_back::ReadBack;
use super::stage::Stages;
use super::{Fence, invalid};
use repair_core::id::{CellKey, DiskId, PgId, RecordHash};
use repair_core::lineage::Life;
use repair_core::node::{Body, JournalFile, StoreCall, StoreError, StoreOk};
use repair_core::wire::node::{FragmentKey, StageKey};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

const INDEX: &str = "index.redb";

/// A disk as a node machine uses it: fragments in a [`FragmentStore`], journals and index in a data folder, locked by this process. Every
/// operation may be called from any thread and blocks.
#[derive(Debug)]
pub struct DiskStore {
    files: Arc<dyn FragmentStore>,
    fragments: Fragments,
    stages: Stages,
    journals: Journals,
    index: Index,
    /// Whether the fragments lie elsewhere than in the data folder, which then vanishes apart from them.
    is_apart: bool,
    /// Unlocked when it is closed: last.
    home: Arc<DataFolder>,
}

impl DiskStore {
    /// Opens a data folder that holds the fragments too.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, unlabelled: Unlabelled) -> Result<Self, OpenError> {
        let home = Arc::new(DataFolder::open(path, unlabelled)?);
        let files = Arc::new(FolderStore::of(&home)?);
        Self::assemble(path, home, files, false)
    }

    /// Opens a data folder for journals and index beside a store that holds the fragments. The two belong together: a store without a label is given
    /// that of the folder.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Label`] where the store is another disk's, or cannot be used by a node.
    pub fn over(path: &Path, files: Arc<dyn FragmentStore>, unlabelled: Unlabelled) -> Result<Self, OpenError> {
        let home = Arc::new(DataFolder::open(path, unlabelled)?);
        let refused = |error: StoreError| OpenError::Label(format!("the store of fragments: {error}"));
        if !files.capabilities().in_place_writes {
            return Err(OpenError::Label("the store of fragments takes no pieces out of order".into()));
        }
        match files.label().map_err(refused)? {
            Some(label) if label.disk != home.label().disk => {
                return Err(OpenError::Label(format!("the store of fragments is of disk {}", label.disk)));
            }
            // A life that ended between the two labels is finished here.
            _ => files.set_label(home.label()).map_err(refused)?,
        }
        Self::assemble(path, home, files, true)
    }

    fn assemble(
        path: &Path,
        home: Arc<DataFolder>,
        files: Arc<dyn FragmentStore>,
        is_apart: bool,
    ) -> Result<Self, OpenError> {
        let journals = home.part("journal").and_then(Journals::new);
        let journals = journals.map_err(|source| OpenError::Io { action: "open the journals", source })?;
        home.sync()?;
        Ok(Self {
            fragments: Fragments::new(Arc::clone(&files)),
            stages: Stages::new(ReadBack::Off),
            index: Index::open(&path.join(INDEX)),
            files,
            journals,
            is_apart,
            home,
        })
    }

    /// Reads fragments back by this policy before they get their names; [`ReadBack::Off`] without it. It stays off over a store that reads from caches: what
    /// comes from there proves nothing.
    #[must_use]
    pub fn with_read_back(mut self, policy: ReadBack) -> Self {
        self.stages = Stages::new(policy.over(self.files.capabilities()));
        self
    }

    /// Which fragments are read back.
    pub fn read_back(&self) -> ReadBack {
        self.stages.read_backs.policy
    }

    /// Fragments since the start that were not on the disk as they were written, and were discarded.
    pub fn mismatches(&self) -> u64 {
        self.stages.read_backs.mismatches()
    }

    /// The disk, by its label.
    pub fn disk(&self) -> DiskId {
        self.home.label().disk
    }

    /// The cell, by its label.
    pub fn cell(&self) -> Option<CellKey> {
        self.home.label().cell
    }

    /// The life that lies beside the label.
    pub fn life(&self) -> Option<Life> {
        self.home.life()
    }

    /// Puts this life beside the label, durably.
    ///
    /// # Errors
    /// That of the system; it is then the old one or the new one.
    pub fn set_life(&self, life: Life) -> Result<StoreOk, StoreError> {
        self.check()?;
        self.home.set_life(life)?;
        Ok(StoreOk::Done)
    }

    /// Writes the cell into the label, durably.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where it is of another cell.
    pub fn set_cell(&self, cell: CellKey) -> Result<StoreOk, StoreError> {
        let label = Label { cell: Some(cell), ..self.home.label() };
        self.home.set_label(label)?;
        self.files.set_label(label)?;
        Ok(StoreOk::Done)
    }

    /// All journals, each read when it is its turn.
    ///
    /// # Errors
    /// That of the system, where they cannot be listed.
    pub fn journals(&self) -> io::Result<impl Iterator<Item = JournalFile>> {
        self.journals.read_all()
    }

    /// What an earlier life kept staged.
    pub fn kept(&self) -> Vec<FragmentKey> {
        self.files.kept()
    }

    /// Bytes free and bytes in all.
    ///
    /// # Errors
    /// That of the system.
    pub fn room(&self) -> io::Result<(u64, u64)> {
        if self.is_apart {
            // Journals need room too, and their folder.
            self.home.room()?;
        }
        let room = self.files.room().map_err(io::Error::other)?;
        Ok((room.free_bytes, room.total_bytes))
    }

    /// Names among the fragments that are not ours and were skipped.
    pub fn junk(&self) -> u64 {
        self.files.junk()
    }

    /// Why all writing has ended, where it has.
    pub fn broken(&self) -> Option<&str> {
        self.fence().reason().or_else(|| self.files.broken())
    }

    pub(super) fn fence(&self) -> &Fence {
        &self.home.fence
    }

    /// Whether the disk is there, all of it.
    fn probe(&self) -> Result<(), StoreError> {
        if self.is_apart {
            self.home.is_there()?;
        }
        self.files.probe()
    }

    /// Nothing is begun that could not be ended.
    fn check(&self) -> Result<(), StoreError> {
        self.broken().map_or(Ok(()), |reason| Err(super::ended(reason)))
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
                self.check()?;
                self.stages.begin(&*self.files, key, *header)
            }
            StoreCall::KeepStage { key, header } => {
                self.check()?;
                self.stages.keep(&*self.files, key, *header)
            }
            StoreCall::LeaveStage { key } => self.stages.leave(key),
            StoreCall::DropKept { fragment } => self.files.drop_kept(fragment).map(|()| StoreOk::Done),
            StoreCall::WriteStage { key, offset, body } => self.stages.write(key, offset, &body),
            StoreCall::SealStage { key } => self.stages.seal(key),
            StoreCall::FinishStage { key, record } => {
                self.check()?;
                self.stages.finish(key, &record, self.fence())
            }
            StoreCall::PublishStage { key } => self.publish(key),
            StoreCall::SyncFolder { pg } => {
                self.check()?;
                self.files.sync(pg).map(|()| StoreOk::Done)
            }
            StoreCall::DropStage { key } => {
                self.stages.forget(key);
                Ok(StoreOk::Done)
            }
            StoreCall::Read { fragment, range } => self.fragments.read(fragment, range),
            StoreCall::Combine { fragment, range, coefficients, sums } => {
                self.fragments.combine(fragment, range, &coefficients, sums)
            }
            StoreCall::ReadRecord { fragment, hash } => self.read_record(fragment, hash),
            StoreCall::Check { fragment, hash } => self.fragments.check(fragment, hash),
            StoreCall::Quarantine { fragment, reason } => self.put_aside(fragment, &reason),
            StoreCall::UnlinkQuarantined { fragment } => {
                self.check()?;
                self.files.purge(fragment).map(|()| StoreOk::Done)
            }
            StoreCall::Touch => self.probe().map(|()| StoreOk::Done),
            StoreCall::ListFolder { pg } => self.list(pg).map(StoreOk::Folder),
            StoreCall::AppendJournal { pg, bytes } => {
                let append = || self.journals.append(pg, &bytes, self.fence());
                self.home.even_if_full(append).map(|()| StoreOk::Done)
            }
            StoreCall::ReplaceJournal { pg, bytes } => {
                let replace = || self.journals.replace(pg, &bytes, self.fence());
                self.home.even_if_full(replace).map(|()| StoreOk::Done)
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

    /// A short piece of payload and the CRCs of its blocks, where nobody has to wait for it; whoever gets none asks by
    /// [`DiskStore::perform`].
    pub fn read_at_once(&self, fragment: FragmentKey, range: Range<u64>) -> Option<(Body, Vec<u32>)> {
        self.fragments.read_at_once(fragment, range)
    }

    fn publish(&self, key: StageKey) -> Result<StoreOk, StoreError> {
        self.check()?;
        let fragment = self.stages.fragment(key)?;
        self.fragments.forget(fragment);
        self.stages.publish(key).map(StoreOk::Published)
    }

    fn read_record(&self, fragment: FragmentKey, hash: RecordHash) -> Result<StoreOk, StoreError> {
        let is_it = |record: &Body| RecordHash::of(record) == hash;
        if let Some(record) = self.index.get(fragment).filter(is_it) {
            return Ok(StoreOk::Record(record));
        }
        match self.fragments.record(fragment)? {
            record if is_it(&record) => {
                self.index.put(fragment, &record);
                Ok(StoreOk::Record(record))
            }
            // The fragment is there, this record is not.
            _ => Err(self.files.probe().err().unwrap_or(StoreError::NotFound)),
        }
    }

    fn put_aside(&self, fragment: FragmentKey, reason: &str) -> Result<StoreOk, StoreError> {
        self.check()?;
        self.fragments.forget(fragment);
        let taken = self.files.set_aside(fragment, reason);
        // A reader may have opened it again before it was moved.
        self.fragments.forget(fragment);
        taken.map(|()| StoreOk::Done)
    }

    fn list(&self, pg: PgId) -> Result<Vec<FragmentKey>, StoreError> {
        let page = self.files.capabilities().list_max.max(1);
        let mut found: Vec<FragmentKey> = Vec::new();
        loop {
            let last = found.last().copied();
            let listed = self.files.list(pg, last, page)?;
            // A store that does not go on would be asked for ever.
            if listed.first().is_some_and(|first| last.is_some_and(|last| *first <= last)) {
                return Err(invalid("a listing that does not go on"));
            }
            let is_last = listed.len() < page;
            found.extend(listed);
            if is_last {
                return Ok(found);
            }
        }
    }
}
