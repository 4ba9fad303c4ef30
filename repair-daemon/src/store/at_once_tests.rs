//! Reads that wait for nothing: right, or none.

use super::store_tests::{Made, made};
use super::{DiskStore, Unlabelled};
use repair_core::node::{StoreCall, StoreOk};
use rustix::fs::{Advice, fadvise, statfs};
use std::fs::{self, File};

const BYTES: u64 = 600_000;
/// statfs(2).
const TMPFS_MAGIC: i64 = 0x0102_1994;

fn stored() -> (tempfile::TempDir, DiskStore, Made) {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
    let made = made(1, BYTES);
    made.store(&store);
    (folder, store, made)
}

fn read(store: &DiskStore, made: &Made) {
    let range = 0..4096;
    assert!(matches!(store.perform(StoreCall::Read { fragment: made.fragment, range }), Ok(StoreOk::Data { .. })));
}

#[test]
fn what_was_read_a_moment_ago_is_read_at_once_and_nothing_else_is() {
    let (_folder, store, made) = stored();
    let other = super::store_tests::made(2, BYTES);
    assert_eq!(store.read_at_once(made.fragment, 0..4096), None, "not open yet");
    read(&store, &made);
    for (from, to) in [(0u64, 4096u64), (4096, 12_288), (65_536, 131_072)] {
        let (body, crcs) = store.read_at_once(made.fragment, from..to).unwrap();
        assert!(body[..] == made.payload[from as usize..to as usize]);
        let StoreOk::Data { crcs: right, .. } =
            store.perform(StoreCall::Read { fragment: made.fragment, range: from..to }).unwrap()
        else {
            panic!("no data")
        };
        assert_eq!(crcs, right);
    }
    let payload = made.payload.len() as u64;
    for range in [0..0, 0..4095, 1..4097, 0..69_632, payload..payload + 4096, payload - 4096..payload + 4096] {
        assert_eq!(store.read_at_once(made.fragment, range.clone()), None, "{range:?}");
    }
    assert_eq!(store.read_at_once(other.fragment, 0..4096), None, "no such fragment");
    store.perform(StoreCall::Quarantine { fragment: made.fragment, reason: String::new() }).unwrap();
    assert_eq!(store.read_at_once(made.fragment, 0..4096), None, "put aside");
}

#[test]
fn who_may_not_wait_waits_neither_for_the_disk_nor_for_a_look_at_the_name() {
    let (folder, store, made) = stored();
    let name = super::file_name(made.fragment);
    let path = folder.path().join(format!("fragments/{:08x}", super::store_tests::PG.0)).join(name);
    read(&store, &made);
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    // A tmpfs has nothing but memory.
    if statfs(folder.path()).unwrap().f_type != TMPFS_MAGIC {
        assert_eq!(store.read_at_once(made.fragment, 65_536..69_632), None, "not in memory");
    }
    read(&store, &made);
    assert!(store.read_at_once(made.fragment, 0..4096).is_some());
    fs::remove_file(path).unwrap();
    std::thread::sleep(super::fragments::SURE_FOR);
    assert_eq!(store.read_at_once(made.fragment, 0..4096), None, "nobody has looked whether it is still there");
}
