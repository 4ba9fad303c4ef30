//! How long to try, and what counts of several tries.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How much time one figure gets.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    tries: u32,
    one_try: Duration,
}

impl Effort {
    /// Some 150 figures of this end within 15 seconds.
    pub const FULL: Self = Self { tries: 5, one_try: Duration::from_millis(10) };
    /// A look whether all is well.
    pub const QUICK: Self = Self { tries: 3, one_try: Duration::from_millis(2) };

    /// Seconds per call of `work`: the median of the tries. Of work that takes as long as all tries should, one call counts.
    pub fn seconds<T>(self, mut work: impl FnMut() -> T) -> f64 {
        let enough = self.one_try * self.tries;
        let mut calls = 1_u32;
        // The warm-up, which also finds how many calls fill a try.
        loop {
            let taken = time(calls, &mut work);
            if calls == 1 && taken >= enough {
                return taken.as_secs_f64();
            }
            if taken >= self.one_try / 4 || calls >= 1 << 24 {
                let wanted = f64::from(calls) * self.one_try.as_secs_f64() / taken.as_secs_f64().max(1e-9);
                calls = wanted.clamp(1.0, f64::from(1 << 26)) as u32;
                break;
            }
            calls *= 2;
        }
        let mut tries: Vec<f64> =
            (0..self.tries).map(|_| time(calls, &mut work).as_secs_f64() / f64::from(calls)).collect();
        tries.sort_by(f64::total_cmp);
        tries[tries.len() / 2].max(1e-12)
    }

    /// The rate of `work` that handles `bytes` a call, in 10^9 bytes per second.
    pub fn rate<T>(self, bytes: usize, work: impl FnMut() -> T) -> f64 {
        bytes as f64 / self.seconds(work) / 1e9
    }
}

fn time<T>(calls: u32, work: &mut impl FnMut() -> T) -> Duration {
    let begin = Instant::now();
    for _ in 0..calls {
        black_box(work());
    }
    begin.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_call_is_that_of_the_call() {
        let seconds = Effort::QUICK.seconds(|| std::thread::sleep(Duration::from_millis(3)));
        assert!((0.003..0.3).contains(&seconds), "{seconds}");
        let mut calls = 0;
        let long = Effort::QUICK.seconds(|| {
            calls += 1;
            std::thread::sleep(Duration::from_millis(20));
        });
        assert!(calls == 1 && (0.02..2.0).contains(&long), "{calls} calls, {long}");
        let rate = Effort::QUICK.rate(3_000_000, || std::thread::sleep(Duration::from_millis(3)));
        assert!((0.01..=1.0).contains(&rate), "{rate}");
    }
}
