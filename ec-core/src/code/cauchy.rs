//! Parity rows that are MDS by theorem, whoever made them.

use crate::gf;
use crate::matrix::Matrix;

/// Whether the rows are a generalised Cauchy matrix, `1 / (a_i * c_j + b_i * d_j)`, and so MDS: the determinant of any of its
/// squares is a product of `a_i * b_j - a_j * b_i`, the same of c and d, and reciprocals. Such are the parity rows of every
/// generalised Reed-Solomon code, also of those from a Vandermonde matrix (Roth and Seroussi 1985, "On generator matrices of
/// MDS codes"): no element is zero, and the reciprocals have rank 2 with no 2 x 2 minor that is zero. A lone row or column
/// without a zero is one, too.
pub(super) fn is_generalised_cauchy(parity: &Matrix) -> bool {
    if parity.elements().contains(&0) {
        return false;
    }
    let (rows, columns) = (parity.rows(), parity.columns());
    if rows == 1 || columns == 1 {
        return true;
    }
    let reciprocals = Matrix::from_fn(rows, columns, |row, column| gf::inverse(parity.get(row, column)).unwrap_or(0));
    let minor = |(a, b): (usize, usize), (c, d): (usize, usize)| {
        gf::mul(reciprocals.get(a, c), reciprocals.get(b, d)) ^ gf::mul(reciprocals.get(a, d), reciprocals.get(b, c))
    };
    // Of a matrix of rank 2 a minor is a factor of its rows times one of its columns, so these tell of all.
    let pairs = |limit: usize| (0..limit).flat_map(move |a| (a + 1..limit).map(move |b| (a, b)));
    let are_regular =
        pairs(rows).all(|pair| minor(pair, (0, 1)) != 0) && pairs(columns).all(|pair| minor((0, 1), pair) != 0);
    are_regular && (2..rows).all(|row| is_sum_of_first_two(&reciprocals, row))
}

/// Of which the first two columns are independent.
fn is_sum_of_first_two(matrix: &Matrix, row: usize) -> bool {
    let basis = matrix.select_rows(&[0, 1]);
    basis.express(&matrix.select_rows(&[row])).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::rs::singular_submatrix;
    use crate::code::splitmix;
    use crate::code::{Code, RsMatrix};
    use crate::kernel::Kernel;

    fn parity_of(spec: &str) -> Matrix {
        let code = Code::with_kernel(&spec.parse().unwrap(), Kernel::portable()).unwrap();
        code.generator().select_rows(&(code.k()..code.n()).collect::<Vec<_>>())
    }

    #[test]
    fn the_matrices_of_every_reed_solomon_family_are_recognised() {
        for (_, matrix) in RsMatrix::ALL.iter().filter(|(matrix, _)| *matrix != RsMatrix::Power) {
            for (k, m) in [(1, 1), (1, 7), (9, 1), (2, 2), (10, 4), (17, 3), (128, 100), (200, 30)] {
                assert!(is_generalised_cauchy(&parity_of(&format!("rs:{k}+{m}@{matrix}"))), "{k}+{m}@{matrix}");
            }
        }
        // Two rows of powers are; more are not, though 10+4 is MDS.
        assert!(is_generalised_cauchy(&parity_of("rs:10+2@power")));
        assert!(!is_generalised_cauchy(&parity_of("rs:10+4@power")));
        assert!(!is_generalised_cauchy(&parity_of("lrc:6,2,2")));
    }

    #[test]
    fn nothing_with_a_singular_submatrix_is_recognised() {
        let (mut dice, mut recognised) = (3, 0);
        for round in 0..3000 {
            let (rows, columns) = (1 + splitmix(&mut dice) as usize % 4, 1 + splitmix(&mut dice) as usize % 4);
            // Mostly points of which some may be alike, and at times an element that is changed.
            let mut points = || [(); 8].map(|()| (splitmix(&mut dice) % 24) as u8);
            let (x, y) = (points(), points());
            let mut matrix =
                Matrix::from_fn(rows, columns, |row, column| gf::inverse(x[row] ^ y[column] ^ 32).unwrap());
            if round % 4 == 0 {
                matrix.set(splitmix(&mut dice) as usize % rows, 0, splitmix(&mut dice) as u8);
            }
            if is_generalised_cauchy(&matrix) {
                recognised += 1;
                assert_eq!(singular_submatrix(&matrix, rows, columns), None, "{matrix:?}");
            }
        }
        assert!(recognised > 1000, "{recognised}");
    }
}
