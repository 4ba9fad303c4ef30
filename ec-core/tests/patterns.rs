//! Every erasure pattern of the shipped shapes: decoded and compared, or refused with the outputs untouched; and the planner
//! against exhaustive search.

use ec_core::{Code, DecodeError, ShardIndex, ShardSet};

const BYTES: usize = 67;
const UNTOUCHED: u8 = 0xEE;

fn code(spec: &str) -> Code {
    Code::new(&spec.parse().unwrap()).unwrap()
}

fn encoded(code: &Code, bytes: usize) -> Vec<Vec<u8>> {
    // 251 is prime and below 256: shifted or swapped shards do not look alike.
    let mut shards: Vec<Vec<u8>> =
        (0..code.n()).map(|shard| (0..bytes).map(|at| ((at * 3 + 7 * shard) % 251) as u8).collect()).collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    code.encode(&data, &mut parity).unwrap();
    shards
}

fn set(n: usize, bits: u32) -> ShardSet {
    ShardSet::first(n).iter().filter(|index| bits >> index.get() & 1 == 1).collect()
}

/// Erases `lost`, decodes all of it and compares; says whether it could be decoded.
fn survives(code: &Code, shards: &[Vec<u8>], lost: &ShardSet) -> bool {
    let present: Vec<(ShardIndex, &[u8])> =
        lost.complement(code.n()).iter().map(|index| (index, shards[index.at()].as_slice())).collect();
    let mut rebuilt = vec![vec![UNTOUCHED; shards[0].len()]; lost.len()];
    let mut wanted: Vec<(ShardIndex, &mut [u8])> =
        lost.iter().zip(&mut rebuilt).map(|(index, buffer)| (index, buffer.as_mut_slice())).collect();
    match code.decode(&present, &mut wanted) {
        Ok(()) => {
            for (index, buffer) in lost.iter().zip(&rebuilt) {
                assert_eq!(buffer, &shards[index.at()], "{} lost {:?}: shard {index}", code.spec(), lost);
            }
            true
        }
        Err(DecodeError::NotDecodable { present: found, missing, needed_more }) => {
            assert_eq!((found, missing.len()), (present.len(), lost.len()));
            assert!(needed_more >= 1 && needed_more <= lost.len(), "{needed_more} more of {}", lost.len());
            assert!(rebuilt.iter().flatten().all(|&byte| byte == UNTOUCHED), "outputs were touched");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn every_pattern_of_the_mds_codes() {
    for spec in ["rs:4+2", "rs:6+3", "rs:10+4", "rs:10+4@cauchy", "rs:10+4@vandermonde", "rs:10+4@power", "replicate:3"]
    {
        let code = code(spec);
        let shards = encoded(&code, BYTES);
        for bits in 1u32..1 << code.n() {
            // One loss too many shows the refusal; more of the same would only take time.
            if bits.count_ones() as usize <= code.m() + 1 {
                let lost = set(code.n(), bits);
                let expected = lost.len() <= code.m();
                assert_eq!(code.decodable(&lost), expected, "{spec} {lost:?}");
                assert_eq!(survives(&code, &shards, &lost), expected, "{spec} {lost:?}");
            }
        }
    }
}

/// Decodable exactly when the erasures beyond one per group, and the erased globals, number at most two.
#[test]
fn every_pattern_of_the_locally_repairable_codes() {
    for spec in ["lrc:6,2,2", "lrc:12,2,2", "lrc:7,3,2"] {
        let code = code(spec);
        let shards = encoded(&code, BYTES);
        for bits in 1u32..1 << code.n() {
            let lost = set(code.n(), bits);
            let in_groups: Vec<usize> =
                code.groups().iter().map(|group| lost.iter().filter(|index| group.contains(*index)).count()).collect();
            let globals = lost.len() - in_groups.iter().sum::<usize>();
            let expected = globals + in_groups.iter().map(|&count| count.saturating_sub(1)).sum::<usize>() <= 2;
            assert_eq!(code.decodable(&lost), expected, "{spec} {lost:?}");
            assert_eq!(survives(&code, &shards, &lost), expected, "{spec} {lost:?}");
        }
    }
}

#[test]
fn lengths_from_one_to_odd_ones() {
    for spec in ["rs:4+2", "lrc:6,2,2", "replicate:2"] {
        let code = code(spec);
        for bytes in [1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 255, 257, 4095, 4096, 4097, 65_537] {
            let shards = encoded(&code, bytes);
            assert!(survives(&code, &shards, &set(code.n(), 0b1)), "{spec} {bytes}");
        }
    }
}

#[test]
fn wide_codes_decode() {
    for spec in ["rs:128+128", "rs:200+50", "rs:255+1@cauchy", "lrc:150,15,2", "rs:240+16"] {
        let code = code(spec);
        let shards = encoded(&code, BYTES);
        let lost = ShardSet::first(code.m().min(2));
        assert!(survives(&code, &shards, &lost), "{spec}");
        let scattered: ShardSet = (0..code.guaranteed_tolerance()).map(|at| ShardIndex::new((at * 2) as u16)).collect();
        assert!(survives(&code, &shards, &scattered), "{spec}");
    }
}

/// The least number of available shards whose rows span every lost row, by trying all subsets.
fn fewest_reads(code: &Code, lost: &ShardSet, available: &ShardSet) -> Option<usize> {
    let wanted: Vec<usize> = lost.iter().map(ShardIndex::at).collect();
    let targets = code.generator().select_rows(&wanted);
    (0u32..1 << code.n())
        .filter(|&bits| set(code.n(), bits).is_subset(available))
        .filter(|&bits| {
            let rows: Vec<usize> = set(code.n(), bits).iter().map(ShardIndex::at).collect();
            code.generator().select_rows(&rows).express(&targets).is_some()
        })
        .map(u32::count_ones)
        .min()
        .map(|count| count as usize)
}

#[test]
fn no_plan_reads_more_than_the_best_found_by_exhaustive_search() {
    for spec in
        ["lrc:4,2,2", "lrc:5,2,2", "lrc:6,3,2", "lrc:4,4,2", "lrc:3,1,2", "rs:4+2", "rs:3+3@vandermonde", "replicate:4"]
    {
        let code = code(spec);
        let shards = encoded(&code, BYTES);
        let all = 1u32 << code.n();
        for bits in 1..all {
            let lost = set(code.n(), bits);
            if lost.len() > 3 {
                continue;
            }
            // A shard that is neither lost nor available, too: the planner must do without it.
            for away in [None, Some(0), Some(code.n() - 1), Some(code.k())] {
                let mut available = lost.complement(code.n());
                if let Some(away) = away {
                    available.remove(ShardIndex::new(away as u16));
                }
                let best = fewest_reads(&code, &lost, &available);
                let plan = code.plan(&lost, &available);
                assert_eq!(plan.as_ref().ok().map(|plan| plan.reads().len()), best, "{spec} {lost:?} without {away:?}");
                if let Ok(plan) = plan {
                    check_plan(&plan, &lost, &shards);
                }
            }
        }
    }
}

fn check_plan(plan: &ec_core::RepairPlan, lost: &ShardSet, shards: &[Vec<u8>]) {
    assert_eq!(plan.rebuilds(), lost.iter().collect::<Vec<_>>());
    let inputs: Vec<(ShardIndex, &[u8])> =
        plan.reads().iter().map(|index| (*index, shards[index.at()].as_slice())).collect();
    let mut rebuilt = vec![vec![UNTOUCHED; shards[0].len()]; lost.len()];
    let mut outputs: Vec<_> =
        lost.iter().zip(&mut rebuilt).map(|(index, bytes)| (index, bytes.as_mut_slice())).collect();
    // Order of the pairs must not matter.
    outputs.reverse();
    plan.run(&inputs, &mut outputs).unwrap();
    for (index, bytes) in lost.iter().zip(&rebuilt) {
        assert_eq!(bytes, &shards[index.at()]);
    }
}

#[test]
fn mean_reads_of_single_losses() {
    for (spec, expected) in [("lrc:6,2,2", 3.6), ("lrc:12,2,2", 6.75), ("rs:10+4", 10.0), ("replicate:3", 1.0)] {
        assert!((code(spec).mean_repair_reads().unwrap() - expected).abs() < 1e-9, "{spec}");
    }
    assert_eq!(code("replicate:1").mean_repair_reads(), None);
}

#[test]
fn a_plan_checks_its_guests_at_the_door() {
    let code = code("rs:4+2");
    let shards = encoded(&code, BYTES);
    let lost = set(6, 0b10_0001);
    let plan = code.plan(&lost, &lost.complement(6)).unwrap();
    let inputs: Vec<(ShardIndex, &[u8])> =
        plan.reads().iter().map(|index| (*index, shards[index.at()].as_slice())).collect();
    let index = ShardIndex::new;
    let mut a = vec![UNTOUCHED; BYTES];
    let mut b = vec![UNTOUCHED; BYTES];
    let mut short = vec![UNTOUCHED; BYTES - 1];

    assert_eq!(
        plan.run(&inputs[1..], &mut [(index(0), &mut a), (index(5), &mut b)]),
        Err(DecodeError::MissingInput { index: inputs[0].0 })
    );
    assert_eq!(plan.run(&inputs, &mut [(index(0), &mut a)]), Err(DecodeError::WrongCount { expected: 2, found: 1 }));
    assert_eq!(
        plan.run(&inputs, &mut [(index(0), &mut a), (index(5), &mut short)]),
        Err(DecodeError::LengthMismatch { index: index(5), expected: BYTES, found: BYTES - 1 })
    );
    assert_eq!(
        plan.run(&inputs, &mut [(index(0), &mut a), (index(0), &mut b)]),
        Err(DecodeError::Duplicate { index: index(0) })
    );
    assert!(plan.run(&inputs, &mut [(index(0), &mut a), (index(3), &mut b)]).is_err());
    let mut ragged = inputs.clone();
    ragged[2].1 = &ragged[2].1[..10];
    assert!(matches!(
        plan.run(&ragged, &mut [(index(0), &mut a), (index(5), &mut b)]),
        Err(DecodeError::LengthMismatch { .. })
    ));
    assert!(a.iter().chain(&b).chain(&short).all(|&byte| byte == UNTOUCHED));

    let present = [(index(1), shards[1].as_slice()), (index(1), shards[1].as_slice())];
    assert_eq!(code.decode(&present, &mut [(index(0), &mut a)]), Err(DecodeError::Duplicate { index: index(1) }));
    assert_eq!(
        code.decode(&[(index(6), shards[1].as_slice())], &mut [(index(0), &mut a)]),
        Err(DecodeError::IndexOutOfRange { index: index(6), shards: 6 })
    );
    assert_eq!(
        code.decode(&[(index(300), shards[1].as_slice())], &mut [(index(0), &mut a)]).unwrap_err(),
        DecodeError::IndexOutOfRange { index: index(300), shards: 6 }
    );
    // A buffer that no plan reads is not what it should be, either.
    let mut present: Vec<(ShardIndex, &[u8])> = (1..6).map(|at| (index(at), &shards[usize::from(at)][..])).collect();
    present[4].1 = &present[4].1[1..];
    assert_eq!(
        code.decode(&present, &mut [(index(0), &mut a)]),
        Err(DecodeError::LengthMismatch { index: index(5), expected: BYTES, found: BYTES - 1 })
    );
    let nothing: Vec<(ShardIndex, &[u8])> = (1..6).map(|at| (index(at), &[][..])).collect();
    assert_eq!(code.decode(&nothing, &mut [(index(0), &mut [])]), Err(DecodeError::Empty { granularity: 1 }));
    assert_eq!(code.encode(&[&[][..]; 4], &mut [&mut [], &mut []]), Err(DecodeError::Empty { granularity: 1 }));
    assert!(a.iter().all(|&byte| byte == UNTOUCHED));
    // Nothing lost, nothing to do.
    assert_eq!(code.decode(&[], &mut []), Ok(()));
}
