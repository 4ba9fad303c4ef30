//! How a list comes to a row: by the row's entries that are later than the last row heard.

use super::journal::Change;
use super::ledger::Ledger;
use crate::catalog::{Entry, EntryKind, PgRow};
use crate::id::{DiskId, ExtentKey, RecordHash, Sum};
use crate::shape::{Former, Shape};
use crate::wire::node::Prepared;
use std::collections::BTreeMap;

/// Whether a list comes to a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// By these changes.
    Level(Vec<Change>),
    /// It does not; why.
    Behind(String),
}

impl Ledger {
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
        if row.behind.contains(&disk) && self.waits_for_release(row) {
            // A release does not move the sum, and its entry may have left the row while the row excused us.
            return Coming::Behind("what became of a release that was prepared here is not known".into());
        }
        let known = self.heard.as_ref().map_or(0, |heard| heard.seq);
        let mut catching = Catching {
            ledger: self,
            index,
            group: Shape::of_group(row.members.len()),
            lines: BTreeMap::new(),
            sum: self.list.sum(),
            count: self.list().len() as u64,
            changes: Vec::new(),
        };
        for entry in row.entries.iter().filter(|entry| entry.seq > known) {
            if let Err(why) = catching.take(entry) {
                return Coming::Behind(format!("entry {} does not fit the list: {why}", entry.seq));
            }
        }
        if (catching.count, catching.sum) != (row.count, row.sum) {
            let ours = self.heard.as_ref().map_or((0, 0), PgRow::order);
            let reason =
                format!("the list of row {}.{} does not come to {}.{}", ours.0, ours.1, row.incarnation, row.seq);
            return Coming::Behind(reason);
        }
        let mut changes = catching.changes;
        changes.push(Change::Heard(Box::new(row.clone())));
        Coming::Level(changes)
    }

    fn waits_for_release(&self, row: &PgRow) -> bool {
        let told = |attempt| row.entries.iter().any(|entry| entry.attempt == attempt);
        self.prepared.values().any(|change| change.kind == EntryKind::Release && !told(change.attempt))
    }
}

/// What is known of an extent behind some entries.
#[derive(Clone, Copy, Debug)]
struct Line {
    hash: Option<RecordHash>,
    shape: Shape,
    former: Option<Former>,
}

/// A list as it would be behind some entries, and the changes that make it so.
struct Catching<'a> {
    ledger: &'a Ledger,
    index: u16,
    group: Shape,
    lines: BTreeMap<ExtentKey, Line>,
    sum: Sum,
    count: u64,
    changes: Vec<Change>,
}

impl Catching<'_> {
    fn line(&self, extent: ExtentKey) -> Line {
        self.lines.get(&extent).copied().unwrap_or_else(|| Line {
            hash: self.ledger.list().get(&extent).copied(),
            shape: self.ledger.shapes.get(&extent).copied().unwrap_or(self.group),
            former: self.ledger.superseded.get(&extent).copied(),
        })
    }

    fn take(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let line = match entry.kind {
            EntryKind::Create | EntryKind::CreateOther => self.create(entry)?,
            EntryKind::Delete => self.delete(entry)?,
            EntryKind::Supersede => self.supersede(entry)?,
            EntryKind::Release => self.release(entry),
        };
        self.lines.insert(entry.extent, line);
        self.end_prepared(entry);
        Ok(())
    }

    /// The files that this attempt would have us hold. Of a record that is not of the group's code nobody knows them who has not
    /// prepared it: then the owner has to tell the whole list.
    fn shape_of(&self, entry: &Entry) -> Result<Shape, &'static str> {
        if !entry.kind.has_shape() {
            return Ok(self.group);
        }
        let shape = self.ledger.prepared_shapes.get(&entry.attempt).copied();
        shape.ok_or("it was not prepared here, and nothing says of which files it is")
    }

    fn create(&mut self, entry: &Entry) -> Result<Line, &'static str> {
        let (extent, hash, line) = (entry.extent, entry.hash, self.line(entry.extent));
        if line.hash.is_some_and(|found| found != hash) {
            return Err("another record is on it");
        }
        if line.hash.is_some() && entry.kind.has_shape() {
            return Ok(line);
        }
        let shape = self.shape_of(entry)?;
        if line.hash.is_none() {
            (self.count, self.sum) = (self.count + 1, self.sum.plus(&hash));
        }
        self.changes.push(Change::Listed(extent, hash));
        if shape != self.group {
            self.changes.push(Change::Shaped(extent, shape));
        }
        Ok(Line { hash: Some(hash), shape, former: None })
    }

    fn supersede(&mut self, entry: &Entry) -> Result<Line, &'static str> {
        let (extent, hash, line) = (entry.extent, entry.hash, self.line(entry.extent));
        let old = line.hash.ok_or("no record is on it")?;
        if old == hash {
            return Ok(line);
        }
        let shape = self.shape_of(entry)?;
        self.sum = self.sum.minus(&old).plus(&hash);
        // Nobody takes the place of a record whose predecessor is not released: that release was missed here.
        self.doom(extent, line.former.map(|former| former.shape), entry.seq);
        let former = Former { hash: old, shape: line.shape };
        self.changes.push(Change::Superseded(extent, former));
        self.changes.push(Change::Listed(extent, hash));
        self.changes.push(Change::Shaped(extent, shape));
        Ok(Line { hash: Some(hash), shape, former: Some(former) })
    }

    fn release(&mut self, entry: &Entry) -> Line {
        let line = self.line(entry.extent);
        let Some(former) = line.former.filter(|former| former.hash == entry.hash) else { return line };
        self.changes.push(Change::Released(entry.extent));
        self.doom(entry.extent, Some(former.shape), entry.seq);
        Line { former: None, ..line }
    }

    fn delete(&mut self, entry: &Entry) -> Result<Line, &'static str> {
        let (extent, line) = (entry.extent, self.line(entry.extent));
        match line.hash {
            Some(found) if found == entry.hash => {
                (self.count, self.sum) = (self.count - 1, self.sum.minus(&found));
            }
            Some(_) => return Err("another record is on it"),
            None => {}
        }
        self.changes.push(Change::Unlisted(extent));
        self.changes.push(Change::Buried(extent, entry.seq));
        self.doom(extent, Some(line.shape), entry.seq);
        self.doom(extent, line.former.map(|former| former.shape), entry.seq);
        Ok(Line { hash: None, shape: self.group, former: None })
    }

    fn doom(&mut self, extent: ExtentKey, shape: Option<Shape>, seq: u64) {
        // Where we hold no fragment of it, the copy of its record goes the same way.
        let place = shape.map(|shape| Change::Doomed(shape.place(extent, self.index), seq));
        self.changes.extend(place);
    }

    /// Prepared changes that have their end by an entry: its own, and what a deletion leaves no ground for. Of those files may be here.
    fn end_prepared(&mut self, entry: &Entry) {
        let is_dead = |change: &Prepared| match entry.kind {
            EntryKind::Delete => change.extent == entry.extent,
            EntryKind::Release => {
                (change.kind, change.extent, change.hash) == (EntryKind::Release, entry.extent, entry.hash)
            }
            _ => false,
        };
        let ledger = self.ledger;
        for change in ledger.prepared.values().filter(|change| change.attempt == entry.attempt || is_dead(change)) {
            self.changes.push(Change::Unprepared(change.attempt));
            if change.attempt != entry.attempt && change.kind.has_shape() {
                self.doom(change.extent, Some(ledger.prepared_shape(change.attempt)), entry.seq);
            }
        }
    }
}
