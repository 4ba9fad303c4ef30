//! Plans that cost least, when shards differ in what it costs to read them.
//!
//! Three shapes of code are known well enough to need no search, at any size. In an MDS code any `k` shards and no fewer
//! determine anything, so the `k` cheapest are best. A maximally recoverable LRC with disjoint groups is, as a matroid, the sum
//! of its groups (each lacks one rank) and of its other shards, cut off at rank `k`: either the wanted shards are each
//! determined within their own group, or rank `k` is needed, and the cheapest set of that rank is again greedy. Everything else
//! goes to [`super::search`].

use super::RepairPlan;
use super::search::{Found, Problem};
use crate::code::{Code, Guarantee};
use crate::error::DecodeError;
use crate::kernel::Kernel;
use crate::matrix::Matrix;
use crate::shard::{SHARDS_MAX, ShardIndex, ShardSet};
use std::fmt;

/// What a byte of each shard costs to read. Shards that cannot be read at all are left out of `available` instead.
///
/// Any number is a cost: 0 is read before anything else, [`u64::MAX`] after all, and sums do not overflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs(Vec<u64>);

impl Costs {
    /// Every shard costs 1: the cheapest plan is the one with the fewest reads.
    pub fn uniform() -> Self {
        Self::default()
    }

    /// The cost of shard 0, 1, and so on; of those beyond the end 1. Costs beyond [`SHARDS_MAX`] are ignored.
    pub fn new(costs: impl IntoIterator<Item = u64>) -> Self {
        Self(costs.into_iter().take(SHARDS_MAX).collect())
    }

    /// Changes the cost of one shard. Positions from [`SHARDS_MAX`] on do not exist and are ignored.
    pub fn set(&mut self, index: ShardIndex, cost: u64) {
        if index.at() < SHARDS_MAX {
            self.0.resize(self.0.len().max(index.at() + 1), 1);
            self.0[index.at()] = cost;
        }
    }

    /// The cost of one shard.
    pub fn get(&self, index: ShardIndex) -> u64 {
        self.0.get(index.at()).copied().unwrap_or(1)
    }

    /// The cost of all of them together.
    pub fn total(&self, shards: &ShardSet) -> u128 {
        shards.iter().map(|index| u128::from(self.get(index))).sum()
    }

    pub(super) fn weight(&self, index: ShardIndex) -> Weight {
        Weight::from(self.get(index)) << COUNT_BITS | 1
    }
}

/// Cost above, number of shards below, so that of two equal costs the one of fewer shards is less.
pub(super) type Weight = u128;
/// 256 shards of cost `u64::MAX` fit above it, and 256 below.
const COUNT_BITS: u32 = 16;
const _: () = assert!(SHARDS_MAX < 1 << COUNT_BITS && COUNT_BITS + u64::BITS + SHARDS_MAX.ilog2() < Weight::BITS);

/// Branches (about a tenth of a microsecond each) the search may take for the least cost. Matrices of which nothing is known
/// need thousands for 6 parities, and more than this where they have a dozen and look like chance: then the set found so far
/// is given, with what is proved of it.
pub const BRANCHES_MAX: u64 = 1 << 20;
/// Those of [`Code::plan`], which is asked in the middle of a read: a millisecond.
pub(super) const BRANCHES_OF_A_READ_MAX: u64 = 1 << 13;

/// Shards to read, with their cost and what is known of any cheaper set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheapestSet {
    reads: ShardSet,
    cost: u128,
    bound: u128,
    optimal: bool,
}

impl CheapestSet {
    pub(super) fn new(found: &Found) -> Self {
        let optimal = found.weight == found.bound;
        Self { reads: found.reads, cost: found.weight >> COUNT_BITS, bound: found.bound >> COUNT_BITS, optimal }
    }

    /// The shards to read.
    pub fn reads(&self) -> &ShardSet {
        &self.reads
    }

    /// The sum of their costs.
    pub fn cost(&self) -> u128 {
        self.cost
    }

    /// No sufficient set costs less than this. Equal to the cost where that is the least.
    pub fn bound(&self) -> u128 {
        self.bound
    }

    /// Whether no sufficient set costs less, and none of equal cost has fewer shards.
    pub fn is_cheapest(&self) -> bool {
        self.optimal
    }
}

/// A plan with its cost.
#[derive(Clone, Debug)]
pub struct CheapestPlan {
    plan: RepairPlan,
    set: CheapestSet,
}

impl CheapestPlan {
    /// How to rebuild.
    pub fn plan(&self) -> &RepairPlan {
        &self.plan
    }

    /// How to rebuild.
    pub fn into_plan(self) -> RepairPlan {
        self.plan
    }

    /// What is read, its cost, and the bound.
    pub fn set(&self) -> &CheapestSet {
        &self.set
    }
}

impl fmt::Display for CheapestSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read")?;
        for index in self.reads.iter() {
            write!(f, " {index}")?;
        }
        write!(f, " at cost {}", self.cost)?;
        if self.optimal { write!(f, ", the least") } else { write!(f, ", the least being {} or more", self.bound) }
    }
}

impl fmt::Display for CheapestPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.set, self.plan)
    }
}

impl Code {
    /// As [`Code::plan`], with the least cost: no sufficient set costs less, and none of the same cost has fewer shards. Of
    /// several such sets it takes the same one every time.
    ///
    /// Exact for MDS codes and maximally recoverable LRCs of any size, in a few microseconds; and for every other code with up
    /// to 32 shards to read, by a search of at most [`BRANCHES_MAX`] branches. Beyond either it costs at most `k` times the
    /// least. [`CheapestSet::is_cheapest`] and [`CheapestSet::bound`] tell what is proved of the case at hand.
    ///
    /// ```
    /// use ec_core::{Code, Costs, ShardIndex, ShardSet};
    ///
    /// let code = Code::new(&"lrc:12,2,2".parse()?)?;
    /// let lost = ShardSet::from_iter([ShardIndex::new(3)]);
    /// // The host of shard 0 is overloaded: twelve reads elsewhere cost less than six with it.
    /// let mut costs = Costs::uniform();
    /// costs.set(ShardIndex::new(0), 10);
    /// let plan = code.plan_cheapest(&lost, &lost.complement(code.n()), &costs)?;
    /// assert_eq!((plan.set().cost(), plan.set().is_cheapest()), (12, true));
    /// assert!(!plan.plan().reads().contains(&ShardIndex::new(0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Code::plan`].
    pub fn plan_cheapest(
        &self,
        lost: &ShardSet,
        available: &ShardSet,
        costs: &Costs,
    ) -> Result<CheapestPlan, DecodeError> {
        self.plan_cheapest_within(lost, available, costs, BRANCHES_MAX)
    }

    /// As [`Code::plan_cheapest`], with another limit on the branches of the search.
    ///
    /// # Errors
    /// As [`Code::plan`].
    pub fn plan_cheapest_within(
        &self,
        lost: &ShardSet,
        available: &ShardSet,
        costs: &Costs,
        branches_max: u64,
    ) -> Result<CheapestPlan, DecodeError> {
        super::check_indices(self.n(), &[lost, available])?;
        let usable = available.difference(lost);
        let structure = Structure::of(self);
        let found = structure.cheapest(self, lost, &usable, costs, branches_max);
        let found = found.ok_or_else(|| super::not_decodable(self, &usable))?;
        let plan = RepairPlan::from_reads(self, lost, &found.reads, structure)?;
        Ok(CheapestPlan { plan, set: CheapestSet::new(&found) })
    }
}

/// The cheapest shards whose rows span those wanted, for any generator (`n` rows of `k`, of rank `k`): what
/// [`Code::plan_cheapest`] does for a code of which nothing else is known.
///
/// ```
/// use ec_core::plan::{Costs, cheapest_set};
/// use ec_core::{Matrix, ShardIndex, ShardSet};
///
/// // Two shards, their sum, and a copy of the first.
/// let generator = Matrix::from_fn(4, 2, |row, column| [[1, 0], [0, 1], [1, 1], [1, 0]][row][column]);
/// let lost = ShardSet::from_iter([ShardIndex::new(0)]);
/// let set = cheapest_set(&generator, &lost, &lost.complement(4), &Costs::new([1, 2, 3, 9]))?;
/// assert_eq!(set.to_string(), "read 1 2 at cost 5, the least");
/// # Ok::<(), ec_core::DecodeError>(())
/// ```
///
/// # Errors
/// [`DecodeError::IndexOutOfRange`], [`DecodeError::NotDecodable`].
pub fn cheapest_set(
    generator: &Matrix,
    lost: &ShardSet,
    available: &ShardSet,
    costs: &Costs,
) -> Result<CheapestSet, DecodeError> {
    super::check_indices(generator.rows(), &[lost, available])?;
    let usable = available.difference(lost);
    let kernel = Kernel::selected().unwrap_or(Kernel::portable());
    let problem = Problem { generator, kernel, wanted: lost, usable: &usable, costs, branches_max: BRANCHES_MAX };
    let found = problem.solve().ok_or_else(|| super::undetermined(generator, &usable))?;
    Ok(CheapestSet::new(&found))
}

/// What is known of a code's matroid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Structure {
    /// Any `k` shards are a basis.
    Uniform,
    /// A set is independent when it has at most `k` shards and no whole group.
    Groups,
    /// Nothing but the generator.
    General,
}

impl Structure {
    pub(super) fn of(code: &Code) -> Self {
        match code.guarantee() {
            Guarantee::Mds => Self::Uniform,
            Guarantee::MaximallyRecoverable if groups_are_disjoint(code) => Self::Groups,
            _ => Self::General,
        }
    }

    /// The lightest shards among `usable` that determine those wanted, which may be usable themselves: reading one is one way
    /// to have it. `None` where what is usable does not suffice.
    pub(super) fn cheapest(
        self,
        code: &Code,
        wanted: &ShardSet,
        usable: &ShardSet,
        costs: &Costs,
        branches_max: u64,
    ) -> Option<Found> {
        if self == Self::General {
            let (generator, kernel) = (code.generator(), code.kernel());
            return Problem { generator, kernel, wanted, usable, costs, branches_max }.solve();
        }
        if wanted.is_empty() {
            return Some(Found { reads: ShardSet::EMPTY, weight: 0, bound: 0, branches: 0 });
        }
        let weigh = |reads: ShardSet| (reads.iter().map(|index| costs.weight(index)).sum::<Weight>(), reads);
        let local = cheapest_locally(code, wanted, usable, costs).map(weigh);
        let global = cheapest_basis(code, usable, costs).map(weigh);
        let (weight, reads) = match (local, global) {
            (Some(local), Some(global)) if global.0 < local.0 => global,
            (local, global) => local.or(global)?,
        };
        Some(Found { reads, weight, bound: weight, branches: 0 })
    }
}

fn groups_are_disjoint(code: &Code) -> bool {
    let mut seen = ShardSet::EMPTY;
    code.groups().iter().all(|group| {
        let members = group.members();
        let disjoint = seen.intersection(&members).is_empty();
        seen = seen.union(&members);
        disjoint
    })
}

/// The lightest set that determines each wanted shard without the help of other groups: it is read, or all but one of its group
/// are. Below rank `k` there is no other way, in an MDS code (without groups) as in an LRC.
fn cheapest_locally(code: &Code, wanted: &ShardSet, usable: &ShardSet, costs: &Costs) -> Option<ShardSet> {
    let mut alone = *wanted;
    let mut reads = ShardSet::EMPTY;
    for group in code.groups() {
        let members = group.members();
        let (inside, readable) = (wanted.intersection(&members), members.intersection(usable));
        alone = alone.difference(&members);
        if inside.is_empty() {
            continue;
        }
        let mut sorted: Vec<ShardIndex> = readable.iter().collect();
        sorted.sort_by_key(|&index| (costs.weight(index), index));
        sorted.truncate(members.len() - 1);
        let weigh = |set: &ShardSet| set.iter().map(|index| costs.weight(index)).sum::<Weight>();
        let directly = Some(inside).filter(|inside| inside.is_subset(usable));
        let jointly = Some(sorted.into_iter().collect::<ShardSet>()).filter(|set| set.len() + 1 == members.len());
        let best = match (directly, jointly) {
            (Some(directly), Some(jointly)) if weigh(&jointly) < weigh(&directly) => jointly,
            (directly, jointly) => directly.or(jointly)?,
        };
        reads = reads.union(&best);
    }
    alone.is_subset(usable).then(|| reads.union(&alone))
}

/// The lightest `k` independent shards. A shard that would make a group whole adds no rank.
fn cheapest_basis(code: &Code, usable: &ShardSet, costs: &Costs) -> Option<ShardSet> {
    let mut keyed = [(0, ShardIndex::new(0)); SHARDS_MAX];
    let mut count = 0;
    for index in usable.iter() {
        keyed[count] = (costs.get(index), index);
        count += 1;
    }
    let keyed = &mut keyed[..count];
    keyed.sort_unstable();
    let mut chosen = ShardSet::EMPTY;
    let mut left = code.k();
    for &(_, index) in keyed.iter() {
        if left == 0 {
            break;
        }
        chosen.insert(index);
        let group = code.groups().iter().find(|group| group.contains(index));
        if group.is_some_and(|group| group.members().is_subset(&chosen)) {
            chosen.remove(index);
        } else {
            left -= 1;
        }
    }
    (left == 0).then_some(chosen)
}
