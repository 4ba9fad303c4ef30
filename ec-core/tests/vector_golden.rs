//! Encoded vectors of the vector codes, kept for ever in `testdata/vector.txt`, and the script that derives them again.
//!
//! New lines: add the code to `SPECS` and run `cargo test -p ec-core --features clay --test vector_golden -- --ignored write_`.
//! The lines that were there must come out the same.
#![allow(clippy::cast_possible_truncation)]

use ec_core::VectorCode;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SPECS: &[&str] = &[
    "hitchhiker:4+2",
    "hitchhiker:6+3",
    "hitchhiker:10+4",
    "hitchhiker:12+4",
    "hitchhiker:2+4",
    "lrc:6,2,3@gf16",
    "lrc:7,3,2@gf16",
    "lrc:12,2,3@gf16",
    "lrc:12,2,4@gf16",
    "lrc:12,3,3@gf16",
    "lrc:16,2,3@gf16",
    "clay:4+2",
    "clay:3+2",
    "clay:6+3",
    "clay:10+4",
];

/// Sub-chunks of some bytes for the codes of few, of one byte for those of many.
const SHARD_BYTES_MIN: usize = 16;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// The spec and all shards in hexadecimal.
fn line(spec: &str) -> String {
    let code = VectorCode::new(&spec.parse().unwrap()).unwrap();
    let len = code.alpha().max(SHARD_BYTES_MIN).next_multiple_of(code.alpha());
    let mut shards: Vec<Vec<u8>> =
        (0..code.n()).map(|i| (0..len).map(|j| ((i * 31 + j * 7 + 1) % 256) as u8).collect()).collect();
    let (data, parity) = shards.split_at_mut(code.k());
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    let mut line = spec.to_owned();
    for shard in &shards {
        line.push(' ');
        shard.iter().for_each(|byte| write!(line, "{byte:02x}").unwrap());
    }
    line
}

/// Clay lines are checked by builds that have it.
fn built(spec: &str) -> bool {
    cfg!(feature = "clay") || !spec.starts_with("clay")
}

#[test]
fn vectors_are_those_on_file() {
    let file = std::fs::read_to_string(testdata("vector.txt")).unwrap();
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
    let found: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(found, SPECS.iter().copied().collect(), "specs on file");
    for on_file in lines {
        let spec = on_file.split(' ').next().unwrap();
        assert!(!built(spec) || line(spec) == on_file, "{spec} is encoded otherwise than on file");
    }
}

#[test]
#[ignore = "writes testdata/vector.txt"]
#[cfg(feature = "clay")]
fn write_vectors() {
    let head = "# CODE, then its shards in hexadecimal: data byte j of shard i is (31 i + 7 j + 1) mod 256, then the parities.\n\
                # Made by tests/vector_golden.rs, derived again by vector.py.\n";
    let lines: String = SPECS.iter().map(|spec| line(spec) + "\n").collect();
    std::fs::write(testdata("vector.txt"), head.to_owned() + &lines).unwrap();
}

/// The script wants nothing but Python 3.9.
fn derive(file: &Path) -> Output {
    let python = std::env::var_os("NINEFOLD_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(&python).arg(testdata("vector.py")).arg(file).output();
    // Its absence is a failure: a test that is skipped proves nothing.
    output.unwrap_or_else(|error| panic!("install python3 or set NINEFOLD_PYTHON: {}: {error}", python.display()))
}

#[test]
fn the_script_derives_every_vector_from_the_construction_alone() {
    let output = derive(&testdata("vector.txt"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(found.lines().collect::<Vec<_>>(), SPECS);
}

#[test]
fn the_script_sees_one_changed_byte_of_each_family() {
    let file = std::fs::read_to_string(testdata("vector.txt")).unwrap();
    for spec in ["hitchhiker:4+2", "lrc:6,2,3@gf16", "clay:4+2"] {
        let line = file.lines().find(|line| line.split(' ').next() == Some(spec)).unwrap();
        let (rest, last) = line.split_at(line.len() - 1);
        let changed = format!("{rest}{}\n", if last == "0" { "1" } else { "0" });
        let name = format!("ec-core-vector-{}-{}", std::process::id(), spec.replace([':', ',', '@', '+'], "-"));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, changed).unwrap();
        let output = derive(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(!output.status.success(), "{spec}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with(spec), "{output:?}");
    }
}
