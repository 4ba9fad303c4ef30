//! What others may know of a group, and leave to write to it.

use super::Granted;
use super::effect::{Need, SlotView, Standing};
use super::group::{Group, Phase, Settled};
use super::member::{Condition, Member, Reach};
use super::supersede::Grant;
use crate::catalog::PgState;
use crate::id::{AttemptId, DiskId, EXTENT_COUNTER_MAX, ExtentKey};
use crate::limits::ENTRIES_MAX;
use crate::wire::daemon::AttemptState;
use std::collections::BTreeSet;

impl Group {
    /// Members that could prepare a change now.
    fn usable(&self) -> BTreeSet<DiskId> {
        let usable =
            |disk: &DiskId| self.members.get(disk).is_some_and(|member| member.condition() == Condition::Usable);
        self.not_behind().filter(usable).collect()
    }

    fn is_soon(&self, disk: &DiskId) -> bool {
        self.members.get(disk).is_some_and(|member| member.condition() == Condition::Soon)
    }

    pub(super) fn can_create(&self) -> Result<bool, String> {
        if let Some(reason) = &self.frozen {
            return Err(format!("the group is frozen: {reason}"));
        }
        if !self.is_ready() {
            return Err("no list is proven yet".to_owned());
        }
        let usable = self.usable().len();
        let n = self.n();
        if !self.may_be_created(usable) {
            let state = if self.row.state == PgState::Open { "open" } else { "closed" };
            return Err(format!("{usable} of {n} members can take an extent, and the group is {state}"));
        }
        if let Some(disk) = self.not_behind().find(|disk| self.is_soon(disk)) {
            // A gap that a moment's patience closes is not worth a repair.
            return Err(format!("disk {disk} has not come to the row yet"));
        }
        Ok(usable < n)
    }

    pub(super) fn grant(&mut self) -> Option<Granted> {
        self.can_create().ok()?;
        let counter = self.reserved.next().filter(|counter| *counter <= EXTENT_COUNTER_MAX)?;
        let usable = self.usable();
        let members: Vec<Option<DiskId>> =
            self.row.members.iter().map(|disk| usable.contains(disk).then_some(*disk)).collect();
        let extent = ExtentKey::compose(self.cell.cell, self.row.pg, self.row.incarnation, counter);
        let attempt = self.new_attempt();
        self.granted.insert(attempt.number, Grant::Create { extent, members: members.clone() });
        if self.ids_are_low() {
            self.turn();
        }
        Some(Granted { extent, attempt, token: self.token, members })
    }

    pub(super) fn slots(&self) -> Vec<SlotView> {
        let members = (0u16..).zip(&self.row.members).map(|(index, disk)| (index, disk, false));
        let joining = self.row.joining.iter().map(|(index, disk)| (*index, disk, true));
        members.chain(joining).filter_map(|(index, disk, joins)| self.slot(index, *disk, joins)).collect()
    }

    fn slot(&self, index: u16, disk: DiskId, joins: bool) -> Option<SlotView> {
        let member = self.members.get(&disk)?;
        let behind = self.row.behind.contains(&disk) || (member.answers() && !member.level);
        let standing = match (joins, behind) {
            (true, _) => Standing::Joining,
            (false, true) => Standing::Behind,
            (false, false) => Standing::Level,
        };
        let (reachable, counted, missing) = (member.answers(), member.counted, member.missing.clone());
        Some(SlotView { index, disk, standing, reachable, missing, counted })
    }

    /// What reachable disks lack and could be given: they must have the list that names it.
    pub(super) fn needs(&self) -> Vec<Need> {
        if !self.is_ready() || self.frozen.is_some() {
            return Vec::new();
        }
        let members = (0u16..).zip(&self.row.members).filter(|(index, _)| !self.row.joining.contains_key(index));
        let joining = self.row.joining.iter().map(|(index, disk)| (*index, disk));
        let mut needs: Vec<Need> = members
            .chain(joining)
            .filter_map(|(index, disk)| Some((index, self.members.get(disk)?)))
            .filter(|(_, member)| member.condition() == Condition::Usable)
            .flat_map(|(index, member)| lacking(index, member))
            .collect();
        needs.sort();
        needs
    }

    /// Whether some index has no disk that is known to hold its fragment.
    pub(super) fn lacks(&self, extent: ExtentKey) -> bool {
        let shape = self.shape(extent);
        let lacks = |(_, disk): (u16, &DiskId)| {
            let missing = self.members.get(disk).and_then(|member| member.missing.as_ref());
            missing.is_none_or(|missing| missing.contains(&extent))
        };
        (0..shape.fragments).zip(&self.row.members).any(lacks)
    }

    pub(super) fn attempt_state(&self, attempt: AttemptId) -> AttemptState {
        if self.row.entries.iter().any(|entry| entry.attempt == attempt) {
            return AttemptState::Committed;
        }
        // Of earlier claims only entries speak: an attempt does not say of which extent it was, and its entry may have left the row.
        if attempt.claim != self.token.claim {
            return AttemptState::Live;
        }
        match self.settled.get(&attempt.number) {
            Some(Settled::Committed) => AttemptState::Committed,
            Some(Settled::Dead | Settled::Failed) => AttemptState::Aborted,
            None => AttemptState::Live,
        }
    }

    pub(super) fn waits(&self) -> Vec<String> {
        let mut waits = Vec::new();
        match self.phase {
            Phase::Ended => return vec!["this owner does not own the group any more".to_owned()],
            Phase::Proving if !self.has_looked() => waits.push(format!("fewer than {} members have said what they heard", self.k())),
            Phase::Proving => {
                let silent: Vec<String> = self.unproven().iter().map(DiskId::to_string).collect();
                waits.push(format!("no list sums to the row yet; not seen: disks {}", silent.join(", ")));
            }
            Phase::Ready if !self.agreed && self.frozen.is_none() => waits.push(format!(
                "{} of {} members have yet to say that they heard no later row than the catalog's: nothing is changed before",
                self.k().saturating_sub(self.agreeing()),
                self.n()
            )),
            Phase::Ready => {}
        }
        waits.extend(self.frozen.iter().map(|reason| format!("frozen, reads only: {reason}")));
        waits.extend(self.catalog_trouble.iter().map(|trouble| format!("the catalog: {trouble}")));
        for disk in self.row.members.iter().chain(self.row.joining.values()) {
            let Some(member) = self.members.get(disk) else { continue };
            waits.extend(self.wait_of(member).map(|wait| format!("disk {disk} {wait}")));
        }
        if self.row.entries.len() >= ENTRIES_MAX {
            waits.push("the row is full of changes that too few members have stored".to_owned());
        }
        if !self.superseded.is_empty() {
            waits.push(self.wait_of_release());
        }
        if self.settle.is_some() {
            waits.push("a recount of what members hold".to_owned());
        } else if self.row.state == PgState::Closed && waits.is_empty() {
            waits.push("closed until a recount finds every fragment".to_owned());
        }
        waits
    }

    fn wait_of(&self, member: &Member) -> Option<String> {
        let lacking = member.missing.as_ref().map_or(0, BTreeSet::len);
        if member.reach == Reach::No {
            return Some("is not reachable".to_owned());
        }
        if member.is_failing() {
            return Some(format!("does not answer: {}", member.trouble.as_deref().unwrap_or("no reason")));
        }
        if !member.accepted {
            return Some("has not accepted this owner yet".to_owned());
        }
        if !member.level {
            return Some("is being given the list".to_owned());
        }
        if member.missing.is_none() {
            return Some("has not been counted yet".to_owned());
        }
        if lacking == 0 && !member.counted {
            return Some("is counted again after a repair".to_owned());
        }
        (lacking > 0).then(|| format!("lacks {lacking} fragments"))
    }
}

fn lacking(index: u16, member: &Member) -> Vec<Need> {
    let disk = member.disk;
    let missing = member.missing.iter().flatten();
    missing.map(|extent| Need { extent: *extent, index, disk }).collect()
}
