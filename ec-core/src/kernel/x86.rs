//! Kernels for x86-64: GFNI in registers of 512 and 256 bits, and nibble tables with AVX2.
//!
//! All three are the same loop. A step takes a piece of every output, starts its sums at zero, adds each input's piece
//! times each row's coefficient, and writes the sums once: nothing but the inputs and the tables is read.
//!
//! GFNI has a multiply of its own, `gf2p8mulb`, but that one reduces by 0x11B, the AES polynomial: the wrong field for
//! us. Multiplication by a constant is linear over bits in either field, so we use `gf2p8affineqb`, with the constant
//! written out as an 8 by 8 matrix of bits.

use super::transform::{COLUMNS_MAX, ROWS_MAX, Shape};
use crate::gf;
use core::arch::x86_64::*;
use std::array;
use std::marker::PhantomData;
use std::ops::Range;

/// Proof that this CPU has GFNI and the parts of AVX-512 used here. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512Gfni(());

/// Proof that this CPU has GFNI and AVX2. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2Gfni(());

/// Proof that this CPU has AVX2. Only `detect` makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx512Gfni {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("gfni");
        found.then_some(Self(()))
    }

    pub(super) fn run(self, matrices: &[u64], lanes: &Lanes<'_>) {
        // Vectors per step: as many as leave registers for two inputs and two matrices beside the sums.
        let dense: unsafe fn(&[u64], &Lanes<'_>) = match lanes.targets().len() {
            1 => avx512_gfni::<1, 4>,
            2 => avx512_gfni::<2, 4>,
            3 => avx512_gfni::<3, 4>,
            4 => avx512_gfni::<4, 4>,
            5 => avx512_gfni::<5, 3>,
            6 => avx512_gfni::<6, 3>,
            rows => unreachable!("a group has 1 to {ROWS_MAX} rows, not {rows}"),
        };
        // SAFETY: `self` exists only where `detect` saw the features that all of these functions enable.
        unsafe { dense(matrices, lanes) }
    }
}

impl Avx2Gfni {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni")).then_some(Self(()))
    }

    pub(super) fn run(self, matrices: &[u64], lanes: &Lanes<'_>) {
        let dense: unsafe fn(&[u64], &Lanes<'_>) = match lanes.targets().len() {
            1 => avx2_gfni::<1, 4>,
            2 => avx2_gfni::<2, 4>,
            3 => avx2_gfni::<3, 2>,
            4 => avx2_gfni::<4, 2>,
            5 => avx2_gfni::<5, 2>,
            6 => avx2_gfni::<6, 1>,
            rows => unreachable!("a group has 1 to {ROWS_MAX} rows, not {rows}"),
        };
        // SAFETY: `self` exists only where `detect` saw the features that all of these functions enable.
        unsafe { dense(matrices, lanes) }
    }
}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub(super) fn run(self, products: &[NibbleProducts], lanes: &Lanes<'_>) {
        let dense: unsafe fn(&[NibbleProducts], &Lanes<'_>) = match lanes.targets().len() {
            1 => avx2::<1, 2>,
            2 => avx2::<2, 2>,
            3 => avx2::<3, 2>,
            4 => avx2::<4, 2>,
            5 => avx2::<5, 1>,
            6 => avx2::<6, 1>,
            rows => unreachable!("a group has 1 to {ROWS_MAX} rows, not {rows}"),
        };
        // SAFETY: `self` exists only where `detect` saw the feature that all of these functions enable.
        unsafe { dense(products, lanes) }
    }
}

/// Multiplication by a constant as `gf2p8affineqb` takes it: byte `7 - i` holds the input bits whose sum is output bit
/// `i`.
pub(super) const fn affine_matrix(coefficient: u8) -> u64 {
    let mut rows = [0; 8];
    let mut input_bit = 0;
    while input_bit < 8 {
        let image = gf::mul_by_definition(coefficient, 1 << input_bit);
        let mut output_bit = 0;
        while output_bit < 8 {
            rows[7 - output_bit] |= (image >> output_bit & 1) << input_bit;
            output_bit += 1;
        }
        input_bit += 1;
    }
    u64::from_le_bytes(rows)
}

/// Products of one coefficient with the sixteen low and the sixteen high nibbles: a byte is the sum of its two.
#[derive(Clone, Copy)]
pub(super) struct NibbleProducts {
    low: [u8; 16],
    high: [u8; 16],
}

const NIBBLES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

pub(super) fn nibble_products(coefficient: u8) -> NibbleProducts {
    NibbleProducts {
        low: NIBBLES.map(|nibble| gf::mul_by_definition(coefficient, nibble)),
        high: NIBBLES.map(|nibble| gf::mul_by_definition(coefficient, nibble << 4)),
    }
}

/// The buffers of one group over one range, as pointers: each is good for `len` bytes while the borrow lasts, and no
/// target overlaps anything else. Made only from slices, cut to the range with the usual checks.
pub(super) struct Lanes<'a> {
    sources: [*const u8; COLUMNS_MAX],
    columns: usize,
    targets: [*mut u8; ROWS_MAX],
    rows: usize,
    len: usize,
    adds: bool,
    borrow: PhantomData<(&'a [u8], &'a mut [u8])>,
}

impl<'a> Lanes<'a> {
    pub(super) fn gather(
        shape: &Shape,
        inputs: &'a [&[u8]],
        outputs: &'a mut [&mut [u8]],
        range: Range<usize>,
    ) -> Self {
        Self::select(&shape.rows, &shape.columns, shape.adds, inputs, outputs, range)
    }

    fn select(
        rows: &[usize],
        columns: &[usize],
        adds: bool,
        inputs: &'a [&[u8]],
        outputs: &'a mut [&mut [u8]],
        range: Range<usize>,
    ) -> Self {
        let mut lanes = Self {
            sources: [std::ptr::null(); COLUMNS_MAX],
            columns: columns.len(),
            targets: [std::ptr::null_mut(); ROWS_MAX],
            rows: rows.len(),
            len: range.len(),
            adds,
            borrow: PhantomData,
        };
        for (source, &column) in lanes.sources[..lanes.columns].iter_mut().zip(columns) {
            *source = inputs[column][range.clone()].as_ptr();
        }
        for (target, &row) in lanes.targets[..lanes.rows].iter_mut().zip(rows) {
            *target = outputs[row][range.clone()].as_mut_ptr();
        }
        lanes
    }

    fn sources(&self) -> &[*const u8] {
        &self.sources[..self.columns]
    }

    fn targets(&self) -> &[*mut u8] {
        &self.targets[..self.rows]
    }
}

const AVX2_BYTES: usize = size_of::<__m256i>();
const AVX512_BYTES: usize = size_of::<__m512i>();

/// The positions of copies, which lie in the order of the shape.
const IN_ORDER: [usize; COLUMNS_MAX] = {
    let mut positions = [0; COLUMNS_MAX];
    let mut at = 0;
    while at < COLUMNS_MAX {
        positions[at] = at;
        at += 1;
    }
    positions
};

// The rows of a group are numbered from the same list.
const _: () = assert!(ROWS_MAX <= COLUMNS_MAX);

/// For kernels that cannot mask: gives `run` the whole vectors of the range where they lie, and then the rest of it in
/// copies filled up with zeros.
pub(super) fn in_whole_vectors(
    shape: &Shape,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    range: Range<usize>,
    run: impl Fn(&Lanes<'_>),
) {
    let rest = range.end - range.len() % AVX2_BYTES..range.end;
    run(&Lanes::gather(shape, inputs, outputs, range.start..rest.start));
    if rest.is_empty() {
        return;
    }
    let mut sources = [[0; AVX2_BYTES]; COLUMNS_MAX];
    let mut targets = [[0; AVX2_BYTES]; ROWS_MAX];
    for (copy, &column) in sources.iter_mut().zip(&shape.columns) {
        copy[..rest.len()].copy_from_slice(&inputs[column][rest.clone()]);
    }
    for (copy, &row) in targets.iter_mut().zip(&shape.rows) {
        copy[..rest.len()].copy_from_slice(&outputs[row][rest.clone()]);
    }
    let source_slices = sources.each_ref().map(<[u8; AVX2_BYTES]>::as_slice);
    let mut target_slices = targets.each_mut().map(<[u8; AVX2_BYTES]>::as_mut_slice);
    let (rows, columns) = (&IN_ORDER[..shape.rows.len()], &IN_ORDER[..shape.columns.len()]);
    run(&Lanes::select(rows, columns, shape.adds, &source_slices, &mut target_slices, 0..AVX2_BYTES));
    for (copy, &row) in targets.iter().zip(&shape.rows) {
        outputs[row][rest.clone()].copy_from_slice(&copy[..rest.len()]);
    }
}

/// `M` rows, `U` vectors at a time; the last few one by one and masked.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn avx512_gfni<const M: usize, const U: usize>(matrices: &[u64], lanes: &Lanes<'_>) {
    let matrices = table_rows::<u64, M>(matrices, lanes);
    let (pairs, last) = lanes.sources().as_chunks::<2>();
    let (pair_matrices, last_matrices) = matrices.as_chunks::<2>();
    let zero = _mm512_setzero_si512();
    let mut at = 0;
    while lanes.len - at >= U * AVX512_BYTES {
        // SAFETY: the pointer is one of `lanes`, good for `len` bytes, and `U` vectors from `at` on are below `len`.
        let load = |from: *const u8, u: usize| unsafe { _mm512_loadu_si512(from.add(at).add(u * AVX512_BYTES).cast()) };
        let mut sums = [[zero; U]; M];
        if lanes.adds {
            sums = array::from_fn(|row| array::from_fn(|u| load(lanes.targets[row], u)));
        }
        for (&[p, q], [p_matrices, q_matrices]) in pairs.iter().zip(pair_matrices) {
            let (p, q): ([_; U], [_; U]) = (array::from_fn(|u| load(p, u)), array::from_fn(|u| load(q, u)));
            for row in 0..M {
                let p_matrix = _mm512_set1_epi64(p_matrices[row].cast_signed());
                let q_matrix = _mm512_set1_epi64(q_matrices[row].cast_signed());
                for u in 0..U {
                    sums[row][u] = add_both_512(sums[row][u], [p[u], q[u]], [p_matrix, q_matrix]);
                }
            }
        }
        for (&p, p_matrices) in last.iter().zip(last_matrices) {
            let p: [_; U] = array::from_fn(|u| load(p, u));
            for row in 0..M {
                let p_matrix = _mm512_set1_epi64(p_matrices[row].cast_signed());
                for u in 0..U {
                    let product = _mm512_gf2p8affine_epi64_epi8::<0>(p[u], p_matrix);
                    sums[row][u] = _mm512_xor_si512(sums[row][u], product);
                }
            }
        }
        for (target, sums) in lanes.targets().iter().zip(sums) {
            for (u, sum) in sums.into_iter().enumerate() {
                // SAFETY: as for `load`; and the target is ours alone to write.
                unsafe { _mm512_storeu_si512(target.add(at).add(u * AVX512_BYTES).cast(), sum) }
            }
        }
        at += U * AVX512_BYTES;
    }
    while at < lanes.len {
        let mask = u64::MAX >> AVX512_BYTES.saturating_sub(lanes.len - at);
        // SAFETY: the pointer is one of `lanes`, good for `len` bytes, and the mask lets no byte from `len` on be read.
        let load = |from: *const u8| unsafe { _mm512_maskz_loadu_epi8(mask, from.add(at).cast()) };
        let mut sums = [zero; M];
        if lanes.adds {
            sums = array::from_fn(|row| load(lanes.targets[row]));
        }
        for (&[p, q], [p_matrices, q_matrices]) in pairs.iter().zip(pair_matrices) {
            let inputs = [load(p), load(q)];
            for row in 0..M {
                let p_matrix = _mm512_set1_epi64(p_matrices[row].cast_signed());
                let q_matrix = _mm512_set1_epi64(q_matrices[row].cast_signed());
                sums[row] = add_both_512(sums[row], inputs, [p_matrix, q_matrix]);
            }
        }
        for (&p, p_matrices) in last.iter().zip(last_matrices) {
            let input = load(p);
            for row in 0..M {
                let p_matrix = _mm512_set1_epi64(p_matrices[row].cast_signed());
                sums[row] = _mm512_xor_si512(sums[row], _mm512_gf2p8affine_epi64_epi8::<0>(input, p_matrix));
            }
        }
        for (target, sum) in lanes.targets().iter().zip(sums) {
            // SAFETY: as for `load`; and the target is ours alone to write.
            unsafe { _mm512_mask_storeu_epi8(target.add(at).cast(), mask, sum) }
        }
        at += AVX512_BYTES.min(lanes.len - at);
    }
}

/// Adds two products in one instruction: the truth table of a three-way XOR has odd parity, 0b1001_0110.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn add_both_512(sum: __m512i, inputs: [__m512i; 2], matrices: [__m512i; 2]) -> __m512i {
    let [p, q] = inputs;
    let [p_matrix, q_matrix] = matrices;
    let p = _mm512_gf2p8affine_epi64_epi8::<0>(p, p_matrix);
    let q = _mm512_gf2p8affine_epi64_epi8::<0>(q, q_matrix);
    _mm512_ternarylogic_epi64::<0b1001_0110>(sum, p, q)
}

/// `M` rows, `U` vectors at a time and then one by one. The lanes hold whole vectors.
#[target_feature(enable = "avx2,gfni")]
fn avx2_gfni<const M: usize, const U: usize>(matrices: &[u64], lanes: &Lanes<'_>) {
    let many = lanes.len - lanes.len % (U * AVX2_BYTES);
    avx2_gfni_range::<M, U>(matrices, lanes, 0..many);
    avx2_gfni_range::<M, 1>(matrices, lanes, many..lanes.len);
}

#[inline]
#[target_feature(enable = "avx2,gfni")]
fn avx2_gfni_range<const M: usize, const U: usize>(matrices: &[u64], lanes: &Lanes<'_>, range: Range<usize>) {
    let matrices = table_rows::<u64, M>(matrices, lanes);
    for at in whole_steps(lanes, range, U * AVX2_BYTES) {
        // SAFETY: the pointer is one of `lanes`, good for `len` bytes, and `whole_steps` keeps `U` vectors below `len`.
        let load = |from: *const u8, u: usize| unsafe { _mm256_loadu_si256(from.add(at).add(u * AVX2_BYTES).cast()) };
        let mut sums = [[_mm256_setzero_si256(); U]; M];
        if lanes.adds {
            sums = array::from_fn(|row| array::from_fn(|u| load(lanes.targets[row], u)));
        }
        for (&source, matrices) in lanes.sources().iter().zip(matrices) {
            let input: [_; U] = array::from_fn(|u| load(source, u));
            for row in 0..M {
                let matrix = _mm256_set1_epi64x(matrices[row].cast_signed());
                for u in 0..U {
                    let product = _mm256_gf2p8affine_epi64_epi8::<0>(input[u], matrix);
                    sums[row][u] = _mm256_xor_si256(sums[row][u], product);
                }
            }
        }
        for (target, sums) in lanes.targets().iter().zip(sums) {
            for (u, sum) in sums.into_iter().enumerate() {
                // SAFETY: as for `load`; and the target is ours alone to write.
                unsafe { _mm256_storeu_si256(target.add(at).add(u * AVX2_BYTES).cast(), sum) }
            }
        }
    }
}

/// `M` rows, `U` vectors at a time and then one by one. The lanes hold whole vectors.
#[target_feature(enable = "avx2")]
fn avx2<const M: usize, const U: usize>(products: &[NibbleProducts], lanes: &Lanes<'_>) {
    let many = lanes.len - lanes.len % (U * AVX2_BYTES);
    avx2_range::<M, U>(products, lanes, 0..many);
    avx2_range::<M, 1>(products, lanes, many..lanes.len);
}

#[inline]
#[target_feature(enable = "avx2")]
fn avx2_range<const M: usize, const U: usize>(products: &[NibbleProducts], lanes: &Lanes<'_>, range: Range<usize>) {
    let products = table_rows::<NibbleProducts, M>(products, lanes);
    let nibble = _mm256_set1_epi8(0x0F);
    for at in whole_steps(lanes, range, U * AVX2_BYTES) {
        // SAFETY: the pointer is one of `lanes`, good for `len` bytes, and `whole_steps` keeps `U` vectors below `len`.
        let load = |from: *const u8, u: usize| unsafe { _mm256_loadu_si256(from.add(at).add(u * AVX2_BYTES).cast()) };
        let mut sums = [[_mm256_setzero_si256(); U]; M];
        if lanes.adds {
            sums = array::from_fn(|row| array::from_fn(|u| load(lanes.targets[row], u)));
        }
        for (&source, products) in lanes.sources().iter().zip(products) {
            let input: [_; U] = array::from_fn(|u| load(source, u));
            let low = input.map(|input| _mm256_and_si256(input, nibble));
            // There is no shift of bytes; what a wider shift drags in from the next byte is masked away.
            let high = input.map(|input| _mm256_and_si256(_mm256_srli_epi64::<4>(input), nibble));
            for row in 0..M {
                let low_products = both_halves(&products[row].low);
                let high_products = both_halves(&products[row].high);
                for u in 0..U {
                    let low = _mm256_shuffle_epi8(low_products, low[u]);
                    let high = _mm256_shuffle_epi8(high_products, high[u]);
                    sums[row][u] = _mm256_xor_si256(sums[row][u], _mm256_xor_si256(low, high));
                }
            }
        }
        for (target, sums) in lanes.targets().iter().zip(sums) {
            for (u, sum) in sums.into_iter().enumerate() {
                // SAFETY: as for `load`; and the target is ours alone to write.
                unsafe { _mm256_storeu_si256(target.add(at).add(u * AVX2_BYTES).cast(), sum) }
            }
        }
    }
}

/// The table twice: a shuffle looks up within each half of the register.
#[inline]
#[target_feature(enable = "avx2")]
fn both_halves(table: &[u8; 16]) -> __m256i {
    // SAFETY: the array is sixteen bytes to read.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// The tables of each column, `M` rows of them.
#[inline]
fn table_rows<'a, T, const M: usize>(tables: &'a [T], lanes: &Lanes<'_>) -> &'a [[T; M]] {
    let (tables, left_over) = tables.as_chunks::<M>();
    assert!(left_over.is_empty() && tables.len() == lanes.columns && lanes.rows == M, "tables of another shape");
    tables
}

/// Offsets of the steps in a range; each has `step` bytes within the lanes before it.
#[inline]
fn whole_steps(lanes: &Lanes<'_>, range: Range<usize>, step: usize) -> impl Iterator<Item = usize> {
    assert!(range.end <= lanes.len && range.len().is_multiple_of(step), "a range of whole steps");
    range.step_by(step)
}
