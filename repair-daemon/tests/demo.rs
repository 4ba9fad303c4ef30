//! `ninefold demo` as a user runs it: real files, real processes, the real binary.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Larger than one slice of any shard.
const LARGE: usize = 4 << 20;

/// A folder of originals, and a place for temporary folders that nobody else uses.
struct Case {
    originals: TempDir,
    temporary: TempDir,
}

impl Case {
    fn new() -> Self {
        Self { originals: tempfile::tempdir().unwrap(), temporary: tempfile::tempdir().unwrap() }
    }

    fn with_files(lengths: &[usize]) -> Self {
        let case = Self::new();
        for (at, length) in lengths.iter().enumerate() {
            case.write(format!("d{}/f{at}", at % 3), &painted(at, *length));
        }
        case
    }

    fn path(&self) -> &Path {
        self.originals.path()
    }

    fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninefold"));
        command.arg("demo").arg(self.path()).args(arguments).env("TMPDIR", self.temporary.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        self.assert_nothing_left();
        output
    }

    /// Runs with `--json` and expects everything right.
    fn good(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).expect("one object and nothing else");
        assert_good(&json);
        json
    }

    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
        text(&output.stderr)
    }

    fn assert_nothing_left(&self) {
        assert_eq!(fs::read_dir(self.temporary.path()).unwrap().count(), 0, "a temporary folder was left behind");
    }
}

/// 251 is prime: no two files and no two places look alike.
fn painted(file: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at + at / 251 + 7 * file) % 251) as u8).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(json: &Value, key: &str) -> u64 {
    json[key].as_u64().unwrap_or_else(|| panic!("{key} is no integer: {json}"))
}

fn assert_good(json: &Value) {
    assert_eq!(json["full_redundancy"], Value::Bool(true));
    assert_eq!(number(json, "mismatches"), 0);
    let of = |key| number(json, key) as f64;
    assert!(
        of("read_bytes") <= 1.02 * of("minimum_read_bytes") && of("written_bytes") <= 1.02 * of("rebuilt_bytes"),
        "{json}"
    );
    assert!(json["detected_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_default_protects_everything_and_says_so() {
    let case = Case::with_files(&[0, 1, 4095, 4096, 4097, 100_000, LARGE, LARGE + 1, 31]);
    let output = case.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for line in [
        "code           lrc:12,2,2",
        "nodes          20",
        "killed         2",
        "redundancy     full",
        "mismatches     0",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    // What was destroyed was found by looking, and is told as it is found and mended.
    assert_eq!(said.matches("it is silent").count(), 2, "{said}");
    assert!(
        said.contains("rot.payload") && said.contains("rebuilding fragment") && said.contains("detection within 3 s"),
        "{said}"
    );
}

#[test]
fn the_json_object_has_these_keys_of_these_types() {
    let case = Case::with_files(&[10, LARGE, 3000]);
    let json = case.good(&[]);
    let integers = "schema files skipped bytes extents nodes killed rebuilt_bytes read_bytes minimum_read_bytes written_bytes mismatches";
    let mut keys: BTreeSet<&str> = integers.split(' ').collect();
    for key in &keys {
        assert!(json[key].is_u64(), "{key}: {}", json[key]);
    }
    for key in ["detected_seconds", "rebuild_seconds"] {
        assert!(json[key].is_f64(), "{key}: {}", json[key]);
        keys.insert(key);
    }
    assert!(json["code"].is_string() && json["full_redundancy"].is_boolean());
    keys.extend(["code", "full_redundancy"]);
    let found: BTreeSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys);

    assert_eq!((number(&json, "schema"), number(&json, "files"), number(&json, "extents")), (1, 3, 1));
    assert!(json["detected_seconds"].as_f64().unwrap() <= 3.5, "{json}");
    assert_eq!(
        (number(&json, "bytes"), number(&json, "nodes"), number(&json, "killed")),
        (10 + LARGE as u64 + 3000, 20, 2)
    );
    let rebuilt = number(&json, "rebuilt_bytes");
    assert!(rebuilt > 0 && rebuilt.is_multiple_of(4096), "{rebuilt}");
}

#[test]
fn each_number_of_domains_left_gets_its_code() {
    let case = Case::with_files(&[5000, LARGE + 12_345, 17, 70_000]);
    for (nodes, racks, kill, code) in [
        ("16", "16", "0", "lrc:12,2,2"),
        ("17", "17", "2", "rs:10+4"),
        ("12", "12", "3", "rs:6+3"),
        ("9", "9", "2", "rs:4+2"),
        ("5", "5", "2", "replicate:3"),
        ("3", "3", "0", "replicate:3"),
        ("12", "6", "1", "rs:4+2"),
    ] {
        let json = case.good(&["--nodes", nodes, "--racks", racks, "--kill", kill]);
        assert_eq!(json["code"], code, "{nodes} {racks} {kill}");
        assert_eq!(
            (number(&json, "nodes").to_string(), number(&json, "killed").to_string()),
            (nodes.into(), kill.into())
        );
    }
}

#[test]
fn a_code_asked_for_is_used() {
    let case = Case::with_files(&[5000, 17]);
    for (code, nodes, kill) in [("rs:3+2@cauchy", "7", "2"), ("lrc:6,2,2", "13", "3"), ("replicate:2", "3", "1")] {
        let json = case.good(&["--code", code, "--nodes", nodes, "--kill", kill]);
        assert_eq!(json["code"], code);
    }
}

#[test]
fn without_a_kill_only_the_flipped_fragment_is_rebuilt() {
    let case = Case::with_files(&[5000]);
    let json = case.good(&["--kill", "0", "--code", "rs:4+2", "--nodes", "6"]);
    // One fragment of one block in a pack of two blocks, from the four others.
    assert_eq!(
        (number(&json, "killed"), number(&json, "rebuilt_bytes"), number(&json, "read_bytes")),
        (0, 4096, 4 * 4096)
    );
}

#[test]
fn what_no_code_surely_survives_is_refused_with_the_largest_number_that_is_allowed() {
    let case = Case::with_files(&[10]);
    for (arguments, largest) in [
        (&["--kill", "4"][..], 3),
        (&["--kill", "20"], 3),
        (&["--kill", "4000000000"], 3),
        (&["--nodes", "19", "--kill", "5"], 4),
        (&["--nodes", "5", "--kill", "3"], 2),
        (&["--nodes", "4", "--kill", "2"], 1),
        (&["--nodes", "3"], 0),
        (&["--code", "rs:10+4", "--kill", "5"], 4),
        (&["--code", "rs:10+4", "--nodes", "15", "--kill", "2"], 1),
        (&["--code", "rs:17+3"], 0),
    ] {
        let said = case.refused(arguments, 2);
        assert!(said.contains(&format!("the largest --kill allowed here is {largest}\n")), "{arguments:?}: {said}");
    }
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let case = Case::with_files(&[10]);
    for (arguments, reason) in [
        (&["--racks", "21"][..], "1 to 20 racks"),
        (&["--racks", "0"], "1 to 20 racks"),
        (&["--nodes", "2"], "3 to 1024"),
        (&["--nodes", "1025"], "3 to 1024"),
        (&["--nodes=-1"], "--nodes"),
        (&["--kill", "two"], "--kill"),
        (&["--code", "rs:10+4", "--nodes", "12"], "--nodes"),
        (&["--code", "sieve:3"], "sieve:3"),
        (&["--code", "lrc:300,2,2"], "256"),
    ] {
        let said = case.refused(arguments, 2);
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

#[test]
fn a_path_without_files_is_refused_with_the_reason() {
    let case = Case::new();
    assert!(case.refused(&[], 2).contains("no regular files"));
    symlink("/etc/passwd", case.path().join("link")).unwrap();
    let said = case.refused(&[], 2);
    assert!(said.contains("no regular files") && said.contains("1 symlink"), "{said}");

    fs::remove_dir_all(case.path()).unwrap();
    assert!(case.refused(&[], 2).contains("no such folder"));
    fs::write(case.path(), b"a file").unwrap();
    assert!(case.refused(&[], 2).contains("is not a folder"));
    fs::remove_file(case.path()).unwrap();
    fs::create_dir(case.path()).unwrap();
}

#[test]
fn only_regular_files_are_taken_and_the_others_are_counted() {
    let case = Case::with_files(&[10, 20]);
    symlink(case.path().join("d0/f0"), case.path().join("link")).unwrap();
    symlink("/", case.path().join("d0/link-to-folder")).unwrap();
    let fifo = case.path().join("d1/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(case.path().join("socket")).unwrap();
    let json = case.good(&[]);
    assert_eq!((number(&json, "files"), number(&json, "skipped"), number(&json, "bytes")), (2, 4, 30));
    let output = case.run(&[]);
    assert_eq!(text(&output.stderr), "skipped 1 FIFO, 1 socket, 2 symlinks\n");
    assert!(text(&output.stdout).contains("skipped        4\n"));
}

#[test]
fn git_and_cargo_folders_are_left_out() {
    let case = Case::with_files(&[10]);
    for name in ["target/x", ".git/x", "d0/.git/x", "d1/.git", "deep/target/x"] {
        case.write(name, b"not this");
    }
    case.write("deep/target/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");
    for name in ["d0/target/kept", "d2/target", "d0/.gitignore", "d1/git"] {
        case.write(name, b"kept");
    }
    let json = case.good(&["--nodes", "6"]);
    assert_eq!((number(&json, "files"), number(&json, "bytes"), number(&json, "skipped")), (5, 10 + 4 * 4, 0));
}

#[test]
fn the_current_folder_is_the_default() {
    let case = Case::with_files(&[10, 20, 30]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninefold"));
    command.args(["demo", "--json"]).current_dir(case.path()).env("TMPDIR", case.temporary.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&json, "files"), 3);
}

#[test]
fn odd_files_come_back() {
    let case = Case::new();
    case.write("new\nline", b"1");
    case.write(OsStr::from_bytes(b"not\xff\xfeutf8/\x01"), b"22");
    case.write("empty", b"");
    case.write("z".repeat(255), b"333");
    case.write(["deep"; 40].join("/"), b"4444");
    let json = case.good(&[]);
    assert_eq!((number(&json, "files"), number(&json, "bytes")), (5, 10));

    let case = Case::with_files(&[0, 0, 0]);
    let json = case.good(&["--nodes", "3", "--kill", "0"]);
    assert_eq!((number(&json, "files"), number(&json, "bytes"), number(&json, "extents")), (3, 0, 1));
}

#[test]
fn five_thousand_small_files_share_an_extent() {
    let lengths: Vec<usize> = (0..5000).map(|at| at * 37 % 8000).collect();
    let case = Case::with_files(&lengths);
    let json = case.good(&[]);
    assert_eq!((number(&json, "files"), number(&json, "extents")), (5000, 1));
}

#[test]
fn a_file_longer_than_an_extent_comes_back() {
    let case = Case::new();
    let path = case.path().join("long");
    let file = fs::File::create(&path).unwrap();
    file.set_len((257 << 20) + 3).unwrap();
    for at in [0u64, (256 << 20) - 1000, (257 << 20) - 7] {
        file.write_all_at(&painted(at as usize % 251, 10), at).unwrap();
    }
    let json = case.good(&["--nodes", "8", "--kill", "2"]);
    assert_eq!((number(&json, "extents"), &json["code"]), (2, &Value::from("rs:4+2")));
}

/// What other commands find in the kept folder, after the demo said that all is well.
#[test]
fn kept_nodes_hold_what_the_demo_says() {
    let case = Case::new();
    let original = painted(3, LARGE + 54_321);
    case.write("large", &original);
    let kept = tempfile::tempdir().unwrap();
    let keep = kept.path().join("new/kept");
    case.good(&["--keep", keep.to_str().unwrap(), "--nodes", "14", "--kill", "2"]);

    let all = kept.path().join("all");
    fs::create_dir(&all).unwrap();
    let mut holders: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for node in
        fs::read_dir(&keep).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.join("fragments").is_dir())
    {
        for folder in fs::read_dir(node.join("fragments")).unwrap() {
            for fragment in fs::read_dir(folder.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()) {
                fs::copy(&fragment, all.join(fragment.file_name().unwrap())).unwrap();
                *holders.entry(node.clone()).or_default() += 1;
            }
        }
    }
    assert_eq!(fs::read_dir(&all).unwrap().count(), 9, "rs:6+3, one extent");
    // The nine living ones, and the killed nodes' disks as they were.
    assert_eq!(holders.len(), 9 + 2, "{holders:?}");
    assert!(holders.values().all(|count| *count == 1), "{holders:?}");

    let ninefold =
        |arguments: &[&OsStr]| Command::new(env!("CARGO_BIN_EXE_ninefold")).args(arguments).output().unwrap();
    let verified = ninefold(&["verify".as_ref(), all.as_os_str()]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
    let out = kept.path().join("out");
    let decoded = ninefold(&["decode".as_ref(), all.as_os_str(), "--out".as_ref(), out.as_os_str()]);
    assert_eq!(decoded.status.code(), Some(0), "{}", text(&decoded.stderr));
    // A pack begins with the bytes of its first file.
    assert!(fs::read(out).unwrap().starts_with(&original));
}

#[test]
fn a_folder_to_keep_must_be_new_or_empty() {
    let case = Case::with_files(&[10]);
    let kept = tempfile::tempdir().unwrap();
    let keep = kept.path().to_str().unwrap();
    case.good(&["--keep", keep]);
    assert!(case.refused(&["--keep", keep], 2).contains("is not empty"));
    let file = kept.path().join("file");
    fs::write(&file, b"x").unwrap();
    assert!(case.refused(&["--keep", file.to_str().unwrap()], 2).contains("is not a folder"));
}

#[test]
fn a_cell_under_the_path_is_not_taken_for_files() {
    let case = Case::with_files(&[10, 20]);
    let inside = case.path().join("tmp");
    fs::create_dir(&inside).unwrap();
    let output = case.command(&["--json"]).env("TMPDIR", &inside).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((number(&json, "files"), number(&json, "bytes")), (2, 30));
    assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
    let keep = case.path().join("kept");
    assert_eq!(number(&case.good(&["--keep", keep.to_str().unwrap()]), "files"), 2);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let case = Case::with_files(&[10, 20]);
    let secret = case.path().join("d1/f1");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = case.command(&[]);
    // Root can read anything: then the demo runs as nobody, from a copy of the binary that nobody can reach.
    let reachable = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        for folder in [case.path(), case.temporary.path(), reachable.path()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let copy = reachable.path().join("ninefold");
        // By another process: one of ours that forks meanwhile would keep the file open for writing.
        assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_ninefold")).arg(&copy).status().unwrap().success());
        command = Command::new(copy);
        command.arg("demo").arg(case.path()).env("TMPDIR", case.temporary.path()).uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("d1/f1: cannot open"), "{said}");
    case.assert_nothing_left();
}

#[test]
fn ctrl_c_at_any_time_leaves_nothing() {
    let case = Case::new();
    let file = fs::File::create(case.path().join("long")).unwrap();
    file.set_len(200 << 20).unwrap();
    let mut interrupted = 0;
    for delay_ms in [0, 5, 50, 150, 300, 600, 1000] {
        let mut child = case.command(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let folder = wait_for_entry(case.temporary.path());
        let mode = fs::metadata(&folder).map(|metadata| metadata.permissions().mode() & 0o777);
        assert_eq!(mode.unwrap(), 0o700, "others have no business there");
        std::thread::sleep(Duration::from_millis(delay_ms));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
        let output = wait(&mut child);
        match output.code() {
            Some(3) => interrupted += 1,
            // It was done before the signal came, or when it came nothing was left to stop.
            Some(0) => assert!(delay_ms > 100),
            other => panic!("after {delay_ms} ms: {other:?}"),
        }
        case.assert_nothing_left();
    }
    assert!(interrupted >= 2);
}

/// Processes of the binary under test whose command line names something below `folder`.
fn processes_of(folder: &Path) -> usize {
    let below = folder.as_os_str().as_bytes();
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.windows(below.len()).any(|part| part == below)
                && line.windows(4).any(|part| part == b"node" || part == b"daem")
        })
        .count()
}

#[test]
fn children_do_not_outlive_a_demo_that_is_killed() {
    let case = Case::new();
    fs::File::create(case.path().join("long")).unwrap().set_len(400 << 20).unwrap();
    for delay_ms in [50, 400, 1500] {
        let mut child = case.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let folder = wait_for_entry(case.temporary.path());
        let started = Instant::now();
        while processes_of(&folder) == 0 {
            assert!(started.elapsed() < Duration::from_secs(30), "no child was started");
        }
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = Instant::now();
        while processes_of(&folder) > 0 {
            assert!(killed.elapsed() < Duration::from_secs(10), "{} children live on", processes_of(&folder));
            std::thread::sleep(Duration::from_millis(10));
        }
        // A killed demo cannot tidy up. A child whose first thread has ended has no command line any more, and another thread of it
        // may still be in the call that makes a file.
        while let Err(error) = fs::remove_dir_all(&folder) {
            assert!(killed.elapsed() < Duration::from_secs(20), "{error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn wait_for_entry(folder: &Path) -> PathBuf {
    let started = Instant::now();
    loop {
        if let Some(entry) = fs::read_dir(folder).unwrap().next() {
            return entry.unwrap().path();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no temporary folder appeared");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait(child: &mut std::process::Child) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
}
