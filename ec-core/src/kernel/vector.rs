//! What the loops over bytes need of a CPU family: a register of bytes, sums, and products with constants.
//!
//! The loops in `dense` and `lch` are written once, over this trait, and made into machine code once per family: a
//! function with the family's `target_feature` calls the loop, everything here is inlined into it, and only there do
//! the instructions exist. So nothing here may be called from anywhere else.

/// A register of bytes of one CPU family.
///
/// # Safety
/// Every function here is unsafe for the same reason: it may run only inside a function compiled for the family's
/// features, on a CPU that has them. The pointers must be good for as many bytes as the function names.
pub(super) trait Vector: Copy {
    /// Bytes in a register.
    const BYTES: usize;

    /// Whether the family adds three values in one instruction and has registers for the inputs of two columns at once.
    const PAIRS: bool;

    /// A constant to multiply with, as it lies in tables.
    type Factor: Copy;

    /// The same in registers.
    type Multiplier: Copy;

    unsafe fn zero() -> Self;

    /// Reads `BYTES` bytes.
    unsafe fn load(from: *const u8) -> Self;

    /// Reads the first `bytes` bytes, 1 to `BYTES`, and no others; the rest is zero.
    unsafe fn load_first(from: *const u8, bytes: usize) -> Self;

    /// Writes `BYTES` bytes.
    unsafe fn store(self, to: *mut u8);

    /// Writes the first `bytes` bytes, 1 to `BYTES`, and no others.
    unsafe fn store_first(self, to: *mut u8, bytes: usize);

    /// Writes `BYTES` bytes past the caches; `to` is a multiple of `BYTES`. Ordered by `fence` alone.
    unsafe fn stream(self, to: *mut u8);

    /// Orders what `stream` wrote before all later stores.
    unsafe fn fence();

    /// Asks for the cache line of `from`, which need not be readable.
    unsafe fn prefetch(from: *const u8);

    unsafe fn xor(self, other: Self) -> Self;

    unsafe fn xor3(self, second: Self, third: Self) -> Self;

    unsafe fn multiplier(factor: &Self::Factor) -> Self::Multiplier;

    /// Every byte times the constant.
    unsafe fn times(self, multiplier: Self::Multiplier) -> Self;
}

/// How a step reads and writes: whole registers, or the first bytes of one.
pub(super) trait Access<V: Vector>: Copy {
    unsafe fn load(self, from: *const u8) -> V;
    unsafe fn store(self, vector: V, to: *mut u8);
}

/// Whole registers through the caches.
#[derive(Clone, Copy)]
pub(super) struct Whole;

/// Whole registers, written past the caches.
#[derive(Clone, Copy)]
pub(super) struct Streaming;

/// The first so many bytes of a register.
#[derive(Clone, Copy)]
pub(super) struct First(pub(super) usize);

impl<V: Vector> Access<V> for Whole {
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn store(self, vector: V, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { vector.store(to) }
    }
}

impl<V: Vector> Access<V> for Streaming {
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn store(self, vector: V, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { vector.stream(to) }
    }
}

impl<V: Vector> Access<V> for First {
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_first(from, self.0) }
    }

    #[inline(always)]
    unsafe fn store(self, vector: V, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { vector.store_first(to, self.0) }
    }
}
