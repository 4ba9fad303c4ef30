//! How fast the store of a node takes fragments and judges them, without a network, beside plain files on the same file system:
//! `cargo run --release -p repair-daemon --example store_speed [FOLDER]`.
//!
//! Both sides take turns and keep what they wrote to the end. What is printed is the ratio of each turn: its median, and the least and the
//! most.

use ec_core::buffer::AlignedBuffer;
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, Header, StreamId};
use ec_core::{CodeSpec, ShardIndex};
use repair_core::id::{AttemptId, CellKey, ClaimId, ExtentKey, PgId};
use repair_core::node::{Body, StoreCall, StoreOk};
use repair_core::wire::node::{FragmentKey, StageKey};
use repair_daemon::store::{DiskStore, Unlabelled};
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CELL: CellKey = CellKey(0xce11 << 112 | 5);
const PG: PgId = PgId(3);
const INDEX: u16 = 2;
const FRAGMENT_BYTES: usize = 64 << 20;
const EXTENT_BYTES: u64 = 4 * FRAGMENT_BYTES as u64;
const SLICE_BYTES: usize = 1 << 20;
/// Threads that bring slices; a node has more.
const THREADS: usize = 2;
const ROUNDS: usize = 15;

fn main() -> Outcome<()> {
    let below = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(&below)?;
    let store = DiskStore::open(&folder.path().join("disk"), Unlabelled::Format)?;
    store.set_cell(CELL)?;
    let payload: Vec<u8> = (0..FRAGMENT_BYTES).map(|at| ((at * 31) >> 3) as u8 ^ (at >> 17) as u8).collect();
    let payload = Body::from(payload);
    let hash = Hash::of(&payload);
    println!("the store of a node beside plain files in {}", below.display());

    put(&store, 0, &payload, &hash)?;
    let plain = |round: usize| folder.path().join(format!("plain-{round}"));
    let turn = |round: usize| {
        let theirs = seconds(|| write_plain(&plain(round), &payload))?;
        Ok((seconds(|| put(&store, round as u64 + 1, &payload, &hash))?, theirs))
    };
    report("puts of 64 MiB", (0..ROUNDS).map(turn).collect::<Outcome<_>>()?);
    let turn = |round: usize| {
        let theirs = seconds(|| read_direct(&plain(round)))?;
        Ok((seconds(|| check(&store, round as u64 + 1))?, theirs))
    };
    report("checks of 64 MiB", (0..ROUNDS).map(turn).collect::<Outcome<_>>()?);
    Ok(())
}

fn seconds(job: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let began = Instant::now();
    job()?;
    Ok(began.elapsed().as_secs_f64())
}

/// `turns`: ours, theirs, in seconds.
fn report(what: &str, turns: Vec<(f64, f64)>) {
    let mut ratios: Vec<f64> = turns.iter().map(|(ours, theirs)| theirs / ours).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    let best = |seconds: fn(&(f64, f64)) -> f64| turns.iter().map(seconds).fold(f64::MAX, f64::min);
    let rate = |seconds: f64| FRAGMENT_BYTES as f64 / seconds / 1e6;
    let (ours, theirs) = (rate(best(|turn| turn.0)), rate(best(|turn| turn.1)));
    println!("speed of {what:<18} {median:.2} ({least:.2} to {most:.2}); best {ours:.0} and {theirs:.0} MB/s");
}

fn write_plain(path: &Path, payload: &[u8]) -> Outcome<()> {
    let mut file = File::create_new(path)?;
    for piece in payload.chunks(SLICE_BYTES) {
        file.write_all(piece)?;
    }
    Ok(file.sync_data()?)
}

fn read_direct(path: &Path) -> Outcome<()> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
    let file = File::options().read(true).custom_flags(direct).open(path)?;
    let mut buffer = AlignedBuffer::zeroed(SLICE_BYTES)?;
    for offset in (0..FRAGMENT_BYTES).step_by(SLICE_BYTES) {
        file.read_exact_at(&mut buffer, offset as u64)?;
    }
    Ok(())
}

fn code() -> CodeSpec {
    "rs:4+2".parse().expect("a code of the grammar")
}

fn identity(extent: ExtentKey, index: u16) -> BirthIdentity {
    let payload_bytes = FRAGMENT_BYTES as u64;
    BirthIdentity { cell: CELL.id(), extent: extent.id(), generation: 1, index: ShardIndex::new(index), payload_bytes }
}

fn record(extent: ExtentKey, hash: &Hash) -> Outcome<Body> {
    let entry = |index| {
        let identity = identity(extent, index);
        FragmentEntry { identity, root: identity.root(hash) }
    };
    let record = ExtentRecord {
        cell: CELL.id(),
        extent: extent.id(),
        revision: 1,
        code: code(),
        extent_bytes: EXTENT_BYTES,
        extent_hash: Hash::new([7; 32]),
        stream: StreamId(3),
        ordinal: 0,
        offset: 0,
        stream_bytes: Some(EXTENT_BYTES),
        content: Content::File,
        name: b"name".to_vec(),
        fragments: (0..6).map(entry).collect(),
        extents: Vec::new(),
    };
    Ok(record.to_bytes()?.into())
}

fn extent(number: u64) -> ExtentKey {
    ExtentKey::compose(CELL, PG, 1, number)
}

/// Everything that a node has its disk do for a fragment that it acknowledges, but for the line in the journal.
fn put(store: &DiskStore, number: u64, payload: &Body, hash: &Hash) -> Outcome<()> {
    let extent = extent(number);
    let key = StageKey { attempt: AttemptId { claim: ClaimId(1), number }, extent, index: INDEX };
    let header =
        Header { identity: identity(extent, INDEX), code: code(), extent_bytes: EXTENT_BYTES, record_bytes: 65_536 };
    store.perform(StoreCall::OpenStage { key, header: Box::new(header) })?;
    let slices = |first: usize| -> Outcome<()> {
        for offset in (first * SLICE_BYTES..FRAGMENT_BYTES).step_by(THREADS * SLICE_BYTES) {
            let body = payload.slice(offset..offset + SLICE_BYTES);
            store.perform(StoreCall::WriteStage { key, offset: offset as u64, body })?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || slices(first))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread failed")?)
    })?;
    store.perform(StoreCall::SealStage { key })?;
    store.perform(StoreCall::FinishStage { key, record: record(extent, hash)? })?;
    store.perform(StoreCall::PublishStage { key })?;
    store.perform(StoreCall::SyncFolder { pg: PG })?;
    Ok(())
}

fn check(store: &DiskStore, number: u64) -> Outcome<()> {
    let fragment = FragmentKey { extent: extent(number), generation: 1, index: INDEX };
    match store.perform(StoreCall::Check { fragment, hash: None })? {
        StoreOk::Checked { class, .. } if class == "healthy" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
