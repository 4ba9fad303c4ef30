//! Wide codes against reed-solomon-simd, and every way to rebuild against the others.

use super::points::Points;
use super::{WIDE_SHARDS_MAX, WideCode, WideMethod, WideSpec, WideWorkspace, shard};
use crate::error::DecodeError;
use crate::gf16;
use crate::kernel::Kernel;
use crate::shard::ShardIndex;
use reed_solomon_simd::{ReedSolomonEncoder, rate::DefaultRate, rate::Rate};

/// Both rates, powers of two and their neighbours, one coset and many, and the widest.
const SHAPES: [(u32, u32); 26] = [
    (1, 1),
    (1, 2),
    (2, 1),
    (3, 2),
    (2, 3),
    (4, 4),
    (5, 7),
    (7, 5),
    (16, 16),
    (17, 16),
    (16, 17),
    (33, 1),
    (1, 33),
    (100, 30),
    (30, 100),
    (255, 9),
    (9, 255),
    (300, 40),
    (257, 256),
    (256, 257),
    (1000, 200),
    (200, 1000),
    (3000, 17),
    (17, 3000),
    (2000, 1500),
    (1500, 2000),
];

/// Less than a block, a block, more, several tiles, and each with something left over.
const LENGTHS: [usize; 8] = [2, 30, 62, 64, 66, 128, 190, 4098];

fn code(k: u32, m: u32) -> WideCode {
    WideCode::new(&WideSpec::new(k, m).unwrap()).unwrap()
}

/// 251 is prime and below 256: shifted or exchanged shards do not look alike.
fn painted(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| (0..251).cycle().skip((7 * at + at / 251) % 251).take(len).collect()).collect()
}

fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

/// The targets held other bytes before.
fn encoded(code: &WideCode, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0xEE; data[0].len()]; code.m()];
    code.encode(&slices(data), &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    parity
}

fn by_library(code: &WideCode, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut encoder = ReedSolomonEncoder::new(code.k(), code.m(), data[0].len()).unwrap();
    data.iter().for_each(|shard| encoder.add_original_shard(shard).unwrap());
    encoder.encode().unwrap().recovery_iter().map(<[u8]>::to_vec).collect()
}

/// A plain generator with the constants of Knuth's MMIX.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn distinct(&mut self, count: usize, limit: usize) -> Vec<ShardIndex> {
        let mut all = (0..limit).collect::<Vec<_>>();
        for at in 0..count {
            let other = at + self.below(limit - at);
            all.swap(at, other);
        }
        all[..count].sort_unstable();
        all[..count].iter().map(|&at| shard(at)).collect()
    }
}

#[test]
fn the_same_shapes_are_refused_as_by_the_library() {
    let numbers = [0, 1, 2, 255, 256, 4095, 4096, 4097, 32_767, 32_768, 32_769, 61_439, 61_440, 61_441, 65_535, 65_536];
    for k in numbers {
        for m in numbers {
            let supported =
                <DefaultRate<reed_solomon_simd::engine::NoSimd> as Rate<_>>::supports(k as usize, m as usize);
            let spec = WideSpec::new(k, m);
            assert_eq!(spec.is_ok(), supported, "{k}+{m}");
            assert!(spec.is_err() || (k + m) as usize <= WIDE_SHARDS_MAX);
        }
    }
}

#[test]
fn parity_is_that_of_the_library() {
    for (k, m) in SHAPES {
        let spec = WideSpec::new(k, m).unwrap();
        for kernel in Kernel::available() {
            let code = WideCode::with_kernel(&spec, kernel).unwrap();
            for len in LENGTHS.into_iter().filter(|len| len * code.n() <= 4 << 20) {
                let data = painted(code.k(), len);
                assert!(encoded(&code, &data) == by_library(&code, &data), "{code:?}, {len} bytes");
            }
        }
    }
}

#[test]
fn the_widest_codes_have_the_parity_of_the_library() {
    for (k, m) in [(65_535, 1), (1, 65_535), (61_440, 4096), (32_768, 32_768), (4096, 61_440), (40_000, 300)] {
        let (code, len) = (code(k, m), 66);
        let data = painted(code.k(), len);
        assert!(encoded(&code, &data) == by_library(&code, &data), "{code:?}");
    }
}

/// One shard of ones, all others zero: the parity is that column of the matrix.
#[test]
fn the_matrix_is_what_the_library_does_to_unit_vectors() {
    for (k, m) in SHAPES.into_iter().filter(|(k, m)| k * m <= 70_000) {
        let code = code(k, m);
        for column in (0..code.k()).step_by(1 + code.k() / 40).chain([code.k() - 1]) {
            let mut data = vec![vec![0, 0]; code.k()];
            data[column] = vec![1, 0];
            for (row, element) in by_library(&code, &data).iter().enumerate() {
                let expected = u16::from_le_bytes([element[0], element[1]]);
                assert_eq!(code.coefficient(row, column), Some(expected), "{code:?}, parity {row}, data {column}");
            }
        }
        assert_eq!((code.coefficient(code.m(), 0), code.coefficient(0, code.k())), (None, None));
    }
}

/// Every square submatrix is regular, tried on all of a few small shapes: the theorem about Cauchy matrices, as used here.
#[test]
fn small_codes_decode_every_pattern() {
    for (k, m) in [(4, 3), (3, 4), (4, 4), (5, 4), (2, 6)] {
        let (code, len) = (code(k, m), 4);
        let all = {
            let data = painted(code.k(), len);
            [data.clone(), encoded(&code, &data)].concat()
        };
        for pattern in 0..1u32 << code.n() {
            let (lost, present): (Vec<_>, Vec<_>) = (0..code.n()).partition(|at| pattern >> at & 1 == 1);
            let [lost, present] = [lost, present].map(|set| set.into_iter().map(shard).collect::<Vec<_>>());
            assert_eq!(code.decodable(&lost), lost.len() <= code.m());
            match code.plan(&lost, &present) {
                Ok(plan) => {
                    assert!(lost.len() <= code.m());
                    check(&plan, &all);
                }
                Err(error) => {
                    assert_eq!(error, DecodeError::TooFewShards { needed: code.k(), present: present.len() });
                }
            }
        }
    }
}

/// The plan rebuilds what the shards are, and reads and writes nothing else.
fn check(plan: &super::WidePlan, all: &[Vec<u8>]) {
    let inputs = plan.reads().iter().map(|index| (*index, &all[index.at()][..])).collect::<Vec<_>>();
    let mut rebuilt = vec![vec![0xEE; all[0].len()]; plan.rebuilds().len()];
    let outputs = plan.rebuilds().iter().copied().zip(rebuilt.iter_mut().map(Vec::as_mut_slice));
    // In any order.
    plan.run(&inputs, &mut outputs.rev().collect::<Vec<_>>()).unwrap();
    for (index, rebuilt) in plan.rebuilds().iter().zip(&rebuilt) {
        assert!(*rebuilt == all[index.at()], "{plan:?}: shard {index}");
    }
}

#[test]
fn every_method_rebuilds_the_same() {
    let mut dice = Dice(1);
    for (k, m) in SHAPES {
        let spec = WideSpec::new(k, m).unwrap();
        for kernel in Kernel::available() {
            let code = WideCode::with_kernel(&spec, kernel).unwrap();
            let len = [66, 190, 1100][dice.below(3)];
            let data = painted(code.k(), len);
            let all = [data.clone(), encoded(&code, &data)].concat();
            for lost in [1, 1 + dice.below(code.m()), code.m()] {
                let gone = dice.distinct(lost, code.n());
                let present = (0..code.n()).map(shard).filter(|index| gone.binary_search(index).is_err());
                // Not all that is gone is wanted.
                let wanted = gone.iter().copied().filter(|_| dice.below(4) > 0).take(50).collect::<Vec<_>>();
                let plan = code.plan(&wanted, &present.collect::<Vec<_>>()).unwrap();
                assert_eq!(plan.reads().len(), code.k());
                check(&plan, &all);
                for method in [WideMethod::Direct, WideMethod::Differences, WideMethod::Full] {
                    check(&plan.by(method), &all);
                }
            }
        }
    }
}

#[test]
fn the_cheapest_method_is_chosen_by_the_number_of_losses() {
    let Some(kernel) = Kernel::available().into_iter().find(|kernel| kernel.name().ends_with("gfni")) else { return };
    let code = WideCode::with_kernel(&WideSpec::new(1000, 200).unwrap(), kernel).unwrap();
    let method = |code: &WideCode, lost: usize| {
        let all = (0..code.n()).map(shard).collect::<Vec<_>>();
        code.plan(&all[..lost], &all[lost..]).unwrap().method()
    };
    assert_eq!([1, 4, 20, 200].map(|lost| method(&code, lost)), {
        use WideMethod::{Differences, Direct};
        [Direct, Direct, Differences, Differences]
    });
    let wide = WideCode::with_kernel(&WideSpec::new(8000, 8000).unwrap(), kernel).unwrap();
    assert_eq!(method(&wide, 8000), WideMethod::Full);
}

#[test]
fn a_full_decode_in_slices_is_right() {
    // Slices are 16 MiB over the next power of two of shards: 256 bytes here.
    let (code, len) = (code(30_000, 20_000), 600);
    let data = painted(code.k(), len);
    let all = [data.clone(), encoded(&code, &data)].concat();
    let indices = (0..code.n()).map(shard).collect::<Vec<_>>();
    let lost = [indices[0], indices[29_999], indices[30_000], indices[49_999]];
    let present =
        indices[20_000..].iter().copied().filter(|index| !lost.contains(index)).chain(indices[1..10].to_vec());
    let plan = code.plan(&lost, &present.collect::<Vec<_>>()).unwrap();
    check(&plan.by(WideMethod::Full), &all);
}

/// A parity of each shard in whole tiles would be 123 MB here.
#[test]
fn the_workspace_of_a_rebuild_with_many_parities_is_bounded() {
    let Some(kernel) = Kernel::available().into_iter().find(|kernel| kernel.name().ends_with("gfni")) else { return };
    let code = WideCode::with_kernel(&WideSpec::new(100, 60_000).unwrap(), kernel).unwrap();
    let data = painted(code.k(), 190);
    let all = [data.clone(), encoded(&code, &data)].concat();
    let lost = [shard(0), shard(99), shard(100), shard(60_099)];
    let present = (0..code.n()).map(shard).filter(|index| !lost.contains(index)).collect::<Vec<_>>();
    let plan = code.plan(&lost, &present).unwrap().by(WideMethod::Differences);
    let inputs = plan.reads().iter().map(|index| (*index, &all[index.at()][..])).collect::<Vec<_>>();
    let mut workspace = WideWorkspace::new();
    let mut rebuilt = vec![vec![0xEE; 190]; lost.len()];
    let mut outputs = lost.iter().copied().zip(rebuilt.iter_mut().map(Vec::as_mut_slice)).collect::<Vec<_>>();
    plan.run_with(&mut workspace, &inputs, &mut outputs).unwrap();
    assert!(lost.iter().zip(&rebuilt).all(|(index, rebuilt)| *rebuilt == all[index.at()]));
    assert!(workspace.bytes() < 28 << 20, "{} bytes", workspace.bytes());
}

#[test]
fn a_workspace_serves_codes_of_all_sizes() {
    let mut workspace = WideWorkspace::new();
    for (k, m) in [(300, 40), (2000, 1500), (1, 1), (1000, 200)] {
        let code = code(k, m);
        let data = painted(code.k(), 130);
        let mut parity = vec![vec![0xEE; 130]; code.m()];
        let mut targets = parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>();
        code.encode_with(&mut workspace, &slices(&data), &mut targets).unwrap();
        assert!(parity == by_library(&code, &data), "{code:?}");
    }
}

#[test]
fn bad_buffers_are_refused_and_nothing_is_written() {
    let code = code(5, 3);
    let data = painted(5, 64);
    let good = encoded(&code, &data);
    let mut parity = vec![vec![0xEE; 64]; 3];
    let mut encode = |data: &[&[u8]], lengths: &[usize]| {
        let targets = parity.iter_mut().zip(lengths).map(|(shard, &len)| &mut shard[..len]);
        let result = code.encode(data, &mut targets.collect::<Vec<_>>());
        assert!(result.is_err() && parity.iter().flatten().all(|&byte| byte == 0xEE));
        result.unwrap_err()
    };
    let slices = slices(&data);
    assert_eq!(encode(&slices[..4], &[64; 3]), DecodeError::WrongCount { expected: 5, found: 4 });
    assert_eq!(encode(&slices, &[64; 2]), DecodeError::WrongCount { expected: 3, found: 2 });
    let odd = slices.iter().map(|shard| &shard[..63]).collect::<Vec<_>>();
    assert_eq!(encode(&odd, &[63; 3]), DecodeError::Granularity { found: 63, granularity: 2 });
    assert_eq!(encode(&[&[][..]; 5], &[0; 3]), DecodeError::Empty { granularity: 2 });
    let mismatch = |at, found| DecodeError::LengthMismatch { index: shard(at), expected: 64, found };
    assert_eq!(encode(&slices, &[64, 62, 64]), mismatch(6, 62));
    assert_eq!(encode(&[slices[0], slices[1], slices[2], &slices[3][..2], slices[4]], &[64; 3]), mismatch(3, 2));

    let all = [data.clone(), good].concat();
    let lost = [shard(0), shard(7)];
    let present = (1..7).map(shard).collect::<Vec<_>>();
    let plan = code.plan(&lost, &present).unwrap();
    assert_eq!(plan.reads(), [1, 2, 3, 4, 5].map(shard));
    let inputs = plan.reads().iter().map(|index| (*index, &all[index.at()][..])).collect::<Vec<_>>();
    let (mut a, mut b) = ([0xEE; 64], [0xEE; 64]);
    let mut run = |inputs: &[(ShardIndex, &[u8])], first: usize, second: usize| {
        let result = plan.run(inputs, &mut [(shard(first), &mut a), (shard(second), &mut b)]);
        assert!(a == [0xEE; 64] && b == [0xEE; 64]);
        result.unwrap_err()
    };
    assert_eq!(run(&inputs[1..], 0, 7), DecodeError::MissingInput { index: shard(1) });
    assert_eq!(run(&[&inputs[..], &inputs[..1]].concat(), 0, 7), DecodeError::Duplicate { index: shard(1) });
    let outside = [&inputs[..], &[(shard(8), &all[0][..])]].concat();
    assert_eq!(run(&outside, 0, 7), DecodeError::IndexOutOfRange { index: shard(8), shards: 8 });
    assert_eq!(run(&inputs, 0, 0), DecodeError::Duplicate { index: shard(0) });
    assert_eq!(run(&inputs, 0, 6), DecodeError::NotPlanned { index: shard(6) });
    let short = inputs.iter().map(|(index, bytes)| (*index, &bytes[..62])).collect::<Vec<_>>();
    assert_eq!(run(&short, 0, 7), DecodeError::LengthMismatch { index: shard(0), expected: 62, found: 64 });
    let few = plan.run(&inputs, &mut [(shard(0), &mut a)]).unwrap_err();
    assert_eq!(few, DecodeError::WrongCount { expected: 2, found: 1 });
}

#[test]
fn bad_positions_are_refused() {
    let code = code(5, 3);
    let all = (0..8).map(shard).collect::<Vec<_>>();
    assert_eq!(code.plan(&[shard(8)], &all).unwrap_err(), DecodeError::IndexOutOfRange { index: shard(8), shards: 8 });
    assert_eq!(
        code.plan(&all[..1], &[shard(u16::MAX.into())]).unwrap_err(),
        DecodeError::IndexOutOfRange { index: shard(65_535), shards: 8 }
    );
    assert_eq!(code.plan(&all[..4], &all).unwrap_err(), DecodeError::TooFewShards { needed: 5, present: 4 });
    // Given twice is given once; nothing lost is nothing to do.
    assert_eq!(code.plan(&[shard(0), shard(0)], &all).unwrap().rebuilds(), [shard(0)]);
    code.plan(&[], &all).unwrap().run(&all.iter().map(|at| (*at, &[0; 2][..])).collect::<Vec<_>>(), &mut []).unwrap();
    let bytes = [[0; 2]; 8];
    let present = all.iter().map(|index| (*index, &bytes[index.at()][..])).collect::<Vec<_>>();
    assert_eq!(code.decode(&present, &mut [(shard(2), &mut [0; 2])]), Err(DecodeError::Duplicate { index: shard(2) }));
    let mut wanted = [[0; 2]; 2];
    let [first, second] = &mut wanted;
    assert_eq!(
        code.decode(&present[..5], &mut [(shard(6), first), (shard(6), second)]),
        Err(DecodeError::Duplicate { index: shard(6) })
    );
    assert!(code.decodable(&all[..3]) && !code.decodable(&all[..4]) && code.decodable(&[shard(0); 9]));
}

/// The golden values: parity 0 and 1 of the smallest shapes in both rates, and one product, from the definition on paper.
#[test]
fn golden_coefficients() {
    let row = |k, m, parity| (0..k as usize).map(|at| code(k, m).coefficient(parity, at).unwrap()).collect::<Vec<_>>();
    // M = 2: W(y) = y >> 1 at y = 2, 3, 4, 5; 1 at 2 and 3.
    let third = |a: u16, b: u16| gf16::mul(a, gf16::inverse(b).unwrap());
    assert_eq!(row(4, 2, 0), [third(1, 2), third(1, 3), third(2, 4), third(2, 5)]);
    assert_eq!(row(4, 2, 1), [third(1, 3), third(1, 2), third(2, 5), third(2, 4)]);
    assert_eq!(row(3, 1, 0), [1, 1, 1]);
    assert_eq!(Points::new(&WideSpec::new(4, 2).unwrap()), Points { size: 2, data_base: 2, parity_base: 0 });
    assert_eq!(Points::new(&WideSpec::new(2, 4).unwrap()), Points { size: 2, data_base: 0, parity_base: 2 });
}
