//! Repair plans: which shards to read, and how to add them up.

mod arrivals;
mod cache;
mod cost;
#[cfg(test)]
mod cost_tests;
mod partial;
mod range;
mod search;
mod solve;

pub use arrivals::{Arrivals, HedgedPlan};
pub use cache::PlanCache;
pub use cost::{BRANCHES_MAX, CheapestPlan, CheapestSet, Costs, cheapest_set};
pub use partial::{Combination, PartialError, PartialSum};
pub use range::{FragmentRange, RangeError, RangePlan};

use crate::code::{Code, Shape};
use crate::error::DecodeError;
use crate::kernel::{Locality, Syndromes, Transform};
use crate::matrix::Matrix;
use crate::shard::{SHARDS_MAX, ShardIndex, ShardSet};
use cost::Structure;
use solve::Solution;
use std::fmt;

/// How to rebuild some shards from others. Made for one pattern of losses, good for any number of stripes and, as every code
/// here works byte by byte, for any byte range: run it on equally placed ranges.
#[derive(Clone, Debug)]
pub struct RepairPlan {
    rebuilds: Vec<ShardIndex>,
    reads: Vec<ShardIndex>,
    coefficients: Matrix,
    transform: Transform,
    /// `n` of the code.
    shards: usize,
}

impl RepairPlan {
    /// The plan with the fewest reads.
    ///
    /// Of MDS codes and maximally recoverable LRCs that is known without a search: either every lost shard is rebuilt within
    /// its local group, or `k` independent shards are read (see [`cost`]). Of any other matrix nothing is assumed, and the search
    /// ends after [`cost::BRANCHES_OF_A_READ_MAX`] branches.
    pub(crate) fn new(code: &Code, lost: &ShardSet, available: &ShardSet) -> Result<Self, DecodeError> {
        Self::knowing(Structure::of(code), code, lost, available)
    }

    fn knowing(structure: Structure, code: &Code, lost: &ShardSet, available: &ShardSet) -> Result<Self, DecodeError> {
        check_indices(code.n(), &[lost, available])?;
        let usable = available.difference(lost);
        if structure == Structure::General {
            let found = structure.cheapest(code, lost, &usable, &Costs::uniform(), cost::BRANCHES_OF_A_READ_MAX);
            let found = found.ok_or_else(|| not_decodable(code, &usable))?;
            return Self::from_reads(code, lost, &found.reads, structure);
        }
        let data = ShardSet::first(code.k());
        let (candidates, unknown) = match local_reads(code, lost, &usable) {
            Some(reads) if !groups_are_sums_of_data(code) => return Self::from_what_is_there(code, lost, &reads),
            Some(reads) => (reads, lost.intersection(&data)),
            None => (usable, data.difference(&usable)),
        };
        match Solution::new(code, &unknown, &candidates) {
            Some(solution) => Ok(Self::from_solution(code, lost, &candidates.intersection(&data), solution)),
            None => Self::from_what_is_there(code, lost, &usable),
        }
    }

    /// The plan that reads these shards, or those of them that it needs.
    fn from_reads(code: &Code, lost: &ShardSet, reads: &ShardSet, structure: Structure) -> Result<Self, DecodeError> {
        if structure == Structure::Uniform || (structure == Structure::Groups && groups_are_sums_of_data(code)) {
            // Nothing but these is at hand, and they are a basis or whole groups: the rules of `new` take them all.
            let data = ShardSet::first(code.k());
            let is_local = local_reads(code, lost, reads).is_some();
            let unknown = if is_local { lost.intersection(&data) } else { data.difference(reads) };
            if let Some(solution) = Solution::new(code, &unknown, reads) {
                return Ok(Self::from_solution(code, lost, &reads.intersection(&data), solution));
            }
        }
        Self::from_what_is_there(code, lost, reads)
    }

    /// Every missing data shard is determined.
    fn from_solution(code: &Code, lost: &ShardSet, present: &ShardSet, solution: Solution) -> Self {
        let parities = solution.parities;
        let weights = solution.into_weights(code, lost);
        let full = solve::coefficients(code, lost, present, &parities, &weights);
        let mut candidates = Vec::with_capacity(full.columns());
        candidates.extend(present.iter().chain(parities.iter()));
        let syndromes = Syndromes::new(code, &candidates, lost, parities.len(), &weights);
        let (reads, coefficients) = without_unused(candidates, full);
        let transform = match syndromes {
            Some(syndromes) => Transform::by_syndromes(code.kernel(), &coefficients, &syndromes),
            None => Transform::of_shards(code.kernel(), &coefficients),
        };
        let mut rebuilds = Vec::with_capacity(lost.len());
        rebuilds.extend(lost.iter());
        Self { rebuilds, reads, coefficients, transform, shards: code.n() }
    }

    /// Not everything is determined; what is lost may be.
    fn from_what_is_there(code: &Code, lost: &ShardSet, usable: &ShardSet) -> Result<Self, DecodeError> {
        let candidates = independent(code, usable);
        let wanted: Vec<usize> = lost.iter().map(ShardIndex::at).collect();
        let rows: Vec<usize> = candidates.iter().map(|index| index.at()).collect();
        let generator = code.generator();
        let Some(full) = generator.select_rows(&rows).express(&generator.select_rows(&wanted)) else {
            return Err(not_decodable(code, usable));
        };
        let (reads, coefficients) = without_unused(candidates, full);
        let transform = Transform::of_shards(code.kernel(), &coefficients);
        Ok(Self { rebuilds: lost.iter().collect(), reads, coefficients, transform, shards: code.n() })
    }

    /// The shards to read, in rising order.
    pub fn reads(&self) -> &[ShardIndex] {
        &self.reads
    }

    /// The shards it rebuilds, in rising order.
    pub fn rebuilds(&self) -> &[ShardIndex] {
        &self.rebuilds
    }

    /// One row per rebuilt shard, one column per read shard.
    pub fn coefficients(&self) -> &Matrix {
        &self.coefficients
    }

    pub(crate) fn transform(&self) -> &Transform {
        &self.transform
    }

    /// Rebuilds the shards. The plan was made for one pattern; the buffers arrive only now, so their number, positions and
    /// lengths are checked here. Other fragments of the stripe than those it reads are ignored.
    ///
    /// # Errors
    /// A [`DecodeError`], with every output untouched: among them [`DecodeError::Duplicate`] and [`DecodeError::IndexOutOfRange`]
    /// for any input, read or not.
    pub fn run(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), DecodeError> {
        self.run_with(inputs, outputs, Locality::Auto)
    }

    /// As [`RepairPlan::run`], with a hint on where the buffers are. The bytes are the same with every hint.
    ///
    /// # Errors
    /// As [`RepairPlan::run`].
    pub fn run_with(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
        locality: Locality,
    ) -> Result<(), DecodeError> {
        self.run_by(inputs, outputs, |transform, sources, targets| {
            transform.apply_to_shards(sources, targets, locality)
        })
    }

    /// Checks the buffers, and has them computed in the order of the plan.
    pub(crate) fn run_by(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
        apply: impl FnOnce(&Transform, &[&[u8]], &mut [&mut [u8]]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        // On the stack: a call allocates nothing. Most plans read few shards, and clearing many places takes time.
        if self.reads.len() <= FEW_SHARDS && self.rebuilds.len() <= FEW_SHARDS {
            self.run_within::<FEW_SHARDS>(inputs, outputs, apply)
        } else {
            self.run_within::<SHARDS_MAX>(inputs, outputs, apply)
        }
    }

    fn run_within<const MAX: usize>(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
        apply: impl FnOnce(&Transform, &[&[u8]], &mut [&mut [u8]]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut sources: [&[u8]; MAX] = [&[]; MAX];
        let sources = &mut sources[..self.reads.len()];
        self.gather(inputs, sources)?;
        if outputs.len() != self.rebuilds.len() {
            return Err(DecodeError::WrongCount { expected: self.rebuilds.len(), found: outputs.len() });
        }
        let expected =
            sources.first().map_or_else(|| outputs.first().map_or(0, |(_, bytes)| bytes.len()), |bytes| bytes.len());
        let lengths = self.reads.iter().copied().zip(sources.iter().map(|bytes| bytes.len()));
        for (index, found) in lengths.chain(outputs.iter().map(|(index, bytes)| (*index, bytes.len()))) {
            if found != expected {
                return Err(DecodeError::LengthMismatch { index, expected, found });
            }
        }
        let mut places: [&mut [u8]; MAX] = std::array::from_fn(|_| <&mut [u8]>::default());
        let mut filled = ShardSet::EMPTY;
        for (index, bytes) in outputs.iter_mut() {
            if filled.contains(*index) {
                return Err(DecodeError::Duplicate { index: *index });
            }
            let Ok(at) = self.rebuilds.binary_search(index) else {
                self.check_index(*index)?;
                return Err(DecodeError::NotPlanned { index: *index });
            };
            filled.insert(*index);
            places[at] = bytes;
        }
        // As many distinct wanted positions as outputs: every place is filled.
        apply(&self.transform, sources, &mut places[..self.rebuilds.len()])
    }

    fn check_index(&self, index: ShardIndex) -> Result<(), DecodeError> {
        if index.at() < self.shards { Ok(()) } else { Err(DecodeError::IndexOutOfRange { index, shards: self.shards }) }
    }

    /// The inputs in the order of `reads`. None may come twice: nothing says which is right.
    fn gather<'a>(&self, inputs: &[(ShardIndex, &'a [u8])], sources: &mut [&'a [u8]]) -> Result<(), DecodeError> {
        // Callers mostly give what was asked for, in order.
        let in_order =
            inputs.len() == self.reads.len() && inputs.iter().zip(&self.reads).all(|(input, read)| input.0 == *read);
        if in_order {
            sources.iter_mut().zip(inputs).for_each(|(source, (_, bytes))| *source = bytes);
            return Ok(());
        }
        let mut given = ShardSet::EMPTY;
        for (index, bytes) in inputs {
            self.check_index(*index)?;
            if given.contains(*index) {
                return Err(DecodeError::Duplicate { index: *index });
            }
            given.insert(*index);
            if let Ok(at) = self.reads.binary_search(index) {
                sources[at] = bytes;
            }
        }
        match self.reads.iter().find(|index| !given.contains(**index)) {
            None => Ok(()),
            Some(&index) => Err(DecodeError::MissingInput { index }),
        }
    }
}

/// Shards that fit into the smaller arrays of a call.
const FEW_SHARDS: usize = 32;

/// A row nobody needs is not read.
pub(crate) fn without_unused(candidates: Vec<ShardIndex>, full: Matrix) -> (Vec<ShardIndex>, Matrix) {
    let is_used = |column: usize| (0..full.rows()).any(|row| full.get(row, column) != 0);
    // The first row mostly settles it.
    if full.rows() > 0 && full.row(0).iter().enumerate().all(|(column, &value)| value != 0 || is_used(column)) {
        return (candidates, full);
    }
    let used: Vec<usize> = (0..candidates.len()).filter(|&column| is_used(column)).collect();
    let coefficients = Matrix::from_fn(full.rows(), used.len(), |row, column| full.get(row, used[column]));
    (used.iter().map(|&at| candidates[at]).collect(), coefficients)
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, index) in self.rebuilds.iter().enumerate() {
            write!(f, "{}{index} =", if row > 0 { "; " } else { "" })?;
            for (column, read) in self.reads.iter().enumerate() {
                match self.coefficients.get(row, column) {
                    0 => {}
                    coefficient => write!(f, " + {coefficient:02x}*{read}")?,
                }
            }
        }
        Ok(())
    }
}

/// Refuses positions the code does not have.
pub(crate) fn check_indices(shards: usize, sets: &[&ShardSet]) -> Result<(), DecodeError> {
    let all = ShardSet::first(shards);
    match sets.iter().flat_map(|set| set.difference(&all).iter().next()).next() {
        Some(index) => Err(DecodeError::IndexOutOfRange { index, shards }),
        None => Ok(()),
    }
}

fn not_decodable(code: &Code, usable: &ShardSet) -> DecodeError {
    undetermined(code.generator(), usable)
}

/// The error that says how much of the rank is missing.
fn undetermined(generator: &Matrix, usable: &ShardSet) -> DecodeError {
    let rows: Vec<usize> = usable.iter().map(ShardIndex::at).collect();
    DecodeError::NotDecodable {
        present: usable.len(),
        missing: usable.complement(generator.rows()).iter().map(ShardIndex::get).collect(),
        needed_more: generator.columns() - generator.select_rows(&rows).rank(),
    }
}

/// Whether a group has no parity but its own, so that its members say nothing of other data. Where global parities are members, what
/// determines them is not in the group.
fn groups_are_sums_of_data(code: &Code) -> bool {
    matches!(code.spec().shape(), Shape::Lrc { .. })
}

/// The shards to read if every lost one can be rebuilt within its own group, else `None`.
fn local_reads(code: &Code, lost: &ShardSet, usable: &ShardSet) -> Option<ShardSet> {
    if code.groups().is_empty() {
        return None;
    }
    let mut reads = ShardSet::EMPTY;
    for index in lost.iter() {
        let group = code.groups().iter().find(|group| group.contains(index))?;
        let mut others = group.members();
        others.remove(index);
        if !others.is_subset(usable) {
            return None;
        }
        reads = reads.union(&others);
    }
    Some(reads)
}

/// Independent shards, as many as there are, the earliest first: data shards cost no arithmetic.
pub(crate) fn independent(code: &Code, usable: &ShardSet) -> Vec<ShardIndex> {
    let mut chosen: Vec<ShardIndex> = usable.iter().filter(|index| index.at() < code.k()).collect();
    let mut rows: Vec<usize> = chosen.iter().map(|index| index.at()).collect();
    for index in usable.iter().filter(|index| index.at() >= code.k()) {
        if rows.len() == code.k() {
            break;
        }
        rows.push(index.at());
        // Unit rows are independent of each other, so only a parity can fail to add to the rank.
        if code.generator().select_rows(&rows).rank() == rows.len() {
            chosen.push(index);
        } else {
            rows.pop();
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::splitmix;
    use crate::kernel::Kernel;

    fn stripe(code: &Code, bytes: usize) -> Vec<Vec<u8>> {
        let mut shards: Vec<Vec<u8>> =
            (0..code.n()).map(|shard| (0..bytes).map(|at| ((at + 7 * shard) % 251) as u8).collect()).collect();
        let (data, parity) = shards.split_at_mut(code.k());
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        shards
    }

    fn assert_rebuilds(code: &Code, shards: &[Vec<u8>], lost: &ShardSet, available: &ShardSet) {
        let plan = code.plan(lost, available).unwrap();
        let inputs: Vec<_> = plan.reads().iter().map(|index| (*index, &shards[index.at()][..])).collect();
        for locality in [Locality::Cached, Locality::Streaming] {
            let mut rebuilt: Vec<_> = lost.iter().map(|index| (index, vec![0xEE; shards[0].len()])).collect();
            let mut outputs: Vec<_> = rebuilt.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
            plan.run_with(&inputs, &mut outputs, locality).unwrap();
            for (index, bytes) in rebuilt {
                assert!(bytes == shards[index.at()], "{} {}, {index} of {lost:?}", code.spec(), code.kernel().name());
            }
        }
    }

    /// Through the transform where it pays, and through the matrix for the kernels without one.
    #[test]
    fn many_losses_of_wide_native_codes_are_rebuilt() {
        for (spec, bytes) in
            [("rs:80+20", 1700), ("rs:40+9", 700), ("rs:100+40", 513), ("rs:120+128", 300), ("rs:30+16", 64)]
        {
            for kernel in Kernel::available() {
                let code = Code::with_kernel(&spec.parse().unwrap(), kernel).unwrap();
                let shards = stripe(&code, bytes);
                let mut dice = 7;
                for losses in [1, 2, code.m() / 2, code.m() - 1, code.m()] {
                    let mut lost = ShardSet::EMPTY;
                    while lost.len() < losses {
                        lost.insert(crate::code::shard((splitmix(&mut dice) % code.n() as u64) as usize));
                    }
                    assert_rebuilds(&code, &shards, &lost, &lost.complement(code.n()));
                    // Some of what is missing is not wanted.
                    let wanted: ShardSet = lost.iter().step_by(2).collect();
                    assert_rebuilds(&code, &shards, &wanted, &lost.complement(code.n()));
                    let first: ShardSet = ShardSet::first(losses);
                    assert_rebuilds(&code, &shards, &first, &first.complement(code.n()));
                }
            }
        }
    }

    #[test]
    fn inputs_may_come_in_any_order_and_with_others() {
        let code = Code::new(&"rs:10+4".parse().unwrap()).unwrap();
        let shards = stripe(&code, 100);
        let lost = ShardSet::from_iter([ShardIndex::new(3), ShardIndex::new(12)]);
        let plan = code.plan(&lost, &lost.complement(14)).unwrap();
        let mut inputs: Vec<_> = lost.complement(14).iter().map(|index| (index, &shards[index.at()][..])).collect();
        inputs.reverse();
        let other = [0; 100];
        let (mut a, mut b) = ([0; 100], [0; 100]);
        plan.run(&inputs, &mut [(ShardIndex::new(12), &mut b), (ShardIndex::new(3), &mut a)]).unwrap();
        assert_eq!((&a[..], &b[..]), (&shards[3][..], &shards[12][..]));
        let unread =
            inputs.iter().map(|input| input.0).find(|index| plan.reads().binary_search(index).is_err()).unwrap();
        for index in [ShardIndex::new(0), unread] {
            let twice = [&inputs[..], &[(index, &other[..])]].concat();
            let refused = plan.run(&twice, &mut [(ShardIndex::new(12), &mut b), (ShardIndex::new(3), &mut a)]);
            assert_eq!(refused, Err(DecodeError::Duplicate { index }));
        }
        let outside = |index| Err(DecodeError::IndexOutOfRange { index: ShardIndex::new(index), shards: 14 });
        let strange = [&inputs[..], &[(ShardIndex::new(14), &other[..])]].concat();
        let refused = plan.run(&strange, &mut [(ShardIndex::new(12), &mut b), (ShardIndex::new(3), &mut a)]);
        assert_eq!(refused, outside(14));
        let missing = inputs.iter().filter(|(index, _)| index.get() != 5).copied().collect::<Vec<_>>();
        let refused = plan.run(&missing, &mut [(ShardIndex::new(12), &mut b), (ShardIndex::new(3), &mut a)]);
        assert_eq!(refused, Err(DecodeError::MissingInput { index: ShardIndex::new(5) }));
        let twice = plan.run(&inputs, &mut [(ShardIndex::new(3), &mut b), (ShardIndex::new(3), &mut a)]);
        assert_eq!(twice, Err(DecodeError::Duplicate { index: ShardIndex::new(3) }));
        let unknown = plan.run(&inputs, &mut [(ShardIndex::new(3), &mut b), (ShardIndex::new(900), &mut a)]);
        assert_eq!(unknown, outside(900));
        let unplanned = plan.run(&inputs, &mut [(ShardIndex::new(3), &mut b), (ShardIndex::new(4), &mut a)]);
        assert_eq!(unplanned, Err(DecodeError::NotPlanned { index: ShardIndex::new(4) }));
    }
}
