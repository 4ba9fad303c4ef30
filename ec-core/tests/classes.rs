//! Every class that a file and the record on file can give, from stored fragments changed in one way each. Where a checksum
//! would catch the change before the check meant here, it is made right again.
#![cfg(feature = "hash")]
#![allow(clippy::cast_possible_truncation)]

use ec_core::fragment::*;
use std::path::PathBuf;

const EXTENT: &str = "00000000000011112222333344445555";

fn stored(index: u16) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/fragment-v1/replicate-3");
    std::fs::read(folder.join(format!("{EXTENT}.1.{index:05}.frag"))).unwrap()
}

/// A fragment taken apart: what is changed is sealed again by `file`.
#[derive(Clone)]
struct Parts {
    header: Header,
    payload: Vec<u8>,
    table: Vec<u32>,
    record: ExtentRecord,
    root: Hash,
}

impl Parts {
    fn new(index: u16) -> Self {
        let bytes = stored(index);
        let examination = examine(&bytes);
        let (header, tail) = (examination.header.unwrap(), examination.tail.unwrap());
        let payload = bytes[4096..header.layout().table_at as usize].to_vec();
        Self { header, payload, table: tail.table, record: tail.record, root: tail.root }
    }

    fn tail(&self) -> Tail {
        let record_bytes = self.record.to_bytes().unwrap();
        Tail { table: self.table.clone(), record: self.record.clone(), record_bytes, root: self.root }
    }

    fn file(&self) -> Vec<u8> {
        self.file_with_record(&self.record.to_bytes().unwrap())
    }

    fn file_with_record(&self, record: &[u8]) -> Vec<u8> {
        let (header, layout) = (self.header.to_bytes(), self.header.layout());
        let mut tail: Vec<u8> = self.table.iter().flat_map(|crc| crc.to_le_bytes()).collect();
        tail.extend_from_slice(record);
        tail.resize(layout.tail_bytes as usize - FOOTER_BYTES, 0);
        let (header_hash, tail_hash) = (Hash::of(&header), Hash::of(&tail));
        let footer = Footer { header_hash, tail_hash, root: self.root, payload_bytes: layout.payload_bytes };
        [&header[..], &self.payload, &tail, &footer.to_bytes()].concat()
    }
}

/// Bytes `at..` replaced, and the CRC at the end of the first `length` bytes from `from` made right again.
fn patched(mut bytes: Vec<u8>, from: usize, length: usize, at: usize, replacement: &[u8]) -> Vec<u8> {
    bytes[from + at..from + at + replacement.len()].copy_from_slice(replacement);
    let crc = crc32fast::hash(&bytes[from..from + length - 4]);
    bytes[from + length - 4..from + length].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn check(expected: Class, bytes: &[u8]) {
    let examination = examine(bytes);
    assert_eq!(examination.class, expected, "{}", examination.reason);
    assert_eq!(examination.reason.is_empty(), expected == Class::Healthy);
}

#[test]
fn structure_and_tail() {
    let healthy = stored(0);
    let (end, footer_at) = (healthy.len(), healthy.len() - FOOTER_BYTES);
    check(Class::Healthy, &Parts::new(0).file());
    // A header of a newer format is nobody's damage, whether there is a seal or not.
    check(Class::Unsupported, &patched(healthy.clone(), 0, 4096, 8, &[2, 0, 2, 0]));
    check(Class::Unsupported, &patched(healthy.clone(), 0, 4096, 12, &[1])[..4096]);
    // Values that nobody knows, in a header that does not say it is newer: hash algorithm, family, k = 0, n = 65535.
    for (at, bytes) in [(76, &[2][..]), (80, &[9]), (84, &[0, 0]), (86, &[0xff, 0xff])] {
        let unknown = patched(healthy.clone(), 0, 4096, at, bytes);
        check(Class::RotHeader, &unknown);
        check(Class::TornUncommitted, &unknown[..footer_at]);
        check(Class::Unsupported, &patched(unknown, 0, 4096, 10, &[2]));
    }
    // The header of a sibling: right in itself, and not the one that was sealed.
    check(Class::RotHeader, &[&stored(1)[..4096], &healthy[4096..]].concat());
    check(Class::RotHeader, &[&[0; 4096], &healthy[4096..]].concat());
    check(Class::TornUncommitted, &[&[0; 4096], &healthy[4096..footer_at], &[0; 128]].concat());
    check(Class::TornUncommitted, &[]);
    // The last block never came.
    check(Class::TornCommitted, &[&healthy[..end - 4096], &[0; 4096]].concat());
    check(Class::TornCommitted, &healthy[..end - 4096]);
    check(Class::TornCommitted, &[&healthy[..], &[0]].concat());
    for bytes in [end as u64 - 1, end as u64 + 1] {
        let found = examine_structure(bytes, &healthy[..4096], &healthy[footer_at..]);
        assert!(matches!(found, Structure::Damaged(Class::TornCommitted, _)), "{found:?}");
    }
    // A seal whose own numbers are wrong.
    check(Class::RotFooter, &patched(healthy.clone(), footer_at, 128, 104, &[1]));
    check(Class::RotFooter, &patched(healthy.clone(), footer_at, 128, 112, &[1]));
    check(Class::RotFooter, &patched(healthy.clone(), footer_at, 128, 40, &[!healthy[footer_at + 40]]));
}

#[test]
fn sealed_records() {
    let parts = Parts::new(0);
    let record = parts.record.to_bytes().unwrap();
    let length = record.len();
    check(Class::Unsupported, &parts.file_with_record(&patched(record.clone(), 0, length, 4, &[2])));
    check(Class::Unsupported, &parts.file_with_record(&patched(record.clone(), 0, length, 6, &[1])));
    // Values that nobody knows, in a record that does not say it is newer: family, n = 65535, content.
    for (at, bytes) in [(48, &[9][..]), (54, &[0xff, 0xff]), (144, &[3])] {
        let unknown = patched(record.clone(), 0, length, at, bytes);
        check(Class::RotFooter, &parts.file_with_record(&unknown));
        check(Class::Unsupported, &parts.file_with_record(&patched(unknown, 0, length, 4, &[2])));
    }
    check(Class::RotFooter, &parts.file_with_record(&patched(record.clone(), 0, length, 40, &[0; 8])));
    check(Class::RotFooter, &parts.file_with_record(&vec![0; length]));
    // Zeros that are none, between record and footer.
    check(Class::RotFooter, &parts.file_with_record(&[&record[..], &[1]].concat()));
    // The record of another extent of the same length.
    let mut other = parts.clone();
    other.record.extent = ExtentId(1);
    other.record.extents[0].extent = ExtentId(1);
    other.record.fragments.iter_mut().for_each(|entry| entry.identity.extent = ExtentId(1));
    check(Class::RotFooter, &other.file());
}

#[test]
fn name_and_record_on_file() {
    let parts = Parts::new(1);
    let judged = |name: Option<&str>, parts: &Parts, on_file: &ExtentRecord| {
        let name = name.map(|name| FragmentName::parse(name).unwrap());
        judge(
            name,
            &parts.header,
            &parts.tail().root,
            &parts.tail().record_bytes,
            on_file,
            &on_file.to_bytes().unwrap(),
        )
        .map_err(|(class, _)| class)
    };
    let on_file = parts.record.clone();
    assert_eq!(judged(None, &parts, &on_file), Ok(()));
    assert_eq!(judged(Some(&format!("{EXTENT}.1.00001.frag")), &parts, &on_file), Ok(()));
    for name in [format!("{EXTENT}.1.00002.frag"), format!("{EXTENT}.2.00001.frag"), format!("{:032x}.1.00001.frag", 1)]
    {
        assert_eq!(judged(Some(&name), &parts, &on_file), Err(Class::Identity), "{name}");
    }

    let mut newer = on_file.clone();
    newer.fragments[1].identity.generation = 2;
    assert_eq!(judged(None, &parts, &newer), Err(Class::Stale));
    let mut late = parts.clone();
    (late.header.identity.generation, late.record) = (2, newer);
    assert_eq!(judged(None, &late, &on_file), Err(Class::OrphanNewer));

    let mut other_root = on_file.clone();
    other_root.fragments[1].root = Hash::of(b"other");
    assert_eq!(judged(None, &parts, &other_root), Err(Class::Conflict));
    let mut other_revision = on_file.clone();
    other_revision.revision = 2;
    assert_eq!(judged(None, &parts, &other_revision), Err(Class::Conflict));
    let mut fewer = on_file.clone();
    (fewer.code, _) = ("replicate:1".parse().unwrap(), fewer.fragments.drain(1..));
    assert_eq!(judged(None, &parts, &fewer), Err(Class::Conflict));
    let mut other_cell = on_file.clone();
    other_cell.cell = CellId(1);
    other_cell.fragments.iter_mut().for_each(|entry| entry.identity.cell = CellId(1));
    assert_eq!(judged(None, &parts, &other_cell), Err(Class::Conflict));
    let mut shorter = on_file;
    (shorter.extent_bytes, shorter.stream_bytes, shorter.extents[0].bytes) = (4096, Some(4096), 4096);
    shorter.fragments.iter_mut().for_each(|entry| entry.identity.payload_bytes = 4096);
    assert_eq!(judged(None, &parts, &shorter), Err(Class::Conflict));
    // The header alone tells of another length; its record is the one on file.
    let mut short = parts.clone();
    (short.header.extent_bytes, short.header.identity.payload_bytes) = (4096, 4096);
    assert_eq!(judged(None, &short, &parts.record), Err(Class::Conflict));
    // A footer that names another root than the record beside it.
    let mut own = parts;
    own.root = Hash::of(b"other");
    check(Class::Conflict, &own.file());
}

#[test]
fn payloads() {
    let mut parts = Parts::new(2);
    parts.payload[5000] ^= 1;
    let examination = examine(&parts.file());
    assert_eq!((examination.class, examination.bad_blocks), (Class::RotPayload, vec![1]));
    // The CRC made right, and only the root tells.
    parts.table[1] = parts.header.identity.seed().crc(1, &parts.payload[4096..]);
    check(Class::Impossible, &parts.file());
    // Two blocks in each other's place, or a sibling's equal bytes under this identity, have other CRCs.
    let mut swapped = Parts::new(2);
    swapped.table.swap(0, 1);
    check(Class::RotPayload, &swapped.file());
    let mut siblings = Parts::new(2);
    siblings.table = Parts::new(1).table;
    check(Class::RotPayload, &siblings.file());
    let seed = siblings.header.identity.seed();
    assert_eq!(bad_blocks(seed, &Parts::new(2).table, 1, &siblings.payload[4096..]), []);
    assert_eq!(bad_blocks(seed, &Parts::new(2).table, 2, &siblings.payload), [2, 3]);
    assert_eq!(bad_blocks(seed, &[], u32::MAX, &siblings.payload), [u32::MAX]);
}

#[test]
fn the_tail_is_built_only_from_parts_that_belong_together() {
    let parts = Parts::new(0);
    let (header, record) = (parts.header.to_bytes(), parts.record.to_bytes().unwrap());
    assert!(build_tail(&parts.header, &header, &parts.table, &record, &parts.root).is_ok());
    let refused = [
        build_tail(&Parts::new(1).header, &header, &parts.table, &record, &parts.root),
        build_tail(&parts.header, &[0; 4096], &parts.table, &record, &parts.root),
        build_tail(&parts.header, &header, &parts.table[1..], &record, &parts.root),
        build_tail(&parts.header, &header, &parts.table, &record[1..], &parts.root),
        build_tail(&parts.header, &header, &parts.table, &vec![0; record.len()], &parts.root),
        build_tail(&parts.header, &header, &parts.table, &record, &Parts::new(1).root),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
}

#[test]
fn a_tail_of_any_length_is_only_refused() {
    let parts = Parts::new(0);
    let bytes = parts.file();
    let tail = &bytes[parts.header.layout().table_at as usize..];
    for length in 0..tail.len() {
        let found = parse_tail(&parts.header, &bytes[..4096], &tail[..length]);
        assert!(matches!(found, Err(TailError::Length { .. })), "{length} bytes");
    }
    // Headers that `parse` would refuse, with the tail they ask for.
    for record_bytes in [0, 1, 3967, 65_536, 65_537, u32::MAX] {
        let header = Header { record_bytes, ..parts.header };
        let length = header.layout().tail_bytes.min(1 << 20) as usize;
        assert!(parse_tail(&header, &header.to_bytes(), &vec![0; length]).is_err());
        assert!(Header::parse(&header.to_bytes()).is_ok() == (1..=65_536).contains(&record_bytes));
    }
}

#[test]
fn the_record_on_file_is_the_one_most_carry_in_whatever_order() {
    let record = Parts::new(0).record;
    let with = |change: fn(&mut ExtentRecord)| {
        let mut record = record.clone();
        change(&mut record);
        record.to_bytes().unwrap()
    };
    let first = with(|_| ());
    let second = with(|record| record.revision = 2);
    let renamed = with(|record| record.name = b"other".to_vec());
    let extent = record.extent;
    let chosen = |candidates: &[&Vec<u8>]| {
        let mut chosen = record_on_file(candidates.iter().map(|bytes| (extent, bytes.as_slice())));
        let backwards = record_on_file(candidates.iter().rev().map(|bytes| (extent, bytes.as_slice())));
        assert_eq!(chosen, backwards);
        chosen.remove(&extent).map(|found| (found.bytes, found.carriers))
    };
    assert_eq!(chosen(&[&first, &second, &first]), Some((first.clone(), 2)));
    assert_eq!(chosen(&[&first, &second]), Some((second.clone(), 1)));
    let smallest = [&first, &renamed].into_iter().min_by_key(|bytes| ExtentRecord::hash(bytes)).unwrap();
    assert_eq!(chosen(&[&first, &renamed]), Some((smallest.clone(), 1)));
    let garbage = vec![0; 300];
    assert_eq!(chosen(&[&garbage, &garbage, &first]), Some((first.clone(), 1)));
    assert_eq!(chosen(&[&garbage]), None);
    assert!(record_on_file([(ExtentId(1), first.as_slice())].into_iter()).is_empty());
}

#[test]
fn classes_have_their_names() {
    let names: Vec<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
    assert_eq!(
        names.join(" "),
        "healthy rot.payload rot.header rot.footer torn.committed torn.uncommitted identity stale orphan.newer impossible \
         conflict unreadable missing unsupported surplus foreign"
    );
}
