//! How fast a scrub may read: a bucket of bytes that fills with time.

use crate::time::{Millis, Time};

/// What may be read at once after a rest: as much as fills in this time.
const REST_MS: i128 = 1000;

/// Bytes that may be read. What is read is known only afterwards, so the bucket may be overdrawn by one fragment; then nothing is
/// read until it is level again.
#[derive(Debug)]
pub(super) struct Pace {
    /// 0: no limit.
    bytes_per_second: u64,
    /// In thousandths of a byte, which is what a millisecond at one byte per second brings.
    level: i128,
    /// When `level` was so.
    at: Time,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, level: i128::from(bytes_per_second) * REST_MS, at: Time::ZERO }
    }

    /// So many bytes were read.
    pub(super) fn took(&mut self, now: Time, bytes: u64) {
        let full = i128::from(self.bytes_per_second) * REST_MS;
        let filled = i128::from(now.since(self.at).0) * i128::from(self.bytes_per_second);
        self.level = (self.level + filled).min(full) - i128::from(bytes) * 1000;
        self.at = self.at.max(now);
    }

    /// When the next may be read.
    pub(super) fn ready(&self) -> Time {
        if self.level >= 0 || self.bytes_per_second == 0 {
            return Time::ZERO;
        }
        let wait = self.level.unsigned_abs().div_ceil(u128::from(self.bytes_per_second));
        self.at + Millis(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_time_no_more_is_read_than_the_rate_a_rest_and_one_piece() {
        let (rate, piece) = (1_000_000, 700_001);
        let mut pace = Pace::new(rate);
        let (mut now, mut read) = (Time::from_millis(5000), 0);
        let begin = now;
        while read < 100 * piece {
            now = now.max(pace.ready());
            pace.took(now, piece);
            read += piece;
        }
        let may = rate * now.since(begin).0 / 1000 + rate;
        assert!(read <= may + piece, "{read} bytes where {may} may be");
        assert!(read + piece > may, "{read} bytes: slower than {may}");
        // A long rest brings no more than a short one.
        now = now + Millis(1_000_000);
        pace.took(now, 3 * rate);
        assert_eq!(pace.ready(), now + Millis(2000));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut pace = Pace::new(0);
        pace.took(Time::from_millis(1), u64::MAX);
        assert_eq!(pace.ready(), Time::ZERO);
    }
}
