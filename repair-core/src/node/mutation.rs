//! Mutations of a placement group, one at a time: the owner's word is weighed, the list comes to its row, then what was asked
//! for is decided and made durable, then it is answered.

use super::coming::Coming;
use super::group::{Active, Adoption, Kind, Mutation, Step, Sweeping, Task};
use super::journal::Change;
use super::ledger::{Adopted, Ledger};
use super::publish::Publishing;
use super::{Body, Node, Pending, StoreCall, StoreError, StoreOk, unavailable, write_failed};
use crate::catalog::{EntryKind, PgRow};
use crate::id::{AttemptId, ExtentKey, PgId, RecordHash};
use crate::limits::MEMBERS_MAX;
use crate::shape::{BIRTH_GENERATION, Shape};
use crate::wire::Refusal;
use crate::wire::node::{Authority, FragmentKey, NodeReply, Prepared, StageKey};
use ec_core::fragment::ExtentRecord;

/// Records on a list that is taken over: what the memory of a node is sized for.
const ADOPTED_MAX: usize = 4_000_000;

/// Files that one retirement puts aside: each costs two syncs, and somebody waits for the answer.
pub(super) const RETIRED_AT_ONCE: usize = 64;

/// What was decided to be done.
#[derive(Debug)]
pub(super) enum Act {
    Answer(NodeReply),
    /// The journal takes these, then this is the answer.
    Settle(Vec<Change>, NodeReply),
    /// A file gets its name first.
    Publish(Box<Publishing>),
    /// No file of it is ours: its record is kept under this name, then as [`Act::Settle`].
    Keep(FragmentKey, Body, Vec<Change>, NodeReply),
}

impl Node {
    pub(super) fn enqueue(&mut self, mutation: Mutation) {
        let (Some(asker), Some(authority)) = (mutation.asker, &mutation.authority) else { return };
        let pg = authority.row.pg;
        let queue_max = self.config.queue_max;
        let group = self.groups.entry(pg).or_default();
        if group.queue.len() >= queue_max {
            let reason = format!("{queue_max} changes of placement group {pg} wait");
            return self.refuse(asker, Refusal::Busy(reason));
        }
        group.queue.push_back(mutation);
        self.run_group(pg);
    }

    /// The daemon says that this attempt will never take effect.
    pub(super) fn disown(&mut self, pg: PgId, attempt: AttemptId) {
        let Some(group) = self.groups.get_mut(&pg) else { return };
        group.queue.push_back(Mutation { asker: None, authority: None, kind: Kind::Abort { attempt } });
        self.run_group(pg);
    }

    /// Begins what waits, until something has to be waited for.
    pub(super) fn run_group(&mut self, pg: PgId) {
        while let Some(mutation) = self.next_mutation(pg) {
            let active = Active { mutation, step: Step::Begin, changes: Vec::new() };
            if let Some(active) = self.begin(pg, active) {
                return self.keep_active(pg, active);
            }
        }
        // Asking about a placement group that nothing is known of leaves nothing behind.
        if self.groups.get(&pg).is_some_and(|group| group.is_vacant()) {
            self.groups.remove(&pg);
        }
    }

    fn next_mutation(&mut self, pg: PgId) -> Option<Mutation> {
        let bytes_max = self.config.journal_bytes_max;
        let group = self.groups.get_mut(&pg).filter(|group| group.active.is_none())?;
        let own = |kind| Some(Mutation { asker: None, authority: None, kind });
        // A sweep syncs for each file, so it takes turns with what somebody waits for.
        if group.sweep_due && (!group.swept_last || group.queue.is_empty()) {
            (group.sweep_due, group.swept_last) = (false, true);
            return own(Kind::Sweep);
        }
        group.swept_last = false;
        if let Some(mutation) = group.queue.pop_front() {
            return Some(mutation);
        }
        if std::mem::take(&mut group.note_due) && !group.lazy.is_empty() {
            return own(Kind::Note);
        }
        if group.wants_compaction(bytes_max) { own(Kind::Compact) } else { None }
    }

    fn keep_active(&mut self, pg: PgId, active: Active) {
        if let Some(group) = self.groups.get_mut(&pg) {
            group.active = Some(active);
        }
    }

    /// A store operation of the mutation in work ended.
    pub(super) fn mutation_stored(&mut self, pg: PgId, result: Result<StoreOk, StoreError>) {
        let Some(active) = self.groups.get_mut(&pg).and_then(|group| group.active.take()) else { return };
        if let Some(active) = self.advance(pg, active, result) {
            return self.keep_active(pg, active);
        }
        self.run_group(pg);
    }

    fn begin(&mut self, pg: PgId, mut active: Active) -> Option<Active> {
        match active.mutation.kind {
            Kind::Sweep => return self.begin_sweep(pg, active),
            Kind::Note => return self.journal(pg, active, Vec::new(), Step::Compacting),
            Kind::Compact => {
                let call = self.groups.get_mut(&pg)?.rewrite_call(pg, &[]);
                active.step = Step::Compacting;
                self.store(Pending::Mutation(pg), call);
                return Some(active);
            }
            _ => {}
        }
        match self.accede(pg, &active.mutation) {
            Err(refusal) => self.finish(&active, NodeReply::Refused(refusal)),
            Ok(changes) if changes.is_empty() => self.act(pg, active),
            Ok(changes) => self.journal(pg, active, changes, Step::Acceding),
        }
    }

    /// What obeying this owner and coming to its row changes.
    fn accede(&self, pg: PgId, mutation: &Mutation) -> Result<Vec<Change>, Refusal> {
        let (Some(authority), Some(group)) = (&mutation.authority, self.groups.get(&pg)) else { return Ok(Vec::new()) };
        check_row(&authority.row)?;
        if matches!(mutation.kind, Kind::Publish { .. }) && group.ledger.is_past(authority) {
            return Ok(Vec::new());
        }
        group.ledger.admit(authority)?;
        let mut changes = Vec::new();
        if group.ledger.token != Some(authority.token) {
            changes.push(Change::Token(authority.token));
        }
        if let Coming::Level(coming) = group.ledger.come_to(&authority.row, self.disk()) {
            changes.extend(coming);
        }
        Ok(changes)
    }

    /// Tells the journal; `step` says what follows.
    fn journal(&mut self, pg: PgId, mut active: Active, changes: Vec<Change>, step: Step) -> Option<Active> {
        let call = self.groups.get_mut(&pg)?.journal_call(pg, &changes);
        (active.changes, active.step) = (changes, step);
        self.store(Pending::Mutation(pg), call);
        Some(active)
    }

    fn advance(&mut self, pg: PgId, mut active: Active, result: Result<StoreOk, StoreError>) -> Option<Active> {
        match std::mem::replace(&mut active.step, Step::Begin) {
            Step::Begin => None,
            Step::Acceding => {
                self.journaled(pg, &mut active, result)?;
                self.act(pg, active)
            }
            Step::Settling(reply) => {
                self.journaled(pg, &mut active, result)?;
                if let Kind::Abort { attempt } = active.mutation.kind {
                    self.drop_stages_of_attempt(attempt);
                }
                self.finish(&active, reply)
            }
            Step::Publishing(publishing) => self.publish_stored(pg, active, publishing, result),
            Step::Listing => self.retire_listed(pg, active, result),
            Step::Dooming => {
                self.journaled(pg, &mut active, result)?;
                let tasks = active.changes.iter().filter_map(|change| match change {
                    Change::Doomed(fragment, _) => Some(Task::Quarantine(*fragment)),
                    _ => None,
                });
                let tasks: std::collections::VecDeque<Task> = tasks.collect();
                let more = tasks.len() == RETIRED_AT_ONCE;
                let sweeping = Sweeping { tasks, more, ..Sweeping::default() };
                self.sweep(pg, active, sweeping)
            }
            Step::Sweeping(sweeping) => self.swept(pg, active, sweeping, result),
            Step::Replacing(ledger, files) => {
                self.written(pg, &active, &result)?;
                self.replaced(pg, &active, *ledger, files)
            }
            Step::Compacting => {
                self.written(pg, &active, &result)?;
                None
            }
        }
    }

    /// Takes the end of a write of the journal; none where it failed, which was answered then.
    fn written(&mut self, pg: PgId, active: &Active, result: &Result<StoreOk, StoreError>) -> Option<()> {
        self.groups.get_mut(&pg)?.journal_written(result.is_ok());
        match result {
            Ok(_) => Some(()),
            Err(error) => {
                self.finish(active, NodeReply::Refused(write_failed(error.clone())));
                None
            }
        }
    }

    fn journaled(&mut self, pg: PgId, active: &mut Active, result: Result<StoreOk, StoreError>) -> Option<()> {
        self.written(pg, active, &result)?;
        let now = self.now;
        // The changes stay in `active`: a retirement reads from them what it doomed.
        self.groups.get_mut(&pg)?.apply(active.changes.clone(), now);
        Some(())
    }

    /// Answers; the mutation is over.
    pub(super) fn finish(&mut self, active: &Active, reply: NodeReply) -> Option<Active> {
        if let Some(asker) = active.mutation.asker {
            self.reply(asker, reply);
        }
        None
    }

    /// The owner is obeyed and the list is as near to its row as it comes: now for what it wants.
    fn act(&mut self, pg: PgId, mut active: Active) -> Option<Active> {
        let decided = match &mut active.mutation.kind {
            Kind::Adopt { .. } => return self.adopt(pg, active),
            Kind::Retire => return self.begin_retire(pg, active),
            Kind::Prepare { kind, .. } if kind.has_record() => self.decide_file(pg, &active.mutation),
            Kind::Publish { .. } => self.decide_file(pg, &active.mutation),
            _ => self.decide(pg, &active.mutation),
        };
        match decided {
            Err(refusal) => self.finish(&active, NodeReply::Refused(refusal)),
            Ok(Act::Answer(reply)) => self.finish(&active, reply),
            Ok(Act::Settle(changes, reply)) => self.settle(pg, active, changes, reply),
            Ok(Act::Publish(publishing)) => self.begin_publish(pg, active, publishing),
            Ok(Act::Keep(fragment, record, changes, reply)) => {
                self.store(Pending::Nothing, StoreCall::IndexPut { fragment, record });
                self.settle(pg, active, changes, reply)
            }
        }
    }

    pub(super) fn settle(
        &mut self,
        pg: PgId,
        active: Active,
        changes: Vec<Change>,
        reply: NodeReply,
    ) -> Option<Active> {
        self.journal(pg, active, changes, Step::Settling(reply))
    }

    /// Decides about what needs no file.
    fn decide(&self, pg: PgId, mutation: &Mutation) -> Result<Act, Refusal> {
        let ledger = &self.groups.get(&pg).ok_or(Refusal::NotFound)?.ledger;
        match (&mutation.kind, &mutation.authority) {
            (Kind::Hear, Some(authority)) => {
                Ok(Act::Answer(NodeReply::Heard(ledger.head(&authority.row, self.disk()))))
            }
            (Kind::Prepare { attempt, kind, extent, hash, .. }, Some(authority)) => {
                self.require_level(pg, authority)?;
                self.check_extent(pg, *extent)?;
                let prepared = Prepared { attempt: *attempt, kind: *kind, extent: *extent, hash: *hash };
                self.decide_fileless(pg, prepared)
            }
            (Kind::Abort { attempt }, authority) => self.decide_abort(pg, *attempt, authority.as_deref()),
            _ => Err(Refusal::Invalid("nothing to decide".into())),
        }
    }

    /// Decides about a delete or a release.
    fn decide_fileless(&self, pg: PgId, prepared: Prepared) -> Result<Act, Refusal> {
        let ledger = &self.groups.get(&pg).ok_or(Refusal::NotFound)?.ledger;
        let Prepared { attempt, kind, extent, hash } = prepared;
        let done = Ok(Act::Answer(NodeReply::Prepared { attempt }));
        if ledger.aborted.contains(&attempt) {
            return Err(Refusal::Aborted);
        }
        match ledger.prepared.get(&attempt) {
            Some(same) if *same == prepared => return done,
            Some(_) => return Err(Refusal::Invalid("this attempt is another change".into())),
            None => {}
        }
        let may = if kind == EntryKind::Release {
            may_release(ledger, extent, hash)?
        } else {
            may_delete(ledger, extent, hash)?
        };
        if !may {
            return done;
        }
        Ok(Act::Settle(vec![Change::Prepared(prepared)], NodeReply::Prepared { attempt }))
    }

    fn decide_abort(&self, pg: PgId, attempt: AttemptId, by: Option<&Authority>) -> Result<Act, Refusal> {
        let ledger = &self.groups.get(&pg).ok_or(Refusal::NotFound)?.ledger;
        let rows = by.map(|authority| &authority.row).into_iter().chain(&ledger.heard);
        if rows.flat_map(|row| &row.entries).any(|entry| entry.attempt == attempt) {
            return Err(Refusal::Invalid("this attempt is committed".into()));
        }
        let mut changes = Vec::new();
        if !ledger.aborted.contains(&attempt) {
            changes.push(Change::Aborted(attempt));
        }
        if let Some(prepared) = ledger.prepared.get(&attempt) {
            changes.push(Change::Unprepared(attempt));
            let seq = by.map(|authority| authority.row.seq).max(ledger.heard.as_ref().map(|row| row.seq)).unwrap_or(0);
            let index = ledger.index(self.disk()).filter(|_| prepared.kind.has_record());
            let file = index.map(|index| ledger.prepared_shape(attempt).place(prepared.extent, index));
            // What the list or an unreleased record names stays, whoever prepared it.
            let file = file.filter(|file| !ledger.is_committed(file));
            changes.extend(file.map(|file| Change::Doomed(file, seq)));
        }
        let reply = NodeReply::Aborted { attempt };
        if changes.is_empty() { Ok(Act::Answer(reply)) } else { Ok(Act::Settle(changes, reply)) }
    }

    /// Decides about a create or a repair: what would get a name, and whether it may.
    fn decide_file(&self, pg: PgId, mutation: &Mutation) -> Result<Act, Refusal> {
        let authority = mutation.authority.as_deref().ok_or(Refusal::NotFound)?;
        match &mutation.kind {
            Kind::Prepare { attempt, kind, extent, hash, record } => {
                // A mark outlives everything that could bring the member to the row.
                if self.groups.get(&pg).is_some_and(|group| group.ledger.aborted.contains(attempt)) {
                    return Err(Refusal::Aborted);
                }
                self.require_level(pg, authority)?;
                self.check_extent(pg, *extent)?;
                let prepared = Prepared { attempt: *attempt, kind: *kind, extent: *extent, hash: *hash };
                if let Some(answer) = self.known_change(pg, &prepared)? {
                    return Ok(Act::Answer(answer));
                }
                let index = authority.row.index_of(self.disk());
                let index = index.ok_or(Refusal::Invalid("a joining disk prepares nothing".into()))?;
                let key = StageKey { attempt: *attempt, extent: *extent, index };
                let (parsed, shape) = self.parse_record(*extent, *hash, record)?;
                if !kind.has_shape() && shape.generation != BIRTH_GENERATION {
                    return Err(Refusal::Invalid(format!("generation {}", shape.generation)));
                }
                if kind.has_shape() && !shape.has(index) {
                    let changes = vec![Change::Prepared(prepared), Change::PreparedShape(*attempt, shape)];
                    let reply = NodeReply::Prepared { attempt: *attempt };
                    return Ok(Act::Keep(shape.place(*extent, index), record.clone(), changes, reply));
                }
                if let Some(reason) = self.distrusted() {
                    // It may have been staged before that came to light.
                    return Err(Refusal::NoSpace(reason));
                }
                self.decide_name(key, *hash, &parsed, shape, record)
            }
            Kind::Publish { key, record } => {
                if !self.groups.get(&pg).is_some_and(|group| group.ledger.is_past(authority)) {
                    self.require_level(pg, authority)?;
                }
                self.check_extent(pg, key.extent)?;
                let hash = RecordHash::of(record);
                let ledger = &self.groups.get(&pg).ok_or(Refusal::NotFound)?.ledger;
                if ledger.list().get(&key.extent) != Some(&hash) {
                    return Err(Refusal::Invalid("the list does not name this record".into()));
                }
                if ledger.index(self.disk()) != Some(key.index) {
                    return Err(Refusal::Invalid(format!("index {} is not this disk's", key.index)));
                }
                let (parsed, shape) = self.parse_record(key.extent, hash, record)?;
                self.decide_name(*key, hash, &parsed, shape, record)
            }
            _ => Err(Refusal::Invalid("not a file".into())),
        }
    }

    /// The answer to a change with a record that is known already.
    fn known_change(&self, pg: PgId, wanted: &Prepared) -> Result<Option<NodeReply>, Refusal> {
        let ledger = &self.groups.get(&pg).ok_or(Refusal::NotFound)?.ledger;
        let Prepared { attempt, kind, extent, hash } = *wanted;
        let invalid = |reason: &str| Err(Refusal::Invalid(reason.into()));
        let known = Ok(Some(NodeReply::Prepared { attempt }));
        match (ledger.prepared.get(&attempt), ledger.list().get(&extent)) {
            (Some(prepared), _) if prepared != wanted => return invalid("this attempt is another change"),
            (_, Some(listed)) if *listed == hash => return known,
            (_, Some(_)) if kind.is_create() => return invalid("the list has another record of this extent"),
            (Some(_), _) => return known,
            (None, None) if !kind.is_create() => return invalid("this extent is not on the list"),
            (None, Some(_)) => return Ok(None),
            (None, None) => {}
        }
        if ledger.tombstones.contains_key(&extent) {
            return invalid("this extent was deleted");
        }
        if ledger.prepared.values().any(|other| other.extent == extent) {
            return invalid("another attempt prepared this extent");
        }
        Ok(None)
    }

    /// A record of this extent and hash, and its files.
    fn parse_record(
        &self,
        extent: ExtentKey,
        hash: RecordHash,
        record: &Body,
    ) -> Result<(ExtentRecord, Shape), Refusal> {
        if RecordHash::of(record) != hash {
            return Err(Refusal::Invalid("the record does not have this hash".into()));
        }
        let parsed = ExtentRecord::parse(record).map_err(|error| Refusal::Invalid(format!("record: {error}")))?;
        if self.cell().map(|cell| cell.id()) != Some(parsed.cell) || parsed.extent != extent.id() {
            return Err(Refusal::Invalid("the record is of another extent".into()));
        }
        let shape = Shape::of_record(&parsed);
        let shape = shape.ok_or(Refusal::Invalid("the record names fragments of several generations".into()))?;
        Ok((parsed, shape))
    }

    /// Whether record and stage belong together.
    fn decide_name(
        &self,
        key: StageKey,
        hash: RecordHash,
        parsed: &ExtentRecord,
        shape: Shape,
        record: &Body,
    ) -> Result<Act, Refusal> {
        let entry = parsed.fragments.get(usize::from(key.index));
        let entry = entry.ok_or(Refusal::Invalid(format!("the record has no fragment {}", key.index)))?;
        let staged = match self.stages.sealed(&key) {
            Some(Ok((header, root))) => {
                let same = (header.identity, header.code, header.extent_bytes)
                    == (entry.identity, parsed.code, parsed.extent_bytes);
                if !same || root != *entry.root.as_bytes() {
                    return Err(Refusal::RootMismatch(format!("fragment {} of {}", key.index, key.extent)));
                }
                true
            }
            Some(Err(refusal)) => return Err(refusal),
            None => false,
        };
        let root = *entry.root.as_bytes();
        Ok(Act::Publish(Box::new(Publishing::new(key, shape, hash, root, record.clone(), staged))))
    }

    fn require_level(&self, pg: PgId, authority: &Authority) -> Result<(), Refusal> {
        let ledger = &self.groups.get(&pg).ok_or(Refusal::NotFound)?.ledger;
        if ledger.is_level(&authority.row, self.disk()) {
            return Ok(());
        }
        match ledger.come_to(&authority.row, self.disk()) {
            Coming::Behind(reason) => Err(Refusal::Behind(reason)),
            Coming::Level(_) => Err(Refusal::Behind("the list did not come to the row".into())),
        }
    }

    /// Whether an extent may live here at all.
    pub(super) fn check_extent(&self, pg: PgId, extent: ExtentKey) -> Result<(), Refusal> {
        let ours = self.cell().is_some_and(|cell| u128::from(cell.short()) == extent.0 >> 112);
        if extent.is_sound() && extent.pg() == pg && ours {
            Ok(())
        } else {
            Err(Refusal::Invalid(format!("{extent} is no extent of this placement group and cell")))
        }
    }

    fn adopt(&mut self, pg: PgId, active: Active) -> Option<Active> {
        match self.take_page(pg, &active.mutation) {
            Err(refusal) => self.finish(&active, NodeReply::Refused(refusal)),
            Ok(None) => self.finish(&active, NodeReply::AdoptedPage),
            Ok(Some(adoption)) => self.adopt_whole(pg, active, adoption),
        }
    }

    /// Takes a page; all pages where it was the last.
    fn take_page(&mut self, pg: PgId, mutation: &Mutation) -> Result<Option<Adoption>, Refusal> {
        let disk = self.disk();
        let group = self.groups.get_mut(&pg).ok_or(Refusal::NotFound)?;
        let (Kind::Adopt { page, last, listed, tombstones, shapes }, Some(authority)) =
            (&mutation.kind, &mutation.authority)
        else {
            return Err(Refusal::NotFound);
        };
        if authority.row.index_held_or_joined(disk).is_none() {
            return Err(Refusal::Behind("not a member".into()));
        }
        let token = authority.token;
        let mut adoption = match group.adoption.take() {
            // The page before comes again where its answer was lost: it says the same.
            Some(begun) if *page > 0 && begun.token == token && *page <= begun.next_page => begun,
            _ if *page == 0 => Adoption { token, next_page: 0, adopted: Adopted::default() },
            _ => return Err(Refusal::Invalid(format!("page {page} does not follow: begin anew with page 0"))),
        };
        let adopted = &mut adoption.adopted;
        if adopted.listed.len().max(adopted.shapes.len()).saturating_add(listed.len().max(shapes.len())) > ADOPTED_MAX {
            return Err(Refusal::Invalid(format!("more than {ADOPTED_MAX} records")));
        }
        adopted.listed.extend(listed.iter().map(|line| (line.extent, line.hash)));
        adopted.tombstones.extend(tombstones.iter().map(|tombstone| (tombstone.extent, tombstone.seq)));
        adopted.shapes.extend(shapes);
        adoption.next_page = adoption.next_page.max(page.saturating_add(1));
        if *last {
            return Ok(Some(adoption));
        }
        group.adoption = Some(adoption);
        Ok(None)
    }

    fn adopt_whole(&mut self, pg: PgId, mut active: Active, adoption: Adoption) -> Option<Active> {
        let row = &active.mutation.authority.as_ref()?.row;
        let group = self.groups.get_mut(&pg)?;
        let Some(ledger) = group.ledger.adopting(row, adoption.adopted) else {
            let reason = format!("the pages do not sum to row {}.{}", row.incarnation, row.seq);
            return self.finish(&active, NodeReply::Refused(Refusal::Behind(reason)));
        };
        let call = group.replace_call(pg, &ledger);
        active.step = Step::Replacing(Box::new(ledger), None);
        self.store(Pending::Mutation(pg), call);
        Some(active)
    }

    fn replaced(&mut self, pg: PgId, active: &Active, ledger: Ledger, files: Option<u64>) -> Option<Active> {
        let (disk, now, keep) = (self.disk(), self.now, self.config.quarantine_for);
        let group = self.groups.get_mut(&pg)?;
        // Found out while the file was written: neither the file nor the new ledger has it.
        let found = std::mem::take(&mut group.lazy);
        group.waiting.retain(|attempt, _| ledger.prepared.contains_key(attempt));
        ledger.prepared.keys().for_each(|attempt| {
            group.waiting.entry(*attempt).or_insert(now);
        });
        group.ledger = ledger;
        group.sweep_due = true;
        group.found_meanwhile(found);
        if files.is_some() {
            group.condemn(now + keep);
        }
        let reply = match (files, &active.mutation.authority) {
            (Some(files), _) => NodeReply::Retired { files, more: false },
            (None, Some(authority)) => NodeReply::Heard(group.ledger.head(&authority.row, disk)),
            (None, None) => return None,
        };
        self.finish(active, reply)
    }

    fn begin_retire(&mut self, pg: PgId, mut active: Active) -> Option<Active> {
        let authority = active.mutation.authority.as_deref()?;
        let guest = authority.row.index_held_or_joined(self.disk()).is_none();
        if let Err(refusal) = self.require_level(pg, authority)
            && !guest
        {
            return self.finish(&active, NodeReply::Refused(refusal));
        }
        active.step = Step::Listing;
        self.store(Pending::Mutation(pg), StoreCall::ListFolder { pg });
        Some(active)
    }

    fn retire_listed(&mut self, pg: PgId, active: Active, result: Result<StoreOk, StoreError>) -> Option<Active> {
        let found = match result {
            Ok(StoreOk::Folder(found)) => found,
            Ok(_) => return self.finish(&active, NodeReply::Refused(Refusal::Store("no listing".into()))),
            Err(StoreError::NotFound) => Vec::new(),
            Err(error) => return self.finish(&active, NodeReply::Refused(unavailable(&error))),
        };
        let row = &active.mutation.authority.as_ref()?.row;
        let (disk, seq) = (self.disk(), row.seq);
        let ledger = &self.groups.get(&pg)?.ledger;
        let guest = row.index_held_or_joined(disk).is_none();
        // What no owner by this catalog can have written is not ours to judge: whoever wrote it may know more.
        let found = found.into_iter().filter(|file| row.handed_out(file.generation));
        let mut files = found.filter(|file| guest || !ledger.keeps(file, disk));
        let some: Vec<FragmentKey> = files.by_ref().take(RETIRED_AT_ONCE).collect();
        let more = files.next().is_some();
        if guest {
            let tasks = some.into_iter().map(Task::Expel).collect();
            return self.sweep(pg, active, Sweeping { tasks, more, ..Sweeping::default() });
        }
        if some.is_empty() {
            return self.finish(&active, NodeReply::Retired { files: 0, more: false });
        }
        // Where there are more, as many again are doomed by the next call.
        let surplus = some.into_iter().map(|file| Change::Doomed(file, seq)).collect();
        self.journal(pg, active, surplus, Step::Dooming)
    }
}

/// Whether there is something to delete; false where it is done.
fn may_delete(ledger: &Ledger, extent: ExtentKey, hash: RecordHash) -> Result<bool, Refusal> {
    match ledger.list().get(&extent) {
        Some(listed) if *listed == hash => Ok(true),
        Some(_) => Err(Refusal::Invalid("the list has another record of this extent".into())),
        None if ledger.tombstones.contains_key(&extent) => Ok(false),
        None => Err(Refusal::Invalid("this extent is not on the list".into())),
    }
}

/// Whether there is something to release; false where it is done. The record on the list is never released.
fn may_release(ledger: &Ledger, extent: ExtentKey, hash: RecordHash) -> Result<bool, Refusal> {
    if ledger.list().get(&extent) == Some(&hash) {
        return Err(Refusal::Invalid("the list has this very record".into()));
    }
    Ok(ledger.superseded.get(&extent).is_some_and(|former| former.hash == hash))
}

/// Whether the numbers of a row from outside make sense.
fn check_row(row: &PgRow) -> Result<(), Refusal> {
    let ascending = row.entries.windows(2).all(|pair| pair[0].seq <= pair[1].seq);
    let past = row.entries.last().is_some_and(|entry| entry.seq > row.seq);
    if row.members.is_empty() || row.members.len() > MEMBERS_MAX || !ascending || past {
        return Err(Refusal::Invalid("a row that makes no sense".into()));
    }
    Ok(())
}
