//! Where the shards of a wide code stand, and the coefficients that follow.
//!
//! Data shard `j` stands at the point `y(j)`, parity shard `i` at `x(i)`. One of the two sides, the one with the larger power of
//! two, lies beyond the coset `0..size` that the other one is in:
//!
//! `parity(i) = sum over j of far / (x(i) + y(j)) * data(j)`, `far = W(y(j))` or `W(x(i))`, whichever is beyond,
//!
//! with `W(v) = v >> log2 size`, the polynomial that vanishes on `0..size`: Lagrange's formula, as the additive FFT computes it.
//! This is a Cauchy matrix with scaled columns or rows, so the code is MDS, and its inverses need no elimination.

use super::WideSpec;
use crate::gf16::{exp, log};

/// The points of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Points {
    /// Points of the coset that the nearer side is in.
    pub(super) size: usize,
    pub(super) data_base: usize,
    pub(super) parity_base: usize,
}

impl Points {
    /// As in Leopard-RS and its descendants: more data than parity by powers of two puts the data beyond ("high rate"), fewer
    /// the parity. Between equal powers reed-solomon-simd takes the one that decodes faster by its algorithm, and so do we, for
    /// the same bytes.
    pub(super) fn new(spec: &WideSpec) -> Self {
        let (k, m) = (spec.k().next_power_of_two(), spec.m().next_power_of_two());
        let data_beyond = if k == m { spec.k() <= spec.m() } else { k > m };
        if data_beyond {
            Self { size: m, data_base: m, parity_base: 0 }
        } else {
            Self { size: k, data_base: 0, parity_base: k }
        }
    }

    fn data(&self, at: usize) -> u16 {
        point(self.data_base + at)
    }

    fn parity(&self, at: usize) -> u16 {
        point(self.parity_base + at)
    }

    /// The logarithm of `W` where the point is on the far side; of 1 where it is not.
    fn log_scale(&self, base: usize, at: u16) -> i64 {
        if base == 0 { 0 } else { i64::from(log(at >> self.size.trailing_zeros())) }
    }

    /// What data shard `data` is multiplied by in parity shard `parity`.
    pub(super) fn coefficient(&self, parity: usize, data: usize) -> u16 {
        let (x, y) = (self.parity(parity), self.data(data));
        let scale = self.log_scale(self.data_base, y) + self.log_scale(self.parity_base, x);
        power(scale - i64::from(log(x ^ y)))
    }
}

fn point(at: usize) -> u16 {
    // Points are below 2^16, checked by `WideSpec::new`.
    u16::try_from(at).unwrap_or(u16::MAX)
}

fn power(exponent: i64) -> u16 {
    // In 0..65,535 by `rem_euclid`.
    exp(u32::try_from(exponent.rem_euclid(65_535)).unwrap_or(0))
}

fn logs(at: u16, points: &[u16]) -> i64 {
    points.iter().map(|&point| i64::from(log(at ^ point))).sum()
}

/// How missing shards depend on others, given which data is missing and which parities stand in for it, one for each.
///
/// For missing data `Y` and parities `X`, `R(z) = N(z) / product over X of (z + x)` with `N` of lower degree has poles in `X` alone.
/// Weighting the equation of each parity with its residue gives one equation between the data, each weighted with `R` at its
/// point, and the parities. `N` is chosen to vanish at all of `Y` but the one that is sought; for a parity outside `X`, a pole is
/// added there and `N` vanishes on all of `Y`. So each coefficient is a product over `X` and `Y`, and with the parts that depend on
/// one point alone kept, a single one.
pub(super) struct Solution<'a> {
    points: &'a Points,
    missing: Vec<u16>,
    parities: Vec<u16>,
}

/// A point and the logarithm of what depends on it alone.
#[derive(Clone, Copy)]
pub(super) struct Weighted {
    point: u16,
    log: i64,
}

impl<'a> Solution<'a> {
    pub(super) fn new(points: &'a Points, missing: &[usize], parities: &[usize]) -> Self {
        debug_assert_eq!(missing.len(), parities.len());
        Self {
            points,
            missing: missing.iter().map(|&at| points.data(at)).collect(),
            parities: parities.iter().map(|&at| points.parity(at)).collect(),
        }
    }

    /// A data shard, present or missing. The factor of a missing one with itself in the product is `log(0)`, which is 0.
    pub(super) fn data(&self, at: usize) -> Weighted {
        let point = self.points.data(at);
        let scale = self.points.log_scale(self.points.data_base, point);
        Weighted { point, log: logs(point, &self.missing) - logs(point, &self.parities) + scale }
    }

    /// A parity, whether it stands in or not. The factor of one that does with itself is `log(0)`, which is 0.
    pub(super) fn parity(&self, at: usize) -> Weighted {
        let point = self.points.parity(at);
        let scale = self.points.log_scale(self.points.parity_base, point);
        Weighted { point, log: logs(point, &self.missing) - logs(point, &self.parities) - scale }
    }
}

/// What the source is multiplied by in the target.
pub(super) fn coefficient(target: Weighted, source: Weighted) -> u16 {
    power(source.log - target.log - i64::from(log(target.point ^ source.point)))
}
