//! Kernels for x86-64: GFNI in registers of 512 and 256 bits, and nibble tables with AVX2 and SSSE3.
//!
//! GFNI has a multiply of its own, `gf2p8mulb`, but that one reduces by 0x11B, the AES polynomial: the wrong field for
//! us. Multiplication by a constant is linear over bits in either field, so we use `gf2p8affineqb`, with the constant
//! written out as an 8 by 8 matrix of bits.

mod avx2;
mod avx2_gfni;
mod avx512_gfni;
mod cache;
mod ssse3;

pub(super) use avx2::Avx2;
pub(super) use avx2_gfni::Avx2Gfni;
pub(super) use avx512_gfni::Avx512Gfni;
pub(super) use cache::second_level_bytes;
pub(super) use ssse3::Ssse3;

use super::nibble::NibbleProducts;
use crate::gf;

/// Multiplication by a constant as `gf2p8affineqb` takes it: byte `7 - i` holds the input bits whose sum is output bit
/// `i`.
const fn affine_matrix(coefficient: u8) -> u64 {
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

/// The matrices of all constants: a plan is made of hundreds of them.
static AFFINE_MATRICES: [u64; 256] = {
    let mut matrices = [0; 256];
    let mut coefficient = 0;
    while coefficient < 256 {
        matrices[coefficient] = affine_matrix(coefficient.to_le_bytes()[0]);
        coefficient += 1;
    }
    matrices
};
