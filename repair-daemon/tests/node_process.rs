//! `ninefold node` as a process: how it begins, refuses, stores, dies and comes back. The daemon here is a stand-in that takes
//! every node of its cell, and the test itself is the owner of the only placement group.

mod support;

use bytes::Bytes;
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, StreamId};
use ec_core::geometry::Geometry;
use ec_core::{CodeSpec, ShardIndex};
use repair_core::catalog::{Entry, EntryKind, PgRow, PgState};
use repair_core::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, Sum, Token};
use repair_core::node::{PeerId, RequestId};
use repair_core::time::Millis;
use repair_core::wire::daemon::AttemptState;
use repair_core::wire::node::{Authority, FragmentKey, Head, Listed, Prepared, StageKey};
use repair_core::wire::{CallError, DaemonReply, DaemonRequest, NodeReply, NodeRequest, Refusal};
use repair_daemon::transport::{Connection, Handler, Replies, Server, ToDaemon, ToNode};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{NINEFOLD, command, run};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CELL: CellKey = CellKey(0xce11 << 112 | 5);
const PG: PgId = PgId(3);
const INDEX: u16 = 2;
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds; a test that waits for ever has failed.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Stands in for the daemon of a cell.
struct Daemon {
    /// Ends the server when dropped.
    _runtime: Runtime,
    address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    cell: CellKey,
    /// Takes nobody, for this reason.
    refusal: Option<Refusal>,
    replies: Replies<ToDaemon>,
    registered: AtomicUsize,
    beats: AtomicUsize,
    last_free_bytes: Mutex<u64>,
}

impl Handler<ToDaemon> for Desk {
    fn request(&self, peer: PeerId, id: RequestId, request: DaemonRequest, _body: Bytes) {
        let reply = match request {
            DaemonRequest::RegisterLife { .. } if self.refusal.is_some() => {
                self.registered.fetch_add(1, Ordering::SeqCst);
                DaemonReply::Refused(self.refusal.clone().unwrap())
            }
            DaemonRequest::RegisterLife { cell: Some(cell), .. } if cell != self.cell => {
                DaemonReply::Refused(Refusal::WrongCell(format!("this is cell {}", self.cell)))
            }
            DaemonRequest::RegisterLife { free_bytes, .. } => {
                *self.last_free_bytes.lock().unwrap() = free_bytes;
                self.registered.fetch_add(1, Ordering::SeqCst);
                DaemonReply::Welcome { cell: self.cell, beat_every: Millis(50) }
            }
            DaemonRequest::Faults { .. } => DaemonReply::BeatTaken,
            DaemonRequest::Beat { .. } => {
                self.beats.fetch_add(1, Ordering::SeqCst);
                DaemonReply::BeatTaken
            }
            DaemonRequest::Ask { .. } => DaemonReply::AttemptState(AttemptState::Live),
            other => panic!("a node asked {other:?}"),
        };
        self.replies.send(peer, id, reply, Bytes::new());
    }

    fn gone(&self, _peer: PeerId) {}
}

impl Daemon {
    fn start(cell: CellKey, address: &str) -> Self {
        Self::refusing(None, cell, address)
    }

    fn refusing(refusal: Option<Refusal>, cell: CellKey, address: &str) -> Self {
        let runtime = runtime();
        let server = runtime.block_on(Server::<ToDaemon>::bind(address)).unwrap();
        let (address, replies) = (server.address(), server.replies());
        let (registered, beats) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let desk = Arc::new(Desk { cell, refusal, replies, registered, beats, last_free_bytes: Mutex::default() });
        runtime.spawn(server.serve(Arc::clone(&desk)));
        Self { _runtime: runtime, address, desk }
    }

    fn registered(&self) -> usize {
        self.desk.registered.load(Ordering::SeqCst)
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn arguments(data: &Path, daemon: &str) -> Vec<String> {
    let data = data.display().to_string();
    let words =
        ["node", "--format", "--data", &data, "--listen", "127.0.0.1:0", "--domain", "eu/a/r1/n1", "--daemon", daemon];
    words.map(str::to_owned).into_iter().chain(["--insecure".into()]).collect()
}

fn replaced(mut words: Vec<String>, option: &str, value: &str) -> Vec<String> {
    let at = words.iter().position(|word| word == option).unwrap();
    words[at + 1] = value.to_owned();
    words
}

/// A node that listens.
struct Node {
    child: Child,
    disk: DiskId,
    address: SocketAddr,
    stderr: BufReader<std::process::ChildStderr>,
}

/// Disk and address from the line a node begins with.
fn greeting(line: &str) -> (DiskId, SocketAddr) {
    let said = line.trim_end().strip_prefix("ninefold node: disk ").and_then(|rest| rest.split_once(" listening on "));
    let (disk, address) = said.unwrap_or_else(|| panic!("{line:?}"));
    (disk.parse().unwrap(), address.parse().unwrap())
}

impl Node {
    fn start(data: &Path, daemon: SocketAddr) -> Self {
        Self::of(command(arguments(data, &daemon.to_string())))
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let (disk, address) = greeting(&line);
        Self { child, disk, address, stderr }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who talks to a node.
struct Peer {
    runtime: Runtime,
    connection: Connection<ToNode>,
}

impl Peer {
    fn to(node: &Node) -> Self {
        let runtime = runtime();
        let connection = runtime.block_on(Connection::open(&node.address.to_string(), PATIENCE)).unwrap();
        Self { runtime, connection }
    }

    fn try_ask(&self, request: &NodeRequest, body: &Bytes) -> Result<(NodeReply, Bytes), CallError> {
        self.runtime.block_on(self.connection.call(request, body.clone(), PATIENCE))
    }

    fn ask(&self, request: NodeRequest) -> (NodeReply, Bytes) {
        self.try_ask(&request, &Bytes::new()).unwrap()
    }

    /// Asks until the node has registered: before, it does not know its cell.
    fn ask_when_ready(&self, request: &NodeRequest) -> NodeReply {
        let began = Instant::now();
        loop {
            match self.try_ask(request, &Bytes::new()).unwrap().0 {
                NodeReply::Refused(Refusal::Unavailable(_)) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                reply => return reply,
            }
        }
    }
}

fn code() -> CodeSpec {
    "rs:4+2".parse().unwrap()
}

/// The owner of the one placement group, in which the node holds index 2.
struct Owner {
    token: Token,
    row: PgRow,
    listed: BTreeMap<ExtentKey, RecordHash>,
}

/// A fragment as a client would make it.
struct Made {
    stage: StageKey,
    fragment: FragmentKey,
    payload: Bytes,
    root: [u8; 32],
    record: Bytes,
    hash: RecordHash,
    extent_bytes: u64,
}

impl Owner {
    fn of(disk: DiskId) -> Self {
        let members = (0..6).map(|at| if at == INDEX { disk } else { DiskId(u128::from(at) + 1) }).collect();
        let row = PgRow {
            pg: PG,
            incarnation: 1,
            seq: 1,
            epoch: 1,
            code: code().to_descriptor(),
            members,
            joining: BTreeMap::new(),
            behind: BTreeSet::new(),
            state: PgState::Open,
            crowded: false,
            next_id: 1024,
            count: 0,
            sum: Sum::default(),
            trim: 0,
            entries: Vec::new(),
        };
        Self {
            token: Token { incarnation: 1, revision: 1, restore: 9, claim: ClaimId(7) },
            row,
            listed: BTreeMap::new(),
        }
    }

    fn authority(&self) -> Box<Authority> {
        Box::new(Authority { token: self.token, row: self.row.clone() })
    }

    fn fence(&self, peer: &Peer) -> Head {
        match peer.ask_when_ready(&NodeRequest::Fence { authority: self.authority() }) {
            NodeReply::Heard(head) => head,
            other => panic!("{other:?}"),
        }
    }

    fn made(&self, counter: u64, extent_bytes: u64) -> Made {
        let extent = ExtentKey::compose(CELL, PG, 1, counter);
        let payload_bytes = Geometry::new(extent_bytes, code().k()).shard_bytes();
        let identity = |index| BirthIdentity {
            cell: CELL.id(),
            extent: extent.id(),
            generation: 1,
            index: ShardIndex::new(index),
            payload_bytes,
        };
        let payload: Vec<u8> = (0..payload_bytes).map(|at| ((at * 31) >> 3) as u8 ^ counter as u8).collect();
        let root = |index| if index == INDEX { Hash::of(&payload) } else { Hash::new([index as u8; 32]) };
        let entry = |index| FragmentEntry { identity: identity(index), root: identity(index).root(&root(index)) };
        let record = ExtentRecord {
            cell: CELL.id(),
            extent: extent.id(),
            revision: 1,
            code: code(),
            extent_bytes,
            extent_hash: Hash::new([7; 32]),
            stream: StreamId(3),
            ordinal: 0,
            offset: 0,
            stream_bytes: Some(extent_bytes),
            content: Content::File,
            name: b"name".to_vec(),
            fragments: (0..6).map(entry).collect(),
            extents: Vec::new(),
        };
        let record: Bytes = record.to_bytes().unwrap().into();
        Made {
            stage: StageKey { attempt: AttemptId { claim: self.token.claim, number: counter }, extent, index: INDEX },
            fragment: FragmentKey { extent, generation: 1, index: INDEX },
            root: *entry(INDEX).root.as_bytes(),
            hash: RecordHash::of(&record),
            payload: payload.into(),
            record,
            extent_bytes,
        }
    }

    /// Stages and prepares; the error is of a connection that ended.
    fn try_put(&self, peer: &Peer, made: &Made) -> Result<(), CallError> {
        let key = made.stage;
        let none = Bytes::new();
        let stage = NodeRequest::Stage {
            token: self.token,
            cell: CELL,
            key,
            generation: 1,
            code: code().to_descriptor(),
            extent_bytes: made.extent_bytes,
        };
        assert_eq!(peer.try_ask(&stage, &none)?.0, NodeReply::StageOpen);
        for start in (0..made.payload.len()).step_by(1 << 20) {
            let piece = made.payload.slice(start..(start + (1 << 20)).min(made.payload.len()));
            let data = NodeRequest::StageData { key, offset: start as u64 };
            assert_eq!(peer.try_ask(&data, &piece)?.0, NodeReply::StageTaken);
        }
        let sealed = peer.try_ask(&NodeRequest::StageSeal { key }, &none)?.0;
        assert_eq!(sealed, NodeReply::StageSealed { root: made.root });
        let prepare = NodeRequest::Prepare {
            authority: self.authority(),
            attempt: key.attempt,
            kind: EntryKind::Create,
            extent: key.extent,
            hash: made.hash,
        };
        let prepared = peer.try_ask(&prepare, &made.record)?.0;
        assert_eq!(prepared, NodeReply::Prepared { attempt: key.attempt });
        Ok(())
    }

    /// Commits a change in the row, as if the catalog had said yes.
    fn commit(&mut self, made: &Made) {
        self.listed.insert(made.stage.extent, made.hash);
        self.row.seq += 1;
        self.row.count = self.listed.len() as u64;
        self.row.sum = Sum::of(self.listed.values());
        self.row.entries.push(Entry {
            seq: self.row.seq,
            kind: EntryKind::Create,
            extent: made.stage.extent,
            hash: made.hash,
            attempt: made.stage.attempt,
        });
    }

    fn hear(&self, peer: &Peer) -> Head {
        match peer.ask(NodeRequest::Hear { authority: self.authority() }).0 {
            NodeReply::Heard(head) => head,
            other => panic!("{other:?}"),
        }
    }
}

fn is_prepared(head: &Head, made: &Made) -> bool {
    let prepared =
        Prepared { attempt: made.stage.attempt, kind: EntryKind::Create, extent: made.stage.extent, hash: made.hash };
    head.prepared.contains(&prepared)
}

fn is_held(peer: &Peer, made: &Made) -> bool {
    match peer.ask(NodeRequest::Holdings { pg: PG, after: None }).0 {
        NodeReply::HoldingsPage { holdings, more: false } => {
            holdings.iter().any(|holding| holding.fragment == made.fragment && !holding.damaged)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn reads_back(peer: &Peer, made: &Made) {
    let bytes = made.payload.len().min(1 << 20);
    let read = NodeRequest::Read { fragment: made.fragment, offset: 0, bytes: bytes as u32 };
    let (reply, body) = peer.ask(read);
    let NodeReply::Data { crcs } = reply else { panic!("{reply:?}") };
    assert!(body == made.payload.slice(..bytes) && crcs.len() == bytes / 4096);
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let words = arguments(&data, "127.0.0.1:1");
    let quiet: Vec<String> = words.iter().filter(|word| *word != "--insecure").cloned().collect();
    run(quiet).exits(2).says(&["TLS", "--insecure"]);
    run(replaced(words.clone(), "--domain", "rack7/node3")).exits(2).says(&["rack7/node3", "region/zone/rack/node"]);
    run(replaced(words.clone(), "--listen", "everywhere")).exits(2).says(&["everywhere", "HOST:PORT"]);
    run(replaced(words, "--listen", "0.0.0.0:0")).exits(2).says(&["--advertise"]);
    assert!(!data.exists());
}

#[test]
fn a_port_in_use_and_a_folder_in_use_or_not_ours_are_said_clearly() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let words = arguments(&folder.path().join("data"), "127.0.0.1:1");
    run(replaced(words.clone(), "--listen", &address)).exits(3).says(&[&address, "in use"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let node = Node::start(&folder.path().join("data"), "127.0.0.1:1".parse().unwrap());
    run(&words).exits(3).says(&["data", "another node is running"]);
    drop(node);
    fs::create_dir(folder.path().join("home")).unwrap();
    fs::write(folder.path().join("home/thesis.txt"), "x").unwrap();
    let home = folder.path().join("home").display().to_string();
    run(replaced(words, "--data", &home)).exits(3).says(&["home", "no label"]);
}

#[test]
fn an_empty_folder_is_refused_unless_a_new_disk_is_asked_for_and_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    for data in [folder.path().to_owned(), folder.path().join("mount/data")] {
        let words: Vec<String> =
            arguments(&data, "127.0.0.1:1").into_iter().filter(|word| word != "--format").collect();
        run(words).exits(3).says(&[&data.display().to_string(), "not mounted", "--format"]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_disk_of_another_cell_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Daemon::start(CELL, "127.0.0.1:0");
    let node = Node::start(folder.path(), ours.address);
    until("the cell is in the label", || {
        fs::read_to_string(folder.path().join("label")).unwrap().contains(&CELL.to_string())
    });
    assert_eq!(node.terminate(), "");
    let theirs = Daemon::start(CellKey(1), "127.0.0.1:0");
    let refused = run(arguments(folder.path(), &theirs.address.to_string())).exits(3);
    refused.says(&["another cell", &CellKey(1).to_string()]);
    // Nothing was changed by that.
    let before = ours.registered();
    let node = Node::start(folder.path(), ours.address);
    until("it is registered again", || ours.registered() > before);
    drop(node);
}

#[test]
fn a_daemon_may_be_late_and_may_come_back_and_the_node_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let node = Node::start(folder.path(), address);
    let peer = Peer::to(&node);
    let (info, _) = peer.ask(NodeRequest::Info);
    assert!(matches!(info, NodeReply::Info { cell: None, disk, .. } if disk == node.disk), "{info:?}");
    let list = NodeRequest::List { pg: PG, after: None };
    assert!(matches!(peer.ask(list).0, NodeReply::Refused(Refusal::Unavailable(_))));
    for _ in 0..2 {
        let daemon = Daemon::start(CELL, &address.to_string());
        until("it registers and beats", || daemon.registered() > 0 && daemon.desk.beats.load(Ordering::SeqCst) > 2);
        assert!(*daemon.desk.last_free_bytes.lock().unwrap() > 0);
        let (info, _) = peer.ask(NodeRequest::Info);
        assert!(matches!(info, NodeReply::Info { cell: Some(CELL), .. }), "{info:?}");
    }
    assert_eq!(node.terminate(), "");
}

#[test]
fn a_daemon_that_takes_calls_and_never_answers_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::start(folder.path(), silent.local_addr().unwrap());
    let first = silent.accept().unwrap();
    let second = silent.accept().unwrap();
    // It answers its own questions all the while.
    assert!(matches!(Peer::to(&node).ask(NodeRequest::Info).0, NodeReply::Info { .. }));
    drop((first, second));
}

#[test]
fn why_a_daemon_does_not_take_a_node_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = Refusal::Duplicate("that disk\nis there".into());
    let daemon = Daemon::refusing(Some(refusal), CELL, "127.0.0.1:0");
    let node = Node::start(folder.path(), daemon.address);
    until("it was refused again", || daemon.registered() > 1);
    let said = node.terminate();
    assert_eq!(said, "ninefold node: the daemon does not take this node: duplicate: that disk\\nis there\n");
}

#[test]
fn what_was_prepared_or_listed_is_so_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(CELL, "127.0.0.1:0");
    let mut node = Node::start(folder.path(), daemon.address);
    let mut owner = Owner::of(node.disk);
    let (one, other, third) = (owner.made(1, 9_000_000), owner.made(2, 10_000), owner.made(3, 5_000));
    let peer = Peer::to(&node);
    assert!(owner.fence(&peer).level);
    owner.try_put(&peer, &one).unwrap();
    owner.try_put(&peer, &other).unwrap();
    node.kill();

    // Prepared, and nobody knows how it ends.
    let mut node = Node::start(folder.path(), daemon.address);
    let peer = Peer::to(&node);
    let head = owner.fence(&peer);
    assert!(head.level && is_prepared(&head, &one) && is_prepared(&head, &other), "{head:?}");
    assert!(is_held(&peer, &one) && is_held(&peer, &other));
    owner.commit(&one);
    let head = owner.hear(&peer);
    assert!(head.level && head.count == 1 && !is_prepared(&head, &one) && is_prepared(&head, &other), "{head:?}");
    node.kill();

    // One listed; the other is aborted, and stays so.
    let mut node = Node::start(folder.path(), daemon.address);
    let peer = Peer::to(&node);
    let head = owner.fence(&peer);
    assert!(head.level && head.count == 1 && head.sum == owner.row.sum && is_prepared(&head, &other), "{head:?}");
    let (list, _) = peer.ask(NodeRequest::List { pg: PG, after: None });
    let listed = vec![Listed { extent: one.stage.extent, hash: one.hash }];
    assert_eq!(list, NodeReply::ListPage { heard: owner.row.order(), listed, more: false });
    reads_back(&peer, &one);
    let record = peer.ask(NodeRequest::Record { extent: one.stage.extent, hash: one.hash });
    assert_eq!(record, (NodeReply::Record, one.record.clone()));
    let abort = NodeRequest::Abort { authority: owner.authority(), attempt: other.stage.attempt };
    assert_eq!(peer.ask(abort).0, NodeReply::Aborted { attempt: other.stage.attempt });
    until("the file is put aside", || !is_held(&peer, &other));
    node.kill();

    let node = Node::start(folder.path(), daemon.address);
    let peer = Peer::to(&node);
    // An owner that is not the last one is nobody, also after the restart.
    let late = Owner { token: Token { revision: 0, ..owner.token }, row: owner.row.clone(), listed: BTreeMap::new() };
    let refused = peer.ask_when_ready(&NodeRequest::Fence { authority: late.authority() });
    assert!(matches!(refused, NodeReply::Refused(Refusal::Fenced(_))), "{refused:?}");
    let head = owner.fence(&peer);
    assert!(head.level && head.prepared.is_empty(), "{head:?}");
    assert!(is_held(&peer, &one) && !is_held(&peer, &other));
    owner.try_put(&peer, &third).unwrap();
    assert!(is_prepared(&owner.fence(&peer), &third));
}

/// The calls of a trace, in the order in which they ended.
fn ended_calls(trace: &Path) -> Vec<String> {
    let mut begun: BTreeMap<String, String> = BTreeMap::new();
    let mut ended = Vec::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        // "123 fsync(9</path>) = 0", or in two halves when another thread's call came between.
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(half) = call.strip_suffix("<unfinished ...>") {
            begun.insert(thread.to_owned(), half.to_owned());
        } else if let Some((_, rest)) = call.split_once("resumed>").filter(|_| call.starts_with("<...")) {
            ended.push(begun.remove(thread).unwrap_or_default() + rest);
        } else {
            ended.push(call.to_owned());
        }
    }
    ended.retain(|call| call.ends_with("= 0"));
    ended
}

/// Position of the only call that names all of `parts`.
#[track_caller]
fn position(calls: &[String], parts: &[&str]) -> usize {
    let is_it = |call: &String| parts.iter().all(|part| call.contains(part));
    let found: Vec<usize> = (0..calls.len()).filter(|at| is_it(&calls[*at])).collect();
    assert_eq!(found.len(), 1, "{parts:?} in {calls:#?}");
    found[0]
}

/// A killed process loses nothing that it wrote, so only the order of its calls can tell what a power cut would leave.
#[test]
fn everything_is_synced_before_it_is_promised() {
    let there = Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success());
    assert!(there, "strace is needed: scripts/test installs it");
    let folder = tempfile::tempdir().unwrap();
    let (data, trace) = (folder.path().join("data"), folder.path().join("trace"));
    let daemon = Daemon::start(CELL, "127.0.0.1:0");
    let mut strace = Command::new("strace");
    let calls = "trace=fsync,fdatasync,linkat,renameat,renameat2";
    strace.args(["-f", "-y", "-s", "256", "-e", calls, "-o"]).arg(&trace).arg(NINEFOLD);
    // strace is the parent: killed, it would let go of the node and not end it.
    support::piped(strace.args(arguments(&data, &daemon.address.to_string())).arg("--die-with-parent"));
    let node = Node::of(strace);
    let peer = Peer::to(&node);
    let owner = Owner::of(node.disk);
    assert!(owner.fence(&peer).level);
    let journal = format!("{:08x}.journal", PG.0);
    let calls = ended_calls(&trace);
    let written = position(&calls, &["fsync(", &format!("{journal}.new")]);
    let renamed = position(&calls, &["renameat(", &journal]);
    assert!(written < renamed && renamed < position(&calls, &["fsync(", "/journal>"]), "{calls:#?}");
    let labelled = calls.iter().filter(|call| call.contains("label.new")).map(|call| call.starts_with("fsync"));
    assert!(labelled.eq([true, false, true, false]), "the label of the disk, then with its cell: {calls:#?}");

    let before = calls.len();
    let made = owner.made(1, 100_000);
    owner.try_put(&peer, &made).unwrap();
    let put = ended_calls(&trace).split_off(before);
    let (name, group) = (format!("{}.1.{INDEX:05}.frag", made.stage.extent), format!("/fragments/{:08x}>", PG.0));
    let linked = position(&put, &["linkat(", &name]);
    assert!(put[..linked].iter().any(|call| call.starts_with("fdatasync(")), "{put:#?}");
    let promised = position(&put, &["fdatasync(", &journal]);
    for folder in [&group, "/fragments>"] {
        let named = position(&put, &["fsync(", folder]);
        assert!(linked < named && named < promised, "{put:#?}");
    }

    let before = before + put.len();
    let abort = NodeRequest::Abort { authority: owner.authority(), attempt: made.stage.attempt };
    assert_eq!(peer.ask(abort).0, NodeReply::Aborted { attempt: made.stage.attempt });
    // The mark is promised; the file follows.
    let is_aside = |call: &String| call.contains("fsync(") && call.contains(&group);
    until("the file is put aside", || ended_calls(&trace)[before..].iter().any(is_aside));
    let aborted = ended_calls(&trace).split_off(before);
    let moved = position(&aborted, &["renameat2(", &name]);
    for folder in [&group, "/quarantine>"] {
        assert!(moved < position(&aborted, &["fsync(", folder]), "{aborted:#?}");
    }
    position(&aborted, &["fdatasync(", &journal]);
}

#[test]
fn killed_at_any_moment_of_a_put_a_node_keeps_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(CELL, "127.0.0.1:0");
    let mut node = Node::start(folder.path(), daemon.address);
    let owner = Owner::of(node.disk);
    let mut promised: Vec<Made> = Vec::new();
    for counter in 1..=20 {
        let peer = Peer::to(&node);
        let head = owner.fence(&peer);
        for made in &promised {
            assert!(is_prepared(&head, made) && is_held(&peer, made), "{counter}: a promise was broken");
        }
        let made = owner.made(counter, 12_000_000);
        let killer = {
            let pid = rustix::process::Pid::from_child(&node.child);
            // From before the first byte to after the answer.
            let moment = Duration::from_micros(1500 * (counter - 1));
            std::thread::spawn(move || {
                std::thread::sleep(moment);
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            })
        };
        let told = owner.try_put(&peer, &made).is_ok();
        killer.join().unwrap();
        node.child.wait().unwrap();
        node = Node::start(folder.path(), daemon.address);
        let peer = Peer::to(&node);
        let head = owner.fence(&peer);
        // Told is kept. Not told may be either, but never half: a prepared one is held and whole.
        assert!(!told || is_prepared(&head, &made), "{counter}");
        if is_prepared(&head, &made) {
            assert!(is_held(&peer, &made), "{counter}");
            promised.push(made);
        } else if is_held(&peer, &made) {
            // Published in the moment before: whole all the same, and the same put again ends well.
            reads_back(&peer, &made);
            owner.try_put(&peer, &made).unwrap();
            promised.push(made);
        }
        assert_eq!(fs::read_dir(folder.path().join("staging")).unwrap().count(), 0);
    }
    let peer = Peer::to(&node);
    for made in &promised {
        reads_back(&peer, made);
    }
}

#[test]
fn a_child_does_not_outlive_its_parent() {
    let folder = TempDir::new().unwrap();
    let mut words = arguments(folder.path(), "127.0.0.1:1");
    words.push("--die-with-parent".into());
    let mut parent = Command::new("sh")
        .args(["-c", "\"$0\" \"$@\" & wait", NINEFOLD])
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let (_, address) = greeting(&line);
    assert!(std::net::TcpStream::connect(address).is_ok());
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the node is gone", || std::net::TcpStream::connect(address).is_err());
}
