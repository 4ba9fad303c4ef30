//! Members that have forgotten what they once prepared: their old word must not be counted.

use super::world::{Flight, World, disk};
use crate::catalog::PgState;
use crate::id::{AttemptId, DiskId, ExtentKey};
use crate::pg::{CreateResult, Granted, PgEvent, PgOutcome, Ticket};
use crate::wire::{NodeReply, NodeRequest};
use std::collections::BTreeSet;

const COMMITTED: CreateResult = CreateResult::Committed { degraded: false };
const DEGRADED: CreateResult = CreateResult::Committed { degraded: true };

fn none() -> BTreeSet<(DiskId, ExtentKey)> {
    BTreeSet::new()
}

fn prepare_to(number: u128) -> impl Fn(&Flight) -> bool {
    move |flight| matches!(flight, Flight::Request { disk: at, request: NodeRequest::Prepare { .. }, .. } if *at == disk(number))
}

fn hear_to(number: u128) -> impl Fn(&Flight) -> bool {
    move |flight| matches!(flight, Flight::Request { disk: at, request: NodeRequest::Hear { .. }, .. } if *at == disk(number))
}

/// Has the owner write its row, as it does when it runs out of ids.
fn next_row(world: &mut World, held_back: impl Fn(&Flight) -> bool) {
    let before = world.row().seq;
    while world.row().seq == before {
        world.owners[0].grant().unwrap();
        world.collect(0);
        world.run_but(&held_back);
    }
}

/// A group with one extent on file and one that all members have prepared but 4, which has not been asked yet.
fn waiting_for_4(spares: u128) -> (World, Ticket, Granted, Vec<Flight>) {
    let mut world = World::new("rs:3+2", spares);
    world.run();
    let (first, _) = world.create(0);
    world.run();
    assert_eq!(world.created(first), Some(COMMITTED));
    let (ticket, grant) = world.create(0);
    world.run_but(prepare_to(4));
    let held = world.take(prepare_to(4));
    assert_eq!(held.len(), 1);
    assert!(world.fakes[&disk(2)].prepared.contains_key(&grant.attempt));
    (world, ticket, grant, held)
}

fn lose_journal(world: &mut World, number: u128) {
    let fake = world.fake(number);
    (fake.list, fake.heard, fake.lost) = (Default::default(), None, true);
    fake.prepared.clear();
}

fn forget(world: &mut World, number: u128, attempt: AttemptId, extent: ExtentKey) {
    let fake = world.fake(number);
    fake.prepared.remove(&attempt);
    fake.files.retain(|(at, _), _| *at != extent);
}

fn give(world: &mut World, held: Vec<Flight>) {
    held.into_iter().for_each(|flight| world.deliver(flight));
}

#[test]
fn a_member_that_lost_its_journal_stays_behind_beside_what_it_had_prepared() {
    let (mut world, ticket, grant, held) = waiting_for_4(0);
    world.fall(2);
    lose_journal(&mut world, 2);
    world.rise(2);
    // Long enough for it to be behind, given the list, counted and rid of what it need not have, were it not for the attempt.
    world.run_for(10_000);
    assert_eq!(world.fakes[&disk(2)].list.len(), 1, "it was given the list");
    assert_eq!(world.row().behind, BTreeSet::from([disk(2)]), "nobody can count the fragment of an open attempt");
    assert!(world.fakes[&disk(2)].files.contains_key(&(grant.extent, 1)), "and nobody put it aside");
    give(&mut world, held);
    world.run_for(5_000);
    assert_eq!(world.created(ticket), Some(DEGRADED), "not on its old word");
    world.check(&none());
    assert_eq!(world.repair(0), 1);
    world.run_for(5_000);
    assert!(world.told(|outcome| *outcome == PgOutcome::CaughtUp { disk: disk(2) }));
    assert_eq!((world.row().behind.len(), world.row().state), (0, PgState::Open));
    world.check(&none());
}

#[test]
fn a_member_fenced_again_that_has_forgotten_an_attempt_is_asked_again() {
    let (mut world, ticket, grant, held) = waiting_for_4(0);
    world.fall(2);
    forget(&mut world, 2, grant.attempt, grant.extent);
    world.rise(2);
    world.run_for(1_000);
    give(&mut world, held);
    world.run_for(100);
    assert_eq!(world.created(ticket), Some(DEGRADED));
    assert_eq!(world.row().behind, BTreeSet::from([disk(2)]), "it says that nothing is staged");
    world.check(&none());
    world.run_for(1_000);
    assert_eq!(world.repair(0), 1);
    world.run_for(5_000);
    assert_eq!((world.row().behind.len(), world.row().state), (0, PgState::Open));
    world.check(&none());
}

#[test]
fn what_a_member_forgot_counts_once_it_has_prepared_it_there_again() {
    let (mut world, ticket, grant, held) = waiting_for_4(0);
    world.fall(2);
    forget(&mut world, 2, grant.attempt, grant.extent);
    world.fake(2).staged.insert((grant.attempt, grant.extent));
    world.rise(2);
    world.run_for(1_000);
    assert!(world.fakes[&disk(2)].prepared.contains_key(&grant.attempt));
    give(&mut world, held);
    world.run_for(5_000);
    assert_eq!(world.created(ticket), Some(COMMITTED));
    assert_eq!((world.row().behind.len(), world.row().state), (0, PgState::Open));
    world.check(&none());
}

#[test]
fn a_member_fenced_again_that_remembers_is_not_asked_again() {
    let (mut world, ticket, grant, held) = waiting_for_4(0);
    world.fall(2);
    world.rise(2);
    world.run_but(prepare_to(2));
    assert!(world.take(prepare_to(2)).is_empty());
    assert!(world.fakes[&disk(2)].prepared.contains_key(&grant.attempt));
    give(&mut world, held);
    world.run_for(1_000);
    assert_eq!(world.created(ticket), Some(COMMITTED));
    world.check(&none());
}

#[test]
fn a_forgotten_delete_is_asked_for_again() {
    let (mut world, _, grant, held) = waiting_for_4(0);
    give(&mut world, held);
    world.run();
    let ticket = world.delete(0, grant.extent);
    world.run_but(prepare_to(4));
    let held = world.take(prepare_to(4));
    world.fall(2);
    world.fake(2).prepared.clear();
    world.rise(2);
    world.run_for(1_000);
    assert_eq!(world.fakes[&disk(2)].prepared.len(), 1);
    give(&mut world, held);
    world.run_for(5_000);
    assert_eq!(world.deleted(ticket), Some(crate::pg::DeleteResult::Deleted));
    world.check(&none());
}

#[test]
fn an_answer_from_before_the_memory_was_lost_is_not_counted() {
    // Nobody saw the member go: it was there again at once, and only its next word on a row says what became of it.
    let (mut world, ticket, grant, mut held) = waiting_for_4(0);
    let (second, other) = world.create(0);
    world.run_but(|flight| prepare_to(2)(flight) || prepare_to(4)(flight));
    held.extend(world.take(prepare_to(4)));
    let Some(Flight::Request { owner, call, request, .. }) = world.take(prepare_to(2)).pop() else { panic!("one") };
    let answer = world.fake(2).serve(&request);
    assert_eq!(answer, NodeReply::Prepared { attempt: other.attempt });
    lose_journal(&mut world, 2);
    while world.row().next_id == 16 {
        world.owners[0].grant().unwrap();
        world.collect(0);
        world.run();
    }
    world.run_for(3_000);
    assert_eq!(world.row().behind, BTreeSet::from([disk(2)]));
    world.deliver(Flight::Reply { owner, call, result: Ok(answer) });
    world.run_for(3_000);
    assert_eq!(world.row().behind, BTreeSet::from([disk(2)]));
    give(&mut world, held);
    world.run_for(5_000);
    assert_eq!((world.created(ticket), world.created(second)), (Some(DEGRADED), Some(DEGRADED)));
    world.check(&none());
    assert!(world.fakes[&disk(2)].list.contains_key(&grant.extent));
    assert_eq!(world.repair(0), 2);
    world.run_for(5_000);
    assert_eq!((world.row().behind.len(), world.row().state), (0, PgState::Open));
    world.check(&none());
}

#[test]
fn a_word_on_an_earlier_row_is_enough_to_doubt_what_was_prepared() {
    let (mut world, ticket, _, held) = waiting_for_4(0);
    let held_back = |flight: &Flight| hear_to(2)(flight) || prepare_to(4)(flight);
    lose_journal(&mut world, 2);
    next_row(&mut world, held_back);
    let Some(Flight::Request { owner, call, request, .. }) = world.take(hear_to(2)).pop() else { panic!("one") };
    next_row(&mut world, held_back);
    let answer = world.fake(2).serve(&request);
    world.deliver(Flight::Reply { owner, call, result: Ok(answer) });
    // Where its list stands on the present row is not known, so the row does not say yet that it is behind.
    give(&mut world, held);
    world.run_but(held_back);
    assert_eq!((world.created(ticket), world.row().behind.len()), (None, 0));
    world.run_for(5_000);
    assert_eq!(world.created(ticket), Some(DEGRADED));
    assert_eq!(world.row().behind, BTreeSet::from([disk(2)]));
    world.check(&none());
}

#[test]
fn a_write_in_doubt_that_was_killed_does_not_count_what_was_forgotten_meanwhile() {
    let (mut world, ticket, grant, held) = waiting_for_4(0);
    give(&mut world, held);
    let is_txn = |flight: &Flight| matches!(flight, Flight::Txn { .. });
    world.run_but(is_txn);
    let (owner, op, txn) = world.take_txn();
    world.fall(2);
    forget(&mut world, 2, grant.attempt, grant.extent);
    world.rise(2);
    world.run_but(is_txn);
    world.deliver_txn(owner, op, txn, super::world::Fate::LostUnknown);
    world.run_for(100);
    assert_eq!(world.created(ticket), Some(DEGRADED));
    assert_eq!(world.row().behind, BTreeSet::from([disk(2)]));
    world.check(&none());
}

#[test]
fn a_replaced_disk_keeps_what_it_prepared_until_the_attempt_is_over() {
    let (mut world, ticket, grant, held) = waiting_for_4(1);
    world.tell(0, PgEvent::Join { index: 1, disk: disk(6) });
    world.run_for(1_000);
    assert_eq!(world.repair(0), 1);
    world.run_for(5_000);
    assert_eq!(world.row().members[1], disk(6));
    assert_eq!(world.created(ticket), None);
    assert!(world.fakes[&disk(2)].files.contains_key(&(grant.extent, 1)));
    give(&mut world, held);
    world.run_for(5_000);
    assert_eq!(world.created(ticket), Some(DEGRADED));
    assert!(world.fakes[&disk(2)].files.is_empty(), "put aside after that");
    world.check(&none());
}
