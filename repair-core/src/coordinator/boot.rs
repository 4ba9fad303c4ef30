//! The first moments: the cell's row, the lease, the disks, and a claim on every placement group.

use super::effect::Stopped;
use super::groups::Group;
use super::{Coordinator, Op, Timer};
use crate::catalog::{CellRow, DiskRow, Found, Txn, key};
use crate::id::{CellKey, PgId};
use crate::lineage::Lineage;
use crate::ownership::LeaseEvent;
use crate::pg::{Owner, PgEvent};
use crate::time::Millis;
use crate::wire::codec::{decode_row, encode_row};
use crate::wire::daemon::ExtentEntry;

const PAGE: usize = 1000;
/// How long a group is waited for whose members do not say what they heard. A courtesy: what a daemon on an old catalog leaves
/// on members of other groups would make them refuse the right one. Each group's own members are always asked first.
const LOOK_PATIENCE: Millis = Millis(10_000);

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Boot {
    New,
    Cell,
    /// Another daemon may be at work.
    Lease,
    Disks,
    Lives,
    /// What operators want, before anything is decided.
    Intents,
    Groups,
    /// What puts left open is read only when all claims are done: until then an earlier daemon may add to it.
    Claims,
    /// Members are asked what they have heard, before anything is given to any: the catalog may have gone back.
    Looks,
    /// What audits found, before any reader or repair is given wrong parity.
    Findings,
    Open,
    Doomed,
    Done,
}

impl Boot {
    pub(super) fn has_begun(self) -> bool {
        self > Self::New
    }

    pub(super) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// Whether nodes may register: all disks are known.
    pub(super) fn knows_disks(self) -> bool {
        self > Self::Lives
    }

    fn prefix(self) -> Option<&'static [u8]> {
        match self {
            Self::Disks => Some(key::DISKS),
            Self::Lives => Some(key::LIVES),
            Self::Intents => Some(key::INTENTS),
            Self::Groups => Some(key::PGS),
            Self::Findings => Some(key::AUDITS),
            Self::Open => Some(key::OPEN),
            Self::Doomed => Some(key::DOOMED),
            Self::New | Self::Cell | Self::Lease | Self::Claims | Self::Looks | Self::Done => None,
        }
    }
}

impl Coordinator {
    pub(super) fn begin(&mut self) {
        if self.boot == Boot::New {
            self.boot = Boot::Cell;
            self.pulse();
            self.boot_again();
        }
    }

    /// Asks for what this stage needs, from its start.
    pub(super) fn boot_again(&mut self) {
        match (self.boot, self.boot.prefix()) {
            (Boot::Cell, _) => self.get(Op::Boot, vec![key::cell()]),
            (_, Some(prefix)) => self.get_range(Op::Boot, prefix.to_vec(), None, PAGE),
            _ => {}
        }
    }

    /// It is time to ask again, unless an answer is still to come: two to one question would be taken for the rows of the next stage, too.
    pub(super) fn boot_due(&mut self) {
        if !self.ops.values().any(|op| matches!(op, Op::Boot)) {
            self.boot_again();
        }
    }

    pub(super) fn cell_read(&mut self, rows: Result<Vec<Option<Found>>, String>) {
        let found = match rows {
            Ok(rows) => rows.into_iter().next().flatten(),
            Err(_) => return self.after(self.retry_after(), Timer::Boot),
        };
        let Some(found) = found else {
            let cell =
                CellRow { cell: CellKey(self.dice.wide()), incarnation: 1, restore: self.dice.wide(), suspended: None };
            return match encode_row(&cell) {
                Ok(value) => self.txn(Op::Boot, Txn::new().compare(key::cell(), 0).put(key::cell(), value)),
                Err(error) => self.stop(format!("the cell's row cannot be written: {error}")),
            };
        };
        match decode_row::<CellRow>(&found.value) {
            Ok(CellRow { suspended: Some(reason), .. }) => self.stop(Stopped::Suspended { reason }),
            Ok(row) => {
                self.cell = Some((row, found.revision));
                self.boot = Boot::Lease;
                self.lease(LeaseEvent::Begin);
            }
            Err(error) => {
                self.stop(format!("the catalog's row of the cell cannot be read: {error}"));
            }
        }
    }

    pub(super) fn lease_is_held(&mut self) {
        if self.boot == Boot::Lease {
            self.boot = Boot::Disks;
            self.boot_again();
        }
    }

    pub(super) fn boot_rows(&mut self, rows: Result<Vec<Found>, String>) {
        let Ok(rows) = rows else {
            return self.after(self.retry_after(), Timer::Boot);
        };
        for row in &rows {
            if let Err(reason) = self.boot_row(row) {
                let key = String::from_utf8_lossy(&row.key).into_owned();
                return self.stop(format!("the catalog's row {key:?} cannot be read: {reason}"));
            }
        }
        if let (PAGE.., Some(last), Some(prefix)) = (rows.len(), rows.last(), self.boot.prefix()) {
            return self.get_range(Op::Boot, prefix.to_vec(), Some(last.key.clone()), PAGE);
        }
        self.boot = match self.boot {
            Boot::Disks => Boot::Lives,
            Boot::Lives => Boot::Intents,
            Boot::Intents => Boot::Groups,
            Boot::Groups => Boot::Claims,
            Boot::Findings => {
                let proceed = self.groups.keys().map(|pg| (*pg, PgEvent::Proceed));
                self.inbox.extend(proceed);
                Boot::Open
            }
            Boot::Open => Boot::Doomed,
            Boot::Doomed => Boot::Done,
            stays @ (Boot::New | Boot::Cell | Boot::Lease | Boot::Claims | Boot::Looks | Boot::Done) => stays,
        };
        if self.boot.is_done() {
            self.sweep_later();
            self.look_at_ended();
        }
        self.boot_again();
    }

    fn boot_row(&mut self, found: &Found) -> Result<(), String> {
        match self.boot {
            Boot::Disks => {
                let row: DiskRow = decode_row(&found.value).map_err(|error| error.to_string())?;
                self.disk_known(row, found.revision);
            }
            Boot::Lives => {
                let disk = key::life_of(&found.key).ok_or("no disk's key")?;
                let lineage: Lineage = decode_row(&found.value).map_err(|error| error.to_string())?;
                self.lineage_known(disk, lineage, found.revision);
            }
            Boot::Intents => self.intent_known(found)?,
            Boot::Groups => {
                let pg = key::pg_of(&found.key).ok_or("no placement group's key")?;
                self.claim_group(pg);
            }
            Boot::Findings => self.finding_known(found),
            Boot::Open => {
                let (stream, ordinal) = key::open_of(&found.key).ok_or("no open extent's key")?;
                let entry: ExtentEntry = decode_row(&found.value).map_err(|error| error.to_string())?;
                self.put_found(stream, ordinal, entry);
            }
            Boot::Doomed => {
                let extent = key::doomed_of(&found.key).ok_or("no doomed extent's key")?;
                self.doom(extent);
            }
            Boot::New | Boot::Cell | Boot::Lease | Boot::Claims | Boot::Looks | Boot::Done => {}
        }
        Ok(())
    }

    pub(super) fn claim_group(&mut self, pg: PgId) {
        let Some((cell, revision)) = self.cell.clone() else { return };
        if self.groups.contains_key(&pg) {
            return;
        }
        let owner = Owner::claim(cell, revision, pg, self.claim, self.config.pg);
        self.add_group(pg, owner);
        self.tell_reachability(pg);
    }

    /// Goes on once every claim is done, and every group has looked or was waited for long enough.
    pub(super) fn boot_onwards(&mut self) {
        // A row that nobody can read is changed by nobody. Only its own extents wait for it.
        let claimed = |group: &Group| group.owner.authority().is_some() || group.owner.is_unreadable();
        if self.boot == Boot::Claims && self.groups.values().all(claimed) {
            self.boot = Boot::Looks;
            self.looks_end = self.now + LOOK_PATIENCE;
            self.at(self.looks_end, Timer::Boot);
        }
        let looked = |group: &Group| group.owner.has_looked() || group.owner.authority().is_none();
        if self.boot == Boot::Looks && (self.looks_end <= self.now || self.groups.values().all(looked)) {
            self.boot = Boot::Findings;
            self.boot_again();
        }
    }
}
