//! The invariants, held against the world after each event that could break them.

use super::counts::Path;
use super::mode::Broken;
use super::mutation::Mutation;
use super::node::Promise;
use super::oracle::{PgTruth, RowWritten};
use super::world::World;
use repair_core::catalog::{Entry, EntryKind, PgRow};
use repair_core::coordinator::Note;
use repair_core::id::{DiskId, ExtentKey, PgId};
use repair_core::invariant::{Invariant, MemberView, Violation, comes_to, entries_stored, some_list_sums, tokens_rise};
use repair_core::node::{StoreCall, StoreError, StoreOk};
use repair_core::wire::Refusal;
use repair_core::wire::node::{FragmentKey, NodeReply, Prepared};

/// A member's prepared changes, in order.
type Changes = Vec<Prepared>;

impl World {
    fn changes(&self, node: usize, pg: PgId) -> Changes {
        self.nodes[node].machine.prepared(pg).map(|prepared| prepared.values().copied().collect()).unwrap_or_default()
    }

    fn view<'a>(&'a self, node: usize, pg: PgId, prepared: &'a [Prepared]) -> Option<MemberView<'a>> {
        let host = &self.nodes[node];
        let list = host.machine.list(pg)?;
        let heard = host.machine.heard(pg).map_or((0, 0), PgRow::order);
        Some(MemberView { disk: host.disk.id, heard, list, prepared })
    }

    /// Whether a disk's list has come to the row, or comes to it by the row's entries.
    pub fn is_level(&self, disk: DiskId, row: &PgRow) -> bool {
        self.node_of(disk).is_some_and(|node| match self.view(node, row.pg, &[]) {
            Some(view) => comes_to(&view, row),
            None => {
                row.count == 0
                    || comes_to(&MemberView { disk, heard: (0, 0), list: &Default::default(), prepared: &[] }, row)
            }
        })
    }

    /// A PG row was written.
    pub fn check_row(&mut self, written: &RowWritten) {
        if let Some(truth) = self.oracle.pgs.get(&written.pg) {
            self.counts.row(written.before.as_ref(), &truth.row);
        }
        let held = self.row_holds(written);
        self.judge(held);
        self.check_pg(written.pg);
    }

    fn row_holds(&self, written: &RowWritten) -> Result<(), Violation> {
        let Some(truth) = self.oracle.pgs.get(&written.pg) else { return Ok(()) };
        let row = &truth.row;
        let parity = self.profile.code.n() - self.profile.code.k();
        if let Some(before) = &written.before {
            entries_stored(before, row, parity, |disk, entry| self.has_stored(disk, row, entry))?;
        }
        let before = written.before.as_ref();
        for (index, member) in (0..).zip(&row.members) {
            let was_level =
                before.is_none_or(|before| before.index_of(*member).is_some() && !before.behind.contains(member));
            if !was_level && !row.behind.contains(member) {
                self.counted_again(row, *member, index)?;
            }
        }
        let seen = before.map_or(0, |before| before.seq);
        for entry in row.entries.iter().filter(|entry| entry.seq > seen && entry.kind == EntryKind::Create) {
            for (index, member) in (0..).zip(&row.members) {
                if !row.behind.contains(member) {
                    self.holds_owed(row.pg, *member, entry.extent, index, Invariant::OwedHeld)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a member's list has the change, or the disk is so hurt that nothing follows.
    fn has_stored(&self, disk: DiskId, row: &PgRow, entry: &Entry) -> bool {
        let Some(node) = self.node_of(disk) else { return true };
        if self.nodes[node].injured_journals.contains(&row.pg) {
            return true;
        }
        let later_deleted = |extent| self.oracle.listed(extent).is_none();
        let list = self.nodes[node].machine.list(row.pg);
        match entry.kind {
            EntryKind::Create | EntryKind::CreateOther => {
                list.is_some_and(|list| list.contains_key(&entry.extent)) || later_deleted(entry.extent)
            }
            EntryKind::Delete => list.is_none_or(|list| !list.contains_key(&entry.extent)),
            // Another may have taken its place since, and then that is what the list has.
            EntryKind::Supersede => {
                let now = self.oracle.listed(entry.extent);
                list.is_some_and(|list| list.get(&entry.extent).copied() == now) || later_deleted(entry.extent)
            }
            EntryKind::Release => {
                let former = self.nodes[node].machine.former(entry.extent);
                former.is_none_or(|former| former.hash != entry.hash)
            }
        }
    }

    /// A member that counts from now on has the list and all it owes.
    fn counted_again(&self, row: &PgRow, member: DiskId, index: u16) -> Result<(), Violation> {
        let Some(truth) = self.oracle.pgs.get(&row.pg) else { return Ok(()) };
        if self.node_of(member).is_none() {
            // The disk was replaced while its answers were under way.
            return Ok(());
        }
        let excused = self.node_of(member).is_some_and(|node| self.nodes[node].injured_journals.contains(&row.pg));
        if !excused && !self.is_level(member, row) {
            let what =
                format!("pg {} seq {}: disk {member} counts and its list does not come to the row", row.pg, row.seq);
            return Err(Violation::new(Invariant::LevelBeforeCounted, what));
        }
        truth
            .list
            .keys()
            .try_for_each(|extent| self.holds_owed(row.pg, member, *extent, index, Invariant::LevelBeforeCounted))
    }

    fn holds_owed(
        &self,
        pg: PgId,
        disk: DiskId,
        extent: ExtentKey,
        index: u16,
        invariant: Invariant,
    ) -> Result<(), Violation> {
        // A disk that is no more was replaced by a fault.
        let Some(node) = self.node_of(disk) else { return Ok(()) };
        let fragment = FragmentKey { extent, generation: 1, index };
        let Some(hash) = self.oracle.listed(extent) else { return Ok(()) };
        if self.nodes[node].injured.contains(&fragment) || self.nodes[node].disk.holds(fragment, &hash) {
            return Ok(());
        }
        let what = format!("pg {pg}: node {node} does not hold fragment {index} of {extent}, which it owes");
        Err(Violation::new(invariant, what))
    }

    /// Some list sums to the group's row; each member that is not behind comes to it.
    pub fn check_pg(&mut self, pg: PgId) {
        let held = self.pg_holds(pg);
        self.judge(held);
    }

    fn pg_holds(&self, pg: PgId) -> Result<(), Violation> {
        let Some(truth) = self.oracle.pgs.get(&pg) else { return Ok(()) };
        let row = &truth.row;
        let disks = || row.members.iter().chain(row.joining.values());
        let nodes: Vec<usize> = disks().filter_map(|disk| self.node_of(*disk)).collect();
        let prepared: Vec<Changes> = nodes.iter().map(|node| self.changes(*node, pg)).collect();
        let views = nodes.iter().zip(&prepared).filter_map(|(node, prepared)| self.view(*node, pg, prepared));
        some_list_sums(row, views)?;
        for disk in row.members.iter().filter(|disk| !row.behind.contains(disk)) {
            let Some(node) = self.node_of(*disk) else { continue };
            if self.nodes[node].injured_journals.contains(&pg) {
                continue;
            }
            if !self.is_level(*disk, row) && !self.heard_more(node, row) {
                let heard = self.nodes[node].machine.heard(pg).map(PgRow::order);
                let what = format!(
                    "pg {pg} seq {}: node {node} is not behind, heard {heard:?}, and its list does not come to the row",
                    row.seq
                );
                return Err(Violation::new(Invariant::OwedHeld, what));
            }
        }
        Ok(())
    }

    fn heard_more(&self, node: usize, row: &PgRow) -> bool {
        self.nodes[node].machine.heard(row.pg).is_some_and(|heard| heard.order() > row.order())
    }

    /// A node's state may have changed.
    pub fn check_node(&mut self, node: usize) {
        let disk = self.nodes[node].disk.id;
        let pgs: Vec<PgId> = self.nodes[node].machine.pgs().collect();
        for pg in pgs {
            // A journal that was hurt counts again when its list has come to the row.
            if self.nodes[node].injured_journals.contains(&pg) {
                let level = self.oracle.pgs.get(&pg).is_some_and(|truth| self.is_level(disk, &truth.row));
                let heard = self.nodes[node].machine.heard(pg).map(PgRow::order);
                let up_to_date = self.oracle.pgs.get(&pg).is_some_and(|truth| heard == Some(truth.row.order()));
                if level && up_to_date && self.nodes[node].life().is_some() {
                    self.nodes[node].injured_journals.remove(&pg);
                    self.counts.path(Path::JournalRebuilt);
                }
            }
        }
    }

    /// A node is about to say something about a group.
    pub fn check_reply(&mut self, node: usize, pg: Option<PgId>, reply: &NodeReply) {
        let Some(pg) = pg else { return };
        let host = &mut self.nodes[node];
        match reply {
            NodeReply::Prepared { attempt } => {
                host.promises.insert(Promise { pg, attempt: *attempt });
            }
            NodeReply::Aborted { attempt } => {
                host.promises.retain(|promise| promise.attempt != *attempt);
                self.counts.path(Path::ChangeAborted);
            }
            NodeReply::Refused(Refusal::Fenced(_)) => return self.counts.path(Path::OldOwnerFenced),
            NodeReply::Heard(_) => drop(host.expelled.remove(&pg)),
            _ => return,
        }
        let disk = host.disk.id;
        if let Some(token) = host.machine.token(pg)
            && let Some(before) = host.tokens.insert(pg, token)
        {
            if before.claim != token.claim {
                self.counts.path(Path::OwnerTakenOver);
            }
            self.judge(tokens_rise(disk, &before, &token));
        }
    }

    /// A node stopped: what it had said to be durable is there.
    pub fn check_restart(&mut self, node: usize) {
        let held = self.restart_holds(node);
        self.judge(held);
        let pgs: Vec<PgId> = self.oracle.pgs.keys().copied().collect();
        pgs.into_iter().for_each(|pg| self.check_pg(pg));
    }

    fn restart_holds(&self, node: usize) -> Result<(), Violation> {
        let host = &self.nodes[node];
        let reserved: Vec<FragmentKey> = host.machine.kept().map(|(fragment, _)| fragment).collect();
        if let Some(stray) = host.disk.kept().into_iter().find(|fragment| !reserved.contains(fragment)) {
            let what = format!("node {node} keeps {stray:?} staged, and no reservation lives");
            return Err(Violation::new(Invariant::AnswersDurable, what));
        }
        let hurt = |pg: &PgId| host.injured_journals.contains(pg);
        for (pg, before) in host.tokens.iter().filter(|(pg, _)| !hurt(pg)) {
            match host.machine.token(*pg) {
                Some(after) => tokens_rise(host.disk.id, before, &after)?,
                None => {
                    let what = format!("node {node} has forgotten its token of pg {pg}");
                    return Err(Violation::new(Invariant::TokensRise, what));
                }
            }
        }
        for promise in host.promises.iter().filter(|promise| !hurt(&promise.pg)) {
            let kept =
                host.machine.prepared(promise.pg).is_some_and(|prepared| prepared.contains_key(&promise.attempt));
            let later_owner = host.machine.token(promise.pg).is_some_and(|token| token.claim != promise.attempt.claim);
            let heard = host.machine.heard(promise.pg);
            let live = self.oracle.pgs.get(&promise.pg).is_some_and(|truth| {
                let counts = truth.row.index_of(host.disk.id).is_some() && !truth.row.behind.contains(&host.disk.id);
                let ends = truth.row.entries.iter().any(|entry| entry.attempt == promise.attempt);
                counts
                    && ends
                    && heard.is_none_or(|heard| heard.order() < truth.row.order())
                    && !self.is_level(host.disk.id, &truth.row)
            });
            if !kept && live && !later_owner {
                let what = format!("node {node} has forgotten attempt {} of pg {}", promise.attempt, promise.pg);
                return Err(Violation::new(Invariant::AnswersDurable, what));
            }
        }
        for (pg, truth) in &self.oracle.pgs {
            let Some(index) = truth.row.index_of(host.disk.id).filter(|_| !truth.row.behind.contains(&host.disk.id))
            else {
                continue;
            };
            for extent in truth.list.keys() {
                self.holds_owed(*pg, host.disk.id, *extent, index, Invariant::OwedHeld)?;
            }
        }
        Ok(())
    }

    /// Reads the journals of a node that is down again, after a fault changed them.
    pub fn reread_journals(&mut self, node: usize) {
        let now = self.queue.now().time();
        let config = self.profile.node;
        let host = &mut self.nodes[node];
        host.machine = repair_core::node::Node::new(config);
        host.reread(now, String::new(), super::node::address(node));
        let hurt: Vec<PgId> = host.injured_journals.iter().copied().collect();
        host.tokens.retain(|pg, _| !hurt.contains(pg));
    }

    /// A store operation is about to happen.
    pub fn check_before_store(&mut self, node: usize, call: &StoreCall) {
        let held = match call {
            StoreCall::Quarantine { fragment, reason } => self.quarantine_holds(node, *fragment, reason),
            StoreCall::FinishStage { key, record } => {
                self.oracle.saw_record(key.extent, repair_core::id::RecordHash::of(record))
            }
            _ => Ok(()),
        };
        self.judge(held);
    }

    fn quarantine_holds(&self, node: usize, fragment: FragmentKey, reason: &str) -> Result<(), Violation> {
        let host = &self.nodes[node];
        let Some(hash) = self.oracle.listed(fragment.extent) else { return Ok(()) };
        let Some(truth) = self.oracle.pgs.get(&fragment.extent.pg()) else { return Ok(()) };
        // A row that the node has not heard yet may have made it a joining disk; it counts only after what is in work there.
        let index = if host.expelled.contains(&truth.row.pg) {
            truth.row.index_of(host.disk.id)
        } else {
            truth.row.index_held_or_joined(host.disk.id)
        };
        let owed = index == Some(fragment.index);
        if owed && host.disk.holds(fragment, &hash) {
            let what = format!("node {node} puts a sound fragment aside that the list names: {fragment:?}, {reason}");
            return Err(Violation::new(Invariant::QuarantineHasReason, what));
        }
        Ok(())
    }

    /// A store operation has happened.
    pub fn check_after_store(&mut self, node: usize, call: &StoreCall, result: &Result<StoreOk, StoreError>) {
        match (call, result) {
            (StoreCall::PublishStage { key }, Ok(StoreOk::Published(true))) => {
                let fragment = FragmentKey { extent: key.extent, generation: 1, index: key.index };
                let host = &mut self.nodes[node];
                let named = host.disk.names().get(&fragment);
                let sound = named.is_some_and(|named| named.sound(fragment).is_some());
                let excused = host.was_lossy(key);
                // A page of zeros that was lost is no loss.
                if !sound && excused {
                    host.injured.insert(fragment);
                } else if !sound {
                    let what = format!("node {node} published {fragment:?}, which is not what its root says");
                    self.judge(Err(Violation::new(Invariant::PublishedIsRoot, what)));
                }
            }
            (StoreCall::SyncFolder { pg }, Ok(_)) => {
                let host = &mut self.nodes[node];
                let is_whole = |fragment: &FragmentKey| {
                    let named = host.disk.names().get(fragment);
                    named.is_some_and(|named| named.is_named_durably && named.sound(*fragment).is_some())
                };
                host.injured.retain(|fragment| fragment.extent.pg() != *pg || !is_whole(fragment));
            }
            (StoreCall::AppendJournal { pg, .. } | StoreCall::ReplaceJournal { pg, .. }, _) => {
                let pg = *pg;
                self.check_pg(pg);
            }
            _ => (),
        }
    }

    /// A daemon said something for operators.
    pub fn check_note(&mut self, daemon: usize, note: &Note) {
        if note.kind == "pg_frozen" {
            let what = format!("daemon {daemon}: {}", note.text);
            self.judge(Err(Violation::new(Invariant::NothingFreezes, what)));
        }
        // Encoders are sound here, and what rots or is lost on disks has no CRC of its own.
        if note.kind == "audit_found_wrong" {
            let what = format!("daemon {daemon}: {}", note.text);
            self.judge(Err(Violation::new(Invariant::ReportsAreTrue, what)));
        }
        if note.kind == "redundancy_full" && self.holder() == Some(daemon) {
            self.check_report(daemon);
        }
    }

    /// Whether every group has all its members level, holding all they owe, on disks that are there.
    pub fn is_whole(&self) -> bool {
        self.flaw().is_none()
    }

    /// What is missing to full redundancy; where nodes are broken for ever, to as much of it as the others can have.
    pub fn flaw(&self) -> Option<String> {
        let has_racks = self.broken.is_empty() || self.has_racks_enough();
        self.oracle.pgs.values().find_map(|truth| self.flaw_of(truth, has_racks))
    }

    fn flaw_of(&self, truth: &PgTruth, has_racks: bool) -> Option<String> {
        let row = &truth.row;
        let broken = |disk: &DiskId| match self.node_of(*disk) {
            Some(node) => self.broken.get(&node).copied(),
            // Beside nodes that are broken for ever there may be nowhere to build what a disk had that is no more.
            None => (!self.broken.is_empty()).then_some(Broken::Off),
        };
        let counts = |disk: &&DiskId| broken(disk).is_none();
        if row.behind.iter().any(|disk| counts(&disk)) || !row.joining.is_empty() {
            return Some(format!("pg {}: behind {:?} joining {:?}", row.pg, row.behind, row.joining));
        }
        (0..).zip(&row.members).find_map(|(index, member)| {
            if let Some(how) = broken(member) {
                // One that comes back now and then may stay.
                let must_go = has_racks && how != Broken::Flapping;
                return must_go.then(|| format!("pg {}: disk {member}, broken for ever, is a member: {how:?}", row.pg));
            }
            if !self.is_level(*member, row) {
                return Some(format!("pg {}: disk {member} is not level", row.pg));
            }
            let lacks = |extent: &&ExtentKey| !self.has_unhurt(*member, **extent, index);
            let lacking = truth.list.keys().find(lacks)?;
            Some(format!("pg {}: disk {member} has no fragment {index} of {lacking}", row.pg))
        })
    }

    /// What a daemon says is judged by the rows it knows: one that it writes at this moment may be applied and not told to it.
    fn check_report(&mut self, daemon: usize) {
        if self.mutation == Some(Mutation::BehindSaysLevel) {
            return;
        }
        let Some(coordinator) = &self.daemons[daemon].coordinator else { return };
        let knows = |row: &PgRow| self.oracle.pgs.get(&row.pg).is_none_or(|truth| truth.row.order() == row.order());
        let lacking =
            |row: &&PgRow| !row.behind.is_empty() || !row.joining.is_empty() || (knows(row) && self.lost_journals(row));
        let rows: Vec<&PgRow> = coordinator.owners().filter_map(|(_, owner)| owner.row()).collect();
        let flawed = rows.iter().copied().find(lacking).map(|row| format!("pg {} is not", row.pg));
        let known = rows.iter().copied().filter(|row| knows(row));
        let held = known.map(|row| self.all_held(row)).find_map(Result::err);
        if let Some(what) = flawed.or(held.map(|violation| violation.what)) {
            let what = format!("daemon {daemon} says that redundancy is full; {what}");
            self.judge(Err(Violation::new(Invariant::ReportsAreTrue, what)));
        }
    }

    /// Whether every member has on its disk what the list says. What a fault took or hurt may not have been noticed yet.
    fn all_held(&self, row: &PgRow) -> Result<(), Violation> {
        let Some(truth) = self.oracle.pgs.get(&row.pg) else { return Ok(()) };
        (0..).zip(&row.members).try_for_each(|(index, member)| {
            let held = |extent| self.holds_owed(row.pg, *member, extent, index, Invariant::ReportsAreTrue);
            truth.list.keys().try_for_each(|extent| held(*extent))
        })
    }

    /// Whether a member runs, was not hurt meanwhile, and has a list that does not come to the row.
    fn lost_journals(&self, row: &PgRow) -> bool {
        row.members.iter().any(|disk| {
            self.node_of(*disk).is_some_and(|node| {
                let host = &self.nodes[node];
                host.life().is_some() && !host.injured_journals.contains(&row.pg) && !self.is_level(*disk, row)
            })
        })
    }
}
