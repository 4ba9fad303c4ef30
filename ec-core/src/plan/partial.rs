//! Sums on the way: what a rebuild needs of some of its reads, and how such parts add up.
//!
//! A lost shard is a sum over those read, so whoever holds some of them can add up its part, and parts add up in any order: along
//! a chain, in a tree, one node per rack. Of `e` lost shards a part says no more than `min(e, reads in it)` vectors do. It carries
//! its share of as many lost shards as are independent over these reads; its share of the others follows from them. So a
//! part that carries all is added by XOR, and one that carries fewer is unfolded where it is added.
//!
//! (Partial sums: PPR, EuroSys 2016. In chains: ECPipe, ATC 2017.)

use super::RepairPlan;
use crate::error::DecodeError;
use crate::kernel::{Kernel, Locality, Transform};
use crate::matrix::Matrix;
use crate::shard::{SHARDS_MAX, ShardIndex, ShardSet};
use std::fmt;

/// Why parts cannot be made or added up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartialError {
    /// A part over a shard that the plan does not read.
    #[error("the plan does not read fragment {index}, so no part of it can")]
    NotRead {
        /// The shard.
        index: ShardIndex,
    },
    /// Two parts count the same shard; their sum would lack it.
    #[error("fragment {index} is in two parts")]
    CountedTwice {
        /// The shard.
        index: ShardIndex,
    },
    /// No part counts the shard.
    #[error("fragment {index} is in none of the {parts} parts")]
    NotCounted {
        /// The shard.
        index: ShardIndex,
        /// Parts that were given.
        parts: usize,
    },
    /// A part counts a shard that is not in the sum asked for.
    #[error("fragment {index} is in a part but not in the sum")]
    NotInSum {
        /// The shard.
        index: ShardIndex,
    },
    /// A part belongs to a plan of other reads, losses or coefficients.
    #[error("part {part} is not of this plan")]
    OtherPlan {
        /// Which of the parts given, from 0.
        part: usize,
    },
}

/// The share of some reads in a rebuild: a few vectors as long as the shards.
///
/// ```
/// use ec_core::{Code, ShardIndex, ShardSet};
///
/// let code = Code::new(&"rs:4+2".parse()?)?;
/// let data = [[1u8; 8], [2; 8], [3; 8], [4; 8]];
/// let (mut p, mut q) = ([0; 8], [0; 8]);
/// code.encode(&data.each_ref().map(|shard| &shard[..]), &mut [&mut p, &mut q])?;
/// let shards = [data[0], data[1], data[2], data[3], p, q];
///
/// let lost = ShardSet::from_iter([ShardIndex::new(0)]);
/// let plan = code.plan(&lost, &lost.complement(6))?;
/// // One rack holds shards 1 and 2, another one 3 and 4.
/// let racks = [[1, 2], [3, 4]].map(|rack| rack.map(ShardIndex::new));
/// let parts = racks.map(|rack| plan.partial(&rack.into_iter().collect()));
/// let [near, far] = parts.map(|part| part.unwrap());
/// let (mut a, mut b) = ([0; 8], [0; 8]);
/// near.run(&racks[0].map(|index| (index, &shards[index.at()][..])), &mut [&mut a])?;
/// far.run(&racks[1].map(|index| (index, &shards[index.at()][..])), &mut [&mut b])?;
///
/// let mut rebuilt = [0; 8];
/// let sum = plan.combine(&[&near, &far])?;
/// assert!(sum.is_xor());
/// sum.run(&[&a, &b], &mut [&mut rebuilt])?;
/// assert_eq!(rebuilt, data[0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PartialSum {
    plan: PlanOf,
    helpers: Vec<ShardIndex>,
    /// Rows of the plan.
    carries: Vec<usize>,
    coefficients: Matrix,
    /// The share in every lost shard, over the vectors that are carried.
    unfold: Matrix,
    transform: Transform,
}

/// What parts of one plan have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PlanOf {
    /// `n` of the code.
    shards: usize,
    rebuilds: Vec<ShardIndex>,
    reads: Vec<ShardIndex>,
    coefficients: Matrix,
}

/// How vectors of parts add up. Made once, run slice by slice.
#[derive(Clone, Debug)]
pub struct Combination {
    coefficients: Matrix,
    transform: Transform,
}

impl RepairPlan {
    /// What these of its reads contribute. The set may be empty, or all of them.
    ///
    /// # Errors
    /// [`PartialError::NotRead`].
    pub fn partial(&self, subset: &ShardSet) -> Result<PartialSum, PartialError> {
        let is_read = |index: &ShardIndex| self.reads.binary_search(index).is_ok();
        if let Some(index) = subset.iter().find(|index| !is_read(index)) {
            return Err(PartialError::NotRead { index });
        }
        let columns: Vec<usize> = (0..self.reads.len()).filter(|&at| subset.contains(self.reads[at])).collect();
        let share =
            Matrix::from_fn(self.rebuilds.len(), columns.len(), |row, at| self.coefficients.get(row, columns[at]));
        let mut carries = Vec::new();
        for row in 0..share.rows() {
            carries.push(row);
            if share.select_rows(&carries).rank() < carries.len() {
                carries.pop();
            }
        }
        let coefficients = share.select_rows(&carries);
        // A basis of the rows expresses each of them.
        let unfold = coefficients.express(&share).unwrap_or_else(|| Matrix::zero(share.rows(), carries.len()));
        let transform = Transform::of_shards(self.transform.kernel(), &coefficients);
        let helpers = columns.iter().map(|&at| self.reads[at]).collect();
        Ok(PartialSum { plan: self.identity(), helpers, carries, coefficients, unfold, transform })
    }

    /// The lost shards from parts that together count every read once. Inputs are the vectors of the parts, part by part;
    /// outputs the shards of [`RepairPlan::rebuilds`], in that order.
    ///
    /// # Errors
    /// A [`PartialError`].
    pub fn combine(&self, parts: &[&PartialSum]) -> Result<Combination, PartialError> {
        let rows: Vec<usize> = (0..self.rebuilds.len()).collect();
        combine(&self.identity(), &self.reads, &rows, parts, self.transform.kernel())
    }

    fn identity(&self) -> PlanOf {
        let (rebuilds, reads) = (self.rebuilds.clone(), self.reads.clone());
        PlanOf { shards: self.shards, rebuilds, reads, coefficients: self.coefficients.clone() }
    }
}

impl PartialSum {
    /// The reads it counts, in rising order.
    pub fn helpers(&self) -> &[ShardIndex] {
        &self.helpers
    }

    /// Of which lost shards it carries the share, one vector each: at most as many as there are helpers.
    pub fn carries(&self) -> impl ExactSizeIterator<Item = ShardIndex> {
        self.carries.iter().map(|&row| self.plan.rebuilds[row])
    }

    /// One row per vector, one column per helper.
    pub fn coefficients(&self) -> &Matrix {
        &self.coefficients
    }

    /// Computes the vectors. Helpers may come in any order, and others among them, which are ignored; all buffers, or equally
    /// placed ranges of them, are equally long.
    ///
    /// # Errors
    /// A [`DecodeError`], with every output untouched.
    pub fn run(&self, inputs: &[(ShardIndex, &[u8])], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        let mut sources: [&[u8]; SHARDS_MAX] = [&[]; SHARDS_MAX];
        let mut given = ShardSet::EMPTY;
        for (index, bytes) in inputs {
            if index.at() >= self.plan.shards {
                return Err(DecodeError::IndexOutOfRange { index: *index, shards: self.plan.shards });
            }
            if given.contains(*index) {
                return Err(DecodeError::Duplicate { index: *index });
            }
            given.insert(*index);
            if let Ok(at) = self.helpers.binary_search(index) {
                sources[at] = bytes;
            }
        }
        if let Some(&index) = self.helpers.iter().find(|index| !given.contains(**index)) {
            return Err(DecodeError::MissingInput { index });
        }
        self.transform.apply_to_shards(&sources[..self.helpers.len()], outputs, Locality::Auto)
    }

    /// This sum from smaller ones that together count each of its helpers once: what a node in the middle of a tree or chain
    /// does with what it gets and what it holds. Inputs are the vectors of the parts, part by part; outputs its own.
    ///
    /// # Errors
    /// A [`PartialError`].
    pub fn combine(&self, parts: &[&PartialSum]) -> Result<Combination, PartialError> {
        combine(&self.plan, &self.helpers, &self.carries, parts, self.transform.kernel())
    }
}

impl Combination {
    /// One row per output, one column per vector of the parts.
    pub fn coefficients(&self) -> &Matrix {
        &self.coefficients
    }

    /// Whether it only adds, and multiplies nothing: so it is for one lost shard, and where every part carries all of them.
    pub fn is_xor(&self) -> bool {
        self.coefficients.elements().iter().all(|&value| value <= 1)
    }

    /// Adds up. All buffers are equally long.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    pub fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), DecodeError> {
        self.transform.apply_to_shards(inputs, outputs, Locality::Auto)
    }
}

fn combine(
    plan: &PlanOf,
    helpers: &[ShardIndex],
    rows: &[usize],
    parts: &[&PartialSum],
    kernel: Kernel,
) -> Result<Combination, PartialError> {
    let mut counted = ShardSet::EMPTY;
    for (at, part) in parts.iter().enumerate() {
        if part.plan != *plan {
            return Err(PartialError::OtherPlan { part: at });
        }
        for &index in &part.helpers {
            if counted.contains(index) {
                return Err(PartialError::CountedTwice { index });
            }
            if helpers.binary_search(&index).is_err() {
                return Err(PartialError::NotInSum { index });
            }
            counted.insert(index);
        }
    }
    if let Some(&index) = helpers.iter().find(|index| !counted.contains(**index)) {
        return Err(PartialError::NotCounted { index, parts: parts.len() });
    }
    let columns: Vec<(&Matrix, usize)> =
        parts.iter().flat_map(|part| (0..part.unfold.columns()).map(|at| (&part.unfold, at))).collect();
    let coefficients = Matrix::from_fn(rows.len(), columns.len(), |row, column| {
        let (unfold, at) = columns[column];
        unfold.get(rows[row], at)
    });
    Ok(Combination { transform: Transform::of_shards(kernel, &coefficients), coefficients })
}

impl fmt::Display for PartialSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, index) in self.carries().enumerate() {
            write!(f, "{}share in {index} =", if row > 0 { "; " } else { "" })?;
            for (at, helper) in self.helpers.iter().enumerate() {
                match self.coefficients.get(row, at) {
                    0 => {}
                    coefficient => write!(f, " + {coefficient:02x}*{helper}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Code, shard, splitmix};

    const BYTES: usize = 70;

    fn stripe(code: &Code, dice: &mut u64) -> Vec<Vec<u8>> {
        let mut shards: Vec<Vec<u8>> =
            (0..code.n()).map(|_| (0..BYTES).map(|_| splitmix(dice) as u8).collect()).collect();
        let (data, parity) = shards.split_at_mut(code.k());
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        code.encode(&data, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        shards
    }

    fn vectors(part: &PartialSum) -> Vec<Vec<u8>> {
        vec![vec![0xEE; BYTES]; part.carries().len()]
    }

    fn add(sum: &Combination, inputs: &[&[Vec<u8>]], mut outputs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let inputs: Vec<&[u8]> = inputs.iter().flat_map(|part| part.iter().map(Vec::as_slice)).collect();
        sum.run(&inputs, &mut outputs.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        outputs
    }

    /// Any tree: the reads in random parts, random parts joined until one is left, and that is the result.
    #[test]
    fn parts_add_up_in_any_tree() {
        let mut dice = 1;
        for spec in ["replicate:4", "rs:4+2", "rs:10+4", "lrc:12,2,2", "lrc:6,2,2", "lrc-uniform:6,2,2", "xorbas"] {
            let code = Code::new(&spec.parse().unwrap()).unwrap();
            for _ in 0..40 {
                let shards = stripe(&code, &mut dice);
                let lost = draw(&code, &mut dice);
                let plan = code.plan(&lost, &lost.complement(code.n())).unwrap();
                let mut parts: Vec<(ShardSet, PartialSum, Vec<Vec<u8>>)> = leaves(&plan, &shards, &mut dice);
                while parts.len() > 1 {
                    let second = parts.swap_remove(splitmix(&mut dice) as usize % parts.len());
                    let first = parts.swap_remove(splitmix(&mut dice) as usize % parts.len());
                    let helpers = first.0.union(&second.0);
                    let joined = plan.partial(&helpers).unwrap();
                    let sum = joined.combine(&[&first.1, &second.1]).unwrap();
                    let bytes = add(&sum, &[&first.2, &second.2], vectors(&joined));
                    assert!(lost.len() > 1 || sum.is_xor(), "{spec}");
                    parts.push((helpers, joined, bytes));
                }
                let (_, whole, bytes) = &parts[0];
                let sum = plan.combine(&[whole]).unwrap();
                let rebuilt = add(&sum, &[bytes], vec![vec![0xEE; BYTES]; lost.len()]);
                for (index, bytes) in lost.iter().zip(rebuilt) {
                    assert_eq!(bytes, shards[index.at()], "{spec}: {index} of {lost:?}");
                }
            }
        }
    }

    fn draw(code: &Code, dice: &mut u64) -> ShardSet {
        loop {
            let losses = 1 + splitmix(dice) as usize % code.m();
            let lost: ShardSet = (0..losses).map(|_| shard(splitmix(dice) as usize % code.n())).collect();
            if code.decodable(&lost) {
                return lost;
            }
        }
    }

    /// Every read in one part.
    fn leaves(plan: &RepairPlan, shards: &[Vec<u8>], dice: &mut u64) -> Vec<(ShardSet, PartialSum, Vec<Vec<u8>>)> {
        let mut sets = vec![ShardSet::EMPTY; 1 + splitmix(dice) as usize % 6];
        for &index in plan.reads() {
            let at = splitmix(dice) as usize % sets.len();
            sets[at].insert(index);
        }
        let leaf = |set: ShardSet| {
            let part = plan.partial(&set).unwrap();
            assert!(part.carries().len() <= set.len().min(plan.rebuilds().len()), "{part}");
            let inputs: Vec<_> = set.iter().map(|index| (index, &shards[index.at()][..])).collect();
            let mut bytes = vectors(&part);
            part.run(&inputs, &mut bytes.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
            (set, part, bytes)
        };
        sets.into_iter().map(leaf).collect()
    }

    /// ECPipe: each node adds its own share to what comes, and hands on one vector per lost shard.
    #[test]
    fn a_chain_carries_one_vector_per_lost_shard_and_ends_in_the_result() {
        let code = Code::new(&"rs:10+4".parse().unwrap()).unwrap();
        let shards = stripe(&code, &mut 5);
        let lost = ShardSet::from_iter([shard(3), shard(11)]);
        let plan = code.plan(&lost, &lost.complement(14)).unwrap();
        let mut so_far = (plan.partial(&ShardSet::EMPTY).unwrap(), Vec::new());
        let mut behind = ShardSet::EMPTY;
        for &index in plan.reads() {
            let own = plan.partial(&ShardSet::from_iter([index])).unwrap();
            let mut share = vectors(&own);
            assert_eq!(share.len(), 1, "one helper, one vector");
            own.run(&[(index, &shards[index.at()])], &mut [&mut share[0]]).unwrap();
            behind.insert(index);
            let next = plan.partial(&behind).unwrap();
            assert!(next.carries().len() <= 2);
            let bytes = add(&next.combine(&[&so_far.0, &own]).unwrap(), &[&so_far.1, &share], vectors(&next));
            so_far = (next, bytes);
        }
        let rebuilt = add(&plan.combine(&[&so_far.0]).unwrap(), &[&so_far.1], vec![vec![0; BYTES]; 2]);
        assert_eq!(rebuilt, [shards[3].clone(), shards[11].clone()]);
    }

    #[test]
    fn parts_that_do_not_make_the_sum_are_refused() {
        let code = Code::new(&"rs:4+2".parse().unwrap()).unwrap();
        let set = |indices: &[usize]| indices.iter().map(|&at| shard(at)).collect::<ShardSet>();
        let plan = code.plan(&set(&[0]), &set(&[1, 2, 3, 4])).unwrap();
        let part = |indices: &[usize]| plan.partial(&set(indices)).unwrap();
        assert_eq!(plan.partial(&set(&[1, 5])).unwrap_err(), PartialError::NotRead { index: shard(5) });
        let (a, b, c) = (part(&[1, 2]), part(&[3, 4]), part(&[2, 3]));
        assert_eq!(plan.combine(&[&a]).unwrap_err(), PartialError::NotCounted { index: shard(3), parts: 1 });
        assert_eq!(plan.combine(&[&a, &b, &c]).unwrap_err(), PartialError::CountedTwice { index: shard(2) });
        assert_eq!(c.combine(&[&a]).unwrap_err(), PartialError::NotInSum { index: shard(1) });
        let other = code.plan(&set(&[0]), &set(&[1, 2, 3, 5])).unwrap().partial(&set(&[3])).unwrap();
        assert_eq!(plan.combine(&[&a, &other]).unwrap_err(), PartialError::OtherPlan { part: 1 });
        let mut out = [0; 3];
        let missing = a.run(&[(shard(1), &[0; 3])], &mut [&mut out]);
        assert_eq!(missing, Err(DecodeError::MissingInput { index: shard(2) }));
        let [one, two] = [1, 2].map(|at| (shard(at), &[7u8; 3][..]));
        let twice = a.run(&[one, two, one], &mut [&mut out]);
        assert_eq!(twice, Err(DecodeError::Duplicate { index: shard(1) }));
        let outside = a.run(&[one, two, (shard(6), &[7; 3])], &mut [&mut out]);
        assert_eq!(outside, Err(DecodeError::IndexOutOfRange { index: shard(6), shards: 6 }));
        let short = a.run(&[(shard(2), &[0; 3]), (shard(1), &[0; 2])], &mut [&mut out]);
        assert!(matches!(short, Err(DecodeError::LengthMismatch { .. })));
        assert!(plan.combine(&[&a, &b]).unwrap().run(&[&[0; 3]], &mut [&mut out]).is_err());
        assert!(a.to_string().starts_with("share in 0 = + "), "{a}");
    }
}
