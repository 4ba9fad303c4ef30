//! Parity rows from elsewhere: read, refused where they are no code, and judged.

use super::cauchy::is_generalised_cauchy;
use super::lrc::LocalGroup;
use super::{Code, CodeSpec, Evidence, Guarantee, shard};
use crate::error::{CodeError, MatrixError};
use crate::kernel::{Kernel, Transform};
use crate::matrix::Matrix;
use crate::shard::{SHARDS_MAX, ShardSet};

/// Reads parity rows: one a line, two hexadecimal digits a coefficient, spaces between them as one likes; empty lines and what
/// follows a `#` are skipped.
///
/// # Errors
/// A [`MatrixError`] with the line.
pub fn parse_parity_rows(text: &str) -> Result<Matrix, MatrixError> {
    let mut bytes = Vec::new();
    let (mut rows, mut columns) = (0, None);
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("");
        let row = hex(line).ok_or(MatrixError::NotHex { line: at + 1 })?;
        if row.is_empty() {
            continue;
        }
        let expected = *columns.get_or_insert(row.len());
        if row.len() != expected {
            return Err(MatrixError::Ragged { line: at + 1, expected, found: row.len() });
        }
        rows += 1;
        if rows + expected > SHARDS_MAX {
            return Err(MatrixError::TooLarge { k: expected, m: rows });
        }
        bytes.extend(row);
    }
    let columns = columns.ok_or(MatrixError::Empty)?;
    Ok(Matrix::from_fn(rows, columns, |row, column| bytes[row * columns + column]))
}

/// None where it is not in pairs of digits, or longer than any code.
fn hex(line: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        line.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

impl Code {
    /// A systematic code of `m` parity rows over `k` data shards, whatever they are. What it survives is known by theorem where the
    /// rows are those of a Reed-Solomon code, whoever made them, else it is found by rank: see [`Code::guarantee`]; its local
    /// groups are the parity rows that are the XOR of part of the data.
    ///
    /// # Errors
    /// [`CodeError::Matrix`] where the rows are no code, [`CodeError::Kernel`].
    pub fn from_parity_rows(parity: &Matrix) -> Result<Self, CodeError> {
        Self::from_parity_rows_with(parity, Kernel::selected()?)
    }

    /// As [`Code::from_parity_rows`], with a given kernel.
    ///
    /// # Errors
    /// As [`Code::from_parity_rows`], but for the kernel.
    pub fn from_parity_rows_with(parity: &Matrix, kernel: Kernel) -> Result<Self, CodeError> {
        let (k, m) = (parity.columns(), parity.rows());
        if k == 0 || m == 0 {
            return Err(MatrixError::Empty.into());
        }
        if k + m > SHARDS_MAX {
            return Err(MatrixError::TooLarge { k, m }.into());
        }
        if let Some(row) = (0..m).find(|&row| parity.row(row).iter().all(|&value| value == 0)) {
            return Err(MatrixError::ZeroRow { row }.into());
        }
        if let Some(column) = (0..k).find(|&column| (0..m).all(|row| parity.get(row, column) == 0)) {
            return Err(MatrixError::ZeroColumn { column }.into());
        }
        // At most 256 each.
        let spec = CodeSpec::of_matrix(k as u16, m as u16, digest(parity));
        let groups = local_groups(parity);
        let encoder = Transform::of_shards(kernel, parity);
        let mut code = Self {
            spec,
            generator: systematic(parity),
            groups,
            encoder,
            guarantee: Guarantee::Ranked,
            evidence: Evidence::Tested,
            tolerance: 0,
            slot: 0,
        };
        if is_generalised_cauchy(parity) {
            (code.evidence, code.tolerance) = (Evidence::Theorem, m);
        } else {
            code.tolerance = code.tested_tolerance();
        }
        if code.tolerance == m {
            code.guarantee = Guarantee::Mds;
            code.groups.clear();
        } else if !code.groups.is_empty() && code.groups_are_proved() {
            code.guarantee = Guarantee::MaximallyRecoverable;
            code.tolerance = m - code.groups.len() + 1;
        }
        Ok(code)
    }
}

/// The identity over the data, then the parity rows.
pub(super) fn systematic(parity: &Matrix) -> Matrix {
    let k = parity.columns();
    Matrix::from_fn(
        k + parity.rows(),
        k,
        |row, column| {
            if row < k { u8::from(row == column) } else { parity.get(row - k, column) }
        },
    )
}

/// FNV-1a over shape and rows (Fowler, Noll, Vo).
fn digest(parity: &Matrix) -> u32 {
    let shape = [parity.rows(), parity.columns()].map(|value| value as u8);
    let rows = (0..parity.rows()).flat_map(|row| parity.row(row).iter().copied());
    shape.into_iter().chain(rows).fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Rows of zeros and ones, some zero, that have no shard in common with one before.
fn local_groups(parity: &Matrix) -> Vec<LocalGroup> {
    let k = parity.columns();
    let mut taken = ShardSet::EMPTY;
    let mut groups = Vec::new();
    for row in 0..parity.rows() {
        let is_sum = parity.row(row).iter().all(|&value| value <= 1);
        let data: ShardSet = (0..k).filter(|&column| parity.get(row, column) == 1).map(shard).collect();
        if is_sum && data.len() < k && data.intersection(&taken).is_empty() {
            taken = taken.union(&data);
            let mut members = data;
            members.insert(shard(k + row));
            groups.push(LocalGroup::new(members, k + row));
        }
    }
    // What only some shards have is no rule for all, and no maximal recoverability of a known kind.
    if taken.len() == k { groups } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Result<Code, CodeError> {
        Code::from_parity_rows_with(&parse_parity_rows(text)?, Kernel::portable())
    }

    #[test]
    fn rows_are_read_and_judged() {
        let mds = code("01 01 01 01 # the sum\n\n01020408\n").unwrap();
        assert_eq!((mds.k(), mds.m(), mds.guarantee(), mds.guaranteed_tolerance()), (4, 2, Guarantee::Mds, 2));
        assert!(mds.spec().to_string().starts_with("matrix:4+2#"));
        let named = Code::with_kernel(&"lrc:6,2,2".parse().unwrap(), Kernel::portable()).unwrap();
        let parity: Vec<usize> = (6..10).collect();
        let lrc = Code::from_parity_rows_with(&named.generator().select_rows(&parity), Kernel::portable()).unwrap();
        assert_eq!((lrc.guarantee(), lrc.guaranteed_tolerance()), (Guarantee::MaximallyRecoverable, 3));
        assert_eq!(lrc.groups(), named.groups());
        assert_eq!(lrc.pattern_counts(), named.pattern_counts());
        // The same coefficients in both groups: three losses lose data.
        let wrong = code("010101000000\n000000010101\n010203010203\n010405010405").unwrap();
        assert_eq!((wrong.guarantee(), wrong.guaranteed_tolerance()), (Guarantee::Ranked, 3));
        let same = code("010101000000\n000000010101\n010101010101\n010405010405").unwrap();
        assert_eq!((same.guarantee(), same.guaranteed_tolerance()), (Guarantee::Ranked, 2));
    }

    #[test]
    fn what_is_no_code_is_refused_each_for_its_own_reason() {
        let refused = |text: &str| match code(text).unwrap_err() {
            CodeError::Matrix(error) => error,
            other => panic!("{other}"),
        };
        assert_eq!(refused(""), MatrixError::Empty);
        assert_eq!(refused("# nothing\n\n"), MatrixError::Empty);
        assert_eq!(refused("0101\n01"), MatrixError::Ragged { line: 2, expected: 2, found: 1 });
        assert_eq!(refused("0101\n012"), MatrixError::NotHex { line: 2 });
        assert_eq!(refused("01é1"), MatrixError::NotHex { line: 1 });
        assert_eq!(refused("0101\n0000"), MatrixError::ZeroRow { row: 1 });
        assert_eq!(refused("0100\n0200"), MatrixError::ZeroColumn { column: 1 });
        assert_eq!(refused(&"01".repeat(256)), MatrixError::TooLarge { k: 256, m: 1 });
        assert_eq!(refused(&"01\n".repeat(300)), MatrixError::TooLarge { k: 1, m: 256 });
    }

    /// More outputs than one loop of a kernel has.
    #[test]
    fn many_copies_beside_dense_rows_are_encoded() {
        let rows = Matrix::from_fn(129, 127, |row, column| {
            if row < 6 { ((row * 7 + column) % 255) as u8 + 1 } else { u8::from(row - 6 == column) }
        });
        for kernel in Kernel::available() {
            let code = Code::from_parity_rows_with(&rows, kernel).unwrap();
            let data: Vec<Vec<u8>> = (0..127).map(|shard| vec![shard as u8 ^ 0x5a; 70]).collect();
            let mut parity = vec![vec![0; 70]; 129];
            let sources: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            code.encode(&sources, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
            assert!((0..123).all(|copy| parity[6 + copy] == data[copy]), "{}", code.kernel().name());
        }
    }

    #[test]
    fn another_matrix_has_another_name() {
        let names = ["0101\n0102", "0101\n0103", "01010102"].map(|text| code(text).unwrap().spec().to_string());
        assert!(names[0] != names[1] && names[1] != names[2]);
    }
}
