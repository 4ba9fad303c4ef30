//! Daemon, nodes and clients ended by `kill -9` at random moments, mid-put and mid-repair: what was acknowledged stays, what was not
//! is not seen, and a process that is started again carries on by itself.

#[path = "support/cell.rs"]
mod cell;

use cell::{PATIENCE, QUICK, TestCell, eventually, noise, text};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// Moments per test, where `NINEFOLD_KILL_MOMENTS` does not say otherwise.
fn moments() -> u64 {
    std::env::var("NINEFOLD_KILL_MOMENTS").map_or(20, |moments| moments.parse().expect("a number"))
}

/// About how long a put of [`BYTES`] takes: the moments are spread over it.
const PUT_TAKES_MS: u64 = 120;
const BYTES: usize = 3 << 20;
/// So much that the repair of what one node held takes longer than the moments are spread over.
const REPAIRED_BYTES: usize = 32 << 20;
const REPAIR_TAKES_MS: u64 = 40;

/// A moment within the span, different for each number, the same in every run.
fn moment(number: u64, span_ms: u64) -> Duration {
    let drawn = u64::from_le_bytes(noise(number + 77, 8).try_into().unwrap());
    Duration::from_micros(drawn % (span_ms * 1000))
}

/// What was acknowledged, by name.
#[derive(Default)]
struct Acknowledged(BTreeMap<String, Vec<u8>>);

impl Acknowledged {
    fn check_all(&self, cell: &TestCell) {
        for (name, bytes) in &self.0 {
            let got = cell.get(name).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(got == *bytes, "{name}: other bytes");
        }
        assert_eq!(names(cell), self.0.keys().cloned().collect::<Vec<_>>(), "what is listed is what was acknowledged");
    }
}

fn names(cell: &TestCell) -> Vec<String> {
    let listed: serde_json::Value = serde_json::from_slice(&cell.good(&["ls", "--json"]).stdout).unwrap();
    listed["names"].as_array().unwrap().iter().map(|name| name["name"].as_str().unwrap().to_owned()).collect()
}

/// Begins to put `bytes` under `name`.
fn begin_put(cell: &TestCell, name: &str, bytes: &[u8]) -> Child {
    let source = cell.path(format!("source-{name}"));
    std::fs::write(&source, bytes).unwrap();
    let mut command = cell.client(&["put".as_ref(), source.as_os_str(), name.as_ref()]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn a_daemon_killed_mid_put_comes_back_and_the_put_goes_on() {
    let mut cell = TestCell::start(8, QUICK);
    let mut acknowledged = Acknowledged::default();
    for number in 0..moments() {
        let (name, bytes) = (format!("file-{number:02}"), noise(number, BYTES));
        let put = begin_put(&cell, &name, &bytes);
        std::thread::sleep(moment(number, PUT_TAKES_MS));
        cell.kill_daemon();
        cell.start_daemon();
        let output = ended(put);
        assert_eq!(output.status.code(), Some(0), "moment {number}: {}", text(&output.stderr));
        acknowledged.0.insert(name, bytes);
    }
    acknowledged.check_all(&cell);
    cell.wait_full();
}

#[test]
fn a_node_killed_mid_put_costs_the_put_nothing_but_time() {
    let mut cell = TestCell::start(9, QUICK);
    let mut acknowledged = Acknowledged::default();
    for number in 0..moments() {
        let (name, bytes) = (format!("file-{number:02}"), noise(number, BYTES));
        let put = begin_put(&cell, &name, &bytes);
        std::thread::sleep(moment(number, PUT_TAKES_MS));
        let victim = (number % 9) as usize;
        cell.kill_node(victim);
        let output = ended(put);
        assert_eq!(output.status.code(), Some(0), "moment {number}: {}", text(&output.stderr));
        acknowledged.0.insert(name, bytes);
        cell.start_node(victim);
    }
    cell.wait_healthy(9);
    acknowledged.check_all(&cell);
    cell.wait_full();
    acknowledged.check_all(&cell);
}

#[test]
fn a_client_killed_mid_put_leaves_nothing_visible_and_in_the_end_nothing_at_all() {
    let cell = TestCell::start(7, &format!("{QUICK}code = \"rs:4+2\"\nput_resume_ms = 1000\n"));
    let kept = noise(999, 10_000);
    cell.put("kept", &kept);
    let mut acknowledged = vec!["kept".to_owned()];
    let mut killed_early = 0;
    for number in 0..moments() {
        let name = format!("file-{number:02}");
        let mut put = begin_put(&cell, &name, &noise(number, BYTES));
        std::thread::sleep(moment(number, PUT_TAKES_MS));
        put.kill().unwrap();
        match ended(put).status.code() {
            Some(0) => acknowledged.push(name),
            _ => killed_early += 1,
        }
    }
    assert!(killed_early > 0, "no put was killed before it was done: the moments are too late");
    // A put whose last request had been sent may become visible a moment later, and then it is whole.
    let listed = eventually("what the killed clients left is gone", || {
        let (status, _) = cell.status()?;
        let listed = names(&cell);
        let left = (status["extents"].as_u64(), status["puts_open"].as_u64(), status["doomed"].as_u64());
        if left == (Some(listed.len() as u64), Some(0), Some(0)) {
            Ok(listed)
        } else {
            Err(format!("{left:?}, {listed:?}"))
        }
    });
    assert!(acknowledged.iter().all(|name| listed.contains(name)), "{acknowledged:?} {listed:?}");
    for name in &listed {
        let whole =
            name.strip_prefix("file-").map_or_else(|| kept.clone(), |number| noise(number.parse().unwrap(), BYTES));
        assert!(cell.get(name).unwrap() == whole, "{name}");
    }
    // rs:4+2: six fragments an extent.
    eventually("no fragments are left but those of what is listed", || {
        let files: usize = (0..7).map(|node| cell.fragments(node).len()).sum();
        if files == listed.len() * 6 { Ok(()) } else { Err(format!("{files} files for {} names", listed.len())) }
    });
}

/// Extents whose repair has begun and not ended, by the event log on disk.
fn under_repair(cell: &TestCell, seen: usize) -> BTreeSet<String> {
    let mut running = BTreeSet::new();
    for event in cell.events_after(seen) {
        let extent = event["fields"]["extent"].as_str().unwrap_or_default().to_owned();
        match event["kind"].as_str().unwrap() {
            "repair_started" => drop(running.insert(extent)),
            "repair_done" | "repair_failed" => drop(running.remove(&extent)),
            _ => {}
        }
    }
    running
}

/// Kills something at random moments of repairs; in the end everything is whole.
fn killed_mid_repair(kill: impl Fn(&mut TestCell, usize), start: impl Fn(&mut TestCell, usize)) {
    let mut cell = TestCell::start(9, &format!("{QUICK}code = \"rs:4+2\"\n"));
    let mut acknowledged = Acknowledged::default();
    for number in 0..3 {
        let (name, bytes) = (format!("file-{number}"), noise(number, REPAIRED_BYTES));
        cell.put(&name, &bytes);
        acknowledged.0.insert(name, bytes);
    }
    cell.wait_full();
    let mut mid_repair = 0;
    for number in 0..moments() {
        // Of the rounds before nothing is left over: who has a fragment is needed.
        eventually("each fragment is where it belongs and nowhere else", || {
            let files: usize = (0..9).map(|node| cell.fragments(node).len()).sum();
            if files == 3 * 6 { Ok(()) } else { Err(format!("{files} fragments")) }
        });
        // The node that is gone for this round, data and all: what it held is rebuilt elsewhere.
        let holders: Vec<usize> = (0..9).filter(|node| !cell.fragments(*node).is_empty()).collect();
        let gone = holders[number as usize % holders.len()];
        let other = (gone + 1 + number as usize % 8) % 9;
        let seen = cell.event_count();
        cell.kill_node(gone);
        let until = Instant::now() + PATIENCE;
        while !cell.kinds_after(seen).iter().any(|kind| kind == "repair_started") {
            assert!(Instant::now() < until, "moment {number}: no repair begins: {:?}", cell.kinds_after(seen));
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(moment(number, REPAIR_TAKES_MS));
        let before = under_repair(&cell, seen);
        kill(&mut cell, other);
        // One that had begun before and has not ended after it was cut through.
        mid_repair += u64::from(!under_repair(&cell, seen).is_disjoint(&before));
        start(&mut cell, other);
        cell.wait_full();
        acknowledged.check_all(&cell);
        cell.start_node(gone);
        cell.wait_healthy(9);
    }
    cell.wait_full();
    acknowledged.check_all(&cell);
    eprintln!("{mid_repair} of {} moments fell into a repair", moments());
    assert!(mid_repair >= moments() * 3 / 4, "only {mid_repair} of {} moments fell into a repair", moments());
}

#[test]
fn a_daemon_killed_mid_repair_carries_on() {
    killed_mid_repair(|cell, _| cell.kill_daemon(), |cell, _| cell.start_daemon());
}

#[test]
fn a_node_killed_mid_repair_carries_on() {
    killed_mid_repair(TestCell::kill_node, TestCell::start_node);
}
