//! The stored fragments of `testdata/fragment-v1` and the library: each reads and writes what the other has, and no damage to
//! a stored fragment goes unseen.
#![cfg(feature = "hash")]
#![allow(clippy::cast_possible_truncation)]

#[path = "../examples/make_golden.rs"]
#[allow(dead_code)]
mod by_hand;

use ec_core::fragment::*;
use ec_core::gf;
use ec_core::{Geometry, ShardIndex};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/fragment-v1")
}

/// The stored files of one folder by name.
fn stored(set: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder().join(set)).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn smallest() -> Vec<u8> {
    stored("lrc-6-2-2").into_values().next().unwrap()
}

#[test]
fn the_stored_files_are_those_written_by_hand() {
    let by_hand = by_hand::files();
    for (path, bytes) in &by_hand {
        assert!(std::fs::read(folder().join(path)).unwrap() == *bytes, "{path}");
    }
    let sets = ["replicate-3", "rs-4-2-power", "lrc-6-2-2"];
    assert_eq!(sets.iter().map(|set| stored(set).len()).sum::<usize>(), by_hand.len());
}

#[test]
fn the_stored_files_are_healthy_and_say_what_they_are() {
    for (set, code, name) in [
        ("replicate-3", "replicate:3", "three copies"),
        ("rs-4-2-power", "rs:4+2@power", "två delar"),
        ("lrc-6-2-2", "lrc:6,2,2", ""),
    ] {
        for (file_name, bytes) in stored(set) {
            let examination = examine(&bytes);
            assert_eq!((examination.class, examination.reason.as_str()), (Class::Healthy, ""), "{file_name}");
            let (header, tail) = (examination.header.unwrap(), examination.tail.unwrap());
            assert_eq!(header.identity.file_name(), file_name);
            assert_eq!((header.code.to_string().as_str(), tail.record.name.as_slice()), (code, name.as_bytes()));
            assert_eq!(examination.root, Some(tail.root));
        }
    }
}

/// One stream as the library is to write it.
struct Set {
    folder: &'static str,
    name: &'static str,
    code: &'static str,
    stream: StreamId,
    content: Content,
    parity: Vec<Vec<u8>>,
    extents: Vec<StreamExtent>,
}

fn sets() -> [Set; 3] {
    let listed = |id, offset, bytes| StreamExtent { extent: ExtentId(id), offset, bytes };
    let spread: Vec<usize> = vec![0, 17, 34, 1, 18, 35];
    [
        Set {
            folder: "replicate-3",
            name: "three copies",
            code: "replicate:3",
            stream: StreamId(0xf00d),
            content: Content::File,
            parity: vec![vec![1]; 2],
            extents: vec![listed(0x1111_2222_3333_4444_5555, 0, 5_000)],
        },
        Set {
            folder: "rs-4-2-power",
            name: "två delar",
            code: "rs:4+2@power",
            stream: StreamId(0xbeef),
            content: Content::File,
            parity: vec![vec![1; 4], vec![1, 2, 4, 8]],
            extents: vec![
                listed(0xffff_0000_ffff_0000_0001, 0, 40_000),
                listed(0x0123_4567_89ab_cdef_0002, 40_000, 10_007),
            ],
        },
        Set {
            folder: "lrc-6-2-2",
            name: "",
            code: "lrc:6,2,2",
            stream: StreamId(u128::MAX),
            content: Content::Pack,
            parity: vec![
                vec![1, 1, 1, 0, 0, 0],
                vec![0, 0, 0, 1, 1, 1],
                spread.iter().map(|&exponent| gf::exp2(exponent)).collect(),
                spread.iter().map(|&exponent| gf::exp2(2 * exponent)).collect(),
            ],
            extents: vec![listed(0xaaaa_bbbb_cccc_dddd_eeee, 0, 20_000)],
        },
    ]
}

impl Set {
    fn shards(&self, data: &[u8], shard_bytes: usize) -> Vec<Vec<u8>> {
        let k = self.parity[0].len();
        let geometry = Geometry::new(data.len() as u64, k);
        assert_eq!(geometry.shard_bytes(), shard_bytes as u64);
        let mut shards = vec![vec![0; shard_bytes]; k];
        for (shard, bytes) in shards.iter_mut().enumerate() {
            let range = geometry.extent_range(shard, 0..shard_bytes as u64);
            let part = &data[range.start as usize..range.end as usize];
            bytes[..part.len()].copy_from_slice(part);
        }
        for row in &self.parity {
            let byte =
                |at: usize| row.iter().zip(&shards).fold(0, |sum, (&factor, shard)| sum ^ gf::mul(factor, shard[at]));
            shards.push((0..shard_bytes).map(byte).collect());
        }
        shards
    }

    /// The fragments of one extent, written by the library alone.
    fn files(&self, ordinal: usize) -> Vec<(String, Vec<u8>)> {
        let StreamExtent { extent, offset, bytes } = self.extents[ordinal];
        let data: Vec<u8> = (offset..offset + bytes).map(|at| (at % 251) as u8).collect();
        let code: ec_core::CodeSpec = self.code.parse().unwrap();
        let payload_bytes = Geometry::new(bytes, code.k()).shard_bytes();
        let shards = self.shards(&data, payload_bytes as usize);
        let identity = |index: usize| {
            let index = ShardIndex::new(index as u16);
            BirthIdentity { cell: CellId(0), extent, generation: 1, index, payload_bytes }
        };
        let mut record = ExtentRecord {
            cell: CellId(0),
            extent,
            revision: 1,
            code,
            extent_bytes: bytes,
            extent_hash: Hash::of(&data),
            stream: self.stream,
            ordinal: ordinal as u64,
            offset,
            stream_bytes: self.extents.last().map(|last| last.offset + last.bytes),
            content: self.content,
            name: self.name.as_bytes().to_vec(),
            fragments: Vec::new(),
            extents: self.extents.clone(),
        };
        let record_bytes = record.encoded_bytes() as u32;
        for (index, shard) in shards.iter().enumerate() {
            let mut hasher = TreeHasher::new(payload_bytes);
            shard
                .chunks(4096)
                .enumerate()
                .rev()
                .for_each(|(block, bytes)| hasher.add(4096 * block as u64, bytes).unwrap());
            let root = identity(index).root(&hasher.finish().unwrap());
            record.fragments.push(FragmentEntry { identity: identity(index), root });
        }
        let record_verbatim = record.to_bytes().unwrap();
        let file = |(index, shard): (usize, &Vec<u8>)| {
            let header = Header { identity: identity(index), code, extent_bytes: bytes, record_bytes };
            let (header_bytes, seed) = (header.to_bytes(), header.identity.seed());
            let table: Vec<u32> = (0..).zip(shard.chunks(4096)).map(|(block, bytes)| seed.crc(block, bytes)).collect();
            let root = record.fragments[index].root;
            let tail = build_tail(&header, &header_bytes, &table, &record_verbatim, &root).unwrap();
            (header.identity.file_name(), [&header_bytes[..], shard, &tail].concat())
        };
        shards.iter().enumerate().map(file).collect()
    }
}

#[test]
fn the_library_writes_the_stored_files() {
    for set in sets() {
        let written: BTreeMap<_, _> = (0..set.extents.len()).flat_map(|ordinal| set.files(ordinal)).collect();
        let stored = stored(set.folder);
        assert_eq!(written.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>());
        for (name, bytes) in &written {
            let first = bytes.iter().zip(&stored[name]).position(|(written, stored)| written != stored);
            assert_eq!((first, bytes.len()), (None, stored[name].len()), "{name}");
        }
    }
}

#[test]
fn every_flipped_bit_is_seen_and_placed() {
    let healthy = smallest();
    let layout = examine(&healthy).header.unwrap().layout();
    let table_at = layout.table_at as usize;
    let mut bytes = healthy.clone();
    for bit in 0..8 * bytes.len() {
        let at = bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        let expected = match at {
            0..4096 => Class::RotHeader,
            _ if at < table_at => Class::RotPayload,
            _ => Class::RotFooter,
        };
        let examination = examine(&bytes);
        assert_eq!(examination.class, expected, "bit {bit}: {}", examination.reason);
        if expected == Class::RotPayload {
            assert_eq!(examination.bad_blocks, [(at as u32 - 4096) / 4096]);
        }
        bytes[at] ^= 1 << (bit % 8);
    }
    assert!(bytes == healthy);
}

#[test]
fn every_cut_and_every_lengthening_is_seen() {
    let healthy = smallest();
    for length in 0..healthy.len() {
        let expected = if length < 4096 { Class::TornUncommitted } else { Class::TornCommitted };
        assert_eq!(examine(&healthy[..length]).class, expected, "{length} bytes");
        // Cut and then filled up with zeros, as a file system does that lost the data and kept the length.
        let mut filled = healthy[..length].to_vec();
        filled.resize(healthy.len(), 0);
        assert_ne!(examine(&filled).class, Class::Healthy, "{length} bytes, then zeros");
    }
    for more in [1, 128, 4096] {
        let mut longer = healthy.clone();
        longer.resize(healthy.len() + more, 0);
        assert_eq!(examine(&longer).class, Class::TornCommitted, "{more} more");
    }
}
