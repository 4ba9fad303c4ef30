//! Repair plans: which shards to read, and how to add them up.

use crate::code::Code;
use crate::error::DecodeError;
use crate::kernel::Transform;
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};
use std::fmt;

/// How to rebuild some shards from others. Made for one pattern of losses, good for any number of stripes and, as every code
/// here works byte by byte, for any byte range: run it on equally placed ranges.
#[derive(Clone, Debug)]
pub struct RepairPlan {
    rebuilds: Vec<ShardIndex>,
    reads: Vec<ShardIndex>,
    coefficients: Matrix,
    transform: Transform,
}

impl RepairPlan {
    /// The plan with the fewest reads.
    ///
    /// Either every lost shard is rebuilt within its local group, or `k` independent shards are read. Nothing between is
    /// cheaper for the codes here: a global equation involves every group, and zeroing one of its coefficients costs the local
    /// parity of that group (compared with exhaustive search in the tests).
    pub(crate) fn new(code: &Code, lost: &ShardSet, available: &ShardSet) -> Result<Self, DecodeError> {
        let all = ShardSet::first(code.n());
        if let Some(index) = lost.iter().chain(available.iter()).find(|index| !all.contains(*index)) {
            return Err(DecodeError::IndexOutOfRange { index, shards: code.n() });
        }
        let usable: ShardSet = available.iter().filter(|index| !lost.contains(*index)).collect();
        let candidates = match local_reads(code, lost, &usable) {
            Some(reads) => reads,
            None => independent(code, &usable),
        };
        let wanted: Vec<usize> = lost.iter().map(ShardIndex::at).collect();
        let rows: Vec<usize> = candidates.iter().map(|index| index.at()).collect();
        let generator = code.generator();
        let Some(full) = generator.select_rows(&rows).express(&generator.select_rows(&wanted)) else {
            return Err(DecodeError::NotDecodable {
                present: usable.len(),
                missing: usable.complement(code.n()).iter().map(ShardIndex::get).collect(),
                needed_more: code.k() - rows.len().min(code.k()),
            });
        };
        // A row nobody needs is not read.
        let used: Vec<usize> =
            (0..rows.len()).filter(|&column| (0..full.rows()).any(|row| full.get(row, column) != 0)).collect();
        let coefficients = Matrix::from_fn(full.rows(), used.len(), |row, column| full.get(row, used[column]));
        Ok(Self {
            rebuilds: lost.iter().collect(),
            reads: used.iter().map(|&at| candidates[at]).collect(),
            transform: Transform::new(code.kernel(), &coefficients),
            coefficients,
        })
    }

    /// The shards to read, in rising order.
    pub fn reads(&self) -> &[ShardIndex] {
        &self.reads
    }

    /// The shards it rebuilds, in rising order.
    pub fn rebuilds(&self) -> &[ShardIndex] {
        &self.rebuilds
    }

    /// One row per rebuilt shard, one column per read shard.
    pub fn coefficients(&self) -> &Matrix {
        &self.coefficients
    }

    /// Rebuilds the shards. The plan was made for one pattern; the buffers arrive only now, so their number, positions and
    /// lengths are checked here. Inputs the plan does not read are ignored.
    ///
    /// # Errors
    /// A [`DecodeError`], with every output untouched.
    pub fn run(
        &self,
        inputs: &[(ShardIndex, &[u8])],
        outputs: &mut [(ShardIndex, &mut [u8])],
    ) -> Result<(), DecodeError> {
        let sources = self
            .reads
            .iter()
            .map(|&index| {
                let found = inputs.iter().find(|(given, _)| *given == index);
                found.map(|(_, bytes)| *bytes).ok_or(DecodeError::MissingInput { index })
            })
            .collect::<Result<Vec<&[u8]>, _>>()?;
        if outputs.len() != self.rebuilds.len() {
            return Err(DecodeError::WrongCount { expected: self.rebuilds.len(), found: outputs.len() });
        }
        let expected =
            sources.first().map_or_else(|| outputs.first().map_or(0, |(_, bytes)| bytes.len()), |bytes| bytes.len());
        let lengths = self.reads.iter().copied().zip(sources.iter().map(|bytes| bytes.len()));
        for (index, found) in lengths.chain(outputs.iter().map(|(index, bytes)| (*index, bytes.len()))) {
            if found != expected {
                return Err(DecodeError::LengthMismatch { index, expected, found });
            }
        }
        let mut targets: Vec<Option<&mut [u8]>> = self.rebuilds.iter().map(|_| None).collect();
        for (index, bytes) in outputs.iter_mut() {
            match self.rebuilds.iter().position(|wanted| wanted == index) {
                Some(at) if targets[at].is_none() => targets[at] = Some(bytes),
                Some(_) => return Err(DecodeError::Duplicate { index: *index }),
                None => return Err(DecodeError::IndexOutOfRange { index: *index, shards: self.rebuilds.len() }),
            }
        }
        // As many distinct wanted positions as targets: none is left empty.
        let mut targets: Vec<&mut [u8]> = targets.into_iter().flatten().collect();
        self.transform.apply(&sources, &mut targets)
    }
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, index) in self.rebuilds.iter().enumerate() {
            write!(f, "{}{index} =", if row > 0 { "; " } else { "" })?;
            for (column, read) in self.reads.iter().enumerate() {
                match self.coefficients.get(row, column) {
                    0 => {}
                    coefficient => write!(f, " + {coefficient:02x}*{read}")?,
                }
            }
        }
        Ok(())
    }
}

/// The shards to read if every lost one can be rebuilt within its own group (or from one copy), else `None`.
fn local_reads(code: &Code, lost: &ShardSet, usable: &ShardSet) -> Option<Vec<ShardIndex>> {
    let mut reads = ShardSet::EMPTY;
    for index in lost.iter() {
        let group = code.groups().iter().find(|group| group.contains(index))?;
        let mut others = group.members();
        others.remove(index);
        if !others.is_subset(usable) {
            return None;
        }
        for other in others.iter() {
            reads.insert(other);
        }
    }
    Some(reads.iter().collect())
}

/// Independent shards, as many as there are, the earliest first: data shards cost no arithmetic.
fn independent(code: &Code, usable: &ShardSet) -> Vec<ShardIndex> {
    let mut chosen: Vec<ShardIndex> = usable.iter().filter(|index| index.at() < code.k()).collect();
    let mut rows: Vec<usize> = chosen.iter().map(|index| index.at()).collect();
    for index in usable.iter().filter(|index| index.at() >= code.k()) {
        if rows.len() == code.k() {
            break;
        }
        rows.push(index.at());
        // Unit rows are independent of each other, so only a parity can fail to add to the rank.
        if code.generator().select_rows(&rows).rank() == rows.len() {
            chosen.push(index);
        } else {
            rows.pop();
        }
    }
    chosen
}
