//! Which of several daemons on one catalog is in charge: standby, holder, hand-over.
//!
//! The holder writes itself into one row and raises its counter well within the TTL. A standby looks at the row and takes it by
//! compare-and-swap when it has seen it unchanged for longer than the TTL on its own clock, or at once when the holder let go of
//! it. No two clocks are compared, and nothing that must be safe rests on this: a daemon that believes to be the holder and is
//! not finds the tokens of its placement groups ([`pg`](crate::pg)) fenced. The lease only saves the work that two daemons
//! would take from each other.

mod effect;
mod holding;
mod standby;
#[cfg(test)]
mod tests;

pub use effect::{LeaseConfig, LeaseEffect, LeaseEnd, LeaseError, LeaseEvent, LeaseOp, LeaseOutcome, Right};

use crate::catalog::{Found, LeaseRow, Txn, key};
use crate::id::ClaimId;
use crate::limits::{DAEMON_NAME_BYTES_MAX, LEASE_TTL_MAX, LEASE_TTL_MIN};
use crate::rng::Dice;
use crate::time::{Millis, Time};
use crate::wire::codec::{CodecError, decode_row, encode_row};
use holding::Holding;
use standby::Standby;
use std::collections::VecDeque;

/// Looks of a standby, and renewals of a holder, in one TTL.
const LOOKS_PER_TTL: u64 = 4;
/// Pauses after a catalog that did not answer, in one TTL.
const RETRIES_PER_TTL: u64 = 16;

/// The machine.
#[derive(Debug)]
pub struct Ownership {
    config: LeaseConfig,
    claim: ClaimId,
    dice: Dice,
    now: Time,
    phase: Phase,
    last_op: u64,
    wake: Option<Time>,
    effects: VecDeque<LeaseEffect>,
}

#[derive(Debug)]
enum Phase {
    New,
    Standby(Standby),
    Holding(Holding),
    Ended,
}

/// The row as last read or written.
#[derive(Clone, Debug)]
struct Seen {
    row: LeaseRow,
    revision: u64,
}

/// A catalog operation under way. One without an answer counts as silent at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    op: LeaseOp,
    at: Time,
}

impl Ownership {
    /// A machine that has not begun. `claim` is of this life of the daemon alone.
    pub const fn new(config: LeaseConfig, claim: ClaimId, dice: Dice) -> Self {
        Self {
            config,
            claim,
            dice,
            now: Time::ZERO,
            phase: Phase::New,
            last_op: 0,
            wake: None,
            effects: VecDeque::new(),
        }
    }

    /// Takes an event.
    pub fn handle(&mut self, now: Time, event: LeaseEvent) {
        self.now = self.now.max(now);
        match event {
            LeaseEvent::Begin => self.begin(),
            LeaseEvent::Tick => self.wake = None,
            LeaseEvent::HandOver => self.hand_over(),
            LeaseEvent::WorkEnded => self.work_ended(),
            LeaseEvent::Row { op, row } => match &self.phase {
                Phase::Standby(_) => self.standby_read(op, row),
                Phase::Holding(_) => self.holder_read(op, row),
                Phase::New | Phase::Ended => {}
            },
            LeaseEvent::Txn { op, result } => match &self.phase {
                Phase::Standby(_) => self.standby_wrote(op, result),
                Phase::Holding(_) => self.holder_wrote(op, result),
                Phase::New | Phase::Ended => {}
            },
        }
        let due = match &self.phase {
            Phase::Standby(_) => self.standby_passes(),
            Phase::Holding(_) => self.holder_passes(),
            Phase::New | Phase::Ended => None,
        };
        if let Some(at) = due.filter(|_| due != self.wake) {
            self.wake = Some(at);
            self.effects.push_back(LeaseEffect::WakeAt(at));
        }
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<LeaseEffect> {
        self.effects.pop_front()
    }

    /// Whether the lease is this daemon's as far as it knows, lapsed or not.
    pub const fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Holding(_))
    }

    /// Whether it does not hold the lease yet.
    pub const fn is_standby(&self) -> bool {
        matches!(self.phase, Phase::Standby(_))
    }

    /// Whether it waits for another daemon that it has seen to hold the lease.
    pub const fn is_behind_another(&self) -> bool {
        match &self.phase {
            Phase::Standby(standby) => standby.watches(),
            _ => false,
        }
    }

    /// Whether anything new may be begun: the lease is held, has not lapsed, and is not being handed over.
    pub fn may_begin(&self, now: Time) -> bool {
        match &self.phase {
            Phase::Holding(holding) => !holding.is_leaving() && !holding.has_lapsed(now.max(self.now)),
            _ => false,
        }
    }

    /// Whether what was begun is waited for, to hand over then.
    pub const fn is_handing_over(&self) -> bool {
        match &self.phase {
            Phase::Holding(holding) => holding.awaits_work(),
            _ => false,
        }
    }

    /// What is waited for, in words; nothing where work goes on.
    pub fn wait(&self) -> Option<String> {
        match &self.phase {
            Phase::New | Phase::Ended => None,
            Phase::Standby(standby) => Some(standby.wait(self.now)),
            Phase::Holding(holding) => holding.wait(self.now),
        }
    }

    fn begin(&mut self) {
        if matches!(self.phase, Phase::New) {
            self.phase = Phase::Standby(Standby::default());
            if let Err(error) = sound(&self.config.daemon, self.config.ttl) {
                self.end(LeaseEnd::Broken(error));
            }
        }
    }

    fn tell(&mut self, outcome: LeaseOutcome) {
        self.effects.push_back(LeaseEffect::Outcome(outcome));
    }

    fn end(&mut self, end: LeaseEnd) {
        self.phase = Phase::Ended;
        self.tell(LeaseOutcome::Ended(end));
    }

    fn next_op(&mut self) -> LeaseOp {
        self.last_op += 1;
        LeaseOp(self.last_op)
    }

    fn read(&mut self) -> Asked {
        let op = self.next_op();
        self.effects.push_back(LeaseEffect::Read { op });
        Asked { op, at: self.now }
    }

    /// Writes the row of this daemon over the one that was seen, unless that has changed. None where it cannot be: that is the end.
    fn write(&mut self, before: Option<&Seen>, released: bool) -> Option<(Asked, LeaseRow)> {
        let (last, revision) = before.map_or((0, 0), |seen| (seen.row.counter, seen.revision));
        // Where nobody else counts, it may begin anew.
        let Some(counter) = last.checked_add(1).or(self.config.exclusive.then_some(1)) else {
            self.end(LeaseEnd::Broken(LeaseError::Counter));
            return None;
        };
        let (daemon, ttl) = (self.config.daemon.clone(), self.config.ttl);
        let row = LeaseRow { daemon, claim: self.claim, ttl, counter, released };
        let value = match encode_row(&row) {
            Ok(value) => value,
            Err(error) => {
                self.end(LeaseEnd::Broken(LeaseError::Row(error)));
                return None;
            }
        };
        let txn = Txn::new().compare(key::lease(), revision).put(key::lease(), value);
        let op = self.next_op();
        self.effects.push_back(LeaseEffect::Write { op, txn });
        Some((Asked { op, at: self.now }, row))
    }

    fn part_of_ttl(&self, parts: u64) -> Millis {
        Millis((self.config.ttl.0 / parts).max(1))
    }

    /// A pause after a catalog that did not answer or changed its mind. Drawn, so that two daemons do not go on in step.
    fn retry_at(&mut self) -> Time {
        let pause = self.part_of_ttl(RETRIES_PER_TTL).0;
        self.now + Millis(pause / 2 + self.dice.below(pause) + 1)
    }

    /// When an answer is not waited for any longer.
    fn silence_at(&self, asked: Asked) -> Time {
        asked.at + self.part_of_ttl(2)
    }
}

/// A row from the catalog's answer: none where there is none.
fn decoded(found: Option<Found>) -> Result<Option<Seen>, LeaseError> {
    let Some(found) = found else { return Ok(None) };
    let row: LeaseRow = decode_row(&found.value).map_err(|error: CodecError| LeaseError::Row(error))?;
    sound(&row.daemon, row.ttl)?;
    Ok(Some(Seen { row, revision: found.revision }))
}

fn sound(daemon: &str, ttl: Millis) -> Result<(), LeaseError> {
    if !(LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&ttl) {
        return Err(LeaseError::Ttl { ttl });
    }
    if daemon.is_empty() || daemon.len() > DAEMON_NAME_BYTES_MAX {
        return Err(LeaseError::Name { bytes: daemon.len() });
    }
    Ok(())
}
