//! What travels in the simulation, and how it reads in a trace.

use repair_core::catalog::{EntryKind, Txn, Write};
use repair_core::id::{AttemptId, DiskId, ExtentKey};
use repair_core::node::{Body, StoreCall};
use repair_core::wire::node::{Authority, FragmentKey, StageKey};
use repair_core::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest};
use std::fmt::{self, Display};

/// A request.
#[derive(Clone, Debug)]
pub enum Question {
    /// Of a node.
    Node(NodeRequest),
    /// Of a daemon.
    Daemon(DaemonRequest),
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of a node.
    Node(NodeReply),
    /// Of a daemon.
    Daemon(DaemonReply),
}

/// What came of a request.
pub type Answered = Result<(Answer, Body), CallError>;

/// An extent, short: placement group and counter.
pub fn extent(key: ExtentKey) -> String {
    format!("x{}.{}", key.pg().0, key.counter())
}

/// A disk, short.
pub fn disk(id: DiskId) -> String {
    format!("d{:x}", id.0 >> 112)
}

fn attempt(id: AttemptId) -> String {
    format!("{:x}.{}", id.claim.0 >> 112, id.number)
}

fn fragment(key: &FragmentKey) -> String {
    format!("{}/{}", extent(key.extent), key.index)
}

fn stage(key: &StageKey) -> String {
    format!("{}/{}@{}", extent(key.extent), key.index, attempt(key.attempt))
}

fn authority(authority: &Authority) -> String {
    let row = &authority.row;
    let flaws = if row.behind.is_empty() && row.joining.is_empty() {
        String::new()
    } else {
        format!(
            " behind {:?} joining {:?}",
            row.behind.iter().map(|id| disk(*id)).collect::<Vec<_>>(),
            row.joining.keys()
        )
    };
    format!(
        "pg {} seq {} count {} entries {} {:?} token {}{flaws}",
        row.pg,
        row.seq,
        row.count,
        row.entries.len(),
        row.state,
        authority.token.order()
    )
}

impl Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(request) => node_request(f, request),
            Self::Daemon(request) => daemon_request(f, request),
        }
    }
}

fn node_request(f: &mut fmt::Formatter<'_>, request: &NodeRequest) -> fmt::Result {
    match request {
        NodeRequest::Fence { authority: of } => write!(f, "Fence {}", authority(of)),
        NodeRequest::Hear { authority: of } => write!(f, "Hear {}", authority(of)),
        NodeRequest::Prepare { authority: of, attempt: by, kind, extent: what, .. } => {
            let verb = match kind {
                EntryKind::Create => "create",
                EntryKind::Delete => "delete",
                EntryKind::Supersede => "supersede",
                EntryKind::Release => "release",
                EntryKind::CreateOther => "create-other",
            };
            write!(f, "Prepare {verb} {} by {} {}", extent(*what), attempt(*by), authority(of))
        }
        NodeRequest::Abort { authority: of, attempt: by } => write!(f, "Abort {} {}", attempt(*by), authority(of)),
        NodeRequest::Adopt { authority: of, page, last, listed, tombstones } => {
            let (listed, tombstones) = (listed.len(), tombstones.len());
            write!(f, "Adopt page {page} last {last} listed {listed} tombstones {tombstones} {}", authority(of))
        }
        NodeRequest::AdoptShaped { authority: of, page, last, listed, tombstones, shapes } => {
            let (listed, tombstones, shapes) = (listed.len(), tombstones.len(), shapes.len());
            let what = format!("listed {listed} tombstones {tombstones} shapes {shapes}");
            write!(f, "AdoptShaped page {page} last {last} {what} {}", authority(of))
        }
        NodeRequest::List { pg, .. } => write!(f, "List pg {pg}"),
        NodeRequest::Holdings { pg, .. } => write!(f, "Holdings pg {pg}"),
        NodeRequest::Stage { key, .. } => write!(f, "Stage {}", stage(key)),
        NodeRequest::StageKeep { key, .. } => write!(f, "StageKeep {}", stage(key)),
        NodeRequest::StageData { key, offset } => write!(f, "StageData {} at {offset}", stage(key)),
        NodeRequest::StageSeal { key } => write!(f, "StageSeal {}", stage(key)),
        NodeRequest::StageDrop { key } => write!(f, "StageDrop {}", stage(key)),
        NodeRequest::Publish { authority: of, key } => write!(f, "Publish {} {}", stage(key), authority(of)),
        NodeRequest::Retire { authority: of } => write!(f, "Retire {}", authority(of)),
        NodeRequest::Read { fragment: of, offset, bytes } => write!(f, "Read {} {offset}+{bytes}", fragment(of)),
        NodeRequest::Record { extent: of, .. } => write!(f, "Record {}", extent(*of)),
        NodeRequest::Check { fragment: of } => write!(f, "Check {}", fragment(of)),
        NodeRequest::Scrub => write!(f, "Scrub"),
        NodeRequest::Info => write!(f, "Info"),
        NodeRequest::Door => write!(f, "Door"),
        NodeRequest::Health => write!(f, "Health"),
        NodeRequest::Digest { pg } => write!(f, "Digest pg {pg}"),
        NodeRequest::Combine { offset, bytes, hops, .. } => {
            let fragments: Vec<String> = hops.iter().map(|hop| fragment(&hop.fragment)).collect();
            write!(f, "Combine {offset}+{bytes} of {}", fragments.join(" "))
        }
    }
}

fn daemon_request(f: &mut fmt::Formatter<'_>, request: &DaemonRequest) -> fmt::Result {
    match request {
        DaemonRequest::Register { disk: id, cell, .. } => write!(f, "Register {} cell {}", disk(*id), cell.is_some()),
        DaemonRequest::RegisterLife { disk: id, cell, claim, .. } => {
            let had = claim.had.map_or(0, |life| life.number);
            write!(f, "Register {} cell {} life {had} to {}", disk(*id), cell.is_some(), claim.life.number)
        }
        DaemonRequest::Beat { disk: id, damaged, .. } => write!(f, "Beat {} damaged {}", disk(*id), damaged.len()),
        DaemonRequest::Ask { pg, attempt: by } => write!(f, "Ask pg {pg} {}", attempt(*by)),
        DaemonRequest::BeginPut { stream } => write!(f, "BeginPut {stream}"),
        DaemonRequest::Allocate { stream, ordinal, bytes } => write!(f, "Allocate {stream} #{ordinal} {bytes}"),
        DaemonRequest::CommitExtent { stream, entry, attempt: by, end } => {
            let (ordinal, id) = (entry.ordinal, extent(entry.extent));
            write!(f, "CommitExtent {stream} #{ordinal} {id} by {} end {}", attempt(*by), end.is_some())
        }
        DaemonRequest::PutNames { stream, first, names } => write!(f, "PutNames {stream} {first}+{}", names.len()),
        DaemonRequest::AbortPut { stream } => write!(f, "AbortPut {stream}"),
        DaemonRequest::Lookup { name } => write!(f, "Lookup {}", String::from_utf8_lossy(name)),
        DaemonRequest::Extents { stream, offset } => write!(f, "Extents {stream} {offset}"),
        DaemonRequest::Locate { extent: of } => write!(f, "Locate {}", extent(*of)),
        DaemonRequest::Names { .. } => write!(f, "Names"),
        DaemonRequest::Remove { name } => write!(f, "Remove {}", String::from_utf8_lossy(name)),
        DaemonRequest::Suspect { disk: id, fragment: of, .. } => write!(f, "Suspect {} {}", disk(*id), fragment(of)),
        other => write!(f, "{other:?}"),
    }
}

/// How something came out.
pub struct Shown<'a>(pub &'a Answered);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Err(error) => write!(f, "{error}"),
            Ok((Answer::Node(reply), _)) => match reply {
                NodeReply::Heard(head) => {
                    let (heard, count, level, prepared) = (head.heard, head.count, head.level, head.prepared.len());
                    write!(f, "Heard {heard:?} count {count} level {level} prepared {prepared}")
                }
                NodeReply::Prepared { attempt: by } => write!(f, "Prepared {}", attempt(*by)),
                NodeReply::Aborted { attempt: by } => write!(f, "Aborted {}", attempt(*by)),
                NodeReply::ListPage { heard, listed, more } => {
                    write!(f, "ListPage {heard:?} {} more {more}", listed.len())
                }
                NodeReply::HoldingsPage { holdings, more } => write!(f, "HoldingsPage {} more {more}", holdings.len()),
                NodeReply::Data { crcs } => write!(f, "Data {} blocks", crcs.len()),
                NodeReply::StageSealed { .. } => write!(f, "StageSealed"),
                NodeReply::HopFailed { fragment: of, refusal, .. } => {
                    write!(f, "HopFailed {}: {refusal}", fragment(of))
                }
                other => write!(f, "{other:?}"),
            },
            Ok((Answer::Daemon(reply), _)) => match reply {
                DaemonReply::Allocated(grant) => {
                    write!(f, "Allocated {} by {}", extent(grant.extent), attempt(grant.attempt))
                }
                DaemonReply::Located(places) => write!(f, "Located row {:?}", places.row),
                DaemonReply::ExtentsPage { extents, more } => write!(f, "ExtentsPage {} more {more}", extents.len()),
                DaemonReply::NamesPage { names, more } => write!(f, "NamesPage {} more {more}", names.len()),
                DaemonReply::PutBegun { committed, whole, .. } => {
                    write!(f, "PutBegun committed {} whole {whole}", committed.len())
                }
                other => write!(f, "{other:?}"),
            },
        }
    }
}

/// A store call, short.
pub struct Call<'a>(pub &'a StoreCall);

impl Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            StoreCall::OpenStage { key, .. } => write!(f, "OpenStage {}", stage(key)),
            StoreCall::KeepStage { key, .. } => write!(f, "KeepStage {}", stage(key)),
            StoreCall::LeaveStage { key } => write!(f, "LeaveStage {}", stage(key)),
            StoreCall::DropKept { fragment: of } => write!(f, "DropKept {}", fragment(of)),
            StoreCall::WriteStage { key, offset, body } => {
                write!(f, "WriteStage {} {offset}+{}", stage(key), body.len())
            }
            StoreCall::SealStage { key } => write!(f, "SealStage {}", stage(key)),
            StoreCall::FinishStage { key, .. } => write!(f, "FinishStage {}", stage(key)),
            StoreCall::PublishStage { key } => write!(f, "PublishStage {}", stage(key)),
            StoreCall::DropStage { key } => write!(f, "DropStage {}", stage(key)),
            StoreCall::SyncFolder { pg } => write!(f, "SyncFolder {pg}"),
            StoreCall::Read { fragment: of, range } => write!(f, "Read {} {range:?}", fragment(of)),
            StoreCall::Combine { fragment: of, range, .. } => write!(f, "Combine {} {range:?}", fragment(of)),
            StoreCall::ReadRecord { fragment: of, .. } => write!(f, "ReadRecord {}", fragment(of)),
            StoreCall::Check { fragment: of, .. } => write!(f, "Check {}", fragment(of)),
            StoreCall::Quarantine { fragment: of, reason } => write!(f, "Quarantine {}: {reason}", fragment(of)),
            StoreCall::UnlinkQuarantined { fragment: of } => write!(f, "UnlinkQuarantined {}", fragment(of)),
            StoreCall::Touch => write!(f, "Touch"),
            StoreCall::ListFolder { pg } => write!(f, "ListFolder {pg}"),
            StoreCall::AppendJournal { pg, bytes } => write!(f, "AppendJournal {pg} {} bytes", bytes.len()),
            StoreCall::ReplaceJournal { pg, bytes } => write!(f, "ReplaceJournal {pg} {} bytes", bytes.len()),
            StoreCall::IndexPut { fragment: of, .. } => write!(f, "IndexPut {}", fragment(of)),
            StoreCall::IndexRemove { fragment: of } => write!(f, "IndexRemove {}", fragment(of)),
        }
    }
}

/// A transaction, short.
pub struct Shortened<'a>(pub &'a Txn);

impl Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for compare in &self.0.compares {
            write!(f, " {}={}", String::from_utf8_lossy(&compare.key), compare.revision)?;
        }
        f.write_str(" ->")?;
        for write in &self.0.writes {
            match write {
                Write::Put { key, .. } => write!(f, " +{}", String::from_utf8_lossy(key))?,
                Write::Delete { key } => write!(f, " -{}", String::from_utf8_lossy(key))?,
                Write::DeletePrefix { prefix } => write!(f, " -{}*", String::from_utf8_lossy(prefix))?,
            }
        }
        Ok(())
    }
}
