//! One placement group on one disk: its ledger, the journal that keeps it, and the queue of what wants to change it.

use super::journal::{self, Change};
use super::ledger::{Adopted, Ledger};
use super::publish::Publishing;
use super::{Asker, Body, StoreCall};
use crate::catalog::EntryKind;
use crate::id::{AttemptId, ExtentKey, PgId, RecordHash, Token};
use crate::time::Time;
use crate::wire::node::{Authority, FragmentKey, Listed, NodeReply, Shaped, StageKey, Tombstone};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Something that wants to change a placement group.
#[derive(Debug)]
pub(super) struct Mutation {
    /// Who waits for the answer; nobody where the node itself wants it.
    pub(super) asker: Option<Asker>,
    /// By whose word.
    pub(super) authority: Option<Box<Authority>>,
    pub(super) kind: Kind,
}

/// What is wanted.
#[derive(Debug)]
pub(super) enum Kind {
    /// Fence or Hear: come to the row.
    Hear,
    Prepare {
        attempt: AttemptId,
        kind: EntryKind,
        extent: ExtentKey,
        hash: RecordHash,
        record: Body,
    },
    Abort {
        attempt: AttemptId,
    },
    Adopt {
        page: u32,
        last: bool,
        listed: Vec<Listed>,
        tombstones: Vec<Tombstone>,
        shapes: Vec<Shaped>,
    },
    Publish {
        key: StageKey,
        record: Body,
    },
    Retire,
    /// Doomed files go where they belong.
    Sweep,
    /// What was found out about fragments goes into the journal.
    Note,
    /// The journal is written anew.
    Compact,
}

/// Where the mutation in work stands: what the store was asked for last.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing yet.
    Begin,
    /// The journal takes the token and the row.
    Acceding,
    /// The journal takes what was decided; then this is the answer.
    Settling(NodeReply),
    /// A file on its way to its name.
    Publishing(Box<Publishing>),
    /// A listing of the folder, to retire what does not belong.
    Listing,
    /// The journal takes the names of files that will go.
    Dooming,
    /// Files go, one after the other.
    Sweeping(Sweeping),
    /// The journal is replaced, and this is what it says; then the files that were put aside are told, or the head.
    Replacing(Box<Ledger>, Option<u64>),
    /// The journal is replaced by its own content.
    Compacting,
}

/// Files on their way out.
#[derive(Debug, Default)]
pub(super) struct Sweeping {
    pub(super) tasks: VecDeque<Task>,
    /// The one the store was asked for.
    pub(super) current: Option<Task>,
    pub(super) quarantined: u64,
    /// Whether there are more that had no turn.
    pub(super) more: bool,
    /// Whether anything came of it.
    pub(super) moved: bool,
}

/// What to do with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Into quarantine, unless somebody wants it by now.
    Quarantine(FragmentKey),
    /// Into quarantine, whatever the list says: this disk is a guest.
    Expel(FragmentKey),
    /// Out of quarantine, for good.
    Unlink(FragmentKey),
}

/// The mutation in work.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) mutation: Mutation,
    pub(super) step: Step,
    /// What the journal is being told.
    pub(super) changes: Vec<Change>,
}

/// Pages of a list being taken over.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) token: Token,
    pub(super) next_page: u32,
    pub(super) adopted: Adopted,
}

/// What is known of the journal's file.
#[derive(Debug, Default)]
pub(super) struct JournalState {
    next_number: u64,
    pub(super) bytes: u64,
    /// Set while the file can be appended to: it exists, ends with a whole record, and no write of it has failed.
    appendable: bool,
    /// Number and length behind the write under way.
    writing: (u64, u64),
}

/// A placement group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) ledger: Ledger,
    pub(super) journal: JournalState,
    pub(super) queue: VecDeque<Mutation>,
    pub(super) active: Option<Active>,
    pub(super) adoption: Option<Adoption>,
    /// Changes made that no answer depends on; the journal takes them along with the next others.
    pub(super) lazy: Vec<Change>,
    /// Set where doomed files may have to be moved on.
    pub(super) sweep_due: bool,
    /// Whether the last turn was a sweep's: the next is of what waits.
    pub(super) swept_last: bool,
    /// Files put aside because this disk left the group, in this life, while the group was not whole.
    pub(super) expelled: BTreeSet<FragmentKey>,
    /// When what such a disk had goes for good.
    pub(super) condemned_until: Option<Time>,
    /// Set where lazy changes should not wait for others.
    pub(super) note_due: bool,
    /// Doomed files known to be in quarantine. A restart forgets it and moves them again, which does no harm.
    pub(super) quarantined: BTreeSet<FragmentKey>,
    /// Since when each prepared change waits, in this life of the process; and when it was asked about last.
    pub(super) waiting: BTreeMap<AttemptId, Time>,
}

impl Group {
    /// A placement group as its journal has it.
    pub(super) fn from_journal(pg: PgId, bytes: &Result<Vec<u8>, String>, now: Time) -> Self {
        let whole = bytes.as_deref().map_err(Clone::clone);
        let replayed = whole.and_then(|bytes| Ok((journal::replay(pg, bytes)?, bytes.len())));
        let Ok((replayed, bytes)) = replayed else {
            return Self { ledger: Ledger::of_lost_journal(), ..Self::default() };
        };
        let journal = JournalState {
            next_number: replayed.next_number,
            bytes: bytes as u64,
            appendable: !replayed.torn,
            writing: (0, 0),
        };
        let waiting = replayed.ledger.prepared.keys().map(|attempt| (*attempt, now)).collect();
        Self {
            sweep_due: !replayed.ledger.doomed.is_empty(),
            ledger: replayed.ledger,
            journal,
            waiting,
            ..Self::default()
        }
    }

    /// Of a group that this disk has left, what was doomed then goes for good at this time.
    pub(super) fn condemn(&mut self, until: Time) {
        let left = self.ledger.heard.is_none() && !self.ledger.doomed.is_empty();
        self.condemned_until = left.then_some(until);
    }

    /// What goes for good of a group that this disk leaves: all that it put aside, once the group was `whole` at some row, and until
    /// then what was so before.
    pub(super) fn condemned(&mut self, whole: Option<u64>) -> BTreeMap<FragmentKey, u64> {
        let mut condemned = if self.ledger.heard.is_none() { self.ledger.doomed.clone() } else { BTreeMap::new() };
        self.expelled.extend(self.ledger.doomed.keys());
        if let Some(seq) = whole {
            condemned.extend(std::mem::take(&mut self.expelled).into_iter().map(|fragment| (fragment, seq)));
        }
        condemned
    }

    /// Whether nothing is known and nothing in work.
    pub(super) fn is_vacant(&self) -> bool {
        self.is_idle() && self.journal.bytes == 0 && self.adoption.is_none() && self.ledger.is_vacant()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.is_none() && self.queue.is_empty()
    }

    /// Whether an extent is being prepared just now: its file may have its name before the journal knows of it.
    pub(super) fn is_preparing(&self, extent: ExtentKey) -> bool {
        let active = self.active.as_ref().map(|active| &active.mutation.kind);
        matches!(active, Some(Kind::Prepare { extent: preparing, .. }) if *preparing == extent)
    }

    /// How the journal takes these changes, and with them all that it was not told yet: appended as one record where the file
    /// can be trusted, else as a new file.
    pub(super) fn journal_call(&mut self, pg: PgId, changes: &[Change]) -> StoreCall {
        if !self.journal.appendable {
            return self.rewrite_call(pg, changes);
        }
        let all: Vec<Change> = self.lazy.drain(..).chain(changes.iter().cloned()).collect();
        let bytes = journal::record(pg, self.journal.next_number, &all);
        self.journal.writing = (self.journal.next_number + 1, self.journal.bytes + bytes.len() as u64);
        StoreCall::AppendJournal { pg, bytes }
    }

    /// The journal as a new file that says what the ledger says, then these changes.
    pub(super) fn rewrite_call(&mut self, pg: PgId, changes: &[Change]) -> StoreCall {
        // The ledger has the lazy changes already.
        self.lazy.clear();
        let (mut bytes, mut number) = journal::snapshot(pg, &self.ledger);
        if !changes.is_empty() {
            bytes.extend_from_slice(&journal::record(pg, number, changes));
            number += 1;
        }
        self.journal.writing = (number, bytes.len() as u64);
        StoreCall::ReplaceJournal { pg, bytes }
    }

    /// The journal as a new file that says `ledger`.
    pub(super) fn replace_call(&mut self, pg: PgId, ledger: &Ledger) -> StoreCall {
        // It was made of the one that has the lazy changes. Those that come while the file is written go into the next record.
        self.lazy.clear();
        let (bytes, number) = journal::snapshot(pg, ledger);
        self.journal.writing = (number, bytes.len() as u64);
        StoreCall::ReplaceJournal { pg, bytes }
    }

    /// The journal was written, durably, or may or may not have been.
    pub(super) fn journal_written(&mut self, well: bool) {
        let (number, bytes) = self.journal.writing;
        // Behind a failed write nobody knows what is in the file: it is not appended to again.
        self.journal.appendable = well;
        if well {
            (self.journal.next_number, self.journal.bytes) = (number, bytes);
        }
    }

    /// Makes changes that are in the journal.
    pub(super) fn apply(&mut self, changes: Vec<Change>, now: Time) {
        for change in changes {
            self.sweep_due |= matches!(change, Change::Heard(_) | Change::Doomed(..));
            match &change {
                // It may have been published anew since it was put aside.
                Change::Doomed(fragment, _) => {
                    self.quarantined.remove(fragment);
                }
                Change::Prepared(prepared) => {
                    self.waiting.insert(prepared.attempt, now);
                }
                Change::Unprepared(attempt) => {
                    self.waiting.remove(attempt);
                }
                _ => {}
            }
            self.ledger.apply(change);
        }
    }

    /// Makes a change now and tells the journal later.
    pub(super) fn apply_lazily(&mut self, change: Change) {
        self.lazy.push(change.clone());
        self.ledger.apply(change);
    }

    /// Takes findings over that were made while another ledger was on its way to the disk, those that are still about something
    /// on the list.
    pub(super) fn found_meanwhile(&mut self, found: Vec<Change>) {
        for change in found {
            let matters = match &change {
                Change::Damaged(fragment, _) | Change::Sound(fragment) => {
                    self.ledger.list().contains_key(&fragment.extent)
                }
                // Of a group that this disk has left there is nothing to remember.
                Change::Scrubbed(..) => self.ledger.heard.is_some(),
                _ => true,
            };
            if matters {
                self.apply_lazily(change);
            }
        }
        self.note_due |= !self.lazy.is_empty();
    }

    /// Whether the journal is much longer than what it says.
    pub(super) fn wants_compaction(&self, bytes_max: u64) -> bool {
        self.journal.appendable
            && self.journal.bytes > bytes_max
            && self.journal.bytes > self.ledger.snapshot_bytes().saturating_mul(4)
    }
}
