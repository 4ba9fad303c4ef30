//! A node with a disk full of fragments: how soon it serves, and how much memory it takes for each.
//!
//! `NINEFOLD_FRAGMENTS` says how many; the command for a million is in CONTRIBUTING.md.

mod support;

use bytes::Bytes;
use ec_core::CodeSpec;
use repair_core::catalog::{Entry, EntryKind, PgRow, PgState};
use repair_core::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, Sum, Token};
use repair_core::limits::ENTRIES_MAX;
use repair_core::wire::node::{Authority, FragmentKey};
use repair_core::wire::{NodeReply, NodeRequest};
use repair_daemon::store::{DiskStore, Unlabelled, file_name};
use repair_daemon::transport::{Connection, ToNode};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};
use support::command;
use tokio::runtime::Runtime;

const CELL: CellKey = CellKey(0xce11 << 112 | 5);
const FRAGMENTS: usize = 200_000;
const GROUPS: usize = 50;
const INDEX: u16 = 2;
const PATIENCE: Duration = Duration::from_secs(60);
/// What a node may take beside its fragments, and for each of them.
const FIXED_BYTES: u64 = 64 << 20;
const FRAGMENT_BYTES: u64 = 100;
/// What a line of a list may take: 48 bytes, and three quarters of that for the tree they lie in.
const LINE_BYTES: u64 = 85;

/// A node as a process.
struct Node {
    child: Child,
    runtime: Runtime,
    connection: Connection<ToNode>,
    /// From its start to its first answer.
    served_after: Duration,
}

impl Node {
    /// No daemon is needed: its disk knows its cell.
    fn start(data: &Path) -> Self {
        let began = Instant::now();
        let data = data.to_str().unwrap();
        let words = ["node", "--data", data, "--listen", "127.0.0.1:0", "--domain", "eu/a/r1/n1", "--insecure"];
        let mut child =
            command(words.into_iter().chain(["--daemon", "127.0.0.1:1", "--scrub-period", "0"])).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(Connection::open(&address, PATIENCE)).unwrap();
        let mut node = Self { child, runtime, connection, served_after: Duration::ZERO };
        assert!(matches!(node.ask(&NodeRequest::Info), NodeReply::Info { .. }));
        node.served_after = began.elapsed();
        node
    }

    fn ask(&self, request: &NodeRequest) -> NodeReply {
        self.runtime.block_on(self.connection.call(request, Bytes::new(), PATIENCE)).unwrap().0
    }

    /// The most that was ever resident.
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

/// Lists `fragments` extents in a group, as commits do: so many at a time as a row has room for.
fn commit(node: &Node, disk: DiskId, pg: PgId, fragments: usize) {
    let token = Token { incarnation: 1, revision: 1, restore: 9, claim: ClaimId(7) };
    let mut row = PgRow {
        pg,
        incarnation: 1,
        seq: 1,
        epoch: 1,
        code: "rs:4+2".parse::<CodeSpec>().unwrap().to_descriptor(),
        members: (0..6).map(|at| if at == INDEX { disk } else { DiskId(u128::from(at) + 1) }).collect(),
        joining: BTreeMap::new(),
        behind: BTreeSet::new(),
        state: PgState::Open,
        crowded: false,
        next_id: 1 << 30,
        count: 0,
        sum: Sum::default(),
        trim: 0,
        entries: Vec::new(),
    };
    let hear = |row: &PgRow| {
        let authority = Box::new(Authority { token, row: row.clone() });
        let reply = node.ask(&NodeRequest::Hear { authority });
        assert!(matches!(&reply, NodeReply::Heard(head) if head.level), "{reply:?}");
    };
    hear(&row);
    for from in (0..fragments).step_by(ENTRIES_MAX) {
        row.entries.clear();
        for counter in from..(from + ENTRIES_MAX).min(fragments) {
            let extent = ExtentKey::compose(CELL, pg, 1, counter as u64);
            let hash = RecordHash::of(&extent.0.to_le_bytes());
            row.seq += 1;
            (row.count, row.sum) = (row.count + 1, row.sum.plus(&hash));
            let attempt = AttemptId { claim: token.claim, number: row.seq };
            row.entries.push(Entry { seq: row.seq, attempt, kind: EntryKind::Create, extent, hash });
        }
        hear(&row);
    }
}

/// Files by the names of these fragments. Nobody looks into them.
fn make_files(data: &Path, pg: PgId, fragments: usize) {
    let folder = data.join("fragments").join(format!("{:08x}", pg.0));
    fs::create_dir(&folder).unwrap();
    for counter in 0..fragments {
        let extent = ExtentKey::compose(CELL, pg, 1, counter as u64);
        File::create(folder.join(file_name(FragmentKey { extent, generation: 1, index: INDEX }))).unwrap();
    }
}

/// All fragments that a node has files of.
fn holdings(node: &Node, pg: PgId) -> usize {
    let (mut after, mut found) = (None, 0);
    loop {
        match node.ask(&NodeRequest::Holdings { pg, after }) {
            NodeReply::HoldingsPage { holdings, more } => {
                found += holdings.len();
                after = holdings.last().map(|holding| holding.fragment);
                if !more {
                    return found;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_full_disk_is_served_soon_and_in_little_memory() {
    let fragments = std::env::var("NINEFOLD_FRAGMENTS").map_or(FRAGMENTS, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("disk");
    let store = DiskStore::open(&data, Unlabelled::Format).unwrap();
    let disk = store.disk();
    store.set_cell(CELL).unwrap();
    drop(store);
    let node = Node::start(&data);
    let empty_bytes = node.peak_bytes();
    let pgs: Vec<PgId> = (1..=GROUPS as u32).map(PgId).collect();
    let each = fragments / GROUPS;
    for pg in &pgs {
        commit(&node, disk, *pg, each);
        make_files(&data, *pg, each);
    }
    let grown_bytes = node.peak_bytes();
    drop(node);

    let node = Node::start(&data);
    let started_bytes = node.peak_bytes();
    let listed: usize = pgs.iter().map(|pg| holdings(&node, *pg)).sum();
    assert_eq!(listed, each * GROUPS);
    let asked_bytes = node.peak_bytes();
    println!(
        "{listed} fragments: serves after {:.2} s; resident at most {} MiB without any, {} MiB while they came, {} MiB \
         after a start, {} MiB when all were listed",
        node.served_after.as_secs_f64(),
        empty_bytes >> 20,
        grown_bytes >> 20,
        started_bytes >> 20,
        asked_bytes >> 20,
    );
    // A start reads journals, 49 bytes a fragment, and nothing else.
    let start_max = Duration::from_secs(5) + Duration::from_secs(25).mul_f64(listed as f64 / 1e6);
    assert!(node.served_after < start_max, "serves after {:?}", node.served_after);
    for bytes in [grown_bytes, started_bytes, asked_bytes] {
        assert!(bytes < FIXED_BYTES + FRAGMENT_BYTES * listed as u64, "{} MiB resident", bytes >> 20);
    }
    // What the fixed part leaves over does not hide what each fragment takes.
    for bytes in [grown_bytes, started_bytes] {
        let line_bytes = bytes.saturating_sub(empty_bytes + (2 << 20)) / listed as u64;
        assert!(line_bytes <= LINE_BYTES, "{line_bytes} bytes for each");
    }
}
