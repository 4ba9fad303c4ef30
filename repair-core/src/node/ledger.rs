//! What a member knows of one placement group.

use super::journal::Change;
use super::list::List;
use crate::catalog::{EntryKind, PgRow};
use crate::id::{AttemptId, DiskId, ExtentKey, RecordHash, Sum, Token};
use crate::shape::{Former, Shape};
use crate::wire::Refusal;
use crate::wire::node::{Authority, FragmentKey, Head, Prepared, Shaped};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};

/// Prepared changes told in one answer.
const PREPARED_TOLD_MAX: usize = 256;

/// A list as an owner gave it, all pages of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Adopted {
    pub(super) listed: BTreeMap<ExtentKey, RecordHash>,
    pub(super) tombstones: BTreeMap<ExtentKey, u64>,
    pub(super) shapes: Vec<Shaped>,
}

/// The state that the journal keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Highest token accepted.
    pub(super) token: Option<Token>,
    /// The row that the list comes to.
    pub(super) heard: Option<PgRow>,
    pub(super) list: List,
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
    /// Files of the records on the list that are not of the group's shape.
    pub(super) shapes: BTreeMap<ExtentKey, Shape>,
    /// The same of prepared changes.
    pub(super) prepared_shapes: BTreeMap<AttemptId, Shape>,
    /// Records whose place others have taken, and whose files stay until they are released.
    pub(super) superseded: BTreeMap<ExtentKey, Former>,
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

    /// What the group gives its extents at birth.
    fn group_shape(&self) -> Shape {
        Shape::of_group(self.heard.as_ref().map_or(0, |row| row.members.len()))
    }

    /// The files of the record on the list, or of the one that an extent would have from its birth.
    pub(super) fn shape(&self, extent: ExtentKey) -> Shape {
        self.shapes.get(&extent).copied().unwrap_or_else(|| self.group_shape())
    }

    /// The files of a prepared change.
    pub(super) fn prepared_shape(&self, attempt: AttemptId) -> Shape {
        self.prepared_shapes.get(&attempt).copied().unwrap_or_else(|| self.group_shape())
    }

    /// All records of an extent that may be read here or may have to be: the one on the list, the one it took the place of, and those
    /// of prepared changes.
    fn named(&self, extent: ExtentKey) -> impl Iterator<Item = Former> + '_ {
        let listed = self.list().get(&extent).map(|hash| Former { hash: *hash, shape: self.shape(extent) });
        let ours =
            move |(_, prepared): &(&AttemptId, &Prepared)| prepared.extent == extent && prepared.kind.has_record();
        let prepared = self.prepared.iter().filter(ours);
        let prepared =
            prepared.map(|(attempt, change)| Former { hash: change.hash, shape: self.prepared_shape(*attempt) });
        listed.into_iter().chain(self.superseded.get(&extent).copied()).chain(prepared)
    }

    /// Whether a record on file, an unreleased or a prepared one has a fragment of this name, on whatever member.
    pub(super) fn names(&self, fragment: &FragmentKey) -> bool {
        self.named(fragment.extent).any(|record| record.shape.names(fragment))
    }

    /// Whether all that is known is of the group's shape and nothing waits for a release.
    pub(super) fn is_plain(&self) -> bool {
        self.shapes.is_empty() && self.superseded.is_empty() && self.prepared_shapes.is_empty()
    }

    /// What an owner could not know from hashes alone, of a stretch of extents.
    pub(super) fn shaped(&self, range: (Bound<ExtentKey>, Bound<ExtentKey>)) -> Vec<Shaped> {
        let line = |extent: &ExtentKey, former: Former, is_former| Shaped {
            extent: *extent,
            hash: former.hash,
            shape: former.shape,
            is_former,
        };
        let listed = self.shapes.range(range).filter_map(|(extent, shape)| {
            let hash = *self.list().get(extent)?;
            Some(line(extent, Former { hash, shape: *shape }, false))
        });
        let former = self.superseded.range(range).map(|(extent, former)| line(extent, *former, true));
        let prepared = self.prepared_shapes.iter().filter_map(|(attempt, shape)| {
            let change = self.prepared.get(attempt).filter(|change| range.contains(&change.extent))?;
            Some(line(&change.extent, Former { hash: change.hash, shape: *shape }, false))
        });
        listed.chain(former).chain(prepared).collect()
    }

    /// Whether the list or an unreleased record has a fragment of this name.
    pub(super) fn is_committed(&self, fragment: &FragmentKey) -> bool {
        let listed = self.list().contains_key(&fragment.extent) && self.shape(fragment.extent).names(fragment);
        listed || self.superseded.get(&fragment.extent).is_some_and(|former| former.shape.names(fragment))
    }

    /// The record that a file of this name must carry.
    pub(super) fn record_of(&self, fragment: &FragmentKey) -> Option<RecordHash> {
        self.named(fragment.extent).find(|record| record.shape.names(fragment)).map(|record| record.hash)
    }

    /// The fragment of an extent that is ours; none where its record has none for us.
    pub(super) fn fragment(&self, extent: ExtentKey, disk: DiskId) -> Option<FragmentKey> {
        self.index(disk).and_then(|index| self.shape(extent).fragment(extent, index))
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

    /// Whether a file may not be put aside: it is ours, and a record names it.
    pub(super) fn keeps(&self, fragment: &FragmentKey, disk: DiskId) -> bool {
        self.index(disk) == Some(fragment.index) && self.names(fragment)
    }

    /// Whether the name of a file is no surprise: it is kept, or on its way out.
    pub(super) fn expects(&self, fragment: &FragmentKey, disk: DiskId) -> bool {
        self.doomed.contains_key(fragment) || self.keeps(fragment, disk)
    }

    /// Under which name we have the record of this hash, where we know it.
    pub(super) fn place_of_record(&self, extent: ExtentKey, hash: RecordHash, disk: DiskId) -> Option<FragmentKey> {
        let record = self.named(extent).find(|record| record.hash == hash)?;
        self.index(disk).map(|index| record.shape.place(extent, index))
    }

    /// Whether the catalog whose row we heard may have handed this generation out. What it cannot have is of another history, which
    /// may know more than we do.
    pub(super) fn may_judge(&self, generation: u64) -> bool {
        self.heard.as_ref().is_some_and(|row| row.handed_out(generation))
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

    /// Files whose time in quarantine is over: the row that doomed them is past, and no row names their entry any more.
    pub(super) fn unlinkable(&self, seq: u64) -> bool {
        let over = |row: &PgRow| row.seq > seq && row.entries.iter().all(|entry| entry.seq != seq);
        self.heard.as_ref().is_some_and(over)
    }

    /// What this becomes by taking a list over that belongs to `row`; none where it does not sum.
    pub(super) fn adopting(&self, row: &PgRow, adopted: Adopted) -> Option<Self> {
        let Adopted { listed: list, tombstones, shapes } = adopted;
        if list.len() as u64 != row.count || Sum::of(list.values()) != row.sum {
            return None;
        }
        let (former, shaped): (Vec<Shaped>, Vec<Shaped>) = shapes
            .into_iter()
            .filter(|line| list.get(&line.extent).is_some_and(|hash| (*hash == line.hash) != line.is_former))
            .partition(|line| line.is_former);
        let former = former.into_iter().map(|line| (line.extent, Former { hash: line.hash, shape: line.shape }));
        let superseded: BTreeMap<ExtentKey, Former> = former.collect();
        let ended = |prepared: &Prepared| match prepared.kind {
            EntryKind::Create | EntryKind::CreateOther => list.contains_key(&prepared.extent),
            EntryKind::Delete => !list.contains_key(&prepared.extent),
            EntryKind::Supersede => list.get(&prepared.extent).is_none_or(|listed| *listed == prepared.hash),
            EntryKind::Release => superseded.get(&prepared.extent).is_none_or(|former| former.hash != prepared.hash),
        };
        let prepared: BTreeMap<AttemptId, Prepared> =
            self.prepared.iter().filter(|(_, change)| !ended(change)).map(|(at, change)| (*at, *change)).collect();
        let is_open = |(attempt, _): &(&AttemptId, &Shape)| prepared.contains_key(attempt);
        let prepared_shapes = self.prepared_shapes.iter().filter(is_open).map(|(at, shape)| (*at, *shape)).collect();
        let buried = self.tombstones.iter().chain(&tombstones);
        let buried = buried.filter(|(extent, seq)| **seq > row.trim && !list.contains_key(extent));
        let damaged = self.damaged.iter().filter(|(fragment, _)| list.contains_key(&fragment.extent));
        Some(Self {
            token: self.token,
            heard: Some(row.clone()),
            aborted: self.aborted.clone(),
            tombstones: buried.map(|(extent, seq)| (*extent, *seq)).collect(),
            doomed: self.doomed.clone(),
            damaged: damaged.map(|(fragment, class)| (*fragment, class.clone())).collect(),
            lost: false,
            scrubbed: self.scrubbed,
            torn: self.torn,
            shapes: shaped.into_iter().map(|line| (line.extent, line.shape)).collect(),
            prepared,
            prepared_shapes,
            superseded,
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
                self.shapes.remove(&extent);
                self.superseded.remove(&extent);
                self.damaged.retain(|fragment, _| fragment.extent != extent);
            }
            Change::Prepared(prepared) => {
                self.prepared.insert(prepared.attempt, prepared);
            }
            Change::Unprepared(attempt) => {
                self.prepared.remove(&attempt);
                self.prepared_shapes.remove(&attempt);
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
            Change::Shaped(extent, shape) => _ = self.shapes.insert(extent, shape),
            Change::PreparedShape(attempt, shape) => _ = self.prepared_shapes.insert(attempt, shape),
            Change::Superseded(extent, former) => _ = self.superseded.insert(extent, former),
            Change::Released(extent) => {
                if let Some(former) = self.superseded.remove(&extent) {
                    self.damaged.retain(|fragment, _| fragment.extent != extent || !former.shape.names(fragment));
                }
            }
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
            .chain(self.shapes.iter().map(|(extent, shape)| Change::Shaped(*extent, *shape)))
            .chain(self.superseded.iter().map(|(extent, former)| Change::Superseded(*extent, *former)))
            .chain(self.prepared.values().map(|prepared| Change::Prepared(*prepared)))
            .chain(self.prepared_shapes.iter().map(|(attempt, shape)| Change::PreparedShape(*attempt, *shape)))
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
        let shapes = self.shapes.len() * 27 + self.prepared_shapes.len() * 35 + self.superseded.len() * 59;
        (100 + entries + lines + files + shapes) as u64
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

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
