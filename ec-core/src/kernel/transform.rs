//! A matrix prepared for one kernel, and the checks at its door.
//!
//! A kernel computes up to [`ROWS_MAX`] rows at once, their sums held in registers, reading every input once. So the
//! rows are divided into groups, and each group lists the columns where any of its rows is not zero: the local parities
//! of an LRC pay only for their own members. A group with more than [`COLUMNS_MAX`] columns goes on in a second one that
//! adds to the first one's sums.

use super::{Backend, Kernel, portable};
use crate::error::DecodeError;
use crate::matrix::Matrix;
use crate::shard::ShardIndex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// Rows a kernel computes at once: what the sums of two vectors per row and their operands leave of 32 registers, and
/// enough for the parities of nearly every code in use.
pub(super) const ROWS_MAX: usize = 6;

/// Columns of one group. Bounds the list of pointers on the stack to half a KiB; more columns than this are rare, and
/// cost one more load and store per output.
pub(super) const COLUMNS_MAX: usize = 64;

/// Bytes of each buffer that all groups go through before the next ones: the inputs of a wide code (32 of them) then
/// fill three eighths of a 1 MiB second-level cache while the second group reads them again.
const BLOCK_BYTES: usize = 12 << 10;

// Steps are of 1 to 4 vectors of 64 bytes; a block that ended inside one would leave each block a slow remainder.
const _: () = assert!(BLOCK_BYTES.is_multiple_of(4 * 64) && BLOCK_BYTES.is_multiple_of(3 * 64));

/// Prepared coefficients: `outputs[r] = sum over c of coefficients[r][c] * inputs[c]`, byte by byte over GF(2^8).
#[derive(Clone)]
pub struct Transform {
    kernel: Kernel,
    rows: usize,
    columns: usize,
    groups: Vec<Group>,
}

#[derive(Clone)]
struct Group {
    shape: Shape,
    program: Program,
}

/// Which rows a group computes and from which columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Distinct, 1 to [`ROWS_MAX`] of them.
    pub(super) rows: Vec<usize>,
    /// At most [`COLUMNS_MAX`] of them.
    pub(super) columns: Vec<usize>,
    /// Whether an earlier group has begun these rows, so that this one adds to them.
    pub(super) adds: bool,
}

/// A backend and the tables it wants, made together so that they cannot be mixed up. Column by column.
#[derive(Clone)]
enum Program {
    #[cfg(target_arch = "x86_64")]
    Avx512Gfni(super::x86::Avx512Gfni, Vec<u64>),
    #[cfg(target_arch = "x86_64")]
    Avx2Gfni(super::x86::Avx2Gfni, Vec<u64>),
    #[cfg(target_arch = "x86_64")]
    Avx2(super::x86::Avx2, Vec<super::x86::NibbleProducts>),
    Portable(portable::Method, Vec<u8>),
}

impl Transform {
    /// Prepares the coefficients for a kernel.
    pub fn new(kernel: Kernel, coefficients: &Matrix) -> Self {
        let groups = divide(coefficients).into_iter().map(|shape| Group::new(kernel, coefficients, shape)).collect();
        Self { kernel, rows: coefficients.rows(), columns: coefficients.columns(), groups }
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The kernel this was prepared for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Overwrites the outputs with the sums. All buffers are equally long; any length and any alignment will do.
    ///
    /// On error the outputs are untouched. The index in [`DecodeError::LengthMismatch`] counts the inputs first and the
    /// outputs after them.
    pub fn apply(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        let len = self.check(inputs, outputs)?;
        let mut start = 0;
        while start < len {
            let end = len.min(start + BLOCK_BYTES);
            for group in &self.groups {
                group.run(inputs, outputs, start..end);
            }
            start = end;
        }
        Ok(())
    }

    /// The common length of the buffers.
    fn check(&self, inputs: &[&[u8]], outputs: &[&mut [u8]]) -> Result<usize, DecodeError> {
        for (expected, found) in [(self.columns, inputs.len()), (self.rows, outputs.len())] {
            if expected != found {
                return Err(DecodeError::WrongCount { expected, found });
            }
        }
        let mut lengths = inputs.iter().map(|input| input.len()).chain(outputs.iter().map(|output| output.len()));
        let expected = lengths.next().unwrap_or(0);
        match lengths.enumerate().find(|&(_, found)| found != expected) {
            None => Ok(expected),
            Some((before, found)) => {
                let index = ShardIndex::new(u16::try_from(before + 1).unwrap_or(u16::MAX));
                Err(DecodeError::LengthMismatch { index, expected, found })
            }
        }
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transform({}, {} x {})", self.kernel.name(), self.rows, self.columns)
    }
}

impl Group {
    fn new(kernel: Kernel, matrix: &Matrix, shape: Shape) -> Self {
        let elements =
            shape.columns.iter().flat_map(|&column| shape.rows.iter().map(move |&row| matrix.get(row, column)));
        let program = match kernel.0 {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Gfni(proof) => Program::Avx512Gfni(proof, elements.map(super::x86::affine_matrix).collect()),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2Gfni(proof) => Program::Avx2Gfni(proof, elements.map(super::x86::affine_matrix).collect()),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(proof) => Program::Avx2(proof, elements.map(super::x86::nibble_products).collect()),
            Backend::Portable(method) => Program::Portable(method, elements.collect()),
        };
        Self { shape, program }
    }

    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], range: Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        use super::x86::{Lanes, in_whole_vectors};
        let shape = &self.shape;
        match &self.program {
            #[cfg(target_arch = "x86_64")]
            Program::Avx512Gfni(proof, tables) => proof.run(tables, &Lanes::gather(shape, inputs, outputs, range)),
            #[cfg(target_arch = "x86_64")]
            Program::Avx2Gfni(proof, tables) => {
                in_whole_vectors(shape, inputs, outputs, range, |lanes| proof.run(tables, lanes));
            }
            #[cfg(target_arch = "x86_64")]
            Program::Avx2(proof, tables) => {
                in_whole_vectors(shape, inputs, outputs, range, |lanes| proof.run(tables, lanes));
            }
            Program::Portable(method, coefficients) => {
                portable::run(*method, coefficients, shape, inputs, outputs, range);
            }
        }
    }
}

/// Divides the rows into groups. Rows with the same columns go together, in groups of even size; then groups join where
/// reading their common columns once saves more than multiplying by zeros costs.
fn divide(matrix: &Matrix) -> Vec<Shape> {
    let mut by_columns = BTreeMap::<BTreeSet<usize>, Vec<usize>>::new();
    for row in 0..matrix.rows() {
        let used = (0..matrix.columns()).filter(|&column| matrix.get(row, column) != 0).collect();
        by_columns.entry(used).or_default().push(row);
    }

    let mut joined = Vec::<(BTreeSet<usize>, Vec<usize>)>::new();
    for (columns, rows) in by_columns {
        let groups = rows.len().div_ceil(ROWS_MAX);
        for at in 0..groups {
            let rows = &rows[at * rows.len() / groups..(at + 1) * rows.len() / groups];
            let into = joined.iter_mut().find(|(others, other_rows)| {
                let separate = cost(&columns, rows.len()) + cost(others, other_rows.len());
                rows.len() + other_rows.len() <= ROWS_MAX
                    && cost(&(&columns | others), rows.len() + other_rows.len()) <= separate
            });
            match into {
                Some((other_columns, other_rows)) => {
                    other_columns.extend(&columns);
                    other_rows.extend(rows);
                }
                None => joined.push((columns.clone(), rows.to_vec())),
            }
        }
    }

    let mut shapes = Vec::new();
    for (columns, rows) in joined {
        let columns = columns.into_iter().collect::<Vec<_>>();
        let mut pieces = columns.chunks(COLUMNS_MAX);
        // Rows of zeros have no piece at all, and must be written all the same.
        let first = pieces.next().unwrap_or_default();
        shapes.push(Shape { rows: rows.clone(), columns: first.to_vec(), adds: false });
        shapes.extend(pieces.map(|piece| Shape { rows: rows.clone(), columns: piece.to_vec(), adds: true }));
    }
    shapes
}

/// Instructions per vector, roughly: each column is loaded once and multiplied once per row.
fn cost(columns: &BTreeSet<usize>, rows: usize) -> usize {
    columns.len() * (1 + rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_divides(matrix: &Matrix, shapes: &[Shape]) {
        let mut computed = vec![BTreeSet::<usize>::new(); matrix.rows()];
        for shape in shapes {
            assert!((1..=ROWS_MAX).contains(&shape.rows.len()) && shape.columns.len() <= COLUMNS_MAX, "{shape:?}");
            for &row in &shape.rows {
                assert_eq!(shape.adds, !computed[row].is_empty(), "row {row} is begun once, and first");
                computed[row].extend(&shape.columns);
            }
        }
        for (row, columns) in computed.iter().enumerate() {
            assert!((0..matrix.columns()).all(|column| matrix.get(row, column) == 0 || columns.contains(&column)));
        }
    }

    #[test]
    fn every_element_is_in_a_group() {
        for (rows, columns, one_in) in
            [(1, 1, 1), (4, 10, 1), (7, 20, 1), (13, 3, 1), (20, 200, 1), (30, 70, 5), (9, 65, 9)]
        {
            let matrix = Matrix::from_fn(rows, columns, |row, column| u8::from((row * 7 + column * 3) % one_in == 0));
            assert_divides(&matrix, &divide(&matrix));
        }
        assert_eq!(divide(&Matrix::zero(0, 5)), []);
    }

    #[test]
    fn dense_rows_are_divided_evenly() {
        let sizes =
            |rows| divide(&Matrix::from_fn(rows, 9, |_, _| 1)).iter().map(|it| it.rows.len()).collect::<Vec<_>>();
        assert_eq!(sizes(4), [4]);
        assert_eq!(sizes(7), [3, 4]);
        assert_eq!(sizes(13), [4, 4, 5]);
    }

    #[test]
    fn columns_of_zeros_are_not_read() {
        // Rows over disjoint halves gain nothing from each other, and a row of zeros reads nothing.
        let matrix = Matrix::from_fn(5, 12, |row, column| u8::from(row < 4 && column / 6 == row % 2));
        let shapes = divide(&matrix);
        let has = |rows: &[usize], columns: Range<usize>| {
            shapes.contains(&Shape { rows: rows.to_vec(), columns: columns.collect(), adds: false })
        };
        assert!(has(&[0, 2], 0..6) && has(&[1, 3], 6..12) && has(&[4], 0..0), "{shapes:?}");
        assert_eq!(shapes.len(), 3);
    }
}
