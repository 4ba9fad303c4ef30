//! Disks: registration, beats, health, and checks of single fragments.

use super::{Asker, Coordinator, NodeCall, Op, Timer};
use crate::catalog::{DiskRow, Found, Txn, TxnResult, key};
use crate::health::{DiskHealth, Turn};
use crate::id::{CellKey, DiskId, ExtentKey, PgId};
use crate::lineage::{Claim, Lineage};
use crate::node::{Body, PeerId};
use crate::pg::{CallId, PgEvent};
use crate::time::Time;
use crate::topology::Domain;
use crate::wire::codec::{CodecError, decode_row, encode_row};
use crate::wire::node::{DamageReport, FragmentKey};
use crate::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest, Refusal};
use ec_core::fragment::Class;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

const ADDRESS_BYTES_MAX: usize = 255;
/// Checks asked for by readers and not answered yet; more hints than that are dropped, a scrub finds what they meant.
const CHECKS_MAX: usize = 1024;

/// What a node says of itself.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) row: DiskRow,
    pub(super) cell: Option<CellKey>,
    pub(super) boot: u64,
    pub(super) free_bytes: u64,
    pub(super) total_bytes: u64,
    /// Its lives; none from a node of an earlier program.
    pub(super) claim: Option<Claim>,
}

impl Registration {
    /// What a request asks for, where it is a registration.
    pub(super) fn of(request: DaemonRequest) -> Option<Self> {
        let (disk, cell, domain, address, boot, free_bytes, total_bytes, claim) = match request {
            DaemonRequest::Register { disk, cell, domain, address, boot, free_bytes, total_bytes } => {
                (disk, cell, domain, address, boot, free_bytes, total_bytes, None)
            }
            DaemonRequest::RegisterLife { disk, cell, domain, address, free_bytes, total_bytes, claim } => {
                (disk, cell, domain, address, claim.life.boot, free_bytes, total_bytes, Some(claim))
            }
            _ => return None,
        };
        Some(Self { row: DiskRow { disk, domain, address }, cell, boot, free_bytes, total_bytes, claim })
    }
}

/// A row that was found, with its revision.
fn decoded<R: DeserializeOwned>(found: Option<Found>) -> Result<Option<(R, u64)>, CodecError> {
    found.map(|found| Ok((decode_row(&found.value)?, found.revision))).transpose()
}

/// A disk of the catalog.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) row: DiskRow,
    /// Of the row in the catalog, and its revision; none before it is written.
    written: Option<(DiskRow, u64)>,
    /// Its lives, and as they are in the catalog.
    pub(super) lineage: Option<Lineage>,
    lineage_written: Option<(Lineage, u64)>,
    pub(super) domain: Option<Domain>,
    pub(super) health: DiskHealth,
    pub(super) free_bytes: u64,
    pub(super) total_bytes: u64,
    /// The life and the connection that registered last.
    boot: Option<u64>,
    peer: Option<PeerId>,
    /// A registration that waits for the row.
    asker: Option<Asker>,
    /// Whether that one only begins the next life of a process that is welcome: it beats meanwhile.
    renewing: bool,
    /// The number it says that its life has.
    claimed: Option<u64>,
    writing: bool,
    /// A call failed and none succeeded since: its beats prove nothing, it is asked who it is.
    mute: bool,
    probing: bool,
    /// It refused a fragment for lack of room then, with so many bytes free.
    pub(super) full: Option<(Time, u64)>,
    /// It says, in this life of its process, that nothing can be stored on it.
    broken: Option<String>,
    /// Repairs of each group that its store refused since the last it took, and when it refused the last.
    pub(super) refused: BTreeMap<PgId, (u32, Time)>,
    announced: bool,
    /// What its node told of it in this life.
    pub(super) told: super::faults::Told,
}

impl Disk {
    fn new(row: DiskRow, now: Time) -> Self {
        let domain = row.domain.parse().ok();
        Self {
            row,
            written: None,
            lineage: None,
            lineage_written: None,
            domain,
            health: DiskHealth::unheard(now),
            free_bytes: 0,
            total_bytes: 0,
            boot: None,
            peer: None,
            asker: None,
            renewing: false,
            claimed: None,
            writing: false,
            mute: false,
            probing: false,
            full: None,
            broken: None,
            refused: BTreeMap::new(),
            announced: false,
            told: super::faults::Told::default(),
        }
    }

    /// Whether it beats and did not answer a call since.
    pub(super) fn is_mute(&self) -> bool {
        self.mute && self.peer.is_some()
    }

    /// Whether nothing can be stored on it, by its own word, and its node still answers.
    pub(super) fn is_read_only(&self) -> bool {
        self.broken.is_some() && self.peer.is_some() && !self.mute
    }

    /// The life of the process that registered last, in this life of the daemon.
    pub(super) fn boot(&self) -> Option<u64> {
        self.boot
    }

    /// Whether that one's connection has not ended.
    pub(super) fn is_connected(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether this connection is that of the life that was welcomed last.
    pub(super) fn is_life_of(&self, peer: PeerId, boot: u64) -> bool {
        let is_welcome = self.announced && (self.asker.is_none() || self.renewing);
        self.boot == Some(boot) && self.peer == Some(peer) && is_welcome
    }

    /// Why nothing can be stored on it, by its own word.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether its registration waits for its row.
    pub(super) fn is_being_written(&self) -> bool {
        self.asker.is_some()
    }

    /// Room as it was last told; none where it was never told.
    pub(super) fn room(&self) -> Option<u64> {
        (self.total_bytes > 0).then_some(self.free_bytes)
    }
}

impl Coordinator {
    pub(super) fn disk_known(&mut self, row: DiskRow, revision: u64) {
        let (id, now) = (row.disk, self.now);
        let known = self.disks.entry(id).or_insert_with(|| Disk::new(row.clone(), now));
        known.written = Some((row, revision));
        self.watch(id);
    }

    pub(super) fn lineage_known(&mut self, id: DiskId, lineage: Lineage, revision: u64) {
        if let Some(disk) = self.disks.get_mut(&id) {
            (disk.lineage, disk.lineage_written) = (Some(lineage), Some((lineage, revision)));
        }
    }

    /// Sets the timer for the disk's next turn.
    pub(super) fn watch(&mut self, id: DiskId) {
        let patience = self.patience_of(id);
        let Some(disk) = self.disks.get(&id) else { return };
        let next = disk.health.next(&patience);
        // What cannot wait for an excuse to end does not: groups look again when the grace does.
        let grace_ends = Some(patience.grace_ends(disk.health.last_heard()));
        let looks = grace_ends.filter(|at| disk.health.is_silent() && *at > self.now && Some(*at) < next);
        for at in next.into_iter().chain(looks) {
            self.at(at, Timer::Disk(id));
        }
    }

    pub(super) fn let_in(&mut self, asker: Asker, wanted: Registration, lineage: Option<Lineage>) {
        let (id, now) = (wanted.row.disk, self.now);
        let patience = self.patience();
        let disk = self.disks.entry(id).or_insert_with(|| Disk::new(wanted.row.clone(), now));
        let again = disk.boot == Some(wanted.boot);
        disk.renewing = disk.is_life_of(asker.peer, wanted.boot);
        disk.domain = wanted.row.domain.parse().ok();
        (disk.row, disk.lineage) = (wanted.row, lineage);
        disk.claimed = wanted.claim.map(|claim| claim.life.number);
        (disk.free_bytes, disk.total_bytes) = (wanted.free_bytes, wanted.total_bytes);
        let gone = disk.peer.replace(asker.peer).filter(|peer| *peer != asker.peer);
        disk.boot = Some(wanted.boot);
        let earlier = disk.asker.replace(asker);
        (disk.mute, disk.probing) = (false, false);
        // A node that was started again may have forgotten what it staged, or lost its journal: whoever counts on it must hear
        // that it was away. So must owners that reached it before it registered here: it may have been an earlier life.
        let restarted = !again;
        if restarted && disk.health.is_healthy() {
            disk.health.cut_off(now, &patience);
        }
        if restarted {
            disk.broken = None;
            disk.refused.clear();
            disk.told = super::faults::Told::default();
            self.limping.forget(id);
        }
        disk.health.registering(now);
        if let Some(gone) = gone {
            self.peers.remove(&gone);
        }
        self.peers.insert(asker.peer, id);
        if let Some(earlier) = earlier {
            self.superseded(earlier);
        }
        if restarted {
            self.forget_pace(id);
            self.tell_groups(id, false);
        }
        self.watch(id);
        self.write_disk_row(id);
    }

    /// A question that is not answered is taken for a connection that is of no use.
    pub(super) fn superseded(&mut self, earlier: Asker) {
        self.refuse(earlier, Refusal::Unavailable("the disk was registered again meanwhile".into()));
    }

    pub(super) fn may_register(&self, wanted: &Registration) -> Result<(), Refusal> {
        let Some(cell) = self.cell().filter(|_| self.boot.knows_disks()) else {
            return Err(Refusal::Unavailable("the daemon is starting".into()));
        };
        if let Some(theirs) = wanted.cell.filter(|theirs| *theirs != cell.cell) {
            return Err(Refusal::WrongCell(format!("the disk is of cell {theirs}, this is cell {}", cell.cell)));
        }
        wanted.row.domain.parse::<Domain>().map_err(|error| Refusal::Invalid(error.to_string()))?;
        if wanted.row.address.is_empty() || wanted.row.address.len() > ADDRESS_BYTES_MAX {
            return Err(Refusal::Invalid(format!("an address is 1 to {ADDRESS_BYTES_MAX} bytes")));
        }
        if self.has_left(wanted.row.disk) {
            let id = wanted.row.disk;
            return Err(Refusal::WrongCell(format!(
                "disk {id} was drained and has left this cell: give the node an empty data folder, or take the disk in again \
                 with `ninefold drain {id} --cancel`"
            )));
        }
        let twin = |(id, disk): &(&DiskId, &Disk)| {
            **id != wanted.row.disk && disk.row.domain == wanted.row.domain && disk.health.is_healthy()
        };
        if let Some((id, disk)) = self.disks.iter().find(twin) {
            return Err(Refusal::Duplicate(format!(
                "disk {id} at {} stands in {} already",
                disk.row.address, disk.row.domain
            )));
        }
        Ok(())
    }

    /// The row is in the catalog before the node is welcomed: what a placement group names must be found after a restart.
    pub(super) fn write_disk_row(&mut self, id: DiskId) {
        let Some(disk) = self.disks.get_mut(&id).filter(|disk| !disk.writing) else { return };
        let row_stands = disk.written.as_ref().is_some_and(|(row, _)| *row == disk.row);
        let lives_stand =
            disk.lineage.is_none_or(|lives| disk.lineage_written.is_some_and(|(on_file, _)| on_file == lives));
        if row_stands && lives_stand {
            return self.welcome(id);
        }
        let revision = disk.written.as_ref().map_or(0, |(_, revision)| *revision);
        let lives_revision = disk.lineage_written.map_or(0, |(_, revision)| revision);
        let (row, lives) = (encode_row(&disk.row), disk.lineage.map(|lives| encode_row(&lives)).transpose());
        match row.and_then(|row| Ok((row, lives?))) {
            Ok((row, lives)) => {
                disk.writing = true;
                let (disk_key, life_key) = (key::disk(id), key::life(id));
                let mut txn = Txn::new().compare(disk_key.clone(), revision).put(disk_key, row);
                if let Some(lives) = lives {
                    txn = txn.compare(life_key.clone(), lives_revision).put(life_key, lives);
                }
                self.txn(Op::Disk { disk: id }, txn);
            }
            Err(error) => {
                if let Some(asker) = disk.asker.take() {
                    self.refuse(asker, Refusal::Invalid(error.to_string()));
                }
            }
        }
    }

    pub(super) fn disk_row_written(&mut self, id: DiskId, result: TxnResult) {
        // Done or not, what is there now says it; and the row may have changed while it was written.
        match result {
            TxnResult::Done { .. } => self.read_disk_row(id),
            TxnResult::Refused | TxnResult::Unknown => self.after(self.retry_after(), Timer::DiskRow(id)),
        }
    }

    pub(super) fn read_disk_row(&mut self, id: DiskId) {
        self.get(Op::Disk { disk: id }, vec![key::disk(id), key::life(id)]);
    }

    pub(super) fn disk_row_read(&mut self, id: DiskId, rows: Result<Vec<Option<Found>>, String>) {
        let Some(disk) = self.disks.get_mut(&id) else { return };
        let Ok(rows) = rows else {
            return self.after(self.retry_after(), Timer::DiskRow(id));
        };
        disk.writing = false;
        let mut rows = rows.into_iter();
        let read = decoded(rows.next().flatten()).and_then(|row| Ok((row, decoded(rows.next().flatten())?)));
        match read {
            Ok((row, lives)) => (disk.written, disk.lineage_written) = (row, lives),
            Err(error) => return self.stop(format!("the catalog's row of disk {id} cannot be read: {error}")),
        }
        self.write_disk_row(id);
    }

    fn welcome(&mut self, id: DiskId) {
        let Some((cell, _)) = self.cell.clone() else { return };
        let (patience, needed) = (self.patience(), self.is_needed(id));
        let Some(disk) = self.disks.get_mut(&id) else { return };
        // It may have left while its row was written.
        let Some(asker) = disk.asker.take().filter(|asker| disk.peer == Some(asker.peer)) else { return };
        let turn = match disk.broken {
            Some(_) => disk.health.fail(self.now),
            None => disk.health.beat(self.now, &patience, needed),
        };
        let first = !std::mem::replace(&mut disk.announced, true);
        let text = format!("{} (disk {id}) at {}", disk.row.domain, disk.row.address);
        let fields = vec![("disk", id.to_string()), ("domain", disk.row.domain.clone())];
        let other = disk.lineage.map(|known| known.life.number).filter(|_| disk.claimed.is_some());
        let (cell, beat_every) = (cell.cell, self.config.beat_every);
        let reply = match other.filter(|number| Some(*number) != disk.claimed) {
            Some(life_number) => DaemonReply::WelcomeAs { cell, beat_every, life_number },
            None => DaemonReply::Welcome { cell, beat_every },
        };
        self.reply(asker, reply);
        if turn == Some(Turn::Back) {
            self.note(if first { "disk_registered" } else { "disk_back" }, text, fields);
            self.came_back(id);
        }
        self.note_held(id);
        self.watch(id);
    }

    pub(super) fn beat(
        &mut self,
        asker: Asker,
        id: DiskId,
        boot: u64,
        free_bytes: u64,
        broken: Option<String>,
        damaged: &[DamageReport],
    ) {
        let Some(disk) = self.disks.get_mut(&id).filter(|disk| disk.is_life_of(asker.peer, boot)) else {
            return self.reply(asker, DaemonReply::RegisterFirst);
        };
        disk.free_bytes = free_bytes;
        disk.broken = broken.or(disk.broken.take());
        let probe = disk.mute && !std::mem::replace(&mut disk.probing, disk.mute);
        let silent = disk.mute;
        self.reply(asker, DaemonReply::BeatTaken);
        if probe {
            self.call(id, NodeCall::Probe, NodeRequest::Info, Body::new(), self.config.pg.call_deadline);
        }
        if !silent {
            self.heard(id);
        }
        for report in damaged {
            if report.class == Class::Healthy.as_str() {
                self.fragment_sound(id, report.fragment);
            } else {
                self.fragment_damaged(id, report.fragment, &report.class);
            }
        }
        self.judge_limping();
        self.judge_quarantine();
    }

    fn heard(&mut self, id: DiskId) {
        let (patience, needed) = (self.patience(), self.is_held(id) && self.is_needed(id));
        let Some(disk) = self.disks.get_mut(&id) else { return };
        if let Some(reason) = &disk.broken {
            // It lives, and no sync will ever go well there: what it was to hold is built elsewhere at once.
            let why = format!("nothing can be stored on it: {reason}");
            let turn = disk.health.fail(self.now);
            return self.turned(id, turn, &why);
        }
        if disk.health.beat(self.now, &patience, needed) == Some(Turn::Back) {
            let text = format!("{} (disk {id}) answers again", disk.row.domain);
            let fields = vec![("disk", id.to_string()), ("domain", disk.row.domain.clone())];
            self.note("disk_back", text, fields);
            self.came_back(id);
        } else if disk.health.is_healthy() {
            self.tell_again(id);
        }
        self.note_held(id);
        self.watch(id);
    }

    /// The connection of a node ended.
    pub(super) fn node_gone(&mut self, peer: PeerId) {
        let Some(id) = self.peers.remove(&peer) else { return };
        let (deaf, patience) = (self.was_deaf_lately(), self.patience());
        let Some(disk) = self.disks.get_mut(&id).filter(|disk| disk.peer == Some(peer)) else { return };
        (disk.peer, disk.asker, disk.renewing) = (None, None, false);
        if !deaf {
            let turn = disk.health.cut_off(self.now, &patience);
            self.turned(id, turn, "its connection ended");
        }
        self.watch(id);
    }

    pub(super) fn disk_due(&mut self, id: DiskId) {
        loop {
            let patience = self.patience_of(id);
            let Some(disk) = self.disks.get_mut(&id) else { break };
            let before = disk.health.state();
            let turn = disk.health.tick(self.now, &patience);
            if disk.health.state() == before {
                break;
            }
            self.turned(id, turn, "it is silent");
        }
        self.look_past_grace(id);
        self.watch(id);
    }

    fn turned(&mut self, id: DiskId, turn: Option<Turn>, why: &str) {
        let Some(disk) = self.disks.get(&id) else { return };
        let fields = vec![
            ("disk", id.to_string()),
            ("domain", disk.row.domain.clone()),
            ("silent_ms", self.now.since(disk.health.last_heard()).0.to_string()),
        ];
        let text = format!("{} (disk {id}): {why}", disk.row.domain);
        match turn {
            Some(Turn::Suspected) => {
                self.note("disk_suspect", text, fields);
                self.tell_groups(id, false);
            }
            Some(Turn::Lost) => {
                self.note("disk_lost", text, fields);
                self.tell_groups(id, false);
            }
            Some(Turn::Down) => self.note("disk_down", text, fields),
            Some(Turn::Back) | None => {}
        }
    }

    /// A call to a node ended.
    pub(super) fn call_ended(&mut self, call: CallId, result: Result<(NodeReply, Body), CallError>) {
        let Some((id, what)) = self.calls.remove(&call) else { return };
        if matches!(what, NodeCall::Other) {
            // Whoever answered, it says nothing about the process that is registered.
            return self.other_answered(id, result);
        }
        let answered = result.is_ok();
        let mut proven = false;
        if let Some(disk) = self.disks.get_mut(&id) {
            proven = disk.mute && answered && disk.peer.is_some() && (disk.asker.is_none() || disk.renewing);
            disk.mute = !answered;
            if matches!(what, NodeCall::Probe) {
                disk.probing = false;
            }
        }
        if proven {
            self.heard(id);
        }
        match what {
            NodeCall::Owner { pg, call } => self.inbox.push_back((pg, PgEvent::Call { call, result })),
            NodeCall::Check { fragment } => self.checked(id, fragment, result),
            NodeCall::Guest { pg } => self.guest_answered(id, pg, &result),
            NodeCall::Probe | NodeCall::Scrub | NodeCall::Other => {}
        }
    }

    /// A reader's hint.
    pub(super) fn suspect(&mut self, asker: Asker, id: DiskId, fragment: FragmentKey) {
        self.reply(asker, DaemonReply::Noted);
        self.check(id, fragment);
    }

    /// Asks a node to judge one of its fragments.
    pub(super) fn check(&mut self, id: DiskId, fragment: FragmentKey) {
        let ours = self.owner(fragment.extent.pg()).is_some_and(|owner| owner.listed(fragment.extent).is_some());
        let healthy = self.disks.get(&id).is_some_and(|disk| disk.health.is_healthy());
        if ours && healthy && self.checking.len() < CHECKS_MAX && self.checking.insert((id, fragment)) {
            let request = NodeRequest::Check { fragment };
            // Reads a whole fragment, like a prepare writes one.
            let deadline = self.config.pg.prepare_deadline;
            self.call(id, NodeCall::Check { fragment }, request, Body::new(), deadline);
        }
    }

    fn checked(&mut self, id: DiskId, fragment: FragmentKey, result: Result<(NodeReply, Body), CallError>) {
        self.checking.remove(&(id, fragment));
        match result {
            Ok((NodeReply::Checked { class, healthy: false }, _)) => self.fragment_damaged(id, fragment, &class),
            Ok((NodeReply::Refused(Refusal::NotFound), _)) => self.fragment_damaged(id, fragment, "missing"),
            Ok((NodeReply::Refused(Refusal::Damaged(class)), _)) => self.fragment_damaged(id, fragment, &class),
            _ => {}
        }
    }

    /// A node says that a fragment of its own does not count.
    fn fragment_damaged(&mut self, id: DiskId, fragment: FragmentKey, class: &str) {
        let (extent, pg) = (fragment.extent, fragment.extent.pg());
        let owes = |coordinator: &Self| {
            let owner = coordinator.owner(pg)?;
            let index = owner.row()?.index_held_or_joined(id)?;
            owner.listed(extent).filter(|_| index == fragment.index)
        };
        if owes(self).is_none() {
            return;
        }
        if self.damaged.insert((id, extent)) {
            let text = format!("fragment {} of extent {extent} on {} is {class}", fragment.index, self.who(id));
            let fields = vec![
                ("extent", extent.to_string()),
                ("index", fragment.index.to_string()),
                ("disk", id.to_string()),
                ("class", class.to_owned()),
            ];
            self.note("fragment_damaged", text, fields);
        }
        self.inbox.push_back((pg, PgEvent::Damaged { disk: id, extent }));
        self.mark_dirty(pg);
    }

    /// A node has found sound what it had called damaged: an error of a device that came back, say. It counts once a listing has it.
    fn fragment_sound(&mut self, id: DiskId, fragment: FragmentKey) {
        let pg = fragment.extent.pg();
        self.fragment_healed(id, fragment.extent, fragment.index);
        self.inbox.push_back((pg, PgEvent::Sound { disk: id, extent: fragment.extent }));
        self.mark_dirty(pg);
    }

    /// A fragment counts again.
    pub(super) fn fragment_healed(&mut self, id: DiskId, extent: ExtentKey, index: u16) {
        if self.damaged.remove(&(id, extent)) {
            let text = format!("fragment {index} of extent {extent} on {} is sound again", self.who(id));
            let fields = vec![("extent", extent.to_string()), ("index", index.to_string()), ("disk", id.to_string())];
            self.note("fragment_healed", text, fields);
        }
    }

    /// A disk, as a person knows it.
    pub(super) fn who(&self, id: DiskId) -> String {
        self.disks.get(&id).map_or_else(|| format!("disk {id}"), |disk| format!("{} (disk {id})", disk.row.domain))
    }

    pub(super) fn scrub(&mut self, asker: Asker) {
        let healthy: Vec<DiskId> =
            self.disks.iter().filter(|(_, disk)| disk.health.is_healthy()).map(|(id, _)| *id).collect();
        for id in healthy {
            self.call(id, NodeCall::Scrub, NodeRequest::Scrub, Body::new(), self.config.pg.call_deadline);
        }
        self.reply(asker, DaemonReply::Noted);
    }

    /// Tells every placement group whether this disk can be reached.
    pub(super) fn tell_groups(&mut self, id: DiskId, reachable: bool) {
        let groups: Vec<PgId> = self.groups.keys().copied().collect();
        for pg in groups {
            // Also those it does not belong to (any more): it may have to put files of theirs aside.
            let event = if reachable { PgEvent::Reachable { disk: id } } else { PgEvent::Unreachable { disk: id } };
            self.inbox.push_back((pg, event));
            if self.owner(pg).and_then(|owner| owner.row()).is_none_or(|row| row.index_held_or_joined(id).is_some()) {
                self.refresh_at_once(pg);
            }
        }
        self.seek_homes();
        if reachable {
            self.guest_came(id);
        }
    }

    /// An owner whose call to a disk failed takes it for unreachable; the disk's beats say otherwise.
    fn tell_again(&mut self, id: DiskId) {
        for (pg, group) in &self.groups {
            if group.view.unreachable.contains(&id) {
                self.inbox.push_back((*pg, PgEvent::Reachable { disk: id }));
            }
        }
    }

    /// Tells a new owner of the disks that are known to answer.
    pub(super) fn tell_reachability(&mut self, pg: PgId) {
        for (id, disk) in &self.disks {
            if disk.health.is_healthy() {
                self.inbox.push_back((pg, PgEvent::Reachable { disk: *id }));
            }
        }
    }
}
