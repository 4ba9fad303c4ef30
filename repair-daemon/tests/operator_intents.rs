//! What operators want of a cell, on real processes: a question before a plug is pulled, a window, a drain, a node that leaves.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, eventually, noise, text};
use serde_json::Value;
use std::time::Duration;

fn json(cell: &TestCell, arguments: &[&str]) -> Value {
    serde_json::from_slice(&cell.good(&[arguments, &["--json"]].concat()).stdout).unwrap()
}

fn state_of(cell: &TestCell, node: usize) -> String {
    let explained = json(cell, &["explain", "node", &name(node)]);
    explained["disk"]["state"].as_str().unwrap().to_owned()
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

/// A cell of seven nodes of which five have a file, by number; and its bytes.
fn cell_with_a_file() -> (TestCell, Vec<usize>, Vec<u8>) {
    let cell = TestCell::start(7, &format!("{QUICK}code = \"rs:3+2\"\nslots_per_disk = 1\n"));
    let bytes = noise(7, 300_000);
    cell.put("file", &bytes);
    cell.wait_full();
    let holders: Vec<usize> = (0..7).filter(|node| !cell.fragments(*node).is_empty()).collect();
    assert_eq!(holders.len(), 5);
    (cell, holders, bytes)
}

#[test]
fn a_question_a_window_and_a_plan() {
    let (mut cell, holders, bytes) = cell_with_a_file();
    let two = cell.run(&["can-stop", &name(holders[0]), &name(holders[1])]);
    assert_eq!(two.status.code(), Some(0), "{}", text(&two.stdout));
    let three = cell.run(&["can-stop", &name(holders[0]), &name(holders[1]), &name(holders[2]), "--json"]);
    let answer: Value = serde_json::from_slice(&three.stdout).unwrap();
    assert_eq!((three.status.code(), &answer["can_stop"]), (Some(1), &false.into()));
    assert!(answer["against"][0]["extents"][0].is_string(), "{answer}");
    assert_eq!(cell.run(&["can-stop", "nobody"]).status.code(), Some(2));
    let drill = json(&cell, &["drill", &name(holders[0])]);
    assert_eq!((&drill["extents"], &drill["by_group"][0]["reads"].as_array().unwrap().len()), (&1.into(), &3));
    assert_eq!(json(&cell, &["repair", "--dry-run"])["extents"], 0);
    cell.good(&["pause"]);
    assert_eq!(json(&cell, &["status"])["repairs"]["paused_above_margin"], 1);
    cell.good(&["resume"]);

    let seen = cell.event_count();
    cell.good(&["maintenance", &name(holders[0]), "--for", "2h"]);
    cell.kill_node(holders[0]);
    // More than twice what makes a node lost here.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(state_of(&cell, holders[0]), "maintenance");
    cell.kill_daemon();
    cell.start_daemon();
    cell.wait_healthy(6);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(state_of(&cell, holders[0]), "maintenance");
    let kinds = cell.kinds_after(seen);
    assert!(!kinds.iter().any(|kind| kind == "disk_lost" || kind == "repair_started"), "{kinds:?}");
    assert_eq!(cell.get("file").unwrap(), bytes);
    cell.good(&["maintenance", &name(holders[0]), "--end"]);
    eventually("it is lost", || match state_of(&cell, holders[0]).as_str() {
        "lost" => Ok(()),
        other => Err(other.to_owned()),
    });
    cell.wait_full();
}

#[test]
fn a_drain_moves_everything_and_a_node_leaves() {
    let (mut cell, holders, bytes) = cell_with_a_file();
    let drained = json(&cell, &["drain", &name(holders[0]), "--wait"]);
    assert_eq!(
        (&drained["drain"]["state"], &drained["drain"]["groups_left"]),
        (&"drained".into(), &0.into()),
        "{drained}"
    );
    eventually("its files are put aside", || match cell.fragments(holders[0]).len() {
        0 => Ok(()),
        files => Err(format!("{files} files")),
    });
    let full = cell.wait_full();
    assert_eq!((&full["extents_by_margin"]["2"], &full["nodes"]["lost"]), (&1.into(), &0.into()));
    assert_eq!(cell.get("file").unwrap(), bytes);
    cell.good(&["drain", &name(holders[0]), "--cancel"]);
    assert_eq!(state_of(&cell, holders[0]), "healthy");

    let left = cell.good(&["drain", &name(holders[1]), "--decommission", "--wait", "--json"]);
    let left: Value = serde_json::from_slice(&left.stdout).unwrap();
    assert_eq!(left["drain"]["state"], "left");
    // Its process is told so, and ends.
    eventually("its node ends", || {
        let said = cell.log(&format!("node-{}.log", holders[1]));
        if said.contains("has left this cell") { Ok(()) } else { Err(said) }
    });
    assert_eq!(json(&cell, &["status"])["nodes"]["total"], 6);
    let again = cell.node_command(holders[1]).output().unwrap();
    assert!(!again.status.success() && text(&again.stderr).contains("--cancel"), "{}", text(&again.stderr));
    assert_eq!(cell.get("file").unwrap(), bytes);
    cell.good(&["drain", left["disk"].as_str().unwrap(), "--cancel"]);
    cell.kill_node(holders[1]);
    cell.start_node(holders[1]);
    cell.wait_healthy(7);
}
