//! Multiplication by a constant in GF(2^16) as four 8 by 8 matrices of bits.
//!
//! With low and high bytes apart, a product is `low' = LL * low + LH * high`, `high' = HL * low + HH * high`. Each of the
//! four is one matrix as `gf2p8affineqb` takes it: byte `7 - i` holds the input bits whose sum is output bit `i`.

use crate::gf16::mul_by_definition;

/// What to multiply by, prepared: `[LL, HH, LH, HL]`. The first two keep a byte in its plane, the others cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matrices(pub(super) [u64; 4]);

impl Matrices {
    const ZERO: Self = Self([0; 4]);

    const fn sum(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]])
    }

    const fn by_definition(constant: u16) -> Self {
        let mut rows = [[0u8; 8]; 4];
        let mut input_bit = 0;
        while input_bit < 16 {
            let image = mul_by_definition(constant, 1 << input_bit);
            let mut output_bit = 0;
            while output_bit < 16 {
                let which = match (output_bit < 8, input_bit < 8) {
                    (true, true) => 0,
                    (false, false) => 1,
                    (true, false) => 2,
                    (false, true) => 3,
                };
                if image >> output_bit & 1 == 1 {
                    rows[which][7 - output_bit % 8] |= 1 << (input_bit % 8);
                }
                output_bit += 1;
            }
            input_bit += 1;
        }
        Self([
            u64::from_le_bytes(rows[0]),
            u64::from_le_bytes(rows[1]),
            u64::from_le_bytes(rows[2]),
            u64::from_le_bytes(rows[3]),
        ])
    }
}

/// The matrices of each value of each nibble. They add up as the constants do, so these 64 give all.
const OF_NIBBLES: [[Matrices; 16]; 4] = {
    let mut all = [[Matrices::ZERO; 16]; 4];
    let mut bit = 0;
    while bit < 16 {
        let of_bit = Matrices::by_definition(1 << bit);
        let mut value = 0;
        while value < 16 {
            if value >> (bit % 4) & 1 == 1 {
                all[bit / 4][value] = all[bit / 4][value].sum(of_bit);
            }
            value += 1;
        }
        bit += 1;
    }
    all
};

impl From<u16> for Matrices {
    fn from(constant: u16) -> Self {
        let nibble = |at: usize| OF_NIBBLES[at][usize::from(constant >> (4 * at) & 15)];
        nibble(0).sum(nibble(1)).sum(nibble(2).sum(nibble(3)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_add_up_to_every_constant() {
        for constant in (0..=u16::MAX).step_by(13) {
            assert_eq!(Matrices::from(constant), Matrices::by_definition(constant), "{constant:#06x}");
        }
    }
}
