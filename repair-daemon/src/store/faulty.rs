//! Faults of a medium, between a store and whoever uses it, by seed.
//!
//! Some say that they happened: a typed error, and what was done or not done is one or the other. Others are lies, which only
//! checksums above find: bytes that were not written, or elsewhere, or flipped, or old, and listings that are.

use super::contract::{Capabilities, FragmentStore, Published, ReadFrom, Room, Staged};
use super::label::Label;
use repair_core::id::PgId;
use repair_core::node::StoreError;
use repair_core::rng::Dice;
use repair_core::wire::node::FragmentKey;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long a slow operation takes longer.
const SLOW: Duration = Duration::from_millis(2);
/// How far a misdirected piece lands from its place.
const MISDIRECTED_BYTES: u64 = 4096;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An operation fails, before or after it was done.
    Eio,
    /// No room, at the beginning of a stage or in the middle of it.
    NoSpace,
    /// A sync fails: the stage is lost, or the store takes nothing any more until it is opened again.
    FailedSync,
    /// An operation takes longer.
    Slow,
    /// Only the first half of a piece is written, and said to be all. A lie.
    TornWrite,
    /// A piece is not written, and said to be. A lie.
    LostWrite,
    /// A piece is written, or read, some blocks from its place. A lie.
    Misdirected,
    /// A name gives the bytes that it had before they were set aside. A lie.
    Stale,
    /// A bit changes on its way to or from the medium. A lie.
    BitFlip,
    /// Only the first half of the buffer is filled, and said to be all. A lie.
    ShortRead,
    /// A listing is the one of some time ago. A lie.
    StaleList,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Eio,
        Self::NoSpace,
        Self::FailedSync,
        Self::Slow,
        Self::TornWrite,
        Self::LostWrite,
        Self::Misdirected,
        Self::Stale,
        Self::BitFlip,
        Self::ShortRead,
        Self::StaleList,
    ];

    /// Whether the operation says that it went well.
    pub const fn is_lie(self) -> bool {
        !matches!(self, Self::Eio | Self::NoSpace | Self::FailedSync | Self::Slow)
    }
}

/// How often each fault strikes: once in so many operations that it could strike.
#[derive(Clone, Debug, Default)]
pub struct Faults(BTreeMap<Fault, u64>);

impl Faults {
    /// These, and `fault` once in `every` operations; never for 0.
    #[must_use]
    pub fn with(mut self, fault: Fault, every: u64) -> Self {
        self.0.insert(fault, every);
        self
    }
}

/// A store whose medium is not to be trusted.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    shared: Arc<Shared>,
    broken: OnceLock<String>,
}

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    faults: Faults,
    dice: Dice,
    struck: BTreeMap<Fault, u64>,
    /// What names had before it was set aside.
    older: BTreeMap<FragmentKey, Vec<u8>>,
    /// Listings of some time ago.
    listings: BTreeMap<PgId, Vec<FragmentKey>>,
}

/// When an operation fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Not,
    Before,
    After,
}

fn injected(what: &str) -> StoreError {
    StoreError::Io(format!("injected: {what}"))
}

/// Whether an error is from here, and not from the store.
pub(super) fn is_injected(error: &StoreError) -> bool {
    match error {
        StoreError::Io(reason) | StoreError::NoSpace(reason) | StoreError::Damaged(reason) => {
            reason.starts_with("injected: ")
        }
        StoreError::NotFound | StoreError::Invalid(_) => false,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strikes(&self, fault: Fault) -> bool {
        let mut state = self.lock();
        let every = state.faults.0.get(&fault).copied().unwrap_or(0);
        let strikes = every > 0 && state.dice.chance(1, every);
        if strikes {
            *state.struck.entry(fault).or_default() += 1;
        }
        strikes
    }

    fn may_be_slow(&self) {
        if self.strikes(Fault::Slow) {
            std::thread::sleep(SLOW);
        }
    }

    fn fails(&self) -> Fails {
        self.may_be_slow();
        match self.strikes(Fault::Eio) {
            false => Fails::Not,
            true if self.lock().dice.chance(1, 2) => Fails::Before,
            true => Fails::After,
        }
    }

    /// Something that changes the store: it fails before or after it was done.
    fn changing<T>(&self, job: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let fails = self.fails();
        if fails == Fails::Before {
            return Err(injected("it failed and nothing was done"));
        }
        let done = job()?;
        if fails == Fails::After { Err(injected("it was done and failed")) } else { Ok(done) }
    }

    /// Bytes on their way in or out.
    fn may_flip(&self, bytes: &mut [u8]) {
        if !bytes.is_empty() && self.strikes(Fault::BitFlip) {
            let at = self.lock().dice.below(bytes.len() as u64 * 8);
            bytes[(at / 8) as usize] ^= 1 << (at % 8);
        }
    }
}

impl<S: FragmentStore> Faulty<S> {
    /// Faults over a store. The same seed and the same operations have the same faults.
    pub fn new(inner: S, faults: Faults, seed: u64) -> Self {
        let dice = Dice::new(seed).child("faulty-store", 0);
        let (struck, older, listings) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let state = State { faults, dice, struck, older, listings };
        Self { inner, shared: Arc::new(Shared(Mutex::new(state))), broken: OnceLock::new() }
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// How often a fault has struck.
    pub fn struck(&self, fault: Fault) -> u64 {
        self.shared.lock().struck.get(&fault).copied().unwrap_or(0)
    }

    /// Puts what `open` makes of the store in its place: a crash, or an orderly end. What was broken begins anew.
    #[must_use]
    pub fn reopen(self, open: impl FnOnce(S) -> S) -> Self {
        Self { inner: open(self.inner), shared: self.shared, broken: OnceLock::new() }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.broken.get().map_or(Ok(()), |reason| Err(injected(reason)))
    }

    /// Reading fails as a medium does: there is something, and it cannot be read.
    fn reading(&self) -> Result<(), StoreError> {
        match self.shared.fails() {
            Fails::Not => Ok(()),
            _ => Err(StoreError::Damaged("injected: it cannot be read".into())),
        }
    }

    fn whole(&self, fragment: FragmentKey) -> Option<Vec<u8>> {
        let bytes = usize::try_from(self.inner.length(fragment).ok()?).ok()?;
        let mut buffer = vec![0; bytes];
        self.inner.read(fragment, 0, &mut buffer, ReadFrom::Cache).ok().map(|()| buffer)
    }

    fn all_names(&self, pg: PgId) -> Result<Vec<FragmentKey>, StoreError> {
        let mut names: Vec<FragmentKey> = Vec::new();
        loop {
            let page = self.inner.list(pg, names.last().copied(), usize::MAX)?;
            if page.is_empty() {
                return Ok(names);
            }
            names.extend(page);
        }
    }
}

impl<S: FragmentStore> FragmentStore for Faulty<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn label(&self) -> Result<Option<Label>, StoreError> {
        self.shared.changing(|| self.inner.label())
    }

    fn set_label(&self, label: Label) -> Result<(), StoreError> {
        self.check()?;
        self.shared.changing(|| self.inner.set_label(label))
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.shared.changing(|| self.inner.probe())
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
        self.check()?;
        if self.shared.strikes(Fault::NoSpace) {
            return Err(StoreError::NoSpace("injected: nothing is free".into()));
        }
        let inner = self.shared.changing(|| self.inner.begin(bytes))?;
        Ok(Box::new(FaultyStaged { inner: Some(inner), shared: Arc::clone(&self.shared) }))
    }

    fn begin_kept(
        &self,
        fragment: FragmentKey,
        identity: [u8; 32],
        bytes: u64,
    ) -> Result<Option<Box<dyn Staged>>, StoreError> {
        self.check()?;
        if self.shared.strikes(Fault::NoSpace) {
            return Err(StoreError::NoSpace("injected: nothing is free".into()));
        }
        let inner = self.shared.changing(|| self.inner.begin_kept(fragment, identity, bytes))?;
        let staged = |inner| FaultyStaged { inner: Some(inner), shared: Arc::clone(&self.shared) };
        Ok(inner.map(|inner| Box::new(staged(inner)) as Box<dyn Staged>))
    }

    fn kept(&self) -> Vec<FragmentKey> {
        self.inner.kept()
    }

    fn drop_kept(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.shared.changing(|| self.inner.drop_kept(fragment))
    }

    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError> {
        self.reading()?;
        if self.shared.strikes(Fault::Stale)
            && let Some(older) = self.shared.lock().older.get(&fragment)
        {
            return Ok(older.len() as u64);
        }
        self.inner.length(fragment)
    }

    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], from: ReadFrom) -> Result<(), StoreError> {
        self.reading()?;
        if self.shared.strikes(Fault::Stale) {
            let state = self.shared.lock();
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let older = state.older.get(&fragment).and_then(|older| older.get(start..)?.get(..buffer.len()));
            if let Some(older) = older {
                buffer.copy_from_slice(older);
                return Ok(());
            }
        }
        if self.shared.strikes(Fault::ShortRead) {
            let half = buffer.len() / 2;
            return self.inner.read(fragment, offset, &mut buffer[..half], from);
        }
        let misdirected = self.shared.strikes(Fault::Misdirected)
            && self.inner.read(fragment, offset + MISDIRECTED_BYTES, buffer, from).is_ok();
        if !misdirected {
            self.inner.read(fragment, offset, buffer, from)?;
        }
        self.shared.may_flip(buffer);
        Ok(())
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        self.shared.changing(|| self.inner.probe())?;
        if self.shared.strikes(Fault::StaleList) {
            let state = self.shared.lock();
            let names = state.listings.get(&pg).map_or(&[][..], Vec::as_slice).iter().copied();
            let max = max.min(self.inner.capabilities().list_max);
            return Ok(names.filter(|name| after.is_none_or(|after| *name > after)).take(max).collect());
        }
        if self.shared.lock().faults.0.contains_key(&Fault::StaleList) {
            let names = self.all_names(pg)?;
            self.shared.lock().listings.insert(pg, names);
        }
        self.inner.list(pg, after, max)
    }

    fn set_aside(&self, fragment: FragmentKey, reason: &str) -> Result<(), StoreError> {
        self.check()?;
        if self.shared.lock().faults.0.contains_key(&Fault::Stale)
            && let Some(bytes) = self.whole(fragment)
        {
            self.shared.lock().older.insert(fragment, bytes);
        }
        self.shared.changing(|| self.inner.set_aside(fragment, reason))
    }

    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.check()?;
        self.shared.changing(|| self.inner.purge(fragment))
    }

    fn sync(&self, pg: PgId) -> Result<(), StoreError> {
        self.check()?;
        if self.shared.strikes(Fault::FailedSync) {
            let _ = self.broken.set("a sync failed".into());
        }
        self.check()?;
        self.shared.changing(|| self.inner.sync(pg))
    }

    fn room(&self) -> Result<Room, StoreError> {
        self.shared.changing(|| self.inner.room())
    }

    fn junk(&self) -> u64 {
        self.inner.junk()
    }

    fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str).or_else(|| self.inner.broken())
    }
}

/// A stage; gone once it failed.
#[derive(Debug)]
struct FaultyStaged {
    inner: Option<Box<dyn Staged>>,
    shared: Arc<Shared>,
}

impl FaultyStaged {
    /// Fails, and the stage with it.
    fn lost<T>(&mut self, error: StoreError) -> Result<T, StoreError> {
        self.inner = None;
        Err(error)
    }

    fn inner(&mut self) -> Result<&mut Box<dyn Staged>, StoreError> {
        self.inner.as_mut().ok_or_else(|| injected("the stage failed before"))
    }
}

impl Staged for FaultyStaged {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if self.shared.fails() != Fails::Not {
            return self.lost(injected("a write failed"));
        }
        if self.shared.strikes(Fault::NoSpace) {
            return self.lost(StoreError::NoSpace("injected: nothing is free".into()));
        }
        if self.shared.strikes(Fault::LostWrite) {
            return Ok(());
        }
        let misdirected = self.shared.strikes(Fault::Misdirected);
        let kept = if self.shared.strikes(Fault::TornWrite) { bytes.len() / 2 } else { bytes.len() };
        let mut bytes = bytes[..kept].to_vec();
        self.shared.may_flip(&mut bytes);
        let inner = self.inner()?;
        if !misdirected {
            return inner.write_at(offset, &bytes);
        }
        // Where there is no other place in this file, it lands in nobody's.
        let elsewhere = offset.checked_sub(MISDIRECTED_BYTES).unwrap_or(offset + MISDIRECTED_BYTES);
        match inner.write_at(elsewhere, &bytes) {
            Err(StoreError::Invalid(_)) => Ok(()),
            other => other,
        }
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let inner = self.inner.as_ref().ok_or_else(|| injected("the stage failed before"))?;
        if self.shared.fails() != Fails::Not {
            return Err(injected("reading back failed"));
        }
        inner.read_back(offset, buffer)?;
        self.shared.may_flip(buffer);
        Ok(())
    }

    fn found(&self) -> Vec<Range<u64>> {
        self.inner.as_ref().map_or_else(Vec::new, |inner| inner.found())
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        if self.shared.strikes(Fault::FailedSync) || self.shared.fails() != Fails::Not {
            return self.lost(injected("a sync failed"));
        }
        self.inner()?.checkpoint()
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        if self.shared.strikes(Fault::FailedSync) || self.shared.fails() != Fails::Not {
            return self.lost(injected("a sync failed"));
        }
        self.inner()?.leave()
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        if self.shared.strikes(Fault::FailedSync) || self.shared.fails() != Fails::Not {
            return self.lost(injected("a sync failed"));
        }
        self.inner()?.seal(bytes)
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        let shared = Arc::clone(&self.shared);
        let inner = self.inner()?;
        let published = shared.changing(|| inner.publish(fragment));
        match published {
            Err(error) if is_injected(&error) => self.lost(error),
            other => other,
        }
    }
}
