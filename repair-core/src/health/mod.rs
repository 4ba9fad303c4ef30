//! Who is alive: beats in, suspicion and loss out, by injected time.
//!
//! A disk is suspected when its connection ends or it is silent for a while, down when that lasts, lost when it lasts for the grace
//! of its cause. One that comes back again and again is held: it is not counted on before it has been quiet ([`flaps`]). Whether
//! silence is a rack's and not a disk's is judged in [`outage`]; how much may be set aside without an operator in [`quarantine`].
//! All of it is opinion: it starts repairs and chooses disks, no safety rests on it.

pub mod flaps;
pub mod outage;
pub mod quarantine;

use crate::time::{Millis, Time};
use flaps::Flaps;

/// How a disk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It beats.
    Healthy,
    /// It is silent, or its connection ended. Its data is waited for.
    Suspect,
    /// It has been silent for twice the time that makes it suspect. Its data is still waited for.
    Down,
    /// It has been silent for so long that its data is built elsewhere, or it said that nothing can be stored on it.
    Lost,
    /// It has come, and is not welcomed yet, or is held because it flapped.
    Returning,
    /// An operator said that it may be away for a while.
    Maintenance,
    /// An operator wants everything on it moved elsewhere.
    Draining,
    /// It beats, and is far slower than its peers.
    Limping,
    /// It was set aside without being asked for: its data is moved elsewhere.
    Quarantined,
}

/// Why a disk stands as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It beats.
    Beats,
    /// This daemon has not heard it since it was started.
    NotHeardYet,
    /// It is silent on a connection that has not ended.
    Silence,
    /// Its connection ended.
    ConnectionEnded,
    /// It says itself that nothing can be stored on it.
    DiskError,
    /// It registers.
    Registers,
    /// It came back and went away too often.
    Flaps,
    /// Its store is slower than its peers'.
    SlowerThanPeers,
    /// An operator said so.
    Operator,
}

/// A change of opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is suspected now.
    Suspected,
    /// It has been away for some time now.
    Down,
    /// It counts as lost now.
    Lost,
    /// It is healthy now.
    Back,
}

/// How long silence is borne. A disk that says itself that nothing can be stored on it has no grace at all: [`DiskHealth::fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which a disk is suspected.
    pub suspect_after: Millis,
    /// From there to loss.
    pub grace: Millis,
    /// What excuses the disk until then: no silence before makes it lost.
    pub excused_until: Option<Time>,
    /// How long one that flaps is held.
    pub hold: flaps::Hold,
}

impl Patience {
    /// When silence since then is loss, whatever excuses it.
    pub fn grace_ends(&self, heard: Time) -> Time {
        heard + self.suspect_after + self.grace
    }

    /// When silence since then is loss.
    pub fn lost_at(&self, heard: Time) -> Time {
        self.excused_until.unwrap_or(Time::ZERO).max(self.grace_ends(heard))
    }

    fn down_at(&self, heard: Time) -> Time {
        heard + self.suspect_after + self.suspect_after
    }
}

/// The health of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskHealth {
    state: Health,
    cause: Cause,
    since: Time,
    heard: Time,
    flaps: Flaps,
    /// It has come back, and is not counted on before it was quiet.
    held: bool,
    /// Since when it is not counted on.
    away_since: Option<Time>,
}

impl DiskHealth {
    /// A disk that the catalog names and that has not been heard in this life of the daemon: suspected, and its time runs from
    /// now, since nobody listened before.
    pub const fn unheard(now: Time) -> Self {
        let (state, cause, flaps) = (Health::Suspect, Cause::NotHeardYet, Flaps::new());
        Self { state, cause, since: now, heard: now, flaps, held: false, away_since: Some(now) }
    }

    /// How it stands: healthy, suspect, down, lost or returning.
    pub const fn state(&self) -> Health {
        self.state
    }

    /// Why.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// Since when.
    pub const fn since(&self) -> Time {
        self.since
    }

    /// When it was last heard.
    pub const fn last_heard(&self) -> Time {
        self.heard
    }

    /// Since when it is not counted on without a break; none while it is.
    pub const fn away_since(&self) -> Option<Time> {
        self.away_since
    }

    /// How often it went away lately.
    pub const fn flaps(&self) -> &Flaps {
        &self.flaps
    }

    /// Whether it is to be used.
    pub fn is_healthy(&self) -> bool {
        self.state == Health::Healthy
    }

    /// Whether its data is to be built elsewhere.
    pub fn is_lost(&self) -> bool {
        self.state == Health::Lost
    }

    /// Whether it has come and is not counted on because it flapped.
    pub fn is_held(&self) -> bool {
        self.held && self.state == Health::Returning
    }

    /// Whether nothing is heard of it, and its data is waited for.
    pub fn is_silent(&self) -> bool {
        matches!(self.state, Health::Suspect | Health::Down)
    }

    fn turn(&mut self, now: Time, state: Health, cause: Cause) {
        (self.state, self.cause, self.since) = (state, cause, now);
        match state {
            Health::Healthy => self.away_since = None,
            _ => _ = self.away_since.get_or_insert(now),
        }
    }

    /// It went away: a flap, where it had been let in.
    fn goes(&mut self, now: Time, patience: &Patience, cause: Cause) {
        if self.is_healthy() || self.is_held() {
            self.flaps.went_away(now, &patience.hold);
        }
        self.held = false;
        self.turn(now, Health::Suspect, cause);
    }

    /// It asks to be let in.
    pub fn registering(&mut self, now: Time) {
        self.heard = now;
        if matches!(self.state, Health::Suspect | Health::Down | Health::Lost) {
            self.turn(now, Health::Returning, Cause::Registers);
        }
    }

    /// It was welcomed, or it beats. Where `needed`, data cannot do without it and it is not held.
    pub fn beat(&mut self, now: Time, patience: &Patience, needed: bool) -> Option<Turn> {
        self.heard = now;
        if self.is_healthy() {
            return None;
        }
        self.flaps.came_back(now);
        if !needed && self.flaps.held_until(now, &patience.hold).is_some() {
            if !self.is_held() {
                self.held = true;
                self.turn(now, Health::Returning, Cause::Flaps);
            }
            return None;
        }
        self.held = false;
        self.turn(now, Health::Healthy, Cause::Beats);
        Some(Turn::Back)
    }

    /// It beats, and says itself that nothing can be stored on it: there is nothing to wait for.
    pub fn fail(&mut self, now: Time) -> Option<Turn> {
        self.heard = now;
        (!self.is_lost()).then(|| {
            self.turn(now, Health::Lost, Cause::DiskError);
            Turn::Lost
        })
    }

    /// Its connection ended. It is not lost before it was silent for the whole time: a connection is soon made anew.
    pub fn cut_off(&mut self, now: Time, patience: &Patience) -> Option<Turn> {
        let was = self.state;
        if matches!(was, Health::Healthy | Health::Returning) {
            self.goes(now, patience, Cause::ConnectionEnded);
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
        match self.state {
            Health::Healthy | Health::Returning => {
                // Nobody was told that one that only returns is back, so nobody needs to hear that it is suspected again.
                let was_healthy = self.is_healthy();
                self.goes(now, patience, Cause::Silence);
                was_healthy.then_some(Turn::Suspected)
            }
            _ if patience.lost_at(self.heard) > now => {
                self.turn(now, Health::Down, self.cause);
                Some(Turn::Down)
            }
            _ => {
                self.turn(now, Health::Lost, self.cause);
                Some(Turn::Lost)
            }
        }
    }

    /// When [`DiskHealth::tick`] will have something to say if nothing is heard.
    pub fn next(&self, patience: &Patience) -> Option<Time> {
        let lost_at = patience.lost_at(self.heard);
        match self.state {
            Health::Healthy | Health::Returning => Some(self.heard + patience.suspect_after),
            Health::Suspect => Some(patience.down_at(self.heard).min(lost_at)),
            Health::Down => Some(lost_at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: flaps::Hold = flaps::Hold { first: Millis(60), most: Millis(240) };
    const PATIENCE: Patience =
        Patience { suspect_after: Millis(10), grace: Millis(100), excused_until: None, hold: HOLD };

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn silence_is_suspected_and_then_lost_and_a_beat_brings_it_back() {
        let mut health = DiskHealth::unheard(at(0));
        assert_eq!(health.beat(at(5), &PATIENCE, false), Some(Turn::Back));
        assert_eq!(health.beat(at(6), &PATIENCE, false), None);
        assert_eq!(health.tick(at(15), &PATIENCE), None);
        assert_eq!(health.next(&PATIENCE), Some(at(16)));
        assert_eq!(health.tick(at(16), &PATIENCE), Some(Turn::Suspected));
        assert_eq!(health.next(&PATIENCE), Some(at(26)));
        assert_eq!((health.tick(at(26), &PATIENCE), health.cause()), (Some(Turn::Down), Cause::Silence));
        assert_eq!(health.tick(at(115), &PATIENCE), None);
        assert_eq!(health.next(&PATIENCE), Some(at(116)));
        assert_eq!(health.tick(at(116), &PATIENCE), Some(Turn::Lost));
        assert!(health.is_lost());
        assert_eq!(health.next(&PATIENCE), None);
        assert_eq!(health.tick(at(999), &PATIENCE), None);
        health.registering(at(1000));
        assert_eq!(health.state(), Health::Returning);
        assert_eq!(health.beat(at(1001), &PATIENCE, false), Some(Turn::Back));
    }

    #[test]
    fn a_cut_connection_is_suspected_at_once_and_lost_only_after_silence() {
        let hasty = Patience { grace: Millis(0), ..PATIENCE };
        let mut health = DiskHealth::unheard(at(0));
        health.beat(at(20), &PATIENCE, false);
        assert_eq!(health.cut_off(at(22), &PATIENCE), Some(Turn::Suspected));
        assert_eq!(health.cut_off(at(23), &PATIENCE), None);
        assert_eq!(health.tick(at(29), &hasty), None, "it may be back in a moment");
        assert_eq!(health.tick(at(30), &hasty), Some(Turn::Lost));
    }

    #[test]
    fn a_restarted_daemon_waits_the_whole_time_before_it_counts_anything_as_lost() {
        let mut health = DiskHealth::unheard(at(7));
        assert_eq!((health.state(), health.cause()), (Health::Suspect, Cause::NotHeardYet));
        assert_eq!(health.tick(at(116), &PATIENCE), Some(Turn::Down));
        assert_eq!(health.tick(at(116), &PATIENCE), None);
        assert_eq!(health.tick(at(117), &PATIENCE), Some(Turn::Lost));
    }

    #[test]
    fn one_that_was_never_welcomed_is_lost_without_having_been_back() {
        let mut health = DiskHealth::unheard(at(0));
        health.registering(at(3));
        assert_eq!(health.cut_off(at(4), &PATIENCE), None);
        assert_eq!(health.tick(at(112), &PATIENCE), Some(Turn::Down));
        assert_eq!(health.tick(at(112), &PATIENCE), None);
        assert_eq!(health.tick(at(113), &PATIENCE), Some(Turn::Lost));
        health.registering(at(200));
        assert_eq!(health.tick(at(210), &PATIENCE), None);
        assert_eq!(health.state(), Health::Suspect);
    }

    #[test]
    fn a_disk_error_has_no_grace_and_an_excuse_has_its_own_end() {
        let mut health = DiskHealth::unheard(at(0));
        health.beat(at(1), &PATIENCE, false);
        assert_eq!((health.fail(at(2)), health.cause()), (Some(Turn::Lost), Cause::DiskError));

        let excused = Patience { excused_until: Some(at(1_000)), ..PATIENCE };
        let mut health = DiskHealth::unheard(at(0));
        assert_eq!(health.tick(at(999), &excused), Some(Turn::Down));
        assert_eq!(health.tick(at(999), &excused), None);
        assert_eq!(health.tick(at(1_000), &excused), Some(Turn::Lost));
        // What ends before the grace does takes nothing from it.
        let short = Patience { excused_until: Some(at(20)), ..PATIENCE };
        let mut health = DiskHealth::unheard(at(0));
        assert_eq!((health.tick(at(109), &short), health.tick(at(109), &short)), (Some(Turn::Down), None));
        assert_eq!(health.tick(at(110), &short), Some(Turn::Lost));
    }

    #[test]
    fn one_that_flaps_is_held_until_it_was_quiet_unless_it_is_needed() {
        let mut health = DiskHealth::unheard(at(0));
        health.beat(at(0), &PATIENCE, false);
        health.cut_off(at(5), &PATIENCE);
        assert_eq!(health.beat(at(6), &PATIENCE, false), Some(Turn::Back), "once is no flapping");
        health.cut_off(at(10), &PATIENCE);
        assert_eq!((health.beat(at(11), &PATIENCE, false), health.is_held()), (None, true));
        assert_eq!((health.state(), health.cause()), (Health::Returning, Cause::Flaps));
        assert_eq!(health.beat(at(70), &PATIENCE, false), None);
        assert_eq!(health.beat(at(71), &PATIENCE, false), Some(Turn::Back), "60 ms of quiet");
        // Gone while it is held: that counts, too, and nobody hears of it.
        health.cut_off(at(80), &PATIENCE);
        health.beat(at(81), &PATIENCE, false);
        assert_eq!(health.cut_off(at(85), &PATIENCE), None);
        health.beat(at(86), &PATIENCE, false);
        assert_eq!(health.flaps().held_until(at(86), &HOLD), Some(at(86 + 240)));
        assert_eq!(health.beat(at(87), &PATIENCE, true), Some(Turn::Back), "data cannot do without it");
    }
}
