//! Plans that were made before, a bounded number of them.

use super::RepairPlan;
use crate::code::{Code, CodeSpec};
use crate::error::DecodeError;
use crate::shard::ShardSet;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps the plans used last, for readers that meet the same losses stripe after stripe. It may be shared between threads
/// and codes, and never holds more plans than it was made for: an unbounded one grows with every pattern of losses ever seen.
///
/// ```
/// use ec_core::{Code, PlanCache, ShardIndex, ShardSet};
///
/// let code = Code::new(&"rs:10+4".parse()?)?;
/// let cache = PlanCache::new(std::num::NonZeroUsize::new(64).unwrap());
/// let lost = ShardSet::from_iter([ShardIndex::new(2)]);
/// let plan = cache.plan(&code, &lost, &lost.complement(code.n()))?;
/// assert!(std::sync::Arc::ptr_eq(&plan, &cache.plan(&code, &lost, &lost.complement(code.n()))?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PlanCache {
    plans_max: NonZeroUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    plans: HashMap<Key, Entry>,
    uses: u64,
}

/// A plan depends on the code and its slot, the kernel that runs it, and both sets.
type Key = (CodeSpec, u16, &'static str, ShardSet, ShardSet);

#[derive(Debug)]
struct Entry {
    plan: Arc<RepairPlan>,
    last_use: u64,
}

impl PlanCache {
    /// An empty cache for at most so many plans.
    pub fn new(plans_max: NonZeroUsize) -> Self {
        Self { plans_max, kept: Mutex::default() }
    }

    /// The plan of [`Code::plan`], made now or before. Errors are not kept.
    ///
    /// # Errors
    /// As [`Code::plan`].
    pub fn plan(&self, code: &Code, lost: &ShardSet, available: &ShardSet) -> Result<Arc<RepairPlan>, DecodeError> {
        let key = (*code.spec(), code.slot(), code.kernel().name(), *lost, *available);
        if let Some(plan) = self.kept().get(&key) {
            return Ok(plan);
        }
        // Made without the lock: another thread may make the same one meanwhile, and one of the two is dropped.
        let plan = Arc::new(code.plan(lost, available)?);
        self.kept().insert(key, plan.clone(), self.plans_max.get());
        Ok(plan)
    }

    /// How many plans it holds now.
    pub fn len(&self) -> usize {
        self.kept().plans.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A thread that panicked with the lock leaves the map whole: nothing in between can panic but an allocation.
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn get(&mut self, key: &Key) -> Option<Arc<RepairPlan>> {
        self.uses += 1;
        let entry = self.plans.get_mut(key)?;
        entry.last_use = self.uses;
        Some(entry.plan.clone())
    }

    fn insert(&mut self, key: Key, plan: Arc<RepairPlan>, plans_max: usize) {
        if self.plans.len() >= plans_max
            && !self.plans.contains_key(&key)
            && let Some(oldest) = self.plans.iter().min_by_key(|(_, entry)| entry.last_use).map(|(key, _)| *key)
        {
            self.plans.remove(&oldest);
        }
        let last_use = self.uses;
        self.plans.insert(key, Entry { plan, last_use });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;
    use crate::shard::ShardIndex;

    fn lost(index: u16) -> ShardSet {
        ShardSet::from_iter([ShardIndex::new(index)])
    }

    #[test]
    fn codes_at_other_slots_have_plans_of_their_own() {
        let (spec, cache) = ("rs:4+2".parse().unwrap(), PlanCache::new(NonZeroUsize::new(8).unwrap()));
        let lost = ShardSet::first(1);
        let plans = [0, 1].map(|slot| {
            let code = Code::at_slot(&spec, slot).unwrap();
            let plan = cache.plan(&code, &lost, &lost.complement(6)).unwrap();
            assert_eq!(plan.coefficients(), code.plan(&lost, &lost.complement(6)).unwrap().coefficients());
            plan
        });
        assert_ne!(plans[0].coefficients(), plans[1].coefficients());
    }

    #[test]
    fn codes_by_other_kernels_have_plans_of_their_own() {
        let (spec, cache) = ("rs:4+2".parse().unwrap(), PlanCache::new(NonZeroUsize::new(8).unwrap()));
        let kernels = [Kernel::portable(), Kernel::portable().another()];
        for kernel in kernels.into_iter().chain(Kernel::available()) {
            let code = Code::with_kernel(&spec, kernel).unwrap();
            let plan = cache.plan(&code, &lost(0), &lost(0).complement(6)).unwrap();
            assert_eq!(plan.transform().kernel(), kernel);
        }
    }

    #[test]
    fn the_plan_used_longest_ago_goes_first_and_the_bound_holds() {
        let code = Code::new(&"rs:10+4".parse().unwrap()).unwrap();
        let cache = PlanCache::new(NonZeroUsize::new(3).unwrap());
        assert!(cache.is_empty());
        let plan = |index| cache.plan(&code, &lost(index), &lost(index).complement(14)).unwrap();
        let first = plan(0);
        plan(1);
        plan(2);
        assert!(Arc::ptr_eq(&first, &plan(0)));
        plan(3);
        assert_eq!(cache.len(), 3);
        assert!(Arc::ptr_eq(&first, &plan(0)), "used last, so kept");
        let kept = cache.kept().plans.keys().map(|key| key.3).collect::<Vec<_>>();
        assert!(!kept.contains(&lost(1)) && kept.contains(&lost(2)), "1 was used longest ago");
    }

    #[test]
    fn codes_do_not_share_plans_and_errors_are_not_kept() {
        let cache = PlanCache::new(NonZeroUsize::MIN);
        let (a, b) = ("rs:10+4".parse().unwrap(), "rs:10+4@cauchy".parse().unwrap());
        let (a, b) = (Code::new(&a).unwrap(), Code::new(&b).unwrap());
        let sets = (lost(0), lost(0).complement(14));
        let of_a = cache.plan(&a, &sets.0, &sets.1).unwrap();
        let of_b = cache.plan(&b, &sets.0, &sets.1).unwrap();
        assert_ne!(of_a.coefficients(), of_b.coefficients());
        assert_eq!(cache.len(), 1);
        assert!(cache.plan(&a, &lost(0), &lost(1)).is_err());
        assert!(Arc::ptr_eq(&of_b, &cache.plan(&b, &sets.0, &sets.1).unwrap()), "an error pushes nothing out");
    }
}
