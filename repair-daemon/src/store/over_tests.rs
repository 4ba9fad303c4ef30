//! A node's store over other stores than a folder: in memory, behind faults, counted.

use super::store_tests::{Made, PG, listed, made};
use super::*;
use repair_core::id::CellKey;
use repair_core::node::{StoreCall, StoreOk};
use std::sync::Arc;

const BYTES: u64 = 256 << 20;

fn over(files: &Arc<impl FragmentStore + 'static>) -> (tempfile::TempDir, DiskStore) {
    let home = tempfile::tempdir().unwrap();
    let store = DiskStore::over(home.path(), Arc::clone(files) as Arc<dyn FragmentStore>, Unlabelled::Format).unwrap();
    (home, store)
}

/// Payload by the store's words: its bytes, if they have the CRCs that came with them, as every reader looks.
fn read(made: &Made, store: &DiskStore, start: u64, end: u64) -> Result<Option<Vec<u8>>, StoreError> {
    match store.perform(StoreCall::Read { fragment: made.fragment, range: start..end })? {
        StoreOk::Data { body, crcs } => {
            let body = body.into_bytes().unwrap();
            let blocks = body.chunks(4096).zip(start as u32 / 4096..);
            let seed = made.header.identity.seed();
            let is_right = blocks.map(|(block, number)| seed.crc(number, block)).eq(crcs);
            Ok(is_right.then(|| body.to_vec()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_keeps_its_fragments_in_memory_too() {
    let memory = MemoryStore::new(BYTES);
    let files = Arc::new(memory.clone());
    let (home, store) = over(&files);
    assert_eq!(memory.label(), Ok(Some(Label { disk: store.disk(), cell: None })));
    store.set_cell(CellKey(5)).unwrap();
    assert_eq!(memory.label(), Ok(Some(Label { disk: store.disk(), cell: Some(CellKey(5)) })));
    // More than a page of a listing.
    let all: Vec<Made> = (0..150).map(|number| made(number, 20_000)).collect();
    all.iter().for_each(|made| made.store(&store));
    let large = made(999, 9_000_000);
    large.store(&store);
    let mut names: Vec<_> = all.iter().chain([&large]).map(|made| made.fragment).collect();
    names.sort_unstable();
    assert_eq!(listed(&store), names);
    let end = large.payload.len() as u64;
    for (start, end) in [(0, 4096), (1 << 20, 2 << 20), (end - 8192, end)] {
        let found = read(&large, &store, start, end).unwrap().unwrap();
        assert_eq!(found, large.payload[start as usize..end as usize]);
    }
    assert_eq!(large.check(&store), large.healthy());
    store.perform(StoreCall::IndexRemove { fragment: large.fragment }).unwrap();
    assert_eq!(large.record(&store), Ok(StoreOk::Record(large.record.clone())));
    assert!(store.open_fragment(large.fragment).unwrap().is_none(), "there is no file");
    let aside = StoreCall::Quarantine { fragment: large.fragment, reason: "test".into() };
    assert_eq!(store.perform(aside), Ok(StoreOk::Done));
    assert_eq!(read(&large, &store, 0, 4096), Err(StoreError::NotFound));
    assert_eq!(large.check(&store), Err(StoreError::NotFound));
    drop(store);
    // The next life; and what belongs to another disk is not taken for ours.
    let store = DiskStore::over(home.path(), Arc::clone(&files) as Arc<dyn FragmentStore>, Unlabelled::Format).unwrap();
    assert_eq!((store.cell(), listed(&store).len()), (Some(CellKey(5)), 150));
    let other = tempfile::tempdir().unwrap();
    assert!(matches!(DiskStore::over(other.path(), files, Unlabelled::Format), Err(OpenError::Label(_))));
}

#[test]
fn without_its_label_the_folder_of_the_journals_ends_all_writing() {
    let (home, store) = over(&Arc::new(MemoryStore::new(BYTES)));
    let one = made(1, 20_000);
    one.store(&store);
    assert!(store.perform(StoreCall::Touch).is_ok() && store.room().is_ok());
    std::fs::remove_file(home.path().join("label")).unwrap();
    assert!(matches!(store.perform(StoreCall::Touch), Err(StoreError::Io(_))) && store.room().is_err());
    let append = StoreCall::AppendJournal { pg: PG, bytes: vec![1] };
    assert!(matches!(store.perform(append), Err(StoreError::Io(_))));
    assert!(store.broken().is_some_and(|reason| reason.contains("label")));
    assert!(read(&one, &store, 0, 4096).unwrap().is_some(), "what is there can be had");
}

#[test]
fn a_crash_after_any_step_over_memory_leaves_nothing_or_the_whole_fragment() {
    let made = made(1, 3_000_000);
    let steps = made.steps().len();
    for done in 0..=steps {
        let memory = MemoryStore::new(BYTES);
        let (_home, store) = over(&Arc::new(memory.clone()));
        for step in made.steps().into_iter().take(done) {
            store.perform(step).unwrap();
        }
        memory.crash();
        // The name is durable with the second step from the end, its sync.
        let is_synced = done >= steps - 1;
        assert_eq!(listed(&store).len(), usize::from(is_synced), "after {done} steps");
        drop(store);
        let (_home, store) =
            (made.header, DiskStore::over(_home.path(), Arc::new(memory.clone()), Unlabelled::Format).unwrap());
        assert_eq!(made.check(&store), if is_synced { made.healthy() } else { Err(StoreError::NotFound) });
        made.store(&store);
        assert_eq!(made.check(&store), made.healthy());
    }
}

#[test]
fn whatever_the_medium_does_no_other_bytes_are_given() {
    for fault in Fault::ALL {
        let (mut served, mut struck) = (0, 0);
        for seed in 0..6 {
            let files = Arc::new(Faulty::new(MemoryStore::new(BYTES), Faults::default(), seed));
            let (_home, store) = over(&files);
            files.set_faults(Faults::default().with(fault, 6));
            for number in 0..12 {
                // Under the same names now and then, so that there is something older.
                let made = made(number % 4, 60_000 + number / 4);
                served += usize::from(fault_course(&made, &store, fault));
            }
            struck += files.struck(fault);
        }
        assert!(struck > 5, "{fault:?} struck {struck} times");
        assert!(served > 0, "{fault:?}: nothing was ever served");
    }
}

/// A fragment stored, read and checked over a medium that fails or lies; whether its payload was given.
fn fault_course(made: &Made, store: &DiskStore, fault: Fault) -> bool {
    let mut is_stored = true;
    for step in made.steps() {
        match store.perform(step) {
            Ok(StoreOk::Published(new)) => is_stored &= new,
            // The root is that of the bytes as received, whatever became of them below.
            Ok(StoreOk::Root(root)) => assert_eq!(made.healthy(), Ok(healthy_with(root, made.payload.len() as u64))),
            Ok(_) => {}
            Err(_) => is_stored = false,
        }
    }
    let end = made.payload.len() as u64;
    let given = read(made, store, 0, end).ok().flatten();
    if is_stored && let Some(given) = &given {
        assert!(*given == made.payload, "{fault:?}: other bytes that have their CRCs");
    }
    if let Ok(StoreOk::Checked { class, root, bytes }) = made.check(store)
        && class == "healthy"
    {
        // A healthy one has the root of the record that it carries, which is ours: the record was asked for by its hash.
        assert_eq!(made.healthy(), Ok(StoreOk::Checked { class, root, bytes }), "{fault:?}");
    }
    // A listing may be stale, and says so to nobody: it names only what once was there.
    if let Ok(StoreOk::Folder(names)) = store.perform(StoreCall::ListFolder { pg: PG }) {
        assert!(names.iter().all(|name| name.extent.pg() == PG));
    }
    let aside = StoreCall::Quarantine { fragment: made.fragment, reason: "next".into() };
    let _ = store.perform(aside);
    given.is_some()
}

fn healthy_with(root: [u8; 32], bytes: u64) -> StoreOk {
    StoreOk::Checked { class: "healthy".into(), root: Some(root), bytes }
}

#[test]
fn a_put_asks_a_store_for_no_more_than_it_needs() {
    let files = Arc::new(Counted::new(MemoryStore::new(BYTES)));
    let (_home, store) = over(&files);
    let made = made(1, 9_000_000);
    made.store(&store);
    let pieces = made.payload.len().div_ceil(1 << 20) as u64;
    let written_bytes = files.counts().written_bytes;
    assert!(written_bytes > made.payload.len() as u64);
    // Header and tail beside the payload.
    let expected =
        Counts { begins: 1, writes: pieces + 2, written_bytes, seals: 1, publishes: 1, syncs: 1, ..Counts::default() };
    assert_eq!(files.counts(), expected);
    // Read by slices: header, footer and tail once, then payload alone.
    for number in 0..2 {
        read(&made, &store, number << 20, (number + 1) << 20).unwrap().unwrap();
    }
    let counts = files.counts();
    assert_eq!((counts.reads, counts.lengths, counts.opens, counts.failures), (3 + 2, 1, 1, 0));
    let _ = listed(&store);
    assert_eq!((files.counts().lists, PG), (1, made.fragment.extent.pg()));
}

/// Lies about what was written.
const LIES: [Fault; 4] = [Fault::LostWrite, Fault::TornWrite, Fault::Misdirected, Fault::BitFlip];

fn over_with(files: &Arc<impl FragmentStore + 'static>, policy: ReadBack) -> (tempfile::TempDir, DiskStore) {
    let (home, store) = over(files);
    (home, store.with_read_back(policy))
}

/// Puts over a medium that lies once in so many operations; how many fragments got names, and how many of those are not what was put.
fn published_over(fault: Fault, policy: ReadBack) -> (usize, usize) {
    let (mut named, mut wrong, mut struck) = (0, 0, 0);
    for seed in 0..20 {
        let files = Arc::new(Faulty::new(MemoryStore::new(BYTES), Faults::default(), seed));
        let (_home, store) = over_with(&files, policy);
        files.set_faults(Faults::default().with(fault, 8));
        let all: Vec<Made> = (0..5).map(|number| made(number, 60_000)).collect();
        for made in &all {
            let _ = made.steps().into_iter().try_for_each(|step| store.perform(step).map(drop));
        }
        struck += files.struck(fault);
        files.set_faults(Faults::default());
        let names = listed(&store);
        for made in all.iter().filter(|made| names.contains(&made.fragment)) {
            named += 1;
            wrong += usize::from(made.check(&store) != made.healthy());
        }
    }
    assert!(struck > 10, "{fault:?} struck {struck} times");
    (named, wrong)
}

#[test]
fn what_is_not_on_the_medium_as_it_was_written_gets_no_name() {
    for fault in LIES {
        let (named, wrong) = published_over(fault, ReadBack::Always);
        assert!(named > 10 && wrong == 0, "{fault:?}: {wrong} of {named}");
        // The same without it: the fault does what it is said to do.
        let (named, wrong) = published_over(fault, ReadBack::Off);
        assert!(named > 10 && wrong > 5, "{fault:?}: {wrong} of {named}");
    }
}

#[test]
fn a_medium_that_lies_twice_takes_nothing_any_more() {
    let files = Arc::new(Faulty::new(MemoryStore::new(BYTES), Faults::default(), 1));
    let (_home, store) = over_with(&files, ReadBack::Always);
    let (sound, finished) = (made(1, 60_000), made(2, 60_000));
    sound.store(&store);
    let is_finish = |step: &StoreCall| matches!(step, StoreCall::FinishStage { .. });
    let steps = finished.steps();
    let to_finish = steps.iter().position(is_finish).unwrap() + 1;
    steps.into_iter().take(to_finish).for_each(|step| drop(store.perform(step).unwrap()));
    files.set_faults(Faults::default().with(Fault::LostWrite, 1));
    for lies in 1..=2 {
        let lost = made(10 + lies, 60_000);
        let failed = lost.steps().into_iter().find_map(|step| store.perform(step).err());
        let Some(StoreError::Io(reason)) = failed else { panic!("{failed:?}") };
        assert!(reason.contains("read back"), "{reason}");
        assert_eq!((store.mismatches(), store.broken().is_some()), (lies, lies == 2));
        assert!(store.perform(StoreCall::PublishStage { key: lost.stage }).is_err(), "it is discarded");
    }
    files.set_faults(Faults::default());
    let begin = StoreCall::OpenStage { key: sound.stage, header: Box::new(sound.header) };
    for call in [begin, StoreCall::PublishStage { key: finished.stage }] {
        let refused = store.perform(call);
        assert!(matches!(&refused, Err(StoreError::Io(reason)) if reason.contains("writing ended")), "{refused:?}");
    }
    assert_eq!(listed(&store), [sound.fragment]);
    assert_eq!(sound.check(&store), sound.healthy());
}

#[test]
fn a_sample_is_read_back_whole_and_the_others_not_at_all() {
    let files = Arc::new(Counted::new(MemoryStore::new(BYTES)));
    let (_home, store) = over_with(&files, ReadBack::Sample);
    let mut sampled = 0;
    for number in 0..200 {
        let made = made(number, 10_000);
        let before = files.counts().read_backs;
        made.store(&store);
        let is_wanted = ReadBack::Sample.wants(made.fragment);
        // Header, payload and tail.
        assert_eq!(files.counts().read_backs - before, if is_wanted { 3 } else { 0 });
        sampled += usize::from(is_wanted);
    }
    assert!((4..30).contains(&sampled), "{sampled} of 200");
}
