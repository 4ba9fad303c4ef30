//! What goes wrong in a cell of real processes: absent and late daemons, full disks, sources that rot or fall silent, more losses than
//! a code survives.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, eventually, ninefold, noise, text};
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const RS: &str = "code = \"rs:4+2\"\n";

fn flip(fragment: &Path) {
    flip_at(fragment, 4096 + 100);
}

fn flip_at(fragment: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(fragment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn an_absent_daemon_is_said_and_a_late_one_is_waited_for() {
    let address = cell::free_address();
    let began = Instant::now();
    let output = ninefold().args(["ls", "--cell", &address, "--timeout", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&address), "{}", text(&output.stderr));
    assert!(began.elapsed() < Duration::from_secs(15));

    let mut cell = TestCell::start(4, QUICK);
    let bytes = noise(1, 100_000);
    cell.put("early", &bytes);
    cell.kill_daemon();
    let mut put = cell.client(&["put", cell.path("daemon.toml").to_str().unwrap(), "late"]);
    let put = put.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    cell.start_daemon();
    let output = put.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(cell.get("late").unwrap(), std::fs::read(cell.path("daemon.toml")).unwrap());
    assert!(cell.get("early").unwrap() == bytes);
}

#[test]
fn a_file_deleted_behind_a_node_s_back_is_noticed_without_reading_any() {
    let mut cell = TestCell::unstarted(&format!("{QUICK}{RS}digest_seconds = 1\n"));
    cell.scrub_seconds = 0;
    cell.start_daemon();
    (0..7).for_each(|number| _ = cell.add_node(&format!("test/zone/rack-{number}/node-{number}")));
    cell.wait_healthy(7);
    let bytes = noise(11, 3_000_000);
    cell.put("file", &bytes);
    cell.wait_full();
    let holder = (0..7).find(|node| !cell.fragments(*node).is_empty()).unwrap();
    let fragment = cell.fragments(holder).remove(0);
    let whole = std::fs::read(&fragment).unwrap();
    std::fs::remove_file(&fragment).unwrap();
    eventually("the fragment is there again", || match std::fs::read(&fragment) {
        Ok(found) if found == whole => Ok(()),
        other => Err(format!("{:?}", other.map(|found| found.len()))),
    });
    assert!(cell.get("file").unwrap() == bytes);
}

#[test]
fn a_fragment_that_rots_is_found_and_healed_where_it_lies() {
    let cell = TestCell::start(7, &format!("{QUICK}{RS}"));
    let bytes = noise(5, 3_000_000);
    cell.put("file", &bytes);
    let holder = (0..7).find(|node| !cell.fragments(*node).is_empty()).unwrap();
    let fragment = cell.fragments(holder).remove(0);
    let whole = std::fs::read(&fragment).unwrap();
    flip(&fragment);
    assert!(cell.get("file").unwrap() == bytes, "a reader gets the right bytes around the rot");
    eventually("the fragment is as it was", || match std::fs::read(&fragment) {
        Ok(now) if now == whole => Ok(()),
        other => Err(format!("{:?}", other.map(|now| now.len()))),
    });
    cell.wait_full();
}

#[test]
fn a_fragment_that_is_silently_deleted_is_found_and_made_anew() {
    let cell = TestCell::start(7, &format!("{QUICK}{RS}"));
    cell.put("file", &noise(6, 1_000_000));
    let holder = (0..7).find(|node| !cell.fragments(*node).is_empty()).unwrap();
    let fragment = cell.fragments(holder).remove(0);
    let whole = std::fs::read(&fragment).unwrap();
    std::fs::remove_file(&fragment).unwrap();
    eventually("the fragment is there again", || match std::fs::read(&fragment) {
        Ok(now) if now == whole => Ok(()),
        other => Err(format!("{:?}", other.map(|now| now.len()))),
    });
    cell.wait_full();
}

#[test]
fn sources_that_rot_before_a_repair_are_named_and_left_out() {
    let mut cell = TestCell::start(8, &format!("{QUICK}{RS}"));
    let bytes = noise(7, 6_000_000);
    cell.put("file", &bytes);
    let holders: Vec<usize> = (0..8).filter(|node| !cell.fragments(*node).is_empty()).collect();
    let seen = cell.event_count();
    cell.kill_node(holders[0]);
    // Rot in a source of the repair, which the code survives too.
    flip(&cell.fragments(holders[2])[0]);
    cell.wait_repaired(seen);
    eventually("what rotted was found", || {
        let events = text(&cell.good(&["events", "--json"]).stdout);
        if events.contains("fragment_damaged") { Ok(()) } else { Err("no event names it".into()) }
    });
    assert!(cell.get("file").unwrap() == bytes);
}

#[test]
fn a_source_that_rots_while_a_repair_reads_it_is_named_and_left_out() {
    let mut cell = TestCell::start(8, &format!("{QUICK}{RS}"));
    let bytes = noise(11, 64 << 20);
    cell.put("file", &bytes);
    cell.wait_full();
    let index_of = |fragment: &Path| -> u16 {
        let name = fragment.file_name().unwrap().to_str().unwrap().to_owned();
        name.split('.').nth(2).unwrap().parse().unwrap()
    };
    let mut fragments: Vec<(u16, usize, PathBuf)> = (0..8)
        .flat_map(|node| cell.fragments(node).into_iter().map(move |fragment| (node, fragment)))
        .map(|(node, fragment)| (index_of(&fragment), node, fragment))
        .collect();
    fragments.sort();
    let seen = cell.event_count();
    cell.kill_node(fragments[0].1);
    let repaired = |kind: &str| cell.events_after(seen).into_iter().find(|event| event["kind"] == kind);
    while repaired("repair_started").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // In the last of the sixteen slices of its payload.
    flip_at(&fragments[1].2, 4096 + (16 << 20) - 100);
    assert!(repaired("repair_done").is_none(), "the repair had ended before the source rotted");
    cell.wait_full();
    let done = repaired("repair_done").unwrap();
    let bytes_of = |field: &str| done["fields"][field].as_str().unwrap().parse::<u64>().unwrap();
    assert!(bytes_of("read_bytes") > bytes_of("minimum_read_bytes"), "another source was read instead: {done}");
    eventually("what rotted is named and healed", || {
        let kinds = cell.kinds_after(seen);
        let both = ["fragment_damaged", "fragment_healed"].iter().all(|kind| kinds.iter().any(|found| found == kind));
        if both { Ok(()) } else { Err(format!("{kinds:?}")) }
    });
    assert!(cell.get("file").unwrap() == bytes);
}

#[test]
fn a_node_that_accepts_and_never_answers_delays_nobody_for_long() {
    let cell = TestCell::start(8, &format!("{QUICK}{RS}"));
    let bytes = noise(8, 2_000_000);
    cell.put("file", &bytes);
    let holder = (0..8).find(|node| !cell.fragments(*node).is_empty()).unwrap();
    let seen = cell.event_count();
    cell.signal_node(holder, Signal::STOP);
    let began = Instant::now();
    assert!(cell.get("file").unwrap() == bytes, "others are read instead");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    cell.put("another", &bytes);
    // What it held is rebuilt elsewhere: to be silent for longer than the grace is to be lost.
    cell.wait_repaired(seen);
    cell.signal_node(holder, Signal::CONT);
    cell.wait_healthy(8);
    cell.wait_full();
    assert!(cell.get("file").unwrap() == bytes && cell.get("another").unwrap() == bytes);
}

#[test]
fn a_daemon_that_was_stopped_for_a_while_takes_nobody_for_lost() {
    let cell = TestCell::start(8, &format!("{QUICK}{RS}"));
    let bytes = noise(10, 300_000);
    cell.put("file", &bytes);
    cell.wait_full();
    // Twice as long as a node may be silent, and so long that nodes give their connections up.
    for stopped in [3, 3, 7] {
        let seen = cell.event_count();
        cell.signal_daemon(Signal::STOP);
        std::thread::sleep(Duration::from_secs(stopped));
        cell.signal_daemon(Signal::CONT);
        std::thread::sleep(Duration::from_secs(3));
        cell.wait_healthy(8);
        let kinds = cell.kinds_after(seen);
        let harm = ["disk_lost", "data_unavailable", "repair_started", "member_replaced"];
        assert!(!kinds.iter().any(|kind| harm.contains(&kind.as_str())), "{stopped} s: {kinds:?}");
        assert!(kinds.iter().any(|kind| kind == "daemon_paused"), "{stopped} s: {kinds:?}");
    }
    assert!(cell.get("file").unwrap() == bytes);
}

#[test]
fn more_losses_than_the_code_survives_are_said_and_end_when_nodes_return() {
    // With long grace nobody rebuilds elsewhere: the losses are of nodes that come back.
    let mut cell = TestCell::start(6, &format!("beat_ms = 200\nsuspect_ms = 1000\ngrace_seconds = 3600\n{RS}"));
    let bytes = noise(9, 1_000_000);
    cell.put("precious", &bytes);
    for node in 0..3 {
        cell.kill_node(node);
    }
    let status = eventually("the loss is noticed", || {
        let (status, code) = cell.status()?;
        if status["nodes"]["healthy"] == 3 && status["unavailable_extents"] == 1 && code == 1 {
            Ok(status)
        } else {
            Err(format!("{code}: {status}"))
        }
    });
    assert!(status["unavailable_names"].to_string().contains("precious"), "{status}");
    let (code, said) = cell.get("precious").unwrap_err();
    assert_eq!(code, Some(1), "{said}");
    for node in 0..3 {
        cell.start_node(node);
    }
    cell.wait_healthy(6);
    cell.wait_full();
    assert!(cell.get("precious").unwrap() == bytes);
    assert_eq!(cell.status().unwrap().1, 0);
}

/// Starts a node on a small file system of its own, which nobody outside its mount namespace sees but through the process. Gives
/// its folder by that way.
fn start_on_small_disk(cell: &mut TestCell, number: usize) -> PathBuf {
    cell.kill_node(number);
    let data = cell.nodes[number].data.clone();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    let mut node = cell.node_command(number);
    node.args(["--headroom", "0"]);
    let words: Vec<String> = std::iter::once(node.get_program())
        .chain(node.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mount = format!("mount -t tmpfs -o size=64m,nr_inodes=200 tmpfs '{}'", data.display());
    let script = format!("{mount} && exec {}", words.join(" "));
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).stdin(Stdio::null());
    let log = File::create(cell.path(format!("node-{number}.log"))).unwrap();
    let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let seen = PathBuf::from(format!("/proc/{}/root{}", child.id(), data.display()));
    cell.nodes[number].child = Some(child);
    seen
}

fn wait_for_event(cell: &TestCell, kind: &str, words: &str) {
    eventually(&format!("{kind}: {words}"), || {
        let events: serde_json::Value = serde_json::from_slice(&cell.good(&["events", "--json"]).stdout).unwrap();
        let events = events["events"].as_array().unwrap();
        let said =
            |event: &&serde_json::Value| event["kind"] == kind && event["text"].as_str().unwrap().contains(words);
        let last = || events.iter().rev().take(5).map(|event| event["text"].to_string()).collect::<Vec<_>>().join("\n");
        events.iter().find(said).map(|_| ()).ok_or_else(last)
    });
}

fn a_fragment_below(data: &Path) -> PathBuf {
    let groups = std::fs::read_dir(data.join("fragments")).unwrap();
    let mut files = groups.flat_map(|group| std::fs::read_dir(group.unwrap().path()).unwrap());
    files.next().unwrap().unwrap().path()
}

fn fragments_below(data: &Path) -> usize {
    let Ok(groups) = std::fs::read_dir(data.join("fragments")) else { return 0 };
    groups.map(|group| std::fs::read_dir(group.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn a_full_disk_takes_no_more_and_loses_nothing() {
    if std::env::var_os("NINEFOLD_TEST_NO_MOUNT").is_some() {
        return;
    }
    let mut cell = TestCell::start(7, &format!("{QUICK}{RS}"));
    let disk = start_on_small_disk(&mut cell, 6);
    cell.wait_healthy(7);
    let mut stored = Vec::new();
    let mut put = |cell: &TestCell| {
        let (name, bytes) = (format!("file-{}", stored.len()), noise(stored.len() as u64, 300_000));
        cell.put(&name, &bytes);
        stored.push((name, bytes));
        stored.len()
    };
    while fragments_below(&disk) == 0 {
        assert!(put(&cell) < 40, "none of the extents has a fragment on the small disk");
    }
    let first = a_fragment_below(&disk);
    // Not one file more fits, whatever the node has measured: every fragment sent to it meets ENOSPC of the file system.
    let ballast = disk.join("ballast");
    std::fs::create_dir(&ballast).unwrap();
    let full = (0..1000).map(|number| File::create(ballast.join(number.to_string()))).find_map(Result::err).unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let before = fragments_below(&disk);
    for _ in 0..12 {
        put(&cell);
    }
    assert_eq!(fragments_below(&disk), before, "there was no room for another");
    let log = std::fs::read_to_string(cell.path("node-6.log")).unwrap();
    assert!(log.contains("No space left on device"), "{log}");
    // Once it offers to try again, a repair has to go there: a fragment of its own has rotted.
    std::thread::sleep(Duration::from_secs(11));
    flip(&first);
    wait_for_event(&cell, "repair_failed", "No space left on device");
    // It will not go well there, so it is done elsewhere.
    cell.wait_full();
    assert!(File::create(ballast.join("one more")).is_err(), "it is as full as it was");
    for (name, bytes) in &stored {
        assert!(cell.get(name).unwrap() == *bytes, "{name}");
    }
}

#[test]
fn a_disk_that_vanishes_under_its_node_is_replaced_though_the_node_lives() {
    let cell = TestCell::start(8, &format!("beat_ms = 200\nsuspect_ms = 1000\ngrace_seconds = 3600\n{RS}"));
    let bytes = noise(12, 1_000_000);
    cell.put("a", &bytes);
    cell.wait_full();
    let holder = (0..8).find(|node| !cell.fragments(*node).is_empty()).unwrap();
    std::fs::remove_dir_all(cell.path(format!("node-{holder}"))).unwrap();
    // Nobody asks anything of it: the node looks for itself.
    wait_for_event(&cell, "disk_lost", "the label is gone");
    cell.wait_full();
    assert!(cell.get("a").unwrap() == bytes);
}

#[test]
fn a_disk_whose_sync_failed_is_replaced_without_waiting_for_it_to_fall_silent() {
    // With long grace nobody would rebuild what a silent disk held.
    let cell = TestCell::start(8, &format!("beat_ms = 200\nsuspect_ms = 1000\ngrace_seconds = 3600\n{RS}"));
    let bytes = noise(11, 1_000_000);
    cell.put("before", &bytes);
    let holder = (0..8).find(|node| !cell.fragments(*node).is_empty()).unwrap();
    let pid = cell.nodes[holder].child.as_ref().unwrap().id().to_string();
    let faults =
        ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-o", "/dev/null"];
    let mut strace = std::process::Command::new("strace").args(faults).args(["-p", &pid]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    for number in 0..6 {
        cell.put(&format!("after-{number}"), &bytes);
    }
    wait_for_event(&cell, "disk_lost", "nothing can be stored on it");
    cell.wait_full();
    let log = std::fs::read_to_string(cell.path(format!("node-{holder}.log"))).unwrap();
    assert!(log.contains("nothing is stored here until it is started again"), "{log}");
    for name in ["before", "after-0", "after-5"] {
        assert!(cell.get(name).unwrap() == bytes, "{name}");
    }
    strace.kill().unwrap();
    strace.wait().unwrap();
}
