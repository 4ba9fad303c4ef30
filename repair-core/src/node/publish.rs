//! A staged fragment on its way to its name: finished, named, its folder synced. What has the name already is looked at: if it
//! is the same fragment and sound it stays, else it goes to quarantine first.

use super::group::{Active, Group, Kind, Step, Sweeping, Task};
use super::journal::Change;
use super::{Body, Node, Pending, StoreCall, StoreError, StoreOk, write_failed};
use crate::catalog::PgState;
use crate::id::{PgId, RecordHash};
use crate::shape::Shape;
use crate::wire::Refusal;
use crate::wire::node::{FragmentKey, NodeReply, Prepared, StageKey};

/// Times a name is tried for. More than two means that somebody else writes into the folder.
const TRIES_MAX: u32 = 3;

/// What one sweep has done, as far as it has something to do: others wait meanwhile.
const SWEPT_AT_ONCE: usize = 16;

/// A fragment on its way to its name.
#[derive(Debug)]
pub(super) struct Publishing {
    key: StageKey,
    fragment: FragmentKey,
    /// All files of its record.
    shape: Shape,
    hash: RecordHash,
    root: [u8; 32],
    record: Body,
    /// Whether there is a stage, still without its name. Without one only a file that is there already can do.
    staged: bool,
    /// Whether a file that had the name was put aside for it.
    cleared: bool,
    at: At,
    tries: u32,
}

/// What the store was asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Finishing,
    Naming,
    Judging,
    Clearing,
    Syncing,
    Discarding,
    Done,
}

impl Publishing {
    pub(super) fn new(
        key: StageKey,
        shape: Shape,
        hash: RecordHash,
        root: [u8; 32],
        record: Body,
        staged: bool,
    ) -> Self {
        let fragment = shape.place(key.extent, key.index);
        let at = if staged { At::Finishing } else { At::Judging };
        Self { key, fragment, shape, hash, root, record, staged, cleared: false, at, tries: 0 }
    }

    fn call(&self, pg: PgId) -> StoreCall {
        match self.at {
            At::Finishing => StoreCall::FinishStage { key: self.key, record: self.record.clone() },
            At::Naming => StoreCall::PublishStage { key: self.key },
            At::Judging => StoreCall::Check { fragment: self.fragment, hash: Some(self.hash) },
            At::Clearing => {
                StoreCall::Quarantine { fragment: self.fragment, reason: "replaced by a proven one".into() }
            }
            At::Syncing => StoreCall::SyncFolder { pg },
            At::Discarding | At::Done => StoreCall::UnlinkQuarantined { fragment: self.fragment },
        }
    }

    /// What follows, or why nothing does.
    fn next(&self, result: Result<StoreOk, StoreError>) -> Result<At, Refusal> {
        let again = || {
            let failed = Refusal::Store("something else keeps taking the fragment's name".into());
            if self.tries < TRIES_MAX { Ok(At::Naming) } else { Err(failed) }
        };
        match (self.at, result) {
            (At::Finishing, Ok(_)) => Ok(At::Naming),
            (At::Naming, Ok(StoreOk::Published(false))) => Ok(At::Judging),
            (At::Naming, Ok(_)) => Ok(At::Syncing),
            (At::Judging, Ok(StoreOk::Checked { class, root, .. }))
                if class == "healthy" && root == Some(self.root) =>
            {
                Ok(At::Syncing)
            }
            (At::Judging, Ok(_) | Err(StoreError::NotFound | StoreError::Damaged(_))) if !self.staged => {
                Err(Refusal::NotStaged(format!("fragment {} of {}", self.key.index, self.key.extent)))
            }
            (At::Judging, Ok(_) | Err(StoreError::Damaged(_))) => Ok(At::Clearing),
            (At::Judging | At::Clearing, Err(StoreError::NotFound)) | (At::Clearing, Ok(_)) => again(),
            // What it replaced was no fragment of this extent, or not whole: nobody will want it back.
            (At::Syncing, Ok(_)) => Ok(if self.cleared { At::Discarding } else { At::Done }),
            // What stays takes room, no more.
            (At::Discarding | At::Done, _) => Ok(At::Done),
            (At::Finishing | At::Naming, Err(StoreError::Invalid(reason))) => Err(Refusal::NotStaged(reason)),
            (_, Err(error)) => Err(write_failed(error)),
        }
    }
}

impl Node {
    pub(super) fn begin_publish(&mut self, pg: PgId, active: Active, publishing: Box<Publishing>) -> Option<Active> {
        if publishing.staged {
            self.stages.take(&publishing.key);
        }
        self.publish_step(pg, active, publishing)
    }

    fn publish_step(&mut self, pg: PgId, mut active: Active, publishing: Box<Publishing>) -> Option<Active> {
        self.store(Pending::Mutation(pg), publishing.call(pg));
        active.step = Step::Publishing(publishing);
        Some(active)
    }

    pub(super) fn publish_stored(
        &mut self,
        pg: PgId,
        active: Active,
        mut publishing: Box<Publishing>,
        result: Result<StoreOk, StoreError>,
    ) -> Option<Active> {
        let at = match publishing.next(result) {
            Ok(at) => at,
            Err(refusal) => {
                if publishing.staged {
                    self.release_stage(&publishing.key, true);
                }
                return self.finish(&active, NodeReply::Refused(refusal));
            }
        };
        if at == At::Done {
            return self.published(pg, active, &publishing);
        }
        publishing.cleared |= at == At::Clearing;
        if at == At::Naming {
            publishing.tries += 1;
        }
        if at == At::Syncing && publishing.staged {
            // Named, it is a stage no more; where the file that was there stays, the stage goes.
            publishing.staged = false;
            self.release_stage(&publishing.key, publishing.at == At::Judging);
        }
        publishing.at = at;
        self.publish_step(pg, active, publishing)
    }

    /// The file has its name, durably.
    fn published(&mut self, pg: PgId, active: Active, publishing: &Publishing) -> Option<Active> {
        let (fragment, record) = (publishing.fragment, publishing.record.clone());
        self.store(Pending::Nothing, StoreCall::IndexPut { fragment, record });
        self.found_sound(fragment);
        match active.mutation.kind {
            Kind::Prepare { attempt, kind, extent, hash, .. } => {
                let mut changes = vec![Change::Prepared(Prepared { attempt, kind, extent, hash })];
                if kind.has_shape() {
                    changes.push(Change::PreparedShape(attempt, publishing.shape));
                }
                self.settle(pg, active, changes, NodeReply::Prepared { attempt })
            }
            _ => self.finish(&active, NodeReply::Published),
        }
    }

    pub(super) fn begin_sweep(&mut self, pg: PgId, active: Active) -> Option<Active> {
        let now = self.now;
        let group = self.groups.get(&pg)?;
        let mut sweeping = Sweeping::default();
        let condemned = group.ledger.heard.is_none() && group.condemned_until.is_none_or(|until| until <= now);
        for (fragment, seq) in &group.ledger.doomed {
            if sweeping.tasks.len() >= SWEPT_AT_ONCE {
                sweeping.more = true;
                break;
            }
            if !group.quarantined.contains(fragment) {
                sweeping.tasks.push_back(Task::Quarantine(*fragment));
            }
            if condemned || group.ledger.unlinkable(*seq) {
                sweeping.tasks.push_back(Task::Unlink(*fragment));
            }
        }
        self.sweep(pg, active, sweeping)
    }

    /// What disks that were replaced had is kept for a while, then it goes.
    pub(super) fn sweep_condemned(&mut self) {
        let now = self.now;
        let over = |group: &Group| group.condemned_until.is_some_and(|until| until <= now);
        let due: Vec<PgId> = self.groups.iter().filter(|(_, group)| over(group)).map(|(pg, _)| *pg).collect();
        for pg in due {
            if let Some(group) = self.groups.get_mut(&pg) {
                (group.condemned_until, group.sweep_due) = (None, true);
            }
            self.run_group(pg);
        }
    }

    /// Asks for the next file to go; when there is none, answers.
    pub(super) fn sweep(&mut self, pg: PgId, mut active: Active, mut sweeping: Sweeping) -> Option<Active> {
        let disk = self.disk();
        let group = self.groups.get_mut(&pg)?;
        while let Some(task) = sweeping.tasks.pop_front() {
            let call = match task {
                Task::Quarantine(fragment) | Task::Unlink(fragment) if group.ledger.keeps(&fragment, disk) => {
                    // Doomed once, wanted again: whoever wants it has proven it since.
                    group.apply_lazily(Change::Undoomed(fragment));
                    sweeping.moved = true;
                    continue;
                }
                // Its quarantine failed: it stays doomed.
                Task::Unlink(fragment) if !group.quarantined.contains(&fragment) => continue,
                Task::Quarantine(fragment) => {
                    StoreCall::Quarantine { fragment, reason: "no longer on the list".into() }
                }
                Task::Expel(fragment) => StoreCall::Quarantine { fragment, reason: "this disk left the group".into() },
                Task::Unlink(fragment) => StoreCall::UnlinkQuarantined { fragment },
            };
            sweeping.current = Some(task);
            active.step = Step::Sweeping(sweeping);
            self.store(Pending::Mutation(pg), call);
            return Some(active);
        }
        self.sweep_over(pg, active, &sweeping)
    }

    fn sweep_over(&mut self, pg: PgId, mut active: Active, sweeping: &Sweeping) -> Option<Active> {
        let disk = self.disk();
        let group = self.groups.get_mut(&pg)?;
        let (files, more) = (sweeping.quarantined, sweeping.more);
        let Some(row) = active.mutation.authority.as_ref().map(|authority| &authority.row) else {
            // Where nothing moves, the next row may help.
            group.sweep_due |= more && sweeping.moved;
            return None;
        };
        if more || row.index_held_or_joined(disk).is_some() {
            return self.finish(&active, NodeReply::Retired { files, more });
        }
        // An open group was counted whole without what this disk had.
        let whole = row.state == PgState::Open && row.joining.is_empty() && row.behind.is_empty();
        let condemned = group.condemned(whole.then_some(row.seq));
        let ledger = group.ledger.forgotten(condemned);
        let call = group.replace_call(pg, &ledger);
        active.step = Step::Replacing(Box::new(ledger), Some(files));
        self.store(Pending::Mutation(pg), call);
        Some(active)
    }

    pub(super) fn swept(
        &mut self,
        pg: PgId,
        active: Active,
        mut sweeping: Sweeping,
        result: Result<StoreOk, StoreError>,
    ) -> Option<Active> {
        let gone = matches!(result, Ok(_) | Err(StoreError::NotFound));
        sweeping.quarantined += u64::from(result.is_ok());
        sweeping.moved |= gone;
        let task = sweeping.current.take()?;
        match (task, result) {
            (Task::Expel(_), Err(error)) if !gone => {
                // What cannot be put aside must not be forgotten.
                return self.finish(&active, NodeReply::Refused(write_failed(error)));
            }
            (Task::Quarantine(fragment), _) if gone => {
                self.groups.get_mut(&pg)?.quarantined.insert(fragment);
                self.store(Pending::Nothing, StoreCall::IndexRemove { fragment });
            }
            (Task::Expel(fragment), _) => {
                let group = self.groups.get_mut(&pg)?;
                group.expelled.insert(fragment);
                group.quarantined.insert(fragment);
                self.store(Pending::Nothing, StoreCall::IndexRemove { fragment });
            }
            (Task::Unlink(fragment), _) if gone => {
                let group = self.groups.get_mut(&pg)?;
                group.quarantined.remove(&fragment);
                group.apply_lazily(Change::Undoomed(fragment));
                // No other change of a group we have left will take it along.
                group.note_due |= group.ledger.heard.is_none();
            }
            _ => {}
        }
        self.sweep(pg, active, sweeping)
    }
}
