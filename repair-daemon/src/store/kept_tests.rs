//! Kept stages on a real folder: what a later life finds, and what it takes for nothing.

use super::store_tests::{Made, PG, listed, made};
use super::*;
use repair_core::node::{Body, StoreCall, StoreOk};
use repair_core::wire::node::StageKey;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MIB: usize = 1 << 20;
/// Of rs:4+2, so that a fragment has 6 MiB.
const EXTENT_BYTES: u64 = 24 << 20;

fn open(path: &Path) -> DiskStore {
    DiskStore::open(path, Unlabelled::Format).unwrap()
}

fn keep(store: &DiskStore, made: &Made) -> Result<Option<Vec<(u64, u64)>>, StoreError> {
    let key = made.stage;
    match store.perform(StoreCall::KeepStage { key, header: Box::new(made.header) })? {
        StoreOk::Kept(written) => Ok(written),
        other => panic!("{other:?}"),
    }
}

fn write(store: &DiskStore, made: &Made, from: usize, to: usize) {
    let body = Body::copy_from_slice(&made.payload[from..to]);
    store.perform(StoreCall::WriteStage { key: made.stage, offset: from as u64, body }).unwrap();
}

/// Sends what is not there, gives it its name, and looks at it.
fn go_on(store: &DiskStore, made: &Made, written: &[(u64, u64)]) -> Result<StoreOk, StoreError> {
    let key = made.stage;
    for offset in (0..made.payload.len()).step_by(4096) {
        if !written.iter().any(|(from, to)| (*from..*to).contains(&(offset as u64))) {
            write(store, made, offset, offset + 4096);
        }
    }
    store.perform(StoreCall::SealStage { key })?;
    store.perform(StoreCall::FinishStage { key, record: made.record.clone() })?;
    assert_eq!(store.perform(StoreCall::PublishStage { key })?, StoreOk::Published(true));
    store.perform(StoreCall::SyncFolder { pg: PG })?;
    made.check(store)
}

fn staging(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path.join("staging")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn file(path: &Path, made: &Made, suffix: &str) -> PathBuf {
    path.join("staging").join(format!("{}{suffix}", file_name(made.fragment)))
}

/// The folder as it is now: what a life finds that begins after this one was killed.
fn copied(path: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            } else if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(path, folder.path());
    folder
}

/// A disk over a store of the same label, whose folder is another.
fn over(files: Arc<dyn FragmentStore>, folder: &Path) -> (tempfile::TempDir, DiskStore) {
    let beside = tempfile::tempdir().unwrap();
    fs::copy(folder.join("label"), beside.path().join("label")).unwrap();
    let store = DiskStore::over(beside.path(), files, Unlabelled::Refuse).unwrap();
    (beside, store)
}

/// A killed life's folder: 2 MiB are remembered, in two pieces, and half a MiB more is written.
fn killed() -> (tempfile::TempDir, Made) {
    let (folder, made) = (tempfile::tempdir().unwrap(), made(1, EXTENT_BYTES));
    let store = open(folder.path());
    assert_eq!(keep(&store, &made), Ok(Some(vec![])));
    write(&store, &made, 0, MIB);
    write(&store, &made, 3 * MIB, 4 * MIB);
    write(&store, &made, MIB, MIB + MIB / 2);
    (copied(folder.path()), made)
}

fn remembered() -> Vec<(u64, u64)> {
    vec![(0, MIB as u64), (3 * MIB as u64, 4 * MIB as u64)]
}

#[test]
fn a_later_life_goes_on_with_what_was_remembered() {
    let (folder, made) = killed();
    let store = open(folder.path());
    assert_eq!(store.kept(), [made.fragment]);
    let written = keep(&store, &made).unwrap().unwrap();
    assert_eq!(written, remembered());
    assert_eq!(go_on(&store, &made, &written), made.healthy());
    assert_eq!((staging(folder.path()), store.kept(), listed(&store)), (vec![], vec![], vec![made.fragment]));
}

#[test]
fn one_that_is_let_go_of_has_all_that_came_and_an_orderly_end_lets_go_of_it() {
    let (folder, made) = killed();
    let store = open(folder.path());
    keep(&store, &made).unwrap();
    write(&store, &made, MIB, 2 * MIB - 4096);
    store.perform(StoreCall::LeaveStage { key: made.stage }).unwrap();
    let all = vec![(0, 2 * MIB as u64 - 4096), remembered()[1]];
    assert_eq!(keep(&store, &made), Ok(Some(all)));
    write(&store, &made, 2 * MIB - 4096, 2 * MIB);
    drop(store);
    let store = open(folder.path());
    let written = keep(&store, &made).unwrap().unwrap();
    assert_eq!(written, [(0, 2 * MIB as u64), remembered()[1]]);
    assert_eq!(go_on(&store, &made, &written), made.healthy());
    assert_eq!(staging(folder.path()), Vec::<String>::new());
}

#[test]
fn a_damaged_map_costs_what_it_said_and_nothing_is_made_of_it() {
    for at in [0, 40, 70, 75, 95, 111] {
        let (folder, made) = killed();
        let path = file(folder.path(), &made, ".map");
        let mut map = fs::read(&path).unwrap();
        assert_eq!(map.len(), 72 + 2 * 20);
        map[at] ^= 4;
        fs::write(&path, map).unwrap();
        let store = open(folder.path());
        let written = keep(&store, &made).unwrap().unwrap();
        let expected = match at {
            0..72 => vec![],
            72..92 => remembered()[1..].to_vec(),
            _ => remembered()[..1].to_vec(),
        };
        assert_eq!(written, expected, "byte {at}");
        assert_eq!(go_on(&store, &made, &written), made.healthy(), "byte {at}");
    }
}

#[test]
fn wrong_bytes_under_a_right_map_show_in_the_root() {
    let (folder, made) = killed();
    let path = file(folder.path(), &made, ".kept");
    let mut bytes = fs::read(&path).unwrap();
    let at = made.header.layout().payload_at as usize + 3 * MIB + 77;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = open(folder.path());
    let written = keep(&store, &made).unwrap().unwrap();
    assert_eq!(written, remembered());
    for (from, to) in [(MIB, 2 * MIB), (2 * MIB, 3 * MIB), (4 * MIB, 5 * MIB), (5 * MIB, 6 * MIB)] {
        write(&store, &made, from, to);
    }
    let Ok(StoreOk::Root(root)) = store.perform(StoreCall::SealStage { key: made.stage }) else { panic!("no root") };
    assert_ne!(made.healthy(), Ok(StoreOk::Checked { class: "healthy".into(), root: Some(root), bytes: 6 << 20 }));
    // Dropped, it is gone for good.
    store.perform(StoreCall::DropStage { key: made.stage }).unwrap();
    assert_eq!((staging(folder.path()), keep(&store, &made)), (vec![], Ok(Some(vec![]))));
}

#[test]
fn a_file_cut_short_has_only_what_lies_inside() {
    let (folder, made) = killed();
    let length = made.header.layout().payload_at + 4 * MIB as u64 - 1;
    fs::File::options().write(true).open(file(folder.path(), &made, ".kept")).unwrap().set_len(length).unwrap();
    let store = open(folder.path());
    let written = keep(&store, &made).unwrap().unwrap();
    assert_eq!(written, remembered()[..1]);
    assert_eq!(go_on(&store, &made, &written), made.healthy());
}

#[test]
fn what_is_of_another_fragment_is_not_gone_on_with() {
    let (folder, mut other) = killed();
    let store = open(folder.path());
    // The same name, and another length.
    other.header.extent_bytes -= 1;
    assert_eq!(keep(&store, &other), Ok(Some(vec![])));
    assert_eq!(staging(folder.path()).len(), 1, "the old one's map is gone");
    // A file that has a second name may be a fragment.
    let (folder, made) = killed();
    fs::hard_link(file(folder.path(), &made, ".kept"), folder.path().join("second")).unwrap();
    let before = fs::read(folder.path().join("second")).unwrap();
    let store = open(folder.path());
    assert_eq!(keep(&store, &made), Ok(Some(vec![])));
    assert_eq!(go_on(&store, &made, &[]), made.healthy());
    assert!(fs::read(folder.path().join("second")).unwrap() == before, "nobody wrote into it");
}

#[test]
fn the_start_keeps_whole_pairs_and_sweeps_all_else() {
    let (folder, made) = killed();
    let at = |name: String| folder.path().join("staging").join(name);
    let others: Vec<Made> = (2..6).map(|counter| store_tests::made(counter, EXTENT_BYTES)).collect();
    let (kept, map) = (file(folder.path(), &made, ".kept"), file(folder.path(), &made, ".map"));
    // Half a pair, the other half, a map that is none, and one of another fragment.
    fs::copy(&kept, file(folder.path(), &others[0], ".kept")).unwrap();
    fs::copy(&map, file(folder.path(), &others[1], ".map")).unwrap();
    for (number, bytes) in [(2, b"no map".to_vec()), (3, fs::read(&map).unwrap())] {
        fs::copy(&kept, file(folder.path(), &others[number], ".kept")).unwrap();
        fs::write(file(folder.path(), &others[number], ".map"), bytes).unwrap();
    }
    fs::write(at("1.part".into()), "x").unwrap();
    fs::write(at("notes.kept".into()), "mine").unwrap();
    let store = open(folder.path());
    assert_eq!(store.kept(), [made.fragment]);
    let name = file_name(made.fragment);
    assert_eq!(staging(folder.path()), [format!("{name}.kept"), format!("{name}.map"), "notes.kept".into()]);
    assert_eq!(store.junk(), 1, "what is nobody's stage is left and counted");
    store.perform(StoreCall::DropKept { fragment: made.fragment }).unwrap();
    store.perform(StoreCall::DropKept { fragment: made.fragment }).unwrap();
    assert_eq!((staging(folder.path()), store.kept()), (vec!["notes.kept".to_owned()], vec![]));
}

#[test]
fn what_is_open_in_this_life_is_no_stray_and_a_plain_stage_leaves_nothing() {
    let (folder, made) = (tempfile::tempdir().unwrap(), made(1, EXTENT_BYTES));
    let store = open(folder.path());
    keep(&store, &made).unwrap();
    write(&store, &made, 0, MIB);
    assert_eq!(staging(folder.path()).len(), 2);
    // The same fragment, staged by somebody else.
    let plain = StageKey { index: 3, ..made.stage };
    store.perform(StoreCall::OpenStage { key: plain, header: Box::new(made.header) }).unwrap();
    store.perform(StoreCall::DropStage { key: plain }).unwrap();
    assert_eq!(staging(folder.path()).len(), 2);
    store.perform(StoreCall::DropStage { key: made.stage }).unwrap();
    assert_eq!((staging(folder.path()), store.kept()), (vec![], vec![]));
}

#[test]
fn a_short_fragment_is_not_kept_and_neither_is_one_over_a_store_that_keeps_none() {
    let (folder, short) = (tempfile::tempdir().unwrap(), made(1, 4 * MIB as u64));
    let store = open(folder.path());
    assert_eq!(keep(&store, &short), Ok(None));
    assert_eq!(go_on(&store, &short, &[]), short.healthy());
    let (beside, long) = (tempfile::tempdir().unwrap(), made(1, EXTENT_BYTES));
    let store = DiskStore::over(beside.path(), Arc::new(MemoryStore::new(1 << 30)), Unlabelled::Format).unwrap();
    assert_eq!(keep(&store, &long), Ok(None));
    assert_eq!(go_on(&store, &long, &[]), long.healthy());
}

#[test]
fn an_error_of_a_write_or_a_sync_discards_it() {
    for fault in [Fault::Eio, Fault::FailedSync] {
        let folder = tempfile::tempdir().unwrap();
        let files = FolderStore::open(folder.path(), Unlabelled::Format).unwrap();
        let faulty = Arc::new(Faulty::new(files, Faults::default(), 5));
        let (_beside, store) = over(Arc::<Faulty<FolderStore>>::clone(&faulty), folder.path());
        let made = made(1, EXTENT_BYTES);
        keep(&store, &made).unwrap();
        write(&store, &made, 0, MIB);
        assert_eq!(staging(folder.path()).len(), 2);
        faulty.set_faults(Faults::default().with(fault, 1));
        let body = Body::copy_from_slice(&made.payload[MIB..2 * MIB]);
        let failed = store.perform(StoreCall::WriteStage { key: made.stage, offset: MIB as u64, body });
        assert!(matches!(failed, Err(StoreError::Io(_))), "{fault:?}: {failed:?}");
        faulty.set_faults(Faults::default());
        assert_eq!(staging(folder.path()), Vec::<String>::new(), "{fault:?}: nobody knows what is in it");
        let left = store.perform(StoreCall::LeaveStage { key: made.stage });
        assert!(matches!(left, Err(StoreError::Invalid(_))), "{fault:?}: {left:?}");
        assert_eq!(keep(&store, &made), Ok(Some(vec![])), "{fault:?}");
    }
}

#[test]
fn checkpoints_are_few() {
    let folder = tempfile::tempdir().unwrap();
    let counted = Arc::new(Counted::new(FolderStore::open(folder.path(), Unlabelled::Format).unwrap()));
    let (_beside, store) = over(Arc::<Counted<FolderStore>>::clone(&counted), folder.path());
    let made = made(1, 4 * 96 * MIB as u64);
    let written = keep(&store, &made).unwrap().unwrap();
    assert_eq!(go_on(&store, &made, &written), made.healthy());
    assert_eq!(counted.counts().checkpoints, 64, "however small the pieces are");
}
