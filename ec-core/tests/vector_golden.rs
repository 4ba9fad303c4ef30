//! Encoded vectors of the vector codes, kept for ever in `testdata/vector.txt`, and the script that derives them again.
//!
//! New lines: `examples/make_vectors.rs`.

#[path = "../examples/make_vectors.rs"]
#[allow(dead_code)]
mod made;

use made::{SPECS, line};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
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
        assert!(!built(spec) || line(spec).unwrap() == on_file, "{spec} is encoded otherwise than on file");
    }
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
