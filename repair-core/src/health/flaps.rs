//! Disks that come and go. Each time one that was let in goes away is a flap. From the second on it is held when it comes back: not
//! counted on before it has been quiet for some time, twice as long with each flap, up to a most. Quiet makes flaps forgotten.

use crate::time::{Millis, Time};

/// So many flaps are borne without holding: a node that is started again is no news.
const FREE: u32 = 1;
/// Ten times the first hold of quiet take one flap off.
const FORGIVEN_AFTER_HOLDS: u64 = 10;

/// How long one that flaps is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// After the second flap.
    pub first: Millis,
    /// However many there were.
    pub most: Millis,
}

impl Hold {
    fn of(&self, flaps: u32) -> Option<Millis> {
        let doublings = flaps.checked_sub(FREE + 1)?;
        Some(Millis(self.first.0.saturating_mul(1 << doublings.min(32)).min(self.most.0)))
    }
}

/// The flaps of one disk that are not forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaps {
    count: u32,
    /// Since when it has been there without a break.
    quiet_since: Option<Time>,
}

impl Flaps {
    /// None yet.
    pub const fn new() -> Self {
        Self { count: 0, quiet_since: None }
    }

    /// How many are not forgotten.
    pub fn count(&self, now: Time, hold: &Hold) -> u32 {
        let quiet = self.quiet_since.map_or(0, |since| now.since(since).0);
        let forgiven = quiet / hold.first.0.saturating_mul(FORGIVEN_AFTER_HOLDS).max(1);
        self.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    /// Whether they are so many that more would not make the hold longer.
    pub fn are_most(&self, now: Time, hold: &Hold) -> bool {
        hold.of(self.count(now, hold)).is_some_and(|held| held >= hold.most)
    }

    pub(super) fn went_away(&mut self, now: Time, hold: &Hold) {
        self.count = self.count(now, hold).saturating_add(1);
        self.quiet_since = None;
    }

    pub(super) fn came_back(&mut self, now: Time) {
        self.quiet_since.get_or_insert(now);
    }

    /// Until when it is not counted on, if it goes on to be quiet; none where that is over.
    pub fn held_until(&self, now: Time, hold: &Hold) -> Option<Time> {
        let until = self.quiet_since? + hold.of(self.count)?;
        Some(until).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Hold = Hold { first: Millis(60), most: Millis(500) };

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn the_hold_doubles_to_its_most_and_runs_from_the_return() {
        let mut flaps = Flaps::default();
        let mut held = Vec::new();
        for round in 0..6 {
            flaps.went_away(at(round * 10), &HOLD);
            flaps.came_back(at(round * 10 + 5));
            flaps.came_back(at(round * 10 + 9));
            held.push(flaps.held_until(at(round * 10 + 9), &HOLD).map(|until| until.since(at(round * 10 + 5)).0));
        }
        assert_eq!(held, [None, Some(60), Some(120), Some(240), Some(480), Some(500)]);
        assert!(flaps.are_most(at(60), &HOLD));
        assert_eq!(flaps.held_until(at(555), &HOLD), None, "500 ms of quiet");
    }

    #[test]
    fn quiet_takes_flaps_off_one_by_one() {
        let mut flaps = Flaps::default();
        for now in [0, 10, 20] {
            flaps.went_away(at(now), &HOLD);
            flaps.came_back(at(now + 1));
        }
        let counts = [21, 620, 621, 1_221, 1_821, 9_999].map(|now| flaps.count(at(now), &HOLD));
        assert_eq!(counts, [3, 3, 2, 1, 0, 0]);
        flaps.went_away(at(1_300), &HOLD);
        flaps.came_back(at(1_301));
        assert_eq!(flaps.held_until(at(1_301), &HOLD), Some(at(1_361)), "as after a second one");
    }
}
