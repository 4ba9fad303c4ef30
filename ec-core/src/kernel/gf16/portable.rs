//! GF(2^16) in plain Rust: runs everywhere, and the others are compared with it.

use super::block::{BLOCK_BYTES, Block, Rows, Sums, run_rows, run_sums};
use super::matrices::Matrices;

/// Proof of nothing: every CPU can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portable;

impl Portable {
    pub(super) unsafe fn rows<const R: usize>(self, rows: &Rows<'_, R>) {
        // SAFETY: the caller's promise; no instructions are needed.
        unsafe { run_rows::<Bytes, R>(rows) }
    }

    pub(super) unsafe fn sums<const M: usize>(self, sums: &Sums<'_, M>) {
        // SAFETY: the caller's promise; no instructions are needed.
        unsafe { run_sums::<Bytes, M, 1>(sums) }
    }
}

/// A block in memory.
#[derive(Clone, Copy)]
struct Bytes([u8; BLOCK_BYTES]);

impl Block for Bytes {
    /// Products with the sixteen values of each nibble.
    type Factor = [[u16; 16]; 4];

    unsafe fn factor(matrices: &Matrices) -> Self::Factor {
        let [low_low, high_high, high_to_low, low_to_high] = matrices.0.map(u64::to_le_bytes);
        // The product with one bit, read off the matrices' columns.
        let image = |bit: usize| {
            let (low, high) = if bit < 8 { (&low_low, &low_to_high) } else { (&high_to_low, &high_high) };
            let column =
                |rows: &[u8; 8]| (0..8).fold(0u8, |byte, output| byte | (rows[7 - output] >> (bit % 8) & 1) << output);
            u16::from_le_bytes([column(low), column(high)])
        };
        let mut products = [[0; 16]; 4];
        for (nibble, products) in products.iter_mut().enumerate() {
            for value in 1..16usize {
                let lowest = value.trailing_zeros() as usize;
                products[value] = products[value & (value - 1)] ^ image(4 * nibble + lowest);
            }
        }
        products
    }

    unsafe fn zero() -> Self {
        Self([0; BLOCK_BYTES])
    }

    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's pointer is good for a block; bytes have no alignment.
        Self(unsafe { from.cast::<[u8; BLOCK_BYTES]>().read() })
    }

    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's pointer is good for a block; bytes have no alignment.
        unsafe { to.cast::<[u8; BLOCK_BYTES]>().write(self.0) }
    }

    unsafe fn add(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(byte, other)| *byte ^= other);
        self
    }

    unsafe fn add_product(mut self, other: Self, by: &Self::Factor) -> Self {
        let (low, high) = self.0.split_at_mut(BLOCK_BYTES / 2);
        let (other_low, other_high) = other.0.split_at(BLOCK_BYTES / 2);
        for (at, (low, high)) in low.iter_mut().zip(high).enumerate() {
            let (a, b) = (usize::from(other_low[at]), usize::from(other_high[at]));
            let product = by[0][a & 15] ^ by[1][a >> 4] ^ by[2][b & 15] ^ by[3][b >> 4];
            let [product_low, product_high] = product.to_le_bytes();
            *low ^= product_low;
            *high ^= product_high;
        }
        self
    }

    unsafe fn prefetch(_: *const u8) {}
}
