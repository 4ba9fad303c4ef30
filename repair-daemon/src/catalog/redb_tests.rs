//! The redb catalog: conformance, crashes at every write to its file, faults, hostile files.

use super::*;
use crate::catalog::conformance::conformance;
use repair_core::rng::Dice;
use std::fs;
use std::sync::{Arc, Mutex};

/// A disk in memory that keeps apart what was synced and what was not, and can fail.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Since the last sync: None for a change of length, which an image after a crash has whole.
    unsynced: Vec<(usize, Vec<u8>)>,
    operations: u64,
    /// From this operation on everything fails.
    fails_at: Option<u64>,
}

impl Disk {
    fn step<T>(&self, work: impl FnOnce(&mut DiskState) -> T) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.operations += 1;
        if state.fails_at.is_some_and(|at| state.operations >= at) {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(work(&mut state))
    }

    fn operations(&self) -> u64 {
        self.0.lock().unwrap().operations
    }

    fn fail_at(&self, operation: u64) {
        self.0.lock().unwrap().fails_at = Some(operation);
    }

    /// What lies on the disk after power failed: of what was not synced some pieces, in any combination, cut anywhere.
    fn after_power_failure(&self, dice: &mut Dice) -> Self {
        let state = self.0.lock().unwrap();
        let mut image = state.durable.clone();
        image.resize(image.len().max(state.now.len()), 0);
        for (offset, bytes) in &state.unsynced {
            let kept = match dice.below(3) {
                0 => 0,
                1 => dice.below(bytes.len() as u64) as usize,
                _ => bytes.len(),
            };
            let end = (offset + kept).min(image.len());
            if *offset < end {
                image[*offset..end].copy_from_slice(&bytes[..end - offset]);
            }
        }
        Self(Arc::new(Mutex::new(DiskState { durable: image.clone(), now: image, ..DiskState::default() })))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.step(|state| state.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.step(|state| out.copy_from_slice(&state.now[offset as usize..][..out.len()]))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.step(|state| state.now.resize(length as usize, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step(|state| {
            state.durable = state.now.clone();
            state.unsynced.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(|state| {
            state.now[offset as usize..][..data.len()].copy_from_slice(data);
            state.unsynced.push((offset as usize, data.to_vec()));
        })
    }
}

fn put(key: &[u8], value: u64) -> Txn {
    Txn::new().put(key.to_vec(), value.to_le_bytes().to_vec())
}

fn value(catalog: &mut RedbCatalog, key: &[u8]) -> Option<u64> {
    let row = catalog.get(&[key.to_vec()]).unwrap().remove(0)?;
    Some(u64::from_le_bytes(row.value.try_into().unwrap()))
}

#[test]
fn it_conforms_also_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let reopen = |catalog| {
        drop(catalog);
        RedbCatalog::open(&path).unwrap()
    };
    conformance(RedbCatalog::open(&path).unwrap(), reopen, 2).unwrap();
}

#[test]
fn it_conforms_when_power_fails_instead_of_an_orderly_end() {
    for seed in 0..3 {
        let mut dice = Dice::new(seed);
        let mut disk = Disk::default();
        let catalog = RedbCatalog::open_backend(disk.clone()).unwrap();
        let crash = |catalog: RedbCatalog| {
            let survivor = disk.after_power_failure(&mut dice);
            drop(catalog);
            disk = survivor;
            RedbCatalog::open_backend(disk.clone()).unwrap()
        };
        conformance(catalog, crash, seed).unwrap();
    }
}

#[test]
fn a_disk_that_fails_at_any_operation_leaves_acknowledged_transactions_whole_and_no_others_half() {
    let mut dice = Dice::new(5);
    let mut catalog_was_broken = 0;
    for fails_after in 1..120 {
        let disk = Disk::default();
        let mut catalog = RedbCatalog::open_backend(disk.clone()).unwrap();
        disk.fail_at(disk.operations() + fails_after);
        let mut acknowledged = 0;
        for number in 1..=12u64 {
            let txn =
                Txn { compares: vec![], writes: [put(b"a", number), put(b"b", number)].map(|put| put.writes).concat() };
            match catalog.txn(&txn) {
                Ok(TxnResult::Done { .. }) => acknowledged = number,
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    assert!(matches!(error, CatalogError::Broken(_)));
                    catalog_was_broken += 1;
                    break;
                }
            }
        }
        let mut survivor = RedbCatalog::open_backend(disk.after_power_failure(&mut dice)).unwrap();
        let (a, b) = (value(&mut survivor, b"a").unwrap_or(0), value(&mut survivor, b"b").unwrap_or(0));
        assert_eq!(a, b, "half a transaction, after {fails_after}");
        assert!(a == acknowledged || a == acknowledged + 1, "{a} after {acknowledged} were acknowledged");
    }
    assert!(catalog_was_broken > 20, "only {catalog_was_broken} runs met the fault");
}

#[test]
fn a_second_opening_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let _first = RedbCatalog::open(&path).unwrap();
    let error = RedbCatalog::open(&path).unwrap_err();
    assert!(error.to_string().contains("another process has it open"), "{error}");
}

#[test]
fn what_is_no_catalog_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    fs::write(&path, b"a letter to my aunt").unwrap();
    assert_eq!(RedbCatalog::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(fs::read(&path).unwrap(), b"a letter to my aunt");
    fs::remove_file(&path).unwrap();

    let other = Database::create(&path).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(TableDefinition::<u64, u64>::new("fragments")).unwrap();
    write.commit().unwrap();
    drop(other);
    assert!(RedbCatalog::open(&path).unwrap_err().to_string().contains("no catalog"));
    fs::remove_file(&path).unwrap();

    let later = Database::create(&path).unwrap();
    let write = later.begin_write().unwrap();
    write.open_table(HEAD).unwrap().insert("format", FORMAT + 1).unwrap();
    write.commit().unwrap();
    drop(later);
    assert!(RedbCatalog::open(&path).unwrap_err().to_string().contains("format is 2"));
    assert!(RedbCatalog::open(&folder.path().join("no/such/folder")).is_err());
    assert!(RedbCatalog::open(folder.path()).is_err());
}

#[test]
fn a_damaged_or_shortened_file_is_refused_or_still_right_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let mut catalog = RedbCatalog::open(&path).unwrap();
    for number in 0..200u64 {
        catalog.txn(&put(format!("key/{number:04}").as_bytes(), number)).unwrap();
    }
    let whole = catalog.range(b"key/", None, usize::MAX).unwrap();
    drop(catalog);
    let sound = fs::read(&path).unwrap();
    let mut dice = Dice::new(9);
    let mut refused = 0;
    for round in 0..60 {
        let mut bytes = sound.clone();
        if round % 3 == 0 {
            bytes.truncate(1 + dice.below(sound.len() as u64 - 1) as usize);
        } else {
            // Most of the file is empty pages: aim at what is written.
            let written: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
            for _ in 0..8 {
                bytes[*dice.pick(&written).unwrap()] ^= 1 << dice.below(8);
            }
        }
        fs::write(&path, &bytes).unwrap();
        match RedbCatalog::open(&path) {
            Err(_) => refused += 1,
            Ok(mut catalog) => assert_eq!(catalog.range(b"key/", None, usize::MAX).unwrap(), whole, "round {round}"),
        }
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn the_key_after_a_prefix() {
    assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
    assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
    assert_eq!(after_prefix(b"\xff\xff"), None);
    assert_eq!(after_prefix(b""), None);
}
