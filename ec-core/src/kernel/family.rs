//! A CPU family: a permission to use its instructions, and the loops made for them.

use super::dense::Group;
use super::lanes::Lanes;
use super::lch::Lch;
use crate::gf;

/// Permission to use the instructions of one family. Only the family's own detection makes one.
pub(super) trait Family: Copy + PartialEq + std::fmt::Debug {
    /// Points of the largest transform it has loops for; 1 where it has none.
    const LCH_ORDER_MAX: usize;

    /// A constant to multiply with, as this family's loops want it.
    type Factor: Clone + Send + Sync + 'static;

    /// Prepares a constant.
    fn factor(self, coefficient: u8) -> Self::Factor;

    /// Sums of products of one group. The lanes were gathered for it.
    fn dense(self, group: &Group<Self::Factor>, lanes: &mut Lanes<'_>);

    /// `target += coefficient * source` for rows of coefficients, which are short; as many elements as the shorter one has.
    fn add_scaled(self, target: &mut [u8], source: &[u8], coefficient: u8) {
        gf::add_scaled(target, source, coefficient);
    }

    /// The parities of the native matrix. The lanes were gathered for it.
    fn lch(self, lch: &Lch<Self::Factor>, lanes: &mut Lanes<'_>);
}
