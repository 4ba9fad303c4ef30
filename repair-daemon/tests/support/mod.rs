//! What the tests of the file commands share: running the real binary, files to encode, folders of fragments to spoil.
#![allow(dead_code, reason = "each test file uses a part of this")]

pub mod forge;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The binary under test.
pub const NINEFOLD: &str = env!("CARGO_BIN_EXE_ninefold");
/// Longer than any command here takes on a slow machine: what is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code, or the signal that ended it, negated.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let code = output.status.code().unwrap_or_else(|| -output.status.signal().unwrap());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        let ran = Self { code, stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        ran
    }

    /// Insists on the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Insists that standard error names all of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
        self
    }

    /// Standard output, which must be one JSON object with a schema number and nothing else.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr));
        assert!(value.is_object() && value["schema"].is_u64(), "{value}");
        value
    }
}

/// The command with these arguments and its standard streams in pipes.
pub fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(NINEFOLD);
    command.args(arguments);
    piped(&mut command);
    command
}

/// Standard input empty, both outputs in pipes.
pub fn piped(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Runs the binary to its end.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    finish(command(arguments).spawn().unwrap())
}

/// Waits for a command. One that hangs is a failure, not an endless test.
pub fn finish(mut child: Child) -> Ran {
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let drain = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let (stdout, stderr) = (drain(Box::new(stdout)), drain(Box::new(stderr)));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("hangs: {child:?}");
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    Ran::of(Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() })
}

pub fn encode(file: &Path, code: &str, dir: &Path) -> Ran {
    run([OsStr::new("encode"), file.as_ref(), "--code".as_ref(), code.as_ref(), "--out".as_ref(), dir.as_ref()])
}

pub fn decode(dir: &Path, out: &Path) -> Ran {
    run([OsStr::new("decode"), dir.as_ref(), "--out".as_ref(), out.as_ref(), "--json".as_ref()])
}

pub fn verify(dir: &Path) -> Ran {
    run([OsStr::new("verify"), dir.as_ref(), "--json".as_ref()])
}

pub fn repair(dir: &Path) -> Ran {
    run([OsStr::new("repair"), dir.as_ref(), "--json".as_ref()])
}

pub fn inspect(file: &Path) -> Ran {
    run([OsStr::new("inspect"), file.as_ref(), "--json".as_ref()])
}

/// Bytes with period 251: a shifted or swapped block does not look like another.
pub fn painted(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// A file that is mostly a hole, with `bytes` in all and some data at its start, end and around every 64 MiB.
pub fn sparse_file(path: &Path, bytes: u64) {
    let file = File::create(path).unwrap();
    file.set_len(bytes).unwrap();
    let data = painted(100_003);
    for at in (0..bytes).step_by(64 << 20).chain([bytes]) {
        file.write_all_at(&data, at.saturating_sub(50_000).min(bytes - data.len() as u64)).unwrap();
    }
}

/// Whether two files have the same bytes, in little memory.
pub fn same_bytes(left: &Path, right: &Path) -> bool {
    let (mut left, mut right) = (File::open(left).unwrap(), File::open(right).unwrap());
    if left.metadata().unwrap().len() != right.metadata().unwrap().len() {
        return false;
    }
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let filled = BufReader::new(&mut left).read(&mut a).unwrap();
        if filled == 0 {
            return true;
        }
        right.read_exact(&mut b[..filled]).unwrap();
        if a[..filled] != b[..filled] {
            return false;
        }
    }
}

/// A FIFO nobody writes to: whoever opens it without care waits for ever.
pub fn mkfifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Names in a folder; none if there is no folder.
pub fn listing(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect()).unwrap_or_default()
}

/// One file and the fragments the binary made of it.
pub struct Set {
    pub root: TempDir,
    pub input: PathBuf,
    pub dir: PathBuf,
    pub data: Vec<u8>,
    /// Every fragment file as it was made.
    pub originals: BTreeMap<OsString, Vec<u8>>,
}

impl Set {
    pub fn new(code: &str, data: Vec<u8>) -> Self {
        let root = TempDir::new().unwrap();
        let (input, dir) = (root.path().join("input"), root.path().join("fragments"));
        fs::write(&input, &data).unwrap();
        encode(&input, code, &dir).exits(0);
        let originals =
            listing(&dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect();
        Self { root, input, dir, data, originals }
    }

    /// A small one: six fragments of one block, 12 KiB each.
    pub fn small() -> Self {
        Self::new("rs:4+2", painted(13_000))
    }

    /// A place beside the fragments.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The file of fragment `index` (of the first extent, by name).
    pub fn path(&self, index: usize) -> PathBuf {
        let end = format!(".{index:05}.frag");
        let name = self.originals.keys().find(|name| name.to_str().unwrap().ends_with(&end));
        self.dir.join(name.unwrap_or_else(|| panic!("no fragment {index}")))
    }

    /// The bytes fragment `index` was made with.
    pub fn original(&self, index: usize) -> &[u8] {
        &self.originals[self.path(index).file_name().unwrap()]
    }

    /// Number of fragments.
    pub fn len(&self) -> usize {
        self.originals.len()
    }

    pub fn write(&self, index: usize, bytes: &[u8]) {
        fs::write(self.path(index), bytes).unwrap();
    }

    pub fn remove(&self, index: usize) {
        fs::remove_file(self.path(index)).unwrap();
    }

    /// Changes the bytes of a fragment.
    pub fn change(&self, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(index)).unwrap();
        change(&mut bytes);
        self.write(index, &bytes);
    }

    /// All fragments as they were made and nothing else.
    pub fn restore(&self) {
        fs::remove_dir_all(&self.dir).unwrap();
        fs::create_dir(&self.dir).unwrap();
        for (name, bytes) in &self.originals {
            fs::write(self.dir.join(name), bytes).unwrap();
        }
    }

    /// Verifies and gives what is not healthy as (index, class), strays included.
    #[track_caller]
    pub fn findings(&self) -> Vec<(Option<u64>, String)> {
        let ran = verify(&self.dir);
        let report = ran.json();
        let extents =
            report["extents"].as_array().unwrap().iter().flat_map(|extent| extent["fragments"].as_array().unwrap());
        let findings: Vec<_> = extents
            .chain(report["strays"].as_array().unwrap())
            .filter(|fragment| fragment["class"] != "healthy")
            // Of an extent of another set only what lies here counts.
            .filter(|fragment| fragment["class"] != "missing" || self.names(&fragment["path"]))
            .map(|fragment| (fragment["index"].as_u64(), fragment["class"].as_str().unwrap().to_owned()))
            .collect();
        ran.exits(i32::from(!findings.is_empty()));
        findings
    }

    fn names(&self, path: &Value) -> bool {
        Path::new(path.as_str().unwrap()).file_name().is_some_and(|name| self.originals.contains_key(name))
    }

    /// Insists that verify finds exactly this, and that the file comes back all the same.
    #[track_caller]
    pub fn finds(&self, expected: &[(u64, &str)]) {
        let mut found = self.findings();
        let mut expected: Vec<_> = expected.iter().map(|(index, class)| (Some(*index), (*class).to_owned())).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{}", verify(&self.dir).stdout);
        self.decodes();
    }

    /// Insists that the file comes back.
    #[track_caller]
    pub fn decodes(&self) -> Value {
        let out = self.beside("decoded");
        let report = decode(&self.dir, &out).exits(0).json();
        assert!(fs::read(&out).unwrap() == self.data, "decoded bytes differ");
        fs::remove_file(&out).unwrap();
        assert_eq!(report["bytes"], self.data.len());
        report
    }

    /// Insists that nothing comes back, for want of fragments, and that no file is left behind.
    #[track_caller]
    pub fn is_lost(&self, words: &[&str]) {
        let before = listing(self.root.path());
        decode(&self.dir, &self.beside("decoded")).exits(1).says(words);
        assert_eq!(listing(self.root.path()), before, "decode left something");
    }

    /// Insists that one repair makes all as it was, but for what lies in quarantine.
    #[track_caller]
    pub fn heals(&self) -> Value {
        let report = repair(&self.dir).exits(0).json();
        assert_eq!(report["full_redundancy"], true, "{report}");
        assert_eq!(self.findings(), []);
        self.is_as_made();
        report
    }

    /// Insists that every fragment is byte for byte what it was, with nothing beside but a quarantine.
    #[track_caller]
    pub fn is_as_made(&self) {
        let mut names = listing(&self.dir);
        names.remove(OsStr::new("quarantine"));
        assert_eq!(names, self.originals.keys().cloned().collect());
        for (name, bytes) in &self.originals {
            assert!(fs::read(self.dir.join(name)).unwrap() == *bytes, "{} is not as it was made", name.display());
        }
    }

    /// What lies in quarantine, as (name, bytes); `None` for what is no regular file.
    pub fn quarantine(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let folder = self.dir.join("quarantine");
        let content = |name: &OsString| {
            let path = folder.join(name);
            fs::symlink_metadata(&path).unwrap().is_file().then(|| fs::read(&path).unwrap())
        };
        listing(&folder).iter().map(|name| (name.to_str().unwrap().to_owned(), content(name))).collect()
    }
}
