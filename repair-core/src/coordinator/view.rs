//! What a placement group looks like: which extents lack what, and how near they are to loss.

use crate::catalog::PgState;
use crate::id::{DiskId, ExtentKey};
use crate::pg::{Owner, SlotView};
use crate::risk::{RiskTable, shard_set};
use crate::time::Time;
use ec_core::ShardSet;
use std::collections::{BTreeMap, BTreeSet};

/// An extent some reachable disks need fragments of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NeedView {
    /// Index and disk.
    pub(super) targets: Vec<(u16, DiskId)>,
    /// Further losses it surely survives; none where it cannot be decoded now.
    pub(super) margin: Option<usize>,
    /// The same in whole fault domains, which decides its turn. Less where one domain has more than one fragment.
    pub(super) margin_in_domains: Option<usize>,
    /// Indexes of which no reachable disk has a fragment.
    pub(super) lost: ShardSet,
    /// Since when something is needed.
    pub(super) since: Time,
    /// Reads asked for since then that have to decode it, or wait.
    pub(super) blocked_reads: u32,
    /// From when on it may rest a moment for more losses to become known: that is `since`, or the end of a lazy wait.
    pub(super) rests_from: Time,
    /// From when on it waits for its turn: the same, where it was not let wait. While it is let wait, the end of that.
    pub(super) turn_from: Time,
}

/// A placement group, counted at one moment from its owner's slots.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupView {
    /// Whether the owner has proven its list.
    pub(super) ready: bool,
    /// Extents on the list; by the row where the list is not proven.
    pub(super) extents: u64,
    /// Extents by margin, unreachable disks counted as lost.
    pub(super) by_margin: BTreeMap<Option<usize>, u64>,
    /// The least margin of any extent in whole fault domains, none of one that cannot be decoded; none of no extents.
    pub(super) least_in_domains: Option<Option<usize>>,
    /// What is to be built.
    pub(super) needs: BTreeMap<ExtentKey, NeedView>,
    /// Whether no extent can be decoded.
    pub(super) all_unavailable: bool,
    /// Those that cannot be decoded, where others can.
    pub(super) unavailable: BTreeSet<ExtentKey>,
    /// Whether every disk that could hold something has said what it holds.
    pub(super) all_answered: bool,
    /// Disks of slots that do not answer the owner.
    pub(super) unreachable: BTreeSet<DiskId>,
    /// Whether everything is where it belongs, by a recount.
    pub(super) full: bool,
    /// Disks of slots that have not been counted (again) yet.
    pub(super) uncounted: BTreeSet<DiskId>,
    /// Extents that some disk is known to lack.
    pub(super) lacking: u64,
}

/// What of a group counts for all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) full: bool,
    pub(super) extents: u64,
    pub(super) unavailable: u64,
}

impl GroupView {
    pub(super) fn counts(&self) -> Counts {
        Counts { full: self.full, extents: self.extents, unavailable: self.unavailable_count() }
    }

    /// `domain_of` names the fault domain that a disk stands in.
    pub(super) fn of<'a>(
        owner: &Owner,
        before: &Self,
        now: Time,
        risk: &mut RiskTable,
        domain_of: impl Fn(DiskId) -> Option<&'a str>,
    ) -> Self {
        let Some(row) = owner.row() else { return Self::default() };
        let mut view = Self { ready: owner.is_ready(), extents: row.count, ..Self::default() };
        let slots = owner.slots();
        view.unreachable = slots.iter().filter(|slot| !slot.reachable).map(|slot| slot.disk).collect();
        if !view.ready {
            view.all_unavailable = row.count > 0;
            return view;
        }
        view.extents = owner.list().len() as u64;
        view.uncounted = slots.iter().filter(|slot| slot.missing.is_none()).map(|slot| slot.disk).collect();
        view.all_answered = slots.iter().all(|slot| slot.reachable && slot.missing.is_some());
        let lacking: BTreeSet<ExtentKey> =
            slots.iter().filter_map(|slot| slot.missing.as_ref()).flatten().copied().collect();
        view.lacking = lacking.len() as u64;
        let domains = Domains::of(&slots, domain_of);
        let indexes = row.members.len();
        // What of an extent is lost, and its margins by fragments and in domains; with none given, of one that nobody reports missing.
        let mut margins_of = |extent: Option<ExtentKey>| {
            let lost = lost_of(&slots, indexes, extent);
            let margin = risk.margin(&row.code, &lost);
            let in_domains = match domains.of_extent(&slots, indexes, extent) {
                Some(domains) => risk.margin_in_domains(&row.code, &lost, &domains),
                None => margin,
            };
            (lost, margin, in_domains)
        };
        let mut least = Vec::new();
        let (_, usual, usual_in_domains) = margins_of(None);
        view.all_unavailable = usual.is_none() && view.extents > 0;
        let mut special = 0;
        for extent in lacking.iter().filter(|extent| owner.listed(**extent).is_some()) {
            let (_, margin, in_domains) = margins_of(Some(*extent));
            *view.by_margin.entry(margin).or_default() += 1;
            least.push(in_domains);
            if margin.is_none() && !view.all_unavailable {
                view.unavailable.insert(*extent);
            }
            special += 1;
        }
        if view.extents > special {
            *view.by_margin.entry(usual).or_default() += view.extents - special;
            least.push(usual_in_domains);
        }
        view.least_in_domains = least.into_iter().min();
        for need in owner.needs() {
            let entry = view.needs.entry(need.extent).or_insert_with(|| {
                let (lost, margin, margin_in_domains) = margins_of(Some(need.extent));
                let known = before.needs.get(&need.extent);
                let (since, rests_from) = known.map_or((now, now), |need| (need.since, need.rests_from));
                let turn_from = known.map_or(now, |need| need.turn_from);
                let blocked_reads = known.map_or(0, |need| need.blocked_reads);
                NeedView {
                    targets: Vec::new(),
                    margin,
                    margin_in_domains,
                    lost,
                    since,
                    blocked_reads,
                    rests_from,
                    turn_from,
                }
            });
            entry.targets.push((need.index, need.disk));
        }
        view.full = row.state == PgState::Open
            && row.behind.is_empty()
            && row.joining.is_empty()
            && view.needs.is_empty()
            && slots
                .iter()
                .all(|slot| slot.reachable && slot.counted && slot.missing.as_ref().is_some_and(BTreeSet::is_empty));
        view
    }

    pub(super) fn unavailable_count(&self) -> u64 {
        if self.all_unavailable { self.extents } else { self.unavailable.len() as u64 }
    }

    pub(super) fn is_unavailable(&self, extent: ExtentKey) -> bool {
        self.all_unavailable || self.unavailable.contains(&extent)
    }
}

/// The fault domains of a group's slots, as numbers.
struct Domains {
    of_slot: Vec<u16>,
    /// Whether two indexes share one.
    is_crowded: bool,
}

impl Domains {
    fn of<'a>(slots: &[SlotView], domain_of: impl Fn(DiskId) -> Option<&'a str>) -> Self {
        let mut numbers: BTreeMap<String, u16> = BTreeMap::new();
        let mut first_index: BTreeMap<u16, u16> = BTreeMap::new();
        let (mut of_slot, mut is_crowded) = (Vec::with_capacity(slots.len()), false);
        for slot in slots {
            // A disk that stands nowhere known shares its fate with nobody.
            let name = domain_of(slot.disk).map_or_else(|| format!("disk {}", slot.disk), str::to_owned);
            let next = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
            let number = *numbers.entry(name).or_insert(next);
            is_crowded |= *first_index.entry(number).or_insert(slot.index) != slot.index;
            of_slot.push(number);
        }
        Self { of_slot, is_crowded }
    }

    /// The domain of each index's fragment of an extent, with none given of one that nobody reports missing; none where all are apart. A fragment that two disks have counts where the first one
    /// stands.
    fn of_extent(&self, slots: &[SlotView], indexes: usize, extent: Option<ExtentKey>) -> Option<Vec<u16>> {
        if !self.is_crowded {
            return None;
        }
        let mut domains = vec![u16::MAX; indexes];
        for (slot, number) in slots.iter().zip(&self.of_slot).rev().filter(|(slot, _)| has(slot, extent)) {
            if let Some(domain) = domains.get_mut(usize::from(slot.index)) {
                *domain = *number;
            }
        }
        Some(domains)
    }
}

/// Indexes of which no reachable disk has the fragment of this extent; with none given, of an extent nobody reports missing.
pub(super) fn lost_of(slots: &[SlotView], indexes: usize, extent: Option<ExtentKey>) -> ShardSet {
    let held = shard_set(slots.iter().filter(|slot| has(slot, extent)).map(|slot| slot.index));
    held.complement(indexes)
}

/// Whether this slot's disk has the fragment and answers, as far as is known.
pub(super) fn has(slot: &SlotView, extent: Option<ExtentKey>) -> bool {
    slot.reachable
        && slot.missing.as_ref().is_some_and(|missing| extent.is_none_or(|extent| !missing.contains(&extent)))
}
