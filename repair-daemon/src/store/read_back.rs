//! Read-back: what was forced to the disk is read from it once more before it gets its name.
//!
//! A disk that loses writes, tears them or puts them elsewhere says that all went well. The scrub finds that within days; here it shows while the
//! client still has the bytes.

use super::contract::{Capabilities, Staged};
use super::{Fence, as_store_error};
use crate::buffers::BufferPool;
use ec_core::fragment::{Hash, Header};
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// One fragment of so many is read back by [`ReadBack::Sample`].
const SAMPLE: u64 = 16;
/// One may be chance. A disk that does it again does it to what nobody reads back too.
const MISMATCHES_MAX: u64 = 2;

/// Which fragments are read back before they get their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadBack {
    /// None.
    Off,
    /// One of 16, by a hash of its name: always the same ones.
    #[default]
    Sample,
    /// All.
    Always,
}

impl ReadBack {
    /// This policy over a store of these capabilities: what comes from a cache proves nothing.
    pub fn over(self, capabilities: Capabilities) -> Self {
        if capabilities.direct_reads { self } else { Self::Off }
    }

    /// Whether this fragment is read back.
    pub fn wants(self, fragment: FragmentKey) -> bool {
        match self {
            Self::Off => false,
            Self::Sample => hash(fragment).is_multiple_of(SAMPLE),
            Self::Always => true,
        }
    }
}

fn hash(fragment: FragmentKey) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fragment.extent.0.to_le_bytes());
    hasher.update(&fragment.generation.to_le_bytes());
    hasher.update(&fragment.index.to_le_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// What a sealed file should hold.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) header: Header,
    pub(super) header_bytes: Vec<u8>,
    pub(super) tail: Vec<u8>,
    pub(super) root: Hash,
}

/// Reads files back by a policy, and counts what was not as it was written.
#[derive(Debug)]
pub(super) struct ReadBacks {
    pub(super) policy: ReadBack,
    buffers: BufferPool,
    mismatches: AtomicU64,
}

impl ReadBacks {
    pub(super) fn new(policy: ReadBack) -> Self {
        Self { policy, buffers: BufferPool::shared(), mismatches: AtomicU64::new(0) }
    }

    /// Files of this life that were not as they were written.
    pub(super) fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// Reads a sealed file back, if the policy wants this one.
    ///
    /// # Errors
    /// [`StoreError::Io`] where it cannot be read, or is another; with the second of these all writing ends.
    pub(super) fn prove(
        &self,
        fragment: FragmentKey,
        file: &dyn Staged,
        written: &Written,
        fence: &Fence,
    ) -> Result<(), StoreError> {
        if !self.policy.wants(fragment) {
            return Ok(());
        }
        let Some(part) = self.first_difference(file, written)? else { return Ok(()) };
        let mismatches = self.mismatches.fetch_add(1, Ordering::Relaxed) + 1;
        let reason = format!("the {part} of a fragment, read back from the disk, is not as it was written");
        if mismatches < MISMATCHES_MAX {
            return Err(StoreError::Io(reason));
        }
        Err(fence.close_over(format!("{reason}; it happened {mismatches} times since the start")))
    }

    /// The part of a file that is not as it was written, if one is not.
    fn first_difference(&self, file: &dyn Staged, written: &Written) -> Result<Option<&'static str>, StoreError> {
        let memory = |error| as_store_error("have memory to read a fragment back", &io::Error::other(error));
        let mut buffer = self.buffers.take(PIECE_BYTES).map_err(memory)?;
        let layout = written.header.layout();
        if !is_same(file, 0, &written.header_bytes, &mut buffer)? {
            return Ok(Some("header"));
        }
        let mut hasher = blake3::Hasher::new();
        for (offset, bytes) in pieces(layout.payload_at, layout.payload_bytes) {
            file.read_back(offset, &mut buffer[..bytes])?;
            hasher.update(&buffer[..bytes]);
        }
        if written.header.identity.root(&Hash::from(hasher.finalize())) != written.root {
            return Ok(Some("payload"));
        }
        Ok((!is_same(file, layout.table_at, &written.tail, &mut buffer)?).then_some("tail"))
    }
}

/// A range in pieces: where each begins, and its length.
fn pieces(start: u64, bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    let piece = move |at: u64| (start + at, usize::try_from(bytes - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES));
    (0..bytes).step_by(PIECE_BYTES).map(piece)
}

/// Whether a file holds these bytes there.
fn is_same(file: &dyn Staged, start: u64, expected: &[u8], buffer: &mut [u8]) -> Result<bool, StoreError> {
    for ((offset, bytes), expected) in pieces(start, expected.len() as u64).zip(expected.chunks(PIECE_BYTES)) {
        file.read_back(offset, &mut buffer[..bytes])?;
        if buffer[..bytes] != *expected {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::id::{CellKey, ExtentKey, PgId};

    #[test]
    fn a_sample_is_one_of_sixteen_and_always_the_same_ones() {
        let key = |number: u64| FragmentKey {
            extent: ExtentKey::compose(CellKey(1 << 100), PgId(3), 1, number / 8),
            generation: 1,
            index: (number % 8) as u16,
        };
        let wanted = || -> Vec<u64> { (0..16_000).filter(|number| ReadBack::Sample.wants(key(*number))).collect() };
        let sample = wanted();
        assert!((900..1100).contains(&sample.len()), "{} of 16000", sample.len());
        assert_eq!(sample, wanted());
        // Written down: another life, and another version, take the same ones.
        assert_eq!(sample[..8], [4, 5, 7, 13, 15, 20, 28, 43]);
        // Not all of an extent, nor all of an index.
        for index in 0..8 {
            let of_index = sample.iter().filter(|number| **number % 8 == index).count();
            assert!((80..170).contains(&of_index), "{of_index} of index {index}");
        }
        let all = |policy: ReadBack| (0..100).filter(|number| policy.wants(key(*number))).count();
        assert_eq!((all(ReadBack::Off), all(ReadBack::Always)), (0, 100));
    }

    #[test]
    fn what_comes_from_a_cache_is_not_asked_for() {
        let store =
            |direct_reads| Capabilities { direct_reads, in_place_writes: true, durable_names: false, list_max: 1 };
        for policy in [ReadBack::Off, ReadBack::Sample, ReadBack::Always] {
            assert_eq!((policy.over(store(true)), policy.over(store(false))), (policy, ReadBack::Off));
        }
    }

    #[test]
    fn pieces_cover_a_range_once() {
        for bytes in [0, 1, PIECE_BYTES as u64 - 1, PIECE_BYTES as u64, 3 * PIECE_BYTES as u64 + 5] {
            let mut next = 7;
            for (offset, length) in pieces(7, bytes) {
                assert!(offset == next && (1..=PIECE_BYTES).contains(&length), "{offset} {length}");
                next += length as u64;
            }
            assert_eq!(next, 7 + bytes);
        }
    }
}
