//! Plans to rebuild shards of a vector code from sub-chunks of others.

use super::error::VectorError;
use crate::error::DecodeError;
use crate::kernel::Transform;
use crate::matrix::Matrix;
use crate::plan::Costs;
use crate::shard::{ShardIndex, ShardSet};
use std::fmt;
use std::ops::Range;

/// A sub-chunk of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    pub(super) shard: usize,
    pub(super) sub_chunk: usize,
}

/// The sub-chunks a plan reads of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorRead {
    shard: ShardIndex,
    alpha: usize,
    ranges: Vec<Range<usize>>,
}

impl VectorRead {
    /// The shard that is read.
    pub fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// The sub-chunks that are read, as ranges of numbers in `0..alpha`: rising, and none touches the next.
    pub fn sub_chunks(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// How many sub-chunks are read.
    pub fn count(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// The byte ranges to read of a shard of so many bytes. Their bytes, one range after the other, are the input of
    /// [`VectorPlan::run`].
    ///
    /// # Errors
    /// [`DecodeError::Empty`] or [`DecodeError::Granularity`] where no shard can be that long.
    pub fn byte_ranges(&self, shard_bytes: usize) -> Result<Vec<Range<usize>>, VectorError> {
        let sub_chunk_bytes = sub_chunk_bytes(shard_bytes, self.alpha)?;
        Ok(self.ranges.iter().map(|range| range.start * sub_chunk_bytes..range.end * sub_chunk_bytes).collect())
    }
}

impl fmt::Display for VectorRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.shard)?;
        for (at, range) in self.ranges.iter().enumerate() {
            let separator = if at > 0 { " " } else { "" };
            write!(f, "{separator}{}..{}", range.start, range.end)?;
        }
        f.write_str("]")
    }
}

/// How to rebuild some shards of a vector code. Made for one pattern of losses, good for any number of stripes.
///
/// It prints itself: what it rebuilds, and the ranges of sub-chunks it reads of each shard.
#[derive(Clone, Debug)]
pub struct VectorPlan {
    shards: usize,
    alpha: usize,
    rebuilds: Vec<ShardIndex>,
    reads: Vec<VectorRead>,
    program: Program,
}

/// How sub-chunks that are read become those that are wanted.
#[derive(Clone, Debug)]
pub(super) enum Program {
    /// One matrix: a row for each sub-chunk of the rebuilt shards, a column for each one that is read.
    Dense(Transform),
    #[cfg(feature = "clay")]
    Layers(Box<super::clay::Layers>),
}

impl Program {
    /// Sources and outputs are sub-chunks in the order of the plan, equally long, as many as it has.
    pub(super) fn run(&self, sources: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        match self {
            Self::Dense(transform) => transform.apply(sources, outputs),
            #[cfg(feature = "clay")]
            Self::Layers(layers) => layers.run(sources, outputs),
        }
    }
}

impl VectorPlan {
    /// `pieces` rise; the program takes them in that order and gives the sub-chunks of `rebuilds` in rising order.
    pub(super) fn new(shards: usize, alpha: usize, rebuilds: &ShardSet, pieces: &[Piece], program: Program) -> Self {
        let mut reads: Vec<VectorRead> = Vec::new();
        for piece in pieces {
            let next = piece.sub_chunk..piece.sub_chunk + 1;
            match reads.last_mut() {
                Some(read) if read.shard.at() == piece.shard => match read.ranges.last_mut() {
                    Some(range) if range.end == next.start => range.end = next.end,
                    _ => read.ranges.push(next),
                },
                _ => reads.push(VectorRead { shard: crate::code::shard(piece.shard), alpha, ranges: vec![next] }),
            }
        }
        Self { shards, alpha, rebuilds: rebuilds.iter().collect(), reads, program }
    }

    /// What to read, shards in rising order.
    pub fn reads(&self) -> &[VectorRead] {
        &self.reads
    }

    /// The shards it rebuilds, in rising order.
    pub fn rebuilds(&self) -> &[ShardIndex] {
        &self.rebuilds
    }

    /// What is read in all, in shards: the sub-chunks divided by those of a shard.
    pub fn read_shards(&self) -> f64 {
        self.read_sub_chunks() as f64 / self.alpha as f64
    }

    /// The number of sub-chunks that are read in all.
    pub fn read_sub_chunks(&self) -> usize {
        self.reads.iter().map(VectorRead::count).sum()
    }

    /// What the reads cost, where [`Costs`] are those of a sub-chunk of each shard.
    pub fn cost(&self, costs: &Costs) -> u128 {
        self.reads.iter().map(|read| u128::from(costs.get(read.shard)) * read.count() as u128).sum()
    }

    /// Rebuilds the shards. Inputs are pairs of position and the bytes of [`VectorRead::byte_ranges`] one after the other, one for
    /// each of [`VectorPlan::reads`] and no others, in any order. Outputs are the rebuilt shards, whole, in any order.
    ///
    /// # Errors
    /// A [`VectorError`], with every output untouched.
    pub fn run(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), VectorError> {
        let sub_chunk_bytes = self.check_outputs(outputs)?;
        let parts = self.sorted(inputs)?;
        for (read, part) in self.reads.iter().zip(&parts) {
            let expected = read.count() * sub_chunk_bytes;
            if part.len() != expected {
                let (sub_chunks, found) = (read.count(), part.len());
                return Err(VectorError::PartLength { index: read.shard, sub_chunks, expected, found });
            }
        }
        let sources: Vec<&[u8]> = parts.iter().flat_map(|part| part.chunks_exact(sub_chunk_bytes)).collect();
        self.compute(&sources, outputs, sub_chunk_bytes)
    }

    /// As [`VectorPlan::run`], of shards that are at hand whole: the plan takes its sub-chunks out of them. Inputs it does not read
    /// are ignored.
    ///
    /// # Errors
    /// A [`VectorError`], with every output untouched.
    pub fn run_whole(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), VectorError> {
        let sub_chunk_bytes = self.check_outputs(outputs)?;
        let is_read = |index: ShardIndex| self.reads.binary_search_by_key(&index, |read| read.shard).is_ok();
        let read: Vec<_> =
            inputs.iter().filter(|(index, _)| index.at() >= self.shards || is_read(*index)).copied().collect();
        // Counted after the missing ones are named, which says more.
        if let Some(missing) = self.reads.iter().find(|it| read.iter().all(|(index, _)| *index != it.shard)) {
            return Err(DecodeError::MissingInput { index: missing.shard }.into());
        }
        let wholes = self.sorted(&read)?;
        let expected = sub_chunk_bytes * self.alpha;
        let mut sources = Vec::with_capacity(self.read_sub_chunks());
        for (read, whole) in self.reads.iter().zip(&wholes) {
            if whole.len() != expected {
                return Err(DecodeError::LengthMismatch { index: read.shard, expected, found: whole.len() }.into());
            }
            let sub_chunk = |at: usize| &whole[at * sub_chunk_bytes..][..sub_chunk_bytes];
            sources.extend(read.ranges.iter().cloned().flatten().map(sub_chunk));
        }
        self.compute(&sources, outputs, sub_chunk_bytes)
    }

    fn compute(
        &self,
        sources: &[&[u8]],
        outputs: &mut [(ShardIndex, &mut [u8])],
        sub_chunk_bytes: usize,
    ) -> Result<(), VectorError> {
        let mut wholes: Vec<&mut [u8]> = Vec::new();
        wholes.resize_with(self.rebuilds.len(), Default::default);
        for (index, bytes) in outputs {
            if let Ok(at) = self.rebuilds.binary_search(index) {
                wholes[at] = bytes;
            }
        }
        let mut targets: Vec<&mut [u8]> =
            wholes.into_iter().flat_map(|whole| whole.chunks_exact_mut(sub_chunk_bytes)).collect();
        Ok(self.program.run(sources, &mut targets)?)
    }

    /// Bytes of a sub-chunk, by the outputs; 1 where the plan has none.
    fn check_outputs(&self, outputs: &[(ShardIndex, &mut [u8])]) -> Result<usize, VectorError> {
        check_count(self.rebuilds.len(), outputs.len())?;
        let mut given = ShardSet::EMPTY;
        for (index, _) in outputs {
            check_index(*index, self.shards, &mut given)?;
            if self.rebuilds.binary_search(index).is_err() {
                return Err(DecodeError::NotPlanned { index: *index }.into());
            }
        }
        let lengths = outputs.iter().map(|(index, bytes)| (*index, bytes.len()));
        let Some(shard_bytes) = common_length(lengths)? else { return Ok(1) };
        sub_chunk_bytes(shard_bytes, self.alpha)
    }

    /// The inputs in the order of the reads.
    fn sorted<'a>(&self, inputs: &[(ShardIndex, &'a [u8])]) -> Result<Vec<&'a [u8]>, VectorError> {
        let mut given = ShardSet::EMPTY;
        for (index, _) in inputs {
            check_index(*index, self.shards, &mut given)?;
        }
        check_count(self.reads.len(), inputs.len())?;
        let part = |read: &VectorRead| match inputs.iter().find(|(index, _)| *index == read.shard) {
            Some((_, bytes)) => Ok(*bytes),
            None => Err(DecodeError::MissingInput { index: read.shard }.into()),
        };
        self.reads.iter().map(part).collect()
    }
}

impl fmt::Display for VectorPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rebuild")?;
        for index in &self.rebuilds {
            write!(f, " {index}")?;
        }
        f.write_str(" from")?;
        for read in &self.reads {
            write!(f, " {read}")?;
        }
        write!(f, ": {} of {} sub-chunks a shard", self.read_sub_chunks(), self.alpha)
    }
}

/// The plan of a code that is one matrix, or `None` where the pieces do not determine what is lost. `pieces` rise; those that
/// nothing needs are not read.
pub(super) fn dense_plan(
    generator: &Matrix,
    alpha: usize,
    kernel: crate::kernel::Kernel,
    lost: &ShardSet,
    pieces: &[Piece],
) -> Option<VectorPlan> {
    let rows: Vec<usize> = pieces.iter().map(|piece| piece.shard * alpha + piece.sub_chunk).collect();
    let targets: Vec<usize> = lost.iter().flat_map(|index| index.at() * alpha..(index.at() + 1) * alpha).collect();
    let full = generator.select_rows(&rows).express(&generator.select_rows(&targets))?;
    let is_used = |column: &usize| (0..full.rows()).any(|row| full.get(row, *column) != 0);
    let used: Vec<usize> = (0..full.columns()).filter(is_used).collect();
    let coefficients = Matrix::from_fn(full.rows(), used.len(), |row, column| full.get(row, used[column]));
    let pieces: Vec<Piece> = used.iter().map(|&at| pieces[at]).collect();
    let program = Program::Dense(Transform::of_shards(kernel, &coefficients));
    Some(VectorPlan::new(generator.rows() / alpha, alpha, lost, &pieces, program))
}

pub(super) fn check_count(expected: usize, found: usize) -> Result<(), DecodeError> {
    if expected == found { Ok(()) } else { Err(DecodeError::WrongCount { expected, found }) }
}

/// Adds the index to those given before.
pub(super) fn check_index(index: ShardIndex, shards: usize, given: &mut ShardSet) -> Result<(), DecodeError> {
    if index.at() >= shards {
        return Err(DecodeError::IndexOutOfRange { index, shards });
    }
    if given.contains(index) {
        return Err(DecodeError::Duplicate { index });
    }
    given.insert(index);
    Ok(())
}

/// The length of all buffers, `None` where there are none.
pub(super) fn common_length(
    mut lengths: impl Iterator<Item = (ShardIndex, usize)>,
) -> Result<Option<usize>, DecodeError> {
    let Some((_, expected)) = lengths.next() else { return Ok(None) };
    match lengths.find(|&(_, found)| found != expected) {
        None => Ok(Some(expected)),
        Some((index, found)) => Err(DecodeError::LengthMismatch { index, expected, found }),
    }
}

/// Bytes of a sub-chunk of such shards.
pub(super) fn sub_chunk_bytes(shard_bytes: usize, alpha: usize) -> Result<usize, VectorError> {
    if shard_bytes == 0 {
        return Err(DecodeError::Empty { granularity: alpha }.into());
    }
    if !shard_bytes.is_multiple_of(alpha) {
        return Err(DecodeError::Granularity { found: shard_bytes, granularity: alpha }.into());
    }
    Ok(shard_bytes / alpha)
}
