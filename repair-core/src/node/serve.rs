//! What is asked of a node and changes nothing: payload, records, lists, listings; and the judging of fragments.

use super::listings::{self, Names};
use super::{Asker, Node, Pending, StoreCall, StoreError, StoreOk, unavailable};
use crate::id::{DiskId, ExtentKey, PgId, RecordHash, Sum};
use crate::limits::{LIST_PAGE_MAX, SLICE_BYTES};
use crate::wire::Refusal;
use crate::wire::node::{FragmentKey, Holding, Listed, NodeReply};
use ec_core::fragment::Class;
use ec_core::geometry::BLOCK_BYTES;
use std::ops::Bound;

/// Who wants a fragment judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Asked(Asker),
    /// It is its turn.
    Scrub,
    /// It lies where a scrub looked, and nothing says that it should.
    Stray,
    /// Reading it failed.
    Doubt,
}

/// What a listing of a folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The page after this name.
    Page(Option<FragmentKey>),
    /// A digest of what the list names, which stood at this row.
    Digest((u32, u64)),
}

/// A fragment being judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checking {
    pub(super) fragment: FragmentKey,
    why: Why,
    /// Set when the file was replaced meanwhile: a bad finding may be about the old one.
    pub(super) void: bool,
}

impl Node {
    pub(super) fn list_page(&mut self, asker: Asker, pg: PgId, after: Option<ExtentKey>) {
        let Some(group) = self.groups.get(&pg) else {
            return self.reply(asker, NodeReply::ListPage { heard: (0, 0), listed: Vec::new(), more: false });
        };
        let heard = group.ledger.heard.as_ref().map_or((0, 0), |row| row.order());
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = group.ledger.list().range((from, Bound::Unbounded));
        let listed = rest.by_ref().take(LIST_PAGE_MAX).map(|(extent, hash)| Listed { extent: *extent, hash: *hash });
        let (listed, more): (Vec<Listed>, bool) = (listed.collect(), rest.next().is_some());
        if group.ledger.is_plain() {
            return self.reply(asker, NodeReply::ListPage { heard, listed, more });
        }
        // A page speaks of the extents up to its last line; the last page of all that follow.
        let last = listed.last().map(|line| line.extent).filter(|_| more);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let shapes = group.ledger.shaped((from, to));
        self.reply(asker, NodeReply::ShapedPage { heard, listed, shapes, more });
    }

    pub(super) fn holdings(&mut self, asker: Asker, pg: PgId, after: Option<FragmentKey>) {
        let Some(last) = after else {
            // A count begins: what was listed for an earlier one says nothing about it.
            self.listings.forget(asker.peer, pg);
            return self.list_folder(asker, pg, Want::Page(after));
        };
        match self.listings.next_page(asker.peer, pg, last) {
            Some(page) => self.reply_holdings(asker, pg, page),
            None => self.list_folder(asker, pg, Want::Page(after)),
        }
    }

    pub(super) fn digest(&mut self, asker: Asker, pg: PgId) {
        let heard = self.heard_order(pg);
        self.list_folder(asker, pg, Want::Digest(heard));
    }

    fn heard_order(&self, pg: PgId) -> (u32, u64) {
        self.heard(pg).map_or((0, 0), |row| row.order())
    }

    fn list_folder(&mut self, asker: Asker, pg: PgId, want: Want) {
        self.store(Pending::Holdings { asker, pg, want }, StoreCall::ListFolder { pg });
    }

    pub(super) fn holdings_done(&mut self, asker: Asker, pg: PgId, want: Want, result: Result<StoreOk, StoreError>) {
        let names: Names = match result {
            Ok(StoreOk::Folder(found)) => found.into_iter().collect(),
            // A folder appears with its first fragment.
            Err(StoreError::NotFound) => Names::default(),
            Ok(_) => return self.refuse(asker, Refusal::Unavailable("no listing".into())),
            Err(error) => return self.refuse(asker, unavailable(&error)),
        };
        if names.is_empty() {
            return self.reply_listed(asker, pg, want, names);
        }
        // A name is seen before it is durable: beside a publish, after one that failed, after a life that was killed in one.
        self.store(Pending::HoldingsSynced { asker, pg, want, names }, StoreCall::SyncFolder { pg });
    }

    /// All names listed before it are durable by a sync that went well.
    pub(super) fn holdings_synced(
        &mut self,
        asker: Asker,
        pg: PgId,
        want: Want,
        names: Names,
        result: Result<StoreOk, StoreError>,
    ) {
        if let Err(error) = result {
            return self.refuse(asker, unavailable(&error));
        }
        self.reply_listed(asker, pg, want, names);
    }

    fn reply_listed(&mut self, asker: Asker, pg: PgId, want: Want, names: Names) {
        match want {
            Want::Page(after) => {
                let page = names.page(after);
                if page.1 {
                    self.listings.keep(asker.peer, pg, names, self.now);
                }
                self.reply_holdings(asker, pg, page);
            }
            // The names are of before, the list is of now.
            Want::Digest(heard) if heard != self.heard_order(pg) => {
                self.refuse(asker, Refusal::Busy("the list changed while the folder was listed".into()));
            }
            Want::Digest(heard) => {
                let sound = |name: &&FragmentKey| self.owes(name) && !self.is_damaged(**name);
                let hashes: Vec<RecordHash> = names.iter().filter(sound).map(FragmentKey::name_hash).collect();
                let (count, sum) = (hashes.len() as u64, Sum::of(&hashes));
                self.reply(asker, NodeReply::Digest { heard, count, sum });
            }
        }
    }

    /// What is known of damage is of now, whenever the names were listed.
    fn reply_holdings(&mut self, asker: Asker, pg: PgId, (names, more): listings::Page) {
        let damaged = self.groups.get(&pg).map(|group| &group.ledger.damaged);
        let holding = |fragment: FragmentKey| Holding {
            fragment,
            damaged: damaged.is_some_and(|damaged| damaged.contains_key(&fragment)),
        };
        let holdings = names.into_iter().map(holding).collect();
        self.reply(asker, NodeReply::HoldingsPage { holdings, more });
    }

    /// A file is about to leave its folder: no listing made before counts it.
    pub(super) fn unlisted(&mut self, fragment: FragmentKey) {
        self.listings.forget_name(fragment);
        for pending in self.pending.values_mut() {
            if let Pending::HoldingsSynced { names, .. } = pending {
                names.remove(&fragment);
            }
        }
    }

    pub(super) fn read(&mut self, asker: Asker, fragment: FragmentKey, offset: u64, bytes: u32) {
        let (block, wanted) = (BLOCK_BYTES as u64, u64::from(bytes));
        let whole = offset.is_multiple_of(block) && wanted.is_multiple_of(block);
        let end = offset.checked_add(wanted).filter(|_| whole && wanted > 0 && wanted <= SLICE_BYTES as u64);
        let Some(end) = end else {
            return self.refuse(asker, Refusal::Invalid("a read is whole blocks, at most a slice".into()));
        };
        self.store(Pending::Read { asker, fragment }, StoreCall::Read { fragment, range: offset..end });
    }

    pub(super) fn read_done(&mut self, asker: Asker, fragment: FragmentKey, result: Result<StoreOk, StoreError>) {
        match result {
            Ok(StoreOk::Data { body, crcs }) => return self.reply_with(asker, NodeReply::Data { crcs }, body),
            Ok(_) => self.refuse(asker, Refusal::Unavailable("no data".into())),
            Err(StoreError::Invalid(reason)) => return self.refuse(asker, Refusal::Invalid(reason)),
            Err(StoreError::NotFound) => self.refuse(asker, Refusal::NotFound),
            Err(StoreError::Damaged(reason)) => self.refuse(asker, Refusal::Damaged(reason)),
            Err(error) => return self.refuse(asker, unavailable(&error)),
        }
        // A reader met what should be there and is not, or not sound: no need to wait for the scrub.
        if self.must_hold(&fragment) && !self.is_damaged(fragment) {
            self.check(fragment, Why::Doubt);
        }
    }

    pub(super) fn record(&mut self, asker: Asker, extent: ExtentKey, hash: RecordHash) {
        let disk = self.disk();
        let ledger = self.groups.get(&extent.pg()).map(|group| &group.ledger);
        let Some(fragment) = ledger.and_then(|ledger| ledger.place_of_record(extent, hash, disk)) else {
            return self.refuse(asker, Refusal::NotFound);
        };
        self.store(Pending::Record { asker, hash }, StoreCall::ReadRecord { fragment, hash });
    }

    pub(super) fn record_done(&mut self, asker: Asker, hash: RecordHash, result: Result<StoreOk, StoreError>) {
        match result {
            Ok(StoreOk::Record(record)) if RecordHash::of(&record) == hash => {
                self.reply_with(asker, NodeReply::Record, record);
            }
            Ok(_) => self.refuse(asker, Refusal::Damaged("the record here has another hash".into())),
            Err(StoreError::NotFound) => self.refuse(asker, Refusal::NotFound),
            Err(StoreError::Damaged(reason)) => self.refuse(asker, Refusal::Damaged(reason)),
            Err(error) => self.refuse(asker, unavailable(&error)),
        }
    }

    /// Says who we are, from memory; of the disk no more than that it is there. Whoever asks wants to know whether we answer, and
    /// a look at every file would take a big disk longer than he waits.
    pub(super) fn info(&mut self, asker: Asker) {
        self.store(Pending::Info(asker), StoreCall::Touch);
    }

    pub(super) fn info_done(&mut self, asker: Asker, result: Result<StoreOk, StoreError>) {
        if let Err(error) = result {
            return self.refuse(asker, unavailable(&error));
        }
        let Some(host) = &self.host else { return };
        let (free_bytes, _) = self.room();
        let extents = self.groups.values().map(|group| group.ledger.list().len() as u64).sum();
        let reply = NodeReply::Info { cell: host.cell, disk: host.disk, boot: host.boot, extents, free_bytes };
        self.reply(asker, reply);
    }

    /// Whether whoever asks is on our host is for him to know, and whether he may open the door for the system.
    pub(super) fn door(&mut self, asker: Asker) {
        match self.host.as_ref().and_then(|host| host.door.clone()) {
            Some(folder) => self.reply(asker, NodeReply::Door { folder }),
            None => self.refuse(asker, Refusal::Unavailable("no files are given out here".into())),
        }
    }

    /// Has a fragment read whole and judged, by the record we know of its extent.
    pub(super) fn check(&mut self, fragment: FragmentKey, why: Why) {
        let ledger = self.groups.get(&fragment.extent.pg()).map(|group| &group.ledger);
        let hash = ledger
            .and_then(|ledger| ledger.record_of(&fragment).or_else(|| ledger.list().get(&fragment.extent).copied()));
        let checking = Checking { fragment, why, void: false };
        self.store(Pending::Check(checking), StoreCall::Check { fragment, hash });
    }

    pub(super) fn check_done(&mut self, checking: Checking, result: Result<StoreOk, StoreError>) {
        let Checking { fragment, why, void } = checking;
        let mut read = 0;
        let class = match result {
            Ok(StoreOk::Checked { class, bytes, .. }) => {
                read = bytes;
                Ok(self.class_here(&fragment, class))
            }
            Err(StoreError::NotFound) => Ok(Class::Missing.as_str().into()),
            Err(StoreError::Damaged(_)) => Ok(Class::Unreadable.as_str().into()),
            Ok(_) => Err(Refusal::Unavailable("no finding".into())),
            // The device failed as a whole, or we asked for nonsense: nothing follows about the fragment.
            Err(error) => Err(unavailable(&error)),
        };
        let healthy = class.as_deref() == Ok(Class::Healthy.as_str());
        if void && !healthy {
            return self.check(fragment, why);
        }
        if let Ok(class) = &class {
            self.found(fragment, class);
        }
        match (why, class) {
            (Why::Scrub, _) => self.scrubbed(read),
            (Why::Stray, class) => {
                class.iter().for_each(|class| self.found_stray(fragment, class));
                self.scrubbed(read);
            }
            (Why::Doubt, _) => {}
            (Why::Asked(asker), Ok(class)) if class == Class::Missing.as_str() && !self.owes(&fragment) => {
                drop(class);
                self.refuse(asker, Refusal::NotFound);
            }
            (Why::Asked(asker), Ok(class)) => self.reply(asker, NodeReply::Checked { class, healthy }),
            (Why::Asked(asker), Err(refusal)) => self.refuse(asker, refusal),
        }
    }

    pub(super) fn owes(&self, fragment: &FragmentKey) -> bool {
        self.asked_of_ledger(fragment, super::ledger::Ledger::owes)
    }

    /// Whether this is a fragment that nobody else can keep for us.
    pub(super) fn is_place_of(&self, fragment: &FragmentKey) -> bool {
        self.asked_of_ledger(fragment, super::ledger::Ledger::is_place_of)
    }

    pub(super) fn must_hold(&self, fragment: &FragmentKey) -> bool {
        self.asked_of_ledger(fragment, super::ledger::Ledger::must_hold)
    }

    fn asked_of_ledger(
        &self,
        fragment: &FragmentKey,
        ask: impl Fn(&super::ledger::Ledger, &FragmentKey, DiskId) -> bool,
    ) -> bool {
        let group = self.groups.get(&fragment.extent.pg());
        group.is_some_and(|group| ask(&group.ledger, fragment, self.disk()))
    }
}
