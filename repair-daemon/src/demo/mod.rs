//! The main job on real processes: a daemon and its nodes store real files across racks, nodes are killed, a byte rots, the daemon
//! notices and rebuilds, and every byte is proven.
//!
//! [`choice`] decides the code, [`files`](mod@files) lists, [`cell`] starts the processes, [`havoc`] destroys, [`watch`] follows what the
//! daemon says, [`recount`] looks for itself, [`compare`] reads back.

pub mod cell;
pub mod choice;
pub mod compare;
pub mod files;
pub mod havoc;
pub mod home;
pub mod minimum;
pub mod recount;
pub mod report;
pub mod watch;

use crate::client;
use crate::files::error::shown;
use crate::files::source::ByteSource;
use crate::files::{FilesError, Work};
use crate::pack::{ListedFile, PackSource};
use choice::{Choices, racks_of};
use ec_core::{Code, CodeSpec, Geometry};
use havoc::{Flip, Havoc, Placed};
use home::Home;
use indicatif::ProgressBar;
use repair_core::id::StreamKey;
use report::{Report, binary, count};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use watch::{Follower, Status};

/// Short detection and no grace: what takes a cell in service minutes, so that a node may restart, is to be seen at once here.
const TIMING: &str = "beat_ms = 500\nsuspect_ms = 2500\ngrace_seconds = 0\n";
/// What the demo says of it.
const TIMING_SAID: &str =
    "detection within 3 s and no grace (a cell in service waits 15 min before it rebuilds a silent node)";
/// The client's patience with the daemon, which is on this machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Within this the daemon sees that connections of killed nodes have ended.
const SUSPECTED_WITHIN: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(25);
/// Without any progress for so long the demo gives up waiting, and says so.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// How often progress of the rebuild is told.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// What a fragment file takes beside its payload, about: header, tail, its share of journal and index.
const FILE_OVERHEAD_BYTES: u64 = 32 << 10;
/// What a node or daemon takes with nothing stored, about.
const PROCESS_OVERHEAD_BYTES: u64 = 4 << 20;

/// What to do it with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder whose files are protected. They are only read.
    pub path: PathBuf,
    /// Nodes.
    pub nodes: usize,
    /// Racks they stand in.
    pub racks: usize,
    /// How many nodes are killed.
    pub kill: usize,
    /// The code; `None` chooses by the racks that are left.
    pub code: Option<CodeSpec>,
    /// Where the data of daemon and nodes stays when all is done; `None` for a temporary folder.
    pub keep: Option<PathBuf>,
}

/// How the demo speaks while it works.
pub struct Voice<'a> {
    /// Says what happened.
    pub tell: &'a (dyn Fn(&str) -> Result<(), FilesError> + Sync),
    /// Says what a person should know and a result does not hold.
    pub warn: &'a (dyn Fn(&str) + Sync),
}

/// Runs the demo. `stop` is the flag that ends `work` early.
///
/// # Errors
/// [`FilesError::Usage`] where it was asked for something that cannot be; others where something fails that is not the
/// fragments' fault. Wrong bytes and lost redundancy are no errors but results.
pub fn run(work: &Work, stop: Arc<AtomicBool>, options: &Options, voice: &Voice) -> Result<Report, FilesError> {
    let code = Choices::new(options.code.as_ref())?.decide(options.nodes, options.racks, options.kill)?;
    if let Some(keep) = &options.keep {
        home::check_new_or_empty(keep)?;
    }
    // Before there is a folder for the cell: it may lie under the path.
    let found = files::list(work, &options.path)?;
    let mut report = Report::new(code.spec().to_string(), options.nodes);
    report.files = found.files.len() as u64;
    report.bytes = found.files.iter().map(ListedFile::bytes).sum();
    report.skipped = found.skipped_count();
    if report.skipped > 0 {
        (voice.warn)(&format!("skipped {}", found.skipped_words()));
    }
    let packs = PackSource::packs(found.files).map_err(FilesError::internal)?;
    let home = Home::new(options.keep.as_deref())?;
    home.check_room(room(&code, &packs, options))?;
    let started = Instant::now();
    let config = format!("code = \"{}\"\n{TIMING}", code.spec());
    let processes = cell::Cell::start(work, home.path(), &config, &racks_of(options.nodes, options.racks))?;
    let client = client::Cell::open(processes.address(), PATIENCE, stop)?;
    let mut demo =
        Demo { work, voice, code, processes, client, packs, streams: Vec::new(), follower: Follower::default() };
    demo.wait_for_nodes(options, started)?;
    demo.put(&mut report)?;
    demo.read_back("read everything back", &mut report)?;
    let destroyed = demo.destroy(options.kill, &mut report)?;
    demo.watch_rebuild(&destroyed, &mut report)?;
    demo.recount(&destroyed, &mut report)?;
    demo.read_back("read everything again", &mut report)?;
    demo.processes.stop();
    if options.keep.is_some() {
        (voice.tell)(&format!("kept the data of daemon and nodes in {}", shown(home.path())))?;
    }
    Ok(report)
}

/// Bytes that a run takes on the disk: what is stored, what is rebuilt, and the processes' own.
fn room(code: &Code, packs: &[PackSource], options: &Options) -> u64 {
    let stored = packs.iter().map(|pack| {
        let extents = pack.bytes().div_ceil(ec_core::geometry::EXTENT_BYTES_NOMINAL).max(1);
        let shard_bytes =
            Geometry::new(pack.bytes().min(1 << 30), code.k()).shard_bytes().max(pack.bytes() / code.k() as u64);
        (code.n() + options.kill) as u64 * (shard_bytes + extents * FILE_OVERHEAD_BYTES)
    });
    stored.sum::<u64>() + (options.nodes as u64 + 1) * PROCESS_OVERHEAD_BYTES
}

/// What was done to the cell, and when.
struct Destroyed {
    at: Instant,
    flip: Option<(Flip, String, Placed)>,
}

struct Demo<'a> {
    work: &'a Work,
    voice: &'a Voice<'a>,
    code: Code,
    processes: cell::Cell,
    client: client::Cell,
    packs: Vec<PackSource>,
    streams: Vec<StreamKey>,
    follower: Follower,
}

impl Demo<'_> {
    fn tell(&self, text: &str) -> Result<(), FilesError> {
        (self.voice.tell)(text)
    }

    /// Shows a bar for what follows.
    fn begin(&self, label: &'static str, bytes: u64) -> &ProgressBar {
        let bar = self.work.progress();
        bar.reset();
        bar.set_message(label);
        bar.set_length(bytes);
        bar
    }

    fn end(&self) {
        self.work.progress().finish_and_clear();
    }

    fn stored_bytes(&self) -> u64 {
        self.packs.iter().map(ByteSource::bytes).sum()
    }

    /// Name under which a pack's files are put.
    fn folder(pack: usize) -> Vec<u8> {
        if pack == 0 { b"demo".to_vec() } else { format!("demo-{pack}").into_bytes() }
    }

    fn wait_for_nodes(&mut self, options: &Options, started: Instant) -> Result<(), FilesError> {
        let mut waiting = Waiting::new();
        loop {
            let healthy = self.status()?.nodes.healthy;
            if healthy == options.nodes as u64 {
                break;
            }
            self.pause(&mut waiting, healthy, "not all nodes came up")?;
        }
        self.tell(&format!(
            "started a daemon and {} nodes in {} racks in {:.3} s; {TIMING_SAID}",
            options.nodes,
            options.racks,
            started.elapsed().as_secs_f64()
        ))
    }

    fn status(&self) -> Result<Status, FilesError> {
        watch::parse(self.client.status()?)
    }

    /// Waits a moment; `Err` where a process died by itself, the user wants to stop, or nothing moves any more.
    fn pause(&mut self, waiting: &mut Waiting, progress: u64, what: &str) -> Result<(), FilesError> {
        self.work.check_stop()?;
        self.processes.check()?;
        waiting.moved(progress);
        if waiting.is_stalled() {
            return Err(FilesError::Cell(format!("{what}, and nothing has moved for {} s", STALLED_AFTER.as_secs())));
        }
        std::thread::sleep(POLL_EVERY);
        Ok(())
    }

    fn put(&mut self, report: &mut Report) -> Result<(), FilesError> {
        let started = Instant::now();
        let bar = self.begin("put", self.stored_bytes());
        let mut streams = Vec::new();
        for (number, pack) in self.packs.iter().enumerate() {
            let put = self.client.put_pack(&Self::folder(number), pack, bar)?;
            report.extents += put.extents;
            streams.push(put.stream);
        }
        self.end();
        self.streams = streams;
        self.tell(&format!(
            "stored {} files ({}) with {} as {} extents of {} fragments in {:.3} s",
            count(report.files),
            binary(report.bytes),
            report.code,
            count(report.extents),
            self.code.n(),
            started.elapsed().as_secs_f64()
        ))
    }

    fn destroy(&mut self, kill: usize, report: &mut Report) -> Result<Destroyed, FilesError> {
        let nodes = self.processes.nodes();
        let placement = havoc::look(nodes)?;
        let mut havoc = Havoc::new(&self.code, &placement, nodes.len(), kill);
        if let Some((_, placed)) = &havoc.flip
            && havoc::payload_bytes(&placed.path)? == 0
        {
            havoc.flip = None;
        }
        report.minimum_read_bytes = minimum::joint_minimum(&self.code, &placement, &havoc)?;
        let names = havoc.nodes.iter().map(|node| nodes[*node].name.clone()).collect::<Vec<_>>().join(", ");
        let nodes_left = (nodes.len() - havoc.nodes.len()) as u64;
        // What happened until now is of no interest: from here on each event counts.
        self.follow()?;
        let at = Instant::now();
        for node in &havoc.nodes {
            self.processes.kill(*node)?;
        }
        report.killed = havoc.nodes.len() as u64;
        let mut destroyed = Destroyed { at, flip: None };
        if let Some((extent, placed)) = havoc.flip {
            // As rot is found: while other things are amiss. What comes before would be rebuilt before, by a reading of its own.
            self.wait_until_suspected(nodes_left)?;
            destroyed.flip = Some((Flip::make(&placed.path)?, extent.to_string(), placed));
            self.client.scrub()?;
        }
        let of_nodes = if names.is_empty() { "killed no node".into() } else { format!("killed {names} (kill -9)") };
        let of_byte = match &destroyed.flip {
            Some((_, extent, placed)) => {
                let node = &self.processes.nodes()[placed.node].name;
                format!(
                    "flipped a bit of fragment {} of extent {extent} on {node}, and asked for a scrub",
                    placed.index
                )
            }
            None => "flipped nothing: no extent with a byte to flip would surely survive that too".into(),
        };
        self.tell(&format!("{of_nodes}; {of_byte}"))?;
        Ok(destroyed)
    }

    /// Until the daemon knows that nodes do not answer. Waits for that only a moment: it is told at once or by silence.
    fn wait_until_suspected(&self, nodes_left: u64) -> Result<(), FilesError> {
        let began = Instant::now();
        while began.elapsed() < SUSPECTED_WITHIN && self.status()?.nodes.healthy > nodes_left {
            self.work.check_stop()?;
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// Takes the daemon's new events; gives what a person wants to read of them.
    fn follow(&mut self) -> Result<Vec<String>, FilesError> {
        let mut lines = Vec::new();
        loop {
            let page = watch::parse(self.client.events(self.follower.seen())?)?;
            let (more_lines, more) = self.follower.take(page);
            lines.extend(more_lines);
            if !more {
                return Ok(lines);
            }
        }
    }

    /// Until the daemon has found everything and says that nothing is missing.
    fn watch_rebuild(&mut self, destroyed: &Destroyed, report: &mut Report) -> Result<(), FilesError> {
        let mut waiting = Waiting::new();
        let mut told = Instant::now();
        let mut detected = false;
        loop {
            for line in self.follow()? {
                self.tell(&format!("  {:7.3} s  {line}", destroyed.at.elapsed().as_secs_f64()))?;
            }
            if !detected && self.has_found(destroyed, report.killed) {
                detected = true;
                report.detected_seconds = destroyed.at.elapsed().as_secs_f64();
            }
            let status = self.status()?;
            if detected && status.full_redundancy {
                self.tell_rest(destroyed)?;
                self.count_repairs(&status, report);
                break;
            }
            let repairs = &status.repairs;
            if told.elapsed() >= TELL_EVERY && repairs.waiting + repairs.running.len() as u64 > 0 {
                told = Instant::now();
                self.tell(&progress_line(destroyed, repairs))?;
            }
            self.pause(&mut waiting, self.follower.seen() + repairs.written_bytes, "the cell is not whole again")?;
        }
        self.tell(&format!(
            "rebuilt {} in {:.3} s, reading {}",
            binary(report.rebuilt_bytes),
            report.rebuild_seconds,
            binary(report.read_bytes)
        ))
    }

    fn has_found(&self, destroyed: &Destroyed, killed: u64) -> bool {
        let flipped = destroyed.flip.as_ref();
        self.follower.lost_disks() as u64 >= killed
            && flipped
                .is_none_or(|(_, extent, placed)| self.follower.found_damaged(extent, &placed.index.get().to_string()))
    }

    /// Events that came after the status that said all is well.
    fn tell_rest(&mut self, destroyed: &Destroyed) -> Result<(), FilesError> {
        for line in self.follow()? {
            self.tell(&format!("  {:7.3} s  {line}", destroyed.at.elapsed().as_secs_f64()))?;
        }
        Ok(())
    }

    fn count_repairs(&self, status: &Status, report: &mut Report) {
        let repairs = &status.repairs;
        report.rebuilt_bytes = repairs.rebuilt_bytes;
        report.read_bytes = repairs.read_bytes;
        report.written_bytes = repairs.written_bytes;
        report.rebuild_seconds = self.follower.rebuild_seconds();
    }

    /// Looks at the living nodes' disks, newer than the last change and without asking anybody.
    fn recount(&mut self, destroyed: &Destroyed, report: &mut Report) -> Result<(), FilesError> {
        let flip = destroyed.flip.as_ref().map(|(flip, ..)| flip);
        let found = recount::recount(self.work, self.processes.nodes(), flip)?;
        report.full_redundancy = found.full && found.extents as u64 == report.extents;
        self.tell(&match (report.full_redundancy, flip) {
            (true, Some(_)) => "recount of the disks: every fragment is there and proven, each of an extent in a rack of its own; the flipped bit is healed".into(),
            (true, None) => "recount of the disks: every fragment is there and proven, each of an extent in a rack of its own".into(),
            (false, _) => format!("recount of the disks: NOT fully redundant: {} extents, {} fragments lacking", found.extents, found.lacking),
        })
    }

    fn read_back(&mut self, what: &str, report: &mut Report) -> Result<(), FilesError> {
        let started = Instant::now();
        let bar = self.begin("read back", self.stored_bytes());
        let mut wrong = 0;
        for (number, (pack, stream)) in self.packs.iter().zip(&self.streams).enumerate() {
            let compared = compare::read_back(&self.client, &Self::folder(number), *stream, pack, bar)?;
            wrong += compared.wrong_files.len() as u64;
            for file in &compared.wrong_files {
                (self.voice.warn)(&format!("{:?}: came back wrong", pack.files()[*file].path()));
            }
            if let Some(reason) = compared.reason {
                (self.voice.warn)(&reason);
            }
        }
        self.end();
        report.mismatches += wrong;
        let verdict =
            if wrong == 0 { "every byte is right".into() } else { format!("{} CAME BACK WRONG", count(wrong)) };
        self.tell(&format!("{what} in {:.3} s: {verdict}", started.elapsed().as_secs_f64()))
    }
}

fn progress_line(destroyed: &Destroyed, repairs: &watch::Repairs) -> String {
    let eta = repairs.eta_seconds.map_or("not known yet".into(), |seconds| format!("{seconds:.1} s"));
    format!(
        "  {:7.3} s  {} in repair, {} waiting, {} rebuilt, ETA {eta}",
        destroyed.at.elapsed().as_secs_f64(),
        repairs.running.len(),
        repairs.waiting,
        binary(repairs.rebuilt_bytes)
    )
}

/// Tells waiting from standing still.
struct Waiting {
    progress: u64,
    since: Instant,
}

impl Waiting {
    fn new() -> Self {
        Self { progress: 0, since: Instant::now() }
    }

    fn moved(&mut self, progress: u64) {
        if progress != self.progress {
            *self = Self { progress, since: Instant::now() };
        }
    }

    fn is_stalled(&self) -> bool {
        self.since.elapsed() >= STALLED_AFTER
    }
}
