//! Repairs of real cells through chains of the sources, and those that lose their chain on the way.

#[path = "support/cell.rs"]
mod cell;

use cell::{PATIENCE, QUICK, TestCell, noise};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

const RS: &str = "code = \"rs:4+2\"\n";

fn number(event: &Value, field: &str) -> u64 {
    event["fields"][field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field} of {event}"))
}

/// A file of one extent on seven nodes, and who holds which fragment, by index.
fn stored(config: &str, bytes: &[u8]) -> (TestCell, Vec<(u16, usize, PathBuf)>) {
    let cell = TestCell::start(7, &format!("{QUICK}{RS}{config}"));
    cell.put("file", bytes);
    cell.wait_full();
    let index_of =
        |path: &Path| path.file_name().unwrap().to_str().unwrap().split('.').nth(2).unwrap().parse().unwrap();
    let mut fragments: Vec<(u16, usize, PathBuf)> = (0..7)
        .flat_map(|node| cell.fragments(node).into_iter().map(move |path| (node, path)))
        .map(|(node, path)| (index_of(&path), node, path))
        .collect();
    fragments.sort();
    assert_eq!(fragments.len(), 6);
    (cell, fragments)
}

fn event(cell: &TestCell, seen: usize, kind: &str) -> Value {
    let began = Instant::now();
    loop {
        if let Some(event) = cell.events_after(seen).into_iter().find(|event| event["kind"] == kind) {
            return event;
        }
        assert!(began.elapsed() < PATIENCE, "no {kind}: {:?}", cell.kinds_after(seen));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_lost_fragment_comes_through_a_chain_where_chains_are_on() {
    for (config, chains) in [("", true), ("repair_chain = false\n", false)] {
        let bytes = noise(3, 12_000_000);
        let (mut cell, fragments) = stored(config, &bytes);
        let lost = std::fs::read(&fragments[1].2).unwrap();
        let seen = cell.event_count();
        cell.kill_node(fragments[1].1);
        let status = cell.wait_repaired(seen);
        let done = event(&cell, seen, "repair_done");
        let rebuilt = number(&done, "rebuilt_bytes");
        assert_eq!(number(&done, "chained_bytes"), if chains { rebuilt } else { 0 }, "{done}");
        assert_eq!(
            (&done["fields"]["chain_fault"], number(&done, "read_bytes")),
            (&Value::Null, 4 * rebuilt),
            "{done}"
        );
        assert_eq!(status["repairs"]["chained_bytes"], if chains { rebuilt } else { 0 });
        let name = fragments[1].2.file_name().unwrap();
        let found = (0..7).filter(|node| *node != fragments[1].1).flat_map(|node| cell.fragments(node));
        let found: Vec<PathBuf> = found.filter(|path| path.file_name() == Some(name)).collect();
        assert_eq!(found.len(), 1);
        assert!(std::fs::read(&found[0]).unwrap() == lost, "the very fragment, byte for byte");
    }
}

#[test]
fn a_chain_whose_hop_falls_asleep_is_given_up_and_the_repair_ends_well() {
    let bytes = noise(4, 96 << 20);
    let (mut cell, fragments) = stored("", &bytes);
    let seen = cell.event_count();
    cell.kill_node(fragments[0].1);
    event(&cell, seen, "repair_started");
    cell.signal_node(fragments[2].1, Signal::STOP);
    let done = event(&cell, seen, "repair_done");
    cell.signal_node(fragments[2].1, Signal::CONT);
    assert!(number(&done, "chained_bytes") < number(&done, "rebuilt_bytes"), "{done}");
    assert!(done["fields"]["chain_fault"].as_str().is_some(), "{done}");
    cell.wait_full();
    assert!(cell.get("file").unwrap() == bytes);
}
