//! `ninefold daemon` as a process: how it begins, refuses, is asked, dies and comes back.

mod support;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};
use support::{command, finish, run};
use tempfile::TempDir;

/// A daemon that listens.
struct Daemon {
    child: Child,
    cell: String,
    at: SocketAddr,
    operators_at: SocketAddr,
    stderr: BufReader<std::process::ChildStderr>,
}

fn arguments(folder: &Path) -> Vec<String> {
    let catalog = format!("redb:{}", folder.join("catalog.redb").display());
    let words = ["daemon", "--catalog", &catalog, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--insecure"];
    words.map(str::to_owned).to_vec()
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let mut child = command(arguments(folder)).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let parts = line.trim_end().strip_prefix("ninefold daemon: cell ").and_then(|rest| {
            let (cell, rest) = rest.split_once(", clients and nodes at ")?;
            let (at, operators_at) = rest.split_once(", operators at ")?;
            Some((cell.to_owned(), at.parse().ok()?, operators_at.parse().ok()?))
        });
        let (cell, at, operators_at) = parts.unwrap_or_else(|| panic!("{line:?}"));
        Self { child, cell, at, operators_at, stderr }
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.operators_at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (code.unwrap_or_else(|| panic!("{answer}")), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn replaced(mut words: Vec<String>, option: &str, value: &str) -> Vec<String> {
    let at = words.iter().position(|word| word == option).unwrap();
    words[at + 1] = value.to_owned();
    words
}

/// Its address is its name, and here it has another one each time.
#[test]
fn a_daemon_that_is_started_again_under_another_name_waits_for_no_lease() {
    let folder = folder();
    Daemon::start(folder.path()).kill();
    let began = Instant::now();
    let daemon = Daemon::start(folder.path());
    while daemon.get("/v1/status").1["starting"] != Value::Bool(false) {
        assert!(began.elapsed() < Duration::from_secs(8), "{}", daemon.get("/v1/status").1);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn plaintext_must_be_asked_for_and_etcd_is_not_there() {
    let folder = folder();
    let words = arguments(folder.path());
    let quiet: Vec<String> = words.iter().filter(|word| *word != "--insecure").cloned().collect();
    run(quiet).exits(2).says(&["TLS", "--insecure"]);
    run(replaced(words.clone(), "--catalog", "etcd:http://127.0.0.1:2379")).exits(2).says(&["etcd", "redb:PATH"]);
    run(replaced(words, "--listen", "everywhere")).exits(2).says(&["everywhere", "HOST:PORT"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a refusal leaves nothing");
}

#[test]
fn settings_that_make_no_sense_are_refused_with_their_line() {
    let folder = folder();
    let config = folder.path().join("ninefold.toml");
    fs::write(&config, "repairs_max = 2\ngrace_secs = 3\n").unwrap();
    let mut words = arguments(folder.path());
    words.extend(["--config".to_owned(), config.display().to_string()]);
    run(&words).exits(2).says(&["line 2", "grace_secs"]);
    for [option, value] in [["--code", "rs:4+0"], ["--code", "rs:200+100"], ["--fault-domain", "shelf"]] {
        let mut words = arguments(folder.path());
        words.extend([option.to_owned(), value.to_owned()]);
        run(words).exits(2);
    }
}

#[test]
fn a_port_in_use_and_a_catalog_in_use_are_said_clearly() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--listen", "--admin"] {
        run(replaced(arguments(folder.path()), option, &address)).exits(3).says(&[&address, "in use"]);
    }
    let daemon = Daemon::start(folder.path());
    run(arguments(folder.path())).exits(3).says(&["catalog.redb", "another process has it open"]);
    drop(daemon);
}

#[test]
fn a_damaged_catalog_is_refused_and_left_as_it_is() {
    let folder = folder();
    Daemon::start(folder.path()).kill();
    let path = folder.path().join("catalog.redb");
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&path, &bytes).unwrap();
    run(arguments(folder.path())).exits(3).says(&["catalog.redb"]);
    fs::write(&path, b"not a catalog").unwrap();
    run(arguments(folder.path())).exits(3).says(&["catalog.redb", "not a redb file"]);
    assert_eq!(fs::read(&path).unwrap(), b"not a catalog");
}

#[test]
fn a_cell_keeps_its_name_whether_its_daemon_ends_or_is_killed() {
    let folder = folder();
    let daemon = Daemon::start(folder.path());
    let cell = daemon.cell.clone();
    daemon.kill();
    let daemon = Daemon::start(folder.path());
    assert_eq!(daemon.cell, cell);
    daemon.terminate();
    let daemon = Daemon::start(folder.path());
    assert_eq!(daemon.cell, cell);
    let (code, events) = daemon.get("/v1/events");
    assert_eq!(code, 200);
    let events = events["events"].as_array().unwrap();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
    assert_eq!((count("daemon_started"), count("daemon_stopped")), (3, 1), "{kinds:?}");
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["number"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    let (_, later) = daemon.get(&format!("/v1/events?after={}", numbers.len() - 1));
    assert_eq!(later["events"].as_array().unwrap().len(), 1);
}

#[test]
fn operators_are_answered_in_json() {
    let folder = folder();
    let daemon = Daemon::start(folder.path());
    assert_eq!(daemon.get("/healthz").0, 200);
    let (code, status) = daemon.get("/v1/status");
    assert_eq!((code, status["schema"].as_u64()), (200, Some(1)), "{status}");
    assert_eq!(status["cell"].as_str(), Some(daemon.cell.as_str()));
    for (path, expected) in [
        ("/v1/events?after=x", 400),
        ("/v1/explain/tape/1", 400),
        ("/v1/explain/pg/x", 400),
        ("/v1/explain/pg/77", 404),
        ("/v1/explain/node/r/z/k/n", 404),
    ] {
        let (code, body) = daemon.get(path);
        assert_eq!((code, body["schema"].as_u64()), (expected, Some(1)), "{path}: {body}");
        assert!(body["error"].is_string(), "{path}: {body}");
    }
    assert_eq!(daemon.get("/").0, 404);
}

#[test]
fn rubbish_and_silence_on_its_ports_stop_nobody() {
    let folder = folder();
    let daemon = Daemon::start(folder.path());
    let mut held = Vec::new();
    for at in [daemon.at, daemon.operators_at] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(&[0xa5; 4096]).unwrap();
            let mut silent = TcpStream::connect(at).unwrap();
            silent.write_all(b"G").unwrap();
            held.push((stream, silent));
        }
    }
    assert_eq!(daemon.get("/healthz").0, 200);
    assert_eq!(daemon.get("/v1/status").0, 200);
    daemon.terminate();
}

#[test]
fn it_ends_with_its_parent_if_told_so() {
    let folder = folder();
    let mut words = arguments(folder.path());
    words.push("--die-with-parent".into());
    let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    // The shell in the middle is the parent; it stays, for what it runs is not its last command.
    let script = format!("'{}' {line}; true", support::NINEFOLD);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]);
    support::piped(&mut shell);
    let mut shell = shell.spawn().unwrap();
    let mut stderr = BufReader::new(shell.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("operators at"), "{line}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    // The end of its standard error is the end of the daemon: nobody else holds it.
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    run_again(folder.path());
}

fn run_again(folder: &Path) {
    let daemon = Daemon::start(folder);
    let said = daemon.terminate();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let child = command(arguments(Path::new("/no/such/folder"))).spawn().unwrap();
    finish(child).exits(3).says(&["/no/such/folder/catalog.redb"]);
}
