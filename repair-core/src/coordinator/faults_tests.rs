//! What nodes tell of their disks, as operators see it and as placement heeds it.

use super::testing::{CLIENT, World, hasty};
use super::{CoordinatorConfig, CoordinatorEvent};
use crate::id::{DiskId, StreamKey};
use crate::node::{Body, RequestId};
use crate::time::Millis;
use crate::wire::daemon::Subject;
use crate::wire::node::{FaultCount, ServiceTime};
use crate::wire::{DaemonReply, DaemonRequest, Refusal};

const DISK: DiskId = DiskId(3);

fn cell(nodes: u128) -> World {
    World::new(nodes, CoordinatorConfig { code: Some("rs:2+1".parse().unwrap()), ..hasty() })
}

/// As the node of this disk tells it.
fn tell(world: &mut World, disk: DiskId, faults: &[(&str, u64)], service: &[(u64, u64)]) {
    let count = |(kind, count): &(&str, u64)| FaultCount { kind: (*kind).into(), count: *count, last_ago: Millis(0) };
    let time = |(count, mean_us): &(u64, u64)| ServiceTime { kind: "write".into(), count: *count, mean_us: *mean_us };
    let request = DaemonRequest::Faults {
        disk,
        boot: 1,
        faults: faults.iter().map(count).collect(),
        service: service.iter().map(time).collect(),
        quarantined: 2,
    };
    let peer = world.node_peer(disk);
    // A number that no question of the node has: the answer is to nobody.
    world.tell(CoordinatorEvent::Request { peer, id: RequestId(u64::MAX), request, body: Body::new() });
    world.pass(Millis(5));
}

fn told_disk(world: &World, disk: DiskId) -> super::report::DiskReport {
    let status = world.coordinator().status();
    status.disks.into_iter().find(|report| report.disk == disk.to_string()).unwrap()
}

#[test]
fn faults_are_shown_by_disk_and_told_once_a_kind_and_forgotten_with_the_process() {
    let mut world = cell(4);
    let seen = world.notes.len();
    tell(&mut world, DISK, &[("read_error", 1)], &[]);
    tell(&mut world, DISK, &[("read_error", 7), ("sync_error", 1)], &[]);
    assert_eq!(world.kinds()[seen..], ["disk_fault", "disk_fault"]);
    assert_eq!(
        told_disk(&world, DISK).faults.into_iter().collect::<Vec<_>>(),
        [("read_error".to_owned(), 7), ("sync_error".to_owned(), 1)]
    );
    assert!(told_disk(&world, DiskId(1)).faults.is_empty());
    world.pass(Millis(1_000));
    let explained = world.report(DaemonRequest::Explain { subject: Subject::Disk(DISK) });
    assert_eq!((&explained["faults"][0]["kind"], &explained["faults"][0]["count"]), (&"read_error".into(), &7.into()));
    assert!(explained["faults"][0]["last_ms_ago"].as_u64().unwrap() >= 1_000);
    assert_eq!(explained["quarantined"], 2);
    world.kill_node(DISK);
    world.pass(Millis(5));
    world.start_node(DISK);
    world.until("it is back", |world| world.healthy() == 4);
    assert!(told_disk(&world, DISK).faults.is_empty());
    // Of the life before.
    tell(&mut world, DISK, &[("read_error", 9)], &[]);
    assert!(told_disk(&world, DISK).faults.is_empty());
}

#[test]
fn strangers_tell_nothing_and_what_is_told_is_bounded() {
    let mut world = cell(4);
    let request = DaemonRequest::Faults { disk: DISK, boot: 1, faults: vec![], service: vec![], quarantined: 0 };
    assert_eq!(world.ask_over(CLIENT, request), DaemonReply::RegisterFirst);
    let long = "x".repeat(33);
    let mut hostile = vec![("", 1), ("a\nb", 1), ("A", 1), (long.as_str(), 1)];
    let many: Vec<String> = (0..40u8).map(|at| format!("k{}", "x".repeat(usize::from(at)))).collect();
    hostile.extend(many.iter().map(|kind| (kind.as_str(), 1)));
    tell(&mut world, DISK, &hostile, &[]);
    let found = told_disk(&world, DISK).faults;
    assert_eq!(found.len(), 16);
    assert!(found.keys().all(|kind| kind.starts_with('k')), "{found:?}");
    // Other kinds with every message, and the first ones again, are no more events.
    let seen = world.notes.len();
    tell(&mut world, DISK, &[("other", 1), ("another", 1)], &[]);
    tell(&mut world, DISK, &hostile, &[]);
    assert_eq!(world.kinds()[seen..], [""; 0]);
}

/// Tells times of all disks, two minutes long: that of one is far longer.
fn limp(world: &mut World, nodes: u128, slow: DiskId) {
    for round in 0..3u64 {
        for number in 1..=nodes {
            let mean_us = if DiskId(number) == slow { 900_000 } else { 10_000 };
            tell(world, DiskId(number), &[], &[(100 + round, mean_us)]);
        }
        world.pass(Millis(40_000));
    }
}

/// Ends a put that was only begun.
fn give_up(world: &mut World, stream: u128) {
    assert_eq!(world.ask(DaemonRequest::AbortPut { stream: StreamKey(stream) }), DaemonReply::PutAborted);
    world.settle();
}

/// How many of so many grants have a fragment on the disk.
fn granted(world: &mut World, stream: u128, count: u64) -> usize {
    world.begin(StreamKey(stream));
    let grants = (0..count).map(|ordinal| world.allocate(StreamKey(stream), ordinal, 5_000));
    grants.filter(|grant| grant.places.iter().flatten().any(|place| place.disk == DISK)).count()
}

#[test]
fn a_disk_that_limps_gets_nothing_new_and_its_data_stays_counted() {
    let mut world = cell(9);
    world.put(StreamKey(1), "a", &[1; 5_000]);
    assert!(granted(&mut world, 2, 40) > 0, "it would show nothing");
    give_up(&mut world, 2);
    let seen = world.notes.len();
    limp(&mut world, 9, DISK);
    assert_eq!(world.kinds()[seen..].iter().filter(|kind| **kind == "disk_limps").count(), 1);
    let report = told_disk(&world, DISK);
    assert_eq!(report.state, crate::health::Health::Limping);
    let limping = report.limping.expect("it limps");
    assert_eq!((limping.kind.as_str(), limping.mean_us, limping.peers_us), ("write", 900_000, 10_000));
    assert!(world.coordinator().status().full_redundancy);
    assert_eq!(granted(&mut world, 3, 40), 0);
    give_up(&mut world, 3);
    // Well again.
    let seen = world.notes.len();
    for number in 1..=9 {
        tell(&mut world, DiskId(number), &[], &[(200, 10_000)]);
    }
    world.pass(Millis(1_100));
    assert!(world.kinds()[seen..].contains(&"disk_recovered"));
    assert!(granted(&mut world, 4, 60) > 0);
}

/// Groups that the disk is a member of, or joins.
fn groups_of(world: &mut World, disk: DiskId) -> usize {
    let explained = world.report(DaemonRequest::Explain { subject: Subject::Disk(disk) });
    explained["index_by_pg"].as_object().unwrap().len()
}

#[test]
fn a_disk_that_limps_is_a_member_of_no_new_group_and_takes_nothing_over() {
    let mut world = cell(9);
    limp(&mut world, 9, DISK);
    for stream in 1..=8 {
        world.put(StreamKey(stream), &format!("{stream}"), &[1; 5_000]);
    }
    assert_eq!(groups_of(&mut world, DISK), 0);
    // It has the fewest groups, so it would be the first.
    world.kill_node(DiskId(1));
    world.pass(Millis(10_000));
    world.settle();
    assert!(world.kinds().contains(&"member_replaced"), "{:?}", world.kinds());
    assert_eq!(groups_of(&mut world, DISK), 0);
}

#[test]
fn a_disk_that_limps_is_used_where_there_are_no_others() {
    let mut world = World::new(5, CoordinatorConfig { code: Some("rs:3+2".parse().unwrap()), ..hasty() });
    limp(&mut world, 5, DISK);
    assert!(told_disk(&world, DISK).limping.is_some());
    assert_eq!(granted(&mut world, 1, 5), 5);
}

#[test]
fn a_disk_without_room_hinders_puts_while_it_is_there_and_not_when_it_is_away() {
    let config = CoordinatorConfig { grace: Millis(3_600_000), code: Some("rs:4+2".parse().unwrap()), ..hasty() };
    let mut world = World::new(6, config);
    world.put(StreamKey(9), "a", &[1; 5_000]);
    world.settle();
    world.fill_disk(DISK);
    world.until("it is there", |world| world.healthy() == 6);
    world.pass(Millis(1_000));
    world.begin(StreamKey(1));
    let reply = world.ask(DaemonRequest::Allocate { stream: StreamKey(1), ordinal: 0, bytes: 5_000 });
    assert!(matches!(reply, DaemonReply::Refused(Refusal::NoPlace(_))), "{reply:?}");
    world.kill_node(DISK);
    let grant = world.allocate(StreamKey(1), 0, 5_000);
    assert_eq!(grant.places.iter().flatten().count(), 5, "its place stays empty");
}
