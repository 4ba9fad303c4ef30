//! The buffers of one call as pointers, checked once.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::slice;

/// Inputs of one run of a loop: as many as a code over GF(2^8) has shards.
pub(super) const SOURCES_MAX: usize = 256;

/// Outputs of one run of a loop.
pub(super) const TARGETS_MAX: usize = 128;

/// Bytes that are asked for ahead over all inputs. Memory answers after about 100 ns, in which a core could take 2 to 4 KiB,
/// and neighbouring lines come faster than single ones. Measured on Zen 5 beside 4 and 16 KiB.
const AHEAD_BYTES: usize = 8 << 10;

/// The same of one input, at least: two steps of 256 bytes.
const AHEAD_BYTES_MIN: usize = 512;

/// The same of one input, at most: half a page, so that what was asked for is not pushed out before it is read by inputs that
/// lie in the same cache sets.
const AHEAD_BYTES_MAX: usize = 2048;

/// How a call's buffers meet the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    /// Ask for inputs ahead of reading them.
    pub(super) prefetches: bool,
    /// Write outputs past the caches, where they are aligned alike.
    pub(super) streams: bool,
    /// Order what was written past the caches before returning. Without it the caller does, with [`fence`](super::fence).
    pub(super) fences: bool,
}

/// Room for the pointers of [`Lanes`], on the caller's stack and uninitialised: to move it would cost more than a short
/// call.
pub(super) struct LaneStorage {
    sources: [MaybeUninit<*const u8>; SOURCES_MAX],
    targets: [MaybeUninit<*mut u8>; TARGETS_MAX],
}

impl LaneStorage {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            sources: [const { MaybeUninit::uninit() }; SOURCES_MAX],
            targets: [const { MaybeUninit::uninit() }; TARGETS_MAX],
        }
    }
}

/// The buffers of one loop over one range, as pointers: each is good for `len` bytes while the borrow lasts, and no
/// target overlaps anything else. Made only from slices, cut to the range with the usual checks.
pub(super) struct Lanes<'a> {
    sources: &'a [*const u8],
    targets: &'a [*mut u8],
    pub(super) len: usize,
    pub(super) traffic: Traffic,
    /// How far ahead of its reads a loop asks for inputs that are not in cache.
    pub(super) ahead_bytes: usize,
    borrow: PhantomData<(&'a [u8], &'a mut [u8])>,
}

impl<'a> Lanes<'a> {
    /// The same number of bytes of every buffer. At most [`SOURCES_MAX`] columns and [`TARGETS_MAX`] distinct rows. A column of `None` is an input of zeros: its
    /// pointer is null.
    #[inline]
    #[allow(clippy::too_many_arguments)] // Two lists of buffers, each with the part of them that is meant.
    pub(super) fn gather(
        storage: &'a mut LaneStorage,
        columns: impl Iterator<Item = Option<usize>>,
        rows: impl Iterator<Item = usize>,
        inputs: &'a [&[u8]],
        input_range: Range<usize>,
        outputs: &'a mut [&mut [u8]],
        output_range: Range<usize>,
        traffic: Traffic,
    ) -> Self {
        assert_eq!(input_range.len(), output_range.len(), "bytes of inputs and outputs");
        let (mut source_count, mut target_count) = (0, 0);
        for column in columns {
            let source = column.map_or(std::ptr::null(), |column| inputs[column][input_range.clone()].as_ptr());
            storage.sources[source_count].write(source);
            source_count += 1;
        }
        for row in rows {
            storage.targets[target_count].write(outputs[row][output_range.clone()].as_mut_ptr());
            target_count += 1;
        }
        // SAFETY: the loops have written the first `source_count` and `target_count`.
        let (sources, targets) = unsafe {
            (
                slice::from_raw_parts(storage.sources.as_ptr().cast(), source_count),
                slice::from_raw_parts(storage.targets.as_ptr().cast(), target_count),
            )
        };
        let ahead_bytes = (AHEAD_BYTES / source_count.max(1)).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
        Self { sources, targets, len: output_range.len(), traffic, ahead_bytes, borrow: PhantomData }
    }

    #[inline(always)]
    pub(super) fn sources(&self) -> &'a [*const u8] {
        self.sources
    }

    #[inline(always)]
    pub(super) fn targets(&self) -> &'a [*mut u8] {
        self.targets
    }

    /// Bytes before the first place where every target is a multiple of `alignment`; `None` where they are aligned
    /// differently and cannot all be streamed to.
    fn unaligned_head(&self, alignment: usize) -> Option<usize> {
        let mut heads = self.targets().iter().map(|target| target.addr().wrapping_neg() % alignment);
        let head = heads.next()?;
        heads.all(|other| other == head).then_some(head.min(self.len))
    }

    /// Bytes before the first place from which on outputs are written past the caches; `None` where they are not.
    #[inline(always)]
    pub(super) fn streaming_head(&self, alignment: usize) -> Option<usize> {
        let head = if self.traffic.streams { self.unaligned_head(alignment) } else { None };
        #[cfg(test)]
        super::tests::STREAMED.with(|count| count.set(count.get() + usize::from(head.is_some())));
        head
    }

    /// One output.
    pub(super) fn target(&mut self, at: usize) -> &mut [u8] {
        // SAFETY: it came from a slice of `len` bytes, borrowed for writing; `&mut self` keeps it the only one at a time.
        unsafe { slice::from_raw_parts_mut(self.targets()[at], self.len) }
    }

    /// An input and an output; none where the input is zeros.
    pub(super) fn pair(&mut self, source: usize, target: usize) -> Option<(&[u8], &mut [u8])> {
        let source = self.sources()[source];
        // SAFETY: a pointer that is not null came from a slice, cut to `len` bytes, and no output overlaps an input.
        (!source.is_null()).then(|| (unsafe { slice::from_raw_parts(source, self.len) }, self.target(target)))
    }
}
