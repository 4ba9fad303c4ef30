use super::*;
use crate::node::coming::Coming;
use crate::node::testing::*;

fn brought(ledger: &mut Ledger, row: &PgRow) -> Result<(), String> {
    match ledger.come_to(row, DISK) {
        Coming::Behind(reason) => Err(reason),
        Coming::Level(changes) => {
            changes.into_iter().for_each(|change| ledger.apply(change));
            assert_eq!(ledger.check(), Ok(()), "called level");
            Ok(())
        }
    }
}

#[test]
fn entries_are_taken_in_order_once_and_a_gap_is_noticed() {
    let (mut ledger, mut owner) = (Ledger::default(), Owner::new());
    let (a, b, c) = (owner.make(1), owner.make(1), owner.make(1));
    owner.commit(&a);
    brought(&mut ledger, &owner.row).unwrap();
    // Several at once, one of them heard before; created and deleted in between.
    owner.commit(&b);
    owner.commit(&c);
    let attempt = owner.attempt();
    owner.commit_delete(&b, attempt);
    brought(&mut ledger, &owner.row).unwrap();
    assert_eq!(ledger.list().keys().collect::<Vec<_>>(), [&a.extent, &c.extent]);
    assert_eq!(ledger.tombstones.get(&b.extent), Some(&owner.row.seq));
    let before = ledger.clone();
    let missed = owner.make(1);
    owner.commit(&missed);
    owner.row.entries.clear();
    assert!(brought(&mut ledger, &owner.row).is_err());
    assert_eq!(ledger, before);
}

#[test]
fn a_sum_that_does_not_fit_is_behind_even_where_the_count_does() {
    let (mut ledger, mut owner) = (Ledger::default(), Owner::new());
    let (ours, theirs) = (owner.make(1), owner.make(2));
    let mut other = owner.clone();
    owner.commit(&ours);
    brought(&mut ledger, &owner.row).unwrap();
    other.commit(&theirs);
    other.row.seq += 1;
    other.row.entries.clear();
    assert!(brought(&mut ledger, &other.row).is_err());
    // An entry that deletes another record than ours, or makes another of the same extent.
    for kind in [EntryKind::Create, EntryKind::Delete] {
        let mut strange = owner.clone();
        strange.commit_delete(&Made { hash: theirs.hash, ..ours.clone() }, ours.attempt);
        strange.row.entries.last_mut().unwrap().kind = kind;
        assert!(brought(&mut ledger, &strange.row).is_err());
    }
}

#[test]
fn the_trim_of_a_row_takes_tombstones_away() {
    let (mut ledger, mut owner) = (Ledger::default(), Owner::new());
    let (a, b) = (owner.make(1), owner.make(1));
    owner.commit(&a);
    owner.commit(&b);
    let (first, second) = (owner.attempt(), owner.attempt());
    owner.commit_delete(&a, first);
    let trim = owner.row.seq;
    owner.commit_delete(&b, second);
    brought(&mut ledger, &owner.row).unwrap();
    assert_eq!(ledger.tombstones.len(), 2);
    (owner.row.trim, owner.row.seq) = (trim, owner.row.seq + 1);
    brought(&mut ledger, &owner.row).unwrap();
    assert_eq!(ledger.tombstones.keys().collect::<Vec<_>>(), [&b.extent]);
}

#[test]
fn files_are_unlinked_only_behind_a_later_row_without_their_entry() {
    let (mut ledger, mut owner) = (Ledger::default(), Owner::new());
    let a = owner.make(1);
    owner.commit(&a);
    let attempt = owner.attempt();
    owner.commit_delete(&a, attempt);
    let seq = owner.row.seq;
    assert!(!ledger.unlinkable(seq), "nothing heard yet");
    brought(&mut ledger, &owner.row).unwrap();
    assert!(!ledger.unlinkable(seq));
    owner.row.seq += 1;
    brought(&mut ledger, &owner.row).unwrap();
    assert!(!ledger.unlinkable(seq), "the entry is still there");
    owner.trim();
    brought(&mut ledger, &owner.row).unwrap();
    assert!(ledger.unlinkable(seq));
    assert!(!ledger.unlinkable(owner.row.seq), "that row is the last heard");
}

#[test]
fn absence_is_damage_only_for_a_member_that_nothing_excuses() {
    let (mut ledger, mut owner) = (Ledger::default(), Owner::new());
    let a = owner.make(1);
    owner.commit(&a);
    brought(&mut ledger, &owner.row).unwrap();
    let ours = a.fragment();
    assert!(ledger.must_hold(&ours, DISK) && ledger.owes(&ours, DISK));
    assert!(!ledger.owes(&FragmentKey { index: 0, ..ours }, DISK));
    assert!(!ledger.owes(&FragmentKey { extent: owner.make(1).extent, ..ours }, DISK));
    owner.row.behind.insert(DISK);
    owner.row.seq += 1;
    brought(&mut ledger, &owner.row).unwrap();
    assert!(!ledger.must_hold(&ours, DISK) && ledger.owes(&ours, DISK));
    owner.row.behind.clear();
    owner.row.members[1] = DiskId(99);
    owner.row.joining.insert(1, DISK);
    owner.row.seq += 1;
    brought(&mut ledger, &owner.row).unwrap();
    assert!(!ledger.must_hold(&ours, DISK) && ledger.owes(&ours, DISK));
}

#[test]
fn a_list_taken_over_keeps_what_is_still_open() {
    let (mut ledger, mut owner) = (Ledger::default(), Owner::new());
    let (a, b, open) = (owner.make(1), owner.make(1), owner.make(1));
    let prepared = |made: &Made, kind| {
        let (attempt, extent, hash) = (made.attempt, made.extent, made.hash);
        Change::Prepared(Prepared { attempt, kind, extent, hash })
    };
    // `a` was committed, the deletion of `b` too, `open` nobody knows.
    ledger.apply(prepared(&a, EntryKind::Create));
    ledger.apply(prepared(&b, EntryKind::Delete));
    ledger.apply(prepared(&open, EntryKind::Create));
    owner.commit(&a);
    let list: BTreeMap<_, _> = [(a.extent, a.hash)].into();
    let buried: BTreeMap<_, _> = [(b.extent, owner.row.seq), (open.extent, 0)].into();
    let given = |listed| Adopted { listed, tombstones: buried.clone(), ..Adopted::default() };
    let adopted = ledger.adopting(&owner.row, given(list)).unwrap();
    assert_eq!(adopted.prepared.keys().collect::<Vec<_>>(), [&open.attempt]);
    assert_eq!(adopted.tombstones, [(b.extent, owner.row.seq)].into(), "those below the trim are over");
    assert_eq!(adopted.check(), Ok(()));
    assert_eq!(ledger.adopting(&owner.row, given(BTreeMap::new())), None);
}
