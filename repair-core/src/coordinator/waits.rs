//! What the coordinator itself waits for, by name: one line each, however many wait for it.

use super::Coordinator;
use super::puts::{GrantState, Phase};
use crate::id::{ExtentKey, StreamKey};

/// Names or numbers in one line; the others are counted.
const SHOWN_MAX: usize = 4;

/// Why parity that was found wrong is not built where it is lost.
pub(super) const NOT_BUILT: &str =
    "for parity that an audit found wrong is lost and has no copy, and cannot be computed";

/// "1 put", "2 puts".
pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

pub(super) fn shown<T: std::fmt::Display>(all: &[T]) -> String {
    let some: Vec<String> = all.iter().take(SHOWN_MAX).map(T::to_string).collect();
    let more = all.len().saturating_sub(SHOWN_MAX);
    if more == 0 { some.join(", ") } else { format!("{} and {more} more", some.join(", ")) }
}

impl Coordinator {
    pub(super) fn waits_of_work(&self) -> Vec<String> {
        let mut waits = Vec::new();
        self.waits_of_puts(&mut waits);
        self.waits_of_repairs(&mut waits);
        self.waits_of_wrong_parity(&mut waits);
        self.waits_of_disks(&mut waits);
        self.waits_of_audits(&mut waits);
        self.waits_of_intents(&mut waits);
        let waiting = self.allocations.len();
        if self.making.is_some() || waiting > 0 {
            let requests = counted(waiting, "request");
            waits.push(format!("placement groups are being made; {requests} for leave to write wait for them"));
        }
        let blocked = self.locks.waiting();
        if blocked > 0 {
            let tasks = counted(blocked, "put or removal");
            waits.push(format!("{tasks} of names that another is just changing: one after the other"));
        }
        let (under_way, later) = self.doomed.counts();
        if under_way > 0 {
            waits.push(format!("{} being deleted", counted(under_way, "extent")));
        }
        if later > 0 {
            waits.push(format!("{} still to be deleted, once their placement groups can", counted(later, "extent")));
        }
        if !self.guests_are_asked() {
            waits.push("disks that came are still to be asked what they hold of groups they left".into());
        }
        waits
    }

    fn waits_of_puts(&self, waits: &mut Vec<String>) {
        let dying = |phase| phase == Phase::Dying;
        let streams = |wanted: &dyn Fn(&super::puts::Put) -> bool| -> Vec<StreamKey> {
            self.puts.iter().filter(|(_, put)| wanted(put)).map(|(stream, _)| *stream).collect()
        };
        let given_up = streams(&|put| dying(put.phase));
        if !given_up.is_empty() {
            waits.push(format!("{} being given up: {}", counted(given_up.len(), "put"), shown(&given_up)));
        }
        let left = streams(&|put| !dying(put.phase) && put.peer.is_none());
        if !left.is_empty() {
            let most = self.config.put_resume;
            let puts = counted(left.len(), "put");
            waits.push(format!("{puts} without a client, given up {} ms after it left: {}", most.0, shown(&left)));
        }
        let unknown: Vec<ExtentKey> = self
            .puts
            .values()
            .flat_map(|put| put.grants.values())
            .filter(|held| matches!(held.state, GrantState::Unknown { .. }))
            .map(|held| held.extent)
            .collect();
        if !unknown.is_empty() {
            let extents = counted(unknown.len(), "extent");
            waits.push(format!(
                "{extents} of which it is not known yet whether they are committed: {}",
                shown(&unknown)
            ));
        }
    }

    /// Parity that is known to be wrong and lost is nobody's to build: only the operator ends it.
    fn waits_of_wrong_parity(&self, waits: &mut Vec<String>) {
        let unbuilt: Vec<ExtentKey> = self.unbuilt_parity().into_keys().collect();
        if !unbuilt.is_empty() {
            let extents = counted(unbuilt.len(), "extent");
            waits.push(format!("{extents} whose names are to be put again, {NOT_BUILT}: {}", shown(&unbuilt)));
        }
    }

    fn waits_of_intents(&self, waits: &mut Vec<String>) {
        if let Some(above) = self.intents.paused_above() {
            let needs = self.groups.values().flat_map(|group| group.view.needs.values());
            let paused = needs.filter(|need| self.is_paused(need)).count();
            let extents = counted(paused, "extent");
            waits.push(format!(
                "moves, and repairs of what survives more than {above} further losses, are paused by an operator: {extents}"
            ));
        }
        for drain in self.drain_reports() {
            for block in drain.blocked {
                let domain = drain.domain.as_deref().unwrap_or(&drain.disk);
                waits.push(format!("the drain of {domain} waits for placement group {}: {}", block.pg, block.reason));
            }
        }
    }

    fn waits_of_disks(&self, waits: &mut Vec<String>) {
        waits.extend(self.waits_of_excuses());
        for (id, disk) in &self.disks {
            if disk.is_mute() {
                waits.push(format!("{} beats, but did not answer the last call: it is asked again", self.who(*id)));
            }
            if disk.is_being_written() {
                waits.push(format!("{} waits for its row in the catalog", self.who(*id)));
            }
        }
    }
}
