//! Parity rows from a file: read, judged, used.

use crate::{Input, bounded};
use ec_core::code::{Evidence, Guarantee, parse_parity_rows};
use ec_core::{Code, CodeError, Kernel, ShardIndex, ShardSet, gf};

/// Larger matrices are read, not built: their patterns are too many for an input.
const BUILT_SHARDS_MAX: usize = 14;
const SHARD_BYTES: usize = 9;

/// Text up to the first zero byte; then which shards are lost (2 bytes, one bit each). What is accepted survives what it
/// says: every loss up to its tolerance, and any other exactly when the rank of its rows says so.
pub fn matrix_file(bytes: &[u8]) {
    let bytes = bounded(bytes);
    let text_bytes = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (text, after) = bytes.split_at(text_bytes);
    let text = String::from_utf8_lossy(text);
    let rows = match parse_parity_rows(&text) {
        Ok(rows) => rows,
        Err(refused) => {
            assert!(refused.to_string().len() < 300, "{refused}");
            return;
        }
    };
    let written: String = (0..rows.rows())
        .map(|row| rows.row(row).iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect();
    assert_eq!(parse_parity_rows(&written).as_ref(), Ok(&rows));
    if rows.rows() + rows.columns() > BUILT_SHARDS_MAX {
        return;
    }
    let mut input = Input(after.get(1..).unwrap_or(&[]));
    let lost = u16::from_le_bytes(input.array());
    match Code::from_parity_rows_with(&rows, Kernel::portable()) {
        Ok(code) => built(&code, lost),
        Err(CodeError::Matrix(_)) => {
            let zero_row = (0..rows.rows()).any(|row| rows.row(row).iter().all(|&value| value == 0));
            let zero_column = (0..rows.columns()).any(|at| (0..rows.rows()).all(|row| rows.get(row, at) == 0));
            assert!(zero_row || zero_column, "{rows:?}");
        }
        Err(other) => panic!("{other}"),
    }
}

fn built(code: &Code, lost: u16) {
    assert!(code.evidence() == Evidence::Tested || code.guarantee() == Guarantee::Mds, "{code:?}");
    let index = |at: usize| ShardIndex::new(u16::try_from(at).expect("a position"));
    let lost: ShardSet = (0..code.n()).filter(|at| lost >> at & 1 == 1).map(index).collect();
    let rows: Vec<usize> = lost.complement(code.n()).iter().map(ShardIndex::at).collect();
    let expected = code.generator().select_rows(&rows).rank() == code.k();
    assert_eq!(code.decodable(&lost), expected, "{code:?} {lost:?}");
    assert!(expected || lost.len() > code.guaranteed_tolerance(), "{code:?} {lost:?}");
    let outside = lost.iter().filter(|at| !code.groups().iter().any(|group| group.contains(*at))).count();
    let beyond: usize =
        code.groups().iter().map(|group| group.members().intersection(&lost).len().saturating_sub(1)).sum::<usize>()
            + outside;
    match code.guarantee() {
        Guarantee::Mds => assert_eq!(expected, lost.len() <= code.m()),
        Guarantee::MaximallyRecoverable => assert_eq!(expected, beyond <= code.m() - code.groups().len(), "{lost:?}"),
        Guarantee::Ranked => {}
    }
    let mut shards: Vec<Vec<u8>> = (0..code.n())
        .map(|shard| (0..SHARD_BYTES).map(|at| u8::try_from((at + 7 * shard) % 251).unwrap_or(0)).collect())
        .collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("one stripe");
    let sum = |row: usize| {
        (0..code.k()).fold(0, |sum, at| sum ^ gf::mul_by_definition(code.generator().get(row, at), data[at][3]))
    };
    assert!((code.k()..code.n()).all(|row| parity[row - code.k()][3] == sum(row)));
    let present: Vec<(ShardIndex, &[u8])> =
        lost.complement(code.n()).iter().map(|at| (at, &shards[at.at()][..])).collect();
    let mut rebuilt: Vec<(ShardIndex, Vec<u8>)> = lost.iter().map(|at| (at, vec![0; SHARD_BYTES])).collect();
    let mut wanted: Vec<_> = rebuilt.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
    let decoded = code.decode(&present, &mut wanted);
    assert_eq!(decoded.is_ok(), expected, "{decoded:?}");
    assert!(!expected || rebuilt.iter().all(|(at, bytes)| *bytes == shards[at.at()]), "{lost:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_built_and_used() {
        // Reaches the assertions on each guarantee: a panic would show.
        for (text, lost) in
            [("0101\n0102", 3u16), ("010100\n000001\n010204", 0b11), ("0101\n0101", 1), ("0001\n0001", 1)]
        {
            matrix_file(&[text.as_bytes(), &[0], &lost.to_le_bytes()].concat());
        }
        let rows = parse_parity_rows("010100\n000001\n010204").unwrap();
        let code = Code::from_parity_rows_with(&rows, Kernel::portable()).unwrap();
        assert_eq!(code.guarantee(), Guarantee::MaximallyRecoverable);
    }
}
