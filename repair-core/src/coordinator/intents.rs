//! What operators want of disks and of the cell: drains, maintenance windows, a pause of repairs. Each is a row of the catalog and
//! takes effect once that is stored, so that a daemon that is started again still knows it.
//!
//! No clock tells how long a daemon was away, so a window is stored as what is left of it, and stored again every minute: a restart
//! makes it longer by that and by the daemon's absence, never shorter.

use super::disks::Disk;
use super::{Asker, Coordinator, Op, Timer};
use crate::catalog::{DrainRow, Found, IntentRow, PauseRow, Txn, TxnResult, key};
use crate::health::Health;
use crate::id::{DiskId, PgId};
use crate::time::{Millis, Time};
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::{DaemonReply, Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// How often what is left of a window is stored.
const WINDOW_STORED_EVERY: Millis = Millis(60_000);
/// Longest window.
pub const WINDOW_MAX: Millis = Millis(30 * 24 * 60 * 60 * 1_000);
/// A pause leaves repairs of extents that survive at most so many further losses alone.
const PAUSED_ABOVE: u16 = 1;

/// What an intent is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Disk(DiskId),
    Repairs,
}

impl About {
    fn key(self) -> Vec<u8> {
        match self {
            Self::Disk(disk) => key::intent(disk),
            Self::Repairs => key::pause(),
        }
    }
}

/// A row, as it is and as it is to be.
#[derive(Debug, Default)]
struct Record {
    /// The value; none where there is to be no row.
    wanted: Option<Vec<u8>>,
    /// The row as it is, and its revision.
    stored: Option<(Vec<u8>, u64)>,
    writing: bool,
    /// Whether the window in what is wanted is an operator's word that is not stored yet.
    is_word: bool,
    /// Who is told once it is stored.
    askers: Vec<Asker>,
}

impl Record {
    fn stands(&self) -> bool {
        self.wanted.as_ref() == self.stored.as_ref().map(|(value, _)| value)
    }
}

/// A drain.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    pub(super) row: DrainRow,
    pub(super) since: Time,
    /// Groups that it has left in this life of the daemon and that have not been found full since.
    pub(super) left: BTreeSet<PgId>,
    pub(super) moved: u64,
}

/// A maintenance window.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Time,
    until: Time,
    /// When what is left of it is stored again, or it is over: the one timer that counts.
    due: Time,
}

/// All intents.
#[derive(Debug, Default)]
pub(super) struct Intents {
    records: BTreeMap<About, Record>,
    pub(super) drains: BTreeMap<DiskId, Drain>,
    windows: BTreeMap<DiskId, Window>,
    paused: Option<PauseRow>,
}

impl Intents {
    /// Whether the repair of an extent that survives so many further losses is to wait.
    pub(super) fn pauses(&self, margin: usize) -> bool {
        self.paused.is_some_and(|pause| margin > usize::from(pause.above_margin))
    }

    pub(super) fn paused_above(&self) -> Option<u16> {
        self.paused.map(|pause| pause.above_margin)
    }
}

impl Coordinator {
    /// When a disk's maintenance window ends, while it is in one.
    pub(super) fn window_ends(&self, id: DiskId) -> Option<Time> {
        self.intents.windows.get(&id).map(|window| window.until).filter(|until| *until > self.now)
    }

    pub(super) fn is_draining(&self, id: DiskId) -> bool {
        self.intents.drains.contains_key(&id)
    }

    /// Whether a disk was drained to leave the cell, and did.
    pub(super) fn has_left(&self, id: DiskId) -> bool {
        self.intents.drains.get(&id).is_some_and(|drain| drain.row.leaves && drain.row.drained)
    }

    /// How a disk is by the operator's word.
    pub(super) fn intended(&self, id: DiskId, disk: &Disk) -> Option<(Health, Time, String)> {
        if let Some(window) = self.intents.windows.get(&id).filter(|window| window.until > self.now) {
            let silent_s = self.now.since(disk.health.last_heard()).0 / 1_000;
            let left_s = window.until.since(self.now).0 / 1_000;
            let evidence = format!("its window ends in {left_s} s; last heard {silent_s} s ago");
            return Some((Health::Maintenance, window.since, evidence));
        }
        let drain = self.intents.drains.get(&id).filter(|_| disk.health.is_healthy())?;
        let left = self.groups_of(id).len();
        let evidence = if drain.row.drained && left == 0 {
            "drained: by a recount nothing of any placement group is on it".to_owned()
        } else {
            format!("{left} placement groups are still on it")
        };
        Some((Health::Draining, drain.since, evidence))
    }

    pub(super) fn disk_intent(&self, id: DiskId) -> IntentRow {
        let record = self.intents.records.get(&About::Disk(id));
        let wanted = record.and_then(|record| record.wanted.as_ref()).and_then(|value| decode_row(value).ok());
        let row = wanted.unwrap_or(IntentRow { disk: id, drain: None, window_left: None });
        if record.is_some_and(|record| record.is_word) {
            return row;
        }
        IntentRow { window_left: self.window_ends(id).map(|until| until.since(self.now)), ..row }
    }

    /// Whether nothing else is wanted of a disk than what is stored.
    pub(super) fn intent_is_stored(&self, id: DiskId) -> bool {
        self.intents.records.get(&About::Disk(id)).is_none_or(|record| record.stands() && !record.writing)
    }

    /// The one disk that an operator's word is about; refused where none is, or more than one.
    pub(super) fn disk_meant(&self, name: &str) -> Result<DiskId, Refusal> {
        let disks = self.disks_called(name);
        // Of one that died, and was replaced under its name, nothing is left to want.
        let stays = |id: &DiskId| !self.is_lost(*id) || !self.groups_of(*id).is_empty();
        let living: Vec<DiskId> = disks.iter().copied().filter(stays).collect();
        match (disks.as_slice(), living.as_slice()) {
            ([], _) => Err(Refusal::NotFound),
            ([one], _) | (_, [one]) => Ok(*one),
            (all, _) => {
                let ids: Vec<String> = all.iter().map(ToString::to_string).collect();
                Err(Refusal::Invalid(format!("{name:?} is the name of more than one disk: {}", ids.join(", "))))
            }
        }
    }

    /// An operator begins a drain, or gives it up.
    pub(super) fn drain_wanted(&mut self, asker: Asker, node: &str, drain: Option<DrainRow>) {
        match self.disk_meant(node) {
            Ok(id) => self.want_of_disk(IntentRow { drain, ..self.disk_intent(id) }, Some(asker)),
            Err(refusal) => self.refuse(asker, refusal),
        }
    }

    /// An operator declares a maintenance window, or ends it.
    pub(super) fn window_wanted(&mut self, asker: Asker, node: &str, span: Option<Millis>) {
        let id = match self.disk_meant(node) {
            Ok(id) => id,
            Err(refusal) => return self.refuse(asker, refusal),
        };
        if span.is_some_and(|span| span.0 == 0 || span > WINDOW_MAX) {
            let most_days = WINDOW_MAX.0 / (24 * 60 * 60 * 1_000);
            return self.refuse(
                asker,
                Refusal::Invalid(format!("a maintenance window is longer than nothing and at most {most_days} days")),
            );
        }
        if span.is_some() && self.has_left(id) {
            return self.refuse(asker, Refusal::Invalid(format!("disk {id} has left the cell")));
        }
        let row = IntentRow { window_left: span, ..self.disk_intent(id) };
        self.intents.records.entry(About::Disk(id)).or_default().is_word = true;
        self.want_of_disk(row, Some(asker));
    }

    /// An operator pauses repairs that are not urgent, or has them go on.
    pub(super) fn pause_wanted(&mut self, asker: Asker, paused: bool) {
        let row = paused.then_some(PauseRow { above_margin: PAUSED_ABOVE });
        match row.map(|row| encode_row(&row)).transpose() {
            Ok(value) => self.want(About::Repairs, value, Some(asker)),
            Err(error) => self.refuse(asker, Refusal::Invalid(error.to_string())),
        }
    }

    pub(super) fn want_of_disk(&mut self, row: IntentRow, asker: Option<Asker>) {
        let empty = row.drain.is_none() && row.window_left.is_none();
        match (!empty).then(|| encode_row(&row)).transpose() {
            Ok(value) => self.want(About::Disk(row.disk), value, asker),
            Err(error) => {
                asker.into_iter().for_each(|asker| self.refuse(asker, Refusal::Invalid(error.to_string())));
            }
        }
    }

    fn want(&mut self, about: About, value: Option<Vec<u8>>, asker: Option<Asker>) {
        let record = self.intents.records.entry(about).or_default();
        record.wanted = value;
        record.askers.extend(asker);
        self.store_intent(about);
    }

    fn store_intent(&mut self, about: About) {
        let Some(record) = self.intents.records.get_mut(&about).filter(|record| !record.writing) else { return };
        if record.stands() {
            return self.intent_stands(about);
        }
        record.writing = true;
        let revision = record.stored.as_ref().map_or(0, |(_, revision)| *revision);
        let txn = Txn::new().compare(about.key(), revision);
        let mut txn = match record.wanted.clone() {
            Some(value) => txn.put(about.key(), value),
            None => txn.delete(about.key()),
        };
        if let About::Disk(id) = about
            && self.disk_intent(id).drain.is_some_and(|drain| drain.leaves && drain.drained)
        {
            // It leaves with the very transaction that says so.
            txn = txn.delete(key::disk(id)).delete(key::life(id));
        }
        self.txn(Op::Intent(about), txn);
    }

    pub(super) fn intent_written(&mut self, about: About, result: TxnResult) {
        // Done or not, what is there now says it.
        match result {
            TxnResult::Done { .. } => self.read_intent(about),
            TxnResult::Refused | TxnResult::Unknown => self.after(self.retry_after(), Timer::Intent(about)),
        }
    }

    fn read_intent(&mut self, about: About) {
        self.get(Op::Intent(about), vec![about.key()]);
    }

    pub(super) fn intent_read(&mut self, about: About, rows: Result<Vec<Option<Found>>, String>) {
        let Ok(rows) = rows else { return self.after(self.retry_after(), Timer::Intent(about)) };
        let found = rows.into_iter().next().flatten();
        let Some(record) = self.intents.records.get_mut(&about) else { return };
        record.writing = false;
        record.stored = found.map(|found| (found.value, found.revision));
        self.take_leave(about);
        self.store_intent(about);
    }

    /// A disk whose row says that it has left is gone from the catalog, though an operator has changed his mind meanwhile.
    fn take_leave(&mut self, about: About) {
        let stored = self.intents.records.get(&about).and_then(|record| record.stored.as_ref());
        let (About::Disk(id), Some((value, _))) = (about, stored) else { return };
        let drain = decode_row::<IntentRow>(value).ok().and_then(|row| row.drain);
        if let Some(drain) = drain.filter(|drain| drain.leaves && drain.drained) {
            self.drain_stands(id, Some(drain));
        }
    }

    /// A row found at the start.
    pub(super) fn intent_known(&mut self, found: &Found) -> Result<(), String> {
        let about = match key::intent_of(&found.key) {
            Some(disk) => About::Disk(disk),
            None if found.key == key::pause() => About::Repairs,
            None => return Err("no intent's key".into()),
        };
        let wrong = |error: crate::wire::codec::CodecError| error.to_string();
        match about {
            About::Disk(_) => decode_row::<IntentRow>(&found.value).map(|_| ()).map_err(wrong)?,
            About::Repairs => decode_row::<PauseRow>(&found.value).map(|_| ()).map_err(wrong)?,
        }
        let (wanted, stored) = (Some(found.value.clone()), Some((found.value.clone(), found.revision)));
        self.intents.records.insert(about, Record { wanted, stored, ..Record::default() });
        self.intent_stands(about);
        Ok(())
    }

    pub(super) fn intent_due(&mut self, about: About) {
        if self.intents.records.get(&about).is_some_and(|record| record.writing) {
            self.read_intent(about);
        }
    }

    /// Stores what is left of a window, or that it is over.
    pub(super) fn window_due(&mut self, id: DiskId) {
        let now = self.now;
        let Some(window) = self.intents.windows.get_mut(&id).filter(|window| window.due <= now) else { return };
        let over = window.until <= now;
        let due = now + WINDOW_STORED_EVERY;
        window.due = if over { due } else { due.min(window.until) };
        let due = window.due;
        self.at(due, Timer::Window(id));
        // What an operator wants and is not stored yet says all that is to be said.
        if over || self.intent_is_stored(id) {
            self.want_of_disk(self.disk_intent(id), None);
        }
    }

    /// What is wanted is stored: from now on it counts.
    fn intent_stands(&mut self, about: About) {
        let Some(record) = self.intents.records.get_mut(&about) else { return };
        let (askers, is_word) = (std::mem::take(&mut record.askers), std::mem::take(&mut record.is_word));
        let value = record.stored.as_ref().map(|(value, _)| value.clone());
        if value.is_none() {
            self.intents.records.remove(&about);
        }
        match about {
            About::Disk(id) => self.disk_intent_stands(id, value.and_then(|value| decode_row(&value).ok()), is_word),
            About::Repairs => self.pause_stands(value.and_then(|value| decode_row(&value).ok())),
        }
        for asker in askers {
            match about {
                About::Disk(id) => {
                    let report = self.intent_report(id);
                    self.reply_with(asker, DaemonReply::Report, super::report::json(&report));
                }
                About::Repairs => self.reply(asker, DaemonReply::Noted),
            }
        }
    }

    fn disk_intent_stands(&mut self, id: DiskId, row: Option<IntentRow>, is_word: bool) {
        let drain = row.as_ref().and_then(|row| row.drain);
        let window_left = row.and_then(|row| row.window_left);
        self.window_stands(id, window_left, is_word);
        self.drain_stands(id, drain);
        self.watch(id);
        self.look_at_groups_of(id);
        self.retry_homes();
    }

    /// Without an operator's word the row says no more of a window that is known than what was left of it.
    fn window_stands(&mut self, id: DiskId, left: Option<Millis>, is_word: bool) {
        let fields = vec![("disk", id.to_string())];
        let before = self.intents.windows.get(&id).copied();
        let Some(left) = left else {
            if self.intents.windows.remove(&id).is_some() {
                let text = format!("the maintenance window of {} is over", self.who(id));
                self.note("maintenance_ended", text, fields);
            }
            return;
        };
        if before.is_some() && !is_word {
            return;
        }
        let until = self.now + left;
        let since = before.map_or(self.now, |window| window.since);
        let due = until.min(self.now + WINDOW_STORED_EVERY).max(self.now + Millis(1));
        self.intents.windows.insert(id, Window { since, until, due });
        self.at(due, Timer::Window(id));
        let text = format!("{} may be away for {} s", self.who(id), until.since(self.now).0 / 1_000);
        self.note("maintenance_began", text, fields);
    }

    fn drain_stands(&mut self, id: DiskId, row: Option<DrainRow>) {
        let before = self.intents.drains.get(&id).map(|drain| drain.row);
        if before == row {
            return;
        }
        let fields = vec![("disk", id.to_string())];
        let Some(row) = row else {
            self.intents.drains.remove(&id);
            let text = format!("{} is not drained any more", self.who(id));
            return self.note("drain_cancelled", text, fields);
        };
        let new = Drain { row, since: self.now, left: BTreeSet::new(), moved: 0 };
        let drain = self.intents.drains.entry(id).or_insert(new);
        drain.row = row;
        let (kind, text) = match (row.drained, row.leaves) {
            (false, _) => ("drain_began", format!("{} is being drained", self.who(id))),
            (true, false) => ("disk_drained", format!("{} is drained: nothing is on it, by a recount", self.who(id))),
            (true, true) => ("disk_left", format!("{} is drained and has left the cell", self.who(id))),
        };
        self.note(kind, text, fields);
        if row.drained && row.leaves {
            self.forget_disk(id);
        }
    }

    fn pause_stands(&mut self, row: Option<PauseRow>) {
        if self.intents.paused == row {
            return;
        }
        self.intents.paused = row;
        match row {
            Some(PauseRow { above_margin }) => {
                let text =
                    format!("repairs of extents that survive more than {above_margin} further losses are paused");
                self.note("repairs_paused", text, vec![("above_margin", above_margin.to_string())]);
            }
            None => self.note("repairs_resumed", "repairs go on".into(), vec![]),
        }
    }
}
