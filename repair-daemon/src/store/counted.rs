//! What a store is asked for, counted: how many operations of each kind, and how many bytes.

use super::contract::{Capabilities, FragmentStore, Published, ReadFrom, Room, Staged};
use super::label::Label;
use repair_core::id::PgId;
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations begun, whether they ended well or not, and bytes of those that did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stages begun.
    pub begins: u64,
    /// Pieces written.
    pub writes: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Pieces of stages read back.
    pub read_backs: u64,
    /// Checkpoints of kept stages, and lettings go of them.
    pub checkpoints: u64,
    /// Stages sealed.
    pub seals: u64,
    /// Names given, or found taken.
    pub publishes: u64,
    /// Pieces read.
    pub reads: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Files opened for others to read from: what they read is not counted.
    pub opens: u64,
    /// Lengths asked for.
    pub lengths: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Names taken away.
    pub set_asides: u64,
    /// Removals of what was set aside.
    pub purges: u64,
    /// Syncs of names.
    pub syncs: u64,
    /// Looks whether the store is there.
    pub probes: u64,
    /// Operations that failed. That something is not there is an answer and no failure.
    pub failures: u64,
}

/// One counter each, in the order of [`Counts`].
#[derive(Clone, Copy)]
enum Kind {
    Begin,
    Write,
    WrittenBytes,
    ReadBack,
    Checkpoint,
    Seal,
    Publish,
    Read,
    ReadBytes,
    Open,
    Length,
    List,
    SetAside,
    Purge,
    Sync,
    Probe,
    Failure,
}

#[derive(Debug, Default)]
struct Counters([AtomicU64; 17]);

impl Counters {
    fn add(&self, kind: Kind, number: u64) {
        self.0[kind as usize].fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self, kind: Kind) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }

    fn count<T>(&self, kind: Kind, job: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.add(kind, 1);
        job().inspect_err(|error| {
            if *error != StoreError::NotFound {
                self.add(Kind::Failure, 1);
            }
        })
    }
}

/// A store whose operations are counted.
#[derive(Debug)]
pub struct Counted<S> {
    inner: S,
    counters: Arc<Counters>,
}

impl<S: FragmentStore> Counted<S> {
    /// Counts from here on.
    pub fn new(inner: S) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// What was counted so far. Each number is right; under way, they are not of one moment.
    pub fn counts(&self) -> Counts {
        let get = |kind| self.counters.get(kind);
        Counts {
            begins: get(Kind::Begin),
            writes: get(Kind::Write),
            written_bytes: get(Kind::WrittenBytes),
            read_backs: get(Kind::ReadBack),
            checkpoints: get(Kind::Checkpoint),
            seals: get(Kind::Seal),
            publishes: get(Kind::Publish),
            reads: get(Kind::Read),
            read_bytes: get(Kind::ReadBytes),
            opens: get(Kind::Open),
            lengths: get(Kind::Length),
            lists: get(Kind::List),
            set_asides: get(Kind::SetAside),
            purges: get(Kind::Purge),
            syncs: get(Kind::Sync),
            probes: get(Kind::Probe),
            failures: get(Kind::Failure),
        }
    }
}

impl<S: FragmentStore> FragmentStore for Counted<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn label(&self) -> Result<Option<Label>, StoreError> {
        self.inner.label()
    }

    fn set_label(&self, label: Label) -> Result<(), StoreError> {
        self.inner.set_label(label)
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.counters.count(Kind::Probe, || self.inner.probe())
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
        let inner = self.counters.count(Kind::Begin, || self.inner.begin(bytes))?;
        Ok(Box::new(CountedStaged { inner, counters: Arc::clone(&self.counters) }))
    }

    fn begin_kept(
        &self,
        fragment: FragmentKey,
        identity: [u8; 32],
        bytes: u64,
    ) -> Result<Option<Box<dyn Staged>>, StoreError> {
        let kept = self.inner.begin_kept(fragment, identity, bytes)?;
        let counted = |inner| self.counters.count(Kind::Begin, || Ok(inner));
        let Some(inner) = kept.map(counted).transpose()? else { return Ok(None) };
        Ok(Some(Box::new(CountedStaged { inner, counters: Arc::clone(&self.counters) })))
    }

    fn kept(&self) -> Vec<FragmentKey> {
        self.inner.kept()
    }

    fn drop_kept(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.inner.drop_kept(fragment)
    }

    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError> {
        self.counters.count(Kind::Length, || self.inner.length(fragment))
    }

    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], from: ReadFrom) -> Result<(), StoreError> {
        self.counters.count(Kind::Read, || self.inner.read(fragment, offset, buffer, from))?;
        self.counters.add(Kind::ReadBytes, buffer.len() as u64);
        Ok(())
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        self.counters.count(Kind::List, || self.inner.list(pg, after, max))
    }

    fn set_aside(&self, fragment: FragmentKey, reason: &str) -> Result<(), StoreError> {
        self.counters.count(Kind::SetAside, || self.inner.set_aside(fragment, reason))
    }

    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.counters.count(Kind::Purge, || self.inner.purge(fragment))
    }

    fn sync(&self, pg: PgId) -> Result<(), StoreError> {
        self.counters.count(Kind::Sync, || self.inner.sync(pg))
    }

    fn room(&self) -> Result<Room, StoreError> {
        self.inner.room()
    }

    fn junk(&self) -> u64 {
        self.inner.junk()
    }

    fn broken(&self) -> Option<&str> {
        self.inner.broken()
    }

    fn open_file(&self, fragment: FragmentKey) -> Result<Option<File>, StoreError> {
        self.counters.count(Kind::Open, || self.inner.open_file(fragment))
    }

    fn is_still(&self, fragment: FragmentKey, file: &File) -> bool {
        self.inner.is_still(fragment, file)
    }
}

#[derive(Debug)]
struct CountedStaged {
    inner: Box<dyn Staged>,
    counters: Arc<Counters>,
}

impl Staged for CountedStaged {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.counters.count(Kind::Write, || self.inner.write_at(offset, bytes))?;
        self.counters.add(Kind::WrittenBytes, bytes.len() as u64);
        Ok(())
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.counters.count(Kind::ReadBack, || self.inner.read_back(offset, buffer))
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.counters.count(Kind::Seal, || self.inner.seal(bytes))
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        self.counters.count(Kind::Publish, || self.inner.publish(fragment))
    }

    fn found(&self) -> Vec<Range<u64>> {
        self.inner.found()
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.counters.count(Kind::Checkpoint, || self.inner.checkpoint())
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        self.counters.count(Kind::Checkpoint, || self.inner.leave())
    }
}
