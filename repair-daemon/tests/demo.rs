//! `ninefold demo` as a user runs it: real files, real folders, the real binary.

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

/// From this length on a file is a stream of its own.
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
        "domains        20",
        "destroyed      2",
        "redundancy     full",
        "mismatches     0",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    // What was destroyed was found by looking.
    assert!(said.contains("2 of 20 domains gone") && said.contains("1 damaged"), "{said}");
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

    // Two extents; the pack's fragments are a block each, the large file's ceil(1024 / 12) blocks.
    assert_eq!((number(&json, "schema"), number(&json, "files"), number(&json, "extents")), (1, 3, 2));
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
    for (nodes, kill, code) in [
        ("20", "2", "lrc:12,2,2"),
        ("16", "0", "lrc:12,2,2"),
        ("17", "2", "rs:10+4"),
        ("18", "4", "rs:10+4"),
        ("14", "0", "rs:10+4"),
        ("14", "2", "rs:6+3"),
        ("12", "3", "rs:6+3"),
        ("9", "0", "rs:6+3"),
        ("9", "2", "rs:4+2"),
        ("6", "0", "rs:4+2"),
        ("6", "1", "replicate:3"),
        ("5", "2", "replicate:3"),
        ("3", "0", "replicate:3"),
    ] {
        let json = case.good(&["--nodes", nodes, "--kill", kill]);
        assert_eq!(json["code"], code, "{nodes} {kill}");
        assert_eq!(
            (number(&json, "nodes").to_string(), number(&json, "killed").to_string()),
            (nodes.into(), kill.into())
        );
    }
}

#[test]
fn a_code_asked_for_is_used() {
    let case = Case::with_files(&[5000, 17]);
    for (code, nodes, kill) in [
        ("rs:3+2@cauchy", "7", "2"),
        ("lrc:6,2,2", "13", "3"),
        ("replicate:2", "3", "1"),
        ("rs:200+56@cauchy", "300", "40"),
    ] {
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
        (&["--nodes", "2"][..], "3 to 1024"),
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
fn kept_domains_hold_what_the_demo_says() {
    let case = Case::new();
    let original = painted(3, LARGE + 54_321);
    case.write("large", &original);
    let kept = tempfile::tempdir().unwrap();
    let keep = kept.path().join("new/kept");
    case.good(&["--keep", keep.to_str().unwrap(), "--nodes", "14", "--kill", "2"]);

    let domains: Vec<PathBuf> = fs::read_dir(&keep).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(domains.len(), 12, "two are gone");
    let all = kept.path().join("all");
    fs::create_dir(&all).unwrap();
    let mut fragments = 0;
    let mut per_domain: BTreeMap<&Path, usize> = BTreeMap::new();
    for domain in &domains {
        for fragment in fs::read_dir(domain).unwrap() {
            let fragment = fragment.unwrap();
            fs::copy(fragment.path(), all.join(fragment.file_name())).unwrap();
            *per_domain.entry(domain).or_default() += 1;
            fragments += 1;
        }
    }
    assert_eq!(fragments, 9, "rs:6+3, one extent");
    assert!(per_domain.values().all(|count| *count == 1), "{per_domain:?}");

    let ninefold =
        |arguments: &[&OsStr]| Command::new(env!("CARGO_BIN_EXE_ninefold")).args(arguments).output().unwrap();
    let verified = ninefold(&["verify".as_ref(), all.as_os_str()]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
    let out = kept.path().join("out");
    let decoded = ninefold(&["decode".as_ref(), all.as_os_str(), "--out".as_ref(), out.as_os_str()]);
    assert_eq!(decoded.status.code(), Some(0), "{}", text(&decoded.stderr));
    assert!(fs::read(out).unwrap() == original);
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
fn domains_under_the_path_are_not_taken_for_files() {
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
        fs::copy(env!("CARGO_BIN_EXE_ninefold"), &copy).unwrap();
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
