//! How to make the fragments that are needed from those that can be read, with the fewest bytes.

use crate::node::Body;
use bytes::BytesMut;
use ec_core::kernel::Kernel;
use ec_core::{Code, DecodeError, RepairPlan, ShardIndex, ShardSet};
use std::collections::BTreeMap;

/// What to read, what to compute from it, and what to pass on as it is.
#[derive(Debug)]
pub(super) struct Recipe {
    /// Fragments to read.
    pub(super) reads: ShardSet,
    plan: Option<RepairPlan>,
    /// Targets that another disk still has.
    copies: ShardSet,
}

impl Recipe {
    /// The recipe with the fewest reads for `targets` from `available`. A target that is available elsewhere may be copied.
    pub(super) fn new(code: &Code, targets: &ShardSet, available: &ShardSet) -> Result<Self, DecodeError> {
        let copies: ShardSet = targets.iter().filter(|index| available.contains(*index)).collect();
        let rebuilt: ShardSet = targets.iter().filter(|index| !copies.contains(*index)).collect();
        let all_rebuilt = Self::with_copies(code, targets, &ShardSet::EMPTY, available);
        if copies.is_empty() {
            return all_rebuilt;
        }
        let copied = Self::with_copies(code, &rebuilt, &copies, available);
        match (copied, all_rebuilt) {
            (Ok(copied), Ok(rebuilt)) if rebuilt.reads.len() < copied.reads.len() => Ok(rebuilt),
            (Ok(copied), _) => Ok(copied),
            (Err(_), rebuilt) => rebuilt,
        }
    }

    fn with_copies(
        code: &Code,
        rebuilt: &ShardSet,
        copies: &ShardSet,
        available: &ShardSet,
    ) -> Result<Self, DecodeError> {
        let plan = if rebuilt.is_empty() { None } else { Some(code.plan(rebuilt, available)?) };
        let planned = plan.iter().flat_map(|plan| plan.reads().iter().copied());
        let reads = planned.chain(copies.iter()).collect();
        Ok(Self { reads, plan, copies: *copies })
    }

    /// The only target and what each of its sources is multiplied by, where the sources could add up by themselves: nothing is
    /// copied, and more than one is read.
    pub(super) fn chain(&self) -> Option<(u16, Vec<(u16, u8)>)> {
        let plan = self.plan.as_ref().filter(|plan| self.copies.is_empty() && plan.reads().len() > 1)?;
        let [target] = plan.rebuilds() else { return None };
        let sum = plan.partial(&plan.reads().iter().copied().collect()).ok()?;
        let share = |(column, index): (usize, &ShardIndex)| (index.get(), sum.coefficients().get(0, column));
        Some((target.get(), sum.helpers().iter().enumerate().map(share).collect()))
    }

    /// The targets' pieces from those of the fragments read.
    pub(super) fn run(&self, have: &BTreeMap<u16, Body>, bytes: usize) -> Result<BTreeMap<u16, Body>, DecodeError> {
        let mut made = BTreeMap::new();
        for index in self.copies.iter() {
            let body = have.get(&index.get()).ok_or(DecodeError::MissingInput { index })?;
            made.insert(index.get(), body.clone());
        }
        let Some(plan) = &self.plan else { return Ok(made) };
        let inputs: Vec<(ShardIndex, &[u8])> =
            have.iter().map(|(index, body)| (ShardIndex::new(*index), &body[..])).collect();
        let mut outputs: Vec<(ShardIndex, BytesMut)> =
            plan.rebuilds().iter().map(|index| (*index, BytesMut::zeroed(bytes))).collect();
        let mut targets: Vec<(ShardIndex, &mut [u8])> =
            outputs.iter_mut().map(|(index, buffer)| (*index, &mut buffer[..])).collect();
        plan.run(&inputs, &mut targets)?;
        made.extend(outputs.into_iter().map(|(index, buffer)| (index.get(), buffer.freeze())));
        Ok(made)
    }
}

/// Fragments that a repair of `targets` reads from `available`; none where it cannot be done.
pub(crate) fn reads_of(code: &Code, targets: &ShardSet, available: &ShardSet) -> Option<ShardSet> {
    Recipe::new(code, targets, available).ok().map(|recipe| recipe.reads)
}

/// The same code, computed another way.
pub(super) fn by_another_kernel(code: &Code) -> Option<Code> {
    let another: Kernel = code.kernel().another();
    Code::with_kernel(code.spec(), another).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(indexes: &[u16]) -> ShardSet {
        indexes.iter().copied().map(ShardIndex::new).collect()
    }

    #[test]
    fn a_fragment_that_is_elsewhere_is_copied_unless_that_reads_more() {
        let code = Code::new(&"lrc:12,2,2".parse().unwrap()).unwrap();
        let all = ShardSet::first(16);
        let alone = Recipe::new(&code, &set(&[3]), &all).unwrap();
        assert_eq!((alone.reads, alone.plan.is_none()), (set(&[3]), true));
        // 3 is lost for good: its group is read. 15 would cost one read more; from the twelve it would cost six more.
        let mut available = all;
        available.remove(ShardIndex::new(3));
        assert_eq!(Recipe::new(&code, &set(&[3, 15]), &available).unwrap().reads, set(&[0, 1, 2, 4, 5, 12, 15]));
        // All twelve data shards are read for 14; 15 comes from the same.
        available = all;
        available.remove(ShardIndex::new(14));
        assert_eq!(Recipe::new(&code, &set(&[14, 15]), &available).unwrap().reads, ShardSet::first(12));
    }
}
