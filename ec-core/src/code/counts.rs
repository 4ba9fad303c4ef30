//! How many erasure patterns of each size a code survives.

use super::{Code, Guarantee, shard};
use crate::shard::ShardSet;

/// Patterns drawn for a size whose total does not fit 128 bits.
pub const SAMPLES: u128 = 1_000;

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

pub(super) fn pattern_counts(code: &Code) -> Vec<PatternCount> {
    let exact = exact_decodable(code);
    (1..=code.m())
        .map(|erasures| match (binomial(code.n(), erasures), exact.get(erasures)) {
            (Some(total), Some(Some(decodable))) => {
                PatternCount { erasures, decodable: *decodable, total, sampled: false }
            }
            _ => sample(code, erasures),
        })
        .collect()
}

/// Decodable patterns by number of erasures, `None` where the count does not fit.
fn exact_decodable(code: &Code) -> Vec<Option<u128>> {
    match code.guarantee() {
        Guarantee::Mds => (0..=code.m()).map(|erasures| binomial(code.n(), erasures)).collect(),
        Guarantee::MaximallyRecoverable => maximally_recoverable_counts(code),
    }
}

/// A pattern is decodable exactly when the erasures beyond one per group, and the erased globals, are at most as many as the
/// globals (Gopalan et al. 2014). Counted by a generating function over (erasures, excess).
fn maximally_recoverable_counts(code: &Code) -> Vec<Option<u128>> {
    let globals = code.m() - code.groups().len();
    // counts[excess][erasures]
    let mut counts = vec![vec![Some(0u128); code.m() + 1]; globals + 1];
    counts[0][0] = Some(1);
    let group_terms = code.groups().iter().map(|group| (group.len(), 1));
    for (members, free) in group_terms.chain([(globals, 0)]) {
        let mut next = vec![vec![Some(0u128); code.m() + 1]; globals + 1];
        for (excess, row) in counts.iter().enumerate() {
            for (erasures, &count) in row.iter().enumerate() {
                for more in 0..=members.min(code.m() - erasures) {
                    let Some(slot) = next.get_mut(excess + more.saturating_sub(free)) else { break };
                    let term = count.zip(binomial(members, more)).and_then(|(a, b)| a.checked_mul(b));
                    slot[erasures + more] = slot[erasures + more].zip(term).and_then(|(a, b)| a.checked_add(b));
                }
            }
        }
        counts = next;
    }
    (0..=code.m()).map(|erasures| counts.iter().try_fold(0u128, |sum, row| sum.checked_add(row[erasures]?))).collect()
}

fn sample(code: &Code, erasures: usize) -> PatternCount {
    let mut state = erasures as u64;
    let mut decodable = 0;
    for _ in 0..SAMPLES {
        // Floyd's algorithm: a uniform subset with one draw per member.
        let mut lost = ShardSet::EMPTY;
        for top in code.n() - erasures..code.n() {
            let drawn = shard((splitmix(&mut state) % (top as u64 + 1)) as usize);
            lost.insert(if lost.contains(drawn) { shard(top) } else { drawn });
        }
        decodable += u128::from(code.decodable(&lost));
    }
    PatternCount { erasures, decodable, total: SAMPLES, sampled: true }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for samples and check vectors, seeded by the caller.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

fn binomial(n: usize, choose: usize) -> Option<u128> {
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
    }

    #[test]
    fn the_closed_form_agrees_with_the_rank_of_every_pattern() {
        for spec in
            ["lrc:6,2,2", "lrc:7,3,2", "lrc:4,4,2", "lrc:2,1,2", "lrc:1,1,2", "lrc:9,3,2", "rs:5+4", "replicate:4"]
        {
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
        assert!(!counts[9].sampled);
        let last = counts.last().unwrap();
        assert_eq!((last.sampled, last.decodable, last.total), (true, SAMPLES, SAMPLES));
    }
}
