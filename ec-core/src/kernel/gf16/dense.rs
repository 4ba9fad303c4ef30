//! A dense matrix over GF(2^16), prepared for one kernel.

use super::block::{DENSE_COLUMNS_MAX, DENSE_ROWS_MAX};
use super::matrices::Matrices;
use super::{Gf16Kernel, TILE_BYTES_MAX};

/// Prepared coefficients, 32 bytes each: `targets[r] = sum over c of coefficients[r][c] * sources[c]`.
#[derive(Clone)]
pub(crate) struct Dense {
    kernel: Gf16Kernel,
    rows: usize,
    columns: usize,
    /// Group of rows by group of rows, in each column by column.
    matrices: Vec<Matrices>,
}

impl Dense {
    pub(crate) fn new(
        kernel: Gf16Kernel,
        rows: usize,
        columns: usize,
        mut coefficient: impl FnMut(usize, usize) -> u16,
    ) -> Self {
        let mut matrices = Vec::with_capacity(rows * columns);
        for (first, count) in groups(rows, kernel.dense_rows_max()) {
            for column in 0..columns {
                matrices.extend((first..first + count).map(|row| Matrices::from(coefficient(row, column))));
            }
        }
        Self { kernel, rows, columns, matrices }
    }

    /// Overwrites the targets, or adds to them. The buffers are at most a tile long, in whole blocks, all of one length.
    pub(crate) fn apply(&self, sources: &[&[u8]], targets: &mut [&mut [u8]], adds: bool) {
        assert!(sources.len() == self.columns && targets.len() == self.rows);
        assert!(targets.iter().all(|target| target.len() <= TILE_BYTES_MAX));
        if self.columns == 0 && !adds {
            targets.iter_mut().for_each(|target| target.fill(0));
        }
        // All rows use some columns before the next ones, while those are in the first-level cache.
        for first_column in (0..self.columns).step_by(DENSE_COLUMNS_MAX) {
            let end = self.columns.min(first_column + DENSE_COLUMNS_MAX);
            let sources = &sources[first_column..end];
            for (first, count) in groups(self.rows, self.kernel.dense_rows_max()) {
                let start = first * self.columns;
                let matrices = &self.matrices[start + first_column * count..start + end * count];
                let targets = &mut targets[first..first + count];
                let adds = adds || first_column > 0;
                match count {
                    1 => self.step::<1>(matrices, sources, targets, adds),
                    2 => self.step::<2>(matrices, sources, targets, adds),
                    3 => self.step::<3>(matrices, sources, targets, adds),
                    4 => self.step::<4>(matrices, sources, targets, adds),
                    5 => self.step::<5>(matrices, sources, targets, adds),
                    DENSE_ROWS_MAX => self.step::<DENSE_ROWS_MAX>(matrices, sources, targets, adds),
                    _ => unreachable!("a group has 1 to {DENSE_ROWS_MAX} rows, not {count}"),
                }
            }
        }
        #[cfg(test)]
        crate::kernel::tests::planted::spoil("gf16-matrix", targets);
    }

    fn step<const M: usize>(&self, matrices: &[Matrices], sources: &[&[u8]], targets: &mut [&mut [u8]], adds: bool) {
        let (matrices, rest) = matrices.as_chunks::<M>();
        debug_assert!(rest.is_empty());
        self.kernel.run_dense(matrices, sources, targets, adds);
    }
}

/// Rows in groups of nearly even size: the first of each, and how many.
fn groups(rows: usize, limit: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(limit);
    (0..count).map(move |at| {
        let first = at * rows / count;
        (first, (at + 1) * rows / count - first)
    })
}
