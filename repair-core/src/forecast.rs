//! When repair will be done: from what was let through and moved lately, with a band.

use crate::time::{Millis, Time};
use std::collections::VecDeque;

/// What is older says nothing of the pace.
const WINDOW: Millis = Millis(10 * 60 * 1_000);
/// Less than that says nothing yet.
const SPAN_MIN: Millis = Millis(500);
/// The parts of the window that are compared with each other for the band.
const PARTS: u64 = 8;
/// More are thinned out.
const MARKS_MAX: usize = 256;

/// Bytes moved, over time.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// When so many had been moved; ascending in both.
    marks: VecDeque<(Time, u64)>,
}

/// What is to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The pace.
    pub bytes_per_second: f64,
    /// Until all is done, at that pace.
    pub seconds: f64,
    /// At the fastest and slowest pace that the last stretch speaks for: two standard errors.
    pub band_seconds: (f64, f64),
}

impl Forecast {
    /// Nothing was moved before this moment.
    pub fn begin(now: Time) -> Self {
        Self { marks: VecDeque::from([(now, 0)]) }
    }

    /// So much was moved since it began. What was moved and then lost (a repair that failed) is not taken back.
    pub fn moved(&mut self, now: Time, bytes: u64) {
        let last = self.marks.back().map_or(0, |(_, last)| *last);
        if bytes > last || self.marks.is_empty() {
            self.marks.push_back((now, bytes.max(last)));
        }
        // The mark at the window's beginning stays.
        while self.marks.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.marks.pop_front();
        }
        if self.marks.len() > MARKS_MAX {
            let last = self.marks.len() - 1;
            let mut at = 0..;
            self.marks.retain(|_| at.next().is_some_and(|at: usize| at.is_multiple_of(2) || at == last));
        }
    }

    /// How much had been moved at a moment.
    fn moved_at(&self, at: Time) -> u64 {
        let after = self.marks.partition_point(|(mark, _)| *mark <= at);
        after
            .checked_sub(1)
            .and_then(|before| self.marks.get(before))
            .or(self.marks.front())
            .map_or(0, |(_, bytes)| *bytes)
    }

    /// For what is left; none while nothing speaks for any pace, or nothing is left.
    pub fn expect(&self, now: Time, left_bytes: u64) -> Option<Expected> {
        let (first, _) = *self.marks.front()?;
        // In whole moments from the first mark on, or from where the window begins.
        let began = Time::from_millis(first.as_millis().max(now.as_millis().saturating_sub(WINDOW.0)));
        let span = now.since(began);
        let moved = self.moved_at(now) - self.moved_at(began);
        if span < SPAN_MIN || moved == 0 || left_bytes == 0 {
            return None;
        }
        let rate = moved as f64 * 1_000.0 / span.0 as f64;
        let edge = |part: u64| self.moved_at(began + Millis(span.0 * part / PARTS));
        let parts =
            (0..PARTS).map(|part| (edge(part + 1) - edge(part)) as f64 * 1_000.0 * PARTS as f64 / span.0 as f64);
        let variance = parts.map(|part| (part - rate).powi(2)).sum::<f64>() / (PARTS - 1) as f64;
        let error = 2.0 * (variance / PARTS as f64).sqrt();
        let left = left_bytes as f64;
        // Where it might as well stand still, four times as long stands for "who knows".
        let slowest = (rate - error).max(rate / 4.0);
        Some(Expected {
            bytes_per_second: rate,
            seconds: left / rate,
            band_seconds: (left / (rate + error), left / slowest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Dice;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_steady_pace_is_told_exactly_and_nothing_is_told_of_nothing() {
        let mut forecast = Forecast::begin(at(5_000));
        assert_eq!(forecast.expect(at(9_000), 100), None, "nothing was moved");
        for second in 1..=20 {
            forecast.moved(at(5_000 + second * 1_000), second * 100);
        }
        let expected = forecast.expect(at(25_000), 500).unwrap();
        assert_eq!((expected.bytes_per_second, expected.seconds), (100.0, 5.0));
        let (least, most) = expected.band_seconds;
        assert!((4.0..=5.0).contains(&least) && (5.0..6.5).contains(&most), "{least} {most}");
        assert_eq!(forecast.expect(at(25_000), 0), None);
        // Standing still is a pace too.
        assert_eq!(forecast.expect(at(45_000), 500).unwrap().bytes_per_second, 50.0);
        assert_eq!(forecast.expect(at(5_000 + 2 * 600_000), 500), None);
    }

    #[test]
    fn an_uneven_pace_has_a_wider_band_that_holds_the_truth() {
        let mut dice = Dice::new(3);
        let (mut held, mut rounds) = (0, 0);
        for _ in 0..200 {
            let mut forecast = Forecast::begin(at(0));
            let steps: Vec<u64> = (0..400).map(|_| dice.below(1_000)).collect();
            let mut moved = 0;
            for (step, bytes) in (1..=200).zip(&steps) {
                moved += bytes;
                forecast.moved(at(step * 1_000), moved);
            }
            let expected = forecast.expect(at(200_000), steps[200..].iter().sum()).unwrap();
            assert!((expected.seconds - 200.0).abs() < 40.0, "{expected:?}");
            let (least, most) = expected.band_seconds;
            assert!(least < expected.seconds && expected.seconds < most);
            rounds += 1;
            held += u32::from((least..most).contains(&200.0));
        }
        assert!(f64::from(held) > 0.7 * f64::from(rounds), "{held} of {rounds}");
    }

    #[test]
    fn what_was_long_ago_is_forgotten_and_memory_is_bounded() {
        let mut forecast = Forecast::begin(at(0));
        for second in 0..10_000 {
            forecast
                .moved(at(second * 1_000), if second < 5_000 { second * 10 } else { 50_000 + (second - 5_000) * 90 });
        }
        assert!(forecast.marks.len() <= MARKS_MAX);
        let expected = forecast.expect(at(9_999_000), 900).unwrap();
        assert!((expected.bytes_per_second - 90.0).abs() < 2.0, "{expected:?}");
    }
}
