//! A data folder beside whose files lie others: of every kind, under every name, and many.

use super::store_tests::{Made, PG, listed, made};
use super::*;
use repair_core::node::{StoreCall, StoreOk};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

type Make = fn(&Path);

fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device).unwrap();
}

/// What is no regular file. A device only where this process may make one.
fn kinds() -> Vec<(&'static str, Make)> {
    let mut kinds: Vec<(&'static str, Make)> = vec![
        ("symlink", |path| symlink("/dev/zero", path).unwrap()),
        ("FIFO", |path| node(path, FileType::Fifo, 0)),
        ("folder", |path| fs::create_dir(path).unwrap()),
        ("socket", |path| node(path, FileType::Socket, 0)),
    ];
    if rustix::process::geteuid().is_root() {
        // The terminal of the process that opens it, and zeros without end.
        kinds.push(("tty", |path| node(path, FileType::CharacterDevice, makedev(5, 0))));
        kinds.push(("zeros", |path| node(path, FileType::CharacterDevice, makedev(1, 5))));
    }
    kinds
}

fn group(data: &Path) -> PathBuf {
    data.join("fragments").join(format!("{:08x}", PG.0))
}

fn path_of(data: &Path, made: &Made) -> PathBuf {
    group(data).join(file_name(made.fragment))
}

#[test]
fn what_is_no_file_is_no_fragment_whatever_it_is() {
    for (kind, make) in kinds() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
        let (sound, gone) = (made(1, 20_000), made(2, 20_000));
        sound.store(&store);
        make(&path_of(folder.path(), &gone));
        assert_eq!((listed(&store), store.junk()), (vec![sound.fragment], 1), "{kind}");
        assert_eq!(listed(&store).len() as u64, store.junk(), "each listing counts anew");
        match gone.check(&store) {
            Ok(StoreOk::Checked { class, .. }) => assert_eq!(class, "unreadable", "{kind}"),
            other => panic!("{kind}: {other:?}"),
        }
        let read = store.perform(StoreCall::Read { fragment: gone.fragment, range: 0..4096 });
        assert!(matches!(read, Err(StoreError::Damaged(_))), "{kind}: {read:?}");
        // Out of the way with it, though the quarantine has such things too.
        let quarantine = folder.path().join("quarantine");
        make(&quarantine.join("reasons"));
        make(&quarantine.join(format!("{}.0", file_name(gone.fragment))));
        let aside = StoreCall::Quarantine { fragment: gone.fragment, reason: kind.into() };
        assert_eq!(store.perform(aside), Ok(StoreOk::Done), "{kind}");
        gone.store(&store);
        assert_eq!(gone.check(&store), gone.healthy());
        assert_eq!((listed(&store).len(), store.junk()), (2, 0), "{kind}");
    }
}

#[test]
fn what_is_no_file_is_no_label_nor_a_stage() {
    for (kind, make) in kinds() {
        let folder = tempfile::tempdir().unwrap();
        drop(DiskStore::open(folder.path(), Unlabelled::Format).unwrap());
        make(&folder.path().join("staging/left.part"));
        let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
        let one = made(1, 20_000);
        one.store(&store);
        // A folder cannot be removed like a file, and is not ours to take apart.
        let stays = fs::symlink_metadata(folder.path().join("staging/left.part")).is_ok();
        assert_eq!((stays, store.junk()), (kind == "folder", u64::from(kind == "folder")), "{kind}");
        drop(store);
        let label = folder.path().join("label");
        fs::remove_file(&label).unwrap();
        make(&label);
        assert!(DiskStore::open(folder.path(), Unlabelled::Format).is_err(), "{kind}");
    }
}

#[test]
fn a_group_that_is_a_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
    let one = made(1, 20_000);
    one.store(&store);
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(group(folder.path()), &elsewhere).unwrap();
    symlink(&elsewhere, group(folder.path())).unwrap();
    assert!(matches!(store.perform(StoreCall::ListFolder { pg: PG }), Err(StoreError::Io(_))));
    assert!(one.check(&store) != one.healthy(), "it lies elsewhere");
}

#[test]
fn names_that_are_not_ours_are_skipped_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
    let one = made(1, 20_000);
    one.store(&store);
    let group = group(folder.path());
    for name in ["notes.txt".into(), "x".repeat(255), file_name(one.fragment).to_uppercase()] {
        File::create(group.join(name)).unwrap();
    }
    File::create(group.join(OsStr::from_bytes(b"no text \xff"))).unwrap();
    for _ in 0..2 {
        assert_eq!((listed(&store), store.junk()), (vec![one.fragment], 4));
    }
}
