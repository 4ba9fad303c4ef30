//! How many erasure patterns of each size a code survives.

use super::rs::for_each_combination;
use super::{Code, Guarantee, LocalGroup, shard};
use crate::shard::ShardSet;

/// Patterns drawn for a size of which not all are counted.
pub const SAMPLES: u128 = 20_000;

/// Patterns of one size that are all tested where nothing but their rank tells.
const TESTED_MAX: u128 = 200_000;

/// Erasure patterns of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternCount {
    /// Shards erased at once.
    pub erasures: usize,
    /// Patterns that can be decoded.
    pub decodable: u128,
    /// Patterns looked at: all there are, or the sample.
    pub total: u128,
    /// Whether only [`SAMPLES`] random patterns were looked at.
    pub sampled: bool,
}

impl PatternCount {
    /// The share of decodable patterns, from and to: the same where all were counted, else the interval that holds the
    /// true share with a probability of 95 % (Wilson 1927).
    pub fn share(&self) -> (f64, f64) {
        let (hits, total) = (self.decodable as f64, self.total as f64);
        if !self.sampled {
            return (hits / total, hits / total);
        }
        const Z: f64 = 1.959_964;
        let (share, spread) = (hits / total, Z * Z / total);
        let middle = (share + spread / 2.0) / (1.0 + spread);
        let half = Z / (1.0 + spread) * (share * (1.0 - share) / total + spread / (4.0 * total)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }
}

pub(super) fn pattern_counts(code: &Code) -> Vec<PatternCount> {
    counted(code.n(), code.m(), &exact_decodable(code), |lost| code.decodable(lost))
}

/// Of `1..=m` erasures: the exact counts where there are any, else by a sample.
pub(crate) fn counted(
    n: usize,
    m: usize,
    exact: &[Option<u128>],
    decodable: impl Fn(&ShardSet) -> bool,
) -> Vec<PatternCount> {
    (1..=m)
        .map(|erasures| match (binomial(n, erasures), exact.get(erasures)) {
            (Some(total), Some(Some(decodable))) => {
                PatternCount { erasures, decodable: *decodable, total, sampled: false }
            }
            _ => sample(n, erasures, &decodable),
        })
        .collect()
}

/// Decodable patterns by number of erasures, `None` where they cannot be counted.
fn exact_decodable(code: &Code) -> Vec<Option<u128>> {
    match code.guarantee() {
        Guarantee::Mds => mds_counts(code.n(), code.m()),
        Guarantee::MaximallyRecoverable => {
            let members: Vec<usize> = code.groups().iter().map(|group| group.len()).collect();
            maximally_recoverable_counts(code.n(), code.m(), &members)
        }
        Guarantee::Ranked => (0..=code.m()).map(|erasures| tested(code, erasures)).collect(),
    }
}

/// All of them.
pub(crate) fn mds_counts(n: usize, m: usize) -> Vec<Option<u128>> {
    (0..=m).map(|erasures| binomial(n, erasures)).collect()
}

fn tested(code: &Code, erasures: usize) -> Option<u128> {
    binomial(code.n(), erasures).filter(|&patterns| patterns <= TESTED_MAX)?;
    let mut decodable = 0;
    for_each_combination(code.n(), erasures, |lost| {
        decodable += u128::from(code.decodable(&lost.iter().map(|&at| shard(at)).collect()));
        true
    });
    Some(decodable)
}

/// A pattern is decodable exactly when the erasures beyond one per group, and those outside of groups, are at most as many as the
/// parities beyond one per group (Gopalan et al. 2014). Counted by a generating function over (erasures, excess). `groups` are
/// the members of each with its parity.
pub(crate) fn maximally_recoverable_counts(n: usize, m: usize, groups: &[usize]) -> Vec<Option<u128>> {
    let spare = m - groups.len();
    let outside = n - groups.iter().sum::<usize>();
    // counts[excess][erasures]
    let mut counts = vec![vec![Some(0u128); m + 1]; spare + 1];
    counts[0][0] = Some(1);
    let group_terms = groups.iter().map(|&members| (members, 1));
    for (members, free) in group_terms.chain([(outside, 0)]) {
        let mut next = vec![vec![Some(0u128); m + 1]; spare + 1];
        for (excess, row) in counts.iter().enumerate() {
            for (erasures, &count) in row.iter().enumerate() {
                for more in 0..=members.min(m - erasures) {
                    let Some(slot) = next.get_mut(excess + more.saturating_sub(free)) else { break };
                    let term = count.zip(binomial(members, more)).and_then(|(a, b)| a.checked_mul(b));
                    slot[erasures + more] = slot[erasures + more].zip(term).and_then(|(a, b)| a.checked_add(b));
                }
            }
        }
        counts = next;
    }
    (0..=m).map(|erasures| counts.iter().try_fold(0u128, |sum, row| sum.checked_add(row[erasures]?))).collect()
}

/// The largest number of erasures of which every pattern is decodable.
pub(super) fn grouped_tolerance(n: usize, m: usize, groups: &[LocalGroup]) -> usize {
    let members: Vec<usize> = groups.iter().map(LocalGroup::len).collect();
    let counts = maximally_recoverable_counts(n, m, &members);
    (1..=m).take_while(|&erasures| counts[erasures].is_some() && counts[erasures] == binomial(n, erasures)).count()
}

fn sample(n: usize, erasures: usize, is_decodable: impl Fn(&ShardSet) -> bool) -> PatternCount {
    let mut state = erasures as u64;
    let mut decodable = 0;
    for _ in 0..SAMPLES {
        decodable += u128::from(is_decodable(&random_subset(n, erasures, &mut state)));
    }
    PatternCount { erasures, decodable, total: SAMPLES, sampled: true }
}

/// So many of `0..n`, each subset as likely as another: Floyd's algorithm, one draw per member.
pub(super) fn random_subset(n: usize, members: usize, state: &mut u64) -> ShardSet {
    let mut set = ShardSet::EMPTY;
    for top in n - members..n {
        let drawn = shard((splitmix(state) % (top as u64 + 1)) as usize);
        set.insert(if set.contains(drawn) { shard(top) } else { drawn });
    }
    set
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for samples and check vectors, seeded by the caller.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

pub(super) fn binomial(n: usize, choose: usize) -> Option<u128> {
    if choose > n {
        return Some(0);
    }
    let mut result: u128 = 1;
    for step in 0..choose.min(n - choose) {
        result = result.checked_mul((n - step) as u128)? / (step as u128 + 1);
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;

    fn code(spec: &str) -> Code {
        Code::with_kernel(&spec.parse().unwrap(), Kernel::portable()).unwrap()
    }

    fn counted(spec: &str) -> Vec<(u128, u128)> {
        code(spec).pattern_counts().iter().map(|count| (count.decodable, count.total)).collect()
    }

    #[test]
    fn golden_counts() {
        assert_eq!(counted("lrc:6,2,2"), [(10, 10), (45, 45), (120, 120), (180, 210)]);
        assert_eq!(counted("lrc:12,2,2"), [(16, 16), (120, 120), (560, 560), (1568, 1820)]);
        assert_eq!(counted("rs:4+2"), [(6, 6), (15, 15)]);
        assert_eq!(counted("replicate:3"), [(3, 3), (3, 3)]);
        assert_eq!(counted("replicate:1"), []);
        assert_eq!(counted("xorbas")[..4], [(16, 16), (120, 120), (560, 560), (1820, 1820)]);
    }

    #[test]
    fn the_closed_form_agrees_with_the_rank_of_every_pattern() {
        for spec in [
            "lrc:6,2,2",
            "lrc:7,3,2",
            "lrc:4,4,2",
            "lrc:2,1,2",
            "lrc:1,1,2",
            "lrc:9,3,2",
            "rs:5+4",
            "replicate:4",
            "lrc:6,2,1",
            "lrc:6,2,3",
            "lrc:5,2,4",
            "lrc-uniform:6,2,2",
            "lrc-uniform:4,3,2",
            "lrc-uniform:2,2,2",
            "lrc-uniform:4,4,2",
            "lrc-uniform:5,3,1",
        ] {
            let code = code(spec);
            for count in code.pattern_counts() {
                let patterns = (0u32..1 << code.n()).filter(|bits| bits.count_ones() as usize == count.erasures);
                let sets = patterns
                    .map(|bits| ShardSet::first(code.n()).iter().filter(|i| bits >> i.get() & 1 == 1).collect());
                let (mut decodable, mut total) = (0, 0);
                for lost in sets {
                    total += 1;
                    decodable += u128::from(code.decodable(&lost));
                }
                assert_eq!((count.decodable, count.total), (decodable, total), "{spec} at {}", count.erasures);
                assert_eq!(
                    decodable == total,
                    count.erasures <= code.guaranteed_tolerance(),
                    "{spec} at {}",
                    count.erasures
                );
            }
        }
    }

    #[test]
    fn what_does_not_fit_128_bits_is_sampled_and_says_so() {
        let counts = code("rs:128+128").pattern_counts();
        assert!(!counts[9].sampled && counts[9].share() == (1.0, 1.0));
        let last = counts.last().unwrap();
        assert_eq!((last.sampled, last.decodable, last.total), (true, SAMPLES, SAMPLES));
        let (low, high) = last.share();
        assert!(low > 0.9998 && low < 1.0 && high == 1.0, "{low} {high}");
    }

    #[test]
    fn a_sample_holds_the_true_share_in_its_interval() {
        let mut missed = 0;
        for spec in ["lrc:6,2,2", "lrc:12,2,2", "lrc:14,2,2", "lrc:12,3,2", "lrc:9,3,2", "lrc:12,2,3", "xorbas"] {
            let code = code(spec);
            for count in &code.pattern_counts() {
                let ((low, high), truth) =
                    (sample(code.n(), count.erasures, |lost| code.decodable(lost)).share(), count.share().0);
                assert!(high - low < 0.02, "{spec}: {low} to {high}");
                missed += usize::from(truth < low || high < truth);
            }
        }
        // 33 intervals of 95 %: more than five missed would be a one-in-a-hundred event.
        assert!(missed <= 5, "{missed} missed");
    }
}
