//! Reads that come in one by one: when they suffice, and what to do with them then.
//!
//! A hedged read asks for more shards than it needs and decodes from those that arrive first. So the question "is this enough?"
//! is asked at every arrival; it costs one row of elimination each time, not a rank from scratch.

use super::cost::{CheapestSet, Costs};
use super::{RepairPlan, check_indices};
use crate::code::Code;
use crate::error::DecodeError;
use crate::gf;
use crate::shard::{ShardIndex, ShardSet};
use std::fmt;

/// Shards as they arrive, and which of the wanted ones they determine.
///
/// ```
/// use ec_core::{Arrivals, Code, ShardIndex, ShardSet};
///
/// let code = Code::new(&"rs:4+2".parse()?)?;
/// let mut arrivals = Arrivals::new(&code, &ShardSet::from_iter([ShardIndex::new(1)]))?;
/// for index in [5, 0, 3, 4] {
///     assert!(!arrivals.sufficient());
///     arrivals.arrive(ShardIndex::new(index))?;
/// }
/// assert!(arrivals.sufficient());
/// assert_eq!(arrivals.plan()?.reads().len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Arrivals<'a> {
    code: &'a Code,
    wanted: ShardSet,
    arrived: ShardSet,
    determined: ShardSet,
    /// What the arrivals leave open of each wanted shard, in rising order.
    open: Vec<(ShardIndex, Vec<u8>)>,
    /// Rows with a 1 at their pivot, each zero at the pivots of those before it.
    basis: Vec<(usize, Vec<u8>)>,
}

impl<'a> Arrivals<'a> {
    /// Nothing has arrived.
    ///
    /// # Errors
    /// [`DecodeError::IndexOutOfRange`].
    pub fn new(code: &'a Code, wanted: &ShardSet) -> Result<Self, DecodeError> {
        check_indices(code.n(), &[wanted])?;
        let open = wanted.iter().map(|index| (index, code.generator().row(index.at()).to_vec())).collect();
        let (arrived, determined) = (ShardSet::EMPTY, ShardSet::EMPTY);
        Ok(Self { code, wanted: *wanted, arrived, determined, open, basis: Vec::new() })
    }

    /// Takes one shard; gives whether it tells anything that those before it did not. Costs at most `2k` additions of rows of
    /// `k` elements.
    ///
    /// # Errors
    /// [`DecodeError::IndexOutOfRange`], [`DecodeError::Duplicate`]; nothing has changed then.
    pub fn arrive(&mut self, index: ShardIndex) -> Result<bool, DecodeError> {
        if index.at() >= self.code.n() {
            return Err(DecodeError::IndexOutOfRange { index, shards: self.code.n() });
        }
        if self.arrived.contains(index) {
            return Err(DecodeError::Duplicate { index });
        }
        self.arrived.insert(index);
        let kernel = self.code.kernel();
        let mut row = self.code.generator().row(index.at()).to_vec();
        for (pivot, earlier) in &self.basis {
            let factor = row[*pivot];
            kernel.add_scaled(&mut row, earlier, factor);
        }
        let pivot = row.iter().position(|&value| value != 0);
        let Some((pivot, scale)) = pivot.and_then(|pivot| Some((pivot, gf::inverse(row[pivot])?))) else {
            return Ok(false);
        };
        gf::scale(&mut row, scale);
        for (wanted, open) in &mut self.open {
            // It is zero at all pivots so far, as the new row is: it stays so.
            let factor = open[pivot];
            kernel.add_scaled(open, &row, factor);
            if open.iter().all(|&value| value == 0) {
                self.determined.insert(*wanted);
            }
        }
        self.open.retain(|(wanted, _)| !self.determined.contains(*wanted));
        self.basis.push((pivot, row));
        Ok(true)
    }

    /// Whether everything wanted is determined.
    pub fn sufficient(&self) -> bool {
        self.open.is_empty()
    }

    /// Those of the wanted shards that are determined.
    pub fn determined(&self) -> &ShardSet {
        &self.determined
    }

    /// What has arrived.
    pub fn arrived(&self) -> &ShardSet {
        &self.arrived
    }

    /// How to rebuild the wanted shards that did not arrive themselves, with the fewest of those that did.
    ///
    /// # Errors
    /// [`DecodeError::NotDecodable`] while [`Arrivals::sufficient`] is false.
    pub fn plan(&self) -> Result<RepairPlan, DecodeError> {
        self.code.plan(&self.wanted.difference(&self.arrived), &self.arrived)
    }
}

impl fmt::Display for Arrivals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} arrived, of rank {}", self.arrived.len(), self.basis.len())?;
        write!(f, "; {} of {} wanted determined", self.determined.len(), self.wanted.len())
    }
}

/// Reads to start, more of them than needed. Feed what comes to [`Arrivals`], and decode as soon as it suffices.
#[derive(Clone, Debug)]
pub struct HedgedPlan<'a> {
    code: &'a Code,
    wanted: ShardSet,
    least: CheapestSet,
    reads: Vec<ShardIndex>,
}

impl HedgedPlan<'_> {
    /// The reads to start: first a cheapest sufficient set, then the spares; each part from the cheapest to the dearest.
    pub fn reads(&self) -> &[ShardIndex] {
        &self.reads
    }

    /// The cheapest set that suffices, and its cost: the first of the reads.
    pub fn least(&self) -> &CheapestSet {
        &self.least
    }

    /// Whether the wanted shards are determined even if these reads never return.
    ///
    /// # Errors
    /// [`DecodeError::IndexOutOfRange`].
    pub fn survives(&self, absent: &ShardSet) -> Result<bool, DecodeError> {
        check_indices(self.code.n(), &[absent])?;
        let mut arrivals = self.arrivals()?;
        for index in self.reads.iter().filter(|index| !absent.contains(**index)) {
            arrivals.arrive(*index)?;
        }
        Ok(arrivals.sufficient())
    }

    /// Takes the reads as they return.
    ///
    /// # Errors
    /// None: what is wanted was checked when the plan was made.
    pub fn arrivals(&self) -> Result<Arrivals<'_>, DecodeError> {
        Arrivals::new(self.code, &self.wanted)
    }
}

impl fmt::Display for HedgedPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spares = &self.reads[self.least.reads().len()..];
        write!(f, "{}; {} spare:", self.least, spares.len())?;
        spares.iter().try_for_each(|index| write!(f, " {index}"))
    }
}

impl Code {
    /// Reads to start for `lost`: a cheapest sufficient set, and then the cheapest others until there are `reads_wanted` (or
    /// no more). In an MDS code each spare may stand in for any read. In an LRC whose lost shard is rebuilt within its group, a
    /// single missing read of the group needs `k` others in all: see [`HedgedPlan::survives`].
    ///
    /// # Errors
    /// As [`Code::plan`].
    pub fn plan_hedged(
        &self,
        lost: &ShardSet,
        available: &ShardSet,
        costs: &Costs,
        reads_wanted: usize,
    ) -> Result<HedgedPlan<'_>, DecodeError> {
        let least = self.plan_cheapest(lost, available, costs)?.set().clone();
        let by_cost = |set: ShardSet| {
            let mut sorted: Vec<ShardIndex> = set.iter().collect();
            sorted.sort_by_key(|&index| (costs.get(index), index));
            sorted
        };
        let mut reads = by_cost(*least.reads());
        let spares = by_cost(available.difference(lost).difference(least.reads()));
        reads.extend(spares.into_iter().take(reads_wanted.saturating_sub(reads.len())));
        Ok(HedgedPlan { code: self, wanted: *lost, least, reads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{shard, splitmix};

    fn code(spec: &str) -> Code {
        Code::new(&spec.parse().unwrap()).unwrap()
    }

    /// At every arrival the same as the plan from scratch, for each wanted shard and for all.
    #[test]
    fn sufficient_at_the_arrival_that_makes_it_so() {
        let mut dice = 1;
        for spec in [
            "replicate:3",
            "rs:4+2",
            "rs:10+4",
            "lrc:6,2,2",
            "lrc:12,2,2",
            "lrc:16,4,2",
            "lrc:6,2,3",
            "lrc-uniform:7,3,2",
            "xorbas",
        ] {
            let code = code(spec);
            for _ in 0..40 {
                let mut order: Vec<_> = ShardSet::first(code.n()).iter().collect();
                for at in (1..order.len()).rev() {
                    order.swap(at, splitmix(&mut dice) as usize % (at + 1));
                }
                let wanted: ShardSet = order.iter().take(1 + splitmix(&mut dice) as usize % 3).copied().collect();
                // Sometimes what is wanted comes as well.
                let late = order.split_off(if splitmix(&mut dice).is_multiple_of(2) { wanted.len() } else { 0 });
                let mut arrivals = Arrivals::new(&code, &wanted).unwrap();
                for index in late {
                    let before = arrivals.determined().len();
                    let told = arrivals.arrive(index).unwrap();
                    assert!(told || arrivals.determined().len() == before, "{spec}");
                    for index in wanted.iter() {
                        let alone = ShardSet::from_iter([index]).difference(arrivals.arrived());
                        let expected = code.plan(&alone, arrivals.arrived()).is_ok();
                        assert_eq!(arrivals.determined().contains(index), expected, "{spec}: {index} in {arrivals}");
                    }
                    assert_eq!(arrivals.sufficient(), arrivals.plan().is_ok(), "{spec}: {arrivals}");
                }
            }
        }
    }

    #[test]
    fn arrivals_that_cannot_be_are_refused() {
        let code = code("rs:4+2");
        let (wanted, seventh) = (ShardSet::from_iter([shard(0)]), ShardSet::from_iter([shard(6)]));
        let outside = DecodeError::IndexOutOfRange { index: shard(6), shards: 6 };
        assert_eq!(Arrivals::new(&code, &seventh).unwrap_err(), outside);
        let mut arrivals = Arrivals::new(&code, &wanted).unwrap();
        assert_eq!(arrivals.arrive(shard(6)), Err(outside));
        assert_eq!(arrivals.arrive(shard(5)), Ok(true));
        assert_eq!(arrivals.arrive(shard(5)), Err(DecodeError::Duplicate { index: shard(5) }));
        assert!(matches!(arrivals.plan(), Err(DecodeError::NotDecodable { needed_more: 3, .. })));
    }

    #[test]
    fn spares_stand_in_for_reads() {
        let rs = code("rs:10+4");
        let lost = ShardSet::from_iter([shard(2)]);
        let mut costs = Costs::uniform();
        costs.set(shard(0), 9);
        let hedged = rs.plan_hedged(&lost, &lost.complement(14), &costs, 12).unwrap();
        let reads: Vec<_> = hedged.reads().iter().map(|index| index.get()).collect();
        assert_eq!(reads, [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        assert!(hedged.survives(&ShardSet::from_iter([shard(1), shard(11)])).unwrap());
        assert!(!hedged.survives(&ShardSet::from_iter([shard(1), shard(4), shard(11)])).unwrap());
        assert!(hedged.to_string().ends_with("at cost 10, the least; 2 spare: 12 13"), "{hedged}");
        // Local first: six reads, which one spare does not protect, and six more do.
        let lrc = code("lrc:12,2,2");
        let hedge = |reads| lrc.plan_hedged(&lost, &lost.complement(16), &Costs::uniform(), reads).unwrap();
        let (one, absent) = (hedge(7), ShardSet::from_iter([shard(1)]));
        assert_eq!((one.reads().len(), one.least().cost(), one.survives(&absent)), (7, 6, Ok(false)));
        assert_eq!(hedge(14).survives(&absent), Ok(true));
        assert_eq!(hedge(100).reads().len(), 15);
    }
}
