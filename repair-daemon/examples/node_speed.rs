//! How fast a node takes fragments beside plain writes, here and over the same transport, gives pieces of them beside plain reads over the
//! same transport, and judges them beside plain reads from the device:
//! `cargo run --release -p repair-daemon --bin ninefold --example node_speed [FOLDER]`.
//!
//! All sides take turns, on the same file system, and keep what they wrote to the end: many devices are slower where nobody has written yet.
//! What is printed is the ratio of each turn: its median, and the least and the most.

use bytes::{Bytes, BytesMut};
use ec_core::buffer::AlignedBuffer;
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, StreamId};
use ec_core::geometry::BLOCK_BYTES;
use ec_core::{CodeSpec, ShardIndex};
use repair_core::catalog::{EntryKind, PgRow, PgState};
use repair_core::id::{AttemptId, CellKey, ClaimId, DiskId, ExtentKey, PgId, RecordHash, Sum, Token};
use repair_core::node::{PeerId, RequestId};
use repair_core::wire::node::{Authority, FragmentKey, StageKey};
use repair_core::wire::{NodeReply, NodeRequest};
use repair_daemon::store::{DiskStore, Unlabelled};
use repair_daemon::transport::{Connection, Handler, Replies, Server, ToNode};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CELL: CellKey = CellKey(0xce11 << 112 | 5);
const PG: PgId = PgId(3);
const INDEX: u16 = 2;
const FRAGMENT_BYTES: usize = 64 << 20;
const SLICE_BYTES: usize = 1 << 20;
/// Slices sent before the first is acknowledged, as clients do it.
const SLICES_IN_FLIGHT: usize = 4;
const PUT_ROUNDS: usize = 9;
const READ_ROUNDS: usize = 9;
const CHECK_ROUNDS: usize = 9;
/// Fragments judged in one round.
const CHECKED: usize = 4;
const READS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match &arguments[..] {
        [word, file] if word == "--plain" => runtime.block_on(serve_plain(Path::new(file))),
        [] => runtime.block_on(measure(&std::env::temp_dir())),
        [folder] => runtime.block_on(measure(Path::new(folder))),
        _ => Err("at most a folder".into()),
    }
}

/// A process that ends with this one, and the address it said it listens on.
struct Served {
    child: Child,
    connection: Connection<ToNode>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    async fn start(command: &mut Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let stderr = child.stderr.take().ok_or("no standard error")?;
        BufReader::new(stderr).read_line(&mut line)?;
        let address = line.trim_end().rsplit(' ').next().unwrap_or_default();
        let connection = Connection::open(address, PATIENCE).await.map_err(|error| format!("{line}: {error}"))?;
        Ok(Self { child, connection })
    }

    async fn ask(&self, request: &NodeRequest, body: Bytes) -> Outcome<NodeReply> {
        Ok(self.connection.call(request, body, PATIENCE).await?.0)
    }
}

/// Answers reads from one open file and writes what comes into new ones beside it, in the task that reads the connection: the least that can
/// be done.
struct Plain {
    file: File,
    path: PathBuf,
    written: Mutex<Vec<File>>,
    replies: Replies<ToNode>,
}

impl Plain {
    fn write(&self, request: &NodeRequest, body: &[u8]) -> Outcome<NodeReply> {
        let mut written = self.written.lock().map_err(|_| "a writer failed")?;
        let count = written.len();
        match request {
            NodeRequest::Stage { .. } => {
                written.push(File::create_new(self.path.with_extension(count.to_string()))?);
                return Ok(NodeReply::StageOpen);
            }
            NodeRequest::StageData { offset, .. } => {
                written.last().ok_or("no file")?.write_all_at(body, *offset)?;
                return Ok(NodeReply::StageTaken);
            }
            NodeRequest::StageSeal { .. } => written.last().ok_or("no file")?.sync_data()?,
            _ => return Err("not a write".into()),
        }
        Ok(NodeReply::StageSealed { root: [0; 32] })
    }
}

impl Handler<ToNode> for Plain {
    fn request(&self, peer: PeerId, id: RequestId, request: NodeRequest, body: Bytes) {
        let NodeRequest::Read { offset, bytes, .. } = request else {
            // Not answered, it is missed in time.
            return self
                .write(&request, &body)
                .into_iter()
                .for_each(|reply| self.replies.send(peer, id, reply, Bytes::new()));
        };
        let mut body = BytesMut::zeroed(bytes as usize);
        if self.file.read_exact_at(&mut body, offset).is_ok() {
            let crcs = vec![0; bytes as usize / BLOCK_BYTES];
            self.replies.send(peer, id, NodeReply::Data { crcs }, body.freeze());
        }
    }

    fn gone(&self, _peer: PeerId) {}
}

async fn serve_plain(file: &Path) -> Outcome<()> {
    let server = Server::<ToNode>::bind("127.0.0.1:0").await?;
    eprintln!("listening on {}", server.address());
    let (path, written) = (file.to_owned(), Mutex::default());
    let plain = Plain { file: File::open(file)?, path, written, replies: server.replies() };
    server.serve(Arc::new(plain)).await;
    Ok(())
}

/// The owner of a group that the node is in, and the fragment that it is to keep again and again under other names.
struct Owner {
    authority: Box<Authority>,
    payload: Bytes,
}

fn code() -> CodeSpec {
    "rs:4+2".parse().expect("a code of the grammar")
}

impl Owner {
    fn of(disk: DiskId) -> Self {
        let row = PgRow {
            pg: PG,
            incarnation: 1,
            seq: 1,
            epoch: 1,
            code: code().to_descriptor(),
            members: (0..6).map(|at| if at == INDEX { disk } else { DiskId(u128::from(at) + 1) }).collect(),
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
        let token = Token { incarnation: 1, revision: 1, restore: 9, claim: ClaimId(7) };
        let payload: Vec<u8> = (0..FRAGMENT_BYTES).map(|at| ((at * 31) >> 3) as u8 ^ (at >> 17) as u8).collect();
        Self { authority: Box::new(Authority { token, row }), payload: payload.into() }
    }

    fn record(&self, extent: ExtentKey, hash: &Hash) -> Outcome<Bytes> {
        let entry = |index| {
            let identity = BirthIdentity {
                cell: CELL.id(),
                extent: extent.id(),
                generation: 1,
                index: ShardIndex::new(index),
                payload_bytes: FRAGMENT_BYTES as u64,
            };
            FragmentEntry { identity, root: identity.root(hash) }
        };
        let extent_bytes = 4 * FRAGMENT_BYTES as u64;
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
        Ok(record.to_bytes()?.into())
    }

    /// Sends a payload and has it made durable.
    async fn stage(&self, node: &Served, key: StageKey) -> Outcome<()> {
        let stage = NodeRequest::Stage {
            token: self.authority.token,
            cell: CELL,
            key,
            generation: 1,
            code: code().to_descriptor(),
            extent_bytes: 4 * FRAGMENT_BYTES as u64,
        };
        expect(node.ask(&stage, Bytes::new()).await?, |reply| matches!(reply, NodeReply::StageOpen))?;
        let tasks: Vec<_> = (0..SLICES_IN_FLIGHT).map(|first| self.send_slices(node, key, first)).collect();
        for task in tasks {
            task.await??;
        }
        let sealed = node.ask(&NodeRequest::StageSeal { key }, Bytes::new()).await?;
        expect(sealed, |reply| matches!(reply, NodeReply::StageSealed { .. }))
    }

    fn key(&self, number: u64) -> StageKey {
        let attempt = AttemptId { claim: self.authority.token.claim, number };
        StageKey { attempt, extent: ExtentKey::compose(CELL, PG, 1, number), index: INDEX }
    }

    /// Stages a fragment and has it prepared: durable, under its name, in the journal.
    async fn put(&self, node: &Served, number: u64, hash: &Hash) -> Outcome<FragmentKey> {
        let key = self.key(number);
        self.stage(node, key).await?;
        let (attempt, extent) = (key.attempt, key.extent);
        let record = self.record(extent, hash)?;
        let prepare = NodeRequest::Prepare {
            authority: self.authority.clone(),
            attempt,
            kind: EntryKind::Create,
            extent,
            hash: RecordHash::of(&record),
        };
        expect(node.ask(&prepare, record).await?, |reply| matches!(reply, NodeReply::Prepared { .. }))?;
        Ok(FragmentKey { extent, generation: 1, index: INDEX })
    }

    fn send_slices(&self, node: &Served, key: StageKey, first: usize) -> tokio::task::JoinHandle<Outcome<()>> {
        let (connection, payload) = (node.connection.clone(), self.payload.clone());
        tokio::spawn(async move {
            for offset in (first * SLICE_BYTES..FRAGMENT_BYTES).step_by(SLICES_IN_FLIGHT * SLICE_BYTES) {
                let piece = payload.slice(offset..offset + SLICE_BYTES);
                let data = NodeRequest::StageData { key, offset: offset as u64 };
                let (reply, _) = connection.call(&data, piece, PATIENCE).await?;
                expect(reply, |reply| matches!(reply, NodeReply::StageTaken))?;
            }
            Ok(())
        })
    }
}

fn expect(reply: NodeReply, is_it: impl Fn(&NodeReply) -> bool) -> Outcome<()> {
    if is_it(&reply) { Ok(()) } else { Err(format!("{reply:?}").into()) }
}

/// Seconds that the same bytes take without any of it.
fn write_plain(path: &Path, payload: &[u8]) -> Outcome<f64> {
    let began = Instant::now();
    let mut file = File::create_new(path)?;
    for piece in payload.chunks(SLICE_BYTES) {
        file.write_all(piece)?;
    }
    file.sync_data()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds that so many reads of a block take, at places that dice would choose.
async fn read(served: &Served, fragment: FragmentKey, in_flight: usize) -> Outcome<f64> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let connection = served.connection.clone();
            tokio::spawn(async move {
                for at in (task..READS).step_by(in_flight) {
                    let block = at.wrapping_mul(2_654_435_761) % (FRAGMENT_BYTES / BLOCK_BYTES);
                    let offset = (block * BLOCK_BYTES) as u64;
                    let request = NodeRequest::Read { fragment, offset, bytes: BLOCK_BYTES as u32 };
                    let (reply, body) = connection.call(&request, Bytes::new(), PATIENCE).await?;
                    expect(reply, |reply| matches!(reply, NodeReply::Data { .. }) && body.len() == BLOCK_BYTES)?;
                }
                Outcome::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn report(what: &str, mut ratios: Vec<f64>, unit: &str, ours: f64, plain: f64) {
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    println!("{what:<34} {median:.2} ({least:.2} to {most:.2}); best {ours:.1} and {plain:.1} {unit}");
}

async fn measure(below: &Path) -> Outcome<()> {
    let folder = tempfile::tempdir_in(below)?;
    let data = folder.path().join("disk");
    let store = DiskStore::open(&data, Unlabelled::Format)?;
    let disk = store.disk();
    store.set_cell(CELL)?;
    drop(store);
    let me = std::env::current_exe()?;
    let bin: PathBuf = me.parent().and_then(Path::parent).ok_or("not in a target folder")?.join("ninefold");
    let mut command = Command::new(bin);
    command.args([
        "node",
        "--listen",
        "127.0.0.1:0",
        "--domain",
        "eu/a/r1/n1",
        "--daemon",
        "127.0.0.1:1",
        "--insecure",
    ]);
    let node = Served::start(command.args(["--scrub-period", "0"]).arg("--data").arg(&data)).await?;
    let owner = Owner::of(disk);
    let fence = NodeRequest::Fence { authority: owner.authority.clone() };
    expect(node.ask(&fence, Bytes::new()).await?, |reply| matches!(reply, NodeReply::Heard(_)))?;
    let hash = Hash::of(&owner.payload);
    println!("a node beside plain files in {}", below.display());
    let plain_file = folder.path().join("plain");
    write_plain(&plain_file, &owner.payload)?;
    let plain = Served::start(Command::new(me).arg("--plain").arg(&plain_file)).await?;
    let fragments = measure_puts([&node, &plain], &owner, &hash, folder.path()).await?;
    measure_checks(&node, &fragments, &owner, folder.path()).await?;
    let fragment = fragments[0];

    for in_flight in [1, 16] {
        let (mut ratios, mut best) = (Vec::new(), (f64::MAX, f64::MAX));
        for _ in 0..READ_ROUNDS {
            let (ours, theirs) = (read(&node, fragment, in_flight).await?, read(&plain, fragment, in_flight).await?);
            ratios.push(ours / theirs);
            best = (best.0.min(ours), best.1.min(theirs));
        }
        let each = |seconds: f64| seconds * 1e6 / READS as f64;
        let what = format!("time of 4 KiB reads, {in_flight} in flight");
        report(&what, ratios, "us each", each(best.0), each(best.1));
    }
    Ok(())
}

/// Seconds that a scrub takes over these: it has one checked after the other.
async fn check(node: &Served, fragments: &[FragmentKey]) -> Outcome<f64> {
    let began = Instant::now();
    for fragment in fragments {
        let reply = node.ask(&NodeRequest::Check { fragment: *fragment }, Bytes::new()).await?;
        expect(reply, |reply| matches!(reply, NodeReply::Checked { healthy: true, .. }))?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Seconds that it takes to read these files from the device, one slice after the other.
fn read_direct(paths: &[PathBuf]) -> Outcome<f64> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
    let mut buffer = AlignedBuffer::zeroed(SLICE_BYTES)?;
    let began = Instant::now();
    for path in paths {
        let file = File::options().read(true).custom_flags(direct).open(path)?;
        for offset in (0..FRAGMENT_BYTES).step_by(SLICE_BYTES) {
            file.read_exact_at(&mut buffer, offset as u64)?;
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

async fn measure_checks(node: &Served, fragments: &[FragmentKey], owner: &Owner, folder: &Path) -> Outcome<()> {
    let paths: Vec<PathBuf> = (0..fragments.len()).map(|number| folder.join(format!("direct-{number}"))).collect();
    for path in &paths {
        write_plain(path, &owner.payload)?;
    }
    let (mut ratios, mut best) = (Vec::new(), (f64::MAX, f64::MAX));
    for _ in 0..CHECK_ROUNDS {
        let (theirs, ours) = (read_direct(&paths)?, check(node, fragments).await?);
        ratios.push(theirs / ours);
        best = (best.0.min(ours), best.1.min(theirs));
    }
    let rate = |seconds: f64| (fragments.len() * FRAGMENT_BYTES) as f64 / seconds / 1e6;
    report("speed of a scrub, 64 MiB each", ratios, "MB/s", rate(best.0), rate(best.1));
    Ok(())
}

/// Those put last.
async fn measure_puts(
    [node, plain]: [&Served; 2],
    owner: &Owner,
    hash: &Hash,
    folder: &Path,
) -> Outcome<Vec<FragmentKey>> {
    let mut ratios = [Vec::new(), Vec::new()];
    let mut best = [f64::MAX; 3];
    let mut fragments = vec![owner.put(node, 1, hash).await?];
    for round in 0..PUT_ROUNDS {
        let here = write_plain(&folder.join(format!("here-{round}")), &owner.payload)?;
        let began = Instant::now();
        fragments.push(owner.put(node, round as u64 + 2, hash).await?);
        let ours = began.elapsed().as_secs_f64();
        let began = Instant::now();
        owner.stage(plain, owner.key(round as u64)).await?;
        let there = began.elapsed().as_secs_f64();
        for (ratios, theirs) in ratios.iter_mut().zip([here, there]) {
            ratios.push(theirs / ours);
        }
        for (best, seconds) in best.iter_mut().zip([ours, here, there]) {
            *best = best.min(seconds);
        }
    }
    let rate = |seconds: f64| FRAGMENT_BYTES as f64 / seconds / 1e6;
    let [ours, here, there] = best.map(rate);
    let [beside_here, beside_there] = ratios;
    report("puts of 64 MiB, plain writes here", beside_here, "MB/s", ours, here);
    report("  plain writes over the transport", beside_there, "MB/s", ours, there);
    Ok(fragments.split_off(fragments.len() - CHECKED))
}
