//! What nodes tell of their disks: faults by kind, and times, by which one that limps is found.

use super::{Asker, Coordinator};
use crate::id::DiskId;
use crate::limping::Evidence;
use crate::time::{Millis, Time};
use crate::wire::DaemonReply;
use crate::wire::node::{FaultCount, ServiceTime};
use std::collections::{BTreeMap, BTreeSet};

/// Kinds kept of one disk, and the letters of a kind, whatever a node tells.
const KINDS_MAX: usize = 16;
const KIND_CHARS_MAX: usize = 32;

/// What a disk's node told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// By kind: how many, and when the last was.
    pub(super) faults: BTreeMap<String, (u64, Time)>,
    pub(super) service: Vec<ServiceTime>,
    pub(super) quarantined: u64,
    /// Kinds that there was an event of.
    noted: BTreeSet<String>,
}

fn is_kind(kind: &str) -> bool {
    (1..=KIND_CHARS_MAX).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

impl Coordinator {
    pub(super) fn faults_told(
        &mut self,
        asker: Asker,
        id: DiskId,
        boot: u64,
        faults: Vec<FaultCount>,
        service: Vec<ServiceTime>,
        quarantined: u64,
    ) {
        let now = self.now;
        let Some(disk) = self.disks.get_mut(&id).filter(|disk| disk.is_life_of(asker.peer, boot)) else {
            return self.reply(asker, DaemonReply::RegisterFirst);
        };
        let faults: BTreeMap<String, (u64, Time)> = faults
            .into_iter()
            .filter(|fault| is_kind(&fault.kind))
            .take(KINDS_MAX)
            .map(|fault| (fault.kind, (fault.count, ago(now, fault.last_ago))))
            .collect();
        let service: Vec<ServiceTime> =
            service.into_iter().filter(|time| is_kind(&time.kind)).take(KINDS_MAX).collect();
        self.limping.tell(now, id, &service);
        let new: Vec<(String, u64)> = faults
            .iter()
            .filter(|(kind, _)| !disk.told.noted.contains(*kind))
            .map(|(kind, (count, _))| (kind.clone(), *count))
            .take(KINDS_MAX.saturating_sub(disk.told.noted.len()))
            .collect();
        let mut noted = std::mem::take(&mut disk.told.noted);
        noted.extend(new.iter().map(|(kind, _)| kind.clone()));
        disk.told = Told { faults, service, quarantined, noted };
        self.reply(asker, DaemonReply::BeatTaken);
        for (kind, count) in new {
            // The first of a kind in a life of its node and of the daemon; how many there are is in the reports.
            let text = format!("{} met {kind}, {count} so far", self.who(id));
            let fields = vec![("disk", id.to_string()), ("fault", kind), ("count", count.to_string())];
            self.note("disk_fault", text, fields);
        }
        self.judge_limping();
    }

    /// At beats too: what nobody tells any more has its end.
    pub(super) fn judge_limping(&mut self) {
        for (id, limps) in self.limping.judge_now_and_then(self.now) {
            let evidence = self.limping.evidence(id).cloned();
            let (kind, text) = match evidence.filter(|_| limps) {
                Some(Evidence { kind, mean_us, peers_us, .. }) => {
                    let text = format!("takes {} ms to {kind}, its peers take {} ms", mean_us / 1000, peers_us / 1000);
                    ("disk_limps", text)
                }
                None => ("disk_recovered", "limps no more, as far as is known".to_owned()),
            };
            let (text, fields) = (format!("{} {text}", self.who(id)), vec![("disk", id.to_string())]);
            self.note(kind, text, fields);
        }
    }
}

/// The moment so long ago, or the first there is.
fn ago(now: Time, span: Millis) -> Time {
    Time::from_millis(now.as_millis().saturating_sub(span.0))
}
