//! One pass over an extent: read sources, prove them, rebuild what is lost, prove that too.

use super::fragment_file::{Finding, FragmentFile};
use super::scan::ExtentView;
use super::slices::{ShardSums, SharedTree, for_each_slice, slice_bytes, strips};
use super::{FilesError, Work};
use ec_core::fragment::{Class, ExtentRecord, Hash};
use ec_core::kernel::Kernel;
use ec_core::{Code, DecodeError, RepairPlan, ShardIndex, ShardSet};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One shard's slice.
pub type Piece<'a> = (ShardIndex, &'a [u8]);

/// What a pass does with each slice: gets its offset in the shards, the sources' and the rebuilt slices. Nothing is proven yet
/// at that time: the result gets a name only if the pass succeeds.
pub type Sink<'a> = &'a (dyn Fn(u64, &[Piece], &[Piece]) -> Result<(), FilesError> + Sync);

/// What was proven about a rebuilt fragment.
#[derive(Debug)]
pub struct Rebuilt {
    /// Its index.
    pub index: ShardIndex,
    /// Its root, equal to the one on record.
    pub root: Hash,
    /// CRCs of its blocks.
    pub table: Vec<u32>,
}

/// A finished pass.
#[derive(Debug)]
pub struct Pass {
    /// The rebuilt fragments.
    pub rebuilt: Vec<Rebuilt>,
    /// Payload bytes read from sources in this pass.
    pub read_bytes: u64,
    /// Payload bytes read by passes before it that met a bad source.
    pub wasted_bytes: u64,
}

/// What to rebuild of one extent, and from what.
pub struct Job<'a> {
    /// The extent; its record on file is the measure of everything.
    pub view: &'a ExtentView,
    /// Its code.
    pub code: &'a Code,
    /// Fragments to rebuild.
    pub lost: ShardSet,
    /// Fragments to read even if no plan needs them.
    pub always_read: ShardSet,
}

impl Job<'_> {
    /// Runs passes until one succeeds. A source that turns out bad is added to `findings`, and to what is rebuilt if
    /// `always_read` wanted it, and the next pass does without it. `restart` is called before each pass.
    ///
    /// # Errors
    /// [`FilesError::Unrecoverable`] once the good sources are too few, [`FilesError::Miscomputed`] where proven sources give
    /// a wrong result with two kernels, and whatever `sink` says.
    pub fn run(
        mut self,
        work: &Work,
        findings: &mut BTreeMap<ShardIndex, Finding>,
        restart: &mut dyn FnMut(&ShardSet) -> Result<(), FilesError>,
        sink: Sink,
    ) -> Result<Pass, FilesError> {
        let record = self.view.record()?;
        let mut wasted_bytes = 0;
        let mut second_kernel: Option<Code> = None;
        loop {
            let code = second_kernel.as_ref().unwrap_or(self.code);
            for index in findings.keys().filter(|index| self.always_read.contains(**index)) {
                self.lost.insert(*index);
            }
            let sources = self.open_sources(code, record, findings)?;
            let Ok(sources) = sources else { continue };
            restart(&self.lost)?;
            match attempt(work, code, record, &self.lost, &sources, sink) {
                Ok(mut pass) => {
                    pass.wasted_bytes = wasted_bytes;
                    return Ok(pass);
                }
                Err(Stop::Bad(index, finding)) => {
                    wasted_bytes += sources.iter().map(|source| source.layout().payload_bytes).sum::<u64>();
                    findings.insert(index, finding);
                }
                Err(Stop::Wrong(reason)) if second_kernel.is_some() => {
                    return Err(FilesError::Miscomputed { extent: self.view.id, reason });
                }
                Err(Stop::Wrong(_)) => {
                    second_kernel = Some(Code::with_kernel(code.spec(), Kernel::another(code.kernel()))?)
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
    }

    /// Opens what the cheapest plan reads; a source that fails is a finding and asks for another plan.
    fn open_sources(
        &self,
        code: &Code,
        record: &ExtentRecord,
        findings: &mut BTreeMap<ShardIndex, Finding>,
    ) -> Result<Result<Vec<FragmentFile>, ()>, FilesError> {
        let usable: ShardSet =
            self.view.slots.iter().filter(|slot| slot.usable.is_some()).map(|slot| slot.index).collect();
        let available: ShardSet =
            usable.iter().filter(|index| !findings.contains_key(index) && !self.lost.contains(*index)).collect();
        let plan = code.plan(&self.lost, &available).map_err(|error| undecodable(self.view, &error, findings))?;
        let reads: ShardSet = plan.reads().iter().copied().chain(self.always_read.iter()).collect();
        let mut sources = Vec::with_capacity(reads.len());
        for index in reads.iter().filter(|index| !self.lost.contains(*index)) {
            match open_source(self.view, record, index)? {
                Ok(source) => sources.push(source),
                Err(finding) => {
                    findings.insert(index, finding);
                    return Ok(Err(()));
                }
            }
        }
        Ok(Ok(sources))
    }
}

/// Opens the file that holds fragment `index` and compares it with the record on file: it may have changed since the scan.
fn open_source(
    view: &ExtentView,
    record: &ExtentRecord,
    index: ShardIndex,
) -> Result<Result<FragmentFile, Finding>, FilesError> {
    let Some(path) = view.slots.get(index.at()).and_then(|slot| slot.usable.as_deref()) else {
        return Ok(Err((Class::Missing, "there is no such file".into())));
    };
    let entry = &record.fragments[index.at()];
    Ok(FragmentFile::open(path)?.and_then(|fragment| {
        if fragment.header.identity != entry.identity || fragment.tail.root != entry.root {
            return Err((Class::Conflict, "it is not the fragment on record".into()));
        }
        Ok(fragment)
    }))
}

/// Why a pass ended early.
enum Stop {
    /// A source is not what its header and tail promise.
    Bad(ShardIndex, Finding),
    /// Every source was proven and the result is wrong.
    Wrong(String),
    /// Not the fragments' fault.
    Failed(FilesError),
}

impl From<FilesError> for Stop {
    fn from(error: FilesError) -> Self {
        Self::Failed(error)
    }
}

fn attempt(
    work: &Work,
    code: &Code,
    record: &ExtentRecord,
    lost: &ShardSet,
    sources: &[FragmentFile],
    sink: Sink,
) -> Result<Pass, Stop> {
    let pass = SlicePass::new(code, record, lost, sources)?;
    let passed = for_each_slice(work, pass.shard_bytes, slice_bytes(pass.shards()), |range| {
        let bytes = (range.end - range.start) as usize;
        work.with_buffer(bytes * pass.shards(), |buffer| pass.run(range.start, bytes, buffer, sink))?;
        work.progress().inc((bytes * pass.shards()) as u64);
        Ok(())
    });
    if let Some((index, finding)) = pass.bad.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(Stop::Bad(index, finding));
    }
    passed?;
    prove_sources(record, sources, pass.source_trees)?;
    let rebuilt = prove_rebuilt(record, pass.plan.rebuilds(), pass.rebuilt_sums)?;
    Ok(Pass { rebuilt, read_bytes: pass.shard_bytes * sources.len() as u64, wasted_bytes: 0 })
}

/// What the slices of one pass share.
struct SlicePass<'a> {
    sources: &'a [FragmentFile],
    plan: RepairPlan,
    shard_bytes: u64,
    source_trees: Vec<SharedTree>,
    rebuilt_sums: Vec<ShardSums>,
    /// The first source found bad. It ends the pass.
    bad: Mutex<Option<(ShardIndex, Finding)>>,
}

impl<'a> SlicePass<'a> {
    fn new(
        code: &Code,
        record: &ExtentRecord,
        lost: &ShardSet,
        sources: &'a [FragmentFile],
    ) -> Result<Self, FilesError> {
        let available: ShardSet = sources.iter().map(|source| source.header.identity.index).collect();
        let plan = code.plan(lost, &available)?;
        let shard_bytes = record.fragments.first().map_or(0, |entry| entry.identity.payload_bytes);
        let sums = |index: &ShardIndex| ShardSums::new(record.fragments[index.at()].identity.seed(), shard_bytes);
        Ok(Self {
            sources,
            shard_bytes,
            source_trees: sources.iter().map(|_| SharedTree::new(shard_bytes)).collect(),
            rebuilt_sums: plan.rebuilds().iter().map(sums).collect(),
            plan,
            bad: Mutex::new(None),
        })
    }

    fn shards(&self) -> usize {
        self.sources.len() + self.plan.rebuilds().len()
    }

    /// One slice: `buffer` holds it for all sources and all rebuilt fragments, one behind the other.
    fn run(&self, start: u64, bytes: usize, buffer: &mut [u8], sink: Sink) -> Result<(), FilesError> {
        let (inputs, outputs) = buffer.split_at_mut(bytes * self.sources.len());
        for (source, slice) in self.sources.iter().zip(inputs.chunks_exact_mut(bytes)) {
            if let Err(finding) = source.read_payload(start, slice)? {
                return Err(self.give_up(source, finding));
            }
        }
        for strip in strips(self.shards(), bytes) {
            let at = start + strip.start as u64;
            let inputs: Vec<Piece> =
                self.indices().zip(inputs.chunks_exact(bytes).map(|slice| &slice[strip.clone()])).collect();
            for ((source, tree), (_, strip)) in self.sources.iter().zip(&self.source_trees).zip(&inputs) {
                source.check_blocks(at, strip).map_err(|finding| self.give_up(source, finding))?;
                tree.add(at, strip)?;
            }
            let outputs = outputs.chunks_exact_mut(bytes).map(|slice| &mut slice[strip.clone()]);
            let mut targets: Vec<(ShardIndex, &mut [u8])> = self.plan.rebuilds().iter().copied().zip(outputs).collect();
            self.plan.run(&inputs, &mut targets)?;
            for ((_, strip), sums) in targets.iter().zip(&self.rebuilt_sums) {
                sums.add(at, strip)?;
            }
        }
        let inputs: Vec<Piece> = self.indices().zip(inputs.chunks_exact(bytes)).collect();
        let rebuilt: Vec<Piece> = self.plan.rebuilds().iter().copied().zip(outputs.chunks_exact(bytes)).collect();
        sink(start, &inputs, &rebuilt)
    }

    fn indices(&self) -> impl Iterator<Item = ShardIndex> {
        self.sources.iter().map(|source| source.header.identity.index)
    }

    /// Notes a bad source; the error only ends the pass.
    fn give_up(&self, source: &FragmentFile, finding: Finding) -> FilesError {
        *self.bad.lock().unwrap_or_else(PoisonError::into_inner) = Some((source.header.identity.index, finding));
        FilesError::Interrupted
    }
}

fn prove_sources(record: &ExtentRecord, sources: &[FragmentFile], trees: Vec<SharedTree>) -> Result<(), Stop> {
    for (source, tree) in sources.iter().zip(trees) {
        let index = source.header.identity.index;
        let root = source.header.identity.root(&tree.finish()?);
        if root != record.fragments[index.at()].root {
            let reason = format!("every CRC is right, but its root is {root}");
            return Err(Stop::Bad(index, (Class::Impossible, reason)));
        }
    }
    Ok(())
}

fn prove_rebuilt(record: &ExtentRecord, rebuilds: &[ShardIndex], sums: Vec<ShardSums>) -> Result<Vec<Rebuilt>, Stop> {
    let mut rebuilt = Vec::with_capacity(rebuilds.len());
    for (&index, sums) in rebuilds.iter().zip(sums) {
        let entry = &record.fragments[index.at()];
        let (payload_hash, table) = sums.finish()?;
        let root = entry.identity.root(&payload_hash);
        if root != entry.root {
            return Err(Stop::Wrong(format!(
                "fragment {index} was rebuilt with root {root}, on record is {}",
                entry.root
            )));
        }
        rebuilt.push(Rebuilt { index, root, table });
    }
    Ok(rebuilt)
}

/// Names what is missing or damaged and how many more fragments are needed.
pub fn undecodable(view: &ExtentView, error: &DecodeError, findings: &BTreeMap<ShardIndex, Finding>) -> FilesError {
    let DecodeError::NotDecodable { needed_more, .. } = error else { return FilesError::internal(error) };
    let lost: Vec<String> = view
        .slots
        .iter()
        .filter_map(|slot| match findings.get(&slot.index) {
            Some((class, _)) => Some(format!("{} ({class})", slot.index)),
            None if slot.usable.is_none() => Some(format!("{} ({})", slot.index, slot.class)),
            None => None,
        })
        .collect();
    FilesError::Unrecoverable(format!(
        "extent {}: {} of {} fragments are lost: {}; at least {needed_more} more {} needed",
        view.id,
        lost.len(),
        view.slots.len(),
        lost.join(", "),
        if *needed_more == 1 { "is" } else { "are" },
    ))
}
