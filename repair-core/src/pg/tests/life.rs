//! A record takes another's place, and what was before is released: each step, and what may come between two.

use super::world::{Fate, Flight, World, disk, record_of};
use crate::catalog::{EntryKind, Txn};
use crate::id::ExtentKey;
use crate::pg::{CreateResult, DeleteResult, PgConfig, PgEvent, PgOutcome};
use crate::shape::Shape;
use crate::wire::NodeRequest;
use ec_core::CodeSpec;
use std::collections::BTreeSet;

const COMMITTED: CreateResult = CreateResult::Committed { degraded: false };
/// Enough for listings, releases, and all members to hear of them.
const LONG: u64 = 200_000;

fn none() -> BTreeSet<(crate::id::DiskId, ExtentKey)> {
    BTreeSet::new()
}

fn is_txn(flight: &Flight) -> bool {
    matches!(flight, Flight::Txn { .. })
}

fn is_listing(flight: &Flight) -> bool {
    matches!(flight, Flight::Request { request: NodeRequest::Holdings { .. }, .. })
}

fn is_prepare_of(flight: &Flight, wanted: EntryKind) -> bool {
    matches!(flight, Flight::Request { request: NodeRequest::Prepare { kind, .. }, .. } if *kind == wanted)
}

/// A group of five with so many extents on file.
fn with_extents(count: usize) -> (World, Vec<ExtentKey>) {
    let mut world = World::new("rs:3+2", 1);
    let mut extents = Vec::new();
    for _ in 0..count {
        world.run();
        let (ticket, grant) = world.create(0);
        world.run();
        assert_eq!(world.created(ticket), Some(COMMITTED));
        extents.push(grant.extent);
    }
    (world, extents)
}

/// How many files of an extent lie in the group: of its first record, and of later ones.
fn files(world: &World, extent: ExtentKey) -> (usize, usize) {
    let names = || world.fakes.values().flat_map(|fake| fake.names().into_keys()).filter(|name| name.extent == extent);
    (names().filter(|name| name.generation == 1).count(), names().filter(|name| name.generation != 1).count())
}

fn released(world: &World, extent: ExtentKey) -> bool {
    world.told(|outcome| *outcome == PgOutcome::Released { extent })
}

#[test]
fn old_files_stay_until_listings_have_shown_the_new_ones() {
    let (mut world, extents) = with_extents(3);
    let (count, extent) = (world.row().count, extents[1]);
    let (ticket, succession) = world.supersede(0, extent, "replicate:3");
    world.run_but(is_txn);
    assert!(world.fakes.values().filter(|fake| fake.prepared.contains_key(&succession.attempt)).count() == 5);
    assert_eq!(world.superseded(ticket), None, "nothing is said before the row is written");
    world.run();
    assert_eq!(world.superseded(ticket), Some(COMMITTED));
    assert_eq!(world.row().count, count);
    assert_eq!(files(&world, extent), (5, 3));
    assert_eq!(world.owners[0].shape(extent), Some(Shape { generation: succession.generation, fragments: 3 }));
    world.run_for(10_000);
    assert_eq!((files(&world, extent), released(&world, extent)), ((5, 3), false));
    world.run_for(LONG);
    assert_eq!((files(&world, extent), released(&world, extent)), ((0, 3), true));
    assert!(world.fakes.values().all(|fake| fake.superseded.is_empty()));
    assert!(world.row().entries.is_empty(), "what all have stored leaves the row");
    world.check(&none());
    // Members that hold no fragment of it have its line, and nobody misses anything on them.
    assert_eq!(world.fakes[&disk(5)].list.get(&extent), world.truth.get(&extent));
    assert!(world.owners[0].needs().is_empty());
    assert!(world.owners[0].slots().iter().all(|slot| slot.missing == Some(BTreeSet::new())));
}

#[test]
fn a_listing_that_began_before_the_record_was_on_file_releases_nothing() {
    let (mut world, extents) = with_extents(3);
    world.run_for(5_000);
    // A count is under way, its first pages are read.
    (1..=5).for_each(|number| world.tell(0, PgEvent::Sound { disk: disk(number), extent: extents[0] }));
    for number in 1..=5 {
        world.tell(0, PgEvent::Damaged { disk: disk(number), extent: extents[0] });
        world.tell(0, PgEvent::Sound { disk: disk(number), extent: extents[0] });
    }
    assert!(world.flights.iter().any(is_listing), "a count is asked for");
    let (ticket, _) = world.supersede(0, extents[2], "replicate:3");
    world.run_but(is_listing);
    assert_eq!(world.superseded(ticket), Some(COMMITTED));
    // The rest of it shows the new files, and is not evidence of now.
    world.run();
    world.now = world.now + crate::time::Millis(20_000);
    world.tell(0, PgEvent::Tick);
    world.run();
    assert_eq!((files(&world, extents[2]), released(&world, extents[2])), ((5, 3), false));
    world.run_for(LONG);
    assert!(released(&world, extents[2]));
}

#[test]
fn nothing_is_released_while_a_new_fragment_is_not_there() {
    let (mut world, extents) = with_extents(2);
    let (_, succession) = world.supersede(0, extents[0], "replicate:3");
    world.run();
    let name = Shape { generation: succession.generation, fragments: 3 }.place(extents[0], 1);
    assert_eq!(world.fake(2).later.remove(&name), Some(false), "somebody deletes it");
    world.run_for(LONG);
    assert_eq!((files(&world, extents[0]), released(&world, extents[0])), ((5, 2), false));
    assert_eq!(world.repair(0), 1, "the new one is what is missed, and only on its member");
    world.run_for(LONG);
    assert_eq!((files(&world, extents[0]), released(&world, extents[0])), ((0, 3), true));
}

#[test]
fn what_was_counted_and_is_damaged_since_is_not_released() {
    let (mut world, extents) = with_extents(1);
    let _ = world.supersede(0, extents[0], "replicate:3");
    world.run();
    let release = |flight: &Flight| is_prepare_of(flight, EntryKind::Release);
    while !world.flights.iter().any(release) {
        world.now = world.now + crate::time::Millis(1_000);
        world.tell(0, PgEvent::Tick);
        world.run_but(release);
    }
    world.run_but(|flight| release(flight) || is_txn(flight));
    let name = *world.fakes[&disk(3)].later.keys().next().unwrap();
    world.fake(3).later.insert(name, true);
    world.tell(0, PgEvent::Damaged { disk: disk(3), extent: extents[0] });
    world.run_for(LONG);
    assert_eq!((files(&world, extents[0]), released(&world, extents[0])), ((5, 3), false));
}

#[test]
fn a_member_that_came_back_is_listed_again_before_it_counts() {
    let (mut world, extents) = with_extents(1);
    let _ = world.supersede(0, extents[0], "replicate:3");
    world.run();
    let release = |flight: &Flight| is_prepare_of(flight, EntryKind::Release);
    while !world.flights.iter().any(release) {
        world.now = world.now + crate::time::Millis(1_000);
        world.tell(0, PgEvent::Tick);
        world.run_but(release);
    }
    // It restarts, and has lost the file; a listing of it takes its time.
    world.fall(3);
    world.rise(3);
    let name = *world.fakes[&disk(3)].later.keys().next().unwrap();
    world.fake(3).later.remove(&name);
    let slow = |flight: &Flight| matches!(flight, Flight::Request { request: NodeRequest::Holdings { .. }, disk: at, .. } if *at == disk(3));
    for _ in 0..30 {
        world.run_but(slow);
        world.now = world.now + crate::time::Millis(1_000);
        world.tell(0, PgEvent::Tick);
    }
    world.run_but(slow);
    assert_eq!((files(&world, extents[0]), released(&world, extents[0])), ((5, 2), false));
    world.run();
    assert_eq!(world.repair(0), 1);
    world.run_for(LONG);
    assert!(released(&world, extents[0]));
}

#[test]
fn a_release_waits_for_a_whole_group() {
    let (mut world, extents) = with_extents(2);
    let (ticket, _) = world.supersede(0, extents[0], "replicate:3");
    world.run();
    assert_eq!(world.superseded(ticket), Some(COMMITTED));
    // A member that holds no fragment of it is behind.
    world.fall(5);
    let (_, grant) = world.create(0);
    world.run_for(LONG);
    assert!(world.row().behind.contains(&disk(5)) || world.row().count == 2);
    if !world.row().behind.contains(&disk(5)) {
        world.delete(0, grant.extent);
    }
    let _ = world.delete(0, extents[1]);
    world.run_for(LONG);
    assert!(world.row().behind.contains(&disk(5)), "{:?}", world.row());
    assert_eq!((files(&world, extents[0]), released(&world, extents[0])), ((5, 3), false));
    assert!(world.owners[0].waits().iter().any(|wait| wait.contains("superseded")), "{:?}", world.owners[0].waits());
    world.rise(5);
    for _ in 0..5 {
        world.run_for(LONG);
        while world.repair(0) > 0 {
            world.run_for(1_000);
        }
    }
    assert_eq!((files(&world, extents[0]), released(&world, extents[0])), ((0, 3), true));
}

#[test]
fn the_next_owner_releases_what_this_one_superseded() {
    let (mut world, extents) = with_extents(3);
    let (ticket, succession) = world.supersede(0, extents[0], "replicate:3");
    world.run();
    assert_eq!(world.superseded(ticket), Some(COMMITTED));
    let next = world.claim();
    for number in 1..=5 {
        world.tell(next, PgEvent::Reachable { disk: disk(number) });
    }
    world.run_but(|flight| is_prepare_of(flight, EntryKind::Release));
    assert!(world.owners[next].is_ready());
    assert_eq!(world.owners[next].superseded().count(), 1);
    assert_eq!(world.owners[next].shape(extents[0]).map(|shape| shape.generation), Some(succession.generation));
    world.run_for(LONG);
    assert_eq!(files(&world, extents[0]), (0, 3));
    assert!(world.owners[next].needs().is_empty());
    // And whoever comes then knows the record's files, and that nothing waits.
    let last = world.claim();
    world.run();
    assert_eq!(world.owners[last].superseded().count(), 0);
    assert_eq!(world.owners[last].shape(extents[0]), world.owners[next].shape(extents[0]));
    assert_eq!(world.owners[last].shape(extents[1]), Some(Shape { generation: 1, fragments: 5 }));
}

#[test]
fn what_an_owner_prepared_and_did_not_commit_goes_and_the_old_record_stays() {
    let (mut world, extents) = with_extents(1);
    let old = world.truth[&extents[0]];
    let _ = world.supersede(0, extents[0], "replicate:3");
    world.run_but(is_txn);
    assert_eq!(files(&world, extents[0]), (5, 3));
    let lost = world.take(is_txn);
    let next = world.claim();
    world.run_for(LONG);
    assert_eq!((files(&world, extents[0]), world.truth[&extents[0]]), ((5, 0), old));
    assert!(world.fakes.values().all(|fake| fake.prepared.is_empty()));
    // The old owner's write comes late.
    for flight in lost {
        world.deliver(flight);
    }
    world.run_for(LONG);
    assert_eq!(world.truth[&extents[0]], old);
    let (ticket, _) = world.supersede(next, extents[0], "replicate:3");
    world.run_for(LONG);
    assert_eq!((world.superseded(ticket), files(&world, extents[0])), (Some(COMMITTED), (0, 3)));
}

#[test]
fn a_silent_write_of_a_supersede_is_known_from_the_row() {
    for fate in [Fate::AppliedUnknown, Fate::LostUnknown, Fate::AppliedRefused, Fate::LateUnknown] {
        let (mut world, extents) = with_extents(1);
        let (ticket, _) = world.supersede(0, extents[0], "replicate:3");
        world.run_but(is_txn);
        let (owner, op, txn) = world.take_txn();
        world.deliver_txn(owner, op, txn, fate);
        world.run_for(LONG);
        assert_eq!(world.superseded(ticket), Some(COMMITTED), "{fate:?}");
        assert_eq!(files(&world, extents[0]), (0, 3), "{fate:?}");
        world.check(&none());
    }
}

#[test]
fn a_delete_and_a_supersede_of_one_extent_do_not_cross() {
    let (mut world, extents) = with_extents(2);
    // The delete is first.
    let succession = world.owners[0].grant_successor(extents[0]).unwrap();
    world.collect(0);
    let deleted = world.delete(0, extents[0]);
    let superseded = world.ask_supersede(0, &succession, "replicate:3");
    world.run_for(LONG);
    assert_eq!(world.deleted(deleted), Some(DeleteResult::Deleted));
    assert!(matches!(world.superseded(superseded), Some(CreateResult::Failed { .. })));
    assert_eq!(files(&world, extents[0]), (0, 0));
    // The supersede is, and is under way.
    let (superseded, _) = world.supersede(0, extents[1], "replicate:3");
    let early = world.delete(0, extents[1]);
    world.run();
    assert_eq!(world.superseded(superseded), Some(COMMITTED));
    assert!(matches!(world.deleted(early), Some(DeleteResult::NotNow { .. })));
    // Before the release, a delete takes both.
    let deleted = world.delete(0, extents[1]);
    world.run_for(LONG);
    assert_eq!(world.deleted(deleted), Some(DeleteResult::Deleted));
    assert_eq!((files(&world, extents[1]), released(&world, extents[1])), ((0, 0), false));
    assert_eq!(world.owners[0].superseded().count(), 0);
}

#[test]
fn a_member_that_lost_its_journal_is_told_which_files_the_records_are_of() {
    let (mut world, extents) = with_extents(3);
    let _ = world.supersede(0, extents[0], "replicate:3");
    world.run();
    let _ = world.supersede(0, extents[1], "replicate:3");
    world.run();
    // One more is away: nothing is released meanwhile.
    world.fall(5);
    let _ = world.delete(0, extents[2]);
    world.run_for(20_000);
    let fake = world.fake(2);
    (fake.lost, fake.heard, fake.list) = (true, None, Default::default());
    (fake.shapes, fake.superseded) = Default::default();
    world.fall(2);
    world.rise(2);
    for _ in 0..3 {
        world.run_for(2_000);
        world.repair(0);
    }
    assert_eq!(world.fakes[&disk(2)].shapes, world.fakes[&disk(1)].shapes);
    assert_eq!(world.fakes[&disk(2)].superseded, world.fakes[&disk(1)].superseded);
    assert_eq!(world.fakes[&disk(2)].superseded.len(), 2);
    assert_eq!(files(&world, extents[0]), (5, 3), "and puts none of them aside");
    world.rise(5);
    world.run_for(LONG);
    assert_eq!((files(&world, extents[0]), files(&world, extents[1])), ((0, 3), (0, 3)));
    world.check(&none());
}

#[test]
fn a_member_that_does_not_answer_ends_the_attempt_and_not_its_own_standing() {
    let (mut world, extents) = with_extents(1);
    world.run_for(5_000);
    let (ticket, succession) = world.supersede(0, extents[0], "replicate:3");
    world.fall(4);
    world.run_for(10_000);
    assert!(matches!(world.superseded(ticket), Some(CreateResult::Failed { .. })), "{:?}", world.superseded(ticket));
    assert_eq!(files(&world, extents[0]), (5, 0));
    assert!(world.row().behind.is_empty());
    assert!(world.owners[0].can_supersede(extents[0]).is_err());
    assert!(world.owners[0].grant_successor(extents[0]).is_none());
    world.rise(4);
    world.run_for(LONG);
    // Asked again it has still failed; a new attempt has another generation.
    let again = world.ask_supersede(0, &succession, "replicate:3");
    world.run();
    assert!(matches!(world.superseded(again), Some(CreateResult::Failed { .. })));
    let (ticket, next) = world.supersede(0, extents[0], "replicate:3");
    assert!(next.generation > succession.generation);
    world.run_for(LONG);
    assert_eq!((world.superseded(ticket), files(&world, extents[0])), (Some(COMMITTED), (0, 3)));
}

#[test]
fn a_second_successor_waits_for_the_release_of_the_first() {
    let (mut world, extents) = with_extents(1);
    let _ = world.supersede(0, extents[0], "replicate:3");
    world.run();
    let wait = world.owners[0].can_supersede(extents[0]).unwrap_err();
    assert!(wait.contains("released"), "{wait}");
    assert!(world.owners[0].grant_successor(extents[0]).is_none());
    world.run_for(LONG);
    let (ticket, _) = world.supersede(0, extents[0], "rs:3+2");
    world.run_for(LONG);
    assert_eq!((world.superseded(ticket), files(&world, extents[0])), (Some(COMMITTED), (0, 5)));
}

#[test]
fn a_record_of_another_birth_than_was_granted_is_refused() {
    let (mut world, extents) = with_extents(1);
    let grants = [("replicate:3", 2, 1u64), ("replicate:3", 1, 0), ("rs:4+2", 2, 0)];
    for (code, revision, generation) in grants {
        let succession = world.owners[0].grant_successor(extents[0]).unwrap();
        world.collect(0);
        let generation = if generation == 0 { succession.generation } else { generation };
        let record = record_of(extents[0], code, revision, generation);
        let (ticket, attempt) = (world.ticket(extents[0]), succession.attempt);
        world.tell(0, PgEvent::Supersede { ticket, attempt, extent: extents[0], record });
        assert!(
            !world.flights.iter().any(|flight| is_prepare_of(flight, EntryKind::Supersede)),
            "no member hears of it"
        );
        world.run();
        assert!(matches!(world.superseded(ticket), Some(CreateResult::Failed { .. })), "{code} {revision}");
    }
    assert_eq!(files(&world, extents[0]), (5, 0));
}

#[test]
fn an_extent_may_be_born_with_the_code_of_the_policy_on_some_of_the_members() {
    let birth_code = Some("replicate:3".parse::<CodeSpec>().unwrap().to_descriptor());
    let config = PgConfig { birth_code, id_block: 16, ..PgConfig::default() };
    let mut world = World::with("rs:3+2", 0, config);
    world.run();
    let born = |world: &mut World| {
        let grant = world.owners[0].grant().unwrap();
        world.collect(0);
        let record = record_of(grant.extent, "replicate:3", 1, 1);
        let hash = crate::id::RecordHash::of(&record);
        let shape = Shape { generation: 1, fragments: 3 };
        world.records.insert(hash, shape);
        for (index, disk) in grant.members.iter().enumerate() {
            let fake = world.fakes.get_mut(&disk.unwrap()).unwrap();
            fake.records.insert(hash, shape);
            if index < 3 {
                fake.staged.insert((grant.attempt, grant.extent));
            }
        }
        let ticket = world.ticket(grant.extent);
        let (attempt, extent) = (grant.attempt, grant.extent);
        world.tell(0, PgEvent::Create { ticket, attempt, extent, record, beside: Txn::new() });
        (ticket, extent)
    };
    let (ticket, extent) = born(&mut world);
    world.run();
    assert_eq!((world.created(ticket), files(&world, extent)), (Some(COMMITTED), (3, 0)));
    assert!(world.fakes.values().all(|fake| fake.list.contains_key(&extent)));
    assert!(world.owners[0].needs().is_empty());
    let (encoded, _) = world.supersede(0, extent, "rs:3+2");
    world.run_for(LONG);
    assert_eq!((world.superseded(encoded), files(&world, extent)), (Some(COMMITTED), (0, 5)));
    // No other code is.
    let grant = world.owners[0].grant().unwrap();
    world.collect(0);
    let (ticket, attempt, extent) = (world.ticket(grant.extent), grant.attempt, grant.extent);
    let record = record_of(extent, "replicate:2", 1, 1);
    world.tell(0, PgEvent::Create { ticket, attempt, extent, record, beside: Txn::new() });
    assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })), "{:?}", world.created(ticket));
    // With gaps nobody would know later which members were to hold it.
    let (ticket, extent) = born(&mut world);
    world.fall(5);
    world.run_for(LONG);
    assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })), "{:?}", world.created(ticket));
    assert_eq!(files(&world, extent), (0, 0));
}
