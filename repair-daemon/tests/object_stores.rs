//! Stores in buckets, on real services: the suite, large fragments, lost answers, services that are overloaded, gone or not trusted.

#[path = "support/emulator.rs"]
mod emulator;

use emulator::{Does, Emulator, Kind, LABEL, Proxy, Rule, open};
use repair_core::id::{CellKey, ExtentKey, PgId};
use repair_core::wire::node::FragmentKey;
use repair_daemon::store::bucket::BucketStore;
use repair_daemon::store::{
    FragmentStore, Label, Published, ReadFrom, Staged, StoreError, conformance, conformance_away,
};
use std::cell::Cell;
use std::time::{Duration, Instant};

const PG: PgId = PgId(3);
const MIB: usize = 1 << 20;
/// Two parts and a bit.
const LARGE: usize = 21 * MIB + 5;
const FOREVER: usize = usize::MAX;

fn key(counter: u64) -> FragmentKey {
    FragmentKey { extent: ExtentKey::compose(CellKey(1 << 100), PG, 1, counter), generation: 1, index: 0 }
}

fn painted(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A sealed stage; its beginning is written last.
fn sealed(store: &BucketStore, bytes: &[u8]) -> Box<dyn Staged> {
    let mut stage = store.begin(bytes.len() as u64).unwrap();
    for (number, piece) in bytes.chunks(MIB).enumerate().collect::<Vec<_>>().into_iter().rev() {
        stage.write_at((number * MIB) as u64, piece).unwrap();
    }
    stage.seal(bytes.len() as u64).unwrap();
    stage
}

fn whole(store: &BucketStore, fragment: FragmentKey) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; store.length(fragment)? as usize];
    store.read(fragment, 0, &mut bytes, ReadFrom::Device).map(|()| bytes)
}

/// The suite, on fragments in name objects and in parts of some bytes.
fn conforms(kind: Kind) {
    // Real services want 5 MiB; the suite's fragments are shorter.
    let emulator = Emulator::start_with(kind, false, &[("S3_UPLOAD_PART_MIN_SIZE", "1")]);
    let number = Cell::new(0);
    let opened = || emulator.store(&format!("conformance/{}", number.get()), |settings| settings.part_bytes = 20_000);
    let make = || {
        number.set(number.get() + 1);
        opened()
    };
    let reopen = |store: BucketStore| {
        drop(store);
        opened()
    };
    conformance(make, reopen, 1).unwrap();
}

#[test]
fn the_store_in_s3_conforms() {
    conforms(Kind::S3);
}

#[test]
fn the_store_in_azure_conforms() {
    conforms(Kind::Azure);
}

#[test]
fn a_service_that_is_gone_says_nothing_about_fragments() {
    for kind in [Kind::S3, Kind::Azure] {
        let mut emulator = Emulator::start(kind);
        let mut address = emulator.address("away");
        address.retry_for = Duration::from_millis(300);
        drop(emulator.store("away", |_| ()));
        let spool = tempfile::tempdir().unwrap();
        let store = open(&address, spool.path().to_owned(), |_| ()).unwrap();
        conformance_away(&store, |_| emulator.kill()).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn a_bucket_that_is_gone_or_closed_says_nothing_about_fragments() {
    for kind in [Kind::S3, Kind::Azure] {
        let emulator = Emulator::start(kind);
        for status in [403, 404] {
            let proxy = Proxy::before(&emulator);
            let store = emulator.store_behind(&proxy, &format!("status-{status}"), |_| ());
            let rule = Rule { method: "", parts: &[], does: Does::Answer(status), times: FOREVER };
            conformance_away(&store, |_| proxy.set(&[rule]))
                .unwrap_or_else(|error| panic!("{kind:?} {status}: {error}"));
        }
        // The bucket is there and empty but for what others keep in it: a wrong prefix, or everything deleted.
        let proxy = Proxy::before(&emulator);
        let store = emulator.store_behind(&proxy, "no-label", |_| ());
        let rule = Rule { method: "GET", parts: &["/label"], does: Does::Answer(404), times: FOREVER };
        conformance_away(&store, |_| proxy.set(&[rule])).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn a_large_fragment_goes_in_parts_and_is_read_in_pieces() {
    for kind in [Kind::S3, Kind::Azure] {
        let emulator = Emulator::start(kind);
        let store = emulator.store("large", |_| ());
        let label_bytes = emulator.used_bytes("large");
        let bytes = painted(LARGE);
        let mut stage = sealed(&store, &bytes);
        assert_eq!(stage.publish(key(1)), Ok(Published::New));
        assert!(whole(&store, key(1)).unwrap() == bytes, "{kind:?}");
        let mut second = sealed(&store, &bytes);
        assert_eq!(second.publish(key(1)), Ok(Published::NameTaken));
        drop((stage, second, store));
        // What is in the bucket is the fragment, its name and the label: a try in vain left nothing.
        assert_eq!(emulator.used_bytes("large"), label_bytes + LARGE as u64 + 64, "{kind:?}");

        let store = emulator.store("large", |_| ());
        for (offset, length) in [(0, 1), (8 * MIB - 1, 2), (LARGE - 7, 7), (LARGE, 0), (5, 9 * MIB)] {
            let mut piece = vec![0; length];
            store.read(key(1), offset as u64, &mut piece, ReadFrom::Cache).unwrap();
            assert!(piece == bytes[offset..offset + length], "{kind:?} {offset} {length}");
        }
        store.set_aside(key(1), "test").unwrap();
        assert_eq!(store.length(key(1)), Err(StoreError::NotFound));
        assert_eq!(sealed(&store, &bytes[1..]).publish(key(1)), Ok(Published::New));
        store.purge(key(1)).unwrap();
        assert!(whole(&store, key(1)).unwrap() == bytes[1..], "{kind:?}: the purge took what has the name");
        store.set_aside(key(1), "test").unwrap();
        store.purge(key(1)).unwrap();
        assert_eq!(emulator.used_bytes("large"), label_bytes, "{kind:?}");
    }
}

#[test]
fn a_lost_answer_is_neither_a_name_that_is_taken_nor_a_fragment_that_is_not_there() {
    for kind in [Kind::S3, Kind::Azure] {
        let emulator = Emulator::start(kind);
        let proxy = Proxy::before(&emulator);
        let store = emulator.store_behind(&proxy, "lost", |_| ());
        let lost = |parts: &'static [&'static str], times| Rule { method: "P", parts, does: Does::LoseAnswer, times };
        // The end of an upload in parts: S3 is sent POST, Azure a list of blocks.
        let end: &'static [&'static str] = match kind {
            Kind::S3 => &["/data/", "uploadId="],
            Kind::Azure => &["/data/", "comp=blocklist"],
        };
        for (number, bytes) in [(1, painted(5000)), (2, painted(LARGE))] {
            proxy.set(&[lost(&["/names/"], 1), lost(end, 1)]);
            assert_eq!(sealed(&store, &bytes).publish(key(number)), Ok(Published::New), "{kind:?} {number}");
            assert_eq!(proxy.struck(), number as usize, "{kind:?}");
            assert!(whole(&store, key(number)).unwrap() == bytes);
            // Somebody else's name is taken, answer or no answer.
            proxy.set(&[lost(&["/names/"], 1)]);
            assert_eq!(sealed(&store, &bytes[1..]).publish(key(number)), Ok(Published::NameTaken));
            assert!(whole(&store, key(number)).unwrap() == bytes, "{kind:?}");
        }
        // So it is with the label.
        proxy.set(&[lost(&["/label"], 1)]);
        store.set_label(Label { cell: Some(CellKey(9)), ..LABEL }).unwrap();
        assert_eq!(proxy.struck(), 1);
    }
}

#[test]
fn an_overloaded_service_is_asked_again_but_not_for_ever() {
    for kind in [Kind::S3, Kind::Azure] {
        let emulator = Emulator::start(kind);
        let proxy = Proxy::before(&emulator);
        let store = emulator.store_behind(&proxy, "busy", |_| ());
        let busy = |method, times| Rule { method, parts: &["/names/"], does: Does::Answer(503), times };
        proxy.set(&[busy("PUT", 3)]);
        assert_eq!(sealed(&store, &painted(5000)).publish(key(1)), Ok(Published::New));
        proxy.set(&[busy("GET", 3)]);
        assert!(whole(&store, key(1)).unwrap() == painted(5000));
        assert_eq!(proxy.struck(), 3, "{kind:?}");
        proxy.set(&[busy("GET", FOREVER)]);
        let began = Instant::now();
        let failed = whole(&store, key(1));
        assert!(matches!(failed, Err(StoreError::Io(_))), "{kind:?}: {failed:?}");
        assert!(proxy.struck() > 3 && began.elapsed() < Duration::from_secs(15), "{kind:?}: {:?}", began.elapsed());
    }
}

#[test]
fn what_an_unfinished_publication_left_is_swept_and_what_a_name_refers_to_stays() {
    for kind in [Kind::S3, Kind::Azure] {
        let emulator = Emulator::start(kind);
        let proxy = Proxy::before(&emulator);
        let store = emulator.store_behind(&proxy, "sweep", |_| ());
        let label_bytes = emulator.used_bytes("sweep");
        let refuse = |method, parts| Rule { method, parts, does: Does::Answer(403), times: FOREVER };
        // The process ends between name and tidying.
        proxy.set(&[refuse("DELETE", &[])]);
        let bytes = painted(LARGE);
        assert_eq!(sealed(&store, &bytes).publish(key(1)), Ok(Published::New));
        // It ends between the bytes and the name; and between two parts.
        proxy.set(&[refuse("DELETE", &[]), refuse("PUT", &["/names/"])]);
        assert!(matches!(sealed(&store, &bytes).publish(key(2)), Err(StoreError::Io(_))));
        let second: &'static [&'static str] = match kind {
            Kind::S3 => &["partNumber=2"],
            Kind::Azure => &["comp=blocklist"],
        };
        proxy.set(&[refuse("DELETE", &[]), refuse("PUT", second)]);
        assert!(matches!(sealed(&store, &bytes).publish(key(3)), Err(StoreError::Io(_))));
        drop(store);
        if kind == Kind::S3 {
            assert_eq!(emulator.open_uploads(), 1);
        }

        // Too young to be touched.
        let patient = emulator.store("sweep", |settings| settings.leftover_age = Duration::from_secs(3600));
        assert_eq!(patient.sweep(), Ok(0));
        assert!(emulator.used_bytes("sweep") >= label_bytes + LARGE as u64 + 64);
        drop(patient);
        let store = emulator.store("sweep", |_| ());
        // The one at the start may have come first.
        let _ = store.sweep().unwrap();
        let used = || match emulator.used_bytes("sweep") {
            used if used == label_bytes + LARGE as u64 + 64 => Ok(()),
            used => Err(format!("{kind:?}: {used} bytes")),
        };
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(reason) = used() {
            assert!(Instant::now() < until, "{reason}");
        }
        assert!(whole(&store, key(1)).unwrap() == bytes, "{kind:?}");
        assert_eq!(store.list(PG, None, 10), Ok(vec![key(1)]));
        if kind == Kind::S3 {
            assert_eq!(emulator.open_uploads(), 0);
        }
    }
}

#[test]
fn a_capacity_is_kept_and_counted_anew_at_the_start() {
    let emulator = Emulator::start(Kind::S3);
    let used = emulator.used_bytes("full");
    let capacity = used + 10_000;
    let opened = || emulator.store("full", |settings| settings.capacity_bytes = Some(capacity));
    let store = opened();
    assert!(matches!(store.begin(10_000), Err(StoreError::NoSpace(_))));
    let stage = store.begin(9000).unwrap();
    assert!(matches!(store.begin(9000), Err(StoreError::NoSpace(_))));
    drop(stage);
    assert_eq!(sealed(&store, &painted(9000)).publish(key(1)), Ok(Published::New));
    for store in [store, opened()] {
        assert_eq!(store.room().unwrap().free_bytes, 10_000 - 9064);
    }
    let store = opened();
    store.set_aside(key(1), "test").unwrap();
    store.purge(key(1)).unwrap();
    assert_eq!(store.room().unwrap().free_bytes, 10_000);
}

#[test]
fn another_disks_bucket_is_refused_and_damage_is_damage() {
    let emulator = Emulator::start(Kind::Azure);
    let store = emulator.store("label", |_| ());
    let other = Label { disk: repair_core::id::DiskId(5), cell: None };
    assert!(matches!(store.set_label(other), Err(StoreError::Invalid(_))));
    assert_eq!(store.label(), Ok(Some(LABEL)));
}

#[test]
fn a_service_is_spoken_to_over_tls_if_its_authority_is_trusted() {
    for kind in [Kind::S3, Kind::Azure] {
        let emulator = Emulator::start_with(kind, true, &[]);
        let store = emulator.store("tls", |_| ());
        assert_eq!(sealed(&store, &painted(5000)).publish(key(1)), Ok(Published::New));
        assert!(whole(&store, key(1)).unwrap() == painted(5000));
        let mut address = emulator.address("tls");
        address.authorities = None;
        let spool = tempfile::tempdir().unwrap();
        let refused = open(&address, spool.path().to_owned(), |_| ());
        assert!(
            matches!(&refused, Err(StoreError::Io(reason)) if reason.contains("ertificate")),
            "{kind:?}: {refused:?}"
        );
    }
    // Plain HTTP only if it is asked for.
    let emulator = Emulator::start(Kind::S3);
    let mut address = emulator.address("plain");
    address.allow_http = false;
    let spool = tempfile::tempdir().unwrap();
    assert!(matches!(open(&address, spool.path().to_owned(), |_| ()), Err(StoreError::Io(_))));
}
