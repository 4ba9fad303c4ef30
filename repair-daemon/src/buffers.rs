//! Page-aligned memory for payload on its way in or out, used again and again.
//!
//! Fresh memory of this size comes from the kernel page by page and zeroed: work that memory used again saves.

use ec_core::buffer::{AlignedBuffer, AllocationError};
use repair_core::limits::SLICE_BYTES;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Kept while none is in use.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Kept while others are in use: what a busy process needs again in a moment.
const KEPT_BUSY_BYTES_MAX: usize = 256 << 20;
/// Shorter ones are not worth keeping.
const POOLED_BYTES_MIN: usize = 64 << 10;
/// Sizes of memory kept: powers of two up to a slice.
const SIZES: usize = (SLICE_BYTES / POOLED_BYTES_MIN).ilog2() as usize + 1;

/// Buffers of up to one slice each.
#[derive(Clone, Debug, Default)]
pub struct BufferPool {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By size, the smallest first.
    buffers: [Vec<AlignedBuffer>; SIZES],
    bytes: usize,
    in_use: usize,
}

/// Bytes from a pool, to which their memory goes back.
#[derive(Debug)]
pub struct PooledBuffer {
    memory: Option<AlignedBuffer>,
    bytes: usize,
    pool: BufferPool,
}

/// Which list memory of so many bytes is from; none where it is not kept.
fn size_of(bytes: usize) -> Option<usize> {
    let kept = (POOLED_BYTES_MIN..=SLICE_BYTES).contains(&bytes);
    kept.then(|| (bytes.next_power_of_two() / POOLED_BYTES_MIN).ilog2() as usize)
}

impl BufferPool {
    /// The pool of this process: what one part gives back another takes.
    pub fn shared() -> Self {
        static SHARED: LazyLock<BufferPool> = LazyLock::new(BufferPool::default);
        SHARED.clone()
    }

    /// `bytes` bytes of no particular content.
    ///
    /// # Errors
    /// No memory.
    pub fn take(&self, bytes: usize) -> Result<PooledBuffer, AllocationError> {
        let kept = size_of(bytes).and_then(|size| self.lock().take(size));
        let memory = match kept {
            Some(memory) => memory,
            None => AlignedBuffer::zeroed(size_of(bytes).map_or(bytes, |size| POOLED_BYTES_MIN << size))?,
        };
        self.lock().in_use += 1;
        Ok(PooledBuffer { memory: Some(memory), bytes, pool: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, size: usize) -> Option<AlignedBuffer> {
        let memory = self.buffers[size].pop()?;
        self.bytes -= memory.len();
        Some(memory)
    }

    /// What is not kept.
    fn give_back(&mut self, memory: AlignedBuffer) -> Vec<AlignedBuffer> {
        self.in_use -= 1;
        let most = if self.in_use > 0 { KEPT_BUSY_BYTES_MAX } else { KEPT_BYTES_MAX };
        let mut surplus = Vec::new();
        match size_of(memory.len()) {
            Some(size) => {
                self.bytes += memory.len();
                self.buffers[size].push(memory);
            }
            None => surplus.push(memory),
        }
        for size in (0..SIZES).rev() {
            while self.bytes > most {
                let Some(memory) = self.take(size) else { break };
                surplus.push(memory);
            }
        }
        surplus
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        // Freed after the lock is: giving memory back to the kernel takes its time.
        let _surplus = self.memory.take().map(|memory| self.pool.lock().give_back(memory));
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.bytes])
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes;
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory[..bytes])
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_is_aligned_and_as_long_as_asked() {
        let pool = BufferPool::default();
        let mut first = pool.take(SLICE_BYTES - 4096).unwrap();
        first.fill(1);
        let address = first.as_ptr().addr();
        assert_eq!((first.len(), address % 4096), (SLICE_BYTES - 4096, 0));
        let body = bytes::Bytes::from_owner(first);
        let second = pool.take(SLICE_BYTES).unwrap();
        assert_ne!(second.as_ptr().addr(), address);
        drop(body);
        assert_eq!(pool.take(SLICE_BYTES / 2 + 1).unwrap().as_ptr().addr(), address);
        assert_ne!(pool.take(SLICE_BYTES / 2).unwrap().as_ptr().addr(), address);
        drop(second);
        for bytes in [0, 1, 4096, POOLED_BYTES_MIN - 1, SLICE_BYTES + 1] {
            assert_eq!(pool.take(bytes).unwrap().len(), bytes);
        }
        let sizes = [POOLED_BYTES_MIN, SLICE_BYTES / 2 - 4096, SLICE_BYTES];
        let few = KEPT_BYTES_MAX / SLICE_BYTES;
        let many: Vec<_> = (0..2 * few).map(|_| sizes.map(|bytes| pool.take(bytes).unwrap())).collect();
        let busy = pool.take(0).unwrap();
        let taken: usize = many.iter().flatten().map(|buffer| buffer.memory.as_ref().unwrap().len()).sum();
        drop(many);
        assert!(pool.lock().bytes >= taken);
        drop(busy);
        let kept = pool.lock();
        assert!(kept.bytes <= KEPT_BYTES_MAX && kept.bytes > KEPT_BYTES_MAX - SLICE_BYTES);
        assert_eq!((kept.in_use, kept.bytes), (0, kept.buffers.iter().flatten().map(|buffer| buffer.len()).sum()));
    }
}
