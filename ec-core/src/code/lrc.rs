//! Parity rows of LRC(k, l, 2) with the spread coefficients: maximally recoverable in GF(2^8) by construction.
//!
//! GF(16)* = {2^(17 i)}; its 17 cosets 2^g * GF(16)*, each with 0, are GF(2)-subspaces that meet only in 0. The coefficients of
//! group g are taken from coset g, so a sum of two of one group never equals a coefficient or a sum of another: exactly what
//! two global parities need to decode every pattern that any code of this shape could.

use super::shard;
use crate::gf;
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};
use std::ops::Range;

/// A local group: its data shards and the parity that is their XOR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalGroup {
    /// Positions of the data shards.
    pub data: Range<usize>,
    /// Position of the local parity.
    pub parity: usize,
}

impl LocalGroup {
    /// Whether the shard is one of the group's data shards or its parity.
    pub fn contains(&self, index: ShardIndex) -> bool {
        self.data.contains(&index.at()) || self.parity == index.at()
    }

    /// All members, the parity last.
    pub fn members(&self) -> ShardSet {
        self.data.clone().chain([self.parity]).map(shard).collect()
    }

    /// Number of members with the parity.
    pub fn len(&self) -> usize {
        self.data.len() + 1
    }

    /// Never: a group has a parity.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Local rows, then the two global rows; and the groups.
pub(super) fn parity_rows(k: u16, groups: u16) -> (Matrix, Vec<LocalGroup>) {
    let (k, count) = (usize::from(k), usize::from(groups));
    let mut start = 0;
    let groups: Vec<LocalGroup> = (0..count)
        .map(|group| {
            let data = start..start + k / count + usize::from(group < k % count);
            start = data.end;
            LocalGroup { data, parity: k + group }
        })
        .collect();
    let coefficient = |column: usize| {
        let group = groups.iter().position(|group| group.data.contains(&column)).unwrap_or(0);
        gf::exp2(group + 17 * (column - groups[group].data.start))
    };
    let rows = Matrix::from_fn(count + 2, k, |row, column| match row.checked_sub(count) {
        None => u8::from(groups[row].data.contains(&column)),
        Some(0) => coefficient(column),
        Some(_) => gf::mul(coefficient(column), coefficient(column)),
    });
    (rows, groups)
}

/// Two globals and any group: the worst pattern takes both globals and two of one group. Codes without groups are MDS.
pub(super) fn guaranteed_tolerance(groups: &[LocalGroup], parities: usize) -> usize {
    if groups.is_empty() { parities } else { parities - groups.len() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_coefficients_of_lrc_12_2_2() {
        let (rows, groups) = parity_rows(12, 2);
        assert_eq!(
            format!("{rows:?}"),
            "010101010101000000000000/000000000000010101010101/01984e0a99d6022d9c142fb1/014e99444fd704255e0d217b"
        );
        assert_eq!(groups[1], LocalGroup { data: 6..12, parity: 13 });
    }

    #[test]
    fn cosets_of_gf16_meet_only_in_zero() {
        let mut owner = [None; 256];
        for group in 0..17 {
            let members: Vec<u8> = (0..15).map(|i| gf::exp2(group + 17 * i)).collect();
            for &a in &members {
                for &b in members.iter().filter(|&&b| b != a).chain([&0]) {
                    assert_eq!(*owner[usize::from(a ^ b)].get_or_insert(group), group, "{a:#x} ^ {b:#x}");
                }
            }
        }
    }

    #[test]
    fn uneven_groups_put_the_longer_first() {
        let (_, groups) = parity_rows(11, 3);
        assert_eq!(groups.iter().map(|group| group.data.clone()).collect::<Vec<_>>(), [0..4, 4..8, 8..11]);
    }
}
