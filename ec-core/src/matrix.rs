//! Small dense matrices over GF(2^8), row by row.

use crate::gf;
use std::fmt;

/// A matrix over GF(2^8).
#[derive(Clone, PartialEq, Eq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zero(rows: usize, columns: usize) -> Self {
        Self { rows, columns, bytes: vec![0; rows * columns] }
    }

    /// The identity.
    pub fn identity(order: usize) -> Self {
        Self::from_fn(order, order, |row, column| u8::from(row == column))
    }

    /// A matrix from its elements.
    pub fn from_fn(rows: usize, columns: usize, mut element: impl FnMut(usize, usize) -> u8) -> Self {
        let bytes = (0..rows * columns).map(|at| element(at / columns, at % columns)).collect();
        Self { rows, columns, bytes }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All elements, row by row.
    pub fn elements(&self) -> &[u8] {
        &self.bytes
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.columns..][..self.columns]
    }

    /// One element.
    pub fn get(&self, row: usize, column: usize) -> u8 {
        self.row(row)[column]
    }

    /// One row, to be written.
    pub fn row_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.bytes[row * self.columns..][..self.columns]
    }

    /// Sets one element.
    pub fn set(&mut self, row: usize, column: usize, value: u8) {
        assert!(column < self.columns, "column {column} of {}", self.columns);
        self.bytes[row * self.columns + column] = value;
    }

    /// The rows named, in that order.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        Self::from_fn(rows.len(), self.columns, |row, column| self.get(rows[row], column))
    }

    /// `self * other`.
    pub fn product(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.rows, "inner dimensions");
        let mut result = Self::zero(self.rows, other.columns);
        for row in 0..self.rows {
            for (inner, &factor) in self.row(row).iter().enumerate() {
                gf::add_scaled(&mut result.bytes[row * other.columns..][..other.columns], other.row(inner), factor);
            }
        }
        result
    }

    /// The largest number of independent rows.
    pub fn rank(&self) -> usize {
        let mut work = self.clone();
        work.eliminate(self.columns)
    }

    /// `X` with `X * self = targets`, or `None` where a target is outside the row space. Where the rows of `self` are
    /// dependent, later rows get coefficient 0.
    pub fn express(&self, targets: &Self) -> Option<Self> {
        assert_eq!(self.columns, targets.columns, "row lengths");
        // Transposed and augmented, columns of `self` are unknowns: [self^T | targets^T].
        let mut work = Self::from_fn(self.columns, self.rows + targets.rows, |row, column| {
            if column < self.rows { self.get(column, row) } else { targets.get(column - self.rows, row) }
        });
        let rank = work.eliminate(self.rows);
        if (rank..work.rows).any(|row| work.row(row)[self.rows..].iter().any(|&value| value != 0)) {
            return None;
        }
        let mut result = Self::zero(targets.rows, self.rows);
        for row in 0..rank {
            let pivot = work.row(row).iter().position(|&value| value != 0)?;
            for target in 0..targets.rows {
                result.set(target, pivot, work.get(row, self.rows + target));
            }
        }
        Some(result)
    }

    /// The inverse, or `None` where the matrix is singular or not square.
    pub fn inverted(&self) -> Option<Self> {
        if self.rows != self.columns || self.rank() != self.rows {
            return None;
        }
        self.express(&Self::identity(self.rows))
    }

    /// Reduced row echelon form over the first `columns` columns; gives their rank. Pivots end up 1.
    fn eliminate(&mut self, columns: usize) -> usize {
        let mut rank = 0;
        for column in 0..columns {
            let Some(pivot) = (rank..self.rows).find(|&row| self.get(row, column) != 0) else { continue };
            self.swap_rows(rank, pivot);
            let Some(scale) = gf::inverse(self.get(rank, column)) else { continue };
            for value in &mut self.bytes[rank * self.columns..][..self.columns] {
                *value = gf::mul(*value, scale);
            }
            let pivot_row = self.row(rank).to_vec();
            for row in (0..self.rows).filter(|&row| row != rank) {
                let factor = self.get(row, column);
                gf::add_scaled(&mut self.bytes[row * self.columns..][..self.columns], &pivot_row, factor);
            }
            rank += 1;
        }
        rank
    }

    fn swap_rows(&mut self, a: usize, b: usize) {
        if a != b {
            for column in 0..self.columns {
                self.bytes.swap(a * self.columns + column, b * self.columns + column);
            }
        }
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in 0..self.rows {
            if row > 0 {
                f.write_str("/")?;
            }
            for value in self.row(row) {
                write!(f, "{value:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_of_a_vandermonde_matrix_undoes_it() {
        for order in [1, 2, 7, 20] {
            let matrix = Matrix::from_fn(order, order, |row, column| gf::pow(row as u8, column));
            let inverse = matrix.inverted().unwrap();
            assert_eq!(inverse.product(&matrix), Matrix::identity(order));
            assert_eq!(matrix.product(&inverse), Matrix::identity(order));
        }
    }

    #[test]
    fn what_is_outside_the_row_space_is_not_expressed() {
        let rows = Matrix::from_fn(2, 3, |row, column| u8::from(column == row));
        assert_eq!(rows.express(&Matrix::from_fn(1, 3, |_, column| [5, 7, 0][column])).unwrap().row(0), [5, 7]);
        assert_eq!(rows.express(&Matrix::from_fn(1, 3, |_, column| [5, 7, 1][column])), None);
        assert_eq!(Matrix::from_fn(3, 3, |row, _| row as u8).inverted(), None);
    }

    #[test]
    fn dependent_rows_are_not_used_twice() {
        let rows =
            Matrix::from_fn(
                3,
                2,
                |row, column| if row == 1 { 2 * u8::from(column == 0) } else { u8::from(row.min(1) == column) },
            );
        let found = rows.express(&Matrix::from_fn(1, 2, |_, _| 9)).unwrap();
        assert_eq!(found.row(0), [9, 0, 9]);
    }
}
