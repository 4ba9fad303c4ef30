//! Parity rows of LRC(k, l, r) over GF(2^16): maximally recoverable for `r <= 4` by a closed form.
//!
//! Linearised Reed-Solomon codes (Martinez-Penas and Kschischang 2018; Cai, Miao, Schwartz and Tang; Gopi and Guruswami): with
//! `w` a primitive element and `q = 16`, member `i` of group `g` has `alpha = w^(4369 i)` and `beta` = the sum over `s = 1..=r` of
//! `alpha^s w^(s-1)`; its column of heavy rows is `w^(g (16^t - 1)/15) beta^(16^t)`, `t = 0..r`. The globals are class `l` with `beta
//! = w^j`; multiplying the heavy rows by the inverse of their square matrix makes them systematic. Local parities are sums. The
//! theorem rests on orders and degrees alone, so any representation of the field will do; here it is pairs over GF(2^8).

use super::tower::{Pair, expand};
use crate::code::shard;
use crate::matrix::Matrix;
use crate::shard::ShardSet;
use std::ops::Range;

/// Data shards of each local group: the first `k mod l` have one more.
pub(super) fn groups(k: usize, count: usize) -> Vec<Range<usize>> {
    let mut start = 0;
    (0..count)
        .map(|group| {
            let data = start..start + k / count + usize::from(group < k % count);
            start = data.end;
            data
        })
        .collect()
}

/// Local rows, then global rows, over GF(2^8): two for each parity and two columns for each data shard.
pub(super) fn parity_rows(k: usize, groups: &[Range<usize>], globals: usize) -> Matrix {
    let heavy = expand(globals, k, |t, column| {
        let group = groups.iter().position(|group| group.contains(&column)).unwrap_or(0);
        twisted(group, beta(column - groups[group].start, globals), t)
    });
    let of_globals = expand(globals, globals, |t, global| twisted(groups.len(), Pair::exp(global as u64), t));
    // Regular: the classes and the w^j are independent (the theorem), and `decodable` is compared with the rank by the tests.
    let inverse = of_globals.inverted().unwrap_or_else(|| Matrix::zero(2 * globals, 2 * globals));
    let global_rows = inverse.product(&heavy);
    let locals = 2 * groups.len();
    Matrix::from_fn(locals + 2 * globals, 2 * k, |row, column| {
        if row < locals {
            u8::from(row % 2 == column % 2 && groups[row / 2].contains(&(column / 2)))
        } else {
            global_rows.get(row - locals, column)
        }
    })
}

/// `beta` of member `member` of any group.
fn beta(member: usize, globals: usize) -> Pair {
    (1..=globals as u64).fold(Pair::ZERO, |sum, s| sum.plus(Pair::exp(4369 * member as u64 * s + s - 1)))
}

/// `w^(class (16^t - 1)/15) element^(16^t)`.
fn twisted(class: usize, element: Pair, t: usize) -> Pair {
    let power = 16u32.pow(u32::try_from(t).unwrap_or(0));
    Pair::exp(class as u64 * u64::from((power - 1) / 15)).times(element.power(power))
}

/// The erasures beyond one for each local group, and the erased globals: decodable exactly when they are at most as many as
/// the globals (Gopalan et al. 2014), for a maximally recoverable code.
pub(super) fn excess(k: usize, groups: &[Range<usize>], is_lost: impl Fn(usize) -> bool) -> usize {
    let mut excess = 0;
    let mut in_groups = 0;
    for (at, group) in groups.iter().enumerate() {
        let lost = group.clone().chain([k + at]).filter(|&shard| is_lost(shard)).count();
        excess += lost.saturating_sub(1);
        in_groups += lost;
    }
    let lost = (0..crate::shard::SHARDS_MAX).filter(|&shard| is_lost(shard)).count();
    excess + lost - in_groups
}

/// The shards to read if every lost one can be rebuilt within its own group, else `None`.
pub(super) fn local_reads(k: usize, groups: &[Range<usize>], lost: &ShardSet, usable: &ShardSet) -> Option<ShardSet> {
    let mut reads = ShardSet::EMPTY;
    for index in lost.iter() {
        let (at, data) =
            groups.iter().enumerate().find(|(at, data)| data.contains(&index.at()) || index.at() == k + at)?;
        let mut others: ShardSet = data.clone().chain([k + at]).map(shard).collect();
        others.remove(index);
        if !others.is_subset(usable) {
            return None;
        }
        reads = reads.union(&others);
    }
    Some(reads)
}
