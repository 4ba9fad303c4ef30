//! Parity rows of Reed-Solomon codes, and the proof that they are MDS.

use super::spec::{CodeSpec, RsMatrix};
use crate::error::CodeError;
use crate::gf;
use crate::matrix::Matrix;

/// The `m` parity rows over `k` data shards.
pub(super) fn parity_rows(spec: &CodeSpec, k: usize, m: usize, matrix: RsMatrix) -> Result<Matrix, CodeError> {
    match matrix {
        RsMatrix::Lch => Ok(lch(k, m)),
        RsMatrix::Cauchy => Ok(Matrix::from_fn(m, k, |i, j| reciprocal(element(k + i) ^ element(j)))),
        RsMatrix::Vandermonde => Ok(vandermonde(k, m)),
        RsMatrix::Jerasure => Ok(jerasure(k, m)),
        RsMatrix::Power => {
            let rows = Matrix::from_fn(m, k, |i, j| gf::exp2(i * j));
            match power_singular_submatrix(&rows) {
                Some((parities, data)) => Err(CodeError::NotMds { spec: spec.to_string(), parities, data }),
                None => Ok(rows),
            }
        }
    }
}

/// P[i][j] = W(y) / (c * (i xor y)), y = M + j. W is the subspace polynomial of {0..M}: a column factor, so the matrix is a
/// column-scaled Cauchy matrix and MDS whatever W is; with this W an additive FFT computes the same rows.
pub(crate) fn lch(k: usize, m: usize) -> Matrix {
    let order = m.next_power_of_two();
    let c = (1..order).fold(1, |product, v| gf::mul(product, element(v)));
    let column_factor: Vec<u8> = (0..k)
        .map(|j| {
            let w = (0..order).fold(1, |product, v| gf::mul(product, element(order + j) ^ element(v)));
            gf::mul(w, reciprocal(c))
        })
        .collect();
    Matrix::from_fn(m, k, |i, j| gf::mul(column_factor[j], reciprocal(element(i) ^ element(order + j))))
}

/// The lower rows of V * inverse(V_top), V[r][c] = r^c.
fn vandermonde(k: usize, m: usize) -> Matrix {
    let full = Matrix::from_fn(k + m, k, |row, column| gf::pow(element(row), column));
    let top: Vec<usize> = (0..k).collect();
    let bottom: Vec<usize> = (k..k + m).collect();
    // Distinct points make V_top invertible; `express` solves X * V_top = V_bottom.
    full.select_rows(&top).express(&full.select_rows(&bottom)).unwrap_or_else(|| Matrix::zero(m, k))
}

/// The extended Vandermonde matrix (rows `r^c` for r from 0 to n-2, then that of infinity: zeros and a one), its first k rows made
/// the identity by operations on columns; then columns scaled so that the first parity row is all ones, and the other rows so
/// that their first element is one (Plank and Ding 2005, "Note: Correction to the 1997 tutorial on Reed-Solomon coding").
fn jerasure(k: usize, m: usize) -> Matrix {
    let n = k + m;
    let full =
        Matrix::from_fn(
            n,
            k,
            |row, column| {
                if row + 1 < n { gf::pow(element(row), column) } else { u8::from(column + 1 == k) }
            },
        );
    let (top, bottom): (Vec<usize>, Vec<usize>) = ((0..k).collect(), (k..n).collect());
    // Distinct points again: regular, and no element of a parity row is zero.
    let rows = full.select_rows(&top).express(&full.select_rows(&bottom)).unwrap_or_else(|| Matrix::zero(m, k));
    let column_scaled = |row: usize, column: usize| gf::mul(rows.get(row, column), reciprocal(rows.get(0, column)));
    Matrix::from_fn(m, k, |row, column| gf::mul(column_scaled(row, column), reciprocal(column_scaled(row, 0))))
}

fn element(value: usize) -> u8 {
    // Callers keep k + m (lch: k + M) within 256, checked by `CodeSpec::new`.
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn reciprocal(value: u8) -> u8 {
    // Never 0 here: the points of a Cauchy matrix are distinct, and so are v and y in W.
    gf::inverse(value).unwrap_or(0)
}

/// Rows and columns of a singular square submatrix of `2^(i*j)`, or `None` where there is none.
///
/// With at most three rows or three columns every square submatrix is a (transposed, scaled) Vandermonde matrix of distinct
/// points. Beyond, the smallest failing shapes are 22 x 4, 4 x 22 and 6 x 5 (checked exhaustively by the tests and, for ISA-L's
/// identical matrix, by its own documentation), so a failing matrix fails within its first 22 rows and columns, and what passes
/// is small enough to check whole.
fn power_singular_submatrix(rows: &Matrix) -> Option<(Vec<u16>, Vec<u16>)> {
    const FIRST_FAILURE_WITHIN: usize = 22;
    if rows.rows() <= 3 || rows.columns() <= 3 {
        return None;
    }
    singular_submatrix(rows, rows.rows().min(FIRST_FAILURE_WITHIN), rows.columns().min(FIRST_FAILURE_WITHIN))
}

/// The first singular square submatrix within the first `row_limit` rows and `column_limit` columns, smallest first.
pub(super) fn singular_submatrix(
    matrix: &Matrix,
    row_limit: usize,
    column_limit: usize,
) -> Option<(Vec<u16>, Vec<u16>)> {
    for order in 1..=row_limit.min(column_limit) {
        let mut found = None;
        for_each_combination(row_limit, order, |rows| {
            for_each_combination(column_limit, order, |columns| {
                let square = Matrix::from_fn(order, order, |row, column| matrix.get(rows[row], columns[column]));
                if square.rank() < order {
                    let name = |at: &usize| u16::try_from(*at).unwrap_or(u16::MAX);
                    found = Some((rows.iter().map(name).collect(), columns.iter().map(name).collect()));
                }
                found.is_none()
            })
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Calls `visit` with every rising selection of `count` out of `0..limit`, in lexicographic order, until it says `false`;
/// says whether all were visited.
pub(super) fn for_each_combination(limit: usize, count: usize, mut visit: impl FnMut(&[usize]) -> bool) -> bool {
    if count > limit {
        return true;
    }
    let mut chosen: Vec<usize> = (0..count).collect();
    loop {
        if !visit(&chosen) {
            return false;
        }
        let Some(at) = (0..count).rev().find(|&at| chosen[at] < limit - count + at) else { return true };
        chosen[at] += 1;
        for next in at + 1..count {
            chosen[next] = chosen[next - 1] + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Matrix {
        let spec: CodeSpec = text.parse().unwrap();
        let super::super::Shape::Rs { k, m, matrix } = spec.shape() else { panic!("{text}") };
        parity_rows(&spec, k.into(), m.into(), matrix).unwrap()
    }

    #[test]
    fn golden_matrices() {
        for (spec, expected) in [
            ("rs:4+2", "03020504/02030405"),
            ("rs:4+4@lch", "1b1c1214/1c1b1412/12141b1c/14121c1b"),
            ("rs:6+3", "1b1c1214f5e8/1c1b1412e8f5/12141b1cc4d8"),
            ("rs:4+2@vandermonde", "1b1c1214/1c1b1412"),
            ("rs:4+2@cauchy", "47a77aba/a747ba7a"),
            ("rs:6+3@cauchy", "7aba47a78ef4/ba7aa747f48e/ad9ddd983daa"),
            ("rs:4+2@power", "01010101/01020408"),
            ("rs:4+2@jerasure", "01010101/01468fc8"),
            // From the manual of jerasure, 7+7.
            (
                "rs:7+7@jerasure",
                "01010101010101/01c7d2f06979f8/01465bf5388ea7/01aa722a574ee7/0126ec35e9af41/0140aee834ed27/01bb68d2d369ba",
            ),
        ] {
            assert_eq!(format!("{:?}", rows(spec)), expected, "{spec}");
        }
    }

    #[test]
    fn every_square_submatrix_of_the_mds_families_is_regular() {
        for matrix in ["lch", "cauchy", "vandermonde", "jerasure"] {
            for (k, m) in [(1, 1), (1, 6), (4, 2), (6, 3), (5, 5), (10, 4), (8, 6), (17, 3)] {
                let rows = rows(&format!("rs:{k}+{m}@{matrix}"));
                assert_eq!(singular_submatrix(&rows, m, k), None, "{matrix} {k}+{m}");
            }
        }
    }

    /// Bounds of ISA-L's header, found again: k=4 up to m=21, k=5 up to m=5, m=4 up to k=21, anything up to 3.
    #[test]
    fn power_is_refused_exactly_where_a_submatrix_is_singular() {
        for (k, m, fits) in [
            (4, 21, true),
            (4, 22, false),
            (5, 5, true),
            (5, 6, false),
            (21, 4, true),
            (22, 4, false),
            (6, 5, false),
            (200, 3, true),
            (3, 200, true),
            (9, 9, false),
            (120, 100, false),
        ] {
            let spec: CodeSpec = format!("rs:{k}+{m}@power").parse().unwrap();
            match parity_rows(&spec, k, m, RsMatrix::Power) {
                Ok(_) => assert!(fits, "{k}+{m} was accepted"),
                Err(CodeError::NotMds { parities, data, .. }) => {
                    assert!(!fits, "{k}+{m} was refused");
                    let square = Matrix::from_fn(data.len(), data.len(), |row, column| {
                        gf::exp2(usize::from(parities[row]) * usize::from(data[column]))
                    });
                    assert!(square.rank() < data.len(), "{parities:?} x {data:?} of {k}+{m} is regular");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn power_never_fails_with_three_rows_or_columns() {
        let rows = Matrix::from_fn(3, 40, |i, j| gf::exp2(i * j));
        assert_eq!(singular_submatrix(&rows, 3, 40), None);
        let columns = Matrix::from_fn(40, 3, |i, j| gf::exp2(i * j));
        assert_eq!(singular_submatrix(&columns, 40, 3), None);
    }
}
