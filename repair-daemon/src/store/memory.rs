//! A store in memory, for tests and for trying things out. A crash loses what a crash may lose: stages, and names that were not synced.

use super::contract::{Capabilities, FragmentStore, Published, ReadFrom, Room, Staged};
use super::invalid;
use super::label::Label;
use repair_core::id::PgId;
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Few, so that whoever lists meets the end of a page.
const LIST_MAX: usize = 64;

/// A store in memory. A clone is another handle of the same.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    label: Option<Label>,
    files: BTreeMap<FragmentKey, Named>,
    aside: BTreeMap<FragmentKey, Vec<Arc<[u8]>>>,
    total_bytes: u64,
    /// Of files, of what was set aside and of open stages.
    used_bytes: u64,
    /// Rises with every crash: stages of an earlier life are of no more use.
    life: u64,
}

#[derive(Debug)]
struct Named {
    bytes: Arc<[u8]>,
    is_durable: bool,
}

/// A stage; its room is counted as used until it is dropped or has a name.
#[derive(Debug)]
struct StagedBytes {
    store: MemoryStore,
    life: u64,
    room_bytes: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Open(Vec<u8>),
    Sealed(Arc<[u8]>),
    Named,
}

impl MemoryStore {
    /// An empty store for so many bytes.
    pub fn new(total_bytes: u64) -> Self {
        let (files, aside) = (BTreeMap::new(), BTreeMap::new());
        let state = State { label: None, files, aside, total_bytes, used_bytes: 0, life: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Loses what was not made durable.
    pub fn crash(&self) {
        let mut state = self.lock();
        state.files.retain(|_, named| named.is_durable);
        let aside = state.aside.values().flatten().map(|bytes| bytes.len() as u64);
        let files = state.files.values().map(|named| named.bytes.len() as u64);
        state.used_bytes = files.chain(aside).sum();
        state.life += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, fragment: FragmentKey) -> Result<Arc<[u8]>, StoreError> {
        self.lock().files.get(&fragment).map(|named| Arc::clone(&named.bytes)).ok_or(StoreError::NotFound)
    }
}

/// Where a piece of so many bytes lies, if it is inside.
fn piece(offset: u64, piece_bytes: usize, all_bytes: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(piece_bytes)?;
    (end <= all_bytes).then_some(start..end)
}

impl FragmentStore for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities { direct_reads: true, in_place_writes: true, durable_names: false, list_max: LIST_MAX }
    }

    fn label(&self) -> Result<Option<Label>, StoreError> {
        Ok(self.lock().label)
    }

    fn set_label(&self, label: Label) -> Result<(), StoreError> {
        let mut state = self.lock();
        Label::check_change(state.label, label)?;
        state.label = Some(label);
        Ok(())
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
        let mut state = self.lock();
        let free_bytes = state.total_bytes - state.used_bytes;
        if bytes > free_bytes {
            return Err(StoreError::NoSpace(format!("{bytes} bytes wanted, {free_bytes} free")));
        }
        let length = usize::try_from(bytes).map_err(|_| invalid("more bytes than memory has addresses"))?;
        state.used_bytes += bytes;
        let content = Content::Open(vec![0; length]);
        Ok(Box::new(StagedBytes { store: self.clone(), life: state.life, room_bytes: bytes, content }))
    }

    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError> {
        self.find(fragment).map(|bytes| bytes.len() as u64)
    }

    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], _: ReadFrom) -> Result<(), StoreError> {
        let bytes = self.find(fragment)?;
        let range = piece(offset, buffer.len(), bytes.len());
        let range = range.ok_or_else(|| StoreError::Damaged("ends before".into()))?;
        buffer.copy_from_slice(&bytes[range]);
        Ok(())
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        let state = self.lock();
        let wanted = |key: &&FragmentKey| key.extent.pg() == pg && after.is_none_or(|after| **key > after);
        Ok(state.files.keys().filter(wanted).take(max.min(LIST_MAX)).copied().collect())
    }

    fn set_aside(&self, fragment: FragmentKey, _: &str) -> Result<(), StoreError> {
        let mut state = self.lock();
        match state.files.remove(&fragment) {
            Some(named) => state.aside.entry(fragment).or_default().push(named.bytes),
            None if state.aside.contains_key(&fragment) => {}
            None => return Err(StoreError::NotFound),
        }
        Ok(())
    }

    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        let mut state = self.lock();
        let removed = state.aside.remove(&fragment).unwrap_or_default();
        state.used_bytes -= removed.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        Ok(())
    }

    fn sync(&self, pg: PgId) -> Result<(), StoreError> {
        let mut state = self.lock();
        let names = state.files.iter_mut().filter(|(key, _)| key.extent.pg() == pg);
        names.for_each(|(_, named)| named.is_durable = true);
        Ok(())
    }

    fn room(&self) -> Result<Room, StoreError> {
        let state = self.lock();
        Ok(Room { free_bytes: state.total_bytes - state.used_bytes, total_bytes: state.total_bytes })
    }
}

impl StagedBytes {
    fn of_this_life(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.store.lock();
        if state.life == self.life { Ok(state) } else { Err(StoreError::Io("the stage is of an earlier life".into())) }
    }
}

impl Staged for StagedBytes {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        drop(self.of_this_life()?);
        let Content::Open(content) = &mut self.content else { return Err(invalid("the stage is sealed")) };
        let range = piece(offset, bytes.len(), content.len());
        let range = range.ok_or_else(|| invalid("a piece outside the room reserved"))?;
        content[range].copy_from_slice(bytes);
        Ok(())
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let content: &[u8] = match &self.content {
            Content::Open(bytes) => bytes,
            Content::Sealed(bytes) => bytes,
            Content::Named => return Err(invalid("the stage has a name")),
        };
        let range = piece(offset, buffer.len(), content.len());
        buffer.copy_from_slice(&content[range.ok_or_else(|| invalid("a piece outside the room reserved"))?]);
        Ok(())
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        let mut state = self.of_this_life()?;
        let Content::Open(content) = &self.content else { return Err(invalid("the stage is sealed")) };
        let range = usize::try_from(bytes).ok().and_then(|length| piece(0, length, content.len()));
        let sealed = &content[range.ok_or_else(|| invalid("longer than the room reserved"))?];
        let sealed = Content::Sealed(sealed.into());
        state.used_bytes -= self.room_bytes - bytes;
        drop(state);
        (self.content, self.room_bytes) = (sealed, bytes);
        Ok(())
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        let mut state = self.of_this_life()?;
        let Content::Sealed(bytes) = &self.content else {
            return Err(invalid("the stage is not sealed, or has a name"));
        };
        if state.files.contains_key(&fragment) {
            return Ok(Published::NameTaken);
        }
        state.files.insert(fragment, Named { bytes: Arc::clone(bytes), is_durable: false });
        drop(state);
        // The room is the name's from here on.
        (self.content, self.room_bytes) = (Content::Named, 0);
        Ok(Published::New)
    }
}

impl Drop for StagedBytes {
    fn drop(&mut self) {
        if let Ok(mut state) = self.of_this_life() {
            state.used_bytes -= self.room_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::id::{CellKey, ExtentKey};

    const PG: PgId = PgId(3);

    fn key(counter: u64) -> FragmentKey {
        FragmentKey { extent: ExtentKey::compose(CellKey(1 << 100), PG, 1, counter), generation: 1, index: 0 }
    }

    fn put(store: &MemoryStore, fragment: FragmentKey, bytes: &[u8]) {
        let mut stage = store.begin(bytes.len() as u64 + 10).unwrap();
        stage.write_at(0, bytes).unwrap();
        stage.seal(bytes.len() as u64).unwrap();
        assert_eq!(stage.publish(fragment), Ok(Published::New));
    }

    #[test]
    fn a_crash_takes_stages_and_names_that_were_not_synced() {
        let store = MemoryStore::new(1000);
        put(&store, key(1), &[1; 100]);
        store.sync(PG).unwrap();
        put(&store, key(2), &[2; 100]);
        let mut stage = store.begin(300).unwrap();
        stage.seal(300).unwrap();
        assert_eq!(store.room().unwrap().free_bytes, 500);
        store.crash();
        assert_eq!(store.list(PG, None, 10), Ok(vec![key(1)]));
        assert!(matches!(stage.publish(key(3)), Err(StoreError::Io(_))));
        drop(stage);
        assert_eq!(store.room().unwrap().free_bytes, 900, "what was lost takes no room");
    }

    #[test]
    fn room_is_what_files_and_stages_leave() {
        let store = MemoryStore::new(1000);
        put(&store, key(1), &[1; 400]);
        assert!(matches!(store.begin(601), Err(StoreError::NoSpace(_))));
        drop(store.begin(600).unwrap());
        store.set_aside(key(1), "").unwrap();
        assert_eq!(store.room().unwrap().free_bytes, 600);
        store.purge(key(1)).unwrap();
        assert_eq!(store.room(), Ok(Room { free_bytes: 1000, total_bytes: 1000 }));
    }
}
