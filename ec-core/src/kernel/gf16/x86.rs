//! GF(2^16) with GFNI, in registers of 512 and of 256 bits.

use super::block::{Block, Rows, Sums, run_rows, run_sums};
use super::matrices::Matrices;
use core::arch::x86_64::*;

/// Proof that this CPU has GFNI and the parts of AVX-512 used here. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512Gfni(());

/// Proof that this CPU has GFNI and AVX2. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2Gfni(());

impl Avx512Gfni {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("gfni");
        found.then_some(Self(()))
    }

    pub(super) unsafe fn rows<const R: usize>(self, rows: &Rows<'_, R>) {
        // SAFETY: the caller's promise about pointers, and `detect` saw the features.
        unsafe { rows_512(rows) }
    }

    pub(super) unsafe fn sums<const M: usize>(self, sums: &Sums<'_, M>) {
        // SAFETY: the caller's promise about pointers, and `detect` saw the features.
        unsafe { sums_512(sums) }
    }
}

impl Avx2Gfni {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni")).then_some(Self(()))
    }

    pub(super) unsafe fn rows<const R: usize>(self, rows: &Rows<'_, R>) {
        // SAFETY: the caller's promise about pointers, and `detect` saw the features.
        unsafe { rows_256(rows) }
    }

    pub(super) unsafe fn sums<const M: usize>(self, sums: &Sums<'_, M>) {
        // SAFETY: the caller's promise about pointers, and `detect` saw the features.
        unsafe { sums_256(sums) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
unsafe fn rows_512<const R: usize>(rows: &Rows<'_, R>) {
    // SAFETY: the caller's promise, and the features are enabled here.
    unsafe { run_rows::<Whole, R>(rows) }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
unsafe fn sums_512<const M: usize>(sums: &Sums<'_, M>) {
    // SAFETY: the caller's promise, and the features are enabled here.
    unsafe { run_sums::<Whole, M, 2>(sums) }
}

#[target_feature(enable = "avx2,gfni")]
unsafe fn rows_256<const R: usize>(rows: &Rows<'_, R>) {
    // SAFETY: the caller's promise, and the features are enabled here.
    unsafe { run_rows::<Halves, R>(rows) }
}

#[target_feature(enable = "avx2,gfni")]
unsafe fn sums_256<const M: usize>(sums: &Sums<'_, M>) {
    // SAFETY: the caller's promise, and the features are enabled here.
    unsafe { run_sums::<Halves, M, 1>(sums) }
}

/// A block in one register: low bytes in the lower half, high bytes in the upper.
///
/// The matrices may differ from one 64-bit lane to the next, so one instruction multiplies each half by the matrix that keeps
/// its plane, and another, on the block with its halves exchanged, by the matrix that crosses over.
#[derive(Clone, Copy)]
struct Whole(__m512i);

impl Block for Whole {
    /// The matrices that keep the plane, and those that cross.
    type Factor = [__m512i; 2];

    #[inline(always)]
    unsafe fn factor(matrices: &Matrices) -> Self::Factor {
        // SAFETY: the features are the caller's promise; the four matrices are 32 bytes to read.
        unsafe {
            let all = _mm512_castsi256_si512(_mm256_loadu_si256(matrices.0.as_ptr().cast()));
            [
                _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1), all),
                _mm512_permutexvar_epi64(_mm512_setr_epi64(2, 2, 2, 2, 3, 3, 3, 3), all),
            ]
        }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the features are the caller's promise.
        Self(unsafe { _mm512_setzero_si512() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the features and 64 bytes to read are the caller's promise.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the features and 64 bytes to write are the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the features are the caller's promise.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn add_product(self, other: Self, by: &Self::Factor) -> Self {
        // SAFETY: the features are the caller's promise.
        unsafe {
            let exchanged = _mm512_shuffle_i64x2::<0b01_00_11_10>(other.0, other.0);
            let kept = _mm512_gf2p8affine_epi64_epi8::<0>(other.0, by[0]);
            let crossed = _mm512_gf2p8affine_epi64_epi8::<0>(exchanged, by[1]);
            // The truth table of a three-way XOR has odd parity.
            Self(_mm512_ternarylogic_epi64::<0b1001_0110>(self.0, kept, crossed))
        }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: a prefetch reads nothing that the program sees, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}

/// A block in two registers: low bytes, high bytes.
#[derive(Clone, Copy)]
struct Halves {
    low: __m256i,
    high: __m256i,
}

impl Block for Halves {
    /// As [`Matrices`], each repeated.
    type Factor = [__m256i; 4];

    #[inline(always)]
    unsafe fn factor(matrices: &Matrices) -> Self::Factor {
        let [a, b, c, d] = matrices.0.map(u64::cast_signed);
        // SAFETY: the features are the caller's promise.
        unsafe { [_mm256_set1_epi64x(a), _mm256_set1_epi64x(b), _mm256_set1_epi64x(c), _mm256_set1_epi64x(d)] }
    }

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the features are the caller's promise.
        unsafe { Self { low: _mm256_setzero_si256(), high: _mm256_setzero_si256() } }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the features and 64 bytes to read are the caller's promise.
        unsafe { Self { low: _mm256_loadu_si256(from.cast()), high: _mm256_loadu_si256(from.wrapping_add(32).cast()) } }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the features and 64 bytes to write are the caller's promise.
        unsafe {
            _mm256_storeu_si256(to.cast(), self.low);
            _mm256_storeu_si256(to.wrapping_add(32).cast(), self.high);
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the features are the caller's promise.
        unsafe { Self { low: _mm256_xor_si256(self.low, other.low), high: _mm256_xor_si256(self.high, other.high) } }
    }

    #[inline(always)]
    unsafe fn add_product(self, other: Self, by: &Self::Factor) -> Self {
        let [low_low, high_high, high_to_low, low_to_high] = *by;
        // SAFETY: the features are the caller's promise.
        unsafe {
            let low = _mm256_xor_si256(
                _mm256_gf2p8affine_epi64_epi8::<0>(other.low, low_low),
                _mm256_gf2p8affine_epi64_epi8::<0>(other.high, high_to_low),
            );
            let high = _mm256_xor_si256(
                _mm256_gf2p8affine_epi64_epi8::<0>(other.low, low_to_high),
                _mm256_gf2p8affine_epi64_epi8::<0>(other.high, high_high),
            );
            Self { low: _mm256_xor_si256(self.low, low), high: _mm256_xor_si256(self.high, high) }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: a prefetch reads nothing that the program sees, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
}
