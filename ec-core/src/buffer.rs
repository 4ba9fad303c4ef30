//! Heap memory that starts on a page boundary.
//!
//! Direct IO refuses buffers that are not aligned to the device's block, and a vector load that straddles two cache
//! lines costs two. A page satisfies both, on every device and CPU we know of.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

/// Where every [`AlignedBuffer`] starts: a multiple of this many bytes.
pub const ALIGNMENT: usize = 4096;

// The largest logical block of the devices we write to is one page; a cache line is 64 bytes or 128.
const _: () = assert!(ALIGNMENT.is_power_of_two() && ALIGNMENT.is_multiple_of(128));

#[repr(align(4096))]
struct Page;

const _: () = assert!(align_of::<Page>() == ALIGNMENT);

/// The memory for a buffer could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot allocate a buffer of {bytes} bytes")]
pub struct AllocationError {
    /// Bytes that were asked for.
    pub bytes: usize,
}

/// Bytes on the heap, zero at first, starting at a multiple of [`ALIGNMENT`]. Their number never changes.
///
/// ```
/// let mut buffer = ec_core::AlignedBuffer::zeroed(10_000)?;
/// buffer[9_999] = 7;
/// assert_eq!(buffer.as_ptr() as usize % ec_core::buffer::ALIGNMENT, 0);
/// # Ok::<(), ec_core::buffer::AllocationError>(())
/// ```
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeroed bytes.
    pub fn zeroed(len: usize) -> Result<Self, AllocationError> {
        let layout = Layout::from_size_align(len, ALIGNMENT).map_err(|_| AllocationError { bytes: len })?;
        if len == 0 {
            // The allocator may not be asked for nothing; an aligned address that owns nothing will do.
            return Ok(Self { start: NonNull::<Page>::dangling().cast(), len });
        }
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        NonNull::new(start).map(|start| Self { start, len }).ok_or(AllocationError { bytes: len })
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is aligned, not null and owns `len` initialised bytes; they live as long as `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only reference.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // `zeroed` made this very layout, so it is valid; an empty buffer owns no memory.
        if let (1.., Ok(layout)) = (self.len, Layout::from_size_align(self.len, ALIGNMENT)) {
            // SAFETY: `zeroed` got `start` from the same allocator with the same layout, and nobody freed it since.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

// SAFETY: the buffer owns its bytes alone, as a `Box<[u8]>` does; the allocator may be called from any thread.
unsafe impl Send for AlignedBuffer {}

// SAFETY: through a shared reference the bytes can only be read.
unsafe impl Sync for AlignedBuffer {}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Bytes by which the shards of a [`StripeBuffers`] are shifted against each other beyond whole pages: five cache lines.
///
/// Shards at a stride of a power of two share the sets of the caches: with 14 of them a first-level cache of 12 ways throws
/// out lines before they were used. An odd number of lines takes neighbours to different sets; `kernel_speed` shows both.
const STAGGER_BYTES: usize = 320;

/// Where a shard begins: a multiple of a cache line and of the widest register.
const SHARD_ALIGNMENT: usize = 64;

const _: () = assert!((STAGGER_BYTES / SHARD_ALIGNMENT) % 2 == 1 && STAGGER_BYTES.is_multiple_of(SHARD_ALIGNMENT));

/// The equally long buffers of a stripe in one allocation, zero at first, each starting at a multiple of 64 and, but for
/// shards of at most 64 bytes, none at a power-of-two distance from its neighbour. Not for direct IO, which wants every buffer on a page: see [`AlignedBuffer`].
///
/// ```
/// use ec_core::{Code, buffer::StripeBuffers};
///
/// let code = Code::new(&"rs:4+2".parse()?)?;
/// let mut shards = StripeBuffers::zeroed(code.n(), 1 << 20)?;
/// shards.iter_mut().next().ok_or("no shard")?.fill(7);
/// let mut slices = shards.iter_mut();
/// let data: Vec<&[u8]> = slices.by_ref().take(code.k()).map(|shard| &*shard).collect();
/// let mut parity: Vec<&mut [u8]> = slices.collect();
/// code.encode(&data, &mut parity)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StripeBuffers {
    bytes: AlignedBuffer,
    shards: usize,
    shard_bytes: usize,
    stride: usize,
}

impl StripeBuffers {
    /// `shards` buffers of `shard_bytes` zeros each.
    ///
    /// # Errors
    /// [`AllocationError`] with the bytes of all of them, or `usize::MAX` where that number would be larger.
    pub fn zeroed(shards: usize, shard_bytes: usize) -> Result<Self, AllocationError> {
        let too_large = AllocationError { bytes: usize::MAX };
        let stride = stride(shard_bytes).ok_or(too_large)?;
        let bytes = AlignedBuffer::zeroed(stride.checked_mul(shards).ok_or(too_large)?)?;
        Ok(Self { bytes, shards, shard_bytes, stride })
    }

    /// Number of buffers.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Bytes of each.
    pub fn shard_bytes(&self) -> usize {
        self.shard_bytes
    }

    /// The buffers in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        // The stride is never 0: an empty shard still has its place.
        self.bytes.chunks_exact(self.stride).map(|shard| &shard[..self.shard_bytes])
    }

    /// The buffers in order, to write to.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(self.stride).map(|shard| &mut shard[..self.shard_bytes])
    }
}

/// Distance of the shards: whole pages and the stagger; below a page an odd number of cache lines.
fn stride(shard_bytes: usize) -> Option<usize> {
    if shard_bytes >= ALIGNMENT {
        return shard_bytes.checked_next_multiple_of(ALIGNMENT)?.checked_add(STAGGER_BYTES);
    }
    let lines = shard_bytes.div_ceil(SHARD_ALIGNMENT);
    Some((lines | 1) * SHARD_ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_aligned_apart_and_staggered() {
        for shard_bytes in [0, 1, 63, 64, 65, 128, 4095, 4096, 4097, 65_536, 1 << 20] {
            let mut buffers = StripeBuffers::zeroed(14, shard_bytes).unwrap();
            assert_eq!((buffers.shards(), buffers.shard_bytes()), (14, shard_bytes));
            for (at, shard) in buffers.iter_mut().enumerate() {
                assert!(shard.len() == shard_bytes && shard.iter().all(|&byte| byte == 0));
                shard.fill(at as u8 + 1);
            }
            let starts: Vec<usize> = buffers.iter().map(|shard| shard.as_ptr() as usize).collect();
            assert!(starts.iter().all(|start| start.is_multiple_of(SHARD_ALIGNMENT)), "{shard_bytes}");
            for (at, shard) in buffers.iter().enumerate() {
                assert!(shard.iter().all(|&byte| byte == at as u8 + 1), "{shard_bytes}: shard {at} was written over");
            }
            // A first-level cache has 64 sets of one line: no two of 14 shards begin in the same one.
            let sets: std::collections::BTreeSet<usize> = starts.iter().map(|start| start / 64 % 64).collect();
            assert_eq!((buffers.iter().count(), sets.len()), (14, 14), "{shard_bytes}");
        }
        assert_eq!(StripeBuffers::zeroed(0, 100).unwrap().iter().count(), 0);
    }

    #[test]
    fn a_stripe_that_cannot_be_allocated_is_an_error() {
        for (shards, shard_bytes) in [(1, usize::MAX), (2, usize::MAX / 2), (usize::MAX, 4096), (4, 1 << 62)] {
            let error = StripeBuffers::zeroed(shards, shard_bytes).unwrap_err();
            assert!(error.bytes > isize::MAX as usize - ALIGNMENT, "{shards} x {shard_bytes}: {error}");
        }
    }

    #[test]
    fn buffers_are_aligned_zeroed_and_keep_what_is_written() {
        for len in [0, 1, 63, 4095, 4096, 4097, 1 << 20] {
            let mut buffer = AlignedBuffer::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0, "{len} bytes");
            assert!(buffer.iter().all(|&byte| byte == 0));
            for (byte, value) in buffer.iter_mut().zip((0..251).cycle()) {
                *byte = value;
            }
            assert!(buffer.iter().zip((0..251).cycle()).all(|(&byte, value)| byte == value));
        }
    }

    #[test]
    fn reused_memory_is_zeroed_again() {
        for _ in 0..100 {
            let mut buffer = AlignedBuffer::zeroed(8192).unwrap();
            assert!(buffer.iter().all(|&byte| byte == 0));
            buffer.fill(0xA5);
        }
    }

    #[test]
    fn what_cannot_be_allocated_is_an_error() {
        for bytes in [usize::MAX, isize::MAX as usize, (isize::MAX as usize & !(ALIGNMENT - 1)) - ALIGNMENT] {
            assert_eq!(AlignedBuffer::zeroed(bytes).unwrap_err(), AllocationError { bytes });
        }
    }

    #[test]
    fn buffers_go_from_thread_to_thread() {
        let mut buffer = AlignedBuffer::zeroed(100).unwrap();
        buffer[99] = 1;
        assert_eq!(std::thread::spawn(move || buffer[99]).join().unwrap(), 1);
    }
}
