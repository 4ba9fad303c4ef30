//! Audits of real cells: parity that was committed wrong is found and named, what is damaged is repaired and not accused.

#[path = "support/cell.rs"]
mod cell;

use bytes::Bytes;
use cell::{QUICK, TestCell, eventually, noise, text};
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash};
use ec_core::{Code, CodeSpec, Geometry, ShardIndex};
use repair_core::id::StreamKey;
use repair_core::wire::daemon::{EndOfStream, ExtentEntry, Grant, NameEntry};
use repair_core::wire::node::StageKey;
use repair_core::wire::{DaemonReply, DaemonRequest, NodeReply, NodeRequest};
use repair_daemon::transport::{Pool, ToDaemon, ToNode};
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing is audited unasked.
const ASKED: &str = "code = \"rs:4+2\"\naudit_one_in = 0\n";
const EXTENT_BYTES: usize = 300_000;

/// A client whose encoder may be wrong: CRCs, roots and record are those of what it made.
struct Client<'a> {
    cell: &'a TestCell,
    runtime: Runtime,
    daemon: Pool<ToDaemon>,
    nodes: Pool<ToNode>,
}

impl<'a> Client<'a> {
    fn of(cell: &'a TestCell) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { cell, runtime, daemon: Pool::new(), nodes: Pool::new() }
    }

    fn ask(&self, request: &DaemonRequest, body: Bytes) -> DaemonReply {
        self.runtime.block_on(self.daemon.call(&self.cell.address, request, body, PATIENCE)).unwrap().0
    }

    fn ask_node(&self, address: &str, request: &NodeRequest, body: Bytes) -> NodeReply {
        self.runtime.block_on(self.nodes.call(address, request, body, PATIENCE)).unwrap().0
    }

    fn allocate(&self, stream: StreamKey, bytes: u64) -> Grant {
        eventually("leave to write", || {
            match self.ask(&DaemonRequest::Allocate { stream, ordinal: 0, bytes }, Bytes::new()) {
                DaemonReply::Allocated(grant) => Ok(grant),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Puts one extent under a name, its fragments spoilt after they were encoded.
    fn put(&self, name: &str, data: &[u8], spoil: impl FnOnce(&mut [Vec<u8>])) -> String {
        let (stream, bytes) = (StreamKey(0x77), data.len() as u64);
        assert!(matches!(self.ask(&DaemonRequest::BeginPut { stream }, Bytes::new()), DaemonReply::PutBegun { .. }));
        let names = vec![NameEntry { name: name.into(), offset: 0, bytes }];
        let named = self.ask(&DaemonRequest::PutNames { stream, first: 0, names }, Bytes::new());
        assert_eq!(named, DaemonReply::NamesTaken);
        let grant = self.allocate(stream, bytes);
        let spec = CodeSpec::from_descriptor(&grant.code).unwrap();
        let mut shards = encoded(&spec, data);
        spoil(&mut shards);
        let fragments = (0u16..).zip(&shards).map(|(index, shard)| self.stage(&grant, index, shard, bytes)).collect();
        let entry = ExtentEntry { ordinal: 0, extent: grant.extent, offset: 0, bytes };
        let record = ExtentRecord {
            cell: grant.cell.id(),
            extent: grant.extent.id(),
            revision: 1,
            code: spec,
            extent_bytes: bytes,
            extent_hash: Hash::of(data),
            stream: stream.id(),
            ordinal: 0,
            offset: 0,
            stream_bytes: Some(bytes),
            content: Content::File,
            name: name.into(),
            fragments,
            extents: Vec::new(),
        };
        let end = Some(EndOfStream { extents: 1, bytes, names: 1 });
        let commit = DaemonRequest::CommitExtent { stream, entry, attempt: grant.attempt, end };
        let reply = self.ask(&commit, record.to_bytes().unwrap().into());
        assert_eq!(reply, DaemonReply::Committed { degraded: false });
        grant.extent.to_string()
    }

    fn stage(&self, grant: &Grant, index: u16, shard: &[u8], extent_bytes: u64) -> FragmentEntry {
        let identity = BirthIdentity {
            cell: grant.cell.id(),
            extent: grant.extent.id(),
            generation: 1,
            index: ShardIndex::new(index),
            payload_bytes: shard.len() as u64,
        };
        let key = StageKey { attempt: grant.attempt, extent: grant.extent, index };
        let address = &grant.places[usize::from(index)].as_ref().unwrap().address;
        let (token, cell, code) = (grant.token, grant.cell, grant.code);
        let open = NodeRequest::Stage { token, cell, key, generation: 1, code, extent_bytes };
        assert_eq!(self.ask_node(address, &open, Bytes::new()), NodeReply::StageOpen);
        let send = NodeRequest::StageData { key, offset: 0 };
        assert_eq!(self.ask_node(address, &send, Bytes::copy_from_slice(shard)), NodeReply::StageTaken);
        let root = identity.root(&Hash::of(shard));
        let sealed = self.ask_node(address, &NodeRequest::StageSeal { key }, Bytes::new());
        assert_eq!(sealed, NodeReply::StageSealed { root: *root.as_bytes() });
        FragmentEntry { identity, root }
    }
}

fn encoded(spec: &CodeSpec, data: &[u8]) -> Vec<Vec<u8>> {
    let code = Code::new(spec).unwrap();
    let length = Geometry::new(data.len() as u64, code.k()).shard_bytes() as usize;
    let mut padded = data.to_vec();
    padded.resize(length * code.k(), 0);
    let mut shards: Vec<Vec<u8>> = padded.chunks(length).map(<[u8]>::to_vec).collect();
    let mut parity = vec![vec![0; length]; code.m()];
    let inputs: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
    code.encode(&inputs, &mut parity.iter_mut().map(|shard| &mut shard[..]).collect::<Vec<_>>()).unwrap();
    shards.extend(parity);
    shards
}

/// Has everything audited, and waits until that is over; what happened meanwhile.
fn audit(cell: &TestCell) -> Vec<Value> {
    let seen = cell.event_count();
    let said = text(&cell.good(&["scrub", "--audit"]).stdout);
    assert!(said.contains("audited"), "{said}");
    eventually("the audit is over", || {
        let events = cell.events_after(seen);
        if events.iter().any(|event| event["kind"] == "audit_done") { Ok(events) } else { Err(format!("{events:?}")) }
    })
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["kind"] == kind).collect()
}

fn explained(cell: &TestCell, extent: &str) -> Value {
    serde_json::from_slice(&cell.good(&["explain", "extent", extent, "--json"]).stdout).unwrap()
}

/// The node that has a fragment, and the file; not the one that was killed, whose folder is still there.
fn holder_of(cell: &TestCell, extent: &str, index: u16) -> (usize, PathBuf) {
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let parts: Vec<&str> = name.split('.').collect();
        parts[0] == extent && parts[2].parse() == Ok(index)
    };
    let alive = (0..cell.nodes.len()).filter(|node| cell.nodes[*node].child.is_some());
    let mut all = alive.flat_map(|node| cell.fragments(node).into_iter().map(move |path| (node, path)));
    all.find(|(_, path)| is_it(path)).unwrap()
}

#[test]
fn parity_committed_wrong_is_healthy_for_every_scrub_and_named_by_an_audit() {
    let mut cell = TestCell::start(8, &format!("{QUICK}{ASKED}"));
    let data = noise(7, EXTENT_BYTES);
    let extent = Client::of(&cell).put("wrong", &data, |shards| shards[4][70_000] ^= 0x40);
    cell.put("right", &noise(8, EXTENT_BYTES));
    cell.wait_full();
    let seen = cell.event_count();
    cell.good(&["scrub"]);
    // Two passes of every node (`TestCell::scrub_seconds`), and the one that was asked for.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(cell.kinds_after(seen), [""; 0], "every fragment is sound by itself");
    let (status, code) = cell.status().unwrap();
    assert_eq!((code, status["full_redundancy"].as_bool(), &status["audits"]["audited"]), (0, Some(true), &0.into()));

    let events = audit(&cell);
    let found = of_kind(&events, "audit_found_wrong");
    assert_eq!(found.len(), 1, "{events:?}");
    assert_eq!(
        (&found[0]["fields"]["extent"], &found[0]["fields"]["fragments"]),
        (&extent.clone().into(), &"4".into())
    );
    let says = "data is right, parity 4 is not the code's";
    assert_eq!(found[0]["fields"]["finding"], says);
    assert!(of_kind(&events, "repair_started").is_empty(), "nothing is rewritten for it: {events:?}");
    let (status, code) = cell.status().unwrap();
    let counts = ["audited", "sound", "incomplete", "found_wrong", "parked"].map(|count| &status["audits"][count]);
    assert_eq!((counts.map(|count| count.as_u64().unwrap()), code), ([2, 1, 0, 1, 1], 1));
    assert_eq!(status["audits"]["parked_extents"][0]["extent"], *extent);
    assert!(text(&cell.run(&["status"]).stdout).contains(&format!("FOUND WRONG extent {extent}: {says}")));
    assert_eq!(explained(&cell, &extent)["found_wrong"], says);
    assert!(cell.get("wrong").unwrap() == data, "reads of whole data are right");

    // Over a restart. A data fragment that is lost then is rebuilt without the wrong parity, to the byte.
    cell.kill_daemon();
    cell.start_daemon();
    cell.wait_healthy(8);
    eventually("the finding is known again", || {
        let found = explained(&cell, &extent)["found_wrong"].clone();
        if found == says { Ok(()) } else { Err(found.to_string()) }
    });
    let (node, path) = holder_of(&cell, &extent, 1);
    let lost = std::fs::read(&path).unwrap();
    let seen = cell.event_count();
    cell.kill_node(node);
    cell.wait_repaired(seen);
    assert!(std::fs::read(holder_of(&cell, &extent, 1).1).unwrap() == lost);
    assert!(cell.get("wrong").unwrap() == data);

    // Once nothing refers to the extent, nothing is left of the finding.
    cell.good(&["rm", "wrong"]);
    eventually("the finding is forgotten", || {
        let (status, code) = cell.status()?;
        if code == 0 && status["audits"]["parked"] == 0 { Ok(()) } else { Err(status["audits"].to_string()) }
    });
}

#[test]
fn a_cell_without_faults_has_no_findings_and_is_audited_unasked_too() {
    let config = "code = \"rs:4+2\"\nextent_bytes = 65536\naudit_one_in = 1\naudit_period_seconds = 3\n";
    let cell = TestCell::start(7, &format!("{QUICK}{config}"));
    cell.put("file", &noise(9, EXTENT_BYTES));
    cell.put("empty", b"");
    cell.wait_full();
    let events = audit(&cell);
    assert_eq!(of_kind(&events, "audit_done")[0]["fields"]["found_wrong"], "0", "{events:?}");
    let audits = eventually("passes go on by themselves", || {
        let (status, code) = cell.status()?;
        let sound = status["audits"]["sound"].as_u64().unwrap();
        if code == 0 && sound >= 12 { Ok(status["audits"].clone()) } else { Err(status.to_string()) }
    });
    assert_eq!((&audits["found_wrong"], &audits["incomplete"], &audits["parked"]), (&0.into(), &0.into(), &0.into()));
    let one = text(&cell.run(&["scrub", "--audit", "--extent", "7"]).stderr);
    assert!(one.contains("no extent's id"), "{one}");
    assert_eq!(cell.run(&["scrub", "--audit", "--pg", "4000000"]).status.code(), Some(1));
    assert_eq!(cell.run(&["scrub", "--pg", "1"]).status.code(), Some(2), "only with --audit");
}

#[test]
fn a_damaged_or_missing_fragment_makes_an_audit_incomplete_and_is_repaired() {
    let mut cell = TestCell::unstarted(&format!("{QUICK}{ASKED}digest_seconds = 3600\n"));
    // Nobody but the audit looks at fragments.
    cell.scrub_seconds = 0;
    cell.start_daemon();
    for number in 0..7 {
        cell.add_node(&format!("test/zone/rack-{number}/node-{number}"));
    }
    cell.wait_healthy(7);
    let data = noise(11, EXTENT_BYTES);
    let extent = Client::of(&cell).put("file", &data, |_| {});
    cell.wait_full();
    for (index, is_gone) in [(5u16, false), (0, true)] {
        let (_, path) = holder_of(&cell, &extent, index);
        let before = std::fs::read(&path).unwrap();
        let sound = cell.status().unwrap().0["audits"]["sound"].as_u64().unwrap();
        match is_gone {
            true => std::fs::remove_file(&path).unwrap(),
            false => {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&[before[20_000] ^ 1], 20_000).unwrap();
            }
        }
        let events = audit(&cell);
        let incomplete = of_kind(&events, "audit_incomplete");
        assert_eq!(incomplete.len(), 1, "{events:?}");
        let reason = incomplete[0]["fields"]["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("fragment {index}: ")), "{reason}");
        assert!(of_kind(&events, "audit_found_wrong").is_empty());
        eventually("it is rebuilt, and then audited again", || {
            let (status, _) = cell.status()?;
            let again = status["audits"]["sound"].as_u64().unwrap();
            if status["full_redundancy"] == true && again > sound { Ok(()) } else { Err(status.to_string()) }
        });
        assert!(std::fs::read(&path).unwrap() == before, "the very fragment");
    }
    let (status, code) = cell.status().unwrap();
    assert_eq!((code, &status["audits"]["found_wrong"], &status["audits"]["to_try_again"]), (0, &0.into(), &0.into()));
    assert!(cell.get("file").unwrap() == data);
}
