//! What must hold of a cell beside the commit protocol: where fragments stand, and what a daemon says of it all.

use super::{Invariant, Violation, hold};
use crate::catalog::PgRow;
use crate::id::DiskId;
use std::collections::BTreeMap;

/// In a cell at rest no fault domain has more indexes of a group than the code surely loses, and two have one domain only where the row says
/// so. In between take-overs that are given up may bring more together.
///
/// # Errors
/// [`Invariant::PlacedApart`].
pub fn placed_apart<D: Ord + std::fmt::Debug>(
    row: &PgRow,
    tolerance: usize,
    domain_of: impl Fn(DiskId) -> Option<D>,
) -> Result<(), Violation> {
    let mut held: BTreeMap<D, usize> = BTreeMap::new();
    for (index, member) in (0u16..).zip(&row.members) {
        if let Some(domain) = domain_of(*row.joining.get(&index).unwrap_or(member)) {
            *held.entry(domain).or_default() += 1;
        }
    }
    let bound = if row.crowded { tolerance.max(1) } else { 1 };
    let fullest = held.iter().find(|(_, count)| **count > bound);
    hold(Invariant::PlacedApart, fullest.is_none(), || {
        format!("pg {} seq {}: more than {bound} indexes in one domain: {fullest:?}", row.pg, row.seq)
    })
}

/// What a daemon counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Extents on file.
    pub extents: u64,
    /// Extents by margin.
    pub by_margin: BTreeMap<usize, u64>,
    /// Extents that cannot be read.
    pub unavailable: u64,
    /// Repairs that wait or run.
    pub repairs: u64,
}

/// Counters of a daemon at rest are what a recount gives: as many extents as there are, each with one margin, and no repair where nothing is
/// lacking.
///
/// # Errors
/// [`Invariant::CountersAgree`].
pub fn counters_agree(counters: &Counters, extents: u64, lacking: u64) -> Result<(), Violation> {
    let by_margin: u64 = counters.by_margin.values().sum();
    let agree = counters.extents == extents && by_margin + counters.unavailable == extents;
    hold(Invariant::CountersAgree, agree && counters.repairs == lacking, || {
        format!("{extents} extents, {lacking} of them lack something, and the daemon counts {counters:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(members: &[u128], joining: &[(u16, u128)], crowded: bool) -> PgRow {
        PgRow {
            members: members.iter().copied().map(DiskId).collect(),
            joining: joining.iter().map(|(index, disk)| (*index, DiskId(*disk))).collect(),
            crowded,
            ..crate::invariant::tests::row()
        }
    }

    /// Disks of ten stand in one domain.
    fn domain(disk: DiskId) -> Option<&'static str> {
        ["a", "b", "c"].get((disk.0 / 10) as usize).copied()
    }

    #[test]
    fn a_domain_has_no_more_than_may_be_lost_and_says_where_it_has_two() {
        let apart = |row: &PgRow, tolerance| placed_apart(row, tolerance, domain).is_ok();
        assert!(apart(&row(&[1, 11, 21], &[], false), 1));
        assert!(!apart(&row(&[1, 2, 21], &[], false), 2), "two, and the row does not say it");
        assert!(apart(&row(&[1, 2, 21], &[], true), 2));
        assert!(!apart(&row(&[1, 2, 21], &[], true), 1), "more than may be lost");
        assert!(!apart(&row(&[1, 11, 21], &[(1, 2)], false), 1), "by a take-over");
        assert!(apart(&row(&[1, 2, 21], &[(1, 12)], false), 1), "a take-over ends it");
    }

    #[test]
    fn counters_are_those_of_a_recount() {
        let sound = Counters { extents: 3, by_margin: [(2, 2), (1, 1)].into(), unavailable: 0, repairs: 1 };
        assert!(counters_agree(&sound, 3, 1).is_ok());
        for wrong in [
            Counters { extents: 4, ..sound.clone() },
            Counters { by_margin: [(2, 2)].into(), ..sound.clone() },
            Counters { unavailable: 1, ..sound.clone() },
            Counters { repairs: 0, ..sound.clone() },
        ] {
            assert!(counters_agree(&wrong, 3, 1).is_err(), "{wrong:?}");
        }
    }
}
