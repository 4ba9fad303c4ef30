//! Plans to rebuild shards of a wide code.

use super::library;
use super::points::{Solution, coefficient};
use super::workspace::{BLOCK_BYTES, Lists, WideWorkspace, emptied, in_blocks, taken};
use super::{WideCode, common_length, shard};
use crate::error::DecodeError;
use crate::kernel::gf16::{Dense, TILE_BYTES_MAX};
use crate::shard::ShardIndex;
use std::fmt;

/// Coefficients of a prepared matrix, 32 bytes each: 32 MiB. Beyond it the full decode is no slower, by the costs below.
const COEFFICIENTS_MAX: usize = 1 << 20;

/// Bytes of all parities of a tile where a rebuild needs them, if a block of each is not more: the part of a second-level cache that
/// the transform leaves.
const PARITIES_BYTES: usize = 1 << 20;

/// Costs by rounds of the port that a 512-bit operation occupies, for one block: a butterfly is two multiplications, two sums and
/// an exchange; a coefficient two multiplications and a sum. One of the library's butterflies took about five times ours
/// (`examples/wide_speed.rs`), a coefficient in plain Rust a hundred times.
mod cost {
    pub(super) const BUTTERFLY: usize = 5;
    pub(super) const COEFFICIENT: usize = 3;
    pub(super) const LIBRARY_BUTTERFLY: usize = 25;
    pub(super) const PORTABLE_COEFFICIENT: usize = 300;
}

/// How to rebuild some shards of a wide code from others. Made for one pattern of losses, good for any number of stripes.
#[derive(Clone)]
pub struct WidePlan {
    code: WideCode,
    rebuilds: Vec<ShardIndex>,
    reads: Vec<ShardIndex>,
    method: Method,
}

/// How the plan computes; for the curious and for measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WideMethod {
    /// Each rebuilt shard as a sum over all that are read: for few losses.
    Direct,
    /// The parity of what is there, its difference from the parity on hand, and a small matrix over those differences.
    Differences,
    /// The full decode of reed-solomon-simd: for many losses.
    Full,
}

#[derive(Clone)]
enum Method {
    /// One row for each rebuilt shard, one column for each read one.
    Direct(Dense),
    /// One row for each rebuilt shard, one column for each of these parities.
    Differences(Vec<usize>, Dense),
    Full,
}

impl WidePlan {
    pub(super) fn new(code: &WideCode, lost: &[ShardIndex], available: &[ShardIndex]) -> Result<Self, DecodeError> {
        let (k, n) = (code.k(), code.n());
        // Whether each shard can be read, and whether it is wanted.
        let (mut readable, mut wanted) = (vec![false; n], vec![false; n]);
        for (indices, set) in [(available, &mut readable), (lost, &mut wanted)] {
            for &index in indices {
                *set.get_mut(index.at()).ok_or(DecodeError::IndexOutOfRange { index, shards: n })? = true;
            }
        }
        readable.iter_mut().zip(&wanted).for_each(|(readable, wanted)| *readable &= !wanted);
        let present = (0..k).filter(|&at| readable[at]).collect::<Vec<_>>();
        let missing = (0..k).filter(|&at| !readable[at]).collect::<Vec<_>>();
        let parities = (k..n).filter(|&at| readable[at]).take(missing.len()).map(|at| at - k).collect::<Vec<_>>();
        if parities.len() < missing.len() {
            return Err(DecodeError::TooFewShards { needed: k, present: present.len() + parities.len() });
        }
        let rebuilds = (0..n).filter(|&at| wanted[at]).map(shard).collect::<Vec<_>>();
        let method = choose(code, rebuilds.len(), present.len(), missing.len());
        let method = prepare(code, method, &rebuilds, &present, &missing, &parities);
        let reads = present.into_iter().chain(parities.iter().map(|at| k + at)).map(shard).collect();
        Ok(Self { code: code.clone(), rebuilds, reads, method })
    }

    /// The shards to read, in rising order: `k` of them.
    pub fn reads(&self) -> &[ShardIndex] {
        &self.reads
    }

    /// The shards it rebuilds, in rising order.
    pub fn rebuilds(&self) -> &[ShardIndex] {
        &self.rebuilds
    }

    /// How it computes.
    pub fn method(&self) -> WideMethod {
        match self.method {
            Method::Direct(_) => WideMethod::Direct,
            Method::Differences(..) => WideMethod::Differences,
            Method::Full => WideMethod::Full,
        }
    }

    /// Rebuilds the shards, with memory of its own. As [`WidePlan::run_with`].
    ///
    /// # Errors
    /// As [`WidePlan::run_with`].
    pub fn run(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), DecodeError> {
        self.run_with(&mut WideWorkspace::new(), inputs, outputs)
    }

    /// Rebuilds the shards. The plan was made for one pattern; the buffers arrive only now, so their number, positions and
    /// lengths are checked here. Inputs the plan does not read are ignored. The outputs are the rebuilt shards, in any order.
    ///
    /// # Errors
    /// A [`DecodeError`], with every output untouched.
    pub fn run_with(
        &self,
        workspace: &mut WideWorkspace,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), DecodeError> {
        let (mut read, mut targets) = (taken(&mut workspace.lists.sources), taken(&mut workspace.lists.targets));
        let len = self.gather(inputs, outputs, &mut workspace.lists.given, &mut read, &mut targets)?;
        match &self.method {
            Method::Direct(matrix) => Self::run_direct(&mut workspace.lists, matrix, len, &read, &mut targets),
            Method::Differences(parities, matrix) => {
                self.run_differences(workspace, parities, matrix, len, &read, &mut targets)?;
            }
            Method::Full => self.run_full(workspace, len, &read, &mut targets)?,
        }
        (workspace.lists.sources, workspace.lists.targets) = (emptied(read), emptied(targets));
        Ok(())
    }

    /// What is read, by position, and the outputs in the order of [`WidePlan::rebuilds`]; the length of all.
    fn gather<'a>(
        &self,
        inputs: &[(ShardIndex, &'a [u8])],
        outputs: &'a mut [(ShardIndex, &mut [u8])],
        given: &mut Vec<bool>,
        read: &mut Vec<Option<&'a [u8]>>,
        targets: &mut Vec<&'a mut [u8]>,
    ) -> Result<usize, DecodeError> {
        let n = self.code.n();
        read.resize(n, None);
        for &(index, bytes) in inputs {
            let source = read.get_mut(index.at()).ok_or(DecodeError::IndexOutOfRange { index, shards: n })?;
            if source.replace(bytes).is_some() {
                return Err(DecodeError::Duplicate { index });
            }
        }
        // What no row reads goes again. Both lists rise.
        let mut reads = self.reads.iter().peekable();
        for (at, source) in read.iter_mut().enumerate() {
            match (reads.next_if(|index| index.at() == at), &source) {
                (Some(&index), None) => return Err(DecodeError::MissingInput { index }),
                (Some(_), Some(_)) => {}
                (None, _) => *source = None,
            }
        }
        if outputs.len() != self.rebuilds.len() {
            return Err(DecodeError::WrongCount { expected: self.rebuilds.len(), found: outputs.len() });
        }
        let lengths = self.reads.iter().map(|&index| (index, read[index.at()].map_or(0, <[u8]>::len)));
        let len = common_length(lengths.chain(outputs.iter().map(|(index, bytes)| (*index, bytes.len()))))?;
        given.clear();
        given.resize(self.rebuilds.len(), false);
        targets.resize_with(self.rebuilds.len(), Default::default);
        for (index, bytes) in outputs {
            match self.rebuilds.binary_search(index) {
                Ok(at) if !given[at] => (given[at], targets[at]) = (true, bytes),
                Ok(_) => return Err(DecodeError::Duplicate { index: *index }),
                Err(_) => return Err(DecodeError::NotPlanned { index: *index }),
            }
        }
        // As many distinct wanted positions as outputs: every target has one.
        Ok(len)
    }

    fn run_direct(lists: &mut Lists, matrix: &Dense, len: usize, read: &[Option<&[u8]>], targets: &mut [&mut [u8]]) {
        let Lists { tile, tail, .. } = lists;
        in_blocks(len, TILE_BYTES_MAX, read, targets, tail, |read, targets, range| {
            let mut sources: Vec<&[u8]> = taken(&mut tile.sources);
            sources.extend(read.iter().flatten().map(|source| &source[range.clone()]));
            let mut parts: Vec<&mut [u8]> = taken(&mut tile.targets);
            parts.extend(targets.iter_mut().map(|target| &mut target[range.clone()]));
            matrix.apply(&sources, &mut parts, false);
            (tile.sources, tile.targets) = (emptied(sources), emptied(parts));
        });
    }

    fn run_differences(
        &self,
        workspace: &mut WideWorkspace,
        parities: &[usize],
        matrix: &Dense,
        len: usize,
        read: &[Option<&[u8]>],
        targets: &mut [&mut [u8]],
    ) -> Result<(), DecodeError> {
        let (k, m, encoder) = (self.code.k(), self.code.m(), &self.code.inner.encoder);
        let tile_bytes = (PARITIES_BYTES / m / BLOCK_BYTES * BLOCK_BYTES).clamp(BLOCK_BYTES, encoder.tile_bytes());
        let (memory, lists) = workspace.take(encoder.scratch_bytes() + m * tile_bytes)?;
        let (scratch, memory) = memory.split_at_mut(encoder.scratch_bytes());
        let Lists { tile, tail, .. } = lists;
        in_blocks(len, tile_bytes, read, targets, tail, |read, targets, range| {
            let (data, given) = read.split_at(k);
            let row_bytes = range.len();
            let memory = &mut memory[..m * row_bytes];
            let row = |parity: usize| parity * row_bytes..(parity + 1) * row_bytes;
            let mut rows: Vec<&mut [u8]> = taken(&mut tile.targets);
            rows.extend(memory.chunks_exact_mut(row_bytes));
            encoder.run(data, range.clone(), &mut rows, 0, scratch);
            let mut parts: Vec<&mut [u8]> = emptied(rows);
            parts.extend(targets.iter_mut().map(|target| &mut target[range.clone()]));
            // A rebuilt parity is what the data at hand gives, and its share of what the missing data would add.
            for (part, index) in parts.iter_mut().zip(&self.rebuilds) {
                match index.at().checked_sub(k) {
                    Some(at) => part.copy_from_slice(&memory[row(at)]),
                    None => part.fill(0),
                }
            }
            for &at in parities {
                let Some(given) = given[at] else { continue };
                memory[row(at)].iter_mut().zip(&given[range.clone()]).for_each(|(byte, given)| *byte ^= given);
            }
            let mut differences: Vec<&[u8]> = taken(&mut tile.sources);
            differences.extend(parities.iter().map(|&at| &memory[row(at)]));
            matrix.apply(&differences, &mut parts, true);
            (tile.sources, tile.targets) = (emptied(differences), emptied(parts));
        });
        Ok(())
    }

    fn run_full(
        &self,
        workspace: &mut WideWorkspace,
        len: usize,
        read: &[Option<&[u8]>],
        targets: &mut [&mut [u8]],
    ) -> Result<(), DecodeError> {
        let (k, m) = (self.code.k(), self.code.m());
        let wants_parity = self.rebuilds.last().is_some_and(|index| index.at() >= k);
        for range in library::slices(&self.code.inner.spec, len) {
            let restored = library::restore(&self.code.inner.spec, &range, read)?;
            let mut data = read[..k].iter().map(|source| source.map(|bytes| &bytes[range.clone()])).collect::<Vec<_>>();
            for (at, bytes) in &restored {
                data[*at] = Some(bytes);
            }
            // The library restores every missing shard or gives an error.
            let data = data.into_iter().flatten().collect::<Vec<_>>();
            let mut parity = vec![vec![0; range.len()]; if wants_parity { m } else { 0 }];
            if wants_parity {
                let mut parity = parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>();
                self.code.encode_with(workspace, &data, &mut parity)?;
            }
            for (target, index) in targets.iter_mut().zip(&self.rebuilds) {
                let bytes = if index.at() < k { data[index.at()] } else { &parity[index.at() - k] };
                target[range.clone()].copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// The same plan by another method, to compare them.
    #[cfg(test)]
    pub(super) fn by(&self, method: WideMethod) -> Self {
        let k = self.code.k();
        let (present, parities): (Vec<_>, Vec<_>) = self.reads.iter().map(|index| index.at()).partition(|&at| at < k);
        let missing = (0..k).filter(|at| present.binary_search(at).is_err()).collect::<Vec<_>>();
        let parities = parities.iter().map(|at| at - k).collect::<Vec<_>>();
        let method = prepare(&self.code, method, &self.rebuilds, &present, &missing, &parities);
        Self { method, ..self.clone() }
    }
}

/// The cheapest way by the costs above.
fn choose(code: &WideCode, rebuilt: usize, present: usize, missing: usize) -> WideMethod {
    let portable = code.inner.kernel.is_portable();
    let coefficient = if portable { cost::PORTABLE_COEFFICIENT } else { cost::COEFFICIENT };
    let points = code.n().next_power_of_two();
    let direct = rebuilt * (present + missing);
    let differences = rebuilt * missing;
    let mut best = (WideMethod::Full, cost::LIBRARY_BUTTERFLY * points * points.trailing_zeros() as usize);
    // In plain Rust our own transform would be slower than the library's.
    if !portable && differences <= COEFFICIENTS_MAX {
        let cost = cost::BUTTERFLY * code.inner.encoder.butterflies() + coefficient * differences;
        if cost <= best.1 {
            best = (WideMethod::Differences, cost);
        }
    }
    if direct <= COEFFICIENTS_MAX && coefficient * direct <= best.1 {
        best.0 = WideMethod::Direct;
    }
    best.0
}

fn prepare(
    code: &WideCode,
    method: WideMethod,
    rebuilds: &[ShardIndex],
    present: &[usize],
    missing: &[usize],
    parities: &[usize],
) -> Method {
    let kernel = code.inner.kernel;
    let solution = Solution::new(&code.inner.points, missing, parities);
    let targets = || {
        let target = |index: &ShardIndex| match index.at().checked_sub(code.k()) {
            None => solution.data(index.at()),
            Some(parity) => solution.parity(parity),
        };
        rebuilds.iter().map(target).collect::<Vec<_>>()
    };
    let from_parities = parities.iter().map(|&at| solution.parity(at));
    match method {
        WideMethod::Direct => {
            let sources = present.iter().map(|&at| solution.data(at)).chain(from_parities).collect::<Vec<_>>();
            let targets = targets();
            Method::Direct(Dense::new(kernel, targets.len(), sources.len(), |row, column| {
                coefficient(targets[row], sources[column])
            }))
        }
        WideMethod::Differences => {
            let (sources, targets) = (from_parities.collect::<Vec<_>>(), targets());
            let matrix = Dense::new(kernel, targets.len(), sources.len(), |row, column| {
                coefficient(targets[row], sources[column])
            });
            Method::Differences(parities.to_vec(), matrix)
        }
        WideMethod::Full => Method::Full,
    }
}

impl fmt::Debug for WidePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WidePlan({} of {}, {:?})", self.rebuilds.len(), self.code.spec(), self.method())
    }
}
