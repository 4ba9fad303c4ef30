//! A slow store: so many bytes a second, and so long an operation, over any other.

use super::contract::{Capabilities, FragmentStore, Published, ReadFrom, Room, Staged};
use super::label::Label;
use repair_core::id::PgId;
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How slow.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Bytes read and written, all operations together.
    pub bytes_per_second: NonZeroU64,
    /// What each operation takes longer, whatever others do.
    pub operation: Duration,
}

/// A store made slow.
#[derive(Debug)]
pub struct Throttled<S> {
    inner: S,
    pace: Arc<Pace>,
}

#[derive(Debug)]
struct Pace {
    rate: Rate,
    /// When what was asked for so far has gone through.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits until so many bytes have gone through, behind those before them.
    fn pass(&self, bytes: usize) {
        let rate = u128::from(self.rate.bytes_per_second.get());
        let nanos = bytes as u128 * 1_000_000_000 / rate;
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let end = free_at.map_or(now, |free_at| free_at.max(now)) + takes;
        *free_at = Some(end);
        drop(free_at);
        std::thread::sleep((end - now) + self.rate.operation);
    }
}

impl<S: FragmentStore> Throttled<S> {
    /// `inner` at this rate.
    pub fn new(inner: S, rate: Rate) -> Self {
        Self { inner, pace: Arc::new(Pace { rate, free_at: Mutex::new(None) }) }
    }

    /// The store itself.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: FragmentStore> FragmentStore for Throttled<S> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn label(&self) -> Result<Option<Label>, StoreError> {
        self.pace.pass(0);
        self.inner.label()
    }

    fn set_label(&self, label: Label) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.set_label(label)
    }

    fn probe(&self) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.probe()
    }

    fn begin(&self, bytes: u64) -> Result<Box<dyn Staged>, StoreError> {
        self.pace.pass(0);
        let inner = self.inner.begin(bytes)?;
        Ok(Box::new(ThrottledStaged { inner, pace: Arc::clone(&self.pace) }))
    }

    fn begin_kept(
        &self,
        fragment: FragmentKey,
        identity: [u8; 32],
        bytes: u64,
    ) -> Result<Option<Box<dyn Staged>>, StoreError> {
        self.pace.pass(0);
        let Some(inner) = self.inner.begin_kept(fragment, identity, bytes)? else { return Ok(None) };
        Ok(Some(Box::new(ThrottledStaged { inner, pace: Arc::clone(&self.pace) })))
    }

    fn kept(&self) -> Vec<FragmentKey> {
        self.inner.kept()
    }

    fn drop_kept(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.drop_kept(fragment)
    }

    fn length(&self, fragment: FragmentKey) -> Result<u64, StoreError> {
        self.pace.pass(0);
        self.inner.length(fragment)
    }

    fn read(&self, fragment: FragmentKey, offset: u64, buffer: &mut [u8], from: ReadFrom) -> Result<(), StoreError> {
        self.pace.pass(buffer.len());
        self.inner.read(fragment, offset, buffer, from)
    }

    fn list(&self, pg: PgId, after: Option<FragmentKey>, max: usize) -> Result<Vec<FragmentKey>, StoreError> {
        self.pace.pass(0);
        self.inner.list(pg, after, max)
    }

    fn set_aside(&self, fragment: FragmentKey, reason: &str) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.set_aside(fragment, reason)
    }

    fn purge(&self, fragment: FragmentKey) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.purge(fragment)
    }

    fn sync(&self, pg: PgId) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.sync(pg)
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
}

#[derive(Debug)]
struct ThrottledStaged {
    inner: Box<dyn Staged>,
    pace: Arc<Pace>,
}

impl Staged for ThrottledStaged {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.pace.pass(bytes.len());
        self.inner.write_at(offset, bytes)
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.pace.pass(buffer.len());
        self.inner.read_back(offset, buffer)
    }

    fn found(&self) -> Vec<Range<u64>> {
        self.inner.found()
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.checkpoint()
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.leave()
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.pace.pass(0);
        self.inner.seal(bytes)
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        self.pace.pass(0);
        self.inner.publish(fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn bytes_of_all_stages_pass_at_the_rate() {
        let rate = Rate { bytes_per_second: NonZeroU64::new(1 << 20).unwrap(), operation: Duration::ZERO };
        let store = Throttled::new(MemoryStore::new(1 << 20), rate);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| store.begin(64 << 10).unwrap().write_at(0, &[1; 64 << 10]).unwrap());
            }
        });
        // 128 KiB at 1 MiB/s: together and not each for itself.
        assert!(began.elapsed() >= Duration::from_millis(125), "{:?}", began.elapsed());
        let rate = Rate { operation: Duration::from_millis(30), ..rate };
        let store = Throttled::new(store.into_inner(), rate);
        let began = Instant::now();
        assert_eq!(store.list(PgId(1), None, 1), Ok(Vec::new()));
        assert!(began.elapsed() >= Duration::from_millis(30));
    }
}
