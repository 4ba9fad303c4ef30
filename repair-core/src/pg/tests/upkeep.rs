//! Members that fall, return, lose their lists, are replaced; and what the owner asks of others meanwhile.

use super::world::{Flight, World, disk};
use crate::catalog::{PgState, Txn};
use crate::id::{DiskId, ExtentKey};
use crate::pg::{CreateResult, DeleteResult, Need, PgEvent, PgOutcome, Standing};
use crate::wire::node::Tombstone;
use crate::wire::{CallError, NodeReply, NodeRequest, Refusal};
use std::collections::BTreeSet;

fn none() -> BTreeSet<(DiskId, ExtentKey)> {
    BTreeSet::new()
}

fn with_extents(code: &str, spares: u128, extents: usize) -> (World, Vec<ExtentKey>) {
    let mut world = World::new(code, spares);
    world.run();
    let mut made = Vec::new();
    for at in 1..=extents {
        made.push(world.create(0));
        if at % 8 == 0 {
            world.run();
        }
    }
    world.run();
    assert!(made.iter().all(|(ticket, _)| world.created(*ticket) == Some(CreateResult::Committed { degraded: false })));
    (world, made.into_iter().map(|(_, grant)| grant.extent).collect())
}

#[test]
fn a_replaced_disk_is_swapped_only_when_the_new_one_holds_everything() {
    let (mut world, extents) = with_extents("rs:3+2", 1, 5);
    world.fall(2);
    // Of an index that it had in this group once.
    world.fake(6).files.insert((extents[0], 3), false);
    world.tell(0, PgEvent::Join { index: 1, disk: disk(6) });
    world.tell(0, PgEvent::Reachable { disk: disk(6) });
    world.run_for(1_000);
    let row = world.row();
    assert_eq!((row.joining.get(&1), row.state), (Some(&disk(6)), PgState::Closed));
    assert_eq!(world.fakes[&disk(6)].list.len(), 5, "it was given the list");
    let expected: Vec<Need> = extents.iter().map(|extent| Need { extent: *extent, index: 1, disk: disk(6) }).collect();
    assert_eq!(world.owners[0].needs(), expected);
    assert!(!world.told(|outcome| matches!(outcome, PgOutcome::Joined { .. })));
    assert_eq!(world.repair(0), 5);
    // One of them is not there, whatever the repair said: the count finds it.
    world.fake(6).files.remove(&(extents[3], 1));
    world.run_for(3_000);
    assert_eq!(world.row().members[1], disk(2), "counted, not believed");
    assert_eq!(world.owners[0].needs(), [Need { extent: extents[3], index: 1, disk: disk(6) }]);
    assert_eq!(world.repair(0), 1);
    let epoch = world.row().epoch;
    world.run_for(5_000);
    let row = world.row();
    assert_eq!((row.members[1], row.epoch, row.state, row.joining.len()), (disk(6), epoch + 1, PgState::Open, 0));
    assert!(world.outcomes.contains(&(0, PgOutcome::Joined { index: 1, from: disk(2), to: disk(6) })));
    world.check(&none());
    // The old disk returns: what it has is more than is needed.
    assert_eq!(world.fakes[&disk(2)].files.len(), 5);
    world.rise(2);
    world.run_for(5_000);
    assert!(world.fakes[&disk(2)].files.is_empty(), "put aside");
    assert!(world.fakes[&disk(6)].files.keys().all(|(_, index)| *index == 1), "what it had before went");
    world.check(&none());
}

#[test]
fn a_cancelled_join_leaves_the_old_member_and_its_surplus_goes_when_the_group_is_whole() {
    let (mut world, _) = with_extents("rs:3+2", 1, 3);
    world.fall(2);
    world.tell(0, PgEvent::Join { index: 1, disk: disk(6) });
    world.run_for(500);
    assert_eq!(world.repair(0), 3);
    world.rise(2);
    world.tell(0, PgEvent::CancelJoin { index: 1 });
    world.run_for(10_000);
    let row = world.row();
    assert_eq!((row.members[1], row.joining.len(), row.state), (disk(2), 0, PgState::Open));
    assert!(world.fakes[&disk(6)].files.is_empty());
    assert!(!world.told(|outcome| matches!(outcome, PgOutcome::Joined { .. })));
    world.check(&none());
}

#[test]
fn files_that_nothing_names_go_with_the_next_count_whoever_left_them() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 3);
    let deleted = extents[0];
    let ticket = world.delete(0, deleted);
    world.run();
    assert_eq!(world.deleted(ticket), Some(DeleteResult::Deleted));
    world.run_for(5_000);
    // What no owner in memory knows of: of an extent that is gone, and of another index.
    world.fake(2).files.insert((deleted, 1), false);
    world.fake(3).files.insert((extents[1], 4), false);
    world.claim();
    world.run_for(10_000);
    for number in [2, 3] {
        let index = number as u16 - 1;
        let expected: Vec<_> = extents[1..].iter().map(|extent| (*extent, index)).collect();
        assert_eq!(world.fakes[&disk(number)].files.keys().copied().collect::<Vec<_>>(), expected, "{number}");
    }
    world.check(&none());
}

#[test]
fn what_is_more_than_needed_stays_while_anything_of_the_group_is_missing() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 3);
    world.fake(3).files.insert((extents[1], 4), false);
    world.fake(5).files.remove(&(extents[1], 4));
    world.claim();
    world.run_for(10_000);
    assert_eq!(world.owners.last().unwrap().needs(), [Need { extent: extents[1], index: 4, disk: disk(5) }]);
    assert!(world.fakes[&disk(3)].files.contains_key(&(extents[1], 4)), "it may be all that is left");
    let owner = world.owners.len() - 1;
    assert_eq!(world.repair(owner), 1);
    world.run_for(10_000);
    assert!(!world.fakes[&disk(3)].files.contains_key(&(extents[1], 4)), "now it is not");
    world.check(&none());
}

#[test]
fn a_lost_journal_is_behind_in_the_row_given_the_list_and_counted() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 5);
    world.fall(3);
    let fake = world.fake(3);
    (fake.list, fake.heard, fake.lost) = (Default::default(), None, true);
    fake.files.remove(&(extents[0], 2));
    world.rise(3);
    world.run_for(3_000);
    assert_eq!(world.row().behind, BTreeSet::from([disk(3)]));
    assert_eq!(world.fakes[&disk(3)].list.len(), 5);
    assert_eq!(world.owners[0].needs(), [Need { extent: extents[0], index: 2, disk: disk(3) }]);
    world.repair(0);
    world.run_for(3_000);
    assert!(world.told(|outcome| *outcome == PgOutcome::CaughtUp { disk: disk(3) }));
    assert_eq!(world.row().state, PgState::Open);
    world.check(&none());
}

#[test]
fn damage_is_a_need_in_place_and_closes_nothing() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 2);
    world.tell(0, PgEvent::Damaged { disk: disk(4), extent: extents[1] });
    assert_eq!(world.owners[0].needs(), [Need { extent: extents[1], index: 3, disk: disk(4) }]);
    world.run_for(5_000);
    assert_eq!(world.row().state, PgState::Open);
    world.tell(0, PgEvent::Restored { disk: disk(4), extent: extents[1] });
    assert!(world.owners[0].needs().is_empty());
}

#[test]
fn a_new_owner_counts_what_members_hold_and_reopens_what_was_closed() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 3);
    world.fall(5);
    let (ticket, _) = world.create(0);
    world.run_for(1_000);
    assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: true }));
    world.fake(1).files.insert((extents[0], 0), true);
    let second = world.claim();
    world.rise(5);
    world.run_for(3_000);
    assert!(world.owners[second].is_ready());
    assert_eq!(world.row().state, PgState::Closed);
    let needs = world.owners[second].needs();
    assert_eq!(needs.iter().map(|need| (need.disk, need.index)).collect::<Vec<_>>(), [(disk(1), 0), (disk(5), 4)]);
    assert_eq!(world.repair(second), 2);
    world.run_for(5_000);
    assert_eq!(world.row().state, PgState::Open);
    assert!(world.owners[second].needs().is_empty());
    assert!(
        world.owners[second].slots().iter().all(|slot| {
            slot.standing == Standing::Level && slot.reachable && slot.missing == Some(BTreeSet::new())
        })
    );
    world.check(&none());
}

#[test]
fn a_list_is_proven_by_what_the_only_member_left_has_prepared() {
    let (mut world, _) = with_extents("rs:3+2", 0, 2);
    // Member 5 misses the notice of a commit and hears of nothing after.
    let (ticket, grant) = world.create(0);
    world.run_but(|flight| matches!(flight, Flight::Txn { .. }));
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn, super::world::Fate::Fair);
    world.fall(5);
    world.run_for(1_000);
    assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: false }));
    // It is marked, so its entry leaves the row, and then all others fall.
    let (second, _) = world.create(0);
    world.run_for(10_000);
    assert!(matches!(world.created(second), Some(CreateResult::Committed { degraded: true })));
    assert!(world.row().entries.is_empty());
    // A catalog whose last create is taken away again: by hand, for the row must sum with the prepared one alone.
    let third = world.owners[0].listed(grant.extent);
    assert!(third.is_some());
    [1, 2, 3, 4].into_iter().for_each(|number| world.fall(number));
    world.down.remove(&disk(5));
    let claimed = world.claim();
    world.run_for(2_000);
    assert!(world.owners[claimed].waits()[0].contains("have said what they heard"), "one is too few to begin with");
    for number in [3, 4] {
        let fake = world.fake(number);
        (fake.list, fake.heard, fake.lost) = (Default::default(), None, true);
        world.rise(number);
    }
    world.run_for(2_000);
    assert!(!world.owners[claimed].is_ready(), "the degraded create is not on its list");
    assert!(world.owners[claimed].waits()[0].contains("no list"), "{:?}", world.owners[claimed].waits());
    assert_eq!(world.row().state, PgState::Closed, "silence freezes nothing");
    world.rise(1);
    world.run_for(5_000);
    assert!(world.owners[claimed].is_ready());
}

#[test]
fn when_all_have_answered_and_none_sums_the_group_is_frozen() {
    let (mut world, extents) = with_extents("rs:2+1", 0, 2);
    for number in 1..=3 {
        let fake = world.fake(number);
        fake.list.remove(&extents[0]);
    }
    world.down.insert(disk(3));
    let second = world.claim();
    world.run_for(5_000);
    assert!(!world.told(|outcome| matches!(outcome, PgOutcome::Frozen { .. })), "one has not answered");
    world.rise(3);
    world.run_for(5_000);
    assert!(world.told(|outcome| matches!(outcome, PgOutcome::Frozen { .. })));
    assert_eq!(world.row().state, PgState::Frozen);
    assert!(!world.owners[second].is_ready());
    assert!(world.owners[second].grant().is_none());
}

#[test]
fn ids_are_never_given_twice_and_blocks_are_reserved_in_good_time() {
    let mut world = World::new("rs:3+2", 0);
    world.run();
    let mut seen = BTreeSet::new();
    for owner in [0, 1, 2] {
        for _ in 0..100 {
            let Some(grant) = world.owners[owner].grant() else { panic!("owner {owner} after {}", seen.len()) };
            world.collect(owner);
            world.run();
            assert!(seen.insert(grant.extent));
        }
        world.claim();
        world.run();
    }
    // Without the catalog they end.
    let mut grants = 0;
    while world.owners[3].grant().is_some() {
        world.collect(3);
        grants += 1;
    }
    assert_eq!(grants, 16);
}

#[test]
fn a_forsaken_grant_cannot_be_committed() {
    let mut world = World::new("rs:3+2", 0);
    world.run();
    let grant = world.owners[0].grant().unwrap();
    world.collect(0);
    world.stage(&grant);
    world.tell(0, PgEvent::Forsake { attempt: grant.attempt });
    let ticket = world.ask_create(0, &grant, Txn::new());
    world.run();
    assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })));
    assert!(world.truth.is_empty());
}

#[test]
fn a_create_asked_twice_is_answered_twice_and_a_wrong_record_is_refused_at_once() {
    let mut world = World::new("rs:3+2", 0);
    world.run();
    let (first, grant) = world.create(0);
    let second = world.ask_create(0, &grant, Txn::new());
    world.run();
    let third = world.ask_create(0, &grant, Txn::new());
    for ticket in [first, second, third] {
        assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: false }));
    }
    assert_eq!(world.owners[0].list().len(), 1);
    let (grant, other) = (world.owners[0].grant().unwrap(), world.owners[0].grant().unwrap());
    world.collect(0);
    for record in
        [super::world::record(other.extent, "rs:3+2"), super::world::record(grant.extent, "rs:2+3"), vec![1, 2].into()]
    {
        let ticket = world.ticket(grant.extent);
        let (attempt, extent) = (grant.attempt, grant.extent);
        world.tell(0, PgEvent::Create { ticket, attempt, extent, record, beside: Txn::new() });
        assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })));
    }
}

#[test]
fn one_lost_message_is_weather_and_no_connection_is_not() {
    let (mut world, _) = with_extents("rs:2+1", 0, 1);
    let (ticket, _) = world.create(0);
    let prepares = world.take(|flight| matches!(flight, Flight::Request { .. }));
    for flight in prepares {
        let Flight::Request { owner, call, .. } = flight else { continue };
        world.deliver(Flight::Reply { owner, call, result: Err(CallError::Timeout) });
    }
    world.run_for(2_000);
    assert_eq!(world.created(ticket), Some(CreateResult::Committed { degraded: false }));
    assert!(world.row().behind.is_empty());
    // A root that is not the one on record is nobody's silence.
    let (ticket, _) = world.create(0);
    let prepare = |flight: &Flight| matches!(flight, Flight::Request { request: NodeRequest::Prepare { .. }, .. });
    world.run_but(prepare);
    let first = world.take(prepare).swap_remove(0);
    let Flight::Request { owner, call, .. } = first else { unreachable!("taken so") };
    let refused = NodeReply::Refused(Refusal::RootMismatch("x".into()));
    world.deliver(Flight::Reply { owner, call, result: Ok(refused) });
    world.run_for(2_000);
    assert!(matches!(world.created(ticket), Some(CreateResult::Failed { .. })));
    assert_eq!((world.row().behind.len(), world.row().state), (0, PgState::Open));
}

#[test]
fn a_long_list_goes_in_pages_that_fit_a_message() {
    let (mut world, _) = with_extents("rs:2+1", 1, 40);
    let pages = {
        world.tell(0, PgEvent::Join { index: 0, disk: disk(4) });
        let mut pages = Vec::new();
        for _ in 0..10_000 {
            let Some(at) = (!world.flights.is_empty()).then_some(0) else { break };
            let flight = world.flights.remove(at);
            if let Flight::Request { request, .. } = &flight {
                assert!(crate::wire::codec::encode_message(request).is_ok());
                if let NodeRequest::Adopt { listed, tombstones, .. } = request {
                    pages.push((listed.len(), tombstones.clone()));
                }
            }
            world.deliver(flight);
        }
        pages
    };
    let none: Vec<Tombstone> = vec![];
    assert_eq!(pages, [(40, none)]);
    let mut adopting = super::super::member::Adopting {
        authority: world.owners[0].authority().unwrap(),
        listed: (0..5_000u128)
            .map(|at| crate::wire::node::Listed { extent: ExtentKey(at), hash: crate::id::RecordHash([7; 32]) })
            .collect(),
        tombstones: (0..9_000u128).map(|at| Tombstone { extent: ExtentKey(at), seq: 1 }).collect(),
        shapes: vec![],
        is_shaped: false,
        page: 0,
    };
    let (mut listed, mut stones, mut numbers) = (0, 0, Vec::new());
    loop {
        let (_, request) = adopting.next_page();
        assert!(crate::wire::codec::encode_message(&request).is_ok());
        let NodeRequest::Adopt { page, last, listed: lines, tombstones, .. } = request else { panic!("an adopt") };
        (listed, stones) = (listed + lines.len(), stones + tombstones.len());
        numbers.push(page);
        if last {
            break;
        }
    }
    assert_eq!((listed, stones), (5_000, 9_000));
    assert!(numbers.iter().enumerate().all(|(at, page)| *page == at as u32));
}

#[test]
fn a_full_row_marks_who_has_not_stored_it() {
    let (mut world, _) = with_extents("rs:3+2", 0, 1);
    let laggard = |flight: &Flight| matches!(flight, Flight::Request { disk: at, request: NodeRequest::Hear { .. }, .. } if *at == disk(1));
    world.run_for(5_000);
    let mut tickets = Vec::new();
    for _ in 0..300 {
        let (ticket, _) = world.create(0);
        tickets.push(ticket);
        world.run_but(laggard);
        assert!(world.row().entries.len() <= crate::limits::ENTRIES_MAX);
        if world.row().behind.contains(&disk(1)) {
            break;
        }
    }
    assert_eq!(world.row().behind, BTreeSet::from([disk(1)]), "{} entries", world.row().entries.len());
    assert!(tickets.len() > 250, "{}: not before it is full", tickets.len());
    world.run_for(10_000);
    for ticket in tickets {
        assert!(matches!(world.created(ticket), Some(CreateResult::Committed { .. })));
    }
    assert!(world.row().entries.is_empty());
    world.check(&none());
}

#[test]
fn a_guest_keeps_its_files_until_the_group_is_whole_without_it() {
    let (mut world, extents) = with_extents("rs:3+2", 1, 2);
    let fake = world.fake(6);
    extents.iter().for_each(|extent| _ = fake.files.insert((*extent, 1), false));
    world.fall(2);
    let (ticket, _) = world.create(0);
    world.run_for(3_000);
    assert!(matches!(world.created(ticket), Some(CreateResult::Committed { .. })));
    world.tell(0, PgEvent::Guest { disk: disk(6) });
    // A member is no guest, whoever says so.
    world.tell(0, PgEvent::Guest { disk: disk(1) });
    world.run_for(5_000);
    assert_eq!(world.fakes[&disk(6)].files.len(), 2, "a member is behind");
    world.rise(2);
    world.run_for(1_000);
    world.repair(0);
    world.run_for(5_000);
    assert_eq!(world.row().state, PgState::Open);
    assert!(world.fakes[&disk(6)].files.is_empty());
    world.check(&none());
}

#[test]
fn entries_stay_in_the_row_until_m_plus_1_members_have_them_whoever_is_behind() {
    let (mut world, extents) = with_extents("rs:2+2", 0, 2);
    [3, 4].into_iter().for_each(|number| world.fall(number));
    let ticket = world.delete(0, extents[0]);
    world.run_for(30_000);
    assert_eq!(world.deleted(ticket), Some(DeleteResult::Deleted));
    assert_eq!(world.row().behind.len(), 2);
    assert_eq!(world.row().entries.len(), 1, "two have it, and two may be lost");
    world.rise(3);
    world.run_for(30_000);
    assert!(world.row().entries.is_empty());
    world.check(&none());
}

#[test]
fn what_a_member_prepared_and_others_committed_is_not_aborted() {
    let (mut world, _) = with_extents("rs:3+2", 0, 2);
    let (_, grant) = world.create(0);
    world.run_but(|flight| matches!(flight, Flight::Txn { .. }));
    let (owner, op, txn) = world.take_txn();
    world.deliver_txn(owner, op, txn, super::world::Fate::Fair);
    world.fall(5);
    // Behind by the next create, so that the entry it would need leaves the row.
    world.create(0);
    world.run_for(10_000);
    assert!(world.row().entries.is_empty() && world.row().behind.contains(&disk(5)));
    assert!(world.fakes[&disk(5)].prepared.contains_key(&grant.attempt));
    let second = world.claim();
    world.run_for(2_000);
    world.rise(5);
    world.run_for(3_000);
    let fake = &world.fakes[&disk(5)];
    assert!(fake.list.contains_key(&grant.extent) && !fake.aborted.contains(&grant.attempt));
    assert!(fake.files.contains_key(&(grant.extent, 4)), "its fragment counts");
    assert_eq!(world.owners[second].needs().len(), 1, "only the one it missed");
}

#[test]
fn an_owner_that_lives_long_does_not_remember_every_attempt() {
    let (mut world, extents) = with_extents("rs:3+2", 0, 1);
    let many = crate::pg::group::SETTLED_MAX + 64;
    for _ in 0..many {
        let grant = world.owners[0].grant().unwrap_or_else(|| {
            world.collect(0);
            world.run();
            world.owners[0].grant().expect("ids are reserved in time")
        });
        world.tell(0, PgEvent::Forsake { attempt: grant.attempt });
    }
    world.run();
    let kept = format!("{:?}", world.owners[0]).matches("Failed").count();
    assert!(kept <= crate::pg::group::SETTLED_MAX, "{kept} of {many}");
    assert!(world.owners[0].listed(extents[0]).is_some());
}
