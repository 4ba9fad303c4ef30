//! The standby: looks at the lease, and takes it when it may.

use super::LeaseError;
use super::holding::Holding;
use super::{Asked, LOOKS_PER_TTL, LeaseEnd, LeaseOp, LeaseOutcome, Ownership, Phase, Right, Seen, decoded};
use crate::catalog::{Found, LeaseRow, TxnResult};
use crate::id::ClaimId;
use crate::time::{Millis, Time};

/// A standby takes a silent lease up to this part of a TTL after it may, drawn: so two do not contend each time.
const CONTENDERS_PER_TTL: u64 = 8;

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Standby {
    /// What is under way in the catalog.
    ask: Option<Ask>,
    /// When to look next; at once where nothing is said.
    next: Time,
    watch: Option<Watch>,
    trouble: Option<String>,
}

#[derive(Debug)]
enum Ask {
    Read(Asked),
    Take { asked: Asked, row: LeaseRow, right: Right, before: Option<String> },
}

/// Another's lease, watched.
#[derive(Debug)]
struct Watch {
    seen: Seen,
    /// When the row was first seen like that.
    since: Time,
    /// When it may be taken if it still is.
    silent_at: Time,
}

impl Standby {
    pub(super) const fn watches(&self) -> bool {
        self.watch.is_some()
    }

    pub(super) fn wait(&self, now: Time) -> String {
        let holder = match &self.watch {
            Some(Watch { seen, since, .. }) if seen.row.released => {
                format!("standby: daemon {} has handed over, {} ms ago", seen.row.daemon, now.since(*since).0)
            }
            Some(Watch { seen, since, .. }) => {
                let (silent, ttl) = (now.since(*since).0, seen.row.ttl.0);
                format!("standby: daemon {} holds the lease, unchanged for {silent} of {ttl} ms", seen.row.daemon)
            }
            None => "standby: who holds the lease is not known yet".to_owned(),
        };
        self.trouble.as_ref().map_or_else(|| holder.clone(), |trouble| format!("{holder}; {trouble}"))
    }
}

impl Ownership {
    fn standby(&mut self) -> Option<&mut Standby> {
        match &mut self.phase {
            Phase::Standby(standby) => Some(standby),
            _ => None,
        }
    }

    /// Looks where it is time to; when to go on.
    pub(super) fn standby_passes(&mut self) -> Option<Time> {
        let now = self.now;
        let asked = match &self.standby()?.ask {
            Some(Ask::Read(asked) | Ask::Take { asked, .. }) => Some(*asked),
            None => None,
        };
        if let Some(asked) = asked {
            let silence = self.silence_at(asked);
            if silence > now {
                return Some(silence);
            }
            // A taking without an answer is found in the row, or not.
            self.look_again("the catalog does not answer");
        }
        let next = self.standby()?.next;
        if next > now {
            return Some(next);
        }
        let asked = self.read();
        let silence = self.silence_at(asked);
        self.standby()?.ask = Some(Ask::Read(asked));
        Some(silence)
    }

    fn look_again(&mut self, trouble: &str) {
        let next = self.retry_at();
        if let Some(standby) = self.standby() {
            (standby.ask, standby.next, standby.trouble) = (None, next, Some(trouble.to_owned()));
        }
    }

    pub(super) fn standby_read(&mut self, op: LeaseOp, row: Result<Option<Found>, String>) {
        let Some(standby) = self.standby() else { return };
        let asked = match &standby.ask {
            Some(Ask::Read(asked)) if asked.op == op => *asked,
            _ => return,
        };
        let found = match row {
            Ok(found) => found,
            Err(trouble) => return self.look_again(&trouble),
        };
        let revision = found.as_ref().map(|found| found.revision);
        let seen = match (decoded(found), revision) {
            (Ok(seen), _) => seen,
            // Whatever it says, there is no other daemon that it could keep out.
            (Err(error), Some(revision)) if self.config.exclusive => Some(self.unreadable(&error, revision)),
            (Err(error), _) => return self.end(LeaseEnd::Broken(error)),
        };
        let Some(standby) = self.standby() else { return };
        (standby.ask, standby.trouble) = (None, None);
        match seen {
            // A taking whose answer was lost took effect.
            Some(seen) if seen.row.claim == self.claim => self.hold(Holding::found(seen, self.now), Right::Free, None),
            seen => match self.right_to(seen.as_ref(), asked.at) {
                Some(right) => self.take(seen, right),
                None => self.watch_on(seen),
            },
        }
    }

    /// What is written over where a row cannot be read and keeps nobody out.
    fn unreadable(&self, error: &LeaseError, revision: u64) -> Seen {
        let (daemon, claim, ttl) = (format!("a row that cannot be read ({error})"), ClaimId(0), self.config.ttl);
        Seen { row: LeaseRow { daemon, claim, ttl, counter: 0, released: true }, revision }
    }

    /// By what right the lease may be taken now, if by any.
    fn right_to(&self, seen: Option<&Seen>, asked_at: Time) -> Option<Right> {
        let Some(Seen { row, revision }) = seen else { return Some(Right::Free) };
        let Phase::Standby(Standby { watch, .. }) = &self.phase else { return None };
        // Unchanged from the answer to one question until another question was asked: that is a span of this clock alone.
        let is_silent =
            watch.as_ref().is_some_and(|watch| watch.seen.revision == *revision && watch.silent_at <= asked_at);
        let is_own = row.daemon == self.config.daemon;
        match (self.config.exclusive, row.released, is_own) {
            (true, ..) => Some(Right::Alone),
            (false, true, false) => Some(Right::Released),
            (false, false, true) => Some(Right::Own),
            // What this daemon let go of in an earlier life is for others first.
            (false, true, true) | (false, false, false) => is_silent.then_some(Right::Silent),
        }
    }

    fn take(&mut self, seen: Option<Seen>, right: Right) {
        let before = seen.as_ref().map(|seen| seen.row.daemon.clone());
        let Some((asked, row)) = self.write(seen.as_ref(), false) else { return };
        if let Some(standby) = self.standby() {
            standby.ask = Some(Ask::Take { asked, row, right, before });
        }
    }

    fn watch_on(&mut self, seen: Option<Seen>) {
        let (now, every) = (self.now, self.part_of_ttl(LOOKS_PER_TTL));
        let contending = Millis(self.dice.below(self.part_of_ttl(CONTENDERS_PER_TTL).0));
        let shifted = Millis(self.dice.below(self.part_of_ttl(4 * LOOKS_PER_TTL).0));
        let (Some(standby), Some(seen)) = (self.standby(), seen) else { return };
        let same = standby.watch.as_ref().is_some_and(|watch| watch.seen.revision == seen.revision);
        if !same {
            // Longer than the TTL: a holder whose clock is a little slower is not overtaken while it still works.
            let silent_at = now + seen.row.ttl + contending + Millis(1);
            standby.watch = Some(Watch { seen, since: now, silent_at });
        }
        let look = now + every + shifted;
        let silent_at = standby.watch.as_ref().map(|watch| watch.silent_at).filter(|at| *at > now);
        standby.next = silent_at.map_or(look, |at| at.min(look));
    }

    pub(super) fn standby_wrote(&mut self, op: LeaseOp, result: TxnResult) {
        let Some(standby) = self.standby() else { return };
        let Some(Ask::Take { asked, .. }) = &standby.ask else { return };
        if asked.op != op {
            return;
        }
        let Some(Ask::Take { asked, row, right, before }) = standby.ask.take() else { return };
        match result {
            TxnResult::Done { revision } => {
                self.hold(Holding::new(Seen { row, revision }, asked.at, &self.config), right, before);
            }
            TxnResult::Refused => self.look_again("another daemon may have taken the lease"),
            TxnResult::Unknown => self.look_again("whether the lease was taken is not known yet"),
        }
    }

    fn hold(&mut self, holding: Holding, right: Right, before: Option<String>) {
        self.phase = Phase::Holding(holding);
        self.tell(LeaseOutcome::Taken { right, before });
    }
}
