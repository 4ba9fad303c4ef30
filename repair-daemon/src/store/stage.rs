//! Fragments on their way in: files without a name, hashed as they arrive.
//!
//! The root is that of the bytes as received, never of bytes read back: those are only compared with it, where [`ReadBack`] says so. A stage that met
//! any error is gone: what a failed write or sync left on the disk is not known, and a second sync of the same file would not tell.

use super::contract::{FragmentStore, Published, Staged};
use super::read_back::{ReadBack, ReadBacks, Written};
use super::{Fence, invalid};
use crate::files::slices::ShardSums;
use ec_core::fragment::{Hash, Header, build_tail};
use ec_core::geometry::BLOCK_BYTES;
use repair_core::id::ExtentKey;
use repair_core::node::{Body, StoreError, StoreOk};
use repair_core::wire::node::{FragmentKey, StageKey};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
}

enum State {
    Receiving(ShardSums),
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
        let sums = ShardSums::new(header.identity.seed(), header.identity.payload_bytes);
        let stage = Stage { file, header, state: State::Receiving(sums) };
        self.open().insert(key, Arc::new(Mutex::new(stage)));
        Ok(StoreOk::Done)
    }

    /// Forgets a stage, if there is one.
    pub(super) fn forget(&self, key: StageKey) {
        let dropped = self.open().remove(&key);
        // Outside the lock: freeing the blocks of a large file takes a while.
        drop(dropped);
    }

    /// Runs a step of a stage; a stage whose step fails is forgotten.
    fn step<T>(&self, key: StageKey, step: impl FnOnce(&mut Stage) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let stage = self.open().get(&key).map(Arc::clone).ok_or_else(|| invalid("nothing is staged under this key"))?;
        let result = step(&mut stage.lock().unwrap_or_else(PoisonError::into_inner));
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
        self.step(key, |stage| stage.write(offset, body))
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

impl Stage {
    fn write(&mut self, offset: u64, body: &[u8]) -> Result<StoreOk, StoreError> {
        let State::Receiving(sums) = &self.state else { return Err(invalid("the stage is sealed")) };
        let block = BLOCK_BYTES as u64;
        let payload = self.header.identity.payload_bytes;
        let inside = offset.checked_add(body.len() as u64).is_some_and(|end| end <= payload);
        if !inside || !offset.is_multiple_of(block) || !body.len().is_multiple_of(BLOCK_BYTES) {
            return Err(invalid("a piece that is not whole blocks inside the payload"));
        }
        let at = self.header.layout().payload_at + offset;
        self.file.write_at(at, body)?;
        sums.add(offset, body).map_err(|error| invalid(&error.to_string()))?;
        Ok(StoreOk::Done)
    }

    fn seal(&mut self) -> Result<StoreOk, StoreError> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Receiving(sums) => {
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
        let identity = &self.header.identity;
        FragmentKey { extent, generation: identity.generation, index: identity.index.get() }
    }

    fn publish(&mut self, key: StageKey) -> Result<bool, StoreError> {
        if !matches!(self.state, State::Finished { .. }) {
            return Err(invalid("the stage is not finished"));
        }
        Ok(self.file.publish(self.fragment(key.extent))? == Published::New)
    }
}
