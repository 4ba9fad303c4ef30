//! Decoding whatever pairs of position and buffer somebody has.

use crate::{Input, bounded};
use ec_core::{Code, DecodeError, Kernel, ShardIndex, ShardSet};

/// Families and sizes that differ in kind.
const SPECS: [&str; 10] = [
    "rs:4+2",
    "rs:6+3@cauchy",
    "rs:3+5@vandermonde",
    "lrc:6,2,2",
    "lrc:6,2,3",
    "lrc-uniform:6,2,2",
    "xorbas",
    "replicate:3",
    "rs:10+4@jerasure",
    "rs:20+12",
];
/// Lengths that a buffer has: one of these, so that equal ones are not rare.
const LENGTHS: [usize; 4] = [33, 33, 0, 34];
const PAIRS_MAX: usize = 48;
const UNTOUCHED: u8 = 0xEE;

/// A code, how many pairs are at hand, then a position and a length for each; then the same for what is wanted. The bytes of every
/// buffer at hand are those of its shard, so that what is decoded is known; duplicates, positions outside and unequal lengths
/// must be refused with nothing written.
pub fn decode_set(bytes: &[u8]) {
    let mut input = Input(bounded(bytes));
    let spec = SPECS[usize::from(input.byte()) % SPECS.len()];
    let code = Code::with_kernel(&spec.parse().expect("a specification"), Kernel::portable()).expect("a code");
    let shards = encoded(&code, LENGTHS[3]);
    let mut pairs = || {
        let count = usize::from(input.byte()) % PAIRS_MAX;
        (0..count)
            .map(|_| {
                let [at, kind] = input.array();
                // Most positions are within the code; the highest ones are far outside.
                let at = if at == 255 { 40_000 } else { u16::from(at % 40) };
                (ShardIndex::new(at), LENGTHS[usize::from(kind) % LENGTHS.len()])
            })
            .collect::<Vec<_>>()
    };
    let (present, wanted) = (pairs(), pairs());
    let other = vec![7; LENGTHS[3]];
    let present: Vec<(ShardIndex, &[u8])> = present
        .iter()
        .map(|(at, length)| (*at, &shards.get(usize::from(at.get())).unwrap_or(&other)[..*length]))
        .collect();
    let mut buffers: Vec<(ShardIndex, Vec<u8>)> =
        wanted.iter().map(|(at, length)| (*at, vec![UNTOUCHED; *length])).collect();
    let mut outputs: Vec<(ShardIndex, &mut [u8])> =
        buffers.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
    match code.decode(&present, &mut outputs) {
        Ok(()) => {
            for (at, bytes) in &buffers {
                assert!(*bytes == shards[usize::from(at.get())][..bytes.len()], "{spec}: shard {at}");
            }
        }
        Err(refused) => {
            assert!(buffers.iter().all(|(_, bytes)| bytes.iter().all(|&byte| byte == UNTOUCHED)), "{spec}: {refused}");
            rightly(&code, &present, &buffers, &refused);
        }
    }
}

/// What a refusal says is so.
fn rightly(code: &Code, present: &[(ShardIndex, &[u8])], wanted: &[(ShardIndex, Vec<u8>)], refused: &DecodeError) {
    let at_hand: ShardSet = present.iter().map(|(at, _)| *at).collect();
    let all = || present.iter().map(|(at, _)| *at).chain(wanted.iter().map(|(at, _)| *at));
    match refused {
        DecodeError::Duplicate { index } => assert!(all().filter(|at| at == index).count() > 1, "{refused}"),
        DecodeError::IndexOutOfRange { index, .. } => {
            assert!(all().any(|at| at == *index) && usize::from(index.get()) >= code.n(), "{refused}");
        }
        DecodeError::Empty { .. } => {
            assert!(
                present.iter().map(|(_, it)| it.len()).chain(wanted.iter().map(|(_, it)| it.len())).all(|it| it == 0)
            );
        }
        DecodeError::LengthMismatch { .. } => {
            let mut lengths = present.iter().map(|(_, it)| it.len()).chain(wanted.iter().map(|(_, it)| it.len()));
            let first = lengths.next();
            assert!(lengths.any(|it| Some(it) != first), "{refused}");
        }
        DecodeError::NotDecodable { .. } => {
            let rows = |set: &ShardSet| set.iter().map(|at| usize::from(at.get())).collect::<Vec<_>>();
            let lost: ShardSet = wanted.iter().map(|(at, _)| *at).collect();
            let (have, more) = (rows(&at_hand), rows(&at_hand.union(&lost)));
            let rank = |rows: &[usize]| code.generator().select_rows(rows).rank();
            assert!(rank(&more) > rank(&have), "{refused}");
        }
        other => panic!("{other}"),
    }
}

fn encoded(code: &Code, bytes: usize) -> Vec<Vec<u8>> {
    let mut shards: Vec<Vec<u8>> = (0..code.n())
        .map(|shard| (0..bytes).map(|at| u8::try_from((at + 7 * shard) % 251).unwrap_or(0)).collect())
        .collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("one stripe");
    shards
}
