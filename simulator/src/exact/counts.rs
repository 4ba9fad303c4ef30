//! What a run went through: operations of clients, faults by kind, and the ways in which the machines recovered, as seen from outside
//! by what they ask for and what they say. A kind that never comes up over many seeds is a hole in the simulation.

use super::disk::Lie;
use repair_core::catalog::{EntryKind, PgRow, Txn, Write};
use repair_core::coordinator::{Note, Stopped};
use repair_core::node::StoreCall;
use repair_core::repair::RepairOutcome;
use std::collections::BTreeMap;

/// An enumeration of things with names, all of which are known.
macro_rules! kinds {
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

kinds! {
    /// What a client does.
    OperationKind {
        /// A put of at most half an extent.
        PutSmall = "put_small",
        /// A longer one.
        PutLarge = "put_large",
        /// A read of all that a name has.
        GetWhole = "get_whole",
        /// A read of a part of it.
        GetRange = "get_range",
        /// All names.
        List = "list",
        /// A name goes.
        Remove = "remove",
    }
}

kinds! {
    /// What goes wrong.
    FaultKind {
        /// A node's process ends.
        NodeKilled = "node_killed",
        /// A node's machine loses power: what is not durable is kept, dropped or torn by sectors.
        NodePowerLost = "node_power_lost",
        /// All machines lose power.
        PowerLostEverywhere = "power_lost_everywhere",
        /// A disk is gone for ever; an empty one takes its place.
        DiskLost = "disk_lost",
        /// A bit of a fragment flips.
        Rot = "rot",
        /// A fragment's file disappears.
        FileLost = "file_lost",
        /// A journal is damaged.
        JournalDamaged = "journal_damaged",
        /// A page is said to be durable and never written.
        WriteLost = "write_lost",
        /// Of a page only some sectors are written.
        SectorsTorn = "sectors_torn",
        /// A page is written into another fragment.
        WriteMisdirected = "write_misdirected",
        /// Syncs fail now and then.
        SyncFails = "sync_fails",
        /// All store operations fail now and then.
        StoreFails = "store_fails",
        /// No room for new fragments.
        DiskFull = "disk_full",
        /// A disk takes much longer.
        DiskSlow = "disk_slow",
        /// Two sites do not hear each other.
        LinkCut = "link_cut",
        /// One does not hear the other, which hears it.
        LinkCutOneWay = "link_cut_one_way",
        /// A link goes down and up and down.
        LinkFlaps = "link_flaps",
        /// The links of a node are cut one after the other and mended in another order.
        LinksSwizzled = "links_swizzled",
        /// Messages are lost.
        MessagesLost = "messages_lost",
        /// Messages come twice.
        MessagesDoubled = "messages_doubled",
        /// Messages overtake each other.
        MessagesReordered = "messages_reordered",
        /// Messages take very long.
        MessagesLate = "messages_late",
        /// A node accepts requests and does not answer.
        NodeMute = "node_mute",
        /// A node loses its connections.
        ConnectionsLost = "connections_lost",
        /// The catalog does not say what it did.
        CatalogOutcomesUnknown = "catalog_outcomes_unknown",
        /// The catalog has no leader: nothing is answered, some of it is done.
        CatalogLeaderLost = "catalog_leader_lost",
        /// The catalog is put back to an earlier copy.
        CatalogRolledBack = "catalog_rolled_back",
        /// A daemon's process ends.
        DaemonKilled = "daemon_killed",
        /// A daemon stands still and goes on as if it had not.
        DaemonPaused = "daemon_paused",
        /// Another daemon is started that waits for nobody, and the one before does not know.
        SecondDaemon = "second_daemon",
        /// A daemon is told to hand the cell over.
        DaemonHandsOver = "daemon_hands_over",
        /// A daemon is gone for ever, those that stand by are not.
        DaemonGoneForEver = "daemon_gone_for_ever",
        /// Writes of the lease are lost, late, or not told.
        LeaseWritesFail = "lease_writes_fail",
        /// A client's process ends.
        ClientKilled = "client_killed",
        /// A node is not as it should be for ever.
        NodeBrokenForEver = "node_broken_for_ever",
        /// More disks go than the code bears, and come back.
        DisksBeyondTolerance = "disks_beyond_tolerance",
    }
}

kinds! {
    /// A way to recover that a run went.
    Path {
        /// A repair published all it was to build.
        RepairDone = "repair_done",
        /// One reading built more than one fragment.
        RepairOfSeveral = "repair_of_several",
        /// A chain of nodes gave the sums.
        RepairByChain = "repair_by_chain",
        /// A chain broke and the rest was read from every source.
        ChainGivenUp = "chain_given_up",
        /// A repair went on with what one before had staged.
        RepairResumed = "repair_resumed",
        /// A repair named sources that are bad.
        RepairNamedSuspects = "repair_named_suspects",
        /// A repair failed and was tried again later.
        RepairFailed = "repair_failed",
        /// An audit found an extent sound.
        AuditSound = "audit_sound",
        /// An audit could not read everything.
        AuditIncomplete = "audit_incomplete",
        /// A scrub or a read found damage.
        DamageFound = "damage_found",
        /// What was damaged is whole.
        DamageHealed = "damage_healed",
        /// A fragment was put into quarantine.
        Quarantined = "quarantined",
        /// What a disk held of a group that it left was put aside.
        GuestPutAside = "guest_put_aside",
        /// A disk was suspected.
        DiskSuspected = "disk_suspected",
        /// A disk was given up.
        DiskGivenUp = "disk_given_up",
        /// A disk came back.
        DiskBack = "disk_back",
        /// Another disk took a member's place.
        MemberReplaced = "member_replaced",
        /// A member that was behind holds all it owes again.
        MemberCaughtUp = "member_caught_up",
        /// A damaged journal was made whole from the others.
        JournalRebuilt = "journal_rebuilt",
        /// A group takes no new extents.
        GroupClosed = "group_closed",
        /// It does again.
        GroupOpened = "group_opened",
        /// An extent was committed without some of its members.
        CreatedDegraded = "created_degraded",
        /// A read came to its end with parity.
        ReadDegraded = "read_degraded",
        /// A change that nobody finished was aborted on a member.
        ChangeAborted = "change_aborted",
        /// A put that nobody came back to was given up.
        PutGivenUp = "put_given_up",
        /// A deleted extent's tombstone was trimmed.
        TombstoneTrimmed = "tombstone_trimmed",
        /// A member obeys another daemon than before.
        OwnerTakenOver = "owner_taken_over",
        /// A member refused a daemon that another one had followed.
        OldOwnerFenced = "old_owner_fenced",
        /// A daemon found that another had taken its place, and ended.
        DaemonDeposed = "daemon_deposed",
        /// A daemon that stood by took over from one that fell silent.
        LeaseTakenOver = "lease_taken_over",
        /// A daemon that stood by took over from one that let go.
        LeaseHandedOver = "lease_handed_over",
        /// A daemon that was started again was in charge at once.
        LeaseTakenBack = "lease_taken_back",
        /// A daemon could not renew its lease, and began nothing.
        LeaseLapsed = "lease_lapsed",
        /// It could again, and nobody had taken over.
        LeaseRegained = "lease_regained",
        /// A daemon found another's lease in the place of its own, and ended.
        DaemonSuperseded = "daemon_superseded",
        /// A daemon found that it had stood still.
        PauseNoticed = "pause_noticed",
        /// A transaction without an answer was found to have been applied.
        UnknownWasApplied = "unknown_was_applied",
        /// A transaction without an answer was made again, since it had not been applied.
        UnknownMadeAgain = "unknown_made_again",
        /// A daemon saw that its catalog went back in time, and the cell was suspended.
        CellSuspended = "cell_suspended",
        /// Data could not be read, and was said so.
        DataUnavailable = "data_unavailable",
        /// It could be read again.
        DataAvailable = "data_available",
        /// All redundancy came back, and the daemon said so.
        RedundancyFull = "redundancy_full",
    }
}

/// Counts of a run, or of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    operations: BTreeMap<OperationKind, u64>,
    faults: BTreeMap<FaultKind, u64>,
    paths: BTreeMap<Path, u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            operations: OperationKind::ALL.iter().map(|kind| (*kind, 0)).collect(),
            faults: FaultKind::ALL.iter().map(|kind| (*kind, 0)).collect(),
            paths: Path::ALL.iter().map(|path| (*path, 0)).collect(),
        }
    }
}

impl Counts {
    /// An operation ended.
    pub fn operation(&mut self, kind: OperationKind) {
        *self.operations.entry(kind).or_default() += 1;
    }

    /// A fault struck.
    pub fn fault(&mut self, kind: FaultKind) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// A disk lied about a page.
    pub fn lied(&mut self, lie: Lie) {
        self.fault(match lie {
            Lie::Lost => FaultKind::WriteLost,
            Lie::Torn => FaultKind::SectorsTorn,
            Lie::Misdirected => FaultKind::WriteMisdirected,
        });
    }

    /// A way was gone.
    pub fn path(&mut self, path: Path) {
        *self.paths.entry(path).or_default() += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        other.operations.iter().for_each(|(kind, count)| *self.operations.entry(*kind).or_default() += count);
        other.faults.iter().for_each(|(kind, count)| *self.faults.entry(*kind).or_default() += count);
        other.paths.iter().for_each(|(path, count)| *self.paths.entry(*path).or_default() += count);
    }

    /// Faults of all kinds.
    pub fn faults_in_all(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How often a fault struck.
    pub fn of_fault(&self, kind: FaultKind) -> u64 {
        self.faults[&kind]
    }

    /// How often a way was gone.
    pub fn of_path(&self, path: Path) -> u64 {
        self.paths[&path]
    }

    /// Operations by name.
    pub fn operations(&self) -> BTreeMap<&'static str, u64> {
        self.operations.iter().map(|(kind, count)| (kind.as_str(), *count)).collect()
    }

    /// Faults by name.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.faults.iter().map(|(kind, count)| (kind.as_str(), *count)).collect()
    }

    /// Ways by name.
    pub fn paths(&self) -> BTreeMap<&'static str, u64> {
        self.paths.iter().map(|(path, count)| (path.as_str(), *count)).collect()
    }

    /// What never came up.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = self.operations().into_iter().chain(self.faults()).chain(self.paths());
        all.filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    /// What a repair was.
    pub fn repair(&mut self, outcome: &RepairOutcome) {
        let is_done = outcome.failed.is_empty() && !outcome.published.is_empty();
        let ways = [
            (Path::RepairDone, is_done),
            (Path::RepairOfSeveral, outcome.published.len() > 1),
            (Path::RepairByChain, outcome.chained_bytes > 0),
            (Path::ChainGivenUp, outcome.chain_fault.is_some()),
            (Path::RepairResumed, outcome.resumed_bytes > 0 && is_done),
            (Path::RepairNamedSuspects, !outcome.suspects.is_empty()),
            (Path::RepairFailed, !outcome.failed.is_empty()),
        ];
        ways.iter().filter(|(_, was_gone)| *was_gone).for_each(|(path, _)| self.path(*path));
    }

    /// What a daemon said.
    pub fn note(&mut self, note: &Note) {
        let right = note.fields.iter().find(|(name, _)| *name == "right").map(|(_, value)| value.as_str());
        let path = match note.kind {
            "lease_taken" if right == Some("silent") => Path::LeaseTakenOver,
            "lease_taken" if right == Some("released") => Path::LeaseHandedOver,
            "lease_taken" if right == Some("own") => Path::LeaseTakenBack,
            "lease_lapsed" => Path::LeaseLapsed,
            "lease_regained" => Path::LeaseRegained,
            "fragment_damaged" => Path::DamageFound,
            "fragment_healed" => Path::DamageHealed,
            "disk_suspect" => Path::DiskSuspected,
            "disk_lost" => Path::DiskGivenUp,
            "disk_back" => Path::DiskBack,
            "member_replaced" => Path::MemberReplaced,
            "disk_caught_up" => Path::MemberCaughtUp,
            "pg_closed" => Path::GroupClosed,
            "pg_opened" => Path::GroupOpened,
            "put_given_up" => Path::PutGivenUp,
            "daemon_paused" => Path::PauseNoticed,
            "cell_suspended" => Path::CellSuspended,
            "data_unavailable" => Path::DataUnavailable,
            "data_available" => Path::DataAvailable,
            "redundancy_full" => Path::RedundancyFull,
            _ => return,
        };
        self.path(path);
    }

    /// Why a daemon ended.
    pub fn stopped(&mut self, reason: &Stopped) {
        if matches!(reason, Stopped::Deposed { .. } | Stopped::Rival) {
            self.path(Path::DaemonDeposed);
        }
        if matches!(reason, Stopped::Superseded { .. }) {
            self.path(Path::DaemonSuperseded);
        }
    }

    /// What a store was asked, and did.
    pub fn stored(&mut self, call: &StoreCall) {
        if let StoreCall::Quarantine { reason, .. } = call {
            self.path(Path::Quarantined);
            if reason == "this disk left the group" {
                self.path(Path::GuestPutAside);
            }
        }
    }

    /// A group's row was written.
    pub fn row(&mut self, before: Option<&PgRow>, after: &PgRow) {
        let seen = before.map_or(0, |before| before.seq);
        let creates =
            after.entries.iter().any(|entry| entry.seq > seen && entry.kind.is_create() && !after.behind.is_empty());
        if creates {
            self.path(Path::CreatedDegraded);
        }
        let had_deleted =
            before.is_some_and(|before| before.entries.iter().any(|entry| entry.kind == EntryKind::Delete));
        if before.is_some_and(|before| before.trim < after.trim) && had_deleted {
            self.path(Path::TombstoneTrimmed);
        }
    }
}

/// Transactions whose daemons were not told what became of them, until they know.
#[derive(Debug, Default)]
pub struct Unknowns {
    /// By daemon and key: whether it was applied.
    of: BTreeMap<(usize, Vec<u8>), bool>,
}

impl Unknowns {
    /// A daemon is not told.
    pub fn begin(&mut self, daemon: usize, txn: &Txn) {
        for key in written(txn) {
            self.of.insert((daemon, key.clone()), false);
        }
    }

    /// A transaction was applied, and its daemon is not told.
    pub fn applied(&mut self, daemon: usize, txn: &Txn) {
        for key in written(txn) {
            self.of.insert((daemon, key.clone()), true);
        }
    }

    /// A daemon's transaction was applied, and it is told. It compares what it writes, so it knew what was before.
    pub fn end(&mut self, daemon: usize, txn: &Txn) -> Vec<Path> {
        let settle = |key: &Vec<u8>| self.of.remove(&(daemon, key.clone()));
        written(txn)
            .filter_map(settle)
            .map(|was_applied| if was_applied { Path::UnknownWasApplied } else { Path::UnknownMadeAgain })
            .collect()
    }
}

fn written(txn: &Txn) -> impl Iterator<Item = &Vec<u8>> {
    txn.writes.iter().filter_map(|write| match write {
        Write::Put { key, .. } => Some(key),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_up_is_named_and_sums_are_sums() {
        let mut counts = Counts::default();
        let all = OperationKind::ALL.len() + FaultKind::ALL.len() + Path::ALL.len();
        assert_eq!(counts.missing().len(), all);
        counts.fault(FaultKind::Rot);
        counts.path(Path::RepairDone);
        counts.operation(OperationKind::List);
        assert_eq!(counts.missing().len(), all - 3);
        assert!(!counts.missing().contains(&"rot") && counts.missing().contains(&"disk_lost"));
        let other = counts.clone();
        counts.add(&other);
        assert_eq!((counts.of_fault(FaultKind::Rot), counts.of_path(Path::RepairDone)), (2, 2));
        assert_eq!(counts.faults_in_all(), 2);
    }
}
