//! Tests of the extent record.
#![allow(clippy::cast_possible_truncation)]

use super::*;
use crate::shard::ShardIndex;

/// The second of three extents of a stream, in rs:4+2.
fn record() -> ExtentRecord {
    let (cell, extent) = (CellId(0), ExtentId(0xb));
    let identity =
        |index| BirthIdentity { cell, extent, generation: 1, index: ShardIndex::new(index), payload_bytes: 4096 };
    let fragments =
        (0..6).map(|index| FragmentEntry { identity: identity(index), root: Hash::of(&[index as u8]) }).collect();
    let listed = |(extent, offset, bytes)| StreamExtent { extent: ExtentId(extent), offset, bytes };
    ExtentRecord {
        cell,
        extent,
        revision: 1,
        code: "rs:4+2".parse().unwrap(),
        extent_bytes: 5000,
        extent_hash: Hash::of(b"extent"),
        stream: StreamId(7),
        ordinal: 1,
        offset: 8000,
        stream_bytes: Some(13_001),
        content: Content::File,
        name: b"a name".to_vec(),
        fragments,
        extents: [(0xa, 0, 8000), (0xb, 8000, 5000), (0xc, 13_000, 1)].map(listed).to_vec(),
    }
}

fn with_right_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn forged(at: usize, replacement: &[u8]) -> Result<ExtentRecord, FormatError> {
    let mut bytes = record().to_bytes().unwrap();
    bytes[at..at + replacement.len()].copy_from_slice(replacement);
    ExtentRecord::parse(&with_right_crc(bytes))
}

/// The record with extension bytes before the CRC.
fn extended(extension: &[u8]) -> Vec<u8> {
    let mut bytes = record().to_bytes().unwrap();
    bytes.truncate(bytes.len() - 4);
    bytes[156..160].copy_from_slice(&(extension.len() as u32).to_le_bytes());
    bytes.extend_from_slice(extension);
    bytes.extend_from_slice(&[0; 4]);
    with_right_crc(bytes)
}

#[test]
fn a_record_is_read_back() {
    let mut unknown = record();
    (unknown.stream_bytes, unknown.extents, unknown.content) = (None, Vec::new(), Content::Pack);
    for record in [record(), unknown] {
        let bytes = record.to_bytes().unwrap();
        assert_eq!(bytes.len(), record.encoded_bytes());
        assert_eq!(ExtentRecord::parse(&bytes), Ok(record.clone()));
        let mut rootless = record;
        rootless.fragments.clear();
        assert_eq!(rootless.encoded_bytes(), bytes.len());
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let bytes = record().to_bytes().unwrap();
    for bit in 0..8 * bytes.len() {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(ExtentRecord::parse(&bytes).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(ExtentRecord::parse(&bytes[..length]).is_err(), "{length} bytes");
        assert!(
            length < 4 || ExtentRecord::parse(&with_right_crc(bytes[..length].to_vec())).is_err(),
            "{length} bytes"
        );
    }
}

#[test]
fn hostile_numbers_with_a_right_crc_are_refused() {
    let entry = 160 + b"a name".len();
    let list = entry + 6 * 88;
    let hostile: &[(usize, &[u8])] = &[
        (4, &[0]),                 // version 0
        (40, &[0; 8]),             // revision 0
        (52, &[0, 0]),             // k = 0
        (54, &[0xff, 0xff]),       // n = 65535
        (54, &[5, 0]),             // n of another code than the fragments
        (64, &[0xff; 8]),          // extent_bytes 2^64-1
        (64, &[0x89]),             // extent_bytes against the list
        (120, &[0xff; 8]),         // ordinal 2^64-1
        (120, &[0]),               // ordinal of another extent
        (120, &[3]),               // ordinal after the last
        (128, &[0xff; 8]),         // offset 2^64-1: the end overflows
        (128, &[0x41]),            // offset against the list
        (136, &[0xff; 8]),         // stream_bytes unknown with a list
        (136, &[0xca]),            // stream_bytes against the list
        (144, &[3]),               // content
        (146, &[7]),               // name_bytes over what there is
        (146, &[0xff, 0xff]),      // name_bytes 65535
        (148, &[0xff, 0xff]),      // fragments 65535
        (148, &[5]),               // fragments not n
        (150, &[1]),               // reserved
        (152, &[0xff; 4]),         // extents 2^32-1
        (156, &[0xff; 4]),         // extension_bytes 2^32-1
        (162, &[0]),               // NUL in the name
        (entry + 15, &[1]),        // entry of another cell
        (entry + 31, &[1]),        // entry of another extent
        (entry + 32, &[0]),        // entry of generation 0
        (entry + 48, &[1]),        // entry 0 with index 1
        (entry + 40, &[0, 0x20]),  // payload_bytes of another geometry
        (list + 31, &[0x80]),      // bytes of the first extent over 2^63
        (list + 15, &[0xb]),       // the same extent twice
        (list + 16, &[1]),         // the list does not begin at 0
        (list + 32 + 15, &[0xd]),  // this extent not at its ordinal
        (list + 64 + 16, &[0xc9]), // a gap before the last
    ];
    for (at, bytes) in hostile {
        assert!(forged(*at, bytes).is_err(), "{bytes:?} at {at}");
    }
    assert_eq!(forged(163, b"N").unwrap().name, b"a nNme");
}

#[test]
fn a_newer_format_is_told_from_damage() {
    for (at, bytes) in [(4, &[2][..]), (4, &[0xff, 0xff]), (6, &[1]), (7, &[0x80])] {
        assert!(forged(at, bytes).unwrap_err().is_newer(), "{bytes:?} at {at}");
    }
    assert!(!forged(64, &[0xff; 8]).unwrap_err().is_newer());
    // Unknown values: family, k = 0, n = 65535, content, hash algorithm of an entry. By themselves damage; not where the
    // record says more.
    for (at, bytes) in [(48, &[7][..]), (52, &[0, 0]), (54, &[0xff, 0xff]), (144, &[3]), (160 + 6 + 52, &[2])] {
        for (start, newer) in [([1, 0, 0, 0], false), ([2, 0, 0, 0], true), ([1, 0, 1, 0], true)] {
            let mut record = record().to_bytes().unwrap();
            record[4..8].copy_from_slice(&start);
            record[at..at + bytes.len()].copy_from_slice(bytes);
            let refused = ExtentRecord::parse(&with_right_crc(record)).unwrap_err();
            assert_eq!(refused.is_newer(), newer, "{bytes:?} at {at}, {start:?}: {refused}");
        }
    }
}

#[test]
fn extensions_are_skipped_unless_critical_or_cut() {
    for extension in [&[][..], &[1, 0, 0, 0], &[0xff, 0x7f, 3, 0, 1, 2, 3, 5, 0, 0, 0]] {
        assert_eq!(ExtentRecord::parse(&extended(extension)), Ok(record()), "{extension:?}");
    }
    let critical = ExtentRecord::parse(&extended(&[1, 0, 0, 0, 2, 0x80, 0, 0]));
    assert_eq!(critical, Err(FormatError::CriticalFlags { what: "record extension", bits: 0x8002 }));
    for extension in [&[1][..], &[1, 0, 0], &[1, 0, 1, 0], &[1, 0, 0xff, 0xff, 0]] {
        assert!(ExtentRecord::parse(&extended(extension)).is_err(), "{extension:?}");
    }
}

#[test]
fn what_would_be_refused_is_not_written() {
    type Change = fn(&mut ExtentRecord);
    let changes: &[Change] = &[
        |record| record.name = b"a\0b".to_vec(),
        |record| record.name = vec![b'x'; 4097],
        |record| record.revision = 0,
        |record| record.extent_bytes = 1 << 31,
        |record| record.stream_bytes = Some(u64::MAX),
        |record| record.stream_bytes = None,
        |record| record.ordinal = 2,
        |record| record.ordinal = u64::MAX,
        |record| record.offset = u64::MAX,
        |record| _ = record.fragments.pop(),
        |record| record.fragments.swap(0, 1),
        |record| record.extents[2].offset += 1,
        |record| record.extents[2].extent = ExtentId(0xa),
        |record| (record.ordinal, record.extents) = (0, Vec::new()),
        |record| (record.offset, record.extents) = (8002, Vec::new()),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut record = record();
        change(&mut record);
        assert!(record.to_bytes().is_err(), "change {at}");
    }
}

#[test]
fn a_list_that_does_not_fit_is_left_out_by_whoever_writes_it() {
    let mut record = record();
    while record.encoded_bytes() + STREAM_EXTENT_BYTES <= RECORD_BYTES_MAX {
        let (last, id) = (record.extents[record.extents.len() - 1], record.extents.len() as u128 + 100);
        record.extents.push(StreamExtent { extent: ExtentId(id), offset: last.offset + last.bytes, bytes: 10 });
    }
    let last = *record.extents.last().unwrap();
    record.stream_bytes = Some(last.offset + last.bytes);
    let bytes = record.to_bytes().unwrap();
    assert!(bytes.len() <= RECORD_BYTES_MAX && ExtentRecord::parse(&bytes).is_ok());
    record.extents.push(StreamExtent { extent: ExtentId(1), offset: last.offset + last.bytes, bytes: 10 });
    record.stream_bytes = Some(last.offset + last.bytes + 10);
    assert!(matches!(record.to_bytes(), Err(FormatError::Limit { what: "record bytes", .. })));
    record.extents.clear();
    assert!(record.to_bytes().is_ok());
}
