//! Puts that are whole, remembered for clients that did not hear of it: for as long as a put may be gone on with, and so many at most.
//!
//! Only work is saved by it. Whoever asks later begins the put again and is told by the catalog that it is whole.

use crate::id::{ExtentKey, StreamKey};
use crate::time::{Millis, Time};
use std::collections::{BTreeMap, VecDeque};

/// Puts remembered: some ten MiB.
const FINISHED_MAX: usize = 1 << 16;

/// A put that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Its last extent, which was committed with its end.
    pub(super) last: ExtentKey,
    /// Whether some extent was committed before all its fragments were stored.
    pub(super) degraded: bool,
}

/// Puts that became whole lately.
#[derive(Debug, Default)]
pub(super) struct Finished {
    puts: BTreeMap<StreamKey, Whole>,
    /// In the order in which they became whole.
    order: VecDeque<(Time, StreamKey)>,
}

impl Finished {
    /// Remembers one; forgets those that are older than `kept`.
    pub(super) fn add(&mut self, stream: StreamKey, whole: Whole, now: Time, kept: Millis) {
        if self.puts.insert(stream, whole).is_none() {
            self.order.push_back((now, stream));
        }
        while let Some((since, stream)) = self.order.front().copied() {
            if since + kept > now && self.order.len() <= FINISHED_MAX {
                break;
            }
            self.order.pop_front();
            self.puts.remove(&stream);
        }
    }

    /// What is known of a put that became whole.
    pub(super) fn get(&self, stream: StreamKey) -> Option<Whole> {
        self.puts.get(&stream).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_by_age_and_by_number() {
        let whole = Whole { last: ExtentKey(1), degraded: false };
        let mut finished = Finished::default();
        let kept = Millis(10);
        for (at, stream) in [(0, 1), (5, 2), (9, 1), (10, 3)] {
            finished.add(StreamKey(stream), whole, Time::from_millis(at), kept);
        }
        assert_eq!([1, 2, 3].map(|stream| finished.get(StreamKey(stream)).is_some()), [false, true, true]);
        for stream in 0..FINISHED_MAX as u128 {
            finished.add(StreamKey(100 + stream), whole, Time::from_millis(11), kept);
        }
        assert_eq!((finished.puts.len(), finished.order.len()), (FINISHED_MAX, FINISHED_MAX));
        assert_eq!([2, 3, 100].map(|stream| finished.get(StreamKey(stream)).is_some()), [false, false, true]);
    }
}
