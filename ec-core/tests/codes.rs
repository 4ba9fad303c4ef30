//! `testdata/codes.txt`, which is kept for ever: every code still makes the same parities, and a script without a line of the
//! library derives them from the written constructions.

#[path = "../examples/make_codes.rs"]
#[allow(dead_code)]
mod made;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn stored() -> String {
    std::fs::read_to_string(testdata("codes.txt")).unwrap()
}

#[test]
fn every_code_makes_the_parities_it_always_made() {
    let stored = stored();
    for line in stored.lines() {
        let spec = line.split(' ').next().unwrap();
        assert_eq!(made::line(spec).unwrap(), line);
    }
    assert_eq!(stored.lines().count(), made::SPECS.len());
}

fn derived(path: &Path) -> Output {
    let python = std::env::var_os("NINEFOLD_PYTHON").unwrap_or_else(|| "python3".into());
    Command::new(python).arg(testdata("codes.py")).arg(path).output().expect("python3")
}

#[test]
fn a_script_derives_the_same_from_the_constructions_alone() {
    let output = derived(&testdata("codes.txt"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), made::SPECS.len().to_string());
    // It can fail: one digit of one parity.
    let spoiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("codes-spoiled.txt");
    let line = stored().lines().find(|line| line.starts_with("lrc:6,2,3")).unwrap().to_string();
    let last = if line.ends_with('0') { '1' } else { '0' };
    std::fs::write(&spoiled, format!("{}{last}\n", &line[..line.len() - 1])).unwrap();
    assert!(!derived(&spoiled).status.success());
}
