//! Daemon, nodes and clients ended by `kill -9` at random moments, mid-put and mid-repair: what was acknowledged stays, what was not
//! is not seen, and a process that is started again carries on by itself.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, eventually, noise, text};
use std::collections::BTreeMap;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// Moments per test, as many as the service promises to survive in its tests.
const MOMENTS: u64 = 20;
/// About how long a put of [`BYTES`] takes: the moments are spread over it.
const PUT_TAKES_MS: u64 = 120;
const BYTES: usize = 3 << 20;

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
    for number in 0..MOMENTS {
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
    for number in 0..MOMENTS {
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
    for number in 0..MOMENTS {
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

/// Kills something at random moments of a repair; in the end everything is whole.
fn killed_mid_repair(mut kill_and_start: impl FnMut(&mut TestCell, u64)) {
    let mut cell = TestCell::start(9, &format!("{QUICK}code = \"rs:4+2\"\n"));
    let mut acknowledged = Acknowledged::default();
    for number in 0..3 {
        let (name, bytes) = (format!("file-{number}"), noise(number, 4 << 20));
        cell.put(&name, &bytes);
        acknowledged.0.insert(name, bytes);
    }
    for number in 0..MOMENTS {
        // The node that is gone for this round, data and all: what it held is rebuilt elsewhere.
        let gone = (number % 9) as usize;
        cell.kill_node(gone);
        let began = Instant::now();
        eventually("the loss is noticed", || {
            let (status, _) = cell.status()?;
            if status["nodes"]["lost"] == 1 || began.elapsed() > Duration::from_secs(20) {
                Ok(())
            } else {
                Err(status["nodes"].to_string())
            }
        });
        std::thread::sleep(moment(number, 150));
        kill_and_start(&mut cell, number);
        cell.wait_full();
        acknowledged.check_all(&cell);
        cell.start_node(gone);
        cell.wait_healthy(9);
    }
    cell.wait_full();
    acknowledged.check_all(&cell);
}

#[test]
fn a_daemon_killed_mid_repair_carries_on() {
    killed_mid_repair(|cell, _| {
        cell.kill_daemon();
        cell.start_daemon();
    });
}

#[test]
fn a_node_killed_mid_repair_carries_on() {
    killed_mid_repair(|cell, number| {
        let other = ((number + 1 + number % 7) % 9) as usize;
        cell.kill_node(other);
        cell.start_node(other);
    });
}
