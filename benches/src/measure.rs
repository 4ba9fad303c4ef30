//! Interleaved timing: every contestant once in every round, so that a slow second of the machine strikes all of them.
//!
//! Time is the processor time of the thread: what another process takes of the core in between is not counted, what it takes of
//! caches and memory is.

use crate::machine::thread_time;
use crate::pool::Ring;
use std::time::Duration;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Times each contestant is visited.
    pub rounds: usize,
    /// Time of one visit, at least one call.
    pub visit: Duration,
}

/// One of those measured, and what it does to one stripe.
pub struct Contestant<'a, S> {
    /// Its name in the report.
    pub name: &'static str,
    /// The work of one call.
    pub call: Box<dyn FnMut(&mut S) + 'a>,
}

impl<'a, S> Contestant<'a, S> {
    /// A contestant.
    pub fn new(name: &'static str, call: impl FnMut(&mut S) + 'a) -> Self {
        Self { name, call: Box::new(call) }
    }
}

/// What was measured of one contestant.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: &'static str,
    /// Seconds per call, one value a round.
    pub seconds: Vec<f64>,
}

/// Median and extremes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; zeros if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Self { median: 0.0, min: 0.0, max: 0.0 };
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, min, max }
    }
}

impl Series {
    /// Gigabytes (10^9) per second if each call is worth `bytes`.
    pub fn rate(&self, bytes: usize) -> Spread {
        Spread::of(self.seconds.iter().map(|seconds| bytes as f64 / seconds / 1e9))
    }

    /// Microseconds per call.
    pub fn micros(&self) -> Spread {
        Spread::of(self.seconds.iter().map(|seconds| seconds * 1e6))
    }

    /// How many times as fast as another, round by round.
    pub fn ratio(&self, other: &Self) -> Spread {
        Spread::of(self.seconds.iter().zip(&other.seconds).map(|(own, others)| others / own))
    }
}

/// Measures the contestants on the stripes of a ring.
pub fn interleave<S>(budget: Budget, ring: &mut Ring<S>, contestants: &mut [Contestant<'_, S>]) -> Vec<Series> {
    let calls: Vec<u32> = contestants.iter_mut().map(|it| calls_per_visit(budget.visit, ring, it)).collect();
    let mut series: Vec<Series> =
        contestants.iter().map(|it| Series { name: it.name, seconds: Vec::with_capacity(budget.rounds) }).collect();
    for round in 0..budget.rounds {
        for turn in 0..contestants.len() {
            // Another one begins each round, so that nobody always follows the same neighbour's caches.
            let at = (round + turn) % contestants.len();
            let begin = thread_time();
            for _ in 0..calls[at] {
                (contestants[at].call)(ring.next_stripe());
            }
            series[at].seconds.push((thread_time() - begin).as_secs_f64() / f64::from(calls[at]));
        }
    }
    series
}

/// Finds how many calls fill a visit. It is the warm-up too.
fn calls_per_visit<S>(visit: Duration, ring: &mut Ring<S>, contestant: &mut Contestant<'_, S>) -> u32 {
    let mut calls = 1_u32;
    loop {
        let begin = thread_time();
        for _ in 0..calls {
            (contestant.call)(ring.next_stripe());
        }
        let taken = thread_time() - begin;
        if taken >= visit / 4 || calls >= 1 << 26 {
            let wanted = f64::from(calls) * visit.as_secs_f64() / taken.as_secs_f64();
            return wanted.clamp(1.0, f64::from(u32::MAX)) as u32;
        }
        calls *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn spreads_have_the_middle_and_the_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([]), Spread { median: 0.0, min: 0.0, max: 0.0 });
    }

    #[test]
    fn ratios_compare_the_same_round() {
        let fast = Series { name: "fast", seconds: vec![1.0, 10.0, 1.0] };
        let slow = Series { name: "slow", seconds: vec![2.0, 20.0, 4.0] };
        // The slow second round struck both: their ratio does not show it, that of the extremes would.
        assert_eq!(fast.ratio(&slow), Spread { median: 2.0, min: 2.0, max: 4.0 });
        assert_eq!(fast.rate(1_000_000_000).median, 1.0);
        assert_eq!(fast.micros().median, 1e6);
    }

    #[test]
    fn every_contestant_is_visited_in_every_round_and_each_begins_in_turn() {
        let visits = RefCell::new(Vec::new());
        let visit = |name| visits.borrow_mut().push(name);
        let mut contestants = ["a", "b", "c"].map(|name| {
            Contestant::new(name, move |_: &mut ()| {
                visit(name);
                let begin = thread_time();
                while thread_time() - begin < Duration::from_millis(2) {}
            })
        });
        let budget = Budget { rounds: 3, visit: Duration::from_millis(1) };
        let series = interleave(budget, &mut Ring::new(vec![()]).unwrap(), &mut contestants);
        assert!(series.iter().all(|it| it.seconds.len() == 3 && it.seconds.iter().all(|&seconds| seconds >= 0.002)));
        drop(contestants);
        assert_eq!(visits.into_inner(), ["a", "b", "c", "a", "b", "c", "b", "c", "a", "c", "a", "b"]);
    }
}
