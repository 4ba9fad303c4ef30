//! The store as a node machine uses it: what is there after each step, after a crash, and beside hostile files.

use super::small_disk::SmallDisk;
use super::*;
use crate::piped::{PIPED_BYTES_MIN, Piped};
use ec_core::ShardIndex;
use ec_core::fragment::{BirthIdentity, Content, ExtentRecord, FragmentEntry, Hash, Header, StreamId};
use ec_core::geometry::Geometry;
use repair_core::id::{AttemptId, CellKey, ClaimId, ExtentKey, PgId, RecordHash};
use repair_core::node::{Body, Payload, StoreCall, StoreOk};
use repair_core::wire::node::{FragmentKey, StageKey};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const CELL: CellKey = CellKey(77 << 100);
pub(super) const PG: PgId = PgId(9);

/// A fragment as a client would make it.
pub(super) struct Made {
    pub(super) stage: StageKey,
    pub(super) fragment: FragmentKey,
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    root: [u8; 32],
    pub(super) record: Body,
}

pub(super) fn made(counter: u64, extent_bytes: u64) -> Made {
    let code = "rs:4+2".parse().unwrap();
    let extent = ExtentKey::compose(CELL, PG, 1, counter);
    let payload_bytes = Geometry::new(extent_bytes, 4).shard_bytes();
    let identity = |index: u16| BirthIdentity {
        cell: CELL.id(),
        extent: extent.id(),
        generation: 1,
        index: ShardIndex::new(index),
        payload_bytes,
    };
    let payload: Vec<u8> = (0..payload_bytes).map(|at| ((at * 31) >> 3) as u8 ^ counter as u8).collect();
    let root = identity(2).root(&Hash::of(&payload));
    let entry = |index| FragmentEntry {
        identity: identity(index),
        root: if index == 2 { root } else { Hash::new([index as u8; 32]) },
    };
    let record = ExtentRecord {
        cell: CELL.id(),
        extent: extent.id(),
        revision: 1,
        code,
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
    Made {
        stage: StageKey { attempt: AttemptId { claim: ClaimId(1), number: counter }, extent, index: 2 },
        fragment: FragmentKey { extent, generation: 1, index: 2 },
        header: Header { identity: identity(2), code, extent_bytes, record_bytes: 65_536 },
        payload,
        root: *root.as_bytes(),
        record: record.to_bytes().unwrap().into(),
    }
}

impl Made {
    pub(super) fn hash(&self) -> RecordHash {
        RecordHash::of(&self.record)
    }

    /// The calls of a put, in order.
    pub(super) fn steps(&self) -> Vec<StoreCall> {
        let key = self.stage;
        let mut steps = vec![StoreCall::OpenStage { key, header: Box::new(self.header) }];
        for (number, piece) in self.payload.chunks(1 << 20).enumerate() {
            let body = Body::copy_from_slice(piece);
            steps.push(StoreCall::WriteStage { key, offset: (number << 20) as u64, body });
        }
        steps.push(StoreCall::SealStage { key });
        steps.push(StoreCall::FinishStage { key, record: self.record.clone() });
        steps.push(StoreCall::PublishStage { key });
        steps.push(StoreCall::SyncFolder { pg: PG });
        steps.push(StoreCall::IndexPut { fragment: self.fragment, record: self.record.clone() });
        steps
    }

    pub(super) fn store(&self, store: &DiskStore) {
        for step in self.steps() {
            store.perform(step).unwrap();
        }
    }

    fn path(&self, folder: &Path) -> PathBuf {
        let name = self.header.identity.file_name();
        folder.join("fragments").join(format!("{:08x}", PG.0)).join(name)
    }

    pub(super) fn check(&self, store: &DiskStore) -> Result<StoreOk, StoreError> {
        store.perform(StoreCall::Check { fragment: self.fragment, hash: Some(self.hash()) })
    }

    fn read(&self, store: &DiskStore) -> Result<StoreOk, StoreError> {
        store.perform(StoreCall::Read { fragment: self.fragment, range: 0..4096 })
    }

    pub(super) fn record(&self, store: &DiskStore) -> Result<StoreOk, StoreError> {
        store.perform(StoreCall::ReadRecord { fragment: self.fragment, hash: self.hash() })
    }

    pub(super) fn healthy(&self) -> Result<StoreOk, StoreError> {
        let bytes = self.payload.len() as u64;
        Ok(StoreOk::Checked { class: "healthy".into(), root: Some(self.root), bytes })
    }
}

fn class_of(checked: Result<StoreOk, StoreError>) -> String {
    match checked {
        Ok(StoreOk::Checked { class, .. }) => class,
        other => panic!("{other:?}"),
    }
}

fn opened() -> (tempfile::TempDir, DiskStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
    (folder, store)
}

pub(super) fn listed(store: &DiskStore) -> Vec<FragmentKey> {
    match store.perform(StoreCall::ListFolder { pg: PG }).unwrap() {
        StoreOk::Folder(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fragment_goes_in_and_comes_out_as_it_was() {
    let (_folder, store) = opened();
    let made = made(1, 10_000_000);
    let mut answers = made.steps().into_iter().map(|step| store.perform(step).unwrap()).collect::<Vec<_>>();
    assert!(answers.contains(&StoreOk::Root(made.root)) && answers.contains(&StoreOk::Published(true)));
    answers.retain(|answer| !matches!(answer, StoreOk::Done | StoreOk::Root(_) | StoreOk::Published(true)));
    assert_eq!(answers, []);

    assert_eq!(listed(&store), [made.fragment]);
    let end = made.payload.len() as u64;
    for range in [0..4096, 4096..12_288, 1 << 20..2 << 20, end - 8192..end] {
        let piece = &made.payload[range.start as usize..range.end as usize];
        let crcs: Vec<u32> = piece
            .chunks(4096)
            .zip(range.start as u32 / 4096..)
            .map(|(block, number)| made.header.identity.seed().crc(number, block))
            .collect();
        let piped = range.end - range.start >= PIPED_BYTES_MIN as u64;
        match store.perform(StoreCall::Read { fragment: made.fragment, range }).unwrap() {
            StoreOk::Data { body: Payload::Bytes(body), crcs: with } => {
                assert!(!piped && body == piece && with == crcs)
            }
            StoreOk::Data { body: Payload::Hosted(hosted), crcs: with } => {
                assert!(piped && with == crcs && hosted.downcast::<Piped>().unwrap().drain() == piece);
            }
            other => panic!("{other:?}"),
        }
    }
    let backwards = std::ops::Range { start: 8192, end: 4096 };
    for range in [0..0, 0..4095, 1..4097, 0..end + 4096, end..end + 4096, backwards, 0..(1 << 20) + 4096] {
        let read = store.perform(StoreCall::Read { fragment: made.fragment, range: range.clone() });
        assert!(matches!(read, Err(StoreError::Invalid(_))), "{range:?}: {read:?}");
    }
    assert_eq!(made.check(&store), made.healthy());
    assert_eq!(made.record(&store), Ok(StoreOk::Record(made.record.clone())));
    // Another record than the one on the list.
    let other = StoreCall::Check { fragment: made.fragment, hash: Some(RecordHash([1; 32])) };
    assert_eq!(class_of(store.perform(other)), "conflict");
    let other = StoreCall::ReadRecord { fragment: made.fragment, hash: RecordHash([1; 32]) };
    assert_eq!(store.perform(other), Err(StoreError::NotFound));
}

#[test]
fn pieces_that_threads_bring_at_the_same_time_give_the_root() {
    let (_folder, store) = opened();
    let made = made(1, 64_000_000);
    let (mut before, after) = (made.steps(), made.steps());
    before.retain(|step| matches!(step, StoreCall::OpenStage { .. } | StoreCall::WriteStage { .. }));
    let mut pieces = before.split_off(1);
    store.perform(before.remove(0)).unwrap();
    std::thread::scope(|scope| {
        while !pieces.is_empty() {
            let mine = pieces.split_off(pieces.len().saturating_sub(4));
            scope.spawn(|| mine.into_iter().for_each(|step| drop(store.perform(step).unwrap())));
        }
    });
    let rest = after.into_iter().skip_while(|step| !matches!(step, StoreCall::SealStage { .. }));
    let answers: Vec<StoreOk> = rest.map(|step| store.perform(step).unwrap()).collect();
    assert_eq!(answers[0], StoreOk::Root(made.root));
    assert_eq!(made.check(&store), made.healthy());
}

#[test]
fn an_extent_of_no_bytes_is_stored_too() {
    let (_folder, store) = opened();
    let made = made(1, 0);
    made.store(&store);
    assert_eq!(made.check(&store), made.healthy());
}

#[test]
fn a_crash_after_any_step_leaves_nothing_or_the_whole_fragment() {
    let made = made(1, 3_000_000);
    let steps = made.steps().len();
    for done in 0..=steps {
        let (folder, store) = opened();
        for step in made.steps().into_iter().take(done) {
            store.perform(step).unwrap();
        }
        drop(store);
        let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
        // The name comes with the third step from the end.
        let published = done >= steps - 2;
        assert_eq!(listed(&store).len(), usize::from(published), "after {done} steps");
        assert_eq!(fs::read_dir(folder.path().join("staging")).unwrap().count(), 0);
        if published {
            assert_eq!(made.check(&store), made.healthy());
        } else {
            assert_eq!(made.check(&store), Err(StoreError::NotFound));
            made.store(&store);
        }
        // Whatever lies there, the same put again ends the same way.
        for step in made.steps() {
            store.perform(step).unwrap();
        }
        assert_eq!(made.check(&store), made.healthy());
    }
}

#[test]
fn nothing_is_published_over_what_has_the_name() {
    let (folder, store) = opened();
    let made = made(1, 50_000);
    fs::create_dir_all(made.path(folder.path()).parent().unwrap()).unwrap();
    let publish = |store: &DiskStore| {
        let mut last = None;
        for step in made.steps().into_iter().take_while(|step| !matches!(step, StoreCall::SyncFolder { .. })) {
            last = Some(store.perform(step).unwrap());
        }
        last
    };
    fs::write(made.path(folder.path()), "something else").unwrap();
    assert_eq!(publish(&store), Some(StoreOk::Published(false)));
    assert_eq!(fs::read(made.path(folder.path())).unwrap(), b"something else");
    // The stage is still there: what is in the way is put aside, and it is published after all.
    let aside = StoreCall::Quarantine { fragment: made.fragment, reason: "in\nthe way".into() };
    assert_eq!(store.perform(aside), Ok(StoreOk::Done));
    assert_eq!(store.perform(StoreCall::PublishStage { key: made.stage }), Ok(StoreOk::Published(true)));
    assert_eq!(made.check(&store), made.healthy());
    let reasons = fs::read_to_string(folder.path().join("quarantine/reasons")).unwrap();
    assert!(reasons.ends_with("in\\nthe way\n"), "{reasons}");
}

#[test]
fn stages_refuse_what_makes_no_sense_and_are_gone_then() {
    let (_folder, store) = opened();
    let made = made(1, 50_000);
    let key = made.stage;
    let write = |offset: u64, bytes: usize| StoreCall::WriteStage { key, offset, body: vec![0; bytes].into() };
    let open = || store.perform(StoreCall::OpenStage { key, header: Box::new(made.header) }).unwrap();
    let refused = |call: StoreCall| {
        let answer = store.perform(call.clone());
        assert!(matches!(answer, Err(StoreError::Invalid(_))), "{call:?}: {answer:?}");
    };
    let payload = made.payload.len();
    refused(write(0, 4096));
    for (offset, bytes) in [(1, 4096), (0, 4095), (0, payload + 4096), (u64::MAX - 4095, 4096), (payload as u64, 4096)]
    {
        open();
        refused(write(offset, bytes));
        refused(StoreCall::SealStage { key });
    }
    // A piece missing; a piece twice; sealed and written again; finished unsealed; published unfinished; another root.
    for calls in [
        vec![write(0, 4096), StoreCall::SealStage { key }],
        vec![write(0, payload), write(0, 4096), StoreCall::SealStage { key }],
        vec![write(0, payload), StoreCall::SealStage { key }, write(0, 4096)],
        vec![write(0, payload), StoreCall::FinishStage { key, record: made.record.clone() }],
        vec![write(0, payload), StoreCall::SealStage { key }, StoreCall::PublishStage { key }],
        vec![
            write(0, payload),
            StoreCall::SealStage { key },
            StoreCall::FinishStage { key, record: made.record.clone() },
        ],
    ] {
        open();
        let (last, before) = calls.split_last().unwrap();
        for call in before {
            store.perform(call.clone()).unwrap();
        }
        refused(last.clone());
        refused(StoreCall::SealStage { key });
    }
    // Sealed or finished twice is answered twice.
    for step in made.steps() {
        store.perform(step.clone()).unwrap();
        if matches!(step, StoreCall::SealStage { .. } | StoreCall::FinishStage { .. }) {
            store.perform(step).unwrap();
        }
    }
    assert_eq!(made.check(&store), made.healthy());
    store.perform(StoreCall::DropStage { key }).unwrap();
}

#[test]
fn every_damage_is_seen_whatever_was_read_before() {
    let made = made(1, 2_000_000);
    let file_bytes = Header { record_bytes: made.record.len() as u32, ..made.header }.layout().file_bytes;
    let flip = |path: &Path, at: u64| {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let cases: [Damage<'_>; 8] = [
        ("rot.payload", &|path| flip(path, 4096 + 200_000)),
        ("rot.header", &|path| flip(path, 100)),
        ("rot.footer", &|path| flip(path, file_bytes - 60)),
        ("torn.committed", &|path| fs::File::options().write(true).open(path).unwrap().set_len(20_000).unwrap()),
        ("torn.committed", &|path| {
            fs::File::options().write(true).open(path).unwrap().set_len(file_bytes + 1).unwrap()
        }),
        ("torn.uncommitted", &|path| fs::write(path, "").unwrap()),
        ("unreadable", &|path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("unreadable", &|path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }),
    ];
    for (class, damage) in cases {
        let (folder, store) = opened();
        made.store(&store);
        assert_eq!(made.check(&store), made.healthy());
        assert!(made.read(&store).is_ok());
        damage(&made.path(folder.path()));
        assert_eq!(class_of(made.check(&store)), class);
        // The damage is not where the read is, or the reader sees it by the CRC, or the read says so: never other bytes.
        match made.read(&store) {
            Ok(StoreOk::Data { body, .. }) => {
                assert!(class == "rot.payload" && body.into_bytes().unwrap() == made.payload[..4096]);
            }
            Err(StoreError::Damaged(reason)) => assert!(reason.starts_with(class), "{reason}"),
            other => panic!("{class}: {other:?}"),
        }
        // Put aside, whatever it is.
        let aside = StoreCall::Quarantine { fragment: made.fragment, reason: class.into() };
        assert_eq!(store.perform(aside), Ok(StoreOk::Done));
        assert_eq!(made.read(&store), Err(StoreError::NotFound));
        made.store(&store);
        assert_eq!(made.check(&store), made.healthy());
    }
}

#[test]
fn a_share_is_of_proven_payload_and_added_to_what_came() {
    let (folder, store) = opened();
    let made = made(1, 4 * 40_000);
    made.store(&store);
    let combine = |range: std::ops::Range<u64>, coefficients: &[u8], sums: Body| {
        let coefficients = coefficients.to_vec();
        store.perform(StoreCall::Combine { fragment: made.fragment, range, coefficients, sums })
    };
    let sums = |fill: u8| Body::from(vec![fill; 2 * 8192]);
    let expected: Vec<u8> = [1u8, 3]
        .iter()
        .flat_map(|factor| made.payload[4096..12_288].iter().map(|byte| 0x55 ^ ec_core::gf::mul(*factor, *byte)))
        .collect();
    assert_eq!(combine(4096..12_288, &[1, 3], sums(0x55)), Ok(StoreOk::Sums(expected.into())));
    // A cached header must not make a changed block pass.
    let file = fs::File::options().write(true).open(made.path(folder.path())).unwrap();
    file.write_all_at(&[made.payload[9000] ^ 1], 4096 + 9000).unwrap();
    let bad = combine(4096..12_288, &[1, 3], sums(0x55));
    assert!(matches!(&bad, Err(StoreError::Damaged(reason)) if reason.contains("block 2")), "{bad:?}");
    assert!(combine(0..8192, &[1], Body::new()).is_ok(), "the blocks before it are sound");
    let end = made.payload.len() as u64;
    for range in [0..0, 100..4096, 0..100, end..end + 4096, 0..(1 << 20) + 4096] {
        let refused = combine(range.clone(), &[1], Body::new());
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{range:?}: {refused:?}");
    }
    for (coefficients, sums) in [(vec![1u8, 3], Body::from(vec![0; 8192])), (vec![], Body::new())] {
        assert!(matches!(combine(0..8192, &coefficients, sums), Err(StoreError::Invalid(_))));
    }
    fs::remove_file(made.path(folder.path())).unwrap();
    assert_eq!(combine(0..4096, &[1], Body::new()), Err(StoreError::NotFound));
}

#[test]
fn a_fifo_under_a_fragments_name_makes_nobody_wait() {
    let (folder, store) = opened();
    let made = made(1, 10_000);
    made.store(&store);
    let path = made.path(folder.path());
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(class_of(made.check(&store)), "unreadable");
    assert!(matches!(made.read(&store), Err(StoreError::Damaged(_))));
    assert_eq!(listed(&store), []);
}

#[test]
fn a_whole_fragment_under_another_name_is_not_served() {
    let (folder, store) = opened();
    let (one, other) = (made(1, 100_000), made(2, 100_000));
    one.store(&store);
    other.store(&store);
    fs::rename(one.path(folder.path()), other.path(folder.path())).unwrap();
    assert_eq!(class_of(other.check(&store)), "identity");
    assert!(matches!(other.read(&store), Err(StoreError::Damaged(_))));
    assert_eq!(one.read(&store), Err(StoreError::NotFound));
}

#[test]
fn only_fragments_of_the_group_are_listed() {
    let (folder, store) = opened();
    let (one, other) = (made(1, 100_000), made(2, 100_000));
    other.store(&store);
    one.store(&store);
    let group = one.path(folder.path()).parent().unwrap().to_path_buf();
    let elsewhere = ExtentKey::compose(CELL, PgId(PG.0 + 1), 1, 1);
    let unsound = ExtentKey(one.fragment.extent.0 ^ 1);
    for name in [
        "notes.txt".to_owned(),
        format!("{}.1.00002.frag", elsewhere),
        format!("{}.1.00002.frag", unsound),
        format!("{}.1.2.frag", one.fragment.extent),
    ] {
        fs::write(group.join(name), "x").unwrap();
    }
    symlink("/etc/passwd", group.join(format!("{}.1.00003.frag", one.fragment.extent))).unwrap();
    let fragments = listed(&store);
    assert_eq!(fragments, [one.fragment, other.fragment]);
}

#[test]
fn without_its_label_a_disk_is_unavailable_and_not_empty() {
    let (folder, store) = opened();
    let (there, absent) = (made(1, 100_000), made(2, 100_000));
    there.store(&store);
    assert_eq!(absent.read(&store), Err(StoreError::NotFound));
    let calls = || {
        [
            absent.read(&store),
            absent.check(&store),
            absent.record(&store),
            store.perform(StoreCall::ListFolder { pg: PG }),
            store.perform(StoreCall::ListFolder { pg: PgId(1) }),
            store.perform(StoreCall::Quarantine { fragment: absent.fragment, reason: String::new() }),
            store.perform(StoreCall::OpenStage { key: absent.stage, header: Box::new(absent.header) }),
        ]
    };
    let label = folder.path().join("label");
    let text = fs::read_to_string(&label).unwrap();
    let other = text.replace(&store.disk().to_string(), &format!("{:032x}", 1));
    for change in [None, Some("damaged".to_owned()), Some(other)] {
        match change {
            None => fs::remove_file(&label).unwrap(),
            Some(text) => fs::write(&label, text).unwrap(),
        }
        for answer in calls() {
            assert!(matches!(answer, Err(StoreError::Io(_))), "{answer:?}");
        }
        // What is there can be had. But this is not the disk it was, so that nothing is written to it any more.
        assert!(there.read(&store).is_ok());
        assert!(store.broken().is_some_and(|reason| reason.contains("label")) && store.room().is_err());
    }
    fs::write(&label, text).unwrap();
    assert_eq!(absent.read(&store), Err(StoreError::NotFound));
    assert_eq!(listed(&store).len(), 1);
}

#[test]
fn quarantine_keeps_every_copy_until_told_and_survives_a_restart() {
    let (folder, store) = opened();
    let made = made(1, 100_000);
    let aside = || StoreCall::Quarantine { fragment: made.fragment, reason: "test".into() };
    assert_eq!(store.perform(aside()), Err(StoreError::NotFound));
    for _ in 0..2 {
        made.store(&store);
        assert_eq!(store.perform(aside()), Ok(StoreOk::Done));
        assert_eq!(made.check(&store), Err(StoreError::NotFound));
    }
    let kept = || fs::read_dir(folder.path().join("quarantine")).unwrap().count() - 1;
    assert_eq!(kept(), 2);
    drop(store);
    let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
    // Done in an earlier life is done.
    assert_eq!(store.perform(aside()), Ok(StoreOk::Done));
    let unlink = || StoreCall::UnlinkQuarantined { fragment: made.fragment };
    assert_eq!((store.perform(unlink()), kept()), (Ok(StoreOk::Done), 0));
    assert_eq!(store.perform(unlink()), Ok(StoreOk::Done));
    assert_eq!(store.perform(aside()), Err(StoreError::NotFound));
}

#[test]
fn what_was_put_aside_before_keeps_nothing_sound_from_its_place() {
    let (folder, store) = opened();
    let made = made(1, 100_000);
    let aside = || StoreCall::Quarantine { fragment: made.fragment, reason: "test".into() };
    let path = made.path(folder.path());
    for life in 0..70 {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, life.to_string()).unwrap();
        assert_eq!(store.perform(aside()), Ok(StoreOk::Done), "life {life}");
        assert!(!path.exists());
    }
    let name = path.file_name().unwrap().to_str().unwrap();
    let copy = |number: u32| fs::read_to_string(folder.path().join(format!("quarantine/{name}.{number}"))).ok();
    assert_eq!((copy(0), copy(7), copy(8)), (Some("62".into()), Some("69".into()), None), "the last ones stay");
    // Killed in the moving of them, a life leaves a gap.
    fs::remove_file(folder.path().join(format!("quarantine/{name}.3"))).unwrap();
    assert_eq!(store.perform(StoreCall::UnlinkQuarantined { fragment: made.fragment }), Ok(StoreOk::Done));
    assert!((0..8).all(|number| copy(number).is_none()));
}

#[test]
fn a_touch_says_whether_the_disk_is_there() {
    let (folder, store) = opened();
    assert_eq!(store.perform(StoreCall::Touch), Ok(StoreOk::Done));
    fs::rename(folder.path().join("label"), folder.path().join("elsewhere")).unwrap();
    assert!(matches!(store.perform(StoreCall::Touch), Err(StoreError::Io(_))));
}

#[test]
fn records_come_from_the_tail_when_the_index_is_lost() {
    let (folder, store) = opened();
    let made = made(1, 100_000);
    made.store(&store);
    drop(store);
    for index in ["", "no database"] {
        fs::write(folder.path().join("index.redb"), index).unwrap();
        let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
        assert_eq!(made.record(&store), Ok(StoreOk::Record(made.record.clone())));
        // From there it is back in the index, which needs no file.
        fs::rename(made.path(folder.path()), folder.path().join("aside")).unwrap();
        assert_eq!(made.record(&store), Ok(StoreOk::Record(made.record.clone())));
        store.perform(StoreCall::IndexRemove { fragment: made.fragment }).unwrap();
        assert_eq!(made.record(&store), Err(StoreError::NotFound));
        fs::rename(folder.path().join("aside"), made.path(folder.path())).unwrap();
        store.perform(StoreCall::IndexPut { fragment: made.fragment, record: Body::from_static(b"wrong") }).unwrap();
        assert_eq!(made.record(&store), Ok(StoreOk::Record(made.record.clone())));
    }
}

#[test]
fn journals_are_appended_to_replaced_and_read_at_the_next_start() {
    let (folder, store) = opened();
    let append = |store: &DiskStore, pg, bytes: &[u8]| {
        store.perform(StoreCall::AppendJournal { pg: PgId(pg), bytes: bytes.to_vec() }).unwrap()
    };
    append(&store, 5, b"one");
    append(&store, u32::MAX, b"other");
    append(&store, 5, b" two");
    store.perform(StoreCall::ReplaceJournal { pg: PgId(6), bytes: b"new".to_vec() }).unwrap();
    append(&store, 6, b"er");
    drop(store);
    // What a crash may leave, and what is no journal.
    fs::write(folder.path().join("journal/00000005.journal.new"), "half").unwrap();
    fs::write(folder.path().join("journal/0000000A.journal"), "upper case").unwrap();
    fs::write(folder.path().join("journal/+0000007.journal"), "a sign").unwrap();
    let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
    append(&store, 5, b" three");
    store.perform(StoreCall::ReplaceJournal { pg: PgId(u32::MAX), bytes: b"less".to_vec() }).unwrap();
    fs::create_dir(folder.path().join("journal/00000007.journal")).unwrap();
    let journals: Vec<_> = store.journals().unwrap().collect();
    let read: Vec<_> = journals.iter().map(|journal| (journal.pg.0, journal.bytes.as_deref().ok())).collect();
    assert_eq!(read, [(5, Some(&b"one two three"[..])), (6, Some(b"newer")), (7, None), (u32::MAX, Some(b"less"))]);
    assert!(!folder.path().join("journal/00000005.journal.new").exists());
}

#[test]
fn after_a_failed_sync_nothing_is_written_and_reading_goes_on() {
    let (_folder, store) = opened();
    let (one, other) = (made(1, 100_000), made(2, 100_000));
    one.store(&store);
    for step in other.steps().into_iter().take(3) {
        store.perform(step).unwrap();
    }
    store.fence().close("force a journal to the disk", &io::Error::other("test"));
    for call in [
        StoreCall::OpenStage { key: other.stage, header: Box::new(other.header) },
        StoreCall::FinishStage { key: other.stage, record: other.record.clone() },
        StoreCall::PublishStage { key: other.stage },
        StoreCall::SyncFolder { pg: PG },
        StoreCall::AppendJournal { pg: PG, bytes: vec![1] },
        StoreCall::ReplaceJournal { pg: PG, bytes: vec![1] },
        StoreCall::Quarantine { fragment: one.fragment, reason: String::new() },
        StoreCall::UnlinkQuarantined { fragment: one.fragment },
    ] {
        let answer = store.perform(call.clone());
        assert!(matches!(answer, Err(StoreError::Io(_))), "{call:?}: {answer:?}");
    }
    assert!(one.read(&store).is_ok() && store.journals().unwrap().next().is_none());
    assert_eq!(one.check(&store), one.healthy());
}

#[test]
fn a_folder_whose_process_is_just_ending_is_waited_for() {
    let (folder, store) = opened();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(store);
    });
    assert!(DiskStore::open(folder.path(), Unlabelled::Refuse).is_ok());
    ending.join().unwrap();
}

#[test]
fn a_folder_is_used_by_one_process_and_a_strange_one_by_none() {
    let (folder, store) = opened();
    let disk = store.disk();
    assert!(matches!(DiskStore::open(folder.path(), Unlabelled::Format), Err(OpenError::Locked)));
    assert_eq!((store.cell(), store.set_cell(CELL)), (None, Ok(StoreOk::Done)));
    assert!(matches!(store.set_cell(CellKey(1)), Err(StoreError::Invalid(_))));
    assert_eq!(store.set_cell(CELL), Ok(StoreOk::Done));
    drop(store);
    let store = DiskStore::open(folder.path(), Unlabelled::Format).unwrap();
    assert_eq!((store.disk(), store.cell()), (disk, Some(CELL)));
    drop(store);
    fs::remove_file(folder.path().join("label")).unwrap();
    assert!(matches!(DiskStore::open(folder.path(), Unlabelled::Format), Err(OpenError::Foreign)));
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("thesis.txt"), "x").unwrap();
    assert!(matches!(DiskStore::open(home.path(), Unlabelled::Format), Err(OpenError::Foreign)));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let deep = home.path().join("a/b");
    assert!(DiskStore::open(&deep, Unlabelled::Format).is_ok() && deep.join("label").is_file());
    fs::write(deep.join("label"), "{\"ninefold_disk\":9}").unwrap();
    assert!(matches!(DiskStore::open(&deep, Unlabelled::Format), Err(OpenError::Label(_))));
    assert!(matches!(DiskStore::open(&home.path().join("thesis.txt"), Unlabelled::Format), Err(OpenError::Io { .. })));
}

/// An empty mount point is an empty folder.
#[test]
fn without_being_asked_no_folder_becomes_a_disk_and_nothing_is_left_in_it() {
    let home = tempfile::tempdir().unwrap();
    for path in [home.path().to_owned(), home.path().join("a/b")] {
        assert!(matches!(DiskStore::open(&path, Unlabelled::Refuse), Err(OpenError::Unformatted)));
        assert!(matches!(FolderStore::open(&path, Unlabelled::Refuse), Err(OpenError::Unformatted)));
        let files = std::sync::Arc::new(MemoryStore::new(1 << 20));
        assert!(matches!(DiskStore::over(&path, files, Unlabelled::Refuse), Err(OpenError::Unformatted)));
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    // What a crash in the making of a disk leaves is no disk yet.
    fs::write(home.path().join("lock"), "").unwrap();
    assert!(matches!(DiskStore::open(home.path(), Unlabelled::Refuse), Err(OpenError::Unformatted)));
    let disk = DiskStore::open(home.path(), Unlabelled::Format).unwrap().disk();
    for unlabelled in [Unlabelled::Refuse, Unlabelled::Format] {
        assert_eq!(DiskStore::open(home.path(), unlabelled).unwrap().disk(), disk);
    }
}

#[test]
fn an_empty_folder_takes_little() {
    let (folder, store) = opened();
    drop(store);
    let du = Command::new("du").args(["-s", "-B1"]).arg(folder.path()).output().unwrap();
    let bytes: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(bytes < 256 << 10, "{bytes}");
}

#[test]
fn a_full_disk_refuses_fragments_and_still_deletes() {
    let Some(disk) = SmallDisk::mount("4m") else { return };
    let path = disk.path().join("data");
    let store = DiskStore::open(&path, Unlabelled::Format).unwrap();
    let small = made(1, 1_000_000);
    small.store(&store);
    // The reserve is only made where there is plenty.
    assert!(!path.join("reserve").exists());
    fs::write(path.join("reserve"), vec![1; 64 << 10]).unwrap();
    drop(store);
    let store = DiskStore::open(&path, Unlabelled::Format).unwrap();
    let large = made(2, 40_000_000);
    let open = store.perform(StoreCall::OpenStage { key: large.stage, header: Box::new(large.header) });
    assert!(matches!(open, Err(StoreError::NoSpace(_))), "{open:?}");
    let fill = |name: &str| {
        use std::io::Write;
        let mut file = fs::File::create(disk.path().join(name)).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    fill("filler");
    let append = || store.perform(StoreCall::AppendJournal { pg: PG, bytes: vec![7; 3000] });
    assert_eq!(append(), Ok(StoreOk::Done));
    assert!(!path.join("reserve").exists());
    let aside = StoreCall::Quarantine { fragment: small.fragment, reason: "deleted".into() };
    assert_eq!(store.perform(aside), Ok(StoreOk::Done));
    // Without even the reserve an append fails whole: the journal is as it was.
    fill("rest");
    let appended = (0..100).map_while(|_| append().ok()).count();
    assert!(matches!(append(), Err(StoreError::NoSpace(_))));
    let journals: Vec<_> = store.journals().unwrap().collect();
    assert_eq!(journals[0].bytes.as_ref().map(Vec::len), Ok(3000 * (1 + appended)));
    // Deletes make room again.
    assert_eq!(store.perform(StoreCall::UnlinkQuarantined { fragment: small.fragment }), Ok(StoreOk::Done));
    assert_eq!(append(), Ok(StoreOk::Done));
    fs::remove_file(disk.path().join("filler")).unwrap();
    small.store(&store);
    assert_eq!(small.check(&store), small.healthy());
}
