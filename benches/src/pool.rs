//! The memory that is coded: one block for all libraries, cut into stripes at the stride that is asked for.

use std::ops::Range;

/// Bytes of a huge page on x86-64. Without them a cold run measures the page walker as much as the coder.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// How far a staggered shard stands from where a power-of-two stride would have it, times its position. A multiple of the cache
/// line, not of a page: the same offset of all shards of a stripe then falls into different cache sets.
const STAGGER_BYTES: usize = 320;

/// Distance between the shards of a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stride {
    /// One shard after the other, as an allocator gives them: with shards of 2^n bytes all of them fall into the same cache sets.
    PowerOfTwo,
    /// Apart by a few cache lines more.
    Staggered,
}

impl Stride {
    fn bytes(self, shard_bytes: usize) -> usize {
        match self {
            Self::PowerOfTwo => shard_bytes,
            Self::Staggered => shard_bytes + STAGGER_BYTES,
        }
    }

    /// How it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::PowerOfTwo => "power-of-two stride",
            Self::Staggered => "staggered",
        }
    }
}

/// A block of random bytes on huge pages, if the system grants them.
#[derive(Debug)]
pub struct Pool {
    memory: Vec<u8>,
    used: Range<usize>,
}

impl Pool {
    /// A pool of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        // Zeroed memory of this size comes untouched from the system, so its pages do not exist yet when the advice is given.
        let mut memory = vec![0; bytes + HUGE_PAGE_BYTES];
        let start = memory.as_ptr().align_offset(HUGE_PAGE_BYTES).min(HUGE_PAGE_BYTES);
        let used = start..start + bytes;
        prefer_huge_pages(&mut memory[used.clone()]);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for word in memory.chunks_exact_mut(8) {
            // Xorshift: fast, and no two shards alike.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        Self { memory, used }
    }

    /// Up to `stripes_max` stripes of `shards` shards each. Every shard begins at a multiple of 64 if `shard_bytes` is one.
    pub fn stripes(
        &mut self,
        shards: usize,
        shard_bytes: usize,
        stride: Stride,
        stripes_max: usize,
    ) -> Vec<Vec<&mut [u8]>> {
        let mut places = self.memory[self.used.clone()].chunks_exact_mut(stride.bytes(shard_bytes));
        let mut stripes = Vec::new();
        while stripes.len() < stripes_max && places.len() >= shards {
            stripes.push(places.by_ref().take(shards).map(|place| &mut place[..shard_bytes]).collect());
        }
        stripes
    }
}

#[allow(unsafe_code)]
fn prefer_huge_pages(memory: &mut [u8]) {
    // Refused where the kernel was built without them; then everybody has small pages.
    #[cfg(target_os = "linux")]
    // SAFETY: the range is memory of the slice that is borrowed exclusively, and this advice changes the size of its pages,
    // never their content.
    let _ = unsafe { rustix::mm::madvise(memory.as_mut_ptr().cast(), memory.len(), rustix::mm::Advice::LinuxHugepage) };
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Stripes visited one after the other, round and round. With one stripe the work is *hot*: it finds its bytes where its last
/// call left them. With more bytes than any cache holds it is *cold*.
#[derive(Debug)]
pub struct Ring<S> {
    stripes: Vec<S>,
    next: usize,
}

impl<S> Ring<S> {
    /// A ring of at least one stripe, or `None`.
    pub fn new(stripes: Vec<S>) -> Option<Self> {
        if stripes.is_empty() { None } else { Some(Self { stripes, next: 0 }) }
    }

    /// The stripe that was not visited for the longest time.
    pub fn next_stripe(&mut self) -> &mut S {
        let at = self.next;
        self.next = if at + 1 == self.stripes.len() { 0 } else { at + 1 };
        &mut self.stripes[at]
    }
}

/// A stripe in the form every encoder takes.
#[derive(Debug)]
pub struct EncodeStripe<'a> {
    /// `k` data shards.
    pub data: Vec<&'a [u8]>,
    /// `m` parity shards.
    pub parity: Vec<&'a mut [u8]>,
}

impl<'a> EncodeStripe<'a> {
    /// The first `k` shards are data.
    pub fn new(mut shards: Vec<&'a mut [u8]>, k: usize) -> Self {
        let parity = shards.split_off(k);
        Self { data: shards.into_iter().map(|shard| &*shard).collect(), parity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_do_not_overlap_and_stand_at_their_stride() {
        let mut pool = Pool::new(1 << 20);
        for (stride, apart) in [(Stride::PowerOfTwo, 4096), (Stride::Staggered, 4416)] {
            let stripes = pool.stripes(14, 4096, stride, usize::MAX);
            assert_eq!(stripes.len(), (1 << 20) / apart / 14, "{stride:?}");
            let addresses: Vec<usize> = stripes.iter().flatten().map(|shard| shard.as_ptr() as usize).collect();
            assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] == apart), "{stride:?}");
            assert!(addresses.iter().all(|address| address.is_multiple_of(64)), "{stride:?}");
        }
        assert_eq!(pool.stripes(14, 4096, Stride::PowerOfTwo, 1).len(), 1);
        assert!(pool.stripes(1000, 4096, Stride::PowerOfTwo, 1).is_empty());
    }

    #[test]
    fn a_ring_visits_every_stripe_before_the_first_again() {
        let mut ring = Ring::new(vec![1, 2, 3]).unwrap();
        let visits: Vec<i32> = (0..7).map(|_| *ring.next_stripe()).collect();
        assert_eq!(visits, [1, 2, 3, 1, 2, 3, 1]);
        assert!(Ring::<i32>::new(Vec::new()).is_none());
    }
}
