//! The order of events in virtual time.

use repair_core::time::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A moment in microseconds: machines see whole milliseconds, the order of events is finer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// As machines see it.
    pub const fn time(self) -> Time {
        Time::from_millis(self.0 / 1000)
    }

    /// The first moment at which machines see `time`.
    pub const fn of(time: Time) -> Self {
        Self(time.as_millis().saturating_mul(1000))
    }

    /// So many milliseconds later.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }
}

/// Events to come, by moment, then by the order in which they were put in.
#[derive(Debug)]
pub struct Queue<E> {
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, E>,
    next: u64,
    now: Instant,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), events: BTreeMap::new(), next: 0, now: Instant(0) }
    }
}

impl<E> Queue<E> {
    /// The present.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Lets an event happen then; at once, if that is past.
    pub fn at(&mut self, when: Instant, event: E) {
        self.order.push(Reverse((when.max(self.now), self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    /// Lets an event happen so many microseconds from now.
    pub fn after(&mut self, micros: u64, event: E) {
        self.at(Instant(self.now.0.saturating_add(micros)), event);
    }

    /// The next event; it is now then.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((when, number)) = self.order.pop()?;
        self.now = when;
        self.events.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_moment_then_by_order_and_never_in_the_past() {
        let mut queue = Queue::default();
        queue.at(Instant(5), 'b');
        queue.at(Instant(5), 'c');
        queue.at(Instant(2), 'a');
        assert_eq!((queue.pop(), queue.pop()), (Some('a'), Some('b')));
        queue.at(Instant(1), 'd');
        assert_eq!((queue.pop(), queue.now()), (Some('c'), Instant(5)));
        assert_eq!((queue.pop(), queue.now(), queue.pop()), (Some('d'), Instant(5), None));
    }
}
