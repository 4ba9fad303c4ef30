//! Parity rows of LRC(k, l, r): `l` local groups, each with the XOR of its members, and `r` global parities over all data
//! (Huang et al., ATC 2012). Maximally recoverable: every loss is decoded that any code of these groups could decode.
//!
//! Row `t` of the globals is `a^(t+1)` for a coefficient `a` of each data shard. With a local parity taken for a member of
//! coefficient 0, the code is maximally recoverable exactly when, for any choice of members that leaves one of each group out,
//! the differences of their columns from the one left out are independent in the global rows that are left.
//!
//! - r = 1, 2: by construction, the *spread*. GF(16)* = {2^(17 i)}; its 17 cosets 2^g * GF(16)*, each with 0, are
//!   GF(2)-subspaces that meet only in 0. The coefficients of group g are taken from coset g, so a sum of two of one group never
//!   equals a coefficient or a sum of another, which is what two rows need.
//! - r = 3, 4: no construction in GF(2^8) is known. Tables, found by a greedy search over the groups in turn that takes the
//!   smallest byte with which every maximal pattern of the members so far is decoded; tested pattern by pattern by rank. A part
//!   of a table is as good as the whole: a member that is not there is a member of zeros.

use super::shard;
use crate::gf;
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};

/// A local group: shards whose sum is zero, so that any of them is the XOR of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalGroup {
    members: ShardSet,
    parity: ShardIndex,
}

impl LocalGroup {
    pub(super) fn new(members: ShardSet, parity: usize) -> Self {
        Self { members, parity: shard(parity) }
    }

    /// A group of a matrix from elsewhere, for [`Code::verify_groups`](super::Code::verify_groups). `None` unless the parity is
    /// one of the members.
    pub fn of_members(members: ShardSet, parity: ShardIndex) -> Option<Self> {
        members.contains(parity).then_some(Self { members, parity })
    }

    /// Whether the shard is one of the group's members.
    pub fn contains(&self, index: ShardIndex) -> bool {
        self.members.contains(index)
    }

    /// All members with the parity.
    pub fn members(&self) -> ShardSet {
        self.members
    }

    /// The parity that makes the sum zero.
    pub fn parity(&self) -> ShardIndex {
        self.parity
    }

    /// Number of members with the parity.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: a group has a parity.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Global parities of a table, groups, and the coefficients group by group. Groups are filled in turn, so a table ends where the
/// search found nothing, with groups that differ by one at most.
type Table = (u16, u16, &'static [&'static [u8]]);

const TABLES: [Table; 12] = [
    (3, 1, &[&[1, 2, 4, 7, 8, 0xb, 0xd, 0xe, 0x10, 0x13, 0x15, 0x16, 0x19, 0x1a, 0x1c]]),
    (3, 2, &[&[1, 4, 7, 0x1a, 0x2c, 0x43, 0xb8], &[2, 8, 0x10, 0x22, 0x30, 0x5c]]),
    (3, 3, &[&[1, 4, 0x10, 0x21, 0x83], &[2, 8, 0x17, 0x30, 0xba], &[3, 0xc, 0x1e, 0x48]]),
    (3, 4, &[&[1, 6, 0x10, 0x4c], &[2, 8, 0x17, 0x97], &[3, 0xc, 0x18], &[4, 0xd, 0x24]]),
    (3, 5, &[&[1, 7, 0x16, 0x9c], &[2, 8, 0x1d], &[3, 0xc, 0x25], &[4, 0x10, 0x27], &[5, 0xb, 0x4a]]),
    (3, 6, &[&[1, 8, 0x20], &[2, 0xc, 0x18], &[3, 0x10, 0x2a], &[4, 0xb, 0x4f], &[5, 0x12, 0x37], &[6, 0x1f]]),
    (4, 1, &[&[1, 2, 4, 8, 0xf, 0x11, 0x21, 0x35, 0x43, 0x64, 0x83, 0x9b]]),
    (4, 2, &[&[1, 4, 7, 0x1b, 0x77], &[2, 8, 0x11, 0x2b]]),
    (4, 3, &[&[1, 8, 0xb, 0xe3], &[2, 0x10, 0x49], &[4, 0x22, 0x27]]),
    (4, 4, &[&[1, 8, 0x41], &[2, 0x10], &[4, 0x26], &[7, 0x38]]),
    (4, 5, &[&[1, 0x10], &[2, 0x1c], &[4, 0x28], &[7, 0x46], &[8, 0x6c]]),
    (4, 6, &[&[1, 0x10], &[2, 0x1c], &[4, 0x29], &[7, 0x40], &[8, 0x93], &[0xb, 0xe5]]),
];

fn table(groups: u16, globals: u16) -> Option<&'static [&'static [u8]]> {
    TABLES.iter().find(|(r, l, _)| (*r, *l) == (globals, groups)).map(|(_, _, table)| *table)
}

/// The most data shards for which a code of so many groups and 3 or 4 global parities is known in GF(2^8); 0 for none.
pub(super) fn table_members(groups: u16, globals: u16) -> usize {
    table(groups, globals).map_or(0, |table| table.iter().map(|group| group.len()).sum())
}

/// Consecutive runs of `members` shards; the first `members mod groups` have one more.
pub(super) fn runs(members: usize, groups: usize) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    (0..groups)
        .map(|group| {
            let run = start..start + members / groups + usize::from(group < members % groups);
            start = run.end;
            run
        })
        .collect()
}

/// The spread: member `member` of group `group`.
pub(super) fn spread(group: usize, member: usize) -> u8 {
    gf::exp2(group + 17 * member)
}

/// Local rows, then the global rows; and the groups.
pub(super) fn parity_rows(k: u16, groups: u16, globals: u16) -> (Matrix, Vec<LocalGroup>) {
    let (k, count) = (usize::from(k), usize::from(groups));
    let runs = runs(k, count);
    let table = table(groups, globals);
    let mut coefficients = Vec::with_capacity(k);
    for (group, run) in runs.iter().enumerate() {
        coefficients.extend((0..run.len()).map(|member| match table {
            Some(table) => table[group][member],
            None => spread(group, member),
        }));
    }
    let rows = Matrix::from_fn(count + usize::from(globals), k, |row, column| match row.checked_sub(count) {
        None => u8::from(runs[row].contains(&column)),
        Some(power) => gf::pow(coefficients[column], power + 1),
    });
    let group = |(at, run): (usize, &std::ops::Range<usize>)| {
        LocalGroup::new(run.clone().chain([k + at]).map(shard).collect(), k + at)
    };
    (rows, runs.iter().enumerate().map(group).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global_rows(k: u16, groups: u16, globals: u16) -> String {
        let (rows, _) = parity_rows(k, groups, globals);
        let globals: Vec<usize> = (usize::from(groups)..rows.rows()).collect();
        format!("{:?}", rows.select_rows(&globals))
    }

    #[test]
    fn golden_rows() {
        let (rows, groups) = parity_rows(12, 2, 2);
        assert_eq!(
            format!("{rows:?}"),
            "010101010101000000000000/000000000000010101010101/01984e0a99d6022d9c142fb1/014e99444fd704255e0d217b"
        );
        let members = |group: &LocalGroup| group.members().iter().map(ShardIndex::get).collect::<Vec<_>>();
        assert_eq!((members(&groups[1]), groups[1].parity().get()), (vec![6, 7, 8, 9, 10, 11, 13], 13));
        assert_eq!(global_rows(12, 2, 1), "01984e0a99d6022d9c142fb1");
        let (first, third) = ("0104071a2c43020810223 05c".replace(' ', ""), global_rows(12, 2, 3));
        assert!(third.starts_with(&format!("{first}/")), "{third}");
        assert!(global_rows(12, 3, 3).starts_with("01041021020817 30030c1e48/".replace(' ', "").as_str()));
        assert!(global_rows(6, 2, 4).starts_with("010407020811/"));
    }

    #[test]
    fn cosets_of_gf16_meet_only_in_zero() {
        let mut owner = [None; 256];
        for group in 0..17 {
            let members: Vec<u8> = (0..15).map(|member| spread(group, member)).collect();
            for &a in &members {
                for &b in members.iter().filter(|&&b| b != a).chain([&0]) {
                    assert_eq!(*owner[usize::from(a ^ b)].get_or_insert(group), group, "{a:#x} ^ {b:#x}");
                }
            }
        }
    }

    #[test]
    fn uneven_groups_put_the_longer_first() {
        assert_eq!(runs(11, 3), [0..4, 4..8, 8..11]);
        for (globals, groups, table) in TABLES {
            let lengths: Vec<usize> = table.iter().map(|group| group.len()).collect();
            let members = table_members(groups, globals);
            assert_eq!(lengths, runs(members, table.len()).iter().map(ExactSizeIterator::len).collect::<Vec<_>>());
        }
    }
}
