//! Page-aligned memory for payload on its way in or out, used again and again.
//!
//! Fresh memory of this size comes from the kernel page by page and zeroed: work that memory used again saves.

use ec_core::buffer::{AlignedBuffer, AllocationError};
use repair_core::limits::SLICE_BYTES;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Buffers kept for later; 16 MiB. More may be in use.
const KEPT_MAX: usize = 16;
/// Shorter ones are not worth keeping.
const POOLED_BYTES_MIN: usize = 64 << 10;

/// Buffers of one slice each.
#[derive(Clone, Debug, Default)]
pub struct BufferPool {
    kept: Arc<Mutex<Vec<AlignedBuffer>>>,
}

/// Bytes from a pool, to which their memory goes back.
#[derive(Debug)]
pub struct PooledBuffer {
    memory: Option<AlignedBuffer>,
    bytes: usize,
    pool: BufferPool,
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
        let pooled = (POOLED_BYTES_MIN..=SLICE_BYTES).contains(&bytes);
        let kept = if pooled { self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop() } else { None };
        let memory = match kept {
            Some(memory) => memory,
            None => AlignedBuffer::zeroed(if pooled { SLICE_BYTES } else { bytes })?,
        };
        Ok(PooledBuffer { memory: Some(memory), bytes, pool: self.clone() })
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take().filter(|memory| memory.len() == SLICE_BYTES) {
            let mut kept = self.pool.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT_MAX {
                kept.push(memory);
            }
        }
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
        assert_eq!(pool.take(POOLED_BYTES_MIN).unwrap().as_ptr().addr(), address);
        for bytes in [0, 1, 4096, POOLED_BYTES_MIN - 1, SLICE_BYTES + 1] {
            assert_eq!(pool.take(bytes).unwrap().len(), bytes);
        }
        let many: Vec<_> = (0..2 * KEPT_MAX).map(|_| pool.take(SLICE_BYTES).unwrap()).collect();
        drop(many);
        assert_eq!(pool.kept.lock().unwrap().len(), KEPT_MAX);
    }
}
