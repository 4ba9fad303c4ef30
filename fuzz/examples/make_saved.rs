//! Writes the first inputs of `saved/`: `cargo run -p fuzz --example make_saved DIR`, without DIR into `saved/` itself. Inputs
//! that once broke something are added there by hand, under names that this does not write.

use repair_core::catalog::{PgRow, PgState};
use repair_core::id::{DiskId, PgId, RecordHash, Sum};
use repair_core::wire::codec::encode_row;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let folder =
        std::env::args_os().nth(1).map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("saved"), PathBuf::from);
    for (path, bytes) in files() {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

/// Every input: its path below `saved/`, and its bytes.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let named = |target: &'static str, inputs: Vec<(&'static str, Vec<u8>)>| {
        inputs.into_iter().map(move |(name, bytes)| (format!("{target}/{name}"), bytes))
    };
    named("code_spec", code_specs())
        .chain(named("decode_set", decode_sets()))
        .chain(named("fragment_file", fragment_files()))
        .chain(named("fragment_header", fragment_headers()))
        .chain(named("fragment_set", fragment_sets()))
        .chain(named("fragment_tail", fragment_tails()))
        .chain(named("kernel_pair", kernel_pairs()))
        .chain(named("matrix_file", matrix_files()))
        .chain(named("node_journal", node_journals()))
        .chain(named("planner", planners()))
        .chain(named("store_index", store_indexes()))
        .chain(named("vector_set", vector_sets()))
        .chain(named("wide_code", wide_codes()))
        .chain(named("wire_message", wire_messages()))
        .collect()
}

/// A specification, a zero byte, the shards that are lost (5 bytes, one bit each) and the kernel (2 bytes).
fn code_specs() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str, losses: u32| [text.as_bytes(), &[0], &losses.to_le_bytes(), &[0; 3]].concat();
    let descriptor = |bytes: [u8; 12], losses: u32| [&bytes[..], &[0; 4], &losses.to_le_bytes(), &[0; 3]].concat();
    vec![
        ("replicate-3", text("replicate:3", 0b011)),
        ("replicate-1", text("replicate:1", 0)),
        ("rs-4-2", text("rs:4+2", 0b01_0010)),
        ("rs-4-2-three-lost", text("rs:4+2", 0b11_0010)),
        ("rs-10-4-cauchy", text("rs:10+4@cauchy", 0b1111)),
        ("rs-10-3-power", text("rs:10+3@power", 0b0111)),
        // Losing data 0, 10 and 21 and parity 2 is what this matrix does not survive.
        ("rs-22-4-power-not-mds", text("rs:22+4@power", 1 | 1 << 10 | 1 << 21 | 1 << 24)),
        ("rs-21-4-power", text("rs:21+4@power", 0b1111)),
        ("rs-10-4-vandermonde", text("rs:10+4@vandermonde", 0b11_0000_0000_0011)),
        ("rs-128-128", text("rs:128+128", 0)),
        ("rs-255-2", text("rs:255+2@lch", 0)),
        ("lrc-6-2-2", text("lrc:6,2,2", 0b11_0000_0011)),
        ("lrc-6-2-2-not-decodable", text("lrc:6,2,2", 0b00_0100_0111)),
        ("lrc-6-2-2-two-of-each-group", text("lrc:6,2,2", 0b01_1011)),
        ("lrc-12-2-2", text("lrc:12,2,2", 0b0001_0000_0111)),
        ("leading-zeros", text("lrc:012,02,2", 0b0011)),
        ("default-matrix", text("rs:10+4@lch", 0b1111)),
        ("plus-sign", text("rs:4++2", 0)),
        ("large-number", text("replicate:99999999999999999999", 0)),
        ("not-ascii", text("rs:\u{663}+2", 0)),
        ("descriptor-rs", descriptor([2, 1, 1, 0, 4, 0, 6, 0, 0, 0, 0, 0], 0b1001)),
        ("descriptor-lrc", descriptor([3, 1, 1, 0, 6, 0, 10, 0, 2, 0, 2, 0], 0b0101)),
        ("descriptor-k-0", descriptor([2, 1, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0], 0)),
        ("descriptor-n-65535", descriptor([2, 1, 2, 0, 4, 0, 255, 255, 0, 0, 0, 0], 0)),
        ("wide", text("wide:1000+200", 0)),
        ("hitchhiker", text("hitchhiker:10+4", 0)),
        ("clay-too-deep", text("clay:200+4", 0)),
        ("lrc-gf16", text("lrc:16,2,3@gf16", 0)),
        ("wide-too-wide", text("wide:40000+40000", 0)),
        ("shape-lrc", vec![0x18, 12, 0, 2, 0, 3]),
        ("rs-10-4-jerasure", text("rs:10+4@jerasure", 0b1111)),
        ("lrc-12-2-1", text("lrc:12,2,1", 0b11)),
        ("lrc-12-2-3", text("lrc:12,2,3", 0b0111_1000_0001)),
        ("lrc-6-2-4", text("lrc:6,2,4", 0b1_1101_1011)),
        ("lrc-uniform-12-2-2", text("lrc-uniform:12,2,2", 0b1100_0000_0000_0011)),
        ("xorbas", text("xorbas", 0b1100_0001_0000_0001)),
        ("matrix", text("matrix:4+2#00000000", 0)),
        ("descriptor-uniform", descriptor([4, 1, 1, 0, 6, 0, 10, 0, 2, 0, 2, 0], 0b0101)),
        ("descriptor-xorbas", descriptor([5, 1, 1, 0, 10, 0, 16, 0, 0, 0, 0, 0], 0b0101)),
    ]
}

/// A code by its number; how many are at hand, a position and a kind of length for each; the same for what is wanted.
fn decode_sets() -> Vec<(&'static str, Vec<u8>)> {
    let set = |code: u8, present: &[u8], wanted: &[u8]| {
        let list = |positions: &[u8]| {
            let count = u8::try_from(positions.len()).expect("few");
            std::iter::once(count).chain(positions.iter().flat_map(|&at| [at, 0])).collect::<Vec<_>>()
        };
        [vec![code], list(present), list(wanted)].concat()
    };
    vec![
        ("nothing", vec![]),
        ("rs", set(0, &[1, 2, 4, 5], &[0, 3])),
        ("rs-too-few", set(0, &[1, 2, 4], &[0])),
        ("rs-duplicate", set(0, &[1, 1, 2, 4, 5], &[0])),
        ("rs-wanted-is-at-hand", set(0, &[0, 1, 2, 4], &[0])),
        ("rs-outside", set(0, &[0, 1, 2, 3, 39], &[4])),
        ("rs-far-outside", set(0, &[0, 1, 2, 3], &[255])),
        ("rs-nothing-wanted", set(0, &[0], &[])),
        ("rs-unequal", vec![0, 4, 0, 0, 1, 0, 2, 3, 3, 0, 1, 4, 0]),
        ("rs-empty", vec![0, 4, 0, 2, 1, 2, 2, 2, 3, 2, 1, 4, 2]),
        ("lrc-local", set(3, &[1, 2, 6], &[0])),
        ("lrc-all-that-can-be", set(3, &[2, 5, 6, 7, 8, 9], &[0, 1, 3, 4])),
        ("uniform-global", set(5, &[3, 4, 5, 7, 8], &[9])),
        ("xorbas-parity", set(6, &[10, 11, 13, 14, 15], &[12])),
        ("xorbas-two-steps", set(6, &[0, 1, 2, 3, 11, 12, 13, 14, 15], &[4, 10])),
        ("wide", set(9, &[0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31], &[8, 19])),
    ]
}

/// Text, a zero byte, the shards that are lost (2 bytes, one bit each).
fn matrix_files() -> Vec<(&'static str, Vec<u8>)> {
    let file = |text: &str, losses: u16| [text.as_bytes(), &[0], &losses.to_le_bytes()].concat();
    vec![
        ("nothing", vec![]),
        ("mds", file("01010101\n01020408\n", 0b11)),
        ("spaces", file(" 01 01\t01 01 # P\r\n\n01 02 04 08", 0b10_0001)),
        ("lrc", file("010101000000\n000000010101\n01984e022d9c\n014e9904554e", 0b11)),
        ("not-recoverable", file("010101000000\n000000010101\n010101010101\n010405010405", 0b1_0010)),
        ("copies", file("01\n01\n01", 0b101)),
        ("ragged", file("0101\n01", 0)),
        ("odd", file("010", 0)),
        ("no-digit", file("0g", 0)),
        ("zero-row", file("0101\n0000", 0)),
        ("zero-column", file("0100\n0200", 0)),
        ("large", file(&"01".repeat(300), 0)),
        ("not-ascii", file("0\u{661}", 0)),
    ]
}

/// Which code, bytes of a sub-chunk less 1, what is lost and what is away (2 each), costs, then for each plan which input is wrong and how.
fn vector_sets() -> Vec<(&'static str, Vec<u8>)> {
    let set = |code: u8, lost: u16, absent: u16, costs: &[u8], wrong: &[u8]| {
        [&[code, 2], &lost.to_le_bytes()[..], &absent.to_le_bytes(), costs, wrong].concat()
    };
    vec![
        ("nothing", vec![]),
        ("hitchhiker-halves", set(3, 0b1, 0, &[1; 14], &[0, 0, 1, 1])),
        ("hitchhiker-a-dear-half", set(3, 0b1, 0, &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 200, 1, 1, 1], &[0, 2, 1, 3])),
        ("hitchhiker-parity", set(1, 0b1_0000_0000, 0, &[1; 9], &[2, 0, 2, 1])),
        ("hitchhiker-one-away", set(1, 0b1, 0b10, &[1; 9], &[2, 2, 2, 3])),
        ("hitchhiker-too-few", set(0, 0b111, 0, &[1; 6], &[])),
        ("hitchhiker-of-one", set(2, 0b1, 0b1100, &[1; 4], &[0, 1])),
        ("lrc-local", set(4, 0b1, 0, &[1; 11], &[0, 0, 0, 1])),
        ("lrc-local-is-dear", set(4, 0b1, 0, &[1, 90, 1, 1, 1, 1, 1, 1, 1, 1, 1], &[0, 0, 0, 1])),
        ("lrc-global", set(5, 0b1000_0000_0000, 0b1, &[5; 12], &[0, 2])),
        ("lrc-beyond", set(6, 0b11_1111, 0, &[1; 10], &[])),
        ("clay-layers", set(7, 0b1, 0, &[1; 6], &[0, 0, 0, 2])),
        ("clay-two-lost", set(9, 0b11, 0, &[1; 7], &[0, 1, 0, 3])),
        ("clay-a-dear-helper", set(9, 0b1, 0, &[1, 255, 1, 1, 1, 1, 1], &[0, 1, 0, 3])),
        ("clay-of-one", set(8, 0b10, 0, &[1; 3], &[0, 0])),
    ]
}

/// Which code (2; from 10 on a matrix: k - 1, m, kind of elements of 2 each, and the parity rows), kind of costs, a byte of cost
/// for each shard, what is lost (2), what is available (2), which part each read is in (2 each), hedged reads (2), absent (2), extent (2), range (2, 2).
fn planners() -> Vec<(&'static str, Vec<u8>)> {
    let input = |code: u16, costs: u8, each: &[u8], lost: u16, available: u16, rest: &[u16]| {
        let words = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        [words(&[code]), vec![costs], each.to_vec(), words(&[lost, available]), words(rest)].concat()
    };
    // Six reads in parts, hedge, absent, extent and range.
    let rest = [0, 1, 2, 3, 0, 1, 9, 1, 30_000, 100, 20_000];
    let matrix = |elements: &[u8], costs: &[u8], lost: u16| {
        let head: Vec<u8> = [13u16, 3, 3, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        [&head[..], elements, &[2], costs, &lost.to_le_bytes(), &[0xff, 0xff]].concat()
    };
    vec![
        ("nothing", vec![]),
        ("replicate-3", input(0, 2, &[9, 3, 5], 0b001, 0b111, &rest)),
        ("rs-4-2-uniform", input(2, 0, &[0; 6], 0b00_1001, 0b11_1111, &rest)),
        ("rs-4-2-not-enough", input(2, 0, &[0; 6], 0b00_0111, 0b11_1111, &rest)),
        ("rs-5-3-dear", input(3, 3, &[4, 4, 3, 3, 2, 1, 0, 4], 0b0000_0011, 0xff, &rest)),
        ("rs-6-2-ties", input(4, 1, &[2, 1, 0, 0, 1, 2, 2, 2], 0b0100_0001, 0xff, &rest)),
        ("lrc-4-2-2-local", input(6, 2, &[1; 8], 0b0000_0001, 0xff, &rest)),
        ("lrc-5-2-2-local-is-dear", input(7, 2, &[1, 200, 1, 1, 1, 1, 1, 1, 1], 0b1, 0x1ff, &rest)),
        ("lrc-6-3-2-two-groups", input(8, 2, &[7, 1, 9, 2, 8, 3, 3, 2, 1, 5, 4], 0b101, 0x7ff, &rest)),
        ("lrc-6-3-2-some-absent", input(8, 3, &[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0], 0b11, 0x7bf, &rest)),
        ("lrc-2-2-2-groups-of-one", input(9, 1, &[0, 1, 2, 0, 1, 2], 0b1, 0x3f, &rest)),
        ("lrc-uniform-4-2-2-group-with-globals", input(10, 2, &[9, 9, 9, 1, 1, 1, 1, 1], 0b1000, 0xf7, &rest)),
        ("lrc-uniform-5-2-1", input(11, 2, &[1; 8], 0b0100_0000, 0xbf, &rest)),
        ("lrc-4-2-3", input(12, 2, &[1, 2, 3, 4, 5, 6, 7, 8, 9], 0b1_0001, 0x1ff, &rest)),
        ("matrix-of-bits", matrix(&[1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], &[3, 1, 4, 1, 5, 9, 2], 0b1)),
        ("matrix-of-zeros", matrix(&[0; 12], &[1; 7], 0b1)),
    ]
}

/// Patches of the pages: near the beginning or anywhere (bit 0) and cut behind it (bit 1), where (2), how many bytes, what each is
/// changed by, how much is cut off (2). A first byte below 64 stands before patches of the sums instead, 255 before a file.
fn store_indexes() -> Vec<(&'static str, Vec<u8>)> {
    let near = |at: u16, change: &[u8]| [&[64], &at.to_le_bytes()[..], &[change.len() as u8 - 1], change].concat();
    vec![
        ("sound", vec![]),
        ("magic-number", near(0, &[1])),
        ("version", near(9, &[4])),
        ("which-header-is-right", near(9, &[1])),
        ("page-size", near(12, &[0xff; 4])),
        ("region-size", near(16, &[0xff, 0xff, 0xff, 0x7f])),
        ("both-headers", [near(64, &[0x55; 16]), near(192, &[0x55; 16])].concat()),
        ("first-page", near(4096, &[0xff; 16])),
        ("second-page", near(4100, &[3])),
        ("cut", vec![66, 0, 0, 0, 0, 0x00, 0x80]),
        ("a-sum", vec![0, 0, 0, 0, 0, 1]),
        ("sums-cut", vec![0, 2, 0, 0, 0, 0, 4, 0]),
        ("empty-file", vec![255]),
        ("not-a-database", [&[255], &b"not a database "[..]].concat().repeat(300)),
    ]
}

/// Words: bits of the numbers (0 to 3 for 3, 6, 9, 16), data, parity, half the length, kernel, how many are lost here and there,
/// where, and how many from the first one on.
fn wide_codes() -> Vec<(&'static str, Vec<u8>)> {
    let words = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    vec![
        ("nothing", vec![]),
        ("one-and-one", words(&[0, 1, 1, 1, 0, 1, 0])),
        ("high-rate", words(&[1, 40, 6, 33, 0, 2, 3, 41, 0])),
        ("low-rate", words(&[1, 6, 40, 95, 1, 3, 0, 5, 44, 2])),
        ("equal-powers", words(&[1, 33, 60, 128, 0, 1, 9, 0])),
        ("all-data-lost", words(&[1, 20, 30, 32, 0, 0, 20])),
        ("as-many-as-can-be", words(&[2, 300, 70, 64, 0, 0, 70])),
        ("one-too-many", words(&[2, 300, 70, 64, 0, 0, 71])),
        ("three-passes", words(&[3, 500, 150, 100, 1, 4, 1, 2, 3, 649, 0])),
        ("empty-shards", words(&[0, 5, 3, 0, 0, 1, 2, 0])),
        ("too-wide", words(&[3, 40_000, 40_000])),
        ("no-parity", words(&[3, 4, 0])),
    ]
}

/// Parts of golden fragments, and patches: place (2), count, bytes.
fn fragment_headers() -> Vec<(&'static str, Vec<u8>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ec-core/testdata/fragment-v1");
    let read = |path: &str| std::fs::read(golden.join(path)).expect("a golden fragment");
    let replicate = read("replicate-3/00000000000011112222333344445555.1.00000.frag");
    let power = read("rs-4-2-power/000000000000ffff0000ffff00000001.1.00005.frag");
    let lrc = read("lrc-6-2-2/000000000000aaaabbbbccccddddeeee.1.00003.frag");
    let header = |file: &[u8]| file[..4096].to_vec();
    let footer = |file: &[u8]| file[file.len() - 128..].to_vec();
    let record = |file: &[u8], blocks: usize| {
        let bytes = u32::from_le_bytes(file[104..108].try_into().expect("4 bytes")) as usize;
        file[4096 + 4100 * blocks..][..bytes].to_vec()
    };
    let patch = |at: u16, bytes: &[u8]| {
        [&at.to_le_bytes()[..], &[u8::try_from(bytes.len()).expect("at most 8")], bytes].concat()
    };
    vec![
        ("nothing", vec![]),
        ("header-replicate", header(&replicate)),
        ("header-power", header(&power)),
        ("header-lrc", header(&lrc)),
        ("record-replicate", record(&replicate, 2)),
        ("record-power", record(&power, 3)),
        ("record-lrc", record(&lrc, 1)),
        ("footer-power", footer(&power)),
        ("footer-lrc", footer(&lrc)),
        ("fragment-lrc", lrc.clone()),
        ("zeros", vec![0; 4096]),
        ("name", b"000000000000aaaabbbbccccddddeeee.1.00003.frag".to_vec()),
        ("name-leading-zero", b"000000000000aaaabbbbccccddddeeee.01.00003.frag".to_vec()),
        ("record-unlisted", unlisted(&record(&replicate, 2), 0, 0)),
        ("record-unlisted-far", unlisted(&record(&replicate, 2), 1, u64::MAX - 5_000)),
        ("record-listed-twice", listed_twice(record(&power, 3))),
        ("patch-index-n", patch(72, &[6, 0])),
        ("patch-extent-too-large", [patch(96, &[1, 0, 0, 64]), patch(64, &[0, 16, 0, 16])].concat()),
        ("patch-k-0", patch(84, &[0, 0])),
        ("patch-n-65535", patch(86, &[255, 255])),
        ("patch-payload-bytes", patch(64, &[255; 8])),
        ("patch-extent-bytes", patch(96, &[255; 8])),
        ("patch-record-bytes", patch(104, &[255; 4])),
        ("patch-newer", patch(8, &[2, 0, 2, 0])),
        ("patch-newer-family", [patch(10, &[2]), patch(8, &[2]), patch(80, &[9])].concat()),
        ("patch-critical-flag", patch(12, &[1])),
        ("patch-family", patch(80, &[9])),
        ("patch-hash-algorithm", patch(76, &[2])),
        ("patch-info-flags", patch(16, &[1, 2, 3, 4])),
        ("patch-version-2", [patch(8, &[2, 0]), patch(20, &[1]), patch(200, &[1])].concat()),
        ("patch-largest", [patch(84, &[1, 0, 2, 0]), patch(96, &[0, 0, 0, 64]), patch(64, &[0, 0, 0, 64])].concat()),
        ("record-extended", vec![3, 0, 0, 6, 1, 0, 2, 0, 7, 7]),
        ("record-extension-critical", vec![3, 0, 0, 4, 1, 0x80, 0, 0]),
        ("record-newer", [&[0; 4][..], &patch(4, &[2])].concat()),
        ("record-content", [&[0; 4][..], &patch(144, &[9])].concat()),
        ("record-newer-content", [&[0; 4][..], &patch(6, &[1]), &patch(144, &[9])].concat()),
        ("record-cut", vec![1, 160, 0, 7]),
        ("record-longer", vec![2, 160, 0, 2, 9, 9]),
    ]
}

/// What it is (0 a whole file), or which extent (2), what is made right (bits: header, record, footer; from bit 5 on the length), then
/// patches: part (1), place (2), count (1), bytes.
fn fragment_files() -> Vec<(&'static str, Vec<u8>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ec-core/testdata/fragment-v1");
    let whole = |path: &str| [vec![0], std::fs::read(golden.join(path)).expect("a golden fragment")].concat();
    let patched = |extent: u16, right: u8, patches: &[(u8, u16, &[u8])]| {
        let mut input = vec![1];
        input.extend(extent.to_le_bytes());
        input.push(right);
        for (part, at, bytes) in patches {
            input.push(*part);
            input.extend(at.to_le_bytes());
            input.push(u8::try_from(bytes.len()).expect("at most 8"));
            input.extend_from_slice(bytes);
        }
        input
    };
    vec![
        ("nothing", vec![]),
        ("golden-replicate", whole("replicate-3/00000000000011112222333344445555.1.00000.frag")),
        ("golden-lrc", whole("lrc-6-2-2/000000000000aaaabbbbccccddddeeee.1.00003.frag")),
        ("as-written", patched(0, 0, &[])),
        ("older", patched(1, 0, &[])),
        ("without-payload", patched(2, 7, &[])),
        ("header", patched(0, 0, &[(0, 40, &[9])])),
        ("header-with-right-crc", patched(0, 1, &[(0, 56, &[3])])),
        ("header-of-another-generation", patched(0, 5, &[(0, 56, &[3])])),
        ("header-of-another-index", patched(0, 5, &[(0, 72, &[2])])),
        ("header-of-another-cell", patched(0, 5, &[(0, 30, &[1])])),
        ("header-newer", patched(0, 1, &[(0, 8, &[2, 0, 2])])),
        ("header-index-n", patched(0, 5, &[(0, 72, &[5])])),
        ("payload", patched(0, 0, &[(1, 300, &[1, 2, 3])])),
        ("payload-sealed", patched(0, 4, &[(1, 300, &[1, 2, 3])])),
        ("table-sealed", patched(0, 4, &[(2, 4, &[1, 2, 3, 4])])),
        ("record", patched(0, 0, &[(2, 100, &[7])])),
        ("record-sealed", patched(0, 6, &[(2, 100, &[7])])),
        ("record-newer", patched(0, 6, &[(2, 12, &[2])])),
        ("record-extent", patched(0, 6, &[(2, 40, &[7])])),
        ("no-seal", patched(0, 0, &[(3, 0, &[0; 8])])),
        ("footer", patched(0, 0, &[(3, 20, &[7])])),
        ("footer-root-sealed", patched(0, 4, &[(3, 80, &[7])])),
        ("footer-zeros-sealed", patched(0, 4, &[(3, 113, &[7])])),
        ("a-block-less", patched(0, 0x20, &[])),
        ("a-block-more", patched(0, 0x44, &[])),
        ("a-byte-less", patched(0, 0x60, &[])),
    ]
}

/// Blocks (2), bytes of the record less one (2), what is made right (bits: footer, record, zeros that are none), the tail.
fn fragment_tails() -> Vec<(&'static str, Vec<u8>)> {
    let input = |blocks: u16, record: u16, right: u8, rest: &[u8]| {
        [&blocks.to_le_bytes()[..], &record.to_le_bytes(), &[right], rest].concat()
    };
    vec![
        ("nothing", vec![]),
        ("right", input(1, 0, 3, &[1, 2, 3, 4])),
        ("right-without-blocks", input(0, 0, 3, &[])),
        ("right-of-many-blocks", input(1_500, 0, 3, &[7; 6_000])),
        ("right-footer-turned", input(1, 0, 3 | 40, &[1; 5])),
        ("right-footer-root", input(1, 0, 3 | 72, &[1; 6])),
        ("right-footer-length", input(3, 0, 3 | 104, &[1; 12])),
        ("zeros-that-are-none", input(2, 0, 7, &[1; 8])),
        ("record-of-zeros", input(2, 99, 1, &[0; 200])),
        ("record-of-a-byte", input(1, 0, 1, &[9; 20])),
        ("record-largest", input(1, 65_535, 1, &[9; 300])),
        ("as-it-is", input(0, 0, 0, &[0; 4096])),
        ("as-it-is-sealed-by-name", input(0, 0, 0, &[&[0; 3968][..], b"NFFSEAL1", &[0; 120]].concat())),
        ("as-it-is-too-short", input(1_024, 0, 0, &[0; 4096])),
    ]
}

/// Odd, then records: length (2) and payload; or even, then a journal as it is.
fn node_journals() -> Vec<(&'static str, Vec<u8>)> {
    let (extent, hash, claim) = ([5u8; 16], RecordHash([7; 32]), [9u8; 16]);
    let attempt = |number: u64| [&claim[..], &number.to_le_bytes()].concat();
    let fragment = |index: u16| [&extent[..], &1u64.to_le_bytes(), &index.to_le_bytes()].concat();
    let change = |tag: u8, fields: &[&[u8]]| [&[tag], &fields.concat()[..]].concat();
    let token = change(1, &[&2u32.to_le_bytes(), &5u64.to_le_bytes(), &[1; 16], &claim]);
    let heard = |count: u64, hashes: &[RecordHash]| {
        let row = encode_row(&row(count, hashes)).expect("a small row");
        change(2, &[&u32::try_from(row.len()).expect("small").to_le_bytes(), &row])
    };
    let listed = change(3, &[&extent, &hash.0]);
    let level = [listed.clone(), heard(1, &[hash])].concat();
    let prepared = |kind: u8, number| change(5, &[&attempt(number), &[kind], &[6; 16], &hash.0]);
    let damaged = change(11, &[&fragment(1), &[11], b"rot.payload"]);
    let records = |what: u8, payloads: &[&[u8]]| {
        let mut input = vec![what];
        for payload in payloads {
            input.extend(u16::try_from(payload.len()).expect("below 2,000").to_le_bytes());
            input.extend_from_slice(payload);
        }
        input
    };
    vec![
        ("nothing", vec![]),
        ("empty", records(1, &[])),
        ("another-version", records(0x81, &[])),
        ("token", records(1, &[&token])),
        ("level", records(1, &[&token, &level])),
        ("level-and-prepared", records(1, &[&token, &level, &prepared(1, 4), &prepared(2, 5)])),
        ("ended", records(1, &[&prepared(1, 4), &change(6, &[&attempt(4)]), &change(7, &[&attempt(4)])])),
        (
            "deleted",
            records(1, &[&level, &[change(4, &[&extent]), heard(0, &[])].concat(), &change(8, &[&extent, &[8; 8]])]),
        ),
        ("doomed", records(1, &[&change(9, &[&fragment(1), &[8; 8]]), &change(10, &[&fragment(1)])])),
        ("damaged", records(1, &[&level, &damaged, &change(12, &[&fragment(1)])])),
        ("damaged-without-words", records(1, &[&change(11, &[&fragment(2), &[3, 0xff, 0xfe, 0xfd]])])),
        ("lost", records(1, &[&[13], &[13], &[13]])),
        ("torn", records(1 | 9 << 1, &[&token, &level])),
        ("turned", records(1 | 4 << 1, &[&token, &level])),
        ("list-without-its-row", records(1, &[&listed])),
        ("row-of-another-list", records(1, &[&[listed.clone(), heard(2, &[hash])].concat()])),
        ("row-with-a-huge-length", records(1, &[&[2, 0xff, 0xff, 0xff, 0xff, 1, 2]])),
        ("unknown-tag", records(1, &[&[14]])),
        ("cut-field", records(1, &[&[3, 1]])),
        ("as-it-is", [&[0][..], b"N9J1\x06\0\0\0"].concat()),
    ]
}

fn row(count: u64, hashes: &[RecordHash]) -> PgRow {
    PgRow {
        pg: PgId(7),
        incarnation: 2,
        seq: 9,
        epoch: 1,
        code: [1; 16],
        members: vec![DiskId(1), DiskId(2)],
        joining: BTreeMap::new(),
        behind: BTreeSet::new(),
        state: PgState::Open,
        crowded: false,
        next_id: 64,
        count,
        sum: Sum::of(hashes),
        trim: 0,
        entries: Vec::new(),
    }
}

/// The record of a stream of unknown length: without the list of its one extent, at another place. The target sets the CRC.
fn unlisted(record: &[u8], ordinal: u64, offset: u64) -> Vec<u8> {
    let mut record = record[..record.len() - 32].to_vec();
    record[120..128].copy_from_slice(&ordinal.to_le_bytes());
    record[128..136].copy_from_slice(&offset.to_le_bytes());
    record[136..144].fill(0xff);
    record[152..156].fill(0);
    record
}

/// The second of two listed extents gets the id of the first. The target sets the CRC.
fn listed_twice(mut record: Vec<u8>) -> Vec<u8> {
    let list = record.len() - 4 - 2 * 32;
    record.copy_within(list..list + 16, list + 32);
    record
}

/// Code, length, then operations: kind, file (2), arguments.
fn fragment_sets() -> Vec<(&'static str, Vec<u8>)> {
    let on = |code: u8, length: u8, operations: &[&[u8]]| [&[code, length], &operations.concat()[..]].concat();
    vec![
        ("rs-4-2-whole", on(1, 2, &[])),
        ("rs-4-2-empty-extent", on(1, 0, &[&[2, 0, 0], &[2, 0, 0]])),
        ("rs-4-2-two-dropped", on(1, 3, &[&[2, 0, 0], &[2, 3, 0]])),
        ("rs-4-2-three-dropped", on(1, 3, &[&[2, 0, 0], &[2, 3, 0], &[2, 1, 0]])),
        ("lrc-6-2-2-four-dropped", on(6, 4, &[&[2, 0, 0], &[2, 0, 0], &[2, 5, 0], &[2, 5, 0]])),
        ("payload-flipped", on(3, 2, &[&[14, 1, 0, 232, 19, 9]])),
        ("header-flipped", on(4, 2, &[&[14, 1, 0, 30, 0, 1]])),
        ("truncated-and-longer", on(1, 1, &[&[10, 0, 0, 1, 32], &[11, 1, 0, 1, 0, 0]])),
        ("zeroed", on(5, 2, &[&[12, 0, 0, 0, 16, 0, 16], &[13, 2, 0]])),
        ("names-swapped", on(2, 2, &[&[4, 0, 0], &[5, 4, 0]])),
        ("two-of-one-index", on(1, 2, &[&[3, 0, 0], &[14, 6, 0, 8, 16, 1], &[2, 1, 0], &[2, 1, 0]])),
        ("generations-mixed", on(1, 2, &[&[0, 1, 0], &[2, 0, 0], &[7, 2, 0, 1, 0, 2, 0]])),
        ("other-extent", on(2, 3, &[&[0, 2, 0], &[8, 0, 0, 1], &[9, 1, 0, 2, 0, 1, 0, 1]])),
        ("tail-of-a-sibling", on(1, 2, &[&[8, 0, 0, 2], &[33, 1, 0, 3]])),
        ("record-of-another-extent", on(0, 2, &[&[9, 0, 0, 2, 0, 0, 0, 2], &[24, 0, 0]])),
        ("info-flag", on(1, 2, &[&[16, 0, 0, 16, 0, 1, 1], &[17, 1, 0, 16, 0, 1, 1]])),
        ("zeros-forged", on(1, 2, &[&[20, 0, 0, 128, 12, 1]])),
        ("table-flipped", on(1, 2, &[&[14, 1, 0, 2, 48, 1]])),
        ("header-forged", on(1, 2, &[&[17, 0, 0, 56, 0, 1, 2], &[16, 1, 0, 84, 0, 2, 0, 0]])),
        ("header-unknown-family", on(1, 2, &[&[16, 0, 0, 80, 0, 1, 9], &[17, 1, 0, 80, 0, 1, 9]])),
        ("record-unknown-content", on(1, 2, &[&[19, 0, 0, 48, 0, 1, 9], &[19, 1, 0, 144, 0, 1, 9]])),
        ("record-forged", on(7, 2, &[&[19, 0, 0, 72, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]])),
        ("payload-forged", on(1, 2, &[&[21, 0, 0, 5, 0, 9], &[22, 1, 0, 5, 0, 9], &[23, 2, 0, 5, 0, 9]])),
        ("lone-forgery", on(0, 2, &[&[2, 0, 0], &[2, 0, 0], &[23, 0, 0, 5, 0, 9]])),
    ]
}

/// Two kernels, hint, kind (0 any matrix, 1 the native one), rows and columns or k - 1 and m - 1 (2 each), length (2), places of
/// inputs and outputs (2 each); then style and seed of coefficients, or losses.
fn kernel_pairs() -> Vec<(&'static str, Vec<u8>)> {
    let input = |head: [u8; 4], shape: [u16; 3], places: [u8; 4], rest: &[u8]| {
        [&head[..], &shape.map(u16::to_le_bytes).concat(), &places, rest].concat()
    };
    let apart = [3, 5, 1, 11];
    vec![
        ("nothing", vec![]),
        ("one-product", input([0, 4, 0, 0], [1, 1, 1], [0; 4], &[0, 0, 0xA7])),
        ("dense-4-10", input([0, 4, 1, 0], [4, 10, 1031], apart, &[0, 1])),
        ("dense-4-10-streaming", input([0, 4, 2, 0], [4, 10, 1031], [0, 0, 9, 0], &[0, 2])),
        ("dense-13-9", input([1, 2, 0, 0], [13, 9, 700], apart, &[0, 3])),
        ("two-kernels-of-tables", input([4, 5, 0, 0], [3, 7, 600], apart, &[0, 4])),
        ("plain-sums", input([0, 3, 2, 0], [3, 12, 513], [0; 4], &[1, 5])),
        ("mostly-zeros", input([2, 4, 1, 0], [20, 60, 300], apart, &[3, 6])),
        ("no-zeros", input([3, 4, 1, 0], [6, 33, 320], apart, &[4, 7])),
        ("more-columns-than-lanes", input([0, 3, 1, 0], [5, 290, 200], apart, &[2, 8])),
        ("no-columns", input([0, 4, 0, 0], [3, 0, 100], apart, &[])),
        ("no-rows", input([0, 4, 0, 0], [0, 3, 100], apart, &[])),
        ("native-10-2", input([0, 4, 1, 1], [9, 1, 777], apart, &[0, 11])),
        ("native-10-4", input([0, 3, 2, 1], [9, 3, 1025], [0, 0, 7, 0], &[0, 3, 12, 13])),
        ("native-23-7", input([1, 4, 1, 1], [22, 6, 600], apart, &[1, 5, 9, 25, 27])),
        ("native-40-16", input([2, 4, 2, 1], [39, 15, 577], [0; 4], &[1, 2, 3, 4, 5, 6, 7, 50, 51])),
        ("native-60-40", input([3, 0, 2, 1], [59, 39, 160], apart, &[7; 30])),
        ("native-100-100", input([0, 2, 1, 1], [99, 99, 300], apart, &[1, 9, 17, 33, 65, 129, 130, 150, 199])),
        ("cauchy-200-55", input([0, 4, 2, 1], [199, 54, 290], [0; 4], &[0, 100, 199, 200, 254])),
        ("cauchy-1-255", input([1, 3, 0, 1], [0, 254, 200], apart, &[0, 1, 255])),
        ("dense-255-40", input([0, 2, 1, 0], [255, 40, 300], apart, &[0, 9])),
        ("wide-10-4", input([0, 4, 0, 2], [9, 3, 1026], apart, &[0, 0, 13, 0])),
        ("wide-300-40", input([0, 1, 0, 2], [299, 39, 650], apart, &[0, 0, 44, 1, 30, 1])),
        ("wide-40-300", input([1, 4, 0, 2], [39, 299, 650], [0; 4], &[0, 0, 44, 0, 39, 0])),
    ]
}

/// What it is (1), then a message, a row or a whole frame, from the golden ones.
fn wire_messages() -> Vec<(&'static str, Vec<u8>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../repair-core/testdata/wire-v1");
    let read = |name: &str| std::fs::read(golden.join(format!("{name}.bin"))).expect("a golden frame");
    let whole = |what: u8, name: &str| [&[what], &read(name)[..]].concat();
    // The envelope is 32 bytes; its bytes 16 to 19 are the length of the header.
    let header = |what: u8, name: &str| {
        let frame = read(name);
        let bytes = u32::from_le_bytes(frame[16..20].try_into().expect("4 bytes")) as usize;
        [&[what], &frame[32..32 + bytes]].concat()
    };
    let length = |length: u64| [&[2, 8, 0, 0, 0][..], &length.to_le_bytes(), b"abc"].concat();
    vec![
        ("nothing", vec![]),
        ("fence", header(0, "node-request-fence")),
        ("adopt", header(0, "node-request-adopt")),
        ("prepare", header(0, "node-request-prepare")),
        ("stage", header(0, "node-request-stage")),
        ("list", header(0, "node-request-list")),
        ("heard", header(1, "node-reply-heard")),
        ("list-page", header(1, "node-reply-list-page")),
        ("holdings-page", header(1, "node-reply-holdings-page")),
        ("refused", header(1, "node-reply-refused-fenced")),
        ("register", header(2, "daemon-request-register")),
        ("beat", header(2, "daemon-request-beat")),
        ("commit-extent", header(2, "daemon-request-commit-extent")),
        ("put-names", header(2, "daemon-request-put-names")),
        ("explain-node", header(2, "daemon-request-explain-node")),
        ("allocated", header(3, "daemon-reply-allocated")),
        ("located", header(3, "daemon-reply-located")),
        ("names-page", header(3, "daemon-reply-names-page")),
        ("row-cell", whole(4, "row-cell")),
        ("row-disk", whole(5, "row-disk")),
        ("row-owner", whole(6, "row-owner")),
        ("row-pg", whole(7, "row-pg")),
        ("row-stream", whole(8, "row-stream")),
        ("row-name", whole(9, "row-name")),
        ("frame-stage-data", whole(10, "node-request-stage-data")),
        ("frame-status", whole(10, "daemon-request-status")),
        ("frame-report", whole(10, "daemon-reply-report")),
        // Lookup of a name whose length lies.
        ("length-right", length(3)),
        ("length-one-more", length(4)),
        ("length-huge", length(u64::MAX)),
        ("length-of-an-address-space", length(1 << 47)),
    ]
}
