//! The main job on real files: spread them over fault domains, lose some, notice, rebuild, prove every byte.
//!
//! Domains are folders here. What is destroyed is destroyed on the disk, and from then on the demo knows only what it sees:
//! it looks which domains are there, reads every fragment in them, rebuilds from the proven ones, looks at everything once
//! more, and decodes every file to compare it with its original.
//!
//! [`choice`] decides code and number of losses, [`files`](mod@files) lists, [`domains`] places and destroys, [`compare`] reads back.

pub mod choice;
pub mod compare;
pub mod domains;
pub mod files;
pub mod report;

use crate::files::check::check_payloads;
use crate::files::encode::{StreamPlan, encode_stream};
use crate::files::error::shown;
use crate::files::repair::{ExtentRepair, repair_extents};
use crate::files::scan::{ExtentView, Scan, scan};
use crate::files::source::ByteSource;
use crate::files::{FilesError, Work};
use crate::pack::{ListedFile, PackSource};
use choice::Choices;
use domains::{Domains, Flip, Havoc, Home, NewHomes};
use ec_core::fragment::{Class, Content, ExtentId};
use ec_core::{Code, CodeSpec};
use report::{Report, binary, count};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// Files below this share streams. A stream of its own costs a file to create and to sync for each fragment; for a smaller
/// file that takes longer than to write its bytes.
const SMALL_FILE_BYTES: u64 = 4 << 20;

/// What to do it with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder whose files are protected. They are only read.
    pub path: PathBuf,
    /// Fault domains.
    pub nodes: usize,
    /// How many of them are destroyed.
    pub kill: usize,
    /// The code; `None` chooses by the domains that are left.
    pub code: Option<CodeSpec>,
    /// Where the domains stay when all is done; `None` for a temporary folder.
    pub keep: Option<PathBuf>,
}

/// How the demo speaks while it works.
pub struct Voice<'a> {
    /// Says what happened.
    pub tell: &'a (dyn Fn(&str) -> Result<(), FilesError> + Sync),
    /// Says what a person should know and a result does not hold.
    pub warn: &'a (dyn Fn(&str) + Sync),
}

/// Runs the demo.
///
/// # Errors
/// [`FilesError::Usage`] where it was asked for something that cannot be; others where something fails that is not the
/// fragments' fault. Wrong bytes and lost redundancy are no errors but results.
pub fn run(work: &Work, options: &Options, voice: &Voice) -> Result<Report, FilesError> {
    let code = Choices::new(options.code.as_ref())?.decide(options.nodes, options.kill)?;
    if let Some(keep) = &options.keep {
        domains::check_new_or_empty(keep)?;
    }
    // Before there is a folder for the domains: it may lie under the path.
    let found = files::list(work, &options.path)?;
    let mut report = Report::new(code.spec().to_string(), options.nodes);
    report.files = found.files.len() as u64;
    report.bytes = found.files.iter().map(ListedFile::bytes).sum();
    report.skipped = found.skipped_count();
    if report.skipped > 0 {
        (voice.warn)(&format!("skipped {}", found.skipped_words()));
    }
    let streams = streams(&code, found.files)?;
    let home = Home::new(options.keep.as_deref())?;
    home.check_room(streams.iter().map(|stream| stream.plan.file_bytes(&code)).sum())?;
    let domains = Domains::create(home.path(), options.nodes)?;
    let demo = Demo { work, voice, code, domains, streams };
    demo.encode(&mut report)?;
    let (flip, destroyed) = demo.destroy(options.kill, &mut report)?;
    let seen = demo.detect(destroyed, &mut report)?;
    demo.rebuild(&seen, &mut report)?;
    let seen = demo.recount(flip.as_ref(), &mut report)?;
    demo.read_back(&seen.scan, &mut report)?;
    if options.keep.is_some() {
        (voice.tell)(&format!("kept the domains in {}", shown(home.path())))?;
    }
    Ok(report)
}

/// A stream and where its bytes come from.
struct Stream {
    plan: StreamPlan,
    source: PackSource,
}

/// Small files share a stream (a few, where one directory cannot name them all); each larger file is one of its own.
fn streams(code: &Code, files: Vec<ListedFile>) -> Result<Vec<Stream>, FilesError> {
    let (small, large): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.bytes() < SMALL_FILE_BYTES);
    let mut streams = Vec::new();
    for source in PackSource::packs(small).map_err(FilesError::internal)? {
        let name = format!("pack-{}", streams.len()).into_bytes();
        streams.push(Stream { plan: StreamPlan::new(code, name, Content::Pack, source.bytes())?, source });
    }
    for file in large {
        let plan = StreamPlan::new(code, file.name().to_vec(), Content::File, file.bytes())?;
        streams.push(Stream { plan, source: PackSource::bare(file) });
    }
    Ok(streams)
}

/// What a look at the domains found.
struct Seen {
    alive: Vec<usize>,
    scan: Scan,
}

struct Demo<'a> {
    work: &'a Work,
    voice: &'a Voice<'a>,
    code: Code,
    domains: Domains,
    streams: Vec<Stream>,
}

impl Demo<'_> {
    fn tell(&self, text: &str) -> Result<(), FilesError> {
        (self.voice.tell)(text)
    }

    /// Shows a bar for what follows.
    fn begin(&self, label: &'static str, bytes: u64) {
        let bar = self.work.progress();
        bar.reset();
        bar.set_message(label);
        bar.set_length(bytes);
    }

    fn end(&self) {
        self.work.progress().finish_and_clear();
    }

    fn extents(&self) -> Vec<ExtentId> {
        self.streams.iter().flat_map(|stream| stream.plan.extents.iter().map(|listed| listed.extent)).collect()
    }

    fn encode(&self, report: &mut Report) -> Result<(), FilesError> {
        let started = Instant::now();
        self.begin("encode", self.streams.iter().map(|stream| stream.plan.payload_bytes(&self.code)).sum());
        for Stream { plan, source } in &self.streams {
            encode_stream(self.work, &self.code, source, plan, &|ordinal, index| {
                domains::home_of(&self.domains, plan, ordinal, index)
            })?;
        }
        self.end();
        report.extents = self.extents().len() as u64;
        self.tell(&format!(
            "encoded {} files ({}) with {} into {} extents of {} fragments over {} domains in {:.3} s",
            count(report.files),
            binary(report.bytes),
            report.code,
            count(report.extents),
            self.code.n(),
            report.nodes,
            started.elapsed().as_secs_f64()
        ))
    }

    /// Removes domains and changes a byte; gives the byte and the moment it began.
    fn destroy(&self, kill: usize, report: &mut Report) -> Result<(Option<Flip>, Instant), FilesError> {
        let havoc = Havoc::new(&self.code, &self.extents(), self.domains.count(), kill);
        // The clock runs from the first blow: removing takes time, and nothing is waited for.
        let destroyed = Instant::now();
        for domain in &havoc.domains {
            let folder = self.domains.folder(*domain);
            fs::remove_dir_all(folder).map_err(FilesError::io(folder, "remove"))?;
        }
        report.killed = havoc.domains.len() as u64;
        let flip = havoc.flip.map(|(extent, index, _)| self.flip(extent, index)).transpose()?;
        let killed = havoc.domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let of_domains =
            if killed.is_empty() { "destroyed no domain".into() } else { format!("destroyed domains {killed}") };
        let of_byte = match havoc.flip {
            Some((extent, index, domain)) => {
                format!("flipped a bit in fragment {index} of extent {extent} in domain {domain}")
            }
            None => "flipped nothing: no extent would surely survive that too".into(),
        };
        self.tell(&format!("{of_domains}; {of_byte}"))?;
        Ok((flip, destroyed))
    }

    fn flip(&self, extent: ExtentId, index: ec_core::ShardIndex) -> Result<Flip, FilesError> {
        let of_stream = |stream: &Stream| {
            let ordinal = stream.plan.extents.iter().position(|listed| listed.extent == extent)?;
            let identity = stream.plan.identity(&self.code, ordinal, index);
            let path = domains::home_of(&self.domains, &stream.plan, ordinal, index).join(identity.file_name());
            Some((path, identity.payload_bytes))
        };
        let (path, payload_bytes) =
            self.streams.iter().find_map(of_stream).ok_or_else(|| FilesError::internal("an extent of no stream"))?;
        Flip::make(path, payload_bytes)
    }

    /// Looks which domains are there and reads every fragment in them.
    fn look(&self, label: &'static str) -> Result<Seen, FilesError> {
        let alive = self.domains.alive()?;
        let mut found = scan(self.work, &self.domains.folders(&alive))?;
        self.begin(label, found.payload_bytes());
        check_payloads(self.work, &mut found)?;
        self.end();
        Ok(Seen { alive, scan: found })
    }

    fn detect(&self, destroyed: Instant, report: &mut Report) -> Result<Seen, FilesError> {
        let seen = self.look("detect")?;
        report.detected_seconds = destroyed.elapsed().as_secs_f64();
        let slots = || seen.scan.extents.values().flat_map(|view| &view.slots);
        let lost = slots().filter(|slot| slot.usable.is_none());
        let missing = lost.clone().filter(|slot| slot.class == Class::Missing).count() as u64;
        let margin = |view: &ExtentView| self.code.guaranteed_tolerance().saturating_sub(view.lost().len());
        self.tell(&format!(
            "found in {:.3} s: {} of {} domains gone, {} fragments missing, {} damaged; the weakest extent surely survives {} more losses",
            report.detected_seconds,
            self.domains.count() - seen.alive.len(),
            self.domains.count(),
            count(missing),
            count(lost.count() as u64 - missing),
            seen.scan.extents.values().map(margin).min().unwrap_or(0)
        ))?;
        Ok(seen)
    }

    fn rebuild(&self, seen: &Seen, report: &mut Report) -> Result<(), FilesError> {
        let homes = NewHomes::new(&self.domains, &seen.alive, &seen.scan)?;
        // A source that goes bad only now is rebuilt where it lies.
        let target = |view: &ExtentView, index: ec_core::ShardIndex| match homes.folder(view.id, index) {
            Some(folder) => folder.to_path_buf(),
            None => crate::files::staged::folder_of(&view.slots[index.at()].path).to_path_buf(),
        };
        let started = Instant::now();
        let planned = repair_extents(self.work, &seen.scan, &target, true)?;
        let sum = |repairs: &[ExtentRepair], bytes: fn(&ExtentRepair) -> u64| repairs.iter().map(bytes).sum::<u64>();
        // What is rebuilt passes twice: it is read back before it gets its name.
        self.begin("rebuild", sum(&planned, |repair| repair.read_bytes + 2 * repair.rebuilt_bytes));
        let repairs = repair_extents(self.work, &seen.scan, &target, false)?;
        self.end();
        report.rebuild_seconds = started.elapsed().as_secs_f64();
        report.rebuilt_bytes = sum(&repairs, |repair| repair.rebuilt_bytes);
        report.read_bytes = sum(&repairs, |repair| repair.read_bytes);
        report.minimum_read_bytes = sum(&repairs, |repair| repair.minimum_read_bytes);
        report.written_bytes = sum(&repairs, |repair| repair.written_bytes);
        for failure in repairs.iter().filter_map(|repair| repair.failure.as_deref()) {
            (self.voice.warn)(failure);
        }
        self.tell(&format!(
            "rebuilt {} fragments ({}) in {:.3} s, reading {}",
            count(repairs.iter().map(|repair| repair.rebuilt.len() as u64).sum()),
            binary(report.rebuilt_bytes),
            report.rebuild_seconds,
            binary(report.read_bytes)
        ))
    }

    /// Looks at everything again, newer than the last change.
    fn recount(&self, flip: Option<&Flip>, report: &mut Report) -> Result<Seen, FilesError> {
        let seen = self.look("recount")?;
        let extents = self.extents();
        let all_there = extents.len() == seen.scan.extents.len();
        let in_order = |extent: &ExtentId| {
            let view = seen.scan.extents.get(extent);
            view.is_some_and(|view| view.is_whole() && self.domains.are_distinct(view))
        };
        // The changed byte is also looked at by itself: this does not trust the code that found and healed it.
        let healed = flip.map_or(Ok(true), Flip::is_healed)?;
        report.full_redundancy = all_there && seen.scan.is_whole() && extents.iter().all(in_order) && healed;
        self.tell(match (report.full_redundancy, flip) {
            (true, Some(_)) => "recount: every fragment is there and proven, each of an extent in a domain of its own; the flipped bit is healed",
            (true, None) => "recount: every fragment is there and proven, each of an extent in a domain of its own",
            (false, _) => "recount: NOT fully redundant",
        })?;
        Ok(seen)
    }

    fn read_back(&self, found: &Scan, report: &mut Report) -> Result<(), FilesError> {
        let started = Instant::now();
        self.begin("read back", self.streams.iter().map(|stream| stream.plan.bytes).sum());
        for Stream { plan, source } in &self.streams {
            let compared = compare::read_back(self.work, found, plan.stream, source)?;
            report.mismatches += compared.wrong_files.len() as u64;
            for file in &compared.wrong_files {
                (self.voice.warn)(&format!("{:?}: came back wrong", source.files()[*file].path()));
            }
            if let Some(reason) = compared.reason {
                (self.voice.warn)(&reason);
            }
        }
        self.end();
        self.tell(&format!(
            "read back {} files in {:.3} s: {}",
            count(report.files),
            started.elapsed().as_secs_f64(),
            match report.mismatches {
                0 => "every byte is right".to_owned(),
                wrong => format!("{} CAME BACK WRONG", count(wrong)),
            }
        ))
    }
}
