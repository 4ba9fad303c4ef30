//! Writes the golden frames and rows of `testdata/wire-v1`: one file per variant of every message, as it travels, and one per
//! catalog row, as it is stored. `cargo run -p repair-core --example make_wire [DIR]`. A file that changes is a change of the
//! format: kept ones stay, new variants add new files.

use bytes::Bytes;
use ec_core::code::{CodeSpec, DESCRIPTOR_BYTES};
use repair_core::catalog::*;
use repair_core::id::*;
use repair_core::lineage::{Claim, Life, Lineage};
use repair_core::repair::Finding;
use repair_core::shape::Shape;
use repair_core::time::Millis;
use repair_core::wire::codec::{encode_message, encode_row};
use repair_core::wire::daemon::*;
use repair_core::wire::frame::{Envelope, FrameKind};
use repair_core::wire::node::*;
use repair_core::wire::{DaemonReply, DaemonRequest, NodeReply, NodeRequest, Refusal};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/wire-v1"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in files()? {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

/// A message by the name of its variant, with its body.
pub type Sample<M> = (&'static str, M, Bytes);

/// A file: its name and its bytes.
pub type File = (String, Vec<u8>);

/// Every file.
pub fn files() -> Result<Vec<File>, Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    frames(&mut files, FrameKind::NodeRequest, node_requests())?;
    frames(&mut files, FrameKind::NodeReply, node_replies())?;
    frames(&mut files, FrameKind::DaemonRequest, daemon_requests())?;
    frames(&mut files, FrameKind::DaemonReply, daemon_replies())?;
    files.push(("row-cell.bin".into(), encode_row(&cell_row())?));
    files.push(("row-disk.bin".into(), encode_row(&disk_row())?));
    files.push(("row-life.bin".into(), encode_row(&lineage())?));
    files.push(("row-audit.bin".into(), encode_row(&audit_row())?));
    files.push(("row-intent.bin".into(), encode_row(&intent_row())?));
    files.push(("row-pause.bin".into(), encode_row(&pause_row())?));
    files.push(("row-owner.bin".into(), encode_row(&OwnerRow { token: token() })?));
    files.push(("row-lease.bin".into(), encode_row(&lease_row())?));
    files.push(("row-pg.bin".into(), encode_row(&pg_row())?));
    files.push(("row-stream.bin".into(), encode_row(&stream_row())?));
    files.push(("row-name.bin".into(), encode_row(&name_row())?));
    Ok(files)
}

fn frames<M: Serialize>(
    files: &mut Vec<File>,
    kind: FrameKind,
    samples: Vec<Sample<M>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let prefix = match kind {
        FrameKind::NodeRequest => "node-request",
        FrameKind::NodeReply => "node-reply",
        FrameKind::DaemonRequest => "daemon-request",
        FrameKind::DaemonReply => "daemon-reply",
    };
    for (number, (name, message, body)) in samples.into_iter().enumerate() {
        let header = encode_message(&message)?;
        let envelope = Envelope::new(kind, 0x0123_4567_89ab_0000 + number as u64, &header, &body);
        files.push((format!("{prefix}-{name}.bin"), [&envelope.to_bytes()[..], &header, &body].concat()));
    }
    Ok(())
}

fn cell() -> CellKey {
    CellKey(0xabcd_0000_1111_2222_3333_4444_5555_6666)
}

fn extent() -> ExtentKey {
    ExtentKey::compose(cell(), PgId(7), 2, 0x1_2345)
}

fn stream() -> StreamKey {
    StreamKey(0x5757_0000_0000_0000_0000_0000_0000_0001)
}

fn hash(byte: u8) -> RecordHash {
    RecordHash([byte; 32])
}

fn disk(number: u128) -> DiskId {
    DiskId(0xd15c_0000_0000_0000_0000_0000_0000_0000 + number)
}

fn attempt() -> AttemptId {
    AttemptId { claim: ClaimId(0xc1a1), number: 9 }
}

fn token() -> Token {
    Token { incarnation: 2, revision: 33, restore: 0x4e57, claim: ClaimId(0xc1a1) }
}

fn code() -> [u8; DESCRIPTOR_BYTES] {
    // The descriptor of rs:4+2, by the fragment format.
    "rs:4+2".parse::<CodeSpec>().map_or([0; DESCRIPTOR_BYTES], |spec| spec.to_descriptor())
}

fn place(number: u128) -> Place {
    Place { disk: disk(number), address: format!("127.0.0.1:{}", 7000 + number) }
}

fn fragment() -> FragmentKey {
    FragmentKey { extent: extent(), generation: 1, index: 5 }
}

fn stage() -> StageKey {
    StageKey { attempt: attempt(), extent: extent(), index: 5 }
}

/// The row of a cell.
pub fn cell_row() -> CellRow {
    CellRow { cell: cell(), incarnation: 2, restore: 0x4e57, suspended: Some("disk 3 heard a later row".into()) }
}

/// What an audit found, of the extent in the key.
pub fn audit_row() -> (RecordHash, Finding) {
    (hash(0x21), Finding::Parity { fragments: vec![4, 260] })
}

/// What an operator wants of a disk.
pub fn intent_row() -> IntentRow {
    let drain = Some(DrainRow { leaves: true, drained: false });
    IntentRow { disk: disk(1), drain, window_left: Some(Millis(7_140_000)) }
}

/// A pause of repairs.
pub fn pause_row() -> PauseRow {
    PauseRow { above_margin: 1 }
}

/// Which daemon is in charge.
pub fn lease_row() -> LeaseRow {
    let claim = token().claim;
    LeaseRow { daemon: "10.0.0.7:7401".into(), claim, ttl: Millis(10_000), counter: 4_711, released: false }
}

/// The row of a disk.
pub fn disk_row() -> DiskRow {
    DiskRow { disk: disk(1), domain: "eu/a/r07/n3".into(), address: "127.0.0.1:7001".into() }
}

/// The row of a disk's lives.
pub fn lineage() -> Lineage {
    let before = Some(Life { number: 11, boot: 76 });
    Lineage { life: Life { number: 12, boot: 77 }, before, settled: true }
}

/// The row of a placement group with something of everything.
pub fn pg_row() -> PgRow {
    let entry = |seq, kind, byte| Entry { seq, kind, extent: extent(), hash: hash(byte), attempt: attempt() };
    PgRow {
        pg: PgId(7),
        incarnation: 2,
        seq: 41,
        epoch: 3,
        code: code(),
        members: (1..=6).map(disk).collect(),
        joining: BTreeMap::from([(2, disk(9))]),
        behind: BTreeSet::from([disk(3)]),
        state: PgState::Closed,
        crowded: false,
        next_id: 4096,
        count: 12,
        sum: Sum::of([&hash(0x21)]),
        trim: 30,
        entries: vec![entry(40, EntryKind::Create, 0x21), entry(41, EntryKind::Delete, 0x22)],
    }
}

/// The row of a stream.
pub fn stream_row() -> StreamRow {
    let extent = StreamExtentRow { extent: extent(), offset: 0, bytes: 1_000_003, names: 2 };
    StreamRow { stream: stream(), bytes: 1_000_003, extents: vec![extent], names: 2 }
}

/// The row of a name.
pub fn name_row() -> NameRow {
    NameRow { stream: stream(), offset: 4096, bytes: 77 }
}

fn authority() -> Box<Authority> {
    Box::new(Authority { token: token(), row: pg_row() })
}

fn listed() -> Vec<Listed> {
    vec![Listed { extent: extent(), hash: hash(0x21) }, Listed { extent: ExtentKey(1), hash: hash(0x23) }]
}

fn shapes() -> Vec<Shaped> {
    let shaped = |byte, generation, fragments, is_former| Shaped {
        extent: extent(),
        hash: hash(byte),
        shape: Shape { generation, fragments },
        is_former,
    };
    vec![shaped(0x21, 2 << 36 | 9, 3, false), shaped(0x27, 1, 6, true)]
}

fn payload() -> Bytes {
    (0..4096u32).map(|at| (at % 251) as u8).collect()
}

fn record() -> Bytes {
    Bytes::from_static(b"a record, verbatim")
}

/// Every question to a node, in the order of their tags.
pub fn node_requests() -> Vec<Sample<NodeRequest>> {
    let none = Bytes::new;
    let (authority, attempt, extent) = (authority(), attempt(), extent());
    let (key, fragment, pg) = (stage(), fragment(), PgId(7));
    let prepare = NodeRequest::Prepare {
        authority: authority.clone(),
        attempt,
        kind: EntryKind::Create,
        extent,
        hash: hash(0x21),
    };
    let tombstones = vec![Tombstone { extent, seq: 39 }];
    let adopt = NodeRequest::Adopt { authority: authority.clone(), page: 1, last: true, listed: listed(), tombstones };
    let begin =
        NodeRequest::Stage { token: token(), cell: cell(), key, generation: 1, code: code(), extent_bytes: 1_000_003 };
    let keep = NodeRequest::StageKeep {
        token: token(),
        cell: cell(),
        key,
        generation: 1,
        code: code(),
        extent_bytes: 1_000_003,
    };
    let prepare_as = |kind, hash| NodeRequest::Prepare { authority: authority.clone(), attempt, kind, extent, hash };
    let (succeed, release) = (prepare_as(EntryKind::Supersede, hash(0x26)), prepare_as(EntryKind::Release, hash(0x21)));
    let adopt_shaped = NodeRequest::AdoptShaped {
        authority: authority.clone(),
        page: 0,
        last: false,
        listed: listed(),
        tombstones: vec![],
        shapes: shapes(),
    };
    vec![
        ("fence", NodeRequest::Fence { authority: authority.clone() }, none()),
        ("hear", NodeRequest::Hear { authority: authority.clone() }, none()),
        ("prepare", prepare, record()),
        ("abort", NodeRequest::Abort { authority: authority.clone(), attempt }, none()),
        ("adopt", adopt, none()),
        ("list", NodeRequest::List { pg, after: Some(extent) }, none()),
        ("holdings", NodeRequest::Holdings { pg, after: Some(fragment) }, none()),
        ("stage", begin, none()),
        ("stage-data", NodeRequest::StageData { key, offset: 8192 }, payload()),
        ("stage-seal", NodeRequest::StageSeal { key }, none()),
        ("stage-drop", NodeRequest::StageDrop { key }, none()),
        ("publish", NodeRequest::Publish { authority: authority.clone(), key }, record()),
        ("retire", NodeRequest::Retire { authority }, none()),
        ("read", NodeRequest::Read { fragment, offset: 8192, bytes: 4096 }, none()),
        ("record", NodeRequest::Record { extent, hash: hash(0x21) }, none()),
        ("check", NodeRequest::Check { fragment }, none()),
        ("scrub", NodeRequest::Scrub, none()),
        ("info", NodeRequest::Info, none()),
        ("door", NodeRequest::Door, none()),
        ("combine", combine(), none()),
        ("digest", NodeRequest::Digest { pg }, none()),
        ("health", NodeRequest::Health, none()),
        ("stage-keep", keep, none()),
        ("prepare-supersede", succeed, record()),
        ("prepare-release", release, none()),
        ("adopt-shaped", adopt_shaped, none()),
    ]
}

fn combine() -> NodeRequest {
    let hop = |number: u16| Hop {
        place: place(u128::from(number)),
        fragment: FragmentKey { index: number, ..fragment() },
        coefficients: vec![7, number as u8],
    };
    let (field, patience) = (Field::Gf256, Millis(4500));
    NodeRequest::Combine { field, offset: 8192, bytes: 4096, patience, hops: vec![hop(1), hop(2)] }
}

/// Every answer of a node, in the order of their tags.
pub fn node_replies() -> Vec<Sample<NodeReply>> {
    let none = Bytes::new;
    let prepared = Prepared { attempt: attempt(), kind: EntryKind::Create, extent: extent(), hash: hash(0x24) };
    let head = Head { heard: (2, 41), count: 12, sum: Sum::of([&hash(0x21)]), level: true, prepared: vec![prepared] };
    let holding = Holding { fragment: fragment(), damaged: true };
    let info = NodeReply::Info { cell: Some(cell()), disk: disk(1), boot: 77, extents: 5, free_bytes: 1 << 40 };
    let mut samples = vec![
        ("refused-not-found", NodeReply::Refused(Refusal::NotFound), none()),
        ("heard", NodeReply::Heard(head), none()),
        ("adopted-page", NodeReply::AdoptedPage, none()),
        ("prepared", NodeReply::Prepared { attempt: attempt() }, none()),
        ("aborted", NodeReply::Aborted { attempt: attempt() }, none()),
        ("list-page", NodeReply::ListPage { heard: (2, 41), listed: listed(), more: true }, none()),
        ("holdings-page", NodeReply::HoldingsPage { holdings: vec![holding], more: false }, none()),
        ("stage-open", NodeReply::StageOpen, none()),
        ("stage-taken", NodeReply::StageTaken, none()),
        ("stage-sealed", NodeReply::StageSealed { root: [0x31; 32] }, none()),
        ("stage-dropped", NodeReply::StageDropped, none()),
        ("published", NodeReply::Published, none()),
        ("retired", NodeReply::Retired { files: 3, more: true }, none()),
        ("data", NodeReply::Data { crcs: vec![0x1234_5678] }, payload()),
        ("record", NodeReply::Record, record()),
        ("checked", NodeReply::Checked { class: "rot".into(), healthy: false }, none()),
        ("scrubbing", NodeReply::Scrubbing, none()),
        ("info", info, none()),
    ];
    samples.extend(refusals().into_iter().map(|(name, refusal)| (name, NodeReply::Refused(refusal), none())));
    // Behind them, since frames are numbered in this order and those were there before.
    samples.push(("door", NodeReply::Door { folder: "/disks/1".into() }, none()));
    samples.push(("combined", NodeReply::Combined, payload()));
    let refusal = Refusal::Damaged("block 2".into());
    samples.push(("hop-failed", NodeReply::HopFailed { disk: disk(2), fragment: fragment(), refusal }, none()));
    samples.push(("digest", NodeReply::Digest { heard: (2, 41), count: 12, sum: Sum::of([&hash(0x25)]) }, none()));
    samples.push(("health", NodeReply::Health(Box::new(health())), none()));
    let page = NodeReply::ShapedPage { heard: (2, 41), listed: listed(), shapes: shapes(), more: false };
    samples.push(("stage-kept", NodeReply::StageKept { written: vec![(0, 4096), (16_384, 65_536)] }, none()));
    samples.push(("shaped-page", page, none()));
    samples
}

/// Every refusal but the first, in the order of their tags.
pub fn refusals() -> Vec<(&'static str, Refusal)> {
    let why = || "why it is so".to_owned();
    vec![
        ("refused-unavailable", Refusal::Unavailable(why())),
        ("refused-damaged", Refusal::Damaged(why())),
        ("refused-fenced", Refusal::Fenced(why())),
        ("refused-old-row", Refusal::OldRow(why())),
        ("refused-fork", Refusal::Fork(why())),
        ("refused-behind", Refusal::Behind(why())),
        ("refused-no-space", Refusal::NoSpace(why())),
        ("refused-busy", Refusal::Busy(why())),
        ("refused-not-staged", Refusal::NotStaged(why())),
        ("refused-root-mismatch", Refusal::RootMismatch(why())),
        ("refused-aborted", Refusal::Aborted),
        ("refused-wrong-cell", Refusal::WrongCell(why())),
        ("refused-duplicate", Refusal::Duplicate(why())),
        ("refused-invalid", Refusal::Invalid(why())),
        ("refused-store", Refusal::Store(why())),
        ("refused-no-place", Refusal::NoPlace(why())),
        ("refused-not-owner", Refusal::NotOwner(why())),
    ]
}

fn entry() -> ExtentEntry {
    ExtentEntry { ordinal: 0, extent: extent(), offset: 0, bytes: 1_000_003 }
}

fn names() -> Vec<NameEntry> {
    vec![NameEntry { name: b"a/b".to_vec(), offset: 0, bytes: 5 }, NameEntry { name: vec![0xff], offset: 5, bytes: 0 }]
}

fn faults() -> Vec<FaultCount> {
    vec![FaultCount { kind: "sync_error".into(), count: 2, last_ago: Millis(1_500) }]
}

fn service() -> Vec<ServiceTime> {
    vec![ServiceTime { kind: "journal".into(), count: 900, mean_us: 4_200 }]
}

fn faults_told() -> DaemonRequest {
    DaemonRequest::Faults { disk: disk(1), boot: 77, faults: faults(), service: service(), quarantined: 3 }
}

fn health() -> NodeHealth {
    NodeHealth {
        state: NodeState::ReadOnly { reason: "cannot force a journal to the disk".into() },
        faults: faults(),
        service: service(),
        free_bytes: 1 << 40,
        total_bytes: 1 << 41,
        stages: 4,
        quarantined: 3,
        scrub_groups_left: Some(5),
        scrub_ended_ago: Some(Millis(60_000)),
    }
}

fn register_life() -> DaemonRequest {
    DaemonRequest::RegisterLife {
        disk: disk(1),
        cell: Some(cell()),
        domain: "eu/a/r07/n3".into(),
        address: "127.0.0.1:7001".into(),
        free_bytes: 1 << 40,
        total_bytes: 1 << 41,
        claim: Claim { had: Some(Life { number: 11, boot: 76 }), life: Life { number: 12, boot: 77 } },
    }
}

/// Every question to the daemon, in the order of their tags.
pub fn daemon_requests() -> Vec<Sample<DaemonRequest>> {
    let (stream, extent, attempt) = (stream(), extent(), attempt());
    let register = DaemonRequest::Register {
        disk: disk(1),
        cell: None,
        domain: "eu/a/r07/n3".into(),
        address: "127.0.0.1:7001".into(),
        boot: 77,
        free_bytes: 1 << 40,
        total_bytes: 1 << 41,
    };
    let damaged = vec![DamageReport { fragment: fragment(), class: "torn".into() }];
    let end = EndOfStream { extents: 1, bytes: 1_000_003, names: 2 };
    let suspect = DaemonRequest::Suspect { disk: disk(1), fragment: fragment(), reason: "block 3".into() };
    let explain = |subject| DaemonRequest::Explain { subject };
    let broken = Some("cannot force a journal to the disk".into());
    let samples = vec![
        ("register", register),
        ("beat", DaemonRequest::Beat { disk: disk(1), boot: 77, free_bytes: 1 << 40, broken, damaged }),
        ("ask", DaemonRequest::Ask { pg: PgId(7), attempt }),
        ("begin-put", DaemonRequest::BeginPut { stream }),
        ("allocate", DaemonRequest::Allocate { stream, ordinal: 0, bytes: 1_000_003 }),
        ("commit-extent", DaemonRequest::CommitExtent { stream, entry: entry(), attempt, end: Some(end) }),
        ("put-names", DaemonRequest::PutNames { stream, first: 0, names: names() }),
        ("abort-put", DaemonRequest::AbortPut { stream }),
        ("lookup", DaemonRequest::Lookup { name: b"a/b".to_vec() }),
        ("extents", DaemonRequest::Extents { stream, offset: 4096 }),
        ("locate", DaemonRequest::Locate { extent }),
        ("names", DaemonRequest::Names { prefix: b"a/".to_vec(), after: Some(b"a/b".to_vec()) }),
        ("remove", DaemonRequest::Remove { name: b"a/b".to_vec() }),
        ("suspect", suspect),
        ("status", DaemonRequest::Status),
        ("explain-extent", explain(Subject::Extent(extent))),
        ("events", DaemonRequest::Events { after: 12 }),
        ("scrub", DaemonRequest::Scrub),
        ("explain-pg", explain(Subject::Pg(PgId(7)))),
        ("explain-node", explain(Subject::Node("n3".into()))),
        ("explain-disk", explain(Subject::Disk(disk(1)))),
        ("remove-if", DaemonRequest::RemoveIf { name: b"a/b".to_vec(), stream }),
        ("register-life", register_life()),
        ("faults", faults_told()),
        ("audit", DaemonRequest::Audit { subject: None }),
        ("audit-extent", DaemonRequest::Audit { subject: Some(Subject::Extent(extent)) }),
        ("drain", DaemonRequest::Drain { node: "n3".into(), leaves: true }),
        ("cancel-drain", DaemonRequest::CancelDrain { node: "eu/a/r07/n3".into() }),
        ("maintain", DaemonRequest::Maintain { node: "n3".into(), span: Some(Millis(7_200_000)) }),
        ("can-stop", DaemonRequest::CanStop { nodes: vec!["n3".into(), "eu/a/r08".into()] }),
        ("pause-repairs", DaemonRequest::PauseRepairs { paused: true }),
        ("plan-repairs", DaemonRequest::PlanRepairs),
        ("drill", DaemonRequest::Drill { nodes: vec!["n3".into()] }),
    ];
    let body = |name: &str| if name == "commit-extent" { record() } else { Bytes::new() };
    samples.into_iter().map(|(name, message)| (name, message, body(name))).collect()
}

/// Every answer of the daemon, in the order of their tags.
pub fn daemon_replies() -> Vec<Sample<DaemonReply>> {
    let places = vec![Some(place(1)), None];
    let grant = Grant { cell: cell(), extent: extent(), attempt: attempt(), token: token(), code: code(), places };
    let places = Places {
        cell: cell(),
        pg: PgId(7),
        row: (2, 41),
        state: PgState::Frozen,
        hash: hash(0x21),
        slots: vec![vec![place(1), place(9)], vec![]],
    };
    let samples = vec![
        ("refused-not-found", DaemonReply::Refused(Refusal::NotFound)),
        ("welcome", DaemonReply::Welcome { cell: cell(), beat_every: Millis(3000) }),
        ("beat-taken", DaemonReply::BeatTaken),
        ("register-first", DaemonReply::RegisterFirst),
        ("attempt-committed", DaemonReply::AttemptState(AttemptState::Committed)),
        ("put-begun", DaemonReply::PutBegun { extent_bytes: 1 << 28, committed: vec![entry()], whole: false }),
        ("allocated", DaemonReply::Allocated(grant)),
        ("committed", DaemonReply::Committed { degraded: true }),
        ("again", DaemonReply::Again { reason: "a member is away".into() }),
        ("names-taken", DaemonReply::NamesTaken),
        ("put-aborted", DaemonReply::PutAborted),
        ("found", DaemonReply::Found(name_row())),
        ("extents-page", DaemonReply::ExtentsPage { extents: vec![entry()], more: true }),
        ("located", DaemonReply::Located(places)),
        (
            "names-page",
            DaemonReply::NamesPage { names: vec![StoredName { name: b"a/b".to_vec(), row: name_row() }], more: false },
        ),
        ("removed", DaemonReply::Removed),
        ("noted", DaemonReply::Noted),
        ("report", DaemonReply::Report),
        ("attempt-aborted", DaemonReply::AttemptState(AttemptState::Aborted)),
        ("attempt-live", DaemonReply::AttemptState(AttemptState::Live)),
        ("welcome-as", DaemonReply::WelcomeAs { cell: cell(), beat_every: Millis(3000), life_number: 18 }),
    ];
    let body = |name: &str| if name == "report" { Bytes::from_static(b"{\"schema\":1}") } else { Bytes::new() };
    samples.into_iter().map(|(name, message)| (name, message, body(name))).collect()
}
