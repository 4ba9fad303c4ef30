//! The client against a cell in this process: real sockets, real transfers, and a daemon and nodes that do just enough.

use super::*;
use crate::files::source::ByteSource;
use crate::pack::{ListedFile, PackSource};
use crate::transport::{Handler, Replies, Server};
use ec_core::CodeSpec;
use ec_core::fragment::{BirthIdentity, ExtentRecord, Hash};
use ec_core::geometry::{BLOCK_BYTES, Geometry};
use indicatif::ProgressBar;
use repair_core::catalog::{NameRow, PgState};
use repair_core::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, StreamKey, Token};
use repair_core::node::{PeerId, RequestId};
use repair_core::wire::daemon::{ExtentEntry, Grant, NameEntry, Places, StoredName};
use repair_core::wire::node::{Place, StageKey};
use repair_core::wire::{NodeReply, NodeRequest};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

const NODES: u16 = 6;
const EXTENT_BYTES: u64 = 300_000;
const CELL: CellKey = CellKey(0x1234 << 112);

/// What daemon and nodes of the cell hold, and what is wrong with them.
#[derive(Default)]
struct World {
    addresses: Vec<String>,
    /// Payloads on their way, by node.
    stages: BTreeMap<(u16, StageKey), (u64, Vec<u8>)>,
    /// Who opened a stage, by node.
    owners: BTreeMap<(u16, StageKey), PeerId>,
    records: BTreeMap<ExtentKey, Bytes>,
    /// Payloads, and the CRCs of their blocks as they were written.
    fragments: BTreeMap<(ExtentKey, u16), (Vec<u8>, Vec<u32>)>,
    streams: BTreeMap<StreamKey, BTreeMap<u64, ExtentEntry>>,
    pending_names: BTreeMap<StreamKey, BTreeMap<u64, NameEntry>>,
    names: BTreeMap<Vec<u8>, NameRow>,
    given_up: Vec<StreamKey>,
    suspected: Vec<u16>,
    granted: u64,
    /// The daemon does not answer so many requests.
    busy: usize,
    /// This node answers no read.
    mute: Option<u16>,
    /// What the next that look a name up are told, though it is not so any more.
    outdated: Vec<NameRow>,
}

type Shared = Arc<Mutex<World>>;

fn code() -> CodeSpec {
    "rs:4+2".parse().unwrap()
}

struct Node {
    index: u16,
    world: Shared,
    replies: Replies<ToNode>,
}

impl Handler<ToNode> for Node {
    fn request(&self, peer: PeerId, id: RequestId, request: NodeRequest, body: Bytes) {
        let mut world = self.world.lock().unwrap();
        if let Some((reply, body)) = self.answer(&mut world, peer, request, body) {
            self.replies.send(peer, id, reply, body);
        }
    }

    fn gone(&self, peer: PeerId) {
        let mut world = self.world.lock().unwrap();
        let World { owners, stages, .. } = &mut *world;
        owners.retain(|stage, owner| {
            let stays = *owner != peer || stage.0 != self.index;
            if !stays {
                stages.remove(stage);
            }
            stays
        });
    }
}

impl Node {
    fn answer(&self, world: &mut World, peer: PeerId, request: NodeRequest, body: Bytes) -> Option<(NodeReply, Bytes)> {
        let reply = match request {
            NodeRequest::Stage { key, extent_bytes, .. } => {
                let shard_bytes = Geometry::new(extent_bytes, 4).shard_bytes();
                world.stages.insert((self.index, key), (extent_bytes, vec![0; shard_bytes as usize]));
                world.owners.insert((self.index, key), peer);
                NodeReply::StageOpen
            }
            NodeRequest::StageData { key, offset } => {
                let stage = &mut world.stages.get_mut(&(self.index, key))?.1;
                stage[offset as usize..][..body.len()].copy_from_slice(&body);
                NodeReply::StageTaken
            }
            NodeRequest::StageSeal { key } => {
                let payload = &world.stages.get(&(self.index, key))?.1;
                let root = identity(key.extent, key.index, payload).root(&Hash::of(payload));
                NodeReply::StageSealed { root: *root.as_bytes() }
            }
            NodeRequest::StageDrop { key } => {
                world.stages.remove(&(self.index, key));
                NodeReply::StageDropped
            }
            NodeRequest::Record { extent, .. } => match world.records.get(&extent) {
                Some(record) => return Some((NodeReply::Record, record.clone())),
                None => NodeReply::Refused(Refusal::NotFound),
            },
            NodeRequest::Read { .. } if world.mute == Some(self.index) => return None,
            NodeRequest::Read { fragment, offset, bytes } => {
                match world.fragments.get(&(fragment.extent, fragment.index)) {
                    Some((payload, crcs)) => return Some(data(payload, crcs, offset, bytes)),
                    None => NodeReply::Refused(Refusal::NotFound),
                }
            }
            other => NodeReply::Refused(Refusal::Invalid(format!("{other:?}"))),
        };
        Some((reply, Bytes::new()))
    }
}

fn data(payload: &[u8], crcs: &[u32], offset: u64, bytes: u32) -> (NodeReply, Bytes) {
    let (from, bytes) = (offset as usize, bytes as usize);
    let crcs = crcs[from / BLOCK_BYTES..][..bytes / BLOCK_BYTES].to_vec();
    (NodeReply::Data { crcs }, Bytes::copy_from_slice(&payload[from..][..bytes]))
}

fn identity(extent: ExtentKey, index: u16, payload: &[u8]) -> BirthIdentity {
    let index = ec_core::ShardIndex::new(index);
    BirthIdentity { cell: CELL.id(), extent: extent.id(), generation: 1, index, payload_bytes: payload.len() as u64 }
}

struct Coordinator {
    world: Shared,
    replies: Replies<ToDaemon>,
}

impl Handler<ToDaemon> for Coordinator {
    fn request(&self, peer: PeerId, id: RequestId, request: DaemonRequest, body: Bytes) {
        let mut world = self.world.lock().unwrap();
        let mut answer = Bytes::new();
        let reply = if world.busy > 0 {
            world.busy -= 1;
            DaemonReply::Refused(Refusal::Busy("starting".into()))
        } else if matches!(request, DaemonRequest::Status) {
            answer = Bytes::from_static(b"{\"schema\":1,\"risk\":false}");
            DaemonReply::Report
        } else {
            world.answer(request, body)
        };
        self.replies.send(peer, id, reply, answer);
    }

    fn gone(&self, _: PeerId) {}
}

impl World {
    fn place(&self, index: u16) -> Place {
        Place { disk: DiskId(u128::from(index) + 1), address: self.addresses[usize::from(index)].clone() }
    }

    fn answer(&mut self, request: DaemonRequest, body: Bytes) -> DaemonReply {
        match request {
            DaemonRequest::BeginPut { stream } => {
                let committed = self.streams.entry(stream).or_default().values().copied().collect();
                DaemonReply::PutBegun { extent_bytes: EXTENT_BYTES, committed, whole: false }
            }
            DaemonRequest::Allocate { .. } => {
                self.granted += 1;
                let token = Token { incarnation: 1, revision: 1, restore: 1, claim: ClaimId(1) };
                DaemonReply::Allocated(Grant {
                    cell: CELL,
                    extent: ExtentKey::compose(CELL, PgId(1), 1, self.granted),
                    attempt: AttemptId { claim: ClaimId(1), number: self.granted },
                    token,
                    code: code().to_descriptor(),
                    places: (0..NODES).map(|index| Some(self.place(index))).collect(),
                })
            }
            DaemonRequest::PutNames { stream, first, names } => {
                self.pending_names.entry(stream).or_default().extend((first..).zip(names));
                DaemonReply::NamesTaken
            }
            DaemonRequest::CommitExtent { stream, entry, attempt, end } => {
                // What is committed was staged, everywhere, over connections that still are.
                for index in 0..NODES {
                    let key = StageKey { attempt, extent: entry.extent, index };
                    let Some((_, payload)) = self.stages.remove(&(index, key)) else {
                        return DaemonReply::Again { reason: format!("node {index} has no stage") };
                    };
                    let seed = identity(entry.extent, index, &payload).seed();
                    let crcs =
                        (0u32..).zip(payload.chunks(BLOCK_BYTES)).map(|(at, block)| seed.crc(at, block)).collect();
                    self.fragments.insert((entry.extent, index), (payload, crcs));
                }
                self.records.insert(entry.extent, body);
                self.streams.entry(stream).or_default().insert(entry.ordinal, entry);
                if let Some(end) = end {
                    let names = self.pending_names.remove(&stream).unwrap_or_default();
                    assert_eq!((names.len() as u64, self.streams[&stream].len() as u64), (end.names, end.extents));
                    for NameEntry { name, offset, bytes } in names.into_values() {
                        self.names.insert(name, NameRow { stream, offset, bytes });
                    }
                }
                DaemonReply::Committed { degraded: false }
            }
            DaemonRequest::AbortPut { stream } => {
                self.given_up.push(stream);
                DaemonReply::PutAborted
            }
            DaemonRequest::Lookup { name } => match self.outdated.pop().as_ref().or(self.names.get(&name)) {
                Some(row) => DaemonReply::Found(*row),
                None => DaemonReply::Refused(Refusal::NotFound),
            },
            DaemonRequest::Extents { stream, offset } => {
                let extents = self.streams.get(&stream).into_iter().flat_map(BTreeMap::values);
                // One a page, so that there are pages.
                let mut rest = extents.filter(|entry| entry.offset + entry.bytes > offset).copied();
                let extents: Vec<_> = rest.next().into_iter().collect();
                DaemonReply::ExtentsPage { extents, more: rest.next().is_some() }
            }
            DaemonRequest::Locate { extent } => match self.records.get(&extent) {
                Some(record) => DaemonReply::Located(Places {
                    cell: CELL,
                    pg: PgId(1),
                    row: (1, 1),
                    state: PgState::Open,
                    hash: RecordHash::of(record),
                    slots: (0..NODES).map(|index| vec![self.place(index)]).collect(),
                }),
                None => DaemonReply::Refused(Refusal::NotFound),
            },
            DaemonRequest::Names { prefix, after } => {
                let mut rest = self
                    .names
                    .iter()
                    .filter(|(name, _)| name.starts_with(&prefix) && after.as_ref().is_none_or(|after| *name > after));
                let names = rest.by_ref().take(2).map(|(name, row)| StoredName { name: name.clone(), row: *row });
                DaemonReply::NamesPage { names: names.collect(), more: rest.next().is_some() }
            }
            DaemonRequest::RemoveIf { name, stream } => match self.names.get(&name) {
                Some(row) if row.stream == stream => {
                    self.names.remove(&name);
                    DaemonReply::Removed
                }
                _ => DaemonReply::Refused(Refusal::NotFound),
            },
            DaemonRequest::Suspect { fragment, .. } => {
                self.suspected.push(fragment.index);
                DaemonReply::Noted
            }
            other => DaemonReply::Refused(Refusal::Invalid(format!("{other:?}"))),
        }
    }
}

/// A cell with its servers, and a client of it.
struct Running {
    cell: Cell,
    world: Shared,
    _runtime: Runtime,
    home: tempfile::TempDir,
}

impl Running {
    fn new() -> Self {
        let world = Shared::default();
        let runtime = Runtime::new().unwrap();
        let address = runtime.block_on(async {
            for index in 0..NODES {
                let server = Server::<ToNode>::bind("127.0.0.1:0").await.unwrap();
                world.lock().unwrap().addresses.push(server.address().to_string());
                let node = Node { index, world: Arc::clone(&world), replies: server.replies() };
                tokio::spawn(server.serve(Arc::new(node)));
            }
            let server = Server::<ToDaemon>::bind("127.0.0.1:0").await.unwrap();
            let coordinator = Coordinator { world: Arc::clone(&world), replies: server.replies() };
            let address = server.address().to_string();
            tokio::spawn(server.serve(Arc::new(coordinator)));
            address
        });
        let cell = Cell::open(&address, Duration::from_secs(3), Arc::default()).unwrap();
        Self { cell, world, _runtime: runtime, home: tempfile::tempdir().unwrap() }
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Files of a folder, as a pack.
    fn pack(&self, files: &[(&str, usize)]) -> PackSource {
        let listed = files.iter().enumerate().map(|(at, (name, bytes))| {
            let path = self.home.path().join(format!("source-{at}"));
            fs::write(&path, content(at, *bytes)).unwrap();
            ListedFile::new(path, name.as_bytes().to_vec()).unwrap()
        });
        PackSource::new(listed.collect()).unwrap()
    }

    fn got(&self, name: &str) -> Result<Vec<u8>, FilesError> {
        let out = self.home.path().join("out");
        fetch(&self.cell, name.as_bytes(), &out, &ProgressBar::hidden())?;
        Ok(fs::read(out).unwrap())
    }
}

fn content(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at * 7 + at / 4096 + seed) % 251) as u8).collect()
}

/// Several extents; empty files; a file over a border.
const FILES: [(&str, usize); 6] =
    [("a", 10), ("b/c", 250_000), ("b/empty", 0), ("b/over", 100_000), ("d", 400_000), ("e", 1)];

fn put(running: &Running) -> PutSummary {
    let pack = running.pack(&FILES);
    let summary = running.cell.put_pack(b"dir", &pack, &ProgressBar::hidden()).unwrap();
    assert_eq!((summary.bytes, summary.degraded), (pack.bytes(), false));
    assert_eq!(summary.extents, pack.bytes().div_ceil(EXTENT_BYTES));
    summary
}

fn check_folder(out: &Path) {
    for (at, (name, bytes)) in FILES.iter().enumerate() {
        assert!(fs::read(out.join(name)).unwrap() == content(at, *bytes), "{name}");
    }
}

#[test]
fn a_folder_comes_back_as_a_whole_and_file_by_file() {
    let running = Running::new();
    put(&running);
    let out = running.home.path().join("back");
    let fetched = fetch(&running.cell, b"dir", &out, &ProgressBar::hidden()).unwrap();
    assert_eq!((fetched.files, fetched.bytes), (6, FILES.iter().map(|file| file.1 as u64).sum()));
    check_folder(&out);
    let inner = running.home.path().join("inner");
    assert_eq!(fetch(&running.cell, b"dir/b", &inner, &ProgressBar::hidden()).unwrap().files, 3);
    assert!(fs::read(inner.join("over")).unwrap() == content(3, 100_000));
    for (at, (name, bytes)) in FILES.iter().enumerate() {
        assert!(running.got(&format!("dir/{name}")).unwrap() == content(at, *bytes), "{name}");
    }
    // Connections of the put are gone, and with them nothing that was committed.
    assert!(running.world().stages.is_empty());
}

#[test]
fn one_file_of_any_length_comes_back_and_replaces_what_was_there() {
    let running = Running::new();
    for bytes in [0, 1, 4096, 299_999, 300_000, 300_001, 1_000_003] {
        let path = running.home.path().join("source");
        fs::write(&path, content(3, bytes)).unwrap();
        let source = crate::files::source::FileSource::open(&path).unwrap();
        running.cell.put_file(b"file", &source, &ProgressBar::hidden()).unwrap();
        assert!(running.got("file").unwrap() == content(3, bytes), "{bytes}");
    }
}

#[test]
fn a_name_that_is_put_over_while_it_is_read_is_read_again() {
    let running = Running::new();
    let put = |seed: usize| {
        let path = running.home.path().join("source");
        fs::write(&path, content(seed, 700_000)).unwrap();
        let source = crate::files::source::FileSource::open(&path).unwrap();
        running.cell.put_file(b"file", &source, &ProgressBar::hidden()).unwrap();
        running.world().names[b"file".as_slice()]
    };
    // Gone before its extents are asked for, and before they are read.
    for whole_stream in [true, false] {
        let old = put(1);
        put(2);
        {
            let mut world = running.world();
            let extents = world.streams[&old.stream].values().map(|entry| entry.extent).collect::<Vec<_>>();
            extents.iter().for_each(|extent| drop(world.records.remove(extent)));
            if whole_stream {
                world.streams.remove(&old.stream);
            }
            world.outdated = vec![old; 3];
        }
        assert!(running.got("file").unwrap() == content(2, 700_000));
        running.world().outdated = vec![old; 1_000];
        let error = running.got("file").unwrap_err();
        assert!(matches!(error, FilesError::Replaced(_)) && error.exit_code() == 1, "not for ever: {error}");
        running.world().outdated.clear();
    }
}

#[test]
fn names_are_listed_in_order_over_pages_and_removed() {
    let running = Running::new();
    put(&running);
    let names = |prefix: &str| -> Vec<String> {
        let names = running.cell.names(prefix.as_bytes()).unwrap();
        names.into_iter().map(|stored| String::from_utf8(stored.name).unwrap()).collect()
    };
    assert_eq!(names(""), ["dir/a", "dir/b/c", "dir/b/empty", "dir/b/over", "dir/d", "dir/e"]);
    assert_eq!(names("dir/b/"), ["dir/b/c", "dir/b/empty", "dir/b/over"]);
    assert!(running.cell.remove(b"dir/a").unwrap());
    assert!(!running.cell.remove(b"dir/a").unwrap());
    assert_eq!(names("dir/a").len(), 0);
    assert!(matches!(running.got("dir/a"), Err(FilesError::NoSuchName(_))));
    let out = running.home.path().join("none");
    let none = fetch(&running.cell, b"nothing", &out, &ProgressBar::hidden());
    assert!(matches!(none, Err(FilesError::NoSuchName(_))) && !out.exists());
}

#[test]
fn a_removal_takes_the_file_it_was_meant_for() {
    let running = Running::new();
    let old = NameRow { stream: StreamKey(1), offset: 0, bytes: 1 };
    put(&running);
    // Listed before it was put over.
    assert!(!running.cell.remove_stored(b"dir/a", &old).unwrap());
    assert!(running.world().names.contains_key(b"dir/a".as_slice()));
    // Put over between the look and the removal.
    running.world().outdated = vec![old; 2];
    assert!(running.cell.remove(b"dir/a").unwrap());
    assert!(!running.cell.remove(b"dir/a").unwrap());
    running.world().outdated = vec![old; 1_000];
    assert!(matches!(running.cell.remove(b"dir/d"), Err(FilesError::Cell(_))));
}

#[test]
fn lost_damaged_and_silent_fragments_are_made_up_for_and_too_many_are_told() {
    let running = Running::new();
    let stream = put(&running).stream;
    let extents: Vec<ExtentKey> = running.world().streams[&stream].values().map(|entry| entry.extent).collect();
    {
        let mut world = running.world();
        world.fragments.remove(&(extents[0], 0)).unwrap();
        let damaged = world.fragments.get_mut(&(extents[1], 1)).unwrap();
        damaged.0[5000] ^= 1;
        world.mute = Some(2);
    }
    let out = running.home.path().join("degraded");
    fetch(&running.cell, b"dir", &out, &ProgressBar::hidden()).unwrap();
    check_folder(&out);
    assert!(running.world().suspected.contains(&1));

    // One more than the code can lose; a file that was there stays as it was.
    running.world().fragments.retain(|(extent, index), _| *extent != extents[1] || *index > 2);
    let out = running.home.path().join("out");
    fs::write(&out, "before").unwrap();
    let error = running.got("dir/b/over").unwrap_err();
    assert!(matches!(error, FilesError::Unavailable(_)) && error.exit_code() == 1, "{error}");
    assert_eq!(fs::read(&out).unwrap(), b"before");
    let folder = running.home.path().join("gone");
    assert!(fetch(&running.cell, b"dir", &folder, &ProgressBar::hidden()).is_err() && !folder.exists());
    let left: Vec<_> = fs::read_dir(running.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".ninefold")), "{left:?}");
}

#[test]
fn a_source_that_changes_is_not_made_visible() {
    struct Changing(PackSource);
    impl ByteSource for Changing {
        fn bytes(&self) -> u64 {
            self.0.bytes()
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FilesError> {
            self.0.read_at(offset, buffer)
        }

        fn unchanged(&self) -> Result<(), FilesError> {
            Err(FilesError::Changed { path: "source".into() })
        }
    }
    let running = Running::new();
    let source = Changing(running.pack(&FILES));
    let put = running.cell.put_file(b"file", &source, &ProgressBar::hidden());
    assert!(matches!(put, Err(FilesError::Changed { .. })), "{put:?}");
    assert!(running.world().names.is_empty());
    assert_eq!(running.world().given_up.len(), 1);

    // One that cannot be read at all is told by its own error.
    let pack = running.pack(&FILES);
    fs::remove_file(running.home.path().join("source-1")).unwrap();
    let put = running.cell.put_pack(b"dir", &pack, &ProgressBar::hidden());
    assert!(matches!(put, Err(FilesError::Changed { .. })), "{put:?}");
    assert!(running.world().names.is_empty());
}

#[test]
fn a_busy_daemon_is_asked_again_and_an_absent_one_for_as_long_as_there_is_patience() {
    let running = Running::new();
    running.world().busy = 3;
    assert_eq!(running.cell.status().unwrap()["risk"], false);
    running.world().busy = usize::MAX;
    let began = Instant::now();
    let error = running.cell.status().unwrap_err();
    assert!(matches!(error, FilesError::Cell(_)) && error.exit_code() == 3, "{error}");
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&began.elapsed()));

    let absent = Cell::open("127.0.0.1:1", Duration::from_millis(300), Arc::default()).unwrap();
    assert!(matches!(absent.lookup(b"x"), Err(FilesError::Cell(_))));
}

#[test]
fn a_stop_ends_whatever_waits() {
    let running = Running::new();
    put(&running);
    let stop = Arc::new(AtomicBool::new(false));
    let cell = Cell::open(running.cell.address(), Duration::from_secs(60), Arc::clone(&stop)).unwrap();
    running.world().busy = usize::MAX;
    let began = Instant::now();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
    });
    let pack = running.pack(&FILES);
    let put = cell.put_pack(b"other", &pack, &ProgressBar::hidden());
    assert!(matches!(put, Err(FilesError::Interrupted)), "{put:?}");
    assert!(matches!(cell.status(), Err(FilesError::Interrupted)));
    assert!(began.elapsed() < Duration::from_secs(20));
    stopper.join().unwrap();
}

#[test]
fn records_say_what_was_put() {
    let running = Running::new();
    let summary = put(&running);
    let world = running.world();
    for (ordinal, entry) in &world.streams[&summary.stream] {
        let record = ExtentRecord::parse(&world.records[&entry.extent]).unwrap();
        assert_eq!(
            (record.stream, record.ordinal, record.name.as_slice()),
            (summary.stream.id(), *ordinal, &b"dir"[..])
        );
        assert_eq!(record.content, ec_core::fragment::Content::Pack);
        assert_eq!(record.stream_bytes, Some(summary.bytes));
    }
}

#[test]
fn a_daemon_that_takes_connections_and_never_answers_is_waited_for_as_long_as_there_is_patience() {
    // Never accepted from: the system takes the connections.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap().to_string();
    let cell = Cell::open(&address, Duration::from_millis(700), Arc::default()).unwrap();
    let began = Instant::now();
    assert!(matches!(cell.names(b""), Err(FilesError::Cell(_))));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
