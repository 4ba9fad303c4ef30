//! A daemon that was stopped for a while and goes on: what it could not hear was said all the same.

use super::testing::{CLIENT, World, hasty};
use super::tests::{A, B, data};
use super::{CoordinatorConfig, CoordinatorEvent};
use crate::id::DiskId;
use crate::node::Body;
use crate::time::Millis;
use crate::wire::{DaemonReply, DaemonRequest};

#[test]
fn a_daemon_that_was_stopped_for_longer_than_a_node_may_be_silent_takes_nobody_for_lost() {
    for pause in [1_900, 2_100, 3_000, 60_000] {
        let mut world = World::new(8, hasty());
        world.put(A, "a", &data(1_000, 1));
        world.settle();
        for _ in 0..3 {
            world.notes.clear();
            world.pause_daemon(Millis(pause));
            world.pass(Millis(pause + 5_000));
            assert_eq!(world.healthy(), 8, "{pause} ms");
            let harm = ["disk_suspect", "disk_lost", "pg_closed", "data_unavailable", "repair_started"];
            let kinds = world.kinds();
            assert!(!kinds.iter().any(|kind| harm.contains(kind)), "{pause} ms: {kinds:?}");
        }
    }
}

#[test]
fn connections_that_ended_while_the_daemon_was_stopped_say_nothing_of_their_nodes() {
    let mut world = World::new(8, hasty());
    world.put(A, "a", &data(1_000, 1));
    world.settle();
    world.notes.clear();
    world.pause_daemon(Millis(10_000));
    world.pass(Millis(8_000));
    (1..=8).for_each(|disk| world.reconnect(DiskId(disk)));
    world.pass(Millis(5_000));
    assert_eq!((world.healthy(), world.kinds()), (8, vec!["daemon_paused"]));
    // One that does not come again is missed after the usual time.
    world.pause_daemon(Millis(10_000));
    world.kill_node(DiskId(3));
    world.pass(Millis(10_000 + 2_100));
    assert_eq!(world.coordinator().status().nodes.lost, 1);
    // And without a pause at once.
    world.kill_node(DiskId(4));
    world.pass(Millis(10));
    assert_eq!(world.healthy(), 6);
}

#[test]
fn a_node_that_is_silent_when_the_daemon_goes_on_is_still_found() {
    let mut world = World::new(8, hasty());
    world.cut_power(DiskId(3));
    world.pause_daemon(Millis(60_000));
    world.pass(Millis(60_000));
    assert_eq!(world.healthy(), 8, "nobody has listened to it yet");
    world.pass(Millis(2_000));
    let status = world.coordinator().status();
    assert_eq!((status.nodes.healthy, status.nodes.lost), (7, 1));
}

#[test]
fn pauses_that_come_often_do_not_keep_a_silent_node_alive() {
    let mut world = World::new(8, hasty());
    world.cut_power(DiskId(3));
    for _ in 0..10 {
        // So short that everybody else is heard between two of them.
        world.pause_daemon(Millis(700));
        world.pass(Millis(800));
    }
    assert_eq!(world.coordinator().status().nodes.lost, 1);
}

#[test]
fn a_client_that_came_back_while_the_daemon_was_stopped_finds_its_put() {
    let mut world = World::new(8, CoordinatorConfig { put_resume: Millis(5_000), ..hasty() });
    world.begin(B);
    let (first, _) = world.put_extent(B, 0, 0, &data(1_000, 1), None);
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.pass(Millis(1_000));
    world.pause_daemon(Millis(20_000));
    let begun = world.send(DaemonRequest::BeginPut { stream: B }, Body::new());
    world.pass(Millis(21_000));
    let (reply, _) = world.answer(begun);
    assert!(matches!(&reply, DaemonReply::PutBegun { committed, .. } if *committed == [first]), "{reply:?}");

    // One that stays away is given up all the same.
    world.tell(CoordinatorEvent::PeerGone { peer: CLIENT });
    world.pass(Millis(1_000));
    world.pause_daemon(Millis(20_000));
    world.pass(Millis(20_000 + 6_000));
    world.settle();
    assert_eq!((world.coordinator().status().puts_open, world.coordinator().status().extents), (0, 0));
}
