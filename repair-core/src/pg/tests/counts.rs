//! Counting: it holds nothing up, ends however the row moves, and is what every "whole" rests on.

use super::world::{Flight, PG, World, disk};
use crate::catalog::{PgRow, PgState, Txn, key};
use crate::id::ExtentKey;
use crate::pg::{CreateResult, DeleteResult, PgEvent, PgOutcome};
use crate::time::Millis;
use crate::wire::codec::encode_row;
use crate::wire::{CallError, NodeRequest};
use std::collections::BTreeSet;

fn with_extents(code: &str, spares: u128, extents: usize) -> (World, Vec<ExtentKey>) {
    let mut world = World::new(code, spares);
    world.run();
    let mut made = Vec::new();
    for _ in 0..extents {
        let (ticket, grant) = world.create(0);
        world.run();
        assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: false }));
        made.push(grant.extent);
    }
    world.run_for(5_000);
    (world, made)
}

fn is_listing(flight: &Flight) -> bool {
    matches!(flight, Flight::Request { request: NodeRequest::Holdings { .. }, .. })
}

fn begins_listing(flight: &Flight) -> bool {
    matches!(flight, Flight::Request { request: NodeRequest::Holdings { after: None, .. }, .. })
}

fn joined(world: &World) -> bool {
    world.told(|outcome| matches!(outcome, PgOutcome::Joined { .. }))
}

/// Index 1 on its way from disk 2 to disk 6, all of it rebuilt, the listings that will end it held back.
fn about_to_join(extents: usize) -> (World, Vec<ExtentKey>) {
    let (mut world, made) = with_extents("rs:3+2", 1, extents);
    world.fall(2);
    world.tell(0, PgEvent::Join { index: 1, disk: disk(6) });
    world.tell(0, PgEvent::Reachable { disk: disk(6) });
    world.run_for(1_000);
    assert_eq!(world.repair(0), extents);
    world.run_but(is_listing);
    assert!(world.flights.iter().any(is_listing) && !joined(&world));
    (world, made)
}

#[test]
fn changes_are_committed_while_a_listing_is_read() {
    let (mut world, extents) = about_to_join(6);
    let ticket = world.delete(0, extents[0]);
    // The one that does not answer is waited for a little; no listing is.
    world.now = world.now + Millis(6_000);
    world.tell(0, PgEvent::Tick);
    world.run_but(is_listing);
    assert_eq!(world.deleted(ticket), Some(DeleteResult::Deleted), "{:?}", world.owners[0].waits());
    assert!(world.flights.iter().any(is_listing) && !joined(&world), "the listing is still under way");
    world.run_for(10_000);
    assert!(joined(&world));
    assert_eq!(world.row().state, PgState::Open);
    world.check(&BTreeSet::new());
}

#[test]
fn a_count_ends_under_steady_deletes() {
    let (mut world, extents) = about_to_join(40);
    // The one that does not answer is behind by the first of them.
    world.delete(0, extents[39]);
    world.now = world.now + Millis(6_000);
    world.tell(0, PgEvent::Tick);
    world.run_but(is_listing);
    for extent in extents.iter().take(30) {
        // One page of each listing, then the row moves.
        let pages = world.take(is_listing);
        pages.into_iter().for_each(|page| world.deliver(page));
        let ticket = world.delete(0, *extent);
        world.now = world.now + Millis(100);
        world.tell(0, PgEvent::Tick);
        world.run_but(is_listing);
        if joined(&world) {
            break;
        }
        assert_eq!(world.deleted(ticket), Some(DeleteResult::Deleted));
    }
    assert!(joined(&world), "{:?}", world.owners[0].waits());
    world.run_for(10_000);
    assert_eq!(world.row().state, PgState::Open);
    world.check(&BTreeSet::new());
}

#[test]
fn a_listing_that_moves_on_may_take_long() {
    let (mut world, _) = about_to_join(9);
    for _ in 0..30 {
        let pages = world.take(is_listing);
        world.now = world.now + Millis(8_000);
        world.tell(0, PgEvent::Tick);
        pages.into_iter().for_each(|page| world.deliver(page));
        world.run_but(is_listing);
    }
    assert!(joined(&world), "{:?}", world.owners[0].waits());
    assert_eq!(world.row().state, PgState::Open);
}

#[test]
fn a_disk_whose_listings_got_no_answer_is_counted_when_it_answers_again() {
    let (mut world, _) = about_to_join(4);
    for _ in 0..2 {
        for listing in world.take(is_listing) {
            let Flight::Request { owner, call, .. } = listing else { continue };
            world.deliver(Flight::Reply { owner, call, result: Err(CallError::Timeout) });
        }
        world.now = world.now + Millis(61_000);
        world.tell(0, PgEvent::Tick);
        world.run_but(is_listing);
    }
    world.run_for(10_000);
    assert!(joined(&world), "{:?}", world.owners[0].waits());
    assert_eq!(world.row().state, PgState::Open);
}

#[test]
fn a_create_beside_the_listing_is_owed_by_the_disk_that_comes() {
    let (mut world, _) = about_to_join(4);
    let (ticket, grant) = world.create(0);
    world.run_but(is_listing);
    assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: true }));
    world.run_for(10_000);
    assert!(!joined(&world), "it has all but the last one");
    assert_eq!(world.owners[0].needs().iter().map(|need| need.extent).collect::<Vec<_>>(), [grant.extent]);
    assert_eq!(world.repair(0), 1);
    world.run_for(10_000);
    assert!(joined(&world));
    world.check(&BTreeSet::new());
}

fn slot_of(world: &World, number: u128) -> (bool, usize) {
    let slots = world.owners[0].slots();
    let slot = slots.iter().find(|slot| slot.disk == disk(number)).unwrap();
    (slot.counted, slot.missing.as_ref().unwrap().len())
}

#[test]
fn what_a_repair_says_is_not_counted_before_a_listing_shows_it() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 3);
    assert_eq!(slot_of(&world, 2), (true, 0));
    world.fake(2).files.insert((extents[1], 1), true);
    world.tell(0, PgEvent::Damaged { disk: disk(2), extent: extents[1] });
    world.run();
    assert_eq!(world.repair(0), 1);
    // The target said that it was there, and it is not.
    world.fake(2).files.remove(&(extents[1], 1));
    world.run_but(is_listing);
    assert_eq!(slot_of(&world, 2), (false, 0), "nothing is known to be missing, and nothing has shown that");
    assert!(world.owners[0].waits().iter().any(|wait| wait.contains("counted again")), "{:?}", world.owners[0].waits());
    world.run_for(1_000);
    assert_eq!(slot_of(&world, 2), (true, 1), "found by the listing");
    assert_eq!(world.repair(0), 1);
    world.run_for(1_000);
    assert_eq!(slot_of(&world, 2), (true, 0));
}

#[test]
fn many_repairs_of_a_disk_are_confirmed_by_one_listing() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 12);
    for extent in &extents {
        world.fake(2).files.insert((*extent, 1), true);
        world.tell(0, PgEvent::Damaged { disk: disk(2), extent: *extent });
    }
    world.run();
    let mut listings = 0;
    for extent in extents {
        world.fake(2).files.insert((extent, 1), false);
        world.tell(0, PgEvent::Restored { disk: disk(2), extent });
        listings += world.flights.iter().filter(|flight| begins_listing(flight)).count();
        world.run_for(1_000);
    }
    assert_eq!((listings, slot_of(&world, 2)), (1, (true, 0)));
}

#[test]
fn members_of_a_frozen_group_are_counted_by_reading() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 3);
    world.fall(2);
    world.run_for(1_000);
    let (ticket, grant) = world.create(0);
    world.run_for(5_000);
    assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: true }));
    world.run_for(10_000);
    let frozen = PgRow { state: PgState::Frozen, seq: world.row().seq + 1, ..world.row() };
    world.apply(&Txn::new().put(key::pg(PG), encode_row(&frozen).unwrap()));
    let away = world.fake(2);
    (away.list, away.heard, away.lost) = (Default::default(), None, true);
    world.rise(2);
    let owner = world.claim();
    world.run_for(10_000);
    assert_eq!(world.row(), frozen);
    let slots = world.owners[owner].slots();
    let missing = |number: u128| slots.iter().find(|slot| slot.disk == disk(number)).unwrap().missing.clone();
    assert_eq!(missing(2), Some(BTreeSet::from([grant.extent])), "what it has of {extents:?} is there to be read");
    assert!([1, 3, 4, 5].into_iter().all(|number| missing(number) == Some(BTreeSet::new())));
    assert!(world.owners[owner].needs().is_empty(), "and nothing is repaired");
}
