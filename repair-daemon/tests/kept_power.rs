//! A disk that loses power while a repair writes to a kept stage: whatever its map says afterwards is on the disk.

#[path = "support/cell.rs"]
mod cell;
#[path = "support/image.rs"]
mod image;

use cell::noise;
use ec_core::fragment::{BirthIdentity, Hash, Header};
use ec_core::geometry::Geometry;
use ec_core::{CodeSpec, ShardIndex};
use image::{Image, cut_power, may_mount};
use repair_core::id::{AttemptId, CellKey, ClaimId, ExtentKey, PgId};
use repair_core::node::{Body, StoreCall, StoreOk};
use repair_core::wire::node::StageKey;
use repair_daemon::store::{DiskStore, Unlabelled};
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Moments of a transfer, from the start of the program that cuts the power.
const MOMENTS_MS: [u64; 8] = [0, 40, 80, 120, 160, 200, 250, 300];
/// Between two pieces, so that a transfer takes about half a second.
const PACE: Duration = Duration::from_micros(500);
const PAYLOAD_BYTES: usize = 24 << 20;
/// Short ones: longer ones begin to go to the disk as they come, which would hide that nobody forced them there.
const PIECE_BYTES: usize = 32 << 10;
const IMAGE_BYTES: u64 = 96 << 20;
const CELL: CellKey = CellKey(5 << 100);

fn staged() -> (StageKey, Box<Header>) {
    let extent = ExtentKey::compose(CELL, PgId(3), 1, 4);
    let code: CodeSpec = "rs:2+1".parse().unwrap();
    let extent_bytes = 2 * PAYLOAD_BYTES as u64;
    let identity = BirthIdentity {
        cell: CELL.id(),
        extent: extent.id(),
        generation: 1,
        index: ShardIndex::new(2),
        payload_bytes: Geometry::new(extent_bytes, 2).shard_bytes(),
    };
    let attempt = AttemptId { claim: ClaimId(1), number: 1 };
    (StageKey { attempt, extent, index: 2 }, Box::new(Header { identity, code, extent_bytes, record_bytes: 65_536 }))
}

/// Pieces that are not in these ranges, in an order of no kind.
fn missing(written: &[(u64, u64)]) -> Vec<usize> {
    let count = PAYLOAD_BYTES / PIECE_BYTES;
    // 37 has no factor in common with the number of pieces.
    let pieces = (0..count).map(|turn| turn * 37 % count * PIECE_BYTES);
    pieces.filter(|at| !written.iter().any(|(from, to)| (*from..*to).contains(&(*at as u64)))).collect()
}

fn write(store: &DiskStore, key: StageKey, payload: &[u8], at: usize) -> bool {
    let body = Body::copy_from_slice(&payload[at..at + PIECE_BYTES]);
    store.perform(StoreCall::WriteStage { key, offset: at as u64, body }).is_ok()
}

fn keep(store: &DiskStore) -> Vec<(u64, u64)> {
    let (key, header) = staged();
    match store.perform(StoreCall::KeepStage { key, header }).unwrap() {
        StoreOk::Kept(Some(written)) => written,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_map_says_is_on_the_disk_at_whatever_moment_the_power_goes() {
    if !may_mount() {
        return;
    }
    let (key, header) = staged();
    let payload = noise(5, PAYLOAD_BYTES);
    let root = StoreOk::Root(*header.identity.root(&Hash::of(&payload)).as_bytes());
    let mut resumed = BTreeSet::new();
    for moment in MOMENTS_MS {
        let folder = tempfile::tempdir().unwrap();
        let image = Image::ext4(folder.path().join("disk.img"), IMAGE_BYTES, &folder.path().join("disk"));
        let store = DiskStore::open(image.path(), Unlabelled::Format).unwrap();
        assert_eq!(keep(&store), []);
        std::thread::scope(|scope| {
            scope.spawn(|| cut_power(&mut [(moment, image.path())]));
            for at in missing(&[]) {
                std::thread::sleep(PACE);
                if !write(&store, key, &payload, at) {
                    break;
                }
            }
        });
        drop(store);
        image.unmount();
        image.mount();
        let store = DiskStore::open(image.path(), Unlabelled::Refuse).unwrap();
        let written = keep(&store);
        resumed.insert(written.iter().map(|(from, to)| to - from).sum::<u64>());
        for at in missing(&written) {
            assert!(write(&store, key, &payload, at));
        }
        let sealed = store.perform(StoreCall::SealStage { key });
        assert_eq!(sealed, Ok(root.clone()), "{moment} ms: what was kept, {written:?}, is other bytes");
        store.perform(StoreCall::DropStage { key }).unwrap();
        drop(store);
        image.unmount();
    }
    assert!(resumed.len() > 2, "the moments all fell together: {resumed:?}");
}

#[test]
fn what_was_kept_is_hashed_as_it_lies_on_the_device_and_not_as_memory_has_it() {
    if !may_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.img");
    let image = Image::ext4(disk.clone(), IMAGE_BYTES, &folder.path().join("disk"));
    let store = DiskStore::open(image.path(), Unlabelled::Format).unwrap();
    let (key, header) = staged();
    let payload = noise(6, PAYLOAD_BYTES);
    let root = StoreOk::Root(*header.identity.root(&Hash::of(&payload)).as_bytes());
    assert_eq!(keep(&store), []);
    assert!(missing(&[]).into_iter().all(|at| write(&store, key, &payload, at)));
    for is_hurt in [false, true] {
        store.perform(StoreCall::LeaveStage { key }).unwrap();
        if is_hurt {
            // Where the device has a block of it: found by its bytes, which are like no others.
            let at = std::fs::read(&disk).unwrap().windows(64).position(|bytes| bytes == &payload[8192..8192 + 64]);
            let device = std::fs::File::options().write(true).open(&disk).unwrap();
            device.write_all_at(&[payload[8192] ^ 1], at.expect("it was forced to the disk") as u64).unwrap();
        }
        assert_eq!(keep(&store), [(0, PAYLOAD_BYTES as u64)]);
        let sealed = store.perform(StoreCall::SealStage { key }).unwrap();
        assert_eq!(sealed == root, !is_hurt);
    }
}
