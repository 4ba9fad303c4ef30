//! A small fragment on a node's own disk, with every bit turned, every length cut and some more: the store's check names it as
//! `docs/format/fragment.md` section 7 does, no read gives a byte of it that would pass as right, and what is left of the extent
//! decodes to the bytes that were stored.
//!
//! Through [`DiskStore`], by the calls the node machine makes. The files lie on a tmpfs where there is one: the store looks past
//! the page cache, so on a disk every turned bit would be written to the device.

#[path = "support/image.rs"]
mod image;

use ec_core::fragment::{
    BirthIdentity, Content, ExtentRecord, FOOTER_BYTES, FragmentEntry, HEADER_BYTES, Hash, Header, StreamId,
};
use ec_core::{Code, Geometry, ShardIndex};
use image::{Image, may_mount};
use repair_core::id::{AttemptId, CellKey, ClaimId, ExtentKey, PgId, RecordHash};
use repair_core::node::{Body, StoreCall, StoreError, StoreOk};
use repair_core::wire::node::{FragmentKey, StageKey};
use repair_daemon::store::{DiskStore, Unlabelled};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const CELL: CellKey = CellKey(77 << 100);
const PG: PgId = PgId(9);
const EXTENT_BYTES: usize = 13_000;
/// Header, one block of payload, one block of tail.
const FILE_BYTES: usize = 3 * 4096;
const TAIL_AT: usize = 2 * 4096;

/// The first row that fits in the table of the format.
fn class_of_changed_byte(at: usize) -> &'static str {
    match at {
        0..HEADER_BYTES => "rot.header",
        HEADER_BYTES..TAIL_AT => "rot.payload",
        _ => "rot.footer",
    }
}

fn class_of_length(bytes: usize) -> &'static str {
    if bytes < HEADER_BYTES { "torn.uncommitted" } else { "torn.committed" }
}

/// All fragments of an extent on one disk, which is enough here: each is a file of its own.
struct Stored {
    folder: TempDir,
    store: DiskStore,
    code: Code,
    extent: ExtentKey,
    bytes: Vec<u8>,
    record: ExtentRecord,
    record_hash: RecordHash,
}

impl Stored {
    fn new() -> Self {
        let shm = Path::new("/dev/shm");
        Self::within(if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }.unwrap())
    }

    fn within(folder: TempDir) -> Self {
        let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
        let code = Code::new(&"rs:4+2".parse().unwrap()).unwrap();
        let extent = ExtentKey::compose(CELL, PG, 1, 1);
        let bytes: Vec<u8> = (0..EXTENT_BYTES).map(|at| ((at * 31) >> 3) as u8).collect();
        let shards = shards(&code, &bytes);
        let record = record(&code, extent, &bytes, &shards);
        let record_bytes = Body::from(record.to_bytes().unwrap());
        let stored = Self { folder, store, code, extent, bytes, record_hash: RecordHash::of(&record_bytes), record };
        for (index, shard) in (0u16..).zip(&shards) {
            stored.put(index, shard, &record_bytes);
            assert_eq!(stored.class(index), "healthy");
        }
        stored
    }

    /// As a node puts a fragment.
    fn put(&self, index: u16, shard: &[u8], record: &Body) {
        let key = StageKey { attempt: AttemptId { claim: ClaimId(1), number: 1 }, extent: self.extent, index };
        let identity = self.record.fragments[usize::from(index)].identity;
        let (code, extent_bytes) = (*self.code.spec(), EXTENT_BYTES as u64);
        let header = Box::new(Header { identity, code, extent_bytes, record_bytes: 65_536 });
        let body = Body::copy_from_slice(shard);
        for call in [
            StoreCall::OpenStage { key, header },
            StoreCall::WriteStage { key, offset: 0, body },
            StoreCall::SealStage { key },
            StoreCall::FinishStage { key, record: record.clone() },
            StoreCall::PublishStage { key },
            StoreCall::SyncFolder { pg: PG },
        ] {
            self.store.perform(call).unwrap();
        }
    }

    fn fragment(&self, index: u16) -> FragmentKey {
        FragmentKey { extent: self.extent, generation: 1, index }
    }

    fn identity(&self, index: u16) -> BirthIdentity {
        self.record.fragments[usize::from(index)].identity
    }

    /// What the store's check calls it.
    fn class(&self, index: u16) -> String {
        let check = StoreCall::Check { fragment: self.fragment(index), hash: Some(self.record_hash) };
        match self.store.perform(check) {
            Ok(StoreOk::Checked { class, .. }) => class,
            other => panic!("{other:?}"),
        }
    }

    /// The payload as whoever asks a node for it takes it: none where the node refuses, or a CRC is not the block's.
    fn read(&self, index: u16) -> Option<Body> {
        let range = 0..self.identity(index).payload_bytes;
        match self.store.perform(StoreCall::Read { fragment: self.fragment(index), range }) {
            Ok(StoreOk::Data { body, crcs }) => {
                let body = body.into_bytes().expect("too small to be piped");
                let seed = self.identity(index).seed();
                let right = (0u32..).zip(body.chunks(4096)).map(|(number, block)| seed.crc(number, block)).eq(crcs);
                right.then_some(body)
            }
            Err(StoreError::Damaged(_)) => None,
            other => panic!("{other:?}"),
        }
    }

    /// Reads all, rebuilds the data shards that cannot be read, and insists on the bytes that were stored.
    fn decodes_without(&self, damaged: u16) {
        let mut read: Vec<Option<Body>> = (0..6).map(|index| self.read(index)).collect();
        let gave: Vec<u16> = (0u16..).zip(&read).filter(|(_, body)| body.is_none()).map(|(index, _)| index).collect();
        assert_eq!(gave, [damaged], "these cannot be read");
        let index = |at: usize| ShardIndex::new(at as u16);
        let present: Vec<(ShardIndex, &[u8])> =
            read.iter().enumerate().filter_map(|(at, body)| Some((index(at), body.as_deref()?))).collect();
        let mut rebuilt = vec![0; present[0].1.len()];
        self.code.decode(&present, &mut [(ShardIndex::new(damaged), &mut rebuilt)]).unwrap();
        let root = self.identity(damaged).root(&Hash::of(&rebuilt));
        assert_eq!(root, self.record.fragments[usize::from(damaged)].root);
        read[usize::from(damaged)] = Some(Body::from(rebuilt));
        let bytes: Vec<u8> = read.into_iter().take(4).flat_map(|shard| shard.unwrap()).take(EXTENT_BYTES).collect();
        assert!(bytes == self.bytes, "other bytes");
    }

    /// The fragment's file, to be changed behind the store's back.
    fn file(&self, index: u16) -> File {
        OpenOptions::new().read(true).write(true).open(self.path(index)).unwrap()
    }

    fn path(&self, index: u16) -> PathBuf {
        let name = self.identity(index).file_name();
        self.folder.path().join("fragments").join(format!("{:08x}", PG.0)).join(name)
    }
}

fn shards(code: &Code, bytes: &[u8]) -> Vec<Vec<u8>> {
    let shard_bytes = Geometry::new(bytes.len() as u64, code.k()).shard_bytes() as usize;
    let mut shards = vec![vec![0; shard_bytes]; code.n()];
    let (data, parity) = shards.split_at_mut(code.k());
    data.iter_mut()
        .zip(bytes.chunks(shard_bytes))
        .for_each(|(shard, piece)| shard[..piece.len()].copy_from_slice(piece));
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    shards
}

fn record(code: &Code, extent: ExtentKey, bytes: &[u8], shards: &[Vec<u8>]) -> ExtentRecord {
    let entry = |(index, shard): (u16, &Vec<u8>)| {
        let (cell, extent, index) = (CELL.id(), extent.id(), ShardIndex::new(index));
        let identity = BirthIdentity { cell, extent, generation: 1, index, payload_bytes: shard.len() as u64 };
        FragmentEntry { identity, root: identity.root(&Hash::of(shard)) }
    };
    ExtentRecord {
        cell: CELL.id(),
        extent: extent.id(),
        revision: 1,
        code: *code.spec(),
        extent_bytes: bytes.len() as u64,
        extent_hash: Hash::of(bytes),
        stream: StreamId(3),
        ordinal: 0,
        offset: 0,
        stream_bytes: Some(bytes.len() as u64),
        content: Content::File,
        name: b"name".to_vec(),
        fragments: (0..).zip(shards).map(entry).collect(),
        extents: Vec::new(),
    }
}

#[test]
fn every_turned_bit_is_named_and_never_read() {
    let stored = Stored::new();
    // One of data. A parity's file differs in nothing that is looked at here but its payload.
    let damaged = 1;
    let file = stored.file(damaged);
    let mut original = vec![0; FILE_BYTES];
    file.read_exact_at(&mut original, 0).unwrap();
    let mut turned = 0;
    for (at, byte) in (0u64..).zip(original) {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ 1 << bit], at).unwrap();
            let class = stored.class(damaged);
            assert_eq!(class, class_of_changed_byte(at as usize), "bit {bit} of byte {at}");
            assert_eq!(stored.read(damaged), None, "bit {bit} of byte {at}");
            turned += 1;
        }
        // The rest of the extent does not depend on the bit.
        stored.decodes_without(damaged);
        file.write_all_at(&[byte], at).unwrap();
    }
    assert_eq!((turned, stored.class(damaged).as_str()), (8 * FILE_BYTES, "healthy"));
    assert!(stored.read(damaged).is_some());
}

#[test]
fn every_length_is_named_and_never_read() {
    let stored = Stored::new();
    let damaged = 2;
    let file = stored.file(damaged);
    let mut original = vec![0; FILE_BYTES];
    file.read_exact_at(&mut original, 0).unwrap();
    let longer = [1, 127, 128, 129, 4095, 4096, 4097, FILE_BYTES].map(|more| FILE_BYTES + more);
    for bytes in (0..FILE_BYTES).rev().chain(longer) {
        file.set_len(bytes as u64).unwrap();
        assert_eq!(stored.class(damaged), class_of_length(bytes), "{bytes} bytes");
        stored.decodes_without(damaged);
        if bytes >= FILE_BYTES {
            // Once more with a seal where the footer of a file that long would be.
            let last = &original[original.len() - FOOTER_BYTES..];
            file.write_all_at(last, (bytes - FOOTER_BYTES) as u64).unwrap();
            assert_eq!(stored.class(damaged), "torn.committed", "{bytes} bytes, sealed");
            stored.decodes_without(damaged);
        }
        file.write_all_at(&original, 0).unwrap();
    }
    file.set_len(FILE_BYTES as u64).unwrap();
    assert_eq!(stored.class(damaged), "healthy");
}

/// Where on its file system's device a byte of a file lies, by `filefrag`.
fn place_on_device(path: &Path, at: u64) -> u64 {
    let output = Command::new("filefrag").args(["-e", "-b4096"]).arg(path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    // "   0:        0..       2:      34304..     34306:      3:             last,eof"
    let numbers = |line: &str| {
        let words = line.split(['.', ':']).map(str::trim).filter(|word| !word.is_empty());
        words.map_while(|word| word.parse().ok()).collect::<Vec<u64>>()
    };
    let extent = said.lines().map(numbers).find(|numbers| match numbers[..] {
        [_, first, last, ..] => (first..=last).contains(&(at / 4096)),
        _ => false,
    });
    let extent = extent.unwrap_or_else(|| panic!("no extent of byte {at} in {said}"));
    (extent[3] + at / 4096 - extent[1]) * 4096 + at % 4096
}

#[test]
fn what_is_on_the_device_is_judged_and_not_what_is_in_memory() {
    if !may_mount() {
        return;
    }
    let place = TempDir::new().unwrap();
    let disk = place.path().join("disk.img");
    let image = Image::ext4(disk.clone(), 32 << 20, &place.path().join("disk"));
    let stored = Stored::within(TempDir::new_in(image.path()).unwrap());
    let device = OpenOptions::new().read(true).write(true).open(disk).unwrap();
    let path = stored.path(1);
    for (at, class) in [(100, "rot.header"), (4096 + 5, "rot.payload"), (TAIL_AT as u64 + 5, "rot.footer")] {
        let before = fs::read(&path).unwrap();
        let on_device = place_on_device(&path, at);
        device.write_all_at(&[before[at as usize] ^ 1], on_device).unwrap();
        assert!(fs::read(&path).unwrap() == before, "byte {at} is not in memory: nothing is shown");
        assert!(stored.read(1).is_some(), "who reads is served from memory");
        assert_eq!(stored.class(1), class, "byte {at}");
        device.write_all_at(&[before[at as usize]], on_device).unwrap();
        assert_eq!(stored.class(1), "healthy");
    }
    drop(stored);
}
