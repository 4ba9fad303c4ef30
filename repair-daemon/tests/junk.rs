//! A node whose data folder somebody, or an earlier life, filled with names that are none of its fragments: it starts as soon, takes no more memory, and
//! says how many there are.
//!
//! `NINEFOLD_JUNK_FILES` says how many; the command for a million is in CONTRIBUTING.md.

mod support;

use bytes::Bytes;
use repair_core::id::{CellKey, PgId};
use repair_core::wire::{NodeReply, NodeRequest};
use repair_daemon::store::{DiskStore, Unlabelled};
use repair_daemon::transport::{Connection, ToNode};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::{command, mkfifo};
use tokio::runtime::Runtime;

const FILES: usize = 100_000;
const PG: PgId = PgId(0x2a);
const PATIENCE: Duration = Duration::from_secs(60);
/// To its first answer, whatever lies there.
const START_MAX: Duration = Duration::from_secs(5);
/// Above what a node with a clean folder takes.
const MORE_BYTES_MAX: u64 = 4 << 20;

struct Node {
    child: Child,
    runtime: Runtime,
    connection: Connection<ToNode>,
    served_after: Duration,
    /// What it says after its first line.
    lines: Receiver<String>,
}

impl Node {
    /// No daemon is needed.
    fn start(data: &Path) -> Self {
        let began = Instant::now();
        let data = data.to_str().unwrap();
        let words = ["node", "--data", data, "--listen", "127.0.0.1:0", "--domain", "eu/a/r1/n1", "--insecure"];
        let mut child =
            command(words.into_iter().chain(["--daemon", "127.0.0.1:1", "--scrub-period", "0"])).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(Connection::open(&address, PATIENCE)).unwrap();
        let lines = passed_on(stderr);
        let mut node = Self { child, runtime, connection, served_after: Duration::ZERO, lines };
        assert!(matches!(node.ask(&NodeRequest::Info), NodeReply::Info { .. }));
        node.served_after = began.elapsed();
        node
    }

    fn ask(&self, request: &NodeRequest) -> NodeReply {
        self.runtime.block_on(self.connection.call(request, Bytes::new(), PATIENCE)).unwrap().0
    }

    fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn passed_on(stderr: BufReader<ChildStderr>) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

fn make_files(folder: &Path, files: usize, ending: &str) {
    (0..files).for_each(|number| drop(File::create(folder.join(format!("{number:016x}{ending}"))).unwrap()));
}

/// What nobody expects, in a folder.
fn make_strange(folder: &Path) {
    std::os::unix::fs::symlink("/dev/zero", folder.join("link.part")).unwrap();
    mkfifo(&folder.join("fifo"));
    fs::create_dir(folder.join("folder.part")).unwrap();
    File::create(folder.join("x".repeat(255))).unwrap();
}

#[test]
fn a_node_starts_beside_junk_as_without_it_and_says_how_much_there_is() {
    let files = std::env::var("NINEFOLD_JUNK_FILES").map_or(FILES, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("disk");
    // Nobody is answered by a disk without a cell.
    DiskStore::open(&data, Unlabelled::Format).unwrap().set_cell(CellKey(5)).unwrap();
    let clean_bytes = {
        let node = Node::start(&data);
        assert!(matches!(node.ask(&NodeRequest::Holdings { pg: PG, after: None }), NodeReply::HoldingsPage { .. }));
        node.peak_bytes()
    };
    let (staging, group) = (data.join("staging"), data.join(format!("fragments/{:08x}", PG.0)));
    fs::create_dir(&group).unwrap();
    make_files(&staging, files, ".part");
    make_files(&group, files, ".frag");
    for part in [&data, &staging, &group, &data.join("journal"), &data.join("quarantine"), &data.join("fragments")] {
        make_strange(part);
    }

    let node = Node::start(&data);
    let started_bytes = node.peak_bytes();
    let began = Instant::now();
    let listed = node.ask(&NodeRequest::Holdings { pg: PG, after: None });
    assert!(matches!(&listed, NodeReply::HoldingsPage { holdings, more: false } if holdings.is_empty()), "{listed:?}");
    let listed_after = began.elapsed();
    let said = loop {
        let line = node.lines.recv_timeout(PATIENCE).expect("it says that there is junk");
        if line.contains("not ours") {
            break line;
        }
    };
    // Three of the four strange ones stay in the staging folder: a link by a stage's name is removed like one.
    let left = || fs::read_dir(&staging).unwrap().count();
    while left() > 3 {
        assert!(began.elapsed() < Duration::from_secs(60 + files as u64 / 2000), "{} left", left());
        std::thread::sleep(Duration::from_millis(100));
    }
    let emptied_after = began.elapsed();
    let peak_bytes = node.peak_bytes();
    println!(
        "2 x {files} names: serves after {:.2} s, lists the group in {:.2} s, has emptied the staging folder after \
         {:.1} s; resident at most {} MiB on a clean disk, {} MiB after the start, {} MiB in the end; {said}",
        node.served_after.as_secs_f64(),
        listed_after.as_secs_f64(),
        emptied_after.as_secs_f64(),
        clean_bytes >> 20,
        started_bytes >> 20,
        peak_bytes >> 20,
    );
    assert!(node.served_after < START_MAX, "serves after {:?}", node.served_after);
    assert!(peak_bytes < clean_bytes + MORE_BYTES_MAX, "{} MiB resident", peak_bytes >> 20);
    let number: usize = said.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!([3, files + 4, files + 7].contains(&number), "{said}");
}
