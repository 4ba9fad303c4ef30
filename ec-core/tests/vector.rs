//! Vector codes from outside: what they survive, by the rank of their rows; what a rebuild reads; that bytes come back.
#![allow(clippy::cast_possible_truncation)]

use ec_core::vector::VectorRead;
use ec_core::{Costs, DecodeError, Kernel, Matrix, ShardIndex, ShardSet, VectorCode, VectorError};

fn code(spec: &str) -> VectorCode {
    VectorCode::new(&spec.parse().unwrap()).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

/// Vector codes of this build, small ones.
fn specs() -> Vec<&'static str> {
    let mut specs = vec![
        "hitchhiker:4+2",
        "hitchhiker:6+3",
        "hitchhiker:1+3",
        "hitchhiker:2+4",
        "lrc:6,2,3@gf16",
        "lrc:7,3,2@gf16",
        "lrc:4,4,1@gf16",
        "lrc:5,1,4@gf16",
    ];
    if cfg!(feature = "clay") {
        specs.extend(["clay:4+2", "clay:1+2", "clay:3+2", "clay:2+3", "clay:4+3", "clay:1+4"]);
    }
    specs
}

/// `n` shards with their parities; the bytes differ by shard and place.
fn stripe(code: &VectorCode, shard_bytes: usize) -> Vec<Vec<u8>> {
    let mut shards: Vec<Vec<u8>> =
        (0..code.n()).map(|i| (0..shard_bytes).map(|j| ((j * 131 + i * 7) % 251) as u8).collect()).collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    shards
}

fn set(indices: impl IntoIterator<Item = usize>) -> ShardSet {
    indices.into_iter().map(|index| ShardIndex::new(index as u16)).collect()
}

/// Calls `visit` with every set of `size` among `0..n`.
fn for_each_set(n: usize, size: usize, visit: &mut impl FnMut(&[usize])) {
    if size > n {
        return;
    }
    let mut chosen: Vec<usize> = (0..size).collect();
    loop {
        visit(&chosen);
        let Some(at) = (0..size).rev().find(|&at| chosen[at] < n - size + at) else { return };
        chosen[at] += 1;
        (at + 1..size).for_each(|next| chosen[next] = chosen[next - 1] + 1);
    }
}

/// Whether the surviving parity rows, cut to the lost data columns, determine these.
fn rank_says(code: &VectorCode, generator: &Matrix, lost: &[usize]) -> bool {
    let (k, alpha) = (code.k(), code.alpha());
    let all = |shard: usize| shard * alpha..(shard + 1) * alpha;
    let columns: Vec<usize> = lost.iter().filter(|&&shard| shard < k).flat_map(|&shard| all(shard)).collect();
    let rows: Vec<usize> = (k..code.n()).filter(|shard| !lost.contains(shard)).flat_map(all).collect();
    let square = Matrix::from_fn(rows.len(), columns.len(), |row, column| generator.get(rows[row], columns[column]));
    square.rank() == columns.len()
}

/// Every pattern of up to `most` losses, each way. Gives how many of the largest size are decodable.
fn assert_rank_decides(spec: &str, most: usize) -> usize {
    let code = code(spec);
    let generator = code.generator().unwrap();
    let mut decodable = 0;
    for size in 0..=most {
        decodable = 0;
        for_each_set(code.n(), size, &mut |lost| {
            let says = rank_says(&code, &generator, lost);
            assert_eq!(code.decodable(&set(lost.iter().copied())), says, "{spec} without {lost:?}");
            assert!(says || size > code.guaranteed_tolerance(), "{spec} without {lost:?}");
            decodable += usize::from(says);
        });
    }
    decodable
}

#[test]
fn hitchhiker_decodes_exactly_what_the_rank_of_its_matrix_allows() {
    // All patterns of four of fourteen, and none of five.
    assert_eq!(assert_rank_decides("hitchhiker:10+4", 4), 1001);
    assert_eq!(assert_rank_decides("hitchhiker:10+4", 5), 0);
    for spec in ["hitchhiker:4+2", "hitchhiker:6+3", "hitchhiker:2+4", "hitchhiker:1+3", "hitchhiker:12+4"] {
        assert_rank_decides(spec, 4);
    }
}

/// Every pattern up to as many losses as there are parities: the rule of maximal recoverability, which no code of these
/// groups can exceed, against the rank.
#[test]
fn lrcs_over_gf16_are_maximally_recoverable() {
    for spec in ["lrc:8,2,3@gf16", "lrc:12,2,3@gf16", "lrc:12,3,3@gf16", "lrc:8,2,4@gf16", "lrc:12,2,4@gf16"] {
        assert_rank_decides(spec, code(spec).m());
    }
    for spec in ["lrc:7,3,2@gf16", "lrc:11,3,3@gf16", "lrc:5,1,4@gf16", "lrc:4,4,1@gf16", "lrc:3,3,4@gf16"] {
        assert_rank_decides(spec, code(spec).m());
    }
}

#[test]
fn the_lrc_of_sixteen_over_gf16_is_maximally_recoverable() {
    assert_rank_decides("lrc:16,2,3@gf16", 5);
}

/// Patterns of the shape's largest decodable size and one more, drawn at random, of wide LRCs: the rule against the rank.
fn assert_rank_decides_samples(spec: &str, samples: usize) {
    let code = code(spec);
    let generator = code.generator().unwrap();
    let mut state = 1u64;
    let mut draw = |below: usize| {
        // The multiplier of Knuth's MMIX; the high bits are the random ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut seen = [0; 2];
    for sample in 0..samples {
        let size = code.m() + sample % 2 * code.m().min(2) - code.m().min(2);
        let mut lost = Vec::new();
        while lost.len() < size {
            // Half of them near the first: spread evenly they would seldom fill one group.
            let shard = match (lost.first(), draw(2)) {
                (Some(first), 0) => (first + draw(8)) % code.n(),
                _ => draw(code.n()),
            };
            if !lost.contains(&shard) {
                lost.push(shard);
            }
        }
        let says = rank_says(&code, &generator, &lost);
        assert_eq!(code.decodable(&set(lost.iter().copied())), says, "{spec} without {lost:?}");
        seen[usize::from(says)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{spec}: {seen:?} of both kinds");
}

const WIDE_LRCS: [&str; 6] = [
    "lrc:24,4,3@gf16",
    "lrc:48,4,3@gf16",
    "lrc:60,4,4@gf16",
    "lrc:30,2,4@gf16",
    "lrc:42,14,4@gf16",
    "lrc:210,14,4@gf16",
];

/// With a global gone the heavy rows as they are would miss one in the middle: it takes their combination to survive this.
#[test]
fn a_lost_global_does_not_weaken_the_others() {
    let code = code("lrc:48,4,3@gf16");
    assert!(rank_says(&code, &code.generator().unwrap(), &[6, 9, 10, 13, 53]));
}

#[test]
fn samples_of_wide_lrcs_over_gf16_are_maximally_recoverable() {
    for spec in WIDE_LRCS {
        assert_rank_decides_samples(spec, 300);
    }
}

#[test]
#[ignore = "half a minute: cargo test --release -p ec-core --test vector -- --ignored"]
fn a_million_samples_of_each_wide_lrc_over_gf16() {
    for spec in WIDE_LRCS {
        assert_rank_decides_samples(spec, 1_000_000);
    }
}

#[cfg(feature = "clay")]
#[test]
fn clay_decodes_exactly_what_the_rank_of_its_matrix_allows() {
    for spec in ["clay:4+2", "clay:1+2", "clay:3+2", "clay:2+3", "clay:4+3", "clay:6+3"] {
        let m = code(spec).m();
        assert_rank_decides(spec, m + 1);
    }
}

/// The bytes of the ranges, one after the other.
fn part(read: &VectorRead, shard: &[u8]) -> Vec<u8> {
    read.byte_ranges(shard.len()).unwrap().into_iter().flat_map(|range| shard[range].to_vec()).collect()
}

fn assert_rebuilds(code: &VectorCode, shards: &[Vec<u8>], lost: &ShardSet, available: &ShardSet) {
    let plan = code.plan(lost, available).unwrap_or_else(|error| panic!("{code} without {lost:?}: {error}"));
    let parts: Vec<_> =
        plan.reads().iter().map(|read| (read.shard(), part(read, &shards[read.shard().at()]))).collect();
    for (index, _) in &parts {
        assert!(available.contains(*index) && !lost.contains(*index), "{plan}");
    }
    // In falling order: the order of buffers is the caller's.
    let inputs: Vec<_> = parts.iter().rev().map(|(index, part)| (*index, &part[..])).collect();
    let wholes: Vec<_> = available.iter().map(|index| (index, &shards[index.at()][..])).collect();
    for whole in [false, true] {
        let mut rebuilt: Vec<_> = lost.iter().map(|index| (index, vec![0xEE; shards[0].len()])).collect();
        let mut outputs: Vec<_> = rebuilt.iter_mut().rev().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
        if whole { plan.run_whole(&wholes, &mut outputs) } else { plan.run(&inputs, &mut outputs) }.unwrap();
        for (index, bytes) in rebuilt {
            assert!(bytes == shards[index.at()], "{code} ({}), {index}: {plan}", code.kernel().name());
        }
    }
}

#[test]
fn every_decodable_pattern_is_rebuilt() {
    for spec in specs() {
        let code = code(spec);
        let shards = stripe(&code, 3 * code.alpha());
        for size in 1..=code.m() {
            for_each_set(code.n(), size, &mut |lost| {
                let lost = set(lost.iter().copied());
                if code.decodable(&lost) {
                    assert_rebuilds(&code, &shards, &lost, &lost.complement(code.n()));
                    // The last of them alone, while the others are merely away.
                    let wanted = set(lost.iter().last().map(ShardIndex::at));
                    assert_rebuilds(&code, &shards, &wanted, &lost.complement(code.n()));
                } else {
                    let refused = code.plan(&lost, &lost.complement(code.n()));
                    assert!(matches!(refused, Err(VectorError::Shards(DecodeError::NotDecodable { .. }))), "{spec}");
                }
            });
        }
    }
}

/// Each of the others in turn costs ten times as much.
#[test]
fn a_dear_fragment_is_read_only_where_that_costs_less_in_all() {
    let mut avoided = 0;
    for spec in specs().into_iter().chain(["hitchhiker:10+4", "lrc:12,2,2@gf16"]) {
        let code = code(spec);
        let shards = stripe(&code, code.alpha());
        for (lost, dear) in (0..code.n()).flat_map(|lost| (0..code.n()).map(move |dear| (lost, dear))) {
            let mut costs = Costs::uniform();
            costs.set(ShardIndex::new(dear as u16), 10);
            let available = set([lost]).complement(code.n());
            let plan = code.plan_cheapest(&set([lost]), &available, &costs).unwrap();
            let without = code.plan(&set([lost]), &available.difference(&set([dear]))).unwrap();
            assert!(plan.cost(&costs) <= without.cost(&costs), "{spec}: {plan}, {without}");
            let reads_it = plan.reads().iter().any(|read| read.shard().at() == dear);
            // k whole shards cost less than a plan with a half that costs ten times as much.
            assert!(!reads_it || !spec.starts_with("hitchhiker:10"), "{plan}");
            avoided += usize::from(!reads_it && lost != dear);
            let used = plan.reads().iter().map(|read| read.shard().at());
            assert_rebuilds(&code, &shards, &set([lost]), &set(used));
        }
    }
    assert!(avoided > 300, "{avoided}");
}

#[test]
fn every_kernel_and_long_shards_give_the_same_bytes() {
    let mut specs = vec!["hitchhiker:10+4", "lrc:12,2,3@gf16"];
    if cfg!(feature = "clay") {
        specs.extend(["clay:6+3", "clay:10+4"]);
    }
    for spec in specs {
        let alpha = code(spec).alpha();
        // Several parts of a sub-chunk for Clay, and a last one that is shorter.
        let shard_bytes = alpha * 1171;
        let expected = stripe(&code(spec), shard_bytes);
        for kernel in Kernel::available() {
            let code = VectorCode::with_kernel(&spec.parse().unwrap(), kernel).unwrap();
            assert!(stripe(&code, shard_bytes) == expected, "{spec} {}", kernel.name());
            for lost in [set([1]), set([code.n() - 1]), set([0, 3, code.k()])] {
                assert_rebuilds(&code, &expected, &lost, &lost.complement(code.n()));
            }
        }
    }
}

/// What less than a shard is rebuilt by: the same bytes of every sub-chunk are a stripe of their own.
#[test]
fn equally_placed_bytes_of_sub_chunks_stand_alone() {
    for spec in specs() {
        let code = code(spec);
        let shards = stripe(&code, 11 * code.alpha());
        let cut: Vec<Vec<u8>> =
            shards.iter().map(|shard| shard.chunks_exact(11).flat_map(|it| &it[3..8]).copied().collect()).collect();
        for lost in 0..code.n() {
            assert_rebuilds(&code, &cut, &set([lost]), &set([lost]).complement(code.n()));
        }
    }
}

/// Sub-chunks read to rebuild each shard alone.
fn reads(spec: &str) -> Vec<usize> {
    let code = code(spec);
    (0..code.n()).map(|at| code.plan(&set([at]), &set([at]).complement(code.n())).unwrap().read_sub_chunks()).collect()
}

#[test]
fn hitchhiker_reads_the_halves_of_the_paper() {
    assert_eq!(reads("hitchhiker:10+4"), [13, 13, 13, 13, 13, 13, 14, 14, 14, 14, 20, 20, 20, 20]);
    for (spec, mean_of_data) in [("hitchhiker:10+4", 6.7), ("hitchhiker:6+3", 4.5), ("hitchhiker:12+4", 8.0)] {
        let k = code(spec).k();
        let halves: usize = reads(spec)[..k].iter().sum();
        assert_eq!(halves as f64 / 2.0 / k as f64, mean_of_data, "{spec}");
    }
    assert_eq!(code("hitchhiker:10+4").mean_repair_reads(), Some((67.0 + 40.0) / 14.0));
}

#[test]
fn a_hitchhiker_plan_names_its_halves() {
    let code = code("hitchhiker:10+4");
    let plan = code.plan(&set([4]), &set([4]).complement(14)).unwrap();
    // Set 2 is 3..6: its first halves, all second ones, parity 0 for b and parity 2 for the sum.
    let expected =
        "rebuild 4 from 0[1..2] 1[1..2] 2[1..2] 3[0..2] 5[0..2] 6[1..2] 7[1..2] 8[1..2] 9[1..2] 10[1..2] 12[1..2]";
    assert_eq!(plan.to_string(), format!("{expected}: 13 of 2 sub-chunks a shard"));
    let bytes = |at: usize| {
        let ranges = plan.reads()[at].byte_ranges(600).unwrap();
        ranges.into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
    };
    assert_eq!(bytes(3), [(0, 600)]);
    assert_eq!(bytes(4), [(0, 600)]);
    assert_eq!(bytes(10), [(300, 600)]);

    // Parity 0 is away: parity 1 and the first halves of its set instead, still below 20.
    let away = set([4, 10]);
    let plan = code.plan(&set([4]), &away.complement(14)).unwrap();
    assert_eq!(plan.read_sub_chunks(), 16);
    // Its own set's parity is away: ten whole shards.
    let plan = code.plan(&set([4]), &set([4, 12]).complement(14)).unwrap();
    assert_eq!(plan.read_sub_chunks(), 20);
    let shards = stripe(&code, 34);
    for away in [away, set([4, 12]), set([4, 11]), set([4, 10, 11]), set([4, 10, 11, 13]), set([4, 0])] {
        assert_rebuilds(&code, &shards, &set([4]), &away.complement(14));
    }
}

#[test]
fn an_lrc_over_gf16_reads_its_group() {
    assert_eq!(
        reads("lrc:12,2,3@gf16"),
        [12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 24, 24, 24],
        "six whole shards in a group, twelve for a global"
    );
    let code = code("lrc:11,3,2@gf16");
    let plan = code.plan(&set([1, 9]), &set([1, 9]).complement(16)).unwrap();
    let shards: Vec<u16> = plan.reads().iter().map(|read| read.shard().get()).collect();
    assert_eq!(shards, [0, 2, 3, 8, 10, 11, 13], "groups 0..4 and 8..11");
}

#[cfg(feature = "clay")]
#[test]
fn clay_reads_the_layers_of_the_paper() {
    for (spec, sub_chunks, of) in [
        ("clay:4+2", 20, 32),
        ("clay:6+3", 72, 162),
        ("clay:8+4", 176, 512),
        ("clay:10+4", 832, 2560),
        ("clay:12+4", 960, 3072),
    ] {
        let code = code(spec);
        assert_eq!(code.k() * code.alpha(), of);
        assert_eq!(reads(spec), vec![sub_chunks; code.n()], "{spec}");
        for lost in 0..code.n() {
            let plan = code.plan(&set([lost]), &set([lost]).complement(code.n())).unwrap();
            let zeros = code.n().next_multiple_of(code.m()) - code.n();
            let node = if lost < code.k() { lost } else { lost + zeros };
            let (x, y) = (node % code.m(), node / code.m());
            let rows = code.n().div_ceil(code.m());
            let run = code.m().pow((rows - 1 - y) as u32);
            // Every layer whose digit y is x: q^y runs of q^(t-1-y).
            let expected: Vec<_> = (0..code.alpha() / run)
                .filter(|block| block % code.m() == x)
                .map(|block| block * run..(block + 1) * run)
                .collect();
            assert_eq!(plan.reads().len(), code.n() - 1);
            for read in plan.reads() {
                assert_eq!(read.sub_chunks(), expected, "{spec} {lost}");
            }
        }
    }
    assert_eq!(code("clay:10+4").mean_repair_reads(), Some(3.25));
}

#[cfg(feature = "clay")]
#[test]
fn clay_at_its_limits_works() {
    for spec in ["clay:26+2", "clay:24+4", "clay:40+20"] {
        let code = code(spec);
        let shards = stripe(&code, code.alpha());
        for lost in [set([3]), set([0, code.n() - 1])] {
            assert_rebuilds(&code, &shards, &lost, &lost.complement(code.n()));
        }
    }
}

#[cfg(not(feature = "clay"))]
#[test]
fn without_the_feature_clay_is_refused() {
    let error = VectorCode::new(&"clay:4+2".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("without the feature clay"), "{error}");
}

#[test]
fn each_bad_buffer_has_its_error() {
    let index = ShardIndex::new;
    let code = code("hitchhiker:6+3");
    let (lost, n) = (set([1]), 9);
    let plan = code.plan(&lost, &lost.complement(n)).unwrap();
    let shards = stripe(&code, 10);
    let parts: Vec<_> = plan.reads().iter().map(|it| (it.shard(), part(it, &shards[it.shard().at()]))).collect();
    let inputs: Vec<_> = parts.iter().map(|(index, part)| (*index, &part[..])).collect();
    let run = |inputs: &[(ShardIndex, &[u8])], outputs: &[(u16, usize)]| {
        let mut buffers: Vec<_> = outputs.iter().map(|(at, len)| (index(*at), vec![0xEE; *len])).collect();
        let mut outputs: Vec<_> = buffers.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
        let error = plan.run(inputs, &mut outputs).unwrap_err();
        assert!(buffers.iter().all(|(_, bytes)| bytes.iter().all(|byte| *byte == 0xEE)), "{error}");
        error
    };
    let with = |at: usize, input: (ShardIndex, &'static [u8])| {
        let mut inputs = inputs.clone();
        inputs[at] = input;
        inputs
    };
    let shards_error = |error| VectorError::Shards(error);
    let good = [(1, 10)];
    let too_few = DecodeError::WrongCount { expected: 7, found: 6 };
    assert_eq!(run(&inputs[..6], &good), shards_error(too_few));
    assert_eq!(run(&inputs, &[]), shards_error(DecodeError::WrongCount { expected: 1, found: 0 }));
    assert_eq!(
        run(&with(0, (index(9), &[0; 10])), &good),
        shards_error(DecodeError::IndexOutOfRange { index: index(9), shards: 9 })
    );
    assert_eq!(
        run(&with(0, (index(700), &[0; 10])), &good),
        shards_error(DecodeError::IndexOutOfRange { index: index(700), shards: 9 })
    );
    assert_eq!(run(&with(0, (index(2), &[0; 10])), &good), shards_error(DecodeError::Duplicate { index: index(2) }));
    assert_eq!(run(&with(0, (index(1), &[0; 10])), &good), shards_error(DecodeError::MissingInput { index: index(0) }));
    assert_eq!(
        run(&with(4, (index(5), &[0; 10])), &good),
        VectorError::PartLength { index: index(5), sub_chunks: 1, expected: 5, found: 10 }
    );
    assert_eq!(run(&inputs, &[(2, 10)]), shards_error(DecodeError::NotPlanned { index: index(2) }));
    assert_eq!(run(&inputs, &[(9, 10)]), shards_error(DecodeError::IndexOutOfRange { index: index(9), shards: 9 }));
    assert_eq!(run(&inputs, &[(1, 11)]), shards_error(DecodeError::Granularity { found: 11, granularity: 2 }));
    assert_eq!(run(&inputs, &[(1, 0)]), shards_error(DecodeError::Empty { granularity: 2 }));
    assert_eq!(
        plan.reads()[0].byte_ranges(7),
        Err(shards_error(DecodeError::Granularity { found: 7, granularity: 2 }))
    );
}

#[test]
fn encode_and_decode_refuse_bad_buffers() {
    let index = ShardIndex::new;
    let code = code("lrc:4,2,2@gf16");
    let encode = |data: &[usize], parity: &[usize]| {
        let data: Vec<_> = data.iter().map(|len| vec![1; *len]).collect();
        let mut parity: Vec<_> = parity.iter().map(|len| vec![0xEE; *len]).collect();
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        code.encode(&slices, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap_err()
    };
    assert_eq!(encode(&[4; 3], &[4; 4]), DecodeError::WrongCount { expected: 4, found: 3 }.into());
    assert_eq!(encode(&[4; 4], &[4; 5]), DecodeError::WrongCount { expected: 4, found: 5 }.into());
    assert_eq!(
        encode(&[4; 4], &[4, 4, 6, 4]),
        DecodeError::LengthMismatch { index: index(6), expected: 4, found: 6 }.into()
    );
    assert_eq!(encode(&[5; 4], &[5; 4]), DecodeError::Granularity { found: 5, granularity: 2 }.into());
    assert_eq!(encode(&[0; 4], &[0; 4]), DecodeError::Empty { granularity: 2 }.into());

    let shards = stripe(&code, 6);
    let decode = |present: &[u16], wanted: &[u16], lens: [usize; 2]| {
        let present: Vec<_> = present.iter().map(|&at| (index(at), &shards[usize::from(at) % 8][..lens[0]])).collect();
        let mut wanted: Vec<_> = wanted.iter().map(|&at| (index(at), vec![0; lens[1]])).collect();
        code.decode(&present, &mut wanted.iter_mut().map(|(index, it)| (*index, &mut it[..])).collect::<Vec<_>>())
    };
    assert_eq!(decode(&[1, 4], &[0], [6, 6]), Ok(()));
    let duplicate = |at| Err(DecodeError::Duplicate { index: index(at) }.into());
    assert_eq!(decode(&[1, 4, 1], &[0], [6, 6]), duplicate(1));
    assert_eq!(decode(&[1, 4], &[4], [6, 6]), duplicate(4));
    assert_eq!(decode(&[1, 8], &[0], [6, 6]), Err(DecodeError::IndexOutOfRange { index: index(8), shards: 8 }.into()));
    assert_eq!(
        decode(&[1, 4], &[0], [6, 4]),
        Err(DecodeError::LengthMismatch { index: index(0), expected: 6, found: 4 }.into())
    );
    let missing = vec![0, 2, 3, 4, 5, 7];
    assert_eq!(
        decode(&[1, 6], &[0], [6, 6]),
        Err(DecodeError::NotDecodable { present: 2, missing, needed_more: 2 }.into())
    );
    assert_eq!(
        code.plan(&set([0]), &set([1, 200])).unwrap_err(),
        DecodeError::IndexOutOfRange { index: index(200), shards: 8 }.into()
    );
    assert_eq!(code.plan(&ShardSet::EMPTY, &set([1])).unwrap().run(&[], &mut []), Ok(()));
}
