//! Published fragments: found by name, read in pieces, judged whole.

use super::contract::{FragmentStore, ReadFrom};
use super::pieces::each_piece;
use super::{as_store_error, invalid};
use crate::buffers::BufferPool;
use crate::files::FilesError;
use crate::files::fragment_file::{Finding, FragmentFile, look};
use crate::files::slices::{SharedTree, first_block};
use crate::piped::Piped;
use bytes::BytesMut;
use ec_core::ShardIndex;
use ec_core::fragment::{Class, ExtentRecord, FragmentName, Header, Layout, Tail, bad_blocks, judge, judge_payload};
use ec_core::geometry::BLOCK_BYTES;
use repair_core::id::RecordHash;
use repair_core::limits::SLICE_BYTES;
use repair_core::node::{Body, Hosted, Payload, StoreError, StoreOk, add_share};
use repair_core::wire::node::FragmentKey;
use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Fragments kept open, header and table read: whoever reads one slice reads the next.
const OPEN_MAX: usize = 64;

/// Longer pieces take longer to copy than to hand on.
const AT_ONCE_BYTES_MAX: u64 = 64 << 10;
/// How long a name that was looked at is taken to be still its file's, by who must not wait for a look.
pub(super) const SURE_FOR: Duration = Duration::from_secs(1);

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
    files: Arc<dyn FragmentStore>,
    buffers: BufferPool,
    /// The last used last.
    open: Mutex<Vec<Kept>>,
}

/// A fragment kept open, and when its name was last looked at.
#[derive(Clone, Debug)]
struct Kept {
    fragment: FragmentKey,
    found: Arc<Found>,
    sure: Instant,
}

/// A fragment whose header and tail are right. Its payload was not read yet.
#[derive(Debug)]
enum Found {
    /// An open file.
    File(FragmentFile),
    /// Only a name: a name keeps its bytes.
    Named { header: Header, tail: Tail },
}

impl Found {
    fn header(&self) -> &Header {
        match self {
            Self::File(file) => &file.header,
            Self::Named { header, .. } => header,
        }
    }

    fn tail(&self) -> &Tail {
        match self {
            Self::File(file) => &file.tail,
            Self::Named { tail, .. } => tail,
        }
    }

    fn layout(&self) -> Layout {
        self.header().layout()
    }

    fn pipe_payload(&self, offset: u64, bytes: usize) -> Option<Piped> {
        match self {
            Self::File(file) => file.pipe_payload(offset, bytes),
            Self::Named { .. } => None,
        }
    }
}

/// What an error of the store says about a fragment; the others say nothing about it.
fn finding(error: StoreError) -> Result<Finding, StoreError> {
    match error {
        StoreError::Damaged(reason) => Ok((Class::Unreadable, reason)),
        other => Err(other),
    }
}

/// The name of a fragment's file.
pub fn file_name(fragment: FragmentKey) -> String {
    name_of(fragment).to_string()
}

pub(super) fn name_of(fragment: FragmentKey) -> FragmentName {
    FragmentName {
        extent: fragment.extent.id(),
        generation: fragment.generation,
        index: ShardIndex::new(fragment.index),
    }
}

/// An error of ours and not of the fragment.
pub(super) fn ours(error: &FilesError) -> StoreError {
    match error {
        FilesError::Io { source, .. } => as_store_error("open a fragment", source),
        other => StoreError::Io(other.to_string()),
    }
}

fn damaged((class, reason): Finding) -> StoreError {
    StoreError::Damaged(format!("{class}: {reason}"))
}

/// Whether all of it was in memory.
fn is_read_at_once(file: &File, offset: u64, buffer: &mut [u8]) -> bool {
    let bytes = buffer.len();
    preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) == Ok(bytes)
}

/// Length and blocks of a range, where it is one of whole blocks of the payload and at most a slice.
fn whole_blocks(found: &Found, range: &Range<u64>) -> Result<(usize, Range<usize>), StoreError> {
    let block = BLOCK_BYTES as u64;
    let aligned = range.start.is_multiple_of(block) && range.end.is_multiple_of(block);
    if !aligned || range.is_empty() || range.end > found.layout().payload_bytes {
        return Err(invalid("a range that is not whole blocks of the payload"));
    }
    if range.end - range.start > SLICE_BYTES as u64 {
        return Err(invalid("a range longer than a slice"));
    }
    // Both fit: a payload is at most 1 GiB, the range at most a slice.
    let blocks = (range.start / block) as usize..(range.end / block) as usize;
    Ok(((range.end - range.start) as usize, blocks))
}

impl Fragments {
    /// The fragments of this store.
    pub(super) fn new(files: Arc<dyn FragmentStore>) -> Self {
        Self { files, buffers: BufferPool::shared(), open: Mutex::default() }
    }

    /// Lets go of a fragment kept open: its name is given to or taken from a file.
    pub(super) fn forget(&self, fragment: FragmentKey) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| kept.fragment != fragment);
    }

    /// Opens a fragment and looks at header, tail and name. `from` says whether pages in memory will do.
    fn look(&self, fragment: FragmentKey, from: ReadFrom) -> Looked<Found> {
        let looked = match self.files.open_file(fragment) {
            Ok(Some(file)) => {
                // Header and tail are small pieces far apart: reading ahead would bring payload that goes past the cache.
                let _ = fadvise(&file, 0, None, Advice::Random);
                let name = file_name(fragment);
                let look = if from == ReadFrom::Cache { FragmentFile::of } else { FragmentFile::of_device };
                look(file, Path::new(&name)).map_err(|error| ours(&error))?.map(Found::File)
            }
            Ok(None) => self.look_by_name(fragment, from)?,
            Err(error) => Err(finding(error)?),
        };
        Ok(looked.and_then(|found| {
            let (record, record_bytes) = (&found.tail().record, &found.tail().record_bytes);
            judge(Some(name_of(fragment)), found.header(), &found.tail().root, record_bytes, record, record_bytes)?;
            Ok(found)
        }))
    }

    fn look_by_name(&self, fragment: FragmentKey, from: ReadFrom) -> Looked<Found> {
        let read = |offset: u64, bytes: usize| {
            let mut buffer = vec![0; bytes];
            self.files.read(fragment, offset, &mut buffer, from).map(|()| buffer)
        };
        match self.files.length(fragment).and_then(|bytes| look(bytes, read)) {
            Ok(looked) => Ok(looked.map(|(header, tail)| Found::Named { header, tail })),
            Err(error) => Ok(Err(finding(error)?)),
        }
    }

    fn open(&self, fragment: FragmentKey) -> Looked<Arc<Found>> {
        let kept = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|kept| kept.fragment == fragment)
            .cloned();
        if let Some(kept) = kept
            && self.is_still(fragment, &kept.found)
        {
            self.keep(fragment, &kept.found);
            return Ok(Ok(kept.found));
        }
        let found = match self.look(fragment, ReadFrom::Cache) {
            Ok(Ok(found)) => Arc::new(found),
            other => {
                self.forget(fragment);
                return Ok(other?.map(Arc::new));
            }
        };
        self.keep(fragment, &found);
        Ok(Ok(found))
    }

    fn keep(&self, fragment: FragmentKey, found: &Arc<Found>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|kept| kept.fragment != fragment);
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push(Kept { fragment, found: Arc::clone(found), sure: Instant::now() });
    }

    /// A short piece of payload and its CRCs, where they can be had without waiting for anything: the fragment was read a moment ago, and these
    /// pages are in memory.
    pub(super) fn read_at_once(&self, fragment: FragmentKey, range: Range<u64>) -> Option<(Body, Vec<u32>)> {
        let found = {
            let open = self.open.try_lock().ok()?;
            let kept = open.iter().rev().find(|kept| kept.fragment == fragment)?;
            (kept.sure.elapsed() < SURE_FOR).then(|| Arc::clone(&kept.found))?
        };
        let Found::File(file) = &*found else { return None };
        let block = BLOCK_BYTES as u64;
        let aligned = range.start.is_multiple_of(block) && range.end.is_multiple_of(block);
        let short = !range.is_empty() && range.end - range.start <= AT_ONCE_BYTES_MAX;
        if !aligned || !short || range.end > found.layout().payload_bytes {
            return None;
        }
        let mut body = BytesMut::zeroed((range.end - range.start) as usize);
        if !is_read_at_once(file.file(), found.layout().payload_at + range.start, &mut body) {
            return None;
        }
        let crcs = found.tail().table.get((range.start / block) as usize..(range.end / block) as usize)?.to_vec();
        Some((body.freeze(), crcs))
    }

    /// Whether the name is still the open file's: somebody else may have moved, removed or replaced it.
    fn is_still(&self, fragment: FragmentKey, kept: &Found) -> bool {
        match kept {
            Found::File(file) => self.files.is_still(fragment, file.file()),
            // Whether the name is still there, its reading tells.
            Found::Named { .. } => true,
        }
    }

    /// Payload and CRCs.
    pub(super) fn read(&self, fragment: FragmentKey, range: Range<u64>) -> Result<StoreOk, StoreError> {
        let found = self.open(fragment)?.map_err(damaged)?;
        let (bytes, blocks) = whole_blocks(&found, &range)?;
        let body = match found.pipe_payload(range.start, bytes) {
            Some(piped) => Payload::Hosted(Hosted::new(piped)),
            None => self.read_payload(fragment, &found, range.start, bytes)?.into(),
        };
        // The table is as long as the payload: the tail was checked against the header.
        let crcs = found.tail().table.get(blocks).unwrap_or_default().to_vec();
        Ok(StoreOk::Data { body, crcs })
    }

    /// Payload, proven by the CRCs of its table, added to sums.
    pub(super) fn combine(
        &self,
        fragment: FragmentKey,
        range: Range<u64>,
        coefficients: &[u8],
        sums: Body,
    ) -> Result<StoreOk, StoreError> {
        let found = self.open(fragment)?.map_err(damaged)?;
        let (bytes, blocks) = whole_blocks(&found, &range)?;
        let payload = self.read_payload(fragment, &found, range.start, bytes)?;
        // It fits: a payload has at most 2^18 blocks.
        let first_block = u32::try_from(blocks.start).unwrap_or(u32::MAX);
        if let Some(block) =
            bad_blocks(found.header().identity.seed(), &found.tail().table, first_block, &payload).first()
        {
            return Err(StoreError::Damaged(format!("block {block} does not have the CRC of its table")));
        }
        add_share(coefficients, &payload, sums).map(StoreOk::Sums)
    }

    /// The file that [`Fragments::read`] would read from. `None` where there is none, or another has its name by now.
    pub(super) fn open_once_more(&self, fragment: FragmentKey) -> Result<Option<OpenedFragment>, StoreError> {
        let found = match self.open(fragment) {
            Err(StoreError::NotFound) => return Ok(None),
            other => other?.map_err(damaged)?,
        };
        let Found::File(kept) = &*found else { return Ok(None) };
        // Opened anew and not duplicated: flags and position are each holder's own.
        let Some(file) = self.files.open_file(fragment)? else { return Ok(None) };
        let is_it = file.metadata().is_ok_and(|metadata| kept.inode().is_ok_and(|inode| inode == metadata.ino()));
        let (payload_at, table) = (kept.layout().payload_at, kept.tail.table.clone());
        Ok(is_it.then_some(OpenedFragment { file, payload_at, table }))
    }

    fn read_payload(
        &self,
        fragment: FragmentKey,
        found: &Found,
        offset: u64,
        bytes: usize,
    ) -> Result<Body, StoreError> {
        let mut buffer = self.buffers.take(bytes).map_err(|error| StoreError::Io(error.to_string()))?;
        match self.fill(fragment, found, offset, &mut buffer, ReadFrom::Cache) {
            Ok(Ok(())) => Ok(Body::from_owner(buffer)),
            other => {
                self.forget(fragment);
                Err(other.map_or_else(|error| error, |read| read.map_or_else(damaged, |()| StoreError::NotFound)))
            }
        }
    }

    /// Reads payload from wherever the fragment was found.
    fn fill(&self, fragment: FragmentKey, found: &Found, offset: u64, buffer: &mut [u8], from: ReadFrom) -> Looked<()> {
        let error = match found {
            Found::File(file) => {
                let read = match from {
                    ReadFrom::Cache => file.read_payload(offset, buffer),
                    ReadFrom::Device => file.read_payload_from_device(offset, buffer),
                };
                return read.map_err(|error| ours(&error));
            }
            Found::Named { .. } => self.files.read(fragment, found.layout().payload_at + offset, buffer, from).err(),
        };
        error.map_or(Ok(Ok(())), |error| finding(error).map(Err))
    }

    /// The record in a fragment's tail.
    pub(super) fn record(&self, fragment: FragmentKey) -> Result<Body, StoreError> {
        let found = self.open(fragment)?.map_err(damaged)?;
        Ok(Body::copy_from_slice(&found.tail().record_bytes))
    }

    /// Reads a fragment whole, from the device, and judges it.
    pub(super) fn check(&self, fragment: FragmentKey, hash: Option<RecordHash>) -> Result<StoreOk, StoreError> {
        let (mut root, mut bytes) = (None, 0);
        let class = match self.look(fragment, ReadFrom::Device)? {
            Err((class, _)) => class,
            Ok(found) => {
                bytes = found.layout().payload_bytes;
                match self.check_payload(fragment, &found, &mut root)? {
                    Err((class, _)) => class,
                    Ok(()) => {
                        let carried = ExtentRecord::hash(&found.tail().record_bytes);
                        let is_it = hash.is_none_or(|hash| hash.0 == *carried.as_bytes());
                        if is_it { Class::Healthy } else { Class::Conflict }
                    }
                }
            }
        };
        if class != Class::Healthy {
            self.forget(fragment);
        }
        Ok(StoreOk::Checked { class: class.as_str().to_owned(), root, bytes })
    }

    fn check_payload(&self, fragment: FragmentKey, found: &Found, root: &mut Option<[u8; 32]>) -> Looked<()> {
        let bytes = found.layout().payload_bytes;
        let seed = found.header().identity.seed();
        let (tree, bad) = (SharedTree::new(bytes), AtomicU64::new(0));
        let io = |error: &dyn std::fmt::Display| StoreError::Io(error.to_string());
        let buffer = |bytes| self.buffers.take(bytes).map_err(|error| Err(io(&error)));
        let look = |offset: u64, piece: &mut [u8]| {
            self.fill(fragment, found, offset, piece, ReadFrom::Device).map_err(Err)?.map_err(Ok)?;
            let wrong = bad_blocks(seed, &found.tail().table, first_block(offset), piece).len() as u64;
            bad.fetch_add(wrong, Ordering::Relaxed);
            tree.add(offset, piece).map_err(|error| Err(io(&error)))
        };
        match each_piece(bytes, SLICE_BYTES, buffer, look) {
            Ok(()) => {}
            Err(Ok(finding)) => return Ok(Err(finding)),
            Err(Err(error)) => return Err(error),
        }
        let payload = tree.finish().map_err(|error| io(&error))?;
        let computed = found.header().identity.root(&payload);
        *root = Some(*computed.as_bytes());
        Ok(judge_payload(bad.into_inner(), &computed, &found.tail().root))
    }
}
