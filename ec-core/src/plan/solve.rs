//! Lost shards as sums of those at hand, by inverting no more than the losses.
//!
//! With `e` data shards missing, `e` parities are chosen whose equations determine them; only those `e` by `e`
//! coefficients are inverted, not `k` by `k`. What the data at hand contributes follows by one product (a Schur complement,
//! since the rows of the data are the identity).

use crate::code::Code;
use crate::gf;
use crate::matrix::Matrix;
use crate::shard::{SHARDS_MAX, ShardIndex, ShardSet};

/// Missing data shards in terms of what the parities at hand say of them.
pub(super) struct Solution {
    /// The missing data shards.
    pub(super) unknown: ShardSet,
    /// As many parities.
    pub(super) parities: ShardSet,
    /// Row by row in the order of `unknown`: the weights of the parities' sums over the missing data that give it.
    inverse: Matrix,
}

/// Rows of coefficients are kept this far apart, so that kernels work on whole registers of them.
const STRIDE_BYTES: usize = 64;

/// Working memory for rows: on the stack for plans of few losses, which are made most often.
struct Rows {
    few: [u8; Self::FEW * STRIDE_BYTES],
    many: Vec<u8>,
    stride: usize,
}

impl Rows {
    /// Covers e = 8 losses among up to 64 data shards.
    const FEW: usize = 8;

    /// `rows` rows of zeros, at least `width` wide.
    fn new(rows: usize, width: usize) -> Self {
        let stride = width.next_multiple_of(STRIDE_BYTES);
        let few = [0; Self::FEW * STRIDE_BYTES];
        let many = if rows * stride > few.len() { vec![0; rows * stride] } else { Vec::new() };
        Self { few, many, stride }
    }

    /// The rows before `row`, and those from it on.
    fn split(&mut self, row: usize) -> (&mut [u8], &mut [u8]) {
        let bytes = if self.many.is_empty() { &mut self.few[..] } else { &mut self.many[..] };
        bytes.split_at_mut(row * self.stride)
    }

    fn row(&self, row: usize) -> &[u8] {
        let bytes = if self.many.is_empty() { &self.few[..] } else { &self.many[..] };
        &bytes[row * self.stride..][..self.stride]
    }
}

impl Solution {
    /// Takes the first parities among `candidates` that are independent in `unknown`; `None` where there are too few.
    pub(super) fn new(code: &Code, unknown: &ShardSet, candidates: &ShardSet) -> Option<Self> {
        let order = unknown.len();
        let mut parities = ShardSet::EMPTY;
        let mut rank = 0;
        // Gauss-Jordan over [coefficients of the unknown | weights], one parity at a time; row `rank` is the next one.
        let mut rows = Rows::new(order, 2 * order);
        let stride = rows.stride;
        // The row whose pivot is in each column, and the other way round.
        let mut row_of = [0u8; SHARDS_MAX];
        let mut pivots = [0u8; SHARDS_MAX];
        for index in candidates.difference(&ShardSet::first(code.k())).iter() {
            if rank == order {
                break;
            }
            let coefficients = code.generator().row(index.at());
            let (earlier, next) = rows.split(rank);
            let next = &mut next[..stride];
            next.fill(0);
            next.iter_mut().zip(unknown.iter()).for_each(|(next, column)| *next = coefficients[column.at()]);
            next[order + rank] = 1;
            for (row, &pivot) in earlier.chunks_exact(stride).zip(&pivots) {
                let factor = next[usize::from(pivot)];
                code.kernel().add_scaled(next, row, factor);
            }
            let Some(pivot) = next[..order].iter().position(|&value| value != 0) else { continue };
            let scale = gf::inverse(next[pivot])?;
            gf::scale(&mut next[..=order + rank], scale);
            for row in earlier.chunks_exact_mut(stride) {
                let factor = row[pivot];
                code.kernel().add_scaled(row, next, factor);
            }
            // Below 256, the most parities there are.
            pivots[rank] = pivot.to_le_bytes()[0];
            row_of[pivot] = rank.to_le_bytes()[0];
            parities.insert(index);
            rank += 1;
        }
        if rank < order {
            return None;
        }
        let mut inverse = Matrix::zero(order, order);
        for (at, &row) in row_of[..order].iter().enumerate() {
            inverse.row_mut(at).copy_from_slice(&rows.row(row.into())[order..2 * order]);
        }
        Some(Self { unknown: *unknown, parities, inverse })
    }

    /// For each of `wanted`: the weights of the parities' sums over the missing data.
    pub(super) fn into_weights(self, code: &Code, wanted: &ShardSet) -> Matrix {
        if *wanted == self.unknown {
            return self.inverse;
        }
        let mut weights = Matrix::zero(wanted.len(), self.inverse.columns());
        for (row, index) in wanted.iter().enumerate() {
            let row = weights.row_mut(row);
            if self.unknown.contains(index) {
                let at = self.unknown.intersection(&ShardSet::first(index.at())).len();
                row.copy_from_slice(self.inverse.row(at));
            } else {
                let coefficients = code.generator().row(index.at());
                for (at, column) in self.unknown.iter().enumerate() {
                    code.kernel().add_scaled(row, self.inverse.row(at), coefficients[column.at()]);
                }
            }
        }
        weights
    }
}

/// For each of `wanted`: coefficients over the data of `present`, rising, and then over the parities, whose weights are
/// known.
pub(super) fn coefficients(
    code: &Code,
    wanted: &ShardSet,
    present: &ShardSet,
    parities: &ShardSet,
    weights: &Matrix,
) -> Matrix {
    let data = present.len();
    let mut columns = [0u8; SHARDS_MAX];
    columns.iter_mut().zip(present.iter()).for_each(|(column, index)| *column = index.at().to_le_bytes()[0]);
    let gather = |shard: ShardIndex, to: &mut [u8]| {
        let row = code.generator().row(shard.at());
        to.iter_mut().zip(&columns[..data]).for_each(|(to, &column)| *to = row[usize::from(column)]);
    };
    let mut over_present = Rows::new(parities.len(), data);
    let stride = over_present.stride;
    for (row, parity) in parities.iter().enumerate() {
        gather(parity, &mut over_present.split(row).1[..stride]);
    }
    let mut sum = [0; SHARDS_MAX];
    let sum = &mut sum[..stride];
    let mut coefficients = Matrix::zero(wanted.len(), data + weights.columns());
    for (row, index) in wanted.iter().enumerate() {
        sum.fill(0);
        if index.at() >= code.k() {
            gather(index, sum);
        }
        for (parity, &weight) in weights.row(row).iter().enumerate() {
            code.kernel().add_scaled(sum, over_present.row(parity), weight);
        }
        let (over_data, over_parities) = coefficients.row_mut(row).split_at_mut(data);
        over_data.copy_from_slice(&sum[..data]);
        over_parities.copy_from_slice(weights.row(row));
    }
    coefficients
}
