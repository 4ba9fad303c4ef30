//! What a code survives, by the rank of its rows.

use super::lrc::LocalGroup;
use super::{Code, shard};
use crate::code::counts::{binomial, random_subset};
use crate::code::rs::for_each_combination;
use crate::code::splitmix;
use crate::shard::{ShardIndex, ShardSet};

/// Patterns tested for the tolerance of a code that has no theorem: those of 3 losses in 228 shards, and of 8 in 24.
const TOLERANCE_PATTERNS_MAX: u128 = 2_000_000;

/// Maximal patterns that are all tested; of more, as many are drawn.
pub const MAXIMAL_PATTERNS_MAX: u128 = 1_000_000;

/// What the rank test over maximal patterns found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recoverability {
    /// Maximal patterns that were tested.
    pub tested: u64,
    /// Those among them that cannot be decoded.
    pub failing: u64,
    /// The first of those.
    pub example: Option<ShardSet>,
    /// Whether the patterns were drawn at random, [`MAXIMAL_PATTERNS_MAX`] of them, because there are more.
    pub sampled: bool,
}

impl Code {
    /// Tests by rank every maximal pattern of the groups: one loss in each, and as many more anywhere as there are parities
    /// beyond one a group. A code that decodes all of these decodes every loss that any code of these groups can decode
    /// (Gopalan et al. 2014). The groups are disjoint.
    pub fn verify_groups(&self, groups: &[LocalGroup]) -> Recoverability {
        let mut verdict = Recoverability { tested: 0, failing: 0, example: None, sampled: false };
        let mut parts: Vec<Vec<ShardIndex>> = groups.iter().map(|group| group.members().iter().collect()).collect();
        let grouped = groups.iter().fold(ShardSet::EMPTY, |all, group| all.union(&group.members()));
        parts.push(grouped.complement(self.n()).iter().collect());
        let spare = self.m().saturating_sub(groups.len());
        let mut test = |lost: &ShardSet| {
            verdict.tested += 1;
            if !self.decodable(lost) {
                verdict.failing += 1;
                verdict.example.get_or_insert(*lost);
            }
        };
        if maximal_patterns(&parts, spare).is_some_and(|count| count <= MAXIMAL_PATTERNS_MAX) {
            each_maximal(&parts, spare, ShardSet::EMPTY, &mut test);
        } else {
            let mut state = self.n() as u64;
            for _ in 0..MAXIMAL_PATTERNS_MAX {
                test(&draw_maximal(&parts, spare, self.n(), &mut state));
            }
            verdict.sampled = true;
        }
        verdict
    }

    /// Whether [`Code::verify_groups`] tests every maximal pattern of the code's own groups and finds none that fails. False, too,
    /// where there are more than it tests.
    pub(super) fn groups_are_proved(&self) -> bool {
        let members: Vec<usize> = self.groups().iter().map(LocalGroup::len).collect();
        let outside = self.n() - members.iter().sum::<usize>();
        let counts = maximal_count(&members, outside, self.m().saturating_sub(members.len()));
        counts.is_some_and(|count| count <= MAXIMAL_PATTERNS_MAX) && self.verify_groups(self.groups()).failing == 0
    }

    /// A pattern of one loss more than [`Code::guaranteed_tolerance`] that cannot be decoded, the first in order; `None` where it is not among
    /// the first 2,000,000 patterns.
    pub fn first_undecodable(&self) -> Option<ShardSet> {
        let losses = self.guaranteed_tolerance() + 1;
        let (mut found, mut left) = (None, TOLERANCE_PATTERNS_MAX);
        for_each_combination(self.n(), losses, |lost| {
            let lost: ShardSet = lost.iter().map(|&at| shard(at)).collect();
            if !self.decodable(&lost) {
                found = Some(lost);
            }
            left -= 1;
            found.is_none() && left > 0
        });
        found
    }

    /// The largest number of losses of which every pattern was found decodable, as far as
    /// [`TOLERANCE_PATTERNS_MAX`] patterns tell.
    pub(super) fn tested_tolerance(&self) -> usize {
        let mut left = TOLERANCE_PATTERNS_MAX;
        for losses in 1..=self.m() {
            let Some(patterns) = binomial(self.n(), losses).filter(|&patterns| patterns <= left) else {
                return losses - 1;
            };
            left -= patterns;
            let all = for_each_combination(self.n(), losses, |lost| {
                self.decodable(&lost.iter().map(|&at| shard(at)).collect())
            });
            if !all {
                return losses - 1;
            }
        }
        self.m()
    }
}

/// How many there are, None beyond 128 bits. The last part has no loss that is free.
fn maximal_patterns(parts: &[Vec<ShardIndex>], spare: usize) -> Option<u128> {
    let (outside, groups) = parts.split_last()?;
    maximal_count(&groups.iter().map(Vec::len).collect::<Vec<_>>(), outside.len(), spare)
}

fn maximal_count(groups: &[usize], outside: usize, spare: usize) -> Option<u128> {
    // By losses beyond the free ones.
    let mut counts = vec![0u128; spare + 1];
    counts[0] = 1;
    for (members, free) in groups.iter().map(|&members| (members, 1)).chain([(outside, 0)]) {
        let mut next = vec![0u128; spare + 1];
        for (used, &count) in counts.iter().enumerate() {
            for more in 0..=spare - used {
                let term = count.checked_mul(binomial(members, more + free)?)?;
                next[used + more] = next[used + more].checked_add(term)?;
            }
        }
        counts = next;
    }
    counts.last().copied()
}

fn each_maximal(parts: &[Vec<ShardIndex>], spare: usize, lost: ShardSet, test: &mut impl FnMut(&ShardSet)) {
    let Some((part, rest)) = parts.split_first() else {
        if spare == 0 {
            test(&lost);
        }
        return;
    };
    let free = usize::from(!rest.is_empty());
    for more in 0..=spare {
        // Only what the last part takes has to come out even.
        if rest.is_empty() && more < spare {
            continue;
        }
        for_each_combination(part.len(), more + free, |chosen| {
            let lost = lost.union(&chosen.iter().map(|&at| part[at]).collect());
            each_maximal(rest, spare - more, lost, test);
            true
        });
    }
}

/// One loss in each group, then others anywhere: not uniform, but every pattern has its chance.
fn draw_maximal(parts: &[Vec<ShardIndex>], spare: usize, n: usize, state: &mut u64) -> ShardSet {
    let groups = &parts[..parts.len() - 1];
    let mut lost: ShardSet =
        groups.iter().map(|group| group[(splitmix(state) % group.len() as u64) as usize]).collect();
    let rest: Vec<ShardIndex> = lost.complement(n).iter().collect();
    for at in random_subset(rest.len(), spare.min(rest.len()), state).iter() {
        lost.insert(rest[at.at()]);
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use crate::code::Guarantee;
    use crate::kernel::Kernel;

    fn code(spec: &str) -> Code {
        Code::with_kernel(&spec.parse().unwrap(), Kernel::portable()).unwrap()
    }

    /// By the theorem of each family; by these tests for the tables, which have no other proof.
    #[test]
    fn every_maximal_pattern_of_the_locally_repairable_codes_is_decoded() {
        for spec in [
            "lrc:6,2,1",
            "lrc:7,3,1",
            "lrc:6,2,2",
            "lrc:12,2,2",
            "lrc:14,2,2",
            "lrc:12,3,2",
            "lrc:7,3,2",
            "lrc:6,2,3",
            "lrc:9,2,3",
            "lrc:10,1,3",
            "lrc:9,3,3",
            "lrc:10,4,3",
            "lrc:10,5,3",
            "lrc:8,6,3",
            "lrc:6,2,4",
            "lrc:6,1,4",
            "lrc:7,3,4",
            "lrc:6,4,4",
            "lrc:6,5,4",
            "lrc:7,6,4",
            "lrc-uniform:12,2,2",
            "lrc-uniform:7,3,2",
            "lrc-uniform:8,2,1",
            "lrc-uniform:4,4,2",
        ] {
            let code = code(spec);
            let verdict = code.verify_groups(code.groups());
            assert!(verdict.failing == 0 && !verdict.sampled, "{spec}: {verdict:?}");
            assert!(verdict.tested > 10, "{spec}");
        }
    }

    /// The whole of every table, of which all shorter codes are parts.
    #[test]
    fn every_table_is_maximally_recoverable() {
        for (groups, globals) in (1..=6).flat_map(|groups| [(groups, 3), (groups, 4)]) {
            let k = super::super::lrc::table_members(groups, globals);
            let code = code(&format!("lrc:{k},{groups},{globals}"));
            let verdict = code.verify_groups(code.groups());
            assert!(verdict.failing == 0 && !verdict.sampled, "{}: {verdict:?}", code.spec());
        }
    }

    #[test]
    fn a_wrong_coefficient_is_found_and_named() {
        let right = code("lrc:6,2,2");
        let mut rows = right.generator().select_rows(&[6, 7, 8, 9]);
        rows.set(2, 4, rows.get(2, 1));
        rows.set(3, 4, rows.get(3, 1));
        let wrong = Code::from_parity_rows_with(&rows, Kernel::portable()).unwrap();
        let verdict = wrong.verify_groups(right.groups());
        let example = verdict.example.unwrap();
        assert!(verdict.failing > 0 && !wrong.decodable(&example) && right.decodable(&example));
        assert_eq!(verdict.tested, right.verify_groups(right.groups()).tested);
    }

    /// Groups that hold global parities cannot be seen in the rows; whoever knows them can have them judged.
    #[test]
    fn groups_that_are_told_are_judged() {
        let named = code("lrc-uniform:6,2,2");
        let parity: Vec<usize> = (6..10).collect();
        let imported =
            Code::from_parity_rows_with(&named.generator().select_rows(&parity), Kernel::portable()).unwrap();
        assert!(imported.groups().is_empty());
        let told: Vec<LocalGroup> = named
            .groups()
            .iter()
            .map(|group| LocalGroup::of_members(group.members(), group.parity()).unwrap())
            .collect();
        assert_eq!(imported.verify_groups(&told), named.verify_groups(named.groups()));
        assert_eq!(imported.verify_groups(&told).failing, 0);
        assert_eq!(LocalGroup::of_members(ShardSet::first(3), shard(3)), None);
        // No groups at all: any loss of as many as there are parities, which no LRC survives.
        assert!(imported.verify_groups(&[]).failing > 0);
    }

    #[test]
    fn patterns_are_counted_as_they_are_visited() {
        for spec in ["lrc:6,2,2", "lrc:7,3,2", "lrc-uniform:7,3,2", "lrc:6,2,3"] {
            let code = code(spec);
            let mut parts: Vec<Vec<ShardIndex>> =
                code.groups().iter().map(|group| group.members().iter().collect()).collect();
            let grouped = code.groups().iter().fold(ShardSet::EMPTY, |all, group| all.union(&group.members()));
            parts.push(grouped.complement(code.n()).iter().collect());
            let spare = code.m() - code.groups().len();
            let mut seen = std::collections::HashSet::new();
            each_maximal(&parts, spare, ShardSet::EMPTY, &mut |lost| {
                assert_eq!(lost.len(), code.m());
                assert!(seen.insert(*lost), "{lost:?} twice");
            });
            assert_eq!(Some(seen.len() as u128), maximal_patterns(&parts, spare), "{spec}");
            let mut state = 1;
            for _ in 0..1000 {
                assert!(seen.contains(&draw_maximal(&parts, spare, code.n(), &mut state)));
            }
        }
    }

    #[test]
    fn the_tolerance_that_is_tested_is_the_true_one() {
        for (spec, tolerance) in [("rs:4+2", 2), ("lrc:6,2,2", 3), ("xorbas", 4), ("replicate:3", 2)] {
            assert_eq!((code(spec).tested_tolerance(), code(spec).guaranteed_tolerance()), (tolerance, tolerance));
        }
        // C(100, 4) are too many to try: 3 are surely survived, where no theorem says more.
        let cauchy = |row: usize, column: usize| crate::gf::inverse((95 + row) as u8 ^ column as u8).unwrap();
        let judged = |rows| Code::from_parity_rows_with(&rows, Kernel::portable()).unwrap();
        let other = judged(Matrix::from_fn(
            5,
            95,
            |row, column| if row < 4 { cauchy(row, column) } else { 1 + column as u8 % 7 },
        ));
        assert_eq!((other.guarantee(), other.guaranteed_tolerance()), (Guarantee::Ranked, 3));
        let whole = judged(Matrix::from_fn(5, 95, cauchy));
        assert_eq!((whole.guarantee(), whole.guaranteed_tolerance()), (Guarantee::Mds, 5));
        assert_eq!(whole.evidence(), crate::code::Evidence::Theorem);
        // ISA-L's generator with three parities: by the rank of 1.4 million patterns.
        let power = judged(Matrix::from_fn(3, 200, |row, column| crate::gf::exp2(row * column)));
        assert_eq!((power.guarantee(), power.evidence()), (Guarantee::Mds, crate::code::Evidence::Tested));
    }
}
