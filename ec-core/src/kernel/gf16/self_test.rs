//! What a GF(2^16) kernel must reproduce before a wide code may use it: products of every bit with every bit, matrices with every
//! number of rows, and passes of every number of rows in both directions, whose outputs are stored here as checksums.

use super::block::{BLOCK_BYTES, DENSE_COLUMNS_MAX, DENSE_ROWS_MAX};
use super::{Additive, Dense, Gf16Kernel};
use crate::error::KernelError;
use crate::gf16::mul_by_definition;
use crate::kernel::self_test::checksum;

/// Bytes of every buffer: a step of two blocks and one of one.
pub(super) const LEN: usize = 3 * BLOCK_BYTES;

/// [`checksum`] of the outputs of [`transforms`], by the number of layers: one to four are single passes of some kernel, five
/// are several, over sets of rows.
pub(super) const GOLDEN: [u64; 6] = [
    0x6F34_CBEF_1E19_0A11,
    0x6CA3_44E6_9CB5_88B4,
    0xDE16_F1FC_8825_1068,
    0x1B2A_E651_3981_212F,
    0x60AC_C4F1_8F1F_1233,
    0x4DDB_374C_BF0A_EAA3,
];

/// Rows, columns and [`checksum`] of the outputs of [`matrix`]: every number of rows, two groups of them, and more columns than
/// a step has.
pub(super) const MATRICES: [(usize, usize, u64); DENSE_ROWS_MAX + 2] = [
    (1, 2, 0xD211_DF78_7315_2CE8),
    (2, 2, 0xAFEE_1049_7358_0905),
    (3, 2, 0x665F_2FAA_3343_3FB1),
    (4, 2, 0x371D_AE2C_11BF_6FA9),
    (5, 2, 0x34E5_7FAA_411E_5E32),
    (6, 2, 0xA904_3A0A_2AB5_38C4),
    (7, 2, 0xE5C8_5054_9DA7_22E3),
    (1, DENSE_COLUMNS_MAX + 1, 0xAC29_FCE3_7A4C_976E),
];

/// Inputs and outputs of a transform of so many layers, each with its first point: several cosets on one side, the last not full.
pub(super) fn shapes(layers: usize) -> [[(usize, usize); 2]; 2] {
    let size = 1usize << layers;
    let (few, many) = (size.div_ceil(2), 2 * size + size.div_ceil(3));
    [[(many, size), (few, 0)], [(few, 0), (many, size)]]
}

/// Bytes of a buffer, which differ from those of all others.
pub(super) fn painted(buffer: usize) -> [u8; LEN] {
    std::array::from_fn(|at| (at * 89 + buffer * 57 + at / 7).to_le_bytes()[0])
}

pub(super) fn coefficient(row: usize, column: usize) -> u16 {
    let [low, high, ..] = (row * 7919 + column * 104_729 + 0x1234).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The element `at` of a buffer.
pub(super) fn element(buffer: &[u8], at: usize) -> u16 {
    let start = at / 32 * BLOCK_BYTES + at % 32;
    u16::from_le_bytes([buffer[start], buffer[start + 32]])
}

impl Gf16Kernel {
    pub(in crate::kernel) fn self_test(self) -> Result<(), KernelError> {
        let right = self.products_are_right()
            && MATRICES.iter().all(|&(rows, columns, golden)| matrix(self, rows, columns) == Some(golden))
            && GOLDEN.iter().enumerate().all(|(layers, golden)| transforms(self, layers) == *golden);
        if right { Ok(()) } else { Err(KernelError::SelfTest { name: self.name() }) }
    }

    /// Products of every bit with every bit, and some of all bits; each is a sum of the former.
    fn products_are_right(self) -> bool {
        let element_at = |at: u16| at.wrapping_mul(0x9E37) ^ 1 << (at % 16);
        let mut source = [0; 2 * BLOCK_BYTES];
        for at in 0..32u16 {
            let [low, high] = if at < 16 { 1 << at } else { element_at(at) }.to_le_bytes();
            for block in [0, BLOCK_BYTES] {
                (source[block + usize::from(at)], source[block + 32 + usize::from(at)]) = (low, high);
            }
        }
        (0..16).map(|bit| 1 << bit).chain([0x1234, 0xFFFF, 0xA5C3]).all(|constant| {
            let mut target = [0; 2 * BLOCK_BYTES];
            Dense::new(self, 1, 1, |_, _| constant).apply(&[&source], &mut [&mut target], false);
            (0..64).all(|at| element(&target, at) == mul_by_definition(constant, element(&source, at)))
        })
    }
}

/// The outputs of a matrix, written over what is there; `None` unless the same again, added, takes them away.
pub(super) fn matrix(kernel: Gf16Kernel, rows: usize, columns: usize) -> Option<u64> {
    let sources: Vec<[u8; LEN]> = (0..columns).map(painted).collect();
    let sources: Vec<&[u8]> = sources.iter().map(|source| &source[..]).collect();
    let dense = Dense::new(kernel, rows, columns, coefficient);
    let mut targets = vec![[0xEE; LEN]; rows];
    let mut slices: Vec<&mut [u8]> = targets.iter_mut().map(|target| &mut target[..]).collect();
    dense.apply(&sources, &mut slices, false);
    let sum = checksum(slices.iter().map(|target| &**target));
    dense.apply(&sources, &mut slices, true);
    targets.iter().flatten().all(|&byte| byte == 0).then_some(sum)
}

/// The outputs of both shapes of a transform, as one number.
pub(super) fn transforms(kernel: Gf16Kernel, layers: usize) -> u64 {
    let mut all = Vec::new();
    for [inputs, outputs] in shapes(layers) {
        let buffers: Vec<[u8; LEN]> = (0..inputs.0).map(painted).collect();
        let rows: Vec<Option<&[u8]>> = buffers.iter().map(|buffer| Some(&buffer[..])).collect();
        let additive = Additive::new(kernel, 1 << layers, inputs, outputs);
        let mut scratch = vec![0xEE; additive.scratch_bytes()];
        let mut targets = vec![[0xEE; LEN]; outputs.0];
        let mut slices: Vec<&mut [u8]> = targets.iter_mut().map(|target| &mut target[..]).collect();
        additive.run(&rows, 0..LEN, &mut slices, 0, &mut scratch);
        all.append(&mut targets);
    }
    checksum(all.iter().map(|output| &output[..]))
}
