//! Decoding many losses of a native code by its transform.
//!
//! The parities are computed as if the missing data were zeros. What they differ by from the parities at hand, the
//! syndromes, is what the missing data contributes to them; a small matrix turns that into the missing data. So the many
//! inputs go through the transform, at log2(M)/2 products each, and only `e` syndromes through a matrix.

use super::dense::Group;
use super::divide::divide;
use super::family::Family;
use super::lanes::{LaneStorage, Lanes, TARGETS_MAX, Traffic};
use super::lch::{self, Lch};
use super::transform::block_bytes;
use crate::code::{Code, RsMatrix, Shape};
use crate::matrix::Matrix;
use crate::shard::{ShardIndex, ShardSet};

/// Bytes of the parities of a block, in the first-level cache or close to it.
const SCRATCH_BYTES: usize = 32 << 10;

/// Where the losses of a native code are, and how its syndromes give them.
pub(crate) struct Syndromes {
    order: usize,
    parities: usize,
    /// For each data shard its place among the inputs, if it is one.
    sources: Vec<Option<usize>>,
    /// Parities at hand: number of the parity, place among the inputs.
    compared: Vec<(usize, usize)>,
    /// One row per output over all parities: those compared hold syndromes, the others values.
    weights: Matrix,
}

impl Syndromes {
    /// `candidates` are the inputs, the last `compared` of them parities; `weights` has one row per lost shard over those.
    /// `None` where the code has no transform on tiles, or the matrix is cheaper.
    pub(crate) fn new(
        code: &Code,
        candidates: &[ShardIndex],
        lost: &ShardSet,
        compared: usize,
        weights: &Matrix,
    ) -> Option<Self> {
        let (k, m) = (code.k(), code.m());
        let order = m.next_power_of_two();
        let is_native = matches!(code.spec().shape(), Shape::Rs { matrix: RsMatrix::Lch, .. }) && code.slot() == 0;
        if !is_native || !lch::is_tiled(order) || !Self::pays(order, k, candidates.len(), compared, lost.len()) {
            return None;
        }
        let mut sources = vec![None; k];
        let (data, parities) = candidates.split_at(candidates.len() - compared);
        data.iter().enumerate().for_each(|(at, index)| sources[index.at()] = Some(at));
        let compared = parities.iter().enumerate().map(|(at, index)| (index.at() - k, data.len() + at));
        let compared: Vec<(usize, usize)> = compared.collect();
        let mut over_parities = Matrix::zero(lost.len(), m);
        for (row, index) in lost.iter().enumerate() {
            for (at, &(parity, _)) in compared.iter().enumerate() {
                over_parities.set(row, parity, weights.get(row, at));
            }
            if index.at() >= k {
                over_parities.set(row, index.at() - k, 1);
            }
        }
        Some(Self { order, parities: m, sources, compared, weights: over_parities })
    }

    /// Counted as for the transform alone: a butterfly is a product and two sums, an element of a matrix a product and half
    /// a sum.
    fn pays(order: usize, data: usize, inputs: usize, compared: usize, outputs: usize) -> bool {
        let butterflies = (data.div_ceil(order) + 1) * (order / 2) * order.ilog2() as usize;
        2 * 3 * butterflies + 3 * compared * outputs + 2 * 3 * compared < 3 * inputs * outputs
    }

    /// The most points of the transform.
    pub(super) fn order(&self) -> usize {
        self.order
    }
}

/// The same, prepared for one family.
#[derive(Clone)]
pub(super) struct SyndromeProgram<F> {
    lch: Lch<F>,
    parities: usize,
    sources: Vec<Option<usize>>,
    compared: Vec<(usize, usize)>,
    solve: Vec<Group<F>>,
}

impl<F: Clone> SyndromeProgram<F> {
    pub(super) fn new(syndromes: &Syndromes, factor: impl Fn(u8) -> F + Copy) -> Self {
        Self {
            lch: Lch::new(syndromes.order, syndromes.sources.len(), factor),
            parities: syndromes.parities,
            sources: syndromes.sources.clone(),
            compared: syndromes.compared.clone(),
            solve: divide(&syndromes.weights, factor),
        }
    }

    pub(super) fn run<Y: Family<Factor = F>>(
        &self,
        family: Y,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        len: usize,
        traffic: Traffic,
    ) {
        let mut scratch = [0; SCRATCH_BYTES];
        let block = block_bytes(SCRATCH_BYTES, self.parities).min(SCRATCH_BYTES / self.parities);
        let mut start = 0;
        while start < len {
            let range = start..len.min(start + block);
            let mut rows = scratch.chunks_exact_mut(block);
            let mut rows: [&mut [u8]; TARGETS_MAX] = std::array::from_fn(|_| rows.next().unwrap_or_default());
            let rows = &mut rows[..self.parities];
            let (mut storage, own) = (LaneStorage::new(), 0..range.len());
            let columns = self.sources.iter().copied();
            // What is written here is read at once.
            let cached = Traffic { streams: false, ..traffic };
            let all = 0..self.parities;
            let mut lanes = Lanes::gather(&mut storage, columns, all, inputs, range.clone(), rows, own.clone(), cached);
            family.lch(&self.lch, &mut lanes);
            for &(parity, input) in &self.compared {
                let at_hand = &inputs[input][range.clone()];
                rows[parity][own.clone()].iter_mut().zip(at_hand).for_each(|(computed, at_hand)| *computed ^= at_hand);
            }
            let rows: [&[u8]; TARGETS_MAX] = {
                let mut rows = scratch.chunks_exact(block);
                std::array::from_fn(|_| rows.next().unwrap_or_default())
            };
            let traffic = Traffic { prefetches: false, ..traffic };
            for group in &self.solve {
                let mut lanes = group.lanes(&mut storage, &rows, own.clone(), outputs, range.clone(), traffic);
                family.dense(group, &mut lanes);
            }
            start = range.end;
        }
    }
}
