//! What operators are shown of a node's disk: by the daemon, and by the node itself.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, eventually, noise, text};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;

fn explained(cell: &TestCell, kind: &str, id: &str) -> Value {
    serde_json::from_slice(&cell.good(&["explain", kind, id, "--json"]).stdout).unwrap()
}

fn disk_of(cell: &TestCell, node: usize) -> Value {
    let (status, _) = cell.status().unwrap();
    let disks = status["disks"].as_array().unwrap();
    disks.iter().find(|disk| disk["address"] == *cell.nodes[node].address).cloned().unwrap()
}

#[test]
fn faults_are_counted_told_and_shown_and_a_node_says_itself_how_it_is() {
    let mut cell = TestCell::unstarted(&format!("{QUICK}code = \"rs:2+1\"\n"));
    cell.scrub_seconds = 0;
    cell.start_daemon();
    (0..4).for_each(|number| _ = cell.add_node(&format!("test/zone/rack-{number}/node-{number}")));
    cell.wait_healthy(4);
    let bytes = noise(5, 200_000);
    cell.put("file", &bytes);
    cell.wait_full();
    let (node, fragment) =
        (0..4).find_map(|node| Some((node, cell.fragments(node).first()?.clone()))).expect("a fragment");
    let disk = disk_of(&cell, node);
    let id = disk["disk"].as_str().unwrap().to_owned();
    assert_eq!(disk["faults"], serde_json::json!({}));
    let before = explained(&cell, "disk", &id);
    assert_eq!(before["health"]["state"], "serving", "{before}");
    assert!(before["health"]["total_bytes"].as_u64().unwrap() > before["health"]["free_bytes"].as_u64().unwrap());
    assert_eq!(before["health"]["scrub_ended_ago"], Value::Null, "{before}");

    let seen = cell.event_count();
    File::options().write(true).open(&fragment).unwrap().write_all_at(b"??", 5_000).unwrap();
    cell.good(&["scrub"]);
    let faults = eventually("the fault is told", || {
        let faults = disk_of(&cell, node)["faults"].clone();
        if faults["damaged"].as_u64() >= Some(1) { Ok(faults) } else { Err(faults.to_string()) }
    });
    let kinds = cell.kinds_after(seen);
    assert!(kinds.iter().any(|kind| kind == "disk_fault"), "{kinds:?}");
    let after = explained(&cell, "node", &format!("node-{node}"));
    assert_eq!(after["faults"][0]["kind"], "damaged", "{after}");
    assert_eq!(after["health"]["faults"][0]["kind"], "damaged", "{after}");
    assert!(after["health"]["scrub_ended_ago"].is_number(), "{after}");
    let shown = text(&cell.run(&["status"]).stdout);
    assert!(shown.contains(&format!("(disk {id}): {} damaged", faults["damaged"])), "{shown}");
    let shown = text(&cell.good(&["explain", "disk", &id]).stdout);
    assert!(shown.contains("health:") && shown.contains("state: serving"), "{shown}");
    cell.wait_full();

    // One that is not there is explained by what the daemon knows.
    cell.kill_node(node);
    let gone = explained(&cell, "disk", &id);
    assert_eq!(gone["health"], Value::Null, "{gone}");
    assert_eq!(gone["health_error"], "unreachable", "{gone}");
    assert!(cell.get("file").unwrap() == bytes);
}
