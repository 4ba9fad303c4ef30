//! The schedules that break simpler rules, each by hand (`commit.md`, head of the page).

use super::world::{Fate, Flight, PG, World, cell_row, disk};
use crate::catalog::{CellRow, PgRow, PgState, Txn, TxnResult, key};
use crate::pg::{CreateResult, DeleteResult, PgEvent, PgOutcome};
use crate::wire::codec::encode_row;
use crate::wire::daemon::AttemptState;
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use std::collections::BTreeSet;

const COMMITTED: CreateResult = CreateResult::Committed { degraded: false };

fn none() -> BTreeSet<(crate::id::DiskId, crate::id::ExtentKey)> {
    BTreeSet::new()
}

fn is_prepare(flight: &Flight) -> bool {
    matches!(flight, Flight::Request { request: NodeRequest::Prepare { .. }, .. })
}

fn is_txn(flight: &Flight) -> bool {
    matches!(flight, Flight::Txn { .. })
}

fn is_abort(flight: &Flight) -> bool {
    matches!(flight, Flight::Request { request: NodeRequest::Abort { .. }, .. })
}

fn ready(code: &str, spares: u128) -> World {
    let mut world = World::new(code, spares);
    world.run();
    assert!(world.owners[0].is_ready());
    world
}

#[test]
fn a_create_is_prepared_on_all_committed_and_told_to_all() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, grant) = world.create(0);
    world.run_but(is_txn);
    assert!(world.fakes.values().all(|fake| fake.prepared.contains_key(&grant.attempt)));
    assert_eq!(world.owners[0].attempt_state(grant.attempt), AttemptState::Live);
    assert_eq!(world.created(ticket), None, "nothing is acknowledged before the row is written");
    world.run();
    assert_eq!(world.created(ticket), Some(COMMITTED));
    assert_eq!(world.owners[0].attempt_state(grant.attempt), AttemptState::Committed);
    assert!(world.fakes.values().all(|fake| fake.list.contains_key(&grant.extent) && fake.prepared.is_empty()));
    world.check(&none());
}

#[test]
fn a_failed_compare_is_no_no() {
    // The library sent it twice: the first was applied, the second refused.
    let mut world = ready("rs:3+2", 0);
    let (ticket, grant) = world.create(0);
    world.run_but(is_txn);
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn, Fate::AppliedRefused);
    world.run();
    assert_eq!(world.created(ticket), Some(COMMITTED));
    assert!(!world.fakes.values().any(|fake| fake.aborted.contains(&grant.attempt)));
    world.check(&none());
}

#[test]
fn a_silent_write_is_killed_before_anything_is_said_of_it() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, grant) = world.create(0);
    world.run_but(is_txn);
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn.clone(), Fate::LostUnknown);
    // It reads the row: unchanged. That says nothing, the write may yet come.
    world.run_but(is_txn);
    assert_eq!(world.created(ticket), None);
    let (owner, op, kill) = world.take_txn();
    assert_ne!(kill, txn, "a killing write carries nothing");
    // And it does come, before the kill.
    assert!(matches!(world.apply(&txn), TxnResult::Done { .. }));
    world.deliver_txn(owner, op, kill, Fate::Fair);
    world.run();
    assert_eq!(world.created(ticket), Some(COMMITTED));
    assert!(world.owners[0].listed(grant.extent).is_some());
    world.check(&none());
}

#[test]
fn a_killed_change_can_be_tried_again_and_the_killed_write_stays_dead() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, grant) = world.create(0);
    world.run_but(is_txn);
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn.clone(), Fate::LostUnknown);
    world.run();
    assert_eq!(world.created(ticket), Some(COMMITTED), "tried again after the kill");
    assert_eq!(world.apply(&txn), TxnResult::Refused);
    assert_eq!(world.owners[0].list().len(), 1);
    assert!(world.owners[0].listed(grant.extent).is_some());
    world.check(&none());
}

#[test]
fn failed_is_told_with_marks_on_m_plus_1_members_and_not_before() {
    let mut world = ready("rs:3+2", 0);
    let grant = world.owners[0].grant().unwrap();
    world.collect(0);
    world.stage(&grant);
    // A condition of its own that does not hold.
    let ticket = world.ask_create(0, &grant, Txn::new().compare(b"name/x".to_vec(), 77));
    world.run_but(is_abort);
    assert_eq!(world.created(ticket), None, "dead, but nobody testifies yet");
    assert_eq!(world.owners[0].attempt_state(grant.attempt), AttemptState::Aborted);
    for told in 1..=3 {
        assert_eq!(world.created(ticket), None, "{told} marks of 3 are not there yet");
        let mut aborts = world.take(is_abort);
        let abort = aborts.pop().unwrap();
        world.flights.extend(aborts);
        world.deliver(abort);
        world.run_but(is_abort);
    }
    assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })));
    world.run();
    assert!(world.fakes.values().all(|fake| fake.aborted.contains(&grant.attempt) && fake.files.is_empty()));
    assert!(world.truth.is_empty());
    // Asked again, it has still failed.
    let again = world.ask_create(0, &grant, Txn::new());
    world.run();
    assert!(matches!(world.created(again), Some(CreateResult::Failed { .. })));
    world.check(&none());
}

#[test]
fn with_too_few_marks_it_is_unknown() {
    let mut world = ready("rs:3+2", 0);
    let grant = world.owners[0].grant().unwrap();
    world.collect(0);
    world.stage(&grant);
    let ticket = world.ask_create(0, &grant, Txn::new().compare(b"name/x".to_vec(), 77));
    world.run_but(is_abort);
    [1, 2, 3].into_iter().for_each(|number| world.fall(number));
    world.run_for(60_000);
    assert!(matches!(world.created(ticket), Some(CreateResult::Unknown { .. })), "{:?}", world.created(ticket));
    // Members return, and the same question has an answer.
    [1, 2, 3].into_iter().for_each(|number| world.rise(number));
    world.run();
    let again = world.ask_create(0, &grant, Txn::new());
    world.run();
    assert!(matches!(world.created(again), Some(CreateResult::Failed { .. })));
}

#[test]
fn a_late_prepare_of_a_dead_attempt_is_refused() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, grant) = world.create(0);
    let prepares = world.take(is_prepare);
    for flight in &prepares {
        let Flight::Request { owner, call, disk, .. } = flight else { continue };
        // Two never answer, the others do.
        if disk.0 <= 2 {
            world.deliver(Flight::Reply { owner: *owner, call: *call, result: Err(CallError::Unreachable) });
        } else {
            world.deliver(flight.clone());
        }
    }
    world.run();
    assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })));
    for flight in prepares {
        let Flight::Request { disk, request, .. } = flight else { continue };
        world.deliver(Flight::Ghost { disk, request });
    }
    assert!(world.fakes.values().all(|fake| !fake.prepared.contains_key(&grant.attempt)));
    world.check(&none());
}

#[test]
fn entries_stay_in_the_row_while_a_member_is_only_silent() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, _) = world.create(0);
    world.run_but(is_txn);
    let (owner, op, txn) = world.take_txn();
    world.down.insert(disk(1));
    world.deliver_txn(owner, op, txn, Fate::Fair);
    world.fall(1);
    world.run_for(30_000);
    assert_eq!(world.created(ticket), Some(COMMITTED));
    assert_eq!(world.row().entries.len(), 1, "one member has not stored it, and is not marked behind");
    // It returns after everyone's journals but its own are gone: it can still come to the row.
    world.rise(1);
    world.run_for(30_000);
    assert!(world.row().entries.is_empty(), "all have it");
    world.check(&none());
}

#[test]
fn a_slot_swapped_between_prepare_and_commit_is_not_taken_for_prepared() {
    let mut world = ready("rs:3+2", 1);
    let (ticket, grant) = world.create(0);
    // Prepared everywhere but on member 5, whose answer is held.
    world.run_but(|flight| matches!(flight, Flight::Request { disk: at, request: NodeRequest::Prepare { .. }, .. } if *at == disk(5)));
    let held = world.take(is_prepare);
    assert_eq!(held.len(), 1);
    // Member 1 is replaced by disk 6 meanwhile.
    world.tell(0, PgEvent::Join { index: 0, disk: disk(6) });
    world.run();
    assert!(world.told(|outcome| matches!(outcome, PgOutcome::Joined { index: 0, .. })), "{:?}", world.row());
    assert_eq!(world.row().members[0], disk(6));
    held.into_iter().for_each(|flight| world.deliver(flight));
    world.run_for(100);
    // Committed with a gap that the row knows of, not as if disk 6 had it.
    assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: true }));
    assert!(world.row().behind.contains(&disk(6)));
    assert!(world.owners[0].needs().iter().any(|need| need.extent == grant.extent && need.disk == disk(6)));
    world.check(&none());
    world.repair(0);
    world.run_for(5_000);
    assert_eq!(world.row().state, PgState::Open);
    world.check(&none());
}

#[test]
fn behind_is_in_the_row_before_it_excuses_anyone() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, grant) = world.create(0);
    world.fall(2);
    world.run_but(is_txn);
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn, Fate::Fair);
    let row = world.row();
    assert_eq!((row.behind, row.state, row.count), (BTreeSet::from([disk(2)]), PgState::Closed, 0));
    world.run();
    assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: true }));
    assert_eq!(world.owners[0].can_create(), Ok(true));
    world.check(&none());
    // Back: list by the entries, the missing fragment by repair, then counted on the very row.
    world.rise(2);
    world.run_for(2_000);
    assert!(world.row().behind.contains(&disk(2)), "it lacks a fragment");
    assert_eq!(world.repair(0), 1);
    world.run_for(2_000);
    assert!(world.told(|outcome| *outcome == PgOutcome::CaughtUp { disk: disk(2) }));
    assert_eq!((world.row().behind.len(), world.row().state), (0, PgState::Open));
    assert!(world.owners[0].listed(grant.extent).is_some());
    world.check(&none());
}

#[test]
fn without_enough_members_a_create_fails_and_the_silent_one_is_marked() {
    let mut world = ready("rs:2+1", 0);
    let (ticket, grant) = world.create(0);
    world.fall(3);
    world.run_for(1_000);
    assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })), "{:?}", world.created(ticket));
    assert_eq!(world.row().behind, BTreeSet::from([disk(3)]));
    assert!(world.owners[0].can_create().is_err());
    assert!(world.owners[0].grant().is_none());
    assert!(world.fakes.values().all(|fake| !fake.prepared.contains_key(&grant.attempt)));
    world.check(&none());
}

#[test]
fn the_next_claim_decides_what_the_last_one_left() {
    for applied in [true, false] {
        let mut world = ready("rs:3+2", 0);
        let (_, grant) = world.create(0);
        world.run_but(is_txn);
        let (_, _, txn) = world.take_txn();
        if applied {
            world.apply(&txn);
        }
        // The daemon is gone; another claims.
        let second = world.claim();
        world.run_for(5_000);
        assert!(world.owners[second].is_ready());
        assert_eq!(world.owners[second].listed(grant.extent).is_some(), applied);
        assert_eq!(world.apply(&txn), TxnResult::Refused, "the claim has killed it");
        assert!(world.fakes.values().all(|fake| fake.prepared.is_empty()), "told or aborted");
        // Its client asks the new owner about the old attempt.
        let ticket = world.ask_create(second, &grant, Txn::new());
        world.run();
        let result = world.created(ticket).unwrap();
        assert_eq!(matches!(result, CreateResult::Committed { .. }), applied, "{result:?}");
        assert_eq!(matches!(result, CreateResult::Failed { .. }), !applied, "{result:?}");
        world.check(&none());
    }
}

#[test]
fn an_owner_deposed_says_unknown_and_never_failed() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, _) = world.create(0);
    world.run_but(is_txn);
    let (owner, op, txn) = world.take_txn();
    let second = world.claim();
    world.run();
    world.deliver_txn(owner, op, txn, Fate::Fair);
    world.run();
    assert!(matches!(world.created(ticket), Some(CreateResult::Unknown { .. })));
    assert!(world.outcomes.contains(&(0, PgOutcome::Deposed)));
    assert!(world.owners[second].is_ready());
    assert!(world.owners[0].authority().is_none());
}

#[test]
fn a_fenced_owner_finds_out_that_it_is_one() {
    let mut world = ready("rs:3+2", 0);
    world.claim();
    world.run();
    let (ticket, _) = {
        // The first still believes.
        let grant = world.owners[0].grant().unwrap();
        world.collect(0);
        world.stage(&grant);
        (world.ask_create(0, &grant, Txn::new()), grant)
    };
    world.run();
    assert!(world.outcomes.contains(&(0, PgOutcome::Deposed)));
    assert!(matches!(world.created(ticket), Some(CreateResult::Unknown { .. })));
}

#[test]
fn a_claim_that_fell_silent_is_looked_up() {
    for fate in [Fate::AppliedUnknown, Fate::LostUnknown, Fate::LateUnknown, Fate::AppliedRefused, Fate::LostRefused] {
        let mut world = ready("rs:3+2", 0);
        let (first, _) = world.create(0);
        world.run();
        assert_eq!(world.created(first), Some(COMMITTED));
        let second = world.claim();
        world.run_but(is_txn);
        let (owner, op, txn) = world.take_txn();
        world.deliver_txn(owner, op, txn, fate);
        world.run();
        assert!(world.owners[second].is_ready(), "{fate:?}");
        let (ticket, grant) = world.create(second);
        world.run();
        assert_eq!(world.created(ticket), Some(COMMITTED), "{fate:?}");
        assert!(grant.extent.counter() >= 16, "{fate:?}: a counter of the first owner's");
        world.check(&none());
    }
}

#[test]
fn one_bad_condition_does_not_fail_the_changes_beside_it() {
    let mut world = ready("rs:3+2", 0);
    let mut tickets = Vec::new();
    for at in 0..4u64 {
        let grant = world.owners[0].grant().unwrap();
        world.collect(0);
        world.stage(&grant);
        let name = format!("name/{at}").into_bytes();
        let beside = Txn::new().compare(name.clone(), if at == 2 { 5 } else { 0 }).put(name, vec![at as u8]);
        tickets.push(world.ask_create(0, &grant, beside));
    }
    // All answers at once: one transaction for all.
    world.run();
    for (at, ticket) in tickets.iter().enumerate() {
        let result = world.created(*ticket).unwrap();
        assert_eq!(matches!(result, CreateResult::Failed { .. }), at == 2, "{at}: {result:?}");
        let name = format!("name/{at}").into_bytes();
        assert_eq!(world.catalog.get(&name).is_some(), at != 2, "{at}");
    }
    world.check(&none());
}

#[test]
fn many_ready_changes_are_one_transaction() {
    let mut world = ready("rs:3+2", 0);
    let (first, _) = world.create(0);
    world.run_but(is_txn);
    let others: Vec<_> = (0..5).map(|_| world.create(0).0).collect();
    world.run_but(is_txn);
    let seq = world.row().seq;
    // The first is under way alone; the five go together when it is done.
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn, Fate::Fair);
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn, Fate::Fair);
    assert_eq!((world.row().seq, world.row().count), (seq + 2, 6));
    world.run();
    assert!(others.iter().chain([&first]).all(|ticket| world.created(*ticket) == Some(COMMITTED)));
}

#[test]
fn a_delete_is_prepared_committed_and_told_and_needs_no_member_that_is_behind() {
    let mut world = ready("rs:3+2", 0);
    let (first, kept) = world.create(0);
    let (_, gone) = world.create(0);
    world.run();
    assert_eq!(world.created(first), Some(COMMITTED));
    world.fall(4);
    let before = world.row().seq;
    let ticket = world.delete(0, gone.extent);
    let twice = world.delete(0, gone.extent);
    world.run();
    assert_eq!(world.deleted(ticket), None, "a node being started again is waited for");
    world.run_for(10_000);
    assert_eq!(world.row().behind, BTreeSet::from([disk(4)]));
    assert_eq!(
        (world.deleted(ticket), world.deleted(twice)),
        (Some(DeleteResult::Deleted), Some(DeleteResult::Deleted))
    );
    assert_eq!(world.owners[0].list().keys().collect::<Vec<_>>(), [&kept.extent]);
    let again = world.delete(0, gone.extent);
    assert_eq!(world.deleted(again), None, "the row is read first");
    world.run();
    assert_eq!(world.deleted(again), Some(DeleteResult::NotListed));
    assert!(!world.fakes[&disk(1)].files.keys().any(|(extent, _)| *extent == gone.extent));
    // Tombstones wait for all members.
    assert!(world.row().trim <= before, "one has not stored the deletion");
    world.rise(4);
    world.run_for(20_000);
    assert_eq!(world.row().state, PgState::Open);
    assert!(world.row().trim > 0 && world.row().entries.is_empty());
    assert!(!world.fakes[&disk(4)].files.keys().any(|(extent, _)| *extent == gone.extent));
    world.check(&none());
}

#[test]
fn a_delete_that_no_member_can_prepare_is_not_now() {
    let mut world = ready("rs:2+1", 0);
    let (_, grant) = world.create(0);
    world.run();
    [1, 2, 3].into_iter().for_each(|number| world.fall(number));
    let ticket = world.delete(0, grant.extent);
    world.run_for(30_000);
    assert!(matches!(world.deleted(ticket), Some(DeleteResult::NotNow { .. })), "{:?}", world.deleted(ticket));
    assert!(world.row().behind.is_empty(), "nobody is left to do without the others");
    assert!(world.owners[0].listed(grant.extent).is_some());
}

#[test]
fn a_catalog_that_went_back_stops_the_owner() {
    let mut world = ready("rs:3+2", 0);
    let old = world.catalog.clone();
    for _ in 0..2 {
        let (ticket, _) = world.create(0);
        world.run();
        assert_eq!(world.created(ticket), Some(COMMITTED));
    }
    world.catalog = old;
    // A new claim on the old catalog: members have heard a later row.
    let second = world.claim();
    world.truth.clear();
    world.run();
    assert!(!world.owners[second].is_ready(), "an empty list is no list either");
    let back = |outcome: &PgOutcome| matches!(outcome, PgOutcome::CatalogWentBack { .. });
    assert!(world.outcomes.iter().any(|(owner, outcome)| *owner == second && back(outcome)), "{:?}", world.outcomes);
}

#[test]
fn our_own_later_message_is_no_sign_of_a_catalog_gone_back() {
    let mut world = ready("rs:3+2", 0);
    let (first, _) = world.create(0);
    let late = |flight: &Flight| matches!(flight, Flight::Request { disk: at, request: NodeRequest::Prepare { .. }, .. } if *at == disk(1));
    world.run_but(late);
    // A row written meanwhile is heard by member 1 before the prepare gets there.
    let extent = {
        let grants: Vec<_> = (0..10).map(|_| world.owners[0].grant().unwrap()).collect();
        world.collect(0);
        world.run_but(late);
        grants[0].extent
    };
    assert!(world.row().next_id > 16, "ids were reserved");
    world.run();
    assert_eq!(world.created(first), Some(COMMITTED), "{extent}");
    assert!(!world.told(|outcome| matches!(outcome, PgOutcome::CatalogWentBack { .. })));
}

#[test]
fn a_cell_row_written_again_stops_nobody_and_another_incarnation_does() {
    let mut world = ready("rs:3+2", 0);
    let (ticket, _) = world.create(0);
    world.run_but(is_txn);
    world.catalog.apply(&Txn::new().put(key::cell(), encode_row(&cell_row()).unwrap()));
    world.run();
    assert_eq!(world.created(ticket), Some(COMMITTED), "refused by the cell's revision, and tried again");
    let (ticket, grant) = world.create(0);
    world.run_but(is_txn);
    let later = CellRow { incarnation: 2, restore: 5, ..cell_row() };
    world.catalog.apply(&Txn::new().put(key::cell(), encode_row(&later).unwrap()));
    world.run();
    assert!(matches!(world.created(ticket), Some(CreateResult::Unknown { .. })));
    assert!(!world.truth.contains_key(&grant.extent));
    assert!(world.outcomes.contains(&(0, PgOutcome::Deposed)));
}

#[test]
fn two_histories_stop_the_owner() {
    let mut world = ready("rs:3+2", 0);
    world.tell(0, PgEvent::Unreachable { disk: disk(2) });
    world.tell(0, PgEvent::Reachable { disk: disk(2) });
    let fences = world.take(|flight| matches!(flight, Flight::Request { request: NodeRequest::Fence { .. }, .. }));
    let Some(Flight::Request { owner, call, .. }) = fences.into_iter().next() else { panic!("a fence") };
    let result = Ok(NodeReply::Refused(Refusal::Fork("other".into())));
    world.deliver(Flight::Reply { owner, call, result });
    world.run();
    assert!(world.told(|outcome| matches!(outcome, PgOutcome::CatalogWentBack { .. })), "{:?}", world.outcomes);
    assert!(world.owners[0].grant().is_none());
}

#[test]
fn a_frozen_group_stays_so_for_the_next_owner_and_is_read() {
    let mut world = ready("rs:3+2", 0);
    let (_, grant) = world.create(0);
    world.run_for(5_000);
    let frozen = PgRow { state: PgState::Frozen, seq: world.row().seq + 1, ..world.row() };
    world.apply(&Txn::new().put(key::pg(PG), encode_row(&frozen).unwrap()));
    let second = world.claim();
    world.run_for(5_000);
    assert!(world.owners[second].is_ready() && world.owners[second].grant().is_none());
    assert_eq!(world.owners[second].listed(grant.extent), world.truth.get(&grant.extent).copied());
    let ticket = world.delete(second, grant.extent);
    assert!(matches!(world.deleted(ticket), Some(DeleteResult::NotNow { .. })));
    assert_eq!(world.row(), frozen, "nothing is written");
}

#[test]
fn a_claim_leaves_the_row_as_it_is_until_enough_members_know_of_no_later_one() {
    // Three of five must agree. One was away since before the catalog's copy was made, and two have forgotten all.
    let mut world = ready("rs:3+2", 0);
    let (ticket, _) = world.create(0);
    world.run_for(5_000);
    assert_eq!(world.created(ticket), Some(COMMITTED));
    let row = world.row();
    [2, 3].into_iter().for_each(|number| world.fall(number));
    for number in [4, 5] {
        let fake = world.fake(number);
        (fake.list, fake.heard, fake.lost) = (Default::default(), None, true);
    }
    for _ in 0..3 {
        let owner = world.claim();
        [2, 3].into_iter().for_each(|number| world.tell(owner, PgEvent::Unreachable { disk: disk(number) }));
        world.run_for(10_000);
        assert!(world.owners[owner].is_ready(), "read it can be: {:?}", world.owners[owner].waits());
        assert_eq!(world.row(), row, "one that remembers is not enough to go on from here");
        assert!(
            world.owners[owner].waits()[0].contains("2 of 5 members have yet"),
            "{:?}",
            world.owners[owner].waits()
        );
    }
    [2, 3].into_iter().for_each(|number| world.rise(number));
    world.run_for(10_000);
    assert!(world.row().seq > row.seq);
    world.check(&BTreeSet::new());
}
