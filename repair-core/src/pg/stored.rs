//! Bringing members to the row. One such call at a time to each disk.

use super::effect::CallId;
use super::group::{Asked, Group, What};
use super::member::{Adopting, Member, Order, Reach};
use super::prove::Page;
use crate::id::{DiskId, ExtentKey};
use crate::limits::{LIST_PAGE_MAX, MESSAGE_BYTES_MAX};
use crate::node::Body;
use crate::time::{Millis, Time};
use crate::wire::codec::encode_message;
use crate::wire::node::{Head, Listed, Shaped, Tombstone};
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};

/// Bytes of a list's line and of a tombstone in a message.
const LISTED_BYTES: usize = 48;
const TOMBSTONE_BYTES: usize = 24;
/// And of what says of which files a record is.
const SHAPED_BYTES: usize = 59;
/// Room in a message for what is neither row nor list.
const SPARE_BYTES: usize = 1024;

/// What a disk is to be asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Look,
    Fence,
    Hear,
    Adopt,
}

impl Group {
    /// Asks every disk that is not busy what is next for it.
    pub(super) fn drive_members(&mut self) {
        let disks: Vec<DiskId> = self.members.keys().copied().collect();
        for disk in disks {
            self.mark_if_not_level(disk);
            let due = self.members.get(&disk).is_some_and(|member| member.next_try <= self.now);
            if let Some(next) = self.next_for(disk).filter(|_| due) {
                self.ask_next(disk, next);
            }
        }
    }

    pub(super) fn next_of_members(&self) -> Option<Time> {
        let waiting = self.members.values().filter(|member| self.next_for(member.disk).is_some());
        waiting.map(|member| member.next_try).filter(|at| *at > self.now).min()
    }

    /// A member whose list does not come to the row, whatever the row says of it, is behind: say so in the row (line 5).
    fn mark_if_not_level(&mut self, disk: DiskId) {
        let Some(member) = self.members.get(&disk) else { return };
        let told = member.answers() && member.told == Some(self.row.order());
        let excused = self.row.index_of(disk).is_none() || self.row.behind.contains(&disk);
        if self.may_change() && told && !member.level && !excused {
            self.to_mark.insert(disk);
        }
    }

    fn next_for(&self, disk: DiskId) -> Option<Next> {
        let member = self.members.get(&disk)?;
        if member.busy.is_some() || member.reach == Reach::No {
            return None;
        }
        if !member.accepted {
            // A token that a member has taken it keeps: none is given away on a row that may be an old one.
            if self.is_new || (self.proceeds && self.doubt.is_none() && self.has_looked()) {
                return Some(Next::Fence);
            }
            return member.looked.is_none().then_some(Next::Look);
        }
        if !self.is_ready() {
            return (member.told != Some(self.row.order())).then_some(Next::Hear);
        }
        if member.adopting.is_some() {
            return Some(Next::Adopt);
        }
        // One that failed, in whatever it was asked, is asked what costs least until it answers: nothing else is until then.
        if member.told != Some(self.row.order()) || member.is_failing() {
            return Some(Next::Hear);
        }
        if !member.level {
            let excused = self.row.index_of(disk).is_none() || self.row.behind.contains(&disk);
            return (excused && self.may_change()).then_some(Next::Adopt);
        }
        None
    }

    fn ask_next(&mut self, disk: DiskId, next: Next) {
        let authority = Box::new(self.authority());
        let (what, request) = match next {
            Next::Look => {
                let (pg, after) = (self.row.pg, Some(ExtentKey(u128::MAX)));
                (What::Look, NodeRequest::List { pg, after })
            }
            Next::Fence => (What::Fence, NodeRequest::Fence { authority }),
            Next::Hear => (What::Hear, NodeRequest::Hear { authority }),
            Next::Adopt => match self.next_page(disk) {
                Some(page) => page,
                None => return,
            },
        };
        let call = self.send(disk, what, request, Body::new(), self.config.call_deadline);
        let Some(member) = self.members.get_mut(&disk) else { return };
        member.busy = Some(call);
        // A page carries the row of the snapshot it is of.
        if let (Some(adopting), Some(asked)) = (&member.adopting, self.calls.get_mut(&call)) {
            asked.sent = adopting.authority.row.order();
        }
    }

    /// The next page of the list for a disk, cut so that it fits a message beside the row.
    fn next_page(&mut self, disk: DiskId) -> Option<(What, NodeRequest)> {
        if self.members.get(&disk)?.adopting.is_none() {
            let listed = self.list.iter().map(|(extent, hash)| Listed { extent: *extent, hash: *hash }).collect();
            let kept = self.tombstones.iter().filter(|(_, seq)| **seq > self.row.trim);
            let tombstones = kept.map(|(extent, seq)| Tombstone { extent: *extent, seq: *seq }).collect();
            let shapes = self.shaped();
            let is_shaped = !shapes.is_empty();
            let adopting = Adopting { authority: self.authority(), listed, tombstones, shapes, is_shaped, page: 0 };
            self.members.get_mut(&disk)?.adopting = Some(adopting);
        }
        let adopting = self.members.get_mut(&disk)?.adopting.as_mut()?;
        Some(adopting.next_page())
    }

    /// An answer of a node, or none.
    pub(super) fn on_call(&mut self, call: CallId, result: Result<(NodeReply, Body), CallError>) {
        let Some(asked) = self.calls.remove(&call) else { return };
        if let Some(member) = self.members.get_mut(&asked.disk) {
            member.busy = member.busy.filter(|busy| *busy != call);
            member.listing = member.listing.filter(|listing| *listing != call);
            member.digest = member.digest.filter(|digest| *digest != call);
        }
        if let Ok((NodeReply::Refused(refusal), _)) = &result {
            self.heed(&asked, refusal);
        }
        if self.is_ended() {
            return;
        }
        let answer = result.map(|(reply, _)| reply);
        match asked.what {
            What::Prepare(attempt) => self.on_prepare_answer(asked, attempt, answer),
            What::Abort(attempt) => self.on_abort_answer(asked, attempt, answer),
            What::Retire => self.on_retire_answer(asked, answer),
            What::Holdings => self.on_holdings(asked.disk, answer),
            What::Digest => self.on_digest(asked.disk, answer),
            What::Look | What::Fence | What::Hear | What::Adopt(_) | What::List => self.on_member(asked, answer),
        }
    }

    /// Refusals that say something about the group and not only about the call.
    fn heed(&mut self, asked: &Asked, refusal: &Refusal) {
        match refusal {
            Refusal::Fenced(text) => {
                self.doubt = Some(format!("disk {} refused our token: {text}", asked.disk));
            }
            // Of a row that was current when the answer came; else our own later message was there first.
            Refusal::OldRow(text) if asked.sent == self.row.order() => {
                self.doubt = Some(format!("disk {} heard a later row: {text}", asked.disk));
            }
            Refusal::Fork(text) => {
                self.doubt = Some(format!("disk {} heard the same row with another content: {text}", asked.disk));
            }
            _ => {}
        }
    }

    fn on_member(&mut self, asked: Asked, answer: Result<NodeReply, CallError>) {
        let disk = asked.disk;
        match (asked.what, answer) {
            (What::Fence | What::Hear | What::Adopt(true), Ok(NodeReply::Heard(head))) => self.on_heard(asked, head),
            (What::Adopt(false), Ok(NodeReply::AdoptedPage)) => self.with(disk, Member::answered),
            (What::Look, Ok(NodeReply::ListPage { heard, .. } | NodeReply::ShapedPage { heard, .. })) => {
                self.on_look(disk, heard)
            }
            (What::List, Ok(NodeReply::ListPage { heard, listed, more })) => {
                self.with(disk, Member::answered);
                self.on_list_page(disk, heard, Page { listed, shapes: Vec::new(), more });
            }
            (What::List, Ok(NodeReply::ShapedPage { heard, listed, shapes, more })) => {
                self.with(disk, Member::answered);
                self.on_list_page(disk, heard, Page { listed, shapes, more });
            }
            (what, answer) => self.on_member_failed(disk, what, asked.sent, answer),
        }
    }

    /// Only we write the row since it was claimed: what is later was written on another catalog.
    fn on_look(&mut self, disk: DiskId, heard: Order) {
        self.with(disk, |member| {
            member.answered();
            member.looked = Some(heard);
        });
        let row = self.row.order();
        if heard > row && !self.agreed {
            let text = format!("disk {disk} heard row {}.{}, the catalog has {}.{}", heard.0, heard.1, row.0, row.1);
            self.doubt = Some(text);
        }
    }

    fn with(&mut self, disk: DiskId, act: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(&disk) {
            act(member);
        }
    }

    fn on_member_failed(&mut self, disk: DiskId, what: What, sent: Order, answer: Result<NodeReply, CallError>) {
        let again = self.now + self.config.retry_after;
        let current = self.row.order();
        self.proof.failed(disk, what, again);
        let Some(member) = self.members.get_mut(&disk) else { return };
        member.next_try = again;
        if matches!(what, What::Adopt(_)) {
            member.adopting = None;
        }
        match answer {
            Ok(NodeReply::Refused(Refusal::OldRow(_))) if sent != current => member.next_try = self.now,
            // It answers, so it is there; its list is what is wrong.
            Ok(NodeReply::Refused(Refusal::Behind(_))) => {
                member.answered();
                (member.told, member.level, member.stored) = (Some(sent), false, None);
            }
            answer => member.failed(answer),
        }
        if member.is_failing() {
            self.changed = true;
        }
    }

    /// A member accepted our token and says where its list stands. Only from here on does anything it says count.
    fn on_heard(&mut self, asked: Asked, head: Head) {
        let current = self.row.order();
        let (count, sum) = (self.row.count, self.row.sum);
        let Some(member) = self.members.get_mut(&asked.disk) else { return };
        let was = (member.accepted, member.level, member.is_failing());
        member.answered();
        (member.accepted, member.remembers) = (true, head.heard != (0, 0));
        member.told = Some(asked.sent);
        if matches!(asked.what, What::Adopt(_)) {
            member.adopting = None;
        }
        // What it calls level must be what we call so: the very row, and the very sum.
        let same = asked.sent != current || (head.count, head.sum) == (count, sum);
        member.level = head.level && head.heard == asked.sent && same;
        member.stored = member.level.then_some(asked.sent);
        if matches!(asked.what, What::Adopt(_)) && !member.level {
            member.next_try = self.now + self.config.retry_after;
        }
        // A connection begun anew, or a list that is not the row's: it may be another than the one that prepared. At other times
        // a prepare may have overtaken this word.
        let may_have_forgotten = !member.level || matches!(asked.what, What::Fence | What::Adopt(_));
        if was != (true, member.level, false) {
            self.changed = true;
        }
        // Any so many meet any m + 1, and m + 1 have stored every entry that has left a row: one of them would have refused.
        self.agreed |= self.agreeing() >= self.k();
        if !self.is_ready() {
            self.proof.heard(asked.disk, head.prepared.clone());
        }
        if may_have_forgotten {
            self.take_back_prepared(asked.disk, &head.prepared);
        }
        self.plan_trim();
        self.heed_leftovers(asked.disk, &head.prepared);
    }
}

impl Adopting {
    pub(super) fn next_page(&mut self) -> (What, NodeRequest) {
        let row_bytes = encode_message(&self.authority).map_or(MESSAGE_BYTES_MAX / 2, |bytes| bytes.len());
        let room = MESSAGE_BYTES_MAX.saturating_sub(row_bytes + SPARE_BYTES);
        // A row is at most half a message (256 members, 256 entries), so there is always room for some.
        let lines = (room / LISTED_BYTES).clamp(1, LIST_PAGE_MAX).min(self.listed.len());
        let rest = room.saturating_sub(lines * LISTED_BYTES) / TOMBSTONE_BYTES;
        let stones = rest.min(LIST_PAGE_MAX).min(self.tombstones.len());
        let rest = rest.saturating_sub(stones) * TOMBSTONE_BYTES / SHAPED_BYTES;
        let kinds = rest.min(LIST_PAGE_MAX).min(self.shapes.len());
        let shapes: Vec<Shaped> = self.shapes.drain(..kinds).collect();
        let listed: Vec<Listed> = self.listed.drain(..lines).collect();
        let tombstones: Vec<Tombstone> = self.tombstones.drain(..stones).collect();
        let left = self.listed.len() + self.tombstones.len() + self.shapes.len();
        let (page, last) = (self.page, left == 0);
        self.page += 1;
        let authority = Box::new(self.authority.clone());
        let request = if self.is_shaped {
            NodeRequest::AdoptShaped { authority, page, last, listed, tombstones, shapes }
        } else {
            NodeRequest::Adopt { authority, page, last, listed, tombstones }
        };
        (What::Adopt(last), request)
    }
}

impl Group {
    /// When an idle group may drop what every member has stored.
    pub(super) fn plan_trim(&mut self) {
        if self.trim_at.is_none() && self.is_ready() && self.frozen.is_none() && self.could_trim() {
            self.trim_at = Some(self.now + Millis(super::write::TRIM_AFTER_MS));
        }
    }
}
