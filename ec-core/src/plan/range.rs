//! Plans for ranges: the cheapest (fragment, byte range) pairs for some bytes of an extent or of lost fragments.
//!
//! Every code here works byte by byte, so bytes at one offset of the fragments are had from bytes at that offset. Where a
//! range covers the end of one data fragment and the start of another, different fragments are wanted at different
//! offsets: the offsets are cut into segments in which the same are wanted, and each segment is planned by itself. What one
//! segment reads does not make another one cheaper, as costs are per byte, so the whole is cheapest too.
//!
//! Ranges are widened to whole checksum blocks, since nothing less can be verified.

use super::cost::{BRANCHES_MAX, Costs, Structure};
use super::{RepairPlan, check_indices};
use crate::code::{Code, shard};
use crate::error::DecodeError;
use crate::geometry::{BLOCK_BYTES, Geometry};
use crate::shard::{ShardIndex, ShardSet};
use std::fmt;
use std::ops::Range;

/// Rebuilt at a time: the working memory of [`RangePlan::run`] is this for each lost fragment.
const PIECE_BYTES: u64 = 256 << 10;

/// Why there is no plan for a range, or why it cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// The range ends before it starts, or after what there is.
    #[error("bytes {start}..{end} are not a range within 0..{limit}")]
    OutOfBounds {
        /// First byte.
        start: u64,
        /// One after the last byte.
        end: u64,
        /// Bytes of the extent or fragment.
        limit: u64,
    },
    /// The layout is that of a code with another number of data fragments.
    #[error("the layout has {found} data fragments and the code {expected}")]
    OtherLayout {
        /// `k` of the code.
        expected: usize,
        /// Data fragments of the layout.
        found: usize,
    },
    /// Fragments of this length do not consist of whole blocks.
    #[error("fragments of {found} bytes are no whole number of blocks of {block}")]
    NotWholeBlocks {
        /// Bytes of a fragment.
        found: u64,
        /// Bytes of a block: the least that can be verified and decoded.
        block: u64,
    },
    /// Another number of inputs than the plan has reads.
    #[error("{found} inputs were given for {expected} reads")]
    WrongCount {
        /// Reads of the plan.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// An input is not as long as its read, or the output not as long as the range.
    #[error("a buffer of {found} bytes where {expected} are needed")]
    WrongLength {
        /// Bytes of the read or of the range.
        expected: u64,
        /// Bytes of the buffer.
        found: u64,
    },
    /// The fragments at hand do not determine the bytes, or an index is wrong.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Bytes of one fragment's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentRange {
    /// Which fragment.
    pub index: ShardIndex,
    /// Its bytes.
    pub bytes: Range<u64>,
}

/// What to read for a range, and how to make its bytes from it.
///
/// ```
/// use ec_core::{Code, Costs, Geometry, ShardIndex, ShardSet};
///
/// let code = Code::new(&"lrc:12,2,2".parse()?)?;
/// let geometry = Geometry::new(12 << 20, code.k());
/// let lost = ShardSet::from_iter([ShardIndex::new(0)]);
/// // 100 bytes of the lost fragment: one block of each of six helpers.
/// let plan = code.plan_range(&geometry, 5000..5100, &lost.complement(code.n()), &Costs::uniform())?;
/// assert_eq!(plan.reads().len(), 6);
/// assert!(plan.reads().iter().all(|read| read.bytes == (4096..8192)));
/// // Of a fragment that is there, the block alone.
/// let plan = code.plan_range(&geometry, (1 << 20)..(1 << 20) + 1, &lost.complement(code.n()), &Costs::uniform())?;
/// assert_eq!(plan.to_string(), "1 byte: read 1[0..4096], cost 4096, the least");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RangePlan {
    wanted: Vec<FragmentRange>,
    segments: Vec<Segment>,
    reads: Vec<FragmentRange>,
    granularity: u64,
    cost: u128,
    bound: u128,
}

/// Offsets at which the same fragments are wanted.
#[derive(Clone, Debug)]
struct Segment {
    bytes: Range<u64>,
    reads: ShardSet,
    /// Makes those of the wanted that are not read.
    repair: RepairPlan,
}

impl Code {
    /// The cheapest reads for bytes `range` of an extent. What lies in fragments that are there is read from them (or rebuilt,
    /// where that costs less). Costs are per byte.
    ///
    /// # Errors
    /// A [`RangeError`].
    pub fn plan_range(
        &self,
        geometry: &Geometry,
        range: Range<u64>,
        available: &ShardSet,
        costs: &Costs,
    ) -> Result<RangePlan, RangeError> {
        let (expected, found) = (self.k(), geometry.data_shards());
        if expected != found {
            return Err(RangeError::OtherLayout { expected, found });
        }
        check_range(&range, geometry.extent_bytes())?;
        let shard_bytes = geometry.shard_bytes();
        let mut wanted = Vec::new();
        let mut at = range.start;
        while at < range.end {
            // The extent is not empty, so neither are its fragments.
            let (index, offset) = (at / shard_bytes, at % shard_bytes);
            let bytes = offset..shard_bytes.min(offset + (range.end - at));
            at += bytes.end - bytes.start;
            wanted.push(FragmentRange { index: shard(usize::try_from(index).unwrap_or(usize::MAX)), bytes });
        }
        self.plan_wanted(wanted, shard_bytes, available, costs)
    }

    /// The cheapest reads for bytes `range` of each of the `lost` fragments, whose payloads are of `shard_bytes`.
    ///
    /// # Errors
    /// A [`RangeError`].
    pub fn plan_fragment_range(
        &self,
        lost: &ShardSet,
        range: Range<u64>,
        shard_bytes: u64,
        available: &ShardSet,
        costs: &Costs,
    ) -> Result<RangePlan, RangeError> {
        check_range(&range, shard_bytes)?;
        check_indices(self.n(), &[lost])?;
        let piece = |index| FragmentRange { index, bytes: range.clone() };
        let wanted = if range.is_empty() { Vec::new() } else { lost.iter().map(piece).collect() };
        self.plan_wanted(wanted, shard_bytes, &available.difference(lost), costs)
    }

    fn plan_wanted(
        &self,
        wanted: Vec<FragmentRange>,
        shard_bytes: u64,
        available: &ShardSet,
        costs: &Costs,
    ) -> Result<RangePlan, RangeError> {
        check_indices(self.n(), &[available])?;
        let granularity = self.granularity() as u64;
        let block = least_common_multiple(BLOCK_BYTES as u64, granularity);
        if !shard_bytes.is_multiple_of(block) {
            return Err(RangeError::NotWholeBlocks { found: shard_bytes, block });
        }
        let blocks = |bytes: &Range<u64>| bytes.start / block * block..bytes.end.next_multiple_of(block);
        let mut cuts: Vec<u64> = wanted.iter().map(|it| blocks(&it.bytes)).flat_map(|it| [it.start, it.end]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let structure = Structure::of(self);
        let (mut segments, mut cost, mut bound) = (Vec::new(), 0u128, 0u128);
        for cut in cuts.windows(2) {
            let bytes = cut[0]..cut[1];
            let is_wanted = |it: &&FragmentRange| {
                let whole = blocks(&it.bytes);
                whole.start <= bytes.start && bytes.end <= whole.end
            };
            let here: ShardSet = wanted.iter().filter(is_wanted).map(|it| it.index).collect();
            if here.is_empty() {
                continue;
            }
            let found = structure.cheapest(self, &here, available, costs, BRANCHES_MAX);
            let found = found.ok_or_else(|| super::not_decodable(self, available))?;
            let repair = RepairPlan::from_reads(self, &here.difference(&found.reads), &found.reads, structure)?;
            let set = super::CheapestSet::new(&found);
            // Past 2^128 they only stay comparable.
            let times = |cost: u128| cost.saturating_mul(u128::from(bytes.end - bytes.start));
            cost = times(set.cost()).saturating_add(cost);
            bound = times(set.bound()).saturating_add(bound);
            segments.push(Segment { bytes, reads: found.reads, repair });
        }
        Ok(RangePlan { reads: merged(&segments), wanted, segments, granularity, cost, bound })
    }
}

impl RangePlan {
    /// What to read, by fragment and then by place; ranges of one fragment do not touch.
    pub fn reads(&self) -> &[FragmentRange] {
        &self.reads
    }

    /// What is made, in the order of the output: bytes of fragments, none longer than asked for.
    pub fn wanted(&self) -> &[FragmentRange] {
        &self.wanted
    }

    /// Rebuilt ranges are multiples of this many bytes: 1 for scalar codes.
    pub fn granularity(&self) -> u64 {
        self.granularity
    }

    /// Bytes read, each by the cost of its fragment.
    pub fn cost(&self) -> u128 {
        self.cost
    }

    /// No reads of whole blocks that suffice cost less than this.
    pub fn bound(&self) -> u128 {
        self.bound
    }

    /// Bytes it makes.
    pub fn bytes(&self) -> u64 {
        // More than can be is as good as any number that no buffer has.
        self.wanted.iter().map(|it| it.bytes.end - it.bytes.start).fold(0, u64::saturating_add)
    }

    /// Makes the bytes. Inputs are what was read, in the order of [`RangePlan::reads`]; the output is as long as
    /// [`RangePlan::bytes`].
    ///
    /// # Errors
    /// [`RangeError::WrongCount`], [`RangeError::WrongLength`], with the output untouched.
    pub fn run(&self, inputs: &[&[u8]], output: &mut [u8]) -> Result<(), RangeError> {
        if inputs.len() != self.reads.len() {
            return Err(RangeError::WrongCount { expected: self.reads.len(), found: inputs.len() });
        }
        let expected = self.reads.iter().map(|read| read.bytes.end - read.bytes.start);
        let lengths = expected.zip(inputs.iter().map(|input| input.len() as u64));
        for (expected, found) in lengths.chain([(self.bytes(), output.len() as u64)]) {
            if expected != found {
                return Err(RangeError::WrongLength { expected, found });
            }
        }
        for segment in &self.segments {
            let mut at = segment.bytes.start;
            while at < segment.bytes.end {
                let piece = at..segment.bytes.end.min(at + PIECE_BYTES);
                at = piece.end;
                self.run_piece(segment, &piece, inputs, output)?;
            }
        }
        Ok(())
    }

    fn run_piece(
        &self,
        segment: &Segment,
        piece: &Range<u64>,
        inputs: &[&[u8]],
        output: &mut [u8],
    ) -> Result<(), RangeError> {
        let bytes = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
        let sources: Vec<(ShardIndex, &[u8])> = self
            .reads
            .iter()
            .zip(inputs)
            .filter(|(read, _)| read.bytes.start <= piece.start && piece.end <= read.bytes.end)
            .map(|(read, input)| {
                (read.index, slice(input, &(piece.start - read.bytes.start..piece.end - read.bytes.start)))
            })
            .collect();
        let mut made: Vec<(ShardIndex, Vec<u8>)> =
            segment.repair.rebuilds().iter().map(|&index| (index, vec![0; bytes])).collect();
        let mut outputs: Vec<_> = made.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
        segment.repair.run(&sources, &mut outputs)?;
        let at_hand = sources.iter().map(|(index, bytes)| (*index, *bytes));
        let all = || at_hand.clone().chain(made.iter().map(|(index, bytes)| (*index, &bytes[..])));
        let mut place = 0;
        for wanted in &self.wanted {
            let both = wanted.bytes.start.max(piece.start)..wanted.bytes.end.min(piece.end);
            if !both.is_empty()
                && let Some((_, bytes)) = all().find(|(index, _)| *index == wanted.index)
            {
                let to = place + (both.start - wanted.bytes.start)..place + (both.end - wanted.bytes.start);
                let from = slice(bytes, &(both.start - piece.start..both.end - piece.start));
                output[to.start as usize..to.end as usize].copy_from_slice(from);
            }
            place += wanted.bytes.end - wanted.bytes.start;
        }
        Ok(())
    }
}

impl fmt::Display for RangePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        write!(f, "{bytes} byte{}: read", if bytes == 1 { "" } else { "s" })?;
        for read in &self.reads {
            write!(f, " {}[{}..{}]", read.index, read.bytes.start, read.bytes.end)?;
        }
        write!(f, ", cost {}", self.cost)?;
        if self.cost == self.bound {
            write!(f, ", the least")?
        } else {
            write!(f, ", the least being {} or more", self.bound)?
        }
        for segment in self.segments.iter().filter(|segment| !segment.repair.rebuilds().is_empty()) {
            write!(f, "; at {}..{} {}", segment.bytes.start, segment.bytes.end, segment.repair)?;
        }
        Ok(())
    }
}

/// The lengths were checked, so it is within the buffer.
fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    &bytes[range.start as usize..range.end as usize]
}

fn check_range(range: &Range<u64>, limit: u64) -> Result<(), RangeError> {
    if range.start > range.end || range.end > limit {
        return Err(RangeError::OutOfBounds { start: range.start, end: range.end, limit });
    }
    Ok(())
}

/// The reads of all segments, those that touch as one.
fn merged(segments: &[Segment]) -> Vec<FragmentRange> {
    let mut reads: Vec<FragmentRange> = segments
        .iter()
        .flat_map(|segment| segment.reads.iter().map(|index| FragmentRange { index, bytes: segment.bytes.clone() }))
        .collect();
    reads.sort_by_key(|read| (read.index, read.bytes.start));
    reads.dedup_by(|next, read| {
        let touch = next.index == read.index && next.bytes.start == read.bytes.end;
        if touch {
            read.bytes.end = next.bytes.end;
        }
        touch
    });
    reads
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::splitmix;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    fn code(spec: &str) -> Code {
        Code::new(&spec.parse().unwrap()).unwrap()
    }

    fn stripe(code: &Code, geometry: &Geometry, extent: &[u8]) -> Vec<Vec<u8>> {
        let bytes = geometry.shard_bytes() as usize;
        let mut shards = vec![vec![0; bytes]; code.n()];
        for (shard, bytes) in shards.iter_mut().zip(extent.chunks(bytes)) {
            shard[..bytes.len()].copy_from_slice(bytes);
        }
        let (data, parity) = shards.split_at_mut(code.k());
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        shards
    }

    fn run(plan: &RangePlan, shards: &[Vec<u8>]) -> Vec<u8> {
        let inputs: Vec<&[u8]> = plan.reads().iter().map(|read| slice(&shards[read.index.at()], &read.bytes)).collect();
        let mut output = vec![0xEE; plan.bytes() as usize];
        plan.run(&inputs, &mut output).unwrap();
        output
    }

    #[test]
    fn any_range_of_the_extent_comes_back() {
        let mut dice = 1;
        for spec in ["replicate:3", "rs:4+2", "rs:6+3", "lrc:6,2,2", "lrc-uniform:6,2,2", "xorbas"] {
            let code = code(spec);
            let extent: Vec<u8> = (0..code.k() * 3 * BLOCK_BYTES - 777).map(|_| splitmix(&mut dice) as u8).collect();
            let geometry = Geometry::new(extent.len() as u64, code.k());
            let shards = stripe(&code, &geometry, &extent);
            for _ in 0..60 {
                let lost: ShardSet = (0..code.m()).map(|_| shard(splitmix(&mut dice) as usize % code.n())).collect();
                let mut ends = [0, 1].map(|_| splitmix(&mut dice) % (extent.len() as u64 + 1));
                ends.sort();
                let costs = Costs::new((0..code.n()).map(|_| splitmix(&mut dice) % 4));
                let available = lost.complement(code.n());
                let plan = code.plan_range(&geometry, ends[0]..ends[1], &available, &costs);
                let Ok(plan) = plan else {
                    assert!(!code.decodable(&lost));
                    continue;
                };
                assert_eq!(run(&plan, &shards), extent[ends[0] as usize..ends[1] as usize], "{spec}: {plan}");
                let read: u128 = plan
                    .reads()
                    .iter()
                    .map(|read| u128::from(costs.get(read.index)) * u128::from(read.bytes.end - read.bytes.start))
                    .sum();
                assert_eq!((read, plan.bound()), (plan.cost(), plan.cost()), "{spec}: {plan}");
                for read in plan.reads() {
                    assert!(available.contains(read.index) && read.bytes.end <= geometry.shard_bytes());
                    assert!(read.bytes.start.is_multiple_of(BLOCK) && read.bytes.end.is_multiple_of(BLOCK));
                }
            }
        }
    }

    /// More than one piece of [`PIECE_BYTES`], and two lost fragments that are wanted at different offsets.
    #[test]
    fn long_ranges_over_two_lost_fragments_read_each_offset_once() {
        let code = code("rs:4+2");
        let extent: Vec<u8> = (0..4 * 600_000u32).map(|at| (at % 251) as u8).collect();
        let geometry = Geometry::new(extent.len() as u64, 4);
        let shards = stripe(&code, &geometry, &extent);
        let lost = ShardSet::from_iter([shard(1), shard(2)]);
        let length = geometry.shard_bytes();
        let range = 2 * length - 300_000..2 * length + 1000;
        let plan = code.plan_range(&geometry, range.clone(), &lost.complement(6), &Costs::uniform()).unwrap();
        assert_eq!(run(&plan, &shards), extent[range.start as usize..range.end as usize]);
        let begin = (length - 300_000) / BLOCK * BLOCK;
        let expected = [0, 3, 4, 5].map(|at| [(at, 0..BLOCK), (at, begin..length)]).concat();
        let reads: Vec<_> = plan.reads().iter().map(|read| (read.index.get(), read.bytes.clone())).collect();
        assert_eq!(reads, expected);
    }

    /// A matrix without structure, of more fragments than are searched: the bound is what the plan of the fragments says.
    #[test]
    fn a_plan_that_is_not_proved_least_says_so() {
        let mut dice = 3;
        let rows = crate::matrix::Matrix::from_fn(20, 20, |_, _| (splitmix(&mut dice) % 255) as u8 + 1);
        let mut rows = rows;
        // Not MDS: nothing is known of it but its rows.
        (0..20).for_each(|column| rows.set(1, column, rows.get(0, column)));
        let code = Code::from_parity_rows(&rows).unwrap();
        let costs = Costs::new((0..40).map(|_| 1 + splitmix(&mut dice) % 9));
        let lost = ShardSet::first(1);
        let available = lost.complement(40);
        let set = code.plan_cheapest(&lost, &available, &costs).unwrap();
        assert!(set.set().bound() < set.set().cost(), "{}", set.set());
        let plan = code.plan_fragment_range(&lost, 0..BLOCK, BLOCK, &available, &costs).unwrap();
        let block = u128::from(BLOCK);
        assert_eq!((plan.bound(), plan.cost()), (set.set().bound() * block, set.set().cost() * block));
        assert!(plan.to_string().contains("the least being"), "{plan}");
    }

    #[test]
    fn a_block_of_a_lost_fragment_takes_that_block_of_each_helper() {
        let code = code("lrc:12,2,2");
        for index in ShardSet::first(16).iter() {
            let lost = ShardSet::from_iter([index]);
            let all = ShardSet::first(16);
            let plan = code.plan_fragment_range(&lost, 8192..12_288, 1 << 20, &all, &Costs::uniform()).unwrap();
            let helpers = code.plan(&lost, &lost.complement(16)).unwrap();
            assert_eq!(plan.reads().iter().map(|read| read.index).collect::<Vec<_>>(), helpers.reads());
            assert!(plan.reads().iter().all(|read| read.bytes == (8192..12_288)));
        }
    }

    #[test]
    fn what_is_there_is_read_alone_unless_it_is_dear() {
        let code = code("lrc:6,2,2");
        let geometry = Geometry::new(6 * 4 * BLOCK, 6);
        let lost = ShardSet::from_iter([shard(0)]);
        let range = 4 * BLOCK + 1..13 * BLOCK;
        let mut costs = Costs::uniform();
        let plan = code.plan_range(&geometry, range.clone(), &lost.complement(10), &costs).unwrap();
        assert_eq!(plan.reads().iter().map(|read| read.index.get()).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(plan.cost(), 9 * u128::from(BLOCK));
        // Fragment 5 at ten times the cost: its two brothers and their parity instead.
        costs.set(shard(5), 10);
        let plan = code.plan_range(&geometry, 20 * BLOCK..20 * BLOCK + 1, &lost.complement(10), &costs).unwrap();
        assert_eq!(plan.reads().iter().map(|read| read.index.get()).collect::<Vec<_>>(), [3, 4, 7]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let code = code("rs:4+2");
        let (all, costs) = (ShardSet::first(6), Costs::uniform());
        let geometry = Geometry::new(10_000, 4);
        let plan = |range| code.plan_range(&geometry, range, &all, &costs);
        assert_eq!(plan(5..10_001).unwrap_err(), RangeError::OutOfBounds { start: 5, end: 10_001, limit: 10_000 });
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = plan(7..6);
        assert_eq!(reversed.unwrap_err(), RangeError::OutOfBounds { start: 7, end: 6, limit: 10_000 });
        assert_eq!(plan(10_000..10_000).unwrap().reads(), []);
        let other = code.plan_range(&Geometry::new(10_000, 5), 0..1, &all, &costs);
        assert_eq!(other.unwrap_err(), RangeError::OtherLayout { expected: 4, found: 5 });
        let odd = code.plan_fragment_range(&ShardSet::first(1), 0..5, 5000, &all, &costs);
        assert_eq!(odd.unwrap_err(), RangeError::NotWholeBlocks { found: 5000, block: BLOCK });
        let few = code.plan_range(&geometry, 0..5, &ShardSet::from_iter([shard(3)]), &costs);
        assert!(matches!(few.unwrap_err(), RangeError::Decode(DecodeError::NotDecodable { needed_more: 3, .. })));
        let outside = code.plan_range(&geometry, 0..5, &ShardSet::first(7), &costs).unwrap_err();
        assert!(matches!(outside, RangeError::Decode(DecodeError::IndexOutOfRange { shards: 6, .. })));
        let whole = plan(0..10).unwrap();
        let mut output = [0; 10];
        assert_eq!(whole.run(&[], &mut output), Err(RangeError::WrongCount { expected: 1, found: 0 }));
        let short = whole.run(&[&[0; 100]], &mut output);
        assert_eq!(short, Err(RangeError::WrongLength { expected: 4096, found: 100 }));
        let long = whole.run(&[&[0; 4096]], &mut [0; 11]);
        assert_eq!(long, Err(RangeError::WrongLength { expected: 10, found: 11 }));
        assert_eq!((least_common_multiple(4096, 6), least_common_multiple(4096, 1)), (12_288, 4096));
    }
}
