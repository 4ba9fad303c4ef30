//! Whether disks still have what they were last counted to have, without counting: they sum the names in their folders, and a sum that is
//! not the one of the list calls for a count. So what somebody deleted silently is noticed without reading a fragment, for some hundred bytes.

use super::group::{Group, What};
use super::member::Member;
use crate::id::{DiskId, Sum};
use crate::node::Body;
use crate::shape::Shape;
use crate::time::Time;
use crate::wire::{CallError, NodeReply, NodeRequest};

impl Group {
    /// Asks every disk whose turn it is.
    pub(super) fn drive_digests(&mut self) {
        let due = |member: &&Member| member.next_digest <= self.now && self.wants_digest(member);
        let disks: Vec<DiskId> = self.members.values().filter(due).map(|member| member.disk).collect();
        for disk in disks {
            let request = NodeRequest::Digest { pg: self.row.pg };
            let call = self.send(disk, What::Digest, request, Body::new(), self.config.prepare_deadline);
            let next = self.now + self.config.digest_every;
            if let Some(member) = self.members.get_mut(&disk) {
                (member.digest, member.next_digest) = (Some(call), next);
            }
        }
    }

    pub(super) fn next_of_digests(&self) -> Option<Time> {
        let waiting = self.members.values().filter(|member| self.wants_digest(member));
        waiting.map(|member| member.next_digest).filter(|at| *at > self.now).min()
    }

    /// A disk that is being counted, or will be, tells more by that.
    fn wants_digest(&self, member: &Member) -> bool {
        let counted = member.missing.is_some() && !member.recount && member.counting.is_none();
        let free = member.listing.is_none() && member.digest.is_none() && member.adopting.is_none();
        self.is_ready() && self.frozen.is_none() && member.answers() && member.level && counted && free
    }

    /// What differs is counted: that tells what is missing, and is right where this was about another moment.
    pub(super) fn on_digest(&mut self, disk: DiskId, answer: Result<NodeReply, CallError>) {
        let Some(index) = self.row.index_held_or_joined(disk) else { return };
        let (order, soon) = (self.row.order(), self.now + self.config.retry_after);
        let Some(member) = self.members.get_mut(&disk) else { return };
        match answer {
            Ok(NodeReply::Digest { heard, count, sum }) if heard == order => {
                member.answered();
                let Some(missing) = &member.missing else { return };
                let birth = Shape::of_group(self.row.members.len());
                let shapes = &self.shapes;
                let names = self.list.keys().filter(|extent| !missing.contains(extent));
                let owed = names.filter_map(|extent| shapes.get(extent).unwrap_or(&birth).fragment(*extent, index));
                let hashes: Vec<_> = owed.map(|fragment| fragment.name_hash()).collect();
                member.recount |= (count, sum) != (hashes.len() as u64, Sum::of(&hashes));
                self.changed |= member.recount;
            }
            // Of another row than ours by now.
            Ok(NodeReply::Digest { .. }) => member.next_digest = soon,
            Ok(_) => {}
            Err(error) => member.failed(Err(error)),
        }
    }
}
