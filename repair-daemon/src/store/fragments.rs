//! Published fragments: found by name, read in pieces, judged whole.

use super::folder::Folder;
use super::{Fence, as_store_error, invalid};
use crate::buffers::BufferPool;
use crate::files::FilesError;
use crate::files::fragment_file::{Finding, FragmentFile, unreadable};
use ec_core::ShardIndex;
use ec_core::fragment::{Class, ExtentRecord, FragmentName, Hash, bad_blocks, judge, judge_payload};
use ec_core::geometry::BLOCK_BYTES;
use repair_core::id::{ExtentKey, PgId, RecordHash};
use repair_core::limits::SLICE_BYTES;
use repair_core::node::{Body, Hosted, Payload, StoreError, StoreOk};
use repair_core::wire::node::FragmentKey;
use rustix::fs::{Advice, fadvise};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Fragments kept open, header and table read: whoever reads one slice reads the next.
const OPEN_MAX: usize = 64;

/// Something, or what is the matter with the fragment.
type Looked<T> = Result<Result<T, Finding>, StoreError>;

/// A fragment's file opened once more, for somebody else to read, and what he needs to know of it.
#[derive(Debug)]
pub struct OpenedFragment {
    /// The file, open for reading.
    pub file: File,
    /// Where in it the payload begins.
    pub payload_at: u64,
    /// CRC of each block, by the fragment's table.
    pub table: Vec<u32>,
}

/// The published fragments of a disk.
#[derive(Debug)]
pub struct Fragments {
    folder: Folder,
    buffers: BufferPool,
    /// The last used last.
    open: Mutex<Vec<(FragmentKey, Arc<FragmentFile>)>>,
    /// Groups whose own folder's name is known to be durable.
    named: Mutex<BTreeSet<PgId>>,
}

/// The name of a fragment's file.
pub fn file_name(fragment: FragmentKey) -> String {
    name_of(fragment).to_string()
}

fn name_of(fragment: FragmentKey) -> FragmentName {
    FragmentName {
        extent: fragment.extent.id(),
        generation: fragment.generation,
        index: ShardIndex::new(fragment.index),
    }
}

fn folder_name(pg: PgId) -> String {
    format!("{:08x}", pg.0)
}

/// An error of ours and not of the fragment.
fn ours(error: &FilesError) -> StoreError {
    match error {
        FilesError::Io { source, .. } => as_store_error("open a fragment", source),
        other => StoreError::Io(other.to_string()),
    }
}

fn damaged((class, reason): Finding) -> StoreError {
    StoreError::Damaged(format!("{class}: {reason}"))
}

impl Fragments {
    /// The fragments in this folder.
    pub fn new(folder: Folder) -> Self {
        Self { folder, buffers: BufferPool::shared(), open: Mutex::default(), named: Mutex::default() }
    }

    /// The folder of a placement group; `None` where there is none.
    pub(super) fn folder(&self, pg: PgId) -> Result<Option<Folder>, StoreError> {
        match self.folder.folder(&folder_name(pg)) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(as_store_error("open a folder of fragments", &error)),
        }
    }

    /// The folder of a placement group, made if there is none.
    pub(super) fn folder_or_new(&self, pg: PgId) -> Result<Folder, StoreError> {
        self.folder.folder_or_new(&folder_name(pg)).map_err(|error| as_store_error("make a folder", &error))
    }

    /// Makes the names in a placement group's folder durable, and the folder's own.
    pub(super) fn sync(&self, pg: PgId, fence: &Fence) -> Result<StoreOk, StoreError> {
        let Some(folder) = self.folder(pg)? else { return Ok(StoreOk::Done) };
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_named = named.contains(&pg);
        drop(named);
        let synced = folder.sync().and_then(|()| if is_named { Ok(()) } else { self.folder.sync() });
        synced.map_err(|error| fence.close("force a folder to the disk", &error))?;
        named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.insert(pg);
        Ok(StoreOk::Done)
    }

    /// Lets go of a fragment kept open: its name is given to or taken from a file.
    pub(super) fn forget(&self, fragment: FragmentKey) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(key, _)| *key != fragment);
    }

    /// Opens a fragment and looks at header, tail and name. `cached` says whether pages in memory will do.
    fn look(&self, fragment: FragmentKey, cached: bool) -> Looked<FragmentFile> {
        let name = file_name(fragment);
        let path = Path::new(&name);
        let Some(folder) = self.folder(fragment.extent.pg())? else {
            return Ok(Err((Class::Missing, "there is no such file".into())));
        };
        let file = match folder.open_file(&name) {
            Ok(file) => file,
            Err(error) => return unreadable(path, error).map_err(|error| ours(&error)),
        };
        // Header and tail are small pieces far apart: reading ahead would bring payload that goes past the cache.
        let _ = fadvise(&file, 0, None, if cached { Advice::Random } else { Advice::DontNeed });
        let looked = FragmentFile::of(file, path).map_err(|error| ours(&error))?;
        Ok(looked.and_then(|found| {
            let (record, record_bytes) = (&found.tail.record, &found.tail.record_bytes);
            judge(Some(name_of(fragment)), &found.header, &found.tail.root, record_bytes, record, record_bytes)?;
            Ok(found)
        }))
    }

    fn open(&self, fragment: FragmentKey) -> Looked<Arc<FragmentFile>> {
        let kept = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let at = open.iter().position(|(key, _)| *key == fragment);
            at.map(|at| {
                let kept = open.remove(at);
                open.push(kept.clone());
                kept.1
            })
        };
        if let Some(kept) = kept
            && self.is_still(fragment, &kept)
        {
            return Ok(Ok(kept));
        }
        let found = match self.look(fragment, true)? {
            Ok(found) => Arc::new(found),
            Err(finding) => {
                self.forget(fragment);
                return Ok(Err(finding));
            }
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(key, _)| *key != fragment);
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((fragment, Arc::clone(&found)));
        Ok(Ok(found))
    }

    /// Whether the name is still the open file's: somebody else may have moved, removed or replaced it.
    fn is_still(&self, fragment: FragmentKey, kept: &FragmentFile) -> bool {
        let named = match self.folder(fragment.extent.pg()) {
            Ok(Some(folder)) => folder.inode(&file_name(fragment)).ok(),
            _ => None,
        };
        named.is_some() && named == kept.inode().ok()
    }

    /// Payload and CRCs. `None` where there is no such file.
    pub(super) fn read(&self, fragment: FragmentKey, range: Range<u64>) -> Result<Option<StoreOk>, StoreError> {
        let found = match self.open(fragment)? {
            Ok(found) => found,
            Err((Class::Missing, _)) => return Ok(None),
            Err(finding) => return Err(damaged(finding)),
        };
        let block = BLOCK_BYTES as u64;
        let aligned = range.start.is_multiple_of(block) && range.end.is_multiple_of(block);
        if !aligned || range.is_empty() || range.end > found.layout().payload_bytes {
            return Err(invalid("a range that is not whole blocks of the payload"));
        }
        if range.end - range.start > SLICE_BYTES as u64 {
            return Err(invalid("a range longer than a slice"));
        }
        // Both fit: a payload is at most 1 GiB, the range at most a slice.
        let bytes = (range.end - range.start) as usize;
        let blocks = (range.start / block) as usize..(range.end / block) as usize;
        let body = match found.pipe_payload(range.start, bytes) {
            Some(piped) => Payload::Hosted(Hosted::new(piped)),
            None => self.read_payload(fragment, &found, range.start, bytes)?.into(),
        };
        // The table is as long as the payload: the tail was checked against the header.
        let crcs = found.tail.table.get(blocks).unwrap_or_default().to_vec();
        Ok(Some(StoreOk::Data { body, crcs }))
    }

    /// The file that [`Fragments::read`] would read from. `None` where there is none, or another has its name by now.
    pub(super) fn open_once_more(&self, fragment: FragmentKey) -> Result<Option<OpenedFragment>, StoreError> {
        let found = match self.open(fragment)? {
            Ok(found) => found,
            Err((Class::Missing, _)) => return Ok(None),
            Err(finding) => return Err(damaged(finding)),
        };
        let Some(folder) = self.folder(fragment.extent.pg())? else { return Ok(None) };
        // Opened anew and not duplicated: flags and position are each holder's own.
        let file = folder.open_file(&file_name(fragment)).map_err(|error| as_store_error("open a fragment", &error))?;
        let is_it = file.metadata().is_ok_and(|metadata| found.inode().is_ok_and(|inode| inode == metadata.ino()));
        let (payload_at, table) = (found.layout().payload_at, found.tail.table.clone());
        Ok(is_it.then_some(OpenedFragment { file, payload_at, table }))
    }

    fn read_payload(
        &self,
        fragment: FragmentKey,
        found: &FragmentFile,
        offset: u64,
        bytes: usize,
    ) -> Result<Body, StoreError> {
        let mut buffer = self.buffers.take(bytes).map_err(|error| StoreError::Io(error.to_string()))?;
        match found.read_payload(offset, &mut buffer).map_err(|error| ours(&error))? {
            Ok(()) => Ok(Body::from_owner(buffer)),
            Err(finding) => {
                self.forget(fragment);
                Err(damaged(finding))
            }
        }
    }

    /// The record in a fragment's tail. `None` where there is no such file.
    pub(super) fn record(&self, fragment: FragmentKey) -> Result<Option<Body>, StoreError> {
        match self.open(fragment)? {
            Ok(found) => Ok(Some(Body::copy_from_slice(&found.tail.record_bytes))),
            Err((Class::Missing, _)) => Ok(None),
            Err(finding) => Err(damaged(finding)),
        }
    }

    /// Reads a fragment whole, from the device, and judges it. `None` where there is no such file.
    pub(super) fn check(&self, fragment: FragmentKey, hash: Option<RecordHash>) -> Result<Option<StoreOk>, StoreError> {
        let mut root = None;
        let class = match self.look(fragment, false)? {
            Err((Class::Missing, _)) => return Ok(None),
            Err((class, _)) => class,
            Ok(found) => match self.check_payload(&found, &mut root)? {
                Err((class, _)) => class,
                Ok(()) => {
                    let carried = ExtentRecord::hash(&found.tail.record_bytes);
                    if hash.is_none_or(|hash| hash.0 == *carried.as_bytes()) { Class::Healthy } else { Class::Conflict }
                }
            },
        };
        if class != Class::Healthy {
            self.forget(fragment);
        }
        Ok(Some(StoreOk::Checked { class: class.as_str().to_owned(), root }))
    }

    fn check_payload(&self, found: &FragmentFile, root: &mut Option<[u8; 32]>) -> Looked<()> {
        let bytes = found.layout().payload_bytes;
        let seed = found.header.identity.seed();
        let mut buffer = self.buffers.take(SLICE_BYTES).map_err(|error| StoreError::Io(error.to_string()))?;
        let mut hasher = blake3::Hasher::new();
        let mut bad = 0;
        let mut offset = 0;
        while offset < bytes {
            let piece_bytes = usize::try_from(bytes - offset).unwrap_or(SLICE_BYTES).min(SLICE_BYTES);
            let piece = &mut buffer[..piece_bytes];
            if let Err(finding) = found.read_payload(offset, piece).map_err(|error| ours(&error))? {
                return Ok(Err(finding));
            }
            let first_block = u32::try_from(offset / BLOCK_BYTES as u64).unwrap_or(u32::MAX);
            bad += bad_blocks(seed, &found.tail.table, first_block, piece).len() as u64;
            hasher.update(piece);
            offset += piece_bytes as u64;
        }
        let computed = found.header.identity.root(&Hash::from(hasher.finalize()));
        *root = Some(*computed.as_bytes());
        Ok(judge_payload(bad, &computed, &found.tail.root))
    }

    /// The files of a placement group that are fragments by name and kind, in order.
    pub(super) fn list(&self, pg: PgId) -> Result<Vec<FragmentKey>, StoreError> {
        let failed = |error: io::Error| as_store_error("list a folder of fragments", &error);
        let Some(folder) = self.folder(pg)? else { return Ok(Vec::new()) };
        let names = folder.file_names().map_err(failed)?;
        let mut found: Vec<FragmentKey> =
            names.iter().filter_map(|name| FragmentName::parse(name).and_then(|name| key_in(pg, name))).collect();
        found.sort_unstable();
        Ok(found)
    }
}

/// The fragment of a name that belongs into the folder of this placement group.
fn key_in(pg: PgId, name: FragmentName) -> Option<FragmentKey> {
    let extent = ExtentKey::from_id(name.extent).filter(|extent| extent.pg() == pg)?;
    Some(FragmentKey { extent, generation: name.generation, index: name.index.get() })
}
