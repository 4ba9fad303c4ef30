//! Rebuilding shards of vector codes from whatever is at hand, at whatever it costs.

use crate::{Input, bounded};
use ec_core::vector::VectorPlan;
use ec_core::{Costs, DecodeError, Kernel, ShardIndex, ShardSet, VectorCode, VectorError};

/// One of each family, and each where its shape is out of the ordinary.
const SPECS: [&str; 10] = [
    "hitchhiker:4+2",
    "hitchhiker:6+3",
    "hitchhiker:1+3",
    "hitchhiker:10+4",
    "lrc:6,2,3@gf16",
    "lrc:7,3,2@gf16",
    "lrc:5,1,4@gf16",
    "clay:4+2",
    "clay:1+2",
    "clay:4+3",
];
const UNTOUCHED: u8 = 0xEE;

type Buffers = Vec<(ShardIndex, Vec<u8>)>;

/// A code, bytes of a sub-chunk, what is lost and what is at hand, a cost for each shard; then a shard and a length of its input
/// that is wrong. What is decodable is rebuilt by both plans, and the cheaper is no dearer; what is wrong is refused with
/// nothing written.
pub fn vector_set(bytes: &[u8]) {
    let mut input = Input(bounded(bytes));
    let spec = SPECS[usize::from(input.byte()) % SPECS.len()];
    let code = VectorCode::with_kernel(&spec.parse().expect("a specification"), Kernel::portable()).expect("a code");
    let shards = encoded(&code, usize::from(input.byte()) % 5 + 1);
    let all = ShardSet::first(code.n());
    let mut set = || {
        let bits = input.word();
        (0..code.n()).filter(|at| bits >> at & 1 == 1).map(index).collect::<ShardSet>()
    };
    let (lost, absent) = (set(), set());
    let available = all.difference(&absent);
    let costs = Costs::new((0..code.n()).map(|_| u64::from(input.byte())));
    let gone = lost.union(&absent);
    let plans = [code.plan(&lost, &available), code.plan_cheapest(&lost, &available, &costs)];
    if code.decodable(&gone) {
        assert!(plans.iter().all(Result::is_ok), "{spec} without {gone:?}");
    }
    match plans {
        [Ok(plan), Ok(cheapest)] => {
            assert!(cheapest.cost(&costs) <= plan.cost(&costs), "{spec}: {cheapest}, {plan}");
            for plan in [plan, cheapest] {
                rebuilds(&plan, &shards, &available.difference(&lost));
                refuses(&plan, &shards, usize::from(input.byte()), usize::from(input.byte()));
            }
        }
        [Err(plain), Err(by_cost)] => {
            assert_eq!(plain, by_cost);
            assert!(matches!(plain, VectorError::Shards(DecodeError::NotDecodable { .. })), "{spec}: {plain}");
        }
        one => panic!("{spec}: {one:?}"),
    }
}

fn index(at: usize) -> ShardIndex {
    ShardIndex::new(u16::try_from(at).unwrap_or(u16::MAX))
}

fn encoded(code: &VectorCode, sub_chunk_bytes: usize) -> Vec<Vec<u8>> {
    let bytes = sub_chunk_bytes * code.granularity();
    let mut shards: Vec<Vec<u8>> = (0..code.n())
        .map(|shard| (0..bytes).map(|at| u8::try_from((at * 3 + 7 * shard) % 251).unwrap_or(0)).collect())
        .collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).expect("one stripe");
    shards
}

/// What the plan reads of each shard.
fn parts(plan: &VectorPlan, shards: &[Vec<u8>]) -> Buffers {
    let part = |read: &ec_core::vector::VectorRead| {
        let shard = &shards[read.shard().at()];
        let ranges = read.byte_ranges(shard.len()).expect("whole sub-chunks");
        (read.shard(), ranges.into_iter().flat_map(|range| shard[range].to_vec()).collect())
    };
    plan.reads().iter().map(part).collect()
}

fn run(plan: &VectorPlan, parts: &Buffers, bytes: usize) -> (Result<(), VectorError>, Buffers) {
    let inputs: Vec<(ShardIndex, &[u8])> = parts.iter().map(|(at, part)| (*at, &part[..])).collect();
    let mut rebuilt: Vec<_> = plan.rebuilds().iter().map(|&at| (at, vec![UNTOUCHED; bytes])).collect();
    let mut outputs: Vec<_> = rebuilt.iter_mut().map(|(at, bytes)| (*at, &mut bytes[..])).collect();
    let result = plan.run(&inputs, &mut outputs);
    (result, rebuilt)
}

fn rebuilds(plan: &VectorPlan, shards: &[Vec<u8>], usable: &ShardSet) {
    let parts = parts(plan, shards);
    assert!(parts.iter().all(|(at, _)| usable.contains(*at)), "{plan}");
    let (result, rebuilt) = run(plan, &parts, shards[0].len());
    assert_eq!(result, Ok(()), "{plan}");
    assert!(rebuilt.iter().all(|(at, bytes)| *bytes == shards[at.at()]), "{plan}");
}

/// One input is missing, comes twice, or is longer than it should be.
fn refuses(plan: &VectorPlan, shards: &[Vec<u8>], which: usize, how: usize) {
    let mut parts = parts(plan, shards);
    if parts.is_empty() {
        return;
    }
    let at = which % parts.len();
    match how % 4 {
        0 => drop(parts.remove(at)),
        1 => parts.push(parts[at].clone()),
        2 => parts[at].1.push(7),
        _ => parts[at].0 = index(40_000),
    }
    let (result, rebuilt) = run(plan, &parts, shards[0].len());
    assert!(result.is_err(), "{plan}: input {at}, {}", how % 4);
    assert!(rebuilt.iter().all(|(_, bytes)| bytes.iter().all(|&byte| byte == UNTOUCHED)), "{plan}");
}
