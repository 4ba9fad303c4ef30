//! The daemon as a node sees it: registered with, beaten to, asked how attempts ended.

use super::{Node, NodeEffect, Pending, StoreError, StoreOk};
use crate::id::{AttemptId, CellKey, DiskId, PgId};
use crate::lineage::{Claim, Life};
use crate::rng::Dice;
use crate::time::{Millis, Time};
use crate::wire::daemon::AttemptState;
use crate::wire::node::{DamageReport, FragmentKey};
use crate::wire::{CallError, DaemonReply, DaemonRequest, Refusal};
use std::collections::BTreeMap;

/// Findings told with one beat.
const REPORTS_MAX: usize = 64;
/// Questions under way; older ones are forgotten, their answers ignored.
const QUESTIONS_MAX: usize = 64;
/// Attempts asked about at once.
const ASKED_MAX: usize = 8;
/// Of why the store is broken.
const REASON_BYTES_MAX: usize = 200;
/// A daemon that refused is not asked more often than this.
const REFUSED_MS: u64 = 1000;
/// One that is not ready is asked again so soon.
const UNAVAILABLE_MS: u64 = 100;

/// How often the daemon is told how fast the store is: a disk is judged by minutes.
const TIMES_EVERY: Millis = Millis(10_000);

#[derive(Debug)]
enum Question {
    Register(Claim),
    Beat(Vec<DamageReport>),
    /// What was told of faults, by version and by operations.
    Faults(u64, u64),
    Ask(PgId, AttemptId),
}

/// What is known of the daemon.
#[derive(Debug)]
pub(super) struct Link {
    /// Whether there has been a connection.
    reached: bool,
    pub(super) registered: bool,
    pub(super) refusal: Option<Refusal>,
    /// Whether cell and life are being written.
    storing_cell: bool,
    /// The life of the disk that this process lives, or begins.
    pub(super) life: Life,
    /// The life that the daemon knows to be stored.
    confirmed: Option<Life>,
    /// When to begin the next.
    next_life: Time,
    /// Whether the daemon is asked as those before it were: it did not know what it was asked.
    is_old: bool,
    beat_every: Millis,
    /// When to register or beat next.
    due: Time,
    next_number: u64,
    questions: BTreeMap<u64, Question>,
    /// Findings the daemon has not taken yet.
    reports: BTreeMap<FragmentKey, String>,
    /// Why nothing can be stored here any more.
    broken: Option<String>,
    /// What the daemon took of faults: version, operations, and when.
    told: (u64, u64, Time),
}

impl Link {
    pub(super) fn new(beat_every: Millis) -> Self {
        Self {
            reached: false,
            registered: false,
            refusal: None,
            storing_cell: false,
            life: Life { number: 1, boot: 0 },
            confirmed: None,
            next_life: Time::ZERO,
            is_old: false,
            beat_every,
            due: Time::ZERO,
            next_number: 0,
            questions: BTreeMap::new(),
            reports: BTreeMap::new(),
            broken: None,
            told: (0, 0, Time::ZERO),
        }
    }

    /// Nothing can be stored any more.
    pub(super) fn broke(&mut self, now: Time, mut reason: String) {
        let end = (0..=reason.len().min(REASON_BYTES_MAX)).rev().find(|at| reason.is_char_boundary(*at));
        reason.truncate(end.unwrap_or(0));
        self.broken = Some(reason);
        self.beat_soon(now);
    }

    /// Why nothing can be stored any more, where that is so.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// What the daemon knows is not so any more: it should not wait for the next beat.
    pub(super) fn beat_soon(&mut self, now: Time) {
        if self.registered {
            self.due = self.due.min(now);
        }
    }
}

impl Node {
    /// There is a connection, perhaps to another daemon than before.
    pub(super) fn reached(&mut self) {
        self.link.is_old = false;
        self.register();
    }

    pub(super) fn register(&mut self) {
        if self.host.is_some() {
            (self.link.reached, self.link.registered) = (true, false);
            self.link.due = self.now + Millis(self.link.beat_every.0.max(REFUSED_MS));
            self.show();
        }
    }

    /// Shows the daemon which disk this is and which of its lives.
    fn show(&mut self) {
        let Some(host) = &self.host else { return };
        // The daemon refuses what was asked before and is not answered yet: that says nothing any more.
        self.link.questions.retain(|_, question| !matches!(question, Question::Register(_)));
        let (disk, cell, boot) = (host.disk, host.cell, host.boot);
        let (domain, address) = (host.domain.clone(), host.address.clone());
        let claim = Claim { had: host.life, life: self.link.life };
        let (free_bytes, total_bytes) = self.room();
        let request = if self.link.is_old {
            DaemonRequest::Register { disk, cell, domain, address, boot, free_bytes, total_bytes }
        } else {
            DaemonRequest::RegisterLife { disk, cell, domain, address, free_bytes, total_bytes, claim }
        };
        self.ask(Question::Register(claim), request);
    }

    /// A life that has lasted for long enough is followed by the next. One that is not stored yet is shown again.
    fn renew(&mut self) {
        if self.link.next_life <= self.now && !self.link.is_old {
            if self.host.as_ref().is_some_and(|host| host.life == Some(self.link.life)) {
                self.link.life.number = self.link.life.number.saturating_add(1);
            }
            self.link.next_life = self.now + self.life_span();
            self.show();
        }
    }

    /// How long a life lasts: three to five quarters of what is set, so that no two disks of a cell go on together for long.
    pub(super) fn life_span(&self) -> Millis {
        let (every, host) = (self.config.life_every.0, self.host.as_ref());
        let seed = host.map_or(0, |host| (host.disk.0 >> 64) as u64 ^ host.disk.0 as u64 ^ host.boot);
        Millis(every - every / 4 + Dice::new(seed).below(every / 2 + 1))
    }

    fn ask(&mut self, question: Question, request: DaemonRequest) {
        let number = self.link.next_number;
        self.link.next_number += 1;
        if self.link.questions.len() >= QUESTIONS_MAX {
            self.link.questions.pop_first();
        }
        self.link.questions.insert(number, question);
        self.effects.push_back(NodeEffect::AskDaemon { number, request });
    }

    pub(super) fn daemon_answered(&mut self, number: u64, result: Result<DaemonReply, CallError>) {
        let Some(question) = self.link.questions.remove(&number) else { return };
        match (question, result) {
            // Silence: the next beat or registration is due anyway.
            (_, Err(_)) => {}
            (Question::Register(claim), Ok(DaemonReply::Welcome { cell, beat_every })) => {
                if claim.had == Some(claim.life) {
                    self.link.confirmed = claim.had;
                }
                self.welcome(cell, beat_every);
            }
            (Question::Register(_), Ok(DaemonReply::WelcomeAs { cell, beat_every, life_number })) => {
                self.link.life.number = self.link.life.number.max(life_number);
                self.welcome(cell, beat_every);
            }
            // The beat beside them says it too.
            (Question::Faults(..), Ok(DaemonReply::RegisterFirst)) => {}
            (_, Ok(DaemonReply::RegisterFirst)) => self.register(),
            (Question::Register(_) | Question::Beat(_), Ok(DaemonReply::Refused(refusal))) => {
                self.link.registered = false;
                // A daemon that knows no lives says so; where it meant something else, it will be the other way about next time.
                self.link.is_old = !self.link.is_old && matches!(refusal, Refusal::Invalid(_));
                if matches!(refusal, Refusal::Unavailable(_) | Refusal::Busy(_) | Refusal::NotOwner(_)) {
                    // It is starting or stands by, say: nothing an operator should hear of, and soon over.
                    self.link.due = self.link.due.min(self.now + Millis(UNAVAILABLE_MS));
                } else {
                    self.link.refusal = Some(refusal);
                }
            }
            (Question::Beat(told), Ok(DaemonReply::BeatTaken)) => {
                let reports = &mut self.link.reports;
                reports.retain(|fragment, class| {
                    !told.iter().any(|report| report.fragment == *fragment && report.class == *class)
                });
            }
            (Question::Faults(version, timed), Ok(DaemonReply::BeatTaken)) => {
                self.link.told = (version, timed, self.now);
            }
            (Question::Ask(pg, attempt), Ok(DaemonReply::AttemptState(AttemptState::Aborted))) => {
                self.disown(pg, attempt);
            }
            // Committed: the owner tells it with the row. Live, or no sense: asked again later.
            _ => {}
        }
    }

    fn welcome(&mut self, cell: CellKey, beat_every: Millis) {
        match self.cell() {
            Some(ours) if ours != cell => {
                self.link.refusal =
                    Some(Refusal::WrongCell(format!("this disk is of cell {ours}, the daemon of {cell}")));
                return;
            }
            _ => {}
        }
        let life = self.link.life;
        let stored = self.host.as_ref().is_some_and(|host| host.cell == Some(cell) && host.life == Some(life));
        if !stored && !self.link.storing_cell {
            self.link.storing_cell = true;
            let op = self.expect(Pending::Cell(cell, life));
            self.effects.push_back(NodeEffect::SetCell { op, cell, life });
        }
        (self.link.registered, self.link.refusal) = (true, None);
        if self.link.next_life <= self.now {
            self.link.next_life = self.now + self.life_span();
        }
        self.link.beat_every = Millis(beat_every.0.max(1));
        // It takes us for sound as long as nobody says otherwise.
        self.link.due = if self.link.broken.is_some() { self.now } else { self.now + self.link.beat_every };
        // A daemon that is new knows of no damage, and of no faults.
        (self.link.told.0, self.link.told.1) = (0, 0);
        let damaged = self.groups.values().flat_map(|group| &group.ledger.damaged);
        let damaged: Vec<_> = damaged.map(|(fragment, class)| (*fragment, class.clone())).collect();
        self.link.reports.extend(damaged);
    }

    pub(super) fn cell_stored(&mut self, cell: CellKey, life: Life, result: Result<StoreOk, StoreError>) {
        self.link.storing_cell = false;
        match (result, &mut self.host) {
            (Ok(_), Some(host)) => {
                (host.cell, host.life) = (Some(cell), Some(life));
                // Until the daemon knows it, it would take the life before too.
                self.show();
            }
            // The disk is ours as it was; only its life is an old one still.
            (Err(_), Some(host)) if host.cell.is_some() => {}
            // Not ours yet: registering again leads here again.
            _ => self.link.registered = false,
        }
    }

    /// A finding for the daemon.
    pub(super) fn report(&mut self, fragment: FragmentKey, class: String) {
        self.link.reports.insert(fragment, class);
        self.link.beat_soon(self.now);
    }

    /// Beats, registers and asks where it is time to.
    pub(super) fn link_due(&mut self) {
        if !self.link.reached {
            return;
        }
        if self.link.due <= self.now {
            if self.link.registered { self.beat() } else { self.register() }
        }
        if self.link.registered {
            self.renew();
            self.ask_about_attempts();
        }
    }

    fn beat(&mut self) {
        let Some(host) = &self.host else { return };
        let reports = self.link.reports.iter().take(REPORTS_MAX);
        let damaged: Vec<DamageReport> =
            reports.map(|(fragment, class)| DamageReport { fragment: *fragment, class: class.clone() }).collect();
        let (free_bytes, _) = self.room();
        let (disk, boot, broken) = (host.disk, host.boot, self.link.broken.clone());
        let request = DaemonRequest::Beat { disk, boot, free_bytes, broken, damaged: damaged.clone() };
        self.link.due = self.now + self.link.beat_every;
        self.tell_faults(disk, boot);
        self.confirm();
        self.ask(Question::Beat(damaged), request);
    }

    /// Until the daemon has heard that the life is stored, it takes the one before too.
    fn confirm(&mut self) {
        let stored = self.host.as_ref().and_then(|host| host.life).filter(|life| *life == self.link.life);
        let is_asked = self.link.questions.values().any(|question| matches!(question, Question::Register(_)));
        if stored.is_some() && stored != self.link.confirmed && !is_asked && !self.link.is_old {
            self.show();
        }
    }

    /// New faults with the next beat, times now and then.
    fn tell_faults(&mut self, disk: DiskId, boot: u64) {
        let (version, timed, at) = self.link.told;
        let is_due = self.faults.version != version || (self.faults.timed != timed && at + TIMES_EVERY <= self.now);
        if is_due && !self.link.is_old {
            let (faults, service) = (self.faults.counts(self.now), self.faults.service());
            let quarantined = self.faults.quarantined();
            let request = DaemonRequest::Faults { disk, boot, faults, service, quarantined };
            self.ask(Question::Faults(self.faults.version, self.faults.timed), request);
        }
    }

    fn ask_about_attempts(&mut self) {
        let (now, ask_after) = (self.now, self.config.ask_after);
        let mut due = Vec::new();
        for (pg, group) in &mut self.groups {
            for (attempt, since) in group.waiting.iter_mut().filter(|(_, since)| **since + ask_after <= now) {
                if due.len() == ASKED_MAX {
                    break;
                }
                *since = now;
                due.push((*pg, *attempt));
            }
        }
        for (pg, attempt) in due {
            self.ask(Question::Ask(pg, attempt), DaemonRequest::Ask { pg, attempt });
        }
    }

    pub(super) fn link_wake(&self) -> Option<Time> {
        if !self.link.reached {
            return None;
        }
        let waiting = self.groups.values().flat_map(|group| group.waiting.values()).min();
        let ask = waiting.filter(|_| self.link.registered).map(|since| *since + self.config.ask_after);
        let renew = Some(self.link.next_life).filter(|_| self.link.registered && !self.link.is_old);
        [Some(self.link.due), ask, renew].into_iter().flatten().min()
    }
}
