//! What operators want: drains, windows, pauses, and questions before they pull a plug.

use super::CoordinatorConfig;
use super::testing::{World, hasty};
use super::tests::{A, B, data, locate};
use crate::catalog::key;
use crate::id::{DiskId, ExtentKey};
use crate::time::Millis;
use crate::wire::daemon::{ExtentEntry, Subject};
use crate::wire::{DaemonReply, DaemonRequest, Refusal};
use serde_json::Value;

const MINUTE: u64 = 60_000;

fn cell(nodes: u128, code: &str) -> World {
    World::new(nodes, CoordinatorConfig { code: code.parse().ok(), slots_per_disk: 1, ..hasty() })
}

/// A cell at rest that has one extent.
fn stored(nodes: u128, code: &str) -> (World, ExtentEntry) {
    let mut world = cell(nodes, code);
    let entry = world.put(A, "a", &data(50_000, 1));
    world.settle();
    (world, entry)
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
    let (mut world, entry) = stored(8, "rs:4+2");
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
    let (mut world, entry) = stored(6, "rs:4+2");
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
    let (mut world, entry) = stored(8, "rs:4+2");
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
    let (mut world, entry) = stored(8, "rs:4+2");
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
    let (mut world, entry) = stored(9, "rs:4+3");
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
    let (mut world, entry) = stored(9, "rs:4+2");
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
    let (mut world, entry) = stored(6, "rs:4+2");
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
    let (mut world, entry) = stored(11, "rs:4+3");
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
    let (mut world, entry) = stored(8, "rs:4+2");
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

fn revision(world: &World, disk: DiskId) -> u64 {
    world.catalog.get(&key::intent(disk)).map_or(0, |row| row.revision)
}

#[test]
fn a_drain_that_ends_in_a_window_is_written_down_once_and_can_be_given_up() {
    let (mut world, entry) = stored(8, "rs:4+2");
    let disk = members(&world, entry.extent)[1];
    world.report(DaemonRequest::Maintain { node: name(disk), span: Some(Millis(60 * MINUTE)) });
    world.report(DaemonRequest::Drain { node: name(disk), leaves: false });
    world.until("a fragment is moved", |world| !world.repairs.is_empty());
    world.settle();
    world.until("it is drained", |world| world.kinds().contains(&"disk_drained"));
    let drained = revision(&world, disk);
    world.pass(Millis(MINUTE - 10_000));
    assert!(revision(&world, disk) <= drained + 1, "what is left of the window is stored once a minute");
    let report = world.report(DaemonRequest::CancelDrain { node: name(disk) });
    assert!(report["drain"].is_null() && report["window_left_ms"].as_u64() > Some(50 * MINUTE), "{report}");
    let report = world.report(DaemonRequest::Maintain { node: name(disk), span: None });
    assert!(report["window_left_ms"].is_null(), "{report}");
    world.pass(Millis(2_000));
    assert_eq!((state(&world, disk).as_deref(), world.rows(key::INTENTS)), (Some("healthy"), 0));
}

#[test]
fn a_drain_given_up_while_its_end_is_written_is_given_up_and_a_disk_that_was_let_go_comes_back() {
    // As many steps after the last move as a write and a read take.
    for late in 0..12 {
        let (mut world, entry) = stored(8, "rs:4+2");
        let disk = members(&world, entry.extent)[1];
        world.report(DaemonRequest::Drain { node: name(disk), leaves: true });
        world.until("a fragment is moved", |world| !world.repairs.is_empty());
        while !world.repairs.is_empty() {
            world.repair_one();
        }
        let is_member = |world: &World| {
            let owner = |pg| world.coordinator().owner(pg).unwrap();
            let all = world.coordinator().groups.keys().copied();
            all.filter(|pg| owner(*pg).row().unwrap().index_held_or_joined(disk).is_some()).count()
        };
        world.until("it is in no group", |world| is_member(world) == 0);
        world.pass(Millis(late));
        let id = world.send(DaemonRequest::CancelDrain { node: disk.to_string() }, crate::node::Body::new());
        let (reply, _) = world.answer(id);
        assert!(matches!(reply, DaemonReply::Report), "{late}: {reply:?}");
        world.pass(Millis(5_000));
        assert_eq!((world.rows(key::INTENTS), drain_state(&world)), (0, Value::Array(vec![])), "{late}");
        world.until("it is there", |world| world.healthy() == 8);
        assert_eq!((world.rows(key::DISKS), world.rows(key::LIVES)), (8, 8), "{late}");
    }
}

#[test]
fn a_window_is_as_long_as_was_said_last_and_stored_once_a_minute_however_often_it_is_said() {
    let mut world = cell(7, "rs:4+2");
    let disk = DiskId(2);
    let left = |world: &mut World| {
        let explained = world.report(DaemonRequest::Explain { subject: Subject::Node(name(disk)) });
        explained["intent"]["window_left_ms"].as_u64().unwrap()
    };
    for (span, passes) in [(30_000, 5_000), (80_000, 5_000), (40_000, 2_000)] {
        world.report(DaemonRequest::Maintain { node: name(disk), span: Some(Millis(span)) });
        world.pass(Millis(passes));
        let found = left(&mut world);
        assert!((span - passes - 100..=span - passes).contains(&found), "{found} of {span}");
    }
    for _ in 0..30 {
        world.report(DaemonRequest::Maintain { node: name(disk), span: Some(Millis(60 * MINUTE)) });
        world.pass(Millis(1_000));
    }
    let before = revision(&world, disk);
    world.pass(Millis(10 * MINUTE));
    let written = revision(&world, disk) - before;
    assert!((5..=11).contains(&written), "{written} writes of the catalog in ten minutes");
    let left = left(&mut world);
    assert!((49 * MINUTE..=50 * MINUTE).contains(&left), "{left}");
}

#[test]
fn a_name_of_two_disks_is_refused_where_one_is_meant_and_both_are_asked_about() {
    let mut world = World::new(0, CoordinatorConfig { code: "rs:4+2".parse().ok(), slots_per_disk: 1, ..hasty() });
    for number in 1..=8u128 {
        world.add_node(DiskId(number), format!("r/z/rack{number}/n{}", number % 4));
    }
    world.until("all are there", |world| world.healthy() == 8);
    world.put(A, "a", &data(50_000, 1));
    world.settle();
    for request in [
        DaemonRequest::Drain { node: "n1".into(), leaves: true },
        DaemonRequest::Maintain { node: "n1".into(), span: Some(Millis(MINUTE)) },
        DaemonRequest::Explain { subject: Subject::Node("n1".into()) },
    ] {
        let DaemonReply::Refused(Refusal::Invalid(why)) = world.ask(request) else { panic!("n1 is not one disk") };
        assert!(why.contains(&DiskId(1).to_string()) && why.contains(&DiskId(5).to_string()), "{why}");
    }
    assert_eq!(world.rows(key::INTENTS), 0);
    let both = world.report(DaemonRequest::CanStop { nodes: vec!["n1".into()] });
    assert_eq!(both["nodes"], serde_json::json!(["r/z/rack1/n1", "r/z/rack5/n1"]));
    // The whole domain names one of them.
    world.report(DaemonRequest::Maintain { node: "r/z/rack5/n1".into(), span: Some(Millis(MINUTE)) });
    assert_eq!(state(&world, DiskId(5)).as_deref(), Some("maintenance"));
}

#[test]
fn a_disk_in_the_place_of_a_dead_one_is_the_one_that_is_meant() {
    let (mut world, entry) = stored(8, "rs:4+2");
    let dead = members(&world, entry.extent)[0];
    world.kill_node(dead);
    world.pass(Millis(5_000));
    world.settle();
    let place = name(dead);
    world.add_node(DiskId(20), format!("r/z/rack{0}/node{0}", dead.0));
    world.until("it is there", |world| world.healthy() == 8);
    world.report(DaemonRequest::Maintain { node: place, span: Some(Millis(MINUTE)) });
    assert_eq!(state(&world, DiskId(20)).as_deref(), Some("maintenance"));
}

#[test]
fn who_takes_over_is_replaced_in_a_window_where_no_further_loss_can_be_borne() {
    let (mut world, entry) = stored(8, "rs:4+1");
    world.kill_node(members(&world, entry.extent)[0]);
    world.until("a repair is wanted", |world| !world.repairs.is_empty());
    let successor = world.repairs[0].1.targets[&0].disk;
    world.report(DaemonRequest::Maintain { node: name(successor), span: Some(Millis(60 * MINUTE)) });
    world.kill_node(successor);
    world.pass(Millis(20_000));
    let joining = world.coordinator().owner(entry.extent.pg()).unwrap().row().unwrap().joining.clone();
    assert!(joining.get(&0).is_some_and(|disk| *disk != successor), "{joining:?}");
}

#[test]
fn a_spare_in_its_window_takes_over_where_data_is_near_to_loss_and_no_other_is_there() {
    for (code, takes) in [("rs:4+2", true), ("rs:3+3", false)] {
        let (mut world, entry) = stored(7, code);
        let disks = members(&world, entry.extent);
        let spare = (1..=7).map(DiskId).find(|disk| !disks.contains(disk)).unwrap();
        world.report(DaemonRequest::Maintain { node: name(spare), span: Some(Millis(60 * MINUTE)) });
        world.kill_node(disks[0]);
        world.pass(Millis(20_000));
        let joining = world.coordinator().owner(entry.extent.pg()).unwrap().row().unwrap().joining.clone();
        assert_eq!(joining.values().copied().collect::<Vec<_>>(), if takes { vec![spare] } else { vec![] }, "{code}");
    }
}
