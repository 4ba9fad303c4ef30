//! GF(2^16) as pairs over GF(2^8): what a vector code of two sub-chunks computes in.
//!
//! An element is `a0 + a1 u` with `u^2 = u + c`; multiplying by one is a 2 by 2 matrix over GF(2^8), so a matrix over GF(2^16) is
//! one of twice the order over GF(2^8), and every kernel computes it as it is.

use crate::gf;
use crate::matrix::Matrix;

/// The constant of `u^2 + u + c`: 0x20 is the least for which no element of GF(2^8) is a root.
const U_CONSTANT: u8 = 0x20;

/// Elements but 0.
const GROUP_ORDER: u32 = 65_535;

/// An element `low + high u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) low: u8,
    pub(super) high: u8,
}

impl Pair {
    pub(super) const ZERO: Self = Self { low: 0, high: 0 };
    pub(super) const ONE: Self = Self { low: 1, high: 0 };
    /// `4 + u`: the first of `0 + u`, `1 + u`, ... whose powers are all elements but 0.
    pub(super) const PRIMITIVE: Self = Self { low: 4, high: 1 };

    pub(super) fn plus(self, other: Self) -> Self {
        Self { low: self.low ^ other.low, high: self.high ^ other.high }
    }

    pub(super) fn times(self, other: Self) -> Self {
        let highs = gf::mul(self.high, other.high);
        Self {
            low: gf::mul(self.low, other.low) ^ gf::mul(highs, U_CONSTANT),
            high: gf::mul(self.low, other.high) ^ gf::mul(self.high, other.low) ^ highs,
        }
    }

    /// `self^exponent`, with `0^0 = 1`.
    pub(super) fn power(self, mut exponent: u32) -> Self {
        let (mut result, mut square) = (Self::ONE, self);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result.times(square);
            }
            square = square.times(square);
            exponent >>= 1;
        }
        result
    }

    /// `PRIMITIVE^exponent`, for exponents of any size.
    pub(super) fn exp(exponent: u64) -> Self {
        // Below 65,535 after the division.
        Self::PRIMITIVE.power(u32::try_from(exponent % u64::from(GROUP_ORDER)).unwrap_or(0))
    }
}

/// The matrix over GF(2^8) of a matrix over GF(2^16): each element as the 2 by 2 matrix that multiplies by it.
pub(super) fn expand(rows: usize, columns: usize, element: impl Fn(usize, usize) -> Pair) -> Matrix {
    Matrix::from_fn(2 * rows, 2 * columns, |row, column| {
        let Pair { low, high } = element(row / 2, column / 2);
        match (row % 2, column % 2) {
            (0, 0) => low,
            (0, _) => gf::mul(high, U_CONSTANT),
            (_, 0) => high,
            _ => low ^ high,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(of: Pair) -> u32 {
        // The prime factors of 65,535 are 3, 5, 17 and 257.
        let mut order = GROUP_ORDER;
        for prime in [3, 5, 17, 257] {
            if of.power(order / prime) == Pair::ONE {
                order /= prime;
            }
        }
        order
    }

    #[test]
    fn the_constant_is_the_least_without_a_root() {
        let has_root = |c: u8| (0..=255).any(|x| gf::mul(x, x) ^ x == c);
        assert_eq!((0..=255).find(|&c| !has_root(c)), Some(U_CONSTANT));
    }

    #[test]
    fn the_primitive_element_is_the_first_of_its_kind() {
        let first = (0..=255).map(|low| Pair { low, high: 1 }).find(|&pair| order(pair) == GROUP_ORDER);
        assert_eq!(first, Some(Pair::PRIMITIVE));
    }

    #[test]
    fn the_powers_of_the_primitive_element_are_all_elements() {
        let mut seen = vec![false; 1 << 16];
        let mut power = Pair::ONE;
        for _ in 0..GROUP_ORDER {
            assert!(!std::mem::replace(&mut seen[usize::from(u16::from_le_bytes([power.low, power.high]))], true));
            power = power.times(Pair::PRIMITIVE);
        }
        assert_eq!((power, seen[0]), (Pair::ONE, false));
        assert_eq!(Pair::exp(3), Pair::PRIMITIVE.times(Pair::PRIMITIVE).times(Pair::PRIMITIVE));
    }

    #[test]
    fn the_matrix_of_a_product_is_the_product_of_the_matrices() {
        for (a, b) in [(1u64, 2u64), (77, 4369), (65_000, 12_345), (255, 65_534)] {
            let (a, b) = (Pair::exp(a), Pair::exp(b));
            let of = |pair: Pair| expand(1, 1, |_, _| pair);
            assert_eq!(of(a).product(&of(b)), of(a.times(b)));
        }
    }
}
