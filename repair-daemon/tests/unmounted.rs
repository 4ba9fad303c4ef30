//! A disk that is not mounted: its mount point is an empty folder, and stays one.

#[path = "support/cell.rs"]
mod cell;
#[path = "support/image.rs"]
mod image;

use cell::{TestCell, TestNode, eventually, noise, text};
use image::{Image, may_mount};
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

/// A grace longer than the test: whatever is rebuilt or deleted meanwhile is more than was called for.
const CONFIG: &str = "beat_ms = 200\nsuspect_ms = 1500\ngrace_seconds = 600\ncode = \"rs:2+1\"\n";
const OTHERS: usize = 3;
/// The number of the node whose disk goes.
const AWAY: usize = OTHERS;

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Starts the node on what its folder is now, as a unit file would.
fn start(cell: &mut TestCell, log: &str) {
    let log = File::create(cell.path(log)).unwrap();
    let child = cell.command_on_disk(AWAY).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    cell.nodes[AWAY].child = Some(child);
}

fn all_reads(cell: &TestCell, stored: &[Vec<u8>]) {
    for (number, bytes) in stored.iter().enumerate() {
        assert!(cell.get(&format!("file-{number}")).unwrap() == *bytes, "file-{number}");
    }
}

#[test]
fn the_mount_point_of_a_disk_that_is_away_takes_nothing_and_the_disk_comes_back_whole() {
    if !may_mount() {
        return;
    }
    let disks = tempfile::tempdir().unwrap();
    let mount = disks.path().join("mount");
    let disk = Image::ext4(disks.path().join("disk.img"), 96 << 20, &mount);
    let mut cell = TestCell::start(OTHERS, CONFIG);
    let domain = "test/zone/rack-x/node-x".to_owned();
    cell.nodes.push(TestNode { child: None, data: mount.clone(), domain, address: cell::free_address() });
    cell.start_node(AWAY);
    cell.wait_healthy(OTHERS as u64 + 1);
    let mut stored: Vec<Vec<u8>> = Vec::new();
    let put = |cell: &TestCell, stored: &mut Vec<Vec<u8>>| {
        let bytes = noise(stored.len() as u64, 300_000 + stored.len());
        cell.put(&format!("file-{}", stored.len()), &bytes);
        stored.push(bytes);
    };
    (0..12).for_each(|_| put(&cell, &mut stored));
    let held = cell.fragments(AWAY);
    assert!(!held.is_empty(), "the disk holds nothing, so this shows nothing");
    let seen = cell.event_count();

    // Under the running node. It goes on with the folder it holds open, which is the disk's.
    disk.unmount_lazily();
    (0..4).for_each(|_| put(&cell, &mut stored));
    all_reads(&cell, &stored);
    assert!(is_empty(&mount));

    // As after the start of a machine whose disk failed to mount.
    cell.kill_node(AWAY);
    start(&mut cell, "refused.log");
    let status = eventually("the node ends", || {
        cell.nodes[AWAY].child.as_mut().unwrap().try_wait().unwrap().ok_or_else(|| cell.log("refused.log"))
    });
    let said = text(&fs::read(cell.path("refused.log")).unwrap());
    assert_eq!(status.code(), Some(3), "{said}");
    for word in [mount.to_str().unwrap(), "not mounted", "--format"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(is_empty(&mount));
    eventually("the disk is missed", || {
        let kinds = cell.kinds_after(seen);
        if kinds.iter().any(|kind| kind == "disk_suspect") { Ok(()) } else { Err(format!("{kinds:?}")) }
    });
    all_reads(&cell, &stored);
    assert!(is_empty(&mount));

    disk.mount();
    start(&mut cell, "back.log");
    cell.wait_healthy(OTHERS as u64 + 1);
    cell.wait_full();
    all_reads(&cell, &stored);
    assert!(held.iter().all(|fragment| fragment.is_file()), "fragments went");
    let storm = ["repair_started", "member_replaced", "fragment_damaged", "disk_lost"];
    let kinds = cell.kinds_after(seen);
    assert!(!kinds.iter().any(|kind| storm.contains(&kind.as_str())), "{kinds:?}");
    // It ends before its disk goes.
    cell.kill_node(AWAY);
}
