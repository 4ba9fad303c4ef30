//! The suite over the stores that are shipped, over wrappers, and over stores that each break one promise.

use super::*;
use repair_core::id::PgId;
use repair_core::wire::node::FragmentKey;
use std::cell::RefCell;
use std::fs;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::Duration;

const BYTES: u64 = 64 << 20;

fn crashed(store: MemoryStore) -> MemoryStore {
    store.crash();
    store
}

#[test]
fn the_store_in_memory_conforms() {
    for seed in 0..8 {
        conformance(|| MemoryStore::new(BYTES), crashed, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn the_store_in_a_folder_conforms() {
    let last = RefCell::new(None);
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path(), Unlabelled::Format).unwrap();
        *last.borrow_mut() = Some(folder);
        store
    };
    let reopen = |store: FolderStore| {
        drop(store);
        FolderStore::open(last.borrow().as_ref().unwrap().path(), Unlabelled::Format).unwrap()
    };
    conformance(make, reopen, 1).unwrap();
}

#[test]
fn a_folder_whose_label_is_gone_says_that_nothing_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path(), Unlabelled::Format).unwrap();
    conformance_away(&store, |_| fs::remove_file(folder.path().join("label")).unwrap()).unwrap();
    assert!(store.broken().is_some());
    // A store that stays where it is says what it says: the suite sees the difference.
    let store = MemoryStore::new(BYTES);
    let difference = conformance_away(&store, |_| ()).unwrap_err();
    assert!(difference.what.starts_with("probe"), "{difference}");
}

#[test]
fn full_stores_say_so_lose_nothing_and_take_as_much_again() {
    conformance_full(&MemoryStore::new(3 << 20)).unwrap();
    let difference = conformance_full(&MemoryStore::new(1 << 40)).unwrap_err();
    assert!(difference.what.contains("not a small store"), "{difference}");
    if let Some(disk) = small_disk::SmallDisk::mount("8M") {
        conformance_full(&FolderStore::open(disk.path(), Unlabelled::Format).unwrap()).unwrap();
    }
}

#[test]
fn wrappers_pass_on_what_they_are_asked() {
    let last = RefCell::new(MemoryStore::new(0));
    let inner = || {
        *last.borrow_mut() = MemoryStore::new(BYTES);
        last.borrow().clone()
    };
    let rate = Rate { bytes_per_second: NonZeroU64::MAX, operation: Duration::from_nanos(1) };
    let throttled = |store: Throttled<MemoryStore>| {
        last.borrow().crash();
        store
    };
    conformance(|| Throttled::new(inner(), rate), throttled, 2).unwrap();
    let counts = RefCell::new(Counts::default());
    let counted = |store: Counted<MemoryStore>| {
        last.borrow().crash();
        *counts.borrow_mut() = store.counts();
        store
    };
    conformance(|| Counted::new(inner()), counted, 3).unwrap();
    let counts = counts.into_inner();
    assert!(counts.begins > counts.seals && counts.seals > counts.publishes / 2, "{counts:?}");
    assert!(counts.publishes > 0 && counts.read_bytes > counts.reads && counts.failures > 0, "{counts:?}");
    let slow = Faults::default().with(Fault::Slow, 100);
    conformance(|| Faulty::new(inner(), slow.clone(), 1), |store| store.reopen(crashed), 4).unwrap();
}

#[test]
fn every_lie_of_a_medium_is_seen() {
    for fault in Fault::ALL.into_iter().filter(|fault| fault.is_lie()) {
        for seed in 0..4 {
            let faults = Faults::default().with(fault, 8);
            let make = || Faulty::new(MemoryStore::new(BYTES), faults.clone(), seed);
            let suite = conformance(make, |store| store.reopen(crashed), seed);
            assert!(suite.is_err(), "{fault:?}, seed {seed}");
        }
    }
}

#[test]
fn faults_strike_as_often_as_they_are_told_to_and_the_same_by_seed() {
    for fault in Fault::ALL {
        let work = |seed: u64| {
            let mut store = Faulty::new(MemoryStore::new(BYTES), Faults::default().with(fault, 3), seed);
            let mut answers = Vec::new();
            for number in 0..60 {
                answers.push(format!("{:?}", used(&store, number)));
                // Broken by a sync, it takes nothing any more until it is opened again.
                let is_refused = matches!(store.begin(1), Err(StoreError::Io(_)));
                assert!(store.broken().is_none() || is_refused);
                store = store.reopen(|inner| inner);
            }
            (answers, store.struck(fault))
        };
        let (once, again, other) = (work(1), work(1), work(2));
        assert!(once.1 > 5, "{fault:?} struck {} times", once.1);
        assert_eq!(once, again, "{fault:?}");
        assert!(fault == Fault::Slow || once.0 != other.0, "{fault:?}: two seeds, one course");
        let quiet = Faulty::new(MemoryStore::new(BYTES), Faults::default().with(fault, 0), 1);
        (0..20).for_each(|number| drop(used(&quiet, number)));
        assert_eq!(quiet.struck(fault), 0);
    }
}

fn fragment(extent: u64) -> FragmentKey {
    use repair_core::id::{CellKey, ExtentKey};
    FragmentKey { extent: ExtentKey::compose(CellKey(1 << 90), PgId(4), 1, extent), generation: 1, index: 0 }
}

/// A bit of everything; what came of it.
fn used<S: FragmentStore>(store: &S, number: u8) -> Result<(Vec<u8>, Vec<FragmentKey>), StoreError> {
    let key = fragment(u64::from(number % 3));
    let mut stage = store.begin(16_384)?;
    (0..4).try_for_each(|piece| stage.write_at(piece * 4096, &[number + piece as u8; 4096]))?;
    stage.seal(16_384)?;
    let _ = stage.publish(key)?;
    store.sync(key.extent.pg())?;
    let mut read = vec![0; 8192];
    store.read(key, 0, &mut read, ReadFrom::Device)?;
    let listed = store.list(key.extent.pg(), None, 10)?;
    store.set_aside(key, "test")?;
    store.purge(key)?;
    Ok((read, listed))
}

/// A store that breaks one promise.
#[derive(Debug)]
struct Wrong {
    inner: MemoryStore,
    label: Mutex<Option<Label>>,
    fault: &'static str,
}

#[derive(Debug)]
struct WrongStage {
    inner: Box<dyn Staged>,
    store: MemoryStore,
    fault: &'static str,
    room_bytes: u64,
}

const FAULTS: [&str; 18] = [
    "publish replaces",
    "publish looks and then acts",
    "publish of what is not sealed",
    "publish of nothing",
    "seal is not durable",
    "seal keeps the room",
    "read back of other bytes",
    "unreadable is not found",
    "short reads",
    "names are not durable",
    "listings lose a name",
    "listings are out of order",
    "listings begin anew",
    "listings are too long",
    "what is set aside is forgotten",
    "set aside leaves the name",
    "purge takes the name",
    "labels are replaced",
];

impl Wrong {
    fn new(fault: &'static str) -> Self {
        Self { inner: MemoryStore::new(BYTES), label: Mutex::default(), fault }
    }

    fn crash(self) -> Self {
        self.inner.crash();
        if self.fault == "seal is not durable" {
            for pg in [PgId(7), PgId(0xffff_ffff)] {
                self.inner.list(pg, None, 100).unwrap().into_iter().for_each(|fragment| self.tear(fragment));
                self.inner.sync(pg).unwrap();
            }
        }
        self
    }

    /// The last half of a file never reached the disk.
    fn tear(&self, fragment: FragmentKey) {
        let bytes = self.inner.length(fragment).unwrap();
        let mut half = vec![0; bytes as usize / 2];
        self.inner.read(fragment, 0, &mut half, ReadFrom::Cache).unwrap();
        self.inner.set_aside(fragment, "").unwrap();
        self.inner.purge(fragment).unwrap();
        let mut stage = self.inner.begin(bytes).unwrap();
        stage.write_at(0, &half).unwrap();
        stage.seal(bytes).unwrap();
        assert_eq!(stage.publish(fragment), Ok(Published::New));
    }
}

impl FragmentStore for Wrong {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn label(&self) -> Result<Option<Label>, StoreError> {
        if self.fault == "labels are replaced" { Ok(*self.label.lock().unwrap()) } else { self.inner.label() }
    }

    fn set_label(&self, label: Label) -> Result<(), StoreError> {
        if self.fault != "labels are replaced" {
            return self.inner.set_label(label);
        }
        *self.label.lock().unwrap() = Some(label);
        Ok(())
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe()
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
        let (inner, store) = (self.inner.begin(bytes)?, self.inner.clone());
        Ok(Box::new(WrongStage { inner, store, fault: self.fault, room_bytes: bytes }))
    }

    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError> {
        self.inner.length(fragment)
    }

    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], from: ReadFrom) -> Result<(), StoreError> {
        match self.inner.read(fragment, offset, buffer, from) {
            Err(StoreError::Damaged(_)) if self.fault == "unreadable is not found" => Err(StoreError::NotFound),
            Err(StoreError::Damaged(_)) if self.fault == "short reads" => Ok(()),
            other => other,
        }
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        let after = after.filter(|_| self.fault != "listings begin anew");
        let max = if self.fault == "listings are too long" { usize::MAX } else { max };
        let mut names = self.inner.list(pg, after, max)?;
        match self.fault {
            "listings lose a name" => drop(names.pop()),
            "listings are out of order" => names.reverse(),
            _ => {}
        }
        Ok(names)
    }

    fn set_aside(&self, fragment: FragmentKey, reason: &str) -> Result<(), StoreError> {
        if self.fault == "set aside leaves the name" {
            return self.inner.length(fragment).map(drop);
        }
        self.inner.set_aside(fragment, reason)?;
        if self.fault == "what is set aside is forgotten" { self.inner.purge(fragment) } else { Ok(()) }
    }

    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        if self.fault == "purge takes the name" {
            let _ = self.inner.set_aside(fragment, "");
        }
        self.inner.purge(fragment)
    }

    fn sync(&self, pg: PgId) -> Result<(), StoreError> {
        if self.fault == "names are not durable" { Ok(()) } else { self.inner.sync(pg) }
    }

    fn room(&self) -> Result<Room, StoreError> {
        self.inner.room()
    }
}

impl WrongStage {
    fn replace(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        loop {
            if self.inner.publish(fragment)? == Published::New {
                return Ok(Published::New);
            }
            let _ = self.store.set_aside(fragment, "");
            self.store.purge(fragment)?;
        }
    }
}

impl Staged for WrongStage {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.write_at(offset, bytes)
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_back(offset, buffer)?;
        if self.fault == "read back of other bytes" {
            buffer.fill(0xff);
        }
        Ok(())
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.inner.seal(if self.fault == "seal keeps the room" { self.room_bytes } else { bytes })
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        match self.fault {
            "publish replaces" => self.replace(fragment),
            "publish looks and then acts" if self.store.length(fragment) == Err(StoreError::NotFound) => {
                std::thread::sleep(Duration::from_millis(3));
                self.replace(fragment)
            }
            "publish of what is not sealed" => {
                let _ = self.inner.seal(self.room_bytes);
                self.inner.publish(fragment)
            }
            "publish of nothing" => Ok(Published::New),
            _ => self.inner.publish(fragment),
        }
    }
}

#[test]
fn each_broken_promise_is_refused() {
    conformance(|| Wrong::new("none"), Wrong::crash, 1).unwrap();
    for fault in FAULTS {
        for seed in 0..3 {
            let suite = conformance(|| Wrong::new(fault), Wrong::crash, seed);
            assert!(suite.is_err(), "{fault}, seed {seed}");
        }
    }
}
