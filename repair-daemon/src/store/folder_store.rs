//! The store in a folder: a file for each fragment, a folder for each placement group.

use super::contract::{Capabilities, FragmentStore, Published, ReadFrom, Room, Staged};
use super::data_folder::{DataFolder, OpenError, Unlabelled};
use super::folder::{Folder, Unnamed};
use super::fragments::{file_name, name_of, ours};
use super::kept::{Kept, KeptNames};
use super::label::Label;
use super::quarantine::Quarantine;
use super::slice_map::Owner;
use super::sweep::{AT_START, SUFFIX, Sweep};
use super::{as_store_error, invalid};
use crate::files::direct::{DirectReader, open_direct};
use crate::files::fragment_file::unreadable;
use crate::files::staged::random_u128;
use ec_core::fragment::{Class, FragmentName};
use repair_core::id::{ExtentKey, PgId};
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use rustix::fs::{Advice, FileType, fadvise};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Fewer bytes go out soon enough with the sync. The advice that sends them waits until every CPU has looked into its list of pages: some
/// milliseconds where all are busy.
const BEGIN_BYTES_MIN: u64 = 8 << 20;

/// Fragments as files of a data folder.
#[derive(Debug)]
pub struct FolderStore {
    quarantine: Quarantine,
    /// Begins the names of this life's stages, where the file system needs names. Those of an earlier one may still be there.
    life: String,
    /// Numbers them.
    staged: AtomicU64,
    /// Names in the folder of each group that were no fragments of it when it was last listed.
    junk: Mutex<BTreeMap<PgId, u64>>,
    kept: KeptNames,
    /// Ends before the folder is unlocked.
    sweep: Sweep,
    groups: Arc<Groups>,
}

/// The folders of the placement groups, and the one where their files come from.
#[derive(Debug)]
struct Groups {
    home: Arc<DataFolder>,
    folder: Folder,
    /// On the file system of the fragments, for a name is given by a link.
    staging: Folder,
    /// Groups whose own folder's name is known to be durable.
    named: Mutex<BTreeSet<PgId>>,
}

#[derive(Debug)]
struct StagedFile {
    groups: Arc<Groups>,
    file: Unnamed,
    /// The same file, opened once more to be read past the page cache; `None` where that is not to be had.
    direct: OnceLock<Option<File>>,
    room_bytes: u64,
    /// Bytes written that the disk has not been sent, and the range that they lie in.
    unsent_bytes: u64,
    unsent: Range<u64>,
    state: State,
    /// Of one that is kept.
    kept: Option<Kept>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Sealed,
    /// Named, or an operation failed.
    Ended,
}

fn folder_name(pg: PgId) -> String {
    format!("{:08x}", pg.0)
}

/// The fragment of a name that belongs into the folder of this placement group.
fn key_in(pg: PgId, name: FragmentName) -> Option<FragmentKey> {
    let extent = ExtentKey::from_id(name.extent).filter(|extent| extent.pg() == pg)?;
    Some(FragmentKey { extent, generation: name.generation, index: name.index.get() })
}

impl FolderStore {
    /// Opens a data folder.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, unlabelled: Unlabelled) -> Result<Self, OpenError> {
        let home = Arc::new(DataFolder::open(path, unlabelled)?);
        let store = Self::of(&home)?;
        home.sync()?;
        Ok(store)
    }

    /// The fragments of an open data folder, which still has to be synced. What an earlier life left staged and did not keep
    /// is removed, beside the work where it is much.
    pub(super) fn of(home: &Arc<DataFolder>) -> Result<Self, OpenError> {
        let io = |action: &'static str| move |source: io::Error| OpenError::Io { action, source };
        let folder = home.part("fragments").map_err(io("open the fragments"))?;
        let staging = || home.part("staging").map_err(io("open the staging folder"));
        let random = random_u128().map_err(|error| io("name this life's stages")(io::Error::other(error)))?;
        let life = format!("{:016x}-", random as u64);
        let kept = KeptNames::find(&staging()?, AT_START).map_err(io("look for what is kept staged"))?;
        let sweep = Sweep::begin(staging()?, life.clone(), kept.clone()).map_err(io("empty the staging folder"))?;
        let quarantine = Quarantine::new(home.part("quarantine").map_err(io("open the quarantine"))?);
        let groups = Arc::new(Groups { home: Arc::clone(home), folder, staging: staging()?, named: Mutex::default() });
        Ok(Self { quarantine, life, staged: AtomicU64::new(0), junk: Mutex::default(), kept, sweep, groups })
    }

    fn listed_junk(&self) -> MutexGuard<'_, BTreeMap<PgId, u64>> {
        self.junk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    /// The folder of a placement group; `None` where there is none.
    fn find(&self, pg: PgId) -> Result<Option<Folder>, StoreError> {
        match self.folder.folder(&folder_name(pg)) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(as_store_error("open a folder of fragments", &error)),
        }
    }

    /// The folder of a placement group, made if there is none.
    fn find_or_make(&self, pg: PgId) -> Result<Folder, StoreError> {
        self.folder.folder_or_new(&folder_name(pg)).map_err(|error| as_store_error("make a folder", &error))
    }

    /// Nothing has this name, if the disk is there.
    fn not_found(&self) -> StoreError {
        self.home.is_there().err().unwrap_or(StoreError::NotFound)
    }

    fn open(&self, fragment: FragmentKey) -> Result<File, StoreError> {
        let Some(folder) = self.find(fragment.extent.pg())? else { return Err(self.not_found()) };
        let name = file_name(fragment);
        folder.open_file(&name).or_else(|error| self.about(&name, error))
    }

    /// What an error says about a fragment.
    fn about<T>(&self, name: &str, error: io::Error) -> Result<T, StoreError> {
        match unreadable::<T>(Path::new(name), error).map_err(|error| ours(&error))? {
            Ok(nothing) => Ok(nothing),
            Err((Class::Missing, _)) => Err(self.not_found()),
            Err((_, reason)) => Err(StoreError::Damaged(reason)),
        }
    }
}

impl FragmentStore for FolderStore {
    fn capabilities(&self) -> Capabilities {
        // A listing reads the folder whole, so that it is had in one.
        Capabilities { direct_reads: true, in_place_writes: true, durable_names: false, list_max: usize::MAX }
    }

    fn label(&self) -> Result<Option<Label>, StoreError> {
        self.probe()?;
        Ok(Some(self.groups.home.label()))
    }

    fn set_label(&self, label: Label) -> Result<(), StoreError> {
        self.groups.home.set_label(label)
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.groups.home.is_there()
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
        self.groups.home.fence.check()?;
        self.groups.home.is_there()?;
        let name = || format!("{}{:016x}{SUFFIX}", self.life, self.staged.fetch_add(1, Ordering::Relaxed));
        let file = self.groups.staging.unnamed(name, bytes);
        let file = file.map_err(|error| as_store_error("make room for a fragment", &error))?;
        Ok(Box::new(StagedFile::new(Arc::clone(&self.groups), file, bytes, None)))
    }

    fn begin_kept(
        &self,
        fragment: FragmentKey,
        identity: [u8; 32],
        bytes: u64,
    ) -> Result<Option<Box<dyn Staged>>, StoreError> {
        self.groups.home.fence.check()?;
        self.groups.home.is_there()?;
        let opened = Kept::open(&self.groups.staging, &self.kept, Owner { fragment, identity }, bytes);
        let (kept, file) = opened.map_err(|error| as_store_error("make room for a fragment", &error))?;
        Ok(Some(Box::new(StagedFile::new(Arc::clone(&self.groups), file, bytes, Some(kept)))))
    }

    fn kept(&self) -> Vec<FragmentKey> {
        self.kept.lock().iter().copied().collect()
    }

    fn drop_kept(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        // Of a disk that is not there nothing is removed.
        self.groups.home.is_there()?;
        let removed = self.kept.remove(&self.groups.staging, fragment);
        removed.map_err(|error| as_store_error("remove what was kept staged", &error))
    }

    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError> {
        let Some(folder) = self.groups.find(fragment.extent.pg())? else { return Err(self.groups.not_found()) };
        let name = file_name(fragment);
        match folder.file_bytes(&name) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(StoreError::Damaged("not a file".into())),
            Err(error) => self.groups.about(&name, error),
        }
    }

    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], from: ReadFrom) -> Result<(), StoreError> {
        let file = self.groups.open(fragment)?;
        let name = file_name(fragment);
        let is_file = file.metadata().or_else(|error| self.groups.about(&name, error))?.is_file();
        if !is_file {
            return Err(StoreError::Damaged("not a file".into()));
        }
        let reader = DirectReader::new(file);
        let read = match from {
            ReadFrom::Cache => reader.read_exact_at(buffer, offset),
            ReadFrom::Device => reader.read_exact_from_device(buffer, offset),
        };
        read.or_else(|error| self.groups.about(&name, error))
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        let (mut found, mut junk): (Vec<FragmentKey>, u64) = (Vec::new(), 0);
        if let Some(folder) = self.groups.find(pg)? {
            let listed = folder.each_name(|name, kind| {
                let name = name.filter(|_| kind == FileType::RegularFile).and_then(FragmentName::parse);
                match name.and_then(|name| key_in(pg, name)) {
                    None => junk += 1,
                    Some(key) if after.is_none_or(|after| key > after) => found.push(key),
                    Some(_) => {}
                }
                ControlFlow::Continue(())
            });
            listed.map_err(|error| as_store_error("list a folder of fragments", &error))?;
        }
        found.sort_unstable();
        found.truncate(max);
        // After the listing: what was listed before the label was seen may be another folder's.
        self.groups.home.is_there()?;
        if junk > 0 {
            self.listed_junk().insert(pg, junk);
        } else {
            self.listed_junk().remove(&pg);
        }
        Ok(found)
    }

    fn junk(&self) -> u64 {
        self.sweep.junk() + self.listed_junk().values().sum::<u64>()
    }

    fn set_aside(&self, fragment: FragmentKey, reason: &str) -> Result<(), StoreError> {
        let name = file_name(fragment);
        let home = &self.groups.home;
        let folder = self.groups.find(fragment.extent.pg())?;
        let taken = home.even_if_full(|| self.quarantine.take(folder.as_ref(), &name, reason, &home.fence))?;
        if taken { Ok(()) } else { Err(self.groups.not_found()) }
    }

    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.groups.home.fence.check()?;
        self.quarantine.unlink(&file_name(fragment), &self.groups.home.fence)
    }

    fn sync(&self, pg: PgId) -> Result<(), StoreError> {
        let fence = &self.groups.home.fence;
        fence.check()?;
        let Some(folder) = self.groups.find(pg)? else { return Ok(()) };
        let named = || self.groups.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_named = named().contains(&pg);
        let synced = folder.sync().and_then(|()| if is_named { Ok(()) } else { self.groups.folder.sync() });
        synced.map_err(|error| fence.close("force a folder to the disk", &error))?;
        named().insert(pg);
        Ok(())
    }

    fn room(&self) -> Result<Room, StoreError> {
        let room = self.groups.home.room();
        let (free_bytes, total_bytes) = room.map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Room { free_bytes, total_bytes })
    }

    fn broken(&self) -> Option<&str> {
        self.groups.home.fence.reason()
    }

    fn open_file(&self, fragment: FragmentKey) -> Result<Option<File>, StoreError> {
        self.groups.open(fragment).map(Some)
    }

    fn is_still(&self, fragment: FragmentKey, file: &File) -> bool {
        let named = match self.groups.find(fragment.extent.pg()) {
            Ok(Some(folder)) => folder.inode(&file_name(fragment)).ok(),
            _ => None,
        };
        named.is_some() && named == file.metadata().ok().map(|metadata| metadata.ino())
    }
}

impl StagedFile {
    fn file(&self) -> &File {
        &self.file.file
    }

    fn new(groups: Arc<Groups>, file: Unnamed, room_bytes: u64, kept: Option<Kept>) -> Self {
        let (direct, state) = (OnceLock::new(), State::Open);
        Self { groups, file, direct, room_bytes, unsent_bytes: 0, unsent: 0..0, state, kept }
    }

    fn write_pieces(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file().write_all_at(bytes, offset)?;
        let (written, end) = (bytes.len() as u64, offset + bytes.len() as u64);
        let unsent = if self.unsent_bytes == 0 { offset..end } else { self.unsent.clone() };
        self.unsent = unsent.start.min(offset)..unsent.end.max(end);
        self.unsent_bytes += written;
        // What was written is likely to be read soon, by a rebuild or the one who stored it, so it goes through the page cache.
        // Left alone there it would wait for the sync at the end, and the disk be idle until then. This advice makes the kernel
        // begin to write at once; pages on their way to the disk stay in memory.
        if self.unsent_bytes >= BEGIN_BYTES_MIN {
            let Range { start, end } = self.unsent;
            let _ = fadvise(self.file(), start, NonZeroU64::new(end - start), Advice::DontNeed);
            self.unsent_bytes = 0;
        }
        Ok(())
    }
}

impl Staged for StagedFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if self.state != State::Open {
            return Err(invalid("the stage is sealed"));
        }
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.room_bytes) {
            return Err(invalid("a piece outside the room reserved"));
        }
        self.state = State::Ended;
        self.write_pieces(offset, bytes).map_err(|error| as_store_error("write a fragment", &error))?;
        if let Some(kept) = &mut self.kept {
            kept.wrote(offset..offset + bytes.len() as u64);
        }
        self.state = State::Open;
        Ok(())
    }

    fn found(&self) -> Vec<Range<u64>> {
        self.kept.as_ref().map_or_else(Vec::new, |kept| kept.found.clone())
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        if self.state != State::Open {
            return Err(invalid("the stage is sealed"));
        }
        self.state = State::Ended;
        let done = kept.checkpoint(&self.groups.staging, &self.file.file);
        done.map_err(|error| as_store_error("force a fragment to the disk", &error))?;
        self.state = State::Open;
        Ok(())
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        if self.state == State::Open {
            self.checkpoint()?;
        }
        // What an operation failed on is not left to anybody.
        if let Some(kept) = self.kept.as_mut().filter(|_| self.state != State::Ended) {
            kept.is_left = true;
        }
        Ok(())
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        // Direct, it comes from the disk and leaves the pages in memory for those who read the fragment next.
        let direct = self.direct.get_or_init(|| open_direct(self.file()));
        let read = match direct {
            Some(direct) => direct.read_exact_at(buffer, offset),
            None => Err(Errno::INVAL.into()),
        };
        let read = match read {
            // Not aligned, or no direct reads here. Pages that are not on the disk yet stay in memory: only after the seal this reads the medium.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                let _ = fadvise(self.file(), 0, None, Advice::DontNeed);
                self.file().read_exact_at(buffer, offset)
            }
            other => other,
        };
        read.map_err(|error| as_store_error("read a fragment back", &error))
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        if self.state != State::Open || bytes > self.room_bytes {
            return Err(invalid("the stage is sealed, or has less room"));
        }
        self.state = State::Ended;
        // What was reserved for more goes back.
        self.file().set_len(bytes).map_err(|error| as_store_error("write a fragment", &error))?;
        self.file().sync_data().map_err(|error| as_store_error("force a fragment to the disk", &error))?;
        self.state = State::Sealed;
        Ok(())
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        if self.state != State::Sealed {
            return Err(invalid("the stage is not sealed, or has a name"));
        }
        self.groups.home.fence.check()?;
        let target = self.groups.find_or_make(fragment.extent.pg())?;
        if let Some(kept) = &mut self.kept {
            let ended = kept.end(&self.groups.staging);
            ended.map_err(|error| as_store_error("publish a fragment", &error))?;
        }
        match self.groups.staging.name(&self.file, &target, &name_of(fragment).to_string()) {
            Ok(()) => {
                self.file.keep();
                self.state = State::Ended;
                Ok(Published::New)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Published::NameTaken),
            Err(error) => Err(as_store_error("publish a fragment", &error)),
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        match &self.kept {
            Some(kept) if kept.is_left => {}
            Some(kept) => kept.forget(&self.groups.staging),
            None => self.groups.staging.discard(&self.file),
        }
    }
}
