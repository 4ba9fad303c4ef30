//! AVX-512 with GFNI: 64 bytes a register, 32 registers, masked tails.

use super::super::dense::{self, Group};
use super::super::family::Family;
use super::super::lanes::Lanes;
use super::super::lch::{self, Lch};
use super::super::vector::Vector;
use super::AFFINE_MATRICES;
use core::arch::x86_64::*;

/// Proof that this CPU has GFNI and the parts of AVX-512 used here. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Avx512Gfni(());

impl Avx512Gfni {
    pub(in super::super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("gfni");
        found.then_some(Self(()))
    }
}

impl Family for Avx512Gfni {
    const LCH_ORDER_MAX: usize = lch::ORDER_MAX;

    type Factor = u64;

    fn factor(self, coefficient: u8) -> u64 {
        AFFINE_MATRICES[usize::from(coefficient)]
    }

    fn dense(self, group: &Group<u64>, lanes: &mut Lanes<'_>) {
        // Vectors per step: as many as leave registers for two inputs and two matrices beside the sums.
        let run: unsafe fn(&Group<u64>, &Lanes<'_>) = match (group.rows.len(), group.has_sums()) {
            (0, _) => dense_loop::<0, 8, true>,
            (1, false) => dense_loop::<1, 4, false>,
            (2, false) => dense_loop::<2, 4, false>,
            (3, false) => dense_loop::<3, 4, false>,
            (4, false) => dense_loop::<4, 4, false>,
            (5, false) => dense_loop::<5, 3, false>,
            (6, false) => dense_loop::<6, 3, false>,
            (1, true) => dense_loop::<1, 4, true>,
            (2, true) => dense_loop::<2, 4, true>,
            (3, true) => dense_loop::<3, 4, true>,
            (4, true) => dense_loop::<4, 3, true>,
            (5, true) => dense_loop::<5, 3, true>,
            (6, true) => dense_loop::<6, 2, true>,
            (rows, _) => unreachable!("a group has at most {} rows, not {rows}", dense::ROWS_MAX),
        };
        // SAFETY: `self` exists only where `detect` saw the features that all of these functions enable.
        unsafe { run(group, lanes) }
    }

    fn add_scaled(self, target: &mut [u8], source: &[u8], coefficient: u8) {
        // SAFETY: `self` exists only where `detect` saw the features that the function enables.
        unsafe { add_scaled(target, source, AFFINE_MATRICES[usize::from(coefficient)]) }
    }

    fn lch(self, lch: &Lch<u64>, lanes: &mut Lanes<'_>) {
        let run: unsafe fn(&Lch<u64>, &Lanes<'_>) = match lch.order {
            2 => lch_registers::<2, 4>,
            4 => lch_registers::<4, 4>,
            8 => lch_registers::<8, 2>,
            _ => lch_tiled,
        };
        // SAFETY: `self` exists only where `detect` saw the features that all of these functions enable.
        unsafe { run(lch, lanes) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn dense_loop<const M: usize, const U: usize, const SUMS: bool>(group: &Group<u64>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Zmm`.
    unsafe { dense::run::<Zmm, M, U, SUMS>(group, lanes) }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn lch_registers<const M: usize, const U: usize>(lch: &Lch<u64>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Zmm`.
    unsafe { lch::registers::<Zmm, M, U>(lch, lanes) }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn lch_tiled(lch: &Lch<u64>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Zmm`.
    unsafe { lch::tiled::<Zmm>(lch, lanes) }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn add_scaled(target: &mut [u8], source: &[u8], factor: u64) {
    // SAFETY: compiled for the features of `Zmm`.
    unsafe { dense::add_scaled::<Zmm>(target, source, &factor) }
}

/// 64 bytes.
#[derive(Clone, Copy)]
struct Zmm(__m512i);

impl Vector for Zmm {
    const BYTES: usize = size_of::<__m512i>();
    const PAIRS: bool = true;

    type Factor = u64;
    type Multiplier = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm512_setzero_si512()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const u8, bytes: usize) -> Self {
        // SAFETY: the caller's promise; bytes that the mask leaves out are not touched.
        unsafe { Self(_mm512_maskz_loadu_epi8(first(bytes), from.cast())) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise; bytes that the mask leaves out are not touched.
        unsafe { _mm512_mask_storeu_epi8(to.cast(), first(bytes), self.0) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_stream_si512(to.cast(), self.0) }
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
        unsafe { Self(_mm512_xor_si512(self.0, other.0)) }
    }

    /// One instruction: the truth table of a three-way sum has odd parity, 0b1001_0110.
    #[inline(always)]
    unsafe fn xor3(self, second: Self, third: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm512_ternarylogic_epi64::<0b1001_0110>(self.0, second.0, third.0)) }
    }

    #[inline(always)]
    unsafe fn multiplier(factor: &u64) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi64(factor.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn times(self, multiplier: __m512i) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm512_gf2p8affine_epi64_epi8::<0>(self.0, multiplier)) }
    }
}

/// A mask of the first `bytes` bytes, 1 to 64.
#[inline(always)]
fn first(bytes: usize) -> __mmask64 {
    u64::MAX >> 64usize.saturating_sub(bytes)
}
