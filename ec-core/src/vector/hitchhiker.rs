//! Hitchhiker-XOR (Rashmi et al., SIGCOMM 2014): two stripes of Reed-Solomon in the halves of each shard, where the second
//! half of each parity but the first carries the sum of some first halves.
//!
//! With `a` and `b` the halves of the data and `f_i` row `i` of the scalar code, parity `i` is `(f_i(a), f_i(b) + g_i(a))`: `g_0 = 0`, and
//! `g_i` the sum of `a` over the set `S_i`. The sets divide the data as evenly as can be, larger ones last. Any `m` losses are
//! decodable: the first halves by the scalar code, and then, with every `g_i` known, the second ones.

use super::plan::Piece;
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};
use std::ops::Range;

/// `S_1`, ..., `S_(m-1)`; empty ones where there are fewer data shards.
pub(super) fn sets(k: usize, m: usize) -> Vec<Range<usize>> {
    let count = m - 1;
    (0..count).map(|set| set_start(k, count, set)..set_start(k, count, set + 1)).collect()
}

fn set_start(k: usize, count: usize, set: usize) -> usize {
    // The last `k mod count` sets have one more.
    set * (k / count) + (set + k % count).saturating_sub(count)
}

/// Two rows for each parity and two columns for each data shard, from the `m` rows of the scalar code.
pub(super) fn parity_rows(scalar: &Matrix) -> Matrix {
    let (m, k) = (scalar.rows(), scalar.columns());
    let sets = sets(k, m);
    Matrix::from_fn(2 * m, 2 * k, |row, column| {
        let (parity, shard) = (row / 2, column / 2);
        match (row % 2, column % 2) {
            (0, 0) | (1, 1) => scalar.get(parity, shard),
            (0, _) => 0,
            _ => u8::from(parity > 0 && sets[parity - 1].contains(&shard)),
        }
    })
}

/// The sub-chunks to read for one lost data shard, where that is less than `k` whole shards and they are at hand.
///
/// All other second halves and one parity's give `b` of the lost shard. The second half of its own set's parity then
/// tells `g`, and the other first halves of the set take it apart. Parity 0 carries nothing; in its absence another
/// one will do, whose set must be read too.
pub(super) fn cheap_reads(k: usize, m: usize, lost: &ShardSet, usable: &ShardSet) -> Option<Vec<Piece>> {
    let mut members = lost.iter();
    let (Some(shard), None) = (members.next().filter(|shard| shard.at() < k), members.next()) else { return None };
    let mut others = ShardSet::first(k);
    others.remove(shard);
    if !others.is_subset(usable) {
        return None;
    }
    let sets = sets(k, m);
    let own = sets.iter().position(|set| set.contains(&shard.at()))?;
    let at_hand = |parity: usize| usable.contains(index(k + parity));
    if !at_hand(own + 1) {
        return None;
    }
    let plain = (0..m).filter(|&parity| parity != own + 1 && at_hand(parity)).min_by_key(|&parity| {
        // Parity 0 has no set to read.
        parity.checked_sub(1).map_or(0, |set| sets[set].len())
    })?;
    let firsts = sets[own].clone().filter(|&at| at != shard.at());
    let riders = plain.checked_sub(1).map_or(0..0, |set| sets[set].clone());
    let mut pieces: Vec<Piece> = firsts.chain(riders).map(|at| Piece { shard: at, sub_chunk: 0 }).collect();
    pieces.extend(others.iter().map(|other| Piece { shard: other.at(), sub_chunk: 1 }));
    pieces.extend([plain, own + 1].map(|parity| Piece { shard: k + parity, sub_chunk: 1 }));
    (pieces.len() < 2 * k).then_some(pieces)
}

fn index(at: usize) -> ShardIndex {
    crate::code::shard(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_sets_come_last() {
        assert_eq!(sets(10, 4), [0..3, 3..6, 6..10]);
        assert_eq!(sets(12, 4), [0..4, 4..8, 8..12]);
        assert_eq!(sets(6, 3), [0..3, 3..6]);
        assert_eq!(sets(8, 4), [0..2, 2..5, 5..8]);
        assert_eq!(sets(2, 4), [0..0, 0..1, 1..2]);
        assert_eq!((sets(5, 2).len(), sets(5, 2)[0].clone()), (1, 0..5));
    }
}
