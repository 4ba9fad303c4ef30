//! Whether what is left determines all data, by the rank of as little of the generator as will tell.

use crate::gf;
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};

/// Lost data shards up to which the elimination stays on the stack, and short: more parities than this are rare.
const FEW: usize = 16;

/// With the data at hand known, the parities at hand have to determine the rest: a rank over the lost data alone.
pub(super) fn by_rank(generator: &Matrix, lost: &ShardSet) -> bool {
    let (n, k) = (generator.rows(), generator.columns());
    let data = ShardSet::first(k);
    let unknown = lost.intersection(&data);
    let parities = lost.complement(n).difference(&data);
    let order = unknown.len();
    if order > parities.len() {
        return false;
    }
    if order > FEW {
        let (rows, columns) = (positions(&parities), positions(&unknown));
        return Matrix::from_fn(rows.len(), order, |row, at| generator.get(rows[row], columns[at])).rank() == order;
    }
    let mut columns = [0; FEW];
    columns.iter_mut().zip(unknown.iter()).for_each(|(column, index)| *column = index.at());
    rank_reaches(generator, &columns[..order], parities)
}

/// Takes parities one at a time until their rank over these columns is full.
fn rank_reaches(generator: &Matrix, columns: &[usize], parities: ShardSet) -> bool {
    let order = columns.len();
    // Each row is 1 at its pivot; later rows are zero there.
    let mut rows = [[0u8; FEW]; FEW];
    let mut pivots = [0; FEW];
    let mut rank = 0;
    for parity in parities.iter() {
        if rank == order {
            break;
        }
        let coefficients = generator.row(parity.at());
        let mut next = [0u8; FEW];
        next.iter_mut().zip(columns).for_each(|(next, &column)| *next = coefficients[column]);
        for (row, &pivot) in rows[..rank].iter().zip(&pivots) {
            let factor = next[pivot];
            gf::add_scaled(&mut next[..order], row, factor);
        }
        let Some(pivot) = next[..order].iter().position(|&value| value != 0) else { continue };
        let Some(scale) = gf::inverse(next[pivot]) else { continue };
        gf::scale(&mut next[..order], scale);
        (rows[rank], pivots[rank]) = (next, pivot);
        rank += 1;
    }
    rank == order
}

fn positions(set: &ShardSet) -> Vec<usize> {
    set.iter().map(ShardIndex::at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{shard, splitmix};
    use crate::shard::SHARDS_MAX;

    /// The definition: the rows at hand have the rank of the data.
    #[test]
    fn agrees_with_the_rank_of_all_rows_at_hand() {
        let mut dice = 1;
        let mut seen = [0; 2];
        for round in 0..600 {
            let (k, m) = (1 + splitmix(&mut dice) as usize % 24, 1 + splitmix(&mut dice) as usize % 24);
            let values = [2, 3, 256][round % 3];
            let generator = Matrix::from_fn(k + m, k, |row, column| match row < k {
                true => u8::from(row == column),
                false => (splitmix(&mut dice) % values) as u8,
            });
            let chance = 1 + splitmix(&mut dice) % 4;
            let lost: ShardSet = (0..k + m).filter(|_| splitmix(&mut dice) % 5 < chance).map(shard).collect();
            let expected = generator.select_rows(&positions(&lost.complement(k + m))).rank() == k;
            assert_eq!(by_rank(&generator, &lost), expected, "{generator:?} without {lost:?}");
            seen[usize::from(expected)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
        assert!(by_rank(&Matrix::identity(3), &ShardSet::EMPTY));
        assert!(!by_rank(&Matrix::identity(3), &ShardSet::first(SHARDS_MAX)));
    }
}
