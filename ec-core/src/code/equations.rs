//! Codes that are written down as equations over all their shards, and solved for the parities.

use super::lrc::{LocalGroup, runs, spread};
use super::shard;
use crate::gf;
use crate::matrix::Matrix;

/// Parity rows of an LRC whose groups hold the global parities too, so that every shard is rebuilt from its group.
///
/// The shards but for the local parities, data first and the `globals` (1 or 2) last, are cut into consecutive groups. Equations:
/// the sum of each group with its local parity is zero; the sum of `a x` is zero, and for two globals that of `a^2 x`, with the
/// spread coefficients `a` of the groups and 0 for local parities. For any choice of one member of every group and as many more
/// as there are globals the equations have full rank, by what the spread is: so they can be solved for local and global
/// parities, and every maximal pattern is decoded.
pub(super) fn uniform_rows(k: u16, groups: u16, globals: u16) -> (Matrix, Vec<LocalGroup>) {
    let (k, count, globals) = (usize::from(k), usize::from(groups), usize::from(globals));
    let runs = runs(k + globals, count);
    // Position in the code of a member in the order of the groups: local parities stand between data and globals.
    let position = |member: usize| if member < k { member } else { member + count };
    let n = k + count + globals;
    let mut equations = Matrix::zero(count + globals, n);
    for (group, run) in runs.iter().enumerate() {
        equations.set(group, k + group, 1);
        for (at, member) in run.clone().enumerate() {
            equations.set(group, position(member), 1);
            for row in 0..globals {
                equations.set(count + row, position(member), gf::pow(spread(group, at), row + 1));
            }
        }
    }
    let groups = runs.iter().enumerate().map(|(group, run)| {
        LocalGroup::new(run.clone().map(position).chain([k + group]).map(shard).collect(), k + group)
    });
    (solved(&equations, k), groups.collect())
}

/// Data shards of Xorbas.
pub(super) const XORBAS_DATA: usize = 10;
/// Parities of Xorbas: two local ones, four of Reed-Solomon.
pub(super) const XORBAS_PARITIES: usize = 6;

/// Parity rows of LRC (10, 6, 5) of Sathiamoorthy et al., VLDB 2013: Reed-Solomon 10+4 whose equations are the sums of
/// `2^(i j)` times shard `j`, `i` from 0 to 3, data first; and the sums of either half of the data. The first equation makes the sum
/// of both local parities that of the four others, a third group which costs nothing.
pub(super) fn xorbas_rows() -> (Matrix, Vec<LocalGroup>) {
    const LOCALS: usize = 2;
    let (k, rs) = (XORBAS_DATA, XORBAS_PARITIES - LOCALS);
    let equations = Matrix::from_fn(rs, k + rs, |row, column| gf::exp2(row * column));
    let parities = solved(&equations, k);
    let rows = Matrix::from_fn(XORBAS_PARITIES, k, |row, column| match row.checked_sub(LOCALS) {
        None => u8::from(column / (k / LOCALS) == row),
        Some(row) => parities.get(row, column),
    });
    let groups = [(0..5, 10), (5..10, 11), (12..16, 10)].map(|(members, parity)| {
        let others = if parity == 10 && members.start > 0 { vec![10, 11] } else { vec![parity] };
        LocalGroup::new(members.chain(others).map(shard).collect(), parity)
    });
    (rows, groups.into())
}

/// The parities in terms of the data, for equations over all shards, data first, that determine them: zero where they do not.
fn solved(equations: &Matrix, k: usize) -> Matrix {
    let parities = equations.columns() - k;
    // A x = B d as rows: x^T A^T = d^T B^T.
    let of_parities = Matrix::from_fn(parities, equations.rows(), |row, column| equations.get(column, k + row));
    let of_data = Matrix::from_fn(k, equations.rows(), |row, column| equations.get(column, row));
    match of_parities.express(&of_data) {
        Some(weights) => Matrix::from_fn(parities, k, |row, column| weights.get(column, row)),
        None => Matrix::zero(parities, k),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ShardIndex;

    fn sums_are_zero(rows: &Matrix, groups: &[LocalGroup]) {
        let k = rows.columns();
        for group in groups {
            assert!(group.contains(group.parity()));
            for column in 0..k {
                let sum = group.members().iter().fold(0, |sum, index| {
                    sum ^ if index.at() < k { u8::from(index.at() == column) } else { rows.get(index.at() - k, column) }
                });
                assert_eq!(sum, 0, "{group:?}");
            }
        }
    }

    #[test]
    fn groups_of_uniform_codes_hold_every_shard_and_sum_to_zero() {
        for (k, groups, globals) in [(12, 2, 2), (6, 2, 2), (7, 3, 2), (12, 2, 1), (28, 2, 2), (24, 2, 2), (4, 6, 2)] {
            let (rows, found) = uniform_rows(k, groups, globals);
            sums_are_zero(&rows, &found);
            let members: Vec<u16> = found
                .iter()
                .flat_map(|group| group.members().iter().map(ShardIndex::get).collect::<Vec<_>>())
                .collect();
            assert_eq!(members.len(), usize::from(k + groups + globals), "{k},{groups},{globals}");
        }
        let (_, groups) = uniform_rows(12, 2, 2);
        assert_eq!(groups[1].members().iter().map(ShardIndex::get).collect::<Vec<_>>(), [7, 8, 9, 10, 11, 13, 14, 15]);
    }

    #[test]
    fn the_groups_of_xorbas_sum_to_zero() {
        let (rows, groups) = xorbas_rows();
        sums_are_zero(&rows, &groups);
        assert!(groups.iter().all(|group| group.len() == 6));
    }
}
