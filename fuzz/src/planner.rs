//! Plans by cost: any small code or matrix, any losses, any costs; against all subsets, and in parts against whole.

use crate::{Input, bounded};
use ec_core::plan::{CheapestSet, cheapest_set};
use ec_core::{Arrivals, Code, Costs, DecodeError, Geometry, Matrix, RepairPlan, ShardIndex, ShardSet};

/// Every family and shape of groups, small enough to try all subsets of what may be read.
const SPECS: [&str; 13] = [
    "replicate:3",
    "rs:1+1",
    "rs:4+2",
    "rs:5+3@cauchy",
    "rs:6+2@power",
    "rs:4+4@vandermonde",
    "lrc:4,2,2",
    "lrc:5,2,2",
    "lrc:6,3,2",
    "lrc:2,2,2",
    "lrc-uniform:4,2,2",
    "lrc-uniform:5,2,1",
    "lrc:4,2,3",
];
/// All subsets of this many are tried.
const FORCED_SHARDS_MAX: usize = 10;
const SHARD_BYTES: usize = 37;

/// Which code (or, above the list, a matrix of its own), costs, then what is lost and what is available; then parts and a range.
pub fn planner(bytes: &[u8]) {
    let mut input = Input(bounded(bytes));
    let choice = input.below(SPECS.len() + 4);
    match SPECS.get(choice) {
        Some(spec) => {
            let code = Code::new(&spec.parse().expect("a specification")).expect("a code that exists");
            of_code(&code, &mut input);
        }
        None => of_matrix(&mut input),
    }
}

fn of_code(code: &Code, input: &mut Input<'_>) {
    let costs = costs(code.n(), input);
    let (lost, available) = (set(code.n(), input), set(code.n(), input));
    let shards = encoded(code);
    let usable = available.difference(&lost);
    let by_force = by_force(code.generator(), &lost, &usable, &costs);
    let (plan, fewest) = (code.plan_cheapest(&lost, &available, &costs), code.plan(&lost, &available));
    assert_eq!(plan.is_ok(), fewest.is_ok(), "{} without {lost:?} from {usable:?}", code.spec());
    let arrivals = arrive(code, &lost, &usable);
    assert_eq!(arrivals.sufficient(), plan.is_ok(), "{arrivals}");
    match plan {
        Ok(plan) => {
            check_set(plan.set(), by_force, &lost, &usable, &costs, code.generator());
            assert_eq!(plan.plan().reads().iter().copied().collect::<ShardSet>(), *plan.set().reads(), "{plan}");
            rebuilds(plan.plan(), &shards);
            in_parts(plan.plan(), &shards, input);
            rebuilds(&arrivals.plan().expect("sufficient"), &shards);
        }
        Err(refused) => {
            assert!(by_force.is_none() && matches!(refused, DecodeError::NotDecodable { .. }), "{refused}");
        }
    }
    hedged(code, &lost, &available, &costs, input);
    range(code, &usable, &costs, input);
}

/// Any generator with the identity on top, which may well be a bad code.
fn of_matrix(input: &mut Input<'_>) {
    let (k, m) = (1 + input.below(6), input.below(6));
    let values = [2, 3, 256][input.below(3)];
    let element = |row: usize, column: usize, input: &mut Input<'_>| match row < k {
        true => u8::from(row == column),
        false => u8::try_from(usize::from(input.byte()) % values).unwrap_or(0),
    };
    let generator = Matrix::from_fn(k + m, k, |row, column| element(row, column, input));
    let costs = costs(k + m, input);
    let (lost, available) = (set(k + m, input), set(k + m, input));
    let usable = available.difference(&lost);
    let by_force = by_force(&generator, &lost, &usable, &costs);
    match cheapest_set(&generator, &lost, &available, &costs) {
        Ok(found) => check_set(&found, by_force, &lost, &usable, &costs, &generator),
        Err(refused) => assert!(by_force.is_none(), "{refused}: {generator:?} without {lost:?} from {usable:?}"),
    }
}

/// Zeros, ties, and sums beyond 64 bits.
fn costs(n: usize, input: &mut Input<'_>) -> Costs {
    let kind = input.byte();
    Costs::new((0..n).map(|_| match (kind % 4, input.byte()) {
        (0, _) => 1,
        (1, byte) => u64::from(byte % 3),
        (2, byte) => u64::from(byte),
        (_, byte) => [0, 1, 10, u64::MAX - 1, u64::MAX][usize::from(byte % 5)],
    }))
}

fn set(n: usize, input: &mut Input<'_>) -> ShardSet {
    let bits = input.word();
    (0..n).filter(|at| bits >> at & 1 == 1).map(index).collect()
}

fn index(at: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(at).expect("a position in a code"))
}

fn spans(generator: &Matrix, reads: &ShardSet, wanted: &ShardSet) -> bool {
    let rank = |set: &ShardSet| generator.select_rows(&set.iter().map(ShardIndex::at).collect::<Vec<_>>()).rank();
    rank(reads) == rank(&reads.union(wanted))
}

/// Cost and number of reads of the best of all subsets; of none where they are too many.
fn by_force(generator: &Matrix, lost: &ShardSet, usable: &ShardSet, costs: &Costs) -> Option<(u128, usize)> {
    let shards: Vec<_> = usable.iter().collect();
    if shards.len() > FORCED_SHARDS_MAX {
        return spans(generator, usable, lost).then_some((u128::MAX, usize::MAX));
    }
    let mut best = None;
    for subset in 0..1u32 << shards.len() {
        let reads: ShardSet = (0..shards.len()).filter(|at| subset >> at & 1 == 1).map(|at| shards[at]).collect();
        let found = (costs.total(&reads), reads.len());
        if best.is_none_or(|best| found < best) && spans(generator, &reads, lost) {
            best = Some(found);
        }
    }
    best
}

fn check_set(
    found: &CheapestSet,
    by_force: Option<(u128, usize)>,
    lost: &ShardSet,
    usable: &ShardSet,
    costs: &Costs,
    generator: &Matrix,
) {
    let Some(best) = by_force else { panic!("{found}, but nothing suffices") };
    assert!(spans(generator, found.reads(), lost) && found.reads().is_subset(usable), "{found}");
    assert_eq!(found.cost(), costs.total(found.reads()), "{found}");
    assert!(found.is_cheapest() && found.bound() == found.cost(), "{found}");
    if usable.len() <= FORCED_SHARDS_MAX {
        assert_eq!((found.cost(), found.reads().len()), best, "{generator:?} without {lost:?}: {found}");
    }
}

/// Painted data and its parity.
fn encoded(code: &Code) -> Vec<Vec<u8>> {
    let paint = |shard: usize| (0..SHARD_BYTES).map(move |at| u8::try_from((at + 7 * shard) % 251).unwrap_or(0));
    let mut shards: Vec<Vec<u8>> = (0..code.n()).map(|shard| paint(shard).collect()).collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("equal lengths");
    shards
}

fn arrive<'a>(code: &'a Code, lost: &ShardSet, usable: &ShardSet) -> Arrivals<'a> {
    let mut arrivals = Arrivals::new(code, lost).expect("within the code");
    for index in usable.iter() {
        arrivals.arrive(index).expect("once each");
        let expected = spans(code.generator(), arrivals.arrived(), lost);
        assert_eq!(arrivals.sufficient(), expected, "{} {arrivals}", code.spec());
    }
    arrivals
}

fn rebuilds(plan: &RepairPlan, shards: &[Vec<u8>]) {
    let inputs: Vec<_> = plan.reads().iter().map(|index| (*index, &shards[index.at()][..])).collect();
    let mut made = vec![vec![0; SHARD_BYTES]; plan.rebuilds().len()];
    let mut outputs: Vec<_> = plan.rebuilds().iter().copied().zip(made.iter_mut().map(Vec::as_mut_slice)).collect();
    plan.run(&inputs, &mut outputs).expect("what it reads");
    for (index, bytes) in plan.rebuilds().iter().zip(&made) {
        assert_eq!(*bytes, shards[index.at()], "{plan}");
    }
}

/// A chain of up to four parts: each joins what it holds to what comes, and the last one is the result.
fn in_parts(plan: &RepairPlan, shards: &[Vec<u8>], input: &mut Input<'_>) {
    let mut sets = [ShardSet::EMPTY; 4];
    for &index in plan.reads() {
        sets[input.below(4)].insert(index);
    }
    let vectors = |count: usize| vec![vec![0; SHARD_BYTES]; count];
    let mut behind = ShardSet::EMPTY;
    let mut so_far = (plan.partial(&behind).expect("nothing"), Vec::new());
    for set in sets {
        let own = plan.partial(&set).expect("reads of the plan");
        assert!(own.carries().len() <= set.len().min(plan.rebuilds().len()), "{own}");
        let inputs: Vec<_> = set.iter().map(|index| (index, &shards[index.at()][..])).collect();
        let mut share = vectors(own.carries().len());
        own.run(&inputs, &mut share.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("what it reads");
        behind = behind.union(&set);
        let next = plan.partial(&behind).expect("reads of the plan");
        let sum = next.combine(&[&so_far.0, &own]).expect("each once");
        let mut joined = vectors(next.carries().len());
        let inputs: Vec<&[u8]> = so_far.1.iter().chain(&share).map(Vec::as_slice).collect();
        sum.run(&inputs, &mut joined.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("its vectors");
        so_far = (next, joined);
    }
    let sum = plan.combine(&[&so_far.0]).expect("all reads");
    let mut made = vectors(plan.rebuilds().len());
    let inputs: Vec<&[u8]> = so_far.1.iter().map(Vec::as_slice).collect();
    sum.run(&inputs, &mut made.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("its vectors");
    for (index, bytes) in plan.rebuilds().iter().zip(&made) {
        assert_eq!(*bytes, shards[index.at()], "{plan} in parts");
    }
}

fn hedged(code: &Code, lost: &ShardSet, available: &ShardSet, costs: &Costs, input: &mut Input<'_>) {
    let reads = input.below(code.n() + 2);
    let Ok(hedged) = code.plan_hedged(lost, available, costs, reads) else { return };
    let usable = available.difference(lost);
    let distinct: ShardSet = hedged.reads().iter().copied().collect();
    assert!(distinct.len() == hedged.reads().len() && distinct.is_subset(&usable), "{hedged}");
    assert_eq!(
        distinct.len(),
        reads.clamp(hedged.least().reads().len(), usable.len().max(1)).min(usable.len()),
        "{hedged}"
    );
    let absent = set(code.n(), input);
    let expected = spans(code.generator(), &distinct.difference(&absent), lost);
    assert_eq!(hedged.survives(&absent), Ok(expected), "{hedged} without {absent:?}");
}

/// A few blocks per fragment; the cost is that of what is read, and the bytes are those of the extent.
fn range(code: &Code, available: &ShardSet, costs: &Costs, input: &mut Input<'_>) {
    let extent: Vec<u8> = (0..input.word() % 40_000).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
    let geometry = Geometry::new(extent.len() as u64, code.k());
    let (from, to) = (input.word() as u64, input.word() as u64);
    let Ok(plan) = code.plan_range(&geometry, from..to, available, costs) else { return };
    assert!(from <= to && to <= extent.len() as u64);
    let bytes = usize::try_from(geometry.shard_bytes()).expect("a few blocks");
    let mut shards = vec![vec![0; bytes]; code.n()];
    shards
        .iter_mut()
        .zip(extent.chunks(bytes.max(1)))
        .for_each(|(shard, bytes)| shard[..bytes.len()].copy_from_slice(bytes));
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    // An extent without bytes has shards without bytes, and nothing to encode.
    if bytes > 0 {
        code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("equal lengths");
    }
    let mut cost = 0;
    let mut inputs: Vec<&[u8]> = Vec::new();
    for read in plan.reads() {
        assert!(available.contains(read.index) && read.bytes.start % 4096 == 0 && read.bytes.end % 4096 == 0, "{plan}");
        cost += u128::from(costs.get(read.index)) * u128::from(read.bytes.end - read.bytes.start);
        let ends = [read.bytes.start, read.bytes.end].map(|end| usize::try_from(end).expect("within the fragment"));
        inputs.push(&shards[read.index.at()][ends[0]..ends[1]]);
    }
    assert_eq!((cost, plan.bound()), (plan.cost(), plan.cost()), "{plan}");
    let mut output = vec![0; usize::try_from(to - from).expect("within the extent")];
    plan.run(&inputs, &mut output).expect("what it reads");
    assert_eq!(output, extent[extent.len().min(from as usize)..to as usize], "{plan}");
}
