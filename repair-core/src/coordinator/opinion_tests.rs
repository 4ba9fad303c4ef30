//! What is thought of disks that flap, of racks that fall silent, of disks that are no good for long.

use super::CoordinatorConfig;
use super::CoordinatorEvent;
use super::testing::{World, hasty};
use super::tests::{A, B, data, locate};
use crate::health::{Cause, Health};
use crate::id::{DiskId, ExtentKey, StreamKey};
use crate::node::{Body, RequestId};
use crate::repair::RepairOutcome;
use crate::time::Millis;
use crate::wire::daemon::{EndOfStream, ExtentEntry, NameEntry, Subject};
use crate::wire::node::ServiceTime;
use crate::wire::{DaemonReply, DaemonRequest};
use std::collections::BTreeMap;

const DISK: DiskId = DiskId(3);
const MINUTES: u64 = 60_000;

fn patient(code: &str) -> CoordinatorConfig {
    CoordinatorConfig { grace: Millis(15 * MINUTES), code: code.parse().ok(), ..hasty() }
}

/// A put that may lack fragments.
fn put_with_gaps(world: &mut World, stream: StreamKey, bytes: usize) -> ExtentEntry {
    world.begin(stream);
    let names = vec![NameEntry { name: b"gaps".to_vec(), offset: 0, bytes: bytes as u64 }];
    assert_eq!(world.ask(DaemonRequest::PutNames { stream, first: 0, names }), DaemonReply::NamesTaken);
    let end = EndOfStream { extents: 1, bytes: bytes as u64, names: 1 };
    let (entry, reply) = world.put_extent(stream, 0, 0, &data(bytes, 5), Some(end));
    assert_eq!(reply, DaemonReply::Committed { degraded: true });
    entry
}

fn flap(world: &mut World, disk: DiskId, down: u64, up: u64) {
    world.kill_node(disk);
    world.pass(Millis(down));
    world.start_node(disk);
    world.pass(Millis(up));
}

fn standing(world: &World, disk: DiskId) -> (Health, Cause) {
    let status = world.coordinator().status();
    let found = status.disks.into_iter().find(|report| report.disk == disk.to_string()).unwrap();
    (found.state, found.cause)
}

fn members(world: &World, extent: ExtentKey) -> Vec<DiskId> {
    world.coordinator().owner(extent.pg()).unwrap().row().unwrap().members.clone()
}

/// How often a fragment was sent to the flapping disk, by a node that flaps for ten minutes while every repair takes longer than it
/// stays.
fn sent_to_a_flapping_disk(config: CoordinatorConfig) -> u32 {
    let mut world = World::new(6, config);
    world.put(A, "old", &data(50_000, 1));
    world.settle();
    world.kill_node(DISK);
    world.pass(Millis(100));
    put_with_gaps(&mut world, B, 30_000);
    world.pass(Millis(4_900));
    let mut sent = 0;
    for _ in 0..60 {
        world.start_node(DISK);
        world.pass(Millis(5_000));
        world.kill_node(DISK);
        while let Some((job, spec)) = world.repairs.pop_front() {
            sent += spec.targets.values().filter(|place| place.disk == DISK).count() as u32;
            let failed = BTreeMap::from([(0, "it went away".to_owned())]);
            world.tell(CoordinatorEvent::RepairDone {
                job,
                outcome: RepairOutcome { failed, ..RepairOutcome::default() },
            });
        }
        world.pass(Millis(5_000));
    }
    assert!(!world.kinds().contains(&"disk_lost"));
    world.start_node(DISK);
    // Longer than the longest hold.
    for _ in 0..40 {
        world.pass(Millis(10_000));
        if !world.repairs.is_empty() {
            let spec = world.repair_one();
            sent += spec.targets.values().filter(|place| place.disk == DISK).count() as u32;
        }
    }
    assert!(world.coordinator().idle(), "it is whole in the end");
    sent
}

#[test]
fn a_node_that_flaps_for_ten_minutes_costs_at_most_twice_the_bytes_that_changed_on_it() {
    // One fragment changed on it.
    let sent = sent_to_a_flapping_disk(patient("rs:4+2"));
    assert!((1..=2).contains(&sent), "{sent} fragments for one");
    // And that it is held is why.
    let unheld = sent_to_a_flapping_disk(CoordinatorConfig { flap_hold: Some(Millis(0)), ..patient("rs:4+2") });
    assert!(unheld > 4, "{unheld}");
}

#[test]
fn one_that_flaps_is_counted_on_only_after_it_was_quiet_unless_it_is_needed() {
    let mut world = World::new(6, patient("rs:4+2"));
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    flap(&mut world, DISK, 1_000, 1_000);
    assert_eq!(standing(&world, DISK), (Health::Healthy, Cause::Beats), "once is no flapping");
    flap(&mut world, DISK, 1_000, 1_000);
    assert_eq!(standing(&world, DISK), (Health::Returning, Cause::Flaps));
    let status = world.coordinator().status();
    assert_eq!((status.extents_by_margin.get(&1), status.nodes.suspect), (Some(&1), 1), "it counts as away");
    let explained = world.report(DaemonRequest::Explain { subject: Subject::Disk(DISK) });
    assert!(explained["disk"]["evidence"].as_str().unwrap().contains("2 times lately"), "{explained}");
    assert_eq!(world.kinds().iter().filter(|kind| **kind == "disk_held").count(), 1);
    // It can be read meanwhile, as the last one of its index.
    assert!(locate(&mut world, entry.extent).slots.iter().flatten().any(|place| place.disk == DISK));
    world.pass(Millis(12_000));
    assert_eq!(standing(&world, DISK), (Health::Healthy, Cause::Beats), "six times what makes it suspect");
    world.settle();
    // The third time it would be held for twice as long; but another one is away, and no further loss can be borne.
    world.kill_node(DiskId(5));
    world.pass(Millis(200));
    flap(&mut world, DISK, 1_000, 1_000);
    assert_eq!(standing(&world, DISK), (Health::Healthy, Cause::Beats));
    assert!(world.coordinator().status().extents_by_margin.contains_key(&1));
}

/// Racks of two nodes.
fn racks(racks: u128, config: CoordinatorConfig) -> World {
    let mut world = World::new(0, config);
    for number in 1..=2 * racks {
        world.add_node(DiskId(number), format!("r/z/rack{}/node{number}", number.div_ceil(2)));
    }
    world.until("all are there", |world| world.healthy() == 2 * racks as usize);
    world
}

fn joining(world: &World, extent: ExtentKey) -> usize {
    world.coordinator().owner(extent.pg()).unwrap().row().unwrap().joining.len()
}

#[test]
fn a_rack_that_falls_silent_is_waited_for_longer_and_not_for_ever() {
    let mut world = racks(8, CoordinatorConfig { grace: Millis(MINUTES), ..patient("rs:4+3") });
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[0];
    let rack = [DiskId(disk.0 - 1 + disk.0 % 2), DiskId(disk.0 + disk.0 % 2)];
    rack.into_iter().for_each(|disk| world.kill_node(disk));
    world.pass(Millis(100_000));
    assert!(!world.kinds().contains(&"disk_lost") && world.repairs.is_empty(), "{:?}", world.kinds());
    let told: Vec<&str> =
        world.notes.iter().filter(|note| note.kind == "domain_silent").map(|note| note.text.as_str()).collect();
    assert!(told.len() == 1 && told[0].contains("2 of 2 disks of rack"), "{told:?}");
    assert!(world.coordinator().status().waits.iter().any(|wait| wait.contains("with 2 of 2 disks of rack")));
    world.pass(Millis(4 * MINUTES));
    assert_eq!(world.kinds().iter().filter(|kind| **kind == "disk_lost").count(), 2, "four graces are enough");
    world.settle();
    assert!(!members(&world, entry.extent).contains(&disk));
}

#[test]
fn a_single_node_is_not_taken_for_a_rack_and_what_is_near_to_loss_does_not_wait_for_one() {
    let mut world = racks(8, CoordinatorConfig { grace: Millis(MINUTES), ..patient("rs:4+3") });
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[0];
    world.kill_node(disk);
    world.pass(Millis(70_000));
    assert!(world.kinds().contains(&"disk_lost"));

    // With two parities the loss of a rack leaves one.
    let mut world = racks(8, CoordinatorConfig { grace: Millis(MINUTES), ..patient("rs:4+2") });
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[0];
    let rack = [DiskId(disk.0 - 1 + disk.0 % 2), DiskId(disk.0 + disk.0 % 2)];
    rack.into_iter().for_each(|disk| world.kill_node(disk));
    world.pass(Millis(50_000));
    assert_eq!(joining(&world, entry.extent), 0, "a grace is a grace");
    world.pass(Millis(20_000));
    assert!(!world.kinds().contains(&"disk_lost"));
    assert_eq!(joining(&world, entry.extent), 1);
}

#[test]
fn one_that_flaps_without_an_end_is_set_aside_and_no_second_one_elsewhere() {
    let mut world = World::new(9, patient("rs:4+2"));
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let [first, second] = [members(&world, entry.extent)[0], members(&world, entry.extent)[1]];
    for _ in 0..7 {
        flap(&mut world, first, 500, 1_500);
    }
    assert_eq!(standing(&world, first), (Health::Quarantined, Cause::Flaps));
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    world.settle();
    assert!(!members(&world, entry.extent).contains(&first), "what it held is elsewhere");
    for _ in 0..7 {
        flap(&mut world, second, 500, 1_500);
    }
    assert_eq!(standing(&world, second).0, Health::Returning);
    let refused = |note: &&super::Note| note.kind == "quarantine_refused";
    assert_eq!(world.notes.iter().filter(refused).count(), 1, "said once");
    // Quiet ends it.
    world.pass(Millis(30 * MINUTES));
    assert_eq!(standing(&world, first), (Health::Healthy, Cause::Beats));
    assert!(world.kinds().contains(&"disk_released"));
}

#[test]
fn nothing_is_set_aside_without_which_data_could_not_be_read() {
    let mut world = World::new(6, patient("rs:4+2"));
    world.put(A, "a", &data(50_000, 1));
    world.settle();
    for disk in [DiskId(1), DiskId(2)] {
        world.kill_node(disk);
    }
    world.pass(Millis(500));
    for _ in 0..8 {
        flap(&mut world, DISK, 500, 1_500);
    }
    assert_eq!(standing(&world, DISK), (Health::Healthy, Cause::Beats));
    let refused = world.notes.iter().find(|note| note.kind == "quarantine_refused").unwrap();
    assert!(refused.text.contains("could not be read without it"), "{}", refused.text);
}

#[test]
fn a_rebuild_that_ends_after_its_disk_returned_is_surplus_and_goes() {
    let mut world = World::new(8, hasty());
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let member = members(&world, entry.extent)[2];
    world.kill_node(member);
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    let successor = world.repairs[0].1.targets[&2].disk;
    world.start_node(member);
    world.until("it is given up", |world| joining(world, entry.extent) == 0);
    // The job under way does not know of it.
    world.repair_one();
    world.settle();
    world.pass(Millis(5_000));
    assert!(world.repairs.is_empty() && world.coordinator().idle(), "nothing is left to be done");
    assert_eq!(members(&world, entry.extent)[2], member, "its fragment counts again");
    let held = world.nodes.get_mut(&successor).unwrap().files().keys().filter(|key| key.extent == entry.extent).count();
    assert_eq!(held, 0, "one is enough");
    assert_eq!(world.coordinator().status().extents_by_margin.get(&2), Some(&1));
}

#[test]
fn a_successor_keeps_what_it_has_until_the_returned_disk_was_counted() {
    let mut world = World::new(8, hasty());
    let first = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let member = members(&world, first.extent)[2];
    world.kill_node(member);
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    world.repair_one();
    // What the dead disk had of it is not there any more when it comes back.
    let lost = crate::wire::node::FragmentKey { extent: first.extent, generation: 1, index: 2 };
    assert!(world.nodes.get_mut(&member).unwrap().files().remove(&lost).is_some());
    world.start_node(member);
    for _ in 0..20_000 {
        world.pass(Millis(1));
        let has = world.coordinator().status().extents_by_margin.get(&2).copied();
        let view = &world.coordinator().groups[&first.extent.pg()].view;
        let back = world.coordinator().is_healthy(member);
        assert!(!back || has == Some(1) || !view.ready || joining(&world, first.extent) == 1, "given up too early");
        if world.coordinator().idle() && back {
            break;
        }
        if !world.repairs.is_empty() {
            world.repair_one();
        }
    }
    world.settle();
    assert_eq!(world.coordinator().status().extents_by_margin.get(&2), Some(&1));
}

#[test]
fn a_disk_that_is_lost_takes_no_place_in_quarantine() {
    let mut world = World::new(9, CoordinatorConfig { grace: Millis(MINUTES), ..patient("rs:4+2") });
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let [first, second] = [members(&world, entry.extent)[0], members(&world, entry.extent)[1]];
    (0..7).for_each(|_| flap(&mut world, first, 500, 1_500));
    assert_eq!(standing(&world, first), (Health::Quarantined, Cause::Flaps));
    world.settle();
    world.kill_node(first);
    world.pass(Millis(2 * MINUTES));
    assert_eq!(standing(&world, first).0, Health::Lost);
    (0..7).for_each(|_| flap(&mut world, second, 500, 1_500));
    assert_eq!(standing(&world, second), (Health::Quarantined, Cause::Flaps));
}

#[test]
fn one_that_comes_and_goes_for_longer_than_the_grace_is_replaced_where_data_is_near_to_loss() {
    for (code, replaced) in [("rs:4+2", 1), ("rs:4+3", 0)] {
        let config = CoordinatorConfig { grace: Millis(MINUTES), flap_hold: Some(Millis(MINUTES)), ..patient(code) };
        let mut world = World::new(8, config);
        let entry = world.put(A, "a", &data(50_000, 1));
        world.settle();
        let disk = members(&world, entry.extent)[0];
        (0..5).for_each(|_| flap(&mut world, disk, 1_000, 9_000));
        assert_eq!(joining(&world, entry.extent), 0, "a grace is a grace");
        // Four flaps or five are no ground for quarantine.
        world.pass(Millis(30_000));
        assert_eq!(standing(&world, disk), (Health::Returning, Cause::Flaps));
        assert_eq!(joining(&world, entry.extent), replaced, "{code}");
    }
}

/// All disks tell how long their reads take; one has not worked.
fn tell_times(world: &mut World, round: u64, idle: Option<DiskId>, slow: Option<DiskId>) {
    for disk in (1..=9).map(DiskId).filter(|disk| Some(*disk) != idle) {
        let mean_us = if Some(disk) == slow { 900_000 } else { 10_000 };
        let service = vec![ServiceTime { kind: "read".into(), count: 100 + round, mean_us }];
        let request = DaemonRequest::Faults { disk, boot: 1, faults: vec![], service, quarantined: 0 };
        let peer = world.node_peer(disk);
        let (id, body) = (RequestId(u64::MAX), Body::new());
        world.tell(CoordinatorEvent::Request { peer, id, request, body });
    }
    world.pass(Millis(MINUTES / 2));
}

#[test]
fn one_that_limps_for_an_hour_is_set_aside_until_it_is_seen_to_be_well_or_is_started_again() {
    for restarted in [false, true] {
        let mut world = World::new(9, patient("rs:4+2"));
        let entry = world.put(A, "a", &data(50_000, 1));
        world.settle();
        let disk = members(&world, entry.extent)[0];
        let mut round = 0;
        let mut tell = |world: &mut World, times: u64, idle, slow| {
            (0..times).for_each(|_| {
                round += 1;
                tell_times(world, round, idle, slow);
            });
        };
        tell(&mut world, 118, None, Some(disk));
        assert_eq!(standing(&world, disk), (Health::Limping, Cause::SlowerThanPeers));
        tell(&mut world, 8, None, Some(disk));
        assert_eq!(standing(&world, disk), (Health::Quarantined, Cause::SlowerThanPeers));
        world.settle();
        assert!(!members(&world, entry.extent).contains(&disk));
        // Nothing is on it, so nothing is heard of its pace.
        tell(&mut world, 60, Some(disk), None);
        assert_eq!(standing(&world, disk), (Health::Quarantined, Cause::SlowerThanPeers));
        if restarted {
            flap(&mut world, disk, 1_000, 3_000);
        } else {
            tell(&mut world, 2, None, None);
        }
        assert_eq!(standing(&world, disk), (Health::Healthy, Cause::Beats), "{restarted}");
    }
}

#[test]
fn a_take_over_is_not_given_up_where_the_returned_disk_would_stand_beside_another() {
    let mut world = World::new(4, CoordinatorConfig { slots_per_disk: 1, ..patient("rs:2+1") });
    world.config.grace = Millis(0);
    world.start_daemon();
    world.until("all are there", |world| world.healthy() == 4);
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let [first, second] = [members(&world, entry.extent)[0], members(&world, entry.extent)[1]];
    let joins = |world: &World, index: u16| {
        let row = world.coordinator().owner(entry.extent.pg()).unwrap().row().unwrap().clone();
        row.joining.get(&index).copied().or(row.members.get(usize::from(index)).copied())
    };
    world.kill_node(first);
    world.until("its index goes to another rack", |world| joins(world, 0) != Some(first));
    let successor = joins(&world, 0);
    world.add_node(DiskId(9), format!("r/z/rack{}/node9", first.0));
    world.until("it is there", |world| world.healthy() == 4);
    world.kill_node(second);
    world.until("the rack is free, and taken", |world| joins(world, 1) == Some(DiskId(9)));
    world.start_node(first);
    world.until("the first is back", |world| world.healthy() == 4);
    world.pass(Millis(10_000));
    assert_eq!(joins(&world, 0), successor, "with it two would stand in one rack, and one may be lost");
    world.settle();
    let racks: std::collections::BTreeSet<u128> = members(&world, entry.extent)
        .into_iter()
        .map(|disk| if disk == DiskId(9) { first.0 } else { disk.0 })
        .collect();
    assert_eq!(racks.len(), 3);
}
