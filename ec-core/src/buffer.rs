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

#[cfg(test)]
mod tests {
    use super::*;

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
