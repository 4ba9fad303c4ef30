//! What operators want: drains, windows, pauses, and questions before they pull a plug.

use super::CoordinatorConfig;
use super::testing::{World, hasty};
use super::tests::{A, B, data, locate};
use crate::catalog::key;
use crate::id::{DiskId, ExtentKey};
use crate::time::Millis;
use crate::wire::daemon::Subject;
use crate::wire::{DaemonReply, DaemonRequest, Refusal};
use serde_json::Value;

const MINUTE: u64 = 60_000;

fn cell(nodes: u128, code: &str) -> World {
    World::new(nodes, CoordinatorConfig { code: code.parse().ok(), slots_per_disk: 1, ..hasty() })
}

fn members(world: &World, extent: ExtentKey) -> Vec<DiskId> {
    world.coordinator().owner(extent.pg()).unwrap().row().unwrap().members.clone()
}

/// The name of the test's node of a disk.
fn name(disk: DiskId) -> String {
    format!("node{}", disk.0)
}

fn state(world: &World, disk: DiskId) -> Option<String> {
    let status = serde_json::to_value(world.coordinator().status()).unwrap();
    let disks = status["disks"].as_array().unwrap().clone();
    disks
        .iter()
        .find(|report| report["disk"] == disk.to_string())
        .map(|report| report["state"].as_str().unwrap().into())
}

fn drain_state(world: &World) -> Value {
    serde_json::to_value(world.coordinator().status()).unwrap()["drains"].clone()
}

#[test]
fn a_drain_moves_everything_by_copies_and_ends_by_a_recount() {
    let mut world = cell(8, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[1];
    let report = world.report(DaemonRequest::Drain { node: name(disk), leaves: false });
    assert_eq!(report["drain"]["state"], "draining");
    assert!(report["drain"]["groups_left"].as_u64() >= Some(1), "{report}");
    assert_eq!(state(&world, disk).as_deref(), Some("draining"));
    world.until("a fragment is moved", |world| !world.repairs.is_empty());
    let spec = &world.repairs[0].1;
    assert_eq!(spec.targets.keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(spec.sources[&1][0].disk, disk, "it gives what it has");
    assert!(!world.kinds().contains(&"disk_drained"));
    assert_eq!(world.coordinator().status().extents_by_margin.get(&2), Some(&1), "nothing is at risk meanwhile");
    world.settle();
    world.until("it is drained", |world| world.kinds().contains(&"disk_drained"));
    assert!(!members(&world, entry.extent).contains(&disk));
    assert_eq!(drain_state(&world)[0]["state"], "drained");
    let kinds = world.kinds();
    let order = ["drain_began", "member_replaced", "disk_drained"];
    let positions: Vec<_> = order.iter().map(|kind| kinds.iter().position(|found| found == kind)).collect();
    assert!(positions.iter().all(Option::is_some) && positions.is_sorted(), "{kinds:?}");
    // It stays so over a restart, and gets nothing new.
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 8);
    assert_eq!(drain_state(&world)[0]["state"], "drained");
    world.kill_node(members(&world, entry.extent)[0]);
    world.settle();
    assert!(!members(&world, entry.extent).contains(&disk));
    let report = world.report(DaemonRequest::CancelDrain { node: name(disk) });
    assert!(report["drain"].is_null());
    assert_eq!((state(&world, disk).as_deref(), world.rows(key::INTENTS)), (Some("healthy"), 0));
}

#[test]
fn a_leaving_disk_is_read_by_two_repairs_at_a_time_and_the_others_rebuild() {
    let mut world = cell(8, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    for number in 1..=3u128 {
        world.put(crate::id::StreamKey(number), &format!("b{number}"), &data(50_000, 2));
    }
    world.settle();
    let disk = members(&world, entry.extent)[1];
    world.report(DaemonRequest::Drain { node: name(disk), leaves: false });
    world.until("all are begun", |world| world.repairs.len() == 4);
    let gives =
        |world: &World| -> Vec<bool> { world.repairs.iter().map(|(_, spec)| spec.sources.contains_key(&1)).collect() };
    assert_eq!(gives(&world), [true, true, false, false]);
    assert!(world.repairs.iter().all(|(_, spec)| spec.sources.len() >= 5), "enough to rebuild from");
    world.settle();
    world.until("it is drained", |world| world.kinds().contains(&"disk_drained"));
}

#[test]
fn a_drain_without_a_place_says_which_group_blocks_it_and_goes_on_when_there_is_one() {
    let mut world = cell(6, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[0];
    world.report(DaemonRequest::Drain { node: disk.to_string(), leaves: false });
    world.pass(Millis(20_000));
    let drains = drain_state(&world);
    let blocked = &drains[0]["blocked"][0];
    assert_eq!(blocked["pg"], entry.extent.pg().0);
    assert!(blocked["reason"].as_str().unwrap().contains("no disk can take index 0 over"), "{drains}");
    assert!(world.coordinator().status().waits.iter().any(|wait| wait.contains("the drain of r/z/")));
    assert_eq!(members(&world, entry.extent)[0], disk, "and everything stays where it is");
    world.add_node(DiskId(7), "r/z/rack7/node7".into());
    world.until("a fragment is moved", |world| !world.repairs.is_empty());
    world.settle();
    world.until("it is drained", |world| world.kinds().contains(&"disk_drained"));
    assert_eq!(members(&world, entry.extent)[0], DiskId(7));
}

#[test]
fn a_drain_of_which_the_disk_dies_goes_on_from_the_others() {
    let mut world = cell(8, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[3];
    world.report(DaemonRequest::Drain { node: name(disk), leaves: false });
    world.kill_node(disk);
    world.pass(Millis(5_000));
    world.settle();
    world.until("it is drained", |world| world.kinds().contains(&"disk_drained"));
    assert!(!members(&world, entry.extent).contains(&disk));
}

#[test]
fn a_disk_that_leaves_is_gone_with_its_rows_and_not_let_in_before_the_operator_says_so() {
    let mut world = cell(8, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[1];
    world.report(DaemonRequest::Drain { node: name(disk), leaves: true });
    world.until("a fragment is moved", |world| !world.repairs.is_empty());
    assert_eq!(world.rows(key::DISKS), 8);
    world.settle();
    world.until("it has left", |world| world.kinds().contains(&"disk_left"));
    assert_eq!((world.rows(key::DISKS), world.rows(key::LIVES)), (7, 7));
    world.pass(Millis(10_000));
    assert_eq!((state(&world, disk), world.coordinator().status().nodes.total), (None, 7), "it goes on asking");
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 7);
    world.pass(Millis(5_000));
    assert_eq!(world.healthy(), 7);
    let refused = world.ask(DaemonRequest::Maintain { node: disk.to_string(), span: Some(Millis(1)) });
    assert!(matches!(refused, DaemonReply::Refused(Refusal::Invalid(_))), "{refused:?}");
    world.report(DaemonRequest::CancelDrain { node: disk.to_string() });
    world.until("it is let in", |world| world.healthy() == 8);
}

#[test]
fn a_node_in_its_window_is_not_lost_before_its_end_also_over_a_restart() {
    let mut world = cell(9, "rs:4+3");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disk = members(&world, entry.extent)[0];
    let report = world.report(DaemonRequest::Maintain { node: name(disk), span: Some(Millis(10 * MINUTE)) });
    assert_eq!(report["window_left_ms"], 10 * MINUTE);
    world.kill_node(disk);
    world.pass(Millis(3 * MINUTE));
    assert_eq!(state(&world, disk).as_deref(), Some("maintenance"));
    assert!(!world.kinds().contains(&"disk_lost"));
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 8);
    world.pass(Millis(3 * MINUTE));
    assert_eq!(state(&world, disk).as_deref(), Some("maintenance"));
    let explained = world.report(DaemonRequest::Explain { subject: Subject::Node(name(disk)) });
    let left = explained["intent"]["window_left_ms"].as_u64().unwrap();
    // What was left is stored every minute: no more is won by a restart.
    assert!((4 * MINUTE - 5_000..=5 * MINUTE + 5_000).contains(&left), "{left}");
    assert!(!world.kinds().contains(&"disk_lost"));
    world.pass(Millis(left + 1_000));
    assert_eq!(state(&world, disk).as_deref(), Some("lost"));
    world.settle();
    assert!(!members(&world, entry.extent).contains(&disk));
    assert_eq!(world.rows(key::INTENTS), 0, "the window is over");
}

#[test]
fn a_window_ended_early_is_over_and_data_at_the_edge_does_not_wait_for_it() {
    let mut world = cell(9, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let [disk, other] = [members(&world, entry.extent)[0], members(&world, entry.extent)[1]];
    world.report(DaemonRequest::Maintain { node: name(disk), span: Some(Millis(60 * MINUTE)) });
    world.kill_node(disk);
    world.pass(Millis(10_000));
    assert!(world.repairs.is_empty(), "one loss is what the window was declared for");
    // A second one that nobody declared leaves no margin.
    world.kill_node(other);
    world.pass(Millis(10_000));
    let joining = world.coordinator().owner(entry.extent.pg()).unwrap().row().unwrap().joining.clone();
    assert_eq!(joining.keys().copied().collect::<Vec<_>>(), [0, 1], "both are replaced");
    assert_eq!(state(&world, disk).as_deref(), Some("maintenance"));
    world.report(DaemonRequest::Maintain { node: name(disk), span: None });
    world.pass(Millis(5_000));
    assert_eq!(state(&world, disk).as_deref(), Some("lost"));
    let wrong = [Some(Millis(0)), Some(Millis(31 * 24 * 60 * MINUTE))];
    for span in wrong {
        let refused = world.ask(DaemonRequest::Maintain { node: name(DiskId(9)), span });
        assert!(matches!(refused, DaemonReply::Refused(Refusal::Invalid(_))), "{refused:?}");
    }
}

#[test]
fn nodes_may_be_stopped_while_all_can_be_read_without_them() {
    let mut world = cell(6, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let nodes = members(&world, entry.extent);
    let ask = |world: &mut World, nodes: &[DiskId]| {
        world.report(DaemonRequest::CanStop { nodes: nodes.iter().map(|disk| name(*disk)).collect() })
    };
    let two = ask(&mut world, &nodes[..2]);
    assert_eq!((&two["can_stop"], &two["least_margin"]), (&true.into(), &0.into()), "{two}");
    let three = ask(&mut world, &nodes[..3]);
    assert_eq!(three["can_stop"], false);
    assert_eq!(three["against"][0]["extents"][0], entry.extent.to_string());
    assert_eq!((&three["extents_against"], &three["least_margin"]), (&1.into(), &Value::Null));
    // One that is silent is lost already, whoever stops it.
    world.kill_node(nodes[5]);
    world.pass(Millis(500));
    assert_eq!(ask(&mut world, &nodes[..2])["can_stop"], false);
    assert_eq!(ask(&mut world, &[nodes[0], nodes[5]])["can_stop"], true);
    let rack = world.report(DaemonRequest::CanStop { nodes: vec!["r/z".into()] });
    assert_eq!((rack["nodes"].as_array().unwrap().len(), &rack["can_stop"]), (6, &false.into()));
    let refused = world.ask(DaemonRequest::CanStop { nodes: vec!["nobody".into()] });
    assert!(matches!(refused, DaemonReply::Refused(Refusal::Invalid(_))), "{refused:?}");
}

#[test]
fn a_pause_leaves_alone_what_is_near_to_loss_and_survives_a_restart() {
    let mut world = cell(11, "rs:4+3");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    assert_eq!(world.ask(DaemonRequest::PauseRepairs { paused: true }), DaemonReply::Noted);
    let [first, second] = [members(&world, entry.extent)[0], members(&world, entry.extent)[1]];
    world.kill_node(first);
    world.pass(Millis(20_000));
    assert!(world.repairs.is_empty(), "two further losses can be borne");
    assert!(world.coordinator().status().waits.iter().any(|wait| wait.contains("paused by an operator: 1 extent")));
    world.start_daemon();
    world.until("it is up", |world| world.healthy() == 10);
    world.pass(Millis(20_000));
    assert!(world.repairs.is_empty());
    let plan = world.report(DaemonRequest::PlanRepairs);
    assert_eq!((&plan["extents"], &plan["repairs"][0]["state"]), (&1.into(), &"paused".into()), "{plan}");
    world.kill_node(second);
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    world.repair_one();
    world.pass(Millis(20_000));
    assert!(world.repairs.is_empty() && !world.coordinator().idle(), "what is left can wait again");
    assert_eq!(world.ask(DaemonRequest::PauseRepairs { paused: false }), DaemonReply::Noted);
    world.settle();
}

#[test]
fn a_plan_tells_bytes_and_sources_and_a_drill_what_would_be() {
    let mut world = cell(8, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    let disks = members(&world, entry.extent);
    let shard = ec_core::Geometry::new(50_000, 4).shard_bytes();
    let drill = world.report(DaemonRequest::Drill { nodes: vec![name(disks[0]), name(disks[4])] });
    assert_eq!((&drill["extents"], &drill["least_margin"]), (&1.into(), &0.into()));
    assert_eq!((&drill["read_bytes"], &drill["write_bytes"]), (&(4 * shard).into(), &(2 * shard).into()), "{drill}");
    let of_extent = |drill: &Value| {
        let groups = drill["by_group"].as_array().unwrap().clone();
        groups.into_iter().find(|group| group["pg"] == entry.extent.pg().0).unwrap()
    };
    let group = of_extent(&drill);
    let homes: Vec<&str> =
        group["writes"].as_array().unwrap().iter().map(|place| place["disk"].as_str().unwrap()).collect();
    assert!(
        homes.len() == 2 && !homes.iter().any(|home| disks.iter().any(|disk| disk.to_string() == *home)),
        "{drill}"
    );
    assert!(world.repairs.is_empty() && world.coordinator().idle(), "nothing is done");
    let hopeless = world.report(DaemonRequest::Drill { nodes: disks[..3].iter().map(|disk| name(*disk)).collect() });
    assert_eq!((&hopeless["extents_unavailable"], &hopeless["least_margin"]), (&1.into(), &Value::Null));
    let group = of_extent(&hopeless);
    let (lost, writes) = (group["lost"].as_array().unwrap().len(), group["writes"].as_array().unwrap().len());
    assert_eq!((lost, writes, &group["undecodable"]), (3, 2, &1.into()), "{hopeless}");
    assert_eq!((&group["reads"], group["reasons"].as_array().unwrap().len()), (&Value::Array(vec![]), 2), "{hopeless}");

    let nothing = world.report(DaemonRequest::PlanRepairs);
    assert_eq!(nothing["extents"], 0);
    world.kill_node(disks[0]);
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    let plan = world.report(DaemonRequest::PlanRepairs);
    let planned = &plan["repairs"][0];
    assert_eq!(
        (&planned["extent"], &planned["state"], &planned["margin"]),
        (&entry.extent.to_string().into(), &"running".into(), &1.into())
    );
    assert_eq!((&plan["read_bytes"], &plan["write_bytes"]), (&(4 * shard).into(), &shard.into()));
    assert_eq!((planned["reads"].as_array().unwrap().len(), &planned["writes"][0]["index"]), (4, &0.into()));
}

#[test]
fn what_operators_want_ends_as_it_says_whatever_becomes_of_transactions() {
    let mut world = cell(8, "rs:4+2");
    let entry = world.put(A, "a", &data(50_000, 1));
    world.put(B, "b", &data(50_000, 2));
    world.settle();
    world.fates = Some(crate::rng::Dice::new(4));
    for round in 0..6 {
        let disk = DiskId(1 + round % 3);
        world.report(DaemonRequest::Drain { node: name(disk), leaves: false });
        assert_eq!(state(&world, disk).as_deref(), Some("draining"));
        world.report(DaemonRequest::CancelDrain { node: name(disk) });
        assert_eq!((state(&world, disk).as_deref(), world.rows(key::INTENTS)), (Some("healthy"), 0));
    }
    world.fates = None;
    world.settle();
    assert_eq!(locate(&mut world, entry.extent).slots.len(), 6);
}
