//! The holder: renews the lease, begins nothing where it could not, and hands it over.

use super::{
    Asked, LOOKS_PER_TTL, LeaseConfig, LeaseEnd, LeaseError, LeaseOp, LeaseOutcome, Ownership, Phase, Seen, decoded,
};
use crate::catalog::{Found, LeaseRow, TxnResult};
use crate::time::{Millis, Time};

/// How far it is.
#[derive(Debug)]
pub(super) struct Holding {
    /// The row as it is in the catalog, as far as is known.
    seen: Seen,
    /// Until then nobody takes it over, by this clock and with a quarter of the TTL to spare. None where nobody can.
    good_until: Option<Time>,
    ask: Option<Ask>,
    /// When to renew, or to read again.
    next: Time,
    reads: bool,
    doubt: Option<Doubt>,
    is_told_lapsed: bool,
    leaving: Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// What was begun is waited for, at most until then.
    Working {
        until: Time,
    },
    /// The row is to say so, at most until then: without a word the lease is as good as silent.
    Releasing {
        until: Time,
    },
}

#[derive(Debug)]
enum Ask {
    Read(Asked),
    Write { asked: Asked, row: LeaseRow },
}

/// A renewal, or several with the same counter, of which nobody knows what became. The first of them may be the one that took
/// effect.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    counter: u64,
    sent: Time,
}

impl Holding {
    /// A lease taken by a transaction sent then.
    pub(super) fn new(seen: Seen, sent: Time, config: &LeaseConfig) -> Self {
        let mut holding = Self::found(seen, sent);
        holding.renewed(sent, config);
        holding
    }

    /// A lease found to be this daemon's. Since when is not known, so it is renewed before anything is begun.
    pub(super) const fn found(seen: Seen, now: Time) -> Self {
        Self {
            seen,
            good_until: Some(now),
            ask: None,
            next: now,
            reads: false,
            doubt: None,
            is_told_lapsed: false,
            leaving: Leaving::No,
        }
    }

    /// Who looks saw the row change after it was sent, and waits for a TTL from then on.
    fn renewed(&mut self, sent: Time, config: &LeaseConfig) {
        let ttl = config.ttl.0;
        self.good_until = if config.exclusive { None } else { Some(sent + Millis(ttl - ttl / LOOKS_PER_TTL)) };
        self.next = sent + Millis(ttl / LOOKS_PER_TTL);
        self.doubt = None;
    }

    fn wrote(&mut self, asked: Asked, row: LeaseRow) {
        let same = self.doubt.filter(|doubt| doubt.counter == row.counter);
        self.doubt = same.or(Some(Doubt { counter: row.counter, sent: asked.at }));
        self.ask = Some(Ask::Write { asked, row });
    }

    pub(super) fn has_lapsed(&self, now: Time) -> bool {
        self.good_until.is_some_and(|until| until <= now)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    pub(super) const fn awaits_work(&self) -> bool {
        matches!(self.leaving, Leaving::Working { .. })
    }

    pub(super) fn wait(&self, now: Time) -> Option<String> {
        match self.leaving {
            Leaving::Working { .. } => Some("the lease is handed over once what is under way has ended".into()),
            Leaving::Releasing { .. } => Some("the lease is being handed over".into()),
            Leaving::No if self.has_lapsed(now) => {
                Some("the lease could not be renewed in time: nothing new is begun until it is".into())
            }
            Leaving::No => None,
        }
    }
}

impl Ownership {
    fn holding(&mut self) -> Option<&mut Holding> {
        match &mut self.phase {
            Phase::Holding(holding) => Some(holding),
            _ => None,
        }
    }

    pub(super) fn hand_over(&mut self) {
        let (now, patience) = (self.now, self.config.ttl);
        if let Some(holding) = self.holding()
            && holding.leaving == Leaving::No
        {
            holding.leaving = Leaving::Working { until: now + patience };
        }
    }

    pub(super) fn work_ended(&mut self) {
        let (now, patience) = (self.now, self.config.ttl);
        if let Some(holding) = self.holding()
            && holding.awaits_work()
        {
            holding.leaving = Leaving::Releasing { until: now + patience };
            // Whatever the answer to what is under way is, the row is written once more.
            (holding.next, holding.reads) = (now, holding.reads || holding.ask.is_some());
        }
    }

    /// Renews or reads where it is time to; when to go on.
    pub(super) fn holder_passes(&mut self) -> Option<Time> {
        self.leave_in_time();
        let now = self.now;
        let holding = self.holding()?;
        let lapses = holding.has_lapsed(now) && !holding.is_told_lapsed && !holding.is_leaving();
        if lapses {
            holding.is_told_lapsed = true;
            self.tell(LeaseOutcome::Lapsed);
        }
        let due = self.holder_asks()?;
        let holding = self.holding()?;
        let lapse = holding.good_until.filter(|at| *at > now && !holding.is_leaving());
        let end = match holding.leaving {
            Leaving::No => None,
            Leaving::Working { until } | Leaving::Releasing { until } => Some(until),
        };
        [Some(due).filter(|at| *at > now), lapse, end].into_iter().flatten().min()
    }

    fn leave_in_time(&mut self) {
        let now = self.now;
        match self.holding().map(|holding| holding.leaving) {
            Some(Leaving::Working { until }) if until <= now => self.work_ended(),
            Some(Leaving::Releasing { until }) if until <= now => self.end(LeaseEnd::HandedOver),
            _ => {}
        }
    }

    /// The next question to the catalog, where one is due; when to go on.
    fn holder_asks(&mut self) -> Option<Time> {
        let now = self.now;
        let under_way = match &self.holding()?.ask {
            Some(Ask::Read(asked) | Ask::Write { asked, .. }) => Some(*asked),
            None => None,
        };
        if let Some(asked) = under_way {
            let silence = self.silence_at(asked);
            if silence > now {
                return Some(silence);
            }
            self.holder_doubts();
        }
        let alone = self.config.exclusive;
        let holding = self.holding()?;
        let releases = matches!(holding.leaving, Leaving::Releasing { .. });
        if alone && !holding.reads && !releases && holding.good_until.is_none() {
            return Some(now);
        }
        if holding.next > now {
            return Some(holding.next);
        }
        if holding.reads {
            let asked = self.read();
            self.holding()?.ask = Some(Ask::Read(asked));
            return Some(self.silence_at(asked));
        }
        let seen = holding.seen.clone();
        let (asked, row) = self.write(Some(&seen), releases)?;
        self.holding()?.wrote(asked, row);
        Some(self.silence_at(asked))
    }

    /// What became of a question is not known: the row says, after a pause.
    fn holder_doubts(&mut self) {
        let next = self.retry_at();
        if let Some(holding) = self.holding() {
            (holding.ask, holding.next, holding.reads) = (None, next, true);
        }
    }

    pub(super) fn holder_wrote(&mut self, op: LeaseOp, result: TxnResult) {
        let config = self.config.clone();
        let Some(holding) = self.holding() else { return };
        let (asked, row) = match &holding.ask {
            Some(Ask::Write { asked, row }) if asked.op == op => (*asked, row.clone()),
            _ => return,
        };
        let TxnResult::Done { revision } = result else { return self.holder_doubts() };
        let released = row.released;
        (holding.ask, holding.reads, holding.seen) = (None, false, Seen { row, revision });
        if released {
            return self.end(LeaseEnd::HandedOver);
        }
        holding.renewed(asked.at, &config);
        self.holder_goes_on();
    }

    pub(super) fn holder_read(&mut self, op: LeaseOp, row: Result<Option<Found>, String>) {
        let (claim, config) = (self.claim, self.config.clone());
        let Some(holding) = self.holding() else { return };
        match &holding.ask {
            Some(Ask::Read(asked)) if asked.op == op => {}
            _ => return,
        }
        let Ok(found) = row else { return self.holder_doubts() };
        let seen = match decoded(found) {
            Ok(Some(seen)) => seen,
            Ok(None) => return self.end(LeaseEnd::Broken(LeaseError::Vanished)),
            Err(error) => return self.end(LeaseEnd::Broken(error)),
        };
        let is_ours = seen.row.claim == claim;
        let releases = matches!(holding.leaving, Leaving::Releasing { .. });
        // Somebody else's row, after the own one said that it may be taken: handed over and taken already.
        if releases && (!is_ours || seen.row.released) {
            return self.end(LeaseEnd::HandedOver);
        }
        if !is_ours {
            return self.end(LeaseEnd::Superseded { by: seen.row.daemon });
        }
        let applied = holding.doubt.filter(|doubt| doubt.counter == seen.row.counter);
        (holding.ask, holding.reads, holding.seen) = (None, false, seen);
        holding.next = Time::ZERO;
        if let Some(Doubt { sent, .. }) = applied {
            holding.renewed(sent, &config);
        }
        self.holder_goes_on();
    }

    fn holder_goes_on(&mut self) {
        let now = self.now;
        let Some(holding) = self.holding() else { return };
        if matches!(holding.leaving, Leaving::Releasing { .. }) {
            holding.next = now;
        }
        if !holding.has_lapsed(now) && std::mem::take(&mut holding.is_told_lapsed) {
            self.tell(LeaseOutcome::Regained);
        }
    }
}
