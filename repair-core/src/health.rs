//! Who is alive: beats in, suspicion and loss out, by injected time.
//!
//! A disk is suspected when its connection ends or it is silent for a while; it is lost when it stays so. Both are opinions: they
//! start repairs and choose disks, no safety rests on them.

use crate::time::{Millis, Time};

/// How a disk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It beats.
    Healthy,
    /// It is silent, or its connection ended. Its data is waited for.
    Suspect,
    /// It has been silent for so long that its data is built elsewhere, or it said that nothing can be stored on it.
    Lost,
    /// It has come, and is not welcomed yet.
    Returning,
}

/// A change of opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is suspected now.
    Suspected,
    /// It counts as lost now.
    Lost,
    /// It is healthy now.
    Back,
}

/// How long silence is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which a disk is suspected.
    pub suspect_after: Millis,
    /// From there to loss.
    pub grace: Millis,
}

/// The health of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskHealth {
    state: Health,
    since: Time,
    heard: Time,
}

impl DiskHealth {
    /// A disk that the catalog names and that has not been heard in this life of the daemon: suspected, and its time runs from
    /// now, since nobody listened before.
    pub const fn unheard(now: Time) -> Self {
        Self { state: Health::Suspect, since: now, heard: now }
    }

    /// How it stands.
    pub const fn state(&self) -> Health {
        self.state
    }

    /// Since when.
    pub const fn since(&self) -> Time {
        self.since
    }

    /// When it was last heard.
    pub const fn last_heard(&self) -> Time {
        self.heard
    }

    /// Whether it is to be used.
    pub fn is_healthy(&self) -> bool {
        self.state == Health::Healthy
    }

    /// Whether its data is to be built elsewhere.
    pub fn is_lost(&self) -> bool {
        self.state == Health::Lost
    }

    fn turn(&mut self, now: Time, state: Health) {
        (self.state, self.since) = (state, now);
    }

    /// It asks to be let in.
    pub fn registering(&mut self, now: Time) {
        self.heard = now;
        if matches!(self.state, Health::Suspect | Health::Lost) {
            self.turn(now, Health::Returning);
        }
    }

    /// It was welcomed, or it beats.
    pub fn beat(&mut self, now: Time) -> Option<Turn> {
        self.heard = now;
        (!self.is_healthy()).then(|| {
            self.turn(now, Health::Healthy);
            Turn::Back
        })
    }

    /// It beats, and says itself that nothing can be stored on it: there is nothing to wait for.
    pub fn fail(&mut self, now: Time) -> Option<Turn> {
        self.heard = now;
        (!self.is_lost()).then(|| {
            self.turn(now, Health::Lost);
            Turn::Lost
        })
    }

    /// Its connection ended. It is not lost before it was silent for the whole time: a connection is soon made anew.
    pub fn cut_off(&mut self, now: Time) -> Option<Turn> {
        let was = self.state;
        if matches!(was, Health::Healthy | Health::Returning) {
            self.turn(now, Health::Suspect);
        }
        (was == Health::Healthy).then_some(Turn::Suspected)
    }

    /// Nobody could have heard it for so long: its silence does not count.
    pub fn was_not_listened_to(&mut self, now: Time, span: Millis) {
        self.heard = now.min(self.heard + span);
    }

    /// Time passed. At most one turn at once: ask until none comes.
    pub fn tick(&mut self, now: Time, patience: &Patience) -> Option<Turn> {
        if self.next(patience).is_none_or(|next| next > now) {
            return None;
        }
        let (state, turn) = match self.state {
            Health::Healthy => (Health::Suspect, Some(Turn::Suspected)),
            // Nobody was told that it is back, so nobody needs to hear that it is suspected again.
            Health::Returning => (Health::Suspect, None),
            Health::Suspect | Health::Lost => (Health::Lost, Some(Turn::Lost)),
        };
        self.turn(now, state);
        turn
    }

    /// When [`DiskHealth::tick`] will have something to say if nothing is heard.
    pub fn next(&self, patience: &Patience) -> Option<Time> {
        match self.state {
            Health::Healthy | Health::Returning => Some(self.heard + patience.suspect_after),
            Health::Suspect => Some(self.heard + patience.suspect_after + patience.grace),
            Health::Lost => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { suspect_after: Millis(10), grace: Millis(100) };

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn silence_is_suspected_and_then_lost_and_a_beat_brings_it_back() {
        let mut health = DiskHealth::unheard(at(0));
        assert_eq!(health.beat(at(5)), Some(Turn::Back));
        assert_eq!(health.beat(at(6)), None);
        assert_eq!(health.tick(at(15), &PATIENCE), None);
        assert_eq!(health.next(&PATIENCE), Some(at(16)));
        assert_eq!(health.tick(at(16), &PATIENCE), Some(Turn::Suspected));
        assert_eq!(health.tick(at(115), &PATIENCE), None);
        assert_eq!(health.next(&PATIENCE), Some(at(116)));
        assert_eq!(health.tick(at(116), &PATIENCE), Some(Turn::Lost));
        assert!(health.is_lost());
        assert_eq!(health.next(&PATIENCE), None);
        assert_eq!(health.tick(at(999), &PATIENCE), None);
        health.registering(at(1000));
        assert_eq!(health.state(), Health::Returning);
        assert_eq!(health.beat(at(1001)), Some(Turn::Back));
    }

    #[test]
    fn a_cut_connection_is_suspected_at_once_and_lost_only_after_silence() {
        let hasty = Patience { suspect_after: Millis(10), grace: Millis(0) };
        let mut health = DiskHealth::unheard(at(0));
        health.beat(at(20));
        assert_eq!(health.cut_off(at(22)), Some(Turn::Suspected));
        assert_eq!(health.cut_off(at(23)), None);
        assert_eq!(health.tick(at(29), &hasty), None, "it may be back in a moment");
        assert_eq!(health.tick(at(30), &hasty), Some(Turn::Lost));
    }

    #[test]
    fn a_restarted_daemon_waits_the_whole_time_before_it_counts_anything_as_lost() {
        let mut health = DiskHealth::unheard(at(7));
        assert_eq!((health.state(), health.tick(at(116), &PATIENCE)), (Health::Suspect, None));
        assert_eq!(health.tick(at(117), &PATIENCE), Some(Turn::Lost));
    }

    #[test]
    fn one_that_was_never_welcomed_is_lost_without_having_been_back() {
        let mut health = DiskHealth::unheard(at(0));
        health.registering(at(3));
        assert_eq!(health.cut_off(at(4)), None);
        assert_eq!(health.tick(at(112), &PATIENCE), None);
        assert_eq!(health.tick(at(113), &PATIENCE), Some(Turn::Lost));
        health.registering(at(200));
        assert_eq!(health.tick(at(210), &PATIENCE), None);
        assert_eq!(health.state(), Health::Suspect);
    }
}
