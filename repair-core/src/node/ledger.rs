//! What a member knows of one placement group, and how it comes to a row.

use super::journal::Change;
use super::list::List;
use crate::catalog::{EntryKind, PgRow};
use crate::id::{AttemptId, DiskId, ExtentKey, RecordHash, Sum, Token};
use crate::wire::Refusal;
use crate::wire::node::{Authority, FragmentKey, Head, Prepared};
use std::collections::{BTreeMap, BTreeSet};

/// The generation of every fragment of the service: conversion, which makes others, does not exist yet.
pub(super) const GENERATION: u64 = 1;
/// Prepared changes told in one answer.
const PREPARED_TOLD_MAX: usize = 256;

/// The state that the journal keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Highest token accepted.
    pub(super) token: Option<Token>,
    /// The row that the list comes to.
    pub(super) heard: Option<PgRow>,
    list: List,
    pub(super) prepared: BTreeMap<AttemptId, Prepared>,
    pub(super) aborted: BTreeSet<AttemptId>,
    pub(super) tombstones: BTreeMap<ExtentKey, u64>,
    /// Files on their way out, each with the sequence number after which nobody can want it back.
    pub(super) doomed: BTreeMap<FragmentKey, u64>,
    /// Fragments of ours that do not count, with their class.
    pub(super) damaged: BTreeMap<FragmentKey, String>,
    /// An earlier journal was lost and no list was adopted since.
    pub(super) lost: bool,
    /// The last pass over all fragments that came here: its number, and the last extent that it judged; none: all.
    pub(super) scrubbed: Option<(u64, Option<ExtentKey>)>,
    /// How many fragments of the list the disk had acknowledged and did not have whole. Not less for being healed.
    pub(super) torn: u32,
}

/// Whether a list comes to a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// By these changes.
    Level(Vec<Change>),
    /// It does not; why.
    Behind(String),
}

impl Ledger {
    /// What is left where a journal cannot be believed.
    pub(super) fn of_lost_journal() -> Self {
        // It had been synced, too. What it said of the disk before is lost with it.
        Self { lost: true, torn: 1, ..Self::default() }
    }

    pub(super) fn list(&self) -> &BTreeMap<ExtentKey, RecordHash> {
        self.list.lines()
    }

    /// Whether the list adds up to a row.
    pub(super) fn sums_to(&self, row: &PgRow) -> bool {
        self.list().len() as u64 == row.count && self.list.sum() == row.sum
    }

    /// Where the list stands, after it was tried to bring it to `row`.
    pub(super) fn head(&self, row: &PgRow, disk: DiskId) -> Head {
        Head {
            heard: self.heard.as_ref().map_or((0, 0), PgRow::order),
            count: self.list().len() as u64,
            sum: self.list.sum(),
            level: self.is_level(row, disk),
            prepared: self.prepared.values().take(PREPARED_TOLD_MAX).copied().collect(),
        }
    }

    /// Whether the list has come to this row, as a member's.
    pub(super) fn is_level(&self, row: &PgRow, disk: DiskId) -> bool {
        !self.lost && row.index_held_or_joined(disk).is_some() && self.heard.as_ref() == Some(row)
    }

    /// Our index by the row the list came to.
    pub(super) fn index(&self, disk: DiskId) -> Option<u16> {
        self.heard.as_ref()?.index_held_or_joined(disk)
    }

    /// The fragment of an extent that would be ours.
    pub(super) fn fragment(&self, extent: ExtentKey, disk: DiskId) -> Option<FragmentKey> {
        self.index(disk).map(|index| FragmentKey { extent, generation: GENERATION, index })
    }

    /// Whether the list says that we should hold this fragment.
    pub(super) fn owes(&self, fragment: &FragmentKey, disk: DiskId) -> bool {
        self.list().contains_key(&fragment.extent) && self.fragment(fragment.extent, disk).as_ref() == Some(fragment)
    }

    /// Whether the list says so, and nobody else has this fragment's place: one that is joining takes it over from another.
    pub(super) fn is_place_of(&self, fragment: &FragmentKey, disk: DiskId) -> bool {
        let is_member = self.heard.as_ref().is_some_and(|row| row.index_of(disk).is_some());
        self.owes(fragment, disk) && is_member
    }

    /// Whether a fragment's absence is damage: a member that the row excuses, or one still joining, may lack it.
    pub(super) fn must_hold(&self, fragment: &FragmentKey, disk: DiskId) -> bool {
        let excused = |row: &PgRow| row.index_of(disk).is_none() || row.behind.contains(&disk);
        self.owes(fragment, disk) && !self.heard.as_ref().is_none_or(excused)
    }

    /// Whether a file may not be put aside: the list or a prepared change names it.
    pub(super) fn keeps(&self, fragment: &FragmentKey, disk: DiskId) -> bool {
        let ours = self.fragment(fragment.extent, disk).as_ref() == Some(fragment);
        let prepared = || self.prepared.values().any(|prepared| prepared.extent == fragment.extent);
        ours && (self.list().contains_key(&fragment.extent) || prepared())
    }

    /// Whether the name of a file is no surprise: the list or a prepared change names it, or it is on its way out.
    pub(super) fn expects(&self, fragment: &FragmentKey, disk: DiskId) -> bool {
        let prepared = || self.prepared.values().any(|prepared| prepared.extent == fragment.extent);
        let ours = self.fragment(fragment.extent, disk).as_ref() == Some(fragment);
        self.doomed.contains_key(fragment) || ours && (self.list().contains_key(&fragment.extent) || prepared())
    }

    /// Whether the record of this hash is one we have a copy of.
    pub(super) fn knows_record(&self, extent: ExtentKey, hash: RecordHash) -> bool {
        let prepared =
            |prepared: &Prepared| (prepared.kind, prepared.extent, prepared.hash) == (EntryKind::Create, extent, hash);
        self.list().get(&extent) == Some(&hash) || self.prepared.values().any(prepared)
    }

    /// Whether an owner is to be obeyed, before its row is looked at further.
    pub(super) fn admit(&self, authority: &Authority) -> Result<(), Refusal> {
        self.admit_token(&authority.token)?;
        let Some(heard) = &self.heard else { return Ok(()) };
        let (row, ours) = (authority.row.order(), heard.order());
        if row < ours {
            return Err(Refusal::OldRow(format!("{}.{} after {}.{}", row.0, row.1, ours.0, ours.1)));
        }
        // Every write of a row takes a new number, so whatever differs was written by another history.
        if row == ours && authority.row != *heard {
            return Err(Refusal::Fork(format!("row {}.{} was heard with another content", row.0, row.1)));
        }
        Ok(())
    }

    /// Whether this is the owner we obey, with a row that we are past. What commits nothing may go by our own row then: a
    /// repair takes long, and the group goes on meanwhile.
    pub(super) fn is_past(&self, authority: &Authority) -> bool {
        let past = |heard: &PgRow| heard.order() > authority.row.order();
        self.token == Some(authority.token) && self.heard.as_ref().is_some_and(past)
    }

    pub(super) fn admit_token(&self, token: &Token) -> Result<(), Refusal> {
        self.token
            .map_or(Ok(()), |accepted| accepted.admits(token))
            .map_err(|fenced| Refusal::Fenced(fenced.to_string()))
    }

    /// Tries the row's entries that are later than the last row heard.
    pub(super) fn come_to(&self, row: &PgRow, disk: DiskId) -> Coming {
        if self.lost {
            return Coming::Behind("the journal was lost".into());
        }
        let Some(index) = row.index_held_or_joined(disk) else {
            return Coming::Behind("not a member".into());
        };
        if self.heard.as_ref() == Some(row) {
            return Coming::Level(Vec::new());
        }
        let known = self.heard.as_ref().map_or(0, |heard| heard.seq);
        let mut step =
            Catching { ledger: self, over: BTreeMap::new(), sum: self.list.sum(), count: self.list().len() as u64 };
        let mut changes = Vec::new();
        for entry in row.entries.iter().filter(|entry| entry.seq > known) {
            if !step.take(entry.kind, entry.extent, entry.hash) {
                return Coming::Behind(format!("entry {} does not fit the list", entry.seq));
            }
            self.changes_of(entry, index, &mut changes);
        }
        if (step.count, step.sum) != (row.count, row.sum) {
            let ours = self.heard.as_ref().map_or((0, 0), PgRow::order);
            let reason =
                format!("the list of row {}.{} does not come to {}.{}", ours.0, ours.1, row.incarnation, row.seq);
            return Coming::Behind(reason);
        }
        changes.push(Change::Heard(Box::new(row.clone())));
        Coming::Level(changes)
    }

    fn changes_of(&self, entry: &crate::catalog::Entry, index: u16, changes: &mut Vec<Change>) {
        match entry.kind {
            EntryKind::Create => changes.push(Change::Listed(entry.extent, entry.hash)),
            EntryKind::Delete => {
                changes.push(Change::Unlisted(entry.extent));
                changes.push(Change::Buried(entry.extent, entry.seq));
                let fragment = FragmentKey { extent: entry.extent, generation: GENERATION, index };
                changes.push(Change::Doomed(fragment, entry.seq));
            }
        }
        // A deletion of what is deleted can have no other end either.
        let ended = |prepared: &&Prepared| {
            prepared.attempt == entry.attempt || entry.kind == EntryKind::Delete && prepared.extent == entry.extent
        };
        changes.extend(self.prepared.values().filter(ended).map(|prepared| Change::Unprepared(prepared.attempt)));
    }

    /// Files whose time in quarantine is over: the row that doomed them is past, and no row names their entry any more.
    pub(super) fn unlinkable(&self, seq: u64) -> bool {
        let over = |row: &PgRow| row.seq > seq && row.entries.iter().all(|entry| entry.seq != seq);
        self.heard.as_ref().is_some_and(over)
    }

    /// What this becomes by taking a list over that belongs to `row`; none where it does not sum.
    pub(super) fn adopting(
        &self,
        row: &PgRow,
        list: BTreeMap<ExtentKey, RecordHash>,
        tombstones: &BTreeMap<ExtentKey, u64>,
    ) -> Option<Self> {
        if list.len() as u64 != row.count || Sum::of(list.values()) != row.sum {
            return None;
        }
        let ended = |prepared: &Prepared| match prepared.kind {
            EntryKind::Create => list.contains_key(&prepared.extent),
            EntryKind::Delete => !list.contains_key(&prepared.extent),
        };
        let prepared = self.prepared.iter().filter(|(_, prepared)| !ended(prepared));
        let buried = self.tombstones.iter().chain(tombstones);
        let buried = buried.filter(|(extent, seq)| **seq > row.trim && !list.contains_key(extent));
        let damaged = self.damaged.iter().filter(|(fragment, _)| list.contains_key(&fragment.extent));
        Some(Self {
            token: self.token,
            heard: Some(row.clone()),
            prepared: prepared.map(|(attempt, prepared)| (*attempt, *prepared)).collect(),
            aborted: self.aborted.clone(),
            tombstones: buried.map(|(extent, seq)| (*extent, *seq)).collect(),
            doomed: self.doomed.clone(),
            damaged: damaged.map(|(fragment, class)| (*fragment, class.clone())).collect(),
            lost: false,
            scrubbed: self.scrubbed,
            torn: self.torn,
            list: List::of(list),
        })
    }

    /// What is left when nothing of the placement group is here any more but, in quarantine, what goes for good one day.
    pub(super) fn forgotten(&self, doomed: BTreeMap<FragmentKey, u64>) -> Self {
        Self { token: self.token, aborted: self.aborted.clone(), doomed, torn: self.torn, ..Self::default() }
    }

    /// Makes a change.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Token(token) => {
                // PREPAREs of other claims are fenced from now on, marks against them have done their duty.
                self.aborted.retain(|attempt| attempt.claim == token.claim);
                self.token = Some(token);
            }
            Change::Heard(row) => {
                self.tombstones.retain(|_, seq| *seq > row.trim);
                self.heard = Some(*row);
            }
            Change::Listed(extent, hash) => self.list.insert(extent, hash),
            Change::Unlisted(extent) => {
                self.list.remove(&extent);
                self.damaged.retain(|fragment, _| fragment.extent != extent);
            }
            Change::Prepared(prepared) => {
                self.prepared.insert(prepared.attempt, prepared);
            }
            Change::Unprepared(attempt) => {
                self.prepared.remove(&attempt);
            }
            Change::Aborted(attempt) => {
                self.aborted.insert(attempt);
            }
            Change::Buried(extent, seq) => {
                self.tombstones.insert(extent, seq);
            }
            Change::Doomed(fragment, seq) => {
                self.doomed.insert(fragment, seq);
            }
            Change::Undoomed(fragment) => {
                self.doomed.remove(&fragment);
            }
            Change::Damaged(fragment, class) => {
                self.damaged.insert(fragment, class);
            }
            Change::Sound(fragment) => {
                self.damaged.remove(&fragment);
            }
            Change::Lost => self.lost = true,
            Change::Scrubbed(pass, after) => self.scrubbed = Some((pass, after)),
            Change::Torn(times) => self.torn = times,
        }
    }

    /// The changes that make this of an empty one. The token comes before the marks and the row before the tombstones, since
    /// both take such away.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let lost = self.lost.then_some(Change::Lost);
        lost.into_iter()
            .chain(self.token.map(Change::Token))
            .chain(self.aborted.iter().map(|attempt| Change::Aborted(*attempt)))
            .chain(self.heard.iter().map(|row| Change::Heard(Box::new(row.clone()))))
            .chain(self.list().iter().map(|(extent, hash)| Change::Listed(*extent, *hash)))
            .chain(self.prepared.values().map(|prepared| Change::Prepared(*prepared)))
            .chain(self.tombstones.iter().map(|(extent, seq)| Change::Buried(*extent, *seq)))
            .chain(self.doomed.iter().map(|(fragment, seq)| Change::Doomed(*fragment, *seq)))
            .chain(self.damaged.iter().map(|(fragment, class)| Change::Damaged(*fragment, class.clone())))
            .chain(self.scrubbed.map(|(pass, after)| Change::Scrubbed(pass, after)))
            .chain((self.torn > 0).then_some(Change::Torn(self.torn)))
    }

    /// About how many bytes a snapshot takes.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        let entries = self.heard.as_ref().map_or(0, |row| row.members.len() * 16 + row.entries.len() * 84 + 200);
        let lines = self.list().len() * 49 + self.prepared.len() * 74 + self.aborted.len() * 25;
        let files = self.tombstones.len() * 25 + self.doomed.len() * 35 + self.damaged.len() * 48;
        (100 + entries + lines + files) as u64
    }

    /// Whether list and row belong together, as they do behind every record of a journal.
    ///
    /// # Errors
    /// They do not.
    pub(super) fn check(&self) -> Result<(), String> {
        let sound = self.heard.as_ref().map_or(self.list().is_empty(), |row| self.sums_to(row));
        if sound { Ok(()) } else { Err("its list does not sum to the row it heard".into()) }
    }

    /// Whether nothing is known at all.
    pub(super) fn is_vacant(&self) -> bool {
        *self == Self::default()
    }
}

/// A list as it would be behind some entries.
struct Catching<'a> {
    ledger: &'a Ledger,
    over: BTreeMap<ExtentKey, Option<RecordHash>>,
    sum: Sum,
    count: u64,
}

impl Catching<'_> {
    fn take(&mut self, kind: EntryKind, extent: ExtentKey, hash: RecordHash) -> bool {
        let now = self.over.get(&extent).copied().unwrap_or_else(|| self.ledger.list().get(&extent).copied());
        match (kind, now) {
            (EntryKind::Create, None) => {
                (self.count, self.sum) = (self.count + 1, self.sum.plus(&hash));
                self.over.insert(extent, Some(hash));
            }
            (EntryKind::Delete, Some(found)) if found == hash => {
                (self.count, self.sum) = (self.count - 1, self.sum.minus(&hash));
                self.over.insert(extent, None);
            }
            (EntryKind::Create, Some(found)) => return found == hash,
            (EntryKind::Delete, None) => {}
            (EntryKind::Delete, Some(_)) => return false,
        }
        true
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
