//! What a kernel must reproduce before anybody may use it: a CPU, a hypervisor or a build that gets an instruction wrong would
//! otherwise spoil every fragment it writes.
//!
//! Every product of the field; sums with every number of rows, alone, with plain sums on the way and added to what is there;
//! several groups of rows, and more columns than a group has; the first bytes of a register, each number of them; the transform
//! of the native matrix, in registers and on tiles, whose parities are stored here as checksums; and a repair by syndromes. All
//! of it through the caches and past them. The codes over GF(2^16) have a test of their own, at their first use.

use super::dense::ROWS_MAX;
use super::lanes::SOURCES_MAX;
use super::{Kernel, Locality, Multiplier, Transform};
use crate::code::{Code, native_parity_rows, shard};
use crate::error::{DecodeError, KernelError};
use crate::gf;
use crate::matrix::Matrix;
use crate::plan::RepairPlan;
use crate::shard::ShardSet;
use std::ops::Range;

/// Known products, from the field's definition on paper, so that not even [`gf::mul_by_definition`] is taken on trust.
const PRODUCTS: [(u8, u8, u8); 6] =
    [(0, 0xFF, 0), (1, 0xA7, 0xA7), (2, 0x80, 0x1D), (0x80, 0x80, 0x13), (0x8E, 2, 1), (0xFF, 0xFF, 0xE2)];

const _: () = {
    let mut at = 0;
    while at < PRODUCTS.len() {
        assert!(gf::mul_by_definition(PRODUCTS[at].0, PRODUCTS[at].1) == PRODUCTS[at].2);
        at += 1;
    }
};

/// Parities of the native matrix by the plain definition.
pub(super) struct Golden {
    pub(super) k: usize,
    pub(super) m: usize,
    /// [`checksum`] of all parities, one after the other.
    pub(super) checksum: u64,
}

const fn golden(k: usize, m: usize, checksum: u64) -> Golden {
    Golden { k, m, checksum }
}

/// A code for every number of points and every number of inputs in the last block of a transform in registers.
pub(super) const GOLDEN: [Golden; 15] = [
    golden(5, 2, 0x5AC5_5C93_8393_B932),
    golden(17, 3, 0x6408_8EFA_AF35_252C),
    golden(10, 4, 0x2DA4_55E4_324E_084F),
    golden(11, 4, 0xFB47_6198_8268_A3F1),
    golden(9, 8, 0xE57C_CA65_00B8_4710),
    golden(10, 8, 0x158D_FCA8_AE1E_095B),
    golden(11, 7, 0xC818_28B5_D1C7_26A3),
    golden(12, 8, 0x641D_6546_51FC_AB77),
    golden(13, 6, 0x67D8_311F_DABC_093E),
    golden(14, 8, 0x31A0_47DC_78CD_1C66),
    golden(15, 8, 0xA18F_92AC_C8DF_CF1A),
    golden(37, 16, 0xC866_372E_1FBA_721B),
    golden(41, 20, 0xF7CB_0E86_41FD_E437),
    golden(70, 40, 0x6B62_4146_179C_77B9),
    golden(120, 100, 0x7B1A_4642_FACB_3D01),
];

impl Golden {
    /// Whole steps of every kernel, then a single vector, then less than one; on tiles a whole row of one before that.
    pub(super) fn len(&self) -> usize {
        if self.m > 8 { 512 + MIXED - 256 } else { MIXED }
    }
}

/// Whole steps of every kernel, then a single vector, then less than one.
const MIXED: usize = 256 + 32 + 31;

/// [`checksum`] of what [`repair`] gives.
pub(super) const GOLDEN_REPAIR: u64 = 0x034C_B72A_3836_C87F;

/// More than one block of the parities that syndromes are made of, and less than one step at the end.
pub(super) const REPAIRED: usize = 512 + MIXED - 256;

/// A cache line, and the widest register.
const LINE: usize = 64;

/// What is in outputs before, and after them afterwards.
const BEFORE: u8 = 0xEE;

/// How the kernel under test is to prepare the coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Matrix,
    /// Added to what the outputs hold.
    Adding,
    /// The native matrix, by its transform.
    Transform,
    /// The coefficients of [`repair`], by the transform and a matrix over its syndromes.
    Syndromes,
}

/// A repair whose cheapest way is by syndromes: most of the parities, and two of themselves, are lost.
pub(super) fn repair(kernel: Kernel) -> Option<RepairPlan> {
    let code = Code::with_kernel(&"rs:40+16".parse().ok()?, kernel).ok()?;
    let lost: ShardSet = (0..11).chain([41, 55]).map(shard).collect();
    code.plan(&lost, &lost.complement(code.n())).ok()
}

/// FNV-1a by words of eight bytes: no secret, but each bit and its place count.
pub(super) fn checksum<'a>(buffers: impl Iterator<Item = &'a [u8]>) -> u64 {
    let add = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(29);
    buffers.fold(0xCBF2_9CE4_8422_2325, |sum, buffer| {
        let (words, rest) = buffer.as_chunks::<8>();
        let sum = words.iter().fold(sum, |sum, &word| add(sum, u64::from_le_bytes(word)));
        rest.iter().fold(sum, |sum, &byte| add(sum, byte.into()))
    })
}

/// Bytes that count up. Each input begins elsewhere in them, or sums with two columns exchanged would come out right.
static RAMP: [u8; 256 + 512 + MIXED] = {
    let mut ramp = [0; _];
    let mut at = 0;
    while at < ramp.len() {
        ramp[at] = at.to_le_bytes()[0];
        at += 1;
    }
    ramp
};

pub(super) fn inputs(columns: usize, len: usize) -> Vec<&'static [u8]> {
    (0..columns).map(|column| &RAMP[57 * column % 256..][..len]).collect()
}

/// Two rows of plain sums, over an even and an odd number of columns, and so many others over all of them.
fn with_plain_sums(rows: usize) -> Matrix {
    Matrix::from_fn(2 + rows, 9, |row, column| match row {
        0 => u8::from(column < 4),
        1 => u8::from(column >= 4),
        _ => gf::exp2(37 * row + 11 * column + 1),
    })
}

/// What does not depend on the kernel, for all kernels that are tested.
pub(super) struct Known {
    /// Every product of the field.
    products: Vec<[u8; 256]>,
    /// The matrices of [`GOLDEN`].
    natives: Vec<Matrix>,
    repair: Option<RepairPlan>,
}

impl Known {
    pub(super) fn new() -> Self {
        let row = |a: u8| {
            // A product is the sum of those with the bits.
            let bits: [u8; 8] = std::array::from_fn(|bit| gf::mul_by_definition(a, 1 << bit));
            let mut products = [0; 256];
            for b in 1..256usize {
                products[b] = products[b & (b - 1)] ^ bits[b.trailing_zeros() as usize];
            }
            products
        };
        Self {
            products: (0..=u8::MAX).map(row).collect(),
            natives: GOLDEN.iter().map(|golden| native_parity_rows(golden.k, golden.m)).collect(),
            repair: repair(Kernel::portable()),
        }
    }

    /// `sums += coefficient * bytes`
    fn add(&self, sums: &mut [u8], bytes: &[u8], coefficient: u8) {
        let products = &self.products[usize::from(coefficient)];
        sums.iter_mut().zip(bytes).for_each(|(sum, &byte)| *sum ^= products[usize::from(byte)]);
    }
}

/// Tests one kernel.
pub(super) fn self_test(kernel: Kernel, known: &Known) -> Result<(), KernelError> {
    // The portable kernels compute the native matrix like any other.
    let has_transform = !matches!(kernel.multiplier(), Multiplier::ProductTable | Multiplier::LogarithmTable);
    let name = kernel.name();
    let Some(repair) = repair(kernel).filter(|_| rows_are_added(kernel)) else {
        return Err(KernelError::SelfTest { name });
    };
    self_test_with(name, has_transform, known, |by, coefficients, inputs, outputs, locality| {
        let transform = match by {
            By::Matrix => Transform::of_shards(kernel, coefficients),
            By::Adding => Transform::adding_of_shards(kernel, coefficients),
            By::Transform => Transform::native(kernel, coefficients),
            By::Syndromes => return repair.transform().apply_with(inputs, outputs, locality),
        };
        transform.apply_with(inputs, outputs, locality)
    })
}

/// Whether rows of coefficients, of which plans are made, are scaled and added right.
fn rows_are_added(kernel: Kernel) -> bool {
    (0..=LINE + 1).chain([MIXED]).all(|len| {
        let (source, before) = (&RAMP[3..][..len], &RAMP[100..][..len]);
        let mut target = [0; MIXED];
        target[..len].copy_from_slice(before);
        kernel.add_scaled(&mut target[..len], source, 0x53);
        let sum = |(&before, &source): (&u8, &u8)| before ^ gf::mul(0x53, source);
        target[..len].iter().copied().eq(before.iter().zip(source).map(sum)) && target[len..].iter().all(|&it| it == 0)
    })
}

/// Tests whatever `apply` does.
pub(super) fn self_test_with(
    name: &'static str,
    has_transform: bool,
    known: &Known,
    apply: impl Fn(By, &Matrix, &[&[u8]], &mut [&mut [u8]], Locality) -> Result<(), DecodeError>,
) -> Result<(), KernelError> {
    // Whether what comes out is right, through the caches and past them.
    let right = |by, coefficients: &Matrix, inputs: &[&[u8]], is_right: &dyn Fn(&Outputs) -> bool| {
        [Locality::Cached, Locality::Streaming].into_iter().all(|locality| {
            let mut outputs = Outputs::new(coefficients.rows(), inputs.first().map_or(0, |input| input.len()));
            let applied = apply(by, coefficients, inputs, &mut outputs.slices(), locality);
            applied.is_ok() && outputs.ends_stayed() && is_right(&outputs)
        })
    };
    let sums_are_right = |by, coefficients: &Matrix, len: usize| {
        let inputs = inputs(coefficients.columns(), len);
        let mut expected = vec![if by == By::Adding { BEFORE } else { 0 }; coefficients.rows() * len];
        for (row, sums) in expected.chunks_exact_mut(len).enumerate() {
            inputs.iter().zip(coefficients.row(row)).for_each(|(input, &it)| known.add(sums, input, it));
        }
        right(by, coefficients, &inputs, &|outputs| outputs.iter().eq(expected.chunks_exact(len)))
    };
    let parities_are_right = |(golden, rows): (&Golden, &Matrix)| {
        let inputs = inputs(golden.k, golden.len());
        right(By::Transform, rows, &inputs, &|outputs| checksum(outputs.iter()) == golden.checksum)
    };
    let coefficients =
        |rows: usize, columns: usize| Matrix::from_fn(rows, columns, |row, column| gf::exp2(37 * row + 11 * column));
    let shapes_are_right = || {
        (1..=ROWS_MAX).flat_map(|rows| [(rows, 4), (rows, 5)]).all(|(rows, columns)| {
            let coefficients = coefficients(rows, columns);
            [By::Matrix, By::Adding].into_iter().all(|by| sums_are_right(by, &coefficients, MIXED))
        }) && (0..=ROWS_MAX).all(|rows| sums_are_right(By::Matrix, &with_plain_sums(rows), MIXED))
            && sums_are_right(By::Matrix, &coefficients(2 * ROWS_MAX + 1, 3), MIXED)
            && sums_are_right(By::Matrix, &coefficients(2, SOURCES_MAX + 3), LINE + 1)
    };
    let repair_is_right = || {
        // Another kernel has made the plan: one that spoils its own coefficients is noticed, too.
        known.repair.as_ref().is_some_and(|repair| {
            let (coefficients, inputs) = (repair.coefficients(), inputs(repair.reads().len(), REPAIRED));
            right(By::Syndromes, coefficients, &inputs, &|outputs| checksum(outputs.iter()) == GOLDEN_REPAIR)
        })
    };
    let is_as_on_paper = |&(a, b, product): &(u8, u8, u8)| {
        let expected = |outputs: &Outputs| outputs.iter().eq([[product]]);
        right(By::Matrix, &Matrix::from_fn(1, 1, |_, _| a), &[&[b]], &expected)
    };

    let every_byte = Matrix::from_fn(256, 1, |row, _| row.to_le_bytes()[0]);
    let all_are_right = sums_are_right(By::Matrix, &every_byte, 256)
        && shapes_are_right()
        && (1..=LINE).all(|len| sums_are_right(By::Matrix, &coefficients(2, 2), len))
        && (!has_transform || (GOLDEN.iter().zip(&known.natives).all(parities_are_right) && repair_is_right()))
        && PRODUCTS.iter().all(is_as_on_paper);
    if all_are_right { Ok(()) } else { Err(KernelError::SelfTest { name }) }
}

/// Outputs that all begin on a cache line, so that they can be written past the caches, with bytes between that must stay.
struct Outputs {
    bytes: Vec<u8>,
    lines: Range<usize>,
    stride: usize,
    len: usize,
}

impl Outputs {
    fn new(rows: usize, len: usize) -> Self {
        let stride = (len + 1).next_multiple_of(LINE);
        let bytes = vec![BEFORE; rows * stride + LINE];
        let begin = bytes.as_ptr().addr().wrapping_neg() % LINE;
        Self { bytes, lines: begin..begin + rows * stride, stride, len }
    }

    fn slices(&mut self) -> Vec<&mut [u8]> {
        let chunks = self.bytes[self.lines.clone()].chunks_exact_mut(self.stride);
        chunks.map(|chunk| &mut chunk[..self.len]).collect()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[self.lines.clone()].chunks_exact(self.stride).map(|chunk| &chunk[..self.len])
    }

    fn ends_stayed(&self) -> bool {
        let mut chunks = self.bytes[self.lines.clone()].chunks_exact(self.stride);
        chunks.all(|chunk| chunk[self.len..].iter().all(|&byte| byte == BEFORE))
    }
}
