//! The client commands on a cell of real processes: what they store, print, refuse, and how they end.

#[path = "support/cell.rs"]
mod cell;

use cell::{QUICK, TestCell, free_address, ninefold, noise, text};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::fs::Permissions;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

/// Five nodes, two of them spare; extents so short that a few files make several.
fn start() -> TestCell {
    TestCell::start(5, &format!("{QUICK}code = \"rs:2+1\"\nextent_bytes = 1048576\n"))
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn json(output: &Output) -> Value {
    assert_eq!(code(output), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Files with what file systems and packs have to cope with, as name and content.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a", noise(1, 10)),
        ("empty", Vec::new()),
        ("sub/large", noise(2, 2_500_000)),
        ("sub/deep/er/one", noise(3, 1)),
        (".hidden", noise(4, 4096)),
        ("target/kept", noise(5, 4097)),
    ]
}

fn make_folder(root: &Path) {
    for (name, bytes) in files() {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    std::os::unix::fs::symlink("a", root.join("link")).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn count_files(root: &Path) -> usize {
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count_files(&path) } else { 1 }).sum()
}

#[test]
fn a_folder_goes_in_and_comes_out_whole_in_part_and_is_removed() {
    let cell = start();
    let source = cell.path("my files");
    make_folder(&source);
    let put = cell.good(&["put".as_ref(), source.as_os_str(), "--json".as_ref()]);
    assert!(text(&put.stderr).contains("skipped 1 symlink"), "{}", text(&put.stderr));
    let put = json(&put);
    assert_eq!(
        (&put["schema"], &put["files"], &put["skipped"], &put["name"]),
        (&1.into(), &6.into(), &1.into(), &"my files".into())
    );
    assert!(put["extents"].as_u64().unwrap() >= 3 && put["degraded"] == false, "{put}");

    let ls = json(&cell.good(&["ls", "--json"]));
    let names: Vec<_> = ls["names"].as_array().unwrap().iter().map(|name| name["name"].as_str().unwrap()).collect();
    let mut expected: Vec<_> = files().iter().map(|(name, _)| format!("my files/{name}")).collect();
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(text(&cell.good(&["ls", "my files/sub/"]).stdout).lines().count(), 2);

    let out = cell.path("out");
    let got = json(&cell.good(&["get".as_ref(), "my files".as_ref(), out.as_os_str(), "--json".as_ref()]));
    assert_eq!((&got["files"], &got["schema"]), (&6.into(), &1.into()));
    assert_eq!(count_files(&out), 6);
    for (name, bytes) in files() {
        assert!(fs::read(out.join(name)).unwrap() == bytes, "{name}");
        assert!(cell.get(&format!("my files/{name}")).unwrap() == bytes, "{name}");
    }
    let part = cell.path("part");
    cell.good(&["get".as_ref(), "my files/sub".as_ref(), part.as_os_str()]);
    assert_eq!(count_files(&part), 2);

    assert_eq!(code(&cell.run(&["rm", "my files"])), Some(1));
    assert_eq!(json(&cell.good(&["rm", "-r", "my files/sub", "--json"]))["removed"], 2);
    cell.good(&["rm", "my files/a"]);
    assert_eq!(json(&cell.good(&["ls", "--json"]))["names"].as_array().unwrap().len(), 3);
    // What shared extents with it is still whole.
    assert!(cell.get("my files/target/kept").unwrap() == noise(5, 4097));
}

#[test]
fn a_name_is_replaced_as_one_and_an_output_only_by_something_whole() {
    let cell = start();
    cell.put("file", &noise(1, 1_500_000));
    cell.put("file", &noise(2, 700));
    assert!(cell.get("file").unwrap() == noise(2, 700));
    let out = cell.path("out");
    fs::write(&out, "before").unwrap();
    let get = |name: &str| cell.run(&["get".as_ref(), OsStr::new(name), out.as_os_str()]);
    let missing = get("no such file");
    assert_eq!((code(&missing), fs::read(&out).unwrap()), (Some(1), b"before".to_vec()));
    assert!(text(&missing.stderr).contains("no such name"), "{}", text(&missing.stderr));
    fs::set_permissions(&out, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(code(&get("file")), Some(0));
    assert!(fs::read(&out).unwrap() == noise(2, 700));
    assert_eq!(mode(&out), 0o600, "what nobody else may read stays so");

    cell.put("folder/x", b"x");
    for (name, out, why) in [
        ("folder", cell.path("."), "not empty"),
        ("folder", out.clone(), "no folder"),
        ("folder", PathBuf::from("/proc"), "not empty"),
        ("file", cell.path("."), "is a folder"),
        ("file", cell.path("new/"), "names a folder"),
    ] {
        let refused = cell.run(&["get".as_ref(), OsStr::new(name), out.as_os_str()]);
        assert!(code(&refused) == Some(2) && text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
    // Behind a link: the folder that it leads to.
    let (real, link) = (cell.path("real"), cell.path("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    cell.good(&["get".as_ref(), "folder".as_ref(), link.as_os_str()]);
    assert_eq!(fs::read(real.join("x")).unwrap(), b"x");
    let left: Vec<_> = fs::read_dir(cell.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".ninefold")), "{left:?}");
}

#[test]
fn whoever_reads_a_name_while_it_is_put_over_gets_the_old_or_the_new() {
    let cell = start();
    let versions = [noise(1, 2_000_000), noise(2, 1_999_999)];
    cell.put("file", &versions[0]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let mut read = 0;
            while !over.load(Ordering::Relaxed) {
                let got = cell.get("file").unwrap();
                assert!(versions.contains(&got));
                read += 1;
            }
            read
        };
        let readers = ["one", "two", "three"].map(|name| {
            // Each writes into a file of its own thread's name.
            std::thread::Builder::new().name(name.into()).spawn_scoped(scope, read).unwrap()
        });
        for round in 1..=40 {
            cell.put("file", &versions[round % 2]);
        }
        over.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u32>() > 20);
    });
}

#[test]
fn odd_names_are_kept_and_shown_on_one_line_and_bad_ones_are_refused() {
    let cell = start();
    let source = cell.path("source");
    fs::write(&source, "content").unwrap();
    let put = |name: &OsStr| cell.run(&["put".as_ref(), source.as_os_str(), name]);
    let longest_part = "x".repeat(255);
    let odd: Vec<OsString> = vec![
        OsString::from_vec(b"line\nbreak \x1b[31mred".to_vec()),
        OsString::from_vec(b"not \xff text".to_vec()),
        "\u{e5}ngstr\u{f6}m/\u{1f980}".into(),
        "...".into(),
        longest_part.into(),
    ];
    for name in &odd {
        assert_eq!(code(&put(name)), Some(0), "{name:?}");
        let out = cell.path("out");
        assert_eq!(code(&cell.run(&["get".as_ref(), name.as_os_str(), out.as_os_str()])), Some(0), "{name:?}");
        assert_eq!(fs::read(&out).unwrap(), b"content");
    }
    let listed = text(&cell.good(&["ls"]).stdout);
    assert_eq!(listed.lines().count(), odd.len());
    assert!(listed.contains("line\\nbreak \\u{1b}[31mred") && listed.contains("not \\xff text"), "{listed}");
    let ls = json(&cell.good(&["ls", "--json", "line"]));
    assert_eq!(ls["names"][0]["name_hex"], "6c696e650a627265616b201b5b33316d726564");

    let (part, long) = ("x".repeat(300), "x/".repeat(2500) + "x");
    for name in ["", "..", "a/../b", "/a", "a/", "a//b", ".", "a/./b", &part, &long] {
        let refused = put(OsStr::new(name));
        assert!(code(&refused) == Some(2) && text(&refused.stderr).contains("cannot be a name"), "{name}");
        for command in ["get", "rm"] {
            let arguments = [command, name, "out"];
            assert_eq!(
                code(&cell.run(&arguments[..if command == "get" { 3 } else { 2 }])),
                Some(2),
                "{command} {name}"
            );
        }
    }
    assert_eq!(text(&cell.good(&["ls"]).stdout).lines().count(), odd.len());
}

#[test]
fn sources_that_are_no_files_are_refused() {
    let cell = start();
    let fifo = cell.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let empty = cell.path("empty");
    fs::create_dir(&empty).unwrap();
    for source in [fifo, empty, cell.path("missing")] {
        let refused = cell.run(&["put".as_ref(), source.as_os_str(), "name".as_ref()]);
        assert_eq!(code(&refused), Some(2), "{source:?}: {}", text(&refused.stderr));
    }
    assert!(cell.good(&["ls"]).stdout.is_empty());
}

#[test]
fn status_events_and_explain_say_what_is_and_why() {
    let cell = start();
    cell.put("file", &noise(1, 3_000_000));
    let status = cell.wait_full();
    assert_eq!((&status["schema"], &status["risk"], &status["extents"]), (&1.into(), &false.into(), &3.into()));
    let shown = text(&cell.good(&["status"]).stdout);
    assert!(shown.contains("no data at risk") && shown.contains("full, by recount"), "{shown}");

    let events = json(&cell.good(&["events", "--json"]));
    let events = events["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["kind"] == "put_done"), "{events:?}");
    let last = events.last().unwrap()["number"].as_u64().unwrap().to_string();
    let later = json(&cell.good(&["events", "--json", "--after", &last]));
    assert!(later["events"].as_array().unwrap().len() < events.len());

    // The names of all that is stored are in them.
    for private in ["catalog.redb", "events.jsonl"] {
        assert_eq!(mode(&cell.path(private)), 0o600, "{private}");
    }
    let disk = status["disks"][0]["disk"].as_str().unwrap();
    for arguments in [["explain", "disk", disk], ["explain", "node", "node-0"], ["explain", "pg", "1"]] {
        let explained = cell.good(&arguments);
        assert!(text(&explained.stdout).lines().count() > 2, "{}", text(&explained.stdout));
        json(&cell.good(&[&arguments[..], &["--json"]].concat()));
    }
    assert_eq!(code(&cell.run(&["explain", "node", "nobody"])), Some(1));
    assert_eq!(code(&cell.run(&["explain", "extent", "123"])), Some(2));
    assert_eq!(code(&cell.run(&["scrub"])), Some(0));
}

#[test]
fn who_does_not_say_which_cell_is_told_how_to() {
    for (arguments, why) in [
        (&["ls"][..], "--cell"),
        (&["ls", "--cell", "nowhere"], "host:port"),
        (&["get", "name"], "OUT"),
        (&["explain", "planet", "7"], "planet"),
        (&["ls", "--cell", "127.0.0.1:1", "--timeout", "0"], "--timeout"),
    ] {
        let refused = ninefold().args(arguments).env_remove("NINEFOLD_CELL").output().unwrap();
        assert!(code(&refused) == Some(2) && text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
    let absent = free_address();
    let refused = ninefold().args(["ls", "--timeout", "1", "--cell", &absent]).output().unwrap();
    assert!(code(&refused) == Some(3) && text(&refused.stderr).contains(&absent), "{}", text(&refused.stderr));
}
