//! SSSE3 with nibble tables: 16 bytes a register, 16 registers.

use super::super::dense::{self, Group};
use super::super::family::Family;
use super::super::lanes::Lanes;
use super::super::lch::{self, Lch};
use super::super::nibble::NIBBLE_PRODUCTS;
use super::super::vector::Vector;
use super::NibbleProducts;
use core::arch::x86_64::*;
use std::ptr::copy_nonoverlapping;

/// Proof that this CPU has SSSE3. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Ssse3(());

impl Ssse3 {
    pub(in super::super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("ssse3").then_some(Self(()))
    }
}

impl Family for Ssse3 {
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

#[target_feature(enable = "ssse3")]
fn dense_loop<const M: usize, const U: usize, const SUMS: bool>(group: &Group<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Xmm`.
    unsafe { dense::run::<Xmm, M, U, SUMS>(group, lanes) }
}

#[target_feature(enable = "ssse3")]
fn lch_registers<const M: usize, const U: usize>(lch: &Lch<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Xmm`.
    unsafe { lch::registers::<Xmm, M, U>(lch, lanes) }
}

#[target_feature(enable = "ssse3")]
fn lch_tiled(lch: &Lch<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Xmm`.
    unsafe { lch::tiled::<Xmm>(lch, lanes) }
}

/// 16 bytes.
#[derive(Clone, Copy)]
struct Xmm(__m128i);

impl Vector for Xmm {
    const BYTES: usize = size_of::<__m128i>();
    const PAIRS: bool = false;

    type Factor = NibbleProducts;
    type Multiplier = [__m128i; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm_setzero_si128()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm_loadu_si128(from.cast())) }
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
        unsafe { _mm_storeu_si128(to.cast(), self.0) }
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
        unsafe { _mm_stream_si128(to.cast(), self.0) }
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
        unsafe { Self(_mm_xor_si128(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn xor3(self, second: Self, third: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.xor(second.xor(third)) }
    }

    #[inline(always)]
    unsafe fn multiplier(factor: &NibbleProducts) -> [__m128i; 2] {
        // SAFETY: the caller's promise; a table is sixteen bytes to read.
        unsafe {
            let whole = |table: &[u8; 16]| _mm_loadu_si128(table.as_ptr().cast());
            [whole(&factor.low), whole(&factor.high)]
        }
    }

    #[inline(always)]
    unsafe fn times(self, [low_products, high_products]: [__m128i; 2]) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let nibble = _mm_set1_epi8(0x0F);
            let low = _mm_and_si128(self.0, nibble);
            // There is no shift of bytes; what a wider shift drags in from the next byte is masked away.
            let high = _mm_and_si128(_mm_srli_epi64::<4>(self.0), nibble);
            let (low, high) = (_mm_shuffle_epi8(low_products, low), _mm_shuffle_epi8(high_products, high));
            Self(_mm_xor_si128(low, high))
        }
    }
}
