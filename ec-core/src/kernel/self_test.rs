//! What a kernel must reproduce before anybody may use it: a CPU, a hypervisor or a build that gets an instruction wrong would
//! otherwise spoil every fragment it writes.
//!
//! Every product of the field; sums with every number of rows; the first bytes of a register, each number of them; and the
//! transform of the native matrix, in registers and on tiles, whose parities are stored here as checksums. All of it through
//! the caches and past them.

use super::dense::ROWS_MAX;
use super::{Kernel, Locality, Multiplier, Transform};
use crate::code::native_parity_rows;
use crate::error::{DecodeError, KernelError};
use crate::gf;
use crate::matrix::Matrix;
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
    golden(5, 2, 0xD0D2_C743_CB56_E39C),
    golden(17, 3, 0x8C2C_0F8F_AED0_69C9),
    golden(10, 4, 0xD2BA_04D9_7CB2_2358),
    golden(11, 4, 0x0B62_EDE1_B1DF_A3D5),
    golden(9, 8, 0xBB5E_9A0F_42F4_BC50),
    golden(10, 8, 0x1437_FBA8_DAEA_A6AC),
    golden(11, 7, 0xB97B_E9C2_A1D3_AE5E),
    golden(12, 8, 0x2025_8C8E_6FEA_6B1D),
    golden(13, 6, 0xFD9C_5765_6CA4_8009),
    golden(14, 8, 0x2882_D6C2_E29E_7472),
    golden(15, 8, 0xE583_FF32_81D4_BBF3),
    golden(37, 16, 0xC9DA_547A_148B_3DF0),
    golden(41, 20, 0x572C_4E14_1C62_C8A6),
    golden(70, 40, 0x32E5_1006_8EF8_FAA7),
    golden(120, 100, 0x3F32_3D03_951A_9059),
];

impl Golden {
    /// Whole steps of every kernel, then a single vector, then less than one; on tiles a whole row of one before that.
    pub(super) fn len(&self) -> usize {
        if self.m > 8 { 512 + MIXED - 256 } else { MIXED }
    }
}

/// Whole steps of every kernel, then a single vector, then less than one.
const MIXED: usize = 256 + 32 + 31;

/// A cache line, and the widest register.
const LINE: usize = 64;

/// What is in outputs before, and after them afterwards.
const BEFORE: u8 = 0xEE;

/// How the kernel under test is to prepare the coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Matrix,
    /// The native matrix, by its transform.
    Transform,
}

/// FNV-1a: no secret, but each byte and its place count.
pub(super) fn checksum<'a>(buffers: impl Iterator<Item = &'a [u8]>) -> u64 {
    let add = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    buffers.flatten().fold(0xCBF2_9CE4_8422_2325, add)
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

/// Tests one kernel.
pub(super) fn self_test(kernel: Kernel) -> Result<(), KernelError> {
    // The portable kernels compute the native matrix like any other.
    let has_transform = !matches!(kernel.multiplier(), Multiplier::ProductTable | Multiplier::LogarithmTable);
    self_test_with(kernel.name(), has_transform, |by, coefficients, inputs, outputs, locality| {
        let transform = match by {
            By::Matrix => Transform::of_shards(kernel, coefficients),
            By::Transform => Transform::native(kernel, coefficients),
        };
        transform.apply_with(inputs, outputs, locality)
    })
}

/// Tests whatever `apply` does.
pub(super) fn self_test_with(
    name: &'static str,
    has_transform: bool,
    apply: impl Fn(By, &Matrix, &[&[u8]], &mut [&mut [u8]], Locality) -> Result<(), DecodeError>,
) -> Result<(), KernelError> {
    let every_byte: [u8; 256] = std::array::from_fn(|value| value.to_le_bytes()[0]);
    let products = every_byte.map(|a| every_byte.map(|b| gf::mul_by_definition(a, b)));
    let applied = |by, coefficients: &Matrix, inputs: &[&[u8]], locality| {
        let len = inputs.first().map_or(0, |input| input.len());
        let mut outputs = Outputs::new(coefficients.rows(), len);
        apply(by, coefficients, inputs, &mut outputs.slices(), locality).ok()?;
        outputs.ends_stayed().then_some(outputs)
    };
    let sums_are_right = |coefficients: &Matrix, len: usize, locality| {
        let inputs = inputs(coefficients.columns(), len);
        applied(By::Matrix, coefficients, &inputs, locality).is_some_and(|outputs| {
            outputs.iter().enumerate().all(|(row, output)| {
                let mut expected = vec![0; len];
                for (input, &coefficient) in inputs.iter().zip(coefficients.row(row)) {
                    let products = &products[usize::from(coefficient)];
                    expected.iter_mut().zip(*input).for_each(|(sum, &byte)| *sum ^= products[usize::from(byte)]);
                }
                output == expected
            })
        })
    };
    let parities_are_right = |golden: &Golden, locality| {
        let rows = native_parity_rows(golden.k, golden.m);
        let outputs = applied(By::Transform, &rows, &inputs(golden.k, golden.len()), locality);
        outputs.is_some_and(|outputs| checksum(outputs.iter()) == golden.checksum)
    };
    let coefficients =
        |rows: usize, columns: usize| Matrix::from_fn(rows, columns, |row, column| gf::exp2(37 * row + 11 * column));

    let right = [Locality::Cached, Locality::Streaming].into_iter().all(|locality| {
        sums_are_right(&Matrix::from_fn(256, 1, |row, _| every_byte[row]), 256, locality)
            && (1..=ROWS_MAX).all(|rows| (4..=5).all(|it| sums_are_right(&coefficients(rows, it), MIXED, locality)))
            && (1..=LINE).all(|len| sums_are_right(&coefficients(2, 2), len, locality))
            && (!has_transform || GOLDEN.iter().all(|golden| parities_are_right(golden, locality)))
    }) && PRODUCTS.iter().all(|&(a, b, product)| {
        let output = applied(By::Matrix, &Matrix::from_fn(1, 1, |_, _| a), &[&[b]], Locality::Cached);
        output.is_some_and(|output| output.iter().eq([[product]]))
    });
    if right { Ok(()) } else { Err(KernelError::SelfTest { name }) }
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
