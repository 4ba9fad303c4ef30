//! Who says to be a disk that another process served: let in, looked at, or turned away.
//!
//! Two things are asked. Whether it is the disk: a copy and an old image show a life that the disk has gone on from, see
//! [`lineage`](crate::lineage). And whether the process that served the disk is gone: where it may listen yet, it is called and says
//! itself that it lives. Silence proves nothing, so it must last as long as that by which a disk is suspected.

use super::disks::Registration;
use super::{Asker, Coordinator, NodeCall};
use crate::id::DiskId;
use crate::lineage::Lineage;
use crate::node::{Body, PeerId};
use crate::time::{Millis, Time};
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use std::collections::BTreeMap;

/// Nodes turned away that are remembered.
const TURNED_AWAY_MAX: usize = 64;
/// One that has not asked for so long is not there any more. It asks every second, or as often as it would beat.
const FORGOTTEN_AFTER: Millis = Millis(30_000);

/// Those who came for a disk that another process may serve.
#[derive(Debug, Default)]
pub(super) struct Clones {
    /// While the other process is looked for.
    waiting: BTreeMap<DiskId, (Asker, Registration)>,
    /// By disk and process.
    turned_away: BTreeMap<(DiskId, u64), TurnedAway>,
}

/// A node that is not taken.
#[derive(Clone, Debug)]
pub(super) struct TurnedAway {
    pub(super) address: String,
    pub(super) reason: String,
    pub(super) since: Time,
    last: Time,
}

impl Coordinator {
    /// What the disk's lives come to with this registration.
    ///
    /// # Errors
    /// It is not the disk.
    fn lineage(&self, wanted: &Registration) -> Result<Option<Lineage>, Refusal> {
        let id = wanted.row.disk;
        let known = self.disks.get(&id).and_then(|disk| disk.lineage);
        let Some(claim) = wanted.claim else { return Ok(known) };
        let is_lost = self.disks.get(&id).is_some_and(|disk| disk.health.is_lost());
        Lineage::step(known, claim, is_lost).map(Some).map_err(|known| {
            Refusal::Duplicate(match claim.had {
                Some(had) => format!(
                    "this is a copy or an old state of disk {id}: it comes from life {had}, and the disk has gone on to life \
                     {known}. Nothing is stored here. If the disk itself is gone for good and this is to take its place, remove \
                     the file `life` from the data folder and start the node again"
                ),
                None => format!(
                    "this may be any old state of disk {id}: it shows no life, and the disk has gone on to life {known}. Nothing \
                     is stored here before the disk counts as lost, which it does when it has been away for the grace period"
                ),
            })
        })
    }

    /// Lets a node in that may be let in, now or when it is known that no other process serves its disk.
    pub(super) fn register(&mut self, asker: Asker, wanted: Registration) {
        let lineage = match self.may_register(&wanted).and_then(|()| self.lineage(&wanted)) {
            Ok(lineage) => lineage,
            Err(refusal) => return self.turn_away(asker, &wanted, refusal),
        };
        let id = wanted.row.disk;
        if !self.is_served_elsewhere(&wanted) {
            self.clones.turned_away.remove(&(id, wanted.boot));
            return self.let_in(asker, wanted, lineage);
        }
        if let Some((waits, other)) = self.clones.waiting.get_mut(&id) {
            if other.boot != wanted.boot {
                return self
                    .refuse(asker, Refusal::Unavailable("another process of this disk is being looked at".into()));
            }
            let earlier = std::mem::replace(waits, asker);
            *other = wanted;
            return self.superseded(earlier);
        }
        self.clones.waiting.insert(id, (asker, wanted));
        self.call(id, NodeCall::Other, NodeRequest::Info, Body::new(), self.config.pg.call_deadline);
    }

    /// Whether a process other than this one may serve the disk.
    fn is_served_elsewhere(&self, wanted: &Registration) -> bool {
        let Some(known) = self.disks.get(&wanted.row.disk) else { return false };
        let same =
            known.boot() == Some(wanted.boot) || known.lineage.is_some_and(|known| known.life.boot == wanted.boot);
        // Two cannot listen at one address, and its connection ended.
        let took_over = known.row.address == wanted.row.address && !known.is_connected();
        !same && !took_over
    }

    /// The process that served the disk was called.
    pub(super) fn other_answered(&mut self, id: DiskId, result: Result<(NodeReply, Body), CallError>) {
        let Some((asker, wanted)) = self.clones.waiting.remove(&id) else { return };
        let Some(known) = self.disks.get(&id) else { return };
        let is_fresh = known.health.last_heard() + self.config.suspect_after > self.now;
        let is_gone = match result {
            // One that was refused itself can be at the disk's address only where the disk's process is gone.
            Ok((NodeReply::Info { disk, boot, .. }, _))
                if disk == id && boot != wanted.boot && !self.was_turned_away(id, boot) =>
            {
                let refusal = Refusal::Duplicate(format!(
                    "disk {id} is served by another process, at {}: this folder is a copy of it, or it of this one",
                    known.row.address
                ));
                return self.turn_away(asker, &wanted, refusal);
            }
            Ok((NodeReply::Info { .. }, _)) => true,
            Err(CallError::Unreachable) => !known.is_connected() || !is_fresh,
            Ok(_) | Err(_) => !is_fresh,
        };
        if !is_gone {
            let reason =
                format!("the process that served disk {id} at {} is silent, and may be there", known.row.address);
            return self.refuse(asker, Refusal::Unavailable(reason));
        }
        // Others may have been let in meanwhile.
        match self.may_register(&wanted).and_then(|()| self.lineage(&wanted)) {
            Ok(lineage) => {
                self.clones.turned_away.remove(&(id, wanted.boot));
                self.let_in(asker, wanted, lineage);
            }
            Err(refusal) => self.turn_away(asker, &wanted, refusal),
        }
    }

    /// Whether this process asked lately, and is not the disk.
    fn was_turned_away(&self, id: DiskId, boot: u64) -> bool {
        let is_the_disk = self
            .disks
            .get(&id)
            .is_some_and(|disk| disk.boot() == Some(boot) || disk.lineage.is_some_and(|known| known.life.boot == boot));
        let one = self.clones.turned_away.get(&(id, boot));
        !is_the_disk && one.is_some_and(|one| one.last + FORGOTTEN_AFTER > self.now)
    }

    /// Refuses, and says it to the operator if somebody has to see to it.
    fn turn_away(&mut self, asker: Asker, wanted: &Registration, refusal: Refusal) {
        if let Refusal::Duplicate(reason) = &refusal {
            let (id, now) = (wanted.row.disk, self.now);
            let all = &mut self.clones.turned_away;
            all.retain(|_, one| one.last + FORGOTTEN_AFTER > now);
            let since = all.get(&(id, wanted.boot)).map(|one| one.since);
            // Who is not remembered would be told of every second.
            let has_place = since.is_some() || all.len() < TURNED_AWAY_MAX;
            if has_place {
                let (address, reason) = (wanted.row.address.clone(), reason.clone());
                let one = TurnedAway { address, reason, since: since.unwrap_or(now), last: now };
                all.insert((id, wanted.boot), one);
            }
            if has_place && since.is_none() {
                let text = format!("the node at {} ({}) is not taken: {reason}", wanted.row.address, wanted.row.domain);
                let fields = vec![
                    ("disk", id.to_string()),
                    ("domain", wanted.row.domain.clone()),
                    ("address", wanted.row.address.clone()),
                ];
                self.note("disk_refused", text, fields);
            }
        }
        self.refuse(asker, refusal);
    }

    /// Whoever waited on this connection is gone.
    pub(super) fn suitor_gone(&mut self, peer: PeerId) {
        self.clones.waiting.retain(|_, (asker, _)| asker.peer != peer);
    }

    /// Nodes that ask to be taken and are not, for `disk` or for all.
    pub(super) fn turned_away(&self, disk: Option<DiskId>) -> impl Iterator<Item = (DiskId, &TurnedAway)> {
        let all = self.clones.turned_away.iter();
        all.filter(move |((id, _), one)| disk.is_none_or(|disk| disk == *id) && one.last + FORGOTTEN_AFTER > self.now)
            .map(|((id, _), one)| (*id, one))
    }
}
