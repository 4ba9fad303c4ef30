//! Sessions of puts: how many there may be, and how long each is remembered.

use super::testing::{CLIENT, OTHER, World, hasty};
use super::tests::{A, B, data};
use super::{CoordinatorConfig, CoordinatorEvent};
use crate::catalog::{Txn, key};
use crate::id::StreamKey;
use crate::time::Millis;
use crate::wire::{DaemonReply, DaemonRequest, Refusal};

fn begin_over(world: &mut World, peer: crate::node::PeerId, stream: u128) -> DaemonReply {
    world.ask_over(peer, DaemonRequest::BeginPut { stream: StreamKey(stream) })
}

fn is_whole(world: &mut World, stream: StreamKey) -> bool {
    matches!(world.ask(DaemonRequest::BeginPut { stream }), DaemonReply::PutBegun { whole: true, .. })
}

#[test]
fn any_number_of_puts_may_follow_each_other_over_one_connection() {
    let config = CoordinatorConfig { put_resume: Millis(3_600_000), slots_per_disk: 1, ..hasty() };
    let mut world = World::new(3, config);
    for number in 0..1_100u128 {
        world.put(StreamKey(number + 1), &format!("name{number}"), b"x");
    }
    assert_eq!(world.coordinator().status().puts_open, 0);
    // And over others, whether they are there or not.
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.put(StreamKey(0xffff), "last", b"x");
    assert!(is_whole(&mut world, StreamKey(1)) && is_whole(&mut world, StreamKey(0xffff)));
}

#[test]
fn one_connection_does_not_keep_the_others_from_putting() {
    let mut world = World::new(3, hasty());
    let refused = (0..1_200).filter(|stream| {
        let reply = begin_over(&mut world, CLIENT, 1_000 + stream);
        matches!(reply, DaemonReply::Refused(Refusal::Busy(_)))
    });
    assert_eq!(refused.count(), 1_200 - 64);
    assert!(matches!(begin_over(&mut world, OTHER, 1), DaemonReply::PutBegun { .. }));
    // One that is open already may be begun again, and one that ends makes room.
    assert!(matches!(begin_over(&mut world, CLIENT, 1_000), DaemonReply::PutBegun { .. }));
    assert_eq!(world.ask(DaemonRequest::AbortPut { stream: StreamKey(1_000) }), DaemonReply::PutAborted);
    assert!(matches!(begin_over(&mut world, CLIENT, 2), DaemonReply::PutBegun { .. }));
    assert!(matches!(begin_over(&mut world, CLIENT, 3), DaemonReply::Refused(Refusal::Busy(_))));
}

#[test]
fn a_put_that_was_whole_stays_so_for_its_client_though_its_name_has_gone_since() {
    for replaced in [false, true] {
        for restart in [false, true] {
            let mut world = World::new(3, hasty());
            world.put(A, "a", &data(1_000, 1));
            if replaced {
                world.put(B, "a", &data(1_000, 2));
            } else {
                assert_eq!(world.ask(DaemonRequest::Remove { name: b"a".to_vec() }), DaemonReply::Removed);
            }
            if restart {
                world.start_daemon();
            }
            world.pass(Millis(20_000));
            // The answer to its end was lost. Done again, it would bring back what is old, or removed.
            assert!(is_whole(&mut world, A), "replaced {replaced}, restart {restart}");
        }
    }
}

#[test]
fn streams_that_are_gone_are_remembered_for_more_than_an_hour_and_not_for_ever() {
    let slow = CoordinatorConfig { beat_every: Millis(20_000), suspect_after: Millis(100_000), ..hasty() };
    let mut world = World::new(3, slow);
    for number in 0..1_200u128 {
        world.catalog.apply(&Txn::new().put(key::ended(StreamKey(number + 1_000)), vec![1]));
    }
    world.pass(Millis(3_600_000));
    world.put(A, "a", b"x");
    world.put(B, "a", b"y");
    world.start_daemon();
    world.pass(Millis(3_500_000));
    assert_eq!(world.rows(key::ENDED), 1_201, "this daemon has not known them for so long");
    world.pass(Millis(3_600_000));
    assert_eq!(world.rows(key::ENDED), 0);
}

#[test]
fn a_name_is_removed_only_from_the_stream_that_was_meant() {
    let mut world = World::new(3, hasty());
    world.put(A, "a", b"x");
    let remove_if = |stream| DaemonRequest::RemoveIf { name: b"a".to_vec(), stream };
    assert_eq!(world.ask(remove_if(B)), DaemonReply::Refused(Refusal::NotFound));
    assert_eq!(world.ask(remove_if(A)), DaemonReply::Removed);
    // Its answer was lost; meanwhile the name was put again.
    world.put(B, "a", b"y");
    assert_eq!(world.ask(remove_if(A)), DaemonReply::Refused(Refusal::NotFound));
    assert!(matches!(world.ask(DaemonRequest::Lookup { name: b"a".to_vec() }), DaemonReply::Found(_)));
}

#[test]
fn what_is_waited_for_has_a_name() {
    let mut world = World::new(9, CoordinatorConfig { code: Some("rs:4+3".parse().unwrap()), ..hasty() });
    let kept = world.put(A, "a", &data(1_000, 1));
    world.settle();
    let waits = |world: &World, what: &str| world.coordinator().status().waits.iter().any(|wait| wait.contains(what));
    assert!(!waits(&world, ""), "nothing is waited for");
    world.begin(B);
    let (entry, _) = world.put_extent(B, 0, 0, &data(1_000, 1), None);
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.until("its client is missed", |world| {
        waits(world, &format!("1 put without a client, given up 5000 ms after it left: {B}"))
    });
    let members = super::tests::locate(&mut world, entry.extent).slots;
    world.deaf.insert(members[0][0].disk);
    world.until("what it committed is being deleted", |world| waits(world, "1 extent being deleted"));
    world.until("its node is asked again", |world| waits(world, "beats, but did not answer the last call"));
    world.deaf.clear();
    world.settle();
    let slots = super::tests::locate(&mut world, kept.extent).slots;
    world.kill_node(slots[1][0].disk);
    // Last heard by a later beat, so lost later.
    world.pass(Millis(700));
    world.kill_node(slots[5][0].disk);
    world.until("the repair rests", |world| waits(world, "1 extent to be rebuilt once it is known what else"));
    world.settle();
    world.pass(Millis(1_000));
    assert!(!waits(&world, ""), "{:?}", world.coordinator().status().waits);
}

#[test]
fn of_a_put_that_came_to_nothing_nothing_is_remembered() {
    let mut world = World::new(3, hasty());
    world.begin(A);
    assert_eq!(world.ask(DaemonRequest::AbortPut { stream: A }), DaemonReply::PutAborted);
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 3);
    assert!(world.begin(A).is_empty());
    assert_eq!(world.rows(key::STREAMS), 0);
}
