//! What goes wrong in a cell of real processes: absent and late daemons, full disks, sources that rot or fall silent, more losses than
//! a code survives.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, eventually, ninefold, noise, text};
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const RS: &str = "code = \"rs:4+2\"\n";

fn flip(fragment: &Path) {
    let file = File::options().read(true).write(true).open(fragment).unwrap();
    let mut byte = [0];
    let at = 4096 + 100;
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
fn sources_that_rot_during_a_repair_are_named_and_left_out() {
    let mut cell = TestCell::start(8, &format!("{QUICK}{RS}"));
    let bytes = noise(7, 6_000_000);
    cell.put("file", &bytes);
    let holders: Vec<usize> = (0..8).filter(|node| !cell.fragments(*node).is_empty()).collect();
    cell.kill_node(holders[0]);
    // Rot in a source of the repair, which the code survives too.
    flip(&cell.fragments(holders[2])[0]);
    cell.wait_full();
    eventually("what rotted was found", || {
        let events = text(&cell.good(&["events", "--json"]).stdout);
        if events.contains("fragment_damaged") { Ok(()) } else { Err("no event names it".into()) }
    });
    assert!(cell.get("file").unwrap() == bytes);
}

#[test]
fn a_node_that_accepts_and_never_answers_delays_nobody_for_long() {
    let cell = TestCell::start(8, &format!("{QUICK}{RS}"));
    let bytes = noise(8, 2_000_000);
    cell.put("file", &bytes);
    let holder = (0..8).find(|node| !cell.fragments(*node).is_empty()).unwrap();
    cell.signal_node(holder, Signal::STOP);
    let began = Instant::now();
    assert!(cell.get("file").unwrap() == bytes, "others are read instead");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    cell.put("another", &bytes);
    // What it held is rebuilt elsewhere: to be silent for longer than the grace is to be lost.
    cell.wait_full();
    cell.signal_node(holder, Signal::CONT);
    cell.wait_healthy(8);
    cell.wait_full();
    assert!(cell.get("file").unwrap() == bytes && cell.get("another").unwrap() == bytes);
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

#[test]
fn a_full_disk_takes_no_more_and_loses_nothing() {
    if std::env::var_os("NINEFOLD_TEST_NO_MOUNT").is_some() {
        return;
    }
    let mut cell = TestCell::start(7, &format!("{QUICK}{RS}"));
    // The eighth stands on a small disk of its own, in a mount namespace of its own.
    cell.kill_node(6);
    let number = 6;
    std::fs::remove_dir_all(&cell.nodes[number].data).unwrap();
    std::fs::create_dir(&cell.nodes[number].data).unwrap();
    let node = cell.node_command(number);
    let words: Vec<String> = std::iter::once(node.get_program())
        .chain(node.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let script =
        format!("mount -t tmpfs -o size=12m tmpfs '{}' && exec {}", cell.nodes[number].data.display(), words.join(" "));
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).stdin(Stdio::null());
    let log = File::create(cell.path("node-6.log")).unwrap();
    cell.nodes[number].child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    cell.wait_healthy(7);
    let mut stored = Vec::new();
    for number in 0..12 {
        let (name, bytes) = (format!("file-{number}"), noise(number, 4 << 20));
        cell.put(&name, &bytes);
        stored.push((name, bytes));
    }
    for (name, bytes) in &stored {
        assert!(cell.get(name).unwrap() == *bytes, "{name}");
    }
}
