//! A node killed at one system call after another, those that change a disk or say something to the network, in a put, a repair and
//! a delete: it comes back by itself, what was acknowledged is whole, and nothing is left over.
//!
//! strace kills it as it enters the N-th call of a name, for N from 1 on until the work is done without. It counts by thread; one
//! thread does what is done with the disk, so that no call of that is passed over.

#[path = "support/cell.rs"]
mod cell;

use cell::{PATIENCE, QUICK, TestCell, eventually, noise, text};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As many nodes as the code has fragments: the one that is killed is part of everything.
const NODES: usize = 6;
const VICTIM: usize = 2;
const BYTES: usize = 700_000;

/// What a node changes its disk or speaks by.
const CALLS: [&str; 18] = [
    "openat",
    "mkdirat",
    "fallocate",
    "ftruncate",
    "pwrite64",
    "write",
    "fdatasync",
    "fsync",
    "linkat",
    "renameat",
    "renameat2",
    "unlinkat",
    "sync_file_range",
    "sendto",
    "sendmsg",
    "writev",
    "splice",
    "shutdown",
];
/// Of what a node does all the time (beats, looks at its room) more would only repeat the same moments.
const NTH_MAX: usize = 60;

fn start_victim(cell: &mut TestCell) {
    cell.start_node_with(VICTIM, &["--disk-threads", "1"]);
}

fn attach(node: &Child, call: &str, nth: usize) -> Child {
    let pid = node.id().to_string();
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", &format!("trace={call}"), "-e", &inject, "-o", "/dev/null", "-p", &pid]);
    let strace =
        strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace, which scripts/test installs");
    let is_traced = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("gone").trim().to_owned();
        field("TracerPid:") != "0" || field("State:").starts_with(['Z', 'X'])
    };
    let until = Instant::now() + PATIENCE;
    // It may be dead by then: a beat was the call.
    while !std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.map_while(Result::ok).all(is_traced))
    {
        assert!(Instant::now() < until, "strace does not attach to {pid}");
        std::thread::sleep(Duration::from_millis(5));
    }
    strace
}

/// Does some work with the victim killed at the point; it is started again at once. Whether it was killed before the work was done.
fn strike(
    cell: &mut TestCell,
    call: &str,
    nth: usize,
    begin: impl FnOnce(&TestCell),
    mut is_done: impl FnMut(&TestCell) -> bool,
) -> bool {
    let mut strace = attach(cell.nodes[VICTIM].child.as_ref().unwrap(), call, nth);
    begin(cell);
    let (until, mut killed) = (Instant::now() + PATIENCE, false);
    loop {
        if !killed && cell.nodes[VICTIM].child.as_mut().unwrap().try_wait().unwrap().is_some() {
            killed = true;
            start_victim(cell);
        }
        if is_done(cell) {
            break;
        }
        assert!(Instant::now() < until, "{call} {nth}: not done, {}", cell.run(&["status"]).stdout.escape_ascii());
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = strace.kill();
    let _ = strace.wait();
    // A beat may have been the call, just now or in a moment.
    while cell.status().map_or(0, |(status, _)| status["nodes"]["healthy"].as_u64().unwrap()) < NODES as u64 {
        if cell.nodes[VICTIM].child.as_mut().unwrap().try_wait().unwrap().is_some() {
            start_victim(cell);
        }
        assert!(Instant::now() < until + PATIENCE, "{call} {nth}: {:?}", cell.status());
        std::thread::sleep(Duration::from_millis(20));
    }
    killed
}

/// Every point of some work, each followed by a look at the whole. Fewer than `least` would be another work than it was.
fn sweep(cell: &mut TestCell, least: usize, mut work: impl FnMut(&mut TestCell, &str, usize) -> bool) {
    let mut struck = Vec::new();
    for call in CALLS {
        for nth in 1..=NTH_MAX {
            let killed = work(cell, call, nth);
            cell.wait_full();
            let staging = cell.nodes[VICTIM].data.join("staging");
            eventually("nothing is left of what was cut off", || match std::fs::read_dir(&staging).unwrap().count() {
                0 => Ok(()),
                left => Err(format!("{call} {nth}: {left} files")),
            });
            if !killed {
                break;
            }
            struck.push(format!("{call} {nth}"));
        }
    }
    println!("killed at {} points: {}", struck.len(), struck.join(", "));
    assert!(struck.len() >= least, "{struck:?}");
}

fn start() -> TestCell {
    let mut cell = TestCell::start(NODES, &format!("{QUICK}code = \"rs:4+2\"\n"));
    cell.kill_node(VICTIM);
    start_victim(&mut cell);
    cell.wait_healthy(NODES as u64);
    cell.put("kept", &noise(77, BYTES));
    cell.wait_full();
    cell
}

fn is_whole(cell: &TestCell, name: &str, bytes: &[u8], point: &str) {
    let found = cell.get(name).unwrap_or_else(|error| panic!("{point}: {name}: {error:?}"));
    assert!(found == bytes, "{point}: {name} has other bytes");
}

/// A client that ends well.
fn ended_well(client: &mut Option<Child>, point: &str) -> bool {
    let Some(child) = client else { return true };
    if child.try_wait().unwrap().is_none() {
        return false;
    }
    let output = client.take().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{point}: {}", text(&output.stderr));
    true
}

fn client(cell: &TestCell, words: &[&str]) -> Option<Child> {
    Some(cell.client(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
}

#[test]
fn at_every_call_of_a_put() {
    let mut cell = start();
    let (bytes, source) = (noise(5, BYTES), cell.path("source"));
    std::fs::write(&source, &bytes).unwrap();
    let mut number = 0;
    sweep(&mut cell, 20, |cell, call, nth| {
        number += 1;
        let (name, point) = (format!("file-{number}"), format!("{call} {nth}"));
        let put = std::cell::RefCell::new(None);
        let words = ["put", source.to_str().unwrap(), &name];
        let begin = |cell: &TestCell| *put.borrow_mut() = client(cell, &words);
        let killed = strike(cell, call, nth, begin, |_| ended_well(&mut put.borrow_mut(), &point));
        is_whole(cell, &name, &bytes, &point);
        is_whole(cell, "kept", &noise(77, BYTES), &point);
        cell.good(&["rm", &name]);
        killed
    });
}

#[test]
fn at_every_call_of_a_delete() {
    let mut cell = start();
    let mut number = 0;
    sweep(&mut cell, 8, |cell, call, nth| {
        number += 1;
        let (name, point) = (format!("file-{number}"), format!("{call} {nth}"));
        cell.put(&name, &noise(number, BYTES));
        cell.wait_full();
        let remove = std::cell::RefCell::new(None);
        let begin = |cell: &TestCell| *remove.borrow_mut() = client(cell, &["rm", &name]);
        // Done when the victim has put its fragment aside, too.
        let is_done =
            |cell: &TestCell| ended_well(&mut remove.borrow_mut(), &point) && cell.fragments(VICTIM).len() == 1;
        let killed = strike(cell, call, nth, begin, is_done);
        assert_eq!(cell.get(&name).unwrap_err().0, Some(1), "{point}: it is gone");
        is_whole(cell, "kept", &noise(77, BYTES), &point);
        killed
    });
}

#[test]
fn at_every_call_of_a_repair() {
    let mut cell = start();
    let fragment: PathBuf = cell.fragments(VICTIM).remove(0);
    let whole = std::fs::read(&fragment).unwrap();
    sweep(&mut cell, 20, |cell, call, nth| {
        let begin = |cell: &TestCell| {
            std::fs::remove_file(&fragment).unwrap();
            cell.good(&["scrub"]);
        };
        let killed = strike(cell, call, nth, begin, |_| std::fs::read(&fragment).is_ok_and(|now| now == whole));
        is_whole(cell, "kept", &noise(77, BYTES), &format!("{call} {nth}"));
        killed
    });
}
