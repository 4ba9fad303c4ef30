//! Which disks may serve which index.
//!
//! One fragment per fault domain where there are domains enough. With fewer, a placement group may be *crowded*: no domain holds
//! more fragments than the code surely survives the loss of. Anything else is refused, with the numbers.

use crate::id::DiskId;
use crate::rng::Dice;
use ec_core::CodeSpec;
use std::collections::BTreeMap;

/// A disk that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The disk.
    pub disk: DiskId,
    /// Its fault domain, at the level that counts.
    pub domain: &'a str,
    /// Placement groups it belongs to already.
    pub slots: u32,
}

/// Members of a new placement group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// By index.
    pub members: Vec<DiskId>,
    /// Whether some share a fault domain.
    pub crowded: bool,
}

/// Nowhere to put it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Too few fault domains for any code.
    #[error("{domains} fault domains have a healthy disk; the smallest code, replicate:3, needs 3")]
    TooFew {
        /// Domains with a healthy disk.
        domains: usize,
    },
    /// Too few for this one.
    #[error(
        "{needed} fragments are to be placed, at most {most} in a fault domain; there are {disks} healthy disks in {domains} domains"
    )]
    NoRoom {
        /// Fragments.
        needed: usize,
        /// What a domain may hold.
        most: usize,
        /// Healthy disks.
        disks: usize,
        /// Domains with a healthy disk.
        domains: usize,
    },
    /// No disk for one index.
    #[error(
        "none of {disks} healthy disks outside the placement group is in a fault domain that may hold one more fragment"
    )]
    NoReplacement {
        /// Healthy disks outside the group.
        disks: usize,
    },
}

/// Codes by the fewest fault domains each needs, the widest first.
const CODES: [(usize, &str); 5] =
    [(16, "lrc:12,2,2"), (14, "rs:10+4"), (9, "rs:6+3"), (6, "rs:4+2"), (3, "replicate:3")];

/// The code for so many fault domains, of which up to two are left spare: a lost domain's fragments need somewhere to go.
///
/// # Errors
/// [`NoPlace::TooFew`].
pub fn choose_code(domains: usize) -> Result<CodeSpec, NoPlace> {
    let usable = domains - domains.saturating_sub(3).min(2);
    CODES
        .iter()
        .find(|(least, _)| usable >= *least)
        .and_then(|(_, spec)| spec.parse().ok())
        .ok_or(NoPlace::TooFew { domains })
}

/// How many fragments a fault domain may hold.
pub(crate) fn most_per_domain(tolerance: usize, may_crowd: bool) -> usize {
    if may_crowd { tolerance.max(1) } else { 1 }
}

/// Disks for `needed` indexes: those with the fewest slots, ties by dice, over as many fault domains as there are.
///
/// # Errors
/// [`NoPlace::NoRoom`] where that cannot be done with one fragment per domain or, where the group may be crowded, with as many as
/// the code surely tolerates the loss of.
pub fn place(
    candidates: &[Candidate<'_>],
    needed: usize,
    tolerance: usize,
    may_crowd: bool,
    dice: &mut Dice,
) -> Result<Placed, NoPlace> {
    let mut pool = candidates.to_vec();
    dice.shuffle(&mut pool);
    pool.sort_by_key(|candidate| candidate.slots);
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    let mut members = Vec::with_capacity(needed);
    let most = most_per_domain(tolerance, may_crowd);
    for quota in 1..=most {
        pool.retain(|candidate| {
            let held = held.entry(candidate.domain).or_default();
            if members.len() == needed || *held >= quota {
                return true;
            }
            *held += 1;
            members.push(candidate.disk);
            false
        });
    }
    if members.len() < needed {
        return Err(NoPlace::NoRoom { needed, most, disks: candidates.len(), domains: held.len() });
    }
    // Which disk gets data and which parity is chance, too: reads of whole extents go to data first.
    dice.shuffle(&mut members);
    Ok(Placed { members, crowded: held.values().any(|held| *held > 1) })
}

/// A disk to take one index over, from disks outside the group. `others`: the fault domains of the members that stay.
///
/// # Errors
/// [`NoPlace::NoReplacement`].
pub fn replacement(
    candidates: &[Candidate<'_>],
    others: &[&str],
    tolerance: usize,
    may_crowd: bool,
    dice: &mut Dice,
) -> Result<DiskId, NoPlace> {
    let mut pool = candidates.to_vec();
    dice.shuffle(&mut pool);
    let held = |candidate: &Candidate<'_>| others.iter().filter(|domain| **domain == candidate.domain).count();
    pool.iter()
        .filter(|candidate| held(candidate) < most_per_domain(tolerance, may_crowd))
        .min_by_key(|candidate| (held(candidate), candidate.slots))
        .map(|candidate| candidate.disk)
        .ok_or(NoPlace::NoReplacement { disks: candidates.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(domains: &[(&'static str, u32)]) -> Vec<Candidate<'static>> {
        let candidate = |(at, (domain, slots)): (usize, &(&'static str, u32))| Candidate {
            disk: DiskId(at as u128 + 1),
            domain,
            slots: *slots,
        };
        domains.iter().enumerate().map(candidate).collect()
    }

    fn domain_of<'a>(pool: &[Candidate<'a>], disk: DiskId) -> &'a str {
        pool.iter().find(|candidate| candidate.disk == disk).unwrap().domain
    }

    #[test]
    fn codes_leave_up_to_two_domains_spare() {
        let chosen = |domains| choose_code(domains).map(|spec| spec.to_string()).map_err(|error| error.to_string());
        for (domains, code) in [
            (3, "replicate:3"),
            (4, "replicate:3"),
            (7, "replicate:3"),
            (8, "rs:4+2"),
            (10, "rs:4+2"),
            (11, "rs:6+3"),
            (15, "rs:6+3"),
            (16, "rs:10+4"),
            (17, "rs:10+4"),
            (18, "lrc:12,2,2"),
            (400, "lrc:12,2,2"),
        ] {
            assert_eq!(chosen(domains), Ok(code.into()), "{domains} domains");
        }
        for domains in 0..3 {
            assert_eq!(choose_code(domains), Err(NoPlace::TooFew { domains }));
        }
    }

    #[test]
    fn a_group_takes_one_disk_per_domain_and_those_with_fewest_slots() {
        let pool = candidates(&[("a", 5), ("a", 1), ("b", 0), ("c", 9), ("d", 0), ("e", 2)]);
        for seed in 0..50 {
            let placed = place(&pool, 4, 2, false, &mut Dice::new(seed)).unwrap();
            let mut disks: Vec<u128> = placed.members.iter().map(|disk| disk.0).collect();
            disks.sort_unstable();
            assert_eq!((disks, placed.crowded), (vec![2, 3, 5, 6], false));
        }
    }

    #[test]
    fn ties_and_indexes_are_given_by_dice() {
        let pool = candidates(&[("a", 0), ("b", 0), ("c", 0), ("d", 0), ("e", 0)]);
        let drawn: Vec<_> =
            (0..200).map(|seed| place(&pool, 3, 1, false, &mut Dice::new(seed)).unwrap().members).collect();
        for disk in 1..=5 {
            assert!(drawn.iter().any(|members| members[0] == DiskId(disk)));
            assert!(drawn.iter().any(|members| !members.contains(&DiskId(disk))));
        }
        assert_eq!(drawn[7], place(&pool, 3, 1, false, &mut Dice::new(7)).unwrap().members);
    }

    #[test]
    fn crowding_stays_within_the_tolerance_and_needs_leave() {
        let pool = candidates(&[("a", 0), ("a", 0), ("a", 0), ("b", 0), ("b", 0), ("b", 0), ("c", 0), ("c", 0)]);
        assert_eq!(
            place(&pool, 6, 2, false, &mut Dice::new(1)),
            Err(NoPlace::NoRoom { needed: 6, most: 1, disks: 8, domains: 3 })
        );
        let placed = place(&pool, 6, 2, true, &mut Dice::new(1)).unwrap();
        assert!(placed.crowded);
        for domain in ["a", "b", "c"] {
            let held = placed.members.iter().filter(|disk| domain_of(&pool, **disk) == domain).count();
            assert_eq!(held, 2, "{domain}");
        }
        // Seven fragments in three domains would put three into one.
        assert!(place(&pool, 7, 2, true, &mut Dice::new(1)).is_err());
        assert!(!place(&pool, 3, 2, true, &mut Dice::new(1)).unwrap().crowded);
    }

    #[test]
    fn a_replacement_keeps_the_rule() {
        let pool = candidates(&[("a", 0), ("b", 3), ("d", 7), ("e", 6)]);
        let chosen = |others: &[&str], tolerance, may_crowd| {
            replacement(&pool, others, tolerance, may_crowd, &mut Dice::new(3)).map(|disk| disk.0)
        };
        assert_eq!(chosen(&["a", "b", "c"], 2, true), Ok(4), "an empty domain before a shared one");
        assert_eq!(chosen(&["a", "b", "d", "e"], 2, false), Err(NoPlace::NoReplacement { disks: 4 }));
        assert_eq!(chosen(&["a", "b", "d", "e"], 2, true), Ok(1));
        assert_eq!(chosen(&["a", "a", "b", "d", "e"], 2, true), Ok(2));
        assert_eq!(
            chosen(&["a", "a", "b", "b", "d", "d", "e", "e"], 2, true),
            Err(NoPlace::NoReplacement { disks: 4 })
        );
    }
}
