//! Divides the rows of a matrix into groups that read their inputs once.
//!
//! Rows with the same columns go together, in groups of even size; then groups join where reading their common columns
//! once saves more than multiplying by zeros costs. So the local parities of an LRC pay only for their own members. Rows
//! of zeros and ones are plain sums: those whose columns a group reads anyway are summed on the way.

use super::dense::{Group, ROWS_MAX, Section};
use super::lanes::{SOURCES_MAX, TARGETS_MAX};
use crate::matrix::Matrix;

/// Columns of a piece of the matrix, relative to its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Columns([u64; SOURCES_MAX / 64]);

impl Columns {
    fn of(row: &[u8]) -> Self {
        let mut columns = Self::default();
        for (column, &coefficient) in row.iter().enumerate() {
            columns.0[column / 64] |= u64::from(coefficient != 0) << (column % 64);
        }
        columns
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; SOURCES_MAX / 64]
    }

    fn contains(&self, column: usize) -> bool {
        self.0[column / 64] >> (column % 64) & 1 == 1
    }
}

/// Rows that share a reading.
struct Reading {
    columns: Columns,
    rows: Vec<u16>,
}

/// The groups of a matrix, with its coefficients as a family wants them.
pub(super) fn divide<F>(matrix: &Matrix, factor: impl Fn(u8) -> F) -> Vec<Group<F>> {
    if let Some(group) = single(matrix, &factor) {
        return vec![group];
    }
    let mut groups = Vec::new();
    // A matrix without columns still has rows to fill with zeros.
    for first in (0..matrix.columns().max(1)).step_by(SOURCES_MAX) {
        let end = matrix.columns().min(first + SOURCES_MAX);
        Piece { matrix, first, end, adds: first > 0 }.divide(&factor, &mut groups);
    }
    groups
}

/// The groups of a matrix whose products are added to what the rows hold.
pub(super) fn divide_adding<F>(matrix: &Matrix, factor: impl Fn(u8) -> F) -> Vec<Group<F>> {
    let mut groups = Vec::new();
    for first in (0..matrix.columns()).step_by(SOURCES_MAX) {
        let end = matrix.columns().min(first + SOURCES_MAX);
        Piece { matrix, first, end, adds: true }.divide(&factor, &mut groups);
    }
    groups
}

/// The one group of a matrix without zeros and plain sums that has few rows: most plans, which are made often.
fn single<F>(matrix: &Matrix, factor: impl Fn(u8) -> F) -> Option<Group<F>> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let is_plain = |row: usize| matrix.row(row).iter().all(|&coefficient| coefficient == 1);
    let fits = (1..=ROWS_MAX).contains(&rows) && (1..=SOURCES_MAX).contains(&columns);
    if !fits || (0..rows).any(|row| is_plain(row) || matrix.row(row).contains(&0)) {
        return None;
    }
    let elements = matrix.elements();
    let mut factors = Vec::with_capacity(rows * columns);
    for column in 0..columns {
        factors.extend(elements[column..].iter().step_by(columns).map(|&element| factor(element)));
    }
    let rows = (0..rows).map(number).collect();
    Some(Group { rows, columns: Vec::new(), factors, sections: Vec::new(), adds: false })
}

/// At most [`SOURCES_MAX`] columns of a matrix.
struct Piece<'a> {
    matrix: &'a Matrix,
    first: usize,
    end: usize,
    /// Every piece but the first adds to what the earlier ones began.
    adds: bool,
}

impl Piece<'_> {
    fn row(&self, row: u16) -> &[u8] {
        &self.matrix.row(row.into())[self.first..self.end]
    }

    fn divide<F>(&self, factor: impl Fn(u8) -> F, groups: &mut Vec<Group<F>>) {
        let adds = self.adds;
        let mut readings = Vec::<Reading>::new();
        let mut sums = Vec::<(Columns, u16)>::new();
        for row in (0..self.matrix.rows()).map(number) {
            let coefficients = self.row(row);
            let columns = Columns::of(coefficients);
            if !adds && coefficients.iter().all(|&coefficient| coefficient <= 1) {
                sums.push((columns, row));
            } else if !columns.is_empty() {
                match readings.iter_mut().find(|reading| reading.columns == columns) {
                    Some(reading) => reading.rows.push(row),
                    None => readings.push(Reading { columns, rows: vec![row] }),
                }
            }
        }
        for reading in joined(readings) {
            groups.push(self.group(&reading, &mut sums, adds, &factor));
        }
        // Sums of columns that nobody else reads, and rows of zeros.
        for (columns, row) in sums {
            let reading = Reading { columns, rows: Vec::new() };
            groups.push(self.group(&reading, &mut vec![(columns, row)], adds, &factor));
        }
    }

    /// The group of one reading, with those of the sums that it can do on the way, which are taken out.
    fn group<F>(
        &self,
        reading: &Reading,
        sums: &mut Vec<(Columns, u16)>,
        adds: bool,
        factor: impl Fn(u8) -> F,
    ) -> Group<F> {
        let mut sections = Vec::with_capacity(sums.len() + 1);
        let mut columns = Vec::with_capacity(reading.columns.len());
        let mut left = reading.columns;
        sums.retain(|&(own, row)| {
            let is_full = reading.rows.len() + sections.len() == TARGETS_MAX;
            if is_full || !own.without(&left).is_empty() || (own.is_empty() && !reading.columns.is_empty()) {
                return true;
            }
            left = left.without(&own);
            self.append(&own, &mut columns);
            sections.push(Section { columns: own.len(), sum: Some(row) });
            false
        });
        if !left.is_empty() {
            self.append(&left, &mut columns);
            sections.push(Section { columns: left.len(), sum: None });
        }
        let mut factors = Vec::with_capacity(columns.len() * reading.rows.len());
        for &column in &columns {
            factors.extend(reading.rows.iter().map(|&row| factor(self.matrix.get(row.into(), column.into()))));
        }
        Group { rows: reading.rows.clone(), columns, factors, sections, adds }
    }

    fn append(&self, columns: &Columns, to: &mut Vec<u16>) {
        let own = (self.first..self.end).filter(|column| columns.contains(column - self.first));
        to.extend(own.map(number));
    }
}

/// The number of a row or column. The door of `Transform` has refused matrices with more than there are numbers.
fn number(at: usize) -> u16 {
    at.try_into().unwrap_or_else(|_| unreachable!("row or column {at} of a matrix that was refused"))
}

/// Cuts readings with too many rows evenly, then joins those that are cheaper together.
fn joined(readings: Vec<Reading>) -> Vec<Reading> {
    if let [only] = &readings[..]
        && only.rows.len() <= ROWS_MAX
    {
        return readings;
    }
    let mut joined = Vec::<Reading>::new();
    for Reading { columns, rows } in readings {
        let pieces = rows.len().div_ceil(ROWS_MAX);
        for at in 0..pieces {
            let rows = &rows[at * rows.len() / pieces..(at + 1) * rows.len() / pieces];
            let into = joined.iter_mut().find(|other| {
                let separate = cost(&columns, rows.len()) + cost(&other.columns, other.rows.len());
                let together = rows.len() + other.rows.len();
                together <= ROWS_MAX && cost(&columns.union(&other.columns), together) <= separate
            });
            match into {
                Some(other) => {
                    other.columns = other.columns.union(&columns);
                    other.rows.extend(rows);
                }
                None => joined.push(Reading { columns, rows: rows.to_vec() }),
            }
        }
    }
    joined
}

/// Instructions per vector, roughly: each column is loaded once and multiplied once per row.
fn cost(columns: &Columns, rows: usize) -> usize {
    columns.len() * (1 + rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts the groups together again.
    fn assembled(groups: &[Group<u8>], rows: usize, columns: usize) -> Matrix {
        let mut matrix = Matrix::zero(rows, columns);
        let mut begun = vec![false; rows];
        for group in groups {
            let mut group = group.clone();
            if group.sections.is_empty() && columns > 0 {
                group.columns = (0..columns.try_into().unwrap()).collect();
                group.sections = vec![Section { columns, sum: None }];
            }
            assert!(group.rows.len() <= ROWS_MAX && group.columns.len() <= SOURCES_MAX);
            assert_eq!(group.columns.len(), group.sections.iter().map(|section| section.columns).sum::<usize>());
            for row in group.targets() {
                assert!(group.adds || !begun[row], "row {row} is begun once");
                assert!(begun[row] || !group.adds, "row {row} is begun before it is added to");
                begun[row] = true;
            }
            for (at, &column) in group.columns.iter().enumerate() {
                for (r, &row) in group.rows.iter().enumerate() {
                    let factor = group.factors[at * group.rows.len() + r];
                    matrix.set(row.into(), column.into(), matrix.get(row.into(), column.into()) ^ factor);
                }
            }
            let mut first = 0;
            for section in &group.sections {
                for &column in &group.columns[first..first + section.columns] {
                    section.sum.into_iter().for_each(|row| matrix.set(row.into(), column.into(), 1));
                }
                first += section.columns;
            }
        }
        assert!(begun.iter().all(|&begun| begun), "every row is written");
        matrix
    }

    #[test]
    fn the_groups_are_the_matrix() {
        for (rows, columns, one_in) in
            [(1, 1, 1), (4, 10, 1), (7, 20, 1), (13, 3, 1), (20, 200, 1), (30, 270, 5), (9, 65, 9), (5, 600, 2)]
        {
            for scale in [1, 2] {
                let element = |row: usize, column: usize| {
                    u8::from((row * 7 + column * 3).is_multiple_of(one_in))
                        * 1u8.wrapping_add(u8::try_from(row * column % 251).unwrap() * (scale - 1))
                };
                let matrix = Matrix::from_fn(rows, columns, element);
                assert_eq!(assembled(&divide(&matrix, |factor| factor), rows, columns), matrix);
            }
        }
        assert_eq!(divide(&Matrix::zero(0, 5), |factor| factor), []);
        assert_eq!(assembled(&divide(&Matrix::zero(3, 0), |factor| factor), 3, 0), Matrix::zero(3, 0));
    }

    #[test]
    fn dense_rows_are_divided_evenly() {
        let sizes = |rows| {
            let groups = divide(&Matrix::from_fn(rows, 9, |_, _| 2), |factor| factor);
            groups.iter().map(|it| it.rows.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(4), [4]);
        assert_eq!(sizes(7), [3, 4]);
        assert_eq!(sizes(13), [4, 4, 5]);
    }

    #[test]
    fn local_parities_are_summed_on_the_way() {
        // Two local parities over six columns each, two global ones over all twelve: one reading, two products a byte.
        let matrix = Matrix::from_fn(4, 12, |row, column| match row {
            0 | 1 => u8::from(column / 6 == row),
            _ => u8::try_from(column + row).unwrap(),
        });
        let [group] = &divide(&matrix, |factor| factor)[..] else { panic!("one group") };
        assert_eq!(group.rows, [2, 3]);
        let section = |row| Section { columns: 6, sum: Some(row) };
        assert_eq!(group.sections, [section(0), section(1)]);
    }

    #[test]
    fn columns_of_zeros_are_not_read() {
        // Rows over disjoint halves gain nothing from each other, and a row of zeros reads nothing.
        let element = |row: usize, column: usize| 2 * u8::from(row < 4 && column / 6 == row % 2);
        let groups = divide(&Matrix::from_fn(5, 12, element), |factor| factor);
        let read = groups.iter().map(|it| (it.targets().collect::<Vec<_>>(), it.columns.clone())).collect::<Vec<_>>();
        assert_eq!(
            read,
            [(vec![0, 2], (0..6).collect()), (vec![1, 3], (6..12).collect()), (vec![4], Vec::<u16>::new())]
        );
    }
}
