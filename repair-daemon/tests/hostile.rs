//! Fragments made to hurt a reader: numbers without measure under right checksums. Every command refuses them within half a
//! gigabyte of address space, and goes on with what is good.
mod support;

use ec_core::ShardIndex;
use ec_core::fragment::{BirthIdentity, ExtentId, FragmentEntry, Hash, Header, StreamExtent, StreamId, build_tail};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::forge::Parts;
use support::{NINEFOLD, Ran, Set, finish, piped};

/// Runs the binary with 512 MiB of address space.
fn run_confined<A: AsRef<OsStr>>(arguments: &[A]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 524288 && exec \"$0\" \"$@\"", NINEFOLD]).args(arguments);
    piped(&mut command);
    finish(command.spawn().unwrap())
}

/// All commands that read fragments, on a set with a hostile file in it that is within tolerance.
fn endures(set: &Set, label: &str, path: &Path, class: &str) {
    let dir = set.dir.as_os_str();
    let report = run_confined(&[OsStr::new("verify"), dir, "--json".as_ref()]).exits(1).json();
    let text = report.to_string();
    assert!(text.contains(&format!("\"class\":\"{class}\"")), "{label}: {class} is not in {text}");
    let out = set.beside("out");
    run_confined(&[OsStr::new("decode"), dir, "--out".as_ref(), out.as_ref()]).exits(0);
    assert!(fs::read(&out).unwrap() == set.data, "{label}");
    fs::remove_file(&out).unwrap();
    let inspected = run_confined(&[OsStr::new("inspect"), path.as_os_str(), "--json".as_ref()]);
    assert!(inspected.code == 0 || inspected.code == 1, "{label}: {inspected:?}");
    inspected.json();
    run_confined(&[OsStr::new("repair"), dir]).exits(0);
    run_confined(&[OsStr::new("verify"), dir]).exits(0);
    set.is_as_made();
}

#[test]
fn hostile_headers() {
    let max = u64::MAX.to_le_bytes();
    let near = (u64::MAX - 4095).to_le_bytes();
    // At, bytes, class. See the table of the header in docs/format/fragment.md.
    let headers: &[(&str, usize, &[u8], &str)] = &[
        ("k = 0", 84, &[0, 0], "rot.header"),
        ("k = 65535", 84, &[0xff, 0xff], "rot.header"),
        ("n = 65535", 86, &[0xff, 0xff], "rot.header"),
        ("n = 0", 86, &[0, 0], "rot.header"),
        ("k = n = 65535", 84, &[0xff; 4], "rot.header"),
        ("groups and globals 65535", 88, &[0xff; 4], "rot.header"),
        ("slot 2^32-1", 92, &[0xff; 4], "rot.header"),
        ("family 255", 80, &[0xff], "rot.header"),
        ("index 65535", 72, &[0xff, 0xff], "rot.header"),
        ("generation 0", 56, &[0; 8], "rot.header"),
        ("payload_bytes 2^64-1", 64, &max, "rot.header"),
        ("payload_bytes 2^64-4096", 64, &near, "rot.header"),
        ("payload_bytes 2^63", 64, &(1u64 << 63).to_le_bytes(), "rot.header"),
        ("extent_bytes 2^64-1", 96, &max, "rot.header"),
        ("extent_bytes 2^64-4096", 96, &near, "rot.header"),
        ("extent_bytes 2^40", 96, &(1u64 << 40).to_le_bytes(), "rot.header"),
        ("record_bytes 2^32-1", 104, &[0xff; 4], "rot.header"),
        ("record_bytes 65537", 104, &65_537u32.to_le_bytes(), "rot.header"),
        ("record_bytes 0", 104, &[0; 4], "rot.header"),
        ("block size 2^255", 74, &[0xff], "rot.header"),
    ];
    let set = Set::small();
    let parts = Parts::of(set.original(1));
    for (turn, (label, at, bytes, class)) in headers.iter().enumerate() {
        let index = turn % 6;
        set.write(index, &parts.file_with_header(*at, bytes));
        endures(&set, label, &set.path(index), class);
    }
    // The largest numbers that a header may have, over a file that is nothing of the kind.
    let mut large = parts.header;
    (large.extent_bytes, large.identity.payload_bytes, large.record_bytes) = (1 << 30, 1 << 28, 65_536);
    let bytes = [&large.to_bytes()[..], &vec![0; 8192]].concat();
    set.write(1, &bytes);
    endures(&set, "a gigabyte promised", &set.path(1), "torn.committed");
    // And a hole of the length that it promises.
    set.write(1, &bytes);
    fs::File::options().write(true).open(set.path(1)).unwrap().set_len(large.layout().file_bytes).unwrap();
    endures(&set, "a gigabyte of hole", &set.path(1), "torn.committed");
}

#[test]
fn hostile_records() {
    let set = Set::small();
    let parts = Parts::of(set.original(1));
    let record = parts.record.to_bytes().unwrap();
    // At, bytes, class; the record's own CRC and the seal are right. See the table of the record.
    let records: &[(&str, usize, &[u8], &str)] = &[
        ("k = 0", 52, &[0, 0], "rot.footer"),
        ("n = 65535", 54, &[0xff, 0xff], "rot.footer"),
        ("extent_bytes 2^64-1", 64, &[0xff; 8], "rot.footer"),
        ("offset 2^64-1", 128, &[0xff; 8], "rot.footer"),
        ("stream_bytes 0", 136, &[0; 8], "rot.footer"),
        ("name_bytes 65535", 146, &[0xff, 0xff], "rot.footer"),
        ("fragments 65535", 148, &[0xff, 0xff], "rot.footer"),
        ("extents 2^32-1", 152, &[0xff; 4], "rot.footer"),
        ("extension_bytes 2^32-1", 156, &[0xff; 4], "rot.footer"),
        ("ordinal 2^64-1", 120, &[0xff; 8], "rot.footer"),
        ("another extent", 39, &[0xff], "rot.footer"),
    ];
    for (label, at, bytes, class) in records {
        let mut record = record.clone();
        record[*at..*at + bytes.len()].copy_from_slice(bytes);
        let body = record.len() - 4;
        let crc = crc32fast::hash(&record[..body]);
        record[body..].copy_from_slice(&crc.to_le_bytes());
        set.write(1, &parts.file_with_record(&record));
        endures(&set, label, &set.path(1), class);
    }
}

/// A whole fragment of an empty extent whose record lists `listed` extents under a code of 256 fragments, 128 of them needed.
fn that_lists(listed: usize, stream: u128) -> (String, Vec<u8>) {
    let base = Parts::of(Set::new("replicate:1", Vec::new()).original(0));
    let mut record = base.record.clone();
    let identity = |extent, index| BirthIdentity {
        extent: ExtentId(extent),
        index: ShardIndex::new(index),
        ..base.header.identity
    };
    let own = stream << 32;
    record.code = "rs:128+128".parse().unwrap();
    (record.extent, record.stream) = (ExtentId(own), StreamId(stream));
    record.name = b"hostile".to_vec();
    record.fragments = (0..256)
        .map(|index| {
            let identity = identity(own, index);
            FragmentEntry { identity, root: identity.root(&Hash::of(&[])) }
        })
        .collect();
    record.extents =
        (0..listed as u128).map(|at| StreamExtent { extent: ExtentId(own + at), offset: 0, bytes: 0 }).collect();
    let record = record.to_bytes().unwrap();
    let header = Header {
        identity: identity(own, 0),
        code: "rs:128+128".parse().unwrap(),
        extent_bytes: 0,
        record_bytes: u32::try_from(record.len()).unwrap(),
    };
    let root = header.identity.root(&Hash::of(&[]));
    let header_bytes = header.to_bytes();
    let tail = build_tail(&header, &header_bytes, &[], &record, &root).unwrap();
    (header.identity.file_name(), [&header_bytes[..], &tail].concat())
}

#[test]
fn records_that_list_very_many_extents() {
    // 65,536 bytes of record, each naming 1,337 extents of 256 fragments that must exist: 342,272 missing fragments a file.
    let set = Set::small();
    for stream in 1..=12 {
        let (name, bytes) = that_lists(1337, stream);
        assert!(bytes.len() <= 4096 + 65_536 + 4096);
        fs::write(set.dir.join(name), bytes).unwrap();
    }
    let dir = set.dir.as_os_str();
    let id = "--stream=input";
    let out = set.beside("out");
    run_confined(&[OsStr::new("decode"), dir, "--out".as_ref(), out.as_ref(), id.as_ref()]).exits(0);
    assert!(fs::read(&out).unwrap() == set.data);
    let report = run_confined(&[OsStr::new("verify"), dir, "--json".as_ref()]).exits(1).json();
    assert_eq!(report["extents"].as_array().unwrap().len(), 1 + 12 * 1337);
    assert_eq!(report["imperfect_fragments"], 12 * (1337 * 256 - 1));
    run_confined(&[OsStr::new("repair"), dir]).exits(1);
}

#[test]
fn very_many_fragment_files() {
    // Names alone, without content: a folder of them must not cost more than their names.
    let set = Set::small();
    for extent in 0..3000u128 {
        fs::write(set.dir.join(format!("{extent:032x}.1.00000.frag")), b"").unwrap();
    }
    let dir = set.dir.as_os_str();
    run_confined(&[OsStr::new("verify"), dir, "--json".as_ref()]).exits(1).json();
    run_confined(&[OsStr::new("decode"), dir, "--out".as_ref(), set.beside("out").as_ref()]).exits(0);
}

#[test]
fn a_wide_code_works_in_half_a_gigabyte_of_address_space() {
    let set = Set::new("rs:200+50", support::painted(3_000_000));
    for index in [0, 7, 199, 200, 249] {
        set.remove(index);
    }
    let dir = set.dir.as_os_str();
    run_confined(&[OsStr::new("decode"), dir, "--out".as_ref(), set.beside("out").as_ref()]).exits(0);
    run_confined(&[OsStr::new("repair"), dir]).exits(0);
    set.is_as_made();
}
