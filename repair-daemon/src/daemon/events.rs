//! The event log: what happened, numbered, one JSON object a line in a file, the latest in memory.
//!
//! Events tell people what the service did; nothing is decided from them. So lines are not synced, and a log that cannot be
//! written stops nobody: a thread of its own writes it, what it missed is in memory, and said once on standard error.

use super::writer::Writer;
use repair_core::coordinator::Note;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Events in memory.
const KEPT_MAX: usize = 10_000;
/// A log longer than this becomes the old one, and a new one begins.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Longest line read back; the text of one event stays far below.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Events in one answer.
pub const PAGE_MAX: usize = 1_000;
/// Bytes of the events in one answer, unless the first alone has more; half of what a body may have.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Longest text of an event, and of each of its fields, in characters.
const TEXT_MAX: usize = 4_096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with every event of a cell, from 1.
    pub number: u64,
    /// Milliseconds since 1970, by this machine's clock.
    pub at_ms: u64,
    /// What kind, in snake case.
    pub kind: String,
    /// In words.
    pub text: String,
    /// The same for programs.
    pub fields: BTreeMap<String, String>,
}

/// Part of the log, as it is given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<'a> {
    /// Of this object.
    pub schema: u32,
    /// In order.
    pub events: Vec<&'a Event>,
    /// Number of the oldest event kept; what is between it and the one asked for is gone. 0 where there is none.
    pub oldest: u64,
    /// Number of the newest event; more follow where it is greater than the last one here. 0 where there is none.
    pub newest: u64,
    /// Events of this life of the daemon that are missing in the file: it could not be written as fast as they came.
    pub unwritten: u64,
}

/// What the thread writes.
#[derive(Debug)]
enum Line {
    /// To the file.
    Event(Event),
    /// To standard error.
    Said(String),
}

/// The log of one cell, beside its catalog.
#[derive(Debug)]
pub struct EventLog {
    writer: Writer<Line>,
    kept: VecDeque<Event>,
    next: u64,
}

impl EventLog {
    /// Opens the log and goes on where it ended. A last line cut short by a crash is taken off.
    ///
    /// # Errors
    /// Another daemon writes it; the file system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (mut file, kept) = LogFile::open(path, LOG_BYTES_MAX)?;
        let next = kept.back().map_or(1, |event| event.number + 1);
        let write = move |line| match line {
            Line::Event(event) => file.take(&event),
            Line::Said(text) => drop(writeln!(io::stderr(), "{text}")),
        };
        Ok(Self { writer: Writer::start(write)?, kept, next })
    }

    /// Has something said on standard error.
    pub fn say(&mut self, text: String) {
        self.writer.write(Line::Said(text));
    }

    /// Takes a note in. Returns the event.
    pub fn append(&mut self, note: &Note) -> &Event {
        let short = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
        let fields = note.fields.iter().map(|(key, value)| ((*key).to_owned(), short(value))).collect();
        let event = Event {
            number: self.next,
            at_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            kind: note.kind.to_owned(),
            text: short(&note.text),
            fields,
        };
        self.next += 1;
        self.writer.write(Line::Event(event.clone()));
        keep(&mut self.kept, event);
        // Just kept.
        &self.kept[self.kept.len() - 1]
    }

    /// Events after this number, as many as fit one answer.
    pub fn after(&self, number: u64) -> Page<'_> {
        let from = self.kept.partition_point(|event| event.number <= number);
        let mut bytes = 0;
        let fits = |event: &&Event| {
            let first = bytes == 0;
            bytes += serde_json::to_vec(event).map_or(0, |text| text.len());
            first || bytes <= PAGE_BYTES_MAX
        };
        Page {
            schema: 1,
            events: self.kept.range(from..).take(PAGE_MAX).take_while(fits).collect(),
            oldest: self.kept.front().map_or(0, |event| event.number),
            newest: self.kept.back().map_or(0, |event| event.number),
            unwritten: self.writer.dropped(),
        }
    }
}

/// The file.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Whether the last write failed; it is said once.
    failing: bool,
}

impl LogFile {
    /// Opens it behind its last whole line. Gives what it holds, too.
    fn open(path: &Path, bytes_max: u64) -> io::Result<(Self, VecDeque<Event>)> {
        let mut kept = VecDeque::new();
        match File::open(old(path)) {
            Ok(file) => drop(read_events(file, &mut kept)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut file = create(path)?;
        let bytes = read_events(file.try_clone()?, &mut kept)?;
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok((Self { path: path.to_path_buf(), file, bytes, bytes_max, failing: false }, kept))
    }

    fn take(&mut self, event: &Event) {
        let written = self.write(event);
        let failed_before = std::mem::replace(&mut self.failing, written.is_err());
        if let Err(error) = written
            && !failed_before
        {
            let _ = writeln!(io::stderr(), "ninefold daemon: {}: events are lost: {error}", self.path.display());
        }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            fs::rename(&self.path, old(&self.path))?;
            self.file = create(&self.path)?;
            self.bytes = 0;
        }
        let written = self.file.write_all(&line);
        if written.is_err() {
            // Half a line would spoil the next one.
            self.file.set_len(self.bytes)?;
            self.file.seek(SeekFrom::Start(self.bytes))?;
        } else {
            self.bytes += line.len() as u64;
        }
        written
    }
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("old.jsonl")
}

fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        io::Error::new(io::ErrorKind::WouldBlock, "another daemon writes it: give each catalog a folder of its own")
    })?;
    Ok(file)
}

/// Takes the events of a file in, and returns where the last whole line ends. A line that is no event is passed over.
fn read_events(file: File, kept: &mut VecDeque<Event>) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut end = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = io::Read::take(&mut reader, LINE_BYTES_MAX as u64);
        let read = limited.read_until(b'\n', &mut line)? as u64;
        if read == 0 || (line.last() != Some(&b'\n') && (read as usize) < LINE_BYTES_MAX) {
            return Ok(end);
        }
        end += read;
        if let Ok(event) = serde_json::from_slice::<Event>(&line)
            && kept.back().is_none_or(|last| last.number < event.number)
        {
            keep(kept, event);
        }
    }
}

fn keep(kept: &mut VecDeque<Event>, event: Event) {
    if kept.len() >= KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(event);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Note {
        Note { kind: "disk_lost", text: text.into(), fields: vec![("disk", text.to_uppercase())] }
    }

    fn texts(log: &EventLog, after: u64) -> Vec<String> {
        log.after(after).events.iter().map(|event| event.text.clone()).collect()
    }

    #[test]
    fn events_are_numbered_on_across_restarts_and_paged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::open(&path).unwrap();
        assert_eq!((log.after(0).oldest, log.after(0).newest), (0, 0));
        assert_eq!(log.append(&note("a")).number, 1);
        log.append(&note("b"));
        drop(log);
        let mut log = EventLog::open(&path).unwrap();
        let event = log.append(&note("c\nd")).clone();
        assert_eq!((event.number, event.fields["disk"].as_str()), (3, "C\nD"));
        assert_eq!(texts(&log, 0), ["a", "b", "c\nd"]);
        assert_eq!(texts(&log, 2), ["c\nd"]);
        assert!(texts(&log, 3).is_empty() && texts(&log, u64::MAX).is_empty());
        drop(log);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }

    #[test]
    fn a_torn_last_line_and_rubbish_between_lines_cost_only_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::open(&path).unwrap();
        log.append(&note("a"));
        log.append(&note("b"));
        drop(log);
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        bytes.splice(second..second, *b"\xff\xfe rubbish\n");
        bytes.extend_from_slice(b"{\"number\":9,");
        fs::write(&path, &bytes).unwrap();
        let mut log = EventLog::open(&path).unwrap();
        assert_eq!(texts(&log, 0), ["a", "b"]);
        assert_eq!(log.append(&note("c")).number, 3);
        drop(log);
        assert_eq!(texts(&EventLog::open(&path).unwrap(), 0), ["a", "b", "c"]);
    }

    #[test]
    fn memory_keeps_the_latest_and_the_file_is_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut log = EventLog::open(&path).unwrap();
        let count = KEPT_MAX as u64 + 5;
        for number in 1..=count {
            log.append(&note(&number.to_string()));
        }
        let page = log.after(0);
        assert_eq!((page.oldest, page.newest, page.events.len()), (6, count, PAGE_MAX));
        let events = std::mem::take(&mut log.kept);
        drop(log);
        fs::remove_file(&path).unwrap();
        let (mut file, _) = LogFile::open(&path, 100_000).unwrap();
        events.iter().for_each(|event| file.take(event));
        drop(file);
        assert!(fs::metadata(&path).unwrap().len() <= 100_000);
        assert!(fs::metadata(old(&path)).unwrap().len() <= 100_000);
        // Both files are read back, and numbers go on.
        let mut log = EventLog::open(&path).unwrap();
        let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count() as u64;
        assert_eq!(log.after(0).oldest, count + 1 - lines(&path) - lines(&old(&path)));
        assert_eq!(log.append(&note("x")).number, count + 1);
    }

    #[test]
    fn a_page_of_the_longest_events_fits_a_body() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::open(&folder.path().join("events.jsonl")).unwrap();
        for _ in 0..400 {
            // Six bytes each in JSON.
            log.append(&note(&"\u{1}".repeat(100_000)));
        }
        let page = log.after(0);
        assert!((10..400).contains(&page.events.len()));
        assert!(serde_json::to_vec(&page).unwrap().len() < repair_core::limits::BODY_BYTES_MAX);
        assert_eq!(log.after(page.events.len() as u64).events[0].number, page.events.len() as u64 + 1);
    }

    #[test]
    fn two_daemons_do_not_write_one_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let _log = EventLog::open(&path).unwrap();
        assert_eq!(EventLog::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
