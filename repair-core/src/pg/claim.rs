//! Becoming the owner: read the rows, then compare all three and write the owner's.
//!
//! The group's row stays as it is. Members compare it with what they have heard, and a claim that moved it would, often enough
//! repeated, climb over what they remember of a catalog that went back since.

use super::effect::{CallId, CreateResult, DeleteResult, PgConfig, PgEffect, PgEvent, PgOutcome, Versioned};
use super::group::{Group, Outbox};
use crate::catalog::{CellRow, Found, OwnerRow, PgRow, Txn, TxnResult, key};
use crate::id::{ClaimId, DiskId, PgId, Token};
use crate::time::Time;
use crate::wire::codec::{decode_row, encode_row};

/// A claim under way.
#[derive(Debug)]
pub(super) struct Claiming {
    cell: CellRow,
    cell_revision: u64,
    pg: PgId,
    claim: ClaimId,
    config: PgConfig,
    now: Time,
    step: Step,
    trouble: Option<String>,
    /// The catalog answered, and what it has of the group makes no sense here.
    pub(super) unreadable: bool,
    /// Said by the coordinator meanwhile; handed to the group once it is ours.
    later: Vec<PgEvent>,
    pub(super) out: Outbox,
}

#[derive(Debug)]
enum Step {
    Reading(CallId),
    Writing(CallId, Box<Claimed>),
    /// The catalog did not answer, or with rows that make no sense: read again then.
    Waiting(Time),
    Lost,
}

/// What the claim's transaction writes, beside the group's row that it compares.
#[derive(Debug)]
struct Claimed {
    row: Versioned,
    token: Token,
}

/// The rows an owner depends on, decoded. None where a key is absent.
pub(super) struct Rows {
    pub(super) pg: Option<Versioned>,
    pub(super) owner: Option<(OwnerRow, u64)>,
    pub(super) cell: Option<(CellRow, u64)>,
}

/// The keys [`Rows::decode`] expects, in its order.
pub(super) fn keys(pg: PgId) -> Vec<Vec<u8>> {
    vec![key::pg(pg), key::owner(pg), key::cell()]
}

impl Rows {
    /// From the catalog's answer to [`keys`].
    pub(super) fn decode(rows: Result<Vec<Option<Found>>, String>) -> Result<Self, String> {
        let rows = rows.map_err(|error| format!("the catalog does not answer: {error}"))?;
        let Ok([pg, owner, cell]) = <[Option<Found>; 3]>::try_from(rows) else {
            return Err("the catalog answered another question".to_owned());
        };
        let broken = |what: &str, error| format!("the {what} row cannot be read: {error}");
        let pg = pg.map(|found| {
            Ok::<_, String>(Versioned {
                row: decode_row(&found.value).map_err(|error| broken("group's", error))?,
                revision: found.revision,
            })
        });
        let owner = owner.map(|found| {
            Ok::<_, String>((decode_row(&found.value).map_err(|error| broken("owner's", error))?, found.revision))
        });
        let cell = cell.map(|found| {
            Ok::<_, String>((decode_row(&found.value).map_err(|error| broken("cell's", error))?, found.revision))
        });
        Ok(Self { pg: pg.transpose()?, owner: owner.transpose()?, cell: cell.transpose()? })
    }
}

fn reach_of(event: &PgEvent) -> Option<DiskId> {
    match event {
        PgEvent::Reachable { disk } | PgEvent::Unreachable { disk } => Some(*disk),
        _ => None,
    }
}

/// Whether a row says things that can be true of this group.
pub(super) fn sound(row: &PgRow, pg: PgId) -> Result<(), String> {
    let code = row.code_spec().map_err(|error| format!("the group's code is not known: {error}"))?;
    let n = row.members.len();
    let mut disks: Vec<_> = row.members.iter().chain(row.joining.values()).collect();
    let all = disks.len();
    disks.sort();
    disks.dedup();
    let known = |disk: &DiskId| row.index_held_or_joined(*disk).is_some();
    if row.pg != pg || n != code.n() || disks.len() != all {
        return Err(format!("the group's row makes no sense: {n} members, code of {}", code.n()));
    }
    if row.joining.keys().any(|index| usize::from(*index) >= n) || !row.behind.iter().all(known) {
        return Err("the group's row makes no sense: it names indexes or disks it has not".to_owned());
    }
    Ok(())
}

impl Claiming {
    pub(super) fn new(cell: CellRow, cell_revision: u64, pg: PgId, claim: ClaimId, config: PgConfig) -> Self {
        let mut out = Outbox::default();
        let op = out.next_call();
        out.push(PgEffect::Get { op, keys: keys(pg) });
        let (now, step, later) = (Time::ZERO, Step::Reading(op), Vec::new());
        Self { cell, cell_revision, pg, claim, config, now, step, trouble: None, unreadable: false, later, out }
    }

    pub(super) fn waits(&self) -> Vec<String> {
        let text = match (&self.step, &self.trouble) {
            (Step::Lost, _) => "the group belongs to another catalog than this daemon's".to_owned(),
            (_, Some(trouble)) => format!("claiming the group: {trouble}"),
            (_, None) => "claiming the group".to_owned(),
        };
        vec![text]
    }

    /// Takes an event; the group, once it is ours.
    pub(super) fn handle(&mut self, now: Time, event: PgEvent) -> Option<Box<Group>> {
        self.now = now;
        match event {
            PgEvent::Rows { op, rows } if matches!(self.step, Step::Reading(reading) if reading == op) => {
                return self.read(rows);
            }
            PgEvent::Txn { op, result } => return self.written(op, result),
            PgEvent::Tick => {
                self.out.woke();
                if matches!(self.step, Step::Waiting(at) if at <= now) {
                    self.look();
                }
            }
            PgEvent::Create { ticket, .. } => {
                let reason = "the group is being claimed".to_owned();
                self.out.tell(PgOutcome::Created { ticket, result: CreateResult::Unknown { reason } });
            }
            PgEvent::Delete { ticket, .. } => {
                let reason = "the group is being claimed".to_owned();
                self.out.tell(PgOutcome::Deleted { ticket, result: DeleteResult::NotNow { reason } });
            }
            PgEvent::Reachable { disk } | PgEvent::Unreachable { disk } => {
                // Said again and again, and the claim may take long: only the last word of each disk is kept.
                self.later.retain(|earlier| reach_of(earlier) != Some(disk));
                self.later.push(event);
            }
            PgEvent::Join { .. } | PgEvent::CancelJoin { .. } | PgEvent::Proceed | PgEvent::Crowded { .. } => {
                self.later.push(event);
            }
            _ => {}
        }
        if let Step::Waiting(at) = self.step {
            self.out.wake(now, Some(at));
        }
        None
    }

    fn look(&mut self) {
        let op = self.out.next_call();
        self.out.push(PgEffect::Get { op, keys: keys(self.pg) });
        self.step = Step::Reading(op);
    }

    fn wait(&mut self, trouble: String) {
        self.trouble = Some(trouble);
        let at = self.now + self.config.retry_after;
        self.step = Step::Waiting(at);
        self.out.wake(self.now, Some(at));
    }

    fn read(&mut self, rows: Result<Vec<Option<Found>>, String>) -> Option<Box<Group>> {
        // Until it can be read: whoever waits for all claims goes on without this one.
        self.unreadable = rows.is_ok();
        let rows = match Rows::decode(rows) {
            Ok(rows) => rows,
            Err(trouble) => {
                self.wait(trouble);
                return None;
            }
        };
        let Some((cell, cell_revision)) = rows.cell else {
            self.wait("the cell's row is not there".to_owned());
            return None;
        };
        if let Some(reason) = cell.suspended.filter(|_| self.cell.suspended.is_none()) {
            self.step = Step::Lost;
            self.out.tell(PgOutcome::CatalogWentBack { reason });
            return None;
        }
        if (cell.cell, cell.incarnation, cell.restore) != (self.cell.cell, self.cell.incarnation, self.cell.restore) {
            // Another incarnation: whoever made it owns what comes now.
            self.step = Step::Lost;
            self.out.tell(PgOutcome::Deposed);
            return None;
        }
        self.cell_revision = cell_revision;
        let Some(pg) = rows.pg else {
            self.wait("the group's row is not there".to_owned());
            return None;
        };
        let checked = sound(&pg.row, self.pg).and_then(|()| {
            let later = pg.row.incarnation > self.cell.incarnation;
            if later { Err("the group's row is of a later incarnation than the cell's".to_owned()) } else { Ok(()) }
        });
        if let Err(trouble) = checked {
            self.wait(trouble);
            return None;
        }
        self.unreadable = false;
        match rows.owner {
            Some((owner, revision)) if owner.token.claim == self.claim => {
                // Only we write the group's row while this stands, and we have not begun to.
                Some(self.owned(pg, revision, owner.token))
            }
            owner => {
                self.write(&pg, owner);
                None
            }
        }
    }

    fn write(&mut self, pg: &Versioned, owner: Option<(OwnerRow, u64)>) {
        let (last, owner_revision) = owner.map_or((0, 0), |(row, revision)| (row.token.revision, revision));
        let token = Token {
            incarnation: self.cell.incarnation,
            revision: last + 1,
            restore: self.cell.restore,
            claim: self.claim,
        };
        let Ok(owner_bytes) = encode_row(&OwnerRow { token }) else {
            self.wait("the owner's row does not fit the catalog".to_owned());
            return;
        };
        let txn = Txn::new()
            .compare(key::cell(), self.cell_revision)
            .compare(key::pg(self.pg), pg.revision)
            .compare(key::owner(self.pg), owner_revision)
            .put(key::owner(self.pg), owner_bytes);
        let op = self.out.next_call();
        self.out.push(PgEffect::Txn { op, txn });
        self.step = Step::Writing(op, Box::new(Claimed { row: pg.clone(), token }));
    }

    fn written(&mut self, op: CallId, result: TxnResult) -> Option<Box<Group>> {
        match (&self.step, result) {
            (Step::Writing(writing, claimed), TxnResult::Done { revision }) if *writing == op => {
                let (row, token) = (claimed.row.clone(), claimed.token);
                Some(self.owned(row, revision, token))
            }
            (Step::Writing(writing, _), _) if *writing == op => {
                // Refused is no "no" either: the rows will say.
                self.trouble = Some("what became of the claim is not known yet".to_owned());
                self.look();
                None
            }
            _ => None,
        }
    }

    fn owned(&mut self, row: Versioned, owner_revision: u64, token: Token) -> Box<Group> {
        // What the owner before had reserved and not used is never used. A block of our own comes with the first write.
        let reserved = row.row.next_id..row.row.next_id;
        let cell = self.cell.clone();
        let mut group = Group::new(cell, self.cell_revision, row, owner_revision, token, self.config, reserved);
        group.out = std::mem::take(&mut self.out);
        group.now = self.now;
        group.start();
        for event in std::mem::take(&mut self.later) {
            group.handle(self.now, event);
        }
        Box::new(group)
    }
}
