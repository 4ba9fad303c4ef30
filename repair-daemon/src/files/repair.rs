//! Rebuilds what is lost: from proven fragments, compared with the roots on record, read back, then published.

use super::encode::write_frame;
use super::fragment_file::{Finding, FragmentFile};
use super::rebuild::{Job, Pass, Piece, undecodable};
use super::scan::{ExtentView, Extra, Scan, StreamView};
use super::staged::{Replace, StagedFile, sync_folder};
use super::tidy::quarantine_if_there;
pub use super::tidy::{QUARANTINE, Tidied, check_quarantine, quarantine_extras, relocate};
use super::{FilesError, Work};
use ec_core::fragment::{Class, ExtentId, ExtentRecord, HEADER_BYTES, Header, StreamId};
use ec_core::{Code, ShardIndex, ShardSet};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a repair of one extent did, or would do.
#[derive(Clone, Debug)]
pub struct ExtentRepair {
    /// The extent.
    pub extent: ExtentId,
    /// Fragments rebuilt, and where they were put.
    pub rebuilt: Vec<(ShardIndex, PathBuf)>,
    /// Fragments the plan reads.
    pub reads: Vec<ShardIndex>,
    /// Payload bytes of the published fragments.
    pub rebuilt_bytes: u64,
    /// Payload bytes read from sources.
    pub read_bytes: u64,
    /// The least payload bytes this code must read for these losses in one joint repair.
    pub minimum_read_bytes: u64,
    /// Payload bytes written.
    pub written_bytes: u64,
    /// What lay in the way and went to quarantine, by the paths it had.
    pub set_aside: Vec<Extra>,
    /// Why nothing could be done, where that is so.
    pub failure: Option<String>,
}

impl ExtentRepair {
    fn nothing(extent: ExtentId) -> Self {
        Self {
            extent,
            rebuilt: Vec::new(),
            reads: Vec::new(),
            rebuilt_bytes: 0,
            read_bytes: 0,
            minimum_read_bytes: 0,
            written_bytes: 0,
            set_aside: Vec::new(),
            failure: None,
        }
    }

    fn failed(extent: ExtentId, error: &FilesError) -> Self {
        Self { failure: Some(error.to_string()), ..Self::nothing(extent) }
    }
}

/// Names the folder for a rebuilt fragment.
pub type Target<'a> = &'a (dyn Fn(&ExtentView, ShardIndex) -> PathBuf + Sync);

/// Rebuilds the lost fragments of every extent of a checked scan. Extents that cannot be decoded are reported, not an error:
/// the others are repaired all the same.
///
/// # Errors
/// [`FilesError`] where a folder or the machine fails.
pub fn repair_extents(
    work: &Work,
    scan: &Scan,
    target: Target,
    dry_run: bool,
) -> Result<Vec<ExtentRepair>, FilesError> {
    let views: Vec<&ExtentView> = scan.extents.values().filter(|view| !view.is_whole()).collect();
    let repairs: Mutex<Vec<ExtentRepair>> = Mutex::default();
    work.for_each_extent(&views, |view| {
        let repaired = if dry_run { plan_extent(view) } else { repair_extent(work, view, target) };
        let repaired = match repaired {
            Err(error @ (FilesError::Unrecoverable(_) | FilesError::Miscomputed { .. })) => {
                ExtentRepair::failed(view.id, &error)
            }
            other => other?,
        };
        repairs.lock().unwrap_or_else(PoisonError::into_inner).push(repaired);
        Ok(())
    })?;
    let mut repairs = repairs.into_inner().unwrap_or_else(PoisonError::into_inner);
    repairs.sort_by_key(|repair| repair.extent);
    Ok(repairs)
}

/// Fragments of a format newer than this program. They are neither lost nor ours to replace.
fn newer_format(view: &ExtentView) -> ShardSet {
    view.slots.iter().filter(|slot| slot.class == Class::Unsupported).map(|slot| slot.index).collect()
}

/// What to rebuild: what cannot be used, and of what is proven but not as it should be (an older copy of the record) as much
/// as is not needed as a source.
fn to_rebuild(view: &ExtentView, code: &Code) -> ShardSet {
    let newer = newer_format(view);
    let mut chosen: ShardSet = view.lost().iter().filter(|index| !newer.contains(*index)).collect();
    for slot in view.slots.iter().filter(|slot| slot.usable.is_some() && slot.class == Class::Conflict) {
        let mut more = chosen;
        more.insert(slot.index);
        let sources: ShardSet = view.usable().iter().filter(|index| !more.contains(*index)).collect();
        if code.plan(&more, &sources).is_ok() {
            chosen = more;
        }
    }
    chosen
}

/// Why an extent stays imperfect although nothing failed.
fn left_alone(view: &ExtentView) -> Option<String> {
    let newer: Vec<String> = newer_format(view).iter().map(|index| index.to_string()).collect();
    (!newer.is_empty()).then(|| {
        format!(
            "extent {}: fragments {} are in a newer format and were left alone; use a newer ninefold",
            view.id,
            newer.join(", ")
        )
    })
}

/// What a repair would read and write, from what is known without reading a payload again.
fn plan_extent(view: &ExtentView) -> Result<ExtentRepair, FilesError> {
    let record = view.record()?;
    let code = Code::new(&record.code)?;
    let plan = code.plan(&view.lost(), &view.usable()).map_err(|error| undecodable(view, &error, &BTreeMap::new()))?;
    let bytes = shard_bytes(record);
    let (reads, rebuilds) = (plan.reads().len() as u64 * bytes, plan.rebuilds().len() as u64 * bytes);
    Ok(ExtentRepair {
        rebuilt: plan.rebuilds().iter().map(|index| (*index, view.slots[index.at()].path.clone())).collect(),
        reads: plan.reads().to_vec(),
        rebuilt_bytes: rebuilds,
        read_bytes: reads,
        minimum_read_bytes: reads,
        written_bytes: rebuilds,
        failure: left_alone(view),
        ..ExtentRepair::nothing(view.id)
    })
}

fn repair_extent(work: &Work, view: &ExtentView, target: Target) -> Result<ExtentRepair, FilesError> {
    let planned = plan_extent(view)?;
    let record = view.record()?;
    let code = Code::new(&record.code)?;
    let mut view = view.clone();
    let mut done = ExtentRepair { rebuilt: Vec::new(), rebuilt_bytes: 0, read_bytes: 0, written_bytes: 0, ..planned };
    // What was needed as a source is rebuilt in a later round, from what the one before has made.
    loop {
        let lost = to_rebuild(&view, &code);
        if lost.is_empty() {
            return Ok(done);
        }
        let Round { published, read_bytes, set_aside } = repair_round(work, &view, &code, target, lost)?;
        for (index, path) in &published {
            let slot = &mut view.slots[index.at()];
            (slot.class, slot.path, slot.usable) = (Class::Healthy, path.clone(), Some(path.clone()));
            slot.reason.clear();
        }
        let payload = published.len() as u64 * shard_bytes(record);
        done.rebuilt.extend(published);
        done.rebuilt_bytes += payload;
        done.written_bytes += payload;
        done.read_bytes += read_bytes;
        done.set_aside.extend(set_aside);
    }
}

/// What one round did.
struct Round {
    published: Vec<(ShardIndex, PathBuf)>,
    read_bytes: u64,
    set_aside: Vec<Extra>,
}

/// Rebuilds `lost` and what is found bad on the way.
fn repair_round(
    work: &Work,
    view: &ExtentView,
    code: &Code,
    target: Target,
    mut lost: ShardSet,
) -> Result<Round, FilesError> {
    let bench =
        Bench { work, view, record: view.record()?, code, target, staged: Mutex::default(), aside: Mutex::default() };
    let mut findings: BTreeMap<ShardIndex, Finding> = BTreeMap::new();
    let mut read_bytes = 0;
    // A source found bad on the way is one more fragment to rebuild: plan again for all of them.
    let pass = loop {
        let before = findings.len();
        let pass = bench.rebuild(lost, &mut findings)?;
        read_bytes += pass.read_bytes + pass.wasted_bytes;
        if findings.len() == before {
            break pass;
        }
        lost = lost.iter().chain(findings.keys().copied()).collect();
    };
    let published = bench.publish(pass, &findings)?;
    let set_aside = bench.aside.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Round { published, read_bytes, set_aside })
}

fn shard_bytes(record: &ExtentRecord) -> u64 {
    record.fragments.first().map_or(0, |entry| entry.identity.payload_bytes)
}

/// Fragments in the making. Shared, since slices write from several threads.
type Stage = BTreeMap<ShardIndex, Arc<StagedFile>>;

/// The repair of one extent.
struct Bench<'a> {
    work: &'a Work,
    view: &'a ExtentView,
    record: &'a ExtentRecord,
    code: &'a Code,
    target: Target<'a>,
    staged: Mutex<Stage>,
    aside: Mutex<Vec<Extra>>,
}

impl Bench<'_> {
    fn staged(&self) -> MutexGuard<'_, Stage> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_bytes(&self) -> &[u8] {
        self.view.on_file.as_ref().map_or(&[], |on_file| &on_file.bytes)
    }

    /// The header fragment `index` had when it was born.
    fn header(&self, index: ShardIndex) -> Result<Header, FilesError> {
        Ok(Header {
            identity: self.record.fragments[index.at()].identity,
            code: self.record.code,
            extent_bytes: self.record.extent_bytes,
            record_bytes: u32::try_from(self.record_bytes().len()).map_err(FilesError::internal)?,
        })
    }

    /// Rebuilds payloads into staged files.
    fn rebuild(&self, lost: ShardSet, findings: &mut BTreeMap<ShardIndex, Finding>) -> Result<Pass, FilesError> {
        let mut stage_anew = |lost: &ShardSet| {
            // First, or the disk would have to hold both.
            self.staged().clear();
            let fresh = lost.iter().map(|index| {
                let bytes = self.header(index)?.layout().file_bytes;
                Ok((index, Arc::new(StagedFile::new(&(self.target)(self.view, index), bytes)?)))
            });
            let fresh = fresh.collect::<Result<Stage, FilesError>>()?;
            *self.staged() = fresh;
            Ok(())
        };
        let write = |start: u64, _: &[Piece], rebuilt: &[Piece]| {
            for (index, slice) in rebuilt {
                let file =
                    self.staged().get(index).map(Arc::clone).ok_or_else(|| FilesError::internal("no staged file"))?;
                let written = file.file().write_all_at(slice, HEADER_BYTES as u64 + start);
                written.map_err(FilesError::io(&(self.target)(self.view, *index), "write in"))?;
            }
            Ok(())
        };
        let job = Job { view: self.view, code: self.code, lost, always_read: ShardSet::EMPTY };
        job.run(self.work, findings, &mut stage_anew, &write)
    }

    /// Completes the staged files, syncs them, reads them back; only when all are proven gives them their names.
    fn publish(
        &self,
        pass: Pass,
        findings: &BTreeMap<ShardIndex, Finding>,
    ) -> Result<Vec<(ShardIndex, PathBuf)>, FilesError> {
        let mut ready = Vec::new();
        for rebuilt in pass.rebuilt {
            let header = self.header(rebuilt.index)?;
            let folder = (self.target)(self.view, rebuilt.index);
            let path = folder.join(header.identity.file_name());
            // No slice is in work any more, so this is the last handle.
            let file = self.staged().remove(&rebuilt.index).and_then(Arc::into_inner);
            let file = file.ok_or_else(|| FilesError::internal("no staged file"))?;
            write_frame(&path, file.file(), &header, &rebuilt.table, self.record_bytes(), &rebuilt.root)?;
            file.sync()?;
            self.read_back(rebuilt.index, &file, &path)?;
            ready.push((rebuilt.index, file, path, folder));
        }
        self.work.check_stop()?;
        let mut published = Vec::new();
        for (index, file, path, folder) in ready {
            let class = findings.get(&index).map_or(self.view.slots[index.at()].class, |(class, _)| *class);
            self.give_name(index, class, file, &path)?;
            sync_folder(&folder)?;
            published.push((index, path));
        }
        Ok(published)
    }

    /// Puts a proven fragment in the place of what was found there.
    fn give_name(&self, index: ShardIndex, class: Class, mut file: StagedFile, path: &Path) -> Result<(), FilesError> {
        // Rot of a regular file is proven and worth nothing; anything else may tell somebody something.
        let worthless = matches!(
            class,
            Class::RotPayload | Class::RotHeader | Class::RotFooter | Class::TornCommitted | Class::TornUncommitted
        );
        let found_at = &self.view.slots[index.at()].path;
        let elsewhere = found_at != path && class != Class::Missing;
        if elsewhere {
            self.set_aside(found_at, class)?;
        }
        if worthless && !elsewhere {
            return file.publish(path, Replace::Existing);
        }
        if class != Class::Missing && !self.is_there(index, path)? {
            self.set_aside(path, class)?;
        }
        match file.publish(path, Replace::Never) {
            // Another repair was faster. Whoever rebuilds a fragment makes the same bytes.
            Err(FilesError::Io { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists && self.is_there(index, path)? =>
            {
                Ok(())
            }
            published => published,
        }
    }

    fn set_aside(&self, path: &Path, class: Class) -> Result<(), FilesError> {
        let moved = quarantine_if_there(path, class)?;
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).extend(moved);
        Ok(())
    }

    /// Whether the very fragment that belongs at `path` lies there, every byte of it.
    fn is_there(&self, index: ShardIndex, path: &Path) -> Result<bool, FilesError> {
        let Ok(fragment) = FragmentFile::open(path)? else { return Ok(false) };
        let entry = &self.record.fragments[index.at()];
        let named = fragment.header.identity == entry.identity && fragment.tail.root == entry.root;
        Ok(named && fragment.tail.record_bytes == self.record_bytes() && fragment.check_payload(self.work)?.is_ok())
    }

    /// Reads a finished file as a stranger would, past the cache where the system allows it.
    fn read_back(&self, index: ShardIndex, file: &StagedFile, path: &Path) -> Result<(), FilesError> {
        let unlike = |class: Class, reason: &str| FilesError::Miscomputed {
            extent: self.view.id,
            reason: format!("fragment {index} reads back as {class}: {reason}"),
        };
        let fragment = FragmentFile::of(file.reopen()?, path)?.map_err(|(class, reason)| unlike(class, &reason))?;
        fragment.forget_cached();
        fragment.check_payload(self.work)?.map_err(|(class, reason)| unlike(class, &reason))?;
        let entry = &self.record.fragments[index.at()];
        if fragment.header.identity != entry.identity || fragment.tail.root != entry.root {
            return Err(unlike(Class::Conflict, "it is not the fragment on record"));
        }
        Ok(())
    }
}

impl Scan {
    /// The stream to which more than half of all whole fragments belong: what these folders are about.
    pub fn main_stream(&self) -> Option<(StreamId, &StreamView)> {
        let all: usize = self.streams.values().map(|stream| stream.fragments_found).sum();
        self.streams.iter().find(|(_, stream)| stream.fragments_found * 2 > all).map(|(id, stream)| (*id, stream))
    }
}
