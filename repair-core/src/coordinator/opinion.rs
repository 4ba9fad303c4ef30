//! What is thought of each disk, with cause and evidence: what it says itself, what its peers say beside it, what is excused, and
//! what is set aside without an operator.

use super::Coordinator;
use super::disks::Disk;
use super::waits::counted;
use crate::health::flaps::Hold;
use crate::health::outage::{self, Listener, Outage};
use crate::health::{Cause, Health, Patience, quarantine};
use crate::id::{DiskId, PgId};
use crate::time::{Millis, Time};
use std::collections::{BTreeMap, BTreeSet};

/// The first hold of a disk that flaps, where the settings do not say it, in times of what makes it suspect.
const HOLD_SUSPICIONS: u64 = 6;
/// The longest, in times of the first.
const HOLD_MOST: u64 = 32;
/// Disks that fell silent within so many times the silence that makes one suspect did so together.
const TOGETHER_SUSPICIONS: u64 = 3;
/// How long a whole domain that is silent is waited for, in graces of a single disk.
const OUTAGE_GRACES: u64 = 4;
/// Data that survives at most so many further losses does not wait for a rack.
const MARGIN_WITHOUT_PATIENCE: usize = 1;
/// Nor, at this, for the end of a maintenance window: whoever declared it knew that it costs one.
const MARGIN_WITHOUT_WINDOW: usize = 0;
/// A disk that has limped for so long is set aside.
const LIMPS_FOR: Millis = Millis(60 * 60 * 1_000);
/// The opinion on what to set aside is formed at most so often.
const JUDGED_EVERY: Millis = Millis(1_000);

/// A disk set aside without an operator.
#[derive(Clone, Debug)]
pub(super) struct SetAside {
    since: Time,
    cause: Cause,
    evidence: String,
}

/// What was thought and said before.
#[derive(Debug, Default)]
pub(super) struct Opinions {
    set_aside: BTreeMap<DiskId, SetAside>,
    judged: Option<Time>,
    /// Disks that would be set aside and may not, said once each.
    capped: BTreeSet<DiskId>,
    /// Disks that are held, said once a time.
    held: BTreeSet<DiskId>,
    /// Disks in quarantine whose nodes were started again since the last judgement.
    renewed: BTreeSet<DiskId>,
    /// Disks that have come and gone for longer than silence would be borne.
    overdue: BTreeSet<DiskId>,
    /// Silent domains that there was an event of, and until when they are waited for.
    outages: BTreeMap<String, Time>,
}

/// What is thought of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opinion {
    pub(super) state: Health,
    pub(super) since: Time,
    pub(super) cause: Cause,
    pub(super) evidence: String,
}

impl Coordinator {
    fn hold(&self) -> Hold {
        let derived = Millis(self.config.suspect_after.0.saturating_mul(HOLD_SUSPICIONS));
        let first = self.config.flap_hold.unwrap_or(derived);
        Hold { first, most: Millis(first.0.saturating_mul(HOLD_MOST)) }
    }

    /// The patience with a disk that nothing excuses.
    pub(super) fn patience(&self) -> Patience {
        let (suspect_after, grace) = (self.config.suspect_after, self.config.grace);
        Patience { suspect_after, grace, excused_until: None, hold: self.hold() }
    }

    pub(super) fn patience_of(&self, id: DiskId) -> Patience {
        let patience = self.patience();
        let Some(disk) = self.disks.get(&id).filter(|disk| disk.health.is_silent()) else { return patience };
        let window = self.window_ends(id);
        let outage = self.outage_of(disk).map(|_| self.outage_ends(disk));
        Patience { excused_until: window.max(outage), ..patience }
    }

    pub(super) fn is_lost_before(&self, id: DiskId, when: Time) -> bool {
        let patience = self.patience_of(id);
        self.disks.get(&id).is_some_and(|disk| patience.lost_at(disk.health.last_heard()) < when)
    }

    fn outage_ends(&self, disk: &Disk) -> Time {
        disk.health.last_heard() + self.config.suspect_after + Millis(self.config.grace.0.saturating_mul(OUTAGE_GRACES))
    }

    /// The domain that fell silent, not only this disk.
    fn outage_of(&self, disk: &Disk) -> Option<Outage> {
        let domain = disk.domain.as_ref().filter(|_| disk.health.is_silent())?;
        let listeners = self.disks.values().filter_map(|disk| {
            let silent = disk.health.is_silent() || (disk.health.is_lost() && disk.health.cause() != Cause::DiskError);
            Some(Listener { domain: disk.domain.as_ref()?, silent_since: silent.then_some(disk.health.last_heard()) })
        });
        let together = Millis(self.config.suspect_after.0.saturating_mul(TOGETHER_SUSPICIONS));
        outage::around(domain, disk.health.last_heard(), together, listeners)
    }

    /// Whether a disk's own grace is over and something excuses it.
    fn is_past_grace(&self, disk: &Disk) -> bool {
        disk.health.is_silent() && self.patience().grace_ends(disk.health.last_heard()) <= self.now
    }

    /// Whether a silent disk's time is up for this group, though it is excused: what the group has is too near to loss.
    pub(super) fn cannot_be_waited_for(&self, id: DiskId, pg: PgId) -> bool {
        if !self.disks.get(&id).is_some_and(|disk| self.is_past_grace(disk)) {
            return false;
        }
        let most = match self.window_ends(id) {
            Some(_) => MARGIN_WITHOUT_WINDOW,
            None => MARGIN_WITHOUT_PATIENCE,
        };
        self.has_margin_of_at_most(pg, most)
    }

    /// Whether what a group has is too near to loss to wait for anything.
    pub(super) fn is_near_to_loss(&self, pg: PgId) -> bool {
        self.has_margin_of_at_most(pg, MARGIN_WITHOUT_PATIENCE)
    }

    /// Whether a disk that comes and goes has not been counted on for the whole time after which silence is loss. It may never be
    /// silent for so long, and is no spare for what is near to loss.
    pub(super) fn is_away_too_long(&self, id: DiskId, pg: PgId) -> bool {
        self.is_overdue(id) && self.window_ends(id).is_none() && self.is_near_to_loss(pg)
    }

    fn is_overdue(&self, id: DiskId) -> bool {
        let Some(disk) = self.disks.get(&id).filter(|disk| disk.health.flaps().count(self.now, &self.hold()) > 1)
        else {
            return false;
        };
        let away = disk.health.away_since();
        away.is_some_and(|since| self.patience().grace_ends(since) <= self.now)
    }

    fn has_margin_of_at_most(&self, pg: PgId, most: usize) -> bool {
        let Some(group) = self.groups.get(&pg) else { return false };
        group.view.least_in_domains.is_some_and(|least| least.is_none_or(|least| least <= most))
    }

    /// A disk's timer is due: its grace may be over while it is excused.
    pub(super) fn look_past_grace(&mut self, id: DiskId) {
        let Some(disk) = self.disks.get(&id).filter(|disk| self.is_past_grace(disk)) else { return };
        let outage = self.outage_of(disk).map(|outage| (outage, self.outage_ends(disk)));
        for pg in self.groups_of(id) {
            self.refresh_at_once(pg);
        }
        self.opinions.outages.retain(|_, until| *until > self.now);
        let Some((Outage { level, domain, silent, of }, until)) = outage.filter(|(_, until)| *until > self.now) else {
            return;
        };
        if self.opinions.outages.insert(domain.clone(), until).is_none() {
            let waits_ms = until.since(self.now).0;
            let text = format!(
                "{silent} of {of} disks of {level} {domain} fell silent together: what they hold is waited for {} s more, but \
                 for what survives at most {MARGIN_WITHOUT_PATIENCE} further loss",
                waits_ms / 1_000
            );
            let fields = vec![
                ("domain", domain),
                ("silent", silent.to_string()),
                ("of", of.to_string()),
                ("waits_ms", waits_ms.to_string()),
            ];
            self.note("domain_silent", text, fields);
        }
    }

    pub(super) fn groups_of(&self, id: DiskId) -> Vec<PgId> {
        let holds =
            |group: &super::groups::Group| group.owner.row().is_some_and(|row| row.index_held_or_joined(id).is_some());
        self.groups.iter().filter(|(_, group)| holds(group)).map(|(pg, _)| *pg).collect()
    }

    /// A disk counts again.
    pub(super) fn came_back(&mut self, id: DiskId) {
        self.opinions.held.remove(&id);
        self.tell_groups(id, true);
        // With it a domain may not be silent any more, and what excused the others is gone.
        let silent: Vec<DiskId> =
            self.disks.iter().filter(|(_, disk)| disk.health.is_silent()).map(|(id, _)| *id).collect();
        for other in silent {
            self.watch(other);
        }
    }

    pub(super) fn is_held(&self, id: DiskId) -> bool {
        self.disks.get(&id).is_some_and(|disk| disk.health.is_held())
    }

    /// Whether data is so near to loss that a disk that flaps is better than none.
    pub(super) fn is_needed(&self, id: DiskId) -> bool {
        self.groups_of(id).into_iter().any(|pg| self.has_margin_of_at_most(pg, 0))
    }

    pub(super) fn note_held(&mut self, id: DiskId) {
        if !self.is_held(id) {
            self.opinions.held.remove(&id);
        } else if self.opinions.held.insert(id)
            && let Some(disk) = self.disks.get(&id)
        {
            let evidence = self.opinion_of(id, disk).evidence;
            let text = format!("{} is there and not counted on: {evidence}", self.who(id));
            let fields = vec![("disk", id.to_string()), ("domain", disk.row.domain.clone())];
            self.note("disk_held", text, fields);
        }
    }

    /// Whether everything on a disk is to be moved elsewhere.
    pub(super) fn leaves(&self, id: DiskId) -> bool {
        self.opinions.set_aside.contains_key(&id) || self.is_draining(id)
    }

    /// Whether anything new may be put on a disk.
    pub(super) fn may_be_given(&self, id: DiskId) -> bool {
        !self.leaves(id) && self.window_ends(id).is_none()
    }

    /// Sets disks aside that are no good for long, and takes them back when they are.
    pub(super) fn judge_quarantine(&mut self) {
        if self.opinions.judged.is_some_and(|judged| judged + JUDGED_EVERY > self.now) || !self.boot.is_done() {
            return;
        }
        self.opinions.judged = Some(self.now);
        let grounds: BTreeMap<DiskId, SetAside> =
            self.disks.keys().filter_map(|id| Some((*id, self.ground(*id)?))).collect();
        self.release(&grounds);
        self.look_at_overdue();
        self.opinions.capped.retain(|id| grounds.contains_key(id));
        for (id, ground) in grounds {
            if !self.opinions.set_aside.contains_key(&id) {
                self.set_aside(id, ground);
            }
        }
    }

    /// Takes disks out of quarantine.
    fn release(&mut self, grounds: &BTreeMap<DiskId, SetAside>) {
        let lost = |id: &DiskId| self.disks.get(id).is_none_or(|disk| disk.health.is_lost());
        let well: Vec<(DiskId, &str)> = self
            .opinions
            .set_aside
            .iter()
            .filter(|(id, _)| !grounds.contains_key(id))
            .filter_map(|(id, aside)| match aside.cause {
                _ if lost(id) => Some((*id, "it is lost, and replaced for that")),
                // One that gets no work is not seen to be slow, and would be filled again to be found slow again.
                Cause::SlowerThanPeers
                    if !self.limping.is_well(self.now, *id) && !self.opinions.renewed.contains(id) =>
                {
                    None
                }
                _ => Some((*id, "what it was put there for is over")),
            })
            .collect();
        self.opinions.renewed.clear();
        for (id, why) in well {
            self.opinions.set_aside.remove(&id);
            let text = format!("{} is taken out of quarantine: {why}", self.who(id));
            self.note("disk_released", text, vec![("disk", id.to_string())]);
            self.look_at_groups_of(id);
        }
    }

    /// A node was started again: what was known of its pace is of the process before.
    pub(super) fn started_again(&mut self, id: DiskId) {
        self.limping.forget(id);
        self.forget_pace(id);
        if self.opinions.set_aside.contains_key(&id) {
            self.opinions.renewed.insert(id);
        }
    }

    /// Groups look again at disks that have come and gone for so long that they are to be replaced where data is near to loss.
    fn look_at_overdue(&mut self) {
        let overdue: BTreeSet<DiskId> = self.disks.keys().filter(|id| self.is_overdue(**id)).copied().collect();
        let new: Vec<DiskId> = overdue.difference(&self.opinions.overdue).copied().collect();
        self.opinions.overdue = overdue;
        for pg in new.into_iter().flat_map(|id| self.groups_of(id)).collect::<BTreeSet<_>>() {
            self.refresh_at_once(pg);
        }
    }

    fn ground(&self, id: DiskId) -> Option<SetAside> {
        // One that is lost is replaced for that, and takes no place under the cap.
        let disk = self.disks.get(&id).filter(|disk| !disk.health.is_lost())?;
        let since = self.now;
        if let Some(evidence) = self.limping.evidence(id).filter(|evidence| evidence.since + LIMPS_FOR <= self.now) {
            let evidence = format!(
                "it has taken {} ms to {}, its peers {} ms, for {} s",
                evidence.mean_us / 1_000,
                evidence.kind,
                evidence.peers_us / 1_000,
                self.now.since(evidence.since).0 / 1_000
            );
            return Some(SetAside { since, cause: Cause::SlowerThanPeers, evidence });
        }
        let (flaps, hold) = (disk.health.flaps(), self.hold());
        let evidence = || format!("it went away {} times lately", flaps.count(self.now, &hold));
        flaps.are_most(self.now, &hold).then(|| SetAside { since, cause: Cause::Flaps, evidence: evidence() })
    }

    fn set_aside(&mut self, id: DiskId, ground: SetAside) {
        let who = self.who(id);
        match self.may_set_aside(id) {
            Ok(()) => {
                let text =
                    format!("{who} is put into quarantine, what it holds is moved elsewhere: {}", ground.evidence);
                let fields = vec![("disk", id.to_string()), ("evidence", ground.evidence.clone())];
                self.opinions.set_aside.insert(id, ground);
                self.opinions.capped.remove(&id);
                self.note("disk_quarantined", text, fields);
                self.look_at_groups_of(id);
            }
            Err(reason) if self.opinions.capped.insert(id) => {
                let text = format!("{who} would be put into quarantine ({}), but {reason}", ground.evidence);
                self.note("quarantine_refused", text, vec![("disk", id.to_string()), ("reason", reason)]);
            }
            Err(_) => {}
        }
    }

    /// Whether one more disk may be set aside: by the cap, and because all stays decodable without all that are.
    fn may_set_aside(&self, id: DiskId) -> Result<(), String> {
        let domain = |id: &DiskId| self.disks.get(id).and_then(|disk| disk.domain.as_ref());
        let domains: Vec<&str> =
            self.opinions.set_aside.keys().filter_map(|id| Some(domain(id)?.at(self.config.fault_domain))).collect();
        let own = domain(&id).map_or("", |domain| domain.at(self.config.fault_domain));
        quarantine::may_add(own, &domains, self.disks.len()).map_err(|capped| capped.to_string())?;
        let gone: BTreeSet<DiskId> = self.opinions.set_aside.keys().copied().chain([id]).collect();
        for pg in self.groups_of(id) {
            let Some(without) = self.without(pg, &gone) else { continue };
            if let Some(unknown) = without.unknown {
                return Err(format!("of placement group {pg} nothing is known: {unknown}"));
            }
            if without.undecodable_count > 0 {
                let extents = counted(without.undecodable_count, "extent");
                return Err(format!("{extents} of placement group {pg} could not be read without it"));
            }
        }
        Ok(())
    }

    pub(super) fn look_at_groups_of(&mut self, id: DiskId) {
        for pg in self.groups_of(id) {
            self.refresh_at_once(pg);
        }
        self.seek_homes();
    }

    pub(super) fn opinion(&self, id: DiskId) -> Option<Opinion> {
        self.disks.get(&id).map(|disk| self.opinion_of(id, disk))
    }

    pub(super) fn opinion_of(&self, id: DiskId, disk: &Disk) -> Opinion {
        let health = &disk.health;
        let own =
            |state| Opinion { state, since: health.since(), cause: health.cause(), evidence: self.evidence(disk) };
        if health.is_lost() {
            return own(Health::Lost);
        }
        if let Some((state, since, evidence)) = self.intended(id, disk) {
            return Opinion { state, since, cause: Cause::Operator, evidence };
        }
        if let Some(SetAside { since, cause, evidence }) = self.opinions.set_aside.get(&id).cloned() {
            return Opinion { state: Health::Quarantined, since, cause, evidence };
        }
        match self.limping.evidence(id).filter(|_| health.is_healthy()) {
            Some(slow) => Opinion {
                state: Health::Limping,
                since: slow.since,
                cause: Cause::SlowerThanPeers,
                evidence: format!(
                    "it takes {} ms to {}, its peers {} ms",
                    slow.mean_us / 1_000,
                    slow.kind,
                    slow.peers_us / 1_000
                ),
            },
            None => own(health.state()),
        }
    }

    /// By what a disk's own state is known.
    fn evidence(&self, disk: &Disk) -> String {
        let health = &disk.health;
        let silent_s = self.now.since(health.last_heard()).0 / 1_000;
        let hold = self.hold();
        match (health.cause(), disk.broken()) {
            (Cause::DiskError, Some(reason)) => format!("it says: {reason}"),
            (Cause::Flaps, _) if health.is_held() => {
                let left = health.flaps().held_until(self.now, &hold).map_or(0, |until| until.since(self.now).0);
                let count = health.flaps().count(self.now, &hold);
                format!(
                    "it went away {count} times lately; counted on after {} s more without a break",
                    left.div_ceil(1_000)
                )
            }
            (Cause::Beats | Cause::Registers | Cause::Flaps | Cause::Operator | Cause::SlowerThanPeers, _) => {
                format!("last heard {silent_s} s ago")
            }
            (cause, _) => {
                let why = match cause {
                    Cause::NotHeardYet => "this daemon has not heard it yet",
                    Cause::ConnectionEnded => "its connection ended",
                    _ => "it is silent",
                };
                let shared = self.outage_of(disk).map(|Outage { level, domain, silent, of }| {
                    format!(", with {silent} of {of} disks of {level} {domain}")
                });
                format!("{why}; nothing heard for {silent_s} s{}", shared.unwrap_or_default())
            }
        }
    }

    /// Disks that would be replaced if nothing excused them.
    pub(super) fn waits_of_excuses(&self) -> Vec<String> {
        let excused = self.disks.iter().filter(|(_, disk)| self.is_past_grace(disk));
        let line = |(id, disk): (&DiskId, &Disk)| {
            let until = self.patience_of(*id).excused_until?;
            let left = until.since(self.now).0 / 1_000;
            let why = match self.window_ends(*id) {
                Some(end) if end >= until => "in a maintenance window".to_owned(),
                _ => self.evidence(disk),
            };
            Some(format!("{} is waited for {left} s more: {why}", self.who(*id)))
        };
        excused.filter_map(line).collect()
    }
}
