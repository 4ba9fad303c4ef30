//! A reader that shares no line with the library reads the golden fragments back: `reader.py`, written from
//! `docs/format/fragment.md`. With it the page is enough to get the data out.
#![cfg(feature = "hash")]
#![allow(clippy::cast_possible_truncation)]

use ec_core::fragment::{BirthIdentity, FOOTER_BYTES, Footer, Hash, build_tail, examine};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// A Python with `blake3`, or why there is none.
static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-venv/bin/python3");
    let python = match std::env::var_os("NINEFOLD_PYTHON") {
        Some(python) => PathBuf::from(python),
        None if venv.exists() => venv,
        None => PathBuf::from("python3"),
    };
    let advice = "run scripts/test, or `pip install blake3`, or set NINEFOLD_PYTHON";
    match Command::new(&python).args(["-c", "import blake3"]).output() {
        Ok(output) if output.status.success() => Ok(python),
        Ok(output) => Err(format!("{advice}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{advice}: {}: {error}", python.display())),
    }
});

/// The absence of Python is a failure: a test that is skipped proves nothing.
fn python() -> &'static Path {
    PYTHON.as_ref().unwrap_or_else(|advice| panic!("{advice}"))
}

/// A copy of one golden folder that a test may spoil.
struct Folder(PathBuf);

impl Folder {
    fn new(set: &str, label: &str) -> Self {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-reader-{set}-{label}"));
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir_all(&copy).unwrap();
        let folder = Self(copy);
        folder.add(set);
        folder
    }

    fn add(&self, set: &str) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fragment-v1").join(set);
        for entry in fs::read_dir(golden).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), self.0.join(entry.file_name())).unwrap();
        }
    }

    /// The files of shard `index`, one per extent, in the order of their names.
    fn files(&self, index: usize) -> Vec<PathBuf> {
        let end = format!(".{index:05}.frag");
        let mut files: Vec<PathBuf> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.to_str().unwrap().ends_with(&end));
        files.sort();
        assert!(!files.is_empty(), "no shard {index}");
        files
    }

    fn remove(&self, index: usize) {
        self.files(index).iter().for_each(|file| fs::remove_file(file).unwrap());
    }

    /// Flips one bit of each file of shard `index`; `from_end` counts back from the end of the file.
    fn damage(&self, index: usize, from_end: usize) {
        for file in self.files(index) {
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() - from_end;
            bytes[at] ^= 0x10;
            fs::write(file, bytes).unwrap();
        }
    }

    /// Puts another write of the extent beside the first: generation 2, other bytes, whole in itself.
    fn add_generation_2(&self, index: usize, revision: u64) {
        let bytes = fs::read(&self.files(index)[0]).unwrap();
        let found = examine(&bytes);
        let (mut header, mut record) = (found.header.unwrap(), found.tail.unwrap().record);
        let payload = vec![9; header.identity.payload_bytes as usize];
        for entry in &mut record.fragments {
            entry.identity = BirthIdentity { generation: 2, ..entry.identity };
            entry.root = entry.identity.root(&Hash::of(&payload));
        }
        (record.revision, record.extent_hash) = (revision, Hash::of(&payload[..record.extent_bytes as usize]));
        header.identity.generation = 2;
        let (header_bytes, seed) = (header.to_bytes(), header.identity.seed());
        let table: Vec<u32> = (0..).zip(payload.chunks(4096)).map(|(number, block)| seed.crc(number, block)).collect();
        let root = record.fragments[index].root;
        let tail = build_tail(&header, &header_bytes, &table, &record.to_bytes().unwrap(), &root).unwrap();
        fs::write(self.0.join(header.identity.file_name()), [&header_bytes[..], &payload, &tail].concat()).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> (Output, Option<Vec<u8>>) {
        let out = self.0.with_extension("out");
        let _ = fs::remove_file(&out);
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py");
        let output = Command::new(python()).arg(reader).arg(&self.0).arg(&out).args(arguments).output().unwrap();
        (output, fs::read(out).ok())
    }

    fn reads(&self, stream_bytes: usize) {
        self.reads_with(&[], stream_bytes);
    }

    fn reads_with(&self, arguments: &[&str], stream_bytes: usize) {
        let (output, read) = self.run(arguments);
        assert!(output.status.success(), "{}: {}", self.0.display(), String::from_utf8_lossy(&output.stderr));
        let expected: Vec<u8> = (0..stream_bytes).map(|at| (at % 251) as u8).collect();
        assert!(read.unwrap() == expected, "{}: other bytes", self.0.display());
    }

    fn refuses(&self, why: &str) {
        let (output, read) = self.run(&[]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), read), (Some(1), None), "{}: {message}", self.0.display());
        assert!(message.contains(why) && !message.contains("Traceback"), "{message}");
    }
}

/// All sets of up to two of `0..shards`.
fn up_to_two(shards: usize) -> Vec<Vec<usize>> {
    let mut sets = vec![vec![]];
    for a in 0..shards {
        sets.push(vec![a]);
        sets.extend((a + 1..shards).map(|b| vec![a, b]));
    }
    sets
}

fn reads_without(set: &str, lost: &[usize], stream_bytes: usize) {
    let folder = Folder::new(set, &format!("without-{lost:?}"));
    lost.iter().for_each(|index| folder.remove(*index));
    folder.reads(stream_bytes);
}

#[path = "../examples/make_codes.rs"]
#[allow(dead_code)]
mod codes;

#[test]
fn the_rows_of_every_code_are_those_of_its_descriptor() {
    let script = "import sys; sys.path.insert(0, sys.argv[1]); from reader import generator\n\
                  for code in sys.argv[2:]: print('/'.join(bytes(row).hex() for row in generator(bytes.fromhex(code))))";
    // A descriptor knows no slot.
    let named = codes::SPECS.iter().filter(|spec| !spec.starts_with("slot"));
    let specs: Vec<ec_core::CodeSpec> = named.map(|spec| spec.parse().unwrap()).collect();
    let descriptors = specs.iter().map(|spec| spec.to_descriptor().map(|byte| format!("{byte:02x}")).concat());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let output = Command::new(python()).args(["-B", "-c", script]).arg(tests).args(descriptors).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = String::from_utf8(output.stdout).unwrap();
    assert_eq!(rows.lines().count(), specs.len());
    for (spec, rows) in specs.iter().zip(rows.lines()) {
        assert_eq!(rows, format!("{:?}", ec_core::Code::new(spec).unwrap().generator()), "{spec}");
    }
}

#[test]
fn copies_are_read_from_any_one() {
    for lost in up_to_two(3) {
        reads_without("replicate-3", &lost, 5000);
    }
    let folder = Folder::new("replicate-3", "none-left");
    (0..3).for_each(|index| folder.remove(index));
    folder.refuses("no fragments");
}

#[test]
fn both_extents_are_decoded_from_any_four_of_six() {
    for lost in up_to_two(6) {
        reads_without("rs-4-2-power", &lost, 50_007);
    }
    let folder = Folder::new("rs-4-2-power", "three-lost");
    [0, 3, 5].iter().for_each(|index| folder.remove(*index));
    folder.refuses("not decodable from fragments [1, 2, 4]");
}

#[test]
fn a_local_code_is_decoded_within_its_distance_and_beyond_where_ranks_allow() {
    // The last has four losses that the two local parities and the two global ones can mend together.
    for lost in [&[0][..], &[0, 1, 2], &[3, 7, 8], &[6, 7, 9], &[0, 5, 8], &[0, 1, 3, 4]] {
        reads_without("lrc-6-2-2", lost, 20_000);
    }
    let folder = Folder::new("lrc-6-2-2", "four-of-one-group");
    [0, 1, 2, 6].iter().for_each(|index| folder.remove(*index));
    folder.refuses("not decodable");
}

#[test]
fn damaged_fragments_are_not_used() {
    // Footer, record, payload, header; two of six at a time.
    for (turn, from_end) in [20, 4096 - 200, 4096 + 77, 12_288 - 60].into_iter().enumerate() {
        let folder = Folder::new("rs-4-2-power", &format!("damaged-{from_end}"));
        folder.damage(turn, from_end);
        folder.damage((turn + 3) % 6, from_end);
        folder.reads(50_007);
        folder.remove((turn + 1) % 6);
        folder.refuses("not decodable");
    }
    let folder = Folder::new("rs-4-2-power", "misnamed");
    for (left, right) in folder.files(0).into_iter().zip(folder.files(1)) {
        fs::copy(&right, &left).unwrap();
    }
    folder.reads(50_007);
}

#[test]
fn the_record_that_most_carry_stands_for_the_extent() {
    let folder = Folder::new("replicate-3", "generations");
    folder.add_generation_2(2, 1);
    folder.reads(5000);
    // One of each: the higher revision wins, and its bytes are nines. Several, so that no hash order can stand in for it.
    for revision in [2, 3, 4, 5, 255, 256] {
        let folder = Folder::new("replicate-3", &format!("revision-{revision}"));
        folder.add_generation_2(2, revision);
        fs::remove_file(&folder.files(0)[0]).unwrap();
        fs::remove_file(&folder.files(1)[0]).unwrap();
        let (output, read) = folder.run(&[]);
        assert!(output.status.success() && read.unwrap() == vec![9; 5000], "{revision}: {output:?}");
    }
}

#[test]
fn a_seal_over_another_root_is_refused() {
    let folder = Folder::new("replicate-3", "root");
    for file in (0..3).flat_map(|index| folder.files(index)) {
        let mut bytes = fs::read(&file).unwrap();
        let footer_at = bytes.len() - FOOTER_BYTES;
        let footer = Footer::parse(&bytes[footer_at..]).unwrap();
        let footer = Footer { root: Hash::of(b"another"), ..footer };
        bytes[footer_at..].copy_from_slice(&footer.to_bytes());
        fs::write(file, bytes).unwrap();
    }
    folder.refuses("root");
}

#[test]
fn an_extent_without_fragments_is_noticed() {
    for extent in [0, 1] {
        let folder = Folder::new("rs-4-2-power", &format!("without-extent-{extent}"));
        (0..6).for_each(|index| fs::remove_file(&folder.files(index)[extent]).unwrap());
        folder.refuses("of 2 extents of the stream");
    }
}

#[test]
fn a_stream_is_chosen_by_name_or_id() {
    let folder = Folder::new("rs-4-2-power", "with-another");
    folder.add("replicate-3");
    folder.refuses("several streams");
    folder.reads_with(&["--stream", "två delar"], 50_007);
    folder.reads_with(&["--stream", &format!("{:032x}", 0xf00d)], 5000);
}
