use super::*;
use ec_core::ShardIndex;
use ec_core::fragment::{Content, ExtentRecord, FragmentEntry};
use repair_core::id::{AttemptId, ExtentKey};

const PG: PgId = PgId(3);

fn key() -> StageKey {
    let cell = CellKey(9 << 112);
    StageKey { attempt: AttemptId::default(), extent: ExtentKey::compose(cell, PG, 1, 4), index: 1 }
}

fn payload() -> Vec<u8> {
    (0..2 * BLOCK_BYTES).map(|at| (at % 251) as u8).collect()
}

fn identity(index: u16) -> BirthIdentity {
    let payload_bytes = payload().len() as u64;
    let extent = key().extent.id();
    BirthIdentity { cell: CellKey(9 << 112).id(), extent, generation: 1, index: ShardIndex::new(index), payload_bytes }
}

fn record() -> Body {
    let root = |index| identity(index).root(&Hash::of(&payload()));
    let fragments = (0..3).map(|index| FragmentEntry { identity: identity(index), root: root(index) }).collect();
    let record = ExtentRecord {
        cell: CellKey(9 << 112).id(),
        extent: key().extent.id(),
        revision: 1,
        code: "replicate:3".parse().unwrap(),
        extent_bytes: payload().len() as u64,
        extent_hash: Hash::of(&payload()),
        stream: ec_core::fragment::StreamId(1),
        ordinal: 0,
        offset: 0,
        stream_bytes: None,
        content: Content::File,
        name: b"x".to_vec(),
        fragments,
        extents: Vec::new(),
    };
    record.to_bytes().unwrap().into()
}

fn fragment() -> FragmentKey {
    FragmentKey { extent: key().extent, generation: 1, index: 1 }
}

fn finished(seed: u64) -> FakeDisk {
    let mut disk = FakeDisk::new(DiskId(1), Dice::new(seed));
    stage(&mut disk);
    disk
}

fn header() -> Box<Header> {
    Box::new(Header {
        identity: identity(1),
        code: "replicate:3".parse().unwrap(),
        extent_bytes: payload().len() as u64,
        record_bytes: 1,
    })
}

/// Stages and finishes the fragment.
fn stage(disk: &mut FakeDisk) {
    disk.perform(&StoreCall::OpenStage { key: key(), header: header() }).unwrap();
    for offset in [BLOCK_BYTES, 0] {
        let body = Body::copy_from_slice(&payload()[offset..offset + BLOCK_BYTES]);
        disk.perform(&StoreCall::WriteStage { key: key(), offset: offset as u64, body }).unwrap();
    }
    let root = disk.perform(&StoreCall::SealStage { key: key() }).unwrap();
    assert_eq!(root, StoreOk::Root(*identity(1).root(&Hash::of(&payload())).as_bytes()));
    disk.perform(&StoreCall::FinishStage { key: key(), record: record() }).unwrap();
}

fn publish(disk: &mut FakeDisk) {
    assert_eq!(disk.perform(&StoreCall::PublishStage { key: key() }), Ok(StoreOk::Published(true)));
}

#[test]
fn a_name_survives_power_loss_only_when_its_folder_was_synced() {
    let hash = RecordHash::of(&record());
    let mut kept = 0;
    for seed in 0..40 {
        let mut disk = finished(seed);
        publish(&mut disk);
        assert!(!disk.holds(fragment(), &hash));
        disk.crash(true);
        kept += u32::from(disk.names().contains_key(&fragment()));
    }
    assert!((5..35).contains(&kept), "{kept}");
    let mut disk = finished(1);
    publish(&mut disk);
    disk.perform(&StoreCall::SyncFolder { pg: PG }).unwrap();
    disk.crash(true);
    assert!(disk.holds(fragment(), &hash));
    let read = disk.perform(&StoreCall::Read { fragment: fragment(), range: 4096..8192 }).unwrap();
    assert!(
        matches!(read, StoreOk::Data { body, crcs } if body.clone().into_bytes().unwrap() == payload()[4096..] && crcs.len() == 1)
    );
}

#[test]
fn damage_is_seen_by_a_check_and_nowhere_taken_for_sound() {
    let hash = RecordHash::of(&record());
    for seed in 0..40 {
        let mut disk = finished(seed);
        publish(&mut disk);
        disk.perform(&StoreCall::SyncFolder { pg: PG }).unwrap();
        let check = StoreCall::Check { fragment: fragment(), hash: Some(hash) };
        let class = |disk: &mut FakeDisk| match disk.perform(&check) {
            Ok(StoreOk::Checked { class, .. }) => class,
            other => panic!("{other:?}"),
        };
        assert_eq!(class(&mut disk), "healthy");
        disk.rot(fragment());
        assert_ne!(class(&mut disk), "healthy", "seed {seed}");
        assert!(!disk.holds(fragment(), &hash));
    }
}

#[test]
fn a_disk_that_loses_a_write_says_nothing_and_what_is_not_named_is_gone() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut disk = FakeDisk::new(DiskId(1), Dice::new(seed));
        disk.lie = Some(if seed % 2 == 0 { Lie::Lost } else { Lie::Torn });
        stage(&mut disk);
        publish(&mut disk);
        disk.perform(&StoreCall::SyncFolder { pg: PG }).unwrap();
        lost += u32::from(!disk.holds(fragment(), &RecordHash::of(&record())));
    }
    assert!(lost > 10, "{lost}");
    let mut disk = finished(7);
    disk.crash(false);
    assert_eq!((disk.stages(), disk.names().len()), (0, 0));
}

#[test]
fn what_a_kept_stage_remembers_is_there_after_a_crash_unless_the_disk_lied() {
    let right = StoreOk::Root(*identity(1).root(&Hash::of(&payload())).as_bytes());
    let (mut resumed, mut wrong) = (0, 0);
    for seed in 0..60 {
        let mut disk = FakeDisk::new(DiskId(1), Dice::new(seed));
        let lies = seed % 2 == 1;
        disk.lie = lies.then_some(Lie::Lost);
        let write = |disk: &mut FakeDisk, offset: usize| {
            let body = Body::copy_from_slice(&payload()[offset..offset + BLOCK_BYTES]);
            disk.perform(&StoreCall::WriteStage { key: key(), offset: offset as u64, body }).unwrap();
        };
        let keep = StoreCall::KeepStage { key: key(), header: header() };
        assert_eq!(disk.perform(&keep), Ok(StoreOk::Kept(Some(vec![]))));
        write(&mut disk, 0);
        disk.crash(true);
        let Ok(StoreOk::Kept(Some(written))) = disk.perform(&keep) else { panic!("not kept") };
        let first = written == [(0, BLOCK_BYTES as u64)];
        assert!(first || written.is_empty(), "{written:?}");
        resumed += u32::from(first);
        (usize::from(first)..2).for_each(|block| write(&mut disk, block * BLOCK_BYTES));
        let is_right = disk.perform(&StoreCall::SealStage { key: key() }) == Ok(right.clone());
        assert!(is_right || lies && first, "seed {seed}");
        wrong += u32::from(!is_right);
        // Let go of, all of it is there.
        disk.perform(&StoreCall::LeaveStage { key: key() }).unwrap();
        disk.crash(true);
        assert_eq!(disk.kept(), [fragment()]);
        disk.perform(&StoreCall::DropKept { fragment: fragment() }).unwrap();
        assert!(disk.kept().is_empty());
    }
    assert!((10..50).contains(&resumed) && wrong > 3, "{resumed} resumed, {wrong} wrong");
}

#[test]
fn a_torn_append_is_a_prefix_and_what_was_answered_is_whole() {
    let append = |bytes: &[u8]| StoreCall::AppendJournal { pg: PG, bytes: bytes.to_vec() };
    for seed in 0..20 {
        let mut disk = FakeDisk::new(DiskId(1), Dice::new(seed));
        disk.perform(&append(b"first")).unwrap();
        disk.crash_in(&append(b"second"));
        disk.crash(true);
        let journal = disk.journals()[0].bytes.clone().unwrap();
        assert!(journal.starts_with(b"first") && b"firstsecond".starts_with(&journal));
    }
    let mut disk = FakeDisk::new(DiskId(1), Dice::new(3));
    disk.mutation = Some(DiskMutation::JournalUnsynced);
    disk.perform(&append(&[1; 64])).unwrap();
    assert_eq!(disk.journals()[0].bytes.as_ref().unwrap().len(), 64);
    disk.crash(true);
    assert!(disk.journals()[0].bytes.as_ref().unwrap().len() < 64);
}
