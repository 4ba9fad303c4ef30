//! A disk that acknowledges what it does not keep: two fragments that were synced, named and committed have no end after a crash.

#[path = "support/cell.rs"]
mod cell;

use cell::{TestCell, eventually, noise};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const CONFIG: &str = "beat_ms = 200\nsuspect_ms = 1500\ngrace_seconds = 600\ncode = \"rs:2+1\"\n";
const LIAR: usize = 0;
const PAGE_BYTES: u64 = 4096;

/// The last page never reached the disk: it holds zeros, as room does that was only reserved.
fn lose_the_end(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&[0; PAGE_BYTES as usize], length - PAGE_BYTES).unwrap();
}

fn put(cell: &TestCell, stored: &mut Vec<Vec<u8>>) {
    let bytes = noise(stored.len() as u64 + 1, 50_000 + stored.len());
    cell.put(&format!("file-{}", stored.len()), &bytes);
    stored.push(bytes);
}

fn all_reads(cell: &TestCell, stored: &[Vec<u8>]) {
    for (number, bytes) in stored.iter().enumerate() {
        assert!(cell.get(&format!("file-{number}")).unwrap() == *bytes, "file-{number}");
    }
}

/// Starts the node and waits until it has reported on its log and its log has these words.
fn start(cell: &mut TestCell, options: &[&str]) {
    cell.start_node_with(LIAR, options);
    cell.wait_healthy(4);
}

fn says(cell: &TestCell, words: &str) {
    let log = format!("node-{LIAR}.log");
    eventually(words, || if cell.log(&log).contains(words) { Ok(()) } else { Err(cell.log(&log)) });
}

#[test]
fn a_disk_that_lost_two_acknowledged_fragments_is_healed_and_takes_nothing_new() {
    let mut cell = TestCell::start(4, CONFIG);
    let mut stored = Vec::new();
    (0..16).for_each(|_| put(&cell, &mut stored));
    let held: Vec<PathBuf> = cell.fragments(LIAR);
    assert!(held.len() >= 3, "the node holds {} fragments, so this shows nothing", held.len());

    // One is an accident.
    cell.kill_node(LIAR);
    lose_the_end(&held[0]);
    start(&mut cell, &[]);
    says(&cell, "it is the disk's number 1");
    cell.wait_full();
    let before = cell.fragments(LIAR).len();
    while cell.fragments(LIAR).len() == before {
        assert!(stored.len() < 100, "a disk that lost one fragment takes nothing");
        put(&cell, &mut stored);
    }

    cell.kill_node(LIAR);
    lose_the_end(&held[1]);
    start(&mut cell, &[]);
    says(&cell, "it takes nothing new");
    let status = cell.wait_full();
    assert_eq!(status["nodes"]["healthy"], 4, "it is no reason to build all of it elsewhere: {status}");
    let all = cell.fragments(LIAR).len();
    (0..12).for_each(|_| put(&cell, &mut stored));
    // Nor after a restart, though both were healed.
    cell.kill_node(LIAR);
    start(&mut cell, &[]);
    (0..12).for_each(|_| put(&cell, &mut stored));
    cell.wait_full();
    assert_eq!(cell.fragments(LIAR).len(), all);
    all_reads(&cell, &stored);

    cell.kill_node(LIAR);
    start(&mut cell, &["--trust-disk"]);
    while cell.fragments(LIAR).len() == all {
        assert!(stored.len() < 200, "somebody vouched for it, and it takes nothing");
        put(&cell, &mut stored);
    }
    cell.wait_full();
    all_reads(&cell, &stored);
}
