//! The shipped codes: each decodes exactly when the rank of its rows says so. Rank and rows are computed here by the
//! schoolbook, the bytes by the library.

use ec_core::code::SAMPLES;
use ec_core::{Code, Kernel, ShardIndex, ShardSet, VectorCode, gf};

/// Of at most 28 shards: every pattern is tested. `hitchhiker:10+4` is another type and has a test of its own below.
const PRESETS: [&str; 26] = [
    "replicate:3",
    "rs:4+2",
    "rs:6+3",
    "rs:8+3",
    "rs:10+4",
    "rs:12+4",
    "rs:16+4",
    "rs:17+3",
    "rs:20+4",
    "rs:10+4@cauchy",
    "rs:10+4@vandermonde",
    "rs:10+4@jerasure",
    "rs:10+4@power",
    "lrc:6,2,2",
    "lrc:12,2,1",
    "lrc:12,2,2",
    "lrc:14,2,2",
    "lrc:12,3,2",
    "lrc:16,4,2",
    "lrc:12,2,3",
    "lrc:12,3,3",
    "lrc:6,2,4",
    "lrc-uniform:12,2,2",
    "lrc-uniform:12,2,1",
    "lrc-uniform:24,2,2",
    "xorbas",
];

/// Wider ones: patterns are drawn.
const WIDE: [&str; 6] = ["rs:80+20", "rs:100+30", "rs:200+50", "lrc:24,4,2", "lrc:150,15,2", "lrc-uniform:48,4,2"];

fn code(spec: &str) -> Code {
    Code::new(&spec.parse().unwrap()).unwrap()
}

/// Rank of the rows of all shards but the lost, over the data: unit rows of data at hand take their column away.
fn has_full_rank(code: &Code, lost: &ShardSet) -> bool {
    let unknown: Vec<usize> = (0..code.k()).filter(|&at| lost.contains(ShardIndex::new(at as u16))).collect();
    let parities = (code.k()..code.n()).filter(|&at| !lost.contains(ShardIndex::new(at as u16)));
    let mut rows: Vec<Vec<u8>> =
        parities.map(|row| unknown.iter().map(|&column| code.generator().get(row, column)).collect()).collect();
    for column in 0..unknown.len() {
        let Some(pivot) = (column..rows.len()).find(|&row| rows[row][column] != 0) else { return false };
        rows.swap(column, pivot);
        let scale = gf::inverse(rows[column][column]).unwrap();
        for row in column + 1..rows.len() {
            let factor = gf::mul(rows[row][column], scale);
            if factor != 0 {
                let pivot = rows[column].clone();
                rows[row].iter_mut().zip(&pivot).for_each(|(value, &other)| *value ^= gf::mul(factor, other));
            }
        }
    }
    true
}

fn for_each(n: usize, losses: usize, from: usize, lost: ShardSet, visit: &mut impl FnMut(&ShardSet)) {
    if losses == 0 {
        return visit(&lost);
    }
    for at in from..=n - losses {
        let mut lost = lost;
        lost.insert(ShardIndex::new(at as u16));
        for_each(n, losses - 1, at + 1, lost, visit);
    }
}

fn encoded(code: &Code, bytes: usize) -> Vec<Vec<u8>> {
    let mut shards: Vec<Vec<u8>> =
        (0..code.n()).map(|shard| (0..bytes).map(|at| ((at * 3 + 7 * shard) % 251) as u8).collect()).collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    shards
}

fn test(code: &Code, shards: &[Vec<u8>], lost: &ShardSet) {
    let expected = has_full_rank(code, lost);
    assert_eq!(code.decodable(lost), expected, "{} {lost:?}", code.spec());
    let present: Vec<(ShardIndex, &[u8])> =
        lost.complement(code.n()).iter().map(|index| (index, &shards[index.at()][..])).collect();
    let mut rebuilt: Vec<(ShardIndex, Vec<u8>)> = lost.iter().map(|index| (index, vec![0; shards[0].len()])).collect();
    let mut wanted: Vec<(ShardIndex, &mut [u8])> =
        rebuilt.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
    let decoded = code.decode(&present, &mut wanted);
    assert_eq!(decoded.is_ok(), expected, "{} {lost:?}: {decoded:?}", code.spec());
    if expected {
        assert!(rebuilt.iter().all(|(at, bytes)| *bytes == shards[at.at()]), "{} {lost:?}", code.spec());
    }
}

/// All patterns of `from..=to` losses; more than there are parities are never decoded, and tested for one size.
fn test_all(spec: &str, from: usize, to: usize) {
    let code = code(spec);
    let shards = encoded(&code, 5);
    for losses in from..=to.min(code.m() + 1) {
        for_each(code.n(), losses, 0, ShardSet::EMPTY, &mut |lost| test(&code, &shards, lost));
    }
}

#[test]
fn every_pattern_up_to_four_losses_of_presets_of_at_most_20_shards() {
    let small = PRESETS.into_iter().filter(|spec| code(spec).n() <= 20);
    assert!(small.map(|spec| test_all(spec, 1, 4)).count() >= 20);
}

#[test]
#[ignore = "minutes: cargo test --release -p ec-core --test presets every_pattern_of_every_preset -- --ignored"]
fn every_pattern_of_every_preset() {
    for spec in PRESETS {
        assert!(code(spec).n() <= 28, "{spec}");
        test_all(spec, 1, usize::MAX);
    }
}

fn test_drawn(spec: &str, patterns: usize) {
    let code = Code::with_kernel(&spec.parse().unwrap(), Kernel::selected().unwrap()).unwrap();
    let mut state = 1u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let shards = encoded(&code, 5);
    for pattern in 0..patterns {
        let losses = 1 + below(code.m() + 1);
        let mut lost = ShardSet::EMPTY;
        while lost.len() < losses {
            // Half of them among neighbours, where groups are.
            let at = if losses % 2 == 0 { below(code.n()) } else { below(code.n().min(4 * losses)) };
            lost.insert(ShardIndex::new(at as u16));
        }
        match pattern % 100 {
            0 => test(&code, &shards, &lost),
            _ => assert_eq!(code.decodable(&lost), has_full_rank(&code, &lost), "{spec} {lost:?}"),
        }
    }
}

#[test]
fn drawn_patterns_of_wide_presets() {
    WIDE.iter().for_each(|spec| test_drawn(spec, 1_000));
}

#[test]
#[ignore = "minutes: cargo test --release -p ec-core --test presets a_million -- --ignored"]
fn a_million_patterns_of_every_wide_preset() {
    WIDE.iter().for_each(|spec| test_drawn(spec, 1_000_000));
}

/// Its pairs of half-shards are rows over the halves of the data.
#[test]
fn every_pattern_of_hitchhiker() {
    let code = VectorCode::new(&"hitchhiker:10+4".parse().unwrap()).unwrap();
    let generator = code.generator().unwrap();
    let mut shards: Vec<Vec<u8>> =
        (0..14).map(|shard| (0..6).map(|at| ((at * 3 + 7 * shard) % 251) as u8).collect()).collect();
    let (data, parity) = shards.split_at_mut(10);
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    let mut patterns = 0;
    for losses in 1..=5 {
        for_each(14, losses, 0, ShardSet::EMPTY, &mut |lost| {
            patterns += 1;
            let rows: Vec<usize> = lost.complement(14).iter().flat_map(|at| [2 * at.at(), 2 * at.at() + 1]).collect();
            let expected = generator.select_rows(&rows).rank() == 20;
            assert_eq!(code.decodable(lost), expected, "{lost:?}");
            let present: Vec<(ShardIndex, &[u8])> =
                lost.complement(14).iter().map(|at| (at, &shards[at.at()][..])).collect();
            let mut rebuilt: Vec<(ShardIndex, Vec<u8>)> = lost.iter().map(|at| (at, vec![0; 6])).collect();
            let mut wanted: Vec<_> = rebuilt.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
            assert_eq!(code.decode(&present, &mut wanted).is_ok(), expected, "{lost:?}");
            assert!(!expected || rebuilt.iter().all(|(at, bytes)| *bytes == shards[at.at()]), "{lost:?}");
        });
    }
    assert_eq!(patterns, 14 + 91 + 364 + 1001 + 2002);
}

/// What `ninefold code` prints is what the rank of every pattern says.
#[test]
fn counts_are_those_of_every_pattern() {
    for spec in ["lrc:12,2,2", "lrc:6,2,4", "lrc:12,2,1", "lrc-uniform:12,2,1", "xorbas"] {
        let code = code(spec);
        for count in code.pattern_counts() {
            let (mut decodable, mut total) = (0, 0);
            for_each(code.n(), count.erasures, 0, ShardSet::EMPTY, &mut |lost| {
                decodable += u128::from(has_full_rank(&code, lost));
                total += 1;
            });
            assert_eq!((count.decodable, count.total, count.sampled), (decodable, total, false), "{spec}");
            assert!(total < SAMPLES * 10);
        }
    }
}
