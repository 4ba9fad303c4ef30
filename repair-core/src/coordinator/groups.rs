//! Placement groups: passing events to their owners and effects from them.

use super::effect::Stopped;
use super::view::{Counts, GroupView};
use super::{Asker, Coordinator, NodeCall, Op, TicketUse, Timer};
use crate::catalog::PgState;
use crate::id::{AttemptId, DiskId, PgId};
use crate::pg::{Owner, PgEffect, PgOutcome};
use crate::time::{Millis, Time};
use crate::wire::{DaemonReply, Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// A group is looked over at most so often, however fast it changes; less often the more there is to look at.
const REFRESH_EVERY: Millis = Millis(50);
const LACKING_PER_MS: u64 = 20;
/// How long a group that is not ready is waited for before others are made in its place, and its extents count as unavailable.
const START_PATIENCE: Millis = Millis(10_000);

/// A placement group of this daemon.
pub(super) struct Group {
    pub(super) owner: Owner,
    /// When it was claimed or made.
    pub(super) began: Time,
    pub(super) wake: Option<Time>,
    pub(super) dirty: bool,
    /// When it may be looked over next, while it is dirty.
    look_at: Time,
    refreshed: Option<Time>,
    pub(super) view: GroupView,
    /// Disks that it was counted for in [`Tally`].
    counted: Vec<DiskId>,
    /// Take-overs asked for and not in the row yet.
    pub(super) asked: BTreeMap<u16, (DiskId, Time)>,
    /// Take-overs to be given up, and since when that was asked for.
    pub(super) cancelled: BTreeMap<u16, (DiskId, Time)>,
    /// Why an index has no new disk, by index.
    pub(super) homeless: BTreeMap<u16, String>,
    pub(super) frozen: Option<String>,
    state: Option<PgState>,
    ready: bool,
}

impl Group {
    pub(super) fn new(owner: Owner, now: Time) -> Self {
        Self {
            owner,
            began: now,
            wake: None,
            dirty: true,
            look_at: Time::ZERO,
            refreshed: None,
            view: GroupView::default(),
            counted: Vec::new(),
            asked: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            homeless: BTreeMap::new(),
            frozen: None,
            state: None,
            ready: false,
        }
    }

    fn next_look(&self) -> Option<Time> {
        self.refreshed.map(|at| at + REFRESH_EVERY + Millis(self.view.lacking / LACKING_PER_MS))
    }
}

/// Of all groups together, kept up to date as each changes: with many of them nothing may walk over all at each event.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Those to be looked over, by when they may be.
    dirty: BTreeSet<(Time, PgId)>,
    /// Those that were not full when they were looked over last.
    not_full: usize,
    extents: u64,
    unavailable: u64,
    /// Indexes that each disk holds, is joining for or was asked for.
    slots: BTreeMap<DiskId, u32>,
}

impl Tally {
    /// A group was looked over.
    fn count(&mut self, before: Counts, after: Counts) {
        self.not_full = self.not_full - usize::from(!before.full) + usize::from(!after.full);
        self.extents = self.extents - before.extents + after.extents;
        self.unavailable = self.unavailable - before.unavailable + after.unavailable;
    }
}

impl Coordinator {
    pub(super) fn add_group(&mut self, pg: PgId, owner: Owner) {
        let group = Group::new(owner, self.now);
        self.tally.dirty.insert((group.look_at, pg));
        self.tally.not_full += 1;
        self.groups.insert(pg, group);
        self.touched.insert(pg);
        self.count_slots(pg);
    }

    /// A group's row changed, or what it asked for.
    pub(super) fn count_slots(&mut self, pg: PgId) {
        let Some(group) = self.groups.get_mut(&pg) else { return };
        let of_row = group.owner.row().into_iter().flat_map(|row| row.members.iter().chain(row.joining.values()));
        let held: Vec<DiskId> = of_row.chain(group.asked.values().map(|(disk, _)| disk)).copied().collect();
        if held == group.counted {
            return;
        }
        for disk in &held {
            *self.tally.slots.entry(*disk).or_default() += 1;
        }
        for disk in std::mem::replace(&mut group.counted, held) {
            let slots = self.tally.slots.entry(disk).or_default();
            *slots -= 1;
            if *slots == 0 {
                self.tally.slots.remove(&disk);
            }
        }
    }

    /// Indexes that a disk holds, is joining for or was asked for.
    pub(super) fn slots_of(&self, disk: DiskId) -> u32 {
        self.tally.slots.get(&disk).copied().unwrap_or(0)
    }

    /// Whether some group changed since it was looked over.
    pub(super) fn any_dirty(&self) -> bool {
        !self.tally.dirty.is_empty()
    }

    /// Whether everything of all groups is where it belongs, by recounts newer than the last change.
    pub(super) fn all_full(&self) -> bool {
        !self.any_dirty() && self.tally.not_full == 0
    }

    /// Lets owners take their events and performs what they want, until none has anything left.
    pub(super) fn run_owners(&mut self) {
        while !self.is_ending() {
            let next = self.inbox.pop_front();
            let pg = match &next {
                Some((pg, _)) => *pg,
                None => match self.touched.pop_first() {
                    Some(pg) => pg,
                    None => break,
                },
            };
            let Some(group) = self.groups.get_mut(&pg) else { continue };
            if let Some((_, event)) = next {
                group.owner.handle(self.now, event);
            }
            while let Some(effect) = self.groups.get_mut(&pg).and_then(|group| group.owner.poll_effect()) {
                self.perform(pg, effect);
            }
        }
    }

    fn perform(&mut self, pg: PgId, effect: PgEffect) {
        match effect {
            PgEffect::Get { op, keys } => self.get(Op::Owner { pg, op }, keys),
            PgEffect::Txn { op, txn } => self.txn(Op::Owner { pg, op }, txn),
            PgEffect::Call { call, disk, request, body, deadline } => {
                self.call(disk, NodeCall::Owner { pg, call }, request, body, deadline);
            }
            PgEffect::WakeAt(at) => {
                // Never at once: an owner that wants to be woken for what has passed would be, without an end.
                let at = at.max(self.now + Millis(1));
                let old = self.groups.get_mut(&pg).and_then(|group| group.wake.replace(at));
                if let Some(old) = old {
                    self.timers.remove(&(old, Timer::Owner(pg)));
                }
                self.at(at, Timer::Owner(pg));
            }
            PgEffect::Outcome(outcome) => self.outcome(pg, outcome),
        }
    }

    fn outcome(&mut self, pg: PgId, outcome: PgOutcome) {
        self.mark_dirty(pg);
        self.count_slots(pg);
        match outcome {
            // Nobody here asks for another record yet: what an earlier owner began is released by the group itself.
            PgOutcome::Ready | PgOutcome::Changed | PgOutcome::Superseded { .. } | PgOutcome::Released { .. } => {}
            PgOutcome::Created { ticket, result } => {
                if let Some(TicketUse::Create { stream, ordinal, task }) = self.tickets.remove(&ticket) {
                    self.created(stream, ordinal, task, result);
                }
            }
            PgOutcome::Deleted { ticket, result } => {
                if let Some(TicketUse::Delete { extent }) = self.tickets.remove(&ticket) {
                    self.deleted(extent, result);
                }
            }
            PgOutcome::Joined { index, from, to } => {
                if let Some(group) = self.groups.get_mut(&pg) {
                    group.asked.remove(&index);
                }
                self.left_group(from, pg);
                self.damaged.retain(|(disk, extent)| *disk != from || extent.pg() != pg);
                let text = format!(
                    "{} has taken index {index} of placement group {pg} over from {}",
                    self.who(to),
                    self.who(from)
                );
                let fields = vec![
                    ("pg", pg.to_string()),
                    ("index", index.to_string()),
                    ("from", from.to_string()),
                    ("to", to.to_string()),
                ];
                self.note("member_replaced", text, fields);
                self.refresh_at_once(pg);
            }
            PgOutcome::CaughtUp { disk } => {
                let text = format!("{} holds all it owes to placement group {pg} again", self.who(disk));
                self.note("disk_caught_up", text, vec![("pg", pg.to_string()), ("disk", disk.to_string())]);
            }
            PgOutcome::Frozen { reason } => {
                let text = format!("placement group {pg} is frozen, reads only: {reason}");
                self.note("pg_frozen", text, vec![("pg", pg.to_string()), ("reason", reason.clone())]);
                if let Some(group) = self.groups.get_mut(&pg) {
                    group.frozen = Some(reason);
                }
            }
            PgOutcome::Deposed => {
                self.stop(Stopped::Deposed { pg });
            }
            PgOutcome::CatalogWentBack { reason } => {
                self.suspend(&format!("placement group {pg}: {reason}"));
            }
        }
    }

    /// Whether a group was claimed so lately that nothing follows from its not being ready.
    pub(super) fn is_young(&self, group: &Group) -> bool {
        !group.owner.is_ready() && group.began + START_PATIENCE > self.now
    }

    pub(super) fn mark_dirty(&mut self, pg: PgId) {
        let Some(group) = self.groups.get_mut(&pg).filter(|group| !group.dirty) else { return };
        (group.dirty, group.look_at) = (true, group.next_look().unwrap_or(Time::ZERO));
        let at = group.look_at;
        self.tally.dirty.insert((at, pg));
        if at > self.now {
            self.at(at, Timer::Refresh(pg));
        }
    }

    pub(super) fn refresh_at_once(&mut self, pg: PgId) {
        let Some(group) = self.groups.get_mut(&pg) else { return };
        self.tally.dirty.remove(&(group.look_at, pg));
        (group.dirty, group.look_at, group.refreshed) = (true, Time::ZERO, None);
        self.tally.dirty.insert((group.look_at, pg));
    }

    /// Looks over the groups that changed: margins, needs, take-overs.
    pub(super) fn refresh_groups(&mut self) {
        let due = self.tally.dirty.iter().take_while(|(at, _)| *at <= self.now);
        let mut due: Vec<PgId> = due.map(|(_, pg)| *pg).collect();
        due.sort_unstable();
        due.into_iter().for_each(|pg| self.refresh(pg));
    }

    fn refresh(&mut self, pg: PgId) {
        let young = self.groups.get(&pg).is_some_and(|group| self.is_young(group));
        let Some(group) = self.groups.get_mut(&pg) else { return };
        self.tally.dirty.remove(&(group.look_at, pg));
        (group.dirty, group.refreshed) = (false, Some(self.now));
        let before = group.view.counts();
        let (disks, level) = (&self.disks, self.config.fault_domain);
        let domain_of = |disk| disks.get(&disk)?.domain.as_ref().map(|domain| domain.at(level));
        group.view = GroupView::of(&group.owner, &group.view, self.now, &mut self.risk, domain_of);
        group.view.all_unavailable &= !young;
        self.tally.count(before, group.view.counts());
        let grown_up = group.began + START_PATIENCE;
        let whole = group.view.full;
        let needs = &group.view.needs;
        self.repairs.backoff.retain(|extent, _| extent.pg() != pg || needs.contains_key(extent));
        let state = group.owner.row().map(|row| row.state);
        let (was, ready) = (std::mem::replace(&mut group.state, state), group.owner.is_ready());
        let first = ready && !std::mem::replace(&mut group.ready, ready);
        let fields = vec![("pg", pg.to_string())];
        match (was, state) {
            (Some(PgState::Open), Some(PgState::Closed)) => {
                let text = format!("placement group {pg} takes no new extents until it is whole again");
                self.note("pg_closed", text, fields);
            }
            (Some(PgState::Closed), Some(PgState::Open)) => {
                self.note("pg_opened", format!("placement group {pg} is whole and takes new extents"), fields);
            }
            _ => {}
        }
        if young {
            self.at(grown_up, Timer::Look(pg));
        }
        if first {
            self.hasten_doomed(pg);
            self.group_came(pg);
        }
        if whole {
            self.group_is_whole();
        }
        self.plan_joins(pg);
        self.count_slots(pg);
        self.queue_needs(pg);
    }

    /// A member asks how an attempt ended.
    pub(super) fn ask(&mut self, asker: Asker, pg: PgId, attempt: AttemptId) {
        let owner = self.owner(pg).filter(|owner| owner.is_ready());
        let reply = match owner {
            Some(owner) => DaemonReply::AttemptState(owner.attempt_state(attempt)),
            None => DaemonReply::Refused(Refusal::Unavailable(format!("placement group {pg} is not ready"))),
        };
        self.reply(asker, reply);
    }

    /// Whether something was said about the whole cell that is not so any more.
    pub(super) fn note_changes(&mut self) {
        if !self.boot.is_done() || self.is_ending() {
            return;
        }
        let full = !self.groups.is_empty() && self.all_full();
        if !self.any_dirty() && self.was_full != Some(full) {
            if full && self.was_full.is_some() {
                let extents = self.tally.extents;
                let text = format!("all {extents} extents have all their fragments, by a recount");
                self.note("redundancy_full", text, vec![("extents", extents.to_string())]);
            }
            self.was_full = Some(full);
        }
        let unavailable = self.tally.unavailable;
        let was = std::mem::replace(&mut self.was_unavailable, unavailable);
        if was == 0 && unavailable > 0 {
            let text = format!("{unavailable} extents cannot be read now");
            self.note("data_unavailable", text, vec![("extents", unavailable.to_string())]);
        }
        if was > 0 && unavailable == 0 {
            self.note("data_available", "all extents can be read again".into(), vec![]);
        }
    }
}
