//! Which extents are audited, and when: each placement group at its own moment of a pass, one in so many of its extents, drawn by
//! hash.
//!
//! Nothing of it is written down. The number of the first pass is drawn anew in every life of the daemon, and so are the moments:
//! however often it starts, each extent has the same chance per time.

use crate::id::{ExtentKey, PgId, RecordHash};
use crate::rng::Dice;
use crate::time::{Millis, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Extents looked at in one turn: a fraction of a millisecond.
const LOOKS_MAX: usize = 10_000;

/// Whether an extent is audited in this pass.
pub(super) fn is_drawn(extent: ExtentKey, pass: u64, one_in: u64) -> bool {
    let folded = (extent.0 >> 64) as u64 ^ extent.0 as u64;
    one_in > 0 && Dice::new(pass).child("audited extent", folded).below(one_in) == 0
}

/// The placement groups of one pass that were not begun with.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) number: u64,
    ends: Time,
    due: BTreeSet<(Time, PgId)>,
}

impl Pass {
    /// Groups that come later take part in the next one.
    pub(super) fn begin(number: u64, now: Time, period: Millis, groups: impl Iterator<Item = PgId>) -> Self {
        let moment = |pg: PgId| now + Millis(Dice::new(number).child("audited group", u64::from(pg.0)).below(period.0));
        Self { number, ends: now + period, due: groups.map(|pg| (moment(pg), pg)).collect() }
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        self.ends <= now && self.due.is_empty()
    }

    /// A group whose moment has come.
    pub(super) fn pop(&mut self, now: Time) -> Option<PgId> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first().map(|(_, pg)| pg)
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Time {
        self.due.first().map_or(self.ends, |(at, _)| *at)
    }
}

/// What is known of a group's extents.
pub(super) enum Listed<'a> {
    /// There is no such group.
    Gone,
    /// Its list is not proven yet.
    Unready,
    List(&'a BTreeMap<ExtentKey, RecordHash>),
}

/// What comes next on a walk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Extent(ExtentKey),
    /// There is more to look at, in another turn.
    More,
    /// Nothing, until groups are added or become ready.
    Nothing,
}

/// A walk over the extents of placement groups, one group after the other.
#[derive(Debug, Default)]
pub(super) struct Walk {
    groups: VecDeque<PgId>,
    /// The last extent of the first group that was looked at.
    after: Option<ExtentKey>,
}

impl Walk {
    /// Adds a group, unless it is still to come.
    pub(super) fn add(&mut self, pg: PgId) {
        let begun = usize::from(self.after.is_some());
        if !self.groups.iter().skip(begun).any(|waiting| *waiting == pg) {
            self.groups.push_back(pg);
        }
    }

    /// The groups that are not walked to their end.
    pub(super) fn groups(&self) -> impl Iterator<Item = PgId> {
        self.groups.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The next extent that is wanted. Groups that are not ready are put behind the others.
    pub(super) fn step<'a>(&mut self, listed: impl Fn(PgId) -> Listed<'a>, wanted: impl Fn(ExtentKey) -> bool) -> Step {
        let (mut looks, mut unready) = (0, 0);
        while let Some(pg) = self.groups.front().copied().filter(|_| unready < self.groups.len()) {
            let list = match listed(pg) {
                Listed::List(list) => list,
                Listed::Gone => {
                    self.pop();
                    continue;
                }
                Listed::Unready => {
                    self.pop();
                    self.groups.push_back(pg);
                    unready += 1;
                    continue;
                }
            };
            let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
            for extent in list.range((from, Bound::Unbounded)).map(|(extent, _)| *extent) {
                if looks == LOOKS_MAX {
                    return Step::More;
                }
                looks += 1;
                self.after = Some(extent);
                if wanted(extent) {
                    return Step::Extent(extent);
                }
            }
            self.pop();
        }
        Step::Nothing
    }

    fn pop(&mut self) {
        self.groups.pop_front();
        self.after = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(numbers: impl IntoIterator<Item = u128>) -> BTreeMap<ExtentKey, RecordHash> {
        numbers.into_iter().map(|number| (ExtentKey(number), RecordHash([0; 32]))).collect()
    }

    #[test]
    fn one_in_so_many_is_drawn_and_every_pass_draws_others() {
        let drawn = |pass: u64, one_in: u64| -> BTreeSet<u128> {
            (0..20_000u128).filter(|number| is_drawn(ExtentKey(number << 20 | 7), pass, one_in)).collect()
        };
        assert!(drawn(1, 0).is_empty() && drawn(1, 1).len() == 20_000);
        let (one, two) = (drawn(1, 100), drawn(2, 100));
        assert!((140..260).contains(&one.len()) && (140..260).contains(&two.len()), "{} {}", one.len(), two.len());
        assert!(one.intersection(&two).count() < 15);
        assert_eq!(one, drawn(1, 100), "by nothing but extent and pass");
    }

    #[test]
    fn groups_are_spread_over_a_pass_each_once() {
        let (period, began) = (Millis(1_000_000), Time::from_millis(77));
        let mut pass = Pass::begin(5, began, period, (0..1_000).map(PgId));
        assert!(!pass.is_over(began));
        let mut seen = BTreeSet::new();
        for quarter in 1..=4 {
            let now = began + Millis(quarter * period.0 / 4);
            let before = seen.len();
            while let Some(pg) = pass.pop(now) {
                assert!(seen.insert(pg));
            }
            assert!((180..320).contains(&(seen.len() - before)), "{} in quarter {quarter}", seen.len() - before);
        }
        assert_eq!(seen.len(), 1_000);
        assert!(pass.is_over(began + period) && !pass.is_over(began + Millis(period.0 - 1)));
        assert_eq!(pass.next(), began + period);
    }

    #[test]
    fn a_walk_gives_every_wanted_extent_once_whatever_comes_between() {
        let mut list = extents(1..=5);
        let mut walk = Walk::default();
        [1, 9, 1].into_iter().for_each(|pg| walk.add(PgId(pg)));
        assert_eq!(walk.groups.len(), 2);
        let odd = |extent: ExtentKey| extent.0 % 2 == 1;
        let step = |walk: &mut Walk, list: &BTreeMap<ExtentKey, RecordHash>, ready: bool| {
            let listed = |pg: PgId| match (pg, ready) {
                (PgId(1), true) => Listed::List(list),
                (PgId(1), false) => Listed::Unready,
                _ => Listed::Gone,
            };
            // The list lives as long as this call.
            walk.step(listed, odd)
        };
        assert_eq!(step(&mut walk, &list, false), Step::Nothing);
        assert_eq!(step(&mut walk, &list, true), Step::Extent(ExtentKey(1)));
        list.remove(&ExtentKey(3));
        list.insert(ExtentKey(7), RecordHash([0; 32]));
        // Asked for again while it is under way: once more from the start.
        walk.add(PgId(1));
        assert_eq!(step(&mut walk, &list, true), Step::Extent(ExtentKey(5)));
        for expected in [7, 1, 5, 7] {
            assert_eq!(step(&mut walk, &list, true), Step::Extent(ExtentKey(expected)));
        }
        assert_eq!((step(&mut walk, &list, true), walk.is_empty()), (Step::Nothing, true));
    }

    #[test]
    fn a_long_list_takes_more_than_one_turn() {
        let list = extents(0..25_000);
        let mut walk = Walk::default();
        walk.add(PgId(1));
        let mut step = || walk.step(|_| Listed::List(&list), |extent| extent.0 == 24_999);
        assert_eq!(
            [step(), step(), step(), step()],
            [Step::More, Step::More, Step::Extent(ExtentKey(24_999)), Step::Nothing]
        );
    }
}
