//! Losses that come soon after each other are rebuilt in one reading of what is left.

use super::CoordinatorConfig;
use super::testing::{World, hasty};
use super::tests::{A, data, locate};
use crate::id::ExtentKey;
use crate::time::Millis;
use crate::wire::node::FragmentKey;
use crate::wire::{DaemonReply, DaemonRequest};

fn world_with(code: &str, disks: u128) -> (World, ExtentKey) {
    let mut world = World::new(disks, CoordinatorConfig { code: Some(code.parse().unwrap()), ..hasty() });
    let entry = world.put(A, "a", &data(1_000, 1));
    world.settle();
    (world, entry.extent)
}

/// The targets of the one repair there is to be.
fn rebuilt(world: &mut World) -> Vec<u16> {
    let spec = world.repair_one();
    world.settle();
    assert_eq!(world.coordinator().status().repairs.done, 1);
    spec.targets.keys().copied().collect()
}

#[test]
fn two_losses_at_once() {
    let (mut world, extent) = world_with("rs:4+3", 9);
    let slots = locate(&mut world, extent).slots;
    world.kill_node(slots[1][0].disk);
    // Last heard by a later beat, so lost later.
    world.pass(Millis(700));
    world.kill_node(slots[5][0].disk);
    assert_eq!(rebuilt(&mut world), [1, 5]);
}

#[test]
fn two_losses_at_once_that_leave_no_margin() {
    let (mut world, extent) = world_with("rs:4+2", 9);
    let slots = locate(&mut world, extent).slots;
    world.kill_node(slots[1][0].disk);
    world.kill_node(slots[4][0].disk);
    assert_eq!(rebuilt(&mut world), [1, 4]);
}

#[test]
fn damage_found_while_disks_are_suspected() {
    let (mut world, extent) = world_with("rs:4+3", 10);
    let slots = locate(&mut world, extent).slots;
    world.kill_node(slots[0][0].disk);
    world.kill_node(slots[2][0].disk);
    world.pass(Millis(50));
    let (disk, fragment) = (slots[6][0].disk, FragmentKey { extent, generation: 1, index: 6 });
    world.nodes.get_mut(&disk).unwrap().files().get_mut(&fragment).unwrap().class = "rot.payload";
    let reply = world.ask(DaemonRequest::Suspect { disk, fragment, reason: "CRC".into() });
    assert_eq!(reply, DaemonReply::Noted);
    assert_eq!(rebuilt(&mut world), [0, 2, 6]);
}
