//! What must hold after every event, by name: functions of what an all-seeing observer has before it. The simulation calls them
//! after every event. None of them is used by the machines themselves, so a machine that is wrong cannot excuse itself.

use crate::catalog::{Entry, EntryKind, PgRow};
use crate::id::{DiskId, ExtentKey, RecordHash, Sum, Token};
use crate::limits::{ENTRIES_MAX, PREPARED_SUBSET_MAX};
use crate::wire::node::Prepared;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub mod cell;

/// A list: the record on file of each extent.
pub type List = BTreeMap<ExtentKey, RecordHash>;

/// Something that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Each write of a PG row is the next of its history, and its sum is that of the list its entries make.
    RowsFollow,
    /// Some member's list comes to the row by its entries and at most 16 prepared changes.
    SomeListSums,
    /// An entry leaves the row only when all members not behind and at least m + 1 have it.
    EntriesStored,
    /// A member leaves `behind`, or becomes one by joining, only with the list and all it owes.
    LevelBeforeCounted,
    /// A member that is not behind holds, durably and sound, every fragment it owes.
    OwedHeld,
    /// A fragment under its final name equals its root in the record it carries, and that record is the extent's.
    PublishedIsRoot,
    /// No extent id ever names two records.
    OneContent,
    /// Nothing sound that the list names goes to quarantine on a disk of the row.
    QuarantineHasReason,
    /// The highest token a member answered under never falls, also not over a restart.
    TokensRise,
    /// What a member answered to be durable is there after a crash.
    AnswersDurable,
    /// Extents that the catalog's streams name are on the lists.
    NamedIsListed,
    /// An acknowledged put is visible until it is removed or replaced.
    AckedStays,
    /// A put that failed, or never came to its end, never becomes visible.
    FailedNeverAppears,
    /// What was removed or replaced does not come back, and nothing is removed unasked.
    RemovedStaysRemoved,
    /// A read gives the bytes that were stored, or an error.
    ReadsAreRight,
    /// Nothing freezes, and nobody stops for good, while faults stay within the tolerance.
    NothingFreezes,
    /// Operations of one journal, and of one stage, are wanted one after the other.
    StoreOrder,
    /// After faults end, full redundancy returns and every operation ends, in bounded time.
    Recovers,
    /// "Fully redundant" and "found wrong" are said only when it is so.
    ReportsAreTrue,
    /// What lies sound on disks is enough to decode every extent on a list.
    StaysDecodable,
    /// No fault domain has more of a group than may be lost, and the row says where one has two.
    PlacedApart,
    /// What a daemon counts at rest is what a recount gives.
    CountersAgree,
    /// Stages, surplus and what belongs to nothing on file go away by themselves.
    NothingLeft,
    /// Where a daemon stands by and the catalog answers, one is in charge within two TTL after the last that was.
    HandedOver,
    /// A daemon whose lease was not renewed for longer than its TTL begins no repair and no audit.
    LapsedBegins,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::RowsFollow,
        Self::SomeListSums,
        Self::EntriesStored,
        Self::LevelBeforeCounted,
        Self::OwedHeld,
        Self::PublishedIsRoot,
        Self::OneContent,
        Self::QuarantineHasReason,
        Self::TokensRise,
        Self::AnswersDurable,
        Self::NamedIsListed,
        Self::AckedStays,
        Self::FailedNeverAppears,
        Self::RemovedStaysRemoved,
        Self::ReadsAreRight,
        Self::NothingFreezes,
        Self::StoreOrder,
        Self::Recovers,
        Self::ReportsAreTrue,
        Self::StaysDecodable,
        Self::PlacedApart,
        Self::CountersAgree,
        Self::NothingLeft,
        Self::HandedOver,
        Self::LapsedBegins,
    ];

    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RowsFollow => "rows-follow",
            Self::SomeListSums => "some-list-sums",
            Self::EntriesStored => "entries-stored",
            Self::LevelBeforeCounted => "level-before-counted",
            Self::OwedHeld => "owed-held",
            Self::PublishedIsRoot => "published-is-root",
            Self::OneContent => "one-content",
            Self::QuarantineHasReason => "quarantine-has-reason",
            Self::TokensRise => "tokens-rise",
            Self::AnswersDurable => "answers-durable",
            Self::NamedIsListed => "named-is-listed",
            Self::AckedStays => "acked-stays",
            Self::FailedNeverAppears => "failed-never-appears",
            Self::RemovedStaysRemoved => "removed-stays-removed",
            Self::ReadsAreRight => "reads-are-right",
            Self::NothingFreezes => "nothing-freezes",
            Self::StoreOrder => "store-order",
            Self::Recovers => "recovers",
            Self::ReportsAreTrue => "reports-are-true",
            Self::StaysDecodable => "stays-decodable",
            Self::PlacedApart => "placed-apart",
            Self::CountersAgree => "counters-agree",
            Self::NothingLeft => "nothing-left",
            Self::HandedOver => "handed-over",
            Self::LapsedBegins => "lapsed-begins",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that must hold does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen, with the ids and numbers.
    pub what: String,
}

impl Violation {
    /// A violation.
    pub fn new(invariant: Invariant, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

pub(crate) fn hold(invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(invariant, what())) }
}

/// A write of a PG row is the next of its history: numbers rise, and count and sum are those of the list that its new entries
/// make of the list before, which they change.
///
/// # Errors
/// [`Invariant::RowsFollow`].
pub fn row_follows(before: Option<&PgRow>, after: &PgRow, list: &mut List) -> Result<(), Violation> {
    let pg = after.pg;
    let rule =
        |holds: bool, what: &str| hold(Invariant::RowsFollow, holds, || format!("pg {pg} seq {}: {what}", after.seq));
    if let Some(before) = before {
        rule(after.seq == before.seq + 1, "seq is not the next")?;
        rule(after.incarnation >= before.incarnation, "the incarnation fell")?;
        rule(after.epoch >= before.epoch && after.next_id >= before.next_id, "epoch or next_id fell")?;
        rule(after.members == before.members || after.epoch > before.epoch, "other members in the same epoch")?;
        rule(after.trim >= before.trim, "trim fell")?;
        rule(after.code == before.code && after.members.len() == before.members.len(), "another code")?;
        let kept = |entry: &&Entry| entry.seq <= before.seq;
        rule(
            after.entries.iter().filter(kept).all(|entry| before.entries.contains(entry)),
            "an entry of the past that was not there",
        )?;
    }
    rule(after.trim <= after.seq && after.entries.len() <= ENTRIES_MAX, "trim or entries over their limit")?;
    let held_twice = after.members.iter().chain(after.joining.values()).collect::<BTreeSet<_>>().len();
    rule(held_twice == after.members.len() + after.joining.len(), "one disk twice in the row")?;
    let known = before.map_or(0, |before| before.seq);
    for entry in after.entries.iter().filter(|entry| entry.seq > known) {
        rule(entry.seq == after.seq, "a new entry of another seq")?;
        rule(apply(list, entry), "an entry creates what is there or deletes what is not")?;
    }
    rule(sums(list, after), "count or sum are not those of the list")
}

/// Applies an entry; false where it does not fit the list.
pub fn apply(list: &mut List, entry: &Entry) -> bool {
    match entry.kind {
        EntryKind::Create | EntryKind::CreateOther => list.insert(entry.extent, entry.hash).is_none(),
        EntryKind::Delete => list.remove(&entry.extent) == Some(entry.hash),
        EntryKind::Supersede => list.insert(entry.extent, entry.hash).is_some_and(|old| old != entry.hash),
        // Of the record that another has taken the place of: that one is on the list.
        EntryKind::Release => list.get(&entry.extent).is_some_and(|listed| *listed != entry.hash),
    }
}

fn sums(list: &List, row: &PgRow) -> bool {
    list.len() as u64 == row.count && Sum::of(list.values()) == row.sum
}

/// A member as an observer sees it: what its disk says, whether it runs or not.
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    /// The disk.
    pub disk: DiskId,
    /// The row last heard, as (incarnation, seq).
    pub heard: (u32, u64),
    /// Its list.
    pub list: &'a List,
    /// Its prepared changes.
    pub prepared: &'a [Prepared],
}

/// Whether a member's list comes to the row by the row's entries alone.
pub fn comes_to(member: &MemberView<'_>, row: &PgRow) -> bool {
    if member.heard > row.order() {
        return false;
    }
    if member.list.len() as u64 == row.count && sums(member.list, row) {
        return true;
    }
    let mut list = member.list.clone();
    bring(&mut list, member.heard, row) && sums(&list, row)
}

fn bring(list: &mut List, heard: (u32, u64), row: &PgRow) -> bool {
    let later = |entry: &&Entry| entry.seq > heard.1;
    row.entries.iter().filter(later).all(|entry| apply(list, entry))
}

/// Some member's list comes to the row: by its entries, else with a subset of its prepared changes (`commit.md` line 9).
///
/// # Errors
/// [`Invariant::SomeListSums`].
pub fn some_list_sums<'a>(row: &PgRow, members: impl Iterator<Item = MemberView<'a>> + Clone) -> Result<(), Violation> {
    let found = row.count == 0
        || members.clone().any(|member| comes_to(&member, row))
        || members.clone().any(|member| explained(&member, row));
    hold(Invariant::SomeListSums, found, || {
        let heads: Vec<_> = members
            .map(|member| format!("{} heard {:?} count {}", member.disk, member.heard, member.list.len()))
            .collect();
        format!("pg {} seq {} count {}: {}", row.pg, row.seq, row.count, heads.join("; "))
    })
}

fn explained(member: &MemberView<'_>, row: &PgRow) -> bool {
    let prepared = member.prepared;
    if prepared.is_empty() || prepared.len() > PREPARED_SUBSET_MAX {
        return false;
    }
    let mut base = member.list.clone();
    if !bring(&mut base, member.heard, row) {
        return false;
    }
    (1u32..1 << prepared.len()).any(|subset| {
        let mut list = base.clone();
        let chosen = prepared.iter().enumerate().filter(|(at, _)| subset >> at & 1 == 1);
        chosen.into_iter().all(|(_, change)| {
            let Prepared { attempt, kind, extent, hash } = *change;
            apply(&mut list, &Entry { seq: row.seq, kind, extent, hash, attempt })
        }) && sums(&list, row)
    })
}

/// Entries that left the row were stored by all members not behind, and by `parity + 1` in all. `stored` says of a disk whether
/// its list has the change, by its seq.
///
/// # Errors
/// [`Invariant::EntriesStored`].
pub fn entries_stored(
    before: &PgRow,
    after: &PgRow,
    parity: usize,
    stored: impl Fn(DiskId, &Entry) -> bool,
) -> Result<(), Violation> {
    for entry in before.entries.iter().filter(|entry| !after.entries.contains(entry)) {
        let have: BTreeSet<DiskId> = after.members.iter().copied().filter(|disk| stored(*disk, entry)).collect();
        let lacking = after.members.iter().find(|disk| !after.behind.contains(disk) && !have.contains(disk));
        hold(Invariant::EntriesStored, lacking.is_none() && have.len() > parity, || {
            format!(
                "pg {} seq {}: entry {} of {} left the row; {} members have it, needed {}, lacking {lacking:?}",
                after.pg,
                after.seq,
                entry.seq,
                entry.extent,
                have.len(),
                parity + 1,
            )
        })?;
    }
    Ok(())
}

/// The highest token never falls.
///
/// # Errors
/// [`Invariant::TokensRise`].
pub fn tokens_rise(disk: DiskId, before: &Token, after: &Token) -> Result<(), Violation> {
    hold(Invariant::TokensRise, before.admits(after).is_ok(), || {
        format!("disk {disk}: {} after {}", after.order(), before.order())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::PgState;
    use crate::id::{AttemptId, CellKey, ClaimId, PgId};

    fn extent(counter: u64) -> ExtentKey {
        ExtentKey::compose(CellKey(1 << 112), PgId(1), 1, counter)
    }

    fn hash(counter: u64) -> RecordHash {
        RecordHash::of(&counter.to_le_bytes())
    }

    fn entry(seq: u64, kind: EntryKind, counter: u64) -> Entry {
        Entry { seq, kind, extent: extent(counter), hash: hash(counter), attempt: AttemptId::default() }
    }

    /// Of three members, with nothing on the list.
    pub(super) fn row() -> PgRow {
        PgRow {
            pg: PgId(1),
            incarnation: 1,
            seq: 1,
            epoch: 1,
            code: [0; ec_core::code::DESCRIPTOR_BYTES],
            members: (1..4).map(DiskId).collect(),
            joining: BTreeMap::new(),
            behind: BTreeSet::new(),
            state: PgState::Open,
            crowded: false,
            next_id: 0,
            count: 0,
            sum: Sum::default(),
            trim: 0,
            entries: Vec::new(),
        }
    }

    fn created(before: &PgRow, counter: u64) -> PgRow {
        let mut after = before.clone();
        after.seq += 1;
        after.count += 1;
        after.sum = after.sum.plus(&hash(counter));
        after.entries.push(entry(after.seq, EntryKind::Create, counter));
        after
    }

    #[test]
    fn rows_follow_each_other_and_sum() {
        let (mut list, first) = (List::new(), row());
        row_follows(None, &first, &mut list).unwrap();
        let second = created(&first, 7);
        row_follows(Some(&first), &second, &mut list).unwrap();
        assert_eq!(list.len(), 1);
        let wrong = |change: &dyn Fn(&mut PgRow)| {
            let mut after = created(&second, 8);
            change(&mut after);
            row_follows(Some(&second), &after, &mut list.clone()).is_err()
        };
        assert!(!wrong(&|_| ()));
        assert!(wrong(&|after| after.seq += 1));
        assert!(wrong(&|after| after.sum = after.sum.plus(&hash(9))));
        assert!(wrong(&|after| after.count += 1));
        assert!(wrong(&|after| after.entries.clear()));
        assert!(wrong(&|after| after.entries[1].extent = extent(7)));
        assert!(wrong(&|after| after.members.swap(0, 1)));
        assert!(wrong(&|after| after.next_id = 0) == (second.next_id > 0));
        assert!(wrong(&|after| after.trim = 99));
        assert!(wrong(&|after| {
            after.joining.insert(0, DiskId(2));
        }));
        assert!(wrong(&|after| after.entries[0].seq = 1));
    }

    #[test]
    fn a_list_sums_by_entries_or_by_prepared_changes_and_not_otherwise() {
        let second = created(&created(&row(), 7), 8);
        let old = List::from([(extent(7), hash(7))]);
        let view = |heard, list, prepared| MemberView { disk: DiskId(1), heard, list, prepared };
        assert!(some_list_sums(&second, [view((1, 2), &old, &[])].into_iter()).is_ok());
        let mut trimmed = second.clone();
        trimmed.entries.clear();
        assert!(some_list_sums(&trimmed, [view((1, 2), &old, &[])].into_iter()).is_err());
        let change = |counter| Prepared {
            attempt: AttemptId { claim: ClaimId(1), number: counter },
            kind: EntryKind::Create,
            extent: extent(counter),
            hash: hash(counter),
        };
        let prepared = [change(9), change(8)];
        assert!(some_list_sums(&trimmed, [view((1, 2), &old, &prepared)].into_iter()).is_ok());
        assert!(some_list_sums(&trimmed, [view((1, 2), &old, &prepared[..1])].into_iter()).is_err());
        // A member that heard more than the row says proves nothing about the row.
        assert!(!comes_to(&view((1, 9), &old, &[]), &second));
    }

    #[test]
    fn an_entry_stays_until_enough_have_it() {
        let before = created(&row(), 7);
        let mut after = before.clone();
        (after.seq, after.entries) = (3, Vec::new());
        let stored = |count: u128| move |disk: DiskId, _: &Entry| disk.0 <= count;
        assert!(entries_stored(&before, &after, 1, stored(3)).is_ok());
        assert!(entries_stored(&before, &after, 1, stored(2)).is_err());
        after.behind.insert(DiskId(3));
        assert!(entries_stored(&before, &after, 1, stored(2)).is_ok());
        assert!(entries_stored(&before, &after, 2, stored(2)).is_err());
    }

    #[test]
    fn tokens_and_names() {
        let token = |revision, claim| Token { incarnation: 1, revision, restore: 1, claim: ClaimId(claim) };
        assert!(tokens_rise(DiskId(1), &token(1, 1), &token(2, 2)).is_ok());
        assert!(tokens_rise(DiskId(1), &token(2, 2), &token(1, 1)).is_err());
        let names: BTreeSet<_> = Invariant::ALL.iter().map(|invariant| invariant.as_str()).collect();
        assert_eq!(names.len(), Invariant::ALL.len());
        let page = include_str!("../../docs/invariants.md");
        let untold: Vec<_> = names.into_iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(untold.is_empty(), "docs/invariants.md does not say what holds by {untold:?}");
        for number in 1..=23 {
            assert!(
                page.contains(&format!("| I{number} |")) && (number > 8 || page.contains(&format!("| L{number} |")))
            );
        }
    }
}
