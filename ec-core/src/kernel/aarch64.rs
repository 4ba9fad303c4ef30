//! NEON with nibble tables: 16 bytes a register, 32 registers.

use super::dense::{self, Group};
use super::family::Family;
use super::lanes::Lanes;
use super::lch::{self, Lch};
use super::nibble::{NIBBLE_PRODUCTS, NibbleProducts};
use super::vector::Vector;
use core::arch::aarch64::*;
use core::arch::asm;
use std::arch::is_aarch64_feature_detected;
use std::ptr::copy_nonoverlapping;

/// Proof that this CPU has NEON. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neon(());

impl Neon {
    pub(super) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

impl Family for Neon {
    const LCH_ORDER_MAX: usize = lch::ORDER_MAX;

    type Factor = NibbleProducts;

    fn factor(self, coefficient: u8) -> NibbleProducts {
        NIBBLE_PRODUCTS[usize::from(coefficient)]
    }

    fn dense(self, group: &Group<NibbleProducts>, lanes: &mut Lanes<'_>) {
        // Vectors per step: as many as leave registers for both nibbles of an input and both tables beside the sums.
        let run: unsafe fn(&Group<NibbleProducts>, &Lanes<'_>) = match (group.rows.len(), group.has_sums()) {
            (0, _) => dense_loop::<0, 8, true>,
            (1, false) => dense_loop::<1, 4, false>,
            (2, false) => dense_loop::<2, 4, false>,
            (3, false) => dense_loop::<3, 4, false>,
            (4, false) => dense_loop::<4, 4, false>,
            (5, false) => dense_loop::<5, 3, false>,
            (6, false) => dense_loop::<6, 2, false>,
            (1, true) => dense_loop::<1, 4, true>,
            (2, true) => dense_loop::<2, 4, true>,
            (3, true) => dense_loop::<3, 4, true>,
            (4, true) => dense_loop::<4, 3, true>,
            (5, true) => dense_loop::<5, 2, true>,
            (6, true) => dense_loop::<6, 2, true>,
            (rows, _) => unreachable!("a group has at most {} rows, not {rows}", dense::ROWS_MAX),
        };
        // SAFETY: `self` exists only where `detect` saw the feature that all of these functions enable.
        unsafe { run(group, lanes) }
    }

    fn lch(self, lch: &Lch<NibbleProducts>, lanes: &mut Lanes<'_>) {
        let run: unsafe fn(&Lch<NibbleProducts>, &Lanes<'_>) = match lch.order {
            2 => lch_registers::<2, 4>,
            4 => lch_registers::<4, 2>,
            8 => lch_registers::<8, 1>,
            _ => lch_tiled,
        };
        // SAFETY: `self` exists only where `detect` saw the feature that all of these functions enable.
        unsafe { run(lch, lanes) }
    }
}

#[target_feature(enable = "neon")]
fn dense_loop<const M: usize, const U: usize, const SUMS: bool>(group: &Group<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Quad`.
    unsafe { dense::run::<Quad, M, U, SUMS>(group, lanes) }
}

#[target_feature(enable = "neon")]
fn lch_registers<const M: usize, const U: usize>(lch: &Lch<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Quad`.
    unsafe { lch::registers::<Quad, M, U>(lch, lanes) }
}

#[target_feature(enable = "neon")]
fn lch_tiled(lch: &Lch<NibbleProducts>, lanes: &Lanes<'_>) {
    // SAFETY: compiled for the features of `Quad`.
    unsafe { lch::tiled::<Quad>(lch, lanes) }
}

/// 16 bytes.
#[derive(Clone, Copy)]
struct Quad(uint8x16_t);

impl Vector for Quad {
    const BYTES: usize = size_of::<uint8x16_t>();
    const PAIRS: bool = false;

    type Factor = NibbleProducts;
    type Multiplier = [uint8x16_t; 2];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(vdupq_n_u8(0)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(vld1q_u8(from)) }
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
        unsafe { vst1q_u8(to, self.0) }
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

    /// An ordinary store: the architecture has only a hint for pairs of registers (`stnp`), and its stores of whole lines need not
    /// read the line first.
    #[inline(always)]
    unsafe fn stream(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to) }
    }

    /// Ordinary stores need no order of their own.
    #[inline(always)]
    unsafe fn fence() {}

    /// The intrinsic is not stable yet.
    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: a hint, which changes nothing and faults nowhere.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) from, options(nostack, preserves_flags, readonly)) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(veorq_u8(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn xor3(self, second: Self, third: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.xor(second.xor(third)) }
    }

    #[inline(always)]
    unsafe fn multiplier(factor: &NibbleProducts) -> [uint8x16_t; 2] {
        // SAFETY: the caller's promise; a table is sixteen bytes to read.
        unsafe { [vld1q_u8(factor.low.as_ptr()), vld1q_u8(factor.high.as_ptr())] }
    }

    #[inline(always)]
    unsafe fn times(self, [low_products, high_products]: [uint8x16_t; 2]) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) = (vandq_u8(self.0, vdupq_n_u8(0x0F)), vshrq_n_u8::<4>(self.0));
            Self(veorq_u8(vqtbl1q_u8(low_products, low), vqtbl1q_u8(high_products, high)))
        }
    }
}
