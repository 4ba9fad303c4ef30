//! A copy of a data folder, started beside the disk it was made of or in its place.

#[path = "support/cell.rs"]
mod cell;

use cell::{TestCell, TestNode, eventually, free_address, noise, text};
use std::path::Path;
use std::process::Command;

/// A grace longer than the test: whatever is rebuilt meanwhile is more than was called for.
const CONFIG: &str = "beat_ms = 200\nsuspect_ms = 1500\ngrace_seconds = 600\ncode = \"rs:2+1\"\n";
const NODES: usize = 4;
/// The node that is copied, and the number of its copy.
const ORIGINAL: usize = 0;
const COPY: usize = NODES;
/// What nobody may do for a copy's sake.
const STORM: [&str; 4] = ["repair_started", "member_replaced", "fragment_damaged", "disk_lost"];

fn put(cell: &TestCell, stored: &mut Vec<Vec<u8>>) {
    let bytes = noise(stored.len() as u64, 200_000 + stored.len());
    cell.put(&format!("file-{}", stored.len()), &bytes);
    stored.push(bytes);
}

fn all_reads(cell: &TestCell, stored: &[Vec<u8>]) {
    for (number, bytes) in stored.iter().enumerate() {
        assert!(cell.get(&format!("file-{number}")).unwrap() == *bytes, "file-{number}");
    }
}

/// Copies the folder of a node, running or not, as an operator would.
fn copy(cell: &TestCell, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(&cell.nodes[ORIGINAL].data).arg(to).status().unwrap();
    assert!(status.success());
}

/// Starts the copy at an address of its own, in the place of the original.
fn start_copy(cell: &mut TestCell, data: &Path) {
    let domain = cell.nodes[ORIGINAL].domain.clone();
    cell.nodes.push(TestNode { child: None, data: data.to_owned(), domain, address: free_address() });
    cell.start_node(COPY);
}

/// Waits until events behind the first `seen` and the copy itself say that it is not taken.
fn refused(cell: &TestCell, seen: usize) {
    eventually("the copy is refused", || {
        let kinds = cell.kinds_after(seen);
        if kinds.iter().any(|kind| kind == "disk_refused") { Ok(()) } else { Err(format!("{kinds:?}")) }
    });
    let log = format!("node-{COPY}.log");
    eventually("the copy says why", || {
        let said = cell.log(&log);
        if said.contains("the daemon does not take this node") { Ok(()) } else { Err(said) }
    });
    let address = &cell.nodes[COPY].address;
    let (status, _) = cell.status().unwrap();
    assert_eq!(status["refused_nodes"][0]["address"], *address, "{}", status["refused_nodes"]);
    let shown = text(&cell.run(&["status"]).stdout);
    assert!(shown.contains(&format!("refused     node at {address}")), "{shown}");
    let taken = status["disks"].as_array().unwrap().iter().any(|disk| disk["address"] == *address);
    assert!(!taken, "{}", status["disks"]);
}

fn no_storm(cell: &TestCell, seen: usize) {
    let kinds = cell.kinds_after(seen);
    assert!(!kinds.iter().any(|kind| STORM.contains(&kind.as_str())), "{kinds:?}");
}

#[test]
fn a_copy_beside_the_disk_is_refused_by_every_daemon_and_the_disk_goes_on() {
    let mut cell = TestCell::start(NODES, CONFIG);
    let mut stored = Vec::new();
    (0..6).for_each(|_| put(&cell, &mut stored));
    cell.wait_full();
    let data = cell.path("copy");
    copy(&cell, &data);
    let seen = cell.event_count();
    start_copy(&mut cell, &data);
    refused(&cell, seen);
    let (status, _) = cell.status().unwrap();
    assert_eq!(status["nodes"]["healthy"], NODES, "{}", status["nodes"]);
    (0..3).for_each(|_| put(&cell, &mut stored));
    // Whoever of the two comes first to the next daemon.
    for _ in 0..2 {
        let seen = cell.event_count();
        cell.kill_daemon();
        cell.start_daemon();
        cell.wait_healthy(NODES as u64);
        refused(&cell, seen);
        put(&cell, &mut stored);
    }
    cell.wait_full();
    no_storm(&cell, seen);
    let told = cell.kinds_after(seen).iter().filter(|kind| *kind == "disk_refused").count();
    assert_eq!(told, 3, "once a daemon");
    assert!(cell.nodes[COPY].child.as_mut().unwrap().try_wait().unwrap().is_none(), "it goes on asking");
    all_reads(&cell, &stored);
}

#[test]
fn an_old_copy_in_the_place_of_a_disk_that_went_on_is_refused_and_the_disk_comes_back() {
    let mut cell = TestCell::start(NODES, CONFIG);
    let mut stored = Vec::new();
    (0..4).for_each(|_| put(&cell, &mut stored));
    cell.wait_full();
    let data = cell.path("copy");
    cell.kill_node(ORIGINAL);
    copy(&cell, &data);
    cell.start_node(ORIGINAL);
    cell.wait_healthy(NODES as u64);
    (0..4).for_each(|_| put(&cell, &mut stored));
    cell.wait_full();
    let seen = cell.event_count();
    cell.kill_node(ORIGINAL);
    start_copy(&mut cell, &data);
    refused(&cell, seen);
    let said = cell.log(&format!("node-{COPY}.log"));
    assert!(said.contains("a copy or an old state") && said.contains("`life`"), "{said}");
    // By a daemon, too, that never saw the disk.
    let seen_by_next = cell.event_count();
    cell.kill_daemon();
    cell.start_daemon();
    cell.wait_healthy(NODES as u64 - 1);
    refused(&cell, seen_by_next);
    all_reads(&cell, &stored);
    cell.start_node(ORIGINAL);
    cell.wait_healthy(NODES as u64);
    cell.wait_full();
    no_storm(&cell, seen);
    all_reads(&cell, &stored);
}
