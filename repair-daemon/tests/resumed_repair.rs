//! Repairs of a real cell that are cut off in the middle, and go on where they were: the target killed, the daemon killed, and nobody who
//! comes back for what was staged.

#[path = "support/cell.rs"]
mod cell;

use cell::{PATIENCE, QUICK, TestCell, eventually, free_address, noise};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// One extent: with rs:2+1 fragments of 48 MiB, remembered MiB by MiB.
const BYTES: usize = 96 << 20;
/// What goes to the target, in bytes a second: two seconds for a fragment, so that there is a middle.
const RATE: u64 = 24 << 20;
const PIECE_BYTES: usize = 32 << 10;
/// It is cut off once so much is remembered: a third, well over what is in flight.
const CUT_AT: u64 = 16 * MIB;

/// Listens on a new address and passes on to `target`, towards it at [`RATE`]; for as long as the process lives.
fn throttled(target: String) -> String {
    let address = free_address();
    let listener = TcpListener::bind(&address).unwrap();
    std::thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            // Nobody there: the connection ends, as one to a dead host would.
            let Ok(to) = TcpStream::connect(&target) else { continue };
            let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            std::thread::spawn(move || pass(from, to, Some(RATE)));
            std::thread::spawn(move || pass(back_from, back_to, None));
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream, rate: Option<u64>) {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut copy = || -> io::Result<()> {
        loop {
            let bytes = from.read(&mut buffer)?;
            if bytes == 0 {
                return Ok(());
            }
            if let Some(rate) = rate {
                std::thread::sleep(Duration::from_micros(bytes as u64 * 1_000_000 / rate));
            }
            to.write_all(&buffer[..bytes])?;
        }
    };
    let _ = copy();
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn number(event: &Value, field: &str) -> u64 {
    event["fields"][field].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{field} of {event}"))
}

/// A cell in the middle of a repair.
struct Cut {
    cell: TestCell,
    bytes: Vec<u8>,
    /// The node that gets a fragment, and with which options it runs.
    target: usize,
    options: Vec<String>,
    /// The fragment that another node had, with its name.
    lost: (PathBuf, Vec<u8>),
    /// Events before the repair.
    seen: usize,
}

impl Cut {
    /// A file on three of four nodes. One of them is killed, and the fourth gets its fragment, slowly, until a third of it is remembered.
    fn begin(config: &str, options: &[&str]) -> Self {
        let bytes = noise(11, BYTES);
        let mut cell = TestCell::start(4, &format!("{QUICK}code = \"rs:2+1\"\n{config}"));
        cell.put("file", &bytes);
        cell.wait_full();
        let has = |cell: &TestCell, node: usize| cell.fragments(node).pop();
        let target = (0..4).find(|node| has(&cell, *node).is_none()).expect("a node without");
        let holder = (0..4).find(|node| *node != target).unwrap();
        let path = has(&cell, holder).unwrap();
        let lost = (PathBuf::from(path.file_name().unwrap()), std::fs::read(path).unwrap());
        let mut all = vec!["--advertise".to_owned(), throttled(cell.nodes[target].address.clone())];
        all.extend(options.iter().map(|option| (*option).to_owned()));
        cell.kill_node(target);
        let mut cut = Self { cell, bytes, target, options: all, lost, seen: 0 };
        cut.start_target();
        cut.cell.wait_healthy(4);
        cut.seen = cut.cell.event_count();
        cut.cell.kill_node(holder);
        let began = Instant::now();
        while cut.remembered() < CUT_AT {
            assert!(began.elapsed() < PATIENCE, "nothing is kept: {:?}", cut.cell.kinds_after(cut.seen));
            std::thread::sleep(Duration::from_millis(1));
        }
        cut
    }

    fn start_target(&mut self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.cell.start_node_with(self.target, &options);
    }

    fn staging(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.cell.nodes[self.target].data.join("staging")).unwrap();
        names.map(|entry| entry.unwrap().path()).collect()
    }

    /// Payload that the map on the disk speaks of, as long as each entry is a MiB.
    fn remembered(&self) -> u64 {
        let map = self.staging().into_iter().find(|path| path.extension().is_some_and(|end| end == "map"));
        let bytes = map.and_then(|map| std::fs::metadata(map).ok()).map_or(0, |map| map.len());
        bytes.saturating_sub(72) / 20 * MIB
    }

    /// The repair that ended well did not read again for what was there; and all is as it was, with nothing left over.
    fn ends_well(&self) {
        let status = self.cell.wait_full();
        let events = self.cell.events_after(self.seen);
        let done: Vec<&Value> = events.iter().filter(|event| event["kind"] == "repair_done").collect();
        assert_eq!(done.len(), 1, "{done:?}");
        let (rebuilt, resumed) = (number(done[0], "rebuilt_bytes"), number(done[0], "resumed_bytes"));
        assert!(resumed >= CUT_AT && resumed < rebuilt, "{}", done[0]);
        assert_eq!(
            number(done[0], "read_bytes"),
            2 * (rebuilt - resumed),
            "two sources, the rest of each: {}",
            done[0]
        );
        assert_eq!(number(done[0], "written_bytes"), rebuilt - resumed);
        assert_eq!(status["repairs"]["resumed_bytes"], resumed);
        let found = self.cell.fragments(self.target);
        assert_eq!(
            found.iter().map(|path| path.file_name().unwrap().into()).collect::<Vec<PathBuf>>(),
            [&*self.lost.0]
        );
        assert!(std::fs::read(&found[0]).unwrap() == self.lost.1, "the very fragment, byte for byte");
        assert_eq!(self.staging(), Vec::<PathBuf>::new());
        assert!(self.cell.get("file").unwrap() == self.bytes);
    }
}

#[test]
fn a_target_that_is_killed_goes_on_with_what_it_has() {
    for config in ["", "repair_chain = false\n"] {
        let mut cut = Cut::begin(config, &[]);
        cut.cell.kill_node(cut.target);
        assert_eq!(cut.staging().len(), 2);
        cut.start_target();
        cut.ends_well();
    }
}

#[test]
fn a_daemon_that_is_killed_goes_on_with_what_the_target_has() {
    let mut cut = Cut::begin("", &[]);
    cut.cell.kill_daemon();
    cut.cell.start_daemon();
    cut.ends_well();
}

#[test]
fn what_nobody_goes_on_with_is_gone_after_its_period_in_the_same_life_and_in_the_next() {
    for is_killed in [false, true] {
        let mut cut = Cut::begin("", &["--staged-period", "3"]);
        cut.cell.kill_daemon();
        if is_killed {
            cut.cell.kill_node(cut.target);
            assert_eq!(cut.staging().len(), 2);
            cut.start_target();
        }
        let began = Instant::now();
        eventually("nothing is staged any more", || match cut.staging() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        assert!(began.elapsed() > Duration::from_secs(1), "it was not kept at all");
        // And the repair is done without it.
        cut.cell.start_daemon();
        let status = cut.cell.wait_full();
        assert_eq!(status["repairs"]["resumed_bytes"], 0);
        assert_eq!(cut.staging(), Vec::<PathBuf>::new());
    }
}
