//! AVX2 with nibble tables: 32 bytes a register, 16 registers.

use super::super::dense::{self, Group};
use super::super::family::Family;
use super::super::lanes::Lanes;
use super::super::lch::{self, Lch};
use super::super::nibble::NIBBLE_PRODUCTS;
use super::super::vector::Vector;
use super::NibbleProducts;
use core::arch::x86_64::*;
use std::ptr::copy_nonoverlapping;

/// Proof that this CPU has AVX2. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Avx2(());

impl Avx2 {
    pub(in super::super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Family for Avx2 {
    const LCH_ORDER_MAX: usize = lch::ORDER_MAX;

    type Factor = NibbleProducts;

    fn factor(self, coefficient: u8) -> NibbleProducts {
        NIBBLE_PRODUCTS[usize::from(coefficient)]
    }

    fn dense(self, group: &Group<NibbleProducts>, lanes: &mut Lanes<'_>) {
        // Vectors per step: as many as leave registers for both nibbles of an input and both tables beside the sums.
        let run: unsafe fn(&Group<NibbleProducts>, &Lanes<'_>) = match (group.rows.len(), group.has_sums()) {
            (0, _) => dense_loop::<0, 4, true>,
            (1, false) => dense_loop::<1, 2, false>,
            (2, false) => dense_loop::<2, 2, false>,
            (3, false) => dense_loop::<3, 2, false>,
            (4, false) => dense_loop::<4, 2, false>,
            (5, false) => dense_loop::<5, 1, false>,
            (6, false) => dense_loop::<6, 1, false>,
            (1, true) => dense_loop::<1, 2, true>,
            (2, true) => dense_loop::<2, 2, true>,
            (3, true) => dense_loop::<3, 2, true>,
            (4, true) => dense_loop::<4, 2, true>,
            (5, true) => dense_loop::<5, 1, true>,
            (6, true) => dense_loop::<6, 1, true>,
            (rows, _) => unreachable!("a group has at most {} rows, not {rows}", dense::ROWS_MAX),
        };
        // SAFETY: `self` exists only where `detect` saw the features that all of these functions enable.
        unsafe { run(group, lanes) }
    }

    fn lch(self, lch: &Lch<NibbleProducts>, lanes: &mut Lanes<'_>) {
        let run: unsafe fn(&Lch<NibbleProducts>, &Lanes<'_>) = match lch.order {
            2 => lch_registers::<2, 2>,
            4 => lch_registers::<4, 1>,
            8 => lch_registers::<8, 1>,
            _ => lch_tiled,
        };
        // SAFETY: `self` exists only where `detect` saw the features that all of these functions enable.
        unsafe { run(lch, lanes) }
    }
}

#[target_feature(enable = "avx2")]
fn dense_loop<const M: usize, const U: usize, const SUMS: bool>(group: &Group<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Ymm`.
    unsafe { dense::run::<Ymm, M, U, SUMS>(group, lanes) }
}

#[target_feature(enable = "avx2")]
fn lch_registers<const M: usize, const U: usize>(lch: &Lch<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Ymm`.
    unsafe { lch::registers::<Ymm, M, U>(lch, lanes) }
}

#[target_feature(enable = "avx2")]
fn lch_tiled(lch: &Lch<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Ymm`.
    unsafe { lch::tiled::<Ymm>(lch, lanes) }
}

/// 32 bytes.
#[derive(Clone, Copy)]
struct Ymm(__m256i);

impl Vector for Ymm {
    const BYTES: usize = size_of::<__m256i>();
    const PAIRS: bool = false;

    type Factor = NibbleProducts;
    type Multiplier = [__m256i; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm256_setzero_si256()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const u8, bytes: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            if bytes >= Self::BYTES {
                return Self::load(from);
            }
            let mut copy = [0; Self::BYTES];
            copy_nonoverlapping(from, copy.as_mut_ptr(), bytes);
            Self::load(copy.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if bytes >= Self::BYTES {
                return self.store(to);
            }
            let mut copy = [0; Self::BYTES];
            self.store(copy.as_mut_ptr());
            copy_nonoverlapping(copy.as_ptr(), to, bytes);
        }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_stream_si256(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: the caller's promise.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm256_xor_si256(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn xor3(self, second: Self, third: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.xor(second.xor(third)) }
    }

    #[inline(always)]
    unsafe fn multiplier(factor: &NibbleProducts) -> [__m256i; 2] {
        // SAFETY: the caller's promise; a table is sixteen bytes to read.
        unsafe {
            // A shuffle looks up within each half of the register.
            let both_halves = |table: &[u8; 16]| _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [both_halves(&factor.low), both_halves(&factor.high)]
        }
    }

    #[inline(always)]
    unsafe fn times(self, [low_products, high_products]: [__m256i; 2]) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let nibble = _mm256_set1_epi8(0x0F);
            let low = _mm256_and_si256(self.0, nibble);
            // There is no shift of bytes; what a wider shift drags in from the next byte is masked away.
            let high = _mm256_and_si256(_mm256_srli_epi64::<4>(self.0), nibble);
            let (low, high) = (_mm256_shuffle_epi8(low_products, low), _mm256_shuffle_epi8(high_products, high));
            Self(_mm256_xor_si256(low, high))
        }
    }
}
