//! Fragments on their way in: files without a name, hashed as they arrive.
//!
//! The root is that of the bytes as received, never of bytes read back: those are only compared with it, where [`ReadBack`] says so. But of what an
//! earlier opening of a kept stage left, it is of the bytes as they come from the device: nothing else is there any more. A stage that met
//! any error is gone: what a failed write or sync left on the disk is not known, and a second sync of the same file would not tell.

use super::contract::{FragmentStore, Published, Staged};
use super::read_back::{ReadBack, ReadBacks, Written};
use super::{Fence, as_store_error, invalid};
use crate::buffers::BufferPool;
use crate::files::slices::ShardSums;
use ec_core::fragment::{Hash, Header, Layout, build_tail};
use ec_core::geometry::BLOCK_BYTES;
use repair_core::id::ExtentKey;
use repair_core::limits::KEPT_RANGES_MAX;
use repair_core::node::{Body, StoreError, StoreOk};
use repair_core::wire::node::{FragmentKey, StageKey};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of a kept stage so much may come before it is made durable and remembered: what is lost is less than a slice of all sources, and the syncs are
/// few beside the bytes.
const CHECKPOINT_BYTES_MIN: u64 = 1 << 20;
/// Checkpoints of a long fragment.
const CHECKPOINTS: u64 = 64;
/// A shorter payload is rebuilt anew as quickly as it is found again, and is not kept.
const KEPT_BYTES_MIN: u64 = 4 * CHECKPOINT_BYTES_MIN;
/// Read at a time of what was kept.
const PIECE_BYTES: usize = 1 << 20;

/// All stages of a disk.
#[derive(Debug)]
pub struct Stages {
    open: Mutex<HashMap<StageKey, Arc<Mutex<Stage>>>>,
    pub(super) read_backs: ReadBacks,
}

#[derive(Debug)]
struct Stage {
    file: Box<dyn Staged>,
    header: Header,
    state: State,
    /// Of the payload, what an earlier opening left: hashed when it is sealed, from the device.
    found: Vec<Range<u64>>,
    /// Payload that came since the last checkpoint; none for one that is not kept.
    since_checkpoint: Option<u64>,
}

enum State {
    /// Pieces are summed while others are written.
    Receiving(Arc<ShardSums>),
    Sealed {
        root: Hash,
        table: Vec<u32>,
    },
    Finished {
        record: Hash,
    },
    /// An operation failed, or is under way.
    Broken,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Receiving(_) => "Receiving",
            Self::Sealed { .. } => "Sealed",
            Self::Finished { .. } => "Finished",
            Self::Broken => "Broken",
        })
    }
}

impl Stages {
    pub(super) fn new(read_back: ReadBack) -> Self {
        Self { open: Mutex::default(), read_backs: ReadBacks::new(read_back) }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<StageKey, Arc<Mutex<Stage>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stage with room for its whole file; one of the same key is dropped.
    pub(super) fn begin(
        &self,
        files: &dyn FragmentStore,
        key: StageKey,
        header: Header,
    ) -> Result<StoreOk, StoreError> {
        self.forget(key);
        let file = files.begin(header.layout().file_bytes)?;
        self.add(key, Stage::new(file, header, Vec::new(), None));
        Ok(StoreOk::Done)
    }

    fn add(&self, key: StageKey, stage: Stage) {
        self.open().insert(key, Arc::new(Mutex::new(stage)));
    }

    /// Opens a stage that outlives this process, or goes on with the one that is there, where the store keeps one of this length.
    pub(super) fn keep(&self, files: &dyn FragmentStore, key: StageKey, header: Header) -> Result<StoreOk, StoreError> {
        self.forget(key);
        let (layout, identity) = (header.layout(), Hash::of(&header.to_bytes()));
        let fragment = fragment(&header, key.extent);
        let kept = match layout.payload_bytes {
            KEPT_BYTES_MIN.. => files.begin_kept(fragment, *identity.as_bytes(), layout.file_bytes)?,
            _ => None,
        };
        let Some(file) = kept else {
            return self.begin(files, key, header).map(|_| StoreOk::Kept(None));
        };
        let found = payload_blocks(&layout, file.found());
        let written = found.iter().map(|range| (range.start, range.end)).collect();
        self.add(key, Stage::new(file, header, found, Some(0)));
        Ok(StoreOk::Kept(Some(written)))
    }

    /// Lets go of a kept stage, which stays.
    pub(super) fn leave(&self, key: StageKey) -> Result<StoreOk, StoreError> {
        let left = self.step(key, |stage| stage.file.leave());
        self.forget(key);
        left.map(|()| StoreOk::Done)
    }

    /// Forgets a stage, if there is one.
    pub(super) fn forget(&self, key: StageKey) {
        let dropped = self.open().remove(&key);
        // Outside the lock: freeing the blocks of a large file takes a while.
        drop(dropped);
    }

    /// Runs a step of a stage; a stage whose step fails is forgotten.
    fn step<T>(&self, key: StageKey, step: impl FnOnce(&mut Stage) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.shared_step(key, |stage| step(&mut locked(stage)))
    }

    /// A step that takes the stage for itself only where it must.
    fn shared_step<T>(
        &self,
        key: StageKey,
        step: impl FnOnce(&Mutex<Stage>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let stage = self.open().get(&key).map(Arc::clone).ok_or_else(|| invalid("nothing is staged under this key"))?;
        let result = step(&stage);
        if result.is_err() {
            let mut open = self.open();
            // It may have been begun anew meanwhile.
            if open.get(&key).is_some_and(|current| Arc::ptr_eq(current, &stage)) {
                open.remove(&key);
            }
        }
        result
    }

    pub(super) fn write(&self, key: StageKey, offset: u64, body: &[u8]) -> Result<StoreOk, StoreError> {
        self.shared_step(key, |stage| {
            let sums = locked(stage).write(offset, body)?;
            // Outside the lock: the next piece is written meanwhile. Dropped before it is answered, and so before the seal.
            sums.add(offset, body).map_err(|error| invalid(&error.to_string()))?;
            Ok(StoreOk::Done)
        })
    }

    pub(super) fn seal(&self, key: StageKey) -> Result<StoreOk, StoreError> {
        self.step(key, Stage::seal)
    }

    pub(super) fn finish(&self, key: StageKey, record: &Body, fence: &Fence) -> Result<StoreOk, StoreError> {
        let prove =
            |fragment, file: &dyn Staged, written: &Written| self.read_backs.prove(fragment, file, written, fence);
        self.step(key, |stage| stage.finish(key.extent, record, prove))
    }

    /// Gives a finished stage its name and forgets it; false, and nothing changed, where the name is taken.
    pub(super) fn publish(&self, key: StageKey) -> Result<bool, StoreError> {
        let published = self.step(key, |stage| stage.publish(key))?;
        if published {
            self.forget(key);
        }
        Ok(published)
    }

    /// The fragment that a stage becomes; its key does not say the generation.
    pub(super) fn fragment(&self, key: StageKey) -> Result<FragmentKey, StoreError> {
        self.step(key, |stage| Ok(stage.fragment(key.extent)))
    }
}

/// An orderly end leaves what a crash would leave, and the rest of it too.
impl Drop for Stages {
    fn drop(&mut self) {
        for (_, stage) in self.open().drain() {
            let mut stage = locked(&stage);
            if stage.since_checkpoint.is_some() && !matches!(stage.state, State::Broken) {
                // What cannot be left is discarded.
                let _ = stage.file.leave();
            }
        }
    }
}

fn locked(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fragment that a stage becomes.
fn fragment(header: &Header, extent: ExtentKey) -> FragmentKey {
    let identity = &header.identity;
    FragmentKey { extent, generation: identity.generation, index: identity.index.get() }
}

/// The whole blocks of payload in ranges of a file, as ranges of the payload; no more of them than are told.
fn payload_blocks(layout: &Layout, found: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let block = BLOCK_BYTES as u64;
    let in_payload = |at: u64| at.saturating_sub(layout.payload_at).min(layout.payload_bytes);
    let blocks = found
        .into_iter()
        .map(|range| in_payload(range.start).next_multiple_of(block)..in_payload(range.end) / block * block);
    blocks.filter(|range| !range.is_empty()).take(KEPT_RANGES_MAX).collect()
}

impl Stage {
    fn new(file: Box<dyn Staged>, header: Header, found: Vec<Range<u64>>, since_checkpoint: Option<u64>) -> Self {
        let sums = ShardSums::new(header.identity.seed(), header.identity.payload_bytes);
        Self { file, header, state: State::Receiving(Arc::new(sums)), found, since_checkpoint }
    }

    /// Writes a piece and gives what has yet to sum it.
    fn write(&mut self, offset: u64, body: &[u8]) -> Result<Arc<ShardSums>, StoreError> {
        let State::Receiving(sums) = &self.state else { return Err(invalid("the stage is sealed")) };
        let sums = Arc::clone(sums);
        let block = BLOCK_BYTES as u64;
        let payload = self.header.identity.payload_bytes;
        let inside = offset.checked_add(body.len() as u64).is_some_and(|end| end <= payload);
        if !inside || !offset.is_multiple_of(block) || !body.len().is_multiple_of(BLOCK_BYTES) {
            return Err(invalid("a piece that is not whole blocks inside the payload"));
        }
        let at = self.header.layout().payload_at + offset;
        self.file.write_at(at, body)?;
        self.checkpoint(body.len() as u64)?;
        Ok(sums)
    }

    /// Of a kept stage, makes durable what has come once it is worth it.
    fn checkpoint(&mut self, bytes: u64) -> Result<(), StoreError> {
        let Some(since) = &mut self.since_checkpoint else { return Ok(()) };
        *since += bytes;
        if *since >= CHECKPOINT_BYTES_MIN.max(self.header.identity.payload_bytes / CHECKPOINTS) {
            *since = 0;
            self.file.checkpoint()?;
        }
        Ok(())
    }

    /// Takes what an earlier opening left into the hash, as it comes from the device: memory may hold what never reached it.
    fn hash_found(&self, sums: &ShardSums) -> Result<(), StoreError> {
        if self.found.is_empty() {
            return Ok(());
        }
        let memory = |error| as_store_error("have memory to read a fragment back", &io::Error::other(error));
        let mut buffer = BufferPool::shared().take(PIECE_BYTES).map_err(memory)?;
        let payload_at = self.header.layout().payload_at;
        for range in &self.found {
            for offset in range.clone().step_by(PIECE_BYTES) {
                let bytes = usize::try_from(range.end - offset).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
                self.file.read_back(payload_at + offset, &mut buffer[..bytes])?;
                sums.add(offset, &buffer[..bytes]).map_err(|error| invalid(&error.to_string()))?;
            }
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<StoreOk, StoreError> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Receiving(sums) => {
                self.hash_found(&sums)?;
                let sums = Arc::into_inner(sums).ok_or_else(|| invalid("a piece is still on its way"))?;
                // A piece missing or sent twice.
                let (payload, table) = sums.finish().map_err(|error| invalid(&error.to_string()))?;
                let root = self.header.identity.root(&payload);
                self.state = State::Sealed { root, table };
                Ok(StoreOk::Root(*root.as_bytes()))
            }
            State::Sealed { root, table } => {
                self.state = State::Sealed { root, table };
                Ok(StoreOk::Root(*root.as_bytes()))
            }
            State::Finished { .. } | State::Broken => Err(invalid("the stage is finished")),
        }
    }

    fn finish(
        &mut self,
        extent: ExtentKey,
        record: &Body,
        prove: impl FnOnce(FragmentKey, &dyn Staged, &Written) -> Result<(), StoreError>,
    ) -> Result<StoreOk, StoreError> {
        let hash = Hash::of(record);
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Sealed { root, table } => {
                let written = self.write_frame(record, root, &table)?;
                self.file.seal(self.header.layout().file_bytes)?;
                prove(self.fragment(extent), &*self.file, &written)?;
                self.state = State::Finished { record: hash };
                Ok(StoreOk::Done)
            }
            State::Finished { record } if record == hash => {
                self.state = State::Finished { record };
                Ok(StoreOk::Done)
            }
            State::Receiving(_) => Err(invalid("the stage is not sealed")),
            State::Finished { .. } | State::Broken => Err(invalid("the stage is finished with another record")),
        }
    }

    /// Writes what surrounds the payload, now that the record is known.
    fn write_frame(&mut self, record: &[u8], root: Hash, table: &[u32]) -> Result<Written, StoreError> {
        self.header.record_bytes =
            u32::try_from(record.len()).map_err(|_| invalid("a record longer than any can be"))?;
        let header_bytes = self.header.to_bytes();
        let tail = build_tail(&self.header, &header_bytes, table, record, &root)
            .map_err(|error| invalid(&error.to_string()))?;
        self.file.write_at(0, &header_bytes)?;
        self.file.write_at(self.header.layout().table_at, &tail)?;
        Ok(Written { header: self.header, header_bytes: header_bytes.to_vec(), tail, root })
    }

    fn fragment(&self, extent: ExtentKey) -> FragmentKey {
        fragment(&self.header, extent)
    }

    fn publish(&mut self, key: StageKey) -> Result<bool, StoreError> {
        if !matches!(self.state, State::Finished { .. }) {
            return Err(invalid("the stage is not finished"));
        }
        Ok(self.file.publish(self.fragment(key.extent))? == Published::New)
    }
}
