//! A disk of a node: performs store calls on fake files. What is durable survives a crash, what is not may.

use super::file::{FakeFile, PAGE_BYTES, SECTOR_BYTES};
use ec_core::fragment::{
    BirthIdentity, Class, Hash, Header, Structure, bad_blocks, build_tail, examine, examine_structure, examine_tail,
};
use ec_core::geometry::BLOCK_BYTES;
use repair_core::id::{CellKey, DiskId, PgId, RecordHash};
use repair_core::lineage::Life;
use repair_core::node::{Body, JournalFile, StoreCall, StoreError, StoreOk, add_share};
use repair_core::rng::Dice;
use repair_core::wire::node::{FragmentKey, StageKey};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A fragment being written: nameless.
#[derive(Clone, Debug)]
struct Stage {
    header: Header,
    received: Vec<u8>,
    blocks: BTreeSet<usize>,
    file: FakeFile,
    is_finished: bool,
    /// Of one that is kept.
    kept: Option<KeptStage>,
}

/// What makes a stage one that is kept: what its map says is there, by the first byte of each block.
#[derive(Clone, Debug, Default)]
struct KeptStage {
    map: BTreeSet<usize>,
    /// Of it, what an earlier opening left: read from the device for the root.
    found: BTreeSet<usize>,
}

/// A kept stage that nobody has open.
#[derive(Clone, Debug)]
struct LeftStage {
    header: Header,
    file: FakeFile,
    map: BTreeSet<usize>,
}

/// A file under its name.
#[derive(Clone, Debug)]
pub struct NamedFile {
    file: FakeFile,
    /// Whether the name survives a crash.
    pub is_named_durably: bool,
    /// What it comes to, once asked for since its content was last changed.
    judged: OnceCell<Judged>,
}

/// Header, table and record of a fragment file.
type Parts = (Header, Vec<u32>, Vec<u8>);

/// What a fragment file comes to.
#[derive(Clone, Debug)]
struct Judged {
    class: Class,
    root: Option<[u8; 32]>,
    record: Option<RecordHash>,
    parts: Result<Parts, StoreError>,
}

impl NamedFile {
    fn new(file: FakeFile) -> Self {
        Self { file, is_named_durably: false, judged: OnceCell::new() }
    }

    fn change(&mut self) -> &mut FakeFile {
        self.judged.take();
        &mut self.file
    }

    /// The record it carries, where as a process sees it it is this fragment and sound.
    pub fn sound(&self, fragment: FragmentKey) -> Option<RecordHash> {
        let judged = self.judged();
        let (header, ..) = judged.parts.as_ref().ok().filter(|_| judged.class == Class::Healthy)?;
        let named = (header.identity.extent, header.identity.generation, header.identity.index.get());
        let is_named = named == (fragment.extent.id(), fragment.generation, fragment.index);
        judged.record.filter(|_| is_named)
    }

    fn judged(&self) -> &Judged {
        self.judged.get_or_init(|| {
            let bytes = self.file.all();
            let parts = parts(&bytes);
            let root = parts.as_ref().ok().map(|(header, ..)| {
                let layout = header.layout();
                let payload = &bytes[layout.payload_at as usize..layout.table_at as usize];
                *header.identity.root(&Hash::of(payload)).as_bytes()
            });
            let record = parts.as_ref().ok().map(|(_, _, record)| RecordHash::of(record));
            Judged { class: examine(&bytes).class, root, record, parts }
        })
    }

    fn parts(&self) -> Result<&Parts, StoreError> {
        self.judged().parts.as_ref().map_err(Clone::clone)
    }
}

#[derive(Clone, Debug, Default)]
struct Journal {
    durable: Vec<u8>,
    /// Appended and, on a disk that lies, not durable.
    pending: Vec<u8>,
}

/// Ways in which a disk, or the code that drives it, can be wrong where it must not be. For tests of the simulation itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskMutation {
    /// An append to a journal is reported before it is durable.
    JournalUnsynced,
    /// Names are not synced when they are said to be.
    FolderUnsynced,
    /// A fragment's content is not synced before it gets its name.
    ContentUnsynced,
    /// A byte changes between hash and file, and nobody looks.
    StagedByteFlipped,
    /// A file that is asked to be put into quarantine is another one.
    WrongFileRetired,
}

/// What a disk does with a page that it says to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It does not write it.
    Lost,
    /// It writes some of its sectors.
    Torn,
    /// It writes it into another fragment.
    Misdirected,
}

/// A disk.
#[derive(Clone, Debug)]
pub struct FakeDisk {
    /// Its id, from its label.
    pub id: DiskId,
    /// The cell in its label.
    pub cell: Option<CellKey>,
    /// The life beside its label.
    pub life: Option<Life>,
    stages: BTreeMap<StageKey, Stage>,
    left: BTreeMap<FragmentKey, LeftStage>,
    names: BTreeMap<FragmentKey, NamedFile>,
    quarantine: BTreeMap<FragmentKey, FakeFile>,
    journals: BTreeMap<PgId, Journal>,
    index: BTreeMap<FragmentKey, Body>,
    /// How it is to lie about the next page that it makes durable.
    pub lie: Option<Lie>,
    /// Whether also of what is new: what only repairs write was missing before, so that not more is missing for it.
    pub lies_about_new: bool,
    /// How it lied last, until somebody asks.
    lied: Option<Lie>,
    /// Fragments into which it wrote pages of others.
    overwritten: Vec<FragmentKey>,
    /// What is wrong with it.
    pub mutation: Option<DiskMutation>,
    /// How often what lies under names may have changed.
    changes: u64,
    dice: Dice,
}

/// Attempts of repairs have the upper half of all numbers.
const REPAIR_ATTEMPTS: u64 = 1 << 63;

fn invalid<T>(what: &str) -> Result<T, StoreError> {
    Err(StoreError::Invalid(what.into()))
}

impl FakeDisk {
    /// An empty disk.
    pub fn new(id: DiskId, dice: Dice) -> Self {
        Self {
            id,
            cell: None,
            life: None,
            stages: BTreeMap::new(),
            left: BTreeMap::new(),
            names: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            journals: BTreeMap::new(),
            index: BTreeMap::new(),
            lie: None,
            lies_about_new: true,
            lied: None,
            overwritten: Vec::new(),
            mutation: None,
            changes: 0,
            dice,
        }
    }

    /// Its journals, as a process finds them.
    pub fn journals(&self) -> Vec<JournalFile> {
        let whole = |journal: &Journal| [&journal.durable[..], &journal.pending[..]].concat();
        self.journals.iter().map(|(pg, journal)| JournalFile { pg: *pg, bytes: Ok(whole(journal)) }).collect()
    }

    /// Its fragments under their names.
    pub fn names(&self) -> &BTreeMap<FragmentKey, NamedFile> {
        &self.names
    }

    /// Whether this fragment is there, durably, sound, with this record.
    pub fn holds(&self, fragment: FragmentKey, hash: &RecordHash) -> bool {
        self.names.get(&fragment).is_some_and(|named| {
            named.is_named_durably && named.file.is_synced() && named.sound(fragment) == Some(*hash)
        })
    }

    /// How often what lies under names may have changed.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// Kept stages that nobody has open, as a process finds them.
    pub fn kept(&self) -> Vec<FragmentKey> {
        self.left.keys().copied().collect()
    }

    /// Stages open.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    /// Does what a store does.
    ///
    /// # Errors
    /// As a store's.
    pub fn perform(&mut self, call: &StoreCall) -> Result<StoreOk, StoreError> {
        self.changes += u64::from(matches!(
            call,
            StoreCall::PublishStage { .. } | StoreCall::SyncFolder { .. } | StoreCall::Quarantine { .. }
        ));
        match call {
            StoreCall::OpenStage { key, header } => self.open(*key, header),
            StoreCall::KeepStage { key, header } => self.keep(*key, header),
            StoreCall::LeaveStage { key } => self.leave(key),
            StoreCall::DropKept { fragment } => {
                self.left.remove(fragment);
                Ok(StoreOk::Done)
            }
            StoreCall::WriteStage { key, offset, body } => self.write(key, *offset, body),
            StoreCall::SealStage { key } => self.seal(key),
            StoreCall::FinishStage { key, record } => self.finish(key, record),
            StoreCall::PublishStage { key } => self.publish(key),
            StoreCall::SyncFolder { pg } => {
                if self.mutation != Some(DiskMutation::FolderUnsynced) {
                    let of_pg = |entry: &(&FragmentKey, &mut NamedFile)| entry.0.extent.pg() == *pg;
                    self.names.iter_mut().filter(of_pg).for_each(|(_, named)| named.is_named_durably = true);
                }
                Ok(StoreOk::Done)
            }
            StoreCall::DropStage { key } => {
                self.stages.remove(key);
                Ok(StoreOk::Done)
            }
            StoreCall::Read { fragment, range } => self.read(*fragment, range.start, range.end),
            StoreCall::Combine { fragment, range, coefficients, sums } => {
                self.combine(*fragment, range.clone(), coefficients, sums)
            }
            StoreCall::ReadRecord { fragment, hash } => self.record(*fragment, hash),
            StoreCall::Check { fragment, hash } => self.check(*fragment, hash.as_ref()),
            StoreCall::Quarantine { fragment, .. } => {
                let fragment = self.retired(*fragment);
                let named = self.names.remove(&fragment).ok_or(StoreError::NotFound)?;
                self.index.remove(&fragment);
                self.quarantine.insert(fragment, named.file);
                Ok(StoreOk::Done)
            }
            StoreCall::UnlinkQuarantined { fragment } => {
                self.quarantine.remove(fragment).map(|_| StoreOk::Done).ok_or(StoreError::NotFound)
            }
            StoreCall::Touch => Ok(StoreOk::Done),
            StoreCall::ListFolder { pg } => {
                let of_pg = self.names.iter().filter(|(key, _)| key.extent.pg() == *pg);
                Ok(StoreOk::Folder(of_pg.map(|(key, _)| *key).collect()))
            }
            StoreCall::AppendJournal { pg, bytes } => {
                let journal = self.journals.entry(*pg).or_default();
                if self.mutation == Some(DiskMutation::JournalUnsynced) {
                    journal.pending.extend_from_slice(bytes);
                } else {
                    journal.durable.extend_from_slice(bytes);
                }
                Ok(StoreOk::Done)
            }
            StoreCall::ReplaceJournal { pg, bytes } => {
                self.journals.insert(*pg, Journal { durable: bytes.clone(), pending: Vec::new() });
                Ok(StoreOk::Done)
            }
            StoreCall::IndexPut { fragment, record } => {
                self.index.insert(*fragment, record.clone());
                Ok(StoreOk::Done)
            }
            StoreCall::IndexRemove { fragment } => {
                self.index.remove(fragment);
                Ok(StoreOk::Done)
            }
        }
    }

    fn retired(&self, asked: FragmentKey) -> FragmentKey {
        match self.mutation {
            Some(DiskMutation::WrongFileRetired) => self.names.keys().next().copied().unwrap_or(asked),
            _ => asked,
        }
    }

    fn open(&mut self, key: StageKey, header: &Header) -> Result<StoreOk, StoreError> {
        if self.stages.contains_key(&key) {
            return invalid("the stage is open already");
        }
        let payload = header.identity.payload_bytes as usize;
        let stage = Stage {
            header: *header,
            received: vec![0; payload],
            blocks: BTreeSet::new(),
            file: FakeFile::new(ec_core::fragment::HEADER_BYTES + payload),
            is_finished: false,
            kept: None,
        };
        self.stages.insert(key, stage);
        Ok(StoreOk::Done)
    }

    fn keep(&mut self, key: StageKey, header: &Header) -> Result<StoreOk, StoreError> {
        let fragment = fragment_of(&key, header);
        let is_this = |stage: &Stage| stage.kept.is_some() && stage.header.identity == header.identity;
        if self.stages.values().any(is_this) {
            return invalid("the kept stage is open already");
        }
        self.open(key, header)?;
        let left = self.left.remove(&fragment).filter(|left| left.header == *header);
        let Some(stage) = self.stages.get_mut(&key) else { return invalid("no such stage") };
        let mut kept = KeptStage::default();
        if let Some(mut left) = left {
            left.file.resize(stage.file.bytes());
            stage.file = left.file;
            stage.blocks = left.map.clone();
            kept = KeptStage { map: left.map.clone(), found: left.map };
        }
        let mut written: Vec<(u64, u64)> = Vec::new();
        for at in kept.found.iter().map(|at| *at as u64) {
            match written.last_mut().filter(|last| last.1 == at) {
                Some(last) => last.1 += BLOCK_BYTES as u64,
                None => written.push((at, at + BLOCK_BYTES as u64)),
            }
        }
        stage.kept = Some(kept);
        Ok(StoreOk::Kept(Some(written)))
    }

    /// Makes durable what has come to a kept stage, and then its map.
    fn checkpoint(&mut self, key: &StageKey) {
        if self.stages.get(key).is_none_or(|stage| stage.kept.is_none()) {
            return;
        }
        self.force(key);
        if let Some(stage) = self.stages.get_mut(key)
            && let Some(kept) = &mut stage.kept
        {
            kept.map = stage.blocks.clone();
        }
    }

    /// Makes a stage's file durable, or says so.
    fn force(&mut self, key: &StageKey) {
        let Some(stage) = self.stages.get_mut(key) else { return };
        let (lie, lied, dice) = (&mut self.lie, &mut self.lied, &mut self.dice);
        let may_lie = self.lies_about_new || key.attempt.number >= REPAIR_ATTEMPTS;
        let before = lie.filter(|_| may_lie);
        let unwritten = stage.file.sync(|_| {
            let how = (*lie).filter(|_| may_lie && dice.chance(1, 2))?;
            (*lie, *lied) = (None, Some(how));
            let sectors = (PAGE_BYTES / SECTOR_BYTES) as u64;
            Some(if how == Lie::Torn { 1 + dice.below(sectors - 1) as usize } else { 0 })
        });
        if before == Some(Lie::Misdirected) {
            unwritten.iter().for_each(|page| self.write_elsewhere(page));
        }
    }

    fn write_elsewhere(&mut self, page: &[u8]) {
        let names: Vec<FragmentKey> = self.names.keys().copied().collect();
        let Some(fragment) = self.dice.pick(&names).copied() else { return };
        let Some(named) = self.names.get_mut(&fragment) else { return };
        let pages = (named.file.bytes() / PAGE_BYTES).max(1) as u64;
        if named.change().overwrite(self.dice.below(pages) as usize, page) {
            self.overwritten.push(fragment);
            self.changes += 1;
        }
    }

    /// How it lied since it was last asked, and which other fragments it hurt by that.
    pub fn lies(&mut self) -> Option<(Lie, Vec<FragmentKey>)> {
        self.lied.take().map(|lie| (lie, std::mem::take(&mut self.overwritten)))
    }

    fn leave(&mut self, key: &StageKey) -> Result<StoreOk, StoreError> {
        self.checkpoint(key);
        let Some(stage) = self.stages.remove(key) else { return invalid("no such stage") };
        self.found_left(key, stage);
        Ok(StoreOk::Done)
    }

    /// What stays of a stage: a file without a map is none.
    fn found_left(&mut self, key: &StageKey, stage: Stage) {
        let Some(kept) = stage.kept.filter(|kept| !kept.map.is_empty()) else { return };
        let left = LeftStage { header: stage.header, file: stage.file, map: kept.map };
        self.left.insert(fragment_of(key, &stage.header), left);
    }

    fn write(&mut self, key: &StageKey, offset: u64, body: &Body) -> Result<StoreOk, StoreError> {
        let Some(stage) = self.stages.get_mut(key) else { return invalid("no such stage") };
        let (at, end) = (offset as usize, offset as usize + body.len());
        if end > stage.received.len() || !at.is_multiple_of(BLOCK_BYTES) || !body.len().is_multiple_of(BLOCK_BYTES) {
            return invalid("a piece out of range");
        }
        if !(at..end).step_by(BLOCK_BYTES).all(|block| stage.blocks.insert(block)) {
            return invalid("a piece twice");
        }
        stage.received[at..end].copy_from_slice(body);
        stage.file.write(ec_core::fragment::HEADER_BYTES + at, body);
        if stage.kept.is_some() && self.dice.chance(1, 2) {
            self.checkpoint(key);
        }
        Ok(StoreOk::Done)
    }

    fn seal(&mut self, key: &StageKey) -> Result<StoreOk, StoreError> {
        let Some(stage) = self.stages.get_mut(key) else { return invalid("no such stage") };
        if stage.blocks.len() * BLOCK_BYTES != stage.received.len() {
            return invalid("not all of the payload came");
        }
        for at in stage.kept.iter().flat_map(|kept| &kept.found) {
            let from = ec_core::fragment::HEADER_BYTES + at;
            stage.received[*at..at + BLOCK_BYTES].copy_from_slice(&stage.file.read(from..from + BLOCK_BYTES));
        }
        let root = stage.header.identity.root(&Hash::of(&stage.received));
        if self.mutation == Some(DiskMutation::StagedByteFlipped) && !stage.received.is_empty() {
            let at = self.dice.below(stage.received.len() as u64) as usize;
            stage.file.write(ec_core::fragment::HEADER_BYTES + at, &[stage.received[at] ^ 1]);
        }
        Ok(StoreOk::Root(*root.as_bytes()))
    }

    fn finish(&mut self, key: &StageKey, record: &Body) -> Result<StoreOk, StoreError> {
        let finished = self.finish_or_not(key, record);
        // Any error discards what was being written.
        if finished.is_err() {
            self.stages.remove(key);
        }
        finished
    }

    fn finish_or_not(&mut self, key: &StageKey, record: &Body) -> Result<StoreOk, StoreError> {
        let Some(stage) = self.stages.get_mut(key) else { return invalid("no such stage") };
        let mut header = stage.header;
        header.record_bytes = record.len() as u32;
        let identity = &header.identity;
        let table: Vec<u32> = stage
            .received
            .chunks(BLOCK_BYTES)
            .zip(0..)
            .map(|(block, number)| identity.seed().crc(number, block))
            .collect();
        let root = identity.root(&Hash::of(&stage.received));
        let bytes = header.to_bytes();
        let tail = build_tail(&header, &bytes, &table, record, &root)
            .map_err(|error| StoreError::Invalid(error.to_string()))?;
        let layout = header.layout();
        stage.file.resize(layout.file_bytes as usize);
        stage.file.write(0, &bytes);
        stage.file.write(layout.table_at as usize, &tail);
        if self.mutation != Some(DiskMutation::ContentUnsynced) {
            self.force(key);
        }
        if let Some(stage) = self.stages.get_mut(key) {
            stage.is_finished = true;
        }
        Ok(StoreOk::Done)
    }

    fn publish(&mut self, key: &StageKey) -> Result<StoreOk, StoreError> {
        let Some(stage) = self.stages.get(key).filter(|stage| stage.is_finished) else {
            return invalid("no such finished stage");
        };
        let fragment = fragment_of(key, &stage.header);
        if self.names.contains_key(&fragment) {
            return Ok(StoreOk::Published(false));
        }
        if let Some(stage) = self.stages.remove(key) {
            self.names.insert(fragment, NamedFile::new(stage.file));
        }
        Ok(StoreOk::Published(true))
    }

    fn named(&self, fragment: FragmentKey) -> Result<&NamedFile, StoreError> {
        self.names.get(&fragment).ok_or(StoreError::NotFound)
    }

    fn read(&self, fragment: FragmentKey, start: u64, end: u64) -> Result<StoreOk, StoreError> {
        let named = self.named(fragment)?;
        let (header, table, _) = named.parts()?;
        if end > header.identity.payload_bytes {
            return invalid("past the end of the payload");
        }
        let at = header.layout().payload_at;
        let block = BLOCK_BYTES as u64;
        let crcs = table[(start / block) as usize..(end / block) as usize].to_vec();
        let body = Body::from(named.file.read((at + start) as usize..(at + end) as usize));
        Ok(StoreOk::Data { body: body.into(), crcs })
    }

    fn combine(
        &self,
        fragment: FragmentKey,
        range: Range<u64>,
        factors: &[u8],
        sums: &Body,
    ) -> Result<StoreOk, StoreError> {
        let named = self.named(fragment)?;
        let (header, table, _) = named.parts()?;
        if range.end > header.identity.payload_bytes {
            return invalid("past the end of the payload");
        }
        let at = header.layout().payload_at;
        let payload = named.file.read((at + range.start) as usize..(at + range.end) as usize);
        let first = (range.start / BLOCK_BYTES as u64) as u32;
        if !bad_blocks(header.identity.seed(), table, first, &payload).is_empty() {
            return Err(StoreError::Damaged("a block without its CRC".into()));
        }
        add_share(factors, &payload, sums.clone()).map(StoreOk::Sums)
    }

    fn record(&self, fragment: FragmentKey, hash: &RecordHash) -> Result<StoreOk, StoreError> {
        if let Some(record) = self.index.get(&fragment).filter(|record| RecordHash::of(record) == *hash) {
            return Ok(StoreOk::Record(record.clone()));
        }
        let (_, _, record) = self.named(fragment)?.parts()?;
        if RecordHash::of(record) == *hash {
            Ok(StoreOk::Record(record.clone().into()))
        } else {
            Err(StoreError::NotFound)
        }
    }

    fn check(&self, fragment: FragmentKey, hash: Option<&RecordHash>) -> Result<StoreOk, StoreError> {
        let named = self.named(fragment)?;
        let is_right = named.sound(fragment).is_some_and(|found| hash.is_none_or(|hash| found == *hash));
        let Judged { class, root, .. } = *named.judged();
        let class = if class == Class::Healthy && !is_right { Class::Conflict } else { class };
        Ok(StoreOk::Checked { class: class.as_str().into(), root, bytes: named.file.bytes() as u64 })
    }

    /// The process stops. With `power` the machine too: what was not durable is kept, dropped or torn by the dice. Without, the
    /// operating system still has it, and it is as little durable as before.
    pub fn crash(&mut self, power: bool) {
        self.changes += 1;
        for (key, stage) in std::mem::take(&mut self.stages) {
            self.found_left(&key, stage);
        }
        let dice = &mut self.dice;
        if power {
            self.left.values_mut().for_each(|left| left.file.crash(dice));
            self.names.retain(|_, named| named.is_named_durably || dice.chance(1, 2));
            for named in self.names.values_mut() {
                // What is durable does not change.
                if !named.file.is_synced() {
                    named.change().crash(dice);
                }
                named.is_named_durably = true;
            }
            for journal in self.journals.values_mut() {
                let pending = std::mem::take(&mut journal.pending);
                let kept = dice.below(pending.len() as u64 + 1) as usize;
                journal.durable.extend_from_slice(&pending[..kept]);
            }
        }
        let names = &self.names;
        self.index.retain(|key, _| names.contains_key(key) && !dice.chance(1, 4));
    }

    /// An operation was under way when the machine stopped: it happened, happened partly, or did not.
    pub fn crash_in(&mut self, call: &StoreCall) {
        match call {
            StoreCall::AppendJournal { pg, bytes } => {
                let kept = self.dice.below(bytes.len() as u64 + 1) as usize;
                self.journals.entry(*pg).or_default().durable.extend_from_slice(&bytes[..kept]);
            }
            _ if self.dice.chance(1, 2) => drop(self.perform(call)),
            _ => (),
        }
    }

    /// An operation fails; what it wrote may lie there all the same.
    pub fn fail(&mut self, call: &StoreCall) {
        match call {
            StoreCall::FinishStage { key, .. }
            | StoreCall::WriteStage { key, .. }
            | StoreCall::SealStage { key }
            | StoreCall::LeaveStage { key } => {
                self.stages.remove(key);
            }
            StoreCall::KeepStage { key, header } => {
                self.left.remove(&fragment_of(key, header));
            }
            StoreCall::AppendJournal { .. } | StoreCall::PublishStage { .. } => self.crash_in(call),
            _ => (),
        }
    }

    /// Flips a bit of a durable fragment.
    pub fn rot(&mut self, fragment: FragmentKey) {
        self.changes += 1;
        if let Some(named) = self.names.get_mut(&fragment) {
            named.change().rot(&mut self.dice);
        }
    }

    /// A fragment's name disappears.
    pub fn vanish(&mut self, fragment: FragmentKey) {
        self.changes += 1;
        self.names.remove(&fragment);
    }

    /// A journal is damaged: a bit flips, its end is lost, or all of it.
    pub fn damage_journal(&mut self, pg: PgId) {
        let dice = &mut self.dice;
        let Some(journal) = self.journals.get_mut(&pg).filter(|journal| !journal.durable.is_empty()) else { return };
        let length = journal.durable.len() as u64;
        match dice.below(3) {
            0 => journal.durable[dice.below(length) as usize] ^= 1 << dice.below(8),
            1 => journal.durable.truncate(dice.below(length) as usize),
            _ => drop(self.journals.remove(&pg)),
        }
    }

    /// Placement groups that have a journal here.
    pub fn journal_pgs(&self) -> Vec<PgId> {
        self.journals.keys().copied().collect()
    }
}

/// The fragment that a stage becomes.
fn fragment_of(key: &StageKey, header: &Header) -> FragmentKey {
    let BirthIdentity { generation, index, .. } = header.identity;
    FragmentKey { extent: key.extent, generation, index: index.get() }
}

/// Header, table and record of a file that is whole as far as they go.
fn parts(bytes: &[u8]) -> Result<Parts, StoreError> {
    let last = &bytes[bytes.len().saturating_sub(ec_core::fragment::FOOTER_BYTES)..];
    let region = &bytes[..bytes.len().min(ec_core::fragment::HEADER_BYTES)];
    match examine_structure(bytes.len() as u64, region, last) {
        Structure::Damaged(class, reason) => Err(StoreError::Damaged(format!("{class}: {reason}"))),
        Structure::Ok(header, layout) => examine_tail(&header, region, &bytes[layout.table_at as usize..])
            .map(|tail| (header, tail.table, tail.record_bytes))
            .map_err(|(class, reason)| StoreError::Damaged(format!("{class}: {reason}"))),
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
