//! A cell of real processes for the tests: daemon and nodes of the real binary, on loopback, in a temporary folder.
#![allow(dead_code, reason = "each test file uses a part of this")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Quick detection, no grace: what a test wants to see happens within seconds.
/// Nodes are killed again and again in these tests, which is not to look as if they flapped.
pub const QUICK: &str = "beat_ms = 200\nsuspect_ms = 1500\ngrace_seconds = 0\nflap_hold_seconds = 0\n";

/// How long anything may take before a test gives up, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A node of the cell.
pub struct TestNode {
    /// The process, while it runs.
    pub child: Option<Child>,
    /// Its data folder.
    pub data: PathBuf,
    /// region/zone/rack/node.
    pub domain: String,
    /// Where it listens.
    pub address: String,
}

/// Daemon, nodes, and their folder.
pub struct TestCell {
    /// Everything lies below it.
    pub folder: TempDir,
    /// The daemon, while it runs.
    pub daemon: Option<Child>,
    /// Where clients and nodes reach it.
    pub address: String,
    /// The daemon's catalog, with what lies beside it.
    pub catalog: PathBuf,
    /// Where operators reach it.
    pub admin: String,
    /// The nodes.
    pub nodes: Vec<TestNode>,
    /// How long a pass of their scrub takes, in seconds; 0 for none.
    pub scrub_seconds: u64,
}

/// The binary under test.
pub fn ninefold() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninefold"));
    command.stdin(Stdio::null());
    command
}

/// An address nobody listens on now.
///
/// Tests of one process run beside each other, and the system gives the same port twice while nobody listens on it yet.
pub fn free_address() -> String {
    static GIVEN: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    loop {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut given = GIVEN.lock().unwrap();
        if !given.contains(&address) {
            given.push(address.clone());
            return address;
        }
    }
}

/// Text of a stream.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes that differ from place to place and from seed to seed, and do not compress into a pattern of blocks.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

/// Tries until it works or patience ends.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= until => panic!("{what}: {reason}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

impl TestCell {
    /// A daemon with these settings, and `nodes` nodes, each in a rack of its own. All have registered.
    pub fn start(nodes: usize, config: &str) -> Self {
        let mut cell = Self::unstarted(config);
        cell.start_daemon();
        for number in 0..nodes {
            cell.add_node(&format!("test/zone/rack-{number}/node-{number}"));
        }
        cell.wait_healthy(nodes as u64);
        cell
    }

    /// A folder with these settings, and no process yet.
    pub fn unstarted(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalog = folder.path().join("catalog.redb");
        fs::write(folder.path().join("daemon.toml"), config).unwrap();
        let (address, admin) = (free_address(), free_address());
        Self { folder, daemon: None, address, catalog, admin, nodes: Vec::new(), scrub_seconds: 2 }
    }

    /// A path below the cell's folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the daemon on its folder and addresses.
    pub fn start_daemon(&mut self) {
        let mut command = ninefold();
        command.args(["daemon", "--listen", &self.address, "--admin", &self.admin, "--insecure", "--die-with-parent"]);
        command.arg("--catalog").arg(format!("redb:{}", self.catalog.display()));
        command.arg("--config").arg(self.path("daemon.toml"));
        self.daemon = Some(spawn(command, &self.path("daemon.log")));
    }

    /// Ends the daemon as a crash would.
    pub fn kill_daemon(&mut self) {
        kill(&mut self.daemon);
    }

    /// A new node with an empty data folder; gives its number.
    pub fn add_node(&mut self, domain: &str) -> usize {
        let number = self.nodes.len();
        let data = self.path(format!("node-{number}"));
        self.nodes.push(TestNode { child: None, data, domain: domain.to_owned(), address: free_address() });
        self.start_node(number);
        number
    }

    /// The command that runs a node, on a new disk if its folder is none yet.
    pub fn node_command(&self, number: usize) -> Command {
        let mut command = self.command_on_disk(number);
        command.arg("--format");
        command
    }

    /// The command that runs a node on the disk that its folder is.
    pub fn command_on_disk(&self, number: usize) -> Command {
        let node = &self.nodes[number];
        let mut command = ninefold();
        command.args(["node", "--listen", &node.address, "--domain", &node.domain, "--daemon", &self.address]);
        command.args(["--insecure", "--die-with-parent", "--scrub-period", &self.scrub_seconds.to_string()]);
        command.arg("--data").arg(&node.data);
        command
    }

    /// Starts a node on its folder and address.
    pub fn start_node(&mut self, number: usize) {
        self.start_node_with(number, &[]);
    }

    /// As [`TestCell::start_node`], with more options.
    pub fn start_node_with(&mut self, number: usize, options: &[&str]) {
        let log = self.path(format!("node-{number}.log"));
        let mut command = self.node_command(number);
        command.args(options);
        self.nodes[number].child = Some(spawn(command, &log));
    }

    /// Ends a node as a crash would.
    pub fn kill_node(&mut self, number: usize) {
        kill(&mut self.nodes[number].child);
    }

    /// Sends a signal to a node's process.
    pub fn signal_node(&self, number: usize, signal: Signal) {
        send_signal(self.nodes[number].child.as_ref().unwrap(), signal);
    }

    /// Sends a signal to the daemon's process.
    pub fn signal_daemon(&self, signal: Signal) {
        send_signal(self.daemon.as_ref().unwrap(), signal);
    }

    /// Events on disk now: quicker than to ask for them, and there when the daemon is not.
    pub fn event_count(&self) -> usize {
        fs::read_to_string(self.path("events.jsonl")).unwrap_or_default().lines().count()
    }

    /// Those after the first `seen`, in order.
    pub fn events_after(&self, seen: usize) -> Vec<Value> {
        let text = fs::read_to_string(self.path("events.jsonl")).unwrap_or_default();
        text.lines().skip(seen).filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Their kinds.
    pub fn kinds_after(&self, seen: usize) -> Vec<String> {
        self.events_after(seen).iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// A client command on this cell, ready to run.
    pub fn client(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = ninefold();
        command.args(arguments).env("NINEFOLD_CELL", &self.address);
        command
    }

    /// Runs a client command.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        self.client(arguments).output().unwrap()
    }

    /// Runs a client command that must succeed.
    pub fn good(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        output
    }

    /// Stores bytes under a name.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let source = self.path(format!(
            "source-{:016x}",
            noise(bytes.len() as u64, 8).iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
        ));
        fs::write(&source, bytes).unwrap();
        self.good(&["put".as_ref(), source.as_os_str(), name.as_ref()]);
        fs::remove_file(source).unwrap();
    }

    /// Reads a name; its bytes, or exit code and message.
    pub fn get(&self, name: &str) -> Result<Vec<u8>, (Option<i32>, String)> {
        let out =
            self.folder.path().join(format!("out-{}", std::thread::current().name().unwrap_or("x").replace(':', "_")));
        let output = self.run(&["get".as_ref(), OsStr::new(name), out.as_os_str()]);
        if output.status.code() != Some(0) {
            assert!(!out.exists(), "a failed get left a file");
            return Err((output.status.code(), text(&output.stderr)));
        }
        let bytes = fs::read(&out).unwrap();
        fs::remove_file(out).unwrap();
        Ok(bytes)
    }

    /// `status --json`, with its exit code.
    pub fn status(&self) -> Result<(Value, i32), String> {
        let output = self.run(&["status", "--json", "--timeout", "5"]);
        let json =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", text(&output.stderr)))?;
        Ok((json, output.status.code().unwrap()))
    }

    /// Waits until so many nodes are healthy.
    pub fn wait_healthy(&self, nodes: u64) {
        eventually("nodes are healthy", || {
            let (status, _) = self.status()?;
            if status["nodes"]["healthy"] == nodes { Ok(()) } else { Err(status["nodes"].to_string()) }
        });
    }

    /// Waits until the daemon says, from its recounts, that nothing is missing.
    pub fn wait_full(&self) -> Value {
        eventually("full redundancy", || {
            let (status, _) = self.status()?;
            if status["full_redundancy"] == true { Ok(status) } else { Err(status.to_string()) }
        })
    }

    /// Waits for the end of a repair after the first `seen` events, then for full redundancy: a loss is not noticed at once,
    /// so a cell that just lost a node still says that it is full.
    pub fn wait_repaired(&self, seen: usize) -> Value {
        eventually("a repair", || {
            let kinds = self.kinds_after(seen);
            if kinds.iter().any(|kind| kind == "repair_done") { Ok(()) } else { Err(format!("{kinds:?}")) }
        });
        self.wait_full()
    }

    /// Fragment files of a node, with their folders.
    pub fn fragments(&self, number: usize) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.nodes[number].data.join("fragments")).into_iter().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).filter(|path| path.extension() == Some(OsStr::new("frag"))).collect()
    }

    /// What a process said.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

impl Drop for TestCell {
    fn drop(&mut self) {
        kill(&mut self.daemon);
        for node in &mut self.nodes {
            kill(&mut node.child);
        }
        if std::thread::panicking() {
            for log in ["daemon.log".to_owned()]
                .into_iter()
                .chain((0..self.nodes.len()).map(|number| format!("node-{number}.log")))
            {
                let said = self.log(&log);
                let from = said.len().saturating_sub(1500);
                eprintln!("--- {log}\n{}", said.get(from..).unwrap_or(&said));
            }
        }
    }
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn send_signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
