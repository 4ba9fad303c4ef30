//! Files to fragments and back through the real binary, with every number of losses the code survives.
mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use support::forge::Parts;
use support::{Set, decode, encode, listing, painted, run, same_bytes, sparse_file, verify};
use tempfile::TempDir;

/// Spec, k, n, losses it surely survives.
const CODES: &[(&str, usize, usize, usize)] = &[
    ("replicate:1", 1, 1, 0),
    ("replicate:2", 1, 2, 1),
    ("replicate:3", 1, 3, 2),
    ("rs:4+2", 4, 6, 2),
    ("rs:6+3@lch", 6, 9, 3),
    ("rs:10+4", 10, 14, 4),
    ("rs:4+2@cauchy", 4, 6, 2),
    ("rs:4+2@power", 4, 6, 2),
    ("rs:4+2@vandermonde", 4, 6, 2),
    ("rs:1+1", 1, 2, 1),
    ("rs:200+50", 200, 250, 50),
    ("lrc:6,2,2", 6, 10, 3),
    ("lrc:12,2,2", 12, 16, 3),
];

/// Lengths at which something begins or ends: nothing, a byte, blocks, k blocks, and past them.
fn lengths(k: usize) -> Vec<usize> {
    let all = [0, 1, 4096, k * 4096 - 1, k * 4096, k * 4096 + 1, 300_007];
    // Each of 250 files is forced to the disk, which some disks take their time for.
    if k < 100 { all.into() } else { all.into_iter().step_by(2).collect() }
}

/// `count` of `n` indices, spread, beginning elsewhere for each `turn`.
fn some_indices(n: usize, count: usize, turn: usize) -> BTreeSet<usize> {
    // 7 has no common factor with any n here but 14, so the steps meet every index; 14 takes 5.
    let step = if n.is_multiple_of(7) { 5 } else { 7 };
    (0..count).map(|at| (turn + at * step) % n).collect()
}

#[test]
fn every_code_and_length_comes_back_after_every_number_of_losses() {
    for &(code, k, n, tolerance) in CODES {
        for (turn, length) in lengths(k).into_iter().enumerate() {
            let set = Set::new(code, painted(length));
            assert_eq!(set.len(), n, "{code}");
            assert_eq!(set.findings(), [], "{code}, {length} bytes");
            // Every number of losses for one length, and none, one and all it survives for the others.
            let counts: BTreeSet<usize> = if length > k * 4096 + 1 && n < 100 {
                (0..=tolerance).collect()
            } else {
                [0, tolerance.min(1), tolerance].into()
            };
            for lost in counts {
                let lost = some_indices(n, lost, turn);
                lost.iter().for_each(|index| set.remove(*index));
                let report = set.decodes();
                assert_eq!(report["missing_fragments"], lost.len());
                let lost_data = lost.iter().filter(|index| **index < k).count();
                assert_eq!(report["rebuilt_fragments"], lost_data, "{code}");
                lost.iter().for_each(|index| set.write(*index, set.original(*index)));
            }
        }
    }
}

#[test]
fn data_fragments_are_the_file_and_zeros() {
    // Long enough that buffers are used again: what they held before must not become the padding.
    for length in [900_001, 3_000_001, 4_999_999] {
        let set = Set::new("rs:4+2", vec![0xa5; length]);
        let payloads: Vec<u8> = (0..4).flat_map(|index| Parts::of(set.original(index)).payload).collect();
        assert!(payloads[..length] == set.data, "{length}");
        assert!(payloads[length..].iter().all(|byte| *byte == 0), "{length}: the padding is not zero");
        let shards: Vec<usize> = (0..6).map(|index| Parts::of(set.original(index)).payload.len()).collect();
        assert_eq!(shards, [length.div_ceil(4).next_multiple_of(4096); 6]);
    }
}

#[test]
fn every_pair_of_losses_is_repaired_to_the_same_bytes() {
    let set = Set::new("rs:4+2", painted(40_000));
    for a in 0..6 {
        for b in a + 1..6 {
            set.remove(a);
            set.remove(b);
            let report = set.heals();
            assert_eq!((&report["rebuilt_fragments"], &report["read_bytes"]), (&2.into(), &(4 * 12_288).into()));
            assert_eq!(report["minimum_read_bytes"], report["read_bytes"]);
            assert_eq!(report["written_bytes"], report["rebuilt_bytes"]);
        }
    }
}

#[test]
fn a_local_loss_reads_its_group_only() {
    let set = Set::new("lrc:12,2,2", painted(1_000_000));
    for index in 0..12 {
        set.remove(index);
        let report = set.heals();
        let group: Vec<u64> =
            (0..12).filter(|other| other / 6 == index / 6 && *other != index).map(|i| i as u64).collect();
        let mut expected = group;
        expected.push(12 + index as u64 / 6);
        assert_eq!(report["extents"][0]["reads"], Value::from(expected));
    }
    // Three of a group, and a local parity with it: more than the guarantee, still decodable.
    [0, 1, 6, 12].iter().for_each(|index| set.remove(*index));
    set.decodes();
    set.heals();
}

#[test]
fn a_file_of_zeros_is_a_file() {
    for code in ["rs:4+2", "lrc:6,2,2", "replicate:2"] {
        let set = Set::new(code, vec![0; 70_000]);
        set.remove(1);
        set.decodes();
        set.heals();
    }
}

#[test]
fn an_empty_file_is_repaired_too() {
    for code in ["rs:4+2", "replicate:3", "lrc:12,2,2"] {
        let set = Set::new(code, Vec::new());
        set.remove(0);
        set.remove(2);
        set.finds(&[(0, "missing"), (2, "missing")]);
        set.heals();
    }
}

#[test]
fn any_name_is_kept_and_shown_harmlessly() {
    let long = vec![b'n'; 255];
    let odd: [&[u8]; 6] = [b"line\nfeed", b"not\xff\xfeutf-8", b"\x1b[31mred", b"  --code ", "zwölf".as_bytes(), &long];
    for name in odd {
        let root = TempDir::new().unwrap();
        let input = root.path().join(OsStr::from_bytes(name));
        let (dir, out) = (root.path().join("d"), root.path().join("o"));
        fs::write(&input, painted(5000)).unwrap();
        encode(&input, "rs:2+1", &dir).exits(0);
        let report = verify(&dir).exits(0).json();
        let stream = &report["streams"][0];
        let shown = stream["name"].as_str().unwrap();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        if let Ok(text) = std::str::from_utf8(name)
            && !text.contains(char::is_control)
        {
            assert_eq!(shown, text);
        }
        decode(&dir, &out).exits(0);
        assert_eq!(fs::read(&out).unwrap(), painted(5000));
        // The id chooses where the name cannot be typed.
        let id = stream["id"].as_str().unwrap();
        run([
            OsStr::new("decode"),
            dir.as_ref(),
            "--out".as_ref(),
            root.path().join("p").as_ref(),
            "--stream".as_ref(),
            id.as_ref(),
        ])
        .exits(0);
        // The text forms carry no raw control character either.
        let ran = run([OsStr::new("inspect"), dir.join(listing(&dir).first().unwrap()).as_ref()]).exits(0);
        assert!(!ran.stdout.contains(|c: char| c.is_control() && c != '\n'), "{:?}", ran.stdout);
        assert!(!ran.stdout.contains("line\nfeed"));
    }
}

#[test]
fn a_relative_path_and_the_current_folder_work() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("input"), painted(9000)).unwrap();
    let here = |arguments: &[&str]| {
        let mut command = support::command(arguments);
        support::finish(command.current_dir(root.path()).spawn().unwrap()).exits(0);
    };
    here(&["encode", "input", "--code", "rs:2+1", "--out", "d"]);
    here(&["decode", "d", "--out", "o"]);
    assert_eq!(fs::read(root.path().join("o")).unwrap(), painted(9000));
    fs::create_dir(root.path().join("e")).unwrap();
    let mut command = support::command(["encode", "../input", "--code", "rs:2+1", "--out", "."]);
    support::finish(command.current_dir(root.path().join("e")).spawn().unwrap()).exits(0);
    let mut command = support::command(["verify", "."]);
    support::finish(command.current_dir(root.path().join("e")).spawn().unwrap()).exits(0);
}

#[test]
fn a_file_over_an_extent_becomes_several() {
    let root = TempDir::new().unwrap();
    let (input, dir, out) = (root.path().join("big"), root.path().join("d"), root.path().join("o"));
    let bytes = (256 << 20) + 4097;
    sparse_file(&input, bytes);
    encode(&input, "rs:4+1", &dir).exits(0);
    assert_eq!(listing(&dir).len(), 10);
    let report = verify(&dir).exits(0).json();
    let extents = report["extents"].as_array().unwrap();
    assert_eq!(extents.len(), 2);
    // Any one fragment lists both extents and their order.
    for (ordinal, extent) in extents.iter().enumerate() {
        assert_eq!(extent["ordinal"], ordinal);
        let path = Path::new(extent["fragments"][4]["path"].as_str().unwrap());
        let inspected = support::inspect(path).exits(0).json();
        let listed: Vec<&Value> = extents.iter().map(|extent| &extent["id"]).collect();
        assert_eq!(inspected["fragment"]["stream_extents"], serde_json::json!(listed));
        assert_eq!(inspected["fragment"]["offset"], ordinal as u64 * (256 << 20));
        assert_eq!(inspected["fragment"]["name"], "big");
        // One fragment of each extent lost: a data fragment of the first, parity of the second.
        fs::remove_file(extent["fragments"][ordinal * 4]["path"].as_str().unwrap()).unwrap();
    }
    decode(&dir, &out).exits(0);
    assert!(same_bytes(&input, &out));
    // Without the second extent nothing is written, and the error names it and what it needs.
    for fragment in extents[1]["fragments"].as_array().unwrap().iter().take(4) {
        fs::remove_file(fragment["path"].as_str().unwrap()).unwrap();
    }
    let absent = extents[1]["id"].as_str().unwrap();
    decode(&dir, &root.path().join("never")).exits(1).says(&[absent, "at least 4"]);
    assert!(!root.path().join("never").exists());
    let report = verify(&dir).exits(1).json();
    for extent in report["extents"].as_array().unwrap() {
        assert_eq!(extent["decodable"], extent["id"] != absent);
    }
    // The other extent is repaired all the same; the exit code says that not all is well.
    let report = support::repair(&dir).exits(1).json();
    assert_eq!((&report["rebuilt_fragments"], &report["full_redundancy"]), (&1.into(), &false.into()));
}

/// A Python with `blake3`, as the tests of ec-core look for it. Its absence is a failure: a test that is skipped proves nothing.
fn python() -> Command {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-venv/bin/python3");
    let python = match std::env::var_os("NINEFOLD_PYTHON") {
        Some(python) => python.into(),
        None if venv.exists() => venv,
        None => "python3".into(),
    };
    let probe = Command::new(&python).args(["-c", "import blake3"]).output();
    assert!(
        probe.as_ref().is_ok_and(|output| output.status.success()),
        "no Python with blake3; run scripts/test, or `pip install blake3`, or set NINEFOLD_PYTHON: {probe:?}"
    );
    Command::new(python)
}

#[test]
fn a_reader_that_knows_only_the_written_format_reads_what_the_binary_wrote() {
    for (code, lost) in
        [("rs:4+2", &[0, 3][..]), ("lrc:12,2,2", &[2, 4, 11]), ("rs:4+2@power", &[1]), ("replicate:3", &[0, 1])]
    {
        let set = Set::new(code, painted(300_007));
        lost.iter().for_each(|index| set.remove(*index));
        let out = set.beside("by-python");
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ec-core/tests/reader.py");
        let output = python().arg(reader).arg(&set.dir).arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(out).unwrap() == set.data);
    }
}
